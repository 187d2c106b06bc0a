//! What RPC methods take and answer beyond the mirrors of `fusion-types`.
//!
//! Parameters decode from a list by position as well as from an object by name.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::{CertificateJson, CursorJson, Data, Hash, HeaderJson, PostedJson, ReceiptJson, RollupBlockJson};

/// A timeout in milliseconds: a JSON number, or the `0x` hex quantity that some wallets send (EIP-7966).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Timeout(pub u64);

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Timeout;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("milliseconds as a whole number or as 0x hex digits")
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Timeout, E> {
                Ok(Timeout(value))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timeout, E> {
                let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
                let value = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
                value
                    .map(Timeout)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Parameters of `fusion_sendTransactionSync` at `/`. On `/rollup/<id>` the rollup is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SendSyncParams {
    /// The rollup.
    pub rollup: u64,
    /// The raw transaction.
    pub transaction: Data,
    /// How long to wait for the final receipt. The node has a default and a maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
}

/// How sure a transaction's order is, as one node knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReceiptStatus {
    /// Neither in the log up to `height` nor waiting at this node, which is not behind its peers.
    Unknown,
    /// Not found, but this node is `lag` blocks behind its peers: ask again, or ask another.
    Behind,
    /// Waiting to be ordered.
    Pending,
    /// Decided: the receipt is complete.
    Final,
    /// Its block is in a batch on L1.
    Posted,
    /// L1 has finalized that batch.
    Settled,
}

/// Answer of `fusion_getReceipt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReceiptStatusJson {
    /// What this node knows.
    pub status: ReceiptStatus,
    /// Height of this node's log when it answered.
    pub height: u64,
    /// Blocks that this node is behind the best of its peers.
    pub lag: u64,
    /// The receipt, when final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<ReceiptJson>,
    /// Its batch on L1, when posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settlement: Option<Box<PostedJson>>,
}

/// Answer of `fusion_getStream`: blocks that continue the stream at the asked place, maybe none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamJson {
    /// Blocks with a lane of the rollup, in order, without gap.
    pub blocks: Vec<RollupBlockJson>,
    /// Where to go on.
    pub next: CursorJson,
    /// Height of this node's log when it answered.
    pub height: u64,
}

/// Parameters of the `heads` subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeadsParams {
    /// Whether each item lists the hashes of the block's transactions.
    #[serde(default)]
    pub include_transactions: bool,
    /// First height to send; the next one to be decided if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
}

/// The hashes of one lane: an item of the `receipts` subscription, and part of one of `heads`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LaneHashesJson {
    /// Height of the block.
    pub height: u64,
    /// The rollup.
    pub rollup: u64,
    /// Sequence number of the first hash.
    pub first_sequence: u64,
    /// Hashes of the transactions, in order.
    pub hashes: Vec<Hash>,
}

/// An item of the `heads` subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeadJson {
    /// The decided block's id.
    pub id: Hash,
    /// Its header.
    pub header: HeaderJson,
    /// What decided it.
    pub certificate: CertificateJson,
    /// Its lanes, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<Vec<LaneHashesJson>>,
}

/// Parameters of the `receipts` subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReceiptsParams {
    /// The rollup.
    pub rollup: u64,
    /// Transactions to wait for: each gives one [`ReceiptJson`], after the last the subscription ends.
    /// Left out: every lane of the rollup from now on, as [`LaneHashesJson`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<Vec<Hash>>,
}

/// Answer of `fusion_status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusJson {
    /// The node's name in its configuration.
    pub name: String,
    /// Version of its program.
    pub version: String,
    /// The network's id.
    pub network: Hash,
    /// The network's name.
    pub network_name: String,
    /// The node's network key.
    pub peer: Hash,
    /// Its consensus key, if it is a validator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validator: Option<Hash>,
    /// `validator` or `follower`.
    pub role: String,
    /// Whether it votes now. A validator in quarantine, or one that is catching up, does not.
    pub voting: bool,
    /// The height that it follows without voting, if it is in quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<u64>,
    /// Height of its last decided block.
    pub height: u64,
    /// That block's id.
    pub tip: Hash,
    /// That block's time, Unix milliseconds.
    pub time_ms: u64,
    /// Round in which it is now.
    pub round: u32,
    /// Step of that round.
    pub step: String,
    /// Blocks that it is behind the best of its peers.
    pub lag: u64,
    /// Peers connected.
    pub peers: u64,
    /// Voting power connected, its own included.
    pub power_connected: u64,
    /// Voting power of the whole committee.
    pub power_total: u64,
    /// Voting power that decides.
    pub quorum: u64,
    /// Transactions waiting.
    pub pool_transactions: u64,
    /// Their bytes.
    pub pool_bytes: u64,
    /// Pieces of evidence kept.
    pub evidence: u64,
    /// Since when it runs, Unix milliseconds.
    pub started_ms: u64,
}

/// One peer in the answer of `fusion_peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerJson {
    /// Its network key.
    pub peer: Hash,
    /// Index in the committee, if it is a validator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validator: Option<u32>,
    /// Its name in the genesis, or empty.
    pub name: String,
    /// The address in use, or the one that is dialled.
    pub address: String,
    /// Whether it is connected now.
    pub connected: bool,
    /// Height that it last said to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// Round-trip time in microseconds, when connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
}

/// Answer of `fusion_peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeersJson {
    /// Every known peer, validators first.
    pub peers: Vec<PeerJson>,
}

/// One piece of evidence in the answer of `fusion_evidence`: two signed messages that contradict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceJson {
    /// `votes` or `proposals`.
    pub kind: String,
    /// Who signed both.
    pub validator: Hash,
    /// At this height.
    pub height: u64,
    /// In this round.
    pub round: u32,
    /// The message that came first: its canonical encoding.
    pub first: Data,
    /// The one that contradicts it.
    pub second: Data,
}

/// `data` of an error: its stable name, and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorData {
    /// Stable name of the error, in camelCase.
    pub name: String,
    /// The transaction that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<Hash>,
    /// Numbers that the message speaks of.
    #[serde(default, flatten)]
    pub numbers: std::collections::BTreeMap<String, serde_json::Value>,
}
