//! What members tell each other about batches: an offer of a batch's bytes, and attestations of it.
//!
//! Promises one encoding for each. Leaves to others: who the signer is and whether it may sign (`settlement`), and the
//! batch itself ([`Batch`](crate::Batch)).

use alloy_primitives::{B256, B512, Bytes};
use alloy_rlp::{RlpDecodable, RlpEncodable};

use crate::batch::{BatchDomain, attestation_digest};
use crate::committee::Epoch;

/// Largest payload that an offer carries, in bytes: what six blobs hold of 31 bytes a field element, and its length.
/// Source: EIP-4844 and EIP-7594.
pub const OFFER_PAYLOAD_BYTES_MAX: usize = 6 * 4096 * 31 - 4;

/// A member's signature of one batch with one encoding of its data.
///
/// Two attestations of one signer, epoch and number contradict each other if their `batch` differs. Other `data` is no
/// contradiction: there are many encodings of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Attestation {
    /// Epoch of the batch.
    pub epoch: Epoch,
    /// Its number.
    pub number: u64,
    /// [`Batch::hash`](crate::Batch::hash).
    pub batch: B256,
    /// What its data hash to: [`blob_data`](crate::blob_data) or [`calldata_data`](crate::calldata_data).
    pub data: B256,
    /// secp256k1, as EIP-2098 packs it: r, then s with the parity of y in its highest bit.
    pub signature: B512,
}

impl Attestation {
    /// What its signature signs: EIP-712's digest of `Attestation(epoch, number, batch, data)`.
    pub fn digest(&self, domain: &BatchDomain) -> B256 {
        attestation_digest(domain, self.epoch, self.number, self.batch, self.data)
    }
}

/// A batch's bytes, with the attestation of the member that made them.
#[derive(Debug, Clone, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Offer {
    /// Its maker's.
    pub attestation: Attestation,
    /// The batch's payload, as it is to be posted.
    pub payload: Bytes,
}
