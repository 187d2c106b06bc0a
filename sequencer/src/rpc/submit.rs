//! Submitting: the path that must be cheap, and refusing when the node has enough, which must be cheaper.
//!
//! Promises: nothing of a transaction is decoded before there is room for it; a receipt in an answer is final. Leaves
//! the calls of a batch to `gate`.

use std::borrow::Cow;
use std::time::Duration;

use alloy_primitives::hex;
use fusion_client::json::{ReceiptJson, Timeout};
use fusion_mempool::{PoolTransaction, Reject};
use fusion_types::limits::TRANSACTION_BYTES_MAX;
use fusion_types::{RollupConfig, RollupId, TxHash, transaction_hash};
use jsonrpsee::Extensions;
use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::methods::{Answer, path_rollup, rollup_of};
use super::openrpc;
use super::receipts::receipt_at;
use super::{Rpc, errors, params};
use crate::handle::Inside;
use crate::ingress;
use crate::store::Place;

/// The name of every [`Reject`] that says only to come later.
const BUSY: &str = "busy";

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

/// The transactions of one request on their way into the node.
pub(super) struct Door {
    inside: Inside,
    /// Rollups that were refused, and the answer: the rest of a request is refused with the same words.
    refused: Vec<(RollupId, ErrorObjectOwned)>,
}

impl Door {
    pub(super) fn new(rpc: &Rpc) -> Self {
        Self {
            inside: rpc.handle().room.request(),
            refused: Vec::new(),
        }
    }

    /// Makes place for one more transaction. After one that was refused none of its rollup is let in: what follows in
    /// a request mostly needs what stands before it.
    fn enter(&mut self, rpc: &Rpc, rollup: RollupId) -> Answer<()> {
        if let Some((_, answer)) = self.refused.iter().find(|(refused, _)| *refused == rollup) {
            rpc.metrics().rejected(BUSY);
            return Err(answer.clone());
        }
        self.inside.enter(rollup).map_err(|overload| {
            let answer = reject(rpc, &overload, None);
            self.refused.push((rollup, answer.clone()));
            answer
        })
    }
}

/// Decodes and checks one transaction, if there is room for it.
pub(super) fn admit(
    rpc: &Rpc,
    door: &mut Door,
    method: &str,
    params: &Params<'_>,
    extensions: &Extensions,
) -> Answer<(PoolTransaction, Option<Timeout>)> {
    let short = path_rollup(extensions).and_then(|_| params::read::<PathSend<'_>>(params));
    let (rollup, text, timeout) = match short {
        Some(send) => (None, send.transaction, send.timeout),
        None => params::parse::<RootSend<'_>>(method, params, extensions)
            .map(|send| (Some(send.rollup), send.transaction, send.timeout))?,
    };
    let rollup = rpc.rollup(rollup_of(method, extensions, rollup)?)?;
    door.enter(rpc, rollup.id)?;
    let transaction = decode(rpc, method, rollup, &text).inspect_err(|_| door.inside.leave())?;
    Ok((transaction, timeout))
}

fn decode(rpc: &Rpc, method: &str, rollup: &RollupConfig, text: &str) -> Answer<PoolTransaction> {
    let payload = fusion_client::json::parse(text, TRANSACTION_BYTES_MAX).map_err(|error| match error {
        fusion_client::json::HexError::Long { bytes, .. } => reject(rpc, &Reject::TooLarge { bytes }, None),
        _ => {
            let expected = openrpc::Kind::Bytes.expected();
            params::mismatch(method, "transaction", &Value::from(text), expected)
        }
    })?;
    let hashed = payload.clone();
    ingress::admit(rollup, payload)
        .map_err(|refusal| reject(rpc, &refusal, (!hashed.is_empty()).then(|| transaction_hash(&hashed))))
}

fn reject(rpc: &Rpc, reject: &Reject, transaction: Option<TxHash>) -> ErrorObjectOwned {
    rpc.metrics().rejected(reject.name());
    errors::rejected(reject, transaction)
}

/// Hands transactions to the pool: one answer each, in order. The node counts them, except those it never saw.
pub(super) async fn submit(
    rpc: &Rpc,
    transactions: Vec<PoolTransaction>,
) -> Answer<Vec<Result<TxHash, (TxHash, Reject)>>> {
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
            rpc.metrics().rejected(BUSY);
        }
        answer.map(|()| hash).map_err(|refusal| (hash, refusal))
    });
    Ok(answers.collect())
}

pub(super) fn no_timeout(method: &str) -> ErrorObjectOwned {
    errors::invalid_params(format!("{method} takes no timeout, {method}Sync does"))
}

/// `eth_sendRawTransaction`, `fusion_sendTransaction`.
pub(super) async fn one(rpc: &Rpc, method: &str, params: &Params<'_>, extensions: &Extensions) -> Answer<String> {
    let mut door = Door::new(rpc);
    let (transaction, timeout) = admit(rpc, &mut door, method, params, extensions)?;
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
    (transaction, door): (PoolTransaction, Door),
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
    drop(door);
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
    let mut door = Door::new(rpc);
    let (transaction, timeout) = admit(rpc, &mut door, "fusion_sendTransactionSync", params, extensions)?;
    let (transaction, place) = sync(rpc, (transaction, door), timeout, false).await?;
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
    let mut door = Door::new(rpc);
    let (transaction, timeout) = admit(rpc, &mut door, "eth_sendRawTransactionSync", params, extensions)?;
    let (transaction, place) = sync(rpc, (transaction, door), timeout, true).await?;
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
