//! Transactions for tests: signed by the developer accounts, with sidecars that nobody verified.

use std::sync::Arc;

use alloy_consensus::transaction::Recovered;
use alloy_consensus::{EthereumTxEnvelope, SignableTransaction, TxEip1559, TxEip4844, TxEip7702};
use alloy_eips::eip4844::Blob;
use alloy_eips::eip7594::BlobTransactionSidecarEip7594;
use alloy_eips::eip7702::{Authorization, SignedAuthorization};
use alloy_primitives::{Address, B256, Bytes, FixedBytes, TxKind, U256};
use alloy_signer_local::PrivateKeySigner;

use crate::chain::{Chain, ChainConfig, Executed, Transaction};
use crate::{BlockInput, L1, L1Config, Refusal, Submission, params};

pub(crate) const GWEI: u128 = 1_000_000_000;

/// When the chains of tests begin, in seconds.
pub(crate) const GENESIS: u64 = 1_800_000_000;

/// A transaction to be signed.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    /// Which of the developer accounts signs it.
    pub(crate) sender: usize,
    pub(crate) nonce: u64,
    pub(crate) fee: u128,
    pub(crate) tip: u128,
    pub(crate) blob_fee: u128,
    pub(crate) blobs: u8,
    pub(crate) gas: u64,
    pub(crate) kind: TxKind,
    pub(crate) value: U256,
    pub(crate) data: Bytes,
    pub(crate) chain_id: u64,
    /// Developer accounts that set their code to that of the address `0xde…de` (EIP-7702), and their nonces.
    pub(crate) authorities: Vec<(usize, u64)>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            sender: 0,
            nonce: 0,
            fee: 100 * GWEI,
            tip: GWEI,
            blob_fee: GWEI,
            blobs: 0,
            gas: 21_000,
            kind: TxKind::Call(Address::repeat_byte(0xaa)),
            value: U256::from(1),
            data: Bytes::new(),
            chain_id: params::CHAIN_ID,
            authorities: Vec::new(),
        }
    }
}

impl Draft {
    pub(crate) fn transaction(&self) -> Transaction {
        let envelope = if self.blobs > 0 {
            let sidecar = self.sidecar();
            self.sign(TxEip4844 {
                chain_id: self.chain_id,
                nonce: self.nonce,
                gas_limit: self.gas,
                max_fee_per_gas: self.fee,
                max_priority_fee_per_gas: self.tip,
                to: self.kind.to().copied().unwrap_or_default(),
                value: self.value,
                input: self.data.clone(),
                blob_versioned_hashes: sidecar.versioned_hashes().collect(),
                max_fee_per_blob_gas: self.blob_fee,
                ..TxEip4844::default()
            })
        } else if !self.authorities.is_empty() {
            self.sign(TxEip7702 {
                chain_id: self.chain_id,
                nonce: self.nonce,
                gas_limit: self.gas,
                max_fee_per_gas: self.fee,
                max_priority_fee_per_gas: self.tip,
                to: self.kind.to().copied().unwrap_or_default(),
                value: self.value,
                input: self.data.clone(),
                authorization_list: self.authorities.iter().map(|by| self.authorization(*by)).collect(),
                ..TxEip7702::default()
            })
        } else {
            self.sign(TxEip1559 {
                chain_id: self.chain_id,
                nonce: self.nonce,
                gas_limit: self.gas,
                max_fee_per_gas: self.fee,
                max_priority_fee_per_gas: self.tip,
                to: self.kind,
                value: self.value,
                input: self.data.clone(),
                ..TxEip1559::default()
            })
        };
        Recovered::new_unchecked(envelope, account(self.sender))
    }

    pub(crate) fn submission(&self) -> Submission {
        let transaction = self.transaction();
        let sidecar = (self.blobs > 0).then(|| Arc::new(self.sidecar()));
        let bytes = transaction.eip2718_encoded_length() + usize::from(self.blobs) * 140_000;
        Submission::new(transaction, sidecar, bytes)
    }

