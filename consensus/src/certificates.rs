//! Certificates that nodes exchange while a height is open: why a block may be proposed again, and why a round may
//! be entered. The certificate of a decided block is `fusion_types::Certificate`.

use alloy_primitives::B512;
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};
use fusion_types::limits::COMMITTEE_MAX;
use fusion_types::{BlockId, Committee, CommitteeSignature, Height, Round, VoteKind};

use crate::signing::{Kind, OptionalBlock, SignedVote};

/// Prevotes of more than two thirds of voting power for one block in one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polka {
    /// Height of the prevotes.
    pub height: Height,
    /// Round of the prevotes.
    pub round: Round,
    /// The block.
    pub block: BlockId,
    /// Signatures, ascending by validator.
    pub signatures: Vec<CommitteeSignature>,
}

/// What a [`RoundCertificate`] shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundReason {
    /// More than a third of voting power has voted in this round: it may be entered.
    Skip,
    /// More than two thirds have precommitted in this round, for whatever: the next one may be entered.
    Precommits,
}

/// One validator's vote in a round certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundVote {
    /// Index in the committee.
    pub validator: u32,
    /// Prevote or precommit.
    pub kind: VoteKind,
    /// The block, or nothing for nil.
    pub block: Option<BlockId>,
    /// Signature of that vote.
    pub signature: B512,
}

/// Votes that let a node enter a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundCertificate {
    /// Height of the votes.
    pub height: Height,
    /// Round of the votes.
    pub round: Round,
    /// What they show.
    pub reason: RoundReason,
    /// At most one vote of each validator, ascending.
    pub votes: Vec<RoundVote>,
}

impl Polka {
    /// The prevotes in it, when it names members of `committee` only, each once, with enough power. Signatures are
    /// not checked here.
    pub(crate) fn votes(&self, committee: &Committee) -> Option<Vec<SignedVote>> {
        let votes = self.signatures.iter().map(|entry| RoundVote {
            validator: entry.validator,
            kind: VoteKind::Prevote,
            block: Some(self.block),
            signature: entry.signature,
        });
        let (votes, power) = expand(committee, self.height, self.round, votes)?;
        (power >= committee.quorum()).then_some(votes)
    }
}

impl RoundCertificate {
    /// The votes in it, when it names members of `committee` only, each once, with enough power. Signatures are not
    /// checked here.
    pub(crate) fn votes(&self, committee: &Committee) -> Option<Vec<SignedVote>> {
        let (votes, power) = expand(committee, self.height, self.round, self.votes.iter().copied())?;
        let enough = match self.reason {
            // More than a third: the total is at most a third of what 64 bits hold.
            RoundReason::Skip => power.saturating_mul(3) > committee.total_power(),
            RoundReason::Precommits => {
                power >= committee.quorum() && votes.iter().all(|vote| vote.kind == VoteKind::Precommit)
            }
        };
        enough.then_some(votes)
    }
}

fn expand(
    committee: &Committee,
    height: Height,
    round: Round,
    entries: impl Iterator<Item = RoundVote>,
) -> Option<(Vec<SignedVote>, u64)> {
    let (mut votes, mut power, mut last) = (Vec::new(), 0_u64, None);
    for entry in entries {
        if last.is_some_and(|last| entry.validator <= last) {
            return None;
        }
        last = Some(entry.validator);
        let member = committee.validators().get(entry.validator as usize)?;
        power = power.saturating_add(member.power);
        votes.push(SignedVote {
            height,
            round,
            kind: entry.kind,
            block: entry.block,
            validator: member.id,
            signature: entry.signature,
        });
    }
    Some((votes, power))
}

/// Decodes a list of at most [`COMMITTEE_MAX`] items.
fn decode_votes<T: Decodable>(buf: &mut &[u8]) -> alloy_rlp::Result<Vec<T>> {
    let mut payload = alloy_rlp::Header::decode_bytes(buf, true)?;
    let mut items = Vec::new();
    while !payload.is_empty() {
        if items.len() == COMMITTEE_MAX {
            return Err(alloy_rlp::Error::Custom(
                "certificate has more votes than a committee has members",
            ));
        }
        items.push(T::decode(&mut payload)?);
    }
    Ok(items)
}

impl Encodable for Polka {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        let payload_length = self.payload_length();
        alloy_rlp::Header {
            list: true,
            payload_length,
        }
        .encode(out);
        self.height.encode(out);
        self.round.encode(out);
        self.block.encode(out);
        alloy_rlp::encode_list(&self.signatures, out);
    }

    fn length(&self) -> usize {
        self.payload_length() + alloy_rlp::length_of_length(self.payload_length())
    }
}

impl Polka {
    fn payload_length(&self) -> usize {
        self.height.length() + self.round.length() + self.block.length() + alloy_rlp::list_length(&self.signatures)
    }
}

impl Decodable for Polka {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let mut payload = alloy_rlp::Header::decode_bytes(buf, true)?;
        let height = Height::decode(&mut payload)?;
        let round = Round::decode(&mut payload)?;
        let block = BlockId::decode(&mut payload)?;
        let signatures = decode_votes(&mut payload)?;
        if !payload.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength);
        }
        Ok(Self {
            height,
            round,
            block,
            signatures,
        })
    }
}

#[derive(RlpEncodable, RlpDecodable)]
struct RoundVoteFields {
    validator: u32,
    kind: Kind,
    block: OptionalBlock,
    signature: B512,
}

impl From<&RoundVote> for RoundVoteFields {
    fn from(vote: &RoundVote) -> Self {
        Self {
            validator: vote.validator,
            kind: Kind(vote.kind),
            block: OptionalBlock(vote.block),
            signature: vote.signature,
        }
    }
}

impl Encodable for RoundVote {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        RoundVoteFields::from(self).encode(out);
    }

    fn length(&self) -> usize {
        RoundVoteFields::from(self).length()
    }
}

impl Decodable for RoundVote {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let fields = RoundVoteFields::decode(buf)?;
        Ok(Self {
            validator: fields.validator,
            kind: fields.kind.0,
            block: fields.block.0,
            signature: fields.signature,
        })
    }
}

impl RoundReason {
    fn tag(self) -> u8 {
        match self {
            Self::Skip => 1,
            Self::Precommits => 2,
        }
    }
}

impl RoundCertificate {
    fn payload_length(&self) -> usize {
        self.height.length() + self.round.length() + self.reason.tag().length() + alloy_rlp::list_length(&self.votes)
    }
}

impl Encodable for RoundCertificate {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        let payload_length = self.payload_length();
        alloy_rlp::Header {
            list: true,
            payload_length,
        }
        .encode(out);
        self.height.encode(out);
        self.round.encode(out);
        self.reason.tag().encode(out);
        alloy_rlp::encode_list(&self.votes, out);
    }

    fn length(&self) -> usize {
        self.payload_length() + alloy_rlp::length_of_length(self.payload_length())
    }
}

impl Decodable for RoundCertificate {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let mut payload = alloy_rlp::Header::decode_bytes(buf, true)?;
        let height = Height::decode(&mut payload)?;
        let round = Round::decode(&mut payload)?;
        let reason = match u8::decode(&mut payload)? {
            1 => RoundReason::Skip,
            2 => RoundReason::Precommits,
            _ => {
                return Err(alloy_rlp::Error::Custom(
                    "round certificate's reason is neither 1 nor 2",
                ));
            }
        };
        let votes = decode_votes(&mut payload)?;
        if !payload.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength);
        }
        Ok(Self {
            height,
            round,
            reason,
            votes,
        })
    }
}
