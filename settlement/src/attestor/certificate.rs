//! Signatures of a quorum as the verifier on L1 takes them, and who signed an attestation.

use alloy_consensus::crypto::secp256k1::recover_signer;
use alloy_primitives::{Address, B512, Bytes, Signature, U256};
use fusion_types::{Attestation, BatchDomain};

/// Bits of a byte of the certificate's bitmap.
const BYTE_BITS: usize = 8;

/// How many of `members` must sign: `n − ⌊(n − 1) / 3⌋`. DESIGN.md §3.
pub const fn quorum(members: usize) -> usize {
    members - members.saturating_sub(1) / 3
}

/// The certificate of scheme 1: a bitmap of the members, one big-endian number with bit i for member i, then the signatures
/// of those, lowest member first. Takes the first quorum of what is given, ascending by member; `None` if there are too few.
pub fn certificate(members: usize, signatures: impl Iterator<Item = (usize, B512)>) -> Option<Bytes> {
    let quorum = quorum(members);
    let first: Vec<(usize, B512)> = signatures.take(quorum).collect();
    if quorum == 0 || first.len() < quorum {
        return None;
    }
    let mut bitmap = vec![0; members.div_ceil(BYTE_BITS)];
    let last = bitmap.len() - 1;
    for (member, _) in &first {
        *bitmap.get_mut(last.checked_sub(member / BYTE_BITS)?)? |= 1 << (member % BYTE_BITS);
    }
    let signatures = first.iter().flat_map(|(_, signature)| signature.0);
    Some(bitmap.into_iter().chain(signatures).collect())
}

/// Who signed an attestation. `None` if nobody can have: a signature that does not recover, or with a high s, which L1
/// does not take.
pub fn recover(attestation: &Attestation, domain: &BatchDomain) -> Option<Address> {
    let (r, vs) = attestation.signature.split_at(32);
    let parity = vs[0] & 0x80 != 0;
    let mut s = [0; 32];
    s.copy_from_slice(vs);
    s[0] &= 0x7f;
    let signature = Signature::new(U256::from_be_slice(r), U256::from_be_bytes(s), parity);
    if signature.normalize_s().is_some() {
        return None;
    }
    recover_signer(&signature, attestation.digest(domain)).ok()
}

/// A signature as EIP-2098 packs it.
pub fn pack(signature: &Signature) -> B512 {
    let mut packed = [0; 64];
    packed[..32].copy_from_slice(&signature.r().to_be_bytes::<32>());
    packed[32..].copy_from_slice(&signature.s().to_be_bytes::<32>());
    packed[32] |= u8::from(signature.v()) << 7;
    B512::from(packed)
}
