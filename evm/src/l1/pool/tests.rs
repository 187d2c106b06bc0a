//! What the pool promises: its rules, each as a refusal that a real node gives too.

use alloy_primitives::{TxKind, U256};
use proptest::prelude::*;

use super::*;
use crate::fixture::{Draft, GENESIS, GWEI, account, at_once, blob, plain, stopped, submit};
use crate::{L1, L1Config};

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
fn a_tenth_more_is_rounded_up() {
    let bump = |fee, tip| Draft { fee, tip, ..plain(0) };
    let mut l1 = stopped();
    submit(&mut l1, &bump(2 * GWEI + 5, 15)).unwrap();
    // A tenth of 15 is 1.5, and of the fee a half more than is whole.
    for (fee, tip) in [(2_200_000_006, 16), (2_200_000_005, 17)] {
        assert!(matches!(
            submit(&mut l1, &bump(fee, tip)),
            Err(Refusal::ReplacementUnderpriced(_))
        ));
    }
    submit(&mut l1, &bump(2_200_000_006, 17)).unwrap();
}

#[test]
fn a_blob_transaction_is_not_replaced_by_one_of_fewer_blobs() {
    let mut l1 = stopped();
    let with = |blobs, factor: u128| Draft {
        fee: factor * 10 * GWEI,
        tip: factor * GWEI,
        blob_fee: factor * GWEI,
        blobs,
        ..blob(0)
    };
    submit(&mut l1, &with(2, 1)).unwrap();
    let refusal = submit(&mut l1, &with(1, 8)).unwrap_err().to_string();
    assert_eq!(
        refusal,
        "replacement transaction underpriced: new tx has 1 blobs < 2 queued"
    );
    submit(&mut l1, &with(3, 2)).unwrap();
    submit(&mut l1, &with(3, 4)).unwrap();
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

/// A transaction by the first account that carries the authorizations of others.
fn set_code(nonce: u64, authorities: &[(usize, u64)]) -> Draft {
    Draft {
        gas: 100_000,
        authorities: authorities.to_vec(),
        ..plain(nonce)
    }
}

fn by(sender: usize, draft: Draft) -> Draft {
    Draft { sender, ..draft }
}

#[test]
fn an_account_that_is_or_will_be_delegated_has_one_transaction_pending() {
    let mut l1 = stopped();
    let dearer = |nonce| Draft {
        fee: 200 * GWEI,
        tip: 2 * GWEI,
        ..by(1, plain(nonce))
    };
    let check = |l1: &mut L1, first: u64| {
        assert_eq!(submit(l1, &by(1, plain(first + 1))), Err(Refusal::DelegatedGap));
        submit(l1, &by(1, plain(first))).unwrap();
        assert_eq!(submit(l1, &by(1, plain(first + 1))), Err(Refusal::DelegatedFull));
        submit(l1, &dearer(first)).unwrap();
    };
    let authorizing = submit(&mut l1, &set_code(0, &[(1, 0)])).unwrap();
    check(&mut l1, 0);
    l1.drop_all_transactions();
    submit(&mut l1, &set_code(0, &[(1, 0)])).unwrap();
    let block = l1.mine(GENESIS);
    assert_eq!(*block.transactions[0].tx_hash(), authorizing);
    let code = l1.chain().latest().code(&account(1));
    assert_eq!(code[..3], [0xef, 0x01, 0x00], "EIP-7702: a delegation");
    check(&mut l1, 1);
    // A blob transaction is one too, and has a rule of its own on replacement: see below.
    l1.drop_all_transactions();
    submit(&mut l1, &by(1, blob(1))).unwrap();
    assert_eq!(submit(&mut l1, &by(1, blob(2))), Err(Refusal::DelegatedFull));
}

#[test]
fn an_authorization_that_left_the_pool_limits_nobody() {
    let mut l1 = stopped();
    let first = submit(&mut l1, &set_code(0, &[(1, 0), (1, 1), (2, 0)])).unwrap();
    let second = submit(&mut l1, &set_code(1, &[(1, 0)])).unwrap();
    submit(&mut l1, &by(1, plain(0))).unwrap();
    for (hash, refused) in [(first, true), (second, false)] {
        l1.drop_transaction(&hash);
        let further = submit(&mut l1, &by(1, plain(1)));
        assert_eq!(further.is_err(), refused, "{further:?}");
    }
}

#[test]
fn who_has_blobs_or_several_transactions_pending_is_no_authority() {
    let mut l1 = stopped();
    submit(&mut l1, &by(1, plain(0))).unwrap();
    submit(&mut l1, &set_code(0, &[(1, 0)])).unwrap();
    submit(&mut l1, &by(2, plain(0))).unwrap();
    submit(&mut l1, &by(2, plain(5))).unwrap();
    submit(&mut l1, &by(3, blob(0))).unwrap();
    for authority in [2, 3] {
        let refusal = submit(&mut l1, &set_code(1, &[(4, 0), (authority, 0)])).unwrap_err();
        assert_eq!(refusal, Refusal::AuthorityReserved(account(authority)));
    }
    submit(&mut l1, &set_code(1, &[(4, 0)])).unwrap();
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is sent: the pool's books are right, each sender's pending transactions are of one kind, blobs have no gap, and a block
    /// takes from it only what executes.
    #[test]
    fn the_pool_keeps_its_rules(steps in prop::collection::vec((0_usize..3, 0_u64..6, 0_u8..3, 1_u128..5, 0_u8..8), 1..60)) {
        let mut l1 = stopped();
        for (sender, nonce, blobs, factor, action) in steps {
            let mut draft = Draft { sender, nonce, blobs, fee: factor * 40 * GWEI, tip: factor * GWEI, blob_fee: factor * GWEI, ..Draft::default() };
            if action == 7 && blobs == 0 {
                (draft.authorities, draft.gas) = (vec![((sender + 1) % 3, nonce)], 100_000);
            }
            let _ = submit(&mut l1, &draft);
            match action {
                0 => {
                    let candidates = l1.pool().len();
                    let block = l1.mine(GENESIS);
                    let left = l1.pool().len() + block.transactions.len();
                    // An authorization uses up a nonce that another transaction has.
                    let authorized = block.transactions.iter().any(|transaction| transaction.is_eip7702());
                    prop_assert!(left == candidates || (authorized && left < candidates));
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
    let mut authorities = BTreeMap::new();
    for authority in pool.iter().flat_map(|submission| &submission.authorities) {
        *authorities.entry(*authority).or_insert(0) += 1;
    }
    prop_assert_eq!(&pool.authorities, &authorities);
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
