//! Submitting: the path that must be cheap. All transactions of one request become one submission to the node thread.
//!
//! [`Gate`] stands between the transport and the methods. It knows which path serves which method, bounds the calls in
//! progress, counts the answers, and takes the transactions of a batch together; everything else it hands on, one call
//! after the other.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::hex;
use fusion_client::json::{ReceiptJson, Timeout};
use fusion_mempool::{PoolTransaction, Reject};
use fusion_types::limits::TRANSACTION_BYTES_MAX;
use fusion_types::{TxHash, transaction_hash};
use jsonrpsee::Extensions;
use jsonrpsee::core::middleware::{Batch, BatchEntry, Notification, RpcServiceT};
use jsonrpsee::server::middleware::rpc::RpcService;
use jsonrpsee::server::{BatchResponseBuilder, MethodResponse, ResponsePayload};
use jsonrpsee::types::error::ErrorCode;
use jsonrpsee::types::{ErrorObjectOwned, Id, Params, Request};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::methods::{Answer, path_rollup, rollup_of};
use super::openrpc::{self, Method, Scope};
use super::receipts::receipt_at;
use super::server::Connection;
use super::{Rpc, errors, params};
use crate::ingress;
use crate::store::Place;

/// After this many signature recoveries in a row, others get their turn on the thread: about half a millisecond.
const RECOVERIES_PER_TURN: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PathSend<'a> {
    #[serde(borrow)]
    transaction: Cow<'a, str>,
    #[serde(default)]
    timeout: Option<Timeout>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RootSend<'a> {
    rollup: u64,
    #[serde(borrow)]
    transaction: Cow<'a, str>,
    #[serde(default)]
    timeout: Option<Timeout>,
}

