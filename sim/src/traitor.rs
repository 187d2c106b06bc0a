//! Validators that do not keep to the protocol: what they do to the messages of a node that would, and what they add.
//!
//! A traitor has its own keys and all that it heard; it cannot sign for others. The exception is a replay: validators
//! may well use their keys on another network, so that signatures of honest keys over other networks and epochs are
//! around.

use std::sync::Arc;

use alloy_primitives::{B256, B512};
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use fusion_consensus::{Evidence, Message, Polka, RoundCertificate, SignedProposal, SignedVote};
use fusion_types::{
    BlockId, CommitteeSignature, DecidedBlock, Epoch, Height, Lane, NetworkId, Round, SealedBlock, TxHash, ValidatorId,
    VoteKind, merkle_root, transaction_hash,
};

use crate::rng::Rng;

/// A way to break the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    EquivocateVotes,
    EquivocateProposals,
    WithholdProposals,
    WithholdBodies,
    WithholdVotes,
    SelectiveSend,
    Amnesia,
    InvalidBlock,
    JunkBodies,
    StaleFlood,
    FutureFlood,
    ForgedCertificates,
    Replay,
    LyingSync,
    SlowDrip,
    FalseEvidence,
}

/// Every deed, with its name in reports.
pub(crate) const DEEDS: [(Deed, &str); 16] = [
    (Deed::EquivocateVotes, "equivocate votes"),
    (Deed::EquivocateProposals, "equivocate proposals"),
    (Deed::WithholdProposals, "withhold proposals"),
    (Deed::WithholdBodies, "withhold bodies"),
    (Deed::WithholdVotes, "withhold votes"),
    (Deed::SelectiveSend, "send to some only"),
    (Deed::Amnesia, "forget locks"),
    (Deed::InvalidBlock, "propose invalid blocks"),
    (Deed::JunkBodies, "send junk bodies"),
    (Deed::StaleFlood, "flood with the past"),
    (Deed::FutureFlood, "flood with the future"),
    (Deed::ForgedCertificates, "forge certificates"),
    (Deed::Replay, "replay other networks"),
    (Deed::LyingSync, "lie in sync"),
    (Deed::SlowDrip, "drip in sync"),
    (Deed::FalseEvidence, "accuse the honest"),
];

/// Signed messages remembered for later use.
const REMEMBERED_MAX: usize = 64;

/// One traitor.
#[derive(Debug)]
pub(crate) struct Traitor {
    deeds: Vec<Deed>,
    rng: Rng,
    network: NetworkId,
    key: SigningKey,
    /// Keys of all, for what they signed on other networks.
    keys: Vec<SigningKey>,
    heard: Vec<Message>,
    bodies: Vec<Arc<SealedBlock>>,
    proposed: Option<SignedProposal>,
    height: Height,
}

/// A message and for which of the other nodes it is.
pub(crate) type Twisted = (Vec<usize>, Message);

impl Traitor {
    pub(crate) fn new(deeds: Vec<Deed>, rng: Rng, network: NetworkId, key: SigningKey, keys: Vec<SigningKey>) -> Self {
        Self {
            deeds,
            rng,
            network,
            key,
            keys,
            heard: Vec::new(),
            bodies: Vec::new(),
            proposed: None,
            height: Height(1),
        }
    }

    pub(crate) fn does(&self, deed: Deed) -> bool {
        self.deeds.contains(&deed)
    }

    fn id(&self) -> ValidatorId {
        ValidatorId(B256::from(self.key.verifying_key().to_bytes()))
    }

    /// Takes in what the node behind it receives.
    pub(crate) fn hear(&mut self, message: &Message) {
        match message {
            Message::Block(block) => {
                self.height = self.height.max(block.header().height);
                self.bodies.push(block.clone());
                if self.bodies.len() > 4 {
                    self.bodies.remove(0);
                }
            }
            Message::Vote(_) | Message::Proposal(_) | Message::Polka(_) | Message::RoundCertificate(_) => {
                if self.heard.len() == REMEMBERED_MAX {
                    let at = self.rng.index(REMEMBERED_MAX);
                    self.heard.swap_remove(at);
                }
                self.heard.push(message.clone());
            }
            _ => {}
        }
    }

