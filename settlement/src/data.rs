//! What a payload's blobs hash to on L1.

use alloy_eips::eip4844::kzg_to_versioned_hash;
use alloy_primitives::B256;
use fusion_types::blob_data;

use crate::batcher::blobs::{self, BlobError};

/// Why a payload has no hash on L1.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It does not fit.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The KZG library.
    #[error("kzg: {0}")]
    Kzg(String),
}

/// Versioned hashes of the payload's blobs, in order. About 40 ms of a processor for each; two seconds more the first time,
/// for the trusted setup.
///
/// # Errors
/// [`DataError`] when the payload fits no transaction's blobs.
pub fn versioned_hashes(payload: &[u8]) -> Result<Vec<B256>, DataError> {
    let settings = c_kzg::ethereum_kzg_settings(0);
    let commit = |blob: Vec<u8>| {
        let kzg = |error: c_kzg::Error| DataError::Kzg(format!("{error:?}"));
        let blob = c_kzg::Blob::from_bytes(&blob).map_err(kzg)?;
        let commitment = settings.blob_to_kzg_commitment(&blob).map_err(kzg)?;
        Ok(kzg_to_versioned_hash(commitment.to_bytes().as_slice()))
    };
    blobs::pack(payload)?.into_iter().map(commit).collect()
}

/// [`blob_data`] of the payload's blobs.
///
/// # Errors
/// As [`versioned_hashes`].
pub fn blob_data_of(payload: &[u8]) -> Result<B256, DataError> {
    Ok(blob_data(&versioned_hashes(payload)?))
}
