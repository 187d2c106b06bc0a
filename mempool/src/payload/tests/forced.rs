//! Forced transactions: what a block carries of them, and every way not to.

use std::time::Duration;

use super::*;
use crate::L1Wanted;
use crate::fixture::{FORCED_BYTES_MAX, L1Chain, l1_origin};

fn feed(node: &mut Node, chain: &mut L1Chain, forced: &[(RollupId, Bytes)]) {
    let block = chain.mine(forced);
    let l1 = node.l1.as_mut().unwrap();
    l1.feed(&block, Duration::ZERO).unwrap();
}

/// The `n`th forced transaction of a rollup.
fn item(rollup: RollupId, n: u64) -> (RollupId, Bytes) {
    (rollup, numbered(rollup, 1_000 + n, 30).payload)
}

/// A node that sees these queued in L1 block 101.
fn node_with(forced: &[(RollupId, Bytes)]) -> (Node, L1Chain) {
    let (mut node, mut chain) = (Node::settling(), L1Chain::new());
    feed(&mut node, &mut chain, forced);
    (node, chain)
}

fn payloads(block: &SealedBlock, rollup: RollupId) -> Vec<Bytes> {
    block
        .block()
        .lane(rollup)
        .map_or(Vec::new(), |body| body.transactions.clone())
}

/// The block with its lanes changed: transactions of each rollup.
fn with_lanes(node: &Node, change: impl FnOnce(&mut BTreeMap<RollupId, Vec<PoolTransaction>>)) -> SealedBlock {
    let good = node.build();
    let mut lanes: BTreeMap<RollupId, Vec<PoolTransaction>> = BTreeMap::new();
    for body in &good.lanes {
        let rollup = body.lane.rollup;
        let transactions = body.transactions.iter();
        lanes.insert(
            rollup,
            transactions.map(|payload| opaque(rollup, payload.to_vec())).collect(),
        );
    }
    change(&mut lanes);
    lanes.retain(|_, transactions| !transactions.is_empty());
    block_of(node, lanes.into_iter().collect())
}

fn with_header(node: &Node, change: impl FnOnce(&mut Header)) -> SealedBlock {
    let mut block = node.build();
    change(&mut block.header);
    sealed(&block)
}

#[test]
fn forced_transactions_begin_their_lanes_in_the_order_of_the_queue() {
    let (mut node, _) = node_with(&[item(FCFS, 2), item(OPAQUE, 1), item(OPAQUE, 0)]);
    let waiting = numbered(OPAQUE, 7, 40);
    node.insert(waiting.clone()).unwrap();
    let block = node.decide();
    assert_eq!(
        payloads(&block, OPAQUE),
        [item(OPAQUE, 1).1, item(OPAQUE, 0).1, waiting.payload]
    );
    assert_eq!(payloads(&block, FCFS), [item(FCFS, 2).1]);
    assert_eq!(block.header().l1_origin, l1_origin(101));
    assert_eq!((block.header().forced_to, node.state.forced_cursor), (Some(3), 3));
    let next = node.decide();
    assert_eq!(
        (next.header().forced_to, next.header().l1_origin),
        (None, l1_origin(101))
    );
}

#[test]
fn a_flood_above_the_cap_drains_in_order_over_blocks() {
    let items: Vec<_> = (0..8).map(|n| item(OPAQUE, 7 - n)).collect();
    let (mut node, mut chain) = node_with(&items);
    let mut carried = Vec::new();
    for cursor in [3, 6] {
        carried.extend(payloads(&node.decide(), OPAQUE));
        assert_eq!(node.state.forced_cursor, cursor);
    }
    // What comes meanwhile waits behind it.
    feed(&mut node, &mut chain, &[item(OPAQUE, 99)]);
    carried.extend(payloads(&node.decide(), OPAQUE));
    assert_eq!(node.state.forced_cursor, 9);
    let expected: Vec<Bytes> = items.into_iter().chain([item(OPAQUE, 99)]).map(|item| item.1).collect();
    assert_eq!(carried, expected);
    assert_eq!(node.decide().header().forced_to, None);
}

#[test]
fn what_cannot_be_carried_is_consumed_and_skipped() {
    let long = vec![7; FORCED_BYTES_MAX as usize + 1];
    let unknown = (RollupId(555), Bytes::from_static(&[1]));
    let (mut node, mut chain) = node_with(&[unknown, (OPAQUE, long.into()), (OPAQUE, Bytes::new())]);
    let block = node.decide();
    assert!(block.block().lanes.is_empty());
    assert_eq!(block.header().forced_to, Some(3));
    feed(
        &mut node,
        &mut chain,
        &[item(OPAQUE, 1), item(OPAQUE, 1), item(FCFS, 1)],
    );
    let block = node.decide();
    assert_eq!(payloads(&block, OPAQUE), [item(OPAQUE, 1).1]);
    assert_eq!(node.state.forced_cursor, 6);
}

