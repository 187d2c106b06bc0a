//! Votes and proposals as they are signed, sent and kept.
//!
//! A signature is over `fusion_types::{vote_sign_bytes, proposal_sign_bytes}`: fixed layout, domain-separated, bound
//! to network, epoch, height, round and kind. Verification is ed25519 `verify_strict`. A [`Verified`] value is
//! the proof that its signature was checked (or made) here, once; nothing else enters the consensus core.

use alloy_primitives::{B256, B512};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use fusion_types::{
    BlockId, Committee, Epoch, Height, NetworkId, Round, ValidatorId, VoteKind, proposal_sign_bytes, vote_sign_bytes,
};

/// A prevote or precommit with its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedVote {
    /// Height that it is for.
    pub height: Height,
    /// Round that it is for.
    pub round: Round,
    /// Prevote or precommit.
    pub kind: VoteKind,
    /// The block, or nothing for nil.
    pub block: Option<BlockId>,
    /// Who votes.
    pub validator: ValidatorId,
    /// ed25519 signature by that validator's consensus key.
    pub signature: B512,
}

/// A proposal with its signature. The block's body travels apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedProposal {
    /// Height that it is for.
    pub height: Height,
    /// Round that it is for.
    pub round: Round,
    /// Round of the polka that made the proposer propose this block again; nothing for a fresh block.
    pub valid_round: Option<Round>,
    /// The proposed block.
    pub block: BlockId,
    /// Who proposes.
    pub proposer: ValidatorId,
    /// ed25519 signature by that validator's consensus key.
    pub signature: B512,
}

/// A message whose signature is known to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verified<T>(T);

impl<T> Verified<T> {
    pub(crate) fn get(&self) -> &T {
        &self.0
    }

    /// A message that this node signed itself, or has verified before.
    pub(crate) fn known(message: T) -> Self {
        Self(message)
    }

    /// A certificate whose votes are all verified.
    pub(crate) fn certificate(certificate: T, _votes: &[Verified<SignedVote>]) -> Self {
        Self(certificate)
    }
}

impl SignedVote {
    /// What the signature covers.
    pub fn sign_bytes(&self, network: NetworkId, epoch: Epoch) -> [u8; 118] {
        vote_sign_bytes(network, epoch, self.height, self.round, self.kind, self.block)
    }

    /// Whether a member of `committee` signed this vote.
    pub fn verify(&self, network: NetworkId, committee: &Committee) -> bool {
        let bytes = self.sign_bytes(network, committee.epoch());
        verify(committee, self.validator, &bytes, &self.signature)
    }

    pub(crate) fn verified(self, network: NetworkId, committee: &Committee) -> Option<Verified<Self>> {
        self.verify(network, committee).then_some(Verified(self))
    }
}

impl SignedProposal {
    /// What the signature covers.
    pub fn sign_bytes(&self, network: NetworkId, epoch: Epoch) -> [u8; 121] {
        proposal_sign_bytes(network, epoch, self.height, self.round, self.valid_round, self.block)
    }

    /// Whether a member of `committee` signed this proposal. Whether it was its turn is not checked here.
    pub fn verify(&self, network: NetworkId, committee: &Committee) -> bool {
        let bytes = self.sign_bytes(network, committee.epoch());
        verify(committee, self.proposer, &bytes, &self.signature)
    }

    pub(crate) fn verified(self, network: NetworkId, committee: &Committee) -> Option<Verified<Self>> {
        self.verify(network, committee).then_some(Verified(self))
    }
}

fn verify(committee: &Committee, id: ValidatorId, bytes: &[u8], signature: &B512) -> bool {
    let key = committee.index_of(id).and_then(|index| committee.key(index));
    key.is_some_and(|key| key.verify_strict(bytes, &Signature::from_bytes(&signature.0)).is_ok())
}

/// This node's consensus key on one network.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    key: SigningKey,
    id: ValidatorId,
}

impl Signer {
    pub(crate) fn new(key: SigningKey) -> Self {
        let id = ValidatorId(B256::from(key.verifying_key().to_bytes()));
        Self { key, id }
    }

