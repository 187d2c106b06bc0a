//! What stands on L1.

use std::collections::BTreeMap;

use alloy_primitives::B256;

/// A batch that the inbox took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub batch: B256,
    /// What its data hash to.
    pub data: B256,
    /// The transaction.
    pub transaction: B256,
    /// Number of the block with it.
    pub block: u64,
    /// That block's hash.
    pub block_hash: B256,
}

/// The inbox as several endpoints agree on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InboxView {
    /// Number of the next batch, at the latest block.
    pub next: u64,
    /// The same at the finalized block.
    pub next_final: u64,
    /// The last batches: all that are not final, and final ones that were read lately.
    pub posts: BTreeMap<u64, Post>,
}
