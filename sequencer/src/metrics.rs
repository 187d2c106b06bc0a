//! What a node tells its operators in numbers: the registry, and the only file that names `prometheus`.
//!
//! Names follow prometheus.io: prefix `fusion_`, a subsystem, base units, `_total` for counters; labels come from small
//! fixed sets. Updating is a plain method on [`Metrics`], cheap enough for the node thread. What the node publishes in
//! its `NodeStatus` anyway is not updated at all but read when somebody scrapes. The HTTP side is `metrics/http.rs`.

mod http;
mod process;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fusion_settlement::poster::PosterStatus;
use fusion_settlement::settler::SettlerView;
use prometheus::core::Collector;
use prometheus::{
    Counter, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::handle::{LinkStatus, NodeStatus};
use crate::network::Class;

pub use http::serve;

/// From submission to finality: 1 ms to 10 s.
const LATENCY_BUCKETS: [f64; 14] = [
    0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 2.0, 10.0,
];

/// From a fast NVMe drive's flush to a disk that makes the node miss its turn.
const FSYNC_BUCKETS: [f64; 13] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0,
];

/// Without a heartbeat of the node thread for this long, the node counts as dead.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(5);

/// Every metric of a node. Cheap to clone; the clones count together.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    started: Instant,
    heartbeat_ms: AtomicU64,
    storage_failed: AtomicBool,
    node: NodeMetrics,
    wire: IntCounterVec,
    dropped: IntCounterVec,
    rebinds: IntCounter,
    rpc: IntCounterVec,
    connections: IntGauge,
    subscriptions: IntGaugeVec,
    slow_readers: IntCounter,
    process: process::Process,
}

/// What the node thread counts, and what a scrape reads from its status.
#[derive(Debug)]
struct NodeMetrics {
    rounds: IntCounterVec,
    blocks: IntCounter,
    transactions: IntCounter,
    bytes: IntCounter,
    latency: Histogram,
    fsync: Histogram,
    accepted: IntCounter,
    rejected: IntCounterVec,
    refusals: IntCounterVec,
    height: IntGauge,
    round: IntGauge,
    lag: IntGauge,
    catching_up: IntGauge,
    voting: IntGauge,
    quarantine: IntGauge,
    power: IntGauge,
    quorum: IntGauge,
    clocks: IntGauge,
    evidence: IntGauge,
    pool_transactions: IntGauge,
    pool_bytes: IntGauge,
    peers: IntGaugeVec,
    rtt: GaugeVec,
    links: Links,
    rungs: IntGaugeVec,
    unposted: IntGauge,
    poster_wei: Gauge,
    posts_left: IntGauge,
}

/// By validator: what limits what can be sent to it.
#[derive(Debug)]
struct Links {
    window: IntGaugeVec,
    packets: IntGaugeVec,
    packet_bytes: IntGaugeVec,
    waiting: IntGaugeVec,
}

/// Whether bytes come or go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From a peer.
    In,
    /// To a peer.
    Out,
}

/// Puts a collector into the registry; names here are constants, so that a refusal is a defect the first test finds.
fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = collector.expect("the names and labels of this file are valid");
    registry
        .register(Box::new(collector.clone()))
        .expect("the names of this file are used once");
    collector
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    register(registry, Histogram::with_opts(options))
}

