//! The L1 on the network: one thread that owns it, JSON-RPC and the beacon API on one port.
//!
//! Promises that no bytes from the network panic, that every queue is bounded (full means `busy`), and that the runtime which it is
//! started on never waits for an execution or a proof: the chain has a thread of its own, and blobs are verified on blocking threads.
//! Binds loopback unless told otherwise: whoever reaches the port may reorg the chain.

mod owner;
pub use owner::{Busy, Owner};

mod args;
mod error;
mod shape;

mod blocks;
mod control;
mod send;
mod state;

mod beacon;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};

use jsonrpsee::RpcModule;
use jsonrpsee::server::{BatchRequestConfig, Server, ServerConfig, ServerHandle};

use crate::l1::{L1, L1Config};

/// Bytes of a request: a transaction of 6 blobs is 1.7 MB in hex.
const REQUEST_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// Bytes of a response: 20,000 logs, or a full block.
const RESPONSE_BYTES_MAX: u32 = 32 * 1024 * 1024;

/// Connections at a time; more are refused.
const CONNECTIONS_MAX: u32 = 128;

/// Requests of one batch.
const BATCH_MAX: u32 = 100;

/// What to serve, and where.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The L1.
    pub l1: L1Config,
}

impl ServeConfig {
    /// The developers' L1 on a free port of loopback, which begins now.
    #[must_use]
    pub fn dev() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            l1: L1Config::dev(owner::since_epoch().as_secs()),
        }
    }
}

/// An L1 that is being served. Dropping it stops the service.
#[derive(Debug)]
pub struct L1Server {
    address: SocketAddr,
    owner: Owner,
    server: ServerHandle,
}

impl L1Server {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of both APIs.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The L1 itself, for those in the same process.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Stops listening, and waits until connections are closed.
    pub async fn stop(self) {
        // It fails only if it was stopped before, which is what is wanted.
        let _ = self.server.stop();
        self.server.clone().stopped().await;
    }
}

impl Drop for L1Server {
    fn drop(&mut self) {
        let _ = self.server.stop();
    }
}

/// Starts an L1 and serves it. Needs a tokio runtime.
///
/// # Errors
/// If the address cannot be listened at, or no thread started.
pub async fn serve(config: ServeConfig) -> std::io::Result<L1Server> {
    let chain_id = config.l1.chain.chain_id;
    let owner = Owner::start(L1::new(config.l1), owner::since_epoch)?;
    let limits = ServerConfig::builder()
        .max_request_body_size(REQUEST_BYTES_MAX)
        .max_response_body_size(RESPONSE_BYTES_MAX)
        .max_connections(CONNECTIONS_MAX)
        .set_batch_request_config(BatchRequestConfig::Limit(BATCH_MAX))
        .set_tcp_no_delay(true)
        .build();
    let beacon = beacon::BeaconLayer::new(owner.clone());
    let server = Server::builder()
        .set_config(limits)
        .set_http_middleware(tower::ServiceBuilder::new().layer(beacon))
        .build(config.listen)
        .await?;
    let address = server.local_addr()?;
    let methods = methods(&owner, chain_id).map_err(std::io::Error::other)?;
    Ok(L1Server {
        address,
        server: server.start(methods),
        owner,
    })
}

fn methods(owner: &Owner, chain_id: u64) -> Result<RpcModule<Owner>, jsonrpsee::core::RegisterMethodError> {
    let mut module = RpcModule::new(owner.clone());
    blocks::register(&mut module)?;
    state::register(&mut module)?;
    send::register(&mut module, chain_id)?;
    control::register(&mut module)?;
    Ok(module)
}
