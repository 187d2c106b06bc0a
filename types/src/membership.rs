//! The proof that a batch on L1 holds a transaction: the rung above a final receipt.

use alloy_primitives::B256;

use crate::batch::{Batch, Namespace};
use crate::merkle::{MerkleProof, leaf_hash};
use crate::receipt::Receipt;
use crate::transaction::TxHash;

/// That a batch has a transaction at a place of its rollup's stream. `BatchInbox.verifyTransaction` takes the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// What the batch holds of the rollup.
    pub namespace: Namespace,
    /// From there to [`Batch::namespaces`].
    pub namespace_proof: MerkleProof,
    /// From the transaction's hash to [`Namespace::transactions_root`].
    pub transaction_proof: MerkleProof,
}

/// Why a batch does not hold what a receipt speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Of another network.
    #[error("batch.network is not the receipt's")]
    Network,
    /// Of other heights.
    #[error("height {height} is not among the batch's, {first} to {last}")]
    Height {
        /// The receipt's.
        height: u64,
        /// The batch's first.
        first: u64,
        /// The batch's last.
        last: u64,
    },
    /// Of another rollup.
    #[error("namespace.rollup is not the receipt's")]
    Rollup,
    /// At another place.
    #[error("the proof is of sequence number {proved}, the receipt of {sequence}")]
    Sequence {
        /// What the proof says.
        proved: u64,
        /// The receipt's.
        sequence: u64,
    },
    /// The proofs do not lead to the batch.
    #[error("the proofs do not lead from the transaction to batch.namespaces")]
    Proof,
}

impl Membership {
    /// Whether it proves that `transaction` is in a batch with the root `namespaces`.
    pub fn proves(&self, namespaces: B256, transaction: TxHash) -> bool {
        let leaf = leaf_hash(transaction.as_slice());
        self.transaction_proof.count == self.namespace.count
            && self.namespace_proof.proves(namespaces, self.namespace.leaf())
            && self.transaction_proof.proves(self.namespace.transactions_root, leaf)
    }

    /// Whether `batch` holds the transaction of `receipt`, whose own proofs are not looked at here.
    ///
    /// # Errors
    /// [`MembershipError`] names the first check that failed.
    pub fn verify(&self, batch: &Batch, receipt: &Receipt) -> Result<(), MembershipError> {
        let header = &receipt.header;
        if batch.network != header.network {
            return Err(MembershipError::Network);
        }
        if header.height < batch.first_height || header.height > batch.last_height {
            return Err(MembershipError::Height {
                height: header.height.0,
                first: batch.first_height.0,
                last: batch.last_height.0,
            });
        }
        if self.namespace.rollup != receipt.lane.rollup {
            return Err(MembershipError::Rollup);
        }
        let proved = self
            .namespace
            .first_sequence
            .saturating_add(self.transaction_proof.index);
        if proved != receipt.sequence {
            let sequence = receipt.sequence;
            return Err(MembershipError::Sequence { proved, sequence });
        }
        if self.proves(batch.namespaces, receipt.transaction) {
            Ok(())
        } else {
            Err(MembershipError::Proof)
        }
    }
}
