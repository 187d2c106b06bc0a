//! What the L1 promises: the pool's rules, each as a refusal that a real node gives too; tags; reorgs; blobs.

use std::str::FromStr;

use alloy_consensus::Transaction as _;
use alloy_primitives::{TxKind, U256};
use proptest::prelude::*;

use super::*;
use crate::fixture::{Draft, GENESIS, GWEI, account};

/// An L1 that mines only when it is told to.
fn stopped() -> L1 {
    let mut l1 = L1::new(L1Config::dev(GENESIS));
    l1.set_mining(false, GENESIS);
    l1
}

fn at_once() -> L1 {
    L1::new(L1Config::dev(GENESIS))
}

fn submit(l1: &mut L1, draft: &Draft) -> Result<B256, Refusal> {
    l1.submit(draft.submission(), GENESIS)
}

fn blob(nonce: u64) -> Draft {
    Draft {
        nonce,
        blobs: 1,
        ..Draft::default()
    }
}

fn plain(nonce: u64) -> Draft {
    Draft {
        nonce,
        ..Draft::default()
    }
}

#[test]
fn a_transaction_is_mined_at_once() {
    let mut l1 = at_once();
    let hash = submit(&mut l1, &plain(0)).unwrap();
    assert_eq!(l1.chain().head().number(), 1);
    assert_eq!(l1.chain().place(&hash).unwrap().1, 0);
    assert!(l1.pool().is_empty());
}

#[test]
fn a_known_transaction_is_refused_and_a_mined_one_has_a_used_nonce() {
    let mut l1 = stopped();
    submit(&mut l1, &plain(0)).unwrap();
    assert_eq!(submit(&mut l1, &plain(0)), Err(Refusal::AlreadyKnown));
    l1.mine(GENESIS);
    assert_eq!(
        submit(&mut l1, &plain(0)),
        Err(Refusal::NonceTooLow { next: 1, nonce: 0 })
    );
}

#[test]
fn a_used_nonce_is_refused_with_the_next() {
    let mut l1 = at_once();
    submit(&mut l1, &plain(0)).unwrap();
    let other = Draft {
        value: U256::from(9),
        ..plain(0)
    };
    let refusal = submit(&mut l1, &other).unwrap_err();
    assert_eq!(refusal.to_string(), "nonce too low: next nonce 1, tx nonce 0");
}

#[test]
fn a_plain_transaction_waits_behind_a_gap_and_is_mined_when_it_closes() {
    let mut l1 = at_once();
    submit(&mut l1, &plain(1)).unwrap();
    assert_eq!((l1.chain().head().number(), l1.pool().len()), (0, 1));
    submit(&mut l1, &plain(0)).unwrap();
    assert_eq!(l1.chain().head().transactions.len(), 2);
}

#[test]
fn a_blob_transaction_leaves_no_gap() {
    let mut l1 = stopped();
    let refusal = submit(&mut l1, &blob(1)).unwrap_err();
    assert_eq!(refusal.to_string(), "nonce too high: tx nonce 1, gapped nonce 0");
    submit(&mut l1, &blob(0)).unwrap();
    submit(&mut l1, &blob(1)).unwrap();
}

#[test]
fn an_account_has_either_blob_or_plain_transactions_pending() {
    let mut l1 = stopped();
    submit(&mut l1, &blob(0)).unwrap();
    for nonce in 0..2 {
        let refusal = submit(&mut l1, &plain(nonce)).unwrap_err();
        assert_eq!(refusal.to_string(), "address already reserved");
    }
    l1.mine(GENESIS);
    submit(&mut l1, &plain(1)).unwrap();
    assert_eq!(submit(&mut l1, &blob(2)), Err(Refusal::Reserved(account(0))));
}

#[test]
fn a_plain_transaction_is_replaced_for_a_tenth_more_of_both_fees() {
    let bump = |fee, tip| Draft {
        fee,
        tip,
        ..Draft::default()
    };
    let (fee, tip) = (100 * GWEI, GWEI);
    let mut l1 = stopped();
    let old = submit(&mut l1, &bump(fee, tip)).unwrap();
    for (fee, tip) in [
        (fee * 2, tip),
        (fee, tip * 2),
        (fee * 110 / 100 - 1, tip * 2),
        (fee * 2, tip * 110 / 100 - 1),
    ] {
        let refusal = submit(&mut l1, &bump(fee, tip)).unwrap_err();
        assert_eq!(refusal.to_string(), "replacement transaction underpriced");
    }
    let new = submit(&mut l1, &bump(fee * 110 / 100, tip * 110 / 100)).unwrap();
    assert!(l1.pool().find(&old).is_none() && l1.pool().find(&new).is_some());
    assert_eq!(l1.pool().len(), 1);
}

