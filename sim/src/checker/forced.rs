//! *Forced in order*: what was queued on L1 is in the streams as it must be, told from L1 itself and from decided blocks.
//!
//! - A header's L1 origin is a finalized block of the one L1 that there is, and never goes back.
//! - A block consumes what stands at or below its origin, from where the last one stopped, in the order of the queue, as many
//!   as a block may, and says so. For each rollup they are the beginning of its lane, but for those that cannot be carried.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{B256, Bytes, keccak256};
use fusion_types::{DecidedBlock, TxHash};

/// What the network agreed on, written down once more.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// L1 origin of height 0.
    pub(crate) start: (u64, B256),
    /// Items that a block consumes at most.
    pub(crate) per_block: usize,
    /// Bytes of an item that is carried, at most.
    pub(crate) bytes_max: usize,
    /// Whose items are carried.
    pub(crate) rollups: Vec<u64>,
}

/// An item of the queue.
#[derive(Debug)]
struct Queued {
    l1_number: u64,
    rollup: u64,
    payload: Bytes,
}

/// L1, and how far the chain has taken it in.
#[derive(Debug)]
pub(crate) struct Forced {
    terms: Terms,
    blocks: BTreeMap<u64, B256>,
    finalized: u64,
    queue: Vec<Queued>,
    origin: (u64, B256),
    cursor: usize,
}

impl Forced {
    pub(crate) fn new(terms: Terms) -> Self {
        Self {
            origin: terms.start,
            blocks: BTreeMap::from([terms.start]),
            finalized: terms.start.0,
            terms,
            queue: Vec::new(),
            cursor: 0,
        }
    }

    /// L1 has one block more, in which these were queued.
    pub(crate) fn mined(&mut self, number: u64, hash: B256, items: &[(u64, Bytes)]) {
        self.blocks.insert(number, hash);
        self.queue.extend(items.iter().map(|(rollup, payload)| Queued {
            l1_number: number,
            rollup: *rollup,
            payload: payload.clone(),
        }));
    }

    /// L1 cannot revert this block any more.
    pub(crate) fn finalized(&mut self, number: u64) {
        self.finalized = number;
    }

    /// Items that stand at or below an L1 block and are not consumed.
    pub(crate) fn unserved(&self, l1_number: u64) -> usize {
        let waiting = self.queue[self.cursor..].iter();
        waiting.filter(|item| item.l1_number <= l1_number).count()
    }

    /// The next block is decided; `carried` says what streams carried before. How many transactions each lane has because
    /// they were forced in, or what is wrong.
    pub(super) fn decided(
        &mut self,
        decided: &DecidedBlock,
        carried: &dyn Fn(u64, &TxHash) -> bool,
    ) -> Result<BTreeMap<u64, usize>, String> {
        let header = decided.block.header();
        let origin = (header.l1_origin.number, header.l1_origin.hash);
        if origin.0 < self.origin.0 {
            return Err(format!(
                "its L1 origin goes back from {} to {}",
                self.origin.0, origin.0
            ));
        }
        if self.blocks.get(&origin.0) != Some(&origin.1) || origin.0 > self.finalized {
            return Err(format!(
                "its L1 origin {} {} is no finalized block of L1",
                origin.0, origin.1
            ));
        }
        self.origin = origin;
        let waiting = self.queue[self.cursor..].iter();
        let due = waiting
            .take_while(|item| item.l1_number <= origin.0)
            .take(self.terms.per_block);
        let (mut taken, mut seen) = (0, BTreeSet::new());
        let mut heads: BTreeMap<u64, Vec<&Bytes>> = BTreeMap::new();
        for item in due {
            taken += 1;
            let hash = keccak256(&item.payload);
            let fits = !item.payload.is_empty() && item.payload.len() <= self.terms.bytes_max;
            let is_known = self.terms.rollups.contains(&item.rollup);
            if fits && is_known && !carried(item.rollup, &hash) && seen.insert((item.rollup, hash)) {
                heads.entry(item.rollup).or_default().push(&item.payload);
            }
        }
        let cursor = self.cursor + taken;
        let said = header.forced_to;
        if said != (taken > 0).then_some(cursor as u64) {
            return Err(format!(
                "it says to have consumed {said:?} forced transactions, due were {cursor}"
            ));
        }
        for (rollup, head) in &heads {
            let mut lanes = decided.block.block().lanes.iter();
            let lane = lanes.find(|body| body.lane.rollup.0 == *rollup);
            let carried = lane.map_or(&[][..], |body| body.transactions.as_slice());
            if !head.iter().copied().eq(carried.iter().take(head.len())) {
                return Err(format!(
                    "the lane of rollup {rollup} does not begin with the {} forced transactions that are due",
                    head.len()
                ));
            }
        }
        let counts = heads.iter().map(|(rollup, head)| (*rollup, head.len())).collect();
        self.cursor = cursor;
        Ok(counts)
    }
}
