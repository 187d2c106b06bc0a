//! A transaction's batch on L1 as JSON: what `fusion_getReceipt` adds when a receipt is more than final.

use fusion_types::{Batch, BlockId, Epoch, Height, L1Origin, Membership, Namespace, NetworkId, RollupId};
use serde::{Deserialize, Serialize};

use super::{Account, Hash, JsonError, L1OriginJson, MerkleProofJson, number};

/// Where a batch stands on L1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct L1PlaceJson {
    /// EIP-155 id of the L1.
    pub chain_id: u64,
    /// The inbox.
    pub inbox: Account,
    /// The transaction that posted it.
    pub transaction: Hash,
    /// Number of the block with that transaction.
    pub block: u64,
    /// Hash of that block.
    pub block_hash: Hash,
}

/// [`Batch`] without its network, which is the receipt's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchJson {
    /// Its number.
    pub number: u64,
    /// Its epoch.
    pub epoch: u64,
    /// Height of its first block.
    pub first_height: u64,
    /// Height of its last block.
    pub last_height: u64,
    /// Hash of the batch before.
    pub parent: Hash,
    /// Id of its last block.
    pub last_block: Hash,
    /// Root over what it holds of each rollup.
    pub namespaces: Hash,
    /// L1 origin of its last block.
    pub l1_origin: L1OriginJson,
    /// Forced transactions up to its last block.
    pub forced_to: u64,
    /// The forced queue's accumulator there, if the batch moves it.
    pub forced_hash: Hash,
    /// Hash of the next committee, in the last batch of an epoch.
    pub next_committee: Hash,
    /// Root over the evidence in it.
    pub faults: Hash,
}

impl From<&Batch> for BatchJson {
    fn from(batch: &Batch) -> Self {
        Self {
            number: batch.number,
            epoch: batch.epoch.0,
            first_height: batch.first_height.0,
            last_height: batch.last_height.0,
            parent: Hash(batch.parent),
            last_block: Hash(batch.last_block.0),
            namespaces: Hash(batch.namespaces),
            l1_origin: L1OriginJson {
                number: batch.l1_origin.number,
                hash: Hash(batch.l1_origin.hash),
            },
            forced_to: batch.forced_to,
            forced_hash: Hash(batch.forced_hash),
            next_committee: Hash(batch.next_committee),
            faults: Hash(batch.faults),
        }
    }
}

impl BatchJson {
    /// The batch of a network.
    ///
    /// # Errors
    /// [`JsonError::Number`] for a number that JSON does not carry exactly.
    pub fn decode(&self, network: NetworkId) -> Result<Batch, JsonError> {
        let path = "settlement.batch.";
        Ok(Batch {
            network,
            number: number(path, "number", self.number)?,
            epoch: Epoch(number(path, "epoch", self.epoch)?),
            first_height: Height(number(path, "firstHeight", self.first_height)?),
            last_height: Height(number(path, "lastHeight", self.last_height)?),
            parent: self.parent.0,
            last_block: BlockId(self.last_block.0),
            namespaces: self.namespaces.0,
            l1_origin: L1Origin {
                number: number(path, "l1Origin.number", self.l1_origin.number)?,
                hash: self.l1_origin.hash.0,
            },
            forced_to: number(path, "forcedTo", self.forced_to)?,
            forced_hash: self.forced_hash.0,
            next_committee: self.next_committee.0,
            faults: self.faults.0,
        })
    }
}

/// [`Namespace`]: what a batch holds of one rollup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamespaceJson {
    /// The rollup.
    pub rollup: u64,
    /// Sequence number of its first transaction there.
    pub first_sequence: u64,
    /// How many.
    pub count: u64,
    /// Stream head after the batch.
    pub head: Hash,
    /// Root over the transactions' hashes.
    pub transactions_root: Hash,
}

/// A transaction's batch: where it is on L1, and the proof that the transaction is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PostedJson {
    /// Where the batch is.
    pub l1: L1PlaceJson,
    /// The batch.
    pub batch: BatchJson,
    /// What it holds of the rollup.
    pub namespace: NamespaceJson,
    /// From there to the batch.
    pub namespace_proof: MerkleProofJson,
    /// From the transaction to what it holds of the rollup.
    pub transaction_proof: MerkleProofJson,
}

impl PostedJson {
    /// The JSON of a batch and a membership.
    pub fn new(l1: L1PlaceJson, batch: &Batch, membership: &Membership) -> Self {
        let namespace = &membership.namespace;
        Self {
            l1,
            batch: batch.into(),
            namespace: NamespaceJson {
                rollup: namespace.rollup.0,
                first_sequence: namespace.first_sequence,
                count: namespace.count,
                head: Hash(namespace.head),
                transactions_root: Hash(namespace.transactions_root),
            },
            namespace_proof: (&membership.namespace_proof).into(),
            transaction_proof: (&membership.transaction_proof).into(),
        }
    }

    /// The proof in it.
    ///
    /// # Errors
    /// [`JsonError::Number`] for a number that JSON does not carry exactly.
    pub fn membership(&self) -> Result<Membership, JsonError> {
        let path = "settlement.namespace.";
        Ok(Membership {
            namespace: Namespace {
                rollup: RollupId(number(path, "rollup", self.namespace.rollup)?),
                first_sequence: number(path, "firstSequence", self.namespace.first_sequence)?,
                count: number(path, "count", self.namespace.count)?,
                head: self.namespace.head.0,
                transactions_root: self.namespace.transactions_root.0,
            },
            namespace_proof: self.namespace_proof.decode("settlement.namespaceProof.")?,
            transaction_proof: self.transaction_proof.decode("settlement.transactionProof.")?,
        })
    }
}
