//! Promises of verification: what a quorum decided verifies, and nothing else does.

use std::collections::BTreeSet;

use alloy_primitives::{B256, B512, Bytes};
use alloy_rlp::{Decodable, Encodable};
use ed25519_dalek::Signer;
use fusion_types::{
    Block, BlockId, Certificate, CertificateError, Committee, CommitteeError, Cursor, Epoch, Height, LaneAbsence,
    LaneReceipts, NetworkId, Receipt, ReceiptError, RollupBlock, RollupId, Round, SealError, SealedBlock, StreamError,
    Validator, ValidatorId, VoteKind, decode_exact, encode, leaf_hash, merkle_proof, merkle_root, proposal_sign_bytes,
    quorum_power, vote_sign_bytes,
};
use proptest::prelude::*;

use crate::sample::{self, Network, payloads};

/// Every single-bit flip and a few whole bytes: none may decode and then pass `verifies`.
fn no_flip_passes<T: Encodable + Decodable>(value: &T, verifies: impl Fn(&T) -> bool) {
    assert!(verifies(value), "the value itself verifies");
    let encoded = encode(value);
    for at in 0..encoded.len() {
        for mask in [1, 2, 4, 8, 16, 32, 64, 128, 0xff] {
            let mut flipped = encoded.clone();
            flipped[at] ^= mask;
            if let Ok(other) = decode_exact::<T>(&flipped) {
                assert!(!verifies(&other), "byte {at} of {} ^ {mask:#x}", encoded.len());
            }
        }
    }
}

#[test]
fn no_byte_of_a_receipt_is_without_meaning() {
    let mut network = Network::new(&[1; 4]);
    network.decide(&[(902, payloads("earlier", 3))]);
    let lanes = [
        (901, payloads("a", 2)),
        (902, payloads("b", 5)),
        (905, payloads("c", 1)),
    ];
    let decided = network.decide(&lanes);
    let (id, committee) = (network.genesis.network(), network.genesis.committee());
    let receipt = Receipt::of(decided.block.block(), &decided.certificate, RollupId(902), 4).unwrap();
    assert_eq!(receipt.sequence, 7);
    no_flip_passes(&receipt, |receipt| receipt.verify(id, committee).is_ok());
}

#[test]
fn no_byte_of_a_rollup_block_is_without_meaning() {
    let mut network = Network::new(&[1; 4]);
    let lanes = [(901, payloads("a", 1)), (902, payloads("b", 3))];
    let decided = network.decide(&lanes);
    let (id, committee) = (network.genesis.network(), network.genesis.committee());
    let cursor = Cursor::start(id, RollupId(902));
    let block = RollupBlock::of(decided.block.block(), &decided.certificate, RollupId(902)).unwrap();
    no_flip_passes(&block, |block| block.verify(id, committee, &cursor).is_ok());
}

#[test]
fn no_byte_of_a_certificate_is_without_meaning() {
    let mut network = Network::new(&[1; 4]);
    let decided = network.decide(&[]);
    let (id, committee) = (network.genesis.network(), network.genesis.committee());
    no_flip_passes(&decided.certificate, |certificate| {
        certificate.verify(id, committee).is_ok()
    });
}

#[test]
fn no_byte_of_a_sealed_block_is_without_meaning() {
    let network = Network::new(&[1; 4]);
    let sealed = network.block(&[(901, payloads("a", 2)), (903, payloads("b", 1))]);
    for at in 0..sealed.encoded().len() {
        let mut flipped = sealed.encoded().to_vec();
        flipped[at] ^= 1;
        let other = SealedBlock::decode(flipped.into());
        assert!(!other.is_ok_and(|other| other.id() == sealed.id()), "byte {at}");
    }
}

#[test]
fn receipts_built_with_a_tree_are_those_built_alone() {
    let mut network = Network::new(&[1; 4]);
    let decided = network.decide(&[(901, payloads("a", 7)), (904, payloads("b", 1))]);
    for (rollup, count) in [(901, 7), (904, 1)] {
        let receipts = LaneReceipts::of(&decided, RollupId(rollup)).unwrap();
        for index in 0..count {
            let alone = Receipt::of(decided.block.block(), &decided.certificate, RollupId(rollup), index);
            assert_eq!(receipts.receipt(index), alone);
            let verified = alone
                .unwrap()
                .verify(network.genesis.network(), network.genesis.committee());
            assert_eq!(verified, Ok(()));
        }
        assert_eq!(receipts.receipt(count), None);
    }
    assert_eq!(LaneReceipts::of(&decided, RollupId(902)), None);
}

