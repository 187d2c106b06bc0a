//! Fairness between rollups, order within lanes, and every rule of `check` broken once.

use fusion_types::{Ordering, RollupConfig, RollupKind};
use proptest::prelude::*;

use super::*;
use crate::PoolLimits;
use crate::fixture::{FCFS, NOW_MS, Node, OPAQUE, PRIORITY, evm, evm_of, lane_facts, numbered, opaque};

mod forced;

fn tips(block: &Block) -> Vec<u128> {
    lane_facts(block, PRIORITY)
        .iter()
        .map(EvmFacts::effective_tip)
        .collect()
}

fn sealed(block: &Block) -> SealedBlock {
    SealedBlock::new(block).unwrap()
}

/// A block with these lanes, right in everything that `build` computes.
fn block_of(node: &Node, lanes: Vec<(RollupId, Vec<PoolTransaction>)>) -> SealedBlock {
    let mut block = node.build();
    let lane_of = |(rollup, transactions): (RollupId, Vec<PoolTransaction>)| {
        let stream = node.state.streams[&rollup];
        let hashes: Vec<TxHash> = transactions.iter().map(|t| t.hash).collect();
        LaneBody {
            lane: Lane::new(rollup, block.header.height, stream.next_sequence, stream.head, &hashes),
            transactions: transactions.into_iter().map(|t| t.payload).collect(),
        }
    };
    block.lanes = lanes.into_iter().map(lane_of).collect();
    block.header.lanes_root = merkle_root(&block.lane_leaves());
    sealed(&block)
}

#[test]
fn an_empty_pool_builds_an_empty_valid_block() {
    let mut node = Node::with_default_limits();
    let block = node.decide();
    assert!(block.block().lanes.is_empty());
    assert_eq!(block.header().height, Height(1));
}

#[test]
fn fcfs_lanes_keep_the_order_of_arrival() {
    let mut node = Node::with_default_limits();
    let sent: Vec<PoolTransaction> = (0..50).map(|n| numbered(OPAQUE, n * 7919 % 50, 100)).collect();
    for transaction in &sent {
        node.insert(transaction.clone()).unwrap();
    }
    let block = node.decide();
    let payloads: Vec<Bytes> = sent.into_iter().map(|t| t.payload).collect();
    assert_eq!(block.block().lane(OPAQUE).unwrap().transactions, payloads);
    assert!(node.pool.is_empty());
}

#[test]
fn priority_lanes_merge_the_senders_runs_by_tip() {
    let mut node = Node::with_default_limits();
    for (sender, nonce, tip) in [(1, 0, 5), (1, 1, 90), (2, 0, 50), (2, 1, 40), (3, 0, 45), (4, 0, 5)] {
        node.insert(evm(PRIORITY, sender, nonce, tip)).unwrap();
    }
    let block = node.decide();
    assert_eq!(tips(block.block()), [50, 45, 40, 5, 90, 5]);
}

#[test]
fn a_tip_above_the_fee_cap_counts_as_the_fee_cap() {
    let mut node = Node::with_default_limits();
    node.insert(evm_of(PRIORITY, 1, 0, 10, 100, 0)).unwrap();
    node.insert(evm(PRIORITY, 2, 0, 20)).unwrap();
    assert_eq!(tips(node.decide().block()), [20, 10]);
}

#[test]
fn a_flooding_rollup_leaves_a_small_demand_fully_served() {
    let mut node = Node::with_default_limits();
    // 20 times what the block target holds, and a fifth of it.
    node.limits.bytes_target = 200_000;
    for n in 0..8_000 {
        node.insert(numbered(OPAQUE, n, 500)).unwrap();
    }
    for sender in 1..=8 {
        for nonce in 0..50 {
            node.insert(evm_of(FCFS, sender, nonce, 1, 1, 40)).unwrap();
        }
    }
    let block = node.decide();
    assert_eq!(lane_facts(block.block(), FCFS).len(), 400);
    let flood = block.block().lane(OPAQUE).unwrap().transactions.len();
    assert_eq!(flood, (200_000 - 400 * 104) / 504, "what is left goes to the flood");
}

#[test]
fn full_lanes_share_a_block_by_weight() {
    let weights = [1, 2, 5];
    let rollup = |(at, weight): (usize, &u32)| RollupConfig {
        id: RollupId(at as u64 + 1),
        kind: RollupKind::Opaque,
        ordering: Ordering::Fcfs,
        weight: *weight,
    };
    let rollups: Vec<RollupConfig> = weights.iter().enumerate().map(rollup).collect();
    let mut node = Node::new(rollups.clone(), PoolLimits::default());
    node.limits.bytes_target = 80 * 1004;
    for rollup in &rollups {
        for n in 0..100 {
            node.insert(numbered(rollup.id, n, 1000)).unwrap();
        }
    }
    for _ in 0..2 {
        let block = node.decide();
        let counts: Vec<usize> = block.block().lanes.iter().map(|lane| lane.transactions.len()).collect();
        for (count, weight) in counts.iter().zip(weights) {
            assert!(count.abs_diff(10 * weight as usize) <= 1, "{counts:?}");
        }
    }
}

