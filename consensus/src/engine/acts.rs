//! What the core wants, done: timers, log, guard, messages, decisions.

use std::sync::Arc;

use fusion_types::{BlockId, Height, Round, SealedBlock, ValidatorId};

use super::bodies::Verdict;
use super::book::ProposalState;
use super::{Engine, Phase};
use crate::context::convert::timeout_to_core;
use crate::interface::{Output, Recipient};
use crate::malachite::Act;
use crate::signing::{SignedProposal, Verified};
use crate::timers::TimerKind;
use crate::wal::{ProposedBlock, WalEntry, WalRecord};
use crate::wire::Message;

impl Engine {
    pub(super) fn apply(&mut self, acts: Vec<Act>) {
        let mut guarded = false;
        for act in acts {
            if self.halted {
                return;
            }
            match act {
                Act::ClearTimers => self.timers.clear(),
                Act::CancelTimer(kind, round) => self.timers.cancel(kind, round),
                Act::SetTimer(kind, round) => {
                    self.set_timer(kind, round);
                    if kind == TimerKind::Precommit {
                        self.show_polka(round);
                    }
                }
                Act::NewRound(round) => {
                    tracing::debug!(height = %self.height(), %round, "new round");
                }
                Act::SendProposal(proposal) => self.send_proposal(proposal),
                Act::SendVote(vote) => self.send_live(Message::Vote(vote)),
                Act::SendPolka(polka) => self.send_live(Message::Polka(polka)),
                Act::SendRoundCertificate(certificate) => self.send_live(Message::RoundCertificate(certificate)),
                Act::GetValue(round) => {
                    if self.replayed.is_none() {
                        self.need_block(round);
                    }
                }
                // The book has the same precommits: the decision is found there, by the same rule.
                Act::Decide { round, block } => {
                    tracing::debug!(height = %self.height(), %round, %block, "decided");
                }
                Act::Log(record) => self.log_record(record),
                // One run of the core may sign twice; the guard's state holds both.
                Act::Guard => {
                    if let Some(guard) = self.guard().copied().filter(|_| !guarded) {
                        guarded = true;
                        self.outputs.push(Output::PersistGuard(guard));
                    }
                }
                Act::Rebroadcast => {}
                Act::Fatal(error) => self.halt(error),
            }
        }
    }

    /// Sends to all validators, unless the log is being replayed: then the last messages are sent once, at its end.
    fn send_live(&mut self, message: Message) {
        if self.replayed.is_none() {
            self.send(Recipient::Validators, message);
        }
    }

    fn send_proposal(&mut self, proposal: SignedProposal) {
        self.send_live(Message::Proposal(proposal));
        // A fresh block is pushed; a block that is proposed again is at hand almost everywhere.
        let fresh = Some(proposal.proposer) == self.me && proposal.valid_round.is_none();
        if let Some(block) = self.bodies.get(proposal.block).filter(|_| fresh) {
            self.send_live(Message::Block(Arc::clone(block)));
        }
    }

    fn set_timer(&mut self, kind: TimerKind, round: Round) {
        use arc_malachitebft_core_types::Timeouts as _;
        let duration = self.timeouts.duration_for(timeout_to_core(kind, round));
        let idle = kind == TimerKind::Propose && round == Round(0) && !self.stirred;
        let idle = if idle { self.idle } else { std::time::Duration::ZERO };
        // Never at once: a repetition that is due as soon as it is set would never let the caller go.
        let duration = duration.max(std::time::Duration::from_millis(1));
        self.timers.set(kind, round, self.now + idle + duration);
    }

    pub(super) fn fire_timers(&mut self) {
        while let Some((kind, round)) = self.timers.pop(self.now) {
            if self.phase != Phase::Running || self.halted {
                return;
            }
            if kind == TimerKind::Rebroadcast {
                self.repeat_own(Recipient::Validators);
                self.repeat_others();
            }
            let acts = self.machine.as_mut().map(|machine| machine.timeout(kind, round));
            self.apply(acts.unwrap_or_default());
        }
    }

    /// Logs a record and enters own messages into the book. In a replay only what the log lacks is logged.
    fn log_record(&mut self, record: WalRecord) {
        let Some(me) = self.me else { return };
        let own = record.is_signed_by(me);
        if own {
            match &record.entry {
                WalEntry::Vote(vote) => {
                    self.note_vote(&Verified::known(*vote));
                }
                WalEntry::Proposal(proposal) => {
                    self.note_proposal(Verified::known(*proposal), ProposalState::Settled);
                }
                _ => {}
            }
        }
        let logged = match &self.replayed {
            Some(replayed) => !own || replayed.contains(&record.entry),
            None => false,
        };
        if !logged {
            self.outputs.push(Output::Persist(record));
        }
    }