impl NodeMetrics {
    #[rustfmt::skip]
    fn new(r: &Registry) -> Self {
        Self {
            rounds: counters(r, "fusion_consensus_rounds_total", "Rounds that ended, by whether they decided", &["outcome"]),
            blocks: counter(r, "fusion_consensus_blocks_total", "Blocks decided since the start"),
            transactions: counter(r, "fusion_consensus_transactions_total", "Transactions in them"),
            bytes: counter(r, "fusion_consensus_block_bytes_total", "Encoded bytes of the blocks"),
            latency: histogram(r, "fusion_preconf_latency_seconds", "From the submission at this node to the durable decision", &LATENCY_BUCKETS),
            fsync: histogram(r, "fusion_storage_fsync_seconds", "Time of one durable flush", &FSYNC_BUCKETS),
            accepted: counter(r, "fusion_mempool_accepted_total", "Transactions that the pool took"),
            rejected: counters(r, "fusion_mempool_rejected_total", "Transactions that were refused", &["reason"]),
            refusals: counters(r, "fusion_signer_refusals_total", "Signatures that the sign guard refused", &["reason"]),
            height: gauge(r, "fusion_consensus_height", "Height of the last decided block"),
            round: gauge(r, "fusion_consensus_round", "Round of the height in progress"),
            lag: gauge(r, "fusion_sync_lag_blocks", "Blocks behind the best of the peers"),
            catching_up: gauge(r, "fusion_sync_catching_up", "1 while behind the peers"),
            voting: gauge(r, "fusion_consensus_voting", "1 while this node votes"),
            quarantine: gauge(r, "fusion_consensus_quarantine", "1 while this node follows a height without voting"),
            power: gauge(r, "fusion_consensus_connected_power", "Voting power connected, with its own"),
            quorum: gauge(r, "fusion_consensus_quorum_power", "Voting power that decides"),
            clocks: gauge(r, "fusion_consensus_clocks_ahead_ms", "By how much the other proposers' clocks are ahead of this one: their median, zero while unknown, a few below zero when all is well"),
            evidence: gauge(r, "fusion_consensus_evidence", "Pieces of evidence kept"),
            pool_transactions: gauge(r, "fusion_mempool_txs", "Transactions waiting"),
            pool_bytes: gauge(r, "fusion_mempool_bytes", "Bytes of the transactions waiting"),
            peers: register(r, IntGaugeVec::new(Opts::new("fusion_p2p_peers", "Peers by state"), &["state"])),
            rtt: register(r, GaugeVec::new(Opts::new("fusion_p2p_peer_rtt_seconds", "Round-trip time to a connected validator"), &["peer"])),
            links: Links::new(r),
            rungs: register(r, IntGaugeVec::new(Opts::new("fusion_settlement_height", "Last height that is in a batch, in one on L1, in one that L1 finalized"), &["rung"])),
            unposted: gauge(r, "fusion_settlement_unposted_bytes", "Bytes of decided transactions, before compression, that are not on L1"),
            poster_wei: register(r, Gauge::new("fusion_settlement_poster_wei", "Balance of this node's posting account")),
            posts_left: gauge(r, "fusion_settlement_posts_left", "Posts of six blobs that the balance is enough for at present fees"),
        }
    }

    /// Brings the gauges up to what the node last published.
    fn read(&self, status: &NodeStatus) {
        let node = &status.node;
        let set = |gauge: &IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.height, node.height);
        set(&self.round, node.round.into());
        set(&self.lag, node.lag);
        set(&self.catching_up, u64::from(node.lag > 0));
        set(&self.voting, node.voting.into());
        set(&self.quarantine, node.quarantine.is_some().into());
        set(&self.power, node.power_connected);
        set(&self.quorum, node.quorum);
        set(&self.evidence, node.evidence);
        self.clocks.set(status.clocks_ahead_ms.unwrap_or(0));
        set(&self.pool_transactions, node.pool_transactions);
        set(&self.pool_bytes, node.pool_bytes);
        let connected = status.peers.iter().filter(|peer| peer.connected).count() as u64;
        set(&self.peers.with_label_values(&["connected"]), connected);
        let missing = (status.peers.len() as u64).saturating_sub(connected);
        set(&self.peers.with_label_values(&["missing"]), missing);
        self.rtt.reset();
        // Followers come and go, so that their keys would be an unbounded label.
        for peer in status.peers.iter().filter(|peer| peer.validator.is_some()) {
            if let Some(rtt) = peer.rtt_us {
                let label = peer.peer.to_string();
                let seconds = Duration::from_micros(rtt).as_secs_f64();
                self.rtt.with_label_values(&[label.as_str()]).set(seconds);
            }
        }
        self.links.read(&status.links);
    }
}