#[test]
fn a_receipt_is_bound_to_its_network_committee_and_place() {
    let mut network = Network::new(&[1; 4]);
    let decided = network.decide(&[(901, payloads("a", 4)), (902, payloads("b", 4))]);
    let (id, committee) = (network.genesis.network(), network.genesis.committee());
    let receipt = |rollup, index| Receipt::of(decided.block.block(), &decided.certificate, RollupId(rollup), index);
    let good = receipt(901, 1).unwrap();
    let check = |change: &dyn Fn(&mut Receipt)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed.verify(id, committee).unwrap_err()
    };

    let other = NetworkId(B256::repeat_byte(7));
    assert!(matches!(
        good.verify(other, committee),
        Err(ReceiptError::Network { .. })
    ));
    let (heavier, _) = sample::committee(&[2; 4]);
    assert_eq!(good.verify(id, &heavier), Err(ReceiptError::Committee));
    let next = Committee::new(Epoch(1), committee.validators().to_vec()).unwrap();
    assert!(matches!(good.verify(id, &next), Err(ReceiptError::Epoch { .. })));

    let neighbour = receipt(901, 2).unwrap();
    let stranger = receipt(902, 1).unwrap();
    assert_eq!(
        check(&|r| r.transaction = neighbour.transaction),
        ReceiptError::TransactionProof
    );
    assert!(matches!(check(&|r| r.sequence = 2), ReceiptError::Sequence { .. }));
    assert_eq!(
        check(&|r| r.lane_proof = stranger.lane_proof.clone()),
        ReceiptError::LaneProof
    );
    assert_eq!(check(&|r| r.lane = stranger.lane.clone()), ReceiptError::LaneProof);
    assert_eq!(check(&|r| r.header.time_ms += 1), ReceiptError::Block);
    assert!(matches!(
        check(&|r| r.certificate.height = Height(2)),
        ReceiptError::Height { .. }
    ));
    // A node of the tree, or the lane's leaf, never passes for a transaction.
    assert_eq!(
        check(&|r| {
            r.transaction = r.transaction_proof.siblings[0];
            r.transaction_proof.siblings.remove(0);
        }),
        ReceiptError::TransactionProof
    );
    assert_eq!(
        check(&|r| {
            r.transaction = r.lane.leaf();
            r.transaction_proof = r.lane_proof.clone();
        }),
        ReceiptError::TransactionProof
    );
}

/// A block at the end of all numbers: a lane whose sequence numbers would pass 64 bits.
#[test]
fn sequence_numbers_beyond_64_bits_are_refused_and_never_overflow() {
    let network = Network::new(&[1; 4]);
    let sealed = network.block(&[(901, payloads("a", 3))]);
    let mut block: Block = sealed.block().clone();
    let hashes = block.lanes[0].hashes();
    let head = block.lanes[0].lane.parent_head;
    block.lanes[0].lane = fusion_types::Lane::new(RollupId(901), Height(1), u64::MAX - 1, head, &hashes);
    block.header.lanes_root = merkle_root(&block.lane_leaves());
    assert_eq!(SealedBlock::new(&block), Err(SealError::Lane(RollupId(901))));

    let certificate = network.certificate(&sealed, Round(0), &[0, 1, 2]);
    let rollup_block = RollupBlock::of(&block, &certificate, RollupId(901)).unwrap();
    let numbers: Vec<u64> = rollup_block.transactions().map(|(sequence, _)| sequence).collect();
    assert_eq!(numbers, [u64::MAX - 1, u64::MAX, u64::MAX]);
    assert!(Receipt::of(&block, &certificate, RollupId(901), 2).is_none());
    let mut state = network.state.clone();
    assert!(state.apply(&block, block.id(), network.genesis.committee()).is_err());
    assert_eq!(state, network.state);
}

