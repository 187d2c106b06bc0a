//! Every message survives its encoding, and no bytes do harm.

use std::sync::Arc;

use alloy_primitives::{Address, B256, B512, Bytes};
use fusion_types::{
    Attestation, Block, BlockId, Certificate, CommitteeSignature, DecidedBlock, Epoch, Header, Height, L1Origin, Lane,
    LaneBody, NetworkId, Offer, RollupId, Round, SealedBlock, ValidatorId, VoteKind, merkle_root, transaction_hash,
};
use proptest::prelude::*;

use super::{Class, Forwarded, Message, SYNC_BLOCKS_MAX, WireError};
use crate::certificates::{Polka, RoundCertificate, RoundReason, RoundVote};
use crate::evidence::Evidence;
use crate::signing::{SignedProposal, SignedVote};

const CLASSES: [Class; 4] = [Class::Votes, Class::Bodies, Class::Transactions, Class::Sync];

fn block(height: u64, transactions: Vec<Vec<u8>>) -> Arc<SealedBlock> {
    let transactions: Vec<Bytes> = transactions.into_iter().map(Bytes::from).collect();
    let mut lanes = Vec::new();
    if !transactions.is_empty() {
        let hashes: Vec<_> = transactions.iter().map(|payload| transaction_hash(payload)).collect();
        let lane = Lane::new(RollupId(7), Height(height), 3, B256::repeat_byte(1), &hashes);
        lanes.push(LaneBody { lane, transactions });
    }
    let leaves: Vec<_> = lanes.iter().map(|body| body.lane.leaf()).collect();
    let header = Header {
        network: NetworkId(B256::repeat_byte(2)),
        height: Height(height),
        parent: BlockId(B256::repeat_byte(3)),
        epoch: Epoch(0),
        committee: B256::repeat_byte(4),
        proposer: ValidatorId(B256::repeat_byte(5)),
        time_ms: height,
        l1_origin: L1Origin::default(),
        lanes_root: merkle_root(&leaves),
        state_root: B256::ZERO,
        forced_to: None,
    };
    Arc::new(SealedBlock::new(&Block { header, lanes }).unwrap())
}

fn decided(height: u64, transactions: Vec<Vec<u8>>) -> DecidedBlock {
    let block = block(height, transactions);
    let signature = |validator| CommitteeSignature {
        validator,
        signature: B512::repeat_byte(9),
    };
    let certificate = Certificate {
        epoch: Epoch(0),
        height: Height(height),
        round: Round(1),
        block: block.id(),
        signatures: (0..3).map(signature).collect(),
    };
    DecidedBlock { block, certificate }
}

fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..4)
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![any_consensus_message(), any_other_message()]
}

fn any_consensus_message() -> impl Strategy<Value = Message> {
    let numbers = (
        any::<u64>(),
        any::<u32>(),
        any::<u8>(),
        proptest::option::of(any::<u32>()),
        any::<bool>(),
    );
    (0_u8..6, numbers).prop_map(|(shape, (height, round, byte, valid, flag))| {
        let (height, round) = (Height(height), Round(round));
        let (id, signature) = (BlockId(B256::repeat_byte(byte)), B512::repeat_byte(byte));
        let author = ValidatorId(B256::repeat_byte(byte));
        let kind = if flag { VoteKind::Prevote } else { VoteKind::Precommit };
        let entry = |validator| CommitteeSignature { validator, signature };
        let vote = |validator| RoundVote {
            validator,
            kind,
            block: flag.then_some(id),
            signature,
        };
        let proposal = SignedProposal {
            height,
            round,
            valid_round: valid.map(Round),
            block: id,
            proposer: author,
            signature,
        };
        let ballot = SignedVote {
            height,
            round,
            kind,
            block: flag.then_some(id),
            validator: author,
            signature,
        };
        match shape {
            0 => Message::Proposal(proposal),
            1 => Message::Vote(ballot),
            3 => Message::Evidence(Box::new(Evidence::Votes(ballot, SignedVote { block: None, ..ballot }))),
            4 => Message::Evidence(Box::new(Evidence::Proposals(proposal, proposal))),
            2 => Message::Polka(Polka {
                height,
                round,
                block: id,
                signatures: (0..u32::from(byte % 6)).map(entry).collect(),
            }),
            _ => Message::RoundCertificate(RoundCertificate {
                height,
                round,
                reason: if flag {
                    RoundReason::Skip
                } else {
                    RoundReason::Precommits
                },
                votes: (0..u32::from(byte % 6)).map(vote).collect(),
            }),
        }
    })
}

