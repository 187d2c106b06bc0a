//! The write-ahead log's records: everything that moved the current height's state machine.
//!
//! A height's records, fed through the core again in their order, give the same state: the same locks, the same
//! round, and the same own messages with the same signatures. Bodies are not here; they are in the block log. The
//! store owns the file, its checksums and its reset once the height is decided and durable.
//!
//! Whatever makes the log durable must do so no later than the sign guard of the same batch: a guard that is ahead
//! of the log costs its node the votes of a height.

use alloy_rlp::{RlpDecodable, RlpEncodable};
use fusion_types::{BlockId, DecodeError, Height, Round, ValidatorId, decode_exact, encode};

use crate::certificates::Polka;
use crate::signing::{OptionalRound, SignedProposal, SignedVote};
use crate::timers::TimerKind;

/// One record of the current height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalRecord {
    height: Height,
    pub(crate) entry: WalEntry,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WalEntry {
    Vote(SignedVote),
    Proposal(SignedProposal),
    Value(ProposedBlock),
    Timeout(WalTimeout),
    Polka(Polka),
}

/// A block that was checked, with the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProposedBlock {
    pub(crate) round: Round,
    pub(crate) valid_round: Option<Round>,
    pub(crate) proposer: ValidatorId,
    pub(crate) block: BlockId,
    pub(crate) valid: bool,
}

/// A timeout that elapsed: of proposing, prevoting or precommitting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WalTimeout {
    pub(crate) kind: TimerKind,
    pub(crate) round: Round,
}

impl WalRecord {
    pub(crate) fn new(height: Height, entry: WalEntry) -> Self {
        Self { height, entry }
    }

    /// The height that it belongs to.
    pub fn height(&self) -> Height {
        self.height
    }

    /// Whether `validator` signed what it records.
    pub fn is_signed_by(&self, validator: ValidatorId) -> bool {
        match &self.entry {
            WalEntry::Vote(vote) => vote.validator == validator,
            WalEntry::Proposal(proposal) => proposal.proposer == validator,
            WalEntry::Value(_) | WalEntry::Timeout(_) | WalEntry::Polka(_) => false,
        }
    }

    /// One tag byte and the record's canonical RLP.
    pub fn encode(&self) -> Vec<u8> {
        let (tag, body) = match &self.entry {
            WalEntry::Vote(vote) => (1, encode(vote)),
            WalEntry::Proposal(proposal) => (2, encode(proposal)),
            WalEntry::Value(value) => (3, encode(&ValueFields::new(self.height, value))),
            WalEntry::Timeout(timeout) => (4, encode(&TimeoutFields::new(self.height, timeout))),
            WalEntry::Polka(polka) => (5, encode(polka)),
        };
        let mut out = Vec::with_capacity(1 + body.len());
        out.push(tag);
        out.extend(body);
        out
    }

    /// Reads what [`WalRecord::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not the one encoding of a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (tag, body) = bytes.split_first().ok_or(alloy_rlp::Error::InputTooShort)?;
        match tag {
            1 => decode_exact(body).map(|vote: SignedVote| Self::new(vote.height, WalEntry::Vote(vote))),
            2 => decode_exact(body)
                .map(|proposal: SignedProposal| Self::new(proposal.height, WalEntry::Proposal(proposal))),
            3 => decode_exact(body).map(|fields: ValueFields| fields.record()),
            4 => decode_exact::<TimeoutFields>(body).and_then(|fields| Ok(fields.record()?)),
            5 => decode_exact(body).map(|polka: Polka| Self::new(polka.height, WalEntry::Polka(polka))),
            _ => Err(alloy_rlp::Error::Custom("log record has an unknown tag").into()),
        }
    }
}

#[derive(RlpEncodable, RlpDecodable)]
struct ValueFields {
    height: Height,
    round: Round,
    valid_round: OptionalRound,
    proposer: ValidatorId,
    block: BlockId,
    valid: bool,
}

impl ValueFields {
    fn new(height: Height, value: &ProposedBlock) -> Self {
        Self {
            height,
            round: value.round,
            valid_round: OptionalRound(value.valid_round),
            proposer: value.proposer,
            block: value.block,
            valid: value.valid,
        }
    }

    fn record(self) -> WalRecord {
        let value = ProposedBlock {
            round: self.round,
            valid_round: self.valid_round.0,
            proposer: self.proposer,
            block: self.block,
            valid: self.valid,
        };
        WalRecord::new(self.height, WalEntry::Value(value))
    }
}

#[derive(RlpEncodable, RlpDecodable)]
struct TimeoutFields {
    height: Height,
    kind: u8,
    round: Round,
}

impl TimeoutFields {
    fn new(height: Height, timeout: &WalTimeout) -> Self {
        let kind = match timeout.kind {
            TimerKind::Propose => 1,
            TimerKind::Prevote => 2,
            TimerKind::Precommit => 3,
            TimerKind::Rebroadcast => 4,
        };
        Self {
            height,
            kind,
            round: timeout.round,
        }
    }

    fn record(self) -> alloy_rlp::Result<WalRecord> {
        let kind = match self.kind {
            1 => TimerKind::Propose,
            2 => TimerKind::Prevote,
            3 => TimerKind::Precommit,
            _ => return Err(alloy_rlp::Error::Custom("timeout kind is none of 1, 2, 3")),
        };
        let timeout = WalTimeout {
            kind,
            round: self.round,
        };
        Ok(WalRecord::new(self.height, WalEntry::Timeout(timeout)))
    }
}

#[cfg(test)]
mod tests;