    /// Blobs that differ by sender and nonce, with commitments that are none.
    fn sidecar(&self) -> BlobTransactionSidecarEip7594 {
        let commitment = |index: u8| {
            let seed = [
                u8::try_from(self.sender).unwrap(),
                u8::try_from(self.nonce % 256).unwrap(),
                index,
            ];
            let mut commitment = FixedBytes::<48>::ZERO;
            commitment[..3].copy_from_slice(&seed);
            commitment
        };
        let commitments: Vec<_> = (0..self.blobs).map(commitment).collect();
        let blobs = vec![Blob::ZERO; commitments.len()];
        BlobTransactionSidecarEip7594::new(blobs, commitments, Vec::new())
    }

    fn authorization(&self, (by, nonce): (usize, u64)) -> SignedAuthorization {
        let authorization = Authorization {
            chain_id: U256::from(self.chain_id),
            address: Address::repeat_byte(0xde),
            nonce,
        };
        let signature = sign_hash(by, &authorization.signature_hash());
        authorization.into_signed(signature)
    }

    fn sign<T>(&self, transaction: T) -> EthereumTxEnvelope<TxEip4844>
    where
        T: SignableTransaction<alloy_primitives::Signature>,
        EthereumTxEnvelope<TxEip4844>: From<alloy_consensus::Signed<T>>,
    {
        let hash = transaction.signature_hash();
        let signature = sign_hash(self.sender, &hash);
        transaction.into_signed(signature).into()
    }
}

/// The address of a developer account.
pub(crate) fn account(index: usize) -> Address {
    params::DEV_ACCOUNTS[index].0
}

/// Its signature over a hash.
pub(crate) fn sign_hash(index: usize, hash: &B256) -> alloy_primitives::Signature {
    use alloy_signer::SignerSync;
    let key: PrivateKeySigner = params::DEV_ACCOUNTS[index].1.parse().unwrap();
    key.sign_hash_sync(hash).unwrap()
}

/// A chain of the developer accounts.
pub(crate) fn chain() -> Chain {
    Chain::new(ChainConfig::dev(params::CHAIN_ID, GENESIS))
}

/// Executes a block with these transactions, a second after the last.
pub(crate) fn block(chain: &mut Chain, drafts: &[Draft]) -> Executed {
    chain.execute(BlockInput {
        timestamp: chain.head().header.timestamp + 1,
        transactions: drafts.iter().map(Draft::transaction).collect(),
        ..BlockInput::default()
    })
}

/// Code that returns `code` when it is executed to create a contract.
pub(crate) fn creation(code: &[u8]) -> Bytes {
    let length = u8::try_from(code.len()).unwrap();
    // PUSH1 length, DUP1, PUSH1 9, PUSH0, CODECOPY, PUSH0, RETURN, and then the code.
    let mut creation = vec![0x60, length, 0x80, 0x60, 0x09, 0x5f, 0x39, 0x5f, 0xf3];
    creation.extend(code);
    creation.into()
}

/// An L1 that mines only when it is told to.
pub(crate) fn stopped() -> L1 {
    let mut l1 = L1::new(L1Config::dev(GENESIS));
    l1.set_mining(false, GENESIS);
    l1
}

/// An L1 that mines what arrives.
pub(crate) fn at_once() -> L1 {
    L1::new(L1Config::dev(GENESIS))
}

/// Offers a transaction at the genesis time.
pub(crate) fn submit(l1: &mut L1, draft: &Draft) -> Result<B256, Refusal> {
    l1.submit(draft.submission(), GENESIS)
}

/// A transaction of one blob by the first account.
pub(crate) fn blob(nonce: u64) -> Draft {
    Draft {
        nonce,
        blobs: 1,
        ..Draft::default()
    }
}

/// A transfer by the first account.
pub(crate) fn plain(nonce: u64) -> Draft {
    Draft {
        nonce,
        ..Draft::default()
    }
}
