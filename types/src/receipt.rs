//! The final preconfirmation: a decided block holds this transaction at this place of its stream.
//!
//! Verifiable offline with the network's id and the committee alone. There is one kind of receipt, and it is final.

use alloy_rlp::{RlpDecodable, RlpEncodable};

use crate::block::{Block, Header, Height, Lane, NetworkId};
use crate::certificate::{Certificate, CertificateError};
use crate::committee::{Committee, Epoch};
use crate::merkle::{MerkleProof, MerkleTree, leaf_hash, merkle_proof};
use crate::sealed::DecidedBlock;
use crate::transaction::{RollupId, TxHash};

/// A proof from a transaction's hash up to the committee's signatures.
#[derive(Debug, Clone, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Receipt {
    /// Hash of the transaction's payload.
    pub transaction: TxHash,
    /// Its place in its rollup's stream.
    pub sequence: u64,
    /// Its lane.
    pub lane: Lane,
    /// From the transaction's hash to `lane.transactions_root`.
    pub transaction_proof: MerkleProof,
    /// From the lane to `header.lanes_root`.
    pub lane_proof: MerkleProof,
    /// Header of the decided block.
    pub header: Header,
    /// Precommits for that block.
    pub certificate: Certificate,
}

/// Which check a receipt failed, in the words of its fields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// A header of another network.
    #[error("header.network is {header}, expected {expected}")]
    Network {
        /// What the header says.
        header: NetworkId,
        /// What the verifier trusts.
        expected: NetworkId,
    },
    /// A header of another epoch.
    #[error("header.epoch is {header}, the committee is of epoch {committee}")]
    Epoch {
        /// What the header says.
        header: u64,
        /// What the committee says.
        committee: u64,
    },
    /// A header that names another committee.
    #[error("header.committee is not the hash of the committee")]
    Committee,
    /// Certificate and header are of different blocks.
    #[error("certificate.block is not the hash of the header")]
    Block,
    /// Certificate and header are of different heights.
    #[error("certificate.height is {certificate}, header.height is {header}")]
    Height {
        /// What the certificate says.
        certificate: Height,
        /// What the header says.
        header: Height,
    },
    /// The certificate itself.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The lane is not under the header.
    #[error("lane_proof does not lead from the lane to header.lanes_root")]
    LaneProof,
    /// The lane's head does not follow from its fields.
    #[error("lane.head does not follow from the lane's fields and the height")]
    LaneHead,
    /// The transaction is not under the lane.
    #[error("transaction_proof does not lead from the transaction to lane.transactions_root")]
    TransactionProof,
    /// The tree's size and the lane's count differ.
    #[error("transaction_proof.count is {proof}, lane.count is {lane}")]
    Count {
        /// Leaves of the proof's tree.
        proof: u64,
        /// Transactions of the lane.
        lane: u64,
    },
    /// The sequence number does not follow from the place.
    #[error("sequence is {receipt}, the proof puts the transaction at {proved}")]
    Sequence {
        /// What the receipt says.
        receipt: u64,
        /// What lane and proof say.
        proved: u64,
    },
}

impl Receipt {
    /// The receipt of transaction `index` of `rollup` in a decided `block`, or `None` if there is no such place.
    /// Hashes the whole lane: for many receipts of one lane, or a sealed block at hand, see [`LaneReceipts`].
    pub fn of(block: &Block, certificate: &Certificate, rollup: RollupId, index: usize) -> Option<Self> {
        let hashes = block.lane(rollup)?.hashes();
        LaneReceipts::new(block, certificate, rollup, hashes)?.receipt(index)
    }

