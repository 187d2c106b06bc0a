//! What a run is to do and what it counted.
//!
//! Pure: time comes in as nanoseconds since the start.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::schedule::Schedule;

/// Latencies are recorded up to this, in microseconds; the rare longer one counts as this.
const LATENCY_US_MAX: u64 = 600_000_000;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Transactions a second over all nodes.
    pub(super) rate: u64,
    /// Time before the measured window.
    pub(super) warmup: Duration,
    /// The measured window.
    pub(super) window: Duration,
}

impl Plan {
    /// When the last transaction is sent.
    pub(super) fn end(&self) -> Duration {
        self.warmup + self.window
    }

    /// The share of connection `place` of `connections`.
    pub(super) fn schedule(&self, connections: usize, place: usize) -> Schedule {
        Schedule::new(self.rate, connections as u64, place as u64)
    }

    /// Whether a moment is in the measured window.
    pub(super) fn measures(&self, at_ns: u64) -> bool {
        let at = Duration::from_nanos(at_ns);
        self.warmup <= at && at < self.end()
    }
}

/// What one connection counted, or all together.
#[derive(Debug)]
pub(super) struct Tally {
    /// Transactions written to a socket.
    pub(super) sent: u64,
    /// Transactions that a node took.
    pub(super) accepted: u64,
    /// Refusals by JSON-RPC error code.
    pub(super) refused: BTreeMap<i64, u64>,
    /// Transactions that became final.
    pub(super) finals: u64,
    /// Of these, those that did within the window.
    pub(super) finals_in_window: u64,
    /// Accepted within the window.
    pub(super) accepted_in_window: u64,
    /// Sent that were due within the window.
    pub(super) sent_in_window: u64,
    /// Final latency of transactions due within the window, microseconds from when they were due.
    pub(super) latency: Histogram<u64>,
    /// How late the generator itself was, microseconds from due to written.
    pub(super) late: Histogram<u64>,
    /// Sent and neither final nor refused.
    pub(super) unfinished: u64,
    /// Due and never sent, because the connection failed.
    pub(super) unsent: u64,
    /// What ended connections early.
    pub(super) failures: Vec<String>,
}

impl Tally {
    /// Nothing counted yet.
    pub(super) fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are valid");
        Self {
            sent: 0,
            accepted: 0,
            refused: BTreeMap::new(),
            finals: 0,
            finals_in_window: 0,
            accepted_in_window: 0,
            sent_in_window: 0,
            latency: histogram(),
            late: histogram(),
            unfinished: 0,
            unsent: 0,
            failures: Vec::new(),
        }
    }

    /// All refusals.
    pub(super) fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Adds what another connection counted.
    pub(super) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.accepted += other.accepted;
        for (code, count) in &other.refused {
            *self.refused.entry(*code).or_default() += count;
        }
        self.finals += other.finals;
        self.finals_in_window += other.finals_in_window;
        self.accepted_in_window += other.accepted_in_window;
        self.sent_in_window += other.sent_in_window;
        self.unfinished += other.unfinished;
        self.unsent += other.unsent;
        self.failures.extend_from_slice(&other.failures);
        for (sum, part) in [(&mut self.latency, &other.latency), (&mut self.late, &other.late)] {
            sum.add(part).expect("both have the same bounds");
        }
    }
}
