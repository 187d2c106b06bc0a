//! The one place that runs Malachite's core.
//!
//! [`Machine::run`] drives the core's coroutine to completion for one input. What the core wants signed is signed
//! here, under the sign guard; what it wants verified has been verified before it came in, which the type
//! [`Verified`] proves; everything else comes out as [`Act`]s, in the core's order. The handler never returns an
//! error to the core: that would leave the height wedged. When the guard refuses, the core gets a signature that nobody
//! will see, and the machine is dead: no act leaves it any more but [`Act::Fatal`].

use alloy_primitives::B512;
use arc_malachitebft_core_consensus::{
    Effect, Error as CoreError, Input as CoreInput, LivenessMsg, LocallyProposedValue, Params, Resumable, Resume,
    SignedConsensusMsg, State as CoreState, process,
};
use arc_malachitebft_core_types::{Context as _, ThresholdParams, ValuePayload, VoteExtensionPolicy};
use fusion_types::{BlockId, Epoch, Height, NetworkId, Round};

use crate::certificates::{Polka, RoundCertificate};
use crate::context::convert::{
    entry_from_core, entry_to_core, polka_from_core, polka_to_core, proposal_from_core, proposal_to_core,
    round_certificate_from_core, round_certificate_to_core, round_from_core, round_to_core, timeout_from_core,
    timeout_to_core, value_to_core, vote_from_core, vote_to_core,
};
use crate::context::{
    Address, CoreHeight, CoreProposal, CoreSignedProposal, CoreSignedVote, CoreVote, Ctx, Members, Value,
};
use crate::guard::{GuardState, GuardVerdict};
use crate::interface::FatalError;
use crate::signing::{SignedProposal, SignedVote, Signer, Verified};
use crate::timers::TimerKind;
use crate::wal::{ProposedBlock, WalEntry, WalRecord};

/// What the core wants done, in its order.
#[derive(Debug)]
pub(crate) enum Act {
    ClearTimers,
    CancelTimer(TimerKind, Round),
    SetTimer(TimerKind, Round),
    NewRound(Round),
    SendProposal(SignedProposal),
    SendVote(SignedVote),
    SendPolka(Polka),
    SendRoundCertificate(RoundCertificate),
    GetValue(Round),
    Decide { round: Round, block: BlockId },
    Log(WalRecord),
    Guard,
    Rebroadcast,
    Fatal(FatalError),
}

/// Malachite's state for one validator, with its key and its guard.
pub(crate) struct Machine {
    state: CoreState<Ctx>,
    key: Key,
}

struct Key {
    signer: Signer,
    guard: GuardState,
    network: NetworkId,
    epoch: Epoch,
    dead: bool,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("height", &self.state.height())
            .field("round", &self.state.round())
            .finish_non_exhaustive()
    }
}

impl Machine {
    pub(crate) fn new(signer: Signer, guard: GuardState, height: Height, members: Members) -> Self {
        let params = Params {
            address: Address(signer.id()),
            threshold_params: ThresholdParams::default(),
            value_payload: ValuePayload::ProposalAndParts,
            enabled: true,
        };
        // The core's own buffer for messages of later heights is never used: it would hold them unverified.
        let state = CoreState::new(Ctx, CoreHeight(height), members, params, 1, 1);
        let key = Key {
            signer,
            network: guard.network(),
            guard,
            epoch: Epoch(0),
            dead: false,
        };
        Self { state, key }
    }

    pub(crate) fn guard(&self) -> &GuardState {
        &self.key.guard
    }

    pub(crate) fn round(&self) -> Round {
        round_from_core(self.state.round()).unwrap_or_default()
    }

