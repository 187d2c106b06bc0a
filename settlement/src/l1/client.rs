//! One node of L1 over JSON-RPC.
//!
//! Promises: every call ends within a time limit, sends and takes bounded bytes, and never panics whatever is answered; what
//! is asked for by number or hash is refused as malformed if another comes. Leaves to others: whether the node tells the
//! truth, and whether two answers are of one chain.

use std::fmt;
use std::time::Duration;

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use alloy_rpc_types_eth::{FeeHistory, Filter, Header, Log, TransactionReceipt, TransactionRequest};
use jsonrpsee::core::client::ClientT as _;
use jsonrpsee::core::params::ArrayParams;
use jsonrpsee::http_client::HttpClient;
use jsonrpsee::rpc_params;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::error::{EndpointError, Question};

/// What one node may take and give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointLimits {
    /// Milliseconds until an answer is given up.
    pub timeout_ms: u64,
    /// Bytes of an answer.
    pub answer_bytes_max: u32,
    /// Bytes of a request.
    pub request_bytes_max: u32,
}

impl Default for EndpointLimits {
    /// 10 s; 16 MiB, which is a crowded range of logs; 4 MiB, where a transaction of six blobs is 1.7 MB in hex.
    fn default() -> Self {
        Self {
            timeout_ms: 10_000,
            answer_bytes_max: 16 * 1024 * 1024,
            request_bytes_max: 4 * 1024 * 1024,
        }
    }
}

/// A block's header, as far as anybody here asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct L1Block {
    /// Its number.
    pub number: u64,
    /// Its hash, as the node says.
    pub hash: B256,
    /// The hash of the block before.
    pub parent: B256,
    /// Seconds since 1970.
    pub time_s: u64,
}

/// What fees are about, in wei per gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fees {
    /// The base fee of the next block.
    pub base_fee: u128,
    /// The base fee of its blobs.
    pub blob_base_fee: u128,
    /// The tip that the node suggests.
    pub tip: u128,
}

/// One node.
#[derive(Clone)]
pub struct Endpoint {
    http: HttpClient,
    /// Scheme, host and port: the rest may hold a password.
    shown: String,
    limits: EndpointLimits,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.shown).finish()
    }
}

impl Endpoint {
    /// A node at an `http://` or `https://` address. Connects at the first call.
    ///
    /// # Errors
    /// [`EndpointError::Url`].
    pub fn new(url: &str, limits: EndpointLimits) -> Result<Self, EndpointError> {
        let (shown, refused) = match without_secrets(url) {
            Some(shown) => (shown, None),
            None => (
                "the address".to_owned(),
                Some("it must be http:// or https:// and a host"),
            ),
        };
        let failed = |why: &str| EndpointError::Url {
            text: shown.clone(),
            why: why.to_owned(),
        };
        if let Some(why) = refused {
            return Err(failed(why));
        }
        let timeout = Duration::from_millis(limits.timeout_ms);
        let http = HttpClient::builder()
            .request_timeout(timeout)
            .connect_timeout(timeout)
            .max_response_size(limits.answer_bytes_max)
            .max_request_size(limits.request_bytes_max)
            .build(url)
            // Its words may repeat the whole address.
            .map_err(|_| failed("it cannot be read as one"))?;
        Ok(Self { http, shown, limits })
    }

    /// The address without credentials, path and query.
    pub fn url(&self) -> &str {
        &self.shown
    }

