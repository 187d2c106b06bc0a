//! What waits to be written to one peer in one class: bounded in frames and in bytes.
//!
//! Promises that putting a frame in never waits. What gives way when it is full is the rule of its class.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::Notify;

use super::frame::Class;
use super::locked;

/// Most bytes that one batch of a writer takes, beyond its first frame.
const BATCH_BYTES: usize = 256 * 1024;
/// Most frames in one batch of a writer.
const BATCH_FRAMES: usize = 256;

/// What gives way when a queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenFull {
    /// The oldest: a newer vote says more than an older one, and votes are sent again.
    DropOldest,
    /// The newest: what came first is served first, and its sender tries again elsewhere.
    DropNewest,
    /// The connection: a peer so far behind must sync instead.
    Disconnect,
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    frames_max: usize,
    bytes_max: usize,
    when_full: WhenFull,
}

impl Rule {
    const fn of(class: Class, to_validator: bool) -> Self {
        let (frames_max, bytes_max, when_full) = match (class, to_validator) {
            (Class::Votes, true) => (4096, 8 << 20, WhenFull::DropOldest),
            (Class::Bodies, true) => (16, 64 << 20, WhenFull::Disconnect),
            (Class::Transactions, true) => (1024, 16 << 20, WhenFull::DropNewest),
            (Class::Sync, true) => (64, 64 << 20, WhenFull::DropNewest),
            // A follower hears statuses and answers; 64 of them must not cost what validators may.
            (Class::Votes, false) => (256, 1 << 20, WhenFull::DropOldest),
            (Class::Bodies, false) => (4, 16 << 20, WhenFull::DropNewest),
            (Class::Transactions, false) => (16, 4 << 20, WhenFull::DropNewest),
            (Class::Sync, false) => (16, 17 << 20, WhenFull::DropNewest),
        };
        Self {
            frames_max,
            bytes_max,
            when_full,
        }
    }
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits, and this many older ones gave way.
    Queued {
        /// Frames dropped for it.
        dropped: u64,
    },
    /// It was dropped.
    Refused,
    /// It was dropped, and the peer is too slow to stay connected.
    Overflow,
}

/// Frames for one peer and class, oldest first. Many put in, one writer takes out.
#[derive(Debug)]
pub(super) struct Queue {
    rule: Rule,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Queue {
    /// An empty queue with the bounds of `class` toward a validator or a follower.
    pub(super) fn new(class: Class, to_validator: bool) -> Self {
        Self::with(Rule::of(class, to_validator))
    }

    fn with(rule: Rule) -> Self {
        Self {
            rule,
            waiting: Mutex::default(),
            filled: Notify::new(),
        }
    }

    /// Puts `frame` in, or applies the rule of a full queue. Never waits.
    pub(super) fn push(&self, frame: Bytes) -> Pushed {
        let mut waiting = locked(&self.waiting);
        let mut dropped = 0;
        while waiting.frames.len() >= self.rule.frames_max || waiting.bytes + frame.len() > self.rule.bytes_max {
            let oldest = match self.rule.when_full {
                WhenFull::DropOldest => waiting.frames.pop_front(),
                WhenFull::DropNewest => None,
                WhenFull::Disconnect => return Pushed::Overflow,
            };
            let Some(oldest) = oldest else {
                return Pushed::Refused;
            };
            waiting.bytes -= oldest.len();
            dropped += 1;
        }
        waiting.bytes += frame.len();
        waiting.frames.push_back(frame);
        drop(waiting);
        self.filled.notify_one();
        Pushed::Queued { dropped }
    }

    /// Moves what waits, up to a batch, to the end of `batch`; waits for a first frame.
    pub(super) async fn take(&self, batch: &mut Vec<Bytes>) {
        loop {
            if self.take_now(batch) {
                return;
            }
            self.filled.notified().await;
        }
    }

    /// Frames and bytes that wait.
    pub(super) fn depth(&self) -> (usize, usize) {
        let waiting = locked(&self.waiting);
        (waiting.frames.len(), waiting.bytes)
    }

    fn take_now(&self, batch: &mut Vec<Bytes>) -> bool {
        let mut waiting = locked(&self.waiting);
        let mut bytes = 0;
        let mut frames = 0;
        while bytes < BATCH_BYTES && frames < BATCH_FRAMES {
            let Some(frame) = waiting.frames.pop_front() else { break };
            waiting.bytes -= frame.len();
            bytes += frame.len();
            frames += 1;
            batch.push(frame);
        }
        frames > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(when_full: WhenFull) -> Queue {
        Queue::with(Rule {
            frames_max: 3,
            bytes_max: 10,
            when_full,
        })
    }

    fn frame(byte: u8, length: usize) -> Bytes {
        Bytes::from(vec![byte; length])
    }

    fn taken(queue: &Queue) -> Vec<u8> {
        let mut batch = Vec::new();
        queue.take_now(&mut batch);
        batch.iter().map(|frame| frame[0]).collect()
    }

    const QUEUED: Pushed = Pushed::Queued { dropped: 0 };

    #[test]
    fn full_votes_drop_the_oldest_and_keep_order() {
        let queue = queue(WhenFull::DropOldest);
        for byte in 1..=3 {
            assert_eq!(queue.push(frame(byte, 3)), QUEUED);
        }
        assert_eq!(queue.push(frame(4, 7)), Pushed::Queued { dropped: 2 });
        assert_eq!(queue.depth(), (2, 10));
        assert_eq!(taken(&queue), [3, 4]);
        assert_eq!(queue.depth(), (0, 0));
    }

    #[test]
    fn full_transactions_refuse_the_newest() {
        let queue = queue(WhenFull::DropNewest);
        assert_eq!(queue.push(frame(1, 6)), QUEUED);
        assert_eq!(queue.push(frame(2, 5)), Pushed::Refused);
        assert_eq!(queue.push(frame(3, 4)), QUEUED);
        assert_eq!(taken(&queue), [1, 3]);
    }

    #[test]
    fn full_bodies_ask_for_a_disconnect() {
        let queue = queue(WhenFull::Disconnect);
        for byte in 1..=3 {
            assert_eq!(queue.push(frame(byte, 1)), QUEUED);
        }
        assert_eq!(queue.push(frame(4, 1)), Pushed::Overflow);
    }

    #[test]
    fn every_class_can_queue_its_largest_frame() {
        for class in Class::ALL {
            for to_validator in [true, false] {
                let rule = Rule::of(class, to_validator);
                assert!(rule.bytes_max >= class.frame_bytes_max(true).unwrap());
            }
        }
    }
}