    pub(crate) fn step_name(&self) -> &'static str {
        let driver = &self.state.driver;
        if driver.step_is_propose() {
            "propose"
        } else if driver.step_is_prevote() {
            "prevote"
        } else if driver.step_is_precommit() {
            "precommit"
        } else if driver.step_is_commit() {
            "commit"
        } else {
            "new"
        }
    }

    pub(crate) fn is_proposing(&self) -> bool {
        self.state.driver.step_is_propose()
    }

    /// Starts a height. `voting` false follows it without a word.
    pub(crate) fn start(&mut self, height: Height, members: Members, epoch: Epoch, voting: bool) -> Vec<Act> {
        self.key.epoch = epoch;
        self.state.params.enabled = voting;
        let policy = VoteExtensionPolicy::Disabled;
        self.run(CoreInput::StartHeight(CoreHeight(height), members, false, None, policy))
    }

    pub(crate) fn vote(&mut self, vote: &Verified<SignedVote>) -> Vec<Act> {
        self.run(CoreInput::Vote(vote_to_core(vote.get())))
    }

    pub(crate) fn proposal(&mut self, proposal: &Verified<SignedProposal>) -> Vec<Act> {
        self.run(CoreInput::Proposal(proposal_to_core(proposal.get())))
    }

    pub(crate) fn polka(&mut self, polka: &Verified<Polka>) -> Vec<Act> {
        let polka = polka_to_core(polka.get(), self.state.validator_set());
        self.run(CoreInput::PolkaCertificate(polka))
    }

    pub(crate) fn round_certificate(&mut self, certificate: &Verified<RoundCertificate>) -> Vec<Act> {
        let certificate = round_certificate_to_core(certificate.get(), self.state.validator_set());
        self.run(CoreInput::RoundCertificate(certificate))
    }

    pub(crate) fn propose(&mut self, height: Height, round: Round, block: BlockId) -> Vec<Act> {
        let value = LocallyProposedValue::new(CoreHeight(height), round_to_core(round), Value(block));
        self.run(CoreInput::Propose(value))
    }

    /// Proposes a block again whose polka the core did not see in time. Signed here and given to the core like a
    /// proposal from outside: by itself it proposes again only its own valid value. Sending it is left to the
    /// caller.
    pub(crate) fn propose_again(
        &mut self,
        height: Height,
        round: Round,
        valid_round: Round,
        block: BlockId,
    ) -> (SignedProposal, Vec<Act>) {
        let proposal = Ctx.new_proposal(
            CoreHeight(height),
            round_to_core(round),
            Value(block),
            round_to_core(valid_round),
            Address(self.key.signer.id()),
        );
        let mut acts = Vec::new();
        let signed = self.key.sign_proposal(proposal, &mut acts);
        let proposal = proposal_from_core(&signed.message, signed.signature);
        acts.extend(self.run(CoreInput::Proposal(signed)));
        (proposal, acts)
    }

    pub(crate) fn value(&mut self, height: Height, value: &ProposedBlock) -> Vec<Act> {
        self.run(value_to_core(height, value))
    }

    pub(crate) fn timeout(&mut self, kind: TimerKind, round: Round) -> Vec<Act> {
        self.run(CoreInput::TimeoutElapsed(timeout_to_core(kind, round)))
    }

    /// Announces the records that [`Machine::replay`] will feed, so that own messages keep their signatures.
    pub(crate) fn begin_replay(&mut self, entries: &[WalEntry], height: Height) {
        let members = self.state.validator_set();
        let inputs: Vec<_> = entries
            .iter()
            .map(|entry| entry_to_core(height, entry, members))
            .collect();
        self.state.index_wal_entries(&inputs);
    }

    /// Feeds one record. Votes and proposals in it were verified again by the caller.
    pub(crate) fn replay(&mut self, entry: &WalEntry, height: Height) -> Vec<Act> {
        self.run(entry_to_core(height, entry, self.state.validator_set()))
    }

    pub(crate) fn end_replay(&mut self) {
        self.state.reset_entries_index();
    }

    pub(crate) fn has_polka(&self, round: Round, block: BlockId) -> bool {
        self.state.polka_certificate(round_to_core(round), &block).is_some()
    }

    /// The polka of the highest round.
    pub(crate) fn best_polka(&self) -> Option<Polka> {
        let polkas = self.state.driver.polka_certificates().iter();
        let best = polkas.max_by_key(|polka| polka.round)?;
        polka_from_core(best, self.state.validator_set())
    }

    /// The certificate that led to the current round.
    pub(crate) fn best_round_certificate(&self) -> Option<RoundCertificate> {
        let entered = self.state.round_certificate()?;
        if entered.enter_round != self.state.round() {
            return None;
        }
        round_certificate_from_core(&entered.certificate, self.state.validator_set())
    }

    fn run(&mut self, input: CoreInput<Ctx>) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.key.dead {
            return acts;
        }
        let Self { state, key } = self;
        let members = state.validator_set().clone();
        let result: Result<(), CoreError<Ctx>> = process!(
            input: input,
            state: state,
            metrics: &(),
            with: effect => Ok::<_, std::convert::Infallible>(answer(effect, key, &members, &mut acts))
        );
        match result {
            Ok(()) => {}
            Err(error @ CoreError::ReplayDivergence(..)) => {
                key.dead = true;
                acts.push(Act::Fatal(FatalError::Replay(error.to_string())));
            }
            Err(error) => tracing::warn!(%error, "the consensus core refused an input"),
        }
        if key.dead {
            acts.retain(|act| matches!(act, Act::Fatal(_)));
        }
        acts
    }
}