/// Decodes and checks one transaction.
fn admit(
    rpc: &Rpc,
    method: &str,
    params: &Params<'_>,
    extensions: &Extensions,
) -> Answer<(PoolTransaction, Option<Timeout>)> {
    let short = path_rollup(extensions)
        .ok()
        .and_then(|_| params::read::<PathSend<'_>>(params));
    let (rollup, text, timeout) = match short {
        Some(send) => (None, send.transaction, send.timeout),
        None => params::parse::<RootSend<'_>>(method, params, extensions)
            .map(|send| (Some(send.rollup), send.transaction, send.timeout))?,
    };
    let rollup = rpc.rollup(rollup_of(method, extensions, rollup)?)?;
    let payload = fusion_client::json::parse(&text, TRANSACTION_BYTES_MAX).map_err(|error| match error {
        fusion_client::json::HexError::Long { bytes, .. } => reject(rpc, &Reject::TooLarge { bytes }, None),
        _ => {
            let expected = openrpc::Kind::Bytes.expected();
            params::mismatch(method, "transaction", &Value::from(&*text), expected)
        }
    })?;
    let hashed = payload.clone();
    let transaction = ingress::admit(rollup, payload)
        .map_err(|refusal| reject(rpc, &refusal, (!hashed.is_empty()).then(|| transaction_hash(&hashed))))?;
    Ok((transaction, timeout))
}

fn reject(rpc: &Rpc, reject: &Reject, transaction: Option<TxHash>) -> ErrorObjectOwned {
    rpc.metrics().rejected(reject.name());
    errors::rejected(reject, transaction)
}

/// Hands transactions to the pool: one answer each, in order. The node counts them, except those it never saw.
async fn submit(rpc: &Rpc, transactions: Vec<PoolTransaction>) -> Answer<Vec<Result<TxHash, (TxHash, Reject)>>> {
    if rpc.handle().status.borrow().is_disk_full() {
        return Err(errors::disk_full());
    }
    let hashes: Vec<TxHash> = transactions.iter().map(|transaction| transaction.hash).collect();
    let limit = rpc.options().call_timeout;
    let answers = tokio::time::timeout(limit, rpc.handle().submit(transactions)).await;
    // The node stands still, on a full disk for one: what was submitted may still be taken in.
    let answers = answers
        .map_err(|_| errors::slow_call(limit))?
        .ok_or_else(errors::stopping)?;
    let answers = answers.into_iter().zip(hashes).map(|(answer, hash)| {
        if matches!(answer, Err(Reject::Busy { .. })) {
            rpc.metrics().rejected("busy");
        }
        answer.map(|()| hash).map_err(|refusal| (hash, refusal))
    });
    Ok(answers.collect())
}

fn no_timeout(method: &str) -> ErrorObjectOwned {
    errors::invalid_params(format!("{method} takes no timeout, {method}Sync does"))
}

/// `eth_sendRawTransaction`, `fusion_sendTransaction`.
pub(super) async fn one(rpc: &Rpc, method: &str, params: &Params<'_>, extensions: &Extensions) -> Answer<String> {
    let (transaction, timeout) = admit(rpc, method, params, extensions)?;
    if timeout.is_some() {
        return Err(no_timeout(method));
    }
    let answers = submit(rpc, vec![transaction]).await?;
    match answers.into_iter().next() {
        Some(Ok(hash)) => Ok(hex::encode_prefixed(hash)),
        Some(Err((hash, refusal))) => Err(errors::rejected(&refusal, Some(hash))),
        None => Err(errors::stopping()),
    }
}

/// Where one transaction was decided, within the time that its sender gives it. `plain`: errors in EIP-7966's form.
async fn sync(
    rpc: &Rpc,
    transaction: PoolTransaction,
    timeout: Option<Timeout>,
    plain: bool,
) -> Answer<(PoolTransaction, Place)> {
    let options = rpc.options();
    let asked = timeout.map(|timeout| Duration::from_millis(timeout.0));
    let limit = asked
        .filter(|asked| *asked <= options.sync_timeout_max)
        .unwrap_or(options.sync_timeout);
    let (rollup, hash) = (transaction.rollup, transaction.hash);
    let waiter = rpc.finality().wait(rollup, hash);
    let mut waiter = waiter.ok_or_else(|| errors::busy("waiting users", super::finality::WAITERS_MAX))?;
    // What the index does not know yet, the pool's own memory of decided transactions refuses below.
    let reader = rpc.handle().reader.clone();
    let known = rpc.blocking(move |_| Ok(reader.place_of(rollup, hash))).await?;
    if let Ok(Some(place)) = known {
        return Ok((transaction, place));
    }
    let answers = submit(rpc, vec![transaction.clone()]).await?;
    let decided = match answers.into_iter().next() {
        Some(Ok(_) | Err((_, Reject::AlreadyKnown(_)))) => false,
        Some(Err((_, Reject::AlreadyDecided { .. }))) => true,
        Some(Err((hash, refusal))) if plain => return Err(errors::rejected_sync(&refusal, hash)),
        Some(Err((hash, refusal))) => return Err(errors::rejected(&refusal, Some(hash))),
        None => return Err(errors::stopping()),
    };
    let found = async {
        if !decided {
            return Some(waiter.place().await);
        }
        let known = rpc.indexed(move |reader| reader.place_of(rollup, hash)).await;
        known.ok().flatten()
    };
    let milliseconds = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    let place = tokio::time::timeout(limit, found).await;
    let place = place.ok().flatten();
    let place = place.ok_or_else(|| errors::timed_out(hash, milliseconds, plain))?;
    Ok((transaction, place))
}

/// `fusion_sendTransactionSync`.
pub(super) async fn fusion_sync(rpc: &Rpc, params: &Params<'_>, extensions: &Extensions) -> Answer<ReceiptJson> {
    let (transaction, timeout) = admit(rpc, "fusion_sendTransactionSync", params, extensions)?;
    let (transaction, place) = sync(rpc, transaction, timeout, false).await?;
    let receipt = receipt_at(rpc, transaction.rollup, place).await?;
    Ok(ReceiptJson::from(&receipt))
}

/// What can be said of a transaction in the words of `eth_getTransactionReceipt` before anybody executed it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EthReceipt {
    transaction_hash: String,
    block_hash: String,
    block_number: String,
    transaction_index: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// The proof of all this.
    receipt: ReceiptJson,
}

/// `eth_sendRawTransactionSync`.
pub(super) async fn eth_sync(rpc: &Rpc, params: &Params<'_>, extensions: &Extensions) -> Answer<EthReceipt> {
    let (transaction, timeout) = admit(rpc, "eth_sendRawTransactionSync", params, extensions)?;
    let (transaction, place) = sync(rpc, transaction, timeout, true).await?;
    let receipt = receipt_at(rpc, transaction.rollup, place).await?;
    Ok(EthReceipt {
        transaction_hash: hex::encode_prefixed(transaction.hash),
        block_hash: hex::encode_prefixed(receipt.certificate.block.0),
        block_number: format!("{:#x}", receipt.header.height.0),
        transaction_index: format!("{:#x}", receipt.transaction_proof.index),
        from: transaction.evm.map(|facts| hex::encode_prefixed(facts.sender)),
        receipt: ReceiptJson::from(&receipt),
    })
}

