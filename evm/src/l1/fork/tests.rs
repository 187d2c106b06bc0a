//! What forks promise: exact steps back, new hashes, and nothing lost that can be kept.

use alloy_consensus::Transaction as _;
use alloy_primitives::U256;

use super::*;
use crate::L1Config;
use crate::fixture::{Draft, GENESIS, GWEI, account, at_once, blob, plain, stopped, submit};

#[test]
fn a_reorg_keeps_the_height_changes_every_hash_and_takes_the_state_back() {
    let mut l1 = at_once();
    let hashes: Vec<B256> = (0..5).map(|nonce| submit(&mut l1, &plain(nonce)).unwrap()).collect();
    let before: Vec<B256> = (0..=5).map(|number| l1.chain().block(number).unwrap().hash()).collect();
    let reorged = l1.reorg(3, false, GENESIS).unwrap();
    assert_eq!((reorged.dropped.len(), reorged.requeued.len()), (3, 0));
    let after: Vec<B256> = (0..=5).map(|number| l1.chain().block(number).unwrap().hash()).collect();
    assert_eq!(before[..3], after[..3]);
    assert!(
        before[3..]
            .iter()
            .all(|old| !after.contains(old) && l1.chain().block_by_hash(old).is_none())
    );
    assert!(l1.chain().place(&hashes[1]).is_some() && l1.chain().place(&hashes[2]).is_none());
    assert_eq!(l1.chain().latest().account_or_empty(&account(0)).nonce, 2);
    // The timestamps are those of the slots that were dropped.
    assert_eq!(l1.chain().head().header.timestamp, reorged.dropped[2].header.timestamp);
    // A second one differs again.
    l1.reorg(3, false, GENESIS).unwrap();
    assert!(!after.contains(&l1.chain().head().hash()));
}

#[test]
fn a_reorg_with_requeue_mines_the_same_transactions_again_blobs_included() {
    let mut l1 = at_once();
    let plain_hash = submit(&mut l1, &Draft { sender: 1, ..plain(0) }).unwrap();
    let blob_hash = submit(&mut l1, &blob(0)).unwrap();
    let place = |l1: &L1, hash: &B256| l1.chain().place(hash).map(|(block, _)| block.hash());
    let (old_plain, old_blob) = (place(&l1, &plain_hash), place(&l1, &blob_hash));
    let reorged = l1.reorg(2, true, GENESIS).unwrap();
    assert_eq!(reorged.requeued, [plain_hash, blob_hash]);
    assert!(place(&l1, &plain_hash).is_some_and(|hash| Some(hash) != old_plain));
    assert!(place(&l1, &blob_hash).is_some_and(|hash| Some(hash) != old_blob));
    let block = Arc::clone(l1.chain().place(&blob_hash).unwrap().0);
    assert_eq!(l1.blobs(&block).unwrap().len(), 1);
}

#[test]
fn a_reorg_of_64_blocks_is_possible_and_one_beyond_what_is_kept_is_not() {
    let mut config = L1Config::dev(GENESIS);
    config.finalized_distance = 1000;
    let mut l1 = L1::new(config);
    for nonce in 0..300 {
        submit(&mut l1, &plain(nonce)).unwrap();
    }
    l1.reorg(64, false, GENESIS).unwrap();
    assert_eq!(l1.chain().latest().account_or_empty(&account(0)).nonce, 236);
    assert!(matches!(
        l1.reorg(257, false, GENESIS),
        Err(ForkRefused::Unavailable(_))
    ));
    assert_eq!(l1.chain().head().number(), 300);
}

#[test]
fn a_reorg_leaves_no_blob_transaction_behind_a_gap() {
    let mut l1 = at_once();
    submit(&mut l1, &blob(0)).unwrap();
    l1.set_mining(false, GENESIS);
    submit(&mut l1, &blob(1)).unwrap();
    submit(&mut l1, &Draft { sender: 1, ..plain(1) }).unwrap();
    l1.reorg(1, false, GENESIS).unwrap();
    assert_eq!(l1.pool().len(), 1, "the plain one waits, the blob is gone");
}

#[test]
fn a_reorg_takes_back_what_comes_first_and_drops_what_is_one_too_many() {
    for (draft, limit) in [(blob as fn(u64) -> Draft, 16), (plain, 64)] {
        let mut l1 = at_once();
        let mined: Vec<B256> = (0..10).map(|nonce| submit(&mut l1, &draft(nonce)).unwrap()).collect();
        l1.set_mining(false, GENESIS);
        let pending = (10..10 + limit).map(|nonce| submit(&mut l1, &draft(nonce)).unwrap());
        let pending: Vec<B256> = pending.collect();
        let reorged = l1.reorg(10, true, GENESIS).unwrap();
        assert_eq!(reorged.requeued, mined);
        let nonces = l1.pool().iter().map(|submission| submission.transaction.nonce());
        assert_eq!(nonces.collect::<Vec<_>>(), (0..limit).collect::<Vec<_>>());
        assert!(
            pending[usize::try_from(limit - 10).unwrap()..]
                .iter()
                .all(|hash| l1.pool().find(hash).is_none())
        );
    }
}

