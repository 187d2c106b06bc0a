//! Catching up from honest, slow and lying peers.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use fusion_types::{
    Block, BlockId, Certificate, DecidedBlock, Epoch, Header, Height, L1Origin, NetworkId, Round, SealedBlock,
    ValidatorId, merkle_root,
};
use proptest::prelude::*;

use super::{PASS_OVER, STALL, Sync, SyncFault, WINDOWS_MAX, WINDOWS_PER_PEER_MAX};
use crate::wire::PeerId;

const NOW: Duration = Duration::from_secs(100);

fn peer(byte: u8) -> PeerId {
    PeerId(B256::repeat_byte(byte))
}

fn chain(from: u64, count: u64) -> Vec<DecidedBlock> {
    let mut parent = BlockId(B256::ZERO);
    let mut blocks = Vec::new();
    for height in 1..from + count {
        let header = Header {
            network: NetworkId(B256::ZERO),
            height: Height(height),
            parent,
            epoch: Epoch(0),
            committee: B256::ZERO,
            proposer: ValidatorId(B256::ZERO),
            time_ms: height,
            l1_origin: L1Origin::default(),
            lanes_root: merkle_root(&[]),
            state_root: B256::ZERO,
            forced_to: None,
        };
        let lanes = Vec::new();
        let block = Arc::new(SealedBlock::new(&Block { header, lanes }).unwrap());
        parent = block.id();
        let certificate = Certificate {
            epoch: Epoch(0),
            height: Height(height),
            round: Round(0),
            block: parent,
            signatures: Vec::new(),
        };
        blocks.push(DecidedBlock { block, certificate });
    }
    blocks.split_off(usize::try_from(from - 1).unwrap())
}

fn with_tips(tips: &[(u8, u64)]) -> Sync {
    let mut sync = Sync::default();
    for (byte, tip) in tips {
        sync.status(NOW, peer(*byte), Height(*tip)).unwrap();
    }
    sync
}

#[test]
fn windows_are_spread_over_peers_and_bounded() {
    let mut sync = with_tips(&[(1, 10_000), (2, 10_000), (3, 10)]);
    let asks = sync.plan(NOW, Height(1));
    assert_eq!(asks.len(), WINDOWS_MAX);
    let ranges: Vec<_> = asks.iter().map(|ask| (ask.from.0, ask.to.0)).collect();
    assert_eq!(ranges[0].0, 1);
    assert!(ranges.windows(2).all(|pair| pair[1].0 == pair[0].1 + 1), "{ranges:?}");
    assert!((1..=3).all(|byte| asks.iter().filter(|ask| ask.peer == peer(byte)).count() <= 2));
    assert!(asks.iter().all(|ask| ask.peer != peer(3) || ask.to.0 <= 10));
    assert!(
        sync.plan(NOW, Height(1)).is_empty(),
        "nothing more is asked for before an answer"
    );
}

#[test]
fn blocks_come_out_in_order_whatever_the_order_of_the_answers() {
    let mut sync = with_tips(&[(1, 128), (2, 128)]);
    let mut asks = sync.plan(NOW, Height(1));
    asks.reverse();
    for ask in asks {
        assert!(sync.take(Height(1)).is_none());
        let blocks = chain(ask.from.0, ask.to.0 - ask.from.0 + 1);
        sync.response(NOW, ask.peer, ask.from, blocks).unwrap();
    }
    for height in 1..=128 {
        let (_, block) = sync.take(Height(height)).unwrap();
        assert_eq!(block.block.header().height, Height(height));
    }
    assert!(sync.take(Height(129)).is_none());
}

#[test]
fn a_short_answer_is_taken_and_the_rest_asked_for_again() {
    let mut sync = with_tips(&[(1, 64)]);
    let ask = sync.plan(NOW, Height(1))[0];
    sync.response(NOW, ask.peer, ask.from, chain(1, 10)).unwrap();
    let asks = sync.plan(NOW, Height(1));
    assert_eq!((asks[0].from, asks[0].to), (Height(11), Height(64)));
}

#[test]
fn a_gap_takes_the_place_of_what_lies_highest() {
    let mut sync = with_tips(&[(1, 256), (2, 256), (3, 256)]);
    let mut asks = sync.plan(NOW, Height(1));
    assert_eq!(asks.last().unwrap().to, Height(256));
    // Short answers to all, with a gap after each: together the windows and the gaps would be eight.
    for ask in &asks {
        sync.response(NOW, ask.peer, ask.from, chain(ask.from.0, 10)).unwrap();
    }
    for _ in 0..8 {
        asks = sync.plan(NOW, Height(1));
        let (busy, of_peer, _) = sync.sizes();
        assert!(
            busy <= WINDOWS_MAX && of_peer <= 2,
            "{busy} windows, {of_peer} of a peer"
        );
        for ask in &asks {
            sync.response(NOW, ask.peer, ask.from, chain(ask.from.0, 10)).unwrap();
        }
    }
    let mut next = 1;
    while next <= 256 {
        let before = next;
        while sync.take(Height(next)).is_some() {
            next += 1;
        }
        asks = sync.plan(NOW, Height(next));
        assert!(before < next || !asks.is_empty(), "stands still before {next}");
        for ask in &asks {
            let blocks = chain(ask.from.0, ask.to.0 - ask.from.0 + 1);
            sync.response(NOW, ask.peer, ask.from, blocks).unwrap();
        }
    }
}

