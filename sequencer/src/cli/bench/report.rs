//! What a run comes to: rates, percentiles, and what it cost.
//!
//! Pure: takes counts, gives figures and text. Latency is from when a transaction was *due* to when the notification of
//! its finality was read.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::machine::Machine;
use super::tally::{Plan, Tally};
use super::wan::WanReport;

/// Share of the offered rate that must become final within the window for a rate to be held.
const HELD_SHARE: f64 = 0.98;

/// Share of transactions that may be refused in a rate that is held.
const HELD_REFUSED_SHARE: f64 = 0.001;

/// The figures of one run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// What was sent.
    pub(super) workload: WorkloadReport,
    /// Transactions a second that were due.
    pub(super) rate: u64,
    /// Seconds before the measured window.
    pub(super) warmup_seconds: f64,
    /// Seconds of the measured window.
    pub(super) window_seconds: f64,
    /// Counts a second, in the window.
    pub(super) per_second: PerSecond,
    /// Counts over the whole run.
    pub(super) total: Total,
    /// Milliseconds from due to final.
    pub(super) final_latency_ms: Percentiles,
    /// What it cost the nodes; none of it when neither processes nor metrics are known.
    pub(super) cluster: ClusterCost,
    /// What it cost the generator, and how late it was.
    pub(super) generator: GeneratorCost,
    /// What distance had to do with it, when the nodes are in regions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) wan: Option<WanReport>,
    /// Where it ran.
    pub(super) machine: Machine,
}

/// What was sent.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WorkloadReport {
    /// `opaque` or `transfers`.
    pub(super) kind: &'static str,
    /// Mean size of a transaction.
    pub(super) transaction_bytes: f64,
    /// Rollups sent to.
    pub(super) rollups: Vec<u64>,
    /// Senders, of transfers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) senders: Option<usize>,
    /// Nodes sent to.
    pub(super) nodes: usize,
    /// Nodes of the devnet that did not answer before the run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) left_out: Vec<String>,
}

/// Counts a second.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PerSecond {
    /// Written to nodes.
    pub(super) submitted: f64,
    /// Taken by nodes.
    pub(super) accepted: f64,
    /// Final.
    pub(super) r#final: f64,
    /// Bytes of final transactions.
    pub(super) final_bytes: f64,
}

/// Counts.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Total {
    /// Written to nodes.
    pub(super) submitted: u64,
    /// Taken by nodes.
    pub(super) accepted: u64,
    /// Refused, by JSON-RPC error code.
    pub(super) rejected: BTreeMap<i64, u64>,
    /// Final.
    pub(super) r#final: u64,
    /// Submitted, not refused, and not final some seconds after the end.
    pub(super) unfinished: u64,
    /// Due and never submitted, because a connection failed.
    pub(super) unsent: u64,
    /// What ended connections.
    pub(super) failures: Vec<String>,
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Percentiles {
    /// Transactions counted.
    pub(super) count: u64,
    /// Mean.
    pub(super) mean: f64,
    /// Half are faster.
    pub(super) p50: f64,
    /// 90 of 100.
    pub(super) p90: f64,
    /// 99 of 100.
    pub(super) p99: f64,
    /// 999 of 1,000.
    pub(super) p999: f64,
    /// The slowest.
    pub(super) max: f64,
}

impl Percentiles {
    /// Of a histogram of microseconds.
    pub(super) fn of(microseconds: &Histogram<u64>) -> Self {
        let at = |quantile: f64| microseconds.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            count: microseconds.len(),
            mean: microseconds.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: microseconds.max() as f64 / 1000.0,
        }
    }
}

/// What the run cost the nodes.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterCost {
    /// CPU milliseconds of all nodes for each 1,000 final transactions.
    pub(super) cpu_ms_per_1000: Option<f64>,
    /// Cores that all nodes kept busy.
    pub(super) cores: Option<f64>,
    /// Bytes between nodes for each byte of a final transaction.
    pub(super) wire_bytes_per_transaction_byte: Option<f64>,
    /// Most memory that one node has held since it started, bytes.
    pub(super) memory_peak_bytes: Option<u64>,
}

/// What the run cost the generator.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GeneratorCost {
    /// Cores that it kept busy.
    pub(super) cores: Option<f64>,
    /// Milliseconds from due to written: 99 of 100. Part of every latency above.
    pub(super) late_p99_ms: f64,
    /// The same, the worst.
    pub(super) late_max_ms: f64,
}

/// Counters of the machine over the window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    /// CPU seconds of all nodes.
    pub(super) cluster_cpu: Option<f64>,
    /// CPU seconds of the generator.
    pub(super) generator_cpu: Option<f64>,
    /// Bytes that all nodes sent to each other.
    pub(super) wire_bytes: Option<f64>,
    /// Peak memory of the largest node, bytes.
    pub(super) memory_peak: Option<u64>,
}