#[test]
fn a_reorg_keeps_what_waits_if_nothing_is_gained_by_its_leaving() {
    let mut l1 = at_once();
    let all = params::DEV_BALANCE - U256::from(GWEI * 100_000_000);
    submit(&mut l1, &Draft { value: all, ..plain(0) }).unwrap();
    l1.set_mining(false, GENESIS);
    let waiting = submit(&mut l1, &plain(1)).unwrap();
    l1.rollback(1).unwrap();
    l1.set_balance(account(0), U256::from(GWEI * 100_000_000));
    l1.mine(GENESIS);
    let dropped = Draft { value: all, ..plain(0) }.submission();
    let poor = l1.chain().latest().account_or_empty(&account(0));
    assert!(l1.pool.requeue(&dropped, poor, params::BLOCK_GAS).is_err());
    assert!(l1.pool().find(&waiting).is_some());
}

#[test]
fn a_base_fee_that_was_set_is_for_the_block_after_a_reorg() {
    let mut l1 = stopped();
    l1.mine(GENESIS);
    l1.mine(GENESIS);
    l1.set_next_base_fee(7);
    l1.reorg(2, false, GENESIS).unwrap();
    assert_eq!(l1.chain().head().header.base_fee_per_gas, Some(765_625_000));
    assert_eq!(l1.mine(GENESIS).header.base_fee_per_gas, Some(7));
}

#[test]
fn a_snapshot_brings_back_head_and_pool_once() {
    let mut l1 = at_once();
    submit(&mut l1, &plain(0)).unwrap();
    submit(&mut l1, &plain(5)).unwrap();
    let (head, snapshot) = (l1.chain().head().hash(), l1.snapshot());
    submit(&mut l1, &plain(1)).unwrap();
    l1.drop_all_transactions();
    assert!(l1.revert(snapshot));
    assert_eq!((l1.chain().head().hash(), l1.pool().len()), (head, 1));
    assert!(!l1.revert(snapshot) && !l1.revert(99));
    let lost = l1.snapshot();
    l1.reorg(1, false, GENESIS).unwrap();
    assert!(!l1.revert(lost), "its block is gone");
}

#[test]
fn a_snapshot_brings_back_balances_that_were_set_after_it() {
    let mut l1 = stopped();
    let [stranger, rich] = [Address::repeat_byte(0x77), account(0)];
    let balances = |l1: &L1| [stranger, rich].map(|address| l1.chain().latest().account_or_empty(&address).balance);
    let set = |l1: &mut L1, balance: u64| {
        l1.set_balance(stranger, U256::from(balance));
        l1.set_balance(rich, U256::from(balance));
    };
    // At the genesis block, which has nothing to undo, and at one that has.
    for _ in 0..2 {
        let before = balances(&l1);
        let outer = l1.snapshot();
        set(&mut l1, 5);
        let inner = l1.snapshot();
        set(&mut l1, 6);
        l1.mine(GENESIS);
        set(&mut l1, 7);
        assert!(l1.revert(inner));
        assert_eq!(balances(&l1), [U256::from(5); 2]);
        set(&mut l1, 8);
        assert!(l1.revert(outer));
        assert_eq!(balances(&l1), before);
        assert_eq!(l1.chain().latest().account(&stranger), None);
        l1.mine(GENESIS);
    }
}

#[test]
fn a_snapshot_brings_back_the_base_fee_that_was_set() {
    let mut l1 = stopped();
    l1.set_next_base_fee(7);
    let snapshot = l1.snapshot();
    l1.mine(GENESIS);
    assert!(l1.revert(snapshot));
    assert_eq!(l1.mine(GENESIS).header.base_fee_per_gas, Some(7));
}

#[test]
fn snapshots_are_bounded_in_number_and_in_bytes() {
    let mut l1 = stopped();
    let numbers: Vec<u64> = (0..65).map(|_| l1.snapshot()).collect();
    assert!(!l1.revert(numbers[0]));
    assert!(l1.revert(numbers[1]), "64 are kept");
    let mut heavy = plain(0).submission();
    heavy.bytes = params::SNAPSHOT_BYTES_MAX / 3;
    l1.submit(heavy, GENESIS).unwrap();
    let numbers = [l1.snapshot(), l1.snapshot(), l1.snapshot()];
    assert!(
        !l1.revert(numbers[0]),
        "three of a third each are too much with what holds them"
    );
    assert!(l1.revert(numbers[2]) && l1.revert(numbers[1]));
}
