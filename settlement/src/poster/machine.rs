//! What the poster does next: pure, driven by views of L1.
//!
//! Promises, whatever L1 and its nodes do:
//! - a transaction is sent only after it was recorded, and only on a view in which its nonce is the account's next and its
//!   batch the inbox's next: one nonce is in flight, and nothing is sent for a batch that is posted;
//! - a new nonce is signed only when every own nonce before it is known to be in a block by an own transaction, or final: a
//!   node that says "nonce too low" makes nobody sign the same batch twice;
//! - a transaction that left the chain is sent again as it was, until the finalized block covers it.
//!
//! Leaves to others: carrying orders out, one at a time ([`run`](super::run())), and keeping bytes ([`Journal`](super::Journal)).
//! An order without an answer blocks the next one of its kind; only a look is given up after a while.

use std::collections::BTreeMap;

use alloy_primitives::{B256, U256};

use super::fees::{FeeRule, PostFees, posts_left};
use super::words::{Alert, Attempt, Fate, Input, Order, Output, PostJob, Refusal, SendAnswer, View};

/// Batches that are not finalized: finality takes 64 slots, and a batch of 750 kB per slot is more than a network has.
pub const JOBS_MAX: usize = 128;

/// Views in which an own nonce is used by no transaction of ours before anybody is told: receipts may come late.
const FOREIGN_VIEWS: u32 = 3;

/// How the poster behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PosterConfig {
    /// How long each rank waits longer than the one before it, in milliseconds.
    pub rank_delay_ms: u64,
    /// Blocks without inclusion after which a transaction is replaced, though its caps are enough.
    pub stuck_blocks: u64,
    /// Milliseconds after which the inbox is asked again about a batch that it refused.
    pub refusal_retry_ms: u64,
    /// Milliseconds after which a look without an answer is given up.
    pub look_timeout_ms: u64,
    /// What a post pays.
    pub fees: FeeRule,
}

impl Default for PosterConfig {
    /// Three slots for each rank; six blocks; a minute; half a minute.
    fn default() -> Self {
        Self {
            rank_delay_ms: 36_000,
            stuck_blocks: 6,
            refusal_retry_ms: 60_000,
            look_timeout_ms: 30_000,
            fees: FeeRule::default(),
        }
    }
}

/// A nonce that is not finalized, and what was signed for it. Only the last attempt counts: each offers more than those
/// before it.
#[derive(Debug, Default)]
struct Slot {
    attempts: Vec<Attempt>,
    /// The head when the last attempt was sent, or first seen.
    sent_at: Option<u64>,
    /// Whether a node says that the last attempt offers too little.
    is_underpriced: bool,
    /// Views in which the nonce was used and no attempt was in a block.
    foreign_views: u32,
}

/// A batch that the inbox would not take.
#[derive(Debug)]
struct Refused {
    number: u64,
    batch: B256,
    at_ms: u64,
}

/// What is known of L1, what waits to be posted and what was signed for it; [`Poster::step`] says what to do next. Promises
/// that one nonce is in flight, that nothing is sent that was not recorded, and that nothing is signed twice for one number
/// as long as it is not known what became of the first.
#[derive(Debug)]
pub struct Poster {
    config: PosterConfig,
    jobs: BTreeMap<u64, PostJob>,
    slots: BTreeMap<u64, Slot>,
    /// Batches and nonces below these are in finalized blocks.
    finalized: (u64, u64),
    /// When the last look began, as long as there is no answer.
    looking_since_ms: Option<u64>,
    /// What is being signed, and what was signed and is being recorded.
    signing: Option<Order>,
    recording: Option<Attempt>,
    /// Number that the inbox takes next, and since when.
    next: Option<(u64, u64)>,
    head: u64,
    refused: Option<Refused>,
    alert: Option<Alert>,
    balance: Option<(U256, u64)>,
}

impl Poster {
    /// A poster with what its journal remembers: attempts whose nonces are not finalized, in the order in which they were
    /// recorded, and the first batch and nonce that are not.
    pub fn new(config: PosterConfig, attempts: &[Attempt], finalized: (u64, u64)) -> Self {
        let mut slots: BTreeMap<u64, Slot> = BTreeMap::new();
        for attempt in attempts.iter().filter(|attempt| attempt.nonce >= finalized.1) {
            slots.entry(attempt.nonce).or_default().attempts.push(*attempt);
        }
        Self {
            config,
            jobs: BTreeMap::new(),
            slots,
            finalized,
            looking_since_ms: None,
            signing: None,
            recording: None,
            next: None,
            head: 0,
            refused: None,
            alert: None,
            balance: None,
        }
    }

