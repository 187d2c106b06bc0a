//! What the pool takes, keeps in order, lets replace, evicts, forgets and hands out.

use std::time::Duration;

use alloy_primitives::Address;
use fusion_types::limits::TRANSACTION_BYTES_MAX;
use fusion_types::{Block, SealedBlock};

use super::*;
use crate::fixture::{FCFS, Node, OPAQUE, PRIORITY, evm, evm_of, lane_facts, numbered, opaque, rollups};
use crate::limits::TRANSACTION_FOOTPRINT_BYTES;

fn nonces(block: &Block, rollup: RollupId) -> Vec<u64> {
    lane_facts(block, rollup).iter().map(|facts| facts.nonce).collect()
}

fn limited(limits: PoolLimits) -> Node {
    Node::new(rollups(), limits)
}

fn name(result: Result<(), Reject>) -> &'static str {
    result.map_or_else(|reject| reject.name(), |()| "ok")
}

/// A block of another node, which had these transactions.
fn others_block(node: &Node, transactions: Vec<PoolTransaction>) -> SealedBlock {
    let mut other = Node::with_default_limits();
    other.state = node.state.clone();
    for transaction in transactions {
        other.insert(transaction).unwrap();
    }
    SealedBlock::new(&other.build()).unwrap()
}

#[test]
fn what_waits_or_is_decided_is_refused_with_its_place() {
    let mut node = Node::with_default_limits();
    for n in 0..3 {
        node.insert(numbered(OPAQUE, n, 40)).unwrap();
    }
    let hash = numbered(OPAQUE, 2, 40).hash;
    assert_eq!(node.insert(numbered(OPAQUE, 2, 40)), Err(Reject::AlreadyKnown(hash)));
    node.decide();
    let decided = Reject::AlreadyDecided { hash, sequence: 2 };
    assert_eq!(node.insert(numbered(OPAQUE, 2, 40)), Err(decided));
    assert_eq!((node.pool.executable(), node.pool.len(), node.pool.bytes()), (0, 0, 0));
}

#[test]
fn the_same_bytes_may_wait_for_two_rollups() {
    let mut node = Node::with_default_limits();
    let transaction = evm(FCFS, 1, 0, 1);
    node.insert(transaction.clone()).unwrap();
    node.insert(PoolTransaction {
        rollup: PRIORITY,
        ..transaction
    })
    .unwrap();
    assert_eq!(node.pool.len(), 2);
}

#[test]
fn shapes_that_no_block_could_hold_are_refused() {
    let mut node = Node::with_default_limits();
    assert_eq!(name(node.insert(opaque(OPAQUE, vec![]))), "empty");
    assert_eq!(
        name(node.insert(opaque(OPAQUE, vec![1; TRANSACTION_BYTES_MAX + 1]))),
        "too_large"
    );
    assert_eq!(name(node.insert(opaque(OPAQUE, vec![1; TRANSACTION_BYTES_MAX]))), "ok");
    assert_eq!(name(node.insert(opaque(RollupId(5), vec![1]))), "unknown_rollup");
    assert_eq!(name(node.insert(opaque(FCFS, vec![1]))), "malformed");
    assert_eq!(
        name(node.insert(PoolTransaction {
            rollup: OPAQUE,
            ..evm(FCFS, 1, 0, 1)
        })),
        "malformed"
    );
    assert_eq!(name(node.insert(evm(FCFS, 1, u64::MAX, 1))), "nonce_max");
}

#[test]
fn an_unknown_senders_first_nonce_is_taken_at_face_value_and_gaps_wait() {
    let mut node = Node::with_default_limits();
    for nonce in [7, 9, 10] {
        node.insert(evm(FCFS, 1, nonce, 1)).unwrap();
    }
    let pending = node.pool.pending(FCFS).unwrap();
    assert_eq!((pending.executable, pending.waiting), (1, 2));
    assert_eq!(nonces(&node.build(), FCFS), [7]);
    node.insert(evm(FCFS, 1, 8, 1)).unwrap();
    assert_eq!(nonces(node.decide().block(), FCFS), [7, 8, 9, 10]);
}

