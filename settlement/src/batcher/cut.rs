//! Where one batch ends and the next begins.
//!
//! Promises that every node cuts alike: the rule looks at decided blocks and at nothing else, one after the other from
//! where the last batch ended. Leaves to others: how the bytes compress, and when a batch is posted.

use std::ops::RangeInclusive;

use fusion_types::limits::SETTLED_BLOCK_BYTES_MAX;
use fusion_types::{Height, SealedBlock, SettlementConfig};

use super::blobs::PAYLOAD_BYTES_MAX;
use super::payload::{BLOCKS_MAX, OVERHEAD_BYTES_MAX};

/// When a batch is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutRule {
    /// It ends with the block that brings its transactions to so many bytes.
    pub bytes: u64,
    /// It ends with the first block so many milliseconds after its first block with transactions.
    pub age_ms: u64,
    /// Without transactions it ends with the first block so many milliseconds after its first.
    pub idle_ms: u64,
}

impl Default for CutRule {
    /// Full blobs where there is much to post, 5 seconds where there is little, an hour where there is nothing: sooner where
    /// that is more blocks than a batch may have (1,024 empty blocks, one a second, are 17 minutes).
    fn default() -> Self {
        Self {
            bytes: BYTES,
            age_ms: 5_000,
            idle_ms: 3_600_000,
        }
    }
}

/// Six blobs hold a batch of so many bytes however badly they compress, beside its blocks and the index of all rollups. A
/// block that is larger by itself is a batch all the same, and may have no room.
const BYTES: u64 = (PAYLOAD_BYTES_MAX - OVERHEAD_BYTES_MAX) as u64;

const _: () = assert!(
    SETTLED_BLOCK_BYTES_MAX as u64 <= BYTES,
    "where a network settles, six blobs hold every block"
);

impl From<&SettlementConfig> for CutRule {
    /// The rule that all nodes of a settling network have from its genesis.
    fn from(rules: &SettlementConfig) -> Self {
        Self {
            bytes: rules.batch_bytes,
            age_ms: rules.batch_age_ms,
            idle_ms: rules.batch_idle_ms,
        }
    }
}

/// What the rule looks at in a decided block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockFacts {
    /// Its height.
    pub height: Height,
    /// Its time, Unix milliseconds.
    pub time_ms: u64,
    /// What its transactions take in segments before compression, at most; zero without any.
    pub bytes: u64,
    /// Whether it is the last of its epoch.
    pub ends_epoch: bool,
}

