//! Fusion's data as JSON: what RPC answers, `genesis.json` and `receipt.json` hold.
//!
//! Keys are camelCase; hashes, keys, payloads and signatures are `0x` with lower-case hex digits; heights, sequence
//! numbers, counts, times and the like are JSON numbers. Every type mirrors one of `fusion-types` and converts both
//! ways without loss. Decoding is strict: an unknown, missing or repeated key, a number of 2^53 or more (which other
//! languages' JSON would round), or two fields that must agree and do not, are errors that name the field.
//!
//! Decoding proves shape, not truth: call `verify` on what comes out.

mod block;
mod committee;
mod hex;
mod methods;
mod receipt;
mod settlement;

pub use block::{BlockJson, CertificateJson, HeaderJson, L1OriginJson, LaneBodyJson, LaneJson, SignatureJson};
pub use committee::{
    CommitteeJson, GenesisJson, GenesisValidatorJson, OrderingJson, RollupJson, RollupKindJson, SettlementJson,
    ValidatorJson,
};
pub use hex::{Account, Data, Hash, HexError, Signature, parse};
pub use methods::{
    ErrorData, EvidenceJson, HeadJson, HeadsParams, LaneHashesJson, PeerJson, PeersJson, ReceiptStatus,
    ReceiptStatusJson, ReceiptsParams, SendSyncParams, StatusJson, StreamJson, Timeout,
};
pub use receipt::{CursorJson, MerkleProofJson, ReceiptJson, RollupBlockJson};
pub use settlement::{BatchJson, L1PlaceJson, NamespaceJson, PostedJson};

use fusion_types::{CommitteeError, GenesisError, SealError};

/// Numbers from here on are refused: JSON numbers are doubles to most readers, exact only below 2^53.
pub const NUMBER_END: u64 = 1 << 53;

/// Why a JSON document is not the value that it claims to be.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, or not of the expected shape.
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
    /// A number that other readers would round.
    #[error("{field} is {value}, it must be below 2^53")]
    Number {
        /// Path of the field.
        field: String,
        /// What it holds.
        value: u64,
    },
    /// Two fields that say the same thing say different things.
    #[error("{field} is {value}, {other_field} is {other}")]
    Disagree {
        /// Path of the redundant field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// Path of the field that it must agree with.
        other_field: &'static str,
        /// What that holds.
        other: String,
    },
    /// A network address that cannot be dialled.
    #[error("validators[{at}].address is {address:?}, it must be host:port with a port from 1 to 65535")]
    Address {
        /// Place in the list.
        at: usize,
        /// What it holds.
        address: String,
    },
    /// The validators form no committee.
    #[error("validators: {0}")]
    Committee(#[from] CommitteeError),
    /// The parts form no genesis.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The transactions are not those of the lanes, or the lanes not those of the header.
    #[error("block: {0}")]
    Block(#[from] SealError),
}

/// Decodes a document.
///
/// # Errors
/// [`JsonError::Shape`] names the key and the place in the text.
pub fn from_str<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, JsonError> {
    Ok(serde_json::from_str(text)?)
}

/// Passes on a number that JSON carries exactly; `path` and `name` name its field.
fn number(path: &str, name: &str, value: u64) -> Result<u64, JsonError> {
    if value < NUMBER_END {
        return Ok(value);
    }
    Err(JsonError::Number {
        field: format!("{path}{name}"),
        value,
    })
}

/// Refuses a redundant field that does not agree with the one that counts.
fn agree<T: PartialEq + ToString>(
    field: &'static str,
    value: &T,
    other_field: &'static str,
    other: &T,
) -> Result<(), JsonError> {
    if value == other {
        return Ok(());
    }
    Err(JsonError::Disagree {
        field,
        value: value.to_string(),
        other_field,
        other: other.to_string(),
    })
}

#[cfg(test)]
mod tests;