#[test]
fn what_its_stream_carried_is_not_carried_again() {
    let (mut node, mut chain) = node_with(&[]);
    let transaction = numbered(OPAQUE, 1_001, 30);
    node.insert(transaction).unwrap();
    node.decide();
    feed(&mut node, &mut chain, &[item(OPAQUE, 1), item(OPAQUE, 2)]);
    let block = node.decide();
    assert_eq!(payloads(&block, OPAQUE), [item(OPAQUE, 2).1]);
    assert_eq!(block.header().forced_to, Some(2));
}

#[test]
fn what_waits_in_the_pool_and_is_forced_in_stands_once_and_leaves() {
    let (mut node, mut chain) = node_with(&[]);
    let [a0, a1, b0] =
        [(1, 0, 5), (1, 1, 90), (2, 0, 50)].map(|(sender, nonce, tip)| evm(PRIORITY, sender, nonce, tip));
    let waiting = numbered(OPAQUE, 1_001, 30);
    for transaction in [a0.clone(), a1.clone(), b0.clone(), waiting.clone()] {
        node.insert(transaction).unwrap();
    }
    feed(
        &mut node,
        &mut chain,
        &[(PRIORITY, a0.payload.clone()), item(OPAQUE, 1)],
    );
    let block = node.decide();
    assert_eq!(payloads(&block, PRIORITY), [a0.payload, b0.payload]);
    assert_eq!(payloads(&block, OPAQUE), [waiting.payload]);
    assert_eq!(
        payloads(&node.decide(), PRIORITY),
        [a1.payload],
        "what was left out with it comes next"
    );
    assert!(node.pool.is_empty());
}

#[test]
fn a_block_without_what_is_due_is_refused() {
    let (mut node, _) = node_with(&[item(FCFS, 0), item(OPAQUE, 0), item(OPAQUE, 1)]);
    node.insert(numbered(OPAQUE, 7, 40)).unwrap();
    node.check(&with_lanes(&node, |_| {})).unwrap();
    let refuses = |rollup, change: fn(&mut Vec<PoolTransaction>)| {
        let block = with_lanes(&node, |lanes| change(lanes.get_mut(&rollup).unwrap()));
        assert_eq!(node.check(&block), Err(Invalid::Forced(rollup)));
    };
    refuses(FCFS, Vec::clear);
    refuses(OPAQUE, |lane| drop(lane.remove(1)));
    refuses(OPAQUE, |lane| lane.swap(0, 1));
    refuses(OPAQUE, |lane| lane.rotate_right(1));
    refuses(FCFS, |lane| lane[0] = opaque(FCFS, vec![1]));
}

#[test]
fn a_cursor_that_does_not_follow_from_what_is_due_is_refused() {
    let (node, _) = node_with(&[item(FCFS, 0), item(OPAQUE, 0)]);
    for given in [None, Some(0), Some(1), Some(3)] {
        let block = with_header(&node, |header| header.forced_to = given);
        let expected = Some(2);
        assert_eq!(node.check(&block), Err(Invalid::ForcedTo { given, expected }));
    }
    let calm = Node::settling();
    let block = with_header(&calm, |header| header.forced_to = Some(0));
    assert!(matches!(
        calm.check(&block),
        Err(Invalid::ForcedTo { expected: None, .. })
    ));
    let apart = Node::with_default_limits();
    let block = with_header(&apart, |header| header.forced_to = Some(1));
    assert!(matches!(
        apart.check(&block),
        Err(Invalid::ForcedTo { expected: None, .. })
    ));
}

#[test]
fn an_origin_that_goes_back_or_is_of_another_l1_is_wrong_for_ever() {
    let (mut node, mut chain) = node_with(&[]);
    node.decide();
    feed(&mut node, &mut chain, &[]);
    let verdict = |origin: L1Origin| node.check(&with_header(&node, |header| header.l1_origin = origin));
    assert_eq!(verdict(l1_origin(101)), Ok(()), "it may stay where it is");
    let forged = |number| L1Origin {
        number,
        hash: B256::ZERO,
    };
    for given in [l1_origin(100), forged(100), forged(101), forged(102)] {
        let refused = verdict(given).unwrap_err();
        assert!(matches!(refused, Invalid::L1Origin { .. }), "{refused}");
        assert!(!refused.may_pass_later());
    }
}

#[test]
fn an_origin_that_is_not_seen_yet_passes_when_it_is() {
    let (mut ahead, mut chain) = node_with(&[]);
    let mut behind = ahead.clone();
    let block = chain.mine(&[item(OPAQUE, 0)]);
    ahead.l1.as_mut().unwrap().feed(&block, Duration::ZERO).unwrap();
    let proposal = sealed(&ahead.build());
    let open = behind.check(&proposal).unwrap_err();
    assert_eq!(open, Invalid::L1Unseen(102));
    assert!(open.may_pass_later());
    behind.l1.as_mut().unwrap().feed(&block, Duration::ZERO).unwrap();
    behind.check(&proposal).unwrap();
}

