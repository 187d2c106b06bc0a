//! The door: what peers send is checked here, in the order of cost, before anything acts on it.
//!
//! Class and sender, height and round, membership and turn, whether it is news, and only then the signature. A
//! validator's vote occupies its own slot whoever relays it, so no peer can crowd out another.

use std::sync::Arc;

use fusion_types::limits::ROUND_MAX;
use fusion_types::{BlockId, Header, Height, Round, SealedBlock, ValidatorId};

use super::book::{Book, News, ProposalState};
use super::{Engine, HEIGHTS_AHEAD_MAX, Peer, Phase, ROUNDS_AHEAD_MAX};
use crate::certificates::{Polka, RoundCertificate, RoundReason};
use crate::evidence::Evidence;
use crate::interface::{FatalError, Fault, Output, Recipient};
use crate::signing::{SignedProposal, SignedVote, Verified};
use crate::wire::{Message, PeerId, SYNC_BLOCKS_MAX};

impl Engine {
    pub(super) fn connected(&mut self, peer: PeerId) {
        let validator = self.committee().index_of_peer(peer.0);
        self.peers.insert(peer, Peer { validator, strikes: 0 });
        if let Some(index) = validator {
            self.echo(peer, index);
        }
        self.send(Recipient::Peer(peer), self.status());
        if validator.is_some() {
            self.repeat_own(Recipient::Peer(peer));
        }
    }

    pub(super) fn received(&mut self, peer: PeerId, message: Message) {
        let Some(state) = self.peers.get(&peer) else {
            return;
        };
        if self.muted.get(&peer).is_some_and(|until| *until > self.now) {
            return;
        }
        let is_validator = state.validator.is_some();
        if is_validator && let Err(fault) = self.witness(&message) {
            self.fault(peer, fault);
            return;
        }
        if self.halted {
            return;
        }
        match message {
            Message::Status { tip, .. } => {
                if let Err(fault) = self.sync.status(self.now, peer, tip) {
                    self.fault(peer, Fault::Sync(fault));
                }
            }
            Message::SyncRequest { from, to } => self.serve_sync(peer, from, to),
            Message::SyncResponse { from, blocks } => {
                if let Err(fault) = self.sync.response(self.now, peer, from, blocks) {
                    self.fault(peer, Fault::Sync(fault));
                }
            }
            Message::BlockRequest { height, id } => self.serve_block(peer, height, id),
            Message::Block(block) => self.body(peer, block),
            // The pool's and settlement's business; the shell takes these out before.
            Message::Transactions(_) | Message::Offer(_) | Message::Attestation(_) => {}
            Message::Proposal(_)
            | Message::Vote(_)
            | Message::Polka(_)
            | Message::RoundCertificate(_)
            | Message::Evidence(_)
                if !is_validator =>
            {
                self.fault(peer, Fault::Stranger);
            }
            Message::Proposal(proposal) => self.sort(peer, proposal.height, message),
            Message::Vote(vote) => self.sort(peer, vote.height, message),
            Message::Evidence(evidence) => self.told(peer, *evidence),
            Message::Polka(Polka { height, .. }) | Message::RoundCertificate(RoundCertificate { height, .. }) => {
                self.sort(peer, height, message);
            }
        }
    }

    /// Sorts a consensus message by its height.
    pub(super) fn sort(&mut self, peer: PeerId, height: Height, message: Message) {
        if message.round().is_some_and(|round| round.0 > ROUND_MAX) {
            self.fault(peer, Fault::Round);
            return;
        }
        if self.machine.is_none() {
            return;
        }
        let current = self.height();
        if height == current && self.phase == Phase::Running {
            self.current(peer, message);
        } else if height < current || (height == current && self.phase == Phase::Decided) {
            self.late(peer, &message);
        } else if height.0 - current.0 <= HEIGHTS_AHEAD_MAX {
            self.future.keep(height, peer, message);
        }
    }

