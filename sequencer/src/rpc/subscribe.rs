//! `fusion_subscribe`: follow a stream, the heads, or receipts over WebSocket.
//!
//! A subscriber has no queue: it has a cursor into the log, and its task reads the next block when the socket has taken
//! the last item. So a slow reader costs nothing but its own delay; one that takes nothing for a while is told where it
//! stood and cut off, and resumes from there on any node. Items of one connection are made and sent one at a time,
//! which bounds what waits for its socket.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fusion_client::json::{
    CursorJson, Hash, HeadJson, HeadsParams, LaneHashesJson, ReceiptJson, ReceiptsParams, RollupBlockJson,
};
use fusion_types::{DecidedBlock, Height, RollupBlock, RollupId, TxHash, initial_head};
use jsonrpsee::core::{SubscriptionError, SubscriptionResult, to_json_raw_value};
use jsonrpsee::server::{PendingSubscriptionSink, RegisterMethodError, SendTimeoutError, SubscriptionSink};
use jsonrpsee::types::Params;
use jsonrpsee::{Extensions, RpcModule};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use super::methods::{Answer, path_rollup};
use super::openrpc::{Kind as Shape, Param, ROLLUP, optional, required};
use super::receipts::receipt_at;
use super::server::Connection;
use super::{Rpc, errors, params};
use crate::store::StoreError;

/// From this many blocks below the tip on, a stream is found by the index instead of block by block.
const SCAN_BLOCKS: u64 = 64;

/// Most transactions that one `receipts` subscription waits for.
const HASHES_MAX: usize = 1024;

/// A large item may take longer than a small one: a second more for each of this many bytes, the rate of a slow phone.
const SLOW_BYTES_PER_SECOND: usize = 128 * 1024;

/// Why a subscription ends.
#[derive(Debug)]
enum End {
    /// The subscriber left.
    Gone,
    /// With these words to the subscriber.
    Error(String),
}

/// Parameters of each kind of subscription.
const STREAM: &[Param] = &[
    ROLLUP,
    required("sequence", Shape::Number),
    optional("head", Shape::Hash),
];
const HEADS: &[Param] = &[
    optional("includeTransactions", Shape::Boolean),
    optional("from", Shape::Number),
];
const RECEIPTS: &[Param] = &[ROLLUP, optional("hashes", Shape::Hashes)];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscribeParams {
    kind: String,
    #[serde(default)]
    params: Option<Value>,
}

/// What to follow.
#[derive(Debug)]
enum Kind {
    Stream(Cursor),
    Heads(HeadsParams),
    Lanes(RollupId),
    Receipts(RollupId, BTreeSet<TxHash>),
}

#[derive(Debug, Clone, Copy)]
struct Cursor {
    rollup: RollupId,
    sequence: u64,
    head: Option<TxHash>,
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Stream(_) => "stream",
            Self::Heads(_) => "heads",
            Self::Lanes(_) | Self::Receipts(..) => "receipts",
        }
    }
}

pub(super) fn register(module: &mut RpcModule<Rpc>) -> Result<(), RegisterMethodError> {
    module.register_subscription(
        "fusion_subscribe",
        "fusion_subscription",
        "fusion_unsubscribe",
        |params, pending, rpc, extensions| async move { subscribe(&rpc, &params, pending, &extensions).await },
    )?;
    Ok(())
}

