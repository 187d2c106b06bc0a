//! What one direction between two nodes does to datagrams: the fate of each and when it is delivered.
//!
//! Pure: time comes in as nanoseconds since the start, chance from a seed, so that the same datagrams at the same times
//! meet the same fate. Keeps order unless reordering is asked for. Leaves to others: holding datagrams (`schedule`) and
//! sending them (`engine`).

use std::time::Duration;

use serde::Serialize;

/// Most bytes on their way in one direction: 160 MB/s over 200 ms.
pub(super) const DIRECTION_BYTES_MAX: usize = 32 << 20;

/// Most bytes that wait for a limited bandwidth, as in the buffer of a router.
pub(super) const BUFFER_BYTES_MAX: u64 = 1 << 20;

/// What IP and UDP add to a datagram on a wire.
const HEADER_BYTES: u64 = 28;

const NANOS: u64 = 1_000_000_000;

/// How a direction treats datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Shape {
    /// Milliseconds that every datagram takes.
    pub(in crate::cli) delay_ms: f64,
    /// Up to so many milliseconds more, evenly spread.
    pub(in crate::cli) jitter_ms: f64,
    /// Whether jitter may bring a datagram past an earlier one.
    pub(in crate::cli) reorder: bool,
    /// Probability that a datagram vanishes.
    pub(in crate::cli) loss: f64,
    /// Probability that a datagram comes twice.
    pub(in crate::cli) duplicate: f64,
    /// Whether everything vanishes.
    pub(in crate::cli) cut: bool,
    /// Bandwidth in 10^6 bits per second; 0 for no limit.
    pub(in crate::cli) mbit_per_second: f64,
}

impl Shape {
    /// A constant delay and nothing else.
    pub(in crate::cli) fn delaying(delay_ms: f64) -> Self {
        Self {
            delay_ms,
            jitter_ms: 0.0,
            reorder: false,
            loss: 0.0,
            duplicate: 0.0,
            cut: false,
            mbit_per_second: 0.0,
        }
    }
}

/// What became of datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    /// Taken from the sender.
    pub(super) received: u64,
    /// Their bytes.
    pub(super) received_bytes: u64,
    /// Handed to the receiver's socket, duplicates included.
    pub(super) delivered: u64,
    /// Vanished by chance.
    pub(super) lost: u64,
    /// Vanished in a cut.
    pub(super) cut: u64,
    /// Scheduled a second time.
    pub(super) duplicated: u64,
    /// Dropped because too many bytes wait already.
    pub(super) full: u64,
    /// Dropped because larger than any packet of the path.
    pub(super) too_large: u64,
    /// Not taken by the system when they were due.
    pub(super) unsent: u64,
}

/// When a datagram is delivered: not at all, once, or twice. Nanoseconds since the start.
pub(super) type Dues = [Option<u64>; 2];

/// One direction between two nodes.
#[derive(Debug)]
pub(super) struct Direction {
    shape: Shape,
    first: Shape,
    /// Largest datagram that passes, in bytes.
    datagram_bytes_max: usize,
    random: u64,
    last_due: u64,
    /// Until when the wire is busy with what was taken before.
    busy_until: u64,
    waiting_bytes: usize,
    counts: Counts,
}

impl Direction {
    /// A direction that begins with `shape`, with chance from `seed`.
    pub(super) fn new(shape: Shape, datagram_bytes_max: usize, seed: u64) -> Self {
        Self {
            shape,
            first: shape,
            datagram_bytes_max,
            random: seed,
            last_due: 0,
            busy_until: 0,
            waiting_bytes: 0,
            counts: Counts::default(),
        }
    }

    /// How it treats datagrams now.
    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// Treats datagrams so from now on; those under way keep their time.
    pub(super) fn set(&mut self, shape: Shape) {
        self.shape = shape;
        // A backlog of the old bandwidth is not one of the new.
        self.busy_until = 0;
    }

    /// Back to how it began.
    pub(super) fn reset(&mut self) {
        self.set(self.first);
    }

