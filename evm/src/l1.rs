//! What makes a chain an L1: a pool, blobs, the tags `safe` and `finalized`, block time, and reorgs for tests.
//!
//! Pure: `now` (seconds since 1970) comes in, and only [`Submission::decode`] costs more than a map's lookup or a block's
//! execution. Time is cut into slots as on mainnet: a block's timestamp is the genesis time plus its slot times the seconds of a
//! slot, and no two blocks share a slot, so that the chain runs ahead of the clock if it is made to mine faster.

mod refusal;
pub use refusal::Refusal;

mod submission;
pub use submission::Submission;

mod pool;
pub use pool::Pool;

mod blobs;

mod fork;
pub use fork::{ForkRefused, Reorged};

mod fees;
pub use fees::FeeHistory;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use alloy_eips::BlockNumberOrTag;
use alloy_eips::eip4844::Blob;
use alloy_primitives::{Address, B256, keccak256};

use crate::chain::{BlockInput, Chain, ChainConfig, ExecutedBlock, Skip, Skipped};
use crate::params;
use blobs::Blobs;
use fork::Snapshot;
use revm::context::result::InvalidTransaction;

/// What an L1 is set to.
#[derive(Clone, Debug)]
pub struct L1Config {
    /// The chain that it begins with.
    pub chain: ChainConfig,
    /// Seconds between blocks; 0: a block at once for whatever can be mined, in slots of one second.
    pub block_time: u64,
    /// How many blocks below the head `safe` is.
    pub safe_distance: u64,
    /// How many blocks below the head `finalized` is; not less than `safe_distance`.
    pub finalized_distance: u64,
    /// Bytes of blobs to keep.
    pub blob_bytes_retained: usize,
    /// Slots to keep blobs for.
    pub blob_slots_retained: u64,
}

impl L1Config {
    /// The developer accounts, chain id [`params::CHAIN_ID`], blocks at once, and a genesis block of `now` (s).
    #[must_use]
    pub fn dev(now: u64) -> Self {
        Self {
            chain: ChainConfig::dev(params::CHAIN_ID, now),
            block_time: 0,
            safe_distance: params::SAFE_DISTANCE,
            finalized_distance: params::FINALIZED_DISTANCE,
            blob_bytes_retained: params::BLOB_BYTES_RETAINED,
            blob_slots_retained: params::BLOB_SLOTS_RETAINED,
        }
    }
}

/// An L1. See the [module](self).
#[derive(Debug)]
pub struct L1 {
    chain: Chain,
    pool: Pool,
    blobs: Blobs,
    config: L1Config,
    /// The highest block that was ever called finalized: what is final stays so.
    finalized: u64,
    /// Whether blocks come by themselves.
    is_mining: bool,
    /// The last slot in which a block came by itself.
    ticked: u64,
    next_base_fee: Option<u64>,
    /// How many forks there were: the blocks of each have a randao of their own, so that they differ in their hashes.
    forks: u64,
    snapshots: VecDeque<(u64, Snapshot)>,
    snapshots_taken: u64,
}

impl L1 {
    /// An L1 that has its genesis block only.
    #[must_use]
    pub fn new(config: L1Config) -> Self {
        Self {
            chain: Chain::new(config.chain.clone()),
            pool: Pool::default(),
            blobs: Blobs::default(),
            config,
            finalized: 0,
            is_mining: true,
            ticked: 0,
            next_base_fee: None,
            forks: 0,
            snapshots: VecDeque::new(),
            snapshots_taken: 0,
        }
    }

    /// The chain below.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// What waits for a block.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What it is set to.
    #[must_use]
    pub fn config(&self) -> &L1Config {
        &self.config
    }

    /// Takes a transaction into the pool, and mines it if blocks come at once.
    ///
    /// # Errors
    /// What real nodes refuse, in their words.
    pub fn submit(&mut self, submission: Submission, now: u64) -> Result<B256, Refusal> {
        let hash = submission.hash();
        let account = self.chain.latest().account_or_empty(&submission.transaction.signer());
        self.pool.insert(submission, account, self.config.chain.gas_limit)?;
        self.mine_at_once(now);
        Ok(hash)
    }

