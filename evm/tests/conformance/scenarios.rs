//! Transactions, contracts, calls and fees.

use std::time::{Duration, Instant};

use alloy_consensus::Transaction as _;
use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_network::TransactionBuilder;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, address, bytes, hex};
use alloy_provider::Provider;
use alloy_rpc_types_eth::{Filter, TransactionRequest};
use fusion_evm::params;
use serde_json::json;

use crate::node::{Node, on_each};
use crate::transactions::{BURN, GWEI, STORE_AND_LOG, creation, plain, reverts_with_no, sign};

fn account(index: usize) -> Address {
    params::DEV_ACCOUNTS[index].0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_has_its_receipt_and_moves_the_money() {
    on_each(async |node: Node| {
        let wallet = node.wallet(0);
        let to = Address::repeat_byte(0x11);
        let request = TransactionRequest::default().with_to(to).with_value(U256::from(12_345));
        let receipt = wallet
            .send_transaction(request)
            .await
            .unwrap()
            .get_receipt()
            .await
            .unwrap();
        assert!(receipt.status());
        assert_eq!(
            (receipt.gas_used, receipt.from, receipt.to),
            (21_000, account(0), Some(to))
        );
        assert_eq!(receipt.block_number, Some(1));
        let provider = &node.provider;
        let balance = provider.get_balance(to).await.unwrap();
        assert_eq!(balance, U256::from(12_345));
        let paid = U256::from(u128::from(receipt.gas_used) * receipt.effective_gas_price) + balance;
        assert_eq!(
            provider.get_balance(account(0)).await.unwrap(),
            params::DEV_BALANCE - paid
        );
        assert_eq!(
            provider.get_balance(to).block_id(BlockId::number(0)).await.unwrap(),
            U256::ZERO
        );
        assert_eq!(provider.get_transaction_count(account(0)).await.unwrap(), 1);

        let hash = receipt.transaction_hash;
        let transaction = provider.get_transaction_by_hash(hash).await.unwrap().unwrap();
        assert_eq!(
            (transaction.inner.signer(), transaction.block_number),
            (account(0), Some(1))
        );
        let block = provider
            .get_block_by_number(BlockNumberOrTag::Latest)
            .full()
            .await
            .unwrap()
            .unwrap();
        assert_eq!(block.header.hash, receipt.block_hash.unwrap());
        // The header is one whose hash is the block's, so that it can be verified.
        assert_eq!(block.header.inner.hash_slow(), block.header.hash);
        let full = block.transactions.as_transactions().unwrap();
        assert_eq!(full[0].inner.tx_hash(), &hash);
        let receipts = provider.get_block_receipts(BlockId::latest()).await.unwrap().unwrap();
        assert_eq!(receipts[0].transaction_hash, hash);
        assert_eq!(provider.get_chain_id().await.unwrap(), 1337);
        assert_eq!(provider.get_net_version().await.unwrap(), 1337);
        assert!(!provider.get_client_version().await.unwrap().is_empty());
        assert!(provider.get_block_by_number(99.into()).await.unwrap().is_none());
        assert!(provider.get_transaction_receipt(B256::ZERO).await.unwrap().is_none());
    })
    .await;
}

/// Deploys code with the first transactions of an account.
async fn deploy(node: &Node, account: usize, nonce: u64, code: &[u8]) -> Address {
    let mut transaction = plain(nonce);
    (transaction.to, transaction.gas_limit, transaction.value) = (TxKind::Create, 300_000, U256::ZERO);
    transaction.input = creation(code);
    let receipt = node.mined(&sign(account, transaction)).await;
    assert!(receipt.status());
    receipt.contract_address.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_is_deployed_and_its_logs_are_found() {
    on_each(async |node: Node| {
        let contract = deploy(&node, 0, 0, STORE_AND_LOG).await;
        assert_eq!(contract, account(0).create(0));
        let provider = &node.provider;
        assert_eq!(
            provider.get_code_at(contract).await.unwrap(),
            Bytes::from_static(STORE_AND_LOG)
        );
        let word = B256::with_last_byte(0x77);
        let mut call = plain(1);
        (call.to, call.gas_limit, call.input) = (TxKind::Call(contract), 100_000, word.into());
        call.value = U256::ZERO;
        let receipt = node.mined(&sign(0, call)).await;
        assert_eq!(receipt.logs().len(), 1);
        let stored = provider.get_storage_at(contract, U256::ZERO).await.unwrap();
        assert_eq!(B256::from(stored), word);

        let topic = B256::with_last_byte(0x2a);
        let by_address = Filter::new().from_block(0).address(contract);
        let found = provider.get_logs(&by_address).await.unwrap();
        assert_eq!(found.len(), 1);
        let log = &found[0];
        assert_eq!((log.topics(), &log.data().data), (&[topic][..], &Bytes::from(word.0)));
        assert_eq!(
            (log.transaction_hash, log.log_index),
            (Some(receipt.transaction_hash), Some(0))
        );
        let count = async |filter: Filter| provider.get_logs(&filter).await.unwrap().len();
        assert_eq!(count(Filter::new().from_block(0).event_signature(topic)).await, 1);
        assert_eq!(count(Filter::new().from_block(0).event_signature(B256::ZERO)).await, 0);
        assert_eq!(count(Filter::new().at_block_hash(receipt.block_hash.unwrap())).await, 1);
        assert_eq!(count(Filter::new().from_block(0).to_block(1)).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_suffices_and_a_revert_is_told_with_its_reason() {
    on_each(async |node: Node| {
        let provider = &node.provider;
        let store = deploy(&node, 0, 0, STORE_AND_LOG).await;
        let refuse = deploy(&node, 0, 1, &reverts_with_no()).await;
        let request = TransactionRequest::default()
            .with_from(account(0))
            .with_to(store)
            .with_input(B256::with_last_byte(1));
        let estimate = provider.estimate_gas(request).await.unwrap();
        let mut call = plain(2);
        (call.to, call.gas_limit, call.value) = (TxKind::Call(store), estimate, U256::ZERO);
        call.input = B256::with_last_byte(1).into();
        let receipt = node.mined(&sign(0, call)).await;
        assert!(receipt.status() && receipt.gas_used <= estimate && estimate < receipt.gas_used * 11 / 10);

        let request = TransactionRequest::default().with_from(account(0)).with_to(refuse);
        let errors = [
            provider.call(request.clone()).await.unwrap_err(),
            provider.estimate_gas(request).await.unwrap_err(),
        ];
        for error in errors {
            let payload = error.as_error_resp().unwrap();
            assert_eq!((payload.code, &*payload.message), (3, "execution reverted: no"));
            let data = payload.as_revert_data().unwrap();
            assert_eq!(data[..4], hex!("08c379a0"));
        }
        // The transaction itself is mined, and has failed.
        let mut call = plain(3);
        (call.to, call.gas_limit, call.value) = (TxKind::Call(refuse), 100_000, U256::ZERO);
        let receipt = node.mined(&sign(0, call)).await;
        assert!(!receipt.status());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_cannot_be_is_refused_in_known_words() {
    on_each(async |node: Node| {
        let first = sign(0, plain(0));
        node.mined(&first).await;
        let refused = async |raw: Bytes| node.send(&raw).await.unwrap_err().to_lowercase();
        let mut again = plain(0);
        again.value = U256::from(2);
        assert!(refused(sign(0, again)).await.contains("nonce too low"));
        let mut poor = plain(1);
        poor.value = params::DEV_BALANCE;
        assert!(
            refused(sign(0, poor))
                .await
                .contains("insufficient funds for gas * price + value")
        );
        let mut foreign = plain(1);
        foreign.chain_id = 5;
        assert!(refused(sign(0, foreign)).await.contains("invalid chain id"));
        let mut short = plain(1);
        short.gas_limit = 20_999;
        assert!(refused(sign(0, short)).await.contains("intrinsic gas too low"));
        let mut tip = plain(1);
        tip.max_priority_fee_per_gas = tip.max_fee_per_gas + 1;
        assert!(
            refused(sign(0, tip))
                .await
                .contains("max priority fee per gas higher than max fee per gas")
        );
        refused(bytes!("02c0")).await;

        node.call("evm_setAutomine", json!([false])).await.unwrap();
        let waiting = sign(0, plain(1));
        node.send(&waiting).await.unwrap();
        assert!(refused(waiting).await.contains("already known") || !node.is_strict);
        if node.is_strict {
            // anvil has EIP-7825 switched off, and no cap on what is paid.
            let mut large = plain(2);
            (large.gas_limit, large.max_fee_per_gas) = (params::TRANSACTION_GAS_MAX + 1, GWEI);
            assert!(refused(sign(0, large)).await.contains("transaction gas limit too high"));
            let mut dear = plain(2);
            (dear.gas_limit, dear.max_fee_per_gas) = (params::TRANSACTION_GAS_MAX, 100 * GWEI);
            assert!(
                refused(sign(0, dear))
                    .await
                    .contains("exceeds the configured cap (1.00 ether)")
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_pays_more_and_only_it_is_mined() {
    on_each(async |node: Node| {
        let provider = &node.provider;
        node.call("evm_setAutomine", json!([false])).await.unwrap();
        let at = |percent: u128| {
            let mut transaction = plain(0);
            transaction.max_fee_per_gas = transaction.max_fee_per_gas * percent / 100;
            transaction.max_priority_fee_per_gas = transaction.max_priority_fee_per_gas * percent / 100;
            sign(0, transaction)
        };
        let old = node.send(&at(100)).await.unwrap();
        assert_eq!(provider.get_transaction_count(account(0)).pending().await.unwrap(), 1);
        assert_eq!(provider.get_transaction_count(account(0)).await.unwrap(), 0);
        let pending = provider.get_transaction_by_hash(old).await.unwrap().unwrap();
        assert_eq!((pending.block_number, pending.nonce()), (None, 0));
        let refusal = node.send(&at(99)).await.unwrap_err();
        assert!(refusal.contains("replacement transaction underpriced"), "{refusal}");
        if node.is_strict {
            // anvil takes any higher fee.
            let refusal = node.send(&at(109)).await.unwrap_err();
            assert!(refusal.contains("replacement transaction underpriced"), "{refusal}");
        }
        let new = node.send(&at(110)).await.unwrap();
        node.mine(1).await;
        assert!(provider.get_transaction_receipt(new).await.unwrap().is_some());
        assert!(provider.get_transaction_receipt(old).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_base_fee_rises_over_full_blocks_and_falls_over_empty_ones() {
    on_each(async |node: Node| {
        let provider = &node.provider;
        let burn = deploy(&node, 0, 0, BURN).await;
        node.call("evm_setAutomine", json!([false])).await.unwrap();
        for round in 0..3 {
            for nonce in 0..3 {
                let mut transaction = plain(1 + round * 3 + nonce);
                (transaction.to, transaction.value) = (TxKind::Call(burn), U256::ZERO);
                transaction.gas_limit = params::TRANSACTION_GAS_MAX;
                node.send(&sign(0, transaction)).await.unwrap();
            }
            node.mine(1).await;
        }
        node.mine(4).await;
        let head = provider.get_block_number().await.unwrap();
        let mut headers = Vec::new();
        for number in 1..=head {
            let block = provider.get_block_by_number(number.into()).await.unwrap().unwrap();
            headers.push(block.header.inner);
        }
        assert_eq!(headers.iter().filter(|header| header.gas_used > 50_000_000).count(), 3);
        for pair in headers.windows(2) {
            let (fee, target) = (pair[0].base_fee_per_gas.unwrap(), pair[0].gas_limit / 2);
            let part = |gas: u64| u64::try_from(u128::from(fee) * u128::from(gas) / u128::from(target) / 8).unwrap();
            let expected = if pair[0].gas_used > target {
                fee + part(pair[0].gas_used - target).max(1)
            } else {
                fee - part(target - pair[0].gas_used)
            };
            assert_eq!(
                pair[1].base_fee_per_gas,
                Some(expected),
                "after block {}",
                pair[0].number
            );
        }
        // anvil's history follows its blocks a moment later.
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let history = provider
                .get_fee_history(4, BlockNumberOrTag::Latest, &[50.0])
                .await
                .unwrap();
            if (history.base_fee_per_gas.len(), history.oldest_block) == (5, head - 3) {
                break;
            }
            assert!(!node.is_strict && Instant::now() < deadline, "{history:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        node.call("anvil_setNextBlockBaseFeePerGas", json!(["0x3b9aca07"]))
            .await
            .unwrap();
        node.mine(1).await;
        let block = provider
            .get_block_by_number(BlockNumberOrTag::Latest)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(block.header.base_fee_per_gas, Some(1_000_000_007));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_contract_knows_the_hashes_of_blocks() {
    on_each(async |node: Node| {
        node.mine(270).await;
        let contract = address!("0x0000F90827F1C53a10cb7A02335B175320002935");
        for number in [0_u64, 3, 269] {
            let input = B256::from(U256::from(number));
            let request = TransactionRequest::default().with_to(contract).with_input(input);
            let answer = node.provider.call(request).await.unwrap();
            let block = node.provider.get_block_by_number(number.into()).await.unwrap().unwrap();
            assert_eq!(answer, Bytes::from(block.header.hash.0), "block {number}");
        }
    })
    .await;
}

/// The generators of BLS12-381 in the encoding of EIP-2537, and twice that of G1 (vector `bls_g1add_(g1+g1=2*g1)`).
const G1: &str = "0000000000000000000000000000000017f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb0000000000000000000000000000000008b3f481e3aaa0f1a09e30ed741d8ae4fcf5e095d5d00af600db18cb2c04b3edd03cc744a2888ae40caa232946c5e7e1";
const MINUS_G1: &str = "0000000000000000000000000000000017f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb00000000000000000000000000000000114d1d6855d545a8aa7d76c8cf2e21f267816aef1db507c96655b9d5caac42364e6f38ba0ecb751bad54dcd6b939c2ca";
const G2: &str = "00000000000000000000000000000000024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb80000000000000000000000000000000013e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e000000000000000000000000000000000ce5d527727d6e118cc9cdc6da2e351aadfd9baa8cbdd3a76d429a695160d12c923ac9cc3baca289e193548608b82801000000000000000000000000000000000606c4a02ea734cc32acd2b02bc28b99cb3e287e85a763af267492ab572e99ab3f370d275cec1da1aaa9075ff05f79be";
const TWICE_G1: &str = "000000000000000000000000000000000572cbea904d67468808c8eb50a9450c9721db309128012543902d0ac358a62ae28f75bb8f1c7c42c39a8c5529bf0f4e00000000000000000000000000000000166a9d8cabc673a322fda673779d8e3822ba3ecb8670e461f73bb9021d5fd76a4c56d9d4cd16bd1bba86881979749d28";

#[tokio::test(flavor = "multi_thread")]
async fn the_bls_precompiles_add_and_pair() {
    on_each(async |node: Node| {
        let ask = async |precompile: u8, input: String| {
            let request = TransactionRequest::default()
                .with_to(Address::with_last_byte(precompile))
                .with_input(hex::decode(input).unwrap());
            node.provider.call(request).await
        };
        assert_eq!(hex::encode(ask(0x0b, format!("{G1}{G1}")).await.unwrap()), TWICE_G1);
        let pairs = |first: &str, second: &str| format!("{first}{G2}{second}{G2}");
        assert_eq!(
            ask(0x0f, pairs(G1, MINUS_G1)).await.unwrap(),
            Bytes::from(B256::with_last_byte(1).0)
        );
        assert_eq!(ask(0x0f, pairs(G1, G1)).await.unwrap(), Bytes::from(B256::ZERO.0));
        assert!(ask(0x0b, "00".into()).await.is_err());
    })
    .await;
}

/// What a poster asks before it posts: which nonce is next, and what is asked for gas and blobs.
#[tokio::test(flavor = "multi_thread")]
async fn nonces_and_fees_are_told_as_a_poster_asks_for_them() {
    on_each(async |node: Node| {
        let provider = &node.provider;
        for nonce in 0..3 {
            node.mined(&sign(0, plain(nonce))).await;
        }
        node.call("evm_setAutomine", json!([false])).await.unwrap();
        node.send(&sign(0, plain(3))).await.unwrap();
        let count = async |id: BlockId| provider.get_transaction_count(account(0)).block_id(id).await.unwrap();
        assert_eq!(count(BlockId::pending()).await, 4);
        assert_eq!(count(BlockId::latest()).await, 3);
        assert_eq!(count(BlockId::number(2)).await, 2);
        assert!(provider.get_max_priority_fee_per_gas().await.unwrap() > 0);
        assert_eq!(provider.get_blob_base_fee().await.unwrap(), 1);
        let history = provider
            .get_fee_history(2, BlockNumberOrTag::Latest, &[10.0])
            .await
            .unwrap();
        assert_eq!((history.oldest_block, history.base_fee_per_blob_gas), (2, vec![1; 3]));
        assert_eq!(history.reward.unwrap().len(), 2);
    })
    .await;
}
