//! What nodes say of themselves: one question over HTTP, and rates made of their metrics.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fusion_client::json::StatusJson;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::home::Node;

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What the node whose RPC listens at `rpc` says of itself, if it answers.
pub(super) async fn status(rpc: SocketAddr) -> Option<StatusJson> {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"fusion_status","params":[]}"#;
    let head = format!(
        "POST / HTTP/1.0\r\nHost: {rpc}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = ask(rpc, &(head + body)).await?;
    let mut answer: serde_json::Value = serde_json::from_str(&answer).ok()?;
    serde_json::from_value(answer.get_mut("result")?.take()).ok()
}

/// Sends one request and returns the body of a successful answer.
async fn ask(address: SocketAddr, request: &str) -> Option<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.ok()?;
        String::from_utf8(answer).ok()
    };
    let answer = tokio::time::timeout(ANSWER_MAX, exchange).await.ok()??;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let ok = head.split_whitespace().nth(1) == Some("200");
    ok.then(|| body.to_owned())
}

/// A few of a node's metrics at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    at: Instant,
    height: f64,
    transactions: f64,
    /// Upper bound in microseconds to cumulative count.
    latency: BTreeMap<u64, f64>,
    l1: L1Sample,
}

/// What a node says of L1; zero where it does not settle.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct L1Sample {
    posted: f64,
    settled: f64,
    unposted: f64,
    poster_wei: f64,
}

/// The metrics of each node that answers.
pub(super) async fn samples(nodes: &[Node]) -> Vec<Option<Sample>> {
    let mut samples = Vec::with_capacity(nodes.len());
    for node in nodes {
        let request = format!("GET /metrics HTTP/1.0\r\nHost: {}\r\n\r\n", node.metrics);
        let text = ask(node.metrics, &request).await;
        samples.push(text.and_then(|text| parse(&text, Instant::now())));
    }
    samples
}

fn parse(text: &str, at: Instant) -> Option<Sample> {
    let mut sample = Sample {
        at,
        height: f64::NAN,
        transactions: 0.0,
        latency: BTreeMap::new(),
        l1: L1Sample::default(),
    };
    for line in text.lines() {
        let Some((name, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let Ok(value) = value.parse::<f64>() else {
            continue;
        };
        match name {
            "fusion_consensus_height" => sample.height = value,
            "fusion_consensus_transactions_total" => sample.transactions = value,
            "fusion_settlement_height{rung=\"posted\"}" => sample.l1.posted = value,
            "fusion_settlement_height{rung=\"settled\"}" => sample.l1.settled = value,
            "fusion_settlement_unposted_bytes" => sample.l1.unposted = value,
            "fusion_settlement_poster_wei" => sample.l1.poster_wei = value,
            _ => {
                let bound = name
                    .strip_prefix("fusion_preconf_latency_seconds_bucket{")
                    .and_then(bound);
                if let Some(bound) = bound {
                    *sample.latency.entry(bound).or_default() += value;
                }
            }
        }
    }
    sample.height.is_finite().then_some(sample)
}

/// The `le` of a bucket's labels, in microseconds.
fn bound(labels: &str) -> Option<u64> {
    let (_, rest) = labels.split_once("le=\"")?;
    let (bound, _) = rest.split_once('"')?;
    if bound == "+Inf" {
        return Some(u64::MAX);
    }
    let bound = Duration::try_from_secs_f64(bound.parse().ok()?).ok()?;
    u64::try_from(bound.as_micros()).ok()
}

/// Turns samples into rates: remembers the last one of each node.
pub(super) struct Meter {
    last: Vec<Option<Sample>>,
    /// What each poster had when it was seen first, in wei.
    poster_wei: Vec<f64>,
}

impl Meter {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            last: vec![None; nodes],
            poster_wei: vec![0.0; nodes],
        }
    }

    /// The status line, once there are two samples to compare.
    pub(super) fn line(&mut self, samples: Vec<Option<Sample>>) -> Option<String> {
        let mut height = 0.0_f64;
        let (mut blocks, mut transactions) = (None::<f64>, 0.0_f64);
        let mut latency: BTreeMap<u64, f64> = BTreeMap::new();
        let answering = samples.iter().flatten().count();
        for (last, sample) in self.last.iter().zip(&samples) {
            let Some(sample) = sample else { continue };
            height = height.max(sample.height);
            let Some(last) = last else { continue };
            let seconds = sample.at.duration_since(last.at).as_secs_f64().max(1e-3);
            blocks = Some(blocks.unwrap_or(0.0).max((sample.height - last.height) / seconds));
            // A node that was started again counts from 0.
            let restarted = sample.transactions < last.transactions;
            let before = |value: f64| if restarted { 0.0 } else { value };
            transactions = transactions.max((sample.transactions - before(last.transactions)) / seconds);
            for (bound, count) in &sample.latency {
                let earlier = last.latency.get(bound).copied().unwrap_or(0.0);
                *latency.entry(*bound).or_default() += (count - before(earlier)).max(0.0);
            }
        }
        let nodes = samples.len();
        let l1 = self.l1(&samples);
        self.last = samples;
        let blocks = blocks?;
        let latency = match (quantile(&latency, 0.5), quantile(&latency, 0.99)) {
            (Some(p50), Some(p99)) => format!("final p50 {p50:.1} ms p99 {p99:.1} ms"),
            _ => "final p50 - p99 -".to_owned(),
        };
        Some(format!(
            "height {height:.0} | {blocks:.1} blocks/s | {transactions:.0} tx/s | {latency} | {answering}/{nodes} nodes{l1}"
        ))
    }

    /// What the line says of L1: the best that any node knows, and what all posters spent since they were seen first.
    fn l1(&mut self, samples: &[Option<Sample>]) -> String {
        let (mut best, mut spent) = (L1Sample::default(), 0.0);
        for (first, sample) in self.poster_wei.iter_mut().zip(samples) {
            let Some(L1Sample {
                posted,
                settled,
                unposted,
                poster_wei,
            }) = sample.as_ref().map(|sample| sample.l1)
            else {
                continue;
            };
            best.posted = best.posted.max(posted);
            best.settled = best.settled.max(settled);
            best.unposted = best.unposted.max(unposted);
            *first = first.max(poster_wei);
            if poster_wei > 0.0 {
                best.poster_wei += poster_wei;
                spent += *first - poster_wei;
            }
        }
        if best.poster_wei == 0.0 {
            return String::new();
        }
        format!(
            " | L1: posted {:.0}, settled {:.0}, {:.2} MB wait, {:.6} ETH spent",
            best.posted,
            best.settled,
            best.unposted / 1e6,
            spent / 1e18
        )
    }
}