    pub(crate) fn id(&self) -> ValidatorId {
        self.id
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> B512 {
        B512::from(self.key.sign(bytes).to_bytes())
    }
}

/// A vote's kind as it is encoded: 1 prevote, 2 precommit, as in the signed bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind(pub(crate) VoteKind);

impl Encodable for Kind {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        let tag: u8 = match self.0 {
            VoteKind::Prevote => 1,
            VoteKind::Precommit => 2,
        };
        tag.encode(out);
    }

    fn length(&self) -> usize {
        1
    }
}

impl Decodable for Kind {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        match u8::decode(buf)? {
            1 => Ok(Self(VoteKind::Prevote)),
            2 => Ok(Self(VoteKind::Precommit)),
            _ => Err(alloy_rlp::Error::Custom("vote kind is neither 1 nor 2")),
        }
    }
}

/// A block or nil: the empty string is nil.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OptionalBlock(pub(crate) Option<BlockId>);

impl Encodable for OptionalBlock {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        match self.0 {
            Some(id) => id.encode(out),
            None => out.put_u8(alloy_rlp::EMPTY_STRING_CODE),
        }
    }

    fn length(&self) -> usize {
        self.0.map_or(1, |id| id.length())
    }
}

impl Decodable for OptionalBlock {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        match buf.first() {
            Some(&alloy_rlp::EMPTY_STRING_CODE) => {
                *buf = &buf[1..];
                Ok(Self(None))
            }
            _ => BlockId::decode(buf).map(|id| Self(Some(id))),
        }
    }
}

/// A round or none: 0 is none, otherwise the round plus one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OptionalRound(pub(crate) Option<Round>);

impl Encodable for OptionalRound {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        self.0.map_or(0, |round| u64::from(round.0) + 1).encode(out);
    }

    fn length(&self) -> usize {
        self.0.map_or(0, |round| u64::from(round.0) + 1).length()
    }
}

impl Decodable for OptionalRound {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let Some(round) = u64::decode(buf)?.checked_sub(1) else {
            return Ok(Self(None));
        };
        let round = u32::try_from(round).map_err(|_| alloy_rlp::Error::Overflow)?;
        Ok(Self(Some(Round(round))))
    }
}

#[derive(RlpEncodable, RlpDecodable)]
struct VoteFields {
    height: Height,
    round: Round,
    kind: Kind,
    block: OptionalBlock,
    validator: ValidatorId,
    signature: B512,
}

impl From<&SignedVote> for VoteFields {
    fn from(vote: &SignedVote) -> Self {
        Self {
            height: vote.height,
            round: vote.round,
            kind: Kind(vote.kind),
            block: OptionalBlock(vote.block),
            validator: vote.validator,
            signature: vote.signature,
        }
    }
}

impl Encodable for SignedVote {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        VoteFields::from(self).encode(out);
    }

    fn length(&self) -> usize {
        VoteFields::from(self).length()
    }
}

impl Decodable for SignedVote {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let fields = VoteFields::decode(buf)?;
        Ok(Self {
            height: fields.height,
            round: fields.round,
            kind: fields.kind.0,
            block: fields.block.0,
            validator: fields.validator,
            signature: fields.signature,
        })
    }
}

#[derive(RlpEncodable, RlpDecodable)]
struct ProposalFields {
    height: Height,
    round: Round,
    valid_round: OptionalRound,
    block: BlockId,
    proposer: ValidatorId,
    signature: B512,
}

impl From<&SignedProposal> for ProposalFields {
    fn from(proposal: &SignedProposal) -> Self {
        Self {
            height: proposal.height,
            round: proposal.round,
            valid_round: OptionalRound(proposal.valid_round),
            block: proposal.block,
            proposer: proposal.proposer,
            signature: proposal.signature,
        }
    }
}

impl Encodable for SignedProposal {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        ProposalFields::from(self).encode(out);
    }

    fn length(&self) -> usize {
        ProposalFields::from(self).length()
    }
}

impl Decodable for SignedProposal {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let fields = ProposalFields::decode(buf)?;
        Ok(Self {
            height: fields.height,
            round: fields.round,
            valid_round: fields.valid_round.0,
            block: fields.block,
            proposer: fields.proposer,
            signature: fields.signature,
        })
    }
}
