//! Loads a devnet over a wide-area network: starts it, and sets what users saw beside what physics allows.
//!
//! Latency is told by the region in which a transaction entered, because distance makes the difference there. Leaves to
//! others: the delays (`wan`, `relay`) and the load.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Value, json};

use super::report::Percentiles;
use crate::cli::cluster::Cluster;
use crate::cli::wan::Wan;
use crate::cli::wan::physics::Minimum;

/// Most time that the devnet may take to end.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Longest wait for an answer of the relay.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// A devnet that this command started; it ends when this is dropped, and when this process does.
#[derive(Debug)]
pub(super) struct Started {
    process: Child,
}

impl Started {
    /// Starts a devnet over `wan` that loses datagrams with a probability, in a temporary folder, and waits until it is
    /// ready.
    pub(super) fn start(wan: &str, loss: f64) -> anyhow::Result<(Self, Cluster)> {
        let binary = std::env::current_exe().context("cannot find this program")?;
        let mut process = Command::new(binary)
            .args(["devnet", "--json", "--die-with-parent", "--l1", "none", "--wan", wan])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a devnet")?;
        let stdout = process.stdout.take();
        let started = Self { process };
        let mut line = String::new();
        BufReader::new(stdout.context("the devnet has no output")?).read_line(&mut line)?;
        ensure!(!line.is_empty(), "the devnet did not start");
        let cluster = Cluster::read(&line).map_err(anyhow::Error::msg)?;
        if let Some((_, control)) = &cluster.wan {
            order(*control, &json!({"do": "set", "loss": loss}))?;
        }
        Ok((started, cluster))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It sees the end of its stdin, and stops its nodes.
        drop(self.process.stdin.take());
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // Its nodes end with it.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// `text`, if it leads to a table: the devnet reads it again.
pub(super) fn table_name(text: &str) -> Result<String, String> {
    Wan::find(text).map(|_| text.to_owned())
}

/// Asks the relay at `control`.
fn order(control: SocketAddr, request: &Value) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect_timeout(&control, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    writeln!(stream, "{request}")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer: Value = serde_json::from_str(&line).with_context(|| format!("the relay answered {line:?}"))?;
    ensure!(answer["ok"] == true, "the relay refused: {}", answer["error"]);
    Ok(answer)
}

/// How late the relay sent, at worst in 99 of 100 datagrams: milliseconds that the measurement adds to each hop.
pub(super) fn relay_late_p99_ms(control: SocketAddr) -> Option<f64> {
    let answer = order(control, &json!({"do": "count"})).ok()?;
    answer["late"]["p99Us"].as_f64().map(|late| late / 1e3)
}

/// What users saw beside what physics allows.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WanReport {
    /// The table of delays.
    name: String,
    /// Probability that a datagram was lost.
    loss: f64,
    /// The least that any such consensus takes on it.
    minimum: Minimum,
    /// p50 of the run divided by the least final latency.
    p50_ratio: f64,
    /// Milliseconds by which the relay was late, 99 of 100.
    relay_late_p99_ms: Option<f64>,
    /// By the region that a transaction entered in.
    regions: Vec<RegionReport>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct RegionReport {
    region: String,
    /// The least final latency for users there.
    minimum_ms: f64,
    final_latency_ms: Percentiles,
    p50_ratio: f64,
}

impl WanReport {
    /// The report on a run over `wan`; `by_node` has microseconds for the nodes at these places of the table.
    pub(super) fn new(
        wan: &Wan,
        loss: f64,
        relay_late_p99_ms: Option<f64>,
        all: &Percentiles,
        by_node: &[(usize, Histogram<u64>)],
    ) -> Self {
        let minimum = Minimum::of(wan);
        let region = |(place, latency): &(usize, Histogram<u64>)| {
            let (final_latency_ms, minimum_ms) = (Percentiles::of(latency), minimum.final_by_node_ms[*place]);
            RegionReport {
                region: wan.regions[*place].clone(),
                minimum_ms,
                p50_ratio: final_latency_ms.p50 / minimum_ms,
                final_latency_ms,
            }
        };
        Self {
            name: wan.name.clone(),
            loss,
            p50_ratio: all.p50 / minimum.final_ms,
            relay_late_p99_ms,
            regions: by_node.iter().map(region).collect(),
            minimum,
        }
    }

    /// The report for people: lines with a line feed each.
    pub(super) fn to_text(&self) -> String {
        let Minimum {
            hop_ms,
            interval_ms,
            decide_ms,
            final_ms,
            without_waiting_ms,
            ..
        } = self.minimum;
        let late = self
            .relay_late_p99_ms
            .map_or_else(|| "unknown".to_owned(), |late| format!("{late:.2}"));
        let mut text = format!(
            "  network         {}, loss {}; its relay is late by {late} ms in 1 of 100 datagrams\n  \
             least possible  {final_ms:.1} ms: a hop {hop_ms:.1}, half an interval {:.1}, three hops {decide_ms:.1}; \
             {without_waiting_ms:.1} if no proposal waited\n  \
             ratio           p50 is {:.2} of the least possible\n",
            self.name,
            self.loss,
            interval_ms / 2.0,
            self.p50_ratio,
        );
        let width = self.regions.iter().map(|region| region.region.len()).max().unwrap_or(0);
        for region in &self.regions {
            let Percentiles { p50, p90, p99, max, .. } = region.final_latency_ms;
            text += &format!(
                "  from {:width$}  least {:.1} ms, p50 {p50:.1} ({:.2}), p90 {p90:.1}, p99 {p99:.1}, max {max:.1}\n",
                region.region, region.minimum_ms, region.p50_ratio
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_each_region_are_set_beside_the_least_possible_there() {
        let wan = Wan::find("4-eu-us").unwrap();
        let histogram = |milliseconds: u64| {
            let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
            histogram.record(milliseconds * 1000).unwrap();
            histogram
        };
        let all = Percentiles::of(&histogram(309));
        let report = WanReport::new(&wan, 0.01, Some(0.2), &all, &[(1, histogram(250)), (3, histogram(300))]);
        assert!((report.p50_ratio - 1.5).abs() < 0.01, "{}", report.p50_ratio);
        let (text, json) = (report.to_text(), serde_json::to_value(&report).unwrap());
        assert!(
            text.contains("4-eu-us, loss 0.01") && text.contains("p50 is 1.50"),
            "{text}"
        );
        assert!(
            text.contains("from us-west-2") && text.contains("from eu-central-1"),
            "{text}"
        );
        let far = json["regions"][0]["minimumMs"].as_f64().unwrap();
        assert!(
            far > json["minimum"]["finalMs"].as_f64().unwrap(),
            "the west is far from the others: {json}"
        );
    }
}