/// The quantile in milliseconds of cumulative buckets, linear within a bucket.
fn quantile(buckets: &BTreeMap<u64, f64>, quantile: f64) -> Option<f64> {
    let total = *buckets.values().last()?;
    if total < 1.0 {
        return None;
    }
    let rank = total * quantile;
    let (mut low, mut below) = (0.0, 0.0);
    for (bound, count) in buckets {
        // Past the last bound nothing is known but that it is above.
        let high = if *bound == u64::MAX {
            low
        } else {
            Duration::from_micros(*bound).as_secs_f64() * 1e3
        };
        if *count >= rank && *count > below {
            return Some(low + (high - low) * (rank - below) / (count - below));
        }
        (low, below) = (high, *count);
    }
    Some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(height: u32, transactions: u32, buckets: [u32; 3]) -> String {
        let [a, b, c] = buckets;
        format!(
            "# HELP x y\nfusion_consensus_height {height}\nfusion_consensus_transactions_total {transactions}\n\
             fusion_preconf_latency_seconds_bucket{{le=\"0.01\"}} {a}\n\
             fusion_preconf_latency_seconds_bucket{{le=\"0.02\"}} {b}\n\
             fusion_preconf_latency_seconds_bucket{{le=\"+Inf\"}} {c}\n"
        )
    }

    #[test]
    fn rates_come_from_two_samples() {
        let start = Instant::now();
        let mut meter = Meter::new(2);
        assert_eq!(meter.line(vec![parse(&text(10, 100, [0, 0, 0]), start), None]), None);
        let later = start + Duration::from_secs(2);
        let line = meter
            .line(vec![parse(&text(30, 300, [100, 200, 200]), later), None])
            .unwrap();
        assert_eq!(
            line,
            "height 30 | 10.0 blocks/s | 100 tx/s | final p50 10.0 ms p99 19.8 ms | 1/2 nodes"
        );
    }

    #[test]
    fn a_network_that_settles_says_how_far_and_what_it_cost() {
        let start = Instant::now();
        let of = |height: u32, posted: u32, wei: &str| {
            let text = text(height, 0, [0, 0, 0]);
            format!(
                "{text}fusion_settlement_height{{rung=\"posted\"}} {posted}\nfusion_settlement_height{{rung=\"settled\"}} 3\n\
                 fusion_settlement_unposted_bytes 250000\nfusion_settlement_poster_wei {wei}\n"
            )
        };
        let mut meter = Meter::new(1);
        meter.line(vec![parse(&of(10, 5, "3000000000000000000"), start)]);
        let later = start + Duration::from_secs(1);
        let line = meter
            .line(vec![parse(&of(11, 7, "2750000000000000000"), later)])
            .unwrap();
        assert!(
            line.ends_with("| 1/1 nodes | L1: posted 7, settled 3, 0.25 MB wait, 0.250000 ETH spent"),
            "{line}"
        );
    }

    #[test]
    fn restarted_node_counts_from_zero() {
        let start = Instant::now();
        let mut meter = Meter::new(1);
        meter.line(vec![parse(&text(10, 1000, [5, 5, 5]), start)]);
        let line = meter
            .line(vec![parse(&text(11, 50, [4, 4, 4]), start + Duration::from_secs(1))])
            .unwrap();
        assert!(line.contains("| 50 tx/s |"), "{line}");
    }

    #[test]
    fn latency_beyond_the_last_bucket_is_its_bound() {
        let sample = parse(&text(1, 1, [0, 0, 9]), Instant::now()).unwrap();
        assert_eq!(quantile(&sample.latency, 0.5), Some(20.0));
    }

    #[test]
    fn garbage_is_no_sample() {
        assert_eq!(parse("<html>\nfusion_consensus_height x\n", Instant::now()), None);
    }
}
