//! Between Fusion's messages and Malachite's: the same content in two shapes.

use alloy_primitives::B512;
use arc_malachitebft_core_consensus::{Input as CoreInput, ProposedValue as CoreProposedValue};
use arc_malachitebft_core_types as core;
use core::{NilOrVal, TimeoutKind, Validity, ValueOrigin, VoteType};
use fusion_types::{BlockId, CommitteeSignature, Height, Round, VoteKind};

use super::{Address, CoreHeight, CoreProposal, CoreSignedProposal, CoreSignedVote, CoreVote, Ctx, Members, Value};
use crate::certificates::{Polka, RoundCertificate, RoundReason, RoundVote};
use crate::signing::{SignedProposal, SignedVote};
use crate::timers::TimerKind;
use crate::wal::{ProposedBlock, WalEntry, WalTimeout};

pub(crate) fn round_to_core(round: Round) -> core::Round {
    core::Round::new(round.0)
}

pub(crate) fn round_from_core(round: core::Round) -> Option<Round> {
    round.as_u32().map(Round)
}

pub(crate) fn kind_to_core(kind: VoteKind) -> VoteType {
    match kind {
        VoteKind::Prevote => VoteType::Prevote,
        VoteKind::Precommit => VoteType::Precommit,
    }
}

pub(crate) fn kind_from_core(kind: VoteType) -> VoteKind {
    match kind {
        VoteType::Prevote => VoteKind::Prevote,
        VoteType::Precommit => VoteKind::Precommit,
    }
}

pub(crate) fn block_to_core(block: Option<BlockId>) -> NilOrVal<BlockId> {
    block.map_or(NilOrVal::Nil, NilOrVal::Val)
}

pub(crate) fn block_from_core(block: &NilOrVal<BlockId>) -> Option<BlockId> {
    match block {
        NilOrVal::Nil => None,
        NilOrVal::Val(id) => Some(*id),
    }
}

pub(crate) fn vote_to_core(vote: &SignedVote) -> CoreSignedVote {
    let message = CoreVote {
        height: CoreHeight(vote.height),
        round: round_to_core(vote.round),
        kind: kind_to_core(vote.kind),
        value: block_to_core(vote.block),
        validator: Address(vote.validator),
    };
    CoreSignedVote::new(message, vote.signature)
}

pub(crate) fn vote_from_core(vote: &CoreVote, signature: B512) -> SignedVote {
    SignedVote {
        height: vote.height.0,
        round: round_from_core(vote.round).unwrap_or_default(),
        kind: kind_from_core(vote.kind),
        block: block_from_core(&vote.value),
        validator: vote.validator.0,
        signature,
    }
}

pub(crate) fn proposal_to_core(proposal: &SignedProposal) -> CoreSignedProposal {
    let message = CoreProposal {
        height: CoreHeight(proposal.height),
        round: round_to_core(proposal.round),
        value: Value(proposal.block),
        pol_round: proposal.valid_round.map_or(core::Round::Nil, round_to_core),
        proposer: Address(proposal.proposer),
    };
    CoreSignedProposal::new(message, proposal.signature)
}

pub(crate) fn proposal_from_core(proposal: &CoreProposal, signature: B512) -> SignedProposal {
    SignedProposal {
        height: proposal.height.0,
        round: round_from_core(proposal.round).unwrap_or_default(),
        valid_round: round_from_core(proposal.pol_round),
        block: proposal.value.0,
        proposer: proposal.proposer.0,
        signature,
    }
}

pub(crate) fn timeout_to_core(kind: TimerKind, round: Round) -> core::Timeout {
    let kind = match kind {
        TimerKind::Propose => TimeoutKind::Propose,
        TimerKind::Prevote => TimeoutKind::Prevote,
        TimerKind::Precommit => TimeoutKind::Precommit,
        TimerKind::Rebroadcast => TimeoutKind::Rebroadcast,
    };
    core::Timeout::new(round_to_core(round), kind)
}

pub(crate) fn timeout_from_core(timeout: core::Timeout) -> Option<(TimerKind, Round)> {
    let kind = match timeout.kind {
        TimeoutKind::Propose => TimerKind::Propose,
        TimeoutKind::Prevote => TimerKind::Prevote,
        TimeoutKind::Precommit => TimerKind::Precommit,
        TimeoutKind::Rebroadcast => TimerKind::Rebroadcast,
        // Heights have no target time, so the core never waits for more precommits.
        TimeoutKind::FinalizeHeight(_) => return None,
    };
    Some((kind, round_from_core(timeout.round)?))
}

pub(crate) fn value_to_core(height: Height, value: &ProposedBlock) -> CoreInput<Ctx> {
    let value = CoreProposedValue {
        height: CoreHeight(height),
        round: round_to_core(value.round),
        valid_round: value.valid_round.map_or(core::Round::Nil, round_to_core),
        proposer: Address(value.proposer),
        value: Value(value.block),
        validity: Validity::from_bool(value.valid),
    };
    CoreInput::ProposedValue(value, ValueOrigin::Consensus)
}