    /// Checks everything that the receipt claims, from the transaction up to the committee's signatures.
    ///
    /// # Errors
    /// [`ReceiptError`] names the first check that failed.
    pub fn verify(&self, network: NetworkId, committee: &Committee) -> Result<(), ReceiptError> {
        verify_header(&self.header, &self.certificate, network, committee)?;
        if !self.lane_proof.proves(self.header.lanes_root, self.lane.leaf()) {
            return Err(ReceiptError::LaneProof);
        }
        if self.lane.head != self.lane.computed_head(self.header.height) {
            return Err(ReceiptError::LaneHead);
        }
        if !self
            .transaction_proof
            .proves(self.lane.transactions_root, leaf_hash(self.transaction.as_slice()))
        {
            return Err(ReceiptError::TransactionProof);
        }
        if self.transaction_proof.count != self.lane.count {
            return Err(ReceiptError::Count {
                proof: self.transaction_proof.count,
                lane: self.lane.count,
            });
        }
        let proved = self.lane.first_sequence.saturating_add(self.transaction_proof.index);
        if self.sequence != proved || self.lane.next_sequence().is_none() {
            return Err(ReceiptError::Sequence {
                receipt: self.sequence,
                proved,
            });
        }
        Ok(())
    }
}

/// All receipts of one lane of a decided block: its trees are built once, a receipt then costs O(log n).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneReceipts {
    header: Header,
    certificate: Certificate,
    lane: Lane,
    lane_proof: MerkleProof,
    hashes: Vec<TxHash>,
    tree: MerkleTree,
}

impl LaneReceipts {
    /// The receipts of `rollup`'s lane, or `None` if it has none in this block. Hashes no payload.
    pub fn of(decided: &DecidedBlock, rollup: RollupId) -> Option<Self> {
        let (_, hashes) = decided.block.lanes().find(|(body, _)| body.lane.rollup == rollup)?;
        Self::new(decided.block.block(), &decided.certificate, rollup, hashes.to_vec())
    }

    fn new(block: &Block, certificate: &Certificate, rollup: RollupId, hashes: Vec<TxHash>) -> Option<Self> {
        let found = block.lanes.binary_search_by_key(&rollup, |body| body.lane.rollup);
        let lane_at = found.ok()?;
        let leaves = hashes.iter().map(|hash| leaf_hash(hash.as_slice()));
        Some(Self {
            header: block.header.clone(),
            certificate: certificate.clone(),
            lane: block.lanes[lane_at].lane.clone(),
            lane_proof: merkle_proof(&block.lane_leaves(), lane_at)?,
            tree: MerkleTree::new(leaves.collect()),
            hashes,
        })
    }

    /// The receipt of the transaction at `index` of the lane, or `None` beyond its end.
    pub fn receipt(&self, index: usize) -> Option<Receipt> {
        Some(Receipt {
            transaction: *self.hashes.get(index)?,
            sequence: self.lane.first_sequence.checked_add(index as u64)?,
            lane: self.lane.clone(),
            transaction_proof: self.tree.proof(index)?,
            lane_proof: self.lane_proof.clone(),
            header: self.header.clone(),
            certificate: self.certificate.clone(),
        })
    }
}

/// Checks that `committee` decided the block of `header` on `network`.
///
/// # Errors
/// [`ReceiptError`] names the first check that failed.
pub(crate) fn verify_header(
    header: &Header,
    certificate: &Certificate,
    network: NetworkId,
    committee: &Committee,
) -> Result<(), ReceiptError> {
    if header.network != network {
        return Err(ReceiptError::Network {
            header: header.network,
            expected: network,
        });
    }
    let Epoch(epoch) = header.epoch;
    if header.epoch != committee.epoch() {
        return Err(ReceiptError::Epoch {
            header: epoch,
            committee: committee.epoch().0,
        });
    }
    if header.committee != committee.hash() {
        return Err(ReceiptError::Committee);
    }
    if certificate.height != header.height {
        return Err(ReceiptError::Height {
            certificate: certificate.height,
            header: header.height,
        });
    }
    if certificate.block != header.id() {
        return Err(ReceiptError::Block);
    }
    certificate.verify(network, committee)?;
    Ok(())
}