/// What stands before the methods of one connection.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    inner: RpcService,
    rpc: Rpc,
    turns: Arc<Semaphore>,
}

/// Puts a [`Gate`] before each connection's methods.
#[derive(Debug, Clone)]
pub(super) struct Gates(pub(super) Rpc);

impl tower::Layer<RpcService> for Gates {
    type Service = Gate;

    fn layer(&self, inner: RpcService) -> Gate {
        Gate {
            inner,
            rpc: self.0.clone(),
            turns: Arc::new(Semaphore::new(self.0.options().calls)),
        }
    }
}

/// Whether a method only submits, so that the calls of a batch can be taken together.
fn submits(method: &Method) -> bool {
    matches!(method.name, "eth_sendRawTransaction" | "fusion_sendTransaction")
}

/// Whether a method waits as long as its caller says.
fn waits(method: &Method) -> bool {
    matches!(method.name, "eth_sendRawTransactionSync" | "fusion_sendTransactionSync")
}

/// Whether a method is about what comes later than its answer.
fn subscribes(method: &Method) -> bool {
    matches!(method.name, "fusion_subscribe" | "fusion_unsubscribe")
}

/// The method that a request calls, if this path serves it.
fn served(request: &Request<'_>) -> Answer<&'static Method> {
    let Some(method) = openrpc::find(request.method_name()) else {
        let name: String = request.method_name().chars().take(64).collect();
        return Err(errors::method_not_found(&format!(
            "{name} is not served: this node orders and does not execute; rpc.discover lists what is, fusion_getReceipt \
             tells of a transaction"
        )));
    };
    if subscribes(method)
        && let Some(connection) = request.extensions().get::<Arc<Connection>>()
        && connection.plain_http
    {
        return Err(errors::needs_websocket(method.name, &connection.websocket_url()));
    }
    let on_rollup = path_rollup(request.extensions()).is_ok();
    match method.scope {
        Scope::Rollup if !on_rollup => Err(errors::method_not_found("this method is served at /rollup/<id>")),
        _ => Ok(method),
    }
}

/// One place in the answer to a batch.
enum Slot<'a> {
    Answered(MethodResponse),
    Admitted {
        id: Id<'a>,
        method: &'static str,
    },
    Later {
        request: Request<'a>,
        method: &'static Method,
    },
}

impl Gate {
    fn limit(&self) -> usize {
        usize::try_from(self.rpc.options().response_bytes).unwrap_or(usize::MAX)
    }

    fn failed(&self, id: Id<'_>, method: &'static str, error: ErrorObjectOwned) -> MethodResponse {
        self.rpc.metrics().called(method, error.code(), 1);
        MethodResponse::error(id, error)
    }

