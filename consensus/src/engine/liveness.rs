//! What brings a decision sooner where the paper only promises that it comes: repetitions, waits that end early, and
//! blocks that are proposed again.
//!
//! Nothing here bears on safety: a repetition says what was said before, a wait may end at any time, and whatever is
//! proposed has to pass every lock.

use fusion_types::{BlockId, Round, VoteKind};

use super::bodies::Verdict;
use super::{Engine, Phase, RELAYED_VOTES_MAX};
use crate::context::convert::timeout_to_core;
use crate::interface::{Output, Recipient};
use crate::timers::TimerKind;
use crate::wire::Message;

impl Engine {
    /// There is a reason to expect a proposal: the proposer's time starts to run.
    pub(super) fn stir(&mut self) {
        use arc_malachitebft_core_types::Timeouts as _;
        if self.stirred {
            return;
        }
        self.stirred = true;
        let round = Round(0);
        let duration = self.timeouts.duration_for(timeout_to_core(TimerKind::Propose, round));
        self.timers.hasten(TimerKind::Propose, round, self.now + duration);
    }

    /// Ends the waits of this round that can bring nothing.
    ///
    /// The wait for prevotes is for a polka: there is none to come when everybody has prevoted. The wait for precommits
    /// lets everybody see the polka on which somebody may have locked, so that the next proposer proposes it again:
    /// there is none to see where a quorum prevoted nil, and none to come when everybody has precommitted and each
    /// polka is here.
    pub(super) fn end_vain_waits(&mut self) {
        let round = self.round();
        if self.phase != Phase::Running || self.halted || self.commit.is_some() {
            return;
        }
        let (committee, book) = (self.committee(), &self.book);
        let (quorum, everybody) = (committee.quorum(), committee.total_power());
        let prevotes = |counts: fn(Option<BlockId>) -> bool| book.power(committee, round, VoteKind::Prevote, counts);
        let precommits = || book.power(committee, round, VoteKind::Precommit, |_| true);
        let prevoting = self.timers.is_set(TimerKind::Prevote, round)
            && book.polka_of(round, quorum).is_none()
            && prevotes(|_| true) == everybody;
        let precommitting = self.timers.is_set(TimerKind::Precommit, round)
            && (prevotes(|block| block.is_none()) >= quorum
                || (precommits() == everybody && book.knows_every_polka(round, quorum)));
        for (kind, vain) in [(TimerKind::Prevote, prevoting), (TimerKind::Precommit, precommitting)] {
            if vain {
                self.timers.hasten(kind, round, self.now);
            }
        }
    }

    /// Precommits of `round` disagree: whoever waits for them is shown the polka on which this node precommitted. In
    /// time, the next proposer proposes its block again; else the round after may be lost to a lock that nobody knew.
    pub(super) fn show_polka(&mut self, round: Round) {
        if let Some(block) = self.book.polka_of(round, self.committee().quorum())
            && self.replayed.is_none()
        {
            let polka = self.book.polka(round, block);
            self.send(Recipient::Validators, Message::Polka(polka));
        }
    }

    /// The core wants a block to propose and has none to propose again.
    pub(super) fn need_block(&mut self, round: Round) {
        if !self.propose_again(round) {
            let height = self.height();
            self.outputs.push(Output::NeedBlock { height, round });
        }
    }

    /// Proposes the block of the last polka again; says whether it did.
    ///
    /// The core takes a polka for its valid value while its round lasts (line 36). One that came later it would pass
    /// over, and propose a new block that whoever locked on the old one has to refuse, at the cost of a round for each
    /// proposer that came too late. A polka of any earlier round is as good a reason to accept a block (line 28).
    pub(super) fn propose_again(&mut self, round: Round) -> bool {
        let (height, quorum) = (self.height(), self.committee().quorum());
        let polka = self.book.last_polka(quorum).filter(|(at, _)| *at < round);
        let Some((valid_round, block)) = polka else {
            return false;
        };
        if self.bodies.verdict(block) != Some(Verdict::Valid) || !self.body_is_here(block) || self.is_quarantined() {
            return false;
        }
        let Some(machine) = self.machine.as_mut().filter(|machine| machine.is_proposing()) else {
            return false;
        };
        let (proposal, acts) = machine.propose_again(height, round, valid_round, block);
        let polka = self.book.polka(valid_round, block);
        self.apply(acts);
        // What the core did not take is not said.
        if self.book.proposal_by(proposal.proposer, round) == Some(&proposal) && !self.halted {
            self.send(Recipient::Validators, Message::Polka(polka));
            self.send(Recipient::Validators, Message::Proposal(proposal));
            self.tell_verdict(&proposal);
        }
        true
    }

    /// Sends what this node said last at this height: whoever missed it needs nothing more to go on. The round's
    /// proposal belongs to it, whoever made it: its proposer may be gone.
    pub(super) fn repeat_own(&mut self, to: Recipient) {
        let (Some(me), Phase::Running) = (self.me, self.phase) else {
            return;
        };
        let round = self.round();
        for proposal in self.book.proposals_of_round(round) {
            self.send(to, Message::Proposal(proposal));
            let own = proposal.proposer == me && to != Recipient::Validators;
            if let Some(block) = self.bodies.get(proposal.block).filter(|_| own) {
                self.send(to, Message::Block(block.clone()));
            }
        }
        let votes = self.book.votes_of_round(round).filter(|vote| vote.validator == me);
        for vote in votes.copied().collect::<Vec<_>>() {
            self.send(to, Message::Vote(vote));
        }
        let Some(machine) = &self.machine else { return };
        let (polka, certificate) = (machine.best_polka(), machine.best_round_certificate());
        if let Some(polka) = polka {
            self.send(to, Message::Polka(polka));
        }
        if let Some(certificate) = certificate {
            self.send(to, Message::RoundCertificate(certificate));
        }
    }

    /// Repeats the tip and others' votes when a round does not move: two validators that cannot reach each other may
    /// both reach this node. A few at a time, so that a large committee is not flooded.
    pub(super) fn repeat_others(&mut self) {
        let round = self.round();
        if self.repeated.replace(round) != Some(round) {
            return;
        }
        self.send(Recipient::Validators, self.status());
        let me = self.me;
        let others = self
            .book
            .votes_of_round(round)
            .filter(|vote| Some(vote.validator) != me);
        let others: Vec<_> = others.copied().collect();
        let start = if self.relay_from < others.len() {
            self.relay_from
        } else {
            0
        };
        let end = others.len().min(start + RELAYED_VOTES_MAX);
        self.relay_from = end;
        for vote in &others[start..end] {
            self.send(Recipient::Validators, Message::Vote(*vote));
        }
    }
}
