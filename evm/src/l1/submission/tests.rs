//! What can be said against a transaction without a state, and that no bytes panic.

use alloy_consensus::{SignableTransaction, TxEip4844WithSidecar, TxLegacy};
use alloy_eips::eip4844::builder::{SidecarBuilder, SimpleCoder};
use alloy_primitives::{Address, Bytes, TxKind};
use proptest::prelude::*;

use super::*;
use crate::fixture::{Draft, GENESIS, GWEI, sign_hash};
use crate::{L1, L1Config};

fn blob() -> Draft {
    Draft {
        blobs: 1,
        ..Draft::default()
    }
}

/// A sidecar of one blob with its proofs, computed once.
fn real_sidecar() -> BlobTransactionSidecarEip7594 {
    static SIDECAR: std::sync::OnceLock<BlobTransactionSidecarEip7594> = std::sync::OnceLock::new();
    let build = || {
        let builder = SidecarBuilder::<SimpleCoder>::from_slice(b"a blob of a test");
        builder
            .build_7594_with_settings(c_kzg::ethereum_kzg_settings(0))
            .unwrap()
    };
    SIDECAR.get_or_init(build).clone()
}

/// A blob transaction with a real sidecar, as bytes, its sidecar changed by `change`.
fn raw_blob_transaction(change: impl FnOnce(BlobTransactionSidecarEip7594) -> BlobTransactionSidecarVariant) -> Bytes {
    let sidecar = real_sidecar();
    let transaction = TxEip4844 {
        chain_id: params::CHAIN_ID,
        gas_limit: 21_000,
        max_fee_per_gas: 10 * GWEI,
        max_priority_fee_per_gas: GWEI,
        max_fee_per_blob_gas: GWEI,
        blob_versioned_hashes: sidecar.versioned_hashes().collect(),
        ..TxEip4844::default()
    };
    let signature = sign_hash(0, &transaction.signature_hash());
    let signed = transaction.into_signed(signature);
    let sidecar = change(sidecar);
    let signed = signed.map(|transaction| transaction.with_sidecar(sidecar));
    let envelope: EthereumTxEnvelope<TxEip4844WithSidecar<BlobTransactionSidecarVariant>> = signed.into();
    envelope.encoded_2718().into()
}

#[test]
fn a_sidecar_must_have_valid_cell_proofs_in_the_version_of_osaka() {
    let decode = |raw: &[u8]| Submission::decode(raw, params::CHAIN_ID).map(|submission| submission.sidecar);
    let sound = raw_blob_transaction(BlobTransactionSidecarVariant::Eip7594);
    assert_eq!(decode(&sound).unwrap().unwrap().blobs.len(), 1);

    let old = raw_blob_transaction(|sidecar| {
        BlobTransactionSidecarVariant::Eip4844(alloy_eips::eip4844::BlobTransactionSidecar {
            blobs: sidecar.blobs,
            commitments: sidecar.commitments,
            proofs: vec![sidecar.cell_proofs[0]],
        })
    });
    assert_eq!(
        decode(&old).unwrap_err().to_string(),
        "unexpected eip-4844 sidecar after osaka"
    );
    let swapped = raw_blob_transaction(|mut sidecar| {
        sidecar.cell_proofs.swap(0, 1);
        BlobTransactionSidecarVariant::Eip7594(sidecar)
    });
    assert!(matches!(decode(&swapped), Err(Refusal::Kzg(_))));
    let other_blob = raw_blob_transaction(|mut sidecar| {
        sidecar.blobs[0].0[40] ^= 1;
        BlobTransactionSidecarVariant::Eip7594(sidecar)
    });
    assert!(matches!(decode(&other_blob), Err(Refusal::Kzg(_))));
    let short = raw_blob_transaction(|mut sidecar| {
        sidecar.cell_proofs.pop();
        BlobTransactionSidecarVariant::Eip7594(sidecar)
    });
    assert_eq!(
        decode(&short).unwrap_err().to_string(),
        "invalid number of 127 blob proofs expected 128"
    );
}

