//! Every reason for which a transaction is refused, here or at the ingress before the pool.
//!
//! Each has a stable name, a JSON-RPC code, and a message with its numbers. Wallets recognise refusals by
//! geth's phrases (`already known`, `nonce too low`, `replacement transaction underpriced`), so the messages start with
//! them. The codes are those of the error groups of execution-apis where these have one, else of EIP-1474.

use alloy_primitives::{Address, B256};
use fusion_types::limits::TRANSACTION_BYTES_MAX;
use fusion_types::{Height, RollupId};

/// Why a transaction was refused. Nothing of it remains in the pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// The payload is not what its rollup's kind asks for.
    #[error("malformed transaction: {0}")]
    Malformed(String),
    /// Nothing to order.
    #[error("transaction is empty")]
    Empty,
    /// A payload above the protocol's limit.
    #[error("oversized data: transaction is {bytes} bytes, limit is {TRANSACTION_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A rollup that the genesis does not register.
    #[error("rollup {0} is not registered")]
    UnknownRollup(RollupId),
    /// Signed for another chain, or for none.
    #[error("invalid chain id: transaction is for {}, this is rollup {expected}", chain_id_text(.given))]
    ChainId {
        /// Chain id in the transaction; `None` before EIP-155.
        given: Option<u64>,
        /// The rollup that it was sent to.
        expected: RollupId,
    },
    /// No sender can be recovered from the signature.
    #[error("invalid sender: {0}")]
    InvalidSender(String),
    /// Blobs belong to L1 only.
    #[error("transaction type {0} is not supported")]
    TypeUnsupported(u8),
    /// Less gas than any transaction needs.
    #[error("intrinsic gas too low: gas limit is {gas}, at least {minimum} is needed")]
    GasTooLow {
        /// Gas limit of the transaction.
        gas: u64,
        /// What it needs at least.
        minimum: u64,
    },
    /// More gas than a rollup's block may use.
    #[error("exceeds block gas limit: gas limit is {gas}, at most {maximum} is allowed")]
    GasTooHigh {
        /// Gas limit of the transaction.
        gas: u64,
        /// What it may ask for at most.
        maximum: u64,
    },
    /// EIP-2681: an account's nonce stays below 2^64 - 1.
    #[error("nonce has max value: {0}")]
    NonceMax(u64),
    /// The same bytes wait in this pool.
    #[error("already known: transaction {0} is waiting")]
    AlreadyKnown(B256),
    /// The same bytes are in the stream.
    #[error("already known: transaction {hash} is decided, sequence {sequence}")]
    AlreadyDecided {
        /// Hash of the transaction.
        hash: B256,
        /// Its place in its rollup's stream.
        sequence: u64,
    },
    /// The sender's transaction with this nonce is decided.
    #[error("nonce too low: nonce is {nonce}, next is {next}")]
    NonceTooLow {
        /// Nonce of the transaction.
        nonce: u64,
        /// The sender's next one.
        next: u64,
    },
    /// Too far ahead of the sender's next nonce to wait for the ones between.
    #[error("nonce too high: nonce is {nonce}, next is {next}, at most {limit} ahead may wait")]
    NonceGap {
        /// Nonce of the transaction.
        nonce: u64,
        /// The sender's next one.
        next: u64,
        /// How far ahead a nonce may be.
        limit: u64,
    },
    /// Another transaction has this nonce, and this one does not pay enough more.
    #[error(
        "replacement transaction underpriced: max fee is {max_fee} and tip {tip}, at least {max_fee_needed} and {tip_needed} are needed"
    )]
    ReplacementUnderpriced {
        /// Its fee cap, wei per gas.
        max_fee: u128,
        /// Its tip, wei per gas.
        tip: u128,
        /// Least fee cap that replaces, wei per gas.
        max_fee_needed: u128,
        /// Least tip that replaces, wei per gas.
        tip_needed: u128,
    },
    /// This nonce was replaced a moment ago.
    #[error("replacement too soon: nonce {nonce} may be replaced again in {wait_ms} ms")]
    ReplacementTooSoon {
        /// Nonce of the transaction.
        nonce: u64,
        /// How long to wait, milliseconds.
        wait_ms: u64,
    },
    /// The transaction with this nonce is being decided.
    #[error("nonce {nonce} is in the current proposal and cannot be replaced")]
    InFlight {
        /// Nonce of the transaction.
        nonce: u64,
    },
    /// The sender has enough transactions or bytes waiting.
    #[error(
        "sender {sender} has {transactions} transactions of {bytes} bytes waiting, limits are {transactions_max} and {bytes_max}"
    )]
    SenderFull {
        /// The sender.
        sender: Address,
        /// How many of its transactions wait.
        transactions: usize,
        /// Bytes that they take.
        bytes: usize,
        /// Most transactions of one sender.
        transactions_max: usize,
        /// Most bytes of one sender.
        bytes_max: usize,
    },
    /// The rollup has enough bytes waiting.
    #[error("txpool is full: rollup {rollup} has {bytes} bytes waiting, limit is {bytes_max}")]
    RollupFull {
        /// The rollup.
        rollup: RollupId,
        /// Bytes that its transactions take.
        bytes: usize,
        /// Most bytes of one rollup.
        bytes_max: usize,
    },
    /// All rollups together fill the pool, and this one has had its reserve.
    #[error("txpool is full: {bytes} bytes waiting, limit is {bytes_max}")]
    PoolFull {
        /// Bytes that all transactions take.
        bytes: usize,
        /// Most bytes of the pool.
        bytes_max: usize,
    },
    /// A proposal with this transaction failed.
    #[error("transaction {hash} was in a proposal that failed, it is refused until height {until}")]
    Banned {
        /// Hash of the transaction.
        hash: B256,
        /// From this height it is accepted again.
        until: Height,
    },
    /// The chain carries less than is sent; nothing was looked at.
    #[error("busy: {waiting} transactions are waiting, limit is {most} at the present rate; send again later")]
    Overload {
        /// Transactions that wait to be ordered.
        waiting: usize,
        /// How many are ordered in the time that they should wait at most.
        most: usize,
    },
    /// The node has more to do than it can; nothing was looked at.
    #[error("busy: {waiting} requests are waiting, limit is {limit}")]
    Busy {
        /// Requests in the queue.
        waiting: usize,
        /// Its capacity.
        limit: usize,
    },
}