/// Signatures are in no order there and ascending by index here.
pub(crate) fn polka_from_core(polka: &core::PolkaCertificate<Ctx>, members: &Members) -> Option<Polka> {
    let mut signatures = Vec::with_capacity(polka.polka_signatures.len());
    for entry in &polka.polka_signatures {
        signatures.push(CommitteeSignature {
            validator: u32::try_from(members.index_of(entry.address)?).ok()?,
            signature: entry.signature,
        });
    }
    signatures.sort_by_key(|entry| entry.validator);
    Some(Polka {
        height: polka.height.0,
        round: round_from_core(polka.round)?,
        block: polka.value_id,
        signatures,
    })
}

pub(crate) fn polka_to_core(polka: &Polka, members: &Members) -> core::PolkaCertificate<Ctx> {
    let signatures = polka.signatures.iter().filter_map(|entry| {
        let id = members.id(entry.validator as usize)?;
        Some(core::PolkaSignature::new(Address(id), entry.signature))
    });
    core::PolkaCertificate {
        height: CoreHeight(polka.height),
        round: round_to_core(polka.round),
        value_id: polka.block,
        polka_signatures: signatures.collect(),
    }
}

pub(crate) fn round_certificate_from_core(
    certificate: &core::RoundCertificate<Ctx>,
    members: &Members,
) -> Option<RoundCertificate> {
    let mut votes = Vec::with_capacity(certificate.round_signatures.len());
    for entry in &certificate.round_signatures {
        votes.push(RoundVote {
            validator: u32::try_from(members.index_of(entry.address)?).ok()?,
            kind: kind_from_core(entry.vote_type),
            block: block_from_core(&entry.value_id),
            signature: entry.signature,
        });
    }
    votes.sort_by_key(|vote| vote.validator);
    let reason = match certificate.cert_type {
        core::RoundCertificateType::Skip => RoundReason::Skip,
        core::RoundCertificateType::Precommit => RoundReason::Precommits,
    };
    Some(RoundCertificate {
        height: certificate.height.0,
        round: round_from_core(certificate.round)?,
        reason,
        votes,
    })
}

pub(crate) fn round_certificate_to_core(
    certificate: &RoundCertificate,
    members: &Members,
) -> core::RoundCertificate<Ctx> {
    let signatures = certificate.votes.iter().filter_map(|vote| {
        let address = Address(members.id(vote.validator as usize)?);
        let block = block_to_core(vote.block);
        Some(core::RoundSignature::new(
            kind_to_core(vote.kind),
            block,
            address,
            vote.signature,
        ))
    });
    let cert_type = match certificate.reason {
        RoundReason::Skip => core::RoundCertificateType::Skip,
        RoundReason::Precommits => core::RoundCertificateType::Precommit,
    };
    core::RoundCertificate {
        height: CoreHeight(certificate.height),
        round: round_to_core(certificate.round),
        cert_type,
        round_signatures: signatures.collect(),
    }
}

pub(crate) fn entry_to_core(height: Height, entry: &WalEntry, members: &Members) -> CoreInput<Ctx> {
    match entry {
        WalEntry::Vote(vote) => CoreInput::Vote(vote_to_core(vote)),
        WalEntry::Proposal(proposal) => CoreInput::Proposal(proposal_to_core(proposal)),
        WalEntry::Value(value) => value_to_core(height, value),
        WalEntry::Timeout(timeout) => CoreInput::TimeoutElapsed(timeout_to_core(timeout.kind, timeout.round)),
        WalEntry::Polka(polka) => CoreInput::PolkaCertificate(polka_to_core(polka, members)),
    }
}

/// The log entry for what the core wants logged; nothing for inputs that it never logs.
pub(crate) fn entry_from_core(input: &CoreInput<Ctx>, members: &Members) -> Option<WalEntry> {
    Some(match input {
        CoreInput::Vote(vote) => WalEntry::Vote(vote_from_core(&vote.message, vote.signature)),
        CoreInput::Proposal(proposal) => WalEntry::Proposal(proposal_from_core(&proposal.message, proposal.signature)),
        CoreInput::ProposedValue(value, _) => WalEntry::Value(ProposedBlock {
            round: round_from_core(value.round)?,
            valid_round: round_from_core(value.valid_round),
            proposer: value.proposer.0,
            block: value.value.0,
            valid: value.validity.is_valid(),
        }),
        CoreInput::TimeoutElapsed(timeout) => {
            let (kind, round) = timeout_from_core(*timeout)?;
            WalEntry::Timeout(WalTimeout { kind, round })
        }
        CoreInput::PolkaCertificate(polka) => WalEntry::Polka(polka_from_core(polka, members)?),
        _ => return None,
    })
}
