//! The part of the beacon API that a follower of blobs needs, beside JSON-RPC on the same port.
//!
//! Ids of blocks are `head`, `finalized`, `justified` (what is called safe here), `genesis`, a *slot*, or a root, which is the hash of
//! the execution block. Source: ethereum/beacon-APIs v4 (`getBlobs`, `getGenesis`, `getSpec`, `getBlockHeader`).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use alloy_eips::BlockNumberOrTag;
use alloy_eips::eip4844::Blob;
use alloy_primitives::B256;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jsonrpsee::server::{HttpBody, HttpRequest, HttpResponse};
use serde_json::{Value, json};
use tower::{BoxError, Layer, Service, ServiceExt};

use super::owner::Owner;
use crate::chain::ExecutedBlock;
use crate::l1::L1;
use crate::params;

/// Most versioned hashes of one question: as many as a block can have.
const HASHES_MAX: usize = 64;

/// What the API refuses, with its status.
#[derive(Debug)]
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, message) = self;
        let body = json!({ "code": status.as_u16(), "message": message });
        (status, Json(body)).into_response()
    }
}

fn router(owner: Owner) -> Router {
    Router::new()
        .route("/eth/v1/beacon/genesis", get(genesis))
        .route("/eth/v1/beacon/headers/{block_id}", get(block_header))
        .route("/eth/v1/beacon/blobs/{block_id}", get(blobs))
        .route("/eth/v1/beacon/blob_sidecars/{block_id}", get(blob_sidecars))
        .route("/eth/v1/config/spec", get(spec))
        .route("/eth/v1/node/version", get(version))
        .route("/eth/v1/node/health", get(|| async { StatusCode::OK }))
        .fallback(|| async { Refused(StatusCode::NOT_FOUND, "no such endpoint".into()) })
        .with_state(owner)
}

/// Asks the L1; a full queue is 503.
async fn ask<R: Send + 'static>(
    owner: &Owner,
    question: impl FnOnce(&mut L1) -> Result<R, Refused> + Send + 'static,
) -> Result<R, Refused> {
    let answer = owner.ask(move |l1, _| question(l1)).await;
    answer.map_err(|busy| Refused(StatusCode::SERVICE_UNAVAILABLE, busy.to_string()))?
}

async fn genesis(State(owner): State<Owner>) -> Result<Json<Value>, Refused> {
    let data = ask(&owner, |l1| {
        Ok(json!({
            "genesis_time": l1.config().chain.genesis_time.to_string(),
            "genesis_validators_root": B256::ZERO,
            "genesis_fork_version": "0x00000000",
        }))
    });
    Ok(Json(json!({ "data": data.await? })))
}

async fn spec(State(owner): State<Owner>) -> Result<Json<Value>, Refused> {
    let data = ask(&owner, |l1| {
        let config = l1.config();
        let seconds = l1.slot_seconds();
        Ok(json!({
            "CONFIG_NAME": "fusion-l1",
            "SECONDS_PER_SLOT": seconds.to_string(),
            "SLOT_DURATION_MS": seconds.saturating_mul(1000).to_string(),
            "SLOTS_PER_EPOCH": "32",
            "MIN_GENESIS_TIME": config.chain.genesis_time.to_string(),
            "GENESIS_DELAY": "0",
            "DEPOSIT_CHAIN_ID": config.chain.chain_id.to_string(),
            "DEPOSIT_NETWORK_ID": config.chain.chain_id.to_string(),
            "ELECTRA_FORK_EPOCH": "0",
            "FULU_FORK_EPOCH": "0",
            "MAX_BLOBS_PER_BLOCK_ELECTRA": params::BLOBS.max_blob_count.to_string(),
            "MIN_EPOCHS_FOR_BLOB_SIDECARS_REQUESTS": (config.blob_slots_retained / 32).to_string(),
            "BLOB_SCHEDULE": [{ "EPOCH": "0", "MAX_BLOBS_PER_BLOCK": params::BLOBS.max_blob_count.to_string() }],
        }))
    });
    Ok(Json(json!({ "data": data.await? })))
}

async fn version() -> Json<Value> {
    Json(json!({ "data": { "version": format!("fusion-evm/v{}", env!("CARGO_PKG_VERSION")) } }))
}

async fn block_header(State(owner): State<Owner>, Path(id): Path<String>) -> Result<Json<Value>, Refused> {
    let answer = ask(&owner, move |l1| {
        let block = find(l1, &id)?;
        Ok(json!({
            "execution_optimistic": false,
            "finalized": is_finalized(l1, block),
            "data": {
                "root": block.hash(),
                "canonical": true,
                "header": {
                    "message": {
                        "slot": l1.slot(block).to_string(),
                        "proposer_index": "0",
                        "parent_root": block.header.parent_hash,
                        "state_root": block.header.state_root,
                        "body_root": block.header.transactions_root,
                    },
                    "signature": format!("0x{}", "00".repeat(96)),
                },
            },
        }))
    });
    answer.await.map(Json)
}

