//! The methods that answer once, without submitting: what is decided, how the node stands.

use std::sync::Arc;

use alloy_primitives::B256;
use fusion_client::json::{
    BlockJson, CertificateJson, CommitteeJson, CursorJson, EvidenceJson, Hash, PeersJson, ReceiptJson, ReceiptStatus,
    ReceiptStatusJson, RollupBlockJson, StatusJson, StreamJson,
};
use fusion_types::{DecidedBlock, Height, RollupBlock, RollupId, TxHash};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use jsonrpsee::{Extensions, RpcModule};
use serde::Deserialize;
use serde_json::Value;

use super::errors;
use super::openrpc;
use super::receipts::receipt_at;
use super::server::Connection;
use super::settled::posted;
use super::{Rpc, params, submit, subscribe};
use crate::store::{LogReader, StoreError};

/// Blocks in one answer of `fusion_getStream` if the caller does not say.
const STREAM_BLOCKS: u64 = 100;

/// Most blocks in one answer of `fusion_getStream`.
const STREAM_BLOCKS_MAX: u64 = 1000;

/// Payload bytes after which an answer of `fusion_getStream` takes no further block.
const STREAM_BYTES: usize = 2 * 1024 * 1024;

pub(super) type Answer<T> = Result<T, ErrorObjectOwned>;

/// All methods. Their names are those of [`openrpc::METHODS`].
pub(super) fn all(rpc: Rpc) -> RpcModule<Rpc> {
    let mut module = RpcModule::new(rpc);
    let registered = register(&mut module).and_then(|()| subscribe::register(&mut module));
    registered.expect("every name is registered once");
    module
}

fn register(module: &mut RpcModule<Rpc>) -> Result<(), jsonrpsee::server::RegisterMethodError> {
    module.register_method("eth_chainId", |_, _, extensions| {
        Ok::<_, ErrorObjectOwned>(format!("{:#x}", this_rollup(extensions)?.0))
    })?;
    module.register_method("net_version", |_, _, extensions| {
        Ok::<_, ErrorObjectOwned>(this_rollup(extensions)?.to_string())
    })?;
    module.register_async_method("eth_blockNumber", |_, rpc, extensions| async move {
        latest(&rpc, this_rollup(&extensions)?).await
    })?;
    // `gate` answers these before they get here, so that a batch is one submission.
    module.register_async_method("eth_sendRawTransaction", |params, rpc, extensions| async move {
        submit::one(&rpc, "eth_sendRawTransaction", &params, &extensions).await
    })?;
    module.register_async_method("fusion_sendTransaction", |params, rpc, extensions| async move {
        submit::one(&rpc, "fusion_sendTransaction", &params, &extensions).await
    })?;
    module.register_async_method("eth_sendRawTransactionSync", |params, rpc, extensions| async move {
        submit::eth_sync(&rpc, &params, &extensions).await
    })?;
    module.register_async_method("fusion_sendTransactionSync", |params, rpc, extensions| async move {
        submit::fusion_sync(&rpc, &params, &extensions).await
    })?;
    module.register_async_method("fusion_getReceipt", |params, rpc, extensions| async move {
        get_receipt(&rpc, &params, &extensions).await
    })?;
    module.register_async_method("fusion_getStream", |params, rpc, extensions| async move {
        get_stream(&rpc, &params, &extensions).await
    })?;
    module.register_async_method("fusion_getBlock", |params, rpc, extensions| async move {
        let _turn = heavy(&rpc).await?;
        let block = get_block(&rpc, "fusion_getBlock", &params, &extensions).await?;
        Ok::<_, ErrorObjectOwned>(BlockJson::from(&*block))
    })?;
    module.register_async_method("fusion_getCertificate", |params, rpc, extensions| async move {
        let block = get_block(&rpc, "fusion_getCertificate", &params, &extensions).await?;
        Ok::<_, ErrorObjectOwned>(CertificateJson::from(&block.certificate))
    })?;
    module.register_method("fusion_getCommittee", |params, rpc, extensions| {
        get_committee(rpc, &params, extensions)
    })?;
    module.register_method("fusion_status", |_, rpc, _| Ok::<_, ErrorObjectOwned>(status(rpc)))?;
    module.register_method("fusion_peers", |_, rpc, _| {
        let peers = rpc.handle().status().peers.clone();
        Ok::<_, ErrorObjectOwned>(PeersJson { peers })
    })?;
    module.register_method("fusion_evidence", |_, rpc, _| {
        Ok::<Vec<EvidenceJson>, ErrorObjectOwned>(rpc.handle().status().evidence.clone())
    })?;
    module.register_method("rpc.discover", |_, _, _| openrpc::document())?;
    Ok(())
}

