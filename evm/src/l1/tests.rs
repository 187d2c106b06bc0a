//! What the L1 promises: blocks by slots, tags, fees. What its parts promise is beside them.

use std::str::FromStr;

use super::*;
use crate::fixture::{Draft, GENESIS, GWEI, at_once, plain, stopped, submit};

#[test]
fn a_transaction_is_mined_at_once() {
    let mut l1 = at_once();
    let hash = submit(&mut l1, &plain(0)).unwrap();
    assert_eq!(l1.chain().head().number(), 1);
    assert_eq!(l1.chain().place(&hash).unwrap().1, 0);
    assert!(l1.pool().is_empty());
}

#[test]
fn blocks_come_by_slots_and_missed_ones_are_not_made_up_for() {
    let mut config = L1Config::dev(GENESIS);
    config.block_time = 12;
    let mut l1 = L1::new(config);
    submit(&mut l1, &plain(0)).unwrap();
    l1.tick(GENESIS + 11);
    assert_eq!(l1.chain().head().number(), 0);
    l1.tick(GENESIS + 13);
    assert_eq!(l1.chain().head().header.timestamp, GENESIS + 12);
    l1.tick(GENESIS + 14);
    assert_eq!(l1.chain().head().number(), 1);
    l1.tick(GENESIS + 60);
    assert_eq!((l1.chain().head().number(), l1.slot(l1.chain().head())), (2, 5));
    assert_eq!(l1.block_of_slot(5).unwrap().number(), 2);
    assert!(l1.block_of_slot(3).is_none() && l1.block_of_slot(6).is_none());
    l1.set_mining(false, GENESIS + 60);
    l1.tick(GENESIS + 99);
    assert_eq!(l1.chain().head().number(), 2);
}

#[test]
fn a_chain_that_was_made_to_run_ahead_goes_on_with_a_block_per_slot() {
    let mut config = L1Config::dev(GENESIS);
    config.block_time = 12;
    let mut l1 = L1::new(config);
    for _ in 0..50 {
        l1.mine(GENESIS);
    }
    for slot in 1..=3 {
        l1.tick(GENESIS + slot * 12);
        l1.tick(GENESIS + slot * 12 + 1);
        assert_eq!(
            (l1.chain().head().number(), l1.slot(l1.chain().head())),
            (50 + slot, 50 + slot)
        );
    }
}

#[test]
fn tags_follow_the_head_at_their_distance_and_finality_never_goes_back() {
    let mut config = L1Config::dev(GENESIS);
    (config.safe_distance, config.finalized_distance) = (2, 4);
    let mut l1 = L1::new(config);
    let tags = |l1: &L1| {
        let number = |tag| l1.number(tag);
        (
            number(BlockNumberOrTag::Latest),
            number(BlockNumberOrTag::Safe),
            number(BlockNumberOrTag::Finalized),
        )
    };
    assert_eq!(tags(&l1), (0, 0, 0));
    for _ in 0..14 {
        l1.mine(GENESIS);
    }
    assert_eq!(tags(&l1), (14, 12, 10));
    l1.set_finality(5, 12);
    assert_eq!(tags(&l1), (14, 10, 10));
    let refused = l1.reorg(5, false, GENESIS).unwrap_err();
    assert_eq!(
        refused,
        ForkRefused::Finalized {
            depth: 5,
            finalized: 10
        }
    );
    l1.rollback(4).unwrap();
    assert_eq!(tags(&l1), (10, 10, 10));
}

#[test]
fn the_next_base_fee_can_be_set_once() {
    let mut l1 = stopped();
    l1.set_next_base_fee(7 * 1_000_000_000);
    assert_eq!(l1.mine(GENESIS).header.base_fee_per_gas, Some(7_000_000_000));
    assert_eq!(l1.mine(GENESIS).header.base_fee_per_gas, Some(6_125_000_000));
}

#[test]
fn a_fee_history_has_one_entry_more_than_blocks_and_ends_with_the_next_fees() {
    let mut l1 = at_once();
    for nonce in 0..5 {
        submit(
            &mut l1,
            &Draft {
                tip: (u128::from(nonce) + 1) * GWEI,
                ..plain(nonce)
            },
        )
        .unwrap();
    }
    let history = l1.fee_history(3, 5, &[0.0, 50.0, 100.0]);
    assert_eq!(
        (history.oldest, history.base_fees.len(), history.gas_used.len()),
        (3, 4, 3)
    );
    assert_eq!(history.rewards, [[3 * GWEI; 3], [4 * GWEI; 3], [5 * GWEI; 3]]);
    assert_eq!(history.base_fees[3], u128::from(l1.next_base_fee()));
    assert_eq!(l1.fee_history(3, 4, &[]).base_fees[3], history.base_fees[2]);
    assert_eq!(l1.fee_history(u64::MAX, u64::MAX, &[]).oldest, 0);
}

#[test]
fn the_developer_accounts_are_those_of_their_keys() {
    for (address, key) in params::DEV_ACCOUNTS {
        let signer = alloy_signer_local::PrivateKeySigner::from_str(key).unwrap();
        assert_eq!(signer.address(), address);
    }
}
