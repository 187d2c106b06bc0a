//! The search for the highest rate that a cluster holds: double while it holds, then bisect.
//!
//! Pure: it says which rate to try next and learns whether that one held. What "holds" means is the report's.

/// The search ends when the gap between held and not held is at most one part in this many.
const GAP_PARTS: u64 = 25;

/// The state of a search.
#[derive(Debug, Clone)]
pub(super) struct Search {
    start: u64,
    held: u64,
    failed: Option<u64>,
}

impl Search {
    /// A search that begins at `start` transactions a second.
    pub(super) fn new(start: u64) -> Self {
        Self {
            start: start.max(1),
            held: 0,
            failed: None,
        }
    }

    /// The rate to try, or `None` when the answer is known closely enough.
    pub(super) fn next_rate(&self) -> Option<u64> {
        match self.failed {
            None if self.held == 0 => Some(self.start),
            None => self.held.checked_mul(2),
            Some(failed) if failed - self.held <= (failed / GAP_PARTS).max(1) => None,
            Some(failed) => Some(self.held + (failed - self.held) / 2),
        }
    }

    /// Learns whether `rate` held.
    pub(super) fn learn(&mut self, rate: u64, held: bool) {
        if held {
            self.held = self.held.max(rate);
        } else {
            self.failed = Some(self.failed.map_or(rate, |failed| failed.min(rate)));
        }
    }

    /// The highest rate that held so far; 0 when none did.
    pub(super) fn held(&self) -> u64 {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(start: u64, limit: u64) -> (u64, usize) {
        let mut search = Search::new(start);
        let mut steps = 0;
        while let Some(rate) = search.next_rate() {
            search.learn(rate, rate <= limit);
            steps += 1;
            assert!(steps < 64, "the search ends");
        }
        (search.held(), steps)
    }

    #[test]
    fn finds_the_limit_to_within_one_part_in_25() {
        for limit in [1_u64, 2, 77, 999, 1_000, 45_000, 119_800] {
            let (held, _) = search(1_000, limit);
            assert!(held <= limit);
            assert!(
                limit - held <= (limit / GAP_PARTS).max(1) + 1,
                "limit {limit}, found {held}"
            );
        }
    }

    #[test]
    fn takes_few_steps() {
        let (_, steps) = search(10_000, 45_000);
        assert!(steps <= 10, "{steps}");
    }

    #[test]
    fn nothing_holds_gives_zero() {
        assert_eq!(search(1_000, 0).0, 0);
    }
}
