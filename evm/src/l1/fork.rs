//! Reorgs, rollbacks and snapshots: what a test does to a chain that no user can.
//!
//! A reorg to below the finalized block is refused: an L1 that breaks that promise is another subject, and tests that need deep
//! reorgs set the distance accordingly. A return to a snapshot is no event on the chain but a return in time, so it may.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};

use super::{L1, Pool, Submission};
use crate::chain::{ExecutedBlock, Unavailable};
use crate::params;

/// What a snapshot keeps beside the chain itself.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    head: B256,
    number: u64,
    pool: Pool,
    finalized: u64,
    next_base_fee: Option<u64>,
    /// Balances that were set since, while its block was the head, as they were before: a rollback to that block leaves them.
    balances: BTreeMap<Address, U256>,
}

impl Snapshot {
    /// Bytes of memory that it takes, about.
    fn bytes_held(&self) -> usize {
        let pool = self.pool.bytes() + self.pool.len() * size_of::<Submission>();
        size_of::<Self>() + pool + self.balances.len() * size_of::<(Address, U256)>()
    }
}

/// What a reorg did.
#[derive(Clone, Debug)]
pub struct Reorged {
    /// The blocks that are no longer there, oldest first.
    pub dropped: Vec<Arc<ExecutedBlock>>,
    /// The transactions of them that are back in the pool, or mined again.
    pub requeued: Vec<B256>,
}

/// Why a reorg does not take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForkRefused {
    /// So many states are not kept.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// It would drop a finalized block.
    #[error("a reorg of {depth} blocks would drop the finalized block {finalized}")]
    Finalized {
        /// Asked for.
        depth: usize,
        /// The finalized block.
        finalized: u64,
    },
}

impl L1 {
    /// Drops the latest `depth` blocks and mines as many empty ones in their slots, so that the height stays and every hash of them
    /// differs. With `requeue` the dropped transactions return to the pool if it takes them, as real nodes do; else they are gone. Where
    /// an account has more than it may then, its highest nonces leave.
    ///
    /// # Errors
    /// If states are not kept that far back, or a finalized block would be dropped; then nothing is done.
    pub fn reorg(&mut self, depth: usize, requeue: bool, now: u64) -> Result<Reorged, ForkRefused> {
        let dropped = self.drop_blocks(depth)?;
        // Mined before anything returns to the pool, and without what is in it: that is for the blocks after these, as is a base fee
        // that was set for the next block.
        let (pool, base_fee) = (std::mem::take(&mut self.pool), self.next_base_fee.take());
        for block in &dropped {
            self.mine(block.header.timestamp);
        }
        (self.pool, self.next_base_fee) = (pool, base_fee);
        let requeued = if requeue { self.requeue(&dropped) } else { Vec::new() };
        self.settle_pool();
        self.mine_at_once(now);
        Ok(Reorged { dropped, requeued })
    }

    /// Drops the latest `depth` blocks and mines nothing for them: the chain gets shorter.
    ///
    /// # Errors
    /// As [`L1::reorg`].
    pub fn rollback(&mut self, depth: usize) -> Result<Reorged, ForkRefused> {
        let dropped = self.drop_blocks(depth)?;
        self.settle_pool();
        Ok(Reorged {
            dropped,
            requeued: Vec::new(),
        })
    }

    /// Remembers the chain's head, the pool and the base fee that was set. Returns the snapshot's number.
    pub fn snapshot(&mut self) -> u64 {
        let head = self.chain.head();
        let snapshot = Snapshot {
            head: head.hash(),
            number: head.number(),
            pool: self.pool.clone(),
            finalized: self.finalized,
            next_base_fee: self.next_base_fee,
            balances: BTreeMap::new(),
        };
        self.snapshots_taken += 1;
        self.snapshots.push_back((self.snapshots_taken, snapshot));
        self.prune_snapshots();
        self.snapshots_taken
    }

    /// Returns to a snapshot, which is used up by it, as are those taken after it. `false` if it is not there, if its block was
    /// dropped by a reorg since, or if its state is no longer kept.
    pub fn revert(&mut self, snapshot: u64) -> bool {
        let Some(index) = self.snapshots.iter().position(|(number, _)| *number == snapshot) else {
            return false;
        };
        let taken = self.snapshots.split_off(index);
        let Some((_, snapshot)) = taken.into_iter().next() else {
            return false;
        };
        if self.chain.block(snapshot.number).map(|block| block.hash()) != Some(snapshot.head) {
            return false;
        }
        let depth = self.chain.head().number() - snapshot.number;
        let rolled_back = usize::try_from(depth).is_ok_and(|depth| self.chain.rollback(depth).is_ok());
        if rolled_back {
            self.forks += 1;
            self.pool = snapshot.pool;
            self.finalized = snapshot.finalized;
            self.next_base_fee = snapshot.next_base_fee;
            for (address, balance) in snapshot.balances {
                self.chain.set_balance(address, balance);
            }
        }
        rolled_back
    }

    /// A balance is about to be set: snapshots of the head remember what it was.
    pub(super) fn remember_balance(&mut self, address: Address) {
        let before = self.chain.latest().account_or_empty(&address).balance;
        let head = self.chain.head().hash();
        for (_, snapshot) in self.snapshots.iter_mut().filter(|(_, snapshot)| snapshot.head == head) {
            snapshot.balances.entry(address).or_insert(before);
        }
        self.prune_snapshots();
    }

    fn prune_snapshots(&mut self) {
        let mut bytes: usize = self.snapshots.iter().map(|(_, snapshot)| snapshot.bytes_held()).sum();
        while (self.snapshots.len() > params::SNAPSHOTS_MAX || bytes > params::SNAPSHOT_BYTES_MAX)
            && let Some((_, oldest)) = self.snapshots.pop_front()
        {
            bytes -= oldest.bytes_held();
        }
    }

    fn drop_blocks(&mut self, depth: usize) -> Result<Vec<Arc<ExecutedBlock>>, ForkRefused> {
        let kept = self.chain.head().number().checked_sub(depth as u64);
        if kept.is_some_and(|kept| kept < self.finalized) {
            let finalized = self.finalized;
            return Err(ForkRefused::Finalized { depth, finalized });
        }
        let dropped = self.chain.rollback(depth)?;
        self.forks += 1;
        Ok(dropped)
    }

    /// Offers dropped transactions to the pool, oldest first.
    fn requeue(&mut self, dropped: &[Arc<ExecutedBlock>]) -> Vec<B256> {
        let mut requeued = Vec::new();
        for transaction in dropped.iter().flat_map(|block| &block.transactions) {
            let sidecar = self.blobs.sidecar(transaction.tx_hash()).cloned();
            if transaction.is_eip4844() && sidecar.is_none() {
                continue;
            }
            let sidecar_bytes = sidecar
                .as_ref()
                .map_or(0, |sidecar| sidecar.rlp_encoded_fields_length());
            let bytes = transaction.eip2718_encoded_length() + sidecar_bytes;
            let submission = Submission::new(transaction.clone(), sidecar, bytes);
            let account = self.chain.latest().account_or_empty(&transaction.signer());
            let gas = self.config.chain.gas_limit;
            if self.pool.requeue(&submission, account, gas).is_ok() {
                requeued.push(*transaction.tx_hash());
            }
        }
        requeued
    }
}

#[cfg(test)]
mod tests;
