//! Submitting a transaction and bringing back its final receipt.
//!
//! Promises: a receipt that comes out is verified and is of the very transaction that went in; a node that answers
//! otherwise is named and not asked again. Nodes fail over: a transaction may be sent to several, which is harmless,
//! because a stream takes the same bytes once. Leaves to others: signing, and nonces.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alloy_primitives::Bytes;
use fusion_types::{Receipt, RollupId, TxHash, transaction_hash};
use jsonrpsee::core::client::Error as RpcError;
use tokio::time::Instant;

use crate::json::{Data, ReceiptJson, ReceiptStatus, StatusJson};
use crate::node::{NodeUrl, Requests};
use crate::trust::Trust;

/// How long one node may take for one answer.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one node is left to bring a transaction to its end before another is asked.
const NODE_PATIENCE: Duration = Duration::from_secs(4);

/// Pause between two looks for a receipt, and after a round in which every node failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Taken, but not final in the time given (EIP-7966).
const CODE_TIMEOUT: i32 = 4;

/// The same bytes wait already or are decided (execution-apis, transaction pool).
const CODE_KNOWN: i32 = 1000;

/// The node or its pool is full: another may have room (EIP-1474).
const CODE_BUSY: i32 = -32005;

/// A connection to several nodes of one network, which are interchangeable.
#[derive(Debug)]
pub struct Client {
    trust: Trust,
    nodes: Vec<Node>,
    /// Index of the node that answered last.
    preferred: AtomicUsize,
    liars: Mutex<Vec<Liar>>,
}

#[derive(Debug)]
struct Node {
    url: NodeUrl,
    requests: Requests,
}

/// A node that said something that does not verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liar {
    /// Its address.
    pub url: String,
    /// Which check it failed.
    pub check: String,
}

/// A node's refusal of a transaction, by the conventions of Ethereum's JSON-RPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Who refused.
    pub url: String,
    /// JSON-RPC error code.
    pub code: i32,
    /// Why, with the numbers.
    pub message: String,
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (code {}, from {})", self.message, self.code, self.url)
    }
}

/// Why there is no receipt.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// An address cannot be used.
    #[error("{0}")]
    Url(String),
    /// The transaction was refused, and another node would refuse it too.
    #[error("refused: {0}")]
    Rejected(Rejection),
    /// Not final in time. It may still become final: sending the same bytes again is safe.
    #[error("transaction {transaction} is not final after {waited_ms} ms; last answer: {last}")]
    Timeout {
        /// Its hash.
        transaction: TxHash,
        /// How long it was waited for, milliseconds.
        waited_ms: u128,
        /// What the node that was asked last said.
        last: String,
    },
    /// No node gave a usable answer.
    #[error("no usable node: {0}")]
    Unreachable(String),
}

/// How sure a transaction's order is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preconfirmation {
    /// No node that answered knows it, and none is behind.
    Unknown,
    /// Not found, but a node that answered is behind: ask again.
    NotYet,
    /// A node has it and will order it.
    Pending,
    /// Decided: the verified proof.
    Final(Box<Receipt>),
}

/// What one node's answer to a submission means for the caller.
enum Answer {
    Receipt(Box<Receipt>),
    /// The node has the transaction; its receipt is to be asked for.
    Taken,
    /// Ask another node, for this reason.
    Next(String),
    Rejected(Rejection),
}

impl Client {
    /// A client of the nodes at `urls`. Succeeds when at least one answers and is of the network; one of another
    /// network counts as a liar.
    ///
    /// # Errors
    /// [`ClientError::Url`] for an unusable address, [`ClientError::Unreachable`] when no node answers.
    pub async fn connect<T: AsRef<str>>(urls: &[T], trust: Trust) -> Result<Self, ClientError> {
        let mut nodes = Vec::with_capacity(urls.len());
        for url in urls {
            let url = NodeUrl::parse(url.as_ref()).map_err(ClientError::Url)?;
            let requests =
                Requests::new(&url, REQUEST_TIMEOUT).map_err(|error| ClientError::Url(format!("{url}: {error}")))?;
            nodes.push(Node { url, requests });
        }
        let client = Self {
            trust,
            nodes,
            preferred: AtomicUsize::new(0),
            liars: Mutex::default(),
        };
        let mut failures = Vec::new();
        for index in 0..client.nodes.len() {
            match client.nodes[index].requests.status().await {
                Ok(status) if status.network.0 == client.trust.network.0 => {
                    client.preferred.store(index, Ordering::Relaxed);
                    return Ok(client);
                }
                Ok(status) => failures.push(client.lies(index, format!("it is of network {}", status.network))),
                Err(error) => failures.push(format!("{}: {}", client.nodes[index].url, plain(&error))),
            }
        }
        Err(ClientError::Unreachable(failures.join("; ")))
    }