    pub(super) fn propose(&mut self, height: Height, round: Round, block: Arc<SealedBlock>) {
        if self.phase != Phase::Running || height != self.height() || round != self.round() {
            tracing::debug!(%height, %round, "a block to propose came too late");
            return;
        }
        let mine = self.me.is_some() && self.members.id(self.members.proposer(round)) == self.me;
        if !mine || self.is_quarantined() || self.propose_again(round) {
            return;
        }
        if !self.header_fits(block.header()) || Some(block.header().proposer) != self.me {
            tracing::error!(%height, %round, "the block to propose does not fit this height");
            return;
        }
        let id = block.id();
        self.bodies.insert(self.now, block);
        self.bodies.set_verdict(id, Verdict::Valid);
        self.bodies.tell(id);
        let acts = self.machine.as_mut().map(|machine| machine.propose(height, round, id));
        self.apply(acts.unwrap_or_default());
    }

    pub(super) fn checked(&mut self, height: Height, id: BlockId, valid: bool) {
        if height == self.height() && self.bodies.verdict(id) == Some(Verdict::Asked) {
            self.bodies
                .set_verdict(id, if valid { Verdict::Valid } else { Verdict::Invalid });
        }
    }

    /// Takes each waiting proposal a step on; says whether any moved.
    pub(super) fn try_proposals(&mut self) -> bool {
        if self.phase != Phase::Running {
            return false;
        }
        let mut moved = false;
        // One round ahead: peers that entered the next round a moment earlier are common.
        let round = Round(self.round().0.saturating_add(1));
        for proposal in self.book.waiting_proposals(round) {
            if self.phase != Phase::Running || self.halted {
                break;
            }
            moved |= self.try_proposal(&proposal);
        }
        moved
    }

    fn try_proposal(&mut self, verified: &Verified<SignedProposal>) -> bool {
        let proposal = *verified.get();
        let Some(block) = self.bodies.get(proposal.block).cloned() else {
            if let Some(Verdict::Valid | Verdict::Invalid) = self.bodies.verdict(proposal.block) {
                return self.give_to_core(verified);
            }
            self.bodies.want(self.now, proposal.block, false);
            return false;
        };
        let header = block.header();
        if !self.proposer_fits(header.proposer, &proposal) {
            tracing::warn!(round = %proposal.round, proposer = %proposal.proposer, "a proposal of someone else's block");
            self.book.settle(&proposal);
            return false;
        }
        match self.bodies.verdict(proposal.block) {
            Some(Verdict::Asked) => false,
            Some(Verdict::Valid | Verdict::Invalid) => self.give_to_core(verified),
            None if self.header_fits(header) => {
                self.bodies.set_verdict(proposal.block, Verdict::Asked);
                let (height, round) = (proposal.height, self.built_in(header.proposer, &proposal));
                self.outputs.push(Output::CheckBlock { height, round, block });
                false
            }
            None => {
                self.bodies.set_verdict(proposal.block, Verdict::Invalid);
                self.give_to_core(verified)
            }
        }
    }

    /// The round that a block was built for, whose rules it keeps: not the one in which it is proposed again.
    fn built_in(&self, builder: ValidatorId, proposal: &SignedProposal) -> Round {
        let built = self
            .committee()
            .index_of(builder)
            .and_then(|index| self.members.first_round(index));
        built
            .filter(|_| proposal.valid_round.is_some())
            .unwrap_or(proposal.round)
    }

    fn give_to_core(&mut self, verified: &Verified<SignedProposal>) -> bool {
        let proposal = verified.get();
        self.book.settle(proposal);
        let acts = self.machine.as_mut().map(|machine| machine.proposal(verified));
        self.apply(acts.unwrap_or_default());
        self.tell_verdict(proposal);
        true
    }

    /// Tells the core the verdict about a proposal's block, once.
    pub(super) fn tell_verdict(&mut self, proposal: &SignedProposal) {
        if self.phase != Phase::Running || self.halted || !self.bodies.tell(proposal.block) {
            return;
        }
        let value = ProposedBlock {
            round: proposal.round,
            valid_round: proposal.valid_round,
            proposer: proposal.proposer,
            block: proposal.block,
            valid: self.bodies.verdict(proposal.block) == Some(Verdict::Valid),
        };
        let height = proposal.height;
        let acts = self.machine.as_mut().map(|machine| machine.value(height, &value));
        self.apply(acts.unwrap_or_default());
    }
}
