//! The sign guard: the last vote and the last proposal that a key signed, durable before a signature leaves.
//!
//! It stands apart from the write-ahead log, in a file of its own, and protects the key even when the log is lost,
//! restored from a backup or wrong: the same message again yields the same signature, anything at or below
//! the last place is refused. This file decides; the store keeps the [`GUARD_BYTES`] bytes.

use alloy_primitives::{B256, B512};
use fusion_types::{BlockId, Epoch, Height, NetworkId, Round, ValidatorId, VoteKind};

use crate::signing::{SignedProposal, SignedVote};

/// Size of an encoded [`GuardState`]. Fits one 512-byte sector together with a slot's sequence number and checksum.
pub const GUARD_BYTES: usize = 1 + 32 + 32 + 1 + VOTE_BYTES + 1 + PROPOSAL_BYTES;

const VERSION: u8 = 1;
const VOTE_BYTES: usize = 8 + 8 + 4 + 1 + 1 + 32 + 64;
const PROPOSAL_BYTES: usize = 8 + 8 + 4 + 1 + 4 + 32 + 64;

const _: () = assert!(GUARD_BYTES <= 448, "a slot is one sector");

/// What a key signed last on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardState {
    network: NetworkId,
    validator: ValidatorId,
    vote: Option<(Epoch, SignedVote)>,
    proposal: Option<(Epoch, SignedProposal)>,
}

/// What to do about a message that wants a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardVerdict {
    /// It is above everything signed so far.
    Sign,
    /// It was signed before: this is its signature.
    Same(B512),
    /// It must not be signed.
    Refuse(GuardRefusal),
}

/// Why a message must not be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GuardRefusal {
    /// Another message was signed for this very place.
    #[error("another message was signed for height {height}, round {round}")]
    Conflict {
        /// Height of both.
        height: Height,
        /// Round of both.
        round: Round,
    },
    /// The key has signed beyond this place.
    #[error(
        "height {height}, round {round} lies below what the key signed last: height {last_height}, round {last_round}"
    )]
    Regression {
        /// Height of the message.
        height: Height,
        /// Round of the message.
        round: Round,
        /// Height signed last.
        last_height: Height,
        /// Round signed last.
        last_round: Round,
    },
}

/// Why bytes are no guard state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// Not the fixed size.
    #[error("a guard state has {GUARD_BYTES} bytes, not {0}")]
    Size(usize),
    /// Written by another version.
    #[error("guard state has version {0}, this program knows version {VERSION}")]
    Version(u8),
    /// A flag or kind out of range, or bytes where there must be zeros.
    #[error("guard state is malformed")]
    Malformed,
}

type VotePlace = (Epoch, Height, Round, VoteKind);

impl GuardState {
    /// The guard of a key that has signed nothing on `network`.
    pub fn new(network: NetworkId, validator: ValidatorId) -> Self {
        Self {
            network,
            validator,
            vote: None,
            proposal: None,
        }
    }

    /// A guard that refuses everything at or below `height`: for a key whose guard was lost.
    pub fn barred_up_to(network: NetworkId, validator: ValidatorId, epoch: Epoch, height: Height) -> Self {
        let last = SignedVote {
            height,
            round: Round(u32::MAX),
            kind: VoteKind::Precommit,
            block: None,
            validator,
            signature: B512::ZERO,
        };
        Self {
            vote: (height != Height(0)).then_some((epoch, last)),
            ..Self::new(network, validator)
        }
    }

    /// The network that it guards the key on.
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// The key that it guards.
    pub fn validator(&self) -> ValidatorId {
        self.validator
    }

    /// The vote signed last.
    pub fn last_vote(&self) -> Option<&SignedVote> {
        self.vote.as_ref().map(|(_, vote)| vote)
    }

    /// The proposal signed last.
    pub fn last_proposal(&self) -> Option<&SignedProposal> {
        self.proposal.as_ref().map(|(_, proposal)| proposal)
    }

    /// The highest height at which the key signed anything.
    pub fn height(&self) -> Option<Height> {
        let vote = self.last_vote().map(|vote| vote.height);
        vote.max(self.last_proposal().map(|proposal| proposal.height))
    }