    fn current(&mut self, peer: PeerId, message: Message) {
        let result = match message {
            Message::Vote(vote) => self.vote(&vote),
            Message::Proposal(proposal) => self.proposal(&proposal),
            Message::Polka(polka) => self.polka(polka),
            Message::RoundCertificate(certificate) => self.round_certificate(certificate),
            _ => Ok(()),
        };
        if let Err(fault) = result {
            self.fault(peer, fault);
        }
    }

    fn is_too_far(&self, round: Round) -> bool {
        round.0 > self.round().0.saturating_add(ROUNDS_AHEAD_MAX)
    }

    fn vote(&mut self, vote: &SignedVote) -> Result<(), Fault> {
        if self.is_too_far(vote.round) {
            return Ok(());
        }
        let committee = self.schedule.committee(vote.height).clone();
        let index = committee.index_of(vote.validator).ok_or(Fault::UnknownValidator)?;
        if !self.book.wants_vote(index, vote) {
            return Ok(());
        }
        let vote = vote.verified(self.network, &committee).ok_or(Fault::Signature)?;
        if self.note_vote(&vote) {
            self.stir();
            let acts = self.machine.as_mut().map(|machine| machine.vote(&vote));
            self.apply(acts.unwrap_or_default());
        }
        Ok(())
    }

    /// Enters a vote into the book; says whether it is the first in its slot.
    pub(super) fn note_vote(&mut self, vote: &Verified<SignedVote>) -> bool {
        let committee = self.schedule.committee(vote.get().height);
        let Some(index) = committee.index_of(vote.get().validator) else {
            return false;
        };
        let power = committee.validators()[index].power;
        match self.book.add_vote(index, power, vote) {
            News::First => true,
            News::Nothing => false,
            News::Conflict(evidence) => {
                self.accuse(*evidence);
                false
            }
        }
    }

    pub(super) fn note_proposal(&mut self, proposal: Verified<SignedProposal>, state: ProposalState) {
        if let News::Conflict(evidence) = self.book.add_proposal(proposal, state) {
            self.accuse(*evidence);
        }
    }

    fn accuse(&mut self, evidence: Evidence) {
        if Some(evidence.validator()) == self.me {
            self.halt(FatalError::KeyInUse(evidence.height()));
            return;
        }
        // The mesh is full: whoever finds it tells all.
        if self.keep(evidence) {
            self.send(Recipient::Validators, Message::Evidence(Box::new(evidence)));
        }
    }

    /// Another validator found someone out. What it says of this node's key may be old, and stops it only as any other
    /// signature of the key does.
    fn told(&mut self, peer: PeerId, evidence: Evidence) {
        if !self.evidence.wants_hearsay(&evidence)
            || evidence.height().0 > self.height().0.saturating_add(HEIGHTS_AHEAD_MAX)
        {
            return;
        }
        let committee = self.schedule.committee(evidence.height());
        if evidence.verify(self.network, committee) {
            self.witness_evidence(&evidence);
            self.keep(evidence);
        } else {
            self.fault(peer, Fault::Evidence);
        }
    }

    fn keep(&mut self, evidence: Evidence) -> bool {
        let is_new = !self.halted && self.evidence.add(evidence);
        if is_new {
            tracing::error!(validator = %evidence.validator(), height = %evidence.height(), "a validator contradicts itself");
            self.outputs.push(Output::Evidence(evidence));
        }
        is_new
    }

    fn proposal(&mut self, proposal: &SignedProposal) -> Result<(), Fault> {
        if self.is_too_far(proposal.round) {
            return Ok(());
        }
        let scheduled = self.members.id(self.members.proposer(proposal.round));
        let rounds_fit = proposal.valid_round.is_none_or(|valid| valid < proposal.round);
        if scheduled != Some(proposal.proposer) || !rounds_fit {
            return Err(Fault::Proposal);
        }
        if !self.book.wants_proposal(proposal) {
            return Ok(());
        }
        let committee = self.schedule.committee(proposal.height);
        let proposal = proposal.verified(self.network, committee).ok_or(Fault::Signature)?;
        self.note_proposal(proposal, ProposalState::Waiting);
        self.stir();
        Ok(())
    }

