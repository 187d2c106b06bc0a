//! What the chain promises: the same blocks everywhere, exact steps back, true answers about the past.

use alloy_consensus::Transaction as _;
use alloy_eips::{eip2935, eip4788};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, b256, bytes, keccak256};
use alloy_rpc_types_eth::Filter;
use proptest::prelude::*;
use revm::context::result::InvalidTransaction;

use super::*;
use crate::fixture::{Draft, GWEI, account, block, chain, creation};

/// Stores its input's first word in slot 0, and logs it with the topic 0x…2a: CALLDATALOAD(0), SSTORE, LOG1.
const STORE_AND_LOG: &[u8] = &[
    0x5f, 0x35, 0x80, 0x5f, 0x55, 0x5f, 0x52, 0x60, 0x2a, 0x60, 0x20, 0x5f, 0xa1, 0x00,
];

fn deploy(chain: &mut Chain, nonce: u64, code: &[u8]) -> Address {
    let draft = Draft {
        nonce,
        gas: 200_000,
        kind: TxKind::Create,
        value: U256::ZERO,
        data: creation(code),
        ..Draft::default()
    };
    let executed = block(chain, &[draft]);
    assert_eq!(executed.skipped, []);
    chain.head().outcomes[0].contract.unwrap()
}

fn call_with(contract: Address, nonce: u64, word: u64) -> Draft {
    Draft {
        nonce,
        gas: 100_000,
        kind: TxKind::Call(contract),
        value: U256::ZERO,
        data: B256::from(U256::from(word)).into(),
        ..Draft::default()
    }
}

#[test]
fn a_transfer_moves_value_and_pays_base_fee_and_tip() {
    let mut chain = chain();
    let executed = block(&mut chain, &[Draft::default()]);
    assert_eq!(executed.skipped, []);
    let head = chain.head();
    assert_eq!((head.number(), head.header.gas_used), (1, 21_000));
    let base_fee = u128::from(head.header.base_fee_per_gas.unwrap());
    let latest = chain.latest();
    let paid = U256::from(21_000 * (base_fee + GWEI) + 1);
    assert_eq!(latest.account_or_empty(&account(0)).balance, params::DEV_BALANCE - paid);
    assert_eq!(latest.account_or_empty(&account(0)).nonce, 1);
    let tips = latest.account_or_empty(&params::BENEFICIARY).balance;
    assert_eq!(tips, U256::from(21_000 * GWEI));
    assert!(head.outcomes[0].receipt.status());
}

#[test]
fn the_genesis_block_is_the_same_everywhere() {
    let chain = chain();
    // Written by hand once: a change of it is another chain.
    assert_eq!(chain.head().header.state_root, GENESIS_STATE_ROOT);
    assert_eq!(chain.head().hash(), GENESIS_HASH);
}
const GENESIS_STATE_ROOT: B256 = b256!("0xb13b226b0bef735e96ebd6d34c95c350a4e2fa4ee68efc414787315cda129203");
const GENESIS_HASH: B256 = b256!("0x777be7a84c1d5c72d772ca5fabb961d48306aca730d23d93dbdb93f855c5d406");

#[test]
fn the_same_inputs_give_the_same_hashes() {
    let run = || {
        let mut chain = chain();
        let contract = deploy(&mut chain, 0, STORE_AND_LOG);
        for nonce in 1..5 {
            block(&mut chain, &[call_with(contract, nonce, nonce)]);
        }
        chain.head().hash()
    };
    assert_eq!(run(), run());
}

