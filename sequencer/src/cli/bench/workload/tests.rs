//! Tests of this room's promises.

use std::collections::BTreeSet;

use alloy_consensus::TxEnvelope;
use alloy_consensus::transaction::SignerRecoverable as _;
use alloy_eips::eip2718::Decodable2718 as _;
use fusion_types::transaction_hash;

use super::*;

/// The rollup and the payload of a rendered call, as a node would read them.
fn read(call: &[u8], index: u64) -> (u64, Vec<u8>) {
    let json: serde_json::Value = serde_json::from_slice(call).unwrap();
    assert_eq!(json["jsonrpc"], "2.0");
    assert_eq!(json["method"], "fusion_sendTransaction");
    assert_eq!(json["id"], index);
    let payload = hex::decode(json["params"][1].as_str().unwrap()).unwrap();
    (json["params"][0].as_u64().unwrap(), payload)
}

#[test]
fn opaque_calls_carry_distinct_payloads_of_the_size_and_their_keys() {
    for size in [16, 17, 136, 512, 4_096] {
        let workload = Workload::Opaque(Box::new(Opaque::new(size, 7, 3, vec![903, 904]).unwrap()));
        let mut seen = BTreeSet::new();
        for place in 0..3 {
            for index in 0..10 {
                let mut call = Vec::new();
                let key = workload.render(place, index, &mut call).unwrap();
                let (rollup, payload) = read(&call, index);
                assert_eq!(rollup, 903 + index % 2);
                assert_eq!(payload.len(), size);
                assert_eq!(key, key_of(transaction_hash(&payload)));
                assert_eq!(workload.key(place, index), Some(key));
                assert!(seen.insert(payload), "payloads differ");
            }
        }
    }
}

#[test]
fn sizes_beyond_the_limits_are_refused_with_the_limits() {
    for size in [0, 15, TRANSACTION_BYTES_MAX + 1] {
        let error = Opaque::new(size, 0, 1, vec![1]).unwrap_err().to_string();
        assert!(error.contains(&size.to_string()), "{error}");
    }
}

#[test]
fn transfers_are_signed_for_their_rollup_with_nonces_in_order_on_one_connection() {
    let plan = TransfersPlan {
        run: 11,
        connections: 2,
        per_connection: 12,
        senders: 8,
        rollups: vec![901, 902],
    };
    let workload = Workload::Transfers(Transfers::sign(&plan).unwrap());
    let mut next_nonce = std::collections::BTreeMap::new();
    let mut home = std::collections::BTreeMap::new();
    for place in 0..2 {
        for index in 0..12 {
            let mut call = Vec::new();
            let key = workload.render(place, index, &mut call).unwrap();
            let (rollup, payload) = read(&call, index);
            let envelope = TxEnvelope::decode_2718_exact(&payload).unwrap();
            let TxEnvelope::Eip1559(signed) = &envelope else {
                panic!("not EIP-1559")
            };
            assert_eq!(signed.tx().chain_id, rollup);
            let sender = envelope.recover_signer().unwrap();
            let nonce = next_nonce.entry(sender).or_insert(0);
            assert_eq!(signed.tx().nonce, *nonce);
            *nonce += 1;
            assert_eq!(*home.entry(sender).or_insert((place, rollup)), (place, rollup));
            assert_eq!(key, key_of(transaction_hash(&payload)));
        }
        let mut nothing = Vec::new();
        assert_eq!(workload.render(place, 12, &mut nothing), None);
    }
    assert_eq!(home.len(), 8);
    let rollups: BTreeSet<u64> = home.values().map(|(_, rollup)| *rollup).collect();
    assert_eq!(rollups.len(), 2, "both rollups are sent to");
}
