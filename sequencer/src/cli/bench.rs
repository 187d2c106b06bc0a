//! `fusion bench`: loads a cluster and measures it.
//!
//! An open loop: transactions are due at fixed times whatever the cluster does, and latency counts from the due time,
//! so that a stall shows in full (no coordinated omission). The generator is built to be cheap, because it shares the
//! machine with the nodes that it measures; its own CPU time is part of the report. Linux only, for `/proc`.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use fusion_client::json::RollupKindJson;
use fusion_types::quorum_power;
use hdrhistogram::Histogram;
use serde::Serialize;

use self::load::{Load, Target};
use self::machine::Machine;
use self::report::{Report, Spent, WorkloadReport};
use self::tally::{Plan, Tally};
use self::wan::{Started, WanReport};
use self::workload::{Opaque, Transfers, TransfersPlan, Workload};
use super::cluster::{Cluster, ClusterArgs};
use super::relay::parse_probability;
use super::wan::{self as table, Wan};
use super::{print, print_json};
use crate::exit::{Exit, ExitError};

mod answers;
mod load;
mod machine;
mod peak;
mod pending;
mod report;
mod schedule;
mod tally;
mod wan;
mod websocket;
mod workload;

const HELP: &str = "\
Examples:
  fusion bench --rate 1000                               512-byte payloads to the devnet that runs on this machine
  fusion bench --rate 10000 --duration 5m --json
  fusion bench --transfers --rate 5000 --senders 1000    signed EIP-1559 transfers
  fusion bench --find-peak --p99-ms 250                  the highest rate that is held
  fusion bench --wan 4-eu-us --duration 60s              a devnet of its own, with a node in each region
  fusion bench --url http://a:7101 --url http://b:7101 --rollups 1001 --rate 1000";

/// How long transactions may take to become final after the last one was sent.
const DRAIN: Duration = Duration::from_secs(10);

/// How often progress is shown and the drain is looked at.
const PROGRESS: Duration = Duration::from_millis(250);

/// Warm-up and window of one step of the search for the peak.
const STEP_WARMUP: Duration = Duration::from_secs(2);
const STEP_WINDOW: Duration = Duration::from_secs(5);

/// A peak that does not hold for the full duration is lowered by one part in this many, and tried again.
const CONFIRM_PARTS: u64 = 20;

#[derive(Debug, Args)]
#[command(after_help = format!("{HELP}\n\n{}", table::HELP))]
pub(super) struct BenchArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Transactions a second, over all nodes.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Measured time: seconds, or with a unit as in 500ms, 90s, 5m.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    duration: Duration,
    /// Time before it that is not measured.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_time)]
    warmup: Duration,
    /// Send opaque payloads of this many bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 512, conflicts_with = "transfers")]
    size: usize,
    /// Send signed EIP-1559 transfers instead, signed beforehand.
    #[arg(long)]
    transfers: bool,
    /// Accounts that send the transfers.
    #[arg(long, value_name = "N", default_value_t = 256, requires = "transfers")]
    senders: usize,
    /// Rollups to send to [default: all of the fitting kind].
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    rollups: Vec<u64>,
    /// Process of a node on this machine (may be repeated) [default: those of the devnet].
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Metrics address of a node (may be repeated) [default: those of the devnet].
    #[arg(long, value_name = "URL")]
    metrics: Vec<String>,
    /// Search the highest rate that is held, from --rate on.
    #[arg(long)]
    find_peak: bool,
    /// A rate counts as held only with p99 up to this.
    #[arg(long, value_name = "MS", default_value_t = 250, requires = "find_peak")]
    p99_ms: u64,
    /// Start a devnet over a wide-area network for it: 4-eu-us, 4-global, 7-global, 10-global, or a file with a table.
    #[arg(long, value_name = "NAME|FILE", conflicts_with_all = ["url", "devnet"], value_parser = wan::table_name)]
    wan: Option<String>,
    /// Lose datagrams between its nodes with this probability.
    #[arg(long, value_name = "P", default_value_t = 0.0, requires = "wan", value_parser = parse_probability)]
    loss: f64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The outcome of a search.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PeakReport {
    /// The highest rate held for the full duration; 0 when none was.
    peak: u64,
    /// Its bound on p99.
    p99_max_ms: u64,
    /// Every rate tried.
    steps: Vec<Step>,
    /// The run that confirmed it.
    report: Option<Report>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    rate: u64,
    held: bool,
    final_per_second: f64,
    p99_ms: f64,
    /// Why it was not held.
    reason: Option<String>,
}