impl Report {
    /// The figures of a run.
    pub(super) fn new(plan: Plan, workload: WorkloadReport, tally: &Tally, spent: Spent, machine: Machine) -> Self {
        let window = plan.window.as_secs_f64();
        let finals = tally.finals_in_window as f64;
        let bytes = finals * workload.transaction_bytes;
        let per = |spent: Option<f64>, unit: f64| spent.filter(|_| unit > 0.0).map(|spent| spent / unit);
        Self {
            rate: plan.rate,
            warmup_seconds: plan.warmup.as_secs_f64(),
            window_seconds: window,
            per_second: PerSecond {
                submitted: tally.sent_in_window as f64 / window,
                accepted: tally.accepted_in_window as f64 / window,
                r#final: finals / window,
                final_bytes: bytes / window,
            },
            total: Total {
                submitted: tally.sent,
                accepted: tally.accepted,
                rejected: tally.refused.clone(),
                r#final: tally.finals,
                unfinished: tally.unfinished,
                unsent: tally.unsent,
                failures: tally.failures.clone(),
            },
            final_latency_ms: Percentiles::of(&tally.latency),
            cluster: ClusterCost {
                cpu_ms_per_1000: per(spent.cluster_cpu, finals).map(|seconds| seconds * 1_000_000.0),
                cores: per(spent.cluster_cpu, window),
                wire_bytes_per_transaction_byte: per(spent.wire_bytes, bytes),
                memory_peak_bytes: spent.memory_peak,
            },
            generator: GeneratorCost {
                cores: per(spent.generator_cpu, window),
                late_p99_ms: tally.late.value_at_quantile(0.99) as f64 / 1000.0,
                late_max_ms: tally.late.max() as f64 / 1000.0,
            },
            workload,
            wan: None,
            machine,
        }
    }

    /// Whether the cluster held the rate with p99 at or below `p99_max`; if not, why not.
    pub(super) fn held(&self, p99_max: Duration) -> Result<(), String> {
        let (p99, bound) = (self.final_latency_ms.p99, p99_max.as_secs_f64() * 1000.0);
        let refused = self.total.rejected.values().sum::<u64>() as f64;
        let lost = self.total.unfinished + self.total.unsent;
        if let Some(failure) = self.total.failures.first() {
            Err(failure.clone())
        } else if refused > self.total.submitted as f64 * HELD_REFUSED_SHARE {
            Err(format!("{refused} of {} refused", self.total.submitted))
        } else if lost > 0 {
            Err(format!("{lost} did not become final"))
        } else if self.per_second.r#final < self.rate as f64 * HELD_SHARE {
            Err(format!("only {:.0} a second became final", self.per_second.r#final))
        } else if p99 > bound {
            Err(format!("p99 is {p99:.1} ms, above {bound:.0} ms"))
        } else {
            Ok(())
        }
    }

    /// The report for people.
    pub(super) fn to_text(&self) -> String {
        let Self {
            per_second,
            total,
            final_latency_ms: latency,
            cluster,
            generator,
            machine,
            ..
        } = self;
        let sent = match self.workload.senders {
            Some(senders) => format!("signed EIP-1559 transfers of {senders} senders"),
            None => "opaque payloads".to_owned(),
        };
        let known = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.digits$}"))
        };
        let rejected = rejections(&total.rejected);
        let left_out = match self.workload.left_out.join(", ") {
            none if none.is_empty() => String::new(),
            hosts => format!(" without {hosts}"),
        };
        let mut text = format!(
            "{sent}, {:.0} bytes, rollups {:?}, {} nodes{left_out}; {} tx/s due for {:.1} s after {:.1} s of warm-up\n\n",
            self.workload.transaction_bytes,
            self.workload.rollups,
            self.workload.nodes,
            self.rate,
            self.window_seconds,
            self.warmup_seconds,
        );
        text += &format!(
            "  per second      submitted {:.0}, accepted {:.0}, final {:.0} ({:.2} MB/s)\n",
            per_second.submitted,
            per_second.accepted,
            per_second.r#final,
            per_second.final_bytes / 1e6
        );
        text += &format!(
            "  in all          submitted {}, accepted {}, rejected {rejected}, final {}, unfinished {}, unsent {}\n",
            total.submitted, total.accepted, total.r#final, total.unfinished, total.unsent
        );
        text += &format!(
            "  final latency   p50 {:.1} ms, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1}\n",
            latency.p50, latency.p90, latency.p99, latency.p999, latency.max
        );
        text += &self.wan.as_ref().map(WanReport::to_text).unwrap_or_default();
        text += &format!(
            "  cluster         {} CPU ms per 1,000 tx, {} cores, {} wire bytes per tx byte, peak memory of a node {} MB\n",
            known(cluster.cpu_ms_per_1000, 1),
            known(cluster.cores, 2),
            known(cluster.wire_bytes_per_transaction_byte, 2),
            known(cluster.memory_peak_bytes.map(|bytes| bytes as f64 / 1e6), 0),
        );
        text += &format!(
            "  generator       {} cores, late p99 {:.1} ms, max {:.1} ms\n",
            known(generator.cores, 2),
            generator.late_p99_ms,
            generator.late_max_ms
        );
        text += &format!(
            "  machine         {} cores, {}, {:.1} GB, Linux {}",
            machine.cores,
            machine.cpu,
            machine.memory_bytes as f64 / 1e9,
            machine.kernel
        );
        for failure in &total.failures {
            text += &format!("\n  failed          {failure}");
        }
        text
    }
}

