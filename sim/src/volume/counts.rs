//! How often each fault happened: a simulation that injects nothing proves nothing.

/// How often each fault really happened.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) crashes: u64,
    /// Crashes between two operations of one caller, or in the middle of one.
    pub(crate) crashes_inside: u64,
    /// Ends of a process that lost nothing.
    pub(crate) kills: u64,
    pub(crate) writes_kept: u64,
    pub(crate) writes_lost: u64,
    pub(crate) writes_cut: u64,
    pub(crate) writes_holed: u64,
    pub(crate) zero_tails: u64,
    pub(crate) lengths_lost: u64,
    pub(crate) names_kept: u64,
    pub(crate) names_lost: u64,
    pub(crate) full: u64,
    pub(crate) syncs_failed: u64,
    pub(crate) syncs_slow: u64,
    pub(crate) reads_failed: u64,
    pub(crate) flips: u64,
    pub(crate) cuts: u64,
    pub(crate) zeroed: u64,
    pub(crate) overwritten: u64,
    pub(crate) removed: u64,
    pub(crate) swapped: u64,
    pub(crate) restored: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        for (own, other) in self.all_mut().into_iter().zip(other.clone().all_mut()) {
            *own += *other;
        }
    }

    fn all_mut(&mut self) -> [&mut u64; 22] {
        [
            &mut self.crashes,
            &mut self.crashes_inside,
            &mut self.kills,
            &mut self.writes_kept,
            &mut self.writes_lost,
            &mut self.writes_cut,
            &mut self.writes_holed,
            &mut self.zero_tails,
            &mut self.lengths_lost,
            &mut self.names_kept,
            &mut self.names_lost,
            &mut self.full,
            &mut self.syncs_failed,
            &mut self.syncs_slow,
            &mut self.reads_failed,
            &mut self.flips,
            &mut self.cuts,
            &mut self.zeroed,
            &mut self.overwritten,
            &mut self.removed,
            &mut self.swapped,
            &mut self.restored,
        ]
    }
}
