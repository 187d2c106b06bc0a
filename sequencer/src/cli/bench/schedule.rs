//! When each transaction is due: an open loop at a constant rate.
//!
//! Arrivals do not wait for answers, so that a slow cluster shows as latency and not as a lower rate. Pure: time
//! comes in as the duration since the start.

use std::time::Duration;

const NANOS: u128 = 1_000_000_000;

/// Above this rate a connection gathers arrivals for longer, because each write costs both ends a wake-up.
const GATHER_LONGER_RATE: u64 = 20_000;

/// The arrivals of one connection: every `connections`-th of all, from its own place on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    rate: u64,
    connections: u64,
    place: u64,
}

impl Schedule {
    /// The share of connection `place` of `connections` in `rate` arrivals a second; both counts are at least 1.
    pub(super) fn new(rate: u64, connections: u64, place: u64) -> Self {
        Self {
            rate: rate.max(1),
            connections: connections.max(1),
            place,
        }
    }

    /// When arrival `index` of this connection is due, in nanoseconds since the start.
    pub(super) fn due_ns(&self, index: u64) -> u64 {
        let arrival = u128::from(index) * u128::from(self.connections) + u128::from(self.place);
        u64::try_from(arrival * NANOS / u128::from(self.rate)).unwrap_or(u64::MAX)
    }

    /// Number of arrivals due before `end` has passed.
    pub(super) fn count_until(&self, end: Duration) -> u64 {
        let total = end.as_nanos() * u128::from(self.rate) / NANOS;
        let total = u64::try_from(total).unwrap_or(u64::MAX);
        total.saturating_sub(self.place).div_ceil(self.connections)
    }

    /// Least time between two writes: what is due in between travels together. A lone arrival never waits for it.
    pub(super) fn gather(&self) -> Duration {
        if self.rate > GATHER_LONGER_RATE {
            Duration::from_millis(2)
        } else {
            Duration::from_millis(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_together_make_the_whole_rate_evenly() {
        let mut all: Vec<u64> = (0..3)
            .flat_map(|place| {
                let schedule = Schedule::new(1_000, 3, place);
                (0..schedule.count_until(Duration::from_secs(2))).map(move |i| schedule.due_ns(i))
            })
            .collect();
        all.sort_unstable();
        let expected: Vec<u64> = (0..2_000).map(|i| i * 1_000_000).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn nothing_is_due_at_or_after_the_end() {
        for place in 0..4 {
            let schedule = Schedule::new(777, 4, place);
            let end = Duration::from_millis(1_234);
            let count = schedule.count_until(end);
            assert!(u128::from(schedule.due_ns(count - 1)) < end.as_nanos());
            assert!(u128::from(schedule.due_ns(count)) + 2_000_000 > end.as_nanos());
        }
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_never_drifts() {
        let schedule = Schedule::new(3, 1, 0);
        assert_eq!(schedule.due_ns(3_000_000_000), 1_000_000_000_000_000_000);
    }
}