#[test]
fn what_cannot_be_executed_is_left_out_and_said_why() {
    let mut chain = chain();
    let poor = Draft {
        value: params::DEV_BALANCE,
        ..Draft::default()
    };
    let gapped = Draft {
        sender: 1,
        nonce: 5,
        ..Draft::default()
    };
    let cheap = Draft {
        sender: 2,
        fee: GWEI / 2,
        tip: 1,
        ..Draft::default()
    };
    let foreign = Draft {
        sender: 3,
        chain_id: 5,
        ..Draft::default()
    };
    let sound = Draft {
        sender: 4,
        ..Draft::default()
    };
    let executed = block(&mut chain, &[poor, gapped, cheap, foreign, sound]);
    let invalid = |skipped: &Skipped| match &skipped.reason {
        Skip::Invalid(invalid) => invalid.clone(),
        Skip::NoRoom => panic!("there is room"),
    };
    let reasons: Vec<_> = executed.skipped.iter().map(invalid).collect();
    assert!(matches!(reasons[0], InvalidTransaction::LackOfFundForMaxFee { .. }));
    assert_eq!(reasons[1], InvalidTransaction::NonceTooHigh { tx: 5, state: 0 });
    assert_eq!(reasons[2], InvalidTransaction::GasPriceLessThanBasefee);
    assert_eq!(reasons[3], InvalidTransaction::InvalidChainId);
    assert_eq!(chain.head().transactions.len(), 1);
    assert_eq!(chain.head().transactions[0].signer(), account(4));
}

#[test]
fn a_block_takes_no_more_than_its_gas_and_its_blobs() {
    let mut config = ChainConfig::dev(params::CHAIN_ID, 0);
    config.gas_limit = 50_000;
    let mut small = Chain::new(config);
    let drafts: Vec<_> = (0..3)
        .map(|sender| Draft {
            sender,
            ..Draft::default()
        })
        .collect();
    let executed = block(&mut small, &drafts);
    assert_eq!(small.head().transactions.len(), 2);
    assert_eq!(executed.skipped[0].reason, Skip::NoRoom);

    let mut chain = chain();
    let drafts: Vec<_> = (0..5)
        .map(|sender| Draft {
            sender,
            blobs: 5,
            ..Draft::default()
        })
        .collect();
    let executed = block(&mut chain, &drafts);
    assert_eq!(chain.head().transactions.len(), 4, "20 of 21 blobs");
    assert_eq!(executed.skipped[0].reason, Skip::NoRoom);
    assert_eq!(chain.head().header.blob_gas_used, Some(20 * 131_072));
}

#[test]
fn no_transaction_has_more_gas_than_eip_7825_allows() {
    let mut chain = chain();
    let draft = Draft {
        gas: params::TRANSACTION_GAS_MAX + 1,
        fee: GWEI,
        ..Draft::default()
    };
    let executed = block(&mut chain, &[draft]);
    let capped = matches!(
        executed.skipped[0].reason,
        Skip::Invalid(InvalidTransaction::TxGasLimitGreaterThanCap { .. })
    );
    assert!(capped, "{:?}", executed.skipped);
}

#[test]
fn full_blocks_raise_the_base_fee_by_an_eighth_and_empty_ones_lower_it_by_one() {
    let mut config = ChainConfig::dev(params::CHAIN_ID, 0);
    config.gas_limit = 42_000;
    let mut chain = Chain::new(config);
    assert_eq!(chain.next_base_fee(), 875_000_000, "the genesis block is empty");
    let two = [
        Draft::default(),
        Draft {
            nonce: 1,
            ..Draft::default()
        },
    ];
    block(&mut chain, &two);
    assert_eq!(chain.next_base_fee(), 984_375_000);
    block(&mut chain, &[]);
    assert_eq!(chain.next_base_fee(), 861_328_125);
}

/// Executes a block of so many blobs, at most 21, at a base fee of so many wei if one is given.
fn blobs_block(chain: &mut Chain, nonce: u64, mut blobs: u8, base_fee: Option<u64>) {
    let mut transactions = Vec::new();
    for sender in 0..7 {
        let draft = Draft {
            sender,
            nonce,
            blobs: blobs.min(3),
            ..Draft::default()
        };
        blobs -= draft.blobs;
        transactions.push(draft.transaction());
    }
    let executed = chain.execute(BlockInput {
        timestamp: chain.head().header.timestamp + 1,
        base_fee,
        transactions,
        ..BlockInput::default()
    });
    assert_eq!(executed.skipped, []);
}

