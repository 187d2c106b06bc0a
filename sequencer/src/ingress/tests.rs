//! Tests of this room's promises.

use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_consensus::{SignableTransaction, TxEip1559, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{B256, Signature, TxKind, U256, address, b256};
use fusion_types::{Ordering, RollupId};
use proptest::prelude::*;

use super::*;

/// The first account of every Ethereum development tool.
const KEY: B256 = b256!("0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
const SENDER: Address = address!("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");

/// Order of secp256k1, half of which a signature's s may not exceed (EIP-2).
const ORDER: U256 = U256::from_limbs([
    0xbfd2_5e8c_d036_4141,
    0xbaae_dce6_af48_a03b,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
]);

fn rollup(kind: RollupKind) -> RollupConfig {
    RollupConfig {
        id: RollupId(901),
        kind,
        ordering: Ordering::Fcfs,
        weight: 1,
    }
}

fn transfer() -> TxEip1559 {
    TxEip1559 {
        chain_id: 901,
        nonce: 7,
        gas_limit: GAS_MIN,
        max_fee_per_gas: 30,
        max_priority_fee_per_gas: 2,
        to: TxKind::Call(Address::repeat_byte(1)),
        value: U256::from(1),
        ..Default::default()
    }
}

fn signature(transaction: &TxEip1559) -> Signature {
    sign_message(KEY, transaction.signature_hash()).unwrap()
}

fn signed(transaction: TxEip1559) -> Bytes {
    let signature = signature(&transaction);
    transaction.into_signed(signature).encoded_2718().into()
}

fn refused(transaction: TxEip1559) -> Reject {
    admit(&rollup(RollupKind::Evm), signed(transaction)).unwrap_err()
}

#[test]
fn a_signed_transfer_gives_its_facts_and_the_hash_that_ethereum_tools_print() {
    let transaction = transfer();
    let signature = signature(&transaction);
    let expected = *transaction.clone().into_signed(signature).hash();
    let admitted = admit(&rollup(RollupKind::Evm), signed(transaction)).unwrap();
    assert_eq!(admitted.hash, expected);
    let facts = EvmFacts {
        sender: SENDER,
        nonce: 7,
        max_fee: 30,
        tip: 2,
    };
    assert_eq!(admitted.evm, Some(facts));
}

#[test]
fn a_legacy_transaction_needs_a_chain_id_and_pays_its_gas_price() {
    let mut legacy = TxLegacy {
        chain_id: Some(901),
        nonce: 0,
        gas_price: 5,
        gas_limit: GAS_MIN,
        to: TxKind::Call(Address::ZERO),
        ..Default::default()
    };
    let sign = |legacy: &TxLegacy| -> Bytes {
        let signature = sign_message(KEY, legacy.signature_hash()).unwrap();
        legacy.clone().into_signed(signature).encoded_2718().into()
    };
    let facts = admit(&rollup(RollupKind::Evm), sign(&legacy)).unwrap().evm.unwrap();
    assert_eq!((facts.sender, facts.max_fee, facts.tip), (SENDER, 5, 5));
    legacy.chain_id = None;
    assert!(matches!(
        admit(&rollup(RollupKind::Evm), sign(&legacy)),
        Err(Reject::ChainId { given: None, .. })
    ));
}

#[test]
fn what_breaks_a_bound_is_refused_with_its_numbers() {
    let mut other_chain = transfer();
    other_chain.chain_id = 902;
    assert!(matches!(refused(other_chain), Reject::ChainId { given: Some(902), .. }));
    let mut gas = transfer();
    gas.gas_limit = GAS_MIN - 1;
    assert!(matches!(refused(gas.clone()), Reject::GasTooLow { gas: 20_999, .. }));
    gas.gas_limit = GAS_MAX + 1;
    assert!(matches!(
        refused(gas.clone()),
        Reject::GasTooHigh { gas: 30_000_001, .. }
    ));
    gas.gas_limit = GAS_MAX;
    assert!(admit(&rollup(RollupKind::Evm), signed(gas)).is_ok());
    let mut tip = transfer();
    tip.max_priority_fee_per_gas = 31;
    assert!(refused(tip).to_string().contains("31 > 30"));
    let mut nonce = transfer();
    nonce.nonce = u64::MAX;
    assert_eq!(refused(nonce), Reject::NonceMax(u64::MAX));
}

#[test]
fn a_signature_of_high_s_is_refused() {
    let transaction = transfer();
    let low = signature(&transaction);
    let high = Signature::new(low.r(), ORDER - low.s(), !low.v());
    let payload = transaction.into_signed(high).encoded_2718().into();
    assert!(matches!(
        admit(&rollup(RollupKind::Evm), payload),
        Err(Reject::InvalidSender(_))
    ));
}

#[test]
fn blobs_unknown_types_and_trailing_bytes_are_refused() {
    let evm = rollup(RollupKind::Evm);
    for kind in [0, 3, 5, 0x7e, 0x7f] {
        let mut payload = signed(transfer()).to_vec();
        payload[0] = kind;
        assert_eq!(admit(&evm, payload.into()), Err(Reject::TypeUnsupported(kind)));
    }
    let mut payload = signed(transfer()).to_vec();
    payload.push(0);
    assert!(matches!(admit(&evm, payload.into()), Err(Reject::Malformed(_))));
    let cut = signed(transfer()).slice(..60);
    assert!(matches!(admit(&evm, cut), Err(Reject::Malformed(_))));
}

#[test]
fn opaque_payloads_have_one_byte_to_the_limit() {
    let opaque = rollup(RollupKind::Opaque);
    assert_eq!(admit(&opaque, Bytes::new()), Err(Reject::Empty));
    for size in [1, TRANSACTION_BYTES_MAX] {
        let admitted = admit(&opaque, vec![7; size].into()).unwrap();
        assert_eq!(admitted.evm, None);
        assert_eq!(admitted.hash, transaction_hash(&vec![7; size]));
    }
    let bytes = TRANSACTION_BYTES_MAX + 1;
    assert_eq!(admit(&opaque, vec![7; bytes].into()), Err(Reject::TooLarge { bytes }));
}

#[test]
fn a_member_is_believed_on_the_sender_but_not_on_the_rest() {
    let evm = rollup(RollupKind::Evm);
    let claimed = Address::repeat_byte(0xaa);
    let admitted = facts_without_signature(&evm, signed(transfer()), Some(claimed)).unwrap();
    assert_eq!(admitted.evm.unwrap().sender, claimed);
    let recovered = facts_without_signature(&evm, signed(transfer()), None).unwrap();
    assert_eq!(recovered.evm.unwrap().sender, SENDER);
    let mut gas = transfer();
    gas.gas_limit = 1;
    assert!(facts_without_signature(&evm, signed(gas), Some(claimed)).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = admit(&rollup(RollupKind::Evm), bytes.into());
    }

    #[test]
    fn no_change_of_a_signed_transaction_makes_it_panic_or_keeps_its_hash(at in 0_usize..110, byte: u8) {
        let mut payload = signed(transfer()).to_vec();
        let at = at % payload.len();
        let changed = payload[at] != byte;
        payload[at] = byte;
        if let Ok(admitted) = admit(&rollup(RollupKind::Evm), payload.into()) {
            prop_assert_eq!(changed, admitted.hash != transaction_hash(&signed(transfer())));
        }
    }
}