#[test]
fn a_lower_nonce_goes_before_what_was_taken_at_face_value() {
    let mut node = Node::with_default_limits();
    for nonce in [7, 6, 5] {
        node.insert(evm(FCFS, 1, nonce, 1)).unwrap();
    }
    node.insert(evm(FCFS, 2, 0, 1)).unwrap();
    assert_eq!(nonces(&node.build(), FCFS), [5, 6, 7, 0]);
    // Now the sender starts two below: what was executable waits for the nonce between.
    node.insert(evm(FCFS, 1, 3, 1)).unwrap();
    assert_eq!(nonces(&node.build(), FCFS), [3, 0]);
}

#[test]
fn after_a_decision_stale_nonces_are_refused_and_the_next_is_known() {
    let mut node = Node::with_default_limits();
    for nonce in [5, 6] {
        node.insert(evm(FCFS, 1, nonce, 1)).unwrap();
    }
    node.decide();
    let stale = Reject::NonceTooLow { nonce: 6, next: 7 };
    assert_eq!(node.insert(evm(FCFS, 1, 6, 9)), Err(stale));
    let gap = Reject::NonceGap {
        nonce: 72,
        next: 7,
        limit: 64,
    };
    assert_eq!(node.insert(evm(FCFS, 1, 72, 1)), Err(gap));
    node.insert(evm(FCFS, 1, 71, 1)).unwrap();
    assert!(node.pool.is_empty(), "71 waits for 7");
    node.insert(evm(FCFS, 1, 4, 1)).unwrap();
    assert_eq!(nonces(&node.build(), FCFS), [4], "4 is not known to be used");
    node.insert(evm(FCFS, 1, 7, 1)).unwrap();
    assert_eq!(nonces(&node.build(), FCFS), [4, 7]);
}

#[test]
fn another_transaction_with_a_decided_nonce_leaves_the_pool() {
    let mut node = Node::with_default_limits();
    for nonce in [0, 1, 2] {
        node.insert(evm(FCFS, 1, nonce, 1)).unwrap();
    }
    let block = others_block(&node, vec![evm(FCFS, 1, 0, 77), evm(FCFS, 1, 1, 77)]);
    node.apply(&block, true);
    assert_eq!(node.pool.len(), 1);
    assert_eq!(nonces(&node.build(), FCFS), [2]);
}

#[test]
fn a_gap_is_taken_at_face_value_where_a_decided_sender_is_unknown() {
    let mut node = Node::with_default_limits();
    node.insert(evm(FCFS, 1, 0, 1)).unwrap();
    node.decide();
    node.insert(evm(FCFS, 1, 3, 1)).unwrap();
    assert!(node.pool.is_empty());
    // These are the nonces 1 and 2, but this node cannot know.
    let block = others_block(&node, vec![evm(FCFS, 1, 1, 1), evm(FCFS, 1, 2, 1)]);
    node.apply(&block, false);
    assert_eq!(nonces(&node.build(), FCFS), [3]);
    assert_eq!(name(node.insert(evm(FCFS, 1, 0, 9))), "nonce_too_low");
}

#[test]
fn a_gap_that_nothing_fills_expires_after_three_minutes() {
    let mut node = Node::with_default_limits();
    node.insert(evm(FCFS, 1, 0, 1)).unwrap();
    node.insert(evm(FCFS, 1, 2, 1)).unwrap();
    node.now += Duration::from_secs(179);
    assert!(node.pool.expire(node.now).is_empty());
    node.now += Duration::from_secs(1);
    let expired = node.pool.expire(node.now);
    assert_eq!(expired, [evm(FCFS, 1, 2, 1)]);
    assert_eq!(node.pool.len(), 1, "what is executable stays");
}