    /// Time has passed: mines a block if one is due. Blocks that were missed are not made up for, as on mainnet. Where blocks come at
    /// once, time brings none.
    pub fn tick(&mut self, now: u64) {
        if self.config.block_time > 0 && self.is_mining && self.slot_at(now) > self.ticked {
            // Not compared with the head's slot: a chain that was made to run ahead goes on all the same.
            self.ticked = self.slot_at(now);
            self.mine(now);
        }
    }

    /// Mines a block of what the pool has for it, even if that is nothing.
    pub fn mine(&mut self, now: u64) -> Arc<ExecutedBlock> {
        let slot = self.slot_at(now).max(self.slot(self.chain.head()).saturating_add(1));
        let base_fee = self.next_base_fee();
        let transactions = {
            let latest = self.chain.latest();
            let account = |address: &Address| latest.account_or_empty(address);
            self.pool.executable(base_fee, self.chain.next_blob_fee(), account)
        };
        let hashes: Vec<B256> = transactions.iter().map(|transaction| *transaction.tx_hash()).collect();
        let parent = self.chain.head().hash();
        let executed = self.chain.execute(BlockInput {
            timestamp: self.time_of(slot),
            prev_randao: keccak256([parent.as_slice(), &self.forks.to_be_bytes()].concat()),
            parent_beacon_root: parent,
            base_fee: self.next_base_fee.take(),
            transactions,
        });
        self.drop_unpayable(&hashes, &executed.skipped);
        self.settle(slot);
        Arc::clone(self.chain.head())
    }

    /// Lets blocks come by themselves, or stops them. [`L1::mine`] mines in either case.
    pub fn set_mining(&mut self, is_mining: bool, now: u64) {
        self.is_mining = is_mining;
        self.mine_at_once(now);
    }

    /// Whether blocks come by themselves.
    #[must_use]
    pub fn is_mining(&self) -> bool {
        self.is_mining
    }

    /// Sets the base fee of the next block, in wei per gas. The blocks after it follow from it by EIP-1559.
    pub fn set_next_base_fee(&mut self, base_fee: u64) {
        self.next_base_fee = Some(base_fee);
    }

    /// Wei per gas that the next block asks.
    #[must_use]
    pub fn next_base_fee(&self) -> u64 {
        self.next_base_fee.unwrap_or_else(|| self.chain.next_base_fee())
    }

    /// Sets how far below the head `safe` and `finalized` are, in blocks. What is finalized stays so.
    pub fn set_finality(&mut self, safe_distance: u64, finalized_distance: u64) {
        self.config.safe_distance = safe_distance.min(finalized_distance);
        self.config.finalized_distance = finalized_distance;
        self.note_finalized();
    }

    /// Sets a balance out of thin air. See [`Chain::set_balance`].
    pub fn set_balance(&mut self, address: Address, balance: alloy_primitives::U256) {
        self.remember_balance(address);
        self.chain.set_balance(address, balance);
    }

    /// Takes a transaction out of the pool.
    pub fn drop_transaction(&mut self, hash: &B256) -> bool {
        let dropped = self.pool.remove(hash).is_some();
        self.settle_pool();
        dropped
    }

    /// Takes everything out of the pool.
    pub fn drop_all_transactions(&mut self) {
        self.pool.clear();
    }

    /// The number of the block that a tag means. `pending` is the latest: there is no block before it is mined.
    #[must_use]
    pub fn number(&self, tag: BlockNumberOrTag) -> u64 {
        let head = self.chain.head().number();
        match tag {
            BlockNumberOrTag::Latest | BlockNumberOrTag::Pending => head,
            BlockNumberOrTag::Safe => head.saturating_sub(self.config.safe_distance).max(self.finalized),
            BlockNumberOrTag::Finalized => self.finalized,
            BlockNumberOrTag::Earliest => 0,
            BlockNumberOrTag::Number(number) => number,
        }
    }