    /// What became of datagrams so far.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// The fate of a datagram of `bytes` that comes at `now`.
    pub(super) fn admit(&mut self, now: u64, bytes: usize) -> Dues {
        self.counts.received += 1;
        self.counts.received_bytes += bytes as u64;
        // Drawn for every datagram, so that a cut or a changed probability does not shift the chances after it.
        let [lost, twice, late, late_again] = std::array::from_fn(|_| self.draw());
        if self.shape.cut {
            self.counts.cut += 1;
            return [None; 2];
        }
        if bytes > self.datagram_bytes_max {
            self.counts.too_large += 1;
            return [None; 2];
        }
        if lost < self.shape.loss {
            self.counts.lost += 1;
            return [None; 2];
        }
        let Some(left) = self.through_the_wire(now, bytes) else {
            self.counts.full += 1;
            return [None; 2];
        };
        let first = self.due(left, late);
        let mut dues = [Some(first), None];
        self.waiting_bytes += bytes;
        if twice < self.shape.duplicate && self.waiting_bytes + bytes <= DIRECTION_BYTES_MAX {
            self.counts.duplicated += 1;
            self.waiting_bytes += bytes;
            dues[1] = Some(self.due(left, late_again));
        }
        dues
    }

    /// A datagram of `bytes` that was admitted has gone; whether the system took it.
    pub(super) fn gone(&mut self, bytes: usize, taken: bool) {
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
        if taken {
            self.counts.delivered += 1;
        } else {
            self.counts.unsent += 1;
        }
    }

    /// One that was admitted found no place in the schedule.
    pub(super) fn crowded_out(&mut self, bytes: usize) {
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
        self.counts.full += 1;
    }

    /// When its last bit has left, or `None` if too much waits before it.
    fn through_the_wire(&mut self, now: u64, bytes: usize) -> Option<u64> {
        if self.waiting_bytes + bytes > DIRECTION_BYTES_MAX {
            return None;
        }
        if self.shape.mbit_per_second <= 0.0 {
            return Some(now);
        }
        let per_second = self.shape.mbit_per_second * 1e6 / 8.0;
        let start = self.busy_until.max(now);
        let backlog_bytes = (start - now) as f64 / NANOS as f64 * per_second;
        if backlog_bytes > BUFFER_BYTES_MAX as f64 {
            return None;
        }
        self.busy_until = start + nanos((bytes as u64 + HEADER_BYTES) as f64 / per_second * 1e3);
        Some(self.busy_until)
    }

    fn due(&mut self, left: u64, chance: f64) -> u64 {
        let due = left + nanos(self.shape.delay_ms + self.shape.jitter_ms * chance);
        if self.shape.reorder {
            return due;
        }
        self.last_due = due.max(self.last_due);
        self.last_due
    }

