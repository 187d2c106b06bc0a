//! Receipts, streams and cursors as JSON: what a user keeps and a rollup reads.

use alloy_primitives::B256;
use fusion_types::{Certificate, Cursor, Header, Lane, LaneBody, MerkleProof, Receipt, RollupBlock, RollupId};
use serde::{Deserialize, Serialize};

use super::{CertificateJson, Data, Hash, HeaderJson, JsonError, LaneJson, agree, number};

/// [`MerkleProof`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MerkleProofJson {
    /// Place of the leaf.
    pub index: u64,
    /// Leaves of the tree.
    pub count: u64,
    /// Sibling hashes from the leaf upwards.
    pub siblings: Vec<Hash>,
}

impl From<&MerkleProof> for MerkleProofJson {
    fn from(proof: &MerkleProof) -> Self {
        Self {
            index: proof.index,
            count: proof.count,
            siblings: proof.siblings.iter().copied().map(Hash).collect(),
        }
    }
}

impl MerkleProofJson {
    pub(super) fn decode(&self, path: &str) -> Result<MerkleProof, JsonError> {
        Ok(MerkleProof {
            index: number(path, "index", self.index)?,
            count: number(path, "count", self.count)?,
            siblings: self.siblings.iter().map(|hash| hash.0).collect(),
        })
    }
}

/// [`Receipt`]: a final preconfirmation. `receipt.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReceiptJson {
    /// Hash of the transaction's payload.
    pub transaction: Hash,
    /// Its rollup; must be the lane's.
    pub rollup: u64,
    /// Its place in the rollup's stream.
    pub sequence: u64,
    /// Height of its block; must be the header's.
    pub height: u64,
    /// The network; must be the header's.
    pub network: Hash,
    /// Its lane.
    pub lane: LaneJson,
    /// From the transaction to the lane.
    pub transaction_proof: MerkleProofJson,
    /// From the lane to the header.
    pub lane_proof: MerkleProofJson,
    /// Header of the decided block.
    pub header: HeaderJson,
    /// What decided it.
    pub certificate: CertificateJson,
}

impl From<&Receipt> for ReceiptJson {
    fn from(receipt: &Receipt) -> Self {
        Self {
            transaction: Hash(receipt.transaction),
            rollup: receipt.lane.rollup.0,
            sequence: receipt.sequence,
            height: receipt.header.height.0,
            network: Hash(receipt.header.network.0),
            lane: (&receipt.lane).into(),
            transaction_proof: (&receipt.transaction_proof).into(),
            lane_proof: (&receipt.lane_proof).into(),
            header: (&receipt.header).into(),
            certificate: (&receipt.certificate).into(),
        }
    }
}

impl TryFrom<&ReceiptJson> for Receipt {
    type Error = JsonError;

    fn try_from(json: &ReceiptJson) -> Result<Self, JsonError> {
        agree("rollup", &json.rollup, "lane.rollup", &json.lane.rollup)?;
        agree("height", &json.height, "header.height", &json.header.height)?;
        agree("network", &json.network, "header.network", &json.header.network)?;
        Ok(Self {
            transaction: json.transaction.0,
            sequence: number("", "sequence", json.sequence)?,
            lane: Lane::try_from(&json.lane)?,
            transaction_proof: json.transaction_proof.decode("transactionProof.")?,
            lane_proof: json.lane_proof.decode("laneProof.")?,
            header: Header::try_from(&json.header)?,
            certificate: Certificate::try_from(&json.certificate)?,
        })
    }
}

/// [`RollupBlock`]: one item of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RollupBlockJson {
    /// Header of the decided block.
    pub header: HeaderJson,
    /// The rollup's lane in it.
    pub lane: LaneJson,
    /// The lane's payloads, in order.
    pub transactions: Vec<Data>,
    /// From the lane to the header.
    pub lane_proof: MerkleProofJson,
    /// What decided it.
    pub certificate: CertificateJson,
}

impl From<&RollupBlock> for RollupBlockJson {
    fn from(block: &RollupBlock) -> Self {
        Self {
            header: (&block.header).into(),
            lane: (&block.body.lane).into(),
            transactions: block.body.transactions.iter().cloned().map(Data).collect(),
            lane_proof: (&block.lane_proof).into(),
            certificate: (&block.certificate).into(),
        }
    }
}

impl TryFrom<&RollupBlockJson> for RollupBlock {
    type Error = JsonError;

    fn try_from(json: &RollupBlockJson) -> Result<Self, JsonError> {
        Ok(Self {
            header: Header::try_from(&json.header)?,
            body: LaneBody {
                lane: Lane::try_from(&json.lane)?,
                transactions: json.transactions.iter().map(|data| data.0.clone()).collect(),
            },
            lane_proof: json.lane_proof.decode("laneProof.")?,
            certificate: Certificate::try_from(&json.certificate)?,
        })
    }
}

/// A place in a stream from which to read; [`Cursor`] when its head is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CursorJson {
    /// Whose stream.
    pub rollup: u64,
    /// Sequence number of the next transaction.
    pub sequence: u64,
    /// Stream head before it. If given, the node refuses a cursor of another history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Hash>,
}

impl From<&Cursor> for CursorJson {
    fn from(cursor: &Cursor) -> Self {
        Self {
            rollup: cursor.rollup.0,
            sequence: cursor.sequence,
            head: Some(Hash(cursor.head)),
        }
    }
}

impl CursorJson {
    /// Its rollup, its sequence number, and its head if it has one.
    ///
    /// # Errors
    /// [`JsonError::Number`] for a number that JSON does not carry exactly.
    pub fn decode(&self) -> Result<(RollupId, u64, Option<B256>), JsonError> {
        Ok((
            RollupId(number("cursor.", "rollup", self.rollup)?),
            number("cursor.", "sequence", self.sequence)?,
            self.head.map(|head| head.0),
        ))
    }
}
