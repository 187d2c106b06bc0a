//! A node's clocks: a monotonic one that may run fast or slow, and a wall clock that may be wrong and may jump.

use std::time::Duration;

/// Unix time at the start of every simulation, in milliseconds; the genesis is older.
const EPOCH_MS: i64 = 10_000;

/// Both clocks of one machine. The monotonic clock starts anew with each process.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// Speed in per mille of true time.
    rate: u64,
    /// What the wall clock shows beyond the true time, in milliseconds.
    offset_ms: i64,
    /// When the process started, in true time.
    born: Duration,
}

impl Clock {
    pub(crate) fn new(rate: u64, offset_ms: i64) -> Self {
        Self {
            rate,
            offset_ms,
            born: Duration::ZERO,
        }
    }

    pub(crate) fn restart(&mut self, now: Duration) {
        self.born = now;
    }

    pub(crate) fn jump(&mut self, to_offset_ms: i64) {
        self.offset_ms = to_offset_ms;
    }

    pub(crate) fn offset_ms(&self) -> i64 {
        self.offset_ms
    }

    /// The monotonic clock at a true time.
    pub(crate) fn monotonic(&self, now: Duration) -> Duration {
        let nanos = u64::try_from(now.saturating_sub(self.born).as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(nanos / 1000 * self.rate)
    }

    /// The true time at which the monotonic clock has reached `reading`.
    pub(crate) fn when(&self, reading: Duration) -> Duration {
        let nanos = u64::try_from(reading.as_nanos()).unwrap_or(u64::MAX);
        self.born + Duration::from_nanos((nanos / self.rate + 1).saturating_mul(1000))
    }

    /// The wall clock at a true time.
    pub(crate) fn unix_ms(&self, now: Duration) -> u64 {
        let ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        u64::try_from(EPOCH_MS + ms + self.offset_ms).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_when_the_node_is_woken_for_it() {
        for rate in [800, 999, 1000, 1250] {
            let mut clock = Clock::new(rate, 0);
            clock.restart(Duration::from_millis(17));
            for ms in [0, 1, 33, 1_000, 123_456] {
                let reading = Duration::from_millis(ms);
                assert!(clock.monotonic(clock.when(reading)) >= reading, "rate {rate}, {ms} ms");
                let early = clock.when(reading).saturating_sub(Duration::from_micros(10));
                assert!(clock.monotonic(early) < reading || ms == 0, "rate {rate}, {ms} ms");
            }
        }
    }
}