/// Numbers computed apart from this program, with integers of any size, by the text of EIP-4844 (`fake_exponential` with the least fee of 1
/// and the update fraction) and EIP-7918 (`calc_excess_blob_gas`), and the parameters of BPO2 in EIP-7892: target 14, at most 21, update
/// fraction 11,684,671. A full block adds 7 blobs of 131,072 gas, by either rule.
#[test]
fn the_blob_fee_rises_with_full_blocks_as_the_eips_say() {
    let mut chain = chain();
    let by_block = [
        (8, 7_340_032, 1),
        (9, 8_257_536, 2),
        (13, 11_927_552, 2),
        (14, 12_845_056, 3),
        (20, 18_350_080, 4),
        (30, 27_525_120, 10),
        (40, 36_700_160, 23),
        (50, 45_875_200, 50),
        (60, 55_050_240, 111),
    ];
    for (number, excess, fee) in by_block {
        while chain.head().number() < number {
            let nonce = chain.head().number();
            blobs_block(&mut chain, nonce, 21, None);
        }
        assert_eq!(
            (chain.next_excess_blob_gas(), chain.next_blob_fee()),
            (excess, fee),
            "{number}"
        );
    }
    // The next block asks it, and its transactions pay it.
    blobs_block(&mut chain, 60, 21, None);
    assert_eq!(
        (chain.head().blob_fee(), chain.head().header.excess_blob_gas),
        (111, Some(55_050_240))
    );
    let paid = |view: View<'_>| params::DEV_BALANCE - view.account_or_empty(&account(6)).balance;
    let before = paid(chain.view(60).unwrap());
    let base_fee = u128::from(chain.head().header.base_fee_per_gas.unwrap());
    let price = 21_000 * (base_fee + GWEI) + 1 + 3 * 131_072 * 111;
    assert_eq!(paid(chain.latest()) - before, U256::from(price));
}

/// EIP-7918: while 8,192 gas cost more than the blob gas of a blob, a third of all blobs is added and nothing taken off. Numbers as above.
#[test]
fn the_blob_fee_falls_only_where_execution_is_cheap() {
    let mut full = chain();
    for nonce in 0..30 {
        blobs_block(&mut full, nonce, 21, None);
    }
    let cases = [
        (1_000_000_000, 15, 28_180_480, 11),
        (1_000_000_000, 10, 27_962_026, 10),
        (1_000_000_000, 0, 27_525_120, 10),
        (16, 15, 27_656_192, 10),
        (16, 10, 27_000_832, 10),
        (16, 0, 25_690_112, 9),
    ];
    for (base_fee, blobs, excess, fee) in cases {
        let mut chain = full.clone();
        blobs_block(&mut chain, 30, blobs, Some(base_fee));
        let next = (chain.next_excess_blob_gas(), chain.next_blob_fee());
        assert_eq!(next, (excess, fee), "base fee {base_fee}, {blobs} blobs");
    }
}

#[test]
fn the_history_contract_serves_hashes_of_blocks() {
    let mut chain = chain();
    for _ in 0..300 {
        block(&mut chain, &[]);
    }
    let ask = |number: u64| {
        let call = Call {
            kind: TxKind::Call(eip2935::HISTORY_STORAGE_ADDRESS),
            data: B256::from(U256::from(number)).into(),
            ..Call::default()
        };
        chain.call(&chain.latest(), false, &call)
    };
    // Further back than BLOCKHASH sees.
    let hash = chain.block(7).unwrap().hash();
    assert_eq!(ask(7).unwrap().output, Bytes::from(hash.0));
    assert!(
        matches!(ask(300), Err(CallFailure::Revert(_))),
        "its own block is not there"
    );
}

#[test]
fn the_beacon_roots_contract_serves_what_the_block_was_given() {
    let mut chain = chain();
    let root = B256::repeat_byte(7);
    chain.execute(BlockInput {
        timestamp: 1_900_000_000,
        parent_beacon_root: root,
        ..BlockInput::default()
    });
    let call = Call {
        kind: TxKind::Call(eip4788::BEACON_ROOTS_ADDRESS),
        data: B256::from(U256::from(1_900_000_000_u64)).into(),
        ..Call::default()
    };
    let success = chain.call(&chain.latest(), false, &call).unwrap();
    assert_eq!(success.output, Bytes::from(root.0));
}

#[test]
fn a_time_that_does_not_pass_is_raised() {
    let mut chain = chain();
    let before = chain.head().header.timestamp;
    chain.execute(BlockInput::default());
    assert_eq!(chain.head().header.timestamp, before + 1);
}

