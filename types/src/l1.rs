//! What a node knows of an L1 block: the events in it that bind once a decided header adopts it as L1 origin.
//!
//! Promises the accumulator of the forced queue as the contract computes it (`settlement/contracts/README.md`). Leaves to
//! others: reading L1 and how sure a claim about it is (the watcher), and what is due (`mempool`).

use alloy_primitives::{Address, B256, Bytes, Keccak256, keccak256};

use crate::block::L1Origin;
use crate::transaction::RollupId;

/// The low bytes of an accumulator, in which the L1 block's number stands.
const NUMBER_BYTES: usize = 5;

/// A transaction that somebody queued on L1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForcedItem {
    /// Its place in the queue, from 0.
    pub index: u32,
    /// For which rollup; whether that is registered here, the contract does not know.
    pub rollup: RollupId,
    /// Who queued it.
    pub sender: Address,
    /// The transaction as its stream is to carry it.
    pub payload: Bytes,
    /// The queue's word after it: [`ForcedItem::accumulator_after`].
    pub accumulator: B256,
}

impl ForcedItem {
    /// The queue's word after this item if it was `before`, zero before the first, and the item stands in L1 block
    /// `l1_number`: `keccak256(before ‖ rollup u64 ‖ sender ‖ keccak256(payload))`, its low 40 bits replaced by the number.
    pub fn accumulator_after(&self, before: B256, l1_number: u64) -> B256 {
        let mut hasher = Keccak256::new();
        hasher.update(before);
        hasher.update(self.rollup.0.to_be_bytes());
        hasher.update(self.sender);
        hasher.update(keccak256(&self.payload));
        let mut word = hasher.finalize();
        word[32 - NUMBER_BYTES..].copy_from_slice(&l1_number.to_be_bytes()[8 - NUMBER_BYTES..]);
        word
    }

    /// Number of the L1 block in which it was queued.
    pub fn l1_number(&self) -> u64 {
        let mut number = [0; 8];
        number[8 - NUMBER_BYTES..].copy_from_slice(&self.accumulator[32 - NUMBER_BYTES..]);
        u64::from_be_bytes(number)
    }
}

/// An L1 block that cannot be reverted any more, with what in it concerns the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct L1Block {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Hash of the block below it.
    pub parent: B256,
    /// Number of items in the forced queue after it.
    pub forced_count: u32,
    /// The items that were queued in it, in order.
    pub forced: Vec<ForcedItem>,
}

impl L1Block {
    /// What a header names that adopts it.
    pub fn origin(&self) -> L1Origin {
        L1Origin {
            number: self.number,
            hash: self.hash,
        }
    }
}