fn any_other_message() -> impl Strategy<Value = Message> {
    let numbers = (any::<u64>(), any::<u64>(), any::<u8>(), any::<bool>());
    (0_u8..8, numbers, payloads()).prop_map(|(shape, (height, other, byte, flag), payloads)| {
        let (height, id) = (Height(height), BlockId(B256::repeat_byte(byte)));
        let attestation = Attestation {
            epoch: Epoch(u64::from(flag)),
            number: other,
            batch: B256::repeat_byte(byte),
            data: B256::with_last_byte(byte),
            signature: B512::repeat_byte(byte),
        };
        let forwarded = |payload: Vec<u8>| Forwarded {
            rollup: RollupId(other),
            payload: payload.into(),
            sender: flag.then_some(Address::repeat_byte(byte)),
        };
        match shape {
            6 => Message::Attestation(Box::new(attestation)),
            7 => Message::Offer(Offer {
                attestation,
                payload: payloads.concat().into_iter().chain([byte]).collect(),
            }),
            0 => Message::Status {
                tip: height,
                tip_id: id,
            },
            1 => Message::Block(block(height.0, payloads)),
            2 => Message::BlockRequest { height, id },
            3 => Message::SyncRequest {
                from: height,
                to: Height(other),
            },
            4 => Message::SyncResponse {
                from: height,
                blocks: (0..u64::from(byte % 6))
                    .map(|at| decided(at, payloads.clone()))
                    .collect(),
            },
            _ => Message::Transactions(payloads.into_iter().map(forwarded).collect()),
        }
    })
}

proptest! {
    #[test]
    fn decoding_gives_back_what_was_encoded(message in any_message()) {
        let bytes = message.encode();
        prop_assert_eq!(Message::decode(message.class(), &bytes), Ok(message));
    }

    #[test]
    fn a_message_is_refused_under_another_class(message in any_message()) {
        let bytes = message.encode();
        for class in CLASSES.into_iter().filter(|class| *class != message.class()) {
            let refused = matches!(Message::decode(class, &bytes), Err(WireError::Tag { .. }));
            prop_assert!(refused);
        }
    }

    #[test]
    fn bytes_have_one_meaning_or_none(message in any_message(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut bytes = message.encode().to_vec();
        let at = at.index(bytes.len());
        prop_assert!(Message::decode(message.class(), &bytes[..at].to_vec().into()).is_err());
        bytes[at] ^= flip;
        let bytes = Bytes::from(bytes);
        for class in CLASSES {
            if let Ok(other) = Message::decode(class, &bytes) {
                prop_assert_eq!(other.encode(), bytes.clone());
            }
        }
    }

    #[test]
    fn trailing_bytes_are_refused(message in any_message(), extra in any::<u8>()) {
        let mut bytes = message.encode().to_vec();
        bytes.push(extra);
        prop_assert!(Message::decode(message.class(), &bytes.into()).is_err());
    }

    #[test]
    fn random_bytes_never_panic(tag in 0_u8..13, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from([vec![tag], bytes].concat());
        for class in CLASSES {
            if let Ok(message) = Message::decode(class, &bytes) {
                prop_assert_eq!(message.encode(), bytes.clone());
            }
        }
    }
}

#[test]
fn a_message_longer_than_its_class_allows_is_refused_unread() {
    for class in CLASSES {
        let bytes = Bytes::from(vec![0; class.bytes_max() + 1]);
        let limit = class.bytes_max();
        assert_eq!(
            Message::decode(class, &bytes),
            Err(WireError::Size {
                bytes: limit + 1,
                limit
            })
        );
    }
}

#[test]
fn a_response_of_more_blocks_than_the_limit_is_refused() {
    let blocks: Vec<_> = (0..=SYNC_BLOCKS_MAX)
        .map(|height| decided(height, Vec::new()))
        .collect();
    let from = Height(0);
    let too_many = Message::SyncResponse {
        from,
        blocks: blocks.clone(),
    }
    .encode();
    assert!(Message::decode(Class::Sync, &too_many).is_err());
    let blocks = blocks[1..].to_vec();
    let most = Message::SyncResponse { from, blocks };
    assert_eq!(Message::decode(Class::Sync, &most.encode()), Ok(most));
}

#[test]
fn the_largest_certificates_fit_their_class() {
    let vote = |validator| RoundVote {
        validator,
        kind: VoteKind::Precommit,
        block: Some(BlockId(B256::repeat_byte(1))),
        signature: B512::repeat_byte(1),
    };
    let certificate = RoundCertificate {
        height: Height(u64::MAX),
        round: Round(u32::MAX),
        reason: RoundReason::Skip,
        votes: (0..128).map(vote).collect(),
    };
    let message = Message::RoundCertificate(certificate);
    assert_eq!(Message::decode(Class::Votes, &message.encode()), Ok(message));
}
