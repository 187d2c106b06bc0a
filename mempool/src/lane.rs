//! One rollup's waiting transactions and their order.
//!
//! Decides what is executable (all of an opaque rollup's; of an `evm` sender, the run of nonces that nothing is missing
//! from), what replaces what, what gives way when the lane is full, and in which order a proposal takes.
//! The pool above says how large the lane may be.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use alloy_primitives::{Address, Bytes};
use fusion_types::{Height, Ordering, RollupConfig, RollupKind, TxHash};

use crate::entries::{Entries, Entry, footprint};
use crate::limits::{EVICTIONS_MAX, PoolLimits, REPLACEMENT_BUMP_PERCENT, REPLACEMENT_INTERVAL};
use crate::reject::Reject;
use crate::sender::{Queued, Sender};
use crate::transaction::{EvmFacts, FactsOf, Origin, PoolTransaction};

/// First executable transaction of a sender in a `priority` lane, in the order in which a proposal takes them.
pub(crate) type Head = (Reverse<u128>, u64, Address);

/// A lane of the pool.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pub(crate) config: RollupConfig,
    pub(crate) entries: Entries,
    pub(crate) senders: BTreeMap<Address, Sender>,
    /// One per sender with something executable; `priority` lanes only.
    pub(crate) heads: BTreeSet<Head>,
    /// Senders whose lowest nonce is too high.
    blocked: BTreeSet<Address>,
    /// When senders' nonces were last decided, oldest first; a sender's latest mention counts.
    remembered: VecDeque<(Height, Address)>,
    remembered_senders: usize,
    senders_max: usize,
    /// The last height with a transaction whose sender this node does not know: up to there every known next
    /// nonce is only a lower bound.
    unfamiliar: Height,
}

/// How much an insertion may take, and the refusal if it is not enough.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    pub(crate) limits: &'a PoolLimits,
    pub(crate) lane_bytes_max: usize,
    pub(crate) full: Reject,
    pub(crate) now: Duration,
}

/// What gives way to an insertion.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    replaces: Option<usize>,
    evicts: Vec<usize>,
}

impl Lane {
    pub(crate) fn new(config: RollupConfig, senders_max: usize) -> Self {
        Self {
            config,
            entries: Entries::new(config.ordering),
            senders: BTreeMap::new(),
            heads: BTreeSet::new(),
            blocked: BTreeSet::new(),
            remembered: VecDeque::new(),
            remembered_senders: 0,
            senders_max,
            unfamiliar: Height(0),
        }
    }

    /// What inserting `transaction`, which is not here yet, takes. Changes nothing.
    pub(crate) fn plan(
        &self,
        transaction: &PoolTransaction,
        origin: Origin,
        room: &Room<'_>,
        in_flight: &dyn Fn(&TxHash) -> bool,
    ) -> Result<Plan, Reject> {
        let mut plan = Plan::default();
        if let Some(facts) = &transaction.evm {
            self.plan_nonce((transaction, facts, origin), room, in_flight, &mut plan)?;
        }
        let freed = |slot: &usize| self.entries.get(*slot).map_or(0, |entry| footprint(&entry.transaction));
        let freed: usize = plan.replaces.iter().chain(&plan.evicts).map(freed).sum();
        let bytes = self.entries.bytes() + footprint(transaction) - freed;
        if room.lane_bytes_max < bytes {
            let excess = bytes - room.lane_bytes_max;
            let cheaper = self.cheaper(transaction, excess, &plan);
            plan.evicts.extend(cheaper.ok_or_else(|| room.full.clone())?);
        }
        Ok(plan)
    }