    /// Whether `vote` may be signed; its signature field is not looked at.
    pub fn check_vote(&self, epoch: Epoch, vote: &SignedVote) -> GuardVerdict {
        let Some((last_epoch, last)) = &self.vote else {
            return GuardVerdict::Sign;
        };
        let place: VotePlace = (epoch, vote.height, vote.round, vote.kind);
        let last_place: VotePlace = (*last_epoch, last.height, last.round, last.kind);
        let same = vote.block == last.block && vote.validator == last.validator;
        let (height, round) = (vote.height, vote.round);
        match place.cmp(&last_place) {
            std::cmp::Ordering::Greater => GuardVerdict::Sign,
            std::cmp::Ordering::Equal if same => GuardVerdict::Same(last.signature),
            std::cmp::Ordering::Equal => GuardVerdict::Refuse(GuardRefusal::Conflict { height, round }),
            std::cmp::Ordering::Less => GuardVerdict::Refuse(GuardRefusal::Regression {
                height,
                round,
                last_height: last.height,
                last_round: last.round,
            }),
        }
    }

    /// Whether `proposal` may be signed; its signature field is not looked at.
    pub fn check_proposal(&self, epoch: Epoch, proposal: &SignedProposal) -> GuardVerdict {
        let Some((last_epoch, last)) = &self.proposal else {
            return GuardVerdict::Sign;
        };
        let place = (epoch, proposal.height, proposal.round);
        let last_place = (*last_epoch, last.height, last.round);
        let unsigned = SignedProposal {
            signature: last.signature,
            ..*proposal
        };
        let (height, round) = (proposal.height, proposal.round);
        match place.cmp(&last_place) {
            std::cmp::Ordering::Greater => GuardVerdict::Sign,
            std::cmp::Ordering::Equal if unsigned == *last => GuardVerdict::Same(last.signature),
            std::cmp::Ordering::Equal => GuardVerdict::Refuse(GuardRefusal::Conflict { height, round }),
            std::cmp::Ordering::Less => GuardVerdict::Refuse(GuardRefusal::Regression {
                height,
                round,
                last_height: last.height,
                last_round: last.round,
            }),
        }
    }

    /// Takes note of a signed vote, unless it lies below the last one.
    pub(crate) fn record_vote(&mut self, epoch: Epoch, vote: SignedVote) {
        if self.check_vote(epoch, &vote) == GuardVerdict::Sign {
            self.vote = Some((epoch, vote));
        }
    }

    /// Takes note of a signed proposal, unless it lies below the last one.
    pub(crate) fn record_proposal(&mut self, epoch: Epoch, proposal: SignedProposal) {
        if self.check_proposal(epoch, &proposal) == GuardVerdict::Sign {
            self.proposal = Some((epoch, proposal));
        }
    }

    /// Fixed layout, integers big-endian: `version 1 ‖ network 32 ‖ validator 32 ‖ 1 or 0 ‖ vote ‖ 1 or 0 ‖ proposal`,
    /// with vote `epoch 8 ‖ height 8 ‖ round 4 ‖ kind 1 ‖ 1 or 0 for nil ‖ block 32 ‖ signature 64` and
    /// proposal `epoch 8 ‖ height 8 ‖ round 4 ‖ 1 or 0 ‖ valid round 4 ‖ block 32 ‖ signature 64`. What is absent is
    /// zeros.
    pub fn encode(&self) -> [u8; GUARD_BYTES] {
        let mut out = Writer::default();
        out.put(&[VERSION]);
        out.put(self.network.0.as_slice());
        out.put(self.validator.0.as_slice());
        out.put(&[u8::from(self.vote.is_some())]);
        match &self.vote {
            None => out.put(&[0; VOTE_BYTES]),
            Some((epoch, vote)) => {
                out.place(*epoch, vote.height, vote.round);
                out.put(&[kind_tag(vote.kind), u8::from(vote.block.is_some())]);
                out.put(vote.block.map_or(B256::ZERO, |id| id.0).as_slice());
                out.put(vote.signature.as_slice());
            }
        }
        out.put(&[u8::from(self.proposal.is_some())]);
        match &self.proposal {
            None => out.put(&[0; PROPOSAL_BYTES]),
            Some((epoch, proposal)) => {
                out.place(*epoch, proposal.height, proposal.round);
                out.put(&[u8::from(proposal.valid_round.is_some())]);
                out.put(&proposal.valid_round.unwrap_or_default().0.to_be_bytes());
                out.put(proposal.block.0.as_slice());
                out.put(proposal.signature.as_slice());
            }
        }
        out.bytes
    }

