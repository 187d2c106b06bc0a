//! Finalized L1 blocks for consensus: each from where the core asks, in order, with the forced transactions in it.
//!
//! Promises: what is fed was said by enough endpoints, is final on L1, and leaves no gap from what was asked for; a core that
//! asks again is fed again. Leaves to others: when an L1 block binds, which is when a decided header adopts it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use alloy_rpc_types_eth::{Filter, Log};
use alloy_sol_types::{SolCall, SolEvent};
use fusion_types::{ForcedItem, L1Block, RollupId};
use tokio::sync::{mpsc, watch};

use crate::contracts::BatchInbox;
use crate::l1::{L1Block as Header, Panel, PollError};
use crate::watcher::InboxView;

/// Blocks that are fed in one go.
const BLOCKS_MAX: u64 = 256;

/// L1 blocks whose logs are asked for in one go.
const LOG_BLOCKS: u64 = 2_000;

/// Portions that may wait for the core.
pub const PORTIONS_MAX: usize = 4;

/// From where the core wants to be fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Number of the next block.
    pub block: u64,
    /// Place in the forced queue of the next item; where it stands in a block below, that block comes first.
    pub item: u64,
}

/// Feeds until nobody wants to be fed any more.
pub async fn run(
    panel: Panel,
    inbox: Address,
    poll: Duration,
    l1: watch::Receiver<Arc<InboxView>>,
    wanted: watch::Receiver<Option<Wanted>>,
    core: mpsc::Sender<Vec<L1Block>>,
) {
    let mut failures = 0_u32;
    while !core.is_closed() {
        let (asked, finalized) = (*wanted.borrow(), l1.borrow().finalized);
        if let Some(asked) = asked.filter(|asked| asked.block <= finalized) {
            match portion(&panel, inbox, asked, finalized).await {
                Ok(blocks) => {
                    failures = 0;
                    if core.send(blocks).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures.is_power_of_two() {
                        tracing::warn!(%error, failures, "L1 blocks cannot be read for consensus");
                    }
                }
            }
        }
        tokio::time::sleep(poll).await;
    }
}

/// The blocks from what is asked for up to `finalized`, as many as one portion has.
///
/// # Errors
/// [`PollError`] where the endpoints do not agree.
pub async fn portion(panel: &Panel, inbox: Address, asked: Wanted, finalized: u64) -> Result<Vec<L1Block>, PollError> {
    let last = panel.numbered(finalized).await?;
    let tail = u64::from(panel.cursor(inbox, last).await?.forcedTail);
    let from = first_block(panel, inbox, asked, last, tail).await?;
    let mut queue: BTreeMap<u64, Vec<ForcedItem>> = BTreeMap::new();
    let mut at = from;
    while at <= finalized {
        let to = finalized.min(at.saturating_add(LOG_BLOCKS - 1));
        for (block, item) in items(panel, inbox, at, to).await? {
            queue.entry(block).or_default().push(item);
        }
        at = to + 1;
    }
    // The blocks below hold items that are due and not consumed; of those, others need not come.
    let below = queue.range(..asked.block).map(|(number, _)| *number);
    let to = finalized.min(asked.block.saturating_add(BLOCKS_MAX - 1));
    let numbers: Vec<u64> = below.chain(asked.block..=to).collect();
    let mut blocks = Vec::with_capacity(numbers.len());
    for number in numbers {
        let header = panel.numbered(number).await?;
        let after = queue.range(number + 1..).next();
        let after = after.and_then(|(_, items)| items.first());
        let count = after.map_or(tail, |item| u64::from(item.index));
        blocks.push(L1Block {
            number,
            hash: header.hash,
            parent: header.parent,
            forced_count: u32::try_from(count).unwrap_or(u32::MAX),
            forced: queue.get(&number).cloned().unwrap_or_default(),
        });
    }
    Ok(blocks)
}

/// The block from which logs are read: that of the next item, if it is queued already and stands below.
async fn first_block(panel: &Panel, inbox: Address, asked: Wanted, last: Header, tail: u64) -> Result<u64, PollError> {
    let Some(index) = u32::try_from(asked.item).ok().filter(|_| asked.item < tail) else {
        return Ok(asked.block);
    };
    let data = BatchInbox::forcedItemCall { index }.abi_encode().into();
    let word = panel.call("a forced item", inbox, data, last).await?;
    let word = BatchInbox::forcedItemCall::abi_decode_returns(&word).map_err(|error| PollError::Contract {
        address: inbox,
        what: error.to_string(),
    })?;
    let item = ForcedItem {
        index,
        rollup: RollupId(0),
        sender: Address::ZERO,
        payload: Default::default(),
        accumulator: word,
    };
    Ok(item.l1_number().min(asked.block))
}

/// The forced items of a range of blocks, each with its block.
async fn items(panel: &Panel, inbox: Address, from: u64, to: u64) -> Result<Vec<(u64, ForcedItem)>, PollError> {
    let filter = Filter::new()
        .address(inbox)
        .event_signature(BatchInbox::ForcedEnqueued::SIGNATURE_HASH)
        .from_block(from)
        .to_block(to);
    let logs = panel.logs("forced transactions", filter, from, to).await?;
    let read = |log: &Log| item_of(log).map_err(|what| PollError::Contract { address: inbox, what });
    logs.iter().map(read).collect()
}

fn item_of(log: &Log) -> Result<(u64, ForcedItem), String> {
    let event = BatchInbox::ForcedEnqueued::decode_log(&log.inner).map_err(|error| error.to_string())?;
    let block = log.block_number.ok_or("a log without its block")?;
    let item = ForcedItem {
        index: event.index,
        rollup: RollupId(event.rollup),
        sender: event.sender,
        payload: event.payload.clone(),
        accumulator: event.accumulator,
    };
    if item.l1_number() != block {
        return Err(format!(
            "item {} says block {}, its log block {block}",
            event.index,
            item.l1_number()
        ));
    }
    Ok((block, item))
}
