//! What the others' proposals say of this node's clock.
//!
//! Promises: one proposer with a wrong clock does not make this node doubt its own. Leaves to others: to tell people. A
//! proposal comes late for many reasons, but from the future for one alone, so only a clock that is behind shows here;
//! one that is ahead shows at the others, whose logs name the proposer.

use std::collections::BTreeMap;

use fusion_types::ValidatorId;

/// By how much the last proposal of each other member was ahead of this node's clock when it came, in milliseconds.
/// Bounded by the committee: consensus asks about blocks of members alone.
#[derive(Debug, Default)]
pub(super) struct Clocks(BTreeMap<ValidatorId, i64>);

impl Clocks {
    /// A proposal of time `time_ms` came at `now_ms` on this node's clock; its parent is of `parent_ms`.
    pub(super) fn proposed(&mut self, proposer: ValidatorId, time_ms: u64, parent_ms: u64, now_ms: u64) {
        // The least time that the parent allows says nothing of the proposer's clock: an earlier proposer's was ahead.
        if time_ms > parent_ms.saturating_add(1) {
            let ahead = i128::from(time_ms) - i128::from(now_ms);
            let ahead = i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX });
            self.0.insert(proposer, ahead);
        }
    }

    /// By how much the others' clocks are ahead of ours: the median, below zero by the proposals' way here when all is
    /// well. Nothing until two have proposed: between two clocks nobody can tell which is wrong.
    pub(super) fn ahead_ms(&self) -> Option<i64> {
        let mut ahead: Vec<i64> = self.0.values().copied().collect();
        ahead.sort_unstable();
        let middle = ahead.len().checked_sub(1)? / 2;
        ahead.get(middle).copied().filter(|_| ahead.len() > 1)
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    fn clocks(times: &[u64]) -> Clocks {
        let mut clocks = Clocks::default();
        for (byte, time_ms) in (1..).zip(times) {
            clocks.proposed(ValidatorId(B256::repeat_byte(byte)), *time_ms, 1_000, 10_000);
        }
        clocks
    }

    #[test]
    fn a_clock_that_is_behind_most_others_shows() {
        assert_eq!(clocks(&[10_400, 10_300, 9_990]).ahead_ms(), Some(300));
    }

    #[test]
    fn one_proposer_with_a_wrong_clock_changes_nothing() {
        assert_eq!(clocks(&[10_450, 9_990, 9_995]).ahead_ms(), Some(-5));
        assert_eq!(clocks(&[10_450, 9_990]).ahead_ms(), Some(-10));
        assert_eq!(clocks(&[10_450]).ahead_ms(), None);
    }

    #[test]
    fn a_time_that_the_parent_forced_does_not_count() {
        let mut clocks = clocks(&[9_990, 9_995]);
        for byte in 1..=2 {
            clocks.proposed(ValidatorId(B256::repeat_byte(byte)), 10_451, 10_450, 10_000);
        }
        assert_eq!(clocks.ahead_ms(), Some(-10));
    }
}
