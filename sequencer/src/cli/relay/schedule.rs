//! Datagrams that wait for their time: earliest first, and of those due together the first taken.
//!
//! Pure and bounded: what finds no place is given back to be counted.

use std::collections::BTreeMap;

/// Most bytes that wait, over all directions.
const BYTES_MAX: usize = 256 << 20;

/// Most datagrams that wait: small ones cost more than their bytes.
const COUNT_MAX: usize = 1 << 20;

/// Items by the time at which they are due, with their size.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    waiting: BTreeMap<(u64, u64), (usize, T)>,
    next: u64,
    bytes: usize,
    bytes_max: usize,
}

impl<T> Schedule<T> {
    /// Nothing waits.
    pub(super) fn new() -> Self {
        Self::holding(BYTES_MAX)
    }

    fn holding(bytes_max: usize) -> Self {
        Self {
            waiting: BTreeMap::new(),
            next: 0,
            bytes: 0,
            bytes_max,
        }
    }

    /// Lets `item` of `bytes` wait until `due`.
    ///
    /// # Errors
    /// The item, if there is no room for it.
    pub(super) fn push(&mut self, due: u64, bytes: usize, item: T) -> Result<(), T> {
        if self.bytes + bytes > self.bytes_max || self.waiting.len() >= COUNT_MAX {
            return Err(item);
        }
        self.bytes += bytes;
        self.waiting.insert((due, self.next), (bytes, item));
        self.next += 1;
        Ok(())
    }

    /// When the first item is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// The first item, if it is due at `now`, and when it was due.
    pub(super) fn pop(&mut self, now: u64) -> Option<(u64, T)> {
        let first = self.waiting.first_entry()?;
        let (due, _) = *first.key();
        if due > now {
            return None;
        }
        let (bytes, item) = first.remove();
        self.bytes -= bytes;
        Some((due, item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_out_by_time_and_then_by_turn_and_never_early() {
        let mut schedule = Schedule::new();
        for (due, item) in [(5, "c"), (3, "a"), (5, "d"), (3, "b")] {
            schedule.push(due, 1, item).unwrap();
        }
        assert_eq!((schedule.next_due(), schedule.pop(2)), (Some(3), None));
        let order: Vec<_> = std::iter::from_fn(|| schedule.pop(5)).collect();
        assert_eq!(order, [(3, "a"), (3, "b"), (5, "c"), (5, "d")]);
        assert_eq!((schedule.next_due(), schedule.bytes), (None, 0));
    }

    #[test]
    fn a_full_schedule_gives_the_newest_back() {
        let mut schedule = Schedule::holding(10);
        schedule.push(1, 6, "kept").unwrap();
        assert_eq!(schedule.push(1, 5, "too much"), Err("too much"));
        schedule.pop(1).unwrap();
        schedule.push(2, 10, "fits again").unwrap();
    }
}