#[test]
fn a_rollup_of_short_transactions_cannot_use_up_the_number_of_transactions() {
    let mut node = Node::with_default_limits();
    node.limits.transactions_max = 1000;
    for n in 0..5000 {
        node.insert(numbered(OPAQUE, n, 8)).unwrap();
    }
    for sender in 1..=5 {
        for nonce in 0..64 {
            node.insert(evm(FCFS, sender, nonce, 1)).unwrap();
        }
    }
    let block = node.decide();
    assert_eq!(lane_facts(block.block(), FCFS).len(), 320);
    assert_eq!(block.block().transaction_count(), 1000);
}

#[test]
fn a_transaction_larger_than_its_rollups_share_is_taken_in_turn() {
    let mut node = Node::with_default_limits();
    node.limits.bytes_target = 20_000;
    node.insert(evm_of(FCFS, 1, 0, 1, 1, 100_000)).unwrap();
    for n in 0..1000 {
        node.insert(numbered(OPAQUE, n, 1000)).unwrap();
    }
    let taken = (0..2).filter(|_| !lane_facts(node.decide().block(), FCFS).is_empty());
    assert_eq!(taken.count(), 1);
}

#[test]
fn a_full_block_stays_within_the_protocols_limits() {
    let mut node = Node::with_default_limits();
    for n in 0..100 {
        node.insert(numbered(OPAQUE, n, 128 * 1024)).unwrap();
    }
    for n in 0..20_000 {
        node.insert(numbered(OPAQUE, 1000 + n, 64)).unwrap();
    }
    let block = node.decide();
    assert!(block.encoded().len() <= BLOCK_BYTES_MAX);
    assert!(block.encoded().len() > BLOCK_BYTES_MAX - 512 * 1024);
}

#[test]
fn time_moves_on_even_if_the_clock_stands() {
    let mut node = Node::with_default_limits();
    node.state.time_ms = NOW_MS + 300;
    let block = sealed(&node.build());
    assert_eq!(block.header().time_ms, NOW_MS + 301);
    node.check(&block).unwrap();
}

#[test]
fn every_header_field_is_checked() {
    let node = Node::with_default_limits();
    let good = node.build();
    node.check(&sealed(&good)).unwrap();
    let refuses = |name: &str, change: &dyn Fn(&mut Header)| {
        let mut block = good.clone();
        change(&mut block.header);
        let error = node.check(&sealed(&block)).unwrap_err();
        assert!(error.to_string().contains(name), "{name}: {error}");
    };
    refuses("network", &|h| h.network.0.0[0] ^= 1);
    refuses("height", &|h| h.height = Height(2));
    refuses("parent", &|h| h.parent.0.0[0] ^= 1);
    refuses("epoch", &|h| h.epoch = Epoch(1));
    refuses("committee", &|h| h.committee.0[0] ^= 1);
    refuses("proposer", &|h| h.proposer.0.0[0] ^= 1);
    refuses("l1_origin", &|h| h.l1_origin.number = 1);
    refuses("state_root", &|h| h.state_root.0[0] ^= 1);
    refuses("time_ms", &|h| h.time_ms = NOW_MS - 1000);
    refuses("501 ms ahead", &|h| h.time_ms = NOW_MS + 501);
}

#[test]
fn the_drift_of_a_clock_is_allowed_to_the_millisecond() {
    let node = Node::with_default_limits();
    let mut block = node.build();
    block.header.time_ms = NOW_MS + CLOCK_DRIFT_MAX_MS;
    node.check(&sealed(&block)).unwrap();
}

#[test]
fn a_lane_of_an_unregistered_rollup_is_refused() {
    let mut node = Node::with_default_limits();
    let stranger = RollupId(555);
    let stream = node.state.streams[&OPAQUE];
    node.state.streams.insert(stranger, stream);
    let block = block_of(&node, vec![(stranger, vec![numbered(stranger, 1, 9)])]);
    assert_eq!(node.check(&block), Err(Invalid::UnknownRollup(stranger)));
}

#[test]
fn a_lane_that_skips_a_sequence_number_or_changes_the_head_is_refused() {
    let node = Node::with_default_limits();
    for (skip, flip) in [(1, 0), (0, 1)] {
        let mut ahead = node.clone();
        let stream = ahead.state.streams.get_mut(&OPAQUE).unwrap();
        stream.next_sequence += skip;
        stream.head.0[0] ^= flip;
        let mut block = block_of(&ahead, vec![(OPAQUE, vec![numbered(OPAQUE, 1, 9)])])
            .block()
            .clone();
        block.header.state_root = node.state.root();
        assert_eq!(node.check(&sealed(&block)), Err(Invalid::Stream(OPAQUE)));
    }
}

