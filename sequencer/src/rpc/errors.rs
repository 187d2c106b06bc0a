//! Every error that RPC answers: code, message with the numbers, `data` with a stable name.
//!
//! Codes: JSON-RPC 2.0 and EIP-1474 where they have one, the pool's own from [`Reject::code`], EIP-7966's for the
//! `…Sync` calls. No message names a path, a key or a place in the code.

use std::time::Duration;

use alloy_primitives::hex;
use fusion_client::json::{ErrorData, Hash};
use fusion_mempool::Reject;
use fusion_types::{Height, RollupId, TxHash};
use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::types::error::{INTERNAL_ERROR_CODE, INVALID_PARAMS_CODE, INVALID_REQUEST_CODE, METHOD_NOT_FOUND_CODE};
use serde_json::Value;

use crate::store::StoreError;

/// EIP-1474: the thing asked for is not here.
const NOT_FOUND: i32 = -32001;

/// EIP-1474: a limit is reached.
const LIMIT: i32 = -32005;

/// EIP-1474: the server cannot.
const SERVER: i32 = -32000;

/// EIP-7966: no receipt in time. The transaction may still become final.
const SYNC_TIMEOUT: i32 = 4;

/// EIP-7966: not added to the pool.
const SYNC_NOT_ADDED: i32 = 5;

/// EIP-7966: not added to the pool, an earlier nonce is missing.
const SYNC_NONCE_GAP: i32 = 6;

/// Longest part of a request that a message repeats, in characters.
const QUOTE_MAX: usize = 200;

fn error<const N: usize>(code: i32, name: &str, message: String, numbers: [(&str, u64); N]) -> ErrorObjectOwned {
    with_transaction(code, name, message, None, numbers)
}

fn with_transaction<const N: usize>(
    code: i32,
    name: &str,
    message: String,
    transaction: Option<TxHash>,
    numbers: [(&str, u64); N],
) -> ErrorObjectOwned {
    let numbers = numbers.map(|(key, value)| (key.to_owned(), Value::from(value)));
    let data = ErrorData {
        name: name.to_owned(),
        transaction: transaction.map(Hash),
        numbers: numbers.into(),
    };
    ErrorObjectOwned::owned(code, message, Some(data))
}

/// A transaction was refused.
pub(super) fn rejected(reject: &Reject, transaction: Option<TxHash>) -> ErrorObjectOwned {
    let (code, name, message) = (reject.code(), reject.name(), reject.to_string());
    let number = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    match reject {
        Reject::NonceTooLow { nonce, next } => {
            with_transaction(code, name, message, transaction, [("nonce", *nonce), ("next", *next)])
        }
        Reject::NonceGap { nonce, next, limit } => {
            let numbers = [("nonce", *nonce), ("next", *next), ("limit", *limit)];
            with_transaction(code, name, message, transaction, numbers)
        }
        Reject::AlreadyDecided { sequence, .. } => {
            with_transaction(code, name, message, transaction, [("sequence", *sequence)])
        }
        Reject::TooLarge { bytes } => {
            let limit = fusion_types::limits::TRANSACTION_BYTES_MAX;
            let numbers = [("bytes", number(*bytes)), ("limit", number(limit))];
            with_transaction(code, name, message, transaction, numbers)
        }
        Reject::GasTooLow { gas, minimum } => {
            with_transaction(code, name, message, transaction, [("gas", *gas), ("minimum", *minimum)])
        }
        Reject::GasTooHigh { gas, maximum } => {
            with_transaction(code, name, message, transaction, [("gas", *gas), ("maximum", *maximum)])
        }
        Reject::PoolFull { bytes, bytes_max } | Reject::RollupFull { bytes, bytes_max, .. } => {
            let numbers = [("bytes", number(*bytes)), ("limit", number(*bytes_max))];
            with_transaction(code, name, message, transaction, numbers)
        }
        Reject::Busy { waiting, limit } | Reject::Overload { waiting, most: limit } => {
            let numbers = [("waiting", number(*waiting)), ("limit", number(*limit))];
            with_transaction(code, name, message, transaction, numbers)
        }
        _ => with_transaction(code, name, message, transaction, []),
    }
}

/// What `eth_sendRawTransactionSync` says of a refusal: EIP-7966's codes where it has one, with its kind of `data`.
pub(super) fn rejected_sync(reject: &Reject, transaction: TxHash) -> ErrorObjectOwned {
    match reject {
        Reject::NonceGap { next, .. } => {
            ErrorObjectOwned::owned(SYNC_NONCE_GAP, reject.to_string(), Some(format!("{next:#x}")))
        }
        // Not for overload: of what was not read no hash can be told.
        Reject::Busy { .. } | Reject::PoolFull { .. } | Reject::RollupFull { .. } | Reject::SenderFull { .. } => {
            ErrorObjectOwned::owned(
                SYNC_NOT_ADDED,
                reject.to_string(),
                Some(hex::encode_prefixed(transaction)),
            )
        }
        _ => rejected(reject, Some(transaction)),
    }
}

/// No final receipt within the time that the caller gave. `plain`: EIP-7966's `data`, the hash alone.
pub(super) fn timed_out(transaction: TxHash, milliseconds: u64, plain: bool) -> ErrorObjectOwned {
    let message = format!("the transaction was added to the pool but is not final after {milliseconds} ms");
    if plain {
        return ErrorObjectOwned::owned(SYNC_TIMEOUT, message, Some(hex::encode_prefixed(transaction)));
    }
    let numbers = [("timeout_ms", milliseconds)];
    with_transaction(SYNC_TIMEOUT, "timeout", message, Some(transaction), numbers)
}

