//! The proof that a block is decided: precommits of more than two thirds of voting power.

use alloy_primitives::B512;
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};
use ed25519_dalek::Signature;

use crate::block::{BlockId, Height, NetworkId, Round};
use crate::committee::{Committee, Epoch};
use crate::encoding::{decode_bounded, encode_items, items_length};
use crate::limits::COMMITTEE_MAX;
use crate::signing::{VoteKind, vote_sign_bytes};

/// One validator's precommit signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct CommitteeSignature {
    /// Index in the committee.
    pub validator: u32,
    /// ed25519 over [`vote_sign_bytes`] of the precommit.
    pub signature: B512,
}

/// Precommits for one block, of one round, ascending by validator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Epoch of the committee that signed.
    pub epoch: Epoch,
    /// Decided height.
    pub height: Height,
    /// Round of the precommits.
    pub round: Round,
    /// The decided block.
    pub block: BlockId,
    /// The signatures.
    pub signatures: Vec<CommitteeSignature>,
}

/// Which check a certificate failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Of another epoch than the committee at hand.
    #[error("certificate.epoch is {certificate}, the committee is of epoch {committee}")]
    Epoch {
        /// What the certificate says.
        certificate: u64,
        /// What the committee says.
        committee: u64,
    },
    /// Not strictly ascending by validator.
    #[error("certificate.signatures[{0}] is out of order or repeated")]
    Order(usize),
    /// No such member.
    #[error("certificate.signatures[{at}] is of validator {validator}, the committee has {members}")]
    Unknown {
        /// Place in the list.
        at: usize,
        /// Index claimed.
        validator: u32,
        /// Size of the committee.
        members: usize,
    },
    /// A signature does not verify.
    #[error("certificate.signatures[{at}] of validator {validator} does not verify")]
    Signature {
        /// Place in the list.
        at: usize,
        /// Index claimed.
        validator: u32,
    },
    /// Not enough voting power.
    #[error("certificate has voting power {power}, {quorum} is needed")]
    Quorum {
        /// Power of the signers.
        power: u64,
        /// Power that decides.
        quorum: u64,
    },
}

impl Certificate {
    /// Checks that more than two thirds of `committee`'s power precommitted this block. Every signature that is
    /// present must verify (`verify_strict`), so that a certificate has no unchecked part.
    ///
    /// # Errors
    /// [`CertificateError`] names the first check that failed.
    pub fn verify(&self, network: NetworkId, committee: &Committee) -> Result<(), CertificateError> {
        if self.epoch != committee.epoch() {
            return Err(CertificateError::Epoch {
                certificate: self.epoch.0,
                committee: committee.epoch().0,
            });
        }
        let members = committee.validators();
        let mut power = 0_u64;
        for (at, entry) in self.signatures.iter().enumerate() {
            if at > 0 && entry.validator <= self.signatures[at - 1].validator {
                return Err(CertificateError::Order(at));
            }
            let member = members.get(entry.validator as usize);
            let member = member.ok_or(CertificateError::Unknown {
                at,
                validator: entry.validator,
                members: members.len(),
            })?;
            power = power.saturating_add(member.power);
        }
        if power < committee.quorum() {
            return Err(CertificateError::Quorum {
                power,
                quorum: committee.quorum(),
            });
        }
        let bytes = vote_sign_bytes(
            network,
            self.epoch,
            self.height,
            self.round,
            VoteKind::Precommit,
            Some(self.block),
        );
        for (at, entry) in self.signatures.iter().enumerate() {
            let signature = Signature::from_bytes(&entry.signature.0);
            let verified = committee
                .key(entry.validator as usize)
                .is_some_and(|key| key.verify_strict(&bytes, &signature).is_ok());
            if !verified {
                return Err(CertificateError::Signature {
                    at,
                    validator: entry.validator,
                });
            }
        }
        Ok(())
    }

    /// Voting power of the signers, by their indices in `committee`.
    pub fn power(&self, committee: &Committee) -> u64 {
        let members = committee.validators();
        let powers = self
            .signatures
            .iter()
            .filter_map(|entry| members.get(entry.validator as usize));
        powers.fold(0, |sum, member| sum.saturating_add(member.power))
    }

    fn payload_length(&self) -> usize {
        self.epoch.length()
            + self.height.length()
            + self.round.length()
            + self.block.length()
            + items_length(&self.signatures)
    }
}

impl Encodable for Certificate {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        alloy_rlp::Header {
            list: true,
            payload_length: self.payload_length(),
        }
        .encode(out);
        self.epoch.encode(out);
        self.height.encode(out);
        self.round.encode(out);
        self.block.encode(out);
        encode_items(&self.signatures, out);
    }

    fn length(&self) -> usize {
        self.payload_length() + alloy_rlp::length_of_length(self.payload_length())
    }
}

impl Decodable for Certificate {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let mut payload = alloy_rlp::Header::decode_bytes(buf, true)?;
        let epoch = Epoch::decode(&mut payload)?;
        let height = Height::decode(&mut payload)?;
        let round = Round::decode(&mut payload)?;
        let block = BlockId::decode(&mut payload)?;
        let signatures = decode_bounded(&mut payload, COMMITTEE_MAX)?;
        if !payload.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength);
        }
        Ok(Self {
            epoch,
            height,
            round,
            block,
            signatures,
        })
    }
}