    /// Whether another batch may wait.
    pub fn has_room(&self) -> bool {
        self.jobs.len() < JOBS_MAX
    }

    /// What is to be done now that `input` happened at `now_ms` (Unix time).
    pub fn step(&mut self, now_ms: u64, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        match input {
            Input::Job(job) => self.take(job, &mut outputs),
            Input::Tick => {}
            Input::View(view) => {
                self.looking_since_ms = None;
                self.see(now_ms, &view, &mut outputs);
                return outputs;
            }
            Input::NoView => {
                self.looking_since_ms = None;
                return outputs;
            }
            Input::Signed { attempt, raw } => {
                // Anything else is the answer to an order of another life.
                if self.signing.as_ref().is_some_and(|order| is_for(order, &attempt)) {
                    self.signing = None;
                    self.recording = Some(attempt);
                    outputs.push(Output::Record { attempt, raw });
                }
                return outputs;
            }
            Input::Recorded => self.note_recorded(),
            Input::Refused(refusal) => self.note_refused(now_ms, refusal, &mut outputs),
            Input::NotSigned(words) => {
                if let Some(order) = self.signing.take() {
                    let number = order.job.number;
                    self.tell(Alert::NotSigned { number, words }, &mut outputs);
                }
                return outputs;
            }
            Input::Sent { hash, answer } => {
                self.note_sent(hash, answer, &mut outputs);
                return outputs;
            }
        }
        self.look(now_ms, &mut outputs);
        outputs
    }

    fn take(&mut self, job: PostJob, outputs: &mut Vec<Output>) {
        let number = job.number;
        if number < self.finalized.0 {
            return;
        }
        if !self.has_room() && !self.jobs.contains_key(&number) {
            let waiting = self.jobs.len();
            self.tell(Alert::Full { number, waiting }, outputs);
            return;
        }
        self.jobs.insert(number, job);
    }

    fn look(&mut self, now_ms: u64, outputs: &mut Vec<Output>) {
        let is_given_up = |since| now_ms.saturating_sub(since) >= self.config.look_timeout_ms;
        if self.looking_since_ms.is_none_or(is_given_up) {
            self.looking_since_ms = Some(now_ms);
            let attempts = self.slots.values().flat_map(|slot| &slot.attempts);
            outputs.push(Output::Look(attempts.map(|attempt| attempt.hash).collect()));
        }
    }

    fn note_recorded(&mut self) {
        if let Some(attempt) = self.recording.take() {
            let slot = self.slots.entry(attempt.nonce).or_default();
            slot.attempts.push(attempt);
            slot.sent_at = None;
            slot.is_underpriced = false;
        }
    }

    fn note_refused(&mut self, now_ms: u64, refusal: Refusal, outputs: &mut Vec<Output>) {
        let Some(order) = self.signing.take() else { return };
        // The next view says which number is next: the other two refusals need nothing more.
        if let Refusal::Other(_) = refusal {
            let number = order.job.number;
            self.refused = Some(Refused {
                number,
                batch: order.job.hash,
                at_ms: now_ms,
            });
            self.tell(Alert::Refused { number, refusal }, outputs);
        }
    }

    fn note_sent(&mut self, hash: B256, answer: SendAnswer, outputs: &mut Vec<Output>) {
        let is_it = |slot: &&mut Slot| slot.attempts.last().is_some_and(|last| last.hash == hash);
        let Some(slot) = self.slots.values_mut().find(is_it) else {
            return;
        };
        let number = slot.attempts.last().map_or(0, |last| last.number);
        match answer {
            SendAnswer::Taken => slot.sent_at = Some(self.head),
            // Never signs anew on a node's word: the next view has the receipts and the inbox's number.
            SendAnswer::NonceTooLow => {}
            SendAnswer::Underpriced => slot.is_underpriced = true,
            SendAnswer::Refused(words) | SendAnswer::Unreachable(words) => {
                self.tell(Alert::NotTaken { number, hash, words }, outputs);
            }
        }
    }

