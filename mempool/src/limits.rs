//! How much a pool may hold, and for how long. A node's own choice: nothing here binds other nodes.

use std::time::Duration;

/// What a waiting transaction costs in memory beyond its payload, in bytes: its entry and its places in the indices.
pub const TRANSACTION_FOOTPRINT_BYTES: usize = 384;

/// A nonce is replaced at most once in this time.
pub const REPLACEMENT_INTERVAL: Duration = Duration::from_secs(1);

/// A replacement pays this much more, in percent, on both fees. The figure of geth's pool.
pub const REPLACEMENT_BUMP_PERCENT: u128 = 10;

/// A transaction of a failed proposal is refused for this many heights.
pub const BAN_HEIGHTS: u64 = 64;

/// At most this many transactions are banned; the oldest ban ends first. Two full blocks.
pub const BANS_MAX: usize = 2 * fusion_types::limits::BLOCK_TRANSACTIONS_MAX;

/// Proposals of one height whose transactions cannot be replaced; beyond these many rounds the oldest is let go.
pub const PROPOSALS_MAX: usize = 8;

/// One insertion evicts at most this many transactions.
pub const EVICTIONS_MAX: usize = 1024;

/// Most finalized L1 blocks above the state's origin that a node remembers: more than a day's.
pub const L1_BLOCKS_MAX: usize = 8192;

/// Bytes of forced transactions that wait for their turn, with their footprints. Exceeded only by those of a single L1
/// block.
pub const L1_ITEMS_BYTES_MAX: usize = 32 << 20;

/// What a forced transaction costs in memory beyond its payload, in bytes.
pub const L1_ITEM_FOOTPRINT_BYTES: usize = 128;

/// The sizes of a pool. All bytes count a transaction's payload and [`TRANSACTION_FOOTPRINT_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Bytes of all transactions. Half of it is reserved for the rollups by weight; the rest is for whoever comes.
    pub bytes_max: usize,
    /// Bytes of one rollup's transactions.
    pub rollup_bytes_max: usize,
    /// Bytes of one sender's transactions in one rollup.
    pub sender_bytes_max: usize,
    /// Transactions of one sender in one rollup.
    pub sender_transactions_max: usize,
    /// How far a nonce may be ahead of its sender's next.
    pub nonce_gap_max: u64,
    /// How long a transaction waits for a missing nonce.
    pub gap_lifetime: Duration,
    /// Senders whose last nonces are remembered, in all rollups together.
    pub senders_max: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            bytes_max: 96 << 20,
            rollup_bytes_max: 48 << 20,
            sender_bytes_max: 1 << 20,
            sender_transactions_max: 64,
            nonce_gap_max: 64,
            gap_lifetime: Duration::from_secs(180),
            senders_max: 131_072,
        }
    }
}
