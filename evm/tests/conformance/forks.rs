//! Tags, reorgs, snapshots: what a follower of the chain has to live with.

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, U256};
use alloy_provider::Provider;
use fusion_evm::params;
use serde_json::json;

use crate::node::{FINALIZED_DISTANCE, Node, SAFE_DISTANCE, on_each};
use crate::transactions::{plain, sidecar, sign, sign_blob};

async fn number(node: &Node, tag: BlockNumberOrTag) -> u64 {
    let block = node.provider.get_block_by_number(tag).await.unwrap().unwrap();
    block.header.number
}

async fn hash_of(node: &Node, number: u64) -> B256 {
    let block = node.provider.get_block_by_number(number.into()).await.unwrap().unwrap();
    block.header.hash
}

#[tokio::test(flavor = "multi_thread")]
async fn safe_and_finalized_follow_the_head_at_their_distance() {
    on_each(async |node: Node| {
        for tag in [BlockNumberOrTag::Safe, BlockNumberOrTag::Finalized] {
            assert_eq!(number(&node, tag).await, 0);
        }
        for nonce in 0..10 {
            node.mined(&sign(0, plain(nonce))).await;
        }
        assert_eq!(number(&node, BlockNumberOrTag::Latest).await, 10);
        assert_eq!(number(&node, BlockNumberOrTag::Safe).await, 10 - SAFE_DISTANCE);
        assert_eq!(
            number(&node, BlockNumberOrTag::Finalized).await,
            10 - FINALIZED_DISTANCE
        );
        let sender = params::DEV_ACCOUNTS[0].0;
        let count = async |tag| {
            let call = node.provider.get_transaction_count(sender);
            call.block_id(BlockId::Number(tag)).await.unwrap()
        };
        assert_eq!(count(BlockNumberOrTag::Finalized).await, 10 - FINALIZED_DISTANCE);
        assert_eq!(count(BlockNumberOrTag::Latest).await, 10);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reorg_takes_transactions_back_which_can_be_sent_again() {
    on_each(async |node: Node| {
        let raws: Vec<_> = (0..6).map(|nonce| sign(0, plain(nonce))).collect();
        let mut hashes = Vec::new();
        for raw in &raws {
            hashes.push(node.mined(raw).await.transaction_hash);
        }
        let old: Vec<B256> = vec![
            hash_of(&node, 3).await,
            hash_of(&node, 4).await,
            hash_of(&node, 6).await,
        ];
        node.call("anvil_reorg", json!([3, []])).await.unwrap();
        assert_eq!(number(&node, BlockNumberOrTag::Latest).await, 6);
        assert_eq!(hash_of(&node, 3).await, old[0]);
        assert_ne!(hash_of(&node, 4).await, old[1]);
        assert_ne!(hash_of(&node, 6).await, old[2]);
        assert!(node.provider.get_block_by_hash(old[2]).await.unwrap().is_none());
        let receipt = async |hash| node.provider.get_transaction_receipt(hash).await.unwrap();
        assert!(receipt(hashes[2]).await.is_some());
        for hash in &hashes[3..] {
            assert!(receipt(*hash).await.is_none());
        }
        let count = node
            .provider
            .get_transaction_count(params::DEV_ACCOUNTS[0].0)
            .await
            .unwrap();
        assert_eq!(count, 3);
        let balance = node.provider.get_balance(Address::repeat_byte(0xaa)).await.unwrap();
        assert_eq!(balance, U256::from(3));
        for (raw, hash) in raws.iter().zip(&hashes).skip(3) {
            assert_eq!(node.mined(raw).await.transaction_hash, *hash);
        }
    })
    .await;
}

/// Real nodes take dropped transactions back into their pools; anvil forgets them.
#[tokio::test(flavor = "multi_thread")]
async fn a_reorg_with_requeue_mines_them_again_in_other_blocks() {
    let sidecar = sidecar(b"blob").await;
    on_each(async |node: Node| {
        if !node.is_strict {
            return;
        }
        let plain_hash = node.mined(&sign(0, plain(0))).await.transaction_hash;
        let raw = sign_blob(1, crate::transactions::blob(0, &sidecar), sidecar.clone());
        let blob_hash = node.mined(&raw).await.transaction_hash;
        let block = async |hash| {
            let receipt = node.provider.get_transaction_receipt(hash).await.unwrap();
            receipt.and_then(|receipt| receipt.block_hash)
        };
        let old = (block(plain_hash).await, block(blob_hash).await);
        let done = node.call("fusionl1_reorg", json!([2, true])).await.unwrap();
        assert_eq!(done, json!({ "dropped": 2, "requeued": [plain_hash, blob_hash] }));
        let new = (block(plain_hash).await, block(blob_hash).await);
        assert!(new.0.is_some() && new.0 != old.0 && new.1.is_some() && new.1 != old.1);
        let (status, body) = node.beacon(&format!("/eth/v1/beacon/blobs/{}", new.1.unwrap())).await;
        assert_eq!((status, body["data"].as_array().unwrap().len()), (200, 1));
        let error = node.call("fusionl1_reorg", json!([99, false])).await.unwrap_err();
        assert!(error.contains("cannot be taken back"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_makes_the_chain_shorter() {
    on_each(async |node: Node| {
        node.mine(5).await;
        let before = hash_of(&node, 3).await;
        node.call("anvil_rollback", json!([2])).await.unwrap();
        assert_eq!(number(&node, BlockNumberOrTag::Latest).await, 3);
        assert_eq!(hash_of(&node, 3).await, before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_returned_to() {
    on_each(async |node: Node| {
        node.mine(2).await;
        let (hash, snapshot) = (
            hash_of(&node, 2).await,
            node.call("evm_snapshot", json!([])).await.unwrap(),
        );
        node.mined(&sign(0, plain(0))).await;
        assert_eq!(node.call("evm_revert", json!([snapshot])).await.unwrap(), json!(true));
        assert_eq!(number(&node, BlockNumberOrTag::Latest).await, 2);
        assert_eq!(hash_of(&node, 2).await, hash);
        let count = node
            .provider
            .get_transaction_count(params::DEV_ACCOUNTS[0].0)
            .await
            .unwrap();
        assert_eq!(count, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_is_set_and_a_pending_transaction_dropped() {
    on_each(async |node: Node| {
        let stranger = Address::repeat_byte(0x44);
        node.call("anvil_setBalance", json!([stranger, "0x1234"]))
            .await
            .unwrap();
        assert_eq!(node.provider.get_balance(stranger).await.unwrap(), U256::from(0x1234));
        node.call("evm_setAutomine", json!([false])).await.unwrap();
        let hash = node.send(&sign(0, plain(0))).await.unwrap();
        assert_eq!(
            node.call("anvil_dropTransaction", json!([hash])).await.unwrap(),
            json!(hash)
        );
        node.mine(1).await;
        assert!(node.provider.get_transaction_receipt(hash).await.unwrap().is_none());
    })
    .await;
}
