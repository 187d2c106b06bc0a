//! Who waits for which transaction.
//!
//! One task follows the log and looks every decided transaction up among those waited for, so that a waiting user costs
//! a map entry and not a task that reads blocks. A waiter registers before it submits: a decision cannot slip between.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fusion_types::{DecidedBlock, Height, RollupId, TxHash};
use tokio::sync::oneshot;

use super::Rpc;
use crate::store::Place;

/// Most users that wait at once. One costs about 200 bytes.
pub(super) const WAITERS_MAX: usize = 65_536;

type Key = (RollupId, TxHash);

/// The waiters, and each rollup's latest height.
#[derive(Debug, Default)]
pub(super) struct Finality(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: HashMap<Key, Vec<(u64, oneshot::Sender<Place>)>>,
    count: usize,
    next: u64,
    latest: BTreeMap<RollupId, Height>,
}

/// A place in the list of those who wait; given up when dropped.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    finality: &'a Finality,
    key: Key,
    number: u64,
    place: oneshot::Receiver<Place>,
}

impl Waiter<'_> {
    /// Where the transaction was decided. Never, if it is not.
    pub(super) async fn place(&mut self) -> Place {
        match (&mut self.place).await {
            Ok(place) => place,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut inner = self.finality.lock();
        let Some(waiters) = inner.waiting.get_mut(&self.key) else {
            return;
        };
        let before = waiters.len();
        waiters.retain(|(number, _)| *number != self.number);
        let gone = before - waiters.len();
        if waiters.is_empty() {
            inner.waiting.remove(&self.key);
        }
        inner.count -= gone;
    }
}

impl Finality {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change below is complete before anything could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a transaction from now on; `None` when too many wait.
    pub(super) fn wait(&self, rollup: RollupId, hash: TxHash) -> Option<Waiter<'_>> {
        let mut inner = self.lock();
        if inner.count == WAITERS_MAX {
            return None;
        }
        let (sender, place) = oneshot::channel();
        inner.count += 1;
        inner.next += 1;
        let number = inner.next;
        let key = (rollup, hash);
        inner.waiting.entry(key).or_default().push((number, sender));
        Some(Waiter {
            finality: self,
            key,
            number,
            place,
        })
    }

    /// The height of a rollup's last lane, if one was decided since the start.
    pub(super) fn latest(&self, rollup: RollupId) -> Option<Height> {
        self.lock().latest.get(&rollup).copied()
    }

    fn decided(&self, decided: &DecidedBlock) {
        let mut inner = self.lock();
        let height = decided.block.header().height;
        for (body, hashes) in decided.block.lanes() {
            let rollup = body.lane.rollup;
            inner.latest.insert(rollup, height);
            if inner.waiting.is_empty() {
                continue;
            }
            for (index, hash) in (0_u32..).zip(hashes) {
                let key = (rollup, *hash);
                for (_, waiter) in inner.waiting.remove(&key).unwrap_or_default() {
                    inner.count -= 1;
                    // Whoever stopped waiting does not need it.
                    let _ = waiter.send(Place { height, index });
                }
            }
        }
    }
}

/// Follows the log from above `start` until the store is gone.
pub(super) async fn follow(rpc: Rpc, start: Height) {
    let mut tips = rpc.handle().reader.subscribe();
    let mut next = start.next();
    loop {
        let tip = *tips.borrow_and_update();
        while next <= tip {
            match rpc.block(next).await {
                Ok(Some(block)) => rpc.finality().decided(&block),
                Ok(None) => break,
                Err(error) => tracing::warn!(height = %next, error = error.message(), "nobody is told of this block"),
            }
            next = next.next();
        }
        if tips.changed().await.is_err() {
            return;
        }
    }
}