    fn plan_nonce(
        &self,
        (transaction, facts, origin): (&PoolTransaction, &EvmFacts, Origin),
        room: &Room<'_>,
        in_flight: &dyn Fn(&TxHash) -> bool,
        plan: &mut Plan,
    ) -> Result<(), Reject> {
        let nonce = facts.nonce;
        if nonce == u64::MAX {
            return Err(Reject::NonceMax(nonce));
        }
        let Some(sender) = self.senders.get(&facts.sender) else {
            return Ok(());
        };
        if let Some(next) = sender.stale(nonce) {
            return Err(Reject::NonceTooLow { nonce, next });
        }
        let mut bytes = sender.bytes + footprint(transaction);
        if let Ok(at) = sender.position(nonce) {
            let replaced = self.entries.get(sender.queue[at].slot);
            let replaced = replaced.expect("whatever is queued has an entry");
            // Whoever really signed takes the place of what a member only said to be theirs.
            if replaced.recovered || origin == Origin::Member {
                check_replacement(replaced, facts, room.now, in_flight)?;
            }
            bytes -= footprint(&replaced.transaction);
            plan.replaces = Some(sender.queue[at].slot);
        } else {
            let lowest = sender.queue.front().map(|queued| queued.nonce);
            let next = sender.expected(self.unfamiliar).or(lowest);
            let limit = room.limits.nonce_gap_max;
            if let Some(next) = next.filter(|next| next.saturating_add(limit) < nonce) {
                return Err(Reject::NonceGap { nonce, next, limit });
            }
        }
        let count_max = room.limits.sender_transactions_max;
        let count = sender.queue.len() + usize::from(plan.replaces.is_none());
        if count <= count_max && bytes <= room.limits.sender_bytes_max {
            return Ok(());
        }
        // A nonce that may close a gap is worth more than the last one behind the gap.
        let last = sender
            .queue
            .back()
            .filter(|last| last.place.is_none() && nonce < last.nonce);
        let freed = last.and_then(|last| self.entries.get(last.slot));
        let freed = freed.map_or(0, |entry| footprint(&entry.transaction));
        match last {
            Some(last) if count - 1 <= count_max && bytes - freed <= room.limits.sender_bytes_max => {
                plan.evicts.push(last.slot);
                Ok(())
            }
            _ => Err(Reject::SenderFull {
                sender: facts.sender,
                transactions: sender.queue.len(),
                bytes: sender.bytes,
                transactions_max: count_max,
                bytes_max: room.limits.sender_bytes_max,
            }),
        }
    }

    /// Others' transactions of at least `excess` bytes that pay less, if there are any: a transaction gives way only to
    /// one that is executable, in a lane whose order is by fee.
    fn cheaper(&self, transaction: &PoolTransaction, excess: usize, plan: &Plan) -> Option<Vec<usize>> {
        let facts = transaction.evm.as_ref()?;
        let executable = self
            .senders
            .get(&facts.sender)
            .is_none_or(|sender| sender.would_run(facts.nonce, self.unfamiliar));
        if !executable {
            return None;
        }
        let (mut freed, mut evicts) = (0, Vec::new());
        for slot in self.entries.cheaper_than(facts.effective_tip()).take(EVICTIONS_MAX) {
            let entry = self.entries.get(slot)?;
            let same_sender = entry.transaction.evm.is_some_and(|other| other.sender == facts.sender);
            if same_sender || plan.evicts.contains(&slot) {
                continue;
            }
            freed += footprint(&entry.transaction);
            evicts.push(slot);
            if excess <= freed {
                return Some(evicts);
            }
        }
        None
    }

    /// Inserts a transaction as planned.
    pub(crate) fn insert(&mut self, transaction: PoolTransaction, origin: Origin, now: Duration, plan: &Plan) {
        for victim in &plan.evicts {
            let sender = self.take(*victim).and_then(|entry| entry.transaction.evm);
            if let Some(facts) = sender {
                self.settle(facts.sender);
            }
        }
        let replaced = plan.replaces.and_then(|slot| self.take(slot));
        let (facts, size) = (transaction.evm, footprint(&transaction));
        let slot = self.entries.add(transaction, origin, now);
        let Some(facts) = facts else {
            let place = self.entries.new_place();
            self.entries.set_place(slot, Some(place));
            return;
        };
        if replaced.is_some() {
            self.entries.mark_replacement(slot, now);
        }
        // A replacement keeps its nonce's place, so that a sender's places ascend with its nonces.
        let place = replaced.and_then(|entry| entry.place);
        self.entries.set_place(slot, place);
        let queued = Queued {
            nonce: facts.nonce,
            slot,
            tip: facts.effective_tip(),
            place,
        };
        let sender = self.senders.entry(facts.sender).or_default();
        let at = sender.position(facts.nonce).unwrap_or_else(|at| at);
        sender.queue.insert(at, queued);
        sender.bytes += size;
        self.settle(facts.sender);
    }