#[test]
fn a_replacement_pays_ten_percent_more_on_both_fees() {
    let mut node = Node::with_default_limits();
    node.insert(evm_of(PRIORITY, 1, 0, 1000, 95, 0)).unwrap();
    let needed = Reject::ReplacementUnderpriced {
        max_fee: 1099,
        tip: 200,
        max_fee_needed: 1100,
        tip_needed: 105,
    };
    assert_eq!(node.insert(evm_of(PRIORITY, 1, 0, 1099, 200, 0)), Err(needed));
    assert_eq!(
        name(node.insert(evm_of(PRIORITY, 1, 0, 5000, 104, 0))),
        "replacement_underpriced"
    );
    node.insert(evm_of(PRIORITY, 1, 0, 1100, 105, 0)).unwrap();
    assert_eq!(node.pool.len(), 1);
    assert_eq!(lane_facts(&node.build(), PRIORITY)[0].max_fee, 1100);
}

#[test]
fn a_fee_of_nothing_is_not_replaced_by_nothing() {
    let mut node = Node::with_default_limits();
    node.insert(evm(FCFS, 1, 0, 0)).unwrap();
    assert_eq!(
        name(node.insert(evm_of(FCFS, 1, 0, 0, 0, 1))),
        "replacement_underpriced"
    );
    node.insert(evm(FCFS, 1, 0, 1)).unwrap();
    node.now += Duration::from_secs(1);
    node.insert(evm(FCFS, 1, 0, u128::MAX)).unwrap();
}

#[test]
fn a_nonce_is_replaced_once_a_second() {
    let mut node = Node::with_default_limits();
    node.insert(evm(FCFS, 1, 0, 100)).unwrap();
    node.insert(evm(FCFS, 1, 0, 200)).unwrap();
    node.now += Duration::from_millis(400);
    let soon = Reject::ReplacementTooSoon { nonce: 0, wait_ms: 600 };
    assert_eq!(node.insert(evm(FCFS, 1, 0, 400)), Err(soon));
    node.now += Duration::from_millis(600);
    node.insert(evm(FCFS, 1, 0, 400)).unwrap();
}

#[test]
fn what_is_proposed_is_not_replaced_until_the_height_is_decided() {
    let mut node = Node::with_default_limits();
    node.insert(evm(FCFS, 1, 0, 100)).unwrap();
    let proposal = SealedBlock::new(&node.build()).unwrap();
    node.pool.proposed(&proposal);
    assert_eq!(node.insert(evm(FCFS, 1, 0, 200)), Err(Reject::InFlight { nonce: 0 }));
    // Another block is decided at this height: the transaction waits as before and can be replaced.
    let block = others_block(&node, vec![numbered(OPAQUE, 1, 50)]);
    node.apply(&block, true);
    node.insert(evm(FCFS, 1, 0, 200)).unwrap();
}

#[test]
fn a_replacement_keeps_its_nonces_place() {
    let mut node = Node::with_default_limits();
    for (sender, nonce) in [(1, 0), (2, 0), (1, 1), (2, 1)] {
        node.insert(evm(FCFS, sender, nonce, 1)).unwrap();
    }
    node.insert(evm(FCFS, 1, 0, 50)).unwrap();
    let facts = lane_facts(&node.build(), FCFS);
    let order: Vec<(Address, u64)> = facts.iter().map(|f| (f.sender, f.nonce)).collect();
    let [one, two] = [1, 2].map(Address::repeat_byte);
    assert_eq!(order, [(one, 0), (two, 0), (one, 1), (two, 1)]);
    assert_eq!(facts[0].tip, 50);
}

#[test]
fn a_sender_has_a_bounded_number_of_transactions_and_bytes() {
    let mut node = limited(PoolLimits {
        sender_transactions_max: 3,
        sender_bytes_max: 10 * TRANSACTION_FOOTPRINT_BYTES,
        ..PoolLimits::default()
    });
    for nonce in 0..3 {
        node.insert(evm(FCFS, 1, nonce, 1)).unwrap();
    }
    assert_eq!(name(node.insert(evm(FCFS, 1, 3, 1))), "sender_full");
    assert_eq!(name(node.insert(evm(FCFS, 2, 0, 1))), "ok");
    assert_eq!(
        name(node.insert(evm_of(FCFS, 2, 1, 1, 1, 10 * TRANSACTION_FOOTPRINT_BYTES))),
        "sender_full"
    );
}

