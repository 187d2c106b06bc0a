//! The bytes of one simulated file: as programs see them, as they lie on the disk, and the writes in between.
//!
//! Pages that are all zeros are not kept, so that reserved and zeroed files cost nothing. A copy shares its pages.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::Counts;
use crate::rng::Rng;

const PAGE: u64 = 4096;
const SECTOR: u64 = 512;

type Page = [u8; PAGE as usize];

/// A sparse file.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pages: BTreeMap<u64, Arc<Page>>,
    pub(super) length: u64,
}

/// The parts of `range` that lie in one page each: page, range within it.
fn split(range: Range<u64>) -> impl Iterator<Item = (u64, Range<usize>)> {
    (range.start / PAGE..range.end.div_ceil(PAGE)).map(move |page| {
        let start = range.start.max(page * PAGE) - page * PAGE;
        let end = range.end.min((page + 1) * PAGE) - page * PAGE;
        (page, start as usize..end as usize)
    })
}

fn is_zero(bytes: &[u8]) -> bool {
    let zeros = [0; PAGE as usize];
    bytes.chunks(zeros.len()).all(|chunk| *chunk == zeros[..chunk.len()])
}

impl Content {
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let end = self.length.min(offset.saturating_add(buffer.len() as u64));
        if end <= offset {
            return 0;
        }
        let count = (end - offset) as usize;
        buffer[..count].fill(0);
        for (number, page) in self.pages.range(offset / PAGE..end.div_ceil(PAGE)) {
            let from = (number * PAGE).max(offset);
            let to = ((number + 1) * PAGE).min(end);
            let place = (from - number * PAGE) as usize..(to - number * PAGE) as usize;
            buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(&page[place]);
        }
        count
    }

    pub(super) fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let count = self.read(&mut bytes, range.start);
        bytes.truncate(count);
        bytes
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let end = offset + bytes.len() as u64;
        for (number, place) in split(offset..end) {
            let from = (number * PAGE + place.start as u64 - offset) as usize;
            let part = &bytes[from..from + place.len()];
            if is_zero(part) && !self.pages.contains_key(&number) {
                continue;
            }
            let page = self.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE as usize]));
            Arc::make_mut(page)[place].copy_from_slice(part);
        }
        self.length = self.length.max(end);
    }

    pub(super) fn zero(&mut self, range: Range<u64>) {
        let touched: Vec<u64> = self
            .pages
            .range(range.start / PAGE..range.end.div_ceil(PAGE))
            .map(|(number, _)| *number)
            .collect();
        for number in touched {
            let from = range.start.max(number * PAGE) - number * PAGE;
            let to = range.end.min((number + 1) * PAGE) - number * PAGE;
            if to - from == PAGE {
                self.pages.remove(&number);
            } else if let Some(page) = self.pages.get_mut(&number) {
                Arc::make_mut(page)[from as usize..to as usize].fill(0);
            }
        }
        self.length = self.length.max(range.end);
    }

    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.length {
            self.zero(length..self.length.next_multiple_of(PAGE));
        }
        self.length = length;
    }

    pub(super) fn next_data(&self, offset: u64) -> Option<u64> {
        let (number, _) = self.pages.range(offset / PAGE..).next()?;
        Some((number * PAGE).max(offset)).filter(|at| *at < self.length)
    }

    /// Takes the bytes of `range` from another state of the same file, as far as that one is long.
    fn take(&mut self, other: &Self, range: Range<u64>) {
        let end = range.end.min(other.length);
        if end <= range.start {
            return;
        }
        for (number, place) in split(range.start..end) {
            match other.pages.get(&number) {
                Some(page) if place.len() as u64 == PAGE => {
                    self.pages.insert(number, page.clone());
                }
                Some(page) => {
                    let own = self.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE as usize]));
                    Arc::make_mut(own)[place.clone()].copy_from_slice(&page[place]);
                }
                None if self.pages.contains_key(&number) => {
                    self.zero(number * PAGE + place.start as u64..number * PAGE + place.end as u64);
                }
                None => {}
            }
        }
        self.length = self.length.max(end);
    }
}

/// A change that is not durable.
#[derive(Debug, Clone)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Zeros(Range<u64>),
    Length(u64),
    Grow(u64),
}

impl Change {
    fn apply(&self, content: &mut Content) {
        match self {
            Self::Write { offset, bytes } => content.write(bytes, *offset),
            Self::Zeros(range) => content.zero(range.clone()),
            Self::Length(length) => content.set_length(*length),
            Self::Grow(length) => content.length = content.length.max(*length),
        }
    }

    fn written(&self) -> Option<Range<u64>> {
        match self {
            Self::Write { offset, bytes } => Some(*offset..offset + bytes.len() as u64),
            Self::Zeros(range) => Some(range.clone()),
            Self::Length(_) | Self::Grow(_) => None,
        }
    }
}

/// A file: what a reader sees, what is on the disk, and what a sync would bring there.
#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    pub(super) seen: Content,
    pub(super) durable: Content,
    pending: Vec<Change>,
    /// A sync failed: the system takes pages for written that are not.
    gated: bool,
    /// Space that it takes, in bytes.
    pub(super) space: u64,
}