    /// Removes what the stream carried and learns its senders' nonces.
    pub(crate) fn decided(&mut self, height: Height, hashes: &[TxHash], payloads: &[Bytes], facts_of: &FactsOf<'_>) {
        let mut touched: Vec<Address> = Vec::new();
        for (hash, payload) in hashes.iter().zip(payloads) {
            let held = self.entries.find(hash).and_then(|slot| self.take(slot));
            if self.config.kind == RollupKind::Opaque {
                continue;
            }
            touched.extend(
                held.as_ref()
                    .and_then(|entry| entry.transaction.evm)
                    .map(|facts| facts.sender),
            );
            let facts = match held {
                Some(entry) if entry.recovered => entry.transaction.evm,
                _ => facts_of(&self.config, *hash, payload),
            };
            match facts {
                Some(facts) => {
                    self.remember(facts, height);
                    touched.push(facts.sender);
                }
                None => self.unfamiliar = height,
            }
        }
        if self.unfamiliar == height {
            touched.extend(self.blocked.iter());
        }
        touched.sort_unstable();
        touched.dedup();
        for sender in touched {
            self.settle(sender);
        }
        self.forget();
    }

    fn remember(&mut self, facts: EvmFacts, height: Height) {
        let sender = self.senders.entry(facts.sender).or_default();
        let before = sender.decided.map(|decided| decided.height);
        sender.record(facts.nonce, height);
        if before.is_none() {
            self.remembered_senders += 1;
        }
        let grown = sender.decided.map(|decided| decided.height);
        if before != grown {
            self.remembered.push_back((height, facts.sender));
        }
    }

    /// Forgets the nonces of senders that were quiet the longest.
    fn forget(&mut self) {
        while self.senders_max < self.remembered_senders || 2 * self.senders_max < self.remembered.len() {
            let Some((height, address)) = self.remembered.pop_front() else {
                return;
            };
            let Some(sender) = self.senders.get_mut(&address) else {
                continue;
            };
            if sender.decided.is_some_and(|decided| decided.height == height) {
                sender.decided = None;
                self.remembered_senders -= 1;
                self.settle(address);
            }
        }
    }

    /// Removes a transaction; its sender has to be settled afterwards.
    fn take(&mut self, slot: usize) -> Option<Entry> {
        let entry = self.entries.remove(slot)?;
        if let Some(facts) = &entry.transaction.evm {
            let sender = self.senders.get_mut(&facts.sender).expect("an entry's sender is known");
            let at = sender.position(facts.nonce).expect("an entry is queued");
            sender.queue.remove(at);
            sender.bytes -= footprint(&entry.transaction);
        }
        Some(entry)
    }

    /// Removes a transaction by its hash.
    pub(crate) fn remove(&mut self, hash: &TxHash) -> Option<PoolTransaction> {
        let entry = self.entries.find(hash).and_then(|slot| self.take(slot))?;
        if let Some(facts) = &entry.transaction.evm {
            self.settle(facts.sender);
        }
        Some(entry.transaction)
    }

    /// Removes what waited for a nonce since `since` or longer.
    pub(crate) fn expire(&mut self, since: Duration, now: Duration, out: &mut Vec<PoolTransaction>) {
        self.entries.set_clock(now);
        while let Some(slot) = self.entries.waiting_since(since) {
            let entry = self.take(slot).expect("a waiting transaction has an entry");
            if let Some(facts) = &entry.transaction.evm {
                self.settle(facts.sender);
            }
            out.push(entry.transaction);
        }
    }

