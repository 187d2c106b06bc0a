//! Blob transactions: the sidecar, the way of the blobs back, and the rules of the pool.

use alloy_eips::eip4844::builder::{SidecarCoder, SimpleCoder};
use alloy_eips::eip4844::{Blob, BlobTransactionSidecar, kzg_to_versioned_hash};
use alloy_eips::eip7594::BlobTransactionSidecarEip7594;
use alloy_primitives::B256;
use alloy_provider::Provider;
use serde_json::{Value, json};

use crate::node::{Node, on_each};
use crate::transactions::{blob, plain, sidecar, sign, sign_blob};

const DATA: &[u8] = b"what a batch of blocks might be, and would be much longer";

/// The blobs of an answer of the beacon API.
fn blobs_of(body: &Value) -> Vec<Blob> {
    serde_json::from_value(body["data"].clone()).unwrap()
}

/// Computes the commitment of a blob: the KZG proof that it is the one of its versioned hash.
fn versioned_hash(blob: &Blob) -> B256 {
    let settings = c_kzg::ethereum_kzg_settings(0);
    let blob = c_kzg::Blob::new(blob.0);
    let commitment = settings.blob_to_kzg_commitment(&blob).unwrap();
    kzg_to_versioned_hash(commitment.to_bytes().as_slice())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_posted_with_cell_proofs_and_comes_back_by_the_beacon_api() {
    let sidecar = sidecar(DATA).await;
    on_each(async |node: Node| {
        let receipt = node.mined(&sign_blob(0, blob(0, &sidecar), sidecar.clone())).await;
        assert!(receipt.status());
        assert_eq!(
            (receipt.blob_gas_used, receipt.blob_gas_price),
            (Some(131_072), Some(1))
        );
        let wanted: Vec<B256> = sidecar.versioned_hashes().collect();
        let transaction = node
            .provider
            .get_transaction_by_hash(receipt.transaction_hash)
            .await
            .unwrap()
            .unwrap();
        let hashes = alloy_consensus::Transaction::blob_versioned_hashes(&transaction);
        assert_eq!(hashes, Some(&wanted[..]));
        let root = receipt.block_hash.unwrap();
        let path = format!("/eth/v1/beacon/blobs/{root}?versioned_hashes={}", wanted[0]);
        let (status, body) = node.beacon(&path).await;
        assert_eq!(status, 200);
        let blobs = blobs_of(&body);
        assert_eq!(blobs.len(), 1);
        assert_eq!(versioned_hash(&blobs[0]), wanted[0]);
        assert_eq!(SimpleCoder::default().decode_all(&blobs).unwrap(), [DATA]);
        let (status, _) = node.beacon(&format!("/eth/v1/beacon/blob_sidecars/{root}")).await;
        assert_eq!(status, 410);
        let fee = node.provider.get_blob_base_fee().await.unwrap();
        assert_eq!(fee, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn six_blobs_fit_into_a_transaction_and_a_request() {
    let data = vec![7; 700_000];
    let sidecar = sidecar(&data).await;
    assert_eq!(sidecar.blobs.len(), 6);
    on_each(async |node: Node| {
        let receipt = node.mined(&sign_blob(0, blob(0, &sidecar), sidecar.clone())).await;
        assert_eq!(receipt.blob_gas_used, Some(6 * 131_072));
        let root = receipt.block_hash.unwrap();
        let (_, body) = node.beacon(&format!("/eth/v1/beacon/blobs/{root}")).await;
        let blobs = blobs_of(&body);
        assert_eq!(blobs, sidecar.blobs);
        assert_eq!(
            SimpleCoder::default().decode_all(&blobs).unwrap(),
            std::slice::from_ref(&data)
        );
        if node.is_strict {
            // A request that no transaction needs is not read to its end.
            let huge = format!("[\"{}\"]", "0".repeat(5 * 1024 * 1024));
            let request = reqwest::Client::new().post(&node.url);
            let request = request.header("content-type", "application/json").body(huge);
            // The connection may be closed before all is sent.
            let status = request.send().await.map_or(413, |response| response.status().as_u16());
            assert_eq!(status, 413);
        }
    })
    .await;
}

/// What anvil has not: ids other than a root, the mapping of time to slots, answers about what is not there.
#[tokio::test(flavor = "multi_thread")]
async fn the_beacon_api_knows_tags_slots_and_what_is_missing() {
    let sidecar = sidecar(DATA).await;
    on_each(async |node: Node| {
        if !node.is_strict {
            return;
        }
        let receipt = node.mined(&sign_blob(0, blob(0, &sidecar), sidecar.clone())).await;
        let root = receipt.block_hash.unwrap();
        let block = node.provider.get_block_by_hash(root).await.unwrap().unwrap();
        let number = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
        let (_, genesis) = node.beacon("/eth/v1/beacon/genesis").await;
        let (_, spec) = node.beacon("/eth/v1/config/spec").await;
        let since_genesis = block.header.timestamp - number(&genesis["data"]["genesis_time"]);
        let slot = since_genesis / number(&spec["data"]["SECONDS_PER_SLOT"]);
        for id in ["head".to_owned(), slot.to_string(), root.to_string()] {
            let (status, body) = node.beacon(&format!("/eth/v1/beacon/blobs/{id}")).await;
            assert_eq!(
                (status, blobs_of(&body).len(), &body["finalized"]),
                (200, 1, &json!(false)),
                "{id}"
            );
        }
        let (_, header) = node.beacon(&format!("/eth/v1/beacon/headers/{root}")).await;
        assert_eq!(header["data"]["header"]["message"]["slot"], slot.to_string());
        let other = format!("/eth/v1/beacon/blobs/head?versioned_hashes={}", B256::ZERO);
        assert_eq!(blobs_of(&node.beacon(&other).await.1).len(), 0);
        assert_eq!(
            blobs_of(&node.beacon("/eth/v1/beacon/blobs/finalized").await.1).len(),
            0
        );
        let status = async |path: &str| node.beacon(path).await.0;
        assert_eq!(status("/eth/v1/beacon/blobs/99999999999").await, 404);
        assert_eq!(status(&format!("/eth/v1/beacon/blobs/{}", B256::ZERO)).await, 404);
        assert_eq!(status("/eth/v1/beacon/blobs/nonsense").await, 400);
        assert_eq!(status("/eth/v1/beacon/blobs/head?versioned_hashes=0x1").await, 400);
        assert_eq!(status("/eth/v2/nothing").await, 404);
        node.mine(crate::node::FINALIZED_DISTANCE).await;
        let (_, body) = node.beacon("/eth/v1/beacon/blobs/finalized").await;
        assert_eq!((blobs_of(&body).len(), &body["finalized"]), (1, &json!(true)));
    })
    .await;
}

/// anvil takes a sidecar of before Osaka, a plain transaction behind a blob transaction, and any higher fee. Real nodes do not.
#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_the_blob_pool_are_those_of_real_nodes() {
    let sidecar = sidecar(DATA).await;
    on_each(async |node: Node| {
        node.call("evm_setAutomine", json!([false])).await.unwrap();
        let send = async |raw| node.send(&raw).await;
        let damaged = {
            let mut proofs = sidecar.cell_proofs.clone();
            proofs.swap(3, 4);
            BlobTransactionSidecarEip7594::new(sidecar.blobs.clone(), sidecar.commitments.clone(), proofs)
        };
        send(sign_blob(0, blob(0, &sidecar), damaged)).await.unwrap_err();
        if !node.is_strict {
            return;
        }
        let old = BlobTransactionSidecar {
            blobs: sidecar.blobs.clone(),
            commitments: sidecar.commitments.clone(),
            proofs: vec![sidecar.cell_proofs[0]],
        };
        let refusal = send(sign_blob(0, blob(0, &sidecar), old)).await.unwrap_err();
        assert!(refusal.contains("unexpected eip-4844 sidecar after osaka"), "{refusal}");
        let refusal = send(sign_blob(0, blob(3, &sidecar), sidecar.clone()))
            .await
            .unwrap_err();
        assert!(
            refusal.contains("nonce too high: tx nonce 3, gapped nonce 0"),
            "{refusal}"
        );
        send(sign_blob(0, blob(0, &sidecar), sidecar.clone())).await.unwrap();
        let refusal = send(sign(0, plain(1))).await.unwrap_err();
        assert!(refusal.contains("address already reserved"), "{refusal}");
        send(sign(1, plain(0))).await.unwrap();
        let refusal = send(sign_blob(1, blob(1, &sidecar), sidecar.clone()))
            .await
            .unwrap_err();
        assert!(refusal.contains("address already reserved"), "{refusal}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_transaction_is_replaced_for_twice_its_three_fees() {
    let sidecar = sidecar(DATA).await;
    on_each(async |node: Node| {
        node.call("evm_setAutomine", json!([false])).await.unwrap();
        let at = |fee: u128, tip: u128, blob_fee: u128| {
            let mut transaction = blob(0, &sidecar);
            transaction.max_fee_per_gas = transaction.max_fee_per_gas * fee / 100;
            transaction.max_priority_fee_per_gas = transaction.max_priority_fee_per_gas * tip / 100;
            transaction.max_fee_per_blob_gas = transaction.max_fee_per_blob_gas * blob_fee / 100;
            sign_blob(0, transaction, sidecar.clone())
        };
        let old = node.send(&at(100, 100, 100)).await.unwrap();
        if node.is_strict {
            // anvil takes any higher fee.
            for raw in [at(199, 200, 200), at(200, 199, 200), at(200, 200, 199)] {
                let refusal = node.send(&raw).await.unwrap_err();
                assert!(refusal.contains("replacement transaction underpriced"), "{refusal}");
            }
        }
        let new = node.send(&at(200, 200, 200)).await.unwrap();
        node.mine(1).await;
        let receipt = async |hash| node.provider.get_transaction_receipt(hash).await.unwrap();
        assert!(receipt(new).await.is_some() && receipt(old).await.is_none());
    })
    .await;
}