impl Links {
    #[rustfmt::skip]
    fn new(r: &Registry) -> Self {
        let gauges = |name, help, labels: &[&str]| register(r, IntGaugeVec::new(Opts::new(name, help), labels));
        Self {
            window: gauges("fusion_p2p_peer_window_bytes", "Bytes that may be on their way to a validator at once", &["peer"]),
            packets: gauges("fusion_p2p_peer_packets", "Packets of the present connection to a validator, and of these, taken for lost", &["peer", "fate"]),
            packet_bytes: gauges("fusion_p2p_peer_packet_bytes", "Largest packet that the path to a validator carries", &["peer"]),
            waiting: gauges("fusion_p2p_peer_waiting_bytes", "Bytes that wait to be written to a validator", &["peer", "class"]),
        }
    }

    fn read(&self, links: &[LinkStatus]) {
        for gauges in [&self.window, &self.packets, &self.packet_bytes, &self.waiting] {
            // Who is not connected has no path.
            gauges.reset();
        }
        let set = |gauges: &IntGaugeVec, labels: &[&str], value: u64| {
            gauges
                .with_label_values(labels)
                .set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        for LinkStatus {
            peer,
            path,
            waiting_bytes,
        } in links
        {
            let peer = peer.to_string();
            set(&self.window, &[&peer], path.window_bytes);
            set(&self.packets, &[&peer, "sent"], path.packets_sent);
            set(&self.packets, &[&peer, "lost"], path.packets_lost);
            set(&self.packet_bytes, &[&peer], path.packet_bytes_max.into());
            for (class, bytes) in Class::ALL.into_iter().zip(waiting_bytes) {
                set(&self.waiting, &[&peer, class.name()], *bytes as u64);
            }
        }
    }
}

impl Metrics {
    /// The metrics of a node called `name`, of `role` validator or follower, running `version`.
    #[rustfmt::skip]
    pub fn new(name: &str, role: &str, version: &str) -> Self {
        let registry = Registry::new();
        let r = &registry;
        let build = Opts::new("fusion_build_info", "1, labelled with the version").const_label("version", version);
        register(r, IntGauge::with_opts(build)).set(1);
        let node = Opts::new("fusion_node_info", "1, labelled with name and role").const_label("name", name).const_label("role", role);
        register(r, IntGauge::with_opts(node)).set(1);
        Self(Arc::new(Inner {
            started: Instant::now(),
            heartbeat_ms: AtomicU64::new(0),
            storage_failed: AtomicBool::new(false),
            node: NodeMetrics::new(r),
            wire: counters(r, "fusion_p2p_bytes_total", "Bytes exchanged with peers, by class of message", &["class", "direction"]),
            dropped: counters(r, "fusion_p2p_frames_dropped_total", "Messages that were not sent because too many waited already", &["class"]),
            rebinds: counter(r, "fusion_p2p_socket_rebinds_total", "Times that the UDP socket was bound anew"),
            rpc: counters(r, "fusion_rpc_requests_total", "Calls answered, by method and JSON-RPC code (0 is success)", &["method", "code"]),
            connections: gauge(r, "fusion_rpc_connections", "Open connections"),
            subscriptions: register(r, IntGaugeVec::new(Opts::new("fusion_rpc_subscriptions", "Open subscriptions"), &["kind"])),
            slow_readers: counter(r, "fusion_rpc_slow_readers_total", "Subscriptions cut off because nobody read them"),
            process: process::Process::new(r),
            registry,
        }))
    }

    /// The node thread is alive. Call it at least once per second.
    pub fn heartbeat(&self) {
        self.0.heartbeat_ms.store(self.uptime_ms(), Ordering::Relaxed);
    }

    /// A write or flush failed: the node must not count as alive any more.
    pub fn storage_failed(&self) {
        self.0.storage_failed.store(true, Ordering::Relaxed);
    }

    /// A block of `bytes` encoded bytes was decided in `round`, with this many transactions.
    pub fn decided(&self, round: u32, transactions: u64, bytes: u64) {
        let node = &self.0.node;
        node.rounds.with_label_values(&["decided"]).inc();
        node.rounds.with_label_values(&["failed"]).inc_by(round.into());
        node.blocks.inc();
        node.transactions.inc_by(transactions);
        node.bytes.inc_by(bytes);
    }

