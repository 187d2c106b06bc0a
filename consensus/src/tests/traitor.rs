//! A validator that lies with its own key.

use std::sync::Arc;

use fusion_types::{BlockId, Epoch, Height, Round, SealedBlock, VoteKind};

use super::cluster::{Cluster, NETWORK};
use crate::signing::Signer;
use crate::{Message, SignedProposal, SignedVote};

impl Cluster {
    /// What a traitor says instead of `message`: another block of its own, and votes for what it does not vote for.
    pub(super) fn lie(&self, traitor: usize, message: &Message) -> Message {
        let other = |block: &Arc<SealedBlock>| {
            let mut block = block.block().clone();
            block.header.time_ms += 1;
            Arc::new(SealedBlock::new(&block).unwrap())
        };
        let signer = Signer::new(self.keys[traitor].clone());
        match message {
            Message::Vote(vote) if vote.validator == signer.id() => {
                let bodies = self.nodes[traitor].disk.bodies.keys().next().copied();
                let mut vote = *vote;
                vote.block = if vote.block.is_some() { None } else { bodies };
                vote.signature = signer.sign(&vote.sign_bytes(NETWORK, Epoch(0)));
                Message::Vote(vote)
            }
            Message::Proposal(proposal) if proposal.proposer == signer.id() && proposal.valid_round.is_none() => {
                let Some(body) = self.nodes[traitor].disk.bodies.get(&proposal.block) else {
                    return message.clone();
                };
                let mut proposal = *proposal;
                proposal.block = other(body).id();
                proposal.signature = signer.sign(&proposal.sign_bytes(NETWORK, Epoch(0)));
                Message::Proposal(proposal)
            }
            Message::Block(body) if body.header().proposer == signer.id() => Message::Block(other(body)),
            _ => message.clone(),
        }
    }

    /// A vote with the key of `index`.
    pub(super) fn sign_vote(&self, index: usize, height: u64, kind: VoteKind, block: Option<BlockId>) -> SignedVote {
        self.sign_vote_in(index, (height, Round(0)), kind, block)
    }

    /// The same in any round.
    pub(super) fn sign_vote_in(
        &self,
        index: usize,
        (height, round): (u64, Round),
        kind: VoteKind,
        block: Option<BlockId>,
    ) -> SignedVote {
        let signer = Signer::new(self.keys[index].clone());
        let mut vote = SignedVote {
            height: Height(height),
            round,
            kind,
            block,
            validator: signer.id(),
            signature: alloy_primitives::B512::ZERO,
        };
        vote.signature = signer.sign(&vote.sign_bytes(NETWORK, Epoch(0)));
        vote
    }

    /// A proposal of a fresh block by the key of a node, made without it.
    pub(super) fn sign_proposal(&self, index: usize, height: u64, block: BlockId) -> SignedProposal {
        let signer = Signer::new(self.keys[index].clone());
        let mut proposal = SignedProposal {
            height: Height(height),
            round: Round(0),
            valid_round: None,
            block,
            proposer: signer.id(),
            signature: alloy_primitives::B512::ZERO,
        };
        proposal.signature = signer.sign(&proposal.sign_bytes(NETWORK, Epoch(0)));
        proposal
    }
}
