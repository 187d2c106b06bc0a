//! The pool: transactions that wait to be ordered, one lane for each rollup.
//!
//! Promises: never holds more bytes than its limits, in total, per rollup and per sender; keeps a reserve for every
//! rollup that no other can take; refuses what it holds, what a stream carried lately and what its sender's nonces rule
//! out; knows at once whether something is executable. Leaves to others: decoding and signatures (ingress), what goes
//! into a block (`payload`), telling users (the shell).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use alloy_primitives::Bytes;
use fusion_types::limits::TRANSACTION_BYTES_MAX;
use fusion_types::{Height, LaneHashes, RollupConfig, RollupId, RollupKind, SealedBlock, State, TxHash};

use crate::cursor::Cursor;
use crate::l1::Due;
use crate::lane::{Lane, Room};
use crate::limits::{BAN_HEIGHTS, BANS_MAX, PROPOSALS_MAX, PoolLimits};
use crate::reject::Reject;
use crate::transaction::{EvmFacts, FactsOf, Origin, PoolTransaction};
use crate::window::Window;

/// The mempool of one node.
#[derive(Debug, Clone)]
pub struct Pool {
    limits: PoolLimits,
    lanes: BTreeMap<RollupId, Lane>,
    reserves: BTreeMap<RollupId, usize>,
    window: Window,
    /// Footprint of all transactions, bytes.
    bytes: usize,
    /// Sum over lanes of the larger of what is reserved and what is used; never above the limit.
    committed: usize,
    len: usize,
    executable: usize,
    /// Transactions of this height's proposals, sorted within each.
    proposals: VecDeque<Vec<(RollupId, TxHash)>>,
    bans: BTreeMap<(RollupId, TxHash), Height>,
    bans_by_age: VecDeque<(Height, RollupId, TxHash)>,
    /// Height of the last decided block that the pool was told of.
    height: Height,
}

/// What waits for one rollup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Transactions that a proposal may take.
    pub executable: usize,
    /// Bytes of their payloads and footprints.
    pub executable_bytes: usize,
    /// Transactions that wait for a missing nonce.
    pub waiting: usize,
    /// Footprint of all of them, bytes.
    pub bytes: usize,
}

impl Pool {
    /// An empty pool for these rollups.
    pub fn new(rollups: &[RollupConfig], limits: PoolLimits) -> Self {
        let weights: u128 = rollups.iter().map(|rollup| u128::from(rollup.weight)).sum();
        let reserve = |rollup: &RollupConfig| {
            let share = (limits.bytes_max as u128 / 2) * u128::from(rollup.weight) / weights.max(1);
            usize::try_from(share).unwrap_or(0).min(limits.rollup_bytes_max)
        };
        let reserves: BTreeMap<RollupId, usize> = rollups.iter().map(|rollup| (rollup.id, reserve(rollup))).collect();
        let senders_max = limits.senders_max / rollups.len().max(1);
        let lanes = rollups
            .iter()
            .map(|rollup| (rollup.id, Lane::new(*rollup, senders_max)));
        Self {
            limits,
            lanes: lanes.collect(),
            committed: reserves.values().sum(),
            reserves,
            window: Window::default(),
            bytes: 0,
            len: 0,
            executable: 0,
            proposals: VecDeque::new(),
            bans: BTreeMap::new(),
            bans_by_age: VecDeque::new(),
            height: Height(0),
        }
    }

    /// Takes `transaction` in, unless it must be refused. `now` is any clock that does not go back. Cost O(log n).
    ///
    /// The payload is copied, so that a short one does not keep alive the long message in which it came.
    ///
    /// # Errors
    /// [`Reject`] with the numbers; the pool is unchanged.
    pub fn insert(&mut self, mut transaction: PoolTransaction, origin: Origin, now: Duration) -> Result<(), Reject> {
        let (rollup, hash) = (transaction.rollup, transaction.hash);
        let lane = self.lanes.get(&rollup).ok_or(Reject::UnknownRollup(rollup))?;
        check_shape(&lane.config, &transaction)?;
        if lane.entries.find(&hash).is_some() {
            return Err(Reject::AlreadyKnown(hash));
        }
        if let Some(sequence) = self.window.sequence_of(rollup, &hash) {
            return Err(Reject::AlreadyDecided { hash, sequence });
        }
        if let Some(until) = self.bans.get(&(rollup, hash)) {
            return Err(Reject::Banned { hash, until: *until });
        }
        let room = self.room(rollup, lane, now);
        let plan = lane.plan(&transaction, origin, &room, &|other| self.is_in_flight(rollup, other))?;
        transaction.payload = Bytes::copy_from_slice(&transaction.payload);
        self.with_lane(rollup, |lane| lane.insert(transaction, origin, now, &plan));
        Ok(())
    }