#[test]
fn a_stream_continues_only_where_its_cursor_stands() {
    let mut network = Network::new(&[1; 4]);
    let (id, committee) = (network.genesis.network(), network.genesis.committee().clone());
    let start = Cursor::start(id, RollupId(901));
    let blocks: Vec<RollupBlock> = ["first", "second", "third"]
        .iter()
        .map(|name| network.decide(&[(901, payloads(name, 2))]))
        .map(|decided| RollupBlock::of(decided.block.block(), &decided.certificate, RollupId(901)).unwrap())
        .collect();
    let first = blocks[0].verify(id, &committee, &start).unwrap();
    let second = blocks[1].verify(id, &committee, &first).unwrap();
    let third = blocks[2].verify(id, &committee, &second).unwrap();
    assert_eq!(third.sequence, 6);
    assert_eq!(third.head, network.state.streams[&RollupId(901)].head);

    let gap = blocks[2].verify(id, &committee, &first);
    assert_eq!(gap, Err(StreamError::Sequence { lane: 4, cursor: 2 }));
    let repeat = blocks[0].verify(id, &committee, &first);
    assert_eq!(repeat, Err(StreamError::Sequence { lane: 0, cursor: 2 }));
    let other_history = Cursor {
        head: B256::ZERO,
        ..first
    };
    assert_eq!(
        blocks[1].verify(id, &committee, &other_history),
        Err(StreamError::ParentHead(2))
    );
    let mut swapped = blocks[1].clone();
    swapped.body.transactions.swap(0, 1);
    assert_eq!(
        swapped.verify(id, &committee, &first),
        Err(StreamError::Transactions(2))
    );
    let mut shorter = blocks[1].clone();
    shorter.body.transactions.pop();
    assert_eq!(
        shorter.verify(id, &committee, &first),
        Err(StreamError::Transactions(1))
    );
}

#[test]
fn bodies_that_do_not_follow_from_their_header_never_seal() {
    let network = Network::new(&[1; 4]);
    let good = network.block(&[(901, payloads("a", 2)), (902, payloads("b", 1))]);
    let check = |change: &dyn Fn(&mut Block)| {
        let mut block = good.block().clone();
        change(&mut block);
        SealedBlock::new(&block).unwrap_err()
    };
    assert_eq!(check(&|b| b.lanes.swap(0, 1)), SealError::Order(RollupId(901)));
    assert_eq!(
        check(&|b| b.lanes[1] = b.lanes[0].clone()),
        SealError::Order(RollupId(901))
    );
    assert_eq!(
        check(&|b| b.lanes[1].transactions.clear()),
        SealError::Empty(RollupId(902))
    );
    assert_eq!(
        check(&|b| b.lanes[0].transactions.swap(0, 1)),
        SealError::Lane(RollupId(901))
    );
    assert_eq!(check(&|b| b.lanes[0].lane.count = 3), SealError::Lane(RollupId(901)));
    assert_eq!(
        check(&|b| b.lanes[0].lane.head = B256::ZERO),
        SealError::Lane(RollupId(901))
    );
    assert_eq!(check(&|b| b.header.height = Height(2)), SealError::Lane(RollupId(901)));
    assert_eq!(check(&|b| b.lanes.truncate(1)), SealError::LanesRoot);
    let empty = check(&|b| b.lanes[0].transactions[0] = Bytes::new());
    assert!(matches!(empty, SealError::Payload { bytes: 0, .. }));
}

proptest! {
    #[test]
    fn a_lane_is_either_proved_present_or_proved_absent(mask in 0_u32..1024) {
        let mut network = Network::new(&[1; 4]);
        let lanes: Vec<_> = (0..10)
            .filter(|bit| mask & (1 << bit) != 0)
            .map(|bit| (901 + bit, payloads("x", 1)))
            .collect();
        let decided = network.decide(&lanes);
        let block = decided.block.block();
        let root = block.header.lanes_root;
        let leaves = block.lane_leaves();
        for rollup in (900..913).map(RollupId) {
            let present = RollupBlock::of(block, &decided.certificate, rollup);
            let absent = LaneAbsence::of(block, rollup);
            prop_assert_eq!(present.is_some(), absent.is_none());
            if let Some(absence) = absent {
                prop_assert_eq!(absence.verify(root, rollup), Ok(()));
                prop_assert!(absence.verify(B256::ZERO, rollup).is_err());
                continue;
            }
            // No pair of neighbours proves the absence of a lane that is there.
            let places = (0..leaves.len()).map(|at| Some((block.lanes[at].lane.clone(), merkle_proof(&leaves, at)?)));
            let places: Vec<_> = places.chain([None]).collect();
            for before in &places {
                for after in &places {
                    let forged = LaneAbsence { before: before.clone(), after: after.clone() };
                    prop_assert!(forged.verify(root, rollup).is_err());
                }
            }
        }
    }

    #[test]
    fn a_certificate_verifies_exactly_with_more_than_two_thirds_of_power(
        seats in proptest::collection::vec((1_u64..u64::MAX / 30, any::<bool>()), 1..8),
        small in any::<bool>(),
    ) {
        let powers: Vec<u64> = seats.iter().map(|(power, _)| if small { power % 7 + 1 } else { *power }).collect();
        let network = Network::new(&powers);
        let block = network.block(&[]);
        let signers: Vec<usize> = (0..seats.len()).filter(|index| seats[*index].1).collect();
        let certificate = network.certificate(&block, Round(0), &signers);
        let members = network.genesis.committee().validators();
        let power: u128 = signers.iter().map(|index| u128::from(members[*index].power)).sum();
        let total: u128 = powers.iter().map(|power| u128::from(*power)).sum();
        let verified = certificate.verify(network.genesis.network(), network.genesis.committee());
        prop_assert_eq!(verified.is_ok(), 3 * power > 2 * total, "{:?}", verified);
    }

    #[test]
    fn the_quorum_is_the_least_power_above_two_thirds(total in any::<u64>(), shift in 0_u32..64) {
        let total = (total >> shift).max(1);
        let quorum = u128::from(quorum_power(total));
        prop_assert!(3 * quorum > 2 * u128::from(total));
        prop_assert!(3 * (quorum - 1) <= 2 * u128::from(total));
    }
}

