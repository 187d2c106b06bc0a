//! Every limit of the protocol: unit in the name, reason beside it, relations checked by the compiler.
//!
//! These bind all nodes alike, so they are constants and not configuration.

/// Largest payload of one transaction, in bytes. The figure of geth's pool (`txMaxSize`).
pub const TRANSACTION_BYTES_MAX: usize = 128 * 1024;

/// Largest encoded block body, in bytes. At 100 MB/s it crosses a link in about 40 ms.
pub const BLOCK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most transactions in one block. Bounds the work of `check` and the memory of decoding.
pub const BLOCK_TRANSACTIONS_MAX: usize = 32_768;

/// Bytes that a transaction costs in a block beyond its payload: its RLP prefix.
pub const TRANSACTION_OVERHEAD_BYTES: usize = 4;

/// Bytes kept free in a block for its header and its lanes' headers.
pub const BLOCK_OVERHEAD_BYTES: usize = 1024 + ROLLUPS_MAX * LANE_OVERHEAD_BYTES;

/// Upper bound of one encoded lane header with its list prefixes, in bytes.
pub const LANE_OVERHEAD_BYTES: usize = 160;

/// Most rollups that one network orders. A block has at most one lane for each.
pub const ROLLUPS_MAX: usize = 1024;

/// Most validators in a committee. A certificate of all of them stays below 10 KiB.
pub const COMMITTEE_MAX: usize = 128;

/// Highest round that anything is said about. Rounds last longer and longer, so that no committee comes near; up to here
/// a round has a next one and its timeouts fit every clock.
pub const ROUND_MAX: u32 = 1 << 24;

/// Largest total voting power: Malachite multiplies it by three in 64 bits and panics on overflow.
pub const POWER_TOTAL_MAX: u64 = u64::MAX / 3;

/// A stream remembers the hashes of at most this many of its last transactions and refuses a repeat. 2 MiB a stream.
pub const DEDUP_TRANSACTIONS_MAX: usize = 65_536;

/// Transactions older than this many heights are forgotten too, so that the window is rebuilt from a bounded part of
/// the log.
pub const DEDUP_HEIGHTS_MAX: u64 = 16_384;

/// A header's time may be this far ahead of a validator's clock, in milliseconds.
pub const CLOCK_DRIFT_MAX_MS: u64 = 500;

/// A proposer that stayed silent is benched for this many heights: it may have been restarting, and on a fast network
/// this is some seconds.
pub const BENCH_HEIGHTS_BASE: u64 = 256;

/// Each further miss benches for so many times as long. Every return of a dead proposer costs its height a timeout.
pub const BENCH_FACTOR: u64 = 16;

/// No proposer is benched for longer than this many heights.
pub const BENCH_HEIGHTS_MAX: u64 = 65_536;

/// Longest name of a network, in bytes.
pub const NETWORK_NAME_BYTES_MAX: usize = 64;

/// Most forced transactions that one block consumes. The contract asks as many of a whole batch.
pub const FORCED_PER_BLOCK_MAX: u32 = 32;

/// Largest forced transaction, in bytes: what the contract takes.
pub const FORCED_BYTES_MAX: u32 = 16 * 1024;

/// What a lane takes in a batch beside its transactions before compression, at most, in bytes.
pub const BATCH_LANE_BYTES: usize = 18;

/// Largest content of a block where a network settles, in bytes: six blobs hold it beside its header however badly it
/// compresses.
pub const SETTLED_BLOCK_BYTES_MAX: usize = 640_000;

/// Deepest Merkle tree: no list here has more than 2^32 leaves.
pub const MERKLE_DEPTH_MAX: usize = 32;

const _: () = assert!(
    TRANSACTION_BYTES_MAX + TRANSACTION_OVERHEAD_BYTES + BLOCK_OVERHEAD_BYTES < BLOCK_BYTES_MAX,
    "a block holds the largest transaction"
);
const _: () = assert!(
    DEDUP_TRANSACTIONS_MAX >= BLOCK_TRANSACTIONS_MAX,
    "the window is not shorter than one block"
);
const _: () = assert!(
    SETTLED_BLOCK_BYTES_MAX + BLOCK_OVERHEAD_BYTES < BLOCK_BYTES_MAX,
    "a block that six blobs hold is a block"
);
const _: () = assert!(
    TRANSACTION_BYTES_MAX + TRANSACTION_OVERHEAD_BYTES + BATCH_LANE_BYTES < SETTLED_BLOCK_BYTES_MAX
        && FORCED_BYTES_MAX as usize <= TRANSACTION_BYTES_MAX,
    "a settling network's block holds the largest transaction"
);
const _: () = assert!(
    FORCED_PER_BLOCK_MAX as usize * (FORCED_BYTES_MAX as usize + TRANSACTION_OVERHEAD_BYTES + BATCH_LANE_BYTES)
        <= SETTLED_BLOCK_BYTES_MAX,
    "a settling network's block holds all that it may have to carry for L1"
);
const _: () = assert!(BENCH_HEIGHTS_BASE < BENCH_HEIGHTS_MAX);
const _: () = assert!(BLOCK_TRANSACTIONS_MAX < 1 << MERKLE_DEPTH_MAX);
