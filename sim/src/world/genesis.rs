//! What all simulated nodes agree on before the first block: a committee, and rollups of every kind and order.

use std::sync::Arc;

use alloy_primitives::{B256, keccak256};
use ed25519_dalek::SigningKey;
use fusion_types::{Committee, Epoch, Genesis, Ordering, RollupConfig, RollupId, RollupKind, Validator, ValidatorId};

use super::l1;

/// Rollups of kind `opaque`.
pub(super) const OPAQUE_ROLLUPS: [u64; 2] = [7, 8];

/// Rollups of kind `evm`, and whether their lanes are ordered by tip.
pub(super) const EVM_ROLLUPS: [(u64, bool); 2] = [(9, false), (10, true)];

/// The genesis of `validators` of equal power, which settles on the simulated L1 or on none, and their keys in the
/// committee's order.
pub(super) fn genesis(validators: usize, settles: bool) -> (Arc<Genesis>, Vec<SigningKey>) {
    let key = |n: usize| SigningKey::from_bytes(&keccak256(format!("simulated key {n}")).0);
    let mut keys: Vec<SigningKey> = (0..validators).map(key).collect();
    keys.sort_by_key(|key| key.verifying_key().to_bytes());
    let validator = |(n, key): (usize, &SigningKey)| Validator {
        id: ValidatorId(B256::from(key.verifying_key().to_bytes())),
        peer: keccak256(format!("simulated peer {n}")),
        power: 1,
    };
    let committee = Committee::new(Epoch(0), keys.iter().enumerate().map(validator).collect()).expect("a committee");
    let rollup = |id: u64, kind: RollupKind, by_tip: bool| RollupConfig {
        id: RollupId(id),
        kind,
        ordering: if by_tip { Ordering::Priority } else { Ordering::Fcfs },
        weight: 1,
    };
    let opaque = OPAQUE_ROLLUPS.map(|id| rollup(id, RollupKind::Opaque, false));
    let evm = EVM_ROLLUPS.map(|(id, by_tip)| rollup(id, RollupKind::Evm, by_tip));
    let rollups = [opaque, evm].concat();
    let genesis = Genesis::new("simulation".into(), 1_000, committee, rollups).expect("a genesis");
    let genesis = if settles {
        genesis.settling(l1::rules()).expect("rules that can be kept")
    } else {
        genesis
    };
    (Arc::new(genesis), keys)
}