pub(super) fn run(args: &BenchArgs) -> Result<(), ExitError> {
    let (_started, cluster) = match &args.wan {
        Some(wan) => {
            let (started, cluster) = Started::start(wan, args.loss).map_err(unavailable)?;
            (Some(started), cluster)
        }
        None => (None, args.cluster.find()?),
    };
    let mut bench =
        Bench::new(args, cluster).map_err(|error| ExitError::new(Exit::Usage, format_args!("{error:#}")))?;
    if args.cluster.is_whole_devnet() && args.wan.is_none() {
        bench.leave_out_silent().map_err(unavailable)?;
    }
    if args.find_peak {
        let peak = bench.find_peak().map_err(unavailable)?;
        return if args.json {
            print_json(&peak)
        } else {
            print(&peak_text(&peak))
        };
    }
    let plan = Plan {
        rate: args.rate,
        warmup: args.warmup,
        window: args.duration,
    };
    let report = bench.measure(plan).map_err(unavailable)?;
    if args.json {
        print_json(&report)?;
    } else {
        print(&report.to_text())?;
    }
    if report.total.r#final == 0 {
        return Err(ExitError::new(Exit::Negative, "nothing became final"));
    }
    Ok(())
}

fn unavailable(error: anyhow::Error) -> ExitError {
    ExitError::new(Exit::Unavailable, format_args!("{error:#}"))
}

fn peak_text(peak: &PeakReport) -> String {
    match &peak.report {
        Some(report) => format!(
            "peak: {} tx/s with p99 up to {} ms\n\n{}",
            peak.peak,
            peak.p99_max_ms,
            report.to_text()
        ),
        None => format!("no rate was held with p99 up to {} ms", peak.p99_max_ms),
    }
}

/// `90`, `90s`, `500ms` or `5m`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is no time"))?;
    let milliseconds = match &text[digits.len()..] {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        unit => return Err(format!("unknown unit {unit:?}; ms, s and m are known")),
    };
    let time = milliseconds.filter(|time| (1..=86_400_000).contains(time));
    time.map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} must be 1ms to one day"))
}

/// What all runs of one command share.
struct Bench<'a> {
    args: &'a BenchArgs,
    targets: Vec<Target>,
    left_out: Vec<String>,
    rollups: Vec<u64>,
    pids: Vec<u32>,
    metrics: Vec<String>,
    /// The network between the nodes, where its relay takes orders, and the place of each host in its table.
    wan: Option<(Wan, SocketAddr)>,
    hosts: Vec<String>,
    terminal: bool,
}

/// Counters of the machine at one moment.
struct Sample {
    cluster_cpu: Option<f64>,
    generator_cpu: Option<f64>,
    wire_bytes: Option<f64>,
}

impl<'a> Bench<'a> {
    fn new(args: &'a BenchArgs, cluster: Cluster) -> anyhow::Result<Self> {
        let kind = if args.transfers {
            RollupKindJson::Evm
        } else {
            RollupKindJson::Opaque
        };
        let rollups = if args.rollups.is_empty() {
            cluster.rollups_of(kind)
        } else {
            args.rollups.clone()
        };
        ensure!(
            !rollups.is_empty(),
            "give --rollups ID: no rollup of the fitting kind is known"
        );
        let targets = cluster.urls.iter().map(|url| Target::parse(url));
        let targets = targets.collect::<anyhow::Result<Vec<_>>>()?;
        // Of some of the nodes it is not known which.
        let wan = cluster.wan.filter(|(wan, _)| wan.count() == targets.len());
        Ok(Self {
            args,
            hosts: targets.iter().map(|target| target.host.clone()).collect(),
            wan,
            targets,
            left_out: Vec::new(),
            rollups,
            pids: if args.pid.is_empty() {
                cluster.pids
            } else {
                args.pid.clone()
            },
            metrics: if args.metrics.is_empty() {
                cluster.metrics
            } else {
                args.metrics.clone()
            },
            terminal: std::io::stderr().is_terminal(),
        })
    }

