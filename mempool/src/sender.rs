//! One sender's transactions in one lane, by nonce, and what is known of its nonces.
//!
//! Nothing is executed here, so an account's nonce is never known for sure. What is known is which of its nonces
//! the stream carried: the last unbroken run of them, `[floor, next)`, each after the one below it. A nonce inside it is
//! stale. The pool proposes a run of transactions that starts where that run ends, or, while nothing is known, at the
//! lowest nonce it was given. A nonce below the floor is taken too: the sender was first seen in the middle. When one
//! is carried there, its rollup may have skipped those above it, which came before their turn, or it is an old one that
//! somebody sent again: those above may be signed again, and nothing waits for that.

use std::collections::VecDeque;

use fusion_types::Height;

use crate::lane::Head;

/// A sender in a lane.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sender {
    /// What waits, ascending by nonce.
    pub(crate) queue: VecDeque<Queued>,
    /// Footprint of what waits, bytes.
    pub(crate) bytes: usize,
    /// What the stream carried.
    pub(crate) decided: Option<DecidedNonces>,
    /// Its entry in the lane's list of heads.
    pub(crate) head: Option<Head>,
}

/// One waiting transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queued {
    pub(crate) nonce: u64,
    /// Its slot among the lane's entries.
    pub(crate) slot: usize,
    /// Effective tip, wei per gas.
    pub(crate) tip: u128,
    /// Its place among the lane's executable transactions; `None` while a nonce before it is missing.
    pub(crate) place: Option<u64>,
}

/// The last unbroken run of nonces that the stream carried: `[floor, next)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DecidedNonces {
    pub(crate) floor: u64,
    pub(crate) next: u64,
    /// Where its end last grew.
    pub(crate) height: Height,
    /// The end of runs that a nonce below them cut short. What comes next cannot be told before this run is as long:
    /// they were carried in their turn or before it.
    pub(crate) reached: u64,
}

impl Sender {
    /// Index of a nonce in the queue, or where it belongs.
    pub(crate) fn position(&self, nonce: u64) -> Result<usize, usize> {
        self.queue.binary_search_by_key(&nonce, |queued| queued.nonce)
    }

    /// The sender's next nonce, if `nonce` is known to be used.
    pub(crate) fn stale(&self, nonce: u64) -> Option<u64> {
        self.decided
            .filter(|decided| (decided.floor..decided.next).contains(&nonce))
            .map(|decided| decided.next)
    }

    /// The nonce that must come next, if that is known: no transaction above `unfamiliar`'s height was of an unknown
    /// sender.
    pub(crate) fn expected(&self, unfamiliar: Height) -> Option<u64> {
        self.decided
            .filter(|decided| decided.reached <= decided.next && unfamiliar < decided.height)
            .map(|decided| decided.next)
    }

    /// Whether the executable run may start at `nonce`, the lowest in the queue.
    pub(crate) fn may_start(&self, nonce: u64, unfamiliar: Height) -> bool {
        match (self.expected(unfamiliar), self.decided) {
            (Some(next), Some(decided)) => nonce == next || nonce < decided.floor,
            _ => true,
        }
    }

    /// The nonce that continues a run after `nonce`.
    pub(crate) fn after(&self, nonce: u64) -> u64 {
        let next = nonce.saturating_add(1);
        self.stale(next).unwrap_or(next)
    }

    /// Length of the executable run at the front of the queue.
    pub(crate) fn run(&self, unfamiliar: Height) -> usize {
        let Some(first) = self.queue.front() else { return 0 };
        if !self.may_start(first.nonce, unfamiliar) {
            return 0;
        }
        let mut expected = self.after(first.nonce);
        let mut length = 1;
        for queued in self.queue.iter().skip(1) {
            if queued.nonce != expected {
                break;
            }
            expected = self.after(queued.nonce);
            length += 1;
        }
        length
    }

    /// Whether `nonce`, which the queue lacks, would be executable at once.
    pub(crate) fn would_run(&self, nonce: u64, unfamiliar: Height) -> bool {
        match self.position(nonce) {
            Ok(at) => self.queue[at].place.is_some(),
            Err(0) => self.may_start(nonce, unfamiliar),
            Err(at) => {
                let before = &self.queue[at - 1];
                before.place.is_some() && self.after(before.nonce) == nonce
            }
        }
    }

    /// Takes note that the stream carried `nonce` at `height`. A nonce that does not continue the known run starts a
    /// new one: what the rollup did with the old one is its own affair.
    pub(crate) fn record(&mut self, nonce: u64, height: Height) {
        let next = nonce.saturating_add(1);
        let fresh = DecidedNonces {
            floor: nonce,
            next,
            height,
            reached: next,
        };
        self.decided = Some(match self.decided {
            Some(known) if nonce == known.next => DecidedNonces { next, height, ..known },
            // It does not say that nothing unknown continued the run meanwhile: its height stays.
            Some(known) if (known.floor..known.next).contains(&nonce) => known,
            Some(known) => DecidedNonces {
                reached: known.reached.max(known.next).max(next),
                ..fresh
            },
            None => fresh,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_continues_a_run_vouches_for_its_end() {
        // At height 2 the stream carried what nobody here knows: it may have been this sender's 966.
        let unfamiliar = Height(2);
        let mut sender = Sender::default();
        sender.record(965, Height(1));
        assert_eq!(sender.expected(Height(0)), Some(966));
        assert_eq!(sender.expected(unfamiliar), None);
        sender.record(965, Height(3));
        assert_eq!(sender.expected(unfamiliar), None, "the same nonce again");
        sender.record(966, Height(5));
        assert_eq!(sender.expected(unfamiliar), Some(967));
    }

    /// 7 came before its turn and a rollup skipped it, or 6 is there a second time: its sender knows, nobody here does.
    #[test]
    fn a_nonce_carried_before_its_turn_may_be_signed_again_and_nothing_waits_for_it() {
        let mut sender = Sender::default();
        sender.record(7, Height(5));
        sender.record(6, Height(6));
        assert_eq!((sender.stale(6), sender.stale(7)), (Some(7), None));
        assert!(sender.may_start(7, Height(0)) && sender.may_start(8, Height(0)));
        sender.record(7, Height(7));
        assert_eq!(sender.stale(7), Some(8));
        assert!(sender.may_start(8, Height(0)) && !sender.may_start(9, Height(0)));
    }

    #[test]
    fn old_nonces_that_come_again_do_not_keep_the_next_one_waiting() {
        let mut sender = Sender::default();
        (7..100).for_each(|nonce| sender.record(nonce, Height(nonce)));
        for (height, old) in [(100, 4), (101, 6), (102, 7), (103, 8)] {
            sender.record(old, Height(height));
            assert_eq!(sender.expected(Height(0)), None, "after {old}");
            assert!(sender.may_start(100, Height(0)));
        }
        (9..100).for_each(|nonce| sender.record(nonce, Height(200)));
        assert_eq!(sender.expected(Height(0)), Some(100));
    }
}