    /// What becomes of a message that the node behind it sends to `to`.
    pub(crate) fn twist(&mut self, to: Vec<usize>, message: Message) -> Vec<Twisted> {
        let mut to = to;
        if self.does(Deed::SelectiveSend) {
            to.retain(|node| node % 2 == 0);
        }
        match message {
            Message::Vote(vote) if vote.validator == self.id() => self.vote(to, vote),
            Message::Proposal(proposal) if proposal.proposer == self.id() => {
                if self.does(Deed::WithholdProposals) {
                    return Vec::new();
                }
                self.proposed = Some(proposal);
                // A fresh proposal is twisted together with its body, which follows at once.
                let with_body = self.does(Deed::EquivocateProposals) || self.does(Deed::InvalidBlock);
                if with_body && proposal.valid_round.is_none() {
                    return Vec::new();
                }
                vec![(to, Message::Proposal(proposal))]
            }
            Message::Block(block) => self.body(to, block),
            other => vec![(to, other)],
        }
    }

    fn vote(&mut self, to: Vec<usize>, mut vote: SignedVote) -> Vec<Twisted> {
        if self.does(Deed::WithholdVotes) && self.rng.chance(500) {
            return Vec::new();
        }
        if self.does(Deed::Amnesia) && vote.block.is_none() {
            let at = (vote.height, vote.round);
            let seen = self.heard.iter().rev().find_map(|message| match message {
                Message::Proposal(proposal) if (proposal.height, proposal.round) == at => Some(proposal.block),
                _ => None,
            });
            if let Some(block) = seen {
                vote.block = Some(block);
                vote = self.sign_vote(vote);
            }
        }
        if !self.does(Deed::EquivocateVotes) {
            return vec![(to, Message::Vote(vote))];
        }
        let block = match vote.block {
            Some(_) if self.rng.chance(500) => None,
            _ => Some(self.some_block()),
        };
        let other = self.sign_vote(SignedVote { block, ..vote });
        let (some, rest): (Vec<usize>, Vec<usize>) = to.into_iter().partition(|_| self.rng.chance(500));
        let both = self.rng.chance(300);
        let second = if both { [some.as_slice(), &rest].concat() } else { rest };
        vec![(some, Message::Vote(vote)), (second, Message::Vote(other))]
    }

    fn body(&mut self, to: Vec<usize>, block: Arc<SealedBlock>) -> Vec<Twisted> {
        let proposal = self.proposed.filter(|proposal| proposal.block == block.id());
        let fresh = proposal.filter(|proposal| proposal.valid_round.is_none());
        if self.does(Deed::WithholdBodies) && proposal.is_some() {
            let one = to.first().copied().into_iter().collect();
            return vec![(one, Message::Block(block))];
        }
        let Some(proposal) = fresh else {
            return vec![(to, Message::Block(block))];
        };
        if self.does(Deed::InvalidBlock) {
            let Some(bad) = self.spoiled(&block) else {
                return Vec::new();
            };
            let signed = self.sign_proposal(SignedProposal {
                block: bad.id(),
                ..proposal
            });
            return vec![(to.clone(), Message::Proposal(signed)), (to, Message::Block(bad))];
        }
        if self.does(Deed::EquivocateProposals) {
            let Some(second) = altered(&block, |header| header.time_ms += 1) else {
                return Vec::new();
            };
            let signed = self.sign_proposal(SignedProposal {
                block: second.id(),
                ..proposal
            });
            let (some, rest): (Vec<usize>, Vec<usize>) = to.into_iter().partition(|_| self.rng.chance(500));
            let both = if self.rng.chance(300) {
                [some.as_slice(), &rest].concat()
            } else {
                rest
            };
            return vec![
                (some.clone(), Message::Proposal(proposal)),
                (some, Message::Block(block)),
                (both.clone(), Message::Proposal(signed)),
                (both, Message::Block(second)),
            ];
        }
        vec![(to, Message::Block(block))]
    }