async fn subscribe(
    rpc: &Rpc,
    params: &Params<'_>,
    pending: PendingSubscriptionSink,
    extensions: &Extensions,
) -> SubscriptionResult {
    let asked = match read(rpc, params, extensions) {
        Ok(Kind::Stream(cursor)) => check_cursor(rpc, cursor).await.map(|()| Kind::Stream(cursor)),
        asked => asked,
    };
    let connection = extensions.get::<Arc<Connection>>().cloned();
    let (kind, connection) = match (asked, connection) {
        (Ok(kind), Some(connection)) => (kind, connection),
        (Err(error), _) => {
            pending.reject(error).await;
            return Ok(());
        }
        (_, None) => {
            pending.reject(errors::stopping()).await;
            return Ok(());
        }
    };
    // What is decided from here on is not missed, however long the subscriber takes to hear that it is accepted.
    let tips = rpc.handle().reader.subscribe();
    let tip = *tips.borrow();
    let sink = pending.accept().await?;
    let name = kind.name();
    rpc.metrics().subscriptions(name, 1);
    let mut follower = Follower {
        rpc,
        sink,
        connection,
        tips,
        done: tip,
        at: String::new(),
    };
    let end = follower.follow(kind).await;
    rpc.metrics().subscriptions(name, -1);
    match end {
        Ok(()) | Err(End::Gone) => Ok(()),
        Err(End::Error(text)) => Err(SubscriptionError::from(text)),
    }
}

/// Reads what to follow.
fn read(rpc: &Rpc, params: &Params<'_>, extensions: &Extensions) -> Answer<Kind> {
    let SubscribeParams { kind, params } = params::parse("fusion_subscribe", params, extensions)?;
    let mut params = params.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    if let (Some(path), Some(fields)) = (path_rollup(extensions), params.as_object_mut())
        && matches!(kind.as_str(), "stream" | "receipts")
    {
        let given = fields.entry("rollup").or_insert_with(|| Value::from(path.0));
        if given.as_u64() != Some(path.0) {
            return Err(errors::invalid_params(format!(
                "fusion_subscribe: rollup is {given}, the path is /rollup/{path}"
            )));
        }
    }
    match kind.as_str() {
        "stream" => {
            let cursor: CursorJson = decode("fusion_subscribe stream", STREAM, &params)?;
            let cursor = cursor.decode();
            let (rollup, sequence, head) =
                cursor.map_err(|error| errors::invalid_params(format!("fusion_subscribe stream: {error}")))?;
            rpc.rollup(rollup)?;
            Ok(Kind::Stream(Cursor { rollup, sequence, head }))
        }
        "heads" => {
            let heads: HeadsParams = decode("fusion_subscribe heads", HEADS, &params)?;
            if heads.from == Some(0) {
                return Err(errors::genesis_block());
            }
            Ok(Kind::Heads(heads))
        }
        "receipts" => {
            let receipts: ReceiptsParams = decode("fusion_subscribe receipts", RECEIPTS, &params)?;
            let rollup = rpc.rollup(RollupId(receipts.rollup))?.id;
            match receipts.hashes {
                None => Ok(Kind::Lanes(rollup)),
                Some(hashes) if hashes.is_empty() || hashes.len() > HASHES_MAX => Err(errors::invalid_params(format!(
                    "fusion_subscribe receipts: {} hashes are given, expected 1 to {HASHES_MAX}",
                    hashes.len()
                ))),
                Some(hashes) => Ok(Kind::Receipts(rollup, hashes.into_iter().map(|hash| hash.0).collect())),
            }
        }
        _ => {
            let expected = "\"stream\", \"heads\" or \"receipts\"";
            Err(params::mismatch(
                "fusion_subscribe",
                "kind",
                &Value::from(kind),
                expected,
            ))
        }
    }
}

fn decode<T: serde::de::DeserializeOwned>(what: &str, table: &[Param], given: &Value) -> Answer<T> {
    T::deserialize(given).map_err(|_| params::explain(what, table, given))
}

/// Refuses a cursor whose head is not the stream's, as far as it can be told before the next lane comes.
async fn check_cursor(rpc: &Rpc, cursor: Cursor) -> Answer<()> {
    let Some(head) = cursor.head else {
        return Ok(());
    };
    let Cursor { rollup, sequence, .. } = cursor;
    let Some(before) = sequence.checked_sub(1) else {
        let start = initial_head(rpc.handle().genesis.network(), rollup);
        return if head == start {
            Ok(())
        } else {
            Err(errors::wrong_head(rollup, sequence))
        };
    };
    let found = rpc.indexed(move |reader| match reader.height_of(rollup, before)? {
        Some(height) => reader.block(height),
        None => Ok(None),
    });
    let Some(decided) = found.await? else {
        return Ok(());
    };
    let Some(lane) = decided.block.block().lane(rollup).map(|body| &body.lane) else {
        return Ok(());
    };
    if lane.first_sequence.saturating_add(lane.count) != sequence {
        return Err(errors::inside_lane(rollup, sequence, lane.first_sequence));
    }
    if lane.head == head {
        Ok(())
    } else {
        Err(errors::wrong_head(rollup, sequence))
    }
}

