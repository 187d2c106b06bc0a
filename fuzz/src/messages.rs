//! Messages of validators that do not keep to the protocol, spelled by a script of bytes.
//!
//! The script's author holds the keys of three of four validators. What it signs is valid, and enough to decide
//! anything: agreement is not what is tested with it, but that the fourth node, which has its own key alone, keeps its
//! promises whatever the others say.

use std::sync::Arc;

use alloy_primitives::{B256, B512, Bytes};
use fusion_consensus::{
    Class, Evidence, Forwarded, Message, Polka, RoundCertificate, RoundReason, RoundVote, SignedProposal, SignedVote,
};
use fusion_types::{
    BlockId, CommitteeSignature, DecidedBlock, Epoch, Height, Round, SealedBlock, State, ValidatorId, VoteKind,
};

use crate::fixture::{ROLLUPS, fixture, id_of, sign};

/// Kinds of blocks that a script can speak of at one height.
pub const VARIANTS: u8 = 8;

/// An id that no block has, where a message must have one.
const NO_BLOCK: BlockId = BlockId(B256::ZERO);

/// Reads a script; behind its end there are zeros.
#[derive(Debug)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// A script of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing follows.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    /// The next bytes, as many as a byte in front of them says and there are.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }

    /// A number that is small, and sometimes at the edge of what there is.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => u64::MAX - 1,
            253 => 1 << 53,
            252 => 1 << 32,
            byte => u64::from(byte),
        }
    }

    fn height(&mut self, state: &State) -> Height {
        let next = state.height.next();
        match self.byte() % 16 {
            0..=10 => next,
            11 => next.next(),
            12 => Height(next.0 + 2),
            13 => state.height,
            14 => Height(next.0 + 3),
            _ => Height(u64::MAX),
        }
    }

    fn round(&mut self) -> Round {
        Round(match self.byte() % 16 {
            round @ 0..=11 => u32::from(round % 4),
            12 => 10,
            13 => 11,
            14 => 1000,
            _ => u32::MAX,
        })
    }

    fn kind(&mut self) -> VoteKind {
        if self.byte().is_multiple_of(2) {
            VoteKind::Prevote
        } else {
            VoteKind::Precommit
        }
    }

    fn block(&mut self, state: &State) -> Option<BlockId> {
        match self.byte() % 10 {
            variant @ 0..VARIANTS => Some(candidate(state, variant).id()),
            8 => None,
            _ => Some(BlockId(B256::repeat_byte(self.byte()))),
        }
    }
}

/// One of the blocks that somebody may propose on `state`: by each member, with and without transactions, two of them
/// invalid.
pub fn candidate(state: &State, variant: u8) -> Arc<SealedBlock> {
    let fixture = fixture();
    let proposer = fixture.genesis.committee().validators()[usize::from(variant % 4)].id;
    let time = state.time_ms.saturating_add(1 + u64::from(variant) * 7);
    let payload = |n: u8| Bytes::from(vec![variant, n, 1]);
    let lanes = match variant {
        0 | 4 => Vec::new(),
        _ => vec![(ROLLUPS[2], (0..=variant % 3).map(payload).collect())],
    };
    let mut block = fixture.block(state, proposer, time, lanes);
    match variant {
        6 => block.header.state_root = B256::repeat_byte(6),
        7 => block.header.time_ms = u64::MAX,
        _ => {}
    }
    Arc::new(SealedBlock::new(&block).expect("candidates keep the limits"))
}

/// The author of messages.
#[derive(Debug)]
pub struct Author {
    /// The member whose key it does not have; none when the node follows.
    pub honest: Option<usize>,
}

impl Author {
    /// A member whose key it has.
    pub fn member(&self, byte: u8) -> usize {
        let member = usize::from(byte % 4);
        if Some(member) == self.honest {
            (member + 1) % 4
        } else {
            member
        }
    }

    fn id(&self, member: usize) -> ValidatorId {
        id_of(&fixture().keys[member])
    }

    fn sign_vote(&self, member: usize, mut vote: SignedVote) -> SignedVote {
        let network = fixture().genesis.network();
        vote.validator = self.id(member);
        vote.signature = sign(&fixture().keys[member], &vote.sign_bytes(network, Epoch(0)));
        vote
    }

    fn vote(&self, script: &mut Script<'_>, state: &State) -> SignedVote {
        let member = self.member(script.byte());
        let vote = SignedVote {
            height: script.height(state),
            round: script.round(),
            kind: script.kind(),
            block: script.block(state),
            validator: self.id(member),
            signature: B512::repeat_byte(9),
        };
        match script.byte() % 16 {
            // What it cannot sign: for the honest member, or not at all.
            15 => SignedVote {
                validator: self.honest.map_or(vote.validator, |honest| self.id(honest)),
                ..vote
            },
            14 => vote,
            _ => self.sign_vote(member, vote),
        }
    }

    fn proposal(&self, script: &mut Script<'_>, state: &State) -> SignedProposal {
        let height = script.height(state);
        let round = script.round();
        let scheduled = fixture().proposer(state, round);
        let committee = fixture().genesis.committee();
        // Mostly of whoever's turn it is.
        let member = match script.byte() % 8 {
            0 => self.member(script.byte()),
            _ => self.member(u8::try_from(committee.index_of(scheduled).unwrap_or(0)).unwrap_or(0)),
        };
        let valid_round = match script.byte() % 4 {
            0 => Some(script.round()),
            _ => None,
        };
        let mut proposal = SignedProposal {
            height,
            round,
            valid_round,
            block: script.block(state).unwrap_or(NO_BLOCK),
            proposer: self.id(member),
            signature: B512::repeat_byte(9),
        };
        if !script.byte().is_multiple_of(16) {
            let bytes = proposal.sign_bytes(fixture().genesis.network(), Epoch(0));
            proposal.signature = sign(&fixture().keys[member], &bytes);
        }
        proposal
    }

