//! Transactions and contracts of the scenarios.

use alloy_consensus::{EthereumTxEnvelope, SignableTransaction, TxEip1559, TxEip4844, TxEip4844WithSidecar};
use alloy_eips::eip2718::Encodable2718;
use alloy_eips::eip4844::builder::{SidecarBuilder, SimpleCoder};
use alloy_eips::eip7594::{BlobTransactionSidecarEip7594, BlobTransactionSidecarVariant};
use alloy_primitives::{Address, Bytes, TxKind, U256};
use alloy_signer::SignerSync;
use fusion_evm::params;

use crate::node::key;

pub(crate) const GWEI: u128 = 1_000_000_000;

/// Stores the first word of its input in slot 0, and logs it with the topic 0x…2a: CALLDATALOAD, SSTORE, MSTORE, LOG1.
pub(crate) const STORE_AND_LOG: &[u8] = &[
    0x5f, 0x35, 0x80, 0x5f, 0x55, 0x5f, 0x52, 0x60, 0x2a, 0x60, 0x20, 0x5f, 0xa1, 0x00,
];

/// INVALID: it takes all gas that it is given.
pub(crate) const BURN: &[u8] = &[0xfe];

/// Reverts with `Error("no")`: CODECOPY of what follows, REVERT.
pub(crate) fn reverts_with_no() -> Vec<u8> {
    let mut error = vec![0x08, 0xc3, 0x79, 0xa0];
    error.extend(U256::from(32).to_be_bytes::<32>());
    error.extend(U256::from(2).to_be_bytes::<32>());
    error.extend(b"no".iter().chain(&[0; 30]));
    let mut code = vec![0x60, 100, 0x60, 10, 0x5f, 0x39, 0x60, 100, 0x5f, 0xfd];
    code.extend(error);
    code
}

/// Code that creates a contract of `code`: PUSH1 length, DUP1, PUSH1 9, PUSH0, CODECOPY, PUSH0, RETURN.
pub(crate) fn creation(code: &[u8]) -> Bytes {
    let mut creation = vec![
        0x60,
        u8::try_from(code.len()).unwrap(),
        0x80,
        0x60,
        9,
        0x5f,
        0x39,
        0x5f,
        0xf3,
    ];
    creation.extend(code);
    creation.into()
}

/// An EIP-1559 transaction of one wei to nobody, to be changed and signed.
pub(crate) fn plain(nonce: u64) -> TxEip1559 {
    TxEip1559 {
        chain_id: params::CHAIN_ID,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 20 * GWEI,
        max_priority_fee_per_gas: GWEI,
        to: TxKind::Call(Address::repeat_byte(0xaa)),
        value: U256::from(1),
        ..TxEip1559::default()
    }
}

/// Its bytes, signed by a developer account.
pub(crate) fn sign(account: usize, transaction: TxEip1559) -> Bytes {
    let signature = key(account).sign_hash_sync(&transaction.signature_hash()).unwrap();
    let envelope: EthereumTxEnvelope<TxEip4844> = transaction.into_signed(signature).into();
    envelope.encoded_2718().into()
}

/// A sidecar that carries `data`, with cell proofs.
pub(crate) async fn sidecar(data: &[u8]) -> BlobTransactionSidecarEip7594 {
    let builder = SidecarBuilder::<SimpleCoder>::from_slice(data);
    let build = || {
        builder
            .build_7594_with_settings(c_kzg::ethereum_kzg_settings(0))
            .unwrap()
    };
    tokio::task::spawn_blocking(build).await.unwrap()
}

/// A blob transaction for a sidecar, to be changed and signed.
pub(crate) fn blob(nonce: u64, sidecar: &BlobTransactionSidecarEip7594) -> TxEip4844 {
    TxEip4844 {
        chain_id: params::CHAIN_ID,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10 * GWEI,
        max_priority_fee_per_gas: GWEI,
        max_fee_per_blob_gas: GWEI,
        blob_versioned_hashes: sidecar.versioned_hashes().collect(),
        to: Address::repeat_byte(0xbb),
        ..TxEip4844::default()
    }
}

/// Its bytes with the sidecar, signed by a developer account.
pub(crate) fn sign_blob(
    account: usize,
    transaction: TxEip4844,
    sidecar: impl Into<BlobTransactionSidecarVariant>,
) -> Bytes {
    let signature = key(account).sign_hash_sync(&transaction.signature_hash()).unwrap();
    let sidecar = sidecar.into();
    let signed = transaction.into_signed(signature);
    let signed = signed.map(|transaction| transaction.with_sidecar(sidecar));
    let envelope: EthereumTxEnvelope<TxEip4844WithSidecar<BlobTransactionSidecarVariant>> = signed.into();
    envelope.encoded_2718().into()
}