    /// Reads what [`GuardState::encode`] wrote.
    ///
    /// # Errors
    /// [`GuardError`] when the bytes are not the one encoding of a guard state.
    pub fn decode(bytes: &[u8]) -> Result<Self, GuardError> {
        if bytes.len() != GUARD_BYTES {
            return Err(GuardError::Size(bytes.len()));
        }
        if bytes[0] != VERSION {
            return Err(GuardError::Version(bytes[0]));
        }
        let mut input = Reader { bytes, at: 1 };
        let network = NetworkId(input.b256());
        let validator = ValidatorId(input.b256());
        let has_vote = input.flag()?;
        let vote = input.vote(has_vote, validator)?;
        let has_proposal = input.flag()?;
        let proposal = input.proposal(has_proposal, validator)?;
        let state = Self {
            network,
            validator,
            vote,
            proposal,
        };
        // One encoding per state: whatever else the bytes hold would be lost on the next write.
        if state.encode() == bytes {
            Ok(state)
        } else {
            Err(GuardError::Malformed)
        }
    }
}

fn kind_tag(kind: VoteKind) -> u8 {
    match kind {
        VoteKind::Prevote => 1,
        VoteKind::Precommit => 2,
    }
}

struct Writer {
    bytes: [u8; GUARD_BYTES],
    at: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            bytes: [0; GUARD_BYTES],
            at: 0,
        }
    }
}

impl Writer {
    fn put(&mut self, field: &[u8]) {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
    }

    fn place(&mut self, epoch: Epoch, height: Height, round: Round) {
        self.put(&epoch.0.to_be_bytes());
        self.put(&height.0.to_be_bytes());
        self.put(&round.0.to_be_bytes());
    }
}

/// Reads fields off a slice whose length was checked to be [`GUARD_BYTES`].
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        field
    }

    fn b256(&mut self) -> B256 {
        B256::from(self.take::<32>())
    }

    fn flag(&mut self) -> Result<bool, GuardError> {
        match self.take::<1>()[0] {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(GuardError::Malformed),
        }
    }

    fn place(&mut self) -> (Epoch, Height, Round) {
        let epoch = Epoch(u64::from_be_bytes(self.take()));
        let height = Height(u64::from_be_bytes(self.take()));
        (epoch, height, Round(u32::from_be_bytes(self.take())))
    }

    fn vote(&mut self, present: bool, validator: ValidatorId) -> Result<Option<(Epoch, SignedVote)>, GuardError> {
        let (epoch, height, round) = self.place();
        let kind = self.take::<1>()[0];
        let (has_block, block) = (self.flag()?, BlockId(self.b256()));
        let signature = B512::from(self.take::<64>());
        if !present {
            return Ok(None);
        }
        let kind = match kind {
            1 => VoteKind::Prevote,
            2 => VoteKind::Precommit,
            _ => return Err(GuardError::Malformed),
        };
        let vote = SignedVote {
            height,
            round,
            kind,
            block: has_block.then_some(block),
            validator,
            signature,
        };
        Ok(Some((epoch, vote)))
    }

    fn proposal(
        &mut self,
        present: bool,
        proposer: ValidatorId,
    ) -> Result<Option<(Epoch, SignedProposal)>, GuardError> {
        let (epoch, height, round) = self.place();
        let (has_valid, valid) = (self.flag()?, Round(u32::from_be_bytes(self.take())));
        let block = BlockId(self.b256());
        let signature = B512::from(self.take::<64>());
        let proposal = SignedProposal {
            height,
            round,
            valid_round: has_valid.then_some(valid),
            block,
            proposer,
            signature,
        };
        Ok(present.then_some((epoch, proposal)))
    }
}

#[cfg(test)]
mod tests;