#[test]
fn views_of_the_past_show_the_past() {
    let mut chain = chain();
    let contract = deploy(&mut chain, 0, STORE_AND_LOG);
    for nonce in 1..6 {
        block(&mut chain, &[call_with(contract, nonce, nonce * 10)]);
    }
    for number in 1..=6 {
        let view = chain.view(number).unwrap();
        assert_eq!(view.slot(contract, U256::ZERO), U256::from((number - 1) * 10));
        assert_eq!(view.account_or_empty(&account(0)).nonce, number);
        assert_eq!(view.code(&contract), Bytes::from_static(STORE_AND_LOG));
    }
    assert!(chain.view(0).unwrap().code(&contract).is_empty());
    assert_eq!(chain.view(7).unwrap_err(), Unavailable::Future { number: 7, latest: 6 });
}

#[test]
fn states_and_blocks_are_kept_as_far_as_they_are_bounded() {
    let mut config = ChainConfig::dev(params::CHAIN_ID, 0);
    (config.states_retained, config.blocks_retained) = (3, 5);
    let mut chain = Chain::new(config);
    for nonce in 0..10 {
        block(
            &mut chain,
            &[Draft {
                nonce,
                ..Draft::default()
            }],
        );
    }
    assert!(chain.view(7).is_ok());
    assert_eq!(chain.view(6).unwrap_err(), Unavailable::Pruned { number: 6, oldest: 7 });
    assert_eq!((chain.oldest(), chain.blocks.len()), (6, 5));
    assert_eq!((chain.by_hash.len(), chain.places.len()), (5, 5));
    assert_eq!(
        chain.rollback(4).unwrap_err(),
        Unavailable::TooDeep { depth: 4, most: 3 }
    );
    assert_eq!(chain.rollback(3).unwrap().len(), 3);
    assert_eq!(chain.head().number(), 7);
}

#[test]
fn blocks_and_states_are_kept_as_far_as_their_bytes_are_bounded() {
    let input = vec![0; 40_000];
    let draft = |nonce| Draft {
        nonce,
        gas: 1_000_000,
        data: input.clone().into(),
        ..Draft::default()
    };
    let mut config = ChainConfig::dev(params::CHAIN_ID, 0);
    config.bytes_retained = 500_000;
    let mut chain = Chain::new(config);
    let mut hashes = Vec::new();
    for nonce in 0..40 {
        block(&mut chain, &[draft(nonce)]);
        hashes.push(chain.head().hash());
        assert!(chain.bytes() <= 500_000);
        // What is kept of them is whole: each block that can be returned to has its state, and the one below the oldest too.
        assert!(chain.undos.len() < chain.blocks.len());
    }
    // Eleven times 40,000 bytes and less than 5,454 bytes around each, but not twelve times.
    assert_eq!((chain.oldest(), chain.depth_max()), (30, 10));
    let (bytes, depth) = (chain.bytes(), chain.depth_max());
    chain.set_balance(Address::repeat_byte(0x77), U256::from(5));
    chain.rollback(depth).unwrap();
    assert_eq!(chain.head().number(), 30);
    for nonce in 30..40 {
        block(&mut chain, &[draft(nonce)]);
    }
    assert_eq!((chain.bytes(), chain.head().hash()), (bytes, hashes[39]));
    // A block that is too large alone is kept alone.
    let mut config = ChainConfig::dev(params::CHAIN_ID, 0);
    config.bytes_retained = 1;
    let mut chain = Chain::new(config);
    block(&mut chain, &[draft(0)]);
    assert_eq!((chain.oldest(), chain.depth_max()), (1, 0));
    assert_eq!(chain.latest().account_or_empty(&account(0)).nonce, 1);
}

#[test]
fn logs_count_as_bytes_of_a_block() {
    let mut chain = chain();
    // LOG0 of 200,000 bytes of memory.
    let loud = deploy(&mut chain, 0, &[0x62, 0x03, 0x0d, 0x40, 0x5f, 0xa0]);
    let before = chain.bytes();
    let call = Draft {
        gas: 10_000_000,
        ..call_with(loud, 1, 0)
    };
    block(&mut chain, &[call]);
    assert!(chain.head().outcomes[0].receipt.status());
    assert!((200_000..210_000).contains(&(chain.bytes() - before)));
}