    /// A devnet goes on without a few of its nodes, and so does its load: the others are used, and measured.
    fn leave_out_silent(&mut self) -> anyhow::Result<()> {
        let all = self.targets.len();
        let (usable, silent) = load::part(std::mem::take(&mut self.targets));
        for (_, error) in &silent {
            eprintln!("left out: {error:#}");
        }
        ensure_quorum(usable.len(), all)?;
        self.targets = usable;
        self.left_out = silent.into_iter().map(|(target, _)| target.host).collect();
        // A process that was killed a moment ago still has its CPU time, but no memory.
        self.pids.retain(|pid| machine::memory_peak_bytes(*pid).is_some());
        self.metrics.retain(|url| machine::wire_bytes(url).is_ok());
        Ok(())
    }

    fn workload(&self, plan: Plan) -> anyhow::Result<Workload> {
        let run = new_run()?;
        let connections = self.targets.len();
        if !self.args.transfers {
            let opaque = Opaque::new(self.args.size, run, connections, self.rollups.clone())?;
            return Ok(Workload::Opaque(Box::new(opaque)));
        }
        let counts = (0..connections).map(|place| plan.schedule(connections, place).count_until(plan.end()));
        let per_connection = usize::try_from(counts.max().unwrap_or(0)).context("too many transactions")?;
        self.note(&format!("signing {} transfers", per_connection * connections));
        let transfers = Transfers::sign(&TransfersPlan {
            run,
            connections,
            per_connection,
            senders: self.args.senders,
            rollups: self.rollups.clone(),
        })?;
        Ok(Workload::Transfers(transfers))
    }

    /// One run at one rate.
    fn measure(&self, plan: Plan) -> anyhow::Result<Report> {
        let workload = Arc::new(self.workload(plan)?);
        let load = Load::start(load::connect(&self.targets)?, &workload, plan)?;
        self.wait(&load, plan.warmup);
        let before = self.sample();
        self.wait(&load, plan.end());
        let after = self.sample();
        // Only what is not final yet is waited for.
        let drained = plan.end() + DRAIN;
        while load.started().elapsed() < drained && load.tally().unfinished > 0 {
            std::thread::sleep(PROGRESS);
        }
        let (tally, by_connection) = load.finish();
        self.clear_line();
        let spent = Spent {
            cluster_cpu: difference(before.cluster_cpu, after.cluster_cpu),
            generator_cpu: difference(before.generator_cpu, after.generator_cpu),
            wire_bytes: difference(before.wire_bytes, after.wire_bytes),
            memory_peak: self
                .pids
                .iter()
                .filter_map(|pid| machine::memory_peak_bytes(*pid))
                .max(),
        };
        let sent = WorkloadReport {
            kind: if self.args.transfers { "transfers" } else { "opaque" },
            transaction_bytes: workload.payload_bytes(),
            rollups: self.rollups.clone(),
            senders: self.args.transfers.then_some(self.args.senders),
            nodes: self.targets.len(),
            left_out: self.left_out.clone(),
        };
        let mut report = Report::new(plan, sent, &tally, spent, Machine::this());
        report.wan = self.wan_report(&report, by_connection);
        Ok(report)
    }

    /// What the distances had to do with it.
    fn wan_report(&self, report: &Report, by_connection: Vec<Histogram<u64>>) -> Option<WanReport> {
        let (wan, control) = self.wan.as_ref()?;
        let places = self
            .targets
            .iter()
            .map(|target| self.hosts.iter().position(|host| *host == target.host));
        let by_node: Option<Vec<_>> = places
            .zip(by_connection)
            .map(|(place, latency)| Some((place?, latency)))
            .collect();
        let late = wan::relay_late_p99_ms(*control);
        Some(WanReport::new(
            wan,
            self.args.loss,
            late,
            &report.final_latency_ms,
            &by_node?,
        ))
    }

    /// Doubles and bisects with short steps, then confirms what was found over the full duration.
    fn find_peak(&self) -> anyhow::Result<PeakReport> {
        let mut peak = PeakReport {
            peak: 0,
            p99_max_ms: self.args.p99_ms,
            steps: Vec::new(),
            report: None,
        };
        let mut search = peak::Search::new(self.args.rate);
        while let Some(rate) = search.next_rate() {
            let plan = Plan {
                rate,
                warmup: STEP_WARMUP,
                window: STEP_WINDOW,
            };
            let (_, held) = self.try_rate(plan, &mut peak)?;
            search.learn(rate, held);
        }
        let mut rate = search.held();
        while rate > 0 {
            let plan = Plan {
                rate,
                warmup: self.args.warmup,
                window: self.args.duration,
            };
            let (report, held) = self.try_rate(plan, &mut peak)?;
            if held {
                (peak.peak, peak.report) = (rate, Some(report));
                break;
            }
            rate -= (rate / CONFIRM_PARTS).max(1);
        }
        Ok(peak)
    }

