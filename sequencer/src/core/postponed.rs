//! Proposals on which this node has no answer yet: whether they are right depends on what it will know.
//!
//! Promises to keep a bounded number of them until the height ends. Leaves to others: the answer (`blocks`).

use std::sync::Arc;
use std::time::Duration;

use fusion_types::limits::COMMITTEE_MAX;
use fusion_types::{BlockId, Height, Round, SealedBlock};

/// Proposals of one height that wait for an answer. There are no more proposers than this.
const POSTPONED_MAX: usize = COMMITTEE_MAX;

/// A proposal that consensus asks about.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) height: Height,
    pub(super) round: Round,
    pub(super) block: Arc<SealedBlock>,
}

/// What a proposal waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// This node's clock.
    Clock(Duration),
    /// More of L1, or others who vouch for it.
    L1,
}

/// The proposals that wait.
#[derive(Debug, Default)]
pub(super) struct Postponed(Vec<(Until, Asked)>);

impl Postponed {
    /// Keeps a proposal, if there is room; else the round passes without an answer.
    pub(super) fn keep(&mut self, until: Until, asked: Asked) {
        if self.0.len() < POSTPONED_MAX {
            self.0.push((until, asked));
        }
    }

    /// Takes out what to look at again at `now`; `may_be_seen` says it of those that wait for L1.
    pub(super) fn due(&mut self, now: Duration, may_be_seen: impl Fn(BlockId) -> bool) -> Vec<Asked> {
        let is_due = |(until, asked): &mut (Until, Asked)| match until {
            Until::Clock(at) => *at <= now,
            Until::L1 => may_be_seen(asked.block.id()),
        };
        self.0.extract_if(.., is_due).map(|(_, asked)| asked).collect()
    }

    /// When the clock is where the first of them needs it.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let clocks = self.0.iter().filter_map(|(until, _)| match until {
            Until::Clock(at) => Some(*at),
            Until::L1 => None,
        });
        clocks.min()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