    fn tell(&mut self, alert: Alert, outputs: &mut Vec<Output>) {
        if self.alert.as_ref() != Some(&alert) {
            self.alert = Some(alert.clone());
            outputs.push(Output::Alert(alert));
        }
    }

    /// Decides on a view of L1. Everything is decided here: nothing is sent or signed on older knowledge.
    fn see(&mut self, now_ms: u64, view: &View, outputs: &mut Vec<Output>) {
        self.head = view.head;
        self.note_finalized(view, outputs);
        if self.next.is_none_or(|(number, _)| number != view.next_number) {
            self.next = Some((view.next_number, now_ms));
            self.alert = None;
        }
        let posts = posts_left(view.balance, &self.config.fees, &view.fees);
        if self.balance != Some((view.balance, posts)) {
            self.balance = Some((view.balance, posts));
            let wei = view.balance;
            outputs.push(Output::Balance { wei, posts });
        }
        if self.signing.is_some() || self.recording.is_some() || self.is_held_up(view, outputs) {
            return;
        }
        let nonce = view.nonce;
        let last = self.slots.get(&nonce).and_then(|slot| slot.attempts.last()).copied();
        match last {
            Some(last) if last.number == view.next_number && self.is_current(&last) => {
                self.pursue(now_ms, view, last, outputs);
            }
            last => self.post_next(now_ms, view, nonce, last, outputs),
        }
    }

    fn note_finalized(&mut self, view: &View, outputs: &mut Vec<Output>) {
        let Some((number, nonce)) = view.finalized else { return };
        let finalized = (number.max(self.finalized.0), nonce.max(self.finalized.1));
        if finalized == self.finalized {
            return;
        }
        self.finalized = finalized;
        self.jobs = self.jobs.split_off(&finalized.0);
        self.slots = self.slots.split_off(&finalized.1);
        let (number, nonce) = finalized;
        outputs.push(Output::Finalized { number, nonce });
    }

    /// Whether the view does not hold together with what was signed: then nothing is done before one does.
    fn is_held_up(&mut self, view: &View, outputs: &mut Vec<Output>) -> bool {
        let mut foreign = None;
        // Older than what is final.
        let mut is_held_up = view.next_number < self.finalized.0 || view.nonce < self.finalized.1;
        for (nonce, slot) in &mut self.slots {
            let mut fates = slot.attempts.iter().map(|attempt| (attempt, fate(view, attempt)));
            let in_block = fates.find(|(_, fate)| matches!(fate, Fate::Posted | Fate::Reverted(_)));
            if *nonce >= view.nonce {
                // In a block, and its nonce not used.
                is_held_up |= in_block.is_some();
                slot.foreign_views = 0;
                continue;
            }
            // Posted, and not in the inbox.
            is_held_up |= in_block
                .is_some_and(|(attempt, fate)| matches!(fate, Fate::Posted) && attempt.number >= view.next_number);
            if in_block.is_some() {
                slot.foreign_views = 0;
            } else {
                // Used, and by none of ours: which of the two is wrong, only finality tells.
                is_held_up = true;
                slot.foreign_views = slot.foreign_views.saturating_add(1);
                if slot.foreign_views >= FOREIGN_VIEWS {
                    foreign = foreign.or(Some(*nonce));
                }
            }
        }
        if let Some(nonce) = foreign {
            self.tell(Alert::ForeignNonce(nonce), outputs);
        }
        is_held_up
    }

    /// Whether an attempt posts what is wanted. Without a job, what was signed before a restart is.
    fn is_current(&self, attempt: &Attempt) -> bool {
        let job = self.jobs.get(&attempt.number);
        job.is_none_or(|job| job.hash == attempt.batch)
    }

