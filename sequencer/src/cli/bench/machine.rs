//! What a load costs the machine: CPU and memory of processes from `/proc`, counters from `/metrics`. Linux only.
//!
//! Leaves to others: which processes and addresses are the cluster's (`cluster`).

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Serialize;

/// Units of `utime` and `stime`: Linux gives them in hundredths of a second on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// How long `/metrics` may take.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest answer of `/metrics` that is read.
const SCRAPE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The counter of bytes on the wire between nodes.
const WIRE_COUNTER: &str = "fusion_p2p_bytes_total";

/// The machine, for a report that others compare with theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Machine {
    /// Cores that this process may use.
    pub(super) cores: usize,
    /// Model of the CPU.
    pub(super) cpu: String,
    /// Release of the kernel.
    pub(super) kernel: String,
    /// Memory in bytes.
    pub(super) memory_bytes: u64,
}

impl Machine {
    /// The machine that this runs on; unknown parts are empty.
    pub(super) fn this() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: field(&cpuinfo, "model name").unwrap_or_default().to_owned(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            memory_bytes: field(&meminfo, "MemTotal").and_then(kilobytes).unwrap_or(0),
        }
    }
}

/// The value after `name:` in a `/proc` file.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

fn kilobytes(value: &str) -> Option<u64> {
    value.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// CPU time that a process has used, user and system, in seconds; `None` when there is no such process.
pub(super) fn cpu_seconds(pid: u32) -> Option<f64> {
    cpu_of_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn cpu_of_stat(stat: &str) -> Option<f64> {
    // The name is in parentheses and may hold spaces and parentheses itself; fields 14 and 15 are the times.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

/// Most memory that a process has held so far (`VmHWM`), in bytes.
pub(super) fn memory_peak_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    kilobytes(field(&status, "VmHWM")?)
}

/// Bytes that a node has sent to other nodes, from its `/metrics`.
pub(super) fn wire_bytes(url: &str) -> anyhow::Result<f64> {
    let text = get(url).with_context(|| format!("cannot read {url}"))?;
    sent_bytes(&text).with_context(|| format!("{url} has no {WIRE_COUNTER}"))
}

fn sent_bytes(metrics: &str) -> Option<f64> {
    let samples = metrics.lines().filter_map(|line| {
        let labels_and_value = line.strip_prefix(WIRE_COUNTER)?.strip_prefix('{')?;
        let (labels, value) = labels_and_value.rsplit_once('}')?;
        labels
            .contains("direction=\"out\"")
            .then(|| value.trim().parse::<f64>().ok())?
    });
    let samples: Vec<f64> = samples.collect();
    (!samples.is_empty()).then(|| samples.iter().sum())
}

/// The body of a small HTTP answer.
fn get(url: &str) -> anyhow::Result<String> {
    let rest = url.strip_prefix("http://").context("only http:// is supported")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = host.to_socket_addrs()?.next().context("no address")?;
    let mut stream = TcpStream::connect_timeout(&address, SCRAPE_TIMEOUT)?;
    stream.set_read_timeout(Some(SCRAPE_TIMEOUT))?;
    stream.set_write_timeout(Some(SCRAPE_TIMEOUT))?;
    // HTTP 1.0: the answer ends with the connection and comes in one piece.
    write!(
        stream,
        "GET /{path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(SCRAPE_BYTES_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200"), "it answered {status:?}");
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_process_name() {
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 4 0 1 2 3";
        assert_eq!(cpu_of_stat(stat), Some(3.0));
        assert_eq!(cpu_of_stat("42 (a) S 1"), None);
        assert_eq!(cpu_of_stat(""), None);
    }

    #[test]
    fn this_process_has_time_and_memory() {
        assert!(cpu_seconds(std::process::id()).is_some());
        assert!(memory_peak_bytes(std::process::id()).unwrap() > 100_000);
        assert!(Machine::this().memory_bytes > 0);
    }

    #[test]
    fn only_sent_bytes_are_summed() {
        let metrics = "# TYPE fusion_p2p_bytes_total counter\n\
            fusion_p2p_bytes_total{class=\"votes\",direction=\"out\"} 10\n\
            fusion_p2p_bytes_total{class=\"bodies\",direction=\"out\"} 2.5e3\n\
            fusion_p2p_bytes_total{class=\"bodies\",direction=\"in\"} 7\n\
            fusion_p2p_bytes_totally{direction=\"out\"} 100\n";
        assert_eq!(sent_bytes(metrics), Some(2510.0));
        assert_eq!(sent_bytes("up 1\n"), None);
    }
}