#[test]
fn a_full_senders_missing_nonce_displaces_its_last_waiting_one() {
    let mut node = limited(PoolLimits {
        sender_transactions_max: 3,
        ..PoolLimits::default()
    });
    for nonce in [0, 2, 3] {
        node.insert(evm(FCFS, 1, nonce, 1)).unwrap();
    }
    assert_eq!(name(node.insert(evm(FCFS, 1, 4, 1))), "sender_full");
    node.insert(evm(FCFS, 1, 1, 1)).unwrap();
    assert_eq!(nonces(&node.build(), FCFS), [0, 1, 2]);
    assert_eq!(node.pool.len(), 3);
}

/// Limits that leave a rollup room for `count` transactions of the fixture without padding.
fn room_for(count: usize) -> PoolLimits {
    PoolLimits {
        rollup_bytes_max: count * (60 + TRANSACTION_FOOTPRINT_BYTES),
        ..PoolLimits::default()
    }
}

#[test]
fn a_full_fcfs_lane_refuses_with_the_numbers() {
    let mut node = limited(room_for(2));
    for sender in 1..=2 {
        node.insert(evm(FCFS, sender, 0, 1)).unwrap();
    }
    let bytes = 2 * (60 + TRANSACTION_FOOTPRINT_BYTES);
    let full = Reject::RollupFull {
        rollup: FCFS,
        bytes,
        bytes_max: bytes,
    };
    assert_eq!(node.insert(evm(FCFS, 3, 0, 100)), Err(full));
    assert_eq!(
        name(node.insert(evm(PRIORITY, 3, 0, 100))),
        "ok",
        "another rollup has room"
    );
}

#[test]
fn a_full_priority_lane_lets_the_newest_of_the_lowest_tip_go() {
    let mut node = limited(room_for(3));
    for (sender, tip) in [(1, 5), (2, 3), (3, 3)] {
        node.insert(evm(PRIORITY, sender, 0, tip)).unwrap();
    }
    assert_eq!(name(node.insert(evm(PRIORITY, 4, 0, 3))), "rollup_full");
    node.insert(evm(PRIORITY, 4, 0, 4)).unwrap();
    let senders: Vec<Address> = lane_facts(&node.build(), PRIORITY).iter().map(|f| f.sender).collect();
    assert_eq!(senders, [1, 4, 2].map(Address::repeat_byte));
}

#[test]
fn a_waiting_transaction_evicts_nothing_and_nobody_evicts_its_own() {
    let mut node = limited(room_for(3));
    node.insert(evm(PRIORITY, 1, 0, 9)).unwrap();
    node.insert(evm(PRIORITY, 1, 1, 1)).unwrap();
    node.insert(evm(PRIORITY, 2, 0, 2)).unwrap();
    assert_eq!(name(node.insert(evm(PRIORITY, 2, 5, 100))), "rollup_full");
    node.insert(evm(PRIORITY, 1, 2, 50)).unwrap();
    assert_eq!(
        nonces(&node.build(), PRIORITY),
        [0, 1, 2],
        "sender 2 gave way, not the own nonce 1"
    );
}

#[test]
fn who_loses_a_nonce_to_eviction_waits_with_the_later_ones() {
    let mut node = limited(room_for(3));
    for (nonce, tip) in [(0, 9), (1, 1), (2, 9)] {
        node.insert(evm(PRIORITY, 1, nonce, tip)).unwrap();
    }
    node.insert(evm(PRIORITY, 2, 0, 5)).unwrap();
    let pending = node.pool.pending(PRIORITY).unwrap();
    assert_eq!((pending.executable, pending.waiting), (2, 1));
}