    /// Brings the account's next nonce, which posts the inbox's next number, into a block.
    fn pursue(&mut self, now_ms: u64, view: &View, last: Attempt, outputs: &mut Vec<Output>) {
        if self.is_blocked(now_ms, view, last.number, last.batch, outputs) {
            return;
        }
        let fate = fate(view, &last);
        let Some(slot) = self.slots.get_mut(&last.nonce) else {
            return;
        };
        if *fate == Fate::Pending && slot.sent_at.is_none() {
            slot.sent_at = Some(view.head);
        }
        let waited = slot.sent_at.map_or(0, |sent| view.head.saturating_sub(sent));
        let is_stuck = *fate == Fate::Pending && waited >= self.config.stuck_blocks;
        let is_short = FeeRule::is_short(&last.fees, &view.fees);
        if is_short || is_stuck || slot.is_underpriced {
            let fees = self.config.fees.replace(&last.fees, &view.fees);
            if let Some(job) = self.jobs.get(&last.number).cloned()
                && self.order(job, last.nonce, fees, outputs)
            {
                return;
            }
        }
        if *fate == Fate::Unknown {
            outputs.push(Output::Send(last.hash));
        }
    }

    /// Signs the inbox's next number for the account's next nonce, if it is our turn. What `last` was to post at this nonce
    /// is done by others or not wanted any more; it may be pending and is replaced.
    fn post_next(&mut self, now_ms: u64, view: &View, nonce: u64, last: Option<Attempt>, outputs: &mut Vec<Output>) {
        let Some(job) = self.jobs.get(&view.next_number).cloned() else {
            return;
        };
        if !self.is_turn(now_ms, &job) || self.is_blocked(now_ms, view, job.number, job.hash, outputs) {
            return;
        }
        let rule = &self.config.fees;
        let fees = last.map_or_else(|| rule.start(&view.fees), |last| rule.replace(&last.fees, &view.fees));
        self.order(job, nonce, fees, outputs);
    }

    /// Whether it is this node's turn: at once for rank 0, later for others, and for them not before the number has been
    /// next for as long.
    fn is_turn(&self, now_ms: u64, job: &PostJob) -> bool {
        let since_ms = match (job.rank, self.next) {
            (0, _) | (_, None) => job.ready_at_ms,
            (_, Some((_, since_ms))) => job.ready_at_ms.max(since_ms),
        };
        let delay_ms = self.config.rank_delay_ms.saturating_mul(job.rank.into());
        now_ms >= since_ms.saturating_add(delay_ms)
    }

    /// Whether the inbox refused just this batch.
    fn is_blocked(&mut self, now_ms: u64, view: &View, number: u64, batch: B256, outputs: &mut Vec<Output>) -> bool {
        let retry_ms = self.config.refusal_retry_ms;
        let is_refused = self.refused.as_ref().is_some_and(|refused| {
            (refused.number, refused.batch) == (number, batch) && now_ms.saturating_sub(refused.at_ms) < retry_ms
        });
        let attempts = self.slots.values().flat_map(|slot| &slot.attempts);
        let mut same = attempts.filter(|attempt| (attempt.number, attempt.batch) == (number, batch));
        let reverted = same.find_map(|attempt| match fate(view, attempt) {
            Fate::Reverted(Some(Refusal::Posted | Refusal::Gap)) => None,
            Fate::Reverted(refusal) => Some((attempt.hash, refusal.clone())),
            _ => None,
        });
        if let Some((hash, refusal)) = reverted {
            let alert = Alert::Reverted { number, hash, refusal };
            self.tell(alert, outputs);
            return true;
        }
        is_refused
    }

    /// Orders a transaction if it may cost so much.
    fn order(&mut self, job: PostJob, nonce: u64, fees: PostFees, outputs: &mut Vec<Output>) -> bool {
        let number = job.number;
        let cost_wei = fees.cost_max(job.gas_limit(), job.blobs());
        let budget_wei = self.config.fees.budget_wei;
        if cost_wei > budget_wei {
            let alert = Alert::Budget {
                number,
                cost_wei,
                budget_wei,
            };
            self.tell(alert, outputs);
            return false;
        }
        let order = Order { job, nonce, fees };
        self.signing = Some(order.clone());
        outputs.push(Output::Sign(order));
        true
    }
}

fn is_for(order: &Order, attempt: &Attempt) -> bool {
    (order.job.number, order.job.hash, order.nonce, order.fees)
        == (attempt.number, attempt.batch, attempt.nonce, attempt.fees)
}

/// What a view says of an attempt. One that was not asked about may be pending: it is not sent again on this view.
fn fate<'a>(view: &'a View, attempt: &Attempt) -> &'a Fate {
    let found = view.fates.iter().find(|(hash, _)| *hash == attempt.hash);
    found.map_or(&Fate::Pending, |(_, fate)| fate)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod model;
