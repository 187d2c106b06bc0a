//! Receipts of decided transactions, made from trees that are built once per lane.
//!
//! Users who wait for their receipts ask at the same moment for the same block: without the trees at hand each would
//! hash the whole lane again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use fusion_types::{Height, LaneReceipts, Receipt, RollupId};

use super::Rpc;
use super::errors;
use super::methods::Answer;
use crate::store::{Place, StoreError};

/// Lanes whose trees are kept.
const LANES_MAX: usize = 64;

/// Transactions in the lanes whose trees are kept, at about 100 bytes each; the newest lane is kept whatever its size.
const TRANSACTIONS_MAX: u64 = 131_072;

type Key = (Height, RollupId);

/// One lane's trees, built by whoever asks first; the others wait for it.
#[derive(Debug, Default)]
struct Slot(OnceLock<Option<LaneReceipts>>);

/// The trees of the lanes that were asked for last.
#[derive(Debug, Default)]
pub(super) struct Receipts(Mutex<VecDeque<(Key, u64, Arc<Slot>)>>);

impl Receipts {
    fn find(&self, key: Key) -> Option<Arc<Slot>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|(kept, _, _)| *kept == key);
        found.map(|(_, _, slot)| slot.clone())
    }

    /// The slot of a lane with `count` transactions; the oldest make room.
    fn find_or_add(&self, key: Key, count: u64) -> Arc<Slot> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, slot)) = kept.iter().find(|(kept, _, _)| *kept == key) {
            return slot.clone();
        }
        let slot = Arc::<Slot>::default();
        kept.push_back((key, count, slot.clone()));
        let mut sum: u64 = kept.iter().map(|(_, count, _)| count).sum();
        while kept.len() > LANES_MAX || (sum > TRANSACTIONS_MAX && kept.len() > 1) {
            sum -= kept.pop_front().map_or(0, |(_, count, _)| count);
        }
        slot
    }
}

/// The receipt of the transaction at a place of the log.
pub(super) async fn receipt_at(rpc: &Rpc, rollup: RollupId, place: Place) -> Answer<Receipt> {
    let Place { height, index } = place;
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    let slot = rpc.receipts().find((height, rollup));
    if let Some(Some(lane)) = slot.as_ref().and_then(|slot| slot.0.get())
        && let Some(receipt) = lane.receipt(index)
    {
        return Ok(receipt);
    }
    let decided = rpc.block(height).await?;
    let (tip, lag) = rpc.stand();
    let decided = decided.ok_or_else(|| errors::not_yet(height.0, tip, lag))?;
    let count = decided.block.block().lane(rollup).map_or(0, |body| body.lane.count);
    let slot = rpc.receipts().find_or_add((height, rollup), count);
    let lane = slot.0.get_or_init(|| LaneReceipts::of(&decided, rollup));
    let receipt = lane.as_ref().and_then(|lane| lane.receipt(index));
    receipt.ok_or_else(|| {
        errors::storage(&StoreError::Corrupt {
            path: "index".into(),
            offset: 0,
            height,
            what: format!("no transaction {index} of rollup {rollup}"),
        })
    })
}
