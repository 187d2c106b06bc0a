//! L1 at one block: everything that a [`View`] has, asked of one node.
//!
//! Promises that state and receipts are of one chain, as far as the node is consistent with itself: state is asked for by the
//! block's hash, and the view is thrown away if another block has that number when the last answer is in.

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, Bytes};
use alloy_rpc_types_eth::TransactionRequest;
use alloy_sol_types::SolCall;

use super::transaction::{Blobs, calldata};
use super::words::{Fate, Order, Refusal, SendAnswer, View};
use crate::contracts::BatchInbox;
use crate::l1::{Endpoint, EndpointError, L1Block};

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("{url} shows no latest block")]
    NoHead { url: String },
    #[error("{url} shows no inbox at {inbox} in block {block}")]
    NoInbox { url: String, inbox: Address, block: u64 },
    #[error("{url} had another block {block} when it was asked again: the chain is being reorganised")]
    Moved { url: String, block: u64 },
}

/// Asks one node for a view, and for the fates of `hashes`.
pub(super) async fn look(
    endpoint: &Endpoint,
    inbox: Address,
    account: Address,
    hashes: &[B256],
) -> Result<View, LookError> {
    let url = || endpoint.url().to_owned();
    let head = endpoint.block(BlockNumberOrTag::Latest).await?;
    let head = head.ok_or_else(|| LookError::NoHead { url: url() })?;
    let at = BlockId::hash(head.hash);
    let next_number = next_number(endpoint, inbox, at).await?;
    let next_number = next_number.ok_or_else(|| LookError::NoInbox {
        url: url(),
        inbox,
        block: head.number,
    })?;
    let nonce = endpoint.transaction_count(account, at).await?;
    let balance = endpoint.balance(account, at).await?;
    let finalized = finalized(endpoint, inbox, account).await?;
    let fees = endpoint.fees().await?;
    let mut fates = Vec::with_capacity(hashes.len());
    for hash in hashes {
        fates.push((*hash, fate(endpoint, inbox, account, *hash, &head).await?));
    }
    let again = endpoint.block(BlockNumberOrTag::Number(head.number)).await?;
    if again.is_none_or(|again| again.hash != head.hash) {
        let block = head.number;
        return Err(LookError::Moved { url: url(), block });
    }
    Ok(View {
        head: head.number,
        next_number,
        nonce,
        finalized,
        fees,
        balance,
        fates,
    })
}

/// The inbox's next number after a block; none where there is no inbox.
async fn next_number(endpoint: &Endpoint, inbox: Address, at: BlockId) -> Result<Option<u64>, EndpointError> {
    let answer = endpoint
        .call(inbox, BatchInbox::cursorCall {}.abi_encode().into(), at)
        .await?;
    let cursor = BatchInbox::cursorCall::abi_decode_returns(&answer);
    Ok(cursor.ok().map(|cursor| cursor.nextNumber.into()))
}

/// The inbox's next number and the account's next nonce at the finalized block. Without a finalized block, or without its
/// state, which nodes drop when finality takes long, there is none.
async fn finalized(endpoint: &Endpoint, inbox: Address, account: Address) -> Result<Option<(u64, u64)>, EndpointError> {
    let block = match endpoint.block(BlockNumberOrTag::Finalized).await {
        Err(EndpointError::Refused { .. }) | Ok(None) => return Ok(None),
        block => block?,
    };
    let Some(block) = block else { return Ok(None) };
    let at = BlockId::hash(block.hash);
    let number = match next_number(endpoint, inbox, at).await {
        Err(EndpointError::Refused { .. }) => return Ok(None),
        // Before the inbox was deployed, no batch is final.
        number => number?.unwrap_or(0),
    };
    match endpoint.transaction_count(account, at).await {
        Err(EndpointError::Refused { .. }) => Ok(None),
        nonce => Ok(Some((number, nonce?))),
    }
}