    fn try_rate(&self, plan: Plan, peak: &mut PeakReport) -> anyhow::Result<(Report, bool)> {
        let report = self.measure(plan)?;
        let reason = report.held(Duration::from_millis(self.args.p99_ms)).err();
        let held = reason.is_none();
        let (finals, p99) = (report.per_second.r#final, report.final_latency_ms.p99);
        let verdict = reason
            .as_ref()
            .map_or_else(|| "held".to_owned(), |reason| format!("not held: {reason}"));
        eprintln!("{:>8} tx/s: final {finals:.0}/s, p99 {p99:.1} ms, {verdict}", plan.rate);
        peak.steps.push(Step {
            rate: plan.rate,
            held,
            final_per_second: finals,
            p99_ms: p99,
            reason,
        });
        Ok((report, held))
    }

    /// Shows progress until `until` has passed since the start.
    fn wait(&self, load: &Load, until: Duration) {
        let (mut last, mut last_at) = (0, Duration::ZERO);
        loop {
            let now = load.started().elapsed();
            let left = until.saturating_sub(now);
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(PROGRESS));
            if self.terminal {
                let (tally, now) = (load.tally(), load.started().elapsed());
                let rate = (tally.finals - last) as f64 / (now - last_at).as_secs_f64().max(0.001);
                self.show(&tally, now, rate);
                (last, last_at) = (tally.finals, now);
            }
        }
    }

    fn show(&self, tally: &Tally, now: Duration, final_rate: f64) {
        let quantile = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1000.0;
        self.note(&format!(
            "{:5.1} s  final {final_rate:.0}/s  p50 {:.1} ms  p99 {:.1} ms  in flight {}  refused {}",
            now.as_secs_f64(),
            quantile(0.5),
            quantile(0.99),
            tally.unfinished,
            tally.refusals(),
        ));
    }

    /// A line on a terminal that the next one replaces.
    fn note(&self, text: &str) {
        if self.terminal {
            eprint!("\r\x1b[K{text}");
        }
    }

    fn clear_line(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }

    fn sample(&self) -> Sample {
        // One missing process or address would make the sum wrong, so then there is none.
        let cpu: Option<Vec<f64>> = self.pids.iter().map(|pid| machine::cpu_seconds(*pid)).collect();
        let wire: Option<Vec<f64>> = self.metrics.iter().map(|url| machine::wire_bytes(url).ok()).collect();
        let sum = |parts: Option<Vec<f64>>| parts.filter(|parts| !parts.is_empty()).map(|parts| parts.iter().sum());
        Sample {
            cluster_cpu: sum(cpu),
            generator_cpu: machine::cpu_seconds(std::process::id()),
            wire_bytes: sum(wire),
        }
    }
}

/// Refuses a load of which nothing would become final. The nodes of a devnet have equal power.
fn ensure_quorum(usable: usize, all: usize) -> anyhow::Result<()> {
    let needed = quorum_power(all as u64);
    ensure!(
        usable as u64 >= needed,
        "{usable} of {all} nodes answer, {needed} decide: nothing would become final"
    );
    Ok(())
}

fn difference(before: Option<f64>, after: Option<f64>) -> Option<f64> {
    Some((after? - before?).max(0.0))
}

/// A number that no other run has.
fn new_run() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_needs_the_quorum_that_decides() {
        assert!(ensure_quorum(4, 4).is_ok() && ensure_quorum(3, 4).is_ok() && ensure_quorum(1, 1).is_ok());
        let refused = ensure_quorum(2, 4).unwrap_err().to_string();
        assert!(refused.starts_with("2 of 4 nodes answer, 3 decide"), "{refused}");
    }

    #[test]
    fn times_are_read_with_their_units_and_limits() {
        assert_eq!(parse_time("90").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_time("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse_time("5m").unwrap(), Duration::from_secs(300));
        for text in ["", "s", "0", "-1", "5h", "99999999m", "1.5s", "18446744073709551615m"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