    /// A well-formed block that breaks one rule of validity.
    fn spoiled(&mut self, block: &SealedBlock) -> Option<Arc<SealedBlock>> {
        // Few blocks can be disordered so that it shows: it is tried more often than the rest.
        let choice = self.rng.below(12);
        if let (6 | 9.., Some(disordered)) = (choice, disordered(block)) {
            return Some(disordered);
        }
        let junk = B256::from(self.key.verifying_key().to_bytes());
        altered(block, |header| match choice {
            0 => header.state_root = junk,
            1 => header.time_ms = header.time_ms.saturating_sub(1_000_000),
            2 => header.time_ms += 3_600_000,
            3 => header.committee = junk,
            4 => header.l1_origin.number += 1,
            7 => header.l1_origin.hash = junk,
            8 => header.forced_to = if header.forced_to.is_some() { None } else { Some(1) },
            _ => header.parent = BlockId(junk),
        })
    }

    /// Something to do from time to time, for some of the other nodes.
    pub(crate) fn act(&mut self, others: &[usize]) -> Vec<Twisted> {
        let mut out = Vec::new();
        let deeds = self.deeds.clone();
        for deed in deeds {
            let to = vec![others[self.rng.index(others.len())]];
            match deed {
                Deed::JunkBodies => {
                    let body = self.bodies.last().cloned();
                    let junk = body.and_then(|body| self.spoiled(&body));
                    out.extend(junk.map(|junk| (to, Message::Block(junk))));
                }
                Deed::StaleFlood => {
                    let count = self.heard.len().min(8);
                    out.extend(self.heard[..count].iter().map(|message| (to.clone(), message.clone())));
                }
                Deed::FutureFlood => out.extend(self.future().map(|message| (to.clone(), message))),
                Deed::ForgedCertificates => out.push((to, self.forged())),
                Deed::Replay => out.push((to, self.replayed())),
                Deed::LyingSync => {
                    let tip = Height(self.height.0 + self.rng.below(1 << 40));
                    let tip_id = self.some_block();
                    out.push((to, Message::Status { tip, tip_id }));
                }
                Deed::FalseEvidence => out.extend(self.accusation().map(|message| (to, message))),
                _ => {}
            }
        }
        out
    }

    fn future(&mut self) -> impl Iterator<Item = Message> + use<> {
        let mut votes = Vec::new();
        for _ in 0..4 {
            let vote = SignedVote {
                height: Height(self.height.0 + self.rng.below(50)),
                round: Round(u32::try_from(self.rng.below(1000)).unwrap_or(0)),
                kind: if self.rng.chance(500) {
                    VoteKind::Prevote
                } else {
                    VoteKind::Precommit
                },
                block: Some(self.some_block()),
                validator: self.id(),
                signature: B512::ZERO,
            };
            votes.push(Message::Vote(self.sign_vote(vote)));
        }
        votes.into_iter()
    }

    fn forged(&mut self) -> Message {
        let (height, round, block) = (self.height, Round(0), self.some_block());
        let junk = |validator: u32| CommitteeSignature {
            validator,
            signature: B512::repeat_byte(7),
        };
        let members = u32::try_from(self.keys.len()).unwrap_or(0);
        if self.rng.chance(500) {
            let signatures = (0..members).map(junk).collect();
            return Message::Polka(Polka {
                height,
                round,
                block,
                signatures,
            });
        }
        let mut votes = self.heard.iter().filter_map(|message| match message {
            Message::RoundCertificate(certificate) => Some(certificate.clone()),
            _ => None,
        });
        match votes.next_back() {
            Some(certificate) => Message::RoundCertificate(RoundCertificate {
                round: Round(certificate.round.0 + 1),
                ..certificate
            }),
            None => Message::Polka(Polka {
                height,
                round,
                block,
                signatures: vec![junk(0)],
            }),
        }
    }

