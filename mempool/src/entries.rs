//! The waiting transactions of one lane, and the indices that find them by hash, place, tip and age.
//!
//! An entry is named by its slot, which another may have once it is removed. Keeps indices and counters true to the
//! entries. Knows nothing of nonces: the lane says what is executable.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fusion_types::{Ordering, TxHash};

use crate::index::HashIndex;
use crate::limits::TRANSACTION_FOOTPRINT_BYTES;
use crate::transaction::{Origin, PoolTransaction};

/// A waiting transaction.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) transaction: PoolTransaction,
    /// Its number in the order of arrival.
    arrival: u64,
    /// Its place among the executable ones; `None` while it waits for a nonce.
    pub(crate) place: Option<u64>,
    /// Since when it waits for a nonce.
    waiting_since: Option<Duration>,
    /// When it replaced another of its nonce.
    pub(crate) replaced_at: Option<Duration>,
    /// Whether its sender was recovered here, and not only named by a member.
    pub(crate) recovered: bool,
}

/// All entries of a lane.
#[derive(Debug, Clone)]
pub(crate) struct Entries {
    ordering: Ordering,
    slots: Vec<Option<Entry>>,
    /// Slots without an entry.
    free: Vec<usize>,
    count: usize,
    hashes: HashIndex,
    /// Executable ones by place; kept for `fcfs` alone, `priority` merges by sender.
    ready: BTreeMap<u64, usize>,
    /// For eviction from `priority` lanes: lowest effective tip first, newest first among equals.
    by_tip: BTreeSet<(u128, Reverse<u64>, usize)>,
    waiting: BTreeSet<(Duration, usize)>,
    next_arrival: u64,
    next_place: u64,
    clock: Duration,
    bytes: usize,
    executable: usize,
    executable_bytes: usize,
}

/// What a transaction costs the pool, bytes.
pub(crate) fn footprint(transaction: &PoolTransaction) -> usize {
    transaction.payload.len() + TRANSACTION_FOOTPRINT_BYTES
}

fn effective_tip(transaction: &PoolTransaction) -> u128 {
    transaction.evm.as_ref().map_or(0, |facts| facts.effective_tip())
}

impl Entries {
    pub(crate) fn new(ordering: Ordering) -> Self {
        Self {
            ordering,
            slots: Vec::new(),
            free: Vec::new(),
            count: 0,
            hashes: HashIndex::default(),
            ready: BTreeMap::new(),
            by_tip: BTreeSet::new(),
            waiting: BTreeSet::new(),
            next_arrival: 0,
            next_place: 0,
            clock: Duration::ZERO,
            bytes: 0,
            executable: 0,
            executable_bytes: 0,
        }
    }

    /// Adds a transaction, not executable yet, and returns its slot.
    pub(crate) fn add(&mut self, transaction: PoolTransaction, origin: Origin, now: Duration) -> usize {
        self.clock = self.clock.max(now);
        let slot = self.free.pop().unwrap_or(self.slots.len());
        let arrival = self.next_arrival;
        self.next_arrival += 1;
        self.count += 1;
        self.bytes += footprint(&transaction);
        self.hashes.insert(&transaction.hash, slot as u64);
        if self.ordering == Ordering::Priority {
            self.by_tip
                .insert((effective_tip(&transaction), Reverse(arrival), slot));
        }
        let entry = Some(Entry {
            transaction,
            arrival,
            place: None,
            waiting_since: None,
            replaced_at: None,
            recovered: origin != Origin::Member,
        });
        match self.slots.get_mut(slot) {
            Some(free) => *free = entry,
            None => self.slots.push(entry),
        }
        slot
    }

    /// Notes that the entry replaced another of its nonce.
    pub(crate) fn mark_replacement(&mut self, slot: usize, now: Duration) {
        if let Some(Some(entry)) = self.slots.get_mut(slot) {
            entry.replaced_at = Some(now);
        }
    }

    /// Removes an entry from everything.
    pub(crate) fn remove(&mut self, slot: usize) -> Option<Entry> {
        let entry = self.slots.get_mut(slot)?.take()?;
        let size = footprint(&entry.transaction);
        self.free.push(slot);
        self.count -= 1;
        self.bytes -= size;
        self.hashes.remove(&entry.transaction.hash, slot as u64);
        if self.ordering == Ordering::Priority {
            let key = (effective_tip(&entry.transaction), Reverse(entry.arrival), slot);
            self.by_tip.remove(&key);
        }
        if let Some(place) = entry.place {
            self.executable -= 1;
            self.executable_bytes -= size;
            self.unlist(place, slot);
        }
        if let Some(since) = entry.waiting_since {
            self.waiting.remove(&(since, slot));
        }
        Some(entry)
    }

    /// A place behind all others.
    pub(crate) fn new_place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }

    /// Makes an entry executable at `place`, or lets it wait. A place may pass from one entry to another in any order.
    pub(crate) fn set_place(&mut self, slot: usize, place: Option<u64>) {
        let Some(Some(entry)) = self.slots.get_mut(slot) else {
            return;
        };
        let size = footprint(&entry.transaction);
        let before = std::mem::replace(&mut entry.place, place);
        let waited_since = entry.waiting_since;
        entry.waiting_since = place.is_none().then(|| waited_since.unwrap_or(self.clock));
        if waited_since != entry.waiting_since {
            if let Some(since) = waited_since {
                self.waiting.remove(&(since, slot));
            }
            if let Some(since) = entry.waiting_since {
                self.waiting.insert((since, slot));
            }
        }
        if let Some(before) = before {
            self.executable -= 1;
            self.executable_bytes -= size;
            self.unlist(before, slot);
        }
        if let Some(place) = place {
            self.executable += 1;
            self.executable_bytes += size;
            if self.ordering == Ordering::Fcfs {
                self.ready.insert(place, slot);
            }
        }
    }

    /// Leaves a place, unless another entry has taken it since.
    fn unlist(&mut self, place: u64, slot: usize) {
        if self.ready.get(&place) == Some(&slot) {
            self.ready.remove(&place);
        }
    }

    pub(crate) fn get(&self, slot: usize) -> Option<&Entry> {
        self.slots.get(slot)?.as_ref()
    }

    pub(crate) fn find(&self, hash: &TxHash) -> Option<usize> {
        let is_it = |slot: &usize| self.get(*slot).is_some_and(|entry| entry.transaction.hash == *hash);
        let candidates = self.hashes.candidates(hash);
        candidates.filter_map(|slot| usize::try_from(slot).ok()).find(is_it)
    }

    /// Executable entries of an `fcfs` lane, first come first.
    pub(crate) fn ready(&self) -> std::collections::btree_map::Values<'_, u64, usize> {
        self.ready.values()
    }

    /// Entries of a `priority` lane that pay less than `tip`: the least first, the newest first among equals.
    pub(crate) fn cheaper_than(&self, tip: u128) -> impl Iterator<Item = usize> {
        self.by_tip
            .range(..(tip, Reverse(u64::MAX), 0))
            .map(|(_, _, slot)| *slot)
    }

    /// An entry that waits for a nonce since `since` or longer.
    pub(crate) fn waiting_since(&self, since: Duration) -> Option<usize> {
        let (at, slot) = self.waiting.first()?;
        (*at <= since).then_some(*slot)
    }

    /// Moves the clock by which waiting is counted.
    pub(crate) fn set_clock(&mut self, now: Duration) {
        self.clock = self.clock.max(now);
    }

    /// Footprint of all entries, bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn executable(&self) -> usize {
        self.executable
    }

    pub(crate) fn executable_bytes(&self) -> usize {
        self.executable_bytes
    }
}
