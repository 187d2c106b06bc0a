//! How often each fault really happened: a simulation that injects nothing proves nothing.

/// A kind of fault, or another event that a run of many seeds must have seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A message that no longer fitted its queue.
    Dropped,
    Duplicated,
    /// A message overtaken by a later one of its class.
    Reordered,
    /// A packet lost and sent again: the stream behind it waits.
    Retransmitted,
    /// A connection that broke and came back at once.
    Reset,
    Partition,
    OneWayCut,
    Flap,
    SlowLink,
    IdleTimeout,
    /// kill -9: the kernel keeps what was written.
    Kill,
    /// The power of one node goes: what was not synced is lost, in part.
    PowerCut,
    /// The power of all nodes goes at one moment.
    TotalPowerCut,
    /// The crash came between the writes of one commit.
    TornCommit,
    SlowDisk,
    DiskFull,
    SyncFailed,
    WalLost,
    WalDamaged,
    GuardDamaged,
    /// An old copy of the whole disk was put back.
    Restored,
    Frozen,
    ClockJump,
    ClockFarOff,
    /// A node stayed broken for good while the others had to go on.
    BrokenForGood,
    Traitor,
    Twins,
    /// A validator's contradiction reached a node that must notice it.
    Equivocation,
    Evidence,
    Quarantine,
    LaterRound,
    SyncAnswered,
    Resubmitted,
    ReadAfterFinal,
    /// A number was left out, to be filled in later.
    NonceGap,
    /// Another transaction of a number that waits, for higher fees.
    Replacement,
    /// More of one sender than a node takes.
    Hoard,
    /// More of one rollup than a small pool takes.
    Crowd,
    NonceTooLow,
    Underpriced,
    SenderFull,
    /// A transaction that was queued on L1.
    Forced,
    /// A node that hears nothing of L1 for a while.
    L1Blind,
    FeedDropped,
    FeedRepeated,
}

/// Every kind, with its name in reports.
pub(crate) const KINDS: [(Fault, &str); 45] = [
    (Fault::Dropped, "dropped"),
    (Fault::Duplicated, "duplicated"),
    (Fault::Reordered, "reordered"),
    (Fault::Retransmitted, "retransmitted"),
    (Fault::Reset, "resets"),
    (Fault::Partition, "partitions"),
    (Fault::OneWayCut, "one-way cuts"),
    (Fault::Flap, "flaps"),
    (Fault::SlowLink, "slow links"),
    (Fault::IdleTimeout, "idle time-outs"),
    (Fault::Kill, "kills"),
    (Fault::PowerCut, "power cuts"),
    (Fault::TotalPowerCut, "total power cuts"),
    (Fault::TornCommit, "torn commits"),
    (Fault::SlowDisk, "slow disks"),
    (Fault::DiskFull, "full disks"),
    (Fault::SyncFailed, "failed syncs"),
    (Fault::WalLost, "lost WALs"),
    (Fault::WalDamaged, "damaged WALs"),
    (Fault::GuardDamaged, "damaged guards"),
    (Fault::Restored, "old copies restored"),
    (Fault::Frozen, "freezes"),
    (Fault::ClockJump, "clock jumps"),
    (Fault::ClockFarOff, "clocks far off"),
    (Fault::BrokenForGood, "broken for good"),
    (Fault::Traitor, "traitors"),
    (Fault::Twins, "twins"),
    (Fault::Equivocation, "equivocations received"),
    (Fault::Evidence, "evidence"),
    (Fault::Quarantine, "quarantines"),
    (Fault::LaterRound, "decided in later rounds"),
    (Fault::SyncAnswered, "answers by sync"),
    (Fault::Resubmitted, "resubmitted"),
    (Fault::ReadAfterFinal, "reads after final"),
    (Fault::NonceGap, "nonces left out"),
    (Fault::Replacement, "replacements"),
    (Fault::Hoard, "hoards"),
    (Fault::Crowd, "crowds"),
    (Fault::NonceTooLow, "refused as stale"),
    (Fault::Underpriced, "refused as underpriced"),
    (Fault::SenderFull, "refused for want of room"),
    (Fault::Forced, "forced on L1"),
    (Fault::L1Blind, "blind to L1"),
    (Fault::FeedDropped, "L1 feeds dropped"),
    (Fault::FeedRepeated, "L1 feeds repeated"),
];

/// Counters, one for each kind.
#[derive(Debug, Clone)]
pub(crate) struct Faults([u64; KINDS.len()]);

impl Default for Faults {
    fn default() -> Self {
        Self([0; KINDS.len()])
    }
}

impl Faults {
    pub(crate) fn count(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    pub(crate) fn set(&mut self, fault: Fault, count: u64) {
        self.0[fault as usize] = count;
    }

    pub(crate) fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// Names and counts, in the order of [`KINDS`].
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        KINDS.iter().map(|(fault, name)| (*name, self.of(*fault)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_counter() {
        for (at, (fault, name)) in KINDS.iter().enumerate() {
            assert_eq!(*fault as usize, at, "{name}");
        }
    }
}
