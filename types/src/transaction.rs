//! What a user submits: bytes for one rollup.

use alloy_primitives::{B256, keccak256};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpDecodableWrapper, RlpEncodable, RlpEncodableWrapper};

/// A rollup, by its EIP-155 chain id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, RlpEncodableWrapper, RlpDecodableWrapper)]
pub struct RollupId(pub u64);

impl std::fmt::Display for RollupId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The hash of a transaction's payload. For an `evm` rollup this is the hash that Ethereum tools print.
pub type TxHash = B256;

/// keccak256 of the payload. Not unique across rollups: a place is `(rollup, hash)`.
pub fn transaction_hash(payload: &[u8]) -> TxHash {
    keccak256(payload)
}

/// What a rollup's payloads are, and so what is checked at ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RollupKind {
    /// An EIP-2718 signed transaction.
    Evm,
    /// Bytes.
    Opaque,
}

/// How a rollup's lane is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ordering {
    /// First come, first served, as the proposer saw it.
    Fcfs,
    /// Descending effective tip, each sender's nonces ascending. `evm` rollups only.
    Priority,
}

/// A rollup as the genesis registers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct RollupConfig {
    /// EIP-155 chain id.
    pub id: RollupId,
    /// What its payloads are.
    pub kind: RollupKind,
    /// How its lane is ordered.
    pub ordering: Ordering,
    /// Its share of a full block in relation to the other rollups' weights; at least 1.
    pub weight: u32,
}

impl Encodable for RollupKind {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        let tag: u8 = match self {
            Self::Evm => 1,
            Self::Opaque => 2,
        };
        tag.encode(out);
    }

    fn length(&self) -> usize {
        1
    }
}

impl Decodable for RollupKind {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        match u8::decode(buf)? {
            1 => Ok(Self::Evm),
            2 => Ok(Self::Opaque),
            _ => Err(alloy_rlp::Error::Custom("unknown rollup kind")),
        }
    }
}

impl Encodable for Ordering {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        let tag: u8 = match self {
            Self::Fcfs => 1,
            Self::Priority => 2,
        };
        tag.encode(out);
    }

    fn length(&self) -> usize {
        1
    }
}

impl Decodable for Ordering {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        match u8::decode(buf)? {
            1 => Ok(Self::Fcfs),
            2 => Ok(Self::Priority),
            _ => Err(alloy_rlp::Error::Custom("unknown ordering")),
        }
    }
}
