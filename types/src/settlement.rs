//! How a network settles on L1: the part of its genesis that says where L1 events begin to count and how much of them a
//! block takes in.
//!
//! Promises that a network of these numbers can always take in what is due: a block has room for all the forced
//! transactions that it must carry, and six blobs have room for the block. Leaves to others: who reads L1 (`settlement`) and
//! what of it is due (`mempool`).

use alloy_rlp::{RlpDecodable, RlpEncodable};

use crate::block::L1Origin;
use crate::limits::{
    BATCH_LANE_BYTES, FORCED_BYTES_MAX, FORCED_PER_BLOCK_MAX, SETTLED_BLOCK_BYTES_MAX, TRANSACTION_BYTES_MAX,
    TRANSACTION_OVERHEAD_BYTES,
};

/// The rules of a network that settles on L1. DESIGN.md §8 and §9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct SettlementConfig {
    /// EIP-155 id of the L1.
    pub l1_chain_id: u64,
    /// L1 origin of height 0. Events of later L1 blocks count; the forced queue must be empty there.
    pub l1_start: L1Origin,
    /// Most forced transactions that one block consumes.
    pub forced_per_block: u32,
    /// A forced transaction of more bytes is consumed and not carried.
    pub forced_bytes_max: u32,
    /// Most bytes of one block's content, as [`Block::batch_bytes`](crate::Block::batch_bytes) counts them.
    pub block_bytes_max: u64,
    /// A batch ends with the block that brings its content to so many bytes.
    pub batch_bytes: u64,
    /// A batch ends with the first block so many milliseconds after its first block with transactions.
    pub batch_age_ms: u64,
    /// Without transactions it ends with the first block so many milliseconds after its first.
    pub batch_idle_ms: u64,
}

/// Why numbers are no rules of settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettlementError {
    /// No chain has this id.
    #[error("settlement names an L1 with chain id 0")]
    L1Chain,
    /// None, or more than the contract asks of a batch.
    #[error("settlement: {0} forced transactions a block; it must be 1 to {FORCED_PER_BLOCK_MAX}")]
    ForcedPerBlock(u32),
    /// None, or more than the contract takes.
    #[error("settlement: forced transactions of {0} bytes; it must be 1 to {FORCED_BYTES_MAX}")]
    ForcedBytes(u32),
    /// Too little for what a block must carry, or too much for six blobs.
    #[error("settlement: blocks of {given} bytes; it must be {least} to {SETTLED_BLOCK_BYTES_MAX}")]
    BlockBytes {
        /// In the genesis.
        given: u64,
        /// What holds the forced transactions of a block, and the largest one of a user.
        least: u64,
    },
    /// A batch of nothing, or of more than six blobs hold.
    #[error("settlement: batches of {0} bytes; it must be 1 to {SETTLED_BLOCK_BYTES_MAX}")]
    BatchBytes(u64),
    /// A batch that ends before it begins.
    #[error("settlement: a batch's age and idle time must be at least 1 ms")]
    BatchTime,
}

impl SettlementConfig {
    /// Whether these are rules that a network can keep.
    ///
    /// # Errors
    /// [`SettlementError`] naming the number that is wrong.
    pub fn verify(&self) -> Result<(), SettlementError> {
        if self.l1_chain_id == 0 {
            return Err(SettlementError::L1Chain);
        }
        if self.forced_per_block == 0 || self.forced_per_block > FORCED_PER_BLOCK_MAX {
            return Err(SettlementError::ForcedPerBlock(self.forced_per_block));
        }
        if self.forced_bytes_max == 0 || self.forced_bytes_max > FORCED_BYTES_MAX {
            return Err(SettlementError::ForcedBytes(self.forced_bytes_max));
        }
        let (given, least) = (self.block_bytes_max, self.block_bytes_least());
        if given < least || given > SETTLED_BLOCK_BYTES_MAX as u64 {
            return Err(SettlementError::BlockBytes { given, least });
        }
        if self.batch_bytes == 0 || self.batch_bytes > SETTLED_BLOCK_BYTES_MAX as u64 {
            return Err(SettlementError::BatchBytes(self.batch_bytes));
        }
        if self.batch_age_ms == 0 || self.batch_idle_ms == 0 {
            return Err(SettlementError::BatchTime);
        }
        Ok(())
    }

    /// What a block needs: all that it may have to carry for L1, each in a lane of its own, and for a user one transaction
    /// as large as they come.
    fn block_bytes_least(&self) -> u64 {
        let overhead = (TRANSACTION_OVERHEAD_BYTES + BATCH_LANE_BYTES) as u64;
        let forced = u64::from(self.forced_per_block) * (u64::from(self.forced_bytes_max) + overhead);
        forced.max(TRANSACTION_BYTES_MAX as u64 + overhead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: SettlementConfig = SettlementConfig {
        l1_chain_id: 1,
        l1_start: L1Origin {
            number: 7,
            hash: alloy_primitives::B256::ZERO,
        },
        forced_per_block: 32,
        forced_bytes_max: 16_384,
        block_bytes_max: SETTLED_BLOCK_BYTES_MAX as u64,
        batch_bytes: SETTLED_BLOCK_BYTES_MAX as u64,
        batch_age_ms: 5_000,
        batch_idle_ms: 3_600_000,
    };

    #[test]
    fn a_block_has_room_for_all_that_it_must_carry() {
        assert_eq!(RULES.verify(), Ok(()));
        let least = 32 * (16_384 + 4 + 18);
        let tight = |given| SettlementConfig {
            block_bytes_max: given,
            ..RULES
        };
        assert_eq!(tight(least).verify(), Ok(()));
        let given = least - 1;
        assert_eq!(tight(given).verify(), Err(SettlementError::BlockBytes { given, least }));
        let few = SettlementConfig {
            forced_per_block: 1,
            ..tight(100_000)
        };
        assert!(matches!(
            few.verify(),
            Err(SettlementError::BlockBytes { least: 131_094, .. })
        ));
    }

    #[test]
    fn every_number_has_its_bounds() {
        let changes: [fn(&mut SettlementConfig); 10] = [
            |rules| rules.l1_chain_id = 0,
            |rules| rules.forced_per_block = 0,
            |rules| rules.forced_per_block = 33,
            |rules| rules.forced_bytes_max = 0,
            |rules| rules.forced_bytes_max = 16_385,
            |rules| rules.block_bytes_max += 1,
            |rules| rules.batch_bytes = 0,
            |rules| rules.batch_bytes += 1,
            |rules| rules.batch_age_ms = 0,
            |rules| rules.batch_idle_ms = 0,
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut rules = RULES;
            change(&mut rules);
            assert!(rules.verify().is_err(), "change {at}");
        }
    }
}