/// The rollup of the path, if it is a rollup's.
pub(super) fn path_rollup(extensions: &Extensions) -> Option<RollupId> {
    extensions
        .get::<Arc<Connection>>()
        .and_then(|connection| connection.rollup)
}

/// The rollup of the path; the methods that ask are served nowhere else.
fn this_rollup(extensions: &Extensions) -> Answer<RollupId> {
    path_rollup(extensions).ok_or_else(|| errors::method_not_found("this method is served at /rollup/<id>"))
}

/// The rollup that a call is about: that of the path, or the one given; if both, they must agree.
pub(super) fn rollup_of(method: &str, extensions: &Extensions, given: Option<u64>) -> Answer<RollupId> {
    match (path_rollup(extensions), given) {
        (Some(path), Some(given)) if path.0 != given => Err(errors::invalid_params(format!(
            "{method}: rollup is {given}, the path is /rollup/{path}"
        ))),
        (Some(path), _) => Ok(path),
        (None, Some(given)) => Ok(RollupId(given)),
        (None, None) => Err(errors::invalid_params(format!("{method}: rollup is missing"))),
    }
}

/// The right to make a large answer.
pub(super) async fn heavy(rpc: &Rpc) -> Answer<tokio::sync::SemaphorePermit<'_>> {
    rpc.0.heavy.acquire().await.map_err(|_| errors::stopping())
}

async fn latest(rpc: &Rpc, rollup: RollupId) -> Answer<String> {
    let height = match rpc.finality().latest(rollup) {
        Some(height) => height,
        None => rpc.indexed(move |reader| latest_in_log(reader, rollup)).await?,
    };
    Ok(format!("{:#x}", height.0))
}

/// The height of a rollup's last lane, by bisection over its sequence numbers; 0 before the first.
fn latest_in_log(reader: &LogReader, rollup: RollupId) -> Result<Height, StoreError> {
    let height_of = |sequence| reader.height_of(rollup, sequence);
    let Some(mut found) = height_of(0)? else {
        return Ok(Height(0));
    };
    // `low` is decided, `high` is not.
    let (mut low, mut high) = (0_u64, 1_u64);
    while let Some(height) = height_of(high)? {
        (found, low, high) = (height, high, high.saturating_mul(2));
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match height_of(middle)? {
            Some(height) => (found, low) = (height, middle),
            None => high = middle,
        }
    }
    Ok(found)
}