#[test]
fn a_gap_without_room_takes_no_answer() {
    let mut sync = with_tips(&[(1, 256), (2, 256), (3, 256)]);
    let asks = sync.plan(NOW, Height(1));
    let from: Vec<u64> = asks.iter().map(|ask| ask.from.0).collect();
    assert_eq!(from, [1, 65, 129, 193]);
    sync.response(NOW, asks[1].peer, Height(65), chain(65, 10)).unwrap();
    sync.response(NOW, asks[2].peer, Height(129), chain(129, 10)).unwrap();
    sync.response(NOW, asks[3].peer, Height(193), chain(193, 64)).unwrap();
    // The gap at 75 takes the place of 193; there is none for the one at 139, whoever answers it.
    sync.plan(NOW, Height(1));
    sync.response(NOW, asks[2].peer, Height(139), chain(139, 54)).unwrap();
    assert_eq!(sync.sizes().0, WINDOWS_MAX);
}

#[test]
fn an_answer_to_nothing_is_not_looked_at() {
    let mut sync = with_tips(&[(1, 64), (2, 64)]);
    let ask = sync.plan(NOW, Height(1))[0];
    sync.response(NOW, ask.peer, Height(2), chain(2, 10)).unwrap();
    sync.response(NOW, ask.peer, Height(100), Vec::new()).unwrap();
    assert!(sync.take(Height(1)).is_none() && sync.take(Height(2)).is_none());
}

#[test]
fn an_answer_that_comes_late_is_as_good_and_a_bad_one_nobodys_fault() {
    let mut sync = with_tips(&[(1, 64)]);
    sync.plan(NOW, Height(1));
    sync.status(NOW, peer(2), Height(64)).unwrap();
    let asks = sync.plan(NOW + STALL, Height(1));
    assert_eq!(asks[0].peer, peer(2));
    assert_eq!(sync.response(NOW + STALL, peer(1), Height(1), Vec::new()), Ok(()));
    sync.response(NOW + STALL, peer(1), Height(1), chain(1, 64)).unwrap();
    assert!(sync.holds(Height(1)));
}

#[test]
fn a_long_answer_to_an_earlier_question_is_no_lie() {
    let mut sync = with_tips(&[(1, 2)]);
    assert_eq!(sync.plan(NOW, Height(2))[0].to, Height(2));
    assert_eq!(sync.response(NOW, peer(1), Height(2), chain(2, 2)), Ok(()));
    assert_eq!(sync.take(Height(2)).unwrap().1.block.header().height, Height(2));
    assert!(sync.take(Height(3)).is_none());
}

#[test]
fn liars_are_named_and_dropped() {
    let too_many = chain(1, 65);
    let mut gap = chain(1, 3);
    gap.remove(1);
    let mut strangers = chain(1, 2);
    strangers[0].certificate.block = BlockId(B256::repeat_byte(1));
    let cases = [
        (Vec::new(), SyncFault::TipNotHonoured),
        (too_many, SyncFault::Range),
        (gap, SyncFault::Range),
        (strangers, SyncFault::Range),
        (chain(2, 3), SyncFault::Range),
    ];
    for (blocks, fault) in cases {
        let mut sync = with_tips(&[(1, 64)]);
        let ask = sync.plan(NOW, Height(1))[0];
        assert_eq!(sync.response(NOW, ask.peer, ask.from, blocks), Err(fault));
        assert!(sync.plan(NOW, Height(1)).is_empty());
        assert_eq!(sync.best_tip(NOW), None);
    }
}

#[test]
fn a_tip_that_falls_drops_its_peer_unless_it_was_only_overtaken() {
    let mut sync = with_tips(&[(1, 5000)]);
    assert_eq!(sync.status(NOW, peer(1), Height(4999)), Ok(()));
    assert_eq!(sync.best_tip(NOW), Some(Height(5000)));
    assert_eq!(sync.status(NOW, peer(1), Height(10)), Err(SyncFault::TipFell));
    assert_eq!(sync.best_tip(NOW), None);
}

#[test]
fn a_silent_peer_is_passed_over_after_five_seconds() {
    let mut sync = with_tips(&[(1, 64)]);
    assert_eq!(sync.plan(NOW, Height(1)).len(), 1);
    sync.status(NOW, peer(2), Height(64)).unwrap();
    assert!(sync.plan(NOW + STALL / 2, Height(1)).is_empty());
    let asks = sync.plan(NOW + STALL, Height(1));
    assert_eq!((asks.len(), asks[0].peer), (1, peer(2)));
    // Alone again, it gets another chance.
    sync.disconnected(peer(2));
    let asks = sync.plan(NOW + STALL + PASS_OVER, Height(1));
    assert_eq!((asks.len(), asks[0].peer), (1, peer(1)));
}

