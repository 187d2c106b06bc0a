//! The dedup window: what each stream carried lately, so that it does not carry it again.
//!
//! Holds the hashes of a stream's last `DEDUP_TRANSACTIONS_MAX` transactions, none decided
//! `DEDUP_HEIGHTS_MAX` or more heights below the tip. That is a function of the decided blocks alone: every node has
//! the same window after the same height, whether it fed blocks upwards as they were decided or downwards from the tip
//! at its start.

use std::collections::{BTreeMap, VecDeque};

use fusion_types::limits::{DEDUP_HEIGHTS_MAX, DEDUP_TRANSACTIONS_MAX};
use fusion_types::{Height, LaneHashes, RollupId, SealedBlock, State, TxHash};

use crate::index::HashIndex;

/// Recent hashes of every stream.
#[derive(Debug, Clone, Default)]
pub struct Window {
    streams: BTreeMap<RollupId, StreamWindow>,
    /// Lowest and highest height fed in.
    span: Option<(Height, Height)>,
}

/// Recent hashes of one stream, with consecutive sequence numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct StreamWindow {
    first_sequence: u64,
    hashes: VecDeque<TxHash>,
    /// For each lane in `hashes`, in order: its height, and the sequence number after its last transaction.
    lanes: VecDeque<(Height, u64)>,
    index: HashIndex,
}

impl Window {
    /// Height of the tip that the window stands at.
    pub fn height(&self) -> Option<Height> {
        self.span.map(|(_, highest)| highest)
    }

    /// Most transactions remembered of one stream, and most heights from the oldest to the tip.
    pub(crate) fn longest(&self) -> (usize, u64) {
        let tip = self.span.map_or(0, |(_, highest)| highest.0);
        let streams = || self.streams.values();
        let oldest = streams()
            .filter_map(|stream| stream.lanes.front())
            .map(|(height, _)| height.0);
        (
            streams().map(|stream| stream.hashes.len()).max().unwrap_or(0),
            oldest.min().map_or(0, |oldest| tip - oldest + 1),
        )
    }

    /// Place of a transaction in its rollup's stream, if the stream carried it lately.
    pub fn sequence_of(&self, rollup: RollupId, hash: &TxHash) -> Option<u64> {
        self.streams.get(&rollup)?.sequence_of(hash)
    }

    /// Moves the window up to `block`, the next decided one.
    ///
    /// # Panics
    /// When `block` is not directly above what was fed in: the window would differ from other nodes'.
    pub fn advance(&mut self, block: &SealedBlock) {
        let height = block.header().height;
        let lowest = match self.span {
            None => height,
            Some((lowest, highest)) => {
                assert_eq!(height, highest.next(), "the window advances block by block");
                lowest
            }
        };
        self.span = Some((lowest, height));
        for (body, hashes) in block.lanes() {
            let lane = &body.lane;
            let stream = self.streams.entry(lane.rollup).or_default();
            if stream.hashes.is_empty() {
                stream.first_sequence = lane.first_sequence;
            }
            stream.push(height, lane.first_sequence, hashes);
        }
        for stream in self.streams.values_mut() {
            stream.forget(height);
        }
    }

    /// Extends the window down by `block`, the decided block directly below what was fed in; `tip` is the state after
    /// the first one fed in. Returns whether a block below it matters. So a node that starts feeds its log
    /// from the tip downwards until this says no.
    ///
    /// # Panics
    /// When `block` is not directly below what was fed in.
    pub fn extend_down(&mut self, block: &LaneHashes, tip: &State) -> bool {
        let height = block.height;
        let highest = match self.span {
            None => height,
            Some((lowest, highest)) => {
                assert_eq!(height.next(), lowest, "the window extends block by block");
                highest
            }
        };
        self.span = Some((height, highest));
        if is_forgotten(height, highest) {
            return false;
        }
        for (lane, hashes) in &block.lanes {
            let stream = self.streams.entry(lane.rollup).or_default();
            stream.push_front(height, lane.first_sequence.saturating_add(lane.count), hashes);
        }
        let below = Height(height.0.saturating_sub(1));
        let all_full = tip
            .streams
            .iter()
            .all(|(rollup, head)| head.next_sequence == 0 || !self.wants(*rollup));
        0 < below.0 && !is_forgotten(below, highest) && !all_full
    }

    /// Whether [`Window::extend_down`] would remember older transactions of a rollup. Lanes of others need not be read.
    pub fn wants(&self, rollup: RollupId) -> bool {
        let full = |stream: &StreamWindow| stream.first_sequence == 0 || stream.hashes.len() == DEDUP_TRANSACTIONS_MAX;
        !self.streams.get(&rollup).is_some_and(full)
    }
}

/// Whether what was decided at `height` is too old once `tip` is decided.
fn is_forgotten(height: Height, tip: Height) -> bool {
    height.0.saturating_add(DEDUP_HEIGHTS_MAX) <= tip.0
}

impl StreamWindow {
    fn sequence_of(&self, hash: &TxHash) -> Option<u64> {
        self.index
            .candidates(hash)
            .find(|sequence| self.hash_at(*sequence) == Some(hash))
    }

    fn hash_at(&self, sequence: u64) -> Option<&TxHash> {
        let offset = sequence.checked_sub(self.first_sequence)?;
        self.hashes.get(usize::try_from(offset).ok()?)
    }

    fn push(&mut self, height: Height, first_sequence: u64, hashes: &[TxHash]) {
        let mut sequence = first_sequence;
        for hash in hashes {
            if self.hashes.len() == DEDUP_TRANSACTIONS_MAX {
                self.pop_oldest();
            }
            self.index.insert(hash, sequence);
            self.hashes.push_back(*hash);
            sequence = sequence.saturating_add(1);
        }
        self.lanes.push_back((height, sequence));
    }

    fn push_front(&mut self, height: Height, end: u64, hashes: &[TxHash]) {
        let room = DEDUP_TRANSACTIONS_MAX - self.hashes.len();
        if room == 0 {
            return;
        }
        let mut sequence = end;
        for hash in hashes.iter().rev().take(room) {
            sequence = sequence.saturating_sub(1);
            self.index.insert(hash, sequence);
            self.hashes.push_front(*hash);
        }
        self.first_sequence = sequence;
        self.lanes.push_front((height, end));
    }

    fn pop_oldest(&mut self) {
        if let Some(hash) = self.hashes.pop_front() {
            self.index.remove(&hash, self.first_sequence);
            self.first_sequence = self.first_sequence.saturating_add(1);
        }
        while self.lanes.front().is_some_and(|(_, end)| *end <= self.first_sequence) {
            self.lanes.pop_front();
        }
    }

    /// Forgets what is too old once `tip` is decided.
    fn forget(&mut self, tip: Height) {
        while let Some((height, end)) = self.lanes.front().copied() {
            if !is_forgotten(height, tip) {
                break;
            }
            while self.first_sequence < end && !self.hashes.is_empty() {
                self.pop_oldest();
            }
            if self.lanes.front() == Some(&(height, end)) {
                self.lanes.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests;
