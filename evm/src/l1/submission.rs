//! A transaction as it arrives: bytes, checked as far as that can be done without the state.
//!
//! Promises that whatever the bytes are the answer is a [`Submission`] or a [`Refusal`], and that a blob transaction in the pool has
//! a sidecar whose 128 cell proofs per blob were verified. Costs about 20 ms per blob and 2 s for the setup at the first blob:
//! callers decode off the thread that owns the chain.

use std::collections::BTreeSet;
use std::sync::Arc;

use alloy_consensus::transaction::{Recovered, SignerRecoverable};
use alloy_consensus::{EthereumTxEnvelope, Transaction as _, TxEip4844, TxEip4844Variant};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_eips::eip7594::{BlobTransactionSidecarEip7594, BlobTransactionSidecarVariant};
use alloy_primitives::{Address, B256};

use super::Refusal;
use crate::chain::Transaction;
use crate::params;

/// Cell proofs of one blob. Source: EIP-7594, `CELLS_PER_EXT_BLOB`.
const PROOFS_PER_BLOB: usize = 128;

/// Most bytes of what can be a transaction: 6 blobs with their proofs, and the transaction itself.
const SUBMISSION_BYTES_MAX: usize = 6 * (131_072 + 48 + PROOFS_PER_BLOB * 49 + 16) + params::TRANSACTION_BYTES_MAX;

/// A transaction that may be offered to the pool.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Without its sidecar.
    pub transaction: Transaction,
    /// Blobs, commitments and verified proofs; of a blob transaction only.
    pub sidecar: Option<Arc<BlobTransactionSidecarEip7594>>,
    /// Bytes of both.
    pub bytes: usize,
    /// The accounts whose signatures it carries that set their code (EIP-7702), each once; of such a transaction only.
    pub authorities: Vec<Address>,
}

impl Submission {
    /// Decodes the EIP-2718 encoding of a signed transaction for chain `chain_id`, a blob transaction in its network form
    /// (EIP-7594), recovers its signer, and verifies its blobs.
    ///
    /// # Errors
    /// What real nodes refuse without looking at the state, in their words.
    pub fn decode(raw: &[u8], chain_id: u64) -> Result<Self, Refusal> {
        if raw.len() > SUBMISSION_BYTES_MAX {
            return Err(Refusal::Oversized {
                bytes: raw.len(),
                limit: SUBMISSION_BYTES_MAX,
            });
        }
        let envelope: EthereumTxEnvelope<TxEip4844Variant<BlobTransactionSidecarVariant>> =
            Decodable2718::decode_2718_exact(raw).map_err(|error| Refusal::Undecodable(error.to_string()))?;
        let (envelope, sidecar) = split(envelope)?;
        let transaction_bytes = envelope.encode_2718_len();
        if transaction_bytes > params::TRANSACTION_BYTES_MAX {
            return Err(Refusal::Oversized {
                bytes: transaction_bytes,
                limit: params::TRANSACTION_BYTES_MAX,
            });
        }
        check_chain_id(&envelope, chain_id)?;
        check_fees(&envelope)?;
        if let Some(sidecar) = &sidecar {
            check_sidecar(&envelope, sidecar)?;
        }
        let signer = envelope.recover_signer().map_err(|_| Refusal::InvalidSender)?;
        if let Some(sidecar) = &sidecar {
            // Last, because it is what costs.
            let hashes = envelope.blob_versioned_hashes().unwrap_or_default();
            verify(hashes, sidecar)?;
        }
        let transaction = Recovered::new_unchecked(envelope, signer);
        Ok(Self::new(transaction, sidecar.map(Arc::new), raw.len()))
    }

    /// A transaction that was checked, with its sidecar if it has one, of `bytes` bytes. Recovers who signed its authorizations.
    pub(crate) fn new(
        transaction: Transaction,
        sidecar: Option<Arc<BlobTransactionSidecarEip7594>>,
        bytes: usize,
    ) -> Self {
        // An authorization that nobody signed is skipped in execution: nobody's account depends on it.
        let authorizations = transaction.authorization_list().unwrap_or_default();
        let authorities: BTreeSet<Address> = authorizations
            .iter()
            .filter_map(|authorization| authorization.recover_authority().ok())
            .collect();
        Self {
            authorities: authorities.into_iter().collect(),
            transaction,
            sidecar,
            bytes,
        }
    }