#[test]
fn a_blob_transaction_is_replaced_for_twice_all_three_fees() {
    let bump = |fee, tip, blob_fee| Draft {
        fee,
        tip,
        blob_fee,
        ..blob(0)
    };
    let (fee, tip, blob_fee) = (10 * GWEI, GWEI, GWEI);
    let mut l1 = stopped();
    submit(&mut l1, &bump(fee, tip, blob_fee)).unwrap();
    let too_little = [
        (2 * fee - 1, 2 * tip, 2 * blob_fee),
        (2 * fee, 2 * tip - 1, 2 * blob_fee),
        (2 * fee, 2 * tip, 2 * blob_fee - 1),
    ];
    for (fee, tip, blob_fee) in too_little {
        let refusal = submit(&mut l1, &bump(fee, tip, blob_fee)).unwrap_err();
        assert!(
            refusal.to_string().starts_with("replacement transaction underpriced"),
            "{refusal}"
        );
    }
    submit(&mut l1, &bump(2 * fee, 2 * tip, 2 * blob_fee)).unwrap();
    assert_eq!(l1.pool().len(), 1);
}

#[test]
fn what_is_pending_must_be_payable_in_sum() {
    let mut l1 = stopped();
    let half = |nonce| Draft {
        value: params::DEV_BALANCE / U256::from(2),
        ..plain(nonce)
    };
    submit(&mut l1, &half(0)).unwrap();
    let refusal = submit(&mut l1, &half(1)).unwrap_err().to_string();
    assert!(
        refusal.starts_with("insufficient funds for gas * price + value: balance 10000"),
        "{refusal}"
    );
    submit(&mut l1, &plain(1)).unwrap();
}

#[test]
fn gas_is_at_least_what_the_bytes_take_and_at_most_a_block() {
    let mut l1 = stopped();
    let refuse = |l1: &mut L1, draft: Draft| submit(l1, &draft).unwrap_err().to_string();
    let short = Draft {
        gas: 20_999,
        ..plain(0)
    };
    assert_eq!(
        refuse(&mut l1, short),
        "intrinsic gas too low: gas 20999, minimum needed 21000"
    );
    // 100 nonzero bytes: 16 each by EIP-2028, a floor of 40 each by EIP-7623.
    let floor = Draft {
        gas: 23_000,
        data: vec![1; 100].into(),
        ..plain(0)
    };
    assert_eq!(
        refuse(&mut l1, floor),
        "insufficient gas for floor data gas cost: gas 23000, minimum needed 25000"
    );
    let initcode = Draft {
        gas: 10_000_000,
        fee: GWEI,
        kind: TxKind::Create,
        data: vec![0; 49_153].into(),
        ..plain(0)
    };
    assert!(refuse(&mut l1, initcode).starts_with("max initcode size exceeded"));
    let mut config = L1Config::dev(GENESIS);
    config.chain.gas_limit = 30_000;
    let mut small = L1::new(config);
    let large = Draft {
        gas: 30_001,
        ..plain(0)
    };
    assert_eq!(refuse(&mut small, large), "exceeds block gas limit");
}

#[test]
fn an_account_and_the_pool_are_bounded() {
    let mut l1 = stopped();
    for nonce in 0..16 {
        submit(&mut l1, &blob(nonce)).unwrap();
    }
    assert_eq!(submit(&mut l1, &blob(16)), Err(Refusal::AccountFull(16)));
    for nonce in 0..64 {
        submit(
            &mut l1,
            &Draft {
                sender: 1,
                ..plain(nonce)
            },
        )
        .unwrap();
    }
    let next = Draft { sender: 1, ..plain(64) };
    assert_eq!(submit(&mut l1, &next), Err(Refusal::AccountFull(64)));
    // A replacement is no new one.
    let replacement = Draft {
        sender: 1,
        fee: 200 * GWEI,
        tip: 2 * GWEI,
        ..plain(63)
    };
    submit(&mut l1, &replacement).unwrap();
    let mut heavy = Draft { sender: 2, ..plain(0) }.submission();
    heavy.bytes = params::POOL_BYTES_MAX;
    assert_eq!(l1.submit(heavy, GENESIS), Err(Refusal::Full));
}

