//! Why the pool does not take a transaction, in the words of geth (of reth for the sidecar's version), which clients look for.

use alloy_primitives::{Address, U256};

use crate::params;

/// A refusal of the pool. Its text is what real nodes answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not the encoding of a transaction.
    #[error("invalid transaction: {0}")]
    Undecodable(String),
    /// A transaction whose signature binds it to no chain (EIP-155).
    #[error("only replay-protected (EIP-155) transactions allowed over RPC")]
    Unprotected,
    /// For another chain.
    #[error("invalid chain id for signer: have {have} want {want}")]
    ChainId {
        /// The transaction's.
        have: u64,
        /// The chain's.
        want: u64,
    },
    /// The signature gives no account.
    #[error("invalid sender")]
    InvalidSender,
    /// Too many bytes.
    #[error("oversized data: transaction size {bytes}, limit {limit}")]
    Oversized {
        /// Bytes that it has.
        bytes: usize,
        /// Bytes that it may have.
        limit: usize,
    },
    /// EIP-1559: the tip is a part of the fee.
    #[error("max priority fee per gas higher than max fee per gas: tip {tip}, fee {fee}")]
    TipAboveFee {
        /// Wei per gas.
        tip: u128,
        /// Wei per gas.
        fee: u128,
    },
    /// A tip below what nodes carry.
    #[error(
        "transaction gas price below minimum: gas tip cap {tip}, minimum needed {}",
        params::TIP_MIN
    )]
    Underpriced {
        /// Wei per gas.
        tip: u128,
    },
    /// The cap of RPC on what is paid for gas.
    #[error("tx fee ({:.2} ether) exceeds the configured cap ({:.2} ether)", ether(*.paid), ether(params::TRANSACTION_FEE_MAX))]
    FeeCap {
        /// Wei for all of its gas.
        paid: u128,
    },
    /// EIP-7825.
    #[error("transaction gas limit too high (cap: {}, tx: {gas})", params::TRANSACTION_GAS_MAX)]
    GasCap {
        /// Its gas limit.
        gas: u64,
    },
    /// More gas than a block has.
    #[error("exceeds block gas limit")]
    BlockGas,
    /// EIP-2028 and the like: its bytes alone take more.
    #[error("intrinsic gas too low: gas {gas}, minimum needed {needed}")]
    IntrinsicGas {
        /// Its gas limit.
        gas: u64,
        /// What it takes.
        needed: u64,
    },
    /// EIP-7623.
    #[error("insufficient gas for floor data gas cost: gas {gas}, minimum needed {needed}")]
    FloorGas {
        /// Its gas limit.
        gas: u64,
        /// The floor.
        needed: u64,
    },
    /// EIP-3860.
    #[error("max initcode size exceeded: code size {size}, limit {limit}")]
    Initcode {
        /// Bytes.
        size: usize,
        /// Bytes.
        limit: usize,
    },
    /// EIP-7702.
    #[error("EIP-7702 transaction with empty auth list")]
    NoAuthorization,
    /// A blob transaction in the form that blocks hold.
    #[error("missing sidecar in blob transaction")]
    MissingSidecar,
    /// A sidecar with one proof per blob, as before Osaka.
    #[error("unexpected eip-4844 sidecar after osaka")]
    OldSidecar,
    /// A blob transaction without blobs.
    #[error("blobless blob transaction")]
    Blobless,
    /// EIP-7594.
    #[error("too many blobs in transaction: have {have}, permitted {permitted}")]
    TooManyBlobs {
        /// Blobs that it has.
        have: usize,
        /// Blobs that it may have.
        permitted: usize,
    },
    /// The sidecar does not go with the transaction.
    #[error("invalid number of {have} {what} expected {want}")]
    SidecarNumber {
        /// Of what.
        what: &'static str,
        /// In the sidecar.
        have: usize,
        /// By the transaction.
        want: usize,
    },
    /// A blob fee of nothing.
    #[error("transaction gas price below minimum: blob fee cap 0, minimum needed {}", params::BLOBS.min_blob_fee)]
    BlobFeeTooLow,
    /// Blobs, commitments, proofs and versioned hashes do not fit together.
    #[error("KZG verification error: {0}")]
    Kzg(String),
    /// It is in the pool.
    #[error("already known")]
    AlreadyKnown,
    /// The account has sent that many already.
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow {
        /// The account's next.
        next: u64,
        /// The transaction's.
        nonce: u64,
    },
    /// Blob transactions do not wait for others.
    #[error("nonce too high: tx nonce {nonce}, gapped nonce {gap}")]
    NonceGap {
        /// The transaction's.
        nonce: u64,
        /// The first that is missing.
        gap: u64,
    },
    /// The account has transactions of the other kind pending.
    #[error("address already reserved")]
    Reserved(Address),
    /// A transaction out of turn, of an account with code or with an authorization in the pool (EIP-7702).
    #[error("gapped-nonce tx from delegated accounts")]
    DelegatedGap,
    /// A second transaction of such an account.
    #[error("in-flight transaction limit reached for delegated accounts")]
    DelegatedFull,
    /// An authorization by an account that has a blob transaction or several others pending.
    #[error("authority already reserved")]
    AuthorityReserved(Address),
    /// Too little more than what it would replace.
    #[error("replacement transaction underpriced{}", .0.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default())]
    ReplacementUnderpriced(Option<String>),
    /// What the account has pending would cost more than it has.
    #[error("insufficient funds for gas * price + value: balance {balance}, queued cost {queued}, tx cost {cost}, overshot {}", .queued.saturating_add(*.cost).saturating_sub(*.balance))]
    InsufficientFunds {
        /// Wei.
        balance: U256,
        /// Wei of what is pending already.
        queued: U256,
        /// Wei of this one.
        cost: U256,
    },
    /// More than can be counted.
    #[error("transaction cost overflows")]
    CostOverflow,
    /// The account has as many pending as it may.
    #[error("account limit exceeded: pooled {0} txs")]
    AccountFull(usize),
    /// The pool has as many as it may.
    #[error("txpool is full")]
    Full,
}

/// Wei as ether, for people.
#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn ether(wei: u128) -> f64 {
    wei as f64 / 1e18
}