#[test]
fn a_lost_answer_costs_a_second_and_each_one_after_it_more() {
    let mut sync = with_tips(&[(1, 1)]);
    let (mut now, mut pauses) = (NOW, Vec::new());
    for _ in 0..6 {
        assert_eq!(sync.plan(now, Height(1)).len(), 1);
        let overdue = sync.deadline(now, Height(1)).unwrap();
        assert!(sync.plan(overdue, Height(1)).is_empty());
        let again = sync.deadline(overdue, Height(1)).unwrap();
        pauses.push((again - now).as_millis() / 100);
        now = again;
    }
    // Half a second and a 64th of what a full window has above it, then 0.5, 1, 2, 4, 5, 5 s.
    assert_eq!(pauses, [10, 15, 25, 45, 55, 55]);
}

#[test]
fn what_consensus_decided_meanwhile_is_forgotten() {
    let mut sync = with_tips(&[(1, 64)]);
    let ask = sync.plan(NOW, Height(1))[0];
    sync.response(NOW, ask.peer, ask.from, chain(1, 64)).unwrap();
    sync.advance(Height(10));
    assert_eq!(sync.take(Height(10)).unwrap().1.block.header().height, Height(10));
    sync.advance(Height(65));
    assert!(sync.take(Height(65)).is_none());
}

#[test]
fn a_peer_that_is_passed_over_is_remembered_in_the_deadline() {
    let mut sync = with_tips(&[(1, 64)]);
    sync.plan(NOW, Height(1));
    let overdue = sync.deadline(NOW, Height(1)).unwrap();
    assert!(sync.plan(overdue, Height(1)).is_empty());
    assert_eq!(sync.best_tip(overdue), None);
    assert_eq!(sync.deadline(overdue, Height(1)), Some(overdue + PASS_OVER));
}

#[test]
fn a_block_that_does_not_hold_up_is_asked_for_again_elsewhere() {
    let mut sync = with_tips(&[(1, 128), (2, 128)]);
    let asks = sync.plan(NOW, Height(1));
    let liar = asks[0].peer;
    for ask in asks {
        sync.response(NOW, ask.peer, ask.from, chain(ask.from.0, 64)).unwrap();
    }
    assert!(sync.take(Height(1)).is_some());
    sync.reject(NOW, liar);
    let asks = sync.plan(NOW, Height(1));
    assert!(asks.iter().all(|ask| ask.peer != liar));
    let covered: u64 = asks.iter().map(|ask| ask.to.0 - ask.from.0 + 1).sum();
    assert_eq!((asks[0].from, covered), (Height(1), 64));
}

/// What may happen to a node that catches up.
#[derive(Debug, Clone, Copy)]
enum Happens {
    /// Time passes, in milliseconds, and it asks.
    Asks(u64),
    /// One of its questions so far, however old, is answered with so many blocks.
    Answer(usize, usize),
    Gone(u8),
    Back(u8),
    Lied(u8),
    /// What is there applies.
    Applies,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0_u64..4_000).prop_map(Happens::Asks),
        6 => (any::<usize>(), 1_usize..65).prop_map(|(question, blocks)| Happens::Answer(question, blocks)),
        1 => (1_u8..5).prop_map(Happens::Gone),
        2 => (1_u8..5).prop_map(Happens::Back),
        1 => (1_u8..5).prop_map(Happens::Lied),
        1 => Just(Happens::Applies),
    ]
}

proptest! {
    #[test]
    fn no_more_than_four_windows_whatever_happens(story in proptest::collection::vec(happens(), 1..120)) {
        const TIP: u64 = 400;
        let blocks = chain(1, TIP);
        let mut sync = with_tips(&[(1, TIP), (2, TIP), (3, TIP), (4, TIP)]);
        let (mut now, mut next, mut asked) = (NOW, 1, Vec::new());
        for event in story {
            match event {
                Happens::Asks(millis) => {
                    now += Duration::from_millis(millis);
                    asked.extend(sync.plan(now, Height(next)));
                }
                Happens::Answer(question, count) if !asked.is_empty() => {
                    let ask = asked[question % asked.len()];
                    let (from, to) = (usize::try_from(ask.from.0).unwrap(), usize::try_from(ask.to.0).unwrap());
                    let answer = blocks[from - 1..to.min(from - 1 + count)].to_vec();
                    prop_assert_eq!(sync.response(now, ask.peer, ask.from, answer), Ok(()));
                }
                Happens::Answer(..) => {}
                Happens::Gone(byte) => sync.disconnected(peer(byte)),
                Happens::Back(byte) => sync.status(now, peer(byte), Height(TIP)).unwrap(),
                Happens::Lied(byte) => sync.reject(now, peer(byte)),
                Happens::Applies => {
                    while let Some((_, decided)) = sync.take(Height(next)) {
                        prop_assert_eq!(decided.block.header().height, Height(next));
                        next += 1;
                        sync.advance(Height(next));
                    }
                }
            }
            let (windows, of_peer, _) = sync.sizes();
            prop_assert!(windows <= WINDOWS_MAX, "{} windows after {:?}", windows, event);
            prop_assert!(of_peer <= WINDOWS_PER_PEER_MAX, "{} windows of a peer after {:?}", of_peer, event);
        }
    }
}
