//! After any history: `build ⇒ check`, limits kept, and every index true to what it indexes.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::Address;
use proptest::prelude::*;

use super::*;
use crate::fixture::{FCFS, Node, OPAQUE, PRIORITY, evm_of, lane_facts, numbered, rollups};
use crate::lane::consistency::assert_consistent;

fn any_transaction() -> impl Strategy<Value = PoolTransaction> {
    prop_oneof![
        (0..60_u64, 8..3000_usize).prop_map(|(n, bytes)| numbered(OPAQUE, n, bytes)),
        (any::<bool>(), 1..8_u8, 0..12_u64, 0..6_u128, 0..6_u128, 0..2000_usize).prop_map(
            |(priority, sender, nonce, max_fee, tip, padding)| {
                let rollup = if priority { PRIORITY } else { FCFS };
                evm_of(rollup, sender, nonce, max_fee, tip, padding)
            }
        ),
    ]
}

#[derive(Debug, Clone)]
enum Action {
    Insert(PoolTransaction),
    /// Decide a block of our own pool with this target.
    Decide(usize),
    /// Another node, with these transactions only, decides; we can decode them or not.
    Other(Vec<PoolTransaction>, bool),
    Expire,
    Fail(usize),
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        20 => any_transaction().prop_map(Action::Insert),
        3 => (100..20_000_usize).prop_map(Action::Decide),
        1 => (proptest::collection::vec(any_transaction(), 0..10), any::<bool>()).prop_map(|(t, k)| Action::Other(t, k)),
        1 => Just(Action::Expire),
        1 => (0..4_usize).prop_map(Action::Fail),
    ]
}

/// What holds for every pool after every action.
fn assert_sound(node: &Node, limits: &PoolLimits) {
    let pool = &node.pool;
    let pending = [OPAQUE, FCFS, PRIORITY].map(|rollup| pool.pending(rollup).unwrap());
    assert!(pool.bytes() <= limits.bytes_max);
    assert!(pending.iter().all(|p| p.bytes <= limits.rollup_bytes_max));
    assert_eq!(pool.bytes(), pending.iter().map(|p| p.bytes).sum::<usize>());
    assert_eq!(pool.executable(), pending.iter().map(|p| p.executable).sum::<usize>());
    assert_eq!(
        pool.len(),
        pending.iter().map(|p| p.executable + p.waiting).sum::<usize>()
    );
    assert_eq!(pool.is_empty(), pool.executable() == 0);
    pool.lanes.values().for_each(assert_consistent);
    let block = node.build();
    let sealed = SealedBlock::new(&block).unwrap();
    node.check(&sealed).unwrap();
    assert_eq!(
        pool.is_empty(),
        block.lanes.is_empty(),
        "something executable is something to propose"
    );
    for rollup in [FCFS, PRIORITY] {
        let mut last: BTreeMap<Address, u64> = BTreeMap::new();
        for facts in lane_facts(&block, rollup) {
            let before = last.insert(facts.sender, facts.nonce);
            assert!(before.is_none_or(|before| before < facts.nonce), "nonces ascend");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_pool_builds_blocks_that_pass_and_stays_within_its_limits(
        actions in proptest::collection::vec(any_action(), 1..120),
    ) {
        let limits = PoolLimits {
            bytes_max: 60_000,
            rollup_bytes_max: 25_000,
            sender_bytes_max: 6_000,
            sender_transactions_max: 5,
            senders_max: 9,
            ..PoolLimits::default()
        };
        let mut node = Node::new(rollups(), limits);
        for action in actions {
            node.now += Duration::from_millis(400);
            match action {
                Action::Insert(transaction) => {
                    let before = (node.pool.len(), node.pool.bytes());
                    if node.insert(transaction).is_err() {
                        prop_assert_eq!(before, (node.pool.len(), node.pool.bytes()));
                    }
                }
                Action::Decide(target) => {
                    node.limits.bytes_target = target;
                    node.decide();
                }
                Action::Other(transactions, known) => {
                    let mut other = Node::new(rollups(), limits);
                    other.state = node.state.clone();
                    for transaction in transactions {
                        if node.pool.window().sequence_of(transaction.rollup, &transaction.hash).is_none() {
                            let _refused = other.insert(transaction);
                        }
                    }
                    let block = SealedBlock::new(&other.build()).unwrap();
                    node.check(&block).unwrap();
                    node.pool.proposed(&block);
                    node.apply(&block, known);
                }
                Action::Expire => {
                    node.now += Duration::from_secs(100);
                    node.pool.expire(node.now);
                }
                Action::Fail(at) => {
                    let block = SealedBlock::new(&node.build()).unwrap();
                    if let Some((body, hashes)) = block.lanes().nth(at) {
                        let dropped = node.pool.proposal_failed(body.lane.rollup, &hashes[..1]);
                        prop_assert_eq!(dropped.len(), 1);
                    }
                }
            }
            assert_sound(&node, &limits);
        }
    }
}
