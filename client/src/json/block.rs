//! Blocks, headers, lanes and certificates as JSON.

use std::sync::Arc;

use fusion_types::{
    Block, BlockId, Certificate, CommitteeSignature, DecidedBlock, Epoch, Header, Height, L1Origin, Lane, LaneBody,
    NetworkId, RollupId, Round, SealedBlock, ValidatorId,
};
use serde::{Deserialize, Serialize};

use super::{Data, Hash, JsonError, Signature, agree, number};

/// [`L1Origin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct L1OriginJson {
    /// Number of the Ethereum block.
    pub number: u64,
    /// Its hash.
    pub hash: Hash,
}

/// [`Header`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderJson {
    /// The network.
    pub network: Hash,
    /// Its height.
    pub height: u64,
    /// Id of the block below.
    pub parent: Hash,
    /// Epoch of its committee.
    pub epoch: u64,
    /// Hash of its committee.
    pub committee: Hash,
    /// Who built it.
    pub proposer: Hash,
    /// Unix milliseconds.
    pub time_ms: u64,
    /// Up to where L1 events bind.
    pub l1_origin: L1OriginJson,
    /// Merkle root over the lanes.
    pub lanes_root: Hash,
    /// Root of the state after the parent.
    pub state_root: Hash,
    /// How many items of the L1's forced queue are consumed after this block; left out unless it consumes any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced_to: Option<u64>,
}

impl From<&Header> for HeaderJson {
    fn from(header: &Header) -> Self {
        Self {
            network: Hash(header.network.0),
            height: header.height.0,
            parent: Hash(header.parent.0),
            epoch: header.epoch.0,
            committee: Hash(header.committee),
            proposer: Hash(header.proposer.0),
            time_ms: header.time_ms,
            l1_origin: L1OriginJson {
                number: header.l1_origin.number,
                hash: Hash(header.l1_origin.hash),
            },
            lanes_root: Hash(header.lanes_root),
            state_root: Hash(header.state_root),
            forced_to: header.forced_to,
        }
    }
}

impl TryFrom<&HeaderJson> for Header {
    type Error = JsonError;

    fn try_from(json: &HeaderJson) -> Result<Self, JsonError> {
        Ok(Self {
            network: NetworkId(json.network.0),
            height: Height(number("header.", "height", json.height)?),
            parent: BlockId(json.parent.0),
            epoch: Epoch(number("header.", "epoch", json.epoch)?),
            committee: json.committee.0,
            proposer: ValidatorId(json.proposer.0),
            time_ms: number("header.", "timeMs", json.time_ms)?,
            l1_origin: L1Origin {
                number: number("header.", "l1Origin.number", json.l1_origin.number)?,
                hash: json.l1_origin.hash.0,
            },
            lanes_root: json.lanes_root.0,
            state_root: json.state_root.0,
            forced_to: json
                .forced_to
                .map(|forced_to| number("header.", "forcedTo", forced_to))
                .transpose()?,
        })
    }
}

/// [`Lane`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LaneJson {
    /// Whose transactions.
    pub rollup: u64,
    /// Sequence number of the first.
    pub first_sequence: u64,
    /// How many.
    pub count: u64,
    /// Stream head before the lane.
    pub parent_head: Hash,
    /// Stream head after it.
    pub head: Hash,
    /// Merkle root over the transactions' hashes.
    pub transactions_root: Hash,
}

impl From<&Lane> for LaneJson {
    fn from(lane: &Lane) -> Self {
        Self {
            rollup: lane.rollup.0,
            first_sequence: lane.first_sequence,
            count: lane.count,
            parent_head: Hash(lane.parent_head),
            head: Hash(lane.head),
            transactions_root: Hash(lane.transactions_root),
        }
    }
}

impl TryFrom<&LaneJson> for Lane {
    type Error = JsonError;