fn status(rpc: &Rpc) -> StatusJson {
    let mut status = rpc.handle().status().node.clone();
    // The log may be ahead of what the node last published.
    let (height, tip) = rpc.handle().reader.tip();
    if height.0 > status.height {
        status.lag = status.lag.saturating_sub(height.0 - status.height);
        status.height = height.0;
        status.tip = Hash(tip.0);
    }
    status
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HashParams {
    hash: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RollupHashParams {
    rollup: u64,
    hash: String,
}

fn hash_params(method: &str, params: &Params<'_>, extensions: &Extensions) -> Answer<(RollupId, TxHash)> {
    let short = path_rollup(extensions).and_then(|_| params::read::<HashParams>(params));
    let (rollup, text) = match short {
        Some(HashParams { hash }) => (None, hash),
        None => {
            params::parse(method, params, extensions).map(|RollupHashParams { rollup, hash }| (Some(rollup), hash))?
        }
    };
    let bytes = fusion_client::json::parse(&text, 32).ok();
    let hash = bytes.and_then(|bytes| B256::try_from(&bytes[..]).ok());
    let hash = hash.ok_or_else(|| params::mismatch(method, "hash", &Value::from(text), "0x and 64 hex digits"))?;
    Ok((rollup_of(method, extensions, rollup)?, hash))
}

async fn get_receipt(rpc: &Rpc, params: &Params<'_>, extensions: &Extensions) -> Answer<ReceiptStatusJson> {
    let (rollup, hash) = hash_params("fusion_getReceipt", params, extensions)?;
    rpc.rollup(rollup)?;
    // The pool is asked first: a transaction that is decided in between is then found in the log.
    let waiting = rpc.handle().is_waiting(rollup, hash).await;
    let (height, lag) = rpc.stand();
    let answer = |status, receipt| ReceiptStatusJson {
        status,
        height: height.0,
        lag,
        receipt,
        settlement: None,
    };
    let place = if waiting == Some(true) {
        // The pool knows it: whether the index does yet is no reason to wait.
        rpc.handle().reader.place_of(rollup, hash).ok().flatten()
    } else {
        rpc.indexed(move |reader| reader.place_of(rollup, hash)).await?
    };
    if let Some(place) = place {
        let receipt = receipt_at(rpc, rollup, place).await?;
        let mut found = answer(ReceiptStatus::Final, Some(ReceiptJson::from(&receipt)));
        found.height = found.height.max(place.height.0);
        if let Some((status, posted)) = posted(rpc, &receipt).await? {
            found.status = status;
            found.settlement = Some(Box::new(posted));
        }
        return Ok(found);
    }
    match waiting {
        Some(true) => Ok(answer(ReceiptStatus::Pending, None)),
        Some(false) if lag > 0 => Ok(answer(ReceiptStatus::Behind, None)),
        Some(false) => Ok(answer(ReceiptStatus::Unknown, None)),
        // Nobody answered for the pool: `unknown` would be a guess.
        None => Err(errors::busy("questions about the pool", crate::handle::QUESTIONS_MAX)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeightParams {
    height: Value,
}

async fn get_block(rpc: &Rpc, method: &str, params: &Params<'_>, extensions: &Extensions) -> Answer<Arc<DecidedBlock>> {
    let HeightParams { height } = params::parse(method, params, extensions)?;
    let (tip, lag) = rpc.stand();
    let height = match &height {
        Value::String(text) if text == "latest" => tip.0,
        value => value
            .as_u64()
            .ok_or_else(|| params::mismatch(method, "height", value, openrpc::Kind::Height.expected()))?,
    };
    if height == 0 {
        return Err(errors::genesis_block());
    }
    let block = rpc.block(Height(height)).await?;
    block.ok_or_else(|| errors::not_yet(height, tip, lag))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommitteeParams {
    #[serde(default)]
    epoch: u64,
}

fn get_committee(rpc: &Rpc, params: &Params<'_>, extensions: &Extensions) -> Answer<CommitteeJson> {
    let CommitteeParams { epoch } = params::parse("fusion_getCommittee", params, extensions)?;
    let committee = rpc.handle().genesis.committee();
    if committee.epoch().0 == epoch {
        Ok(committee.into())
    } else {
        Err(errors::unknown_epoch(epoch))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamParams {
    rollup: u64,
    from: u64,
    #[serde(default)]
    limit: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PathStreamParams {
    from: u64,
    #[serde(default)]
    limit: Option<u64>,
}

async fn get_stream(rpc: &Rpc, params: &Params<'_>, extensions: &Extensions) -> Answer<StreamJson> {
    let method = "fusion_getStream";
    // By position the two forms look alike, so that on a rollup's path the rollup is left out, always.
    let (rollup, from, limit) = if let Some(rollup) = path_rollup(extensions) {
        let PathStreamParams { from, limit } = params::parse(method, params, extensions)?;
        (rollup, from, limit)
    } else {
        let StreamParams { rollup, from, limit } = params::parse(method, params, extensions)?;
        (RollupId(rollup), from, limit)
    };
    rpc.rollup(rollup)?;
    let limit = limit.unwrap_or(STREAM_BLOCKS);
    if limit == 0 || limit > STREAM_BLOCKS_MAX {
        let expected = format!("1 to {STREAM_BLOCKS_MAX}");
        return Err(params::mismatch(method, "limit", &Value::from(limit), &expected));
    }
    let _turn = heavy(rpc).await?;
    rpc.indexed(move |reader| read_stream(reader, rollup, from, limit))
        .await
}

fn read_stream(reader: &LogReader, rollup: RollupId, from: u64, limit: u64) -> Result<StreamJson, StoreError> {
    let mut answer = StreamJson {
        blocks: Vec::new(),
        next: CursorJson {
            rollup: rollup.0,
            sequence: from,
            head: None,
        },
        height: reader.tip().0.0,
    };
    let mut bytes = 0;
    while (answer.blocks.len() as u64) < limit && bytes < STREAM_BYTES {
        let height = match reader.height_of(rollup, answer.next.sequence) {
            Ok(Some(height)) => height,
            Ok(None) => break,
            Err(_) if !answer.blocks.is_empty() => break,
            Err(error) => return Err(error),
        };
        let Some(decided) = reader.block(height)? else {
            break;
        };
        let Some(block) = RollupBlock::of(decided.block.block(), &decided.certificate, rollup) else {
            break;
        };
        bytes += block
            .body
            .transactions
            .iter()
            .map(|payload| payload.len())
            .sum::<usize>();
        let lane = &block.body.lane;
        answer.next.sequence = lane.first_sequence.saturating_add(lane.count);
        answer.next.head = Some(Hash(lane.head));
        answer.blocks.push(RollupBlockJson::from(&block));
    }
    Ok(answer)
}