    /// The next number from 0 to below 1: splitmix64.
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Milliseconds in nanoseconds; shapes are checked, so it is no more than minutes.
fn nanos(milliseconds: f64) -> u64 {
    let time = Duration::try_from_secs_f64(milliseconds / 1e3).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn direction(change: impl FnOnce(&mut Shape)) -> Direction {
        let mut shape = Shape::delaying(20.0);
        change(&mut shape);
        Direction::new(shape, 1_472, 7)
    }

    /// When each of `count` datagrams of 1,000 bytes is due that come a millisecond apart.
    fn dues(direction: &mut Direction, count: u64) -> Vec<Dues> {
        (0..count).map(|at| direction.admit(at * MS, 1_000)).collect()
    }

    #[test]
    fn a_constant_delay_is_exact_and_deliveries_are_counted() {
        let mut direction = direction(|_| {});
        assert_eq!(dues(&mut direction, 2), [[Some(20 * MS), None], [Some(21 * MS), None]]);
        direction.gone(1_000, true);
        direction.gone(1_000, false);
        let counts = direction.counts();
        assert_eq!((counts.received, counts.received_bytes), (2, 2_000));
        assert_eq!((counts.delivered, counts.unsent, direction.waiting_bytes), (1, 1, 0));
    }

    #[test]
    fn jitter_spreads_and_keeps_order_unless_reordering_is_asked_for() {
        let in_order = |reorder| {
            let mut direction = direction(|shape| (shape.jitter_ms, shape.reorder) = (10.0, reorder));
            let first: Vec<u64> = dues(&mut direction, 1_000).iter().filter_map(|dues| dues[0]).collect();
            let late = (0..).zip(&first).map(|(at, due)| due - at * MS);
            assert!(
                late.clone().all(|late| (20 * MS..=30 * MS).contains(&late)),
                "within the jitter"
            );
            assert!(late.max() > Some(29 * MS), "all of it is used");
            first.is_sorted()
        };
        assert!(in_order(false) && !in_order(true));
    }

    #[test]
    fn loss_and_duplicates_come_as_often_as_asked_and_the_same_for_a_seed() {
        let mut direction_a = direction(|shape| (shape.loss, shape.duplicate) = (0.1, 0.05));
        let mut direction_b = direction(|shape| (shape.loss, shape.duplicate) = (0.1, 0.05));
        let fates = dues(&mut direction_a, 10_000);
        assert_eq!(fates, dues(&mut direction_b, 10_000));
        let counts = direction_a.counts();
        assert!((900..1_100).contains(&counts.lost), "{counts:?}");
        assert!((380..520).contains(&counts.duplicated), "{counts:?}");
        assert_eq!(
            fates.iter().filter(|dues| dues[0].is_none()).count() as u64,
            counts.lost
        );
        assert_eq!(
            fates.iter().filter(|dues| dues[1].is_some()).count() as u64,
            counts.duplicated
        );
        let mut other = Direction::new(direction_a.shape(), 1_472, 8);
        assert_ne!(fates, dues(&mut other, 10_000));
    }

    #[test]
    fn a_cut_swallows_everything_until_it_is_healed() {
        let mut direction = direction(|_| {});
        let whole = direction.shape();
        direction.set(Shape { cut: true, ..whole });
        assert_eq!(direction.admit(0, 1_000), [None; 2]);
        direction.reset();
        assert_eq!(direction.admit(MS, 1_000), [Some(21 * MS), None]);
        assert_eq!(direction.counts().cut, 1);
    }

    #[test]
    fn a_shorter_delay_does_not_overtake_what_is_under_way() {
        let mut direction = direction(|_| {});
        assert_eq!(direction.admit(0, 1_000)[0], Some(20 * MS));
        direction.set(Shape::delaying(1.0));
        assert_eq!(direction.admit(MS, 1_000)[0], Some(20 * MS));
        assert_eq!(direction.admit(30 * MS, 1_000)[0], Some(31 * MS));
    }

    #[test]
    fn a_limited_bandwidth_spaces_datagrams_and_its_buffer_drops_the_newest() {
        // 8.224 Mbit/s carry 1,028 bytes, headers included, in a millisecond.
        let mut direction = direction(|shape| shape.mbit_per_second = 8.224);
        let due = |direction: &mut Direction| direction.admit(0, 1_000)[0];
        let first = due(&mut direction).unwrap();
        assert!(first.abs_diff(21 * MS) < 10, "{first}");
        assert!(due(&mut direction).unwrap().abs_diff(22 * MS) < 10);
        let passed = (0..5_000).filter(|_| due(&mut direction).is_some()).count();
        assert!((1_000..1_030).contains(&passed), "a megabyte waits: {passed}");
        assert_eq!(direction.counts().full, 5_000 - passed as u64);
    }

    #[test]
    fn what_is_too_large_or_too_much_is_dropped_and_counted() {
        let mut direction = direction(|_| {});
        assert_eq!(direction.admit(0, 1_473), [None; 2]);
        assert_eq!(direction.counts().too_large, 1);
        direction.waiting_bytes = DIRECTION_BYTES_MAX - 999;
        assert_eq!(direction.admit(0, 1_000), [None; 2]);
        assert_eq!(direction.counts().full, 1);
    }
}
