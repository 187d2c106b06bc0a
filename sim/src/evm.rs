//! Transactions of `evm` rollups as wallets make them, with idealised signatures.
//!
//! Promises: whoever is named as the signer is recovered from the payload by the production code, and a payload that
//! was changed afterwards recovers to nobody. What it does not promise is secrecy: as with `ed25519/`, whoever knows an
//! address could sign for it, and nobody here does. libsecp256k1 takes 50 µs for what takes less than one here.

use std::sync::Arc;

use alloy_consensus::crypto::RecoveryError;
use alloy_consensus::crypto::backend::{CryptoProvider, install_default_provider};
use alloy_consensus::{EthereumTxEnvelope, SignableTransaction, TxEip1559, TxEip4844, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Bytes, Signature, TxKind, U256, keccak256};
use fusion_types::RollupId;

/// What a user wants to say in a transaction. Fees in wei per gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Draft {
    /// Its chain.
    pub(crate) rollup: RollupId,
    /// Who signs it.
    pub(crate) sender: Address,
    /// Its number among the sender's.
    pub(crate) nonce: u64,
    /// `maxFeePerGas`; the gas price of a legacy transaction.
    pub(crate) max_fee: u128,
    /// `maxPriorityFeePerGas`; none for a legacy transaction.
    pub(crate) tip: Option<u128>,
}

impl Draft {
    /// The signed transaction, EIP-2718 encoded: of type 2, or legacy where it has no tip.
    pub(crate) fn sign(&self) -> Bytes {
        let to = TxKind::Call(self.sender);
        let envelope: EthereumTxEnvelope<TxEip4844> = match self.tip {
            Some(tip) => {
                let unsigned = TxEip1559 {
                    chain_id: self.rollup.0,
                    nonce: self.nonce,
                    gas_limit: 21_000,
                    max_fee_per_gas: self.max_fee,
                    max_priority_fee_per_gas: tip,
                    to,
                    value: U256::from(1),
                    ..TxEip1559::default()
                };
                let signature = signature(self.sender, &unsigned.signature_hash().0);
                unsigned.into_signed(signature).into()
            }
            None => {
                let unsigned = TxLegacy {
                    chain_id: Some(self.rollup.0),
                    nonce: self.nonce,
                    gas_price: self.max_fee,
                    gas_limit: 21_000,
                    to,
                    value: U256::from(1),
                    ..TxLegacy::default()
                };
                let signature = signature(self.sender, &unsigned.signature_hash().0);
                unsigned.into_signed(signature).into()
            }
        };
        envelope.encoded_2718().into()
    }
}

/// The address of a user. Its first byte is not zero, so that it has one length in every encoding.
pub(crate) fn address(number: u64) -> Address {
    let mut address = Address::from_word(keccak256(format!("simulated user {number}")));
    address[0] |= 1;
    address
}

/// From now on signatures of transactions are idealised, everywhere in this process.
pub(crate) fn idealise() {
    // Only the first of many worlds finds none installed, and all of them want the same.
    let _ = install_default_provider(Arc::new(Ideal));
}

/// Signatures that name their signer: `r` is the address, `s` a hash of address and message, below half of the order.
struct Ideal;

fn s_of(sender: Address, message: &[u8; 32]) -> U256 {
    let hash = keccak256([b"simulated secp256k1".as_slice(), sender.as_slice(), message].concat());
    U256::from_be_bytes(hash.0) >> 2
}

fn signature(sender: Address, message: &[u8; 32]) -> Signature {
    Signature::new(U256::from_be_slice(sender.as_slice()), s_of(sender, message), false)
}

impl CryptoProvider for Ideal {
    fn recover_signer_unchecked(&self, signature: &[u8; 65], message: &[u8; 32]) -> Result<Address, RecoveryError> {
        let sender = Address::from_slice(&signature[12..32]);
        let s = U256::from_be_slice(&signature[32..64]);
        let is_whole = signature[..12] == [0; 12] && s == s_of(sender, message);
        is_whole.then_some(sender).ok_or_else(RecoveryError::new)
    }

    fn verify_and_compute_signer_unchecked(
        &self,
        _: &[u8; 65],
        signature: &[u8; 64],
        message: &[u8; 32],
    ) -> Result<Address, RecoveryError> {
        let mut with_parity = [0; 65];
        with_parity[..64].copy_from_slice(signature);
        self.recover_signer_unchecked(&with_parity, message)
    }
}

#[cfg(test)]
mod tests {
    use fusion_sequencer::ingress::admit;
    use fusion_types::{Ordering, RollupConfig, RollupKind};

    use super::*;

    fn draft(tip: Option<u128>) -> Draft {
        Draft {
            rollup: RollupId(9),
            sender: address(3),
            nonce: 300,
            max_fee: 1_000,
            tip,
        }
    }

    #[test]
    fn ingress_finds_the_signer_and_only_in_what_was_signed() {
        idealise();
        let rollup = RollupConfig {
            id: RollupId(9),
            kind: RollupKind::Evm,
            ordering: Ordering::Fcfs,
            weight: 1,
        };
        for tip in [None, Some(70)] {
            let payload = draft(tip).sign();
            let facts = admit(&rollup, payload.clone()).unwrap().evm.unwrap();
            assert_eq!((facts.sender, facts.nonce, facts.max_fee), (address(3), 300, 1_000));
            assert_eq!(facts.tip, tip.unwrap_or(1_000));
            let mut changed = payload.to_vec();
            *changed.last_mut().unwrap() ^= 1;
            assert!(admit(&rollup, changed.into()).is_err());
        }
    }
}