async fn blobs(
    State(owner): State<Owner>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let wanted = versioned_hashes(query.as_deref().unwrap_or_default())?;
    let (finalized, blobs) = ask(&owner, move |l1| {
        let block = find(l1, &id)?;
        let blobs = l1.blobs(block);
        let pruned = || Refused(StatusCode::NOT_FOUND, "blobs are no longer kept".into());
        Ok((is_finalized(l1, block), blobs.ok_or_else(pruned)?))
    })
    .await?;
    let chosen = blobs
        .into_iter()
        .filter(|(hash, _)| wanted.is_empty() || wanted.contains(hash))
        .map(|(_, blob)| blob);
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.starts_with("application/octet-stream")) {
        // SSZ of a list whose elements have a fixed size is one after the other.
        let bytes: Vec<u8> = chosen.flat_map(|blob| blob.to_vec()).collect();
        return Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response());
    }
    let data: Vec<Blob> = chosen.collect();
    let body = json!({ "execution_optimistic": false, "finalized": finalized, "data": data });
    Ok(Json(body).into_response())
}

async fn blob_sidecars() -> Refused {
    Refused(
        StatusCode::GONE,
        "blob sidecars ended with Fulu: use /eth/v1/beacon/blobs".into(),
    )
}

fn is_finalized(l1: &L1, block: &ExecutedBlock) -> bool {
    block.number() <= l1.number(BlockNumberOrTag::Finalized)
}

fn find<'a>(l1: &'a L1, id: &str) -> Result<&'a Arc<ExecutedBlock>, Refused> {
    let tagged = |tag| l1.chain().block(l1.number(tag));
    let block = match id {
        "head" => tagged(BlockNumberOrTag::Latest),
        "justified" => tagged(BlockNumberOrTag::Safe),
        "finalized" => tagged(BlockNumberOrTag::Finalized),
        "genesis" => tagged(BlockNumberOrTag::Earliest),
        other if other.starts_with("0x") => {
            let root: B256 = other.parse().map_err(|_| invalid_id(other))?;
            l1.chain().block_by_hash(&root)
        }
        other => {
            let slot: u64 = other.parse().map_err(|_| invalid_id(other))?;
            l1.block_of_slot(slot)
        }
    };
    block.ok_or_else(|| Refused(StatusCode::NOT_FOUND, "block not found".into()))
}

fn invalid_id(id: &str) -> Refused {
    let shown: String = id.chars().take(80).collect();
    Refused(StatusCode::BAD_REQUEST, format!("invalid block id: {shown}"))
}

/// Hashes of `versioned_hashes=a,b` and of several of these.
fn versioned_hashes(query: &str) -> Result<Vec<B256>, Refused> {
    let bad = |text: &str| Refused(StatusCode::BAD_REQUEST, text.into());
    let mut hashes = Vec::new();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    for (_, list) in pairs.filter(|(name, _)| *name == "versioned_hashes") {
        for hash in list.split([',']).flat_map(|part| part.split("%2C")) {
            hashes.push(hash.parse().map_err(|_| bad("invalid versioned hash"))?);
            if hashes.len() > HASHES_MAX {
                return Err(bad("too many versioned hashes"));
            }
        }
    }
    Ok(hashes)
}

/// Puts the beacon API before JSON-RPC: `GET /eth/…` is its own, everything else passes.
#[derive(Clone, Debug)]
pub(super) struct BeaconLayer {
    router: Router,
}

impl BeaconLayer {
    pub(super) fn new(owner: Owner) -> Self {
        Self { router: router(owner) }
    }
}

impl<S> Layer<S> for BeaconLayer {
    type Service = BeaconService<S>;

    fn layer(&self, inner: S) -> BeaconService<S> {
        BeaconService {
            inner,
            router: self.router.clone(),
        }
    }
}

/// See [`BeaconLayer`].
#[derive(Clone, Debug)]
pub(super) struct BeaconService<S> {
    inner: S,
    router: Router,
}

impl<S, B> Service<HttpRequest<B>> for BeaconService<S>
where
    S: Service<HttpRequest, Response = HttpResponse>,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send + 'static,
    B: axum::body::HttpBody<Data = axum::body::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = HttpResponse;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: HttpRequest<B>) -> Self::Future {
        if !request.uri().path().starts_with("/eth/") {
            let answer = self.inner.call(request.map(HttpBody::new));
            return Box::pin(async move { answer.await.map_err(Into::into) });
        }
        let (parts, _) = request.into_parts();
        let router = self.router.clone();
        Box::pin(async move {
            // No endpoint reads a body.
            let request = Request::from_parts(parts, Body::empty());
            let response = router.oneshot(request).await?;
            Ok(response.map(HttpBody::new))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versioned_hashes_are_read_in_every_way_that_clients_send_them() {
        let hash = |byte| B256::repeat_byte(byte);
        let query = format!(
            "versioned_hashes={},{}&x=1&versioned_hashes={}",
            hash(1),
            hash(2),
            hash(3)
        );
        assert_eq!(versioned_hashes(&query).unwrap(), [hash(1), hash(2), hash(3)]);
        assert!(versioned_hashes("").unwrap().is_empty());
        assert_eq!(
            versioned_hashes("versioned_hashes=0x12").unwrap_err().0,
            StatusCode::BAD_REQUEST
        );
        let many = format!(
            "versioned_hashes={}",
            vec![hash(1).to_string(); HASHES_MAX + 1].join(",")
        );
        assert_eq!(versioned_hashes(&many).unwrap_err().0, StatusCode::BAD_REQUEST);
    }
}
