//! `eth_sendRawTransaction`: decoded and verified on a blocking thread, then offered to the pool.

use std::sync::Arc;

use alloy_primitives::{B256, Bytes};
use jsonrpsee::RpcModule;
use jsonrpsee::core::RegisterMethodError;
use jsonrpsee::types::{ErrorCode, ErrorObjectOwned};
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
    // The semaphore is never closed.
    let turn = turns.acquire().await.map_err(|_| busy(Busy::Gone))?;
    let submission = off_thread(move || Submission::decode(&raw, chain_id)).await?;
    drop(turn);
    let submission = submission.map_err(|refusal| server_error(&refusal))?;
    let accepted = owner.ask(move |l1, now| l1.submit(submission, now)).await;
    accepted.map_err(busy)?.map_err(|refusal| server_error(&refusal))
}

/// Runs `work` on a blocking thread. A panic there is a fault of ours, and is told as nothing else is: by "internal error".
async fn off_thread<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R, ErrorObjectOwned> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ErrorObjectOwned::from(ErrorCode::InternalError))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_on_a_blocking_thread_is_an_internal_error() {
        assert_eq!(off_thread(|| 7).await, Ok(7));
        let error = off_thread(|| panic!("a fault")).await.map(|()| 0).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InternalError.code());
    }
}
