//! How many of this node's users' transactions may wait: what decisions take of them in a fifth of a second, or
//! in two blocks.
//!
//! A node that takes in more than the chain carries spends on it what blocks need, and makes everybody wait for the
//! same throughput. So it measures how fast decisions take what its users sent, and users are refused before anything
//! of theirs is read while more waits than is taken in the time that they should wait at most. By Little's law
//! (Operations Research 9(3), 1961) what waits is what leaves in a second times the seconds that each waits. What other
//! nodes relayed here is not counted: it comes when its block is next, and waits for little.
//!
//! A burst is no overload: only what stands for [`STANDING`] is, as in CoDel (RFC 8289). Until then several times as
//! much may wait.
//!
//! Pure bookkeeping of times and counts. The shell refuses (`handle::Room`, `rpc`); the pool's own limits stand behind
//! it.

use std::time::Duration;

/// How long the transactions of an overloaded node should wait, where blocks are quick.
const PATIENCE: Duration = Duration::from_millis(200);

/// Where they are not: one block is being decided and the next is filled meanwhile. Less than this could leave blocks
/// half empty.
const PATIENCE_BLOCKS: u32 = 2;

/// While a decision is late, what it would have taken may wait too, for so long: a proposer that is gone costs a second,
/// and is no overload.
const LATE_MAX: Duration = Duration::from_secs(2);

/// So many may always wait, whatever was measured.
const ALWAYS: usize = 512;

/// More than may wait is overload when it stands so long. It ends when less has waited for as long.
const STANDING: Duration = Duration::from_millis(500);

/// So many times as many may wait before: what was idle takes a moment to show how fast it is.
const BURST: usize = 4;

/// Every rollup's share of what may wait, however small its weight.
const SHARE_MIN: usize = 16;

/// What leaves is measured over at least this time with something waiting.
const MEASURED: Duration = Duration::from_secs(1);

/// The usual time of a block follows the last ones by one part in so many.
const USUAL_PARTS: u32 = 8;

/// The share of a rollup of this weight, of all rollups' together, when `most` transactions may wait.
pub(super) fn share(most: usize, weight: u32, weights: u128) -> usize {
    let share = most as u128 * u128::from(weight) / weights.max(1);
    usize::try_from(share).unwrap_or(usize::MAX).max(SHARE_MIN)
}

/// How fast decisions take what waits, and whether that is too slow.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Transactions that decisions took, and the time that it took while some waited. Both are halved when the time
    /// reaches twice [`MEASURED`], so that they follow the load.
    left: u64,
    busy: Duration,
    /// The usual time between decisions while something waits.
    usual: Duration,
    /// When something last began to wait for the next decision.
    since: Option<Duration>,
    overloaded: bool,
    /// Since when what waits says otherwise.
    doubted: Option<Duration>,
}

impl Backlog {
    /// Something waits, from now on if nothing did.
    pub(super) fn waits(&mut self, now: Duration) {
        self.since.get_or_insert(now);
    }

    /// A decision took so many, and so many are left.
    pub(super) fn decided(&mut self, now: Duration, taken: u64, left: usize) {
        if let Some(since) = self.since {
            // A chain that stood still for an hour is no slow one.
            let took = now.saturating_sub(since).min(LATE_MAX);
            self.left += taken;
            self.busy += took;
            self.usual = self.usual * (USUAL_PARTS - 1) / USUAL_PARTS + took / USUAL_PARTS;
            if self.busy >= 2 * MEASURED {
                (self.left, self.busy) = (self.left / 2, self.busy / 2);
            }
        }
        self.since = (left > 0).then_some(now);
    }

    /// How many transactions may wait at present, where `waiting` do. To be asked in every turn.
    pub(super) fn most(&mut self, now: Duration, waiting: usize) -> usize {
        let most = self.taken_in_time(now);
        if (waiting >= most) == self.overloaded {
            self.doubted = None;
        } else if now.saturating_sub(*self.doubted.get_or_insert(now)) >= STANDING {
            self.overloaded = !self.overloaded;
            self.doubted = None;
        }
        if self.overloaded {
            most
        } else {
            most.saturating_mul(BURST)
        }
    }