    /// Hash of the transaction, which is that of its form without sidecar.
    #[must_use]
    pub fn hash(&self) -> B256 {
        *self.transaction.tx_hash()
    }
}

/// The transaction as blocks hold it, and its sidecar if it is a blob transaction.
fn split(
    envelope: EthereumTxEnvelope<TxEip4844Variant<BlobTransactionSidecarVariant>>,
) -> Result<(EthereumTxEnvelope<TxEip4844>, Option<BlobTransactionSidecarEip7594>), Refusal> {
    let sidecar = match &envelope {
        EthereumTxEnvelope::Eip4844(signed) => match signed.tx() {
            TxEip4844Variant::TxEip4844(_) => return Err(Refusal::MissingSidecar),
            TxEip4844Variant::TxEip4844WithSidecar(blob) => match &blob.sidecar {
                BlobTransactionSidecarVariant::Eip4844(_) => return Err(Refusal::OldSidecar),
                BlobTransactionSidecarVariant::Eip7594(sidecar) => Some(sidecar.clone()),
            },
        },
        _ => None,
    };
    Ok((envelope.into(), sidecar))
}

fn check_chain_id(envelope: &EthereumTxEnvelope<TxEip4844>, chain_id: u64) -> Result<(), Refusal> {
    match envelope.chain_id() {
        None => Err(Refusal::Unprotected),
        Some(have) if have != chain_id => Err(Refusal::ChainId { have, want: chain_id }),
        Some(_) => Ok(()),
    }
}

/// Relations of the fees among themselves, the least tip, and the cap on what is paid for gas in all.
fn check_fees(envelope: &EthereumTxEnvelope<TxEip4844>) -> Result<(), Refusal> {
    let (fee, gas) = (envelope.max_fee_per_gas(), envelope.gas_limit());
    let tip = envelope.max_priority_fee_per_gas().unwrap_or(fee);
    if tip > fee {
        return Err(Refusal::TipAboveFee { tip, fee });
    }
    if tip < params::TIP_MIN {
        return Err(Refusal::Underpriced { tip });
    }
    if gas > params::TRANSACTION_GAS_MAX {
        return Err(Refusal::GasCap { gas });
    }
    let paid = fee.checked_mul(u128::from(gas));
    if paid.is_none_or(|paid| paid > params::TRANSACTION_FEE_MAX) {
        return Err(Refusal::FeeCap {
            paid: paid.unwrap_or(u128::MAX),
        });
    }
    if envelope
        .max_fee_per_blob_gas()
        .is_some_and(|fee| fee < params::BLOBS.min_blob_fee)
    {
        return Err(Refusal::BlobFeeTooLow);
    }
    if envelope.is_eip7702() && envelope.authorization_list().is_none_or(<[_]>::is_empty) {
        return Err(Refusal::NoAuthorization);
    }
    Ok(())
}

/// Numbers of what is in the sidecar, before anything is computed from it.
fn check_sidecar(
    envelope: &EthereumTxEnvelope<TxEip4844>,
    sidecar: &BlobTransactionSidecarEip7594,
) -> Result<(), Refusal> {
    let hashes = envelope.blob_versioned_hashes().map_or(0, <[B256]>::len);
    let permitted = usize::try_from(params::BLOBS.max_blobs_per_tx).unwrap_or(usize::MAX);
    if hashes == 0 {
        return Err(Refusal::Blobless);
    }
    if hashes > permitted {
        return Err(Refusal::TooManyBlobs {
            have: hashes,
            permitted,
        });
    }
    let numbers = [
        ("blobs", sidecar.blobs.len(), hashes),
        ("commitments", sidecar.commitments.len(), hashes),
        ("blob proofs", sidecar.cell_proofs.len(), hashes * PROOFS_PER_BLOB),
    ];
    for (what, have, want) in numbers {
        if have != want {
            return Err(Refusal::SidecarNumber { what, have, want });
        }
    }
    Ok(())
}

fn verify(hashes: &[B256], sidecar: &BlobTransactionSidecarEip7594) -> Result<(), Refusal> {
    // No precomputation: it takes 110 MB and brings nothing measurable.
    let settings = c_kzg::ethereum_kzg_settings(0);
    let valid = sidecar.validate(hashes, settings);
    valid.map_err(|error| Refusal::Kzg(error.to_string()))
}

#[cfg(test)]
mod tests;