    /// A transaction that was submitted here became final after `latency`.
    pub fn final_after(&self, latency: Duration) {
        self.0.node.latency.observe(latency.as_secs_f64());
    }

    /// Settlement moved on.
    pub fn settlement(&self, view: &SettlerView) {
        let node = &self.0.node;
        for (rung, height) in [("batch", view.cut), ("posted", view.posted), ("settled", view.settled)] {
            let height = i64::try_from(height.0).unwrap_or(i64::MAX);
            node.rungs.with_label_values(&[rung]).set(height);
        }
        node.unposted
            .set(i64::try_from(view.unposted_bytes).unwrap_or(i64::MAX));
    }

    /// How this node's poster stands.
    pub fn poster(&self, status: &PosterStatus) {
        let node = &self.0.node;
        node.poster_wei.set(f64::from(status.balance_wei));
        node.posts_left
            .set(i64::try_from(status.posts_left).unwrap_or(i64::MAX));
    }

    /// A durable flush took `time`.
    pub fn flushed(&self, time: Duration) {
        self.0.node.fsync.observe(time.as_secs_f64());
    }

    /// The pool took `count` transactions.
    pub fn accepted(&self, count: u64) {
        self.0.node.accepted.inc_by(count);
    }

    /// A transaction was refused; `reason` is a `Reject`'s name.
    pub fn rejected(&self, reason: &'static str) {
        self.0.node.rejected.with_label_values(&[reason]).inc();
    }

    /// The sign guard refused a signature.
    pub fn refused_to_sign(&self, reason: &'static str) {
        self.0.node.refusals.with_label_values(&[reason]).inc();
    }

    /// Bytes of a class of messages crossed the wire.
    pub fn wire(&self, class: &'static str, direction: Direction, bytes: u64) {
        let direction = match direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        self.0.wire.with_label_values(&[class, direction]).inc_by(bytes);
    }

    /// Messages of a class were not sent because too many waited already.
    pub fn dropped(&self, class: &'static str, count: u64) {
        self.0.dropped.with_label_values(&[class]).inc_by(count);
    }

    /// The UDP socket was bound anew.
    pub fn rebound(&self) {
        self.0.rebinds.inc();
    }

    /// `count` calls of `method` were answered with `code`, 0 for success. `method` must be one that is served.
    pub fn called(&self, method: &'static str, code: i32, count: u64) {
        if count > 0 {
            let code = code.to_string();
            self.0.rpc.with_label_values(&[method, code.as_str()]).inc_by(count);
        }
    }

    /// How many RPC connections are open.
    pub fn connections(&self, open: usize) {
        self.0.connections.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// Subscriptions of a kind were opened (positive) or closed (negative).
    pub fn subscriptions(&self, kind: &'static str, change: i64) {
        self.0.subscriptions.with_label_values(&[kind]).add(change);
    }

    /// A subscription was cut off because nobody read it.
    pub fn slow_reader(&self) {
        self.0.slow_readers.inc();
    }

    /// Time since the node thread last gave its heartbeat.
    fn silence(&self) -> Duration {
        let heartbeat = self.0.heartbeat_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.uptime_ms().saturating_sub(heartbeat))
    }

    fn uptime_ms(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn has_storage_failed(&self) -> bool {
        self.0.storage_failed.load(Ordering::Relaxed)
    }

    /// Everything in Prometheus' text format, with the gauges as of `status`.
    pub fn text(&self, status: &NodeStatus) -> String {
        self.0.node.read(status);
        self.0.process.read();
        let mut out = Vec::new();
        let encoded = TextEncoder::new().encode(&self.0.registry.gather(), &mut out);
        if let Err(error) = encoded {
            tracing::warn!(%error, "metrics could not be encoded");
        }
        String::from_utf8(out).unwrap_or_default()
    }
}

/// A gauge of the process, for `metrics/process.rs`.
fn process_gauge(registry: &Registry, name: &str, help: &str) -> Gauge {
    register(registry, Gauge::new(name, help))
}

/// A counter of the process, for `metrics/process.rs`.
fn process_counter(registry: &Registry, name: &str, help: &str) -> Counter {
    register(registry, Counter::new(name, help))
}

#[cfg(test)]
mod tests;
