//! What every simulated network has: validators, their keys, two rollups.

use std::sync::Arc;

use alloy_primitives::{B256, Bytes, keccak256};
use ed25519_dalek::SigningKey;
use fusion_mempool::PoolTransaction;
use fusion_types::{
    Committee, Epoch, Genesis, Ordering, RollupConfig, RollupId, RollupKind, Validator, ValidatorId, transaction_hash,
};

fn key(n: u64) -> SigningKey {
    SigningKey::from_bytes(&keccak256([b"simulated key".as_slice(), &n.to_be_bytes()].concat()).0)
}

/// A network of so many validators, and their keys in its order.
pub(crate) fn genesis(nodes: usize) -> (Arc<Genesis>, Vec<SigningKey>) {
    let mut keys: Vec<SigningKey> = (0..nodes as u64).map(key).collect();
    keys.sort_by_key(|key| key.verifying_key().to_bytes());
    let validator = |(n, key): (usize, &SigningKey)| Validator {
        id: ValidatorId(B256::from(key.verifying_key().to_bytes())),
        peer: B256::with_last_byte(u8::try_from(n + 1).expect("few nodes")),
        power: 1,
    };
    let committee = Committee::new(Epoch(0), keys.iter().enumerate().map(validator).collect()).expect("a committee");
    let rollup = |id: u64| RollupConfig {
        id: RollupId(id),
        kind: RollupKind::Opaque,
        ordering: Ordering::Fcfs,
        weight: 1,
    };
    let genesis = Genesis::new("simulation".into(), 1_000, committee, vec![rollup(7), rollup(8)]).expect("a genesis");
    (Arc::new(genesis), keys)
}

/// A transaction as a node takes it in.
pub(crate) fn transaction(rollup: RollupId, payload: Bytes) -> PoolTransaction {
    PoolTransaction {
        rollup,
        hash: transaction_hash(&payload),
        payload,
        evm: None,
    }
}
