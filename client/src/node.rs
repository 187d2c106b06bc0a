//! One node as a client sees it: its address and the calls that this crate makes. The only file that names RPC methods.
//!
//! Promises: every call ends within a time limit and takes bounded memory. Believes nothing: answers are decoded, not
//! verified.

use std::time::Duration;

use fusion_types::{Height, RollupId, TxHash};
use jsonrpsee::core::JsonRawValue;
use jsonrpsee::core::client::{ClientT as _, Error as RpcError, Subscription, SubscriptionClientT as _};
use jsonrpsee::http_client::HttpClient;
use jsonrpsee::rpc_params;
use jsonrpsee::ws_client::{PingConfig, WsClient, WsClientBuilder};

use crate::json::{BlockJson, CursorJson, Data, Hash, ReceiptJson, ReceiptStatusJson, StatusJson};

/// Largest answer accepted, in bytes: a full block is 4 MiB, and twice that in hex.
const ANSWER_BYTES_MAX: u32 = 32 * 1024 * 1024;

/// Largest request sent, in bytes: a transaction of 128 KiB in hex, with room around it.
const REQUEST_BYTES_MAX: u32 = 512 * 1024;

/// Stream blocks that wait in memory before the connection is given up and resumed by request.
const STREAM_BUFFER_BLOCKS: usize = 64;

/// A node that answers no ping for this many times the answer timeout is taken for dead: fewer would blame it for a
/// busy machine.
const PINGS_MISSED: u32 = 3;

/// Most blocks asked for in one request; the node may send fewer.
const RANGE_BLOCKS: u32 = 256;

/// A node's RPC address, with or without TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeUrl {
    http: String,
    ws: String,
}

impl NodeUrl {
    /// Reads `http://`, `https://`, `ws://` or `wss://` with host, port and an optional path.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| format!("{text:?} is no URL: it must start with http:// or https://"))?;
        let secure = match scheme {
            "http" | "ws" => "",
            "https" | "wss" => "s",
            _ => {
                return Err(format!(
                    "{text:?} has scheme {scheme:?}; http, https, ws and wss are known"
                ));
            }
        };
        if rest.is_empty() || rest.starts_with('/') || rest.contains(char::is_whitespace) {
            return Err(format!("{text:?} has no host"));
        }
        let rest = rest.trim_end_matches('/');
        Ok(Self {
            http: format!("http{secure}://{rest}"),
            ws: format!("ws{secure}://{rest}"),
        })
    }

    /// The address for requests.
    pub fn http(&self) -> &str {
        &self.http
    }
}

impl std::fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.http.fmt(f)
    }
}

/// Requests to a node over HTTP.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    http: HttpClient,
}

impl Requests {
    pub(crate) fn new(url: &NodeUrl, timeout: Duration) -> Result<Self, RpcError> {
        let http = HttpClient::builder()
            .request_timeout(timeout)
            .connect_timeout(timeout)
            .max_response_size(ANSWER_BYTES_MAX)
            .max_request_size(REQUEST_BYTES_MAX)
            .build(&url.http)?;
        Ok(Self { http })
    }

    pub(crate) async fn send(&self, rollup: RollupId, payload: &Data) -> Result<Hash, RpcError> {
        let params = rpc_params![rollup.0, payload];
        self.http.request("fusion_sendTransaction", params).await
    }

    pub(crate) async fn send_sync(
        &self,
        rollup: RollupId,
        payload: &Data,
        wait: Duration,
    ) -> Result<ReceiptJson, RpcError> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let params = rpc_params![rollup.0, payload, wait_ms];
        self.http.request("fusion_sendTransactionSync", params).await
    }

    pub(crate) async fn receipt(&self, rollup: RollupId, hash: TxHash) -> Result<ReceiptStatusJson, RpcError> {
        let params = rpc_params![rollup.0, Hash(hash)];
        self.http.request("fusion_getReceipt", params).await
    }

    pub(crate) async fn block(&self, height: Height) -> Result<BlockJson, RpcError> {
        self.http.request("fusion_getBlock", rpc_params![height.0]).await
    }

    pub(crate) async fn status(&self) -> Result<StatusJson, RpcError> {
        self.http.request("fusion_status", rpc_params![]).await
    }
}

/// A WebSocket to a node, for streams.
#[derive(Debug)]
pub(crate) struct Connection {
    ws: WsClient,
}

impl Connection {
    /// Connects. A node that hangs is noticed by missing answers to pings within a few times `timeout`.
    pub(crate) async fn open(url: &NodeUrl, timeout: Duration) -> Result<Self, RpcError> {
        let ping = PingConfig::new()
            .ping_interval(timeout)
            .inactive_limit(timeout * PINGS_MISSED)
            .max_failures(1);
        let ws = WsClientBuilder::new()
            .request_timeout(timeout)
            .connection_timeout(timeout)
            .max_response_size(ANSWER_BYTES_MAX)
            .max_request_size(REQUEST_BYTES_MAX)
            .max_buffer_capacity_per_subscription(STREAM_BUFFER_BLOCKS)
            .enable_ws_ping(ping);
        // The builder's own limit covers the TCP connection only; a hung node accepts and then says nothing.
        let ws = tokio::time::timeout(timeout, ws.build(&url.ws))
            .await
            .map_err(|_| RpcError::RequestTimeout)??;
        Ok(Self { ws })
    }

    pub(crate) async fn status(&self) -> Result<Box<JsonRawValue>, RpcError> {
        self.ws.request("fusion_status", rpc_params![]).await
    }

    pub(crate) async fn stream_range(&self, from: &CursorJson) -> Result<Box<JsonRawValue>, RpcError> {
        let params = rpc_params![from.rollup, from.sequence, RANGE_BLOCKS];
        self.ws.request("fusion_getStream", params).await
    }

    pub(crate) async fn stream(&self, from: &CursorJson) -> Result<Subscription<Box<JsonRawValue>>, RpcError> {
        let params = rpc_params!["stream", from];
        self.ws
            .subscribe("fusion_subscribe", params, "fusion_unsubscribe")
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_all_four_schemes_name_one_node() {
        for (text, http) in [
            ("http://127.0.0.1:1", "http://127.0.0.1:1"),
            ("ws://127.0.0.1:1/", "http://127.0.0.1:1"),
            ("wss://node.example/rpc", "https://node.example/rpc"),
            ("https://node.example", "https://node.example"),
        ] {
            assert_eq!(NodeUrl::parse(text).unwrap().http(), http);
        }
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_text() {
        for text in ["", "127.0.0.1:1", "ftp://x", "http://", "http:///x", "http://a b"] {
            assert!(
                NodeUrl::parse(text).unwrap_err().contains(&format!("{text:?}")),
                "{text}"
            );
        }
    }
}