    /// Calls one method that is not taken together with others.
    async fn answer<'a>(&self, request: Request<'a>, method: &'static Method) -> MethodResponse {
        let options = self.rpc.options();
        let limit = if waits(method) {
            options.sync_timeout_max + options.call_timeout
        } else {
            options.call_timeout
        };
        let id = request.id.clone();
        let response = tokio::time::timeout(limit, self.inner.call(request)).await;
        let Ok(response) = response else {
            return self.failed(id, method.name, errors::slow_call(limit));
        };
        let code = response.as_error_code().unwrap_or(0);
        self.rpc.metrics().called(method.name, code, 1);
        response
    }

    /// Sorts the calls of a batch: what can be answered now, what is submitted together, what comes after.
    async fn sort<'a>(&self, batch: Batch<'a>) -> (Vec<Slot<'a>>, Vec<PoolTransaction>, bool) {
        let (mut slots, mut transactions, mut notified) = (Vec::new(), Vec::new(), false);
        for (at, entry) in batch.into_iter().enumerate() {
            let request = match entry {
                Ok(BatchEntry::Call(request)) => request,
                Ok(BatchEntry::Notification(_)) => {
                    notified = true;
                    continue;
                }
                Err(error) => {
                    let (error, id) = error.into_parts();
                    slots.push(Slot::Answered(MethodResponse::error(id, error)));
                    continue;
                }
            };
            let method = match served(&request) {
                Ok(method) if method.name == "fusion_subscribe" => {
                    let error = errors::invalid_params("fusion_subscribe is not served in a batch");
                    slots.push(Slot::Answered(self.failed(request.id, method.name, error)));
                    continue;
                }
                Ok(method) => method,
                Err(error) => {
                    slots.push(Slot::Answered(self.failed(request.id, "unknown", error)));
                    continue;
                }
            };
            if !submits(method) {
                slots.push(Slot::Later { request, method });
                continue;
            }
            match admit(&self.rpc, method.name, &request.params(), request.extensions()) {
                Ok((transaction, None)) => {
                    if transaction.evm.is_some() && at % RECOVERIES_PER_TURN == RECOVERIES_PER_TURN - 1 {
                        tokio::task::yield_now().await;
                    }
                    transactions.push(transaction);
                    let (id, method) = (request.id, method.name);
                    slots.push(Slot::Admitted { id, method });
                }
                Ok((_, Some(_))) => {
                    slots.push(Slot::Answered(self.failed(
                        request.id,
                        method.name,
                        no_timeout(method.name),
                    )));
                }
                Err(error) => slots.push(Slot::Answered(self.failed(request.id, method.name, error))),
            }
        }
        (slots, transactions, notified)
    }

    fn too_many(&self) -> ErrorObjectOwned {
        errors::busy("calls in progress on this connection", self.rpc.options().calls)
    }

    /// Tells each call of a batch that too many are in progress.
    fn refuse(&self, batch: Batch<'_>) -> MethodResponse {
        if batch.is_empty() {
            return self.failed(Id::Null, "unknown", self.too_many());
        }
        let mut responses = BatchResponseBuilder::new_with_limit(self.limit());
        let mut answered = false;
        for entry in batch {
            answered |= !matches!(entry, Ok(BatchEntry::Notification(_)));
            let response = match entry {
                Ok(BatchEntry::Call(request)) => self.failed(request.id, "unknown", self.too_many()),
                Ok(BatchEntry::Notification(_)) => continue,
                Err(error) => {
                    let (error, id) = error.into_parts();
                    MethodResponse::error(id, error)
                }
            };
            if let Err(too_large) = responses.append(response) {
                return too_large;
            }
        }
        if answered {
            MethodResponse::from_batch(responses.finish())
        } else {
            MethodResponse::notification()
        }
    }

    async fn answer_batch(&self, batch: Batch<'_>) -> MethodResponse {
        let (slots, transactions, notified) = self.sort(batch).await;
        if slots.is_empty() && notified {
            return MethodResponse::notification();
        }
        let answers = if transactions.is_empty() {
            Ok(Vec::new())
        } else {
            submit(&self.rpc, transactions).await
        };
        let (mut answers, failure) = match answers {
            Ok(answers) => (answers.into_iter(), errors::stopping()),
            Err(failure) => (Vec::new().into_iter(), failure),
        };
        let mut responses = BatchResponseBuilder::new_with_limit(self.limit());
        for slot in slots {
            let response = match slot {
                Slot::Answered(response) => response,
                Slot::Later { request, method } => self.answer(request, method).await,
                Slot::Admitted { id, method } => match answers.next() {
                    Some(Ok(hash)) => {
                        self.rpc.metrics().called(method, 0, 1);
                        let result = ResponsePayload::success(hex::encode_prefixed(hash));
                        MethodResponse::response(id, result, self.limit())
                    }
                    Some(Err((hash, refusal))) => self.failed(id, method, errors::rejected(&refusal, Some(hash))),
                    None => self.failed(id, method, failure.clone()),
                },
            };
            if let Err(too_large) = responses.append(response) {
                return too_large;
            }
        }
        MethodResponse::from_batch(responses.finish())
    }
}

impl RpcServiceT for Gate {
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let gate = self.clone();
        async move {
            let Ok(_turn) = gate.turns.try_acquire() else {
                return gate.failed(request.id, "unknown", gate.too_many());
            };
            match served(&request) {
                Ok(method) => gate.answer(request, method).await,
                Err(error) => gate.failed(request.id, "unknown", error),
            }
        }
    }

    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let gate = self.clone();
        async move {
            let Ok(_turn) = gate.turns.try_acquire() else {
                return gate.refuse(batch);
            };
            if batch.is_empty() {
                return MethodResponse::error(Id::Null, ErrorCode::InvalidRequest);
            }
            gate.answer_batch(batch).await
        }
    }

    fn notification<'a>(&self, _: Notification<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        // Nobody would see an answer, and no method here is called for its effect alone.
        std::future::ready(MethodResponse::notification())
    }
}