async fn fate(
    endpoint: &Endpoint,
    inbox: Address,
    account: Address,
    hash: B256,
    head: &L1Block,
) -> Result<Fate, EndpointError> {
    let receipt = endpoint.receipt(hash).await?;
    // One that is above the head came while we asked.
    let number = receipt.as_ref().and_then(|receipt| receipt.block_number);
    match (receipt, number) {
        (Some(_), Some(number)) if number > head.number => Ok(Fate::Pending),
        (Some(receipt), Some(_)) if receipt.inner.status() => Ok(Fate::Posted),
        (Some(_), Some(number)) => {
            let reason = reason(endpoint, inbox, account, hash, number).await;
            Ok(Fate::Reverted(reason))
        }
        _ if endpoint.knows_transaction(hash).await? => Ok(Fate::Pending),
        _ => Ok(Fate::Unknown),
    }
}

/// Why a transaction reverted: it is run again on the state before its block. None where that does not revert (another
/// transaction of the block was the reason) or cannot be told.
async fn reason(endpoint: &Endpoint, inbox: Address, account: Address, hash: B256, number: u64) -> Option<Refusal> {
    let sent = endpoint.transaction(hash).await.ok()??;
    let mut request = TransactionRequest::default().from(account).to(inbox);
    (request.input, request.gas) = (sent.input, sent.gas);
    request.blob_versioned_hashes = sent.blob_versioned_hashes;
    request.max_fee_per_blob_gas = sent.max_fee_per_blob_gas;
    let before = BlockId::number(number.saturating_sub(1));
    let error = endpoint.simulate(&request, before).await.err()?;
    error.contract_error().map(|error| Refusal::of(&error))
}

/// Whether the inbox would take a batch now.
pub(super) async fn try_post(
    endpoint: &Endpoint,
    inbox: Address,
    account: Address,
    order: &Order,
    blobs: &Blobs,
) -> Result<(), TryError> {
    let mut request = TransactionRequest::default().from(account).to(inbox);
    request.input = calldata(&order.job).into();
    request.gas = Some(order.job.gas_limit());
    request.blob_versioned_hashes = Some(blobs.versioned_hashes());
    request.max_fee_per_blob_gas = Some(order.fees.blob_fee);
    match endpoint.simulate(&request, BlockId::latest()).await {
        Ok(_) => Ok(()),
        Err(error) => match error.contract_error() {
            Some(error) => Err(TryError::Refused(Refusal::of(&error))),
            None => Err(TryError::Unknown(error.to_string())),
        },
    }
}

/// Why it cannot be said that the inbox would take a batch.
#[derive(Debug)]
pub(super) enum TryError {
    Refused(Refusal),
    Unknown(String),
}

/// Sends a transaction to one node.
pub(super) async fn send(endpoint: &Endpoint, raw: &Bytes) -> SendAnswer {
    let Err(error) = endpoint.send_raw(raw).await else {
        return SendAnswer::Taken;
    };
    match error.refused() {
        Some(refused) => answer_of(&refused.message),
        None => SendAnswer::Unreachable(error.to_string()),
    }
}

/// What a pool's words mean: geth's, reth's, Nethermind's, Besu's, anvil's.
fn answer_of(words: &str) -> SendAnswer {
    let lower = words.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    if has(&[
        "already known",
        "alreadyknown",
        "known transaction",
        "already imported",
        "already exists",
    ]) {
        SendAnswer::Taken
    } else if has(&["nonce too low", "oldnonce", "nonce_too_low", "nonce is too low"]) {
        SendAnswer::NonceTooLow
    } else if has(&[
        "underpriced",
        "feetoolow",
        "fee too low",
        "not enough to replace",
        "replacementnotallowed",
    ]) {
        SendAnswer::Underpriced
    } else {
        SendAnswer::Refused(words.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pools_say_is_understood() {
        for (words, answer) in [
            ("already known", SendAnswer::Taken),
            ("transaction already imported", SendAnswer::Taken),
            ("nonce too low: next nonce 3, tx nonce 2", SendAnswer::NonceTooLow),
            (
                "replacement transaction underpriced: new tx gas fee cap 1",
                SendAnswer::Underpriced,
            ),
            ("Transaction gas price not enough to replace", SendAnswer::Underpriced),
            (
                "address already reserved",
                SendAnswer::Refused("address already reserved".into()),
            ),
        ] {
            assert_eq!(answer_of(words), answer, "{words}");
        }
    }
}