#[test]
fn a_repeat_is_refused_within_a_block_and_after_it_but_not_in_another_stream() {
    let mut node = Node::with_default_limits();
    let transaction = numbered(OPAQUE, 1, 60);
    let hash = transaction.hash;
    let repeated = Err(Invalid::Repeated { rollup: OPAQUE, hash });
    let twice = block_of(&node, vec![(OPAQUE, vec![transaction.clone(), transaction.clone()])]);
    assert_eq!(node.check(&twice), repeated);
    node.insert(transaction.clone()).unwrap();
    node.decide();
    let again = block_of(&node, vec![(OPAQUE, vec![transaction.clone()])]);
    assert_eq!(node.check(&again), repeated);
    let elsewhere = PoolTransaction {
        rollup: FCFS,
        ..transaction
    };
    node.check(&block_of(&node, vec![(FCFS, vec![elsewhere])])).unwrap();
}

#[test]
fn a_priority_lane_out_of_order_is_refused() {
    let node = Node::with_default_limits();
    let check = |transactions: Vec<PoolTransaction>| node.check(&block_of(&node, vec![(PRIORITY, transactions)]));
    let (a0, a1, b0) = (evm(PRIORITY, 1, 0, 5), evm(PRIORITY, 1, 1, 90), evm(PRIORITY, 2, 0, 50));
    check(vec![b0.clone(), a0.clone(), a1.clone()]).unwrap();
    assert!(matches!(
        check(vec![a0.clone(), a1.clone(), b0.clone()]),
        Err(Invalid::TipOrder { tip: 5, best: 50, .. })
    ));
    assert!(matches!(
        check(vec![b0.clone(), a1.clone(), a0]),
        Err(Invalid::NonceOrder { nonce: 0, .. })
    ));
    // Leaving out is not reordering: without its predecessor, the one that pays most comes first.
    check(vec![a1, b0.clone()]).unwrap();
    let same_nonce = evm(PRIORITY, 2, 0, 49);
    assert!(matches!(
        check(vec![b0.clone(), same_nonce]),
        Err(Invalid::NonceOrder { .. })
    ));
    let junk = opaque(PRIORITY, vec![1, 2, 3]);
    assert!(matches!(check(vec![junk]), Err(Invalid::Undecodable { .. })));
    // Equal tips in either order.
    let c0 = evm(PRIORITY, 3, 0, 50);
    check(vec![c0.clone(), b0.clone()]).unwrap();
    check(vec![b0, c0]).unwrap();
}

#[test]
fn junk_in_an_fcfs_lane_is_its_rollups_own_affair() {
    let node = Node::with_default_limits();
    node.check(&block_of(&node, vec![(FCFS, vec![opaque(FCFS, vec![1, 2, 3])])]))
        .unwrap();
}

/// The rule of `priority` lanes as it is stated, without regard to cost.
fn is_greedy_merge(lane: &[EvmFacts]) -> bool {
    (0..lane.len()).all(|at| {
        let lowest_remaining = |facts: &&EvmFacts| {
            let same = |other: &&EvmFacts| other.sender == facts.sender && other != facts;
            lane[at..].iter().filter(same).all(|other| facts.nonce < other.nonce)
        };
        let best = lane[at..]
            .iter()
            .filter(lowest_remaining)
            .map(EvmFacts::effective_tip)
            .max();
        lowest_remaining(&&lane[at]) && best == Some(lane[at].effective_tip())
    })
}

proptest! {
    #[test]
    fn check_accepts_a_priority_lane_exactly_if_it_is_a_greedy_merge(
        lane in proptest::collection::btree_map((1..4_u8, 0..3_u64), 0..4_u128, 1..7)
            .prop_map(|lane| lane.into_iter().collect::<Vec<_>>())
            .prop_shuffle(),
    ) {
        let node = Node::with_default_limits();
        let lane: Vec<PoolTransaction> =
            lane.into_iter().map(|((sender, nonce), tip)| evm(PRIORITY, sender, nonce, tip)).collect();
        let facts: Vec<EvmFacts> = lane.iter().map(|t| t.evm.unwrap()).collect();
        let verdict = node.check(&block_of(&node, vec![(PRIORITY, lane)]));
        prop_assert_eq!(verdict.is_ok(), is_greedy_merge(&facts), "{:?}", verdict);
    }

    #[test]
    fn a_rollup_within_its_share_is_fully_served_whatever_the_others_want(
        demand in 1..20_usize, flood in 20..400_usize, flood_bytes in 8..5000_usize, height in 0..3_u64,
    ) {
        let mut node = Node::with_default_limits();
        node.state.height = Height(height);
        for n in 0..flood {
            node.insert(numbered(OPAQUE, n as u64, flood_bytes)).unwrap();
            // Each sender brings one, so that nothing but the share limits it.
            if n < 200 {
                node.insert(evm_of(PRIORITY, u8::try_from(n + 1).unwrap(), 0, 1, 1, flood_bytes)).unwrap();
            }
        }
        for nonce in 0..demand {
            node.insert(evm_of(FCFS, 1, nonce as u64, 1, 1, 440)).unwrap();
        }
        // A third of the block, and the longest transaction of the rollup whose turn it is comes on top.
        node.limits.bytes_target = demand * 504 * 3 + flood_bytes + 64;
        prop_assert_eq!(lane_facts(&node.build(), FCFS).len(), demand);
    }
}