#[test]
fn quorums_of_equal_validators_are_n_less_the_faulty() {
    for n in 1..=128_u64 {
        assert_eq!(quorum_power(n), n - (n - 1) / 3);
    }
}

#[test]
fn certificates_that_are_not_of_this_committee_and_block_are_refused() {
    let network = Network::new(&[1; 4]);
    let block = network.block(&[]);
    let (id, committee) = (network.genesis.network(), network.genesis.committee());
    let good = network.certificate(&block, Round(1), &[0, 1, 3]);
    assert_eq!(good.verify(id, committee), Ok(()));
    let check = |change: &dyn Fn(&mut Certificate)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed.verify(id, committee).unwrap_err()
    };

    let below = CertificateError::Quorum { power: 2, quorum: 3 };
    assert_eq!(check(&|c| c.signatures.truncate(2)), below);
    assert_eq!(
        check(&|c| c.signatures.clear()),
        CertificateError::Quorum { power: 0, quorum: 3 }
    );
    assert_eq!(
        check(&|c| c.signatures[2] = c.signatures[1]),
        CertificateError::Order(2)
    );
    assert_eq!(check(&|c| c.signatures.swap(0, 1)), CertificateError::Order(1));
    let unknown = check(&|c| c.signatures[2].validator = 4);
    assert!(matches!(unknown, CertificateError::Unknown { at: 2, .. }));
    let forged = |at, validator| CertificateError::Signature { at, validator };
    assert_eq!(check(&|c| c.signatures[2].validator = 2), forged(2, 2));
    assert_eq!(check(&|c| c.round = Round(2)), forged(0, 0));
    assert_eq!(check(&|c| c.height = Height(2)), forged(0, 0));
    assert_eq!(check(&|c| c.block = BlockId(B256::ZERO)), forged(0, 0));
    assert_eq!(check(&|c| c.signatures[1].signature = B512::ZERO), forged(1, 1));
    assert!(matches!(check(&|c| c.epoch = Epoch(1)), CertificateError::Epoch { .. }));
    let elsewhere = NetworkId(B256::repeat_byte(1));
    assert_eq!(good.verify(elsewhere, committee), Err(forged(0, 0)));
    // The same members one epoch later: the signatures bind their epoch.
    let next = Committee::new(Epoch(1), committee.validators().to_vec()).unwrap();
    let mut moved = good.clone();
    moved.epoch = Epoch(1);
    assert_eq!(moved.verify(id, &next), Err(forged(0, 0)));
}

/// Every message of a grid of places and kinds, with what it is.
fn messages() -> Vec<(String, Vec<u8>)> {
    let ids = [BlockId(B256::ZERO), BlockId(B256::repeat_byte(1))];
    let mut all = Vec::new();
    for place in 0..16_u32 {
        let bit = |n: u32| u64::from(place >> n & 1);
        let network = NetworkId(B256::with_last_byte(u8::from(bit(0) == 1)));
        let (epoch, height) = (Epoch(bit(1)), Height(bit(2)));
        let round = Round(place >> 3 & 1);
        for kind in [VoteKind::Prevote, VoteKind::Precommit] {
            for block in [None, Some(ids[0]), Some(ids[1])] {
                let bytes = vote_sign_bytes(network, epoch, height, round, kind, block);
                all.push((format!("{place} {kind:?} {block:?}"), bytes.to_vec()));
            }
        }
        for valid_round in [None, Some(Round(0)), Some(Round(1))] {
            for block in ids {
                let bytes = proposal_sign_bytes(network, epoch, height, round, valid_round, block);
                all.push((format!("{place} proposal {valid_round:?} {block}"), bytes.to_vec()));
            }
        }
    }
    all
}

