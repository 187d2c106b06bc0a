//! From a user's bytes to a transaction that the pool may take, or the reason why not.
//!
//! Pure. The one place where an `evm` payload is decoded and its signature recovered: whatever comes later believes the
//! facts found here. What it promises: a transaction that passes is signed for its rollup (EIP-155), by a signature of
//! low s (EIP-2), asks for gas that a block can have, and pays a tip within its fee. What it leaves to others: nonces,
//! fees against others, and room (`fusion-mempool`); balances and execution (the rollup).

use alloy_consensus::transaction::{SignerRecoverable, Transaction};
use alloy_consensus::{EthereumTxEnvelope, TxEip4844};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, Bytes};
use fusion_mempool::{EvmFacts, PoolTransaction, Reject};
use fusion_types::limits::TRANSACTION_BYTES_MAX;
use fusion_types::{RollupConfig, RollupKind, transaction_hash};

/// Gas that every transaction costs. Source: Ethereum yellow paper, appendix G, `G_transaction`.
pub const GAS_MIN: u64 = 21_000;

/// Most gas that one transaction may ask for: a block of the smallest rollups in use.
pub const GAS_MAX: u64 = 30_000_000;

/// EIP-2718 types that are ordered beside legacy ones: access lists, dynamic fees, set code. Not blobs (3): they belong
/// to L1.
const TYPES: [u8; 3] = [1, 2, 4];

type Envelope = EthereumTxEnvelope<TxEip4844>;

/// Checks what a user submitted, its signature included.
///
/// # Errors
/// The [`Reject`] that the user gets.
pub fn admit(rollup: &RollupConfig, payload: Bytes) -> Result<PoolTransaction, Reject> {
    take(rollup, payload, None)
}

/// Checks what a committee member forwarded. Its word on the sender is believed, because a wrong one only disorders
/// the pool; without its word, and for everybody else, the signature is recovered.
///
/// # Errors
/// The [`Reject`] that a user would get.
pub fn facts_without_signature(
    rollup: &RollupConfig,
    payload: Bytes,
    sender: Option<Address>,
) -> Result<PoolTransaction, Reject> {
    take(rollup, payload, sender)
}

fn take(rollup: &RollupConfig, payload: Bytes, sender: Option<Address>) -> Result<PoolTransaction, Reject> {
    if payload.is_empty() {
        return Err(Reject::Empty);
    }
    if payload.len() > TRANSACTION_BYTES_MAX {
        return Err(Reject::TooLarge { bytes: payload.len() });
    }
    let evm = match rollup.kind {
        RollupKind::Opaque => None,
        RollupKind::Evm => Some(facts(rollup, &payload, sender)?),
    };
    Ok(PoolTransaction {
        rollup: rollup.id,
        hash: transaction_hash(&payload),
        payload,
        evm,
    })
}

/// Decodes an EIP-2718 transaction. The cheap checks come first, the signature last.
fn facts(rollup: &RollupConfig, payload: &[u8], sender: Option<Address>) -> Result<EvmFacts, Reject> {
    let kind = *payload.first().ok_or(Reject::Empty)?;
    // EIP-2718: a first byte up to 0x7f is a type, from 0xc0 on a legacy transaction's RLP list.
    if kind <= 0x7f && !TYPES.contains(&kind) {
        return Err(Reject::TypeUnsupported(kind));
    }
    let transaction = Envelope::decode_2718_exact(payload).map_err(|error| Reject::Malformed(error.to_string()))?;
    if transaction.chain_id() != Some(rollup.id.0) {
        return Err(Reject::ChainId {
            given: transaction.chain_id(),
            expected: rollup.id,
        });
    }
    let gas = transaction.gas_limit();
    if gas < GAS_MIN {
        return Err(Reject::GasTooLow { gas, minimum: GAS_MIN });
    }
    if gas > GAS_MAX {
        return Err(Reject::GasTooHigh { gas, maximum: GAS_MAX });
    }
    let max_fee = transaction.max_fee_per_gas();
    let tip = transaction.max_priority_fee_per_gas().unwrap_or(max_fee);
    if tip > max_fee {
        return Err(Reject::Malformed(format!(
            "max priority fee per gas higher than max fee per gas: {tip} > {max_fee}"
        )));
    }
    let nonce = transaction.nonce();
    if nonce == u64::MAX {
        return Err(Reject::NonceMax(nonce));
    }
    let sender = match sender {
        Some(sender) => sender,
        None => transaction
            .recover_signer()
            .map_err(|_| Reject::InvalidSender("the signature does not recover to an address".to_owned()))?,
    };
    Ok(EvmFacts {
        sender,
        nonce,
        max_fee,
        tip,
    })
}

#[cfg(test)]
mod tests;
