//! What others have seen of this node's key that this process did not sign.
//!
//! The guard records every signature before it leaves, so a message under this key above the guard's last place comes
//! from another life of the key: a newer copy of this home, or a process that runs beside this one. A node that
//! is silent stays silent up to that height; a node that votes stops, for two voices of one key can contradict each
//! other. Validators tell each other at every connection what they last heard of the other, so that both lives learn of
//! it.

use fusion_types::{Certificate, Height, VoteKind};

use super::Engine;
use crate::evidence::Evidence;
use crate::guard::{GuardRefusal, GuardState, GuardVerdict};
use crate::interface::{FatalError, Fault, Recipient};
use crate::signing::{SignedProposal, SignedVote};
use crate::wire::{Message, PeerId};

impl Engine {
    /// Tells the validator at `index`, just connected, the last that was heard of it at this height.
    pub(super) fn echo(&mut self, peer: PeerId, index: usize) {
        let Some(validator) = self.committee().validators().get(index).map(|member| member.id) else {
            return;
        };
        let proposal = self.book.last_proposal_of(validator).copied();
        let vote = self.book.last_vote_of(validator).copied();
        let messages = proposal
            .map(Message::Proposal)
            .into_iter()
            .chain(vote.map(Message::Vote));
        for message in messages {
            self.send(Recipient::Peer(peer), message);
        }
    }

    /// Looks at a message before it is sorted: whatever its height, one of this node's own key is news of the key.
    pub(super) fn witness(&mut self, message: &Message) -> Result<(), Fault> {
        match message {
            Message::Vote(vote) if Some(vote.validator) == self.me && self.is_foreign_vote(vote) => {
                let committee = self.schedule.committee(vote.height);
                if !vote.verify(self.network, committee) {
                    return Err(Fault::Signature);
                }
                self.other_life(vote.height);
            }
            Message::Proposal(proposal) if Some(proposal.proposer) == self.me && self.is_foreign_proposal(proposal) => {
                let committee = self.schedule.committee(proposal.height);
                if !proposal.verify(self.network, committee) {
                    return Err(Fault::Signature);
                }
                self.other_life(proposal.height);
            }
            _ => {}
        }
        Ok(())
    }

    /// Looks at a verified certificate of a block that this node did not decide itself.
    pub(super) fn witness_certificate(&mut self, certificate: &Certificate) {
        let committee = self.schedule.committee(certificate.height);
        let mine = self.me.and_then(|me| committee.index_of(me));
        let entry = certificate
            .signatures
            .iter()
            .find(|entry| Some(entry.validator as usize) == mine);
        let (Some(validator), Some(entry)) = (self.me, entry) else {
            return;
        };
        let vote = SignedVote {
            height: certificate.height,
            round: certificate.round,
            kind: VoteKind::Precommit,
            block: Some(certificate.block),
            validator,
            signature: entry.signature,
        };
        if self.is_foreign_vote(&vote) {
            self.other_life(vote.height);
        }
    }

    /// Looks at verified evidence.
    pub(super) fn witness_evidence(&mut self, evidence: &Evidence) {
        let is_foreign = Some(evidence.validator()) == self.me
            && match evidence {
                Evidence::Votes(first, second) => self.is_foreign_vote(first) || self.is_foreign_vote(second),
                Evidence::Proposals(first, second) => {
                    self.is_foreign_proposal(first) || self.is_foreign_proposal(second)
                }
            };
        if is_foreign {
            self.other_life(evidence.height());
        }
    }

    /// Whether the guard shows that this process did not sign `vote`, which is under this node's key.
    fn is_foreign_vote(&self, vote: &SignedVote) -> bool {
        let epoch = self.schedule.committee(vote.height).epoch();
        self.is_foreign(vote.height, |guard| guard.check_vote(epoch, vote))
    }

    fn is_foreign_proposal(&self, proposal: &SignedProposal) -> bool {
        let epoch = self.schedule.committee(proposal.height).epoch();
        self.is_foreign(proposal.height, |guard| guard.check_proposal(epoch, proposal))
    }

    /// Below the last height that it knows of, by vote or proposal, the guard cannot tell: old messages prove nothing.
    /// Up to the quarantine the other life is known.
    fn is_foreign(&self, height: Height, check: impl FnOnce(&GuardState) -> GuardVerdict) -> bool {
        let last = self.guard().and_then(GuardState::height);
        if last.is_some_and(|last| height < last) || self.quarantine.is_some_and(|until| height <= until) {
            return false;
        }
        let verdict = self.guard().map(check);
        matches!(
            verdict,
            Some(GuardVerdict::Sign | GuardVerdict::Refuse(GuardRefusal::Conflict { .. }))
        )
    }

    fn other_life(&mut self, height: Height) {
        if self.is_voting() {
            self.halt(FatalError::KeyInUse(height));
            return;
        }
        tracing::error!(
            %height,
            "this key has signed what this node did not: is another process running with it? Nothing is signed up to this height"
        );
        self.quarantine = self.quarantine.max(Some(height));
    }
}