    /// Members whose votes a certificate holds.
    fn signers(&self, script: &mut Script<'_>) -> Vec<usize> {
        let mask = script.byte();
        (0..4)
            .filter(|member| mask & (1 << member) == 0 && Some(*member) != self.honest)
            .collect()
    }

    fn polka(&self, script: &mut Script<'_>, state: &State) -> Polka {
        let (height, round) = (script.height(state), script.round());
        let block = script.block(state);
        let vote = SignedVote {
            height,
            round,
            kind: VoteKind::Prevote,
            block,
            validator: self.id(0),
            signature: B512::ZERO,
        };
        let signers = self.signers(script);
        let signature = |member: &usize| CommitteeSignature {
            validator: u32::try_from(*member).unwrap_or(0),
            signature: self.sign_vote(*member, vote).signature,
        };
        Polka {
            height,
            round,
            block: block.unwrap_or(NO_BLOCK),
            signatures: signers.iter().map(signature).collect(),
        }
    }

    fn round_certificate(&self, script: &mut Script<'_>, state: &State) -> RoundCertificate {
        let (height, round) = (script.height(state), script.round());
        let reason = match script.byte() % 2 {
            0 => RoundReason::Skip,
            _ => RoundReason::Precommits,
        };
        let votes = self.signers(script).into_iter().map(|member| {
            let (kind, block) = match reason {
                RoundReason::Skip => (script.kind(), script.block(state)),
                RoundReason::Precommits => (VoteKind::Precommit, script.block(state)),
            };
            let vote = SignedVote {
                height,
                round,
                kind,
                block,
                validator: self.id(member),
                signature: B512::ZERO,
            };
            RoundVote {
                validator: u32::try_from(member).unwrap_or(0),
                kind,
                block,
                signature: self.sign_vote(member, vote).signature,
            }
        });
        let votes = votes.collect();
        RoundCertificate {
            height,
            round,
            reason,
            votes,
        }
    }

    /// Decided blocks on `state`, one above the other, maybe with something wrong about them.
    fn blocks(&self, script: &mut Script<'_>, state: &State) -> Message {
        let mut state = state.clone();
        let from = script.height(&state);
        let round = script.round();
        let mut blocks = Vec::new();
        for _ in 0..=script.byte() % 3 {
            let block = candidate(&state, script.byte() % VARIANTS);
            let signers = self.signers(script);
            let certificate = fixture().certificate(block.header().height, round, &block, &signers);
            let followed = state.apply(block.block(), block.id(), fixture().genesis.committee());
            blocks.push(DecidedBlock { block, certificate });
            if followed.is_err() {
                break;
            }
        }
        match script.byte() % 16 {
            0 => drop(blocks.remove(0)),
            1 => blocks.reverse(),
            2 => blocks[0].certificate.block = BlockId(B256::repeat_byte(1)),
            3 => blocks[0].certificate.height = script.height(&state),
            _ => {}
        }
        Message::SyncResponse { from, blocks }
    }

    fn evidence(&self, script: &mut Script<'_>, state: &State) -> Evidence {
        if script.byte().is_multiple_of(2) {
            let first = self.vote(script, state);
            let member = self.member(script.byte());
            let block = script.block(state);
            Evidence::Votes(first, self.sign_vote(member, SignedVote { block, ..first }))
        } else {
            Evidence::Proposals(self.proposal(script, state), self.proposal(script, state))
        }
    }

    /// The next message of the script, on what a node at `state` would understand; `None` where bytes decode to none.
    pub fn message(&self, script: &mut Script<'_>, state: &State) -> Option<Message> {
        Some(match script.byte() % 20 {
            0..=5 => Message::Vote(self.vote(script, state)),
            6..=8 => Message::Proposal(self.proposal(script, state)),
            9 | 10 => Message::Block(candidate(state, script.byte() % VARIANTS)),
            11 => Message::Polka(self.polka(script, state)),
            12 => Message::RoundCertificate(self.round_certificate(script, state)),
            13 => Message::Status {
                tip: Height(script.number()),
                tip_id: script.block(state).unwrap_or(NO_BLOCK),
            },
            14 => Message::BlockRequest {
                height: Height(script.number()),
                id: script.block(state).unwrap_or(NO_BLOCK),
            },
            15 => Message::SyncRequest {
                from: Height(script.number()),
                to: Height(script.number()),
            },
            16 => self.blocks(script, state),
            17 => Message::Evidence(Box::new(self.evidence(script, state))),
            18 => Message::Transactions(vec![Forwarded {
                rollup: ROLLUPS[usize::from(script.byte() % 3)],
                payload: Bytes::copy_from_slice(script.bytes()),
                sender: None,
            }]),
            _ => {
                let class = [Class::Votes, Class::Bodies, Class::Transactions, Class::Sync];
                let class = class[usize::from(script.byte() % 4)];
                return Message::decode(class, &Bytes::copy_from_slice(script.bytes())).ok();
            }
        })
    }
}