/// How many were refused, and with which codes.
fn rejections(by_code: &BTreeMap<i64, u64>) -> String {
    let sum = by_code.values().sum::<u64>();
    if sum == 0 {
        return "0".to_owned();
    }
    let codes: Vec<String> = by_code
        .iter()
        .map(|(code, count)| format!("{count} with code {code}"))
        .collect();
    format!("{sum} ({})", codes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(change: impl FnOnce(&mut Tally)) -> Report {
        let plan = Plan {
            rate: 1_000,
            warmup: Duration::from_secs(1),
            window: Duration::from_secs(2),
        };
        let mut tally = Tally::new();
        (tally.sent, tally.accepted, tally.finals) = (3_000, 3_000, 3_000);
        (tally.sent_in_window, tally.accepted_in_window, tally.finals_in_window) = (2_000, 2_000, 2_000);
        for microseconds in 1..=2_000 {
            tally.latency.record(microseconds * 10).unwrap();
        }
        change(&mut tally);
        let workload = WorkloadReport {
            kind: "opaque",
            transaction_bytes: 512.0,
            rollups: vec![1001],
            senders: None,
            nodes: 3,
            left_out: vec!["127.0.0.1:7111".to_owned()],
        };
        let spent = Spent {
            cluster_cpu: Some(0.3),
            generator_cpu: Some(0.1),
            wire_bytes: Some(2_000.0 * 512.0 * 3.75),
            memory_peak: Some(100_000_000),
        };
        Report::new(plan, workload, &tally, spent, Machine::this())
    }

    const BOUND: Duration = Duration::from_millis(250);

    #[test]
    fn figures_follow_from_the_counts() {
        let report = report(|_| {});
        assert!((report.per_second.r#final - 1_000.0).abs() < 1e-9);
        assert!(
            (report.final_latency_ms.p50 - 10.0).abs() < 0.1,
            "{:?}",
            report.final_latency_ms
        );
        assert!((report.final_latency_ms.p99 - 19.8).abs() < 0.1);
        assert!((report.final_latency_ms.max - 20.0).abs() < 0.1);
        assert!((report.cluster.cpu_ms_per_1000.unwrap() - 150.0).abs() < 1e-9);
        assert!((report.cluster.wire_bytes_per_transaction_byte.unwrap() - 3.75).abs() < 1e-9);
        assert!((report.generator.cores.unwrap() - 0.05).abs() < 1e-9);
        assert_eq!(report.held(BOUND), Ok(()));
        assert!(report.to_text().contains("p99 19.8"), "{}", report.to_text());
    }

    #[test]
    fn a_rate_is_not_held_when_anything_is_refused_lost_slow_or_too_few() {
        let why = |change: fn(&mut Tally)| report(change).held(BOUND).unwrap_err();
        assert!(
            why(|tally| {
                tally.refused.insert(-32005, 4);
            })
            .contains("refused")
        );
        assert!(why(|tally| tally.unfinished = 1).contains("did not become final"));
        assert!(why(|tally| tally.finals_in_window = 1_900).contains("only 950"));
        assert!(why(|tally| tally.latency.record_n(300_000, 40).unwrap()).contains("p99"));
        assert!(why(|tally| tally.failures.push("gone".to_owned())).contains("gone"));
        assert_eq!(
            report(|tally| {
                tally.refused.insert(-32005, 2);
            })
            .held(BOUND),
            Ok(())
        );
    }

    #[test]
    fn unknown_costs_are_null_and_not_zero() {
        let mut report = report(|_| {});
        report.cluster = ClusterCost::default();
        let json = serde_json::to_value(&report).unwrap();
        assert!(json["cluster"]["cpuMsPer1000"].is_null());
        assert_eq!(json["finalLatencyMs"]["count"], 2_000);
        assert_eq!(json["perSecond"]["final"], 1_000.0);
        assert!(report.to_text().contains("unknown"));
    }
}
