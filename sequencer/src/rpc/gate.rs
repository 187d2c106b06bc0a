//! What stands between the transport and the methods.
//!
//! Promises: a method is served on its path only; the calls in progress on a connection are bounded; every call is
//! counted with its answer. The transactions of a batch become one submission to the node thread; everything else is
//! handed on, one call after the other.

use std::sync::Arc;

use alloy_primitives::hex;
use fusion_mempool::PoolTransaction;
use jsonrpsee::core::middleware::{Batch, BatchEntry, Notification, RpcServiceT};
use jsonrpsee::server::middleware::rpc::RpcService;
use jsonrpsee::server::{BatchResponseBuilder, MethodResponse, ResponsePayload};
use jsonrpsee::types::error::ErrorCode;
use jsonrpsee::types::{ErrorObjectOwned, Id, Request};
use tokio::sync::Semaphore;

use super::methods::{Answer, path_rollup};
use super::openrpc::{self, Method, Scope};
use super::server::Connection;
use super::submit::{Door, admit, no_timeout, submit};
use super::{Rpc, errors};

/// After this many signature recoveries in a row, others get their turn on the thread: about half a millisecond.
const RECOVERIES_PER_TURN: usize = 16;

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
    let on_rollup = path_rollup(request.extensions()).is_some();
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
    async fn sort<'a>(&self, batch: Batch<'a>, door: &mut Door) -> (Vec<Slot<'a>>, Vec<PoolTransaction>, bool) {
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
            match admit(&self.rpc, door, method.name, &request.params(), request.extensions()) {
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
        let mut door = Door::new(&self.rpc);
        let (slots, transactions, notified) = self.sort(batch, &mut door).await;
        if slots.is_empty() && notified {
            return MethodResponse::notification();
        }
        let answers = if transactions.is_empty() {
            Ok(Vec::new())
        } else {
            submit(&self.rpc, transactions).await
        };
        drop(door);
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
