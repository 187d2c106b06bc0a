//! The account that deploys: its transactions one after another, mined before the next step begins.

use std::time::Duration;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::BlockId;
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use alloy_rpc_types_eth::TransactionRequest;

use super::DeployError;
use crate::l1::{Endpoint, EndpointError, L1Key};

/// Transactions that wait for a block at a time: nodes promise an account room for 16.
const PENDING_MAX: usize = 16;

/// Milliseconds between two looks for a receipt.
const POLL_MS: u64 = 200;

/// Seconds until a transaction is given up: fifty slots.
const MINED_S: u64 = 600;

/// Percent of the estimated gas that a transaction may take: others change what it meets.
const GAS_PERCENT: u64 = 130;

/// Most gas of a transaction. Source: EIP-7825.
const GAS_MAX: u64 = 1 << 24;

/// A transaction before it has a nonce and fees.
#[derive(Debug, Clone)]
pub(super) struct Request {
    to: TxKind,
    data: Bytes,
    value: U256,
}

impl Request {
    pub(super) fn create(code: &Bytes, arguments: &[u8]) -> Self {
        Self {
            to: TxKind::Create,
            data: [code, arguments].concat().into(),
            value: U256::ZERO,
        }
    }

    pub(super) fn call(to: Address, data: &[u8]) -> Self {
        Self {
            to: TxKind::Call(to),
            data: Bytes::copy_from_slice(data),
            value: U256::ZERO,
        }
    }

    pub(super) fn with_value(mut self, value: U256) -> Self {
        self.value = value;
        self
    }
}

/// A contract that was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Created {
    pub(super) address: Address,
    pub(super) block: u64,
}

/// A transaction that was mined and did not fail.
struct Mined {
    created: Option<Address>,
    block: u64,
}

/// See the [module](self).
pub(super) struct Owner<'a> {
    endpoint: &'a Endpoint,
    key: &'a L1Key,
    chain_id: u64,
    nonce: u64,
    mined: usize,
    of: usize,
    progress: &'a mut (dyn FnMut(usize, usize) + Send),
}

impl<'a> Owner<'a> {
    pub(super) async fn start(
        endpoint: &'a Endpoint,
        key: &'a L1Key,
        of: usize,
        progress: &'a mut (dyn FnMut(usize, usize) + Send),
    ) -> Result<Self, DeployError> {
        let failed = |error| DeployError::Endpoint {
            step: "asking for the chain",
            error,
        };
        let chain_id = endpoint.chain_id().await.map_err(failed)?;
        let nonce = endpoint.transaction_count(key.address(), BlockId::pending()).await;
        progress(0, of);
        Ok(Self {
            endpoint,
            key,
            chain_id,
            nonce: nonce.map_err(failed)?,
            mined: 0,
            of,
            progress,
        })
    }

    pub(super) const fn endpoint(&self) -> &Endpoint {
        self.endpoint
    }

    pub(super) const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    pub(super) const fn address(&self) -> Address {
        self.key.address()
    }

    /// Deploys contracts, and returns where they are in the order of `requests`.
    pub(super) async fn deploy(
        &mut self,
        step: &'static str,
        requests: Vec<Request>,
    ) -> Result<Vec<Created>, DeployError> {
        let mined = self.run(step, &requests).await?;
        let created = |mined: Mined| match mined.created {
            Some(address) => Ok(Created {
                address,
                block: mined.block,
            }),
            None => Err(DeployError::Inconsistent {
                step,
                why: "the receipt of a creation has no address".to_owned(),
            }),
        };
        mined.into_iter().map(created).collect()
    }

    /// Sends calls, and waits until all are mined.
    pub(super) async fn send(&mut self, step: &'static str, requests: Vec<Request>) -> Result<(), DeployError> {
        self.run(step, &requests).await.map(drop)
    }

    async fn run(&mut self, step: &'static str, requests: &[Request]) -> Result<Vec<Mined>, DeployError> {
        let failed = |error| DeployError::Endpoint { step, error };
        let mut mined = Vec::with_capacity(requests.len());
        for some in requests.chunks(PENDING_MAX) {
            let mut hashes = Vec::with_capacity(some.len());
            for request in some {
                hashes.push(self.submit(request).await.map_err(failed)?);
            }
            for hash in hashes {
                mined.push(self.wait(step, hash).await?);
                self.mined += 1;
                (self.progress)(self.mined, self.of);
            }
        }
        Ok(mined)
    }

    async fn submit(&mut self, request: &Request) -> Result<B256, EndpointError> {
        let mut question = TransactionRequest::default().from(self.address());
        question.to = Some(request.to);
        question.value = Some(request.value);
        question.input = request.data.clone().into();
        let gas = self.endpoint.estimate_gas(&question).await?;
        let fees = self.endpoint.fees().await?;
        let transaction = TxEip1559 {
            chain_id: self.chain_id,
            nonce: self.nonce,
            gas_limit: (gas.saturating_mul(GAS_PERCENT) / 100).min(GAS_MAX),
            max_fee_per_gas: fees.base_fee.saturating_mul(2).saturating_add(fees.tip),
            max_priority_fee_per_gas: fees.tip,
            to: request.to,
            value: request.value,
            input: request.data.clone(),
            ..TxEip1559::default()
        };
        let signature = self.key.sign(&transaction.signature_hash());
        let envelope: TxEnvelope = transaction.into_signed(signature).into();
        let hash = *envelope.tx_hash();
        self.endpoint.send_raw(&envelope.encoded_2718().into()).await?;
        self.nonce += 1;
        Ok(hash)
    }

    async fn wait(&self, step: &'static str, hash: B256) -> Result<Mined, DeployError> {
        for _ in 0..MINED_S * 1000 / POLL_MS {
            let receipt = self.endpoint.receipt(hash).await;
            let receipt = receipt.map_err(|error| DeployError::Endpoint { step, error })?;
            if let Some(receipt) = receipt {
                let block = receipt.block_number.unwrap_or_default();
                if !receipt.inner.status() {
                    return Err(DeployError::Failed { step, hash, block });
                }
                let created = receipt.contract_address;
                return Ok(Mined { created, block });
            }
            tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
        }
        let seconds = MINED_S;
        Err(DeployError::Late { step, hash, seconds })
    }
}