    fn polka(&mut self, mut polka: Polka) -> Result<(), Fault> {
        let committee = self.schedule.committee(polka.height).clone();
        let known = |machine: &crate::malachite::Machine| machine.has_polka(polka.round, polka.block);
        if self.machine.as_ref().is_none_or(known) {
            return Ok(());
        }
        let votes = polka.votes(&committee).ok_or(Fault::Certificate)?;
        let votes = self.verify_all(votes)?;
        for (entry, vote) in polka.signatures.iter_mut().zip(&votes) {
            entry.signature = vote.get().signature;
        }
        let polka = Verified::certificate(polka, &votes);
        for vote in &votes {
            self.note_vote(vote);
        }
        self.stir();
        let acts = self.machine.as_mut().map(|machine| machine.polka(&polka));
        self.apply(acts.unwrap_or_default());
        Ok(())
    }

    fn round_certificate(&mut self, mut certificate: RoundCertificate) -> Result<(), Fault> {
        let superseded = match certificate.reason {
            RoundReason::Skip => certificate.round <= self.round(),
            RoundReason::Precommits => certificate.round < self.round(),
        };
        if superseded {
            return Ok(());
        }
        let committee = self.schedule.committee(certificate.height).clone();
        let votes = certificate.votes(&committee).ok_or(Fault::Certificate)?;
        let is_known = |vote: &SignedVote| {
            let index = committee.index_of(vote.validator);
            index.is_some_and(|index| self.book.same_vote(index, vote).is_some())
        };
        if votes.iter().all(is_known) {
            return Ok(());
        }
        let votes = self.verify_all(votes)?;
        for (entry, vote) in certificate.votes.iter_mut().zip(&votes) {
            entry.signature = vote.get().signature;
        }
        let certificate = Verified::certificate(certificate, &votes);
        for vote in &votes {
            self.note_vote(vote);
        }
        self.stir();
        let acts = self
            .machine
            .as_mut()
            .map(|machine| machine.round_certificate(&certificate));
        self.apply(acts.unwrap_or_default());
        Ok(())
    }

    /// Verifies the votes of a certificate, in their order. Those that the book has are taken from there.
    fn verify_all(&self, votes: Vec<SignedVote>) -> Result<Vec<Verified<SignedVote>>, Fault> {
        let committee = self.committee();
        let verified = votes.into_iter().map(|vote| {
            let index = committee.index_of(vote.validator).ok_or(Fault::UnknownValidator)?;
            if let Some(known) = self.book.same_vote(index, &vote) {
                return Ok(Verified::known(known));
            }
            vote.verified(self.network, committee).ok_or(Fault::Signature)
        });
        verified.collect()
    }

    /// A message of a height that is decided can still convict its signer.
    pub(super) fn late(&mut self, peer: PeerId, message: &Message) {
        let result = match message {
            Message::Vote(vote) => self.late_vote(vote),
            Message::Proposal(proposal) => self.late_proposal(proposal),
            _ => Ok(()),
        };
        if let Err(fault) = result {
            self.fault(peer, fault);
        }
    }

    /// The book of the height in progress or of the one below it.
    fn book_of(&mut self, height: Height) -> Option<&mut Book> {
        let books = std::iter::once(&mut self.book).chain(&mut self.last_book);
        books.into_iter().find(|book| book.height() == height)
    }

    /// The first vote in a place is kept as well: the one that contradicts it may be later still. Rounds that nobody
    /// was heard in are no news of a height that is over, so that a signer cannot fill the book with them.
    fn late_vote(&mut self, vote: &SignedVote) -> Result<(), Fault> {
        let network = self.network;
        let committee = self.schedule.committee(vote.height).clone();
        let (Some(index), Some(book)) = (committee.index_of(vote.validator), self.book_of(vote.height)) else {
            return Ok(());
        };
        if vote.round > book.last_round() || !book.wants_vote(index, vote) {
            return Ok(());
        }
        let vote = vote.verified(network, &committee).ok_or(Fault::Signature)?;
        if let News::Conflict(evidence) = book.add_vote(index, committee.validators()[index].power, &vote) {
            self.accuse(*evidence);
        }
        Ok(())
    }