/// Answers one effect of the core, or takes it down as an act.
fn answer(effect: Effect<Ctx>, key: &mut Key, members: &Members, acts: &mut Vec<Act>) -> Resume<Ctx> {
    match effect {
        Effect::SignVote(vote, resume) => resume.resume_with(key.sign_vote(vote, acts)),
        Effect::SignProposal(proposal, resume) => resume.resume_with(key.sign_proposal(proposal, acts)),
        // Only verified messages come in, and own ones are signed above.
        Effect::VerifySignature(_, _, resume) => resume.resume_with(true),
        Effect::VerifyCommitCertificate(_, _, _, resume)
        | Effect::VerifyPolkaCertificate(_, _, _, resume)
        | Effect::VerifyRoundCertificate(_, _, _, resume) => resume.resume_with(Ok(())),
        Effect::VerifyExtendedCommitCertificate(_, _, _, _, resume) => resume.resume_with(Ok(())),
        Effect::ExtendVote(_, _, _, _, resume) => resume.resume_with(None),
        Effect::VerifyVoteExtension(_, _, _, _, _, _, resume) => resume.resume_with(Ok(())),
        other => {
            acts.extend(act(other, members));
            Resume::Continue
        }
    }
}

/// The act for an effect that needs no answer.
fn act(effect: Effect<Ctx>, members: &Members) -> Option<Act> {
    Some(match effect {
        Effect::CancelAllTimeouts(_) => Act::ClearTimers,
        Effect::CancelTimeout(timeout, _) => {
            let (kind, round) = timeout_from_core(timeout)?;
            Act::CancelTimer(kind, round)
        }
        Effect::ScheduleTimeout(timeout, _) => {
            let (kind, round) = timeout_from_core(timeout)?;
            Act::SetTimer(kind, round)
        }
        Effect::StartRound(_, round, _, _, _) => Act::NewRound(round_from_core(round)?),
        Effect::PublishConsensusMsg(SignedConsensusMsg::Vote(vote), _)
        | Effect::PublishLivenessMsg(LivenessMsg::Vote(vote), _) => {
            Act::SendVote(vote_from_core(&vote.message, vote.signature))
        }
        // The engine repeats own votes itself, together with what the core does not repeat.
        Effect::RepublishVote(..) | Effect::RepublishRoundCertificate(..) => Act::Rebroadcast,
        Effect::PublishConsensusMsg(SignedConsensusMsg::Proposal(proposal), _) => {
            Act::SendProposal(proposal_from_core(&proposal.message, proposal.signature))
        }
        Effect::PublishLivenessMsg(LivenessMsg::PolkaCertificate(polka), _) => {
            Act::SendPolka(polka_from_core(&polka, members)?)
        }
        Effect::PublishLivenessMsg(LivenessMsg::SkipRoundCertificate(certificate), _) => {
            Act::SendRoundCertificate(round_certificate_from_core(&certificate, members)?)
        }
        Effect::GetValue(_, round, _, _) => Act::GetValue(round_from_core(round)?),
        Effect::Decide(certificate, _, _) => Act::Decide {
            round: round_from_core(certificate.round)?,
            block: certificate.value_id,
        },
        Effect::WalAppend(height, input, _) => Act::Log(WalRecord::new(height.0, entry_from_core(&input, members)?)),
        // Bodies are fetched by those who lack them; evidence is gathered by the engine, which also sees late votes;
        // synced values never pass through the core.
        _ => return None,
    })
}

impl Key {
    fn sign_vote(&mut self, vote: CoreVote, acts: &mut Vec<Act>) -> CoreSignedVote {
        let mut signed = vote_from_core(&vote, B512::ZERO);
        match self.guard.check_vote(self.epoch, &signed) {
            GuardVerdict::Sign => {
                signed.signature = self.signer.sign(&signed.sign_bytes(self.network, self.epoch));
                self.guard.record_vote(self.epoch, signed);
                acts.push(Act::Guard);
            }
            GuardVerdict::Same(signature) => signed.signature = signature,
            GuardVerdict::Refuse(refusal) => {
                self.dead = true;
                acts.push(Act::Fatal(FatalError::Guard(refusal)));
            }
        }
        CoreSignedVote::new(vote, signed.signature)
    }

    fn sign_proposal(&mut self, proposal: CoreProposal, acts: &mut Vec<Act>) -> CoreSignedProposal {
        let mut signed = proposal_from_core(&proposal, B512::ZERO);
        match self.guard.check_proposal(self.epoch, &signed) {
            GuardVerdict::Sign => {
                signed.signature = self.signer.sign(&signed.sign_bytes(self.network, self.epoch));
                self.guard.record_proposal(self.epoch, signed);
                acts.push(Act::Guard);
            }
            GuardVerdict::Same(signature) => signed.signature = signature,
            GuardVerdict::Refuse(refusal) => {
                self.dead = true;
                acts.push(Act::Fatal(FatalError::Guard(refusal)));
            }
        }
        CoreSignedProposal::new(proposal, signed.signature)
    }
}
