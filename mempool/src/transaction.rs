//! What the pool holds: a payload, and what its ordering needs to know about it.
//!
//! The facts about an `evm` payload are decoded once, by whoever takes it in. This crate believes them: it
//! neither parses payloads nor recovers signers.

use alloy_primitives::{Address, Bytes};
use fusion_types::{RollupConfig, RollupId, TxHash};

/// What an `evm` payload says about its place among others. Fees in wei per gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvmFacts {
    /// Who signed it.
    pub sender: Address,
    /// Its number among its sender's transactions.
    pub nonce: u64,
    /// `maxFeePerGas`; a legacy transaction's gas price.
    pub max_fee: u128,
    /// `maxPriorityFeePerGas`; a legacy transaction's gas price.
    pub tip: u128,
}

/// A transaction as the pool takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolTransaction {
    /// For whom it is.
    pub rollup: RollupId,
    /// keccak256 of the payload.
    pub hash: TxHash,
    /// The bytes to order.
    pub payload: Bytes,
    /// Present exactly for rollups of kind `evm`.
    pub evm: Option<EvmFacts>,
}

/// Who brought a transaction here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A user of this node: it is this node's task to see it decided.
    Local,
    /// Another node, which has that task. The sender was recovered here.
    Peer,
    /// A committee member, on whose word alone the sender rests. Good enough to arrange this pool; never an answer
    /// to what the sender's nonces are or how a block must be ordered.
    Member,
}

/// Decodes a payload of an `evm` rollup and recovers its signer, or remembers that it did. `None` when it is no signed
/// transaction. For [`crate::check`] the answer must follow from the payload alone, on every node alike; for
/// [`crate::Pool::decided`] it may be `None` to save the recovery, but never a sender that did not sign.
pub type FactsOf<'a> = dyn Fn(&RollupConfig, TxHash, &Bytes) -> Option<EvmFacts> + 'a;

impl EvmFacts {
    /// What the fee recipient earns per gas when the base fee is zero: `min(tip, max_fee)`.
    pub fn effective_tip(&self) -> u128 {
        self.tip.min(self.max_fee)
    }
}
