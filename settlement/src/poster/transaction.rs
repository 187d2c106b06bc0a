//! A batch as a blob transaction: blobs with their EIP-7594 proofs, gas, fees, signature.
//!
//! Computing only, and a lot of it: a quarter of a second for each blob. Belongs on a blocking thread.

use alloy_consensus::{EthereumTxEnvelope, SignableTransaction, TxEip4844, TxEip4844WithSidecar};
use alloy_eips::eip2718::Encodable2718;
use alloy_eips::eip4844::Blob;
use alloy_eips::eip7594::{BlobTransactionSidecarEip7594, BlobTransactionSidecarVariant};
use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolCall;

use super::words::{Attempt, Order, PostJob};
use crate::batcher::blobs::pack;
use crate::contracts::BatchInbox;
use crate::l1::L1Key;

/// A batch's blobs with commitments and proofs, which serve every attempt.
#[derive(Debug, Clone)]
pub(super) struct Blobs {
    pub(super) batch: B256,
    sidecar: BlobTransactionSidecarEip7594,
}

impl Blobs {
    /// Computes them. The first use in a process loads the KZG setup, which takes seconds.
    pub(super) fn of(job: &PostJob) -> Result<Self, String> {
        let packed = pack(&job.payload).map_err(|error| error.to_string())?;
        let blobs: Result<Vec<Blob>, _> = packed.iter().map(|blob| Blob::try_from(blob.as_slice())).collect();
        let blobs = blobs.map_err(|error| error.to_string())?;
        // Without precomputed tables: they would take 110 MB and save nothing here.
        let settings = c_kzg::ethereum_kzg_settings(0);
        let sidecar = BlobTransactionSidecarEip7594::try_from_blobs_with_settings(blobs, settings);
        Ok(Self {
            batch: job.hash,
            sidecar: sidecar.map_err(|error| error.to_string())?,
        })
    }

    pub(super) fn versioned_hashes(&self) -> Vec<B256> {
        self.sidecar.versioned_hashes().collect()
    }
}

/// What the inbox is called with.
pub(super) fn calldata(job: &PostJob) -> Bytes {
    let call = BatchInbox::postCall {
        header: job.header.clone(),
        certificate: job.certificate.clone(),
    };
    call.abi_encode().into()
}

/// Signs an order. Returns the attempt and its bytes with the sidecar.
pub(super) fn sign(order: &Order, blobs: Blobs, chain_id: u64, inbox: Address, key: &L1Key) -> (Attempt, Bytes) {
    let transaction = TxEip4844 {
        chain_id,
        nonce: order.nonce,
        gas_limit: order.job.gas_limit(),
        max_fee_per_gas: order.fees.max_fee,
        max_priority_fee_per_gas: order.fees.tip,
        max_fee_per_blob_gas: order.fees.blob_fee,
        blob_versioned_hashes: blobs.versioned_hashes(),
        to: inbox,
        input: calldata(&order.job),
        ..TxEip4844::default()
    };
    let signature = key.sign(&transaction.signature_hash());
    let signed = transaction.into_signed(signature);
    let hash = *signed.hash();
    let sidecar = BlobTransactionSidecarVariant::Eip7594(blobs.sidecar);
    let signed = signed.map(|transaction| transaction.with_sidecar(sidecar));
    let envelope: EthereumTxEnvelope<TxEip4844WithSidecar<BlobTransactionSidecarVariant>> = signed.into();
    let attempt = Attempt {
        number: order.job.number,
        batch: order.job.hash,
        nonce: order.nonce,
        fees: order.fees,
        hash,
    };
    (attempt, envelope.encoded_2718().into())
}