fn chain_id_text(given: &Option<u64>) -> String {
    given.map_or_else(|| "no chain (EIP-155 is required)".to_owned(), |id| id.to_string())
}

impl Reject {
    /// Its JSON-RPC error code.
    pub fn code(&self) -> i32 {
        match self {
            Self::AlreadyKnown(_) | Self::AlreadyDecided { .. } => 1000,
            Self::InvalidSender(_) => 1001,
            Self::Malformed(_) | Self::Empty | Self::ChainId { .. } | Self::UnknownRollup(_) => -32602,
            Self::TooLarge { .. }
            | Self::TypeUnsupported(_)
            | Self::NonceMax(_)
            | Self::ReplacementUnderpriced { .. }
            | Self::InFlight { .. }
            | Self::Banned { .. } => -32003,
            Self::ReplacementTooSoon { .. }
            | Self::SenderFull { .. }
            | Self::RollupFull { .. }
            | Self::PoolFull { .. }
            | Self::Overload { .. }
            | Self::Busy { .. } => -32005,
            Self::NonceTooLow { .. } => -38010,
            Self::NonceGap { .. } => -38011,
            Self::GasTooLow { .. } => -38013,
            Self::GasTooHigh { .. } => -38015,
        }
    }

    /// Its name for programs and metrics; never changes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Empty => "empty",
            Self::TooLarge { .. } => "too_large",
            Self::UnknownRollup(_) => "unknown_rollup",
            Self::ChainId { .. } => "chain_id",
            Self::InvalidSender(_) => "invalid_sender",
            Self::TypeUnsupported(_) => "type_unsupported",
            Self::GasTooLow { .. } => "gas_too_low",
            Self::GasTooHigh { .. } => "gas_too_high",
            Self::NonceMax(_) => "nonce_max",
            Self::AlreadyKnown(_) => "already_known",
            Self::AlreadyDecided { .. } => "already_decided",
            Self::NonceTooLow { .. } => "nonce_too_low",
            Self::NonceGap { .. } => "nonce_gap",
            Self::ReplacementUnderpriced { .. } => "replacement_underpriced",
            Self::ReplacementTooSoon { .. } => "replacement_too_soon",
            Self::InFlight { .. } => "in_flight",
            Self::SenderFull { .. } => "sender_full",
            Self::RollupFull { .. } => "rollup_full",
            Self::PoolFull { .. } => "pool_full",
            Self::Banned { .. } => "banned",
            // One name for both: what to do is the same.
            Self::Overload { .. } | Self::Busy { .. } => "busy",
        }
    }
}
