//! Users: they submit, submit again what does not become final, and read at other nodes what they were told is final.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::Bytes;
use fusion_mempool::{PoolTransaction, Reject};
use fusion_sequencer::core::{Event, RequestId};
use fusion_types::{RollupId, TxHash, transaction_hash};

use super::genesis::OPAQUE_ROLLUPS;
use super::{What, World};
use crate::checker::Room;
use crate::faults::Fault;
use crate::rng::Rng;

/// How often users look whether what they sent is final.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// A user submits again at another node after this.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Transactions and bytes of each with which a pool is crowded.
const CROWD: usize = 24;
const CROWD_BYTES: usize = 2_000;

#[derive(Debug)]
struct Sent {
    rollup: RollupId,
    payload: Bytes,
    hash: TxHash,
    /// The node that took it.
    node: usize,
    at: Duration,
    accepted: bool,
}

/// All users.
#[derive(Debug)]
pub(super) struct Clients {
    rng: Rng,
    count: u64,
    sent: BTreeMap<u64, Sent>,
}

impl Clients {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            rng,
            count: 0,
            sent: BTreeMap::new(),
        }
    }

    pub(super) fn replied(&mut self, request: RequestId, outcomes: &[Result<(), Reject>]) {
        let accepted = outcomes.iter().all(Result::is_ok);
        if let Some(sent) = self.sent.get_mut(&request.0) {
            sent.accepted |= accepted;
        }
    }

    /// A transaction of some user that is not known to be final.
    pub(super) fn any_waiting(&self) -> Option<(u64, Bytes)> {
        let sent = self.sent.values().next_back()?;
        Some((sent.rollup.0, sent.payload.clone()))
    }

    /// Transactions that a node took and that are not final.
    pub(super) fn unserved(&self) -> usize {
        self.sent.values().filter(|sent| sent.accepted).count()
    }
}

impl World {
    pub(super) fn submit(&mut self) {
        if self.healed_at.is_some() {
            return;
        }
        let pause = Duration::from_millis(self.rng.around(self.plan.submit_every_ms));
        self.after(pause, What::Submit);
        let node = self.clients.rng.index(self.plan.nodes);
        match self.clients.rng.below(2) {
            0 => self.use_account(),
            _ if self.plan.room != Room::FULL && self.clients.rng.chance(300) => self.crowd(node),
            _ => self.submit_at(node),
        }
    }

    /// A user submits a new transaction at a node.
    pub(super) fn submit_at(&mut self, node: usize) {
        self.clients.count += 1;
        let count = self.clients.count;
        let rollup = RollupId(OPAQUE_ROLLUPS[self.clients.rng.index(OPAQUE_ROLLUPS.len())]);
        let payload = Bytes::from(format!("transaction {count}").into_bytes());
        let hash = transaction_hash(&payload);
        let sent = Sent {
            rollup,
            payload,
            hash,
            node,
            at: self.now,
            accepted: false,
        };
        self.clients.sent.insert(count, sent);
        self.hand_in(count);
    }

    /// Somebody fills a pool of little room; nobody cares what becomes of it.
    fn crowd(&mut self, node: usize) {
        self.faults.count(Fault::Crowd);
        let rollup = RollupId(OPAQUE_ROLLUPS[self.clients.rng.index(OPAQUE_ROLLUPS.len())]);
        let mut transactions = Vec::new();
        for _ in 0..CROWD {
            self.clients.count += 1;
            let mut payload = format!("one of many {}", self.clients.count).into_bytes();
            payload.resize(CROWD_BYTES, 0);
            transactions.push(transaction(rollup, payload.into()));
        }
        let request = RequestId(0);
        self.tell(node, Event::Submitted { request, transactions });
    }

    fn hand_in(&mut self, count: u64) {
        let sent = &self.clients.sent[&count];
        let (node, transactions) = (sent.node, vec![transaction(sent.rollup, sent.payload.clone())]);
        let request = RequestId(count);
        self.tell(node, Event::Submitted { request, transactions });
    }

    /// Users look what became of what they sent.
    pub(super) fn serve_clients(&mut self) {
        self.after(LOOK_EVERY, What::Clients);
        self.serve_accounts();
        let due: Vec<u64> = self.clients.sent.keys().copied().collect();
        for count in due {
            let sent = &self.clients.sent[&count];
            let place = self.checker.place(sent.rollup.0, &sent.hash);
            let is_told = place.is_some_and(|(height, _)| self.checker.published(sent.node) >= height);
            if is_told {
                self.read_elsewhere(count);
            } else if self.now > sent.at + PATIENCE {
                self.faults.count(Fault::Resubmitted);
                let node = self.clients.rng.index(self.plan.nodes);
                let now = self.now;
                if let Some(sent) = self.clients.sent.get_mut(&count) {
                    (sent.node, sent.at) = (node, now);
                }
                self.hand_in(count);
            }
        }
    }

    /// What is final is there at any node that is so far.
    fn read_elsewhere(&mut self, count: u64) {
        let Some(sent) = self.clients.sent.remove(&count) else {
            return;
        };
        let Some((height, sequence)) = self.checker.place(sent.rollup.0, &sent.hash) else {
            return;
        };
        let other = self.clients.rng.index(self.plan.nodes);
        let is_up = self.nodes[other].core.is_some() && self.nodes[other].traitor.is_none();
        if !is_up || self.checker.published(other) < height {
            return;
        }
        self.faults.count(Fault::ReadAfterFinal);
        let decided = self.nodes[other].disk.block(fusion_types::Height(height));
        let found = decided.and_then(|decided| {
            let body = decided
                .block
                .block()
                .lanes
                .iter()
                .find(|body| body.lane.rollup == sent.rollup)?;
            let at = body.transactions.iter().position(|payload| *payload == sent.payload)?;
            Some((decided.block.header().height.0, body.lane.first_sequence + at as u64))
        });
        self.checker
            .read(other, sent.rollup.0, &sent.hash, (height, sequence), found);
    }
}

/// A transaction of an opaque rollup.
fn transaction(rollup: RollupId, payload: Bytes) -> PoolTransaction {
    PoolTransaction {
        rollup,
        hash: transaction_hash(&payload),
        payload,
        evm: None,
    }
}