impl BlockFacts {
    /// The facts of `block`.
    pub fn of(block: &SealedBlock, ends_epoch: bool) -> Self {
        Self {
            height: block.header().height,
            time_ms: block.header().time_ms,
            bytes: block.block().batch_bytes() as u64,
            ends_epoch,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Open {
    first: Height,
    last: Height,
    first_ms: u64,
    /// Time of the first block with transactions.
    work_ms: Option<u64>,
    bytes: u64,
}

/// Cuts a run of decided blocks into batches.
#[derive(Debug, Clone)]
pub struct Cutter {
    rule: CutRule,
    open: Option<Open>,
}

impl Cutter {
    /// Begins at the block that is pushed first.
    pub fn new(rule: CutRule) -> Self {
        Self { rule, open: None }
    }

    /// Takes the next decided block. Returns the batches that are complete with it: none, the one that it ends, or two
    /// when it has no room in the open one and fills the next alone.
    ///
    /// # Panics
    /// When the block is not the one above the last: the caller reads them from the log in order.
    pub fn push(&mut self, block: BlockFacts) -> Vec<RangeInclusive<Height>> {
        let mut complete = Vec::new();
        if let Some(open) = self.open {
            assert_eq!(block.height, open.last.next(), "decided blocks come in order");
            if open.bytes > 0 && open.bytes.saturating_add(block.bytes) > self.rule.bytes {
                complete.push(open.first..=open.last);
                self.open = None;
            }
        }
        let open = self.open.get_or_insert(Open {
            first: block.height,
            last: block.height,
            first_ms: block.time_ms,
            work_ms: None,
            bytes: 0,
        });
        open.last = block.height;
        open.bytes = open.bytes.saturating_add(block.bytes);
        if block.bytes > 0 {
            open.work_ms.get_or_insert(block.time_ms);
        }
        let due_ms = match open.work_ms {
            Some(since) => since.saturating_add(self.rule.age_ms),
            None => open.first_ms.saturating_add(self.rule.idle_ms),
        };
        let is_long = open.last.0 - open.first.0 + 1 >= BLOCKS_MAX as u64;
        if block.ends_epoch || open.bytes >= self.rule.bytes || block.time_ms >= due_ms || is_long {
            complete.push(open.first..=open.last);
            self.open = None;
        }
        complete
    }

    /// Bytes of transactions in the batch that is not complete yet.
    pub fn open_bytes(&self) -> u64 {
        self.open.map_or(0, |open| open.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULE: CutRule = CutRule {
        bytes: 1_000,
        age_ms: 5_000,
        idle_ms: 60_000,
    };

    fn facts(height: u64, time_ms: u64, bytes: u64) -> BlockFacts {
        BlockFacts {
            height: Height(height),
            time_ms,
            bytes,
            ends_epoch: false,
        }
    }

    /// Heights of the batches that these blocks make, given as (milliseconds, bytes).
    fn cut(blocks: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut cutter = Cutter::new(RULE);
        let facts = blocks
            .iter()
            .zip(1..)
            .map(|((ms, bytes), height)| facts(height, *ms, *bytes));
        let ranges: Vec<_> = facts.flat_map(|facts| cutter.push(facts)).collect();
        ranges.iter().map(|range| (range.start().0, range.end().0)).collect()
    }

    #[test]
    fn a_batch_ends_with_the_block_that_fills_it() {
        assert_eq!(cut(&[(0, 400), (1, 400), (2, 200), (3, 100)]), [(1, 3)]);
    }

    #[test]
    fn a_block_without_room_begins_the_next_batch() {
        assert_eq!(cut(&[(0, 600), (1, 600), (2, 600)]), [(1, 1), (2, 2)]);
    }

    #[test]
    fn a_block_that_fills_a_batch_alone_ends_two() {
        assert_eq!(cut(&[(0, 600), (1, 5_000), (2, 1)]), [(1, 1), (2, 2)]);
    }

    #[test]
    fn age_counts_from_the_first_transaction() {
        assert_eq!(cut(&[(0, 0), (4_000, 1), (8_999, 0), (9_000, 0), (9_001, 0)]), [(1, 4)]);
    }

    #[test]
    fn without_transactions_a_batch_is_old_much_later() {
        assert_eq!(cut(&[(0, 0), (5_000, 0), (59_999, 0), (60_000, 0)]), [(1, 4)]);
    }

    #[test]
    fn an_epoch_ends_its_batch() {
        let mut cutter = Cutter::new(RULE);
        assert_eq!(cutter.push(facts(7, 0, 1)), []);
        let last = BlockFacts {
            ends_epoch: true,
            ..facts(8, 1, 0)
        };
        assert_eq!(cutter.push(last), [Height(7)..=Height(8)]);
    }

    proptest! {
        #[test]
        fn batches_are_a_partition_and_none_is_too_large(
            blocks in proptest::collection::vec((0_u64..3_000, 0_u64..1_500, any::<bool>()), 1..80)
        ) {
            let (mut cutter, mut time_ms, mut next) = (Cutter::new(RULE), 0, 1);
            let bytes_of: Vec<u64> = blocks.iter().map(|(_, bytes, _)| *bytes).collect();
            for ((step, bytes, ends), height) in blocks.into_iter().zip(1..) {
                time_ms += step;
                let ends_epoch = ends && bytes % 7 == 0;
                for range in cutter.push(BlockFacts { ends_epoch, ..facts(height, time_ms, bytes) }) {
                    prop_assert_eq!(range.start().0, next);
                    next = range.end().0 + 1;
                    let sizes = &bytes_of[usize::try_from(range.start().0 - 1).unwrap()..usize::try_from(next - 1).unwrap()];
                    let busy = sizes.iter().filter(|bytes| **bytes > 0).count();
                    prop_assert!(busy <= 1 || sizes.iter().sum::<u64>() <= RULE.bytes);
                }
                prop_assert!(!ends_epoch || next == height + 1);
            }
        }
    }
}