/// One subscription at work.
struct Follower<'a> {
    rpc: &'a Rpc,
    sink: SubscriptionSink,
    connection: Arc<Connection>,
    tips: watch::Receiver<Height>,
    /// Everything up to this height is dealt with.
    done: Height,
    /// Where to resume, for the message at the end.
    at: String,
}

impl Follower<'_> {
    async fn follow(&mut self, kind: Kind) -> Result<(), End> {
        match kind {
            Kind::Stream(cursor) => self.stream(cursor).await,
            Kind::Heads(params) => self.heads(params).await,
            Kind::Lanes(rollup) => self.lanes(rollup).await,
            Kind::Receipts(rollup, hashes) => self.receipts(rollup, hashes).await,
        }
    }

    async fn stream(&mut self, mut cursor: Cursor) -> Result<(), End> {
        let rollup = cursor.rollup;
        self.done = Height(0);
        loop {
            self.at = format!("sequence {} of rollup {rollup}", cursor.sequence);
            self.skip(rollup, cursor.sequence).await?;
            let decided = self.next_block().await?;
            let Some(block) = RollupBlock::of(decided.block.block(), &decided.certificate, rollup) else {
                continue;
            };
            let lane = &block.body.lane;
            let next = lane.first_sequence.saturating_add(lane.count);
            if next <= cursor.sequence {
                continue;
            }
            if let Some(head) = cursor.head
                && (lane.first_sequence != cursor.sequence || lane.parent_head != head)
            {
                let error = errors::wrong_head(rollup, cursor.sequence);
                return Err(End::Error(error.message().to_owned()));
            }
            self.send(|| RollupBlockJson::from(&block)).await?;
            cursor = Cursor {
                rollup,
                sequence: next,
                head: Some(lane.head),
            };
        }
    }

    async fn heads(&mut self, params: HeadsParams) -> Result<(), End> {
        if let Some(from) = params.from {
            self.done = Height(from.saturating_sub(1));
        }
        loop {
            self.at = format!("height {}", self.done.next());
            let decided = self.next_block().await?;
            self.send(|| head_json(&decided, params.include_transactions)).await?;
        }
    }

    async fn lanes(&mut self, rollup: RollupId) -> Result<(), End> {
        loop {
            self.at = format!("height {}", self.done.next());
            let decided = self.next_block().await?;
            let hashes = lanes_json(&decided).find(|lane| lane.rollup == rollup.0);
            if let Some(hashes) = hashes {
                self.send(|| hashes).await?;
            }
        }
    }

    async fn receipts(&mut self, rollup: RollupId, mut hashes: BTreeSet<TxHash>) -> Result<(), End> {
        for hash in hashes.clone() {
            self.at = format!("transaction {hash}");
            let known = self.rpc.indexed(move |reader| reader.place_of(rollup, hash)).await;
            let known = known.map_err(|error| End::Error(error.message().to_owned()))?;
            if let Some(place) = known {
                let receipt = receipt_at(self.rpc, rollup, place).await;
                let receipt = receipt.map_err(|error| End::Error(error.message().to_owned()))?;
                hashes.remove(&hash);
                self.send(|| ReceiptJson::from(&receipt)).await?;
            }
        }
        while !hashes.is_empty() {
            let decided = self.next_block().await?;
            let lane = decided.block.lanes().find(|(body, _)| body.lane.rollup == rollup);
            let Some((_, decided_hashes)) = lane else {
                continue;
            };
            for (index, hash) in (0_u32..).zip(decided_hashes) {
                if hashes.remove(hash) {
                    self.at = format!("transaction {hash}");
                    let height = decided.block.header().height;
                    let receipt = receipt_at(self.rpc, rollup, crate::store::Place { height, index }).await;
                    let receipt = receipt.map_err(|error| End::Error(error.message().to_owned()))?;
                    self.send(|| ReceiptJson::from(&receipt)).await?;
                }
            }
        }
        Ok(())
    }

    /// Far below the tip, goes on just before the block that holds `sequence`, or at the tip if none does.
    async fn skip(&mut self, rollup: RollupId, sequence: u64) -> Result<(), End> {
        let tip = *self.tips.borrow_and_update();
        if tip.0.saturating_sub(self.done.0) <= SCAN_BLOCKS {
            return Ok(());
        }
        let reader = self.rpc.handle().reader.clone();
        let found = tokio::task::spawn_blocking(move || reader.height_of(rollup, sequence)).await;
        match found {
            Ok(Ok(Some(height))) => self.done = self.done.max(Height(height.0.saturating_sub(1))),
            Ok(Ok(None)) => self.done = tip,
            // The index is behind: what it does not know yet is read block by block.
            Ok(Err(StoreError::Indexing { indexed, .. })) => self.done = self.done.max(indexed),
            Ok(Err(error)) => return Err(End::Error(errors::storage(&error).message().to_owned())),
            Err(_) => return Err(End::Gone),
        }
        Ok(())
    }

    /// The block after those that are dealt with, once it is decided.
    async fn next_block(&mut self) -> Result<Arc<DecidedBlock>, End> {
        let height = self.done.next();
        while *self.tips.borrow_and_update() < height {
            tokio::select! {
                changed = self.tips.changed() => {
                    if changed.is_err() {
                        return Err(End::Error(errors::stopping().message().to_owned()));
                    }
                }
                () = self.sink.closed() => return Err(End::Gone),
            }
        }
        match self.rpc.block(height).await {
            Ok(Some(block)) => {
                self.done = height;
                Ok(block)
            }
            Ok(None) => Err(End::Error(format!(
                "height {height} is missing on this node: ask another"
            ))),
            Err(error) => Err(End::Error(error.message().to_owned())),
        }
    }

    /// Makes an item and sends it when it is this subscription's turn on its connection.
    async fn send<T: Serialize>(&self, item: impl FnOnce() -> T) -> Result<(), End> {
        let turn = tokio::select! {
            turn = self.connection.turn.lock() => turn,
            () = self.sink.closed() => return Err(End::Gone),
        };
        let json = to_json_raw_value(&item()).map_err(|error| End::Error(error.to_string()))?;
        let more = Duration::from_secs((json.get().len() / SLOW_BYTES_PER_SECOND) as u64);
        let limit = self.rpc.options().slow_reader + more;
        let sent = self.sink.send_timeout(json, limit).await;
        drop(turn);
        match sent {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Closed(_)) => Err(End::Gone),
            Err(SendTimeoutError::Timeout(_)) => {
                self.rpc.metrics().slow_reader();
                Err(End::Error(format!(
                    "slow reader: nothing was read for {} ms; resume from {}",
                    limit.as_millis(),
                    self.at
                )))
            }
        }
    }
}

fn head_json(decided: &DecidedBlock, include_transactions: bool) -> HeadJson {
    HeadJson {
        id: Hash(decided.block.id().0),
        header: decided.block.header().into(),
        certificate: (&decided.certificate).into(),
        lanes: include_transactions.then(|| lanes_json(decided).collect()),
    }
}

fn lanes_json(decided: &DecidedBlock) -> impl Iterator<Item = LaneHashesJson> + '_ {
    let height = decided.block.header().height.0;
    decided.block.lanes().map(move |(body, hashes)| LaneHashesJson {
        height,
        rollup: body.lane.rollup.0,
        first_sequence: body.lane.first_sequence,
        hashes: hashes.iter().copied().map(Hash).collect(),
    })
}