    /// Restores what holds for a sender after any change: nothing stale waits, exactly its run is executable, places
    /// ascend with nonces, and its head is listed.
    fn settle(&mut self, address: Address) {
        let Some(sender) = self.senders.get_mut(&address) else {
            return;
        };
        while let Some(at) = sender
            .queue
            .iter()
            .position(|queued| sender.stale(queued.nonce).is_some())
        {
            let queued = sender.queue.remove(at).expect("the position is within the queue");
            if let Some(entry) = self.entries.remove(queued.slot) {
                sender.bytes -= footprint(&entry.transaction);
            }
        }
        let run = sender.run(self.unfamiliar);
        if run == 0 && !sender.queue.is_empty() {
            self.blocked.insert(address);
        } else if !self.blocked.is_empty() {
            self.blocked.remove(&address);
        }
        place_run(sender, run, &mut self.entries);
        if self.config.ordering == Ordering::Priority {
            let first = sender.queue.front();
            let head = first.and_then(|queued| queued.place.map(|place| (Reverse(queued.tip), place, address)));
            if sender.head != head {
                if let Some(before) = std::mem::replace(&mut sender.head, head) {
                    self.heads.remove(&before);
                }
                self.heads.extend(head);
            }
        }
        if sender.queue.is_empty() && sender.decided.is_none() {
            self.senders.remove(&address);
        }
    }
}

/// Gives the first `run` slots places that ascend, keeping those they have as far as possible, and takes them from the
/// rest.
fn place_run(sender: &mut Sender, run: usize, entries: &mut Entries) {
    let placed = sender.queue.iter().filter(|queued| queued.place.is_some()).count();
    let at_front = sender.queue.iter().take(placed).all(|queued| queued.place.is_some());
    if at_front && placed <= run {
        for queued in sender.queue.range_mut(placed..run) {
            queued.place = Some(entries.new_place());
            entries.set_place(queued.slot, queued.place);
        }
        return;
    }
    let mut places: Vec<u64> = sender.queue.iter().filter_map(|queued| queued.place).collect();
    places.sort_unstable();
    while places.len() < run {
        places.push(entries.new_place());
    }
    for (at, queued) in sender.queue.iter_mut().enumerate() {
        let place = (at < run).then(|| places[at]);
        if queued.place != place {
            queued.place = place;
            entries.set_place(queued.slot, place);
        }
    }
}

/// Whether `facts` may take the nonce of `replaced`.
fn check_replacement(
    replaced: &Entry,
    facts: &EvmFacts,
    now: Duration,
    in_flight: &dyn Fn(&TxHash) -> bool,
) -> Result<(), Reject> {
    let nonce = facts.nonce;
    let before = replaced.transaction.evm.as_ref().expect("a sender's entry has facts");
    let (max_fee_needed, tip_needed) = (bumped(before.max_fee), bumped(before.tip));
    if facts.max_fee < max_fee_needed || facts.tip < tip_needed {
        return Err(Reject::ReplacementUnderpriced {
            max_fee: facts.max_fee,
            tip: facts.tip,
            max_fee_needed,
            tip_needed,
        });
    }
    if in_flight(&replaced.transaction.hash) {
        return Err(Reject::InFlight { nonce });
    }
    let again_at = replaced.replaced_at.map(|at| at.saturating_add(REPLACEMENT_INTERVAL));
    if let Some(wait) = again_at
        .and_then(|at| at.checked_sub(now))
        .filter(|wait| !wait.is_zero())
    {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        return Err(Reject::ReplacementTooSoon { nonce, wait_ms });
    }
    Ok(())
}

/// The least fee that replaces `fee`: a bump of ten percent rounded up, and never the same again.
fn bumped(fee: u128) -> u128 {
    fee.saturating_add((fee / 100).saturating_mul(REPLACEMENT_BUMP_PERCENT))
        .saturating_add((fee % 100 * REPLACEMENT_BUMP_PERCENT).div_ceil(100))
        .max(fee.saturating_add(1))
}

#[cfg(test)]
pub(crate) mod consistency;
