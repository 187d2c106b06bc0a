//! JSON-RPC over HTTP and WebSocket: how users submit, ask and follow.
//!
//! One port. `/` serves the `fusion_` methods; `/rollup/<id>` serves the `eth_` methods that wallets call, for that
//! rollup, and the `fusion_` methods with the rollup implied. `rpc.discover` describes all of them (`rpc/openrpc.rs`).
//!
//! Promises: every answer is a valid JSON-RPC response; every error has a stable name in `data.name` and its numbers in
//! the message; a receipt says `final` only for what is durable in this node's log; nothing queues without bound: a
//! full node says `busy`, a slow reader is cut off and can resume. Leaves to others: what is in the pool and in the log
//! (`node`, `store`); TLS and authentication (a proxy).

mod errors;
mod finality;
mod gate;
mod methods;
mod openrpc;
mod params;
mod receipts;
mod server;
mod settled;
mod submit;
mod subscribe;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fusion_types::{DecidedBlock, Height, RollupConfig, RollupId};
use jsonrpsee::types::ErrorObjectOwned;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::handle::NodeHandle;
use crate::metrics::Metrics;
use crate::store::{LogReader, StoreError};

use finality::Finality;
use methods::Answer;
use receipts::Receipts;

/// What RPC may use, and who may call. Every limit has an answer when it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Largest request, in bytes. A batch of 100 opaque payloads of 512 bytes takes 110 KB.
    pub request_bytes: u32,
    /// Largest response, in bytes: a full block of 4 MiB is 8 MiB of hex.
    pub response_bytes: u32,
    /// Most calls in one batch.
    pub batch_calls: u32,
    /// Most connections.
    pub connections: usize,
    /// Most connections of one address that is not this machine's.
    pub connections_per_address: usize,
    /// Most connections from this machine.
    pub connections_loopback: usize,
    /// Most subscriptions on one connection.
    pub subscriptions: u32,
    /// Most unanswered calls on one WebSocket connection.
    pub calls: usize,
    /// A request's head, or the next request on an idle connection, must arrive within this time.
    pub head_timeout: Duration,
    /// A request's body must arrive within this time.
    pub body_timeout: Duration,
    /// A call is answered within this time, the `…Sync` calls excepted.
    pub call_timeout: Duration,
    /// How long a `…Sync` call waits if it does not say. EIP-7966 recommends 2 s.
    pub sync_timeout: Duration,
    /// How long a `…Sync` call may wait at most; who asks for more gets the default, by EIP-7966.
    pub sync_timeout_max: Duration,
    /// A subscriber that takes nothing for this time is cut off.
    pub slow_reader: Duration,
    /// A connection that takes nothing for this time is closed.
    pub write_timeout: Duration,
    /// Values of the `Host` header that are served, without port; any if empty.
    pub hosts: Vec<String>,
    /// Web pages that may call, by the `Origin` header; `*` for all, none if empty.
    pub origins: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            request_bytes: 1024 * 1024,
            response_bytes: 10 * 1024 * 1024,
            batch_calls: 100,
            connections: 1000,
            connections_per_address: 64,
            connections_loopback: 512,
            subscriptions: 64,
            calls: 64,
            head_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(10),
            sync_timeout: Duration::from_secs(2),
            sync_timeout_max: Duration::from_secs(60),
            slow_reader: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            hosts: Vec::new(),
            origins: Vec::new(),
        }
    }
}

/// Calls that read many blocks at once. More would only compete for the disk.
const HEAVY_CALLS_MAX: usize = 4;

/// Blocks this close to the tip are in the store's memory: reading them does not wait for a disk.
const RECENT_BLOCKS: u64 = 32;

/// A node that has just started opens its index beside its work: questions to it wait this long before they are
/// refused.
const INDEX_PATIENCE: Duration = Duration::from_secs(5);

/// How often the index is asked again meanwhile.
const INDEX_INTERVAL: Duration = Duration::from_millis(20);

/// What every method works with.
#[derive(Debug, Clone)]
struct Rpc(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: Options,
    handle: NodeHandle,
    metrics: Metrics,
    finality: Finality,
    receipts: Receipts,
    heavy: Semaphore,
}

/// Serves until `stopped` completes, then ends all connections within a second.
///
/// # Errors
/// What the system said when it could not listen any more.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    handle: NodeHandle,
    metrics: Metrics,
    stopped: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let start = handle.reader.tip().0;
    let rpc = Rpc(Arc::new(Inner {
        options,
        handle,
        metrics,
        finality: Finality::default(),
        receipts: Receipts::default(),
        heavy: Semaphore::new(HEAVY_CALLS_MAX),
    }));
    let follower = tokio::spawn(finality::follow(rpc.clone(), start));
    let served = server::run(listener, &rpc, stopped).await;
    follower.abort();
    served
}

impl Rpc {
    fn options(&self) -> &Options {
        &self.0.options
    }

    fn handle(&self) -> &NodeHandle {
        &self.0.handle
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn finality(&self) -> &Finality {
        &self.0.finality
    }

    fn receipts(&self) -> &Receipts {
        &self.0.receipts
    }

    /// The rollup with this id.
    fn rollup(&self, id: RollupId) -> Result<&RollupConfig, ErrorObjectOwned> {
        let rollup = self.handle().genesis.rollup(id);
        rollup.ok_or_else(|| errors::rejected(&fusion_mempool::Reject::UnknownRollup(id), None))
    }

    /// Height of the log, and how many blocks it is behind the best peer.
    fn stand(&self) -> (Height, u64) {
        (self.handle().reader.tip().0, self.handle().status().node.lag)
    }

    /// A decided block, read without holding up others.
    async fn block(&self, height: Height) -> Result<Option<Arc<DecidedBlock>>, ErrorObjectOwned> {
        let reader = self.handle().reader.clone();
        if reader.tip().0.0.saturating_sub(height.0) < RECENT_BLOCKS {
            return reader.block(height).map_err(|error| errors::storage(&error));
        }
        self.blocking(move |_| reader.block(height).map_err(|error| errors::storage(&error)))
            .await
    }

    /// Asks what needs the index, again while the index is behind and there is patience left.
    async fn indexed<T: Send + 'static>(
        &self,
        ask: impl Fn(&LogReader) -> Result<T, StoreError> + Clone + Send + 'static,
    ) -> Answer<T> {
        let deadline = Instant::now() + INDEX_PATIENCE;
        loop {
            let (reader, ask) = (self.handle().reader.clone(), ask.clone());
            match self.blocking(move |_| Ok(ask(&reader))).await? {
                Ok(answer) => return Ok(answer),
                Err(StoreError::Indexing { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(INDEX_INTERVAL).await;
                }
                Err(error) => return Err(errors::storage(&error)),
            }
        }
    }

    /// Runs what reads from the disk on a thread that may wait.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, ErrorObjectOwned> + Send + 'static,
    ) -> Result<T, ErrorObjectOwned> {
        let rpc = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&rpc)).await;
        done.unwrap_or_else(|_| Err(errors::stopping()))
    }
}

#[cfg(test)]
mod tests;