/// Parameters that are not what the method takes.
pub(super) fn invalid_params(what: impl std::fmt::Display) -> ErrorObjectOwned {
    let mut message: String = what.to_string();
    if let Some((at, _)) = message.char_indices().nth(QUOTE_MAX) {
        message.truncate(at);
        message.push('…');
    }
    let message = format!("invalid params: {message}");
    error(INVALID_PARAMS_CODE, "invalid_params", message, [])
}

/// A method that this path does not serve.
pub(super) fn method_not_found(message: &str) -> ErrorObjectOwned {
    error(METHOD_NOT_FOUND_CODE, "method_not_found", message.to_owned(), [])
}

/// A subscription over a connection that cannot carry its items.
pub(super) fn needs_websocket(method: &str, url: &str) -> ErrorObjectOwned {
    let message = format!("{method} needs a WebSocket connection: connect to {url} (wss:// behind TLS)");
    error(METHOD_NOT_FOUND_CODE, "needs_websocket", message, [])
}

/// A block that this node does not have yet.
pub(super) fn not_yet(height: u64, tip: Height, lag: u64) -> ErrorObjectOwned {
    let message =
        format!("height {height} is not decided here yet: this node is at height {tip}, {lag} behind its peers");
    error(
        NOT_FOUND,
        "not_yet",
        message,
        [("height", height), ("tip", tip.0), ("lag", lag)],
    )
}

/// The genesis block has no certificate and no body to show.
pub(super) fn genesis_block() -> ErrorObjectOwned {
    let message = "height 0 is the genesis: nobody signed it, blocks start at height 1".to_owned();
    error(NOT_FOUND, "genesis", message, [])
}

/// A committee of an epoch that is not known.
pub(super) fn unknown_epoch(epoch: u64) -> ErrorObjectOwned {
    let message = format!("the committee of epoch {epoch} is not known; the latest is of epoch 0");
    error(NOT_FOUND, "unknown_epoch", message, [("epoch", epoch)])
}

/// A cursor that is not on this network's stream.
pub(super) fn wrong_head(rollup: RollupId, sequence: u64) -> ErrorObjectOwned {
    let message =
        format!("the cursor's head is not the head of rollup {rollup} at sequence {sequence}: a different history");
    error(
        INVALID_PARAMS_CODE,
        "wrong_head",
        message,
        [("rollup", rollup.0), ("sequence", sequence)],
    )
}

/// A cursor with a head, in the middle of a lane: heads are known between lanes only.
pub(super) fn inside_lane(rollup: RollupId, sequence: u64, first: u64) -> ErrorObjectOwned {
    let message = format!(
        "sequence {sequence} of rollup {rollup} is inside the lane that starts at {first}: only lanes have heads"
    );
    let numbers = [("rollup", rollup.0), ("sequence", sequence), ("first_sequence", first)];
    error(INVALID_PARAMS_CODE, "inside_lane", message, numbers)
}

/// Too much at once.
pub(super) fn busy(what: &str, limit: usize) -> ErrorObjectOwned {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    error(
        LIMIT,
        "busy",
        format!("busy: {what}, limit is {limit}"),
        [("limit", limit)],
    )
}

/// The call took longer than calls may.
pub(super) fn slow_call(limit: Duration) -> ErrorObjectOwned {
    let milliseconds = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    let message = format!("busy: no answer within {milliseconds} ms");
    error(LIMIT, "busy", message, [("timeout_ms", milliseconds)])
}

/// A body that did not arrive in time.
pub(super) fn slow_body(limit: Duration) -> ErrorObjectOwned {
    let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    let message = format!("the request's body did not arrive within {limit} ms");
    error(INVALID_REQUEST_CODE, "slow_body", message, [("timeout_ms", limit)])
}

/// A body of more brackets in brackets than any call has.
pub(super) fn too_deep(limit: u32) -> ErrorObjectOwned {
    let message = format!("the request is nested more than {limit} deep");
    error(INVALID_REQUEST_CODE, "too_deep", message, [("limit", u64::from(limit))])
}

/// An id that could not be repeated in the answer.
pub(super) fn invalid_id() -> ErrorObjectOwned {
    let message = "id must be a whole number below 2^64, a text or null".to_owned();
    error(INVALID_REQUEST_CODE, "invalid_id", message, [])
}

/// The node is going down.
pub(super) fn stopping() -> ErrorObjectOwned {
    error(SERVER, "stopping", "the node is stopping: ask another".to_owned(), [])
}

/// The node stands still.
pub(super) fn disk_full() -> ErrorObjectOwned {
    let message = "the disk of this node is full: it takes nothing until there is space; ask another";
    error(SERVER, "disk_full", message.to_owned(), [])
}

/// The store cannot answer. What it says of files stays in the node's own log.
pub(super) fn storage(problem: &StoreError) -> ErrorObjectOwned {
    match problem {
        StoreError::Indexing { indexed, tip } => {
            let message =
                format!("the index of this node is at height {indexed} of {tip}: ask again, or ask another node");
            error(LIMIT, "indexing", message, [("indexed", indexed.0), ("tip", tip.0)])
        }
        StoreError::Corrupt { height, .. } => {
            tracing::error!(error = %problem, "a read failed");
            let message = format!("height {height} is damaged on this node: ask another");
            error(INTERNAL_ERROR_CODE, "damaged", message, [("height", height.0)])
        }
        _ => {
            tracing::error!(error = %problem, "a read failed");
            error(
                INTERNAL_ERROR_CODE,
                "storage",
                "the storage of this node failed: ask another".to_owned(),
                [],
            )
        }
    }
}