#[test]
fn a_valid_message_of_one_kind_never_verifies_as_another() {
    let all = messages();
    let distinct: BTreeSet<&[u8]> = all.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    assert_eq!(distinct.len(), all.len());

    // Among real signatures too: each verifies for its own message alone.
    let key = sample::key(1);
    let some: Vec<_> = all.iter().step_by(5).collect();
    for (name, bytes) in &some {
        let signature = key.sign(bytes);
        for (other, other_bytes) in &some {
            let verifies = key.verifying_key().verify_strict(other_bytes, &signature).is_ok();
            assert_eq!(verifies, name == other, "{name} as {other}");
        }
    }
}

#[test]
fn prevotes_and_votes_for_nil_make_no_certificate() {
    let network = Network::new(&[1; 4]);
    let block = network.block(&[]);
    let (id, committee) = (network.genesis.network(), network.genesis.committee());
    let good = network.certificate(&block, Round(0), &[0, 1, 2]);
    let messages: [Vec<u8>; 3] = [
        vote_sign_bytes(id, Epoch(0), Height(1), Round(0), VoteKind::Prevote, Some(good.block)).to_vec(),
        vote_sign_bytes(id, Epoch(0), Height(1), Round(0), VoteKind::Precommit, None).to_vec(),
        proposal_sign_bytes(id, Epoch(0), Height(1), Round(0), None, good.block).to_vec(),
    ];
    for bytes in messages {
        let mut certificate = good.clone();
        for entry in &mut certificate.signatures {
            let signature = network.keys[entry.validator as usize].sign(&bytes);
            entry.signature = B512::from(signature.to_bytes());
        }
        assert!(certificate.verify(id, committee).is_err());
    }
}

#[test]
fn committees_with_unusable_members_are_refused() {
    let (good, _) = sample::committee(&[1; 4]);
    let make = |change: &dyn Fn(&mut Vec<Validator>)| {
        let mut validators = good.validators().to_vec();
        change(&mut validators);
        Committee::new(Epoch(0), validators)
    };
    assert!(make(&|_| {}).is_ok());
    assert_eq!(make(&|v| v.clear()), Err(CommitteeError::Size(0)));
    assert!(matches!(make(&|v| v.push(v[0])), Err(CommitteeError::Order(_))));
    assert!(matches!(
        make(&|v| v[1].peer = v[0].peer),
        Err(CommitteeError::PeerRepeated(_))
    ));
    assert!(matches!(make(&|v| v[2].power = 0), Err(CommitteeError::Powerless(_))));
    assert_eq!(make(&|v| v[2].power = u64::MAX / 3), Err(CommitteeError::Power));
    // The neutral element, its second encoding, a point of order 8, and no point at all.
    let mut one = [0; 32];
    one[0] = 1;
    let mut one_again = [0xff; 32];
    one_again[0] = 0xee;
    one_again[31] = 0x7f;
    let order_8 = alloy_primitives::hex!("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a");
    let mut off_curve = [0; 32];
    off_curve[0] = 2;
    for key in [one, one_again, order_8, off_curve] {
        let id = ValidatorId(B256::from(key));
        assert_eq!(make(&|v| v[3].id = id), Err(CommitteeError::Key(id)), "{id}");
    }
}

#[test]
fn keys_that_are_not_their_points_one_encoding_are_refused() {
    let (good, _) = sample::committee(&[1; 4]);
    // Little-endian y + p, where p = 2^255 - 19, for every y that still fits 255 bits.
    for y in 0..19_u8 {
        let mut key = [0xff; 32];
        key[0] = 0xed + y;
        key[31] = 0x7f;
        let mut validators = good.validators().to_vec();
        validators[0].id = ValidatorId(B256::from(key));
        assert!(Committee::new(Epoch(0), validators).is_err(), "p + {y}");
    }
}

#[test]
fn roots_of_different_lists_differ() {
    let leaves: Vec<B256> = (0..5_u8).map(|n| leaf_hash(&[n])).collect();
    let mut swapped = leaves.clone();
    swapped.swap(0, 1);
    assert_ne!(merkle_root(&leaves), merkle_root(&swapped));
    let mut doubled = leaves.clone();
    doubled.push(leaves[4]);
    assert_ne!(merkle_root(&leaves), merkle_root(&doubled));
}