#[test]
fn no_rollup_takes_the_room_reserved_for_another() {
    let size = 1000 + TRANSACTION_FOOTPRINT_BYTES;
    let mut node = limited(PoolLimits {
        bytes_max: 60 * size,
        rollup_bytes_max: 60 * size,
        ..PoolLimits::default()
    });
    // Half of the pool is reserved, ten for each of the three.
    let taken = (0..100)
        .take_while(|n| node.insert(numbered(OPAQUE, *n, 1000)).is_ok())
        .count();
    assert_eq!(taken, 40);
    assert_eq!(name(node.insert(numbered(OPAQUE, 999, 1000))), "pool_full");
    for sender in 1..=10 {
        node.insert(evm_of(FCFS, sender, 0, 1, 1, 940)).unwrap();
        node.insert(evm_of(PRIORITY, sender, 0, 1, 1, 940)).unwrap();
    }
    assert_eq!(node.pool.bytes(), 60 * size);
    assert_eq!(name(node.insert(evm(FCFS, 11, 0, 1))), "pool_full");
}

#[test]
fn a_transaction_of_a_failed_proposal_is_dropped_and_refused_for_64_heights() {
    let mut node = Node::with_default_limits();
    for nonce in 0..3 {
        node.insert(evm(FCFS, 1, nonce, 1)).unwrap();
    }
    let poison = evm(FCFS, 1, 1, 1);
    assert_eq!(
        node.pool.proposal_failed(FCFS, &[poison.hash]),
        std::slice::from_ref(&poison)
    );
    assert_eq!(nonces(&node.build(), FCFS), [0], "its successor waits");
    for _ in 0..64 {
        assert_eq!(name(node.insert(poison.clone())), "banned");
        node.decide();
    }
    node.insert(poison).unwrap();
    assert_eq!(nonces(&node.build(), FCFS), [1, 2]);
}

#[test]
fn a_payload_does_not_keep_alive_the_message_it_came_in() {
    let mut node = Node::with_default_limits();
    let message = Bytes::from(vec![9; 4096]);
    let slice = message.slice(..16);
    node.insert(PoolTransaction {
        payload: slice.clone(),
        ..opaque(OPAQUE, vec![9; 16])
    })
    .unwrap();
    let held = node.pool.get(OPAQUE, &opaque(OPAQUE, vec![9; 16]).hash).unwrap();
    assert_eq!(held.payload, slice);
    assert_ne!(held.payload.as_ptr(), slice.as_ptr());
}

#[test]
fn senders_that_are_quiet_the_longest_are_forgotten_first() {
    let mut node = limited(PoolLimits {
        senders_max: 3 * 2,
        ..PoolLimits::default()
    });
    for sender in [1, 2, 1, 3] {
        let nonce = u64::from(sender == 1 && node.state.height.0 == 2);
        node.insert(evm(FCFS, sender, nonce, 1)).unwrap();
        node.decide();
    }
    // Two senders are remembered for each rollup.
    assert_eq!(name(node.insert(evm(FCFS, 1, 0, 7))), "nonce_too_low");
    assert_eq!(name(node.insert(evm(FCFS, 3, 0, 7))), "nonce_too_low");
    assert_eq!(name(node.insert(evm(FCFS, 2, 0, 7))), "ok");
}

#[test]
fn every_refusal_has_a_name_of_its_own_and_its_numbers_in_its_message() {
    let reject = Reject::ChainId {
        given: None,
        expected: FCFS,
    };
    assert_eq!(
        reject.to_string(),
        "invalid chain id: transaction is for no chain (EIP-155 is required), this is rollup 901"
    );
    let reject = Reject::NonceTooLow { nonce: 3, next: 7 };
    assert_eq!(
        (reject.code(), reject.to_string().as_str()),
        (-38010, "nonce too low: nonce is 3, next is 7")
    );
    let reject = Reject::TooLarge { bytes: 131_073 };
    assert_eq!(
        reject.to_string(),
        "oversized data: transaction is 131073 bytes, limit is 131072"
    );
    assert_eq!(Reject::AlreadyKnown(Default::default()).code(), 1000);
}