#[test]
fn a_fee_below_the_base_fee_waits_until_the_base_fee_falls() {
    let mut l1 = at_once();
    let cheap = Draft {
        fee: 800_000_000,
        tip: 1,
        ..plain(0)
    };
    let hash = submit(&mut l1, &cheap).unwrap();
    assert_eq!(l1.chain().head().number(), 0);
    l1.mine(GENESIS);
    // 875 Mwei is still too much, 766 Mwei is not.
    assert!(l1.chain().place(&hash).is_none());
    l1.mine(GENESIS);
    assert_eq!(l1.chain().place(&hash).unwrap().0.number(), 2);
}

#[test]
fn a_block_takes_the_best_tips_first_and_each_senders_nonces_in_order() {
    let mut l1 = stopped();
    let drafts = [(0, 0, 1), (0, 1, 9), (1, 0, 5), (2, 0, 5), (3, 0, 7)];
    for (sender, nonce, tip) in drafts {
        let draft = Draft {
            sender,
            nonce,
            tip: tip * GWEI,
            ..Draft::default()
        };
        submit(&mut l1, &draft).unwrap();
    }
    let block = l1.mine(GENESIS);
    let order: Vec<_> = block.transactions.iter().map(|tx| (tx.signer(), tx.nonce())).collect();
    let expected = [(3, 0), (1, 0), (2, 0), (0, 0), (0, 1)].map(|(sender, nonce)| (account(sender), nonce));
    assert_eq!(order, expected);
}

#[test]
fn what_can_no_longer_be_paid_leaves_the_pool_with_the_blobs_behind_it() {
    let mut l1 = stopped();
    submit(&mut l1, &blob(0)).unwrap();
    submit(&mut l1, &blob(1)).unwrap();
    l1.set_balance(account(0), U256::from(1));
    l1.mine(GENESIS);
    assert_eq!((l1.chain().head().transactions.len(), l1.pool().len()), (0, 0));
    assert_eq!(l1.pool().bytes(), 0);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is sent: the pool's books are right, each sender's pending transactions are of one kind, blobs have no gap, and a block
    /// takes from it only what executes.
    #[test]
    fn the_pool_keeps_its_rules(steps in prop::collection::vec((0_usize..3, 0_u64..6, 0_u8..3, 1_u128..5, 0_u8..8), 1..60)) {
        let mut l1 = stopped();
        for (sender, nonce, blobs, factor, action) in steps {
            let draft = Draft { sender, nonce, blobs, fee: factor * 40 * GWEI, tip: factor * GWEI, blob_fee: factor * GWEI, ..Draft::default() };
            let _ = submit(&mut l1, &draft);
            match action {
                0 => {
                    let candidates = l1.pool().len();
                    let block = l1.mine(GENESIS);
                    prop_assert_eq!(l1.pool().len() + block.transactions.len(), candidates);
                }
                1 => {
                    let depth = l1.chain().depth_max().min(2);
                    let _ = l1.reorg(depth, factor % 2 == 0, GENESIS).unwrap();
                }
                _ => {}
            }
            check_pool(&l1)?;
        }
    }
}

fn check_pool(l1: &L1) -> Result<(), TestCaseError> {
    let pool = l1.pool();
    let bytes: usize = pool.iter().map(|submission| submission.bytes).sum();
    prop_assert_eq!((pool.iter().count(), bytes), (pool.len(), pool.bytes()));
    for sender in pool.senders() {
        let of = |submission: &&Submission| submission.transaction.signer() == sender;
        let mine: Vec<&Submission> = pool.iter().filter(of).collect();
        let blobs = mine.iter().filter(|submission| submission.sidecar.is_some()).count();
        prop_assert!(blobs == 0 || blobs == mine.len());
        let account = l1.chain().latest().account_or_empty(&sender);
        prop_assert!(
            mine.iter()
                .all(|submission| submission.transaction.nonce() >= account.nonce)
        );
        let next = pool.next_nonce(&sender, account);
        prop_assert!(blobs == 0 || next - account.nonce == mine.len() as u64);
    }
    Ok(())
}
