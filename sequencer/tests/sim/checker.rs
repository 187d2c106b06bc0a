//! The promises, checked from outside: nothing here calls a predicate of the code under test.
//!
//! - agreement: no two nodes decide different blocks at a height;
//! - no double signature: a validator never signs two values for one (height, round, kind), across restarts;
//! - final stays final: what a node published as decided is in its log after every restart;
//! - gapless streams: every rollup's lanes are numbered from 0 without gap or repeat, and chained;
//! - once: no transaction stands twice in a stream.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{B256, keccak256};
use fusion_consensus::Message;
use fusion_types::{BlockId, DecidedBlock, NetworkId};

/// Who signed for which height, round and kind; proposals are of kind 0.
pub(crate) type Place = (B256, u64, u32, u8);

/// What a message says at its place, if a validator signed it.
pub(crate) fn signed(message: &Message) -> Option<(Place, String)> {
    match message {
        Message::Vote(vote) => {
            let kind = match vote.kind {
                fusion_types::VoteKind::Prevote => 1,
                fusion_types::VoteKind::Precommit => 2,
            };
            let place = (vote.validator.0, vote.height.0, vote.round.0, kind);
            Some((place, format!("{:?}", vote.block)))
        }
        Message::Proposal(proposal) => {
            let place = (proposal.proposer.0, proposal.height.0, proposal.round.0, 0);
            Some((place, format!("{:?} {:?}", proposal.block, proposal.valid_round)))
        }
        _ => None,
    }
}

/// Everything that any node ever made visible.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    network: Option<NetworkId>,
    decided: BTreeMap<u64, BlockId>,
    streams: BTreeMap<u64, (u64, B256)>,
    seen: BTreeSet<(u64, B256)>,
    checked_height: u64,
    published: BTreeMap<usize, u64>,
    signed: BTreeMap<Place, String>,
    pub(crate) transactions: u64,
}

impl Checker {
    pub(crate) fn new(network: NetworkId) -> Self {
        Self {
            network: Some(network),
            ..Self::default()
        }
    }

    /// A node published a decided block.
    pub(crate) fn decided(&mut self, node: usize, decided: &DecidedBlock) {
        let header = decided.block.header();
        let (height, id) = (header.height.0, decided.block.id());
        let first = *self.decided.entry(height).or_insert(id);
        assert_eq!(first, id, "agreement: two blocks are decided at height {height}");
        let published = self.published.entry(node).or_default();
        assert_eq!(
            *published + 1,
            height,
            "node {node} published height {height} after {published}"
        );
        *published = height;
        if height == self.checked_height + 1 {
            self.checked_height = height;
            self.streams_continue(decided);
        }
    }

    fn streams_continue(&mut self, decided: &DecidedBlock) {
        let network = self.network.expect("set when made");
        for body in &decided.block.block().lanes {
            let lane = &body.lane;
            let rollup = lane.rollup.0;
            let start = || {
                (
                    0,
                    keccak256([b"fusion/v1/stream", network.0.as_slice(), &rollup.to_be_bytes()].concat()),
                )
            };
            let (next, head) = *self.streams.entry(rollup).or_insert_with(start);
            assert_eq!(lane.first_sequence, next, "gapless: rollup {rollup}");
            assert_eq!(lane.parent_head, head, "chained: rollup {rollup}");
            assert_eq!(lane.count, body.transactions.len() as u64, "counted: rollup {rollup}");
            for payload in &body.transactions {
                assert!(
                    self.seen.insert((rollup, keccak256(payload))),
                    "once: rollup {rollup} after {next}"
                );
            }
            self.transactions += lane.count;
            self.streams.insert(rollup, (next + lane.count, lane.head));
        }
    }

    /// A node restarted: its log must hold all that it ever published, and nothing else.
    pub(crate) fn restarted(&mut self, node: usize, log: &[DecidedBlock]) {
        let published = self.published.get(&node).copied().unwrap_or(0);
        assert!(
            published <= log.len() as u64,
            "final stays final: node {node} published {published}, its log has {}",
            log.len()
        );
        for decided in log {
            let height = decided.block.header().height.0;
            if let Some(id) = self.decided.get(&height) {
                assert_eq!(
                    *id,
                    decided.block.id(),
                    "final stays final: node {node} holds another block at {height}"
                );
            }
        }
        self.published.insert(node, log.len() as u64);
        for decided in log.iter().skip(published as usize) {
            let height = decided.block.header().height.0;
            self.decided.entry(height).or_insert_with(|| decided.block.id());
            if height == self.checked_height + 1 {
                self.checked_height = height;
                self.streams_continue(decided);
            }
        }
    }

    /// A node sent a message of its own.
    pub(crate) fn sent(&mut self, message: &Message) {
        let Some((key, value)) = signed(message) else { return };
        let first = self.signed.entry(key).or_insert_with(|| value.clone());
        assert_eq!(*first, value, "double signature: {key:?}");
    }

    pub(crate) fn height(&self) -> u64 {
        self.decided.last_key_value().map_or(0, |(height, _)| *height)
    }

    pub(crate) fn published(&self, node: usize) -> u64 {
        self.published.get(&node).copied().unwrap_or(0)
    }
}