    /// EIP-155 id of the chain.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn chain_id(&self) -> Result<u64, EndpointError> {
        let id: U64 = self.ask("eth_chainId", rpc_params![]).await?;
        Ok(id.to())
    }

    /// The header of a block by tag or number; none where the chain has not got so far.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn block(&self, at: BlockNumberOrTag) -> Result<Option<L1Block>, EndpointError> {
        let method = "eth_getBlockByNumber";
        let header: Option<Header> = self.ask(method, rpc_params![at, false]).await?;
        let block = header.as_ref().map(L1Block::from);
        match (block, at) {
            (Some(block), BlockNumberOrTag::Number(number)) if block.number != number => {
                let why = format!("block {number} was asked for, block {} came", block.number);
                Err(self.question(method).malformed(&why))
            }
            _ => Ok(block),
        }
    }

    /// The header of a block by its hash; none where the node does not know it.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn block_by_hash(&self, hash: B256) -> Result<Option<L1Block>, EndpointError> {
        let method = "eth_getBlockByHash";
        let header: Option<Header> = self.ask(method, rpc_params![hash, false]).await?;
        match header.as_ref().map(L1Block::from) {
            Some(block) if block.hash != hash => {
                let why = format!("block {hash} was asked for, block {} came", block.hash);
                Err(self.question(method).malformed(&why))
            }
            block => Ok(block),
        }
    }

    /// What the next block asks for gas and for blobs, and the tip that the node suggests.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn fees(&self) -> Result<Fees, EndpointError> {
        let method = "eth_feeHistory";
        let history: FeeHistory = self
            .ask(
                method,
                rpc_params![U64::from(1), BlockNumberOrTag::Latest, Vec::<f64>::new()],
            )
            .await?;
        // The last of each list is the next block's. It has the first even where there was one block only.
        let base_fee = history.base_fee_per_gas.last().copied();
        let base_fee = base_fee.ok_or_else(|| self.question(method).malformed("it has no base fee"))?;
        let blob_base_fee = match history.base_fee_per_blob_gas.last() {
            Some(fee) => *fee,
            None => self.wei("eth_blobBaseFee").await?,
        };
        let tip = self.wei("eth_maxPriorityFeePerGas").await?;
        Ok(Fees {
            base_fee,
            blob_base_fee,
            tip,
        })
    }

    /// How many transactions an account has sent, after a block: its next nonce.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn transaction_count(&self, account: Address, at: BlockId) -> Result<u64, EndpointError> {
        let count: U64 = self.ask("eth_getTransactionCount", rpc_params![account, at]).await?;
        Ok(count.to())
    }

    /// Wei of an account after a block.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn balance(&self, account: Address, at: BlockId) -> Result<U256, EndpointError> {
        self.ask("eth_getBalance", rpc_params![account, at]).await
    }

    /// The code of an account after a block; empty where it has none.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn code(&self, account: Address, at: BlockId) -> Result<Bytes, EndpointError> {
        self.ask("eth_getCode", rpc_params![account, at]).await
    }

    /// Runs a call on the state after a block, and returns what it returns.
    ///
    /// # Errors
    /// [`EndpointError`]; where the call reverts, [`EndpointError::contract_error`] has the reason.
    pub async fn call(&self, to: Address, data: Bytes, at: BlockId) -> Result<Bytes, EndpointError> {
        let request = TransactionRequest::default().to(to).input(data.into());
        self.simulate(&request, at).await
    }

    /// [`Endpoint::call`] of a whole transaction: with a sender, gas or the hashes of blobs.
    ///
    /// # Errors
    /// As [`Endpoint::call`].
    pub async fn simulate(&self, request: &TransactionRequest, at: BlockId) -> Result<Bytes, EndpointError> {
        self.ask("eth_call", rpc_params![request, at]).await
    }

    /// Gas that a transaction takes on the latest state.
    ///
    /// # Errors
    /// As [`Endpoint::call`].
    pub async fn estimate_gas(&self, request: &TransactionRequest) -> Result<u64, EndpointError> {
        let gas: U64 = self.ask("eth_estimateGas", rpc_params![request]).await?;
        Ok(gas.to())
    }

    /// Sends a signed transaction, and returns the hash that the node gives it.
    ///
    /// # Errors
    /// [`EndpointError`]; a refusal has the pool's words.
    pub async fn send_raw(&self, raw: &Bytes) -> Result<B256, EndpointError> {
        self.ask("eth_sendRawTransaction", rpc_params![raw]).await
    }

    /// The receipt of a transaction; none where it is in no block.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn receipt(&self, hash: B256) -> Result<Option<TransactionReceipt>, EndpointError> {
        let method = "eth_getTransactionReceipt";
        let receipt: Option<TransactionReceipt> = self.ask(method, rpc_params![hash]).await?;
        if let Some(other) = receipt.as_ref().filter(|receipt| receipt.transaction_hash != hash) {
            let why = format!(
                "the receipt of {hash} was asked for, that of {} came",
                other.transaction_hash
            );
            return Err(self.question(method).malformed(&why));
        }
        Ok(receipt)
    }

    /// Whether the node has a transaction, in a block or waiting for one.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn knows_transaction(&self, hash: B256) -> Result<bool, EndpointError> {
        let transaction: Option<IgnoredAny> = self.ask("eth_getTransactionByHash", rpc_params![hash]).await?;
        Ok(transaction.is_some())
    }

    /// A transaction that the node has, as a question that can be simulated; none where the node does not know it.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn transaction(&self, hash: B256) -> Result<Option<TransactionRequest>, EndpointError> {
        self.ask("eth_getTransactionByHash", rpc_params![hash]).await
    }

    /// The logs that a filter lets through, in the chain's order.
    ///
    /// # Errors
    /// [`EndpointError`]; a node that finds too many refuses, and [`EndpointError::TooLarge`] says the same: ask for fewer
    /// blocks.
    pub async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, EndpointError> {
        self.ask("eth_getLogs", rpc_params![filter]).await
    }

    async fn wei(&self, method: &'static str) -> Result<u128, EndpointError> {
        let wei: U256 = self.ask(method, rpc_params![]).await?;
        let wei = u128::try_from(wei);
        wei.map_err(|_| self.question(method).malformed("it is more wei than there are"))
    }

    async fn ask<T: DeserializeOwned>(&self, method: &'static str, params: ArrayParams) -> Result<T, EndpointError> {
        let answer = self.http.request(method, params).await;
        answer.map_err(|error| self.question(method).failed(&error))
    }

    fn question(&self, method: &'static str) -> Question<'_> {
        Question {
            url: &self.shown,
            method,
            timeout_ms: self.limits.timeout_ms,
            request_bytes_max: self.limits.request_bytes_max,
            answer_bytes_max: self.limits.answer_bytes_max,
        }
    }
}

impl From<&Header> for L1Block {
    fn from(header: &Header) -> Self {
        Self {
            number: header.inner.number,
            hash: header.hash,
            parent: header.inner.parent_hash,
            time_s: header.inner.timestamp,
        }
    }
}

/// Scheme, host and port of an address; none where it has not got them.
fn without_secrets(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let is_known = scheme == "http" || scheme == "https";
    let is_whole = !host.is_empty() && !host.contains(char::is_whitespace);
    (is_known && is_whole).then(|| format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests;