    fn try_from(json: &LaneJson) -> Result<Self, JsonError> {
        Ok(Self {
            rollup: RollupId(number("lane.", "rollup", json.rollup)?),
            first_sequence: number("lane.", "firstSequence", json.first_sequence)?,
            count: number("lane.", "count", json.count)?,
            parent_head: json.parent_head.0,
            head: json.head.0,
            transactions_root: json.transactions_root.0,
        })
    }
}

/// [`CommitteeSignature`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignatureJson {
    /// Index in the committee.
    pub validator: u32,
    /// ed25519 over the precommit.
    pub signature: Signature,
}

/// [`Certificate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateJson {
    /// Epoch of the committee that signed.
    pub epoch: u64,
    /// Decided height.
    pub height: u64,
    /// Round of the precommits.
    pub round: u32,
    /// The decided block's id.
    pub block: Hash,
    /// Precommits, ascending by validator.
    pub signatures: Vec<SignatureJson>,
}

impl From<&Certificate> for CertificateJson {
    fn from(certificate: &Certificate) -> Self {
        let signatures = certificate.signatures.iter().map(|entry| SignatureJson {
            validator: entry.validator,
            signature: Signature(entry.signature),
        });
        Self {
            epoch: certificate.epoch.0,
            height: certificate.height.0,
            round: certificate.round.0,
            block: Hash(certificate.block.0),
            signatures: signatures.collect(),
        }
    }
}

impl TryFrom<&CertificateJson> for Certificate {
    type Error = JsonError;

    fn try_from(json: &CertificateJson) -> Result<Self, JsonError> {
        let signatures = json.signatures.iter().map(|entry| CommitteeSignature {
            validator: entry.validator,
            signature: entry.signature.0,
        });
        Ok(Self {
            epoch: Epoch(number("certificate.", "epoch", json.epoch)?),
            height: Height(number("certificate.", "height", json.height)?),
            round: Round(json.round),
            block: BlockId(json.block.0),
            signatures: signatures.collect(),
        })
    }
}

/// [`LaneBody`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LaneBodyJson {
    /// The lane.
    pub lane: LaneJson,
    /// Its payloads, in order.
    pub transactions: Vec<Data>,
}

impl From<&LaneBody> for LaneBodyJson {
    fn from(body: &LaneBody) -> Self {
        Self {
            lane: (&body.lane).into(),
            transactions: body.transactions.iter().cloned().map(Data).collect(),
        }
    }
}

/// [`DecidedBlock`]: a whole block with its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlockJson {
    /// The block's id; must be the header's hash.
    pub id: Hash,
    /// The header.
    pub header: HeaderJson,
    /// Lanes ascending by rollup.
    pub lanes: Vec<LaneBodyJson>,
    /// What decided it.
    pub certificate: CertificateJson,
}

impl From<&DecidedBlock> for BlockJson {
    fn from(decided: &DecidedBlock) -> Self {
        let block = decided.block.block();
        Self {
            id: Hash(decided.block.id().0),
            header: (&block.header).into(),
            lanes: block.lanes.iter().map(LaneBodyJson::from).collect(),
            certificate: (&decided.certificate).into(),
        }
    }
}

impl TryFrom<&BlockJson> for DecidedBlock {
    type Error = JsonError;

    fn try_from(json: &BlockJson) -> Result<Self, JsonError> {
        let lanes = json.lanes.iter().map(|body| {
            Ok(LaneBody {
                lane: Lane::try_from(&body.lane)?,
                transactions: body.transactions.iter().map(|data| data.0.clone()).collect(),
            })
        });
        let block = Block {
            header: Header::try_from(&json.header)?,
            lanes: lanes.collect::<Result<_, JsonError>>()?,
        };
        let sealed = SealedBlock::new(&block)?;
        agree("id", &json.id, "the header's hash", &Hash(sealed.id().0))?;
        Ok(Self {
            block: Arc::new(sealed),
            certificate: Certificate::try_from(&json.certificate)?,
        })
    }
}
