//! What is due when. Time is the caller's monotonic clock; nothing here reads one.

use std::collections::BTreeMap;
use std::time::Duration;

use fusion_types::Round;

/// The timeouts of a round, in the order in which they fire when due together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKind {
    Propose,
    Prevote,
    Precommit,
    Rebroadcast,
}

/// Deadlines of the current height's rounds. At most one for each kind and round; a new round clears them all.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeMap<(TimerKind, Round), Duration>,
}

impl Timers {
    pub(crate) fn clear(&mut self) {
        self.due.clear();
    }

    pub(crate) fn set(&mut self, kind: TimerKind, round: Round, at: Duration) {
        self.due.insert((kind, round), at);
    }

    pub(crate) fn cancel(&mut self, kind: TimerKind, round: Round) {
        self.due.remove(&(kind, round));
    }

    pub(crate) fn is_set(&self, kind: TimerKind, round: Round) -> bool {
        self.due.contains_key(&(kind, round))
    }

    /// Moves a deadline that is set forward to `at`, if that is sooner.
    pub(crate) fn hasten(&mut self, kind: TimerKind, round: Round, at: Duration) {
        if let Some(due) = self.due.get_mut(&(kind, round)) {
            *due = at.min(*due);
        }
    }

    /// The next deadline.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.due.values().min().copied()
    }

    /// Takes out the earliest timer that is due at `now`.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<(TimerKind, Round)> {
        let (key, at) = self.due.iter().min_by_key(|(key, at)| (**at, **key))?;
        let (key, at) = (*key, *at);
        if at > now {
            return None;
        }
        self.due.remove(&key);
        Some(key)
    }
}