    /// What an honest key signed for the same place on another network, or in another epoch.
    fn replayed(&mut self) -> Message {
        let key = self.keys[self.rng.index(self.keys.len())].clone();
        let block = if self.rng.chance(300) {
            None
        } else {
            Some(self.some_block())
        };
        let vote = SignedVote {
            height: self.height,
            round: Round(0),
            kind: if self.rng.chance(500) {
                VoteKind::Prevote
            } else {
                VoteKind::Precommit
            },
            block,
            validator: ValidatorId(B256::from(key.verifying_key().to_bytes())),
            signature: B512::ZERO,
        };
        let (network, epoch) = if self.rng.chance(500) {
            (NetworkId(B256::repeat_byte(9)), Epoch(0))
        } else {
            (self.network, Epoch(1))
        };
        let signature: Signature = key.sign(&vote.sign_bytes(network, epoch));
        Message::Vote(SignedVote {
            signature: B512::from(signature.to_bytes()),
            ..vote
        })
    }

    fn accusation(&mut self) -> Option<Message> {
        let vote = self.heard.iter().find_map(|message| match message {
            Message::Vote(vote) if vote.validator != self.id() => Some(*vote),
            _ => None,
        })?;
        let other = SignedVote {
            block: Some(self.some_block()),
            ..vote
        };
        Some(Message::Evidence(Box::new(Evidence::Votes(vote, other))))
    }

    /// What it answers to one who asks for blocks, instead of `blocks`.
    pub(crate) fn sync(&mut self, mut blocks: Vec<DecidedBlock>) -> Vec<DecidedBlock> {
        if self.does(Deed::SlowDrip) {
            blocks.truncate(1);
        }
        if self.does(Deed::LyingSync) && !blocks.is_empty() {
            let at = self.rng.index(blocks.len());
            match self.rng.below(6) {
                0 => blocks.truncate(at),
                1 => drop(blocks.remove(at)),
                2 => blocks[at].certificate.signatures.truncate(1),
                _ => {
                    // Another block, under as many signatures as it takes.
                    let first = &mut blocks[0];
                    if let Some(bad) = altered(&first.block, |header| header.time_ms += 1) {
                        first.certificate.block = bad.id();
                        first.block = bad;
                    }
                }
            }
        }
        blocks
    }

    fn some_block(&mut self) -> BlockId {
        match self.bodies.last() {
            Some(block) if self.rng.chance(700) => block.id(),
            _ => BlockId(B256::from([u8::try_from(self.rng.below(200)).unwrap_or(0); 32])),
        }
    }

    fn sign_vote(&self, vote: SignedVote) -> SignedVote {
        let signature: Signature = self.key.sign(&vote.sign_bytes(self.network, Epoch(0)));
        SignedVote {
            signature: B512::from(signature.to_bytes()),
            ..vote
        }
    }

    fn sign_proposal(&self, proposal: SignedProposal) -> SignedProposal {
        let signature: Signature = self.key.sign(&proposal.sign_bytes(self.network, Epoch(0)));
        SignedProposal {
            signature: B512::from(signature.to_bytes()),
            ..proposal
        }
    }
}

fn altered(block: &SealedBlock, change: impl FnOnce(&mut fusion_types::Header)) -> Option<Arc<SealedBlock>> {
    let mut block = block.block().clone();
    change(&mut block.header);
    SealedBlock::new(&block).ok().map(Arc::new)
}

/// The block with its last lane the other way round: the last is the one that is ordered by tip, if it is there.
fn disordered(block: &SealedBlock) -> Option<Arc<SealedBlock>> {
    let mut block = block.block().clone();
    let body = block.lanes.last_mut().filter(|body| body.transactions.len() > 1)?;
    body.transactions.reverse();
    let hashes: Vec<TxHash> = body
        .transactions
        .iter()
        .map(|payload| transaction_hash(payload))
        .collect();
    let Lane {
        rollup,
        first_sequence,
        parent_head,
        ..
    } = body.lane;
    body.lane = Lane::new(rollup, block.header.height, first_sequence, parent_head, &hashes);
    let leaves: Vec<B256> = block.lanes.iter().map(|body| body.lane.leaf()).collect();
    block.header.lanes_root = merkle_root(&leaves);
    SealedBlock::new(&block).ok().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_deed_is_listed_once() {
        for (at, (deed, name)) in DEEDS.iter().enumerate() {
            assert_eq!(*deed as usize, at, "{name}");
        }
    }
}