    /// What decisions take in the time that users should wait at most.
    fn taken_in_time(&self, now: Duration) -> usize {
        let patience = PATIENCE.max(self.usual * PATIENCE_BLOCKS);
        let late = self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let time = patience + late.saturating_sub(self.usual).min(LATE_MAX);
        // What was measured for a shorter time may be one lucky block.
        let busy = self.busy.max(MEASURED / 8).as_micros();
        let taken = u128::from(self.left) * time.as_micros() / busy;
        usize::try_from(taken).unwrap_or(usize::MAX).max(ALWAYS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Blocks of `taken` transactions every `every` for so long, with something always waiting.
    fn blocks(backlog: &mut Backlog, begin: Duration, every: Duration, taken: u64, count: u32) -> Duration {
        backlog.waits(begin);
        for n in 1..=count {
            backlog.decided(begin + every * n, taken, 1);
        }
        begin + every * count
    }

    #[test]
    fn shares_go_by_weight_and_none_is_nothing() {
        assert_eq!((share(1000, 1, 4), share(1000, 3, 4)), (250, 750));
        assert_eq!(share(512, 1, 1024), 16, "one of a thousand has a place");
        assert_eq!(share(usize::MAX, u32::MAX, u128::from(u32::MAX)), usize::MAX);
    }

    #[test]
    fn what_is_taken_in_a_fifth_of_a_second_may_wait() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.taken_in_time(ms(0)), 512, "a node that knows nothing yet");
        // 10,000 a second.
        let now = blocks(&mut backlog, ms(0), ms(20), 200, 500);
        assert_eq!(backlog.taken_in_time(now), 2000);
        // 50,000 a second after a few seconds of it.
        let now = blocks(&mut backlog, now, ms(20), 1000, 500);
        let taken = backlog.taken_in_time(now);
        assert!((9_960..=10_000).contains(&taken), "{taken}");
        // And back.
        let now = blocks(&mut backlog, now, ms(20), 200, 1000);
        let taken = backlog.taken_in_time(now);
        assert!((2000..=2040).contains(&taken), "{taken}");
    }

    #[test]
    fn where_blocks_are_slow_two_of_them_may_wait() {
        let mut backlog = Backlog::default();
        // 10,000 a second between continents: 3,000 in each block of 300 ms.
        let now = blocks(&mut backlog, ms(0), ms(300), 3000, 200);
        let taken = backlog.taken_in_time(now);
        assert!((5950..=6000).contains(&taken), "{taken}");
    }

    #[test]
    fn only_what_stands_for_half_a_second_is_overload() {
        let mut backlog = Backlog::default();
        let now = blocks(&mut backlog, ms(0), ms(20), 200, 500);
        assert_eq!(backlog.most(now, 1999), 8000);
        assert_eq!(backlog.most(now, 7000), 8000);
        assert_eq!(backlog.most(now + ms(10), 1999), 8000, "a burst that is over");
        let now = blocks(&mut backlog, now, ms(20), 200, 1);
        assert_eq!(backlog.most(now, 2000), 8000);
        let now = blocks(&mut backlog, now, ms(20), 200, 24);
        assert_eq!(backlog.most(now, 2000), 8000, "for 480 ms");
        let now = blocks(&mut backlog, now, ms(20), 200, 1);
        assert_eq!(backlog.most(now, 2000), 2000);
        // Room for one more does not end it, but half a second with room for more does.
        assert_eq!(backlog.most(now, 1999), 2000);
        let now = blocks(&mut backlog, now, ms(20), 200, 24);
        assert_eq!(backlog.most(now, 2000), 2000);
        assert_eq!(backlog.most(now, 1999), 2000);
        let now = blocks(&mut backlog, now, ms(20), 200, 25);
        assert_eq!(backlog.most(now, 1999), 8000);
    }

    #[test]
    fn a_late_decision_is_no_overload_for_two_seconds() {
        let mut backlog = Backlog::default();
        let now = blocks(&mut backlog, ms(0), ms(20), 200, 500);
        assert_eq!(backlog.taken_in_time(now + ms(1020)), 12_000);
        assert_eq!(backlog.taken_in_time(now + ms(60_000)), 22_000);
    }

    #[test]
    fn a_long_stop_does_not_open_the_door_for_long() {
        for stop in [ms(10_000), ms(3_600_000)] {
            let mut backlog = Backlog::default();
            let now = blocks(&mut backlog, ms(0), ms(20), 200, 500);
            backlog.decided(now + stop, 1000, 1);
            let most = backlog.taken_in_time(now + stop);
            assert!((1000..=4000).contains(&most), "{most} after {stop:?}");
            let now = blocks(&mut backlog, now + stop, ms(20), 200, 200);
            let most = backlog.taken_in_time(now);
            assert!((1900..=2100).contains(&most), "{most} after {stop:?}");
        }
    }

    #[test]
    fn time_in_which_nothing_waits_does_not_count() {
        let mut backlog = Backlog::default();
        let now = blocks(&mut backlog, ms(0), ms(20), 200, 500);
        backlog.decided(now + ms(20), 200, 0);
        let later = now + ms(3_600_000);
        // Empty blocks of an idle chain, and then one transaction.
        backlog.decided(later, 0, 0);
        backlog.waits(later + ms(10));
        backlog.decided(later + ms(20), 1, 0);
        let taken = backlog.taken_in_time(later + ms(20));
        assert!((1960..=2000).contains(&taken), "{taken}");
    }
}