    /// Only a second proposal of one round is of interest; that the first was its proposer's turn has been checked.
    fn late_proposal(&mut self, proposal: &SignedProposal) -> Result<(), Fault> {
        let network = self.network;
        let committee = self.schedule.committee(proposal.height).clone();
        let Some(book) = self.book_of(proposal.height) else {
            return Ok(());
        };
        let is_second = book.proposal_by(proposal.proposer, proposal.round).is_some();
        if !is_second || !book.wants_proposal(proposal) {
            return Ok(());
        }
        let proposal = proposal.verified(network, &committee).ok_or(Fault::Signature)?;
        if let News::Conflict(evidence) = book.add_proposal(proposal, ProposalState::Settled) {
            self.accuse(*evidence);
        }
        Ok(())
    }

    /// Whether a header belongs to the height above the tip.
    pub(super) fn header_fits(&self, header: &Header) -> bool {
        let height = self.height();
        header.network == self.network
            && header.height == height
            && header.parent == self.tip.id
            && header.epoch == self.committee().epoch()
            && header.committee == self.schedule.committee_hash(height)
    }

    /// Whether a block built by `builder` may be what `proposal` proposes: a fresh block is the proposer's own, one
    /// that is proposed again was somebody's in a round up to its polka's.
    pub(super) fn proposer_fits(&self, builder: ValidatorId, proposal: &SignedProposal) -> bool {
        match proposal.valid_round {
            None => builder == proposal.proposer,
            Some(valid) => {
                let index = self.committee().index_of(builder);
                index.is_some_and(|index| self.members.proposes_until(index, valid))
            }
        }
    }

    fn body(&mut self, peer: PeerId, block: Arc<SealedBlock>) {
        let (id, height) = (block.id(), self.height());
        if self.bodies.is_wanted(id) {
            self.bodies.insert(self.now, block);
            return;
        }
        let Some(index) = self.peers.get(&peer).and_then(|peer| peer.validator) else {
            return;
        };
        let header = block.header();
        let pushed_by_builder = self.members.id(index) == Some(header.proposer) && header.network == self.network;
        if self.machine.is_none() || !pushed_by_builder || self.body_is_here(id) {
            return;
        }
        let soon = Round(self.round().0.saturating_add(1));
        let room = if header.height == height {
            self.phase != Phase::Decided
                && self.members.proposes_until(index, soon)
                && self.bodies.has_room_for(header.proposer, height)
        } else {
            header.height == height.next() && self.bodies.has_future_room_for(header.proposer, header.height)
        };
        if !room {
            return;
        }
        self.bodies.insert(self.now, block);
        let (book, quorum, current) = (&self.book, self.committee().quorum(), self.round());
        self.bodies.make_room(height, |old| {
            let last = book.last_proposed(old).unwrap_or_default();
            let matters = old == id || last >= current || book.has_polka(old, quorum);
            (!matters).then_some(last)
        });
    }

    fn serve_sync(&mut self, peer: PeerId, from: Height, to: Height) {
        if from.0 == 0 || to < from || to.0 - from.0 >= SYNC_BLOCKS_MAX {
            self.fault(peer, Fault::Request);
            return;
        }
        let to = to.min(self.tip.height);
        if to < from {
            let blocks = Vec::new();
            self.send(Recipient::Peer(peer), Message::SyncResponse { from, blocks });
            return;
        }
        self.outputs.push(Output::ServeSync { peer, from, to });
    }

    fn serve_block(&mut self, peer: PeerId, height: Height, id: BlockId) {
        if let Some(block) = self.bodies.get(id).cloned() {
            if self.bodies.may_serve(peer, id) {
                self.send(Recipient::Peer(peer), Message::Block(block));
            }
        } else if height <= self.tip.height && height.0 > 0 {
            self.outputs.push(Output::ServeBlock { peer, height, id });
        }
    }
}