#[test]
fn a_blob_transaction_without_its_sidecar_is_refused() {
    let raw = blob().transaction().inner().encoded_2718();
    let refusal = Submission::decode(&raw, params::CHAIN_ID).unwrap_err();
    assert_eq!(refusal, Refusal::MissingSidecar);
}

#[test]
fn seven_blobs_are_one_too_many() {
    let mut draft = blob();
    draft.blobs = 7;
    let submission = draft.submission();
    let sidecar = Arc::unwrap_or_clone(submission.sidecar.unwrap());
    let with_sidecar = submission
        .transaction
        .into_inner()
        .map_eip4844(|transaction| transaction.with_sidecar(sidecar.clone()));
    let refusal = Submission::decode(&with_sidecar.encoded_2718(), params::CHAIN_ID).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "too many blobs in transaction: have 7, permitted 6"
    );
}

#[test]
fn what_is_wrong_with_a_transaction_alone_is_refused_before_the_state_is_asked() {
    let refuse = |draft: Draft| {
        let raw = draft.transaction().inner().encoded_2718();
        Submission::decode(&raw, params::CHAIN_ID).unwrap_err().to_string()
    };
    let base = Draft::default;
    assert_eq!(
        refuse(Draft { chain_id: 1, ..base() }),
        "invalid chain id for signer: have 1 want 1337"
    );
    assert_eq!(
        refuse(Draft {
            fee: 1,
            tip: 2,
            ..base()
        }),
        "max priority fee per gas higher than max fee per gas: tip 2, fee 1"
    );
    assert_eq!(
        refuse(Draft { tip: 0, ..base() }),
        "transaction gas price below minimum: gas tip cap 0, minimum needed 1"
    );
    assert_eq!(
        refuse(Draft {
            gas: 16_777_217,
            fee: GWEI,
            ..base()
        }),
        "transaction gas limit too high (cap: 16777216, tx: 16777217)"
    );
    assert_eq!(
        refuse(Draft {
            gas: 16_777_216,
            fee: 1000 * GWEI,
            ..base()
        }),
        "tx fee (16.78 ether) exceeds the configured cap (1.00 ether)"
    );
    let large = refuse(Draft {
        data: vec![0; 131_072].into(),
        ..base()
    });
    assert!(large.starts_with("oversized data: transaction size"), "{large}");
    let unprotected = TxLegacy {
        gas_limit: 21_000,
        gas_price: 10 * GWEI,
        to: TxKind::Call(Address::ZERO),
        ..TxLegacy::default()
    };
    let signature = sign_hash(0, &unprotected.signature_hash());
    let envelope: EthereumTxEnvelope<TxEip4844> = unprotected.into_signed(signature).into();
    assert_eq!(
        Submission::decode(&envelope.encoded_2718(), params::CHAIN_ID).unwrap_err(),
        Refusal::Unprotected
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_panic_the_decoder(raw in prop::collection::vec(any::<u8>(), 0..400), kind in 0_u8..6) {
        let mut typed = vec![kind];
        typed.extend(&raw);
        prop_assert!(Submission::decode(&raw, 1).is_err());
        prop_assert!(Submission::decode(&typed, 1).is_err());
    }

    #[test]
    fn no_damage_to_a_transaction_panics_the_decoder(place in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<bool>()) {
        let mut raw = Draft::default().transaction().inner().encoded_2718();
        let at = place.index(raw.len());
        if cut {
            raw.truncate(at);
        } else {
            raw[at] = with;
        }
        if let Ok(submission) = Submission::decode(&raw, params::CHAIN_ID) {
            let mut l1 = L1::new(L1Config::dev(GENESIS));
            let _ = l1.submit(submission, GENESIS);
            l1.mine(GENESIS);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The transaction comes first, its sidecar after it: damage behind its 300 bytes is damage to what the proofs are about.
    #[test]
    fn no_damage_to_a_sidecar_passes(place in any::<prop::sample::Index>(), with in 1..=u8::MAX) {
        let mut raw = raw_blob_transaction(BlobTransactionSidecarVariant::Eip7594).to_vec();
        let at = 300 + place.index(raw.len() - 300);
        raw[at] ^= with;
        prop_assert!(Submission::decode(&raw, params::CHAIN_ID).is_err(), "byte {at}");
    }
}