#[test]
fn logs_are_found_by_address_topic_and_range() {
    let mut chain = chain();
    let contract = deploy(&mut chain, 0, STORE_AND_LOG);
    let other = deploy(&mut chain, 1, STORE_AND_LOG);
    block(&mut chain, &[call_with(contract, 2, 1), call_with(other, 3, 2)]);
    block(&mut chain, &[call_with(contract, 4, 3)]);
    let topic = B256::with_last_byte(0x2a);
    let find = |from, to, filter: Filter| chain.logs(from, to, &filter).unwrap();
    assert_eq!(find(0, 9, Filter::new()).len(), 3);
    assert_eq!(find(0, 9, Filter::new().address(contract)).len(), 2);
    assert_eq!(find(0, 9, Filter::new().event_signature(topic)).len(), 3);
    assert_eq!(find(0, 9, Filter::new().event_signature(B256::ZERO)).len(), 0);
    assert_eq!(find(4, 4, Filter::new().address(contract)).len(), 1);
    let second = &find(3, 3, Filter::new().address(other))[0];
    assert_eq!((second.transaction, second.index), (1, 1));
    assert_eq!(second.log.data.data, Bytes::from(B256::with_last_byte(2).0));
    assert_eq!(find(10, 20, Filter::new()).len(), 0);
    assert_eq!(chain.logs(2, 1, &Filter::new()).unwrap_err(), LogsRefused::Backwards);
}

#[test]
fn an_estimate_suffices_and_is_close() {
    let mut chain = chain();
    let contract = deploy(&mut chain, 0, STORE_AND_LOG);
    let call = Call {
        from: account(0),
        kind: TxKind::Call(contract),
        data: B256::with_last_byte(1).into(),
        ..Call::default()
    };
    let estimate = chain.estimate(&chain.latest(), true, &call).unwrap();
    let mut draft = call_with(contract, 1, 1);
    draft.gas = estimate;
    block(&mut chain, &[draft]);
    let outcome = &chain.head().outcomes[0];
    assert!(outcome.receipt.status());
    assert!(outcome.gas_used <= estimate && estimate <= outcome.gas_used * 110 / 100);
    let transfer = Call {
        from: account(0),
        kind: TxKind::Call(account(1)),
        value: U256::from(1),
        ..Call::default()
    };
    assert_eq!(chain.estimate(&chain.latest(), true, &transfer), Ok(21_000));
}

#[test]
fn a_call_that_fails_says_how() {
    let mut chain = chain();
    // REVERT with the word 0x…63 ; INVALID ; an endless loop.
    let reverts = deploy(&mut chain, 0, &[0x60, 0x63, 0x5f, 0x52, 0x60, 0x20, 0x5f, 0xfd]);
    let stops = deploy(&mut chain, 1, &[0xfe]);
    let loops = deploy(&mut chain, 2, &[0x5b, 0x5f, 0x56]);
    let ask = |to: Address| {
        let call = Call {
            kind: TxKind::Call(to),
            ..Call::default()
        };
        (
            chain.call(&chain.latest(), false, &call),
            chain.estimate(&chain.latest(), false, &call),
        )
    };
    let word = Bytes::from(B256::with_last_byte(0x63).0);
    assert_eq!(ask(reverts).0, Err(CallFailure::Revert(word.clone())));
    assert_eq!(ask(reverts).1, Err(CallFailure::Revert(word)));
    let Err(CallFailure::Halt(reason)) = ask(stops).0 else {
        panic!("INVALID halts");
    };
    assert_eq!(halt_text(&reason), "invalid opcode: INVALID");
    assert_eq!(ask(loops).1, Err(CallFailure::Allowance(params::TRANSACTION_GAS_MAX)));
}

#[test]
fn the_root_is_that_of_all_accounts_and_slots_computed_afresh() {
    let mut chain = chain();
    let contract = deploy(&mut chain, 0, STORE_AND_LOG);
    for nonce in 1..20 {
        block(&mut chain, &[call_with(contract, nonce, nonce % 3)]);
        assert_eq!(chain.head().header.state_root, fresh_root(&chain), "block {nonce}");
    }
    chain.rollback(5).unwrap();
    assert_eq!(chain.head().header.state_root, fresh_root(&chain));
    block(&mut chain, &[call_with(contract, 15, 0)]);
    assert_eq!(chain.head().header.state_root, fresh_root(&chain));
}

