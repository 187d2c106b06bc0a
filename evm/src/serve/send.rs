//! `eth_sendRawTransaction`: decoded and verified on a blocking thread, then offered to the pool.

use std::sync::Arc;

use alloy_primitives::{B256, Bytes};
use jsonrpsee::RpcModule;
use jsonrpsee::core::RegisterMethodError;
use jsonrpsee::types::ErrorObjectOwned;
use tokio::sync::Semaphore;

use super::args::{Args, on_l1};
use super::error::{busy, server_error};
use super::owner::{Busy, Owner};
use crate::l1::Submission;

/// Transactions that are verified at a time. What waits for its turn is bounded by connections and batches.
const VERIFICATIONS_MAX: usize = 2;

pub(super) fn register(module: &mut RpcModule<Owner>, chain_id: u64) -> Result<(), RegisterMethodError> {
    let turns = Arc::new(Semaphore::new(VERIFICATIONS_MAX));
    module.register_async_method("eth_sendRawTransaction", move |params, owner, _| {
        let turns = Arc::clone(&turns);
        async move {
            let raw: Bytes = Args::parse(&params)?.next()?;
            drop(params);
            send(&owner, &turns, raw, chain_id).await
        }
    })?;
    on_l1(module, "txpool_status", |l1, _, _| {
        let latest = l1.chain().latest();
        let pool = l1.pool();
        let in_turn = |address: &alloy_primitives::Address| {
            let account = latest.account_or_empty(address);
            pool.next_nonce(address, account) - account.nonce
        };
        let pending: u64 = pool.senders().map(|address| in_turn(&address)).sum();
        let queued = (pool.len() as u64).saturating_sub(pending);
        Ok(serde_json::json!({ "pending": format!("{pending:#x}"), "queued": format!("{queued:#x}") }))
    })
}

async fn send(owner: &Owner, turns: &Semaphore, raw: Bytes, chain_id: u64) -> Result<B256, ErrorObjectOwned> {
    let gone = || busy(Busy::Gone);
    // The semaphore is never closed, and a decoder that panics would be a fault of ours.
    let turn = turns.acquire().await.map_err(|_| gone())?;
    let decoded = tokio::task::spawn_blocking(move || Submission::decode(&raw, chain_id));
    let submission = decoded.await.map_err(|_| gone())?;
    drop(turn);
    let submission = submission.map_err(|refusal| server_error(&refusal))?;
    let accepted = owner.ask(move |l1, now| l1.submit(submission, now)).await;
    accepted.map_err(busy)?.map_err(|refusal| server_error(&refusal))
}