    /// How large the lane may become, by its own limit and by what the others leave it.
    fn room(&self, rollup: RollupId, lane: &Lane, now: Duration) -> Room<'_> {
        let reserve = self.reserves.get(&rollup).copied().unwrap_or(0);
        let others = self.committed - lane.entries.bytes().max(reserve);
        let left = self.limits.bytes_max - others;
        let full = if self.limits.rollup_bytes_max <= left {
            Reject::RollupFull {
                rollup,
                bytes: lane.entries.bytes(),
                bytes_max: self.limits.rollup_bytes_max,
            }
        } else {
            Reject::PoolFull {
                bytes: self.bytes,
                bytes_max: self.limits.bytes_max,
            }
        };
        Room {
            limits: &self.limits,
            lane_bytes_max: self.limits.rollup_bytes_max.min(left),
            full,
            now,
        }
    }

    /// Changes a lane and keeps the totals true.
    fn with_lane<T>(&mut self, rollup: RollupId, change: impl FnOnce(&mut Lane) -> T) -> Option<T> {
        let lane = self.lanes.get_mut(&rollup)?;
        let reserve = self.reserves.get(&rollup).copied().unwrap_or(0);
        let (bytes, len, executable) = (lane.entries.bytes(), lane.entries.len(), lane.entries.executable());
        let result = change(lane);
        let after = lane.entries.bytes();
        self.bytes = self.bytes - bytes + after;
        self.committed = self.committed - bytes.max(reserve) + after.max(reserve);
        self.len = self.len - len + lane.entries.len();
        self.executable = self.executable - executable + lane.entries.executable();
        assert!(
            self.committed <= self.limits.bytes_max,
            "the pool stays within its bytes"
        );
        Some(result)
    }

    /// Takes note of a proposal of the height that is being decided, ours or another's: its transactions are not
    /// replaced before [`Pool::decided`].
    pub fn proposed(&mut self, block: &SealedBlock) {
        if self.proposals.len() == PROPOSALS_MAX {
            self.proposals.pop_front();
        }
        let of_lane = |(body, hashes): (&fusion_types::LaneBody, &[TxHash])| {
            let rollup = body.lane.rollup;
            hashes.iter().map(|hash| (rollup, *hash)).collect::<Vec<_>>()
        };
        let mut transactions: Vec<(RollupId, TxHash)> = block.lanes().flat_map(of_lane).collect();
        transactions.sort_unstable();
        self.proposals.push_back(transactions);
    }

    /// Whether a proposal of the height that is being decided carries the transaction.
    pub fn is_in_flight(&self, rollup: RollupId, hash: &TxHash) -> bool {
        let key = (rollup, *hash);
        self.proposals
            .iter()
            .any(|proposal| proposal.binary_search(&key).is_ok())
    }

    /// Moves on to a decided block: its transactions leave the pool and enter the dedup window, its senders' nonces
    /// advance, and the height's proposals are over. `facts_of` is asked about `evm` transactions that the pool
    /// does not hold; where it answers `None`, the pool knows less about its senders' nonces and takes gaps at face
    /// value.
    ///
    /// # Panics
    /// When `block` is not the one above the last; see [`Window::advance`].
    pub fn decided(&mut self, block: &SealedBlock, facts_of: &FactsOf<'_>) {
        let height = block.header().height;
        self.height = height;
        self.window.advance(block);
        for (body, hashes) in block.lanes() {
            self.with_lane(body.lane.rollup, |lane| {
                lane.decided(height, hashes, &body.transactions, facts_of);
            });
        }
        self.proposals.clear();
        while self.bans_by_age.front().is_some_and(|(until, ..)| *until <= height) {
            self.end_oldest_ban();
        }
    }

    /// Rebuilds the dedup window after a start, from the log's tip downwards: `tip` is the state after the first block
    /// given. Returns whether the block below is needed too.
    ///
    /// # Panics
    /// When `block` is not directly below the last one given; see [`Window::extend_down`].
    pub fn restore(&mut self, block: &LaneHashes, tip: &State) -> bool {
        self.height = self.height.max(block.height);
        self.window.extend_down(block, tip)
    }

    /// Drops transactions of a proposal that failed and refuses them for [`BAN_HEIGHTS`]; returns those that were here.
    pub fn proposal_failed(&mut self, rollup: RollupId, hashes: &[TxHash]) -> Vec<PoolTransaction> {
        let until = Height(self.height.0.saturating_add(BAN_HEIGHTS));
        let mut dropped = Vec::new();
        for hash in hashes {
            dropped.extend(self.with_lane(rollup, |lane| lane.remove(hash)).flatten());
            if self.bans_by_age.len() == BANS_MAX {
                self.end_oldest_ban();
            }
            self.bans.insert((rollup, *hash), until);
            self.bans_by_age.push_back((until, rollup, *hash));
        }
        dropped
    }

    fn end_oldest_ban(&mut self) {
        if let Some((until, rollup, hash)) = self.bans_by_age.pop_front()
            && self.bans.get(&(rollup, hash)) == Some(&until)
        {
            self.bans.remove(&(rollup, hash));
        }
    }

    /// Removes and returns what waited too long for a missing nonce. To be called now and then.
    pub fn expire(&mut self, now: Duration) -> Vec<PoolTransaction> {
        let mut expired = Vec::new();
        let Some(since) = now.checked_sub(self.limits.gap_lifetime) else {
            return expired;
        };
        let rollups: Vec<RollupId> = self.lanes.keys().copied().collect();
        for rollup in rollups {
            self.with_lane(rollup, |lane| lane.expire(since, now, &mut expired));
        }
        expired
    }

    /// The transaction with this hash, if it waits here.
    pub fn get(&self, rollup: RollupId, hash: &TxHash) -> Option<&PoolTransaction> {
        let entries = &self.lanes.get(&rollup)?.entries;
        let entry = entries.get(entries.find(hash)?)?;
        Some(&entry.transaction)
    }

    /// What a waiting transaction says, if its sender was recovered here: the answer that [`FactsOf`] may give.
    pub fn recovered_facts(&self, rollup: RollupId, hash: &TxHash) -> Option<EvmFacts> {
        let entries = &self.lanes.get(&rollup)?.entries;
        let entry = entries.get(entries.find(hash)?)?;
        entry.transaction.evm.filter(|_| entry.recovered)
    }

    /// What waits for a rollup; `None` if it is not registered.
    pub fn pending(&self, rollup: RollupId) -> Option<Pending> {
        let entries = &self.lanes.get(&rollup)?.entries;
        Some(Pending {
            executable: entries.executable(),
            executable_bytes: entries.executable_bytes(),
            waiting: entries.len() - entries.executable(),
            bytes: entries.bytes(),
        })
    }

    /// Whether there is nothing to propose. Transactions that wait for a missing nonce do not count. O(1).
    pub fn is_empty(&self) -> bool {
        self.executable == 0
    }

    /// Number of transactions that a proposal may take. O(1).
    pub fn executable(&self) -> usize {
        self.executable
    }

    /// Number of all transactions. O(1).
    pub fn len(&self) -> usize {
        self.len
    }

    /// Footprint of all transactions, in bytes. O(1).
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the streams carried lately.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Readers of the lanes that have something executable, ascending by rollup, without what `due` carries.
    pub(crate) fn cursors<'a>(&'a self, due: &'a Due) -> impl Iterator<Item = Cursor<'a>> {
        let ready = self.lanes.values().filter(|lane| lane.entries.executable() != 0);
        ready.map(|lane| Cursor::new(lane, due.hashes(lane.config.id)))
    }
}

fn check_shape(config: &RollupConfig, transaction: &PoolTransaction) -> Result<(), Reject> {
    let bytes = transaction.payload.len();
    if bytes == 0 {
        return Err(Reject::Empty);
    }
    if TRANSACTION_BYTES_MAX < bytes {
        return Err(Reject::TooLarge { bytes });
    }
    match (config.kind, &transaction.evm) {
        (RollupKind::Evm, None) => Err(Reject::Malformed("not an Ethereum transaction".to_owned())),
        (RollupKind::Opaque, Some(_)) => Err(Reject::Malformed("an opaque rollup's payload has no sender".to_owned())),
        _ => Ok(()),
    }
}

mod sizes;
pub use sizes::PoolSizes;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