    /// Seconds of a slot.
    #[must_use]
    pub fn slot_seconds(&self) -> u64 {
        self.config.block_time.max(1)
    }

    /// The slot of a block.
    #[must_use]
    pub fn slot(&self, block: &ExecutedBlock) -> u64 {
        self.slot_at(block.header.timestamp)
    }

    /// The block of a slot; none if the slot went without, or the block is no longer kept.
    #[must_use]
    pub fn block_of_slot(&self, slot: u64) -> Option<&Arc<ExecutedBlock>> {
        // Slots grow with numbers, so that halving finds it.
        let (mut low, mut high) = (self.chain.oldest(), self.chain.head().number());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.chain.block(middle).is_some_and(|block| self.slot(block) < slot) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.chain.block(low).filter(|block| self.slot(block) == slot)
    }

    /// The blobs of a block with their versioned hashes, in the order of its transactions; `None` if some are no longer kept.
    #[must_use]
    pub fn blobs(&self, block: &ExecutedBlock) -> Option<Vec<(B256, Blob)>> {
        let mut blobs = Vec::new();
        for transaction in block.transactions.iter().filter(|transaction| transaction.is_eip4844()) {
            let sidecar = self.blobs.sidecar(transaction.tx_hash())?;
            blobs.extend(sidecar.versioned_hashes().zip(sidecar.blobs.iter().copied()));
        }
        Some(blobs)
    }

    fn slot_at(&self, time: u64) -> u64 {
        time.saturating_sub(self.config.chain.genesis_time) / self.slot_seconds()
    }

    fn time_of(&self, slot: u64) -> u64 {
        let since = slot.saturating_mul(self.slot_seconds());
        self.config.chain.genesis_time.saturating_add(since)
    }

    /// Mines while there is something to mine and something of it gets in.
    fn mine_at_once(&mut self, now: u64) {
        while self.is_mining && self.config.block_time == 0 && self.has_executable() {
            if self.mine(now).transactions.is_empty() {
                break;
            }
        }
    }

    fn has_executable(&self) -> bool {
        let latest = self.chain.latest();
        let account = |address: &Address| latest.account_or_empty(address);
        let order = self
            .pool
            .executable(self.next_base_fee(), self.chain.next_blob_fee(), account);
        !order.is_empty()
    }

    /// Drops what was refused for more than a lack of room or of a fee: it would be refused again and again.
    fn drop_unpayable(&mut self, hashes: &[B256], skipped: &[Skipped]) {
        for Skipped { index, reason } in skipped {
            let may_pass_later = match reason {
                Skip::NoRoom => true,
                Skip::Invalid(invalid) => matches!(
                    invalid,
                    InvalidTransaction::GasPriceLessThanBasefee
                        | InvalidTransaction::BlobGasPriceGreaterThanMax { .. }
                        | InvalidTransaction::NonceTooHigh { .. }
                ),
            };
            if let Some(hash) = hashes.get(*index).filter(|_| !may_pass_later) {
                self.pool.remove(hash);
            }
        }
    }

    /// After a block of `slot`: its blobs are kept, the pool and the finalized block follow.
    fn settle(&mut self, slot: u64) {
        let head = Arc::clone(self.chain.head());
        for transaction in &head.transactions {
            if let Some(sidecar) = self.pool.sidecar(transaction.tx_hash()) {
                self.blobs.insert(slot, *transaction.tx_hash(), sidecar);
            }
        }
        let oldest = slot.saturating_sub(self.config.blob_slots_retained);
        self.blobs.prune(oldest, self.config.blob_bytes_retained);
        self.settle_pool();
        self.note_finalized();
    }

    fn settle_pool(&mut self) {
        let latest = self.chain.latest();
        self.pool.settle(|address| latest.account_or_empty(address));
    }

    fn note_finalized(&mut self) {
        let head = self.chain.head().number();
        let finalized = head.saturating_sub(self.config.finalized_distance);
        self.finalized = self.finalized.max(finalized);
    }
}