#[test]
fn a_node_behind_what_is_decided_goes_on_where_the_others_are() {
    let (mut ahead, mut chain) = node_with(&[item(OPAQUE, 0)]);
    let mut behind = Node::settling();
    for _ in 0..3 {
        let block = ahead.decide();
        behind.apply(&block, true);
        feed(&mut ahead, &mut chain, &[]);
    }
    assert_eq!(behind.state, ahead.state);
    let wanted = behind.l1.as_ref().unwrap().wanted();
    assert_eq!(wanted, L1Wanted { block: 104, item: 1 });
    behind
        .l1
        .as_mut()
        .unwrap()
        .feed(&chain.blocks[3], Duration::ZERO)
        .unwrap();
    behind.check(&sealed(&ahead.build())).unwrap();
}

#[test]
fn a_block_is_no_larger_than_a_batch_has_room_for_and_has_room_for_all_that_is_due() {
    let items: Vec<_> = (0..3)
        .map(|n| (OPAQUE, numbered(OPAQUE, 1_000 + n, 500).payload))
        .collect();
    let (mut node, _) = node_with(&items);
    for n in 0..400 {
        node.insert(numbered(OPAQUE, n, 1_000)).unwrap();
    }
    let block = sealed(&node.build());
    let bytes = block.block().batch_bytes() as u64;
    assert!((138_000..=140_000).contains(&bytes), "{bytes}");
    assert_eq!(
        payloads(&block, OPAQUE)[..3],
        [0, 1, 2].map(|n: usize| items[n].1.clone())
    );
    let large = with_lanes(&node, |lanes| {
        let more = (0..3).map(|n| numbered(OPAQUE, 5_000 + n, 1_000));
        lanes.get_mut(&OPAQUE).unwrap().extend(more);
    });
    let bytes = large.block().batch_bytes() as u64;
    assert_eq!(
        node.check(&large),
        Err(Invalid::Large {
            bytes,
            bytes_max: 140_000
        })
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_is_queued_is_consumed_in_order_by_blocks_that_all_accept(
        steps in proptest::collection::vec(
            (
                proptest::collection::vec((0_usize..4, 0_u64..12, 0_usize..4), 0..7),
                proptest::collection::vec((0_usize..3, 0_u64..12), 0..4),
                1_usize..4,
                1_usize..3,
            ),
            1..6,
        ),
        target in prop_oneof![Just(0_usize), Just(200), Just(1 << 20)],
    ) {
        let (mut node, mut chain) = (Node::settling(), L1Chain::new());
        node.limits.bytes_target = target;
        let rollups = [OPAQUE, FCFS, PRIORITY, RollupId(555)];
        // A payload that decodes in any lane, so that what is forced may wait in the pool as well.
        let payload = |n: u64, size: usize| {
            let padding = [0, 40, 440, 600][size];
            evm_of(PRIORITY, u8::try_from(n % 4).unwrap(), n / 4, 1 + u128::from(n % 3), 1, padding).payload
        };
        let mut queued: Vec<(RollupId, Bytes)> = Vec::new();
        for (forced, pooled, times, blocks) in steps {
            for (rollup, n) in pooled {
                let rollup = rollups[rollup];
                let transaction = evm_of(rollup, u8::try_from(n % 4).unwrap(), n / 4, 1 + u128::from(n % 3), 1, 0);
                let evm = transaction.evm.filter(|_| rollup != OPAQUE);
                // Some are refused: known already, or carried.
                let _ = node.insert(PoolTransaction { evm, ..transaction });
            }
            let forced: Vec<_> = forced.iter().map(|(rollup, n, size)| (rollups[*rollup], payload(*n, *size))).collect();
            queued.extend(forced.clone());
            let block = chain.mine(&forced);
            for _ in 0..times {
                node.l1.as_mut().unwrap().feed(&block, Duration::ZERO).unwrap();
            }
            for _ in 0..blocks {
                let cursor = usize::try_from(node.state.forced_cursor).unwrap();
                let window = node.pool.window().clone();
                let block = node.decide();
                let after = usize::try_from(node.state.forced_cursor).unwrap();
                prop_assert_eq!(after, queued.len().min(cursor + 3));
                for rollup in [OPAQUE, FCFS, PRIORITY] {
                    let mut expected: Vec<Bytes> = Vec::new();
                    for (of, payload) in &queued[cursor..after] {
                        let hash = fusion_types::transaction_hash(payload);
                        let carried = window.sequence_of(rollup, &hash).is_some() || expected.contains(payload);
                        if *of == rollup && payload.len() <= FORCED_BYTES_MAX as usize && !carried {
                            expected.push(payload.clone());
                        }
                    }
                    let lane = payloads(&block, rollup);
                    prop_assert_eq!(lane.get(..expected.len()), Some(&expected[..]));
                }
            }
        }
    }
}