    /// Sends `payload` (bytes for an `opaque` rollup, a raw signed transaction for an `evm` one) to be ordered in
    /// `rollup`'s stream, and returns its hash as soon as a node has taken it. That is no promise yet: see
    /// [`Client::send`].
    ///
    /// # Errors
    /// [`ClientError::Rejected`] with the node's reason, or [`ClientError::Unreachable`].
    pub async fn submit(&self, rollup: RollupId, payload: Bytes) -> Result<TxHash, ClientError> {
        let hash = transaction_hash(&payload);
        let payload = Data(payload);
        let mut failures = Vec::new();
        for index in self.order() {
            let answer = match self.nodes[index].requests.send(rollup, &payload).await {
                Ok(answer) if answer.0 == hash => Answer::Taken,
                Ok(answer) => Answer::Next(self.lies(index, format!("hash of the transaction: it says {answer}"))),
                Err(error) => self.failed(index, &error),
            };
            match answer {
                Answer::Taken | Answer::Receipt(_) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(hash);
                }
                Answer::Next(reason) => failures.push(reason),
                Answer::Rejected(rejection) => return Err(ClientError::Rejected(rejection)),
            }
        }
        Err(ClientError::Unreachable(failures.join("; ")))
    }

    /// Sends `payload` and waits until it is final: returns its verified receipt. Goes on to other nodes when one
    /// fails, is busy or takes too long, until `timeout` has passed.
    ///
    /// # Errors
    /// [`ClientError::Rejected`] with the node's reason, or [`ClientError::Timeout`].
    pub async fn send(&self, rollup: RollupId, payload: Bytes, timeout: Duration) -> Result<Receipt, ClientError> {
        let hash = transaction_hash(&payload);
        let payload = Data(payload);
        let start = Instant::now();
        let mut last = "none".to_owned();
        loop {
            let order = self.order();
            if order.is_empty() {
                return Err(ClientError::Unreachable(format!("every node lied; {last}")));
            }
            for index in order {
                let left = timeout.saturating_sub(start.elapsed());
                if left.is_zero() {
                    break;
                }
                match self.send_to(index, rollup, &payload, hash, left).await {
                    Answer::Receipt(receipt) => {
                        self.preferred.store(index, Ordering::Relaxed);
                        return Ok(*receipt);
                    }
                    Answer::Rejected(rejection) => return Err(ClientError::Rejected(rejection)),
                    Answer::Next(reason) => last = reason,
                    Answer::Taken => last = format!("{}: taken, not final yet", self.nodes[index].url),
                }
            }
            if start.elapsed() + PAUSE >= timeout {
                return Err(ClientError::Timeout {
                    transaction: hash,
                    waited_ms: start.elapsed().as_millis(),
                    last,
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Where a transaction stands. Asks node after node until one gives its verified final receipt; otherwise the best
    /// answer counts.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when no node answers.
    pub async fn receipt(&self, rollup: RollupId, transaction: TxHash) -> Result<Preconfirmation, ClientError> {
        let (mut best, mut failures) = (None, Vec::new());
        for index in self.order() {
            let answer = match self.nodes[index].requests.receipt(rollup, transaction).await {
                Ok(answer) => answer,
                Err(error) => {
                    failures.push(format!("{}: {}", self.nodes[index].url, plain(&error)));
                    continue;
                }
            };
            match (answer.status, &answer.receipt) {
                (ReceiptStatus::Final | ReceiptStatus::Posted | ReceiptStatus::Settled, Some(receipt)) => {
                    match self.check(receipt, rollup, transaction) {
                        Ok(receipt) => return Ok(Preconfirmation::Final(Box::new(receipt))),
                        Err(check) => failures.push(self.lies(index, check)),
                    }
                }
                (ReceiptStatus::Final | ReceiptStatus::Posted | ReceiptStatus::Settled, None) => {
                    failures.push(self.lies(index, "final without a receipt".to_owned()));
                }
                (ReceiptStatus::Pending, _) => best = Some(Preconfirmation::Pending),
                (ReceiptStatus::Behind, _) if best != Some(Preconfirmation::Pending) => {
                    best = Some(Preconfirmation::NotYet);
                }
                (ReceiptStatus::Behind, _) => {}
                (ReceiptStatus::Unknown, _) => best = best.or(Some(Preconfirmation::Unknown)),
            }
        }
        best.ok_or_else(|| ClientError::Unreachable(failures.join("; ")))
    }

    /// The nodes that lied so far, each with the check that it failed.
    pub fn liars(&self) -> Vec<Liar> {
        self.lock_liars().clone()
    }

    /// Sends to one node and stays with it until the receipt is there, `left` has passed or its patience is used up.
    async fn send_to(&self, index: usize, rollup: RollupId, payload: &Data, hash: TxHash, left: Duration) -> Answer {
        let requests = &self.nodes[index].requests;
        let patience = left.min(NODE_PATIENCE);
        match requests.send_sync(rollup, payload, patience).await {
            Ok(receipt) => self.received(index, &receipt, rollup, hash),
            Err(error) => match self.failed(index, &error) {
                // It waits there already, sent by us or another; its receipt comes by asking.
                Answer::Taken => self.poll(index, rollup, hash, patience).await,
                other => other,
            },
        }
    }

    async fn poll(&self, index: usize, rollup: RollupId, hash: TxHash, patience: Duration) -> Answer {
        let start = Instant::now();
        loop {
            match self.nodes[index].requests.receipt(rollup, hash).await {
                Ok(answer) => match answer.receipt {
                    Some(receipt) => return self.received(index, &receipt, rollup, hash),
                    None if start.elapsed() >= patience => return Answer::Taken,
                    None => {}
                },
                Err(error) => return Answer::Next(format!("{}: {}", self.nodes[index].url, plain(&error))),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn received(&self, index: usize, receipt: &ReceiptJson, rollup: RollupId, hash: TxHash) -> Answer {
        match self.check(receipt, rollup, hash) {
            Ok(receipt) => Answer::Receipt(Box::new(receipt)),
            Err(check) => Answer::Next(self.lies(index, check)),
        }
    }

    /// The receipt, if it verifies and is of this transaction.
    fn check(&self, json: &ReceiptJson, rollup: RollupId, transaction: TxHash) -> Result<Receipt, String> {
        let receipt = Receipt::try_from(json).map_err(|error| error.to_string())?;
        receipt
            .verify(self.trust.network, &self.trust.committee)
            .map_err(|error| error.to_string())?;
        if receipt.transaction != transaction {
            return Err(format!("the receipt is of transaction {}", receipt.transaction));
        }
        if receipt.lane.rollup != rollup {
            return Err(format!("the receipt is of rollup {}", receipt.lane.rollup));
        }
        Ok(receipt)
    }

    fn failed(&self, index: usize, error: &RpcError) -> Answer {
        let url = self.nodes[index].url.to_string();
        match error {
            RpcError::Call(object) => match object.code() {
                CODE_KNOWN => Answer::Taken,
                CODE_TIMEOUT | CODE_BUSY => Answer::Next(format!("{url}: {}", object.message())),
                code => Answer::Rejected(Rejection {
                    url,
                    code,
                    message: object.message().to_owned(),
                }),
            },
            other => Answer::Next(format!("{url}: {}", plain(other))),
        }
    }

    /// Notes a lie; returns it as a sentence.
    fn lies(&self, index: usize, check: String) -> String {
        let url = self.nodes[index].url.to_string();
        tracing::warn!(%url, %check, "node lied and is left");
        let sentence = format!("{url} lied: {check}");
        self.lock_liars().push(Liar { url, check });
        sentence
    }

    /// The nodes in the order in which to ask them: from the one that answered last, without liars.
    fn order(&self) -> Vec<usize> {
        let liars = self.lock_liars();
        let start = self.preferred.load(Ordering::Relaxed);
        let indices = (0..self.nodes.len()).map(|step| (start + step) % self.nodes.len());
        indices
            .filter(|index| liars.iter().all(|liar| liar.url != self.nodes[*index].url.http()))
            .collect()
    }

    fn lock_liars(&self) -> std::sync::MutexGuard<'_, Vec<Liar>> {
        self.liars.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Every node's own account of itself, or why there is none. Not verified: for people.
pub async fn status(urls: &[NodeUrl]) -> Vec<(String, Result<StatusJson, String>)> {
    let mut answers = Vec::with_capacity(urls.len());
    for url in urls {
        let status = match Requests::new(url, REQUEST_TIMEOUT) {
            Ok(requests) => requests.status().await,
            Err(error) => Err(error),
        };
        answers.push((url.to_string(), status.map_err(|error| plain(&error))));
    }
    answers
}

/// The innermost reason: the outer ones say only that a request failed.
pub(crate) fn plain(error: &RpcError) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests;