/// The root by nothing but the views' answers.
fn fresh_root(chain: &Chain) -> B256 {
    use alloy_trie::{TrieAccount, root};
    let view = chain.latest();
    let mut addresses: Vec<Address> = params::DEV_ACCOUNTS.iter().map(|(address, _)| *address).collect();
    addresses.extend([eip2935::HISTORY_STORAGE_ADDRESS, eip4788::BEACON_ROOTS_ADDRESS]);
    addresses.extend([params::BENEFICIARY, Address::repeat_byte(0xaa), account(0).create(0)]);
    let leaf = |address: &Address| {
        let fields = view.account(address)?;
        let slots = (0..20_000_u64)
            .map(U256::from)
            .map(|slot| (B256::from(slot), view.slot(*address, slot)));
        let storage_root = root::storage_root_unhashed(slots.filter(|(_, value)| !value.is_zero()));
        let code_hash = keccak256(view.code(address));
        Some((
            *address,
            TrieAccount::new(fields.nonce, fields.balance, storage_root, code_hash),
        ))
    };
    root::state_root_unhashed(addresses.iter().filter_map(leaf))
}

#[test]
fn a_balance_out_of_thin_air_leaves_with_the_block_that_it_came_after() {
    let mut chain = chain();
    let stranger = Address::repeat_byte(0x77);
    block(&mut chain, &[]);
    chain.set_balance(stranger, U256::from(5));
    block(&mut chain, &[]);
    chain.rollback(1).unwrap();
    assert_eq!(chain.latest().account_or_empty(&stranger).balance, U256::from(5));
    chain.rollback(1).unwrap();
    assert_eq!(chain.latest().account(&stranger), None);
}

#[test]
fn the_bls_precompiles_of_eip_2537_are_there() {
    let chain = chain();
    // G1ADD of two points at infinity is the point at infinity: gas 375, 128 bytes.
    let call = Call {
        kind: TxKind::Call(Address::with_last_byte(0x0b)),
        data: vec![0; 256].into(),
        ..Call::default()
    };
    let success = chain.call(&chain.latest(), false, &call).unwrap();
    assert_eq!(success.output, Bytes::from(vec![0; 128]));
    let short = Call {
        data: bytes!("00"),
        ..call
    };
    assert!(chain.call(&chain.latest(), false, &short).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever happened in the blocks, a rollback and the same blocks again give the same hashes, and what lies between is as it was.
    #[test]
    fn a_rollback_is_exact(words in prop::collection::vec((0_u64..4, 0_usize..3), 1..12), depth in 1_usize..12) {
        let mut chain = chain();
        let contract = deploy(&mut chain, 0, STORE_AND_LOG);
        let mut nonces = [1, 0, 0];
        let mut hashes = vec![chain.head().hash()];
        let mut inputs = Vec::new();
        for (word, sender) in words {
            let draft = Draft { sender, ..call_with(contract, nonces[sender], word) };
            nonces[sender] += 1;
            block(&mut chain, std::slice::from_ref(&draft));
            inputs.push(draft);
            hashes.push(chain.head().hash());
        }
        let depth = depth.min(inputs.len());
        let kept = inputs.len() - depth;
        let dropped = chain.rollback(depth).unwrap();
        let dropped: Vec<B256> = dropped.iter().map(|block| block.hash()).collect();
        prop_assert_eq!(&dropped, &hashes[kept + 1..]);
        prop_assert_eq!(chain.head().hash(), hashes[kept]);
        prop_assert!(chain.place(inputs[kept].transaction().tx_hash()).is_none());
        for (draft, hash) in inputs[kept..].iter().zip(&hashes[kept + 1..]) {
            prop_assert_eq!(draft.transaction().nonce(), draft.nonce);
            block(&mut chain, std::slice::from_ref(draft));
            prop_assert_eq!(chain.head().hash(), *hash);
        }
    }
}