impl Inode {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let range = offset..offset + bytes.len() as u64;
        self.change(if is_zero(bytes) {
            Change::Zeros(range)
        } else {
            let bytes = bytes.to_vec();
            Change::Write { offset, bytes }
        });
    }

    pub(super) fn set_length(&mut self, length: u64) {
        self.change(Change::Length(length));
        self.space = self.space.min(length);
    }

    pub(super) fn grow(&mut self, length: u64) {
        if length > self.seen.length {
            self.change(Change::Grow(length));
        }
    }

    /// A sync that succeeds: whole pages as they are seen, with what an earlier failed sync left in them.
    pub(super) fn sync(&mut self) {
        let mut pages = Vec::new();
        for change in std::mem::take(&mut self.pending) {
            match (change.written(), change) {
                (Some(range), _) => pages.push(range.start / PAGE * PAGE..range.end.next_multiple_of(PAGE)),
                (None, change) => change.apply(&mut self.durable),
            }
        }
        for range in pages {
            self.durable.take(&self.seen, range);
        }
        self.durable.set_length(self.seen.length);
    }

    /// A sync that fails: the pages count as written from now on, whatever of them is.
    pub(super) fn sync_fails(&mut self, rng: &mut Rng, counts: &mut Counts) {
        self.gated = true;
        if rng.chance(500) {
            self.pending.clear();
        } else {
            self.tear(rng, counts);
        }
    }

    /// What need not be written leaves memory: reads see the disk, and what is pending.
    pub(super) fn forget(&mut self) {
        if std::mem::take(&mut self.gated) {
            self.seen = self.durable.clone();
            for change in &self.pending {
                change.apply(&mut self.seen);
            }
        }
    }

    /// The power goes.
    pub(super) fn crash(&mut self, rng: &mut Rng, counts: &mut Counts) {
        if self.pending.is_empty() && !self.gated {
            return;
        }
        self.tear(rng, counts);
        self.gated = false;
        self.seen = self.durable.clone();
        self.space = self.durable.length;
    }

    /// Brings any part of what is pending to the disk. A sector holds what it held after one of the writes to it.
    fn tear(&mut self, rng: &mut Rng, counts: &mut Counts) {
        let mut state = self.durable.clone();
        for change in std::mem::take(&mut self.pending) {
            change.apply(&mut state);
            let Some(range) = change.written() else {
                if rng.chance(500) {
                    change.apply(&mut self.durable);
                } else {
                    counts.lengths_lost += 1;
                }
                continue;
            };
            let start = range.start / SECTOR * SECTOR;
            match rng.below(5) {
                0 => counts.writes_lost += 1,
                1 => {
                    counts.writes_kept += 1;
                    self.durable.take(&state, start..range.end.next_multiple_of(SECTOR));
                }
                2 => {
                    counts.writes_cut += 1;
                    let end = range.start + rng.below(range.end - range.start + 1);
                    self.durable.take(&state, start..end);
                }
                3 => {
                    counts.writes_holed += 1;
                    for sector in start / SECTOR..range.end.div_ceil(SECTOR) {
                        if rng.chance(500) {
                            self.durable.take(&state, sector * SECTOR..(sector + 1) * SECTOR);
                        }
                    }
                }
                _ => {
                    counts.zero_tails += 1;
                    self.durable.length = self.durable.length.max(range.end);
                }
            }
        }
    }

    /// Damage at rest: the disk holds something else from now on.
    pub(super) fn damage(&mut self, change: impl Fn(&mut Content)) {
        change(&mut self.seen);
        change(&mut self.durable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_file_reads_as_a_plain_one() {
        let mut rng = Rng::new(1);
        for _ in 0..300 {
            let (mut sparse, mut plain, mut older) = (Content::default(), Vec::new(), (Content::default(), Vec::new()));
            for _ in 0..12 {
                let (at, count) = (rng.below(20_000) as usize, 1 + rng.below(9_000) as usize);
                match rng.below(5) {
                    0 => {
                        let byte = rng.below(3) as u8;
                        sparse.write(&vec![byte; count], at as u64);
                        plain.resize(plain.len().max(at + count), 0);
                        plain[at..at + count].fill(byte);
                    }
                    1 => {
                        sparse.zero(at as u64..(at + count) as u64);
                        plain.resize(plain.len().max(at + count), 0);
                        plain[at..at + count].fill(0);
                    }
                    2 => {
                        sparse.set_length(at as u64);
                        plain.resize(at, 0);
                    }
                    3 => older = (sparse.clone(), plain.clone()),
                    _ => {
                        sparse.take(&older.0, at as u64..(at + count) as u64);
                        let end = (at + count).min(older.1.len());
                        if at < end {
                            plain.resize(plain.len().max(end), 0);
                            plain[at..end].copy_from_slice(&older.1[at..end]);
                        }
                    }
                }
                assert_eq!(sparse.bytes(0..40_000), plain);
                let data = plain.iter().position(|byte| *byte != 0);
                let found = sparse.next_data(0).map(|at| at as usize);
                assert!(data.is_none_or(|data| found.is_some_and(|found| found <= data)));
            }
        }
    }
}
