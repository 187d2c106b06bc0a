//! What this node knows of L1 beyond what the chain has adopted: the finalized L1 blocks above the state's origin, and the
//! forced transactions that no block has consumed yet.
//!
//! Promises: one gap-free run of blocks and of queue items, each linked to the one before; what is due at an origin is a
//! function of the run, the state and the dedup window; and never to answer what is due where it cannot know. Only
//! finalized blocks come in, so nothing here is ever taken back: a signed batch cannot be signed again, so that no block
//! may rest on an L1 block that can go. Leaves to others: reading L1 and whom to believe (the watcher), and when to adopt
//! (the core).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use alloy_primitives::{B256, Bytes};
use fusion_types::{ForcedItem, L1Block, L1Origin, RollupId, SettlementConfig, State, TxHash, transaction_hash};

use crate::invalid::Invalid;
use crate::limits::{L1_BLOCKS_MAX, L1_ITEM_FOOTPRINT_BYTES, L1_ITEMS_BYTES_MAX};
use crate::window::Window;

/// One node's view of L1 above the state.
#[derive(Debug, Clone)]
pub struct L1View {
    rules: SettlementConfig,
    /// The state's origin and cursor.
    origin: L1Origin,
    cursor: u64,
    /// Whether every item that was queued up to the origin is consumed or here.
    complete: bool,
    /// The blocks above the origin, without a gap.
    blocks: VecDeque<Seen>,
    /// The items from the cursor on, without a gap.
    items: VecDeque<Item>,
    /// The queue's word after the last item here, or after the last consumed one; unknown after a start.
    word: Option<B256>,
    bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    hash: B256,
    at: Duration,
}

#[derive(Debug, Clone)]
struct Item {
    l1_number: u64,
    rollup: RollupId,
    hash: TxHash,
    /// None where no lane can carry it.
    payload: Option<Bytes>,
}

/// From where on L1 is to be read for a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct L1Wanted {
    /// Number of the next block.
    pub block: u64,
    /// Index of the next item. Where it stands in a block below `block`, the blocks that hold it and its successors come
    /// first; others there need not.
    pub item: u64,
}

/// Why a view does not take a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum L1Refused {
    /// Blocks or items before it are missing.
    #[error("L1 block {number} leaves a gap: block {}, item {} is next", .wanted.block, .wanted.item)]
    Gap {
        /// The block's number.
        number: u64,
        /// What comes next.
        wanted: L1Wanted,
    },
    /// There is no room before what is here is adopted and consumed.
    #[error("no room for L1 block {0} before others are adopted")]
    Full(u64),
    /// It is not the block that the chain or this view knows, or not linked to it: somebody told of another L1.
    #[error("L1 block {number} is not linked to {expected}")]
    Fork {
        /// The block's number.
        number: u64,
        /// The hash that it or its parent should have.
        expected: B256,
    },
    /// Its items do not continue the queue.
    #[error("the forced transactions of L1 block {0} do not continue the queue")]
    Queue(u64),
}

/// The forced transactions that a block must carry: for each rollup the beginning of its lane.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// The forced cursor after the block.
    pub(crate) to: u64,
    /// How many transactions are carried, and the bytes of their payloads.
    pub(crate) count: usize,
    pub(crate) bytes: usize,
    pub(crate) lanes: BTreeMap<RollupId, ForcedLane>,
}

/// The forced transactions of one lane, in the order of the queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct ForcedLane {
    pub(crate) hashes: Vec<TxHash>,
    pub(crate) payloads: Vec<Bytes>,
}

impl Due {
    /// Hashes with which the lane of a rollup begins.
    pub(crate) fn hashes(&self, rollup: RollupId) -> &[TxHash] {
        self.lanes.get(&rollup).map_or(&[], |lane| lane.hashes.as_slice())
    }
}

impl L1View {
    /// A view that knows nothing above `state`.
    pub fn new(rules: SettlementConfig, state: &State) -> Self {
        Self {
            origin: state.l1_origin,
            cursor: state.forced_cursor,
            complete: is_drained(state, &rules),
            blocks: VecDeque::new(),
            items: VecDeque::new(),
            word: (state.forced_cursor == 0).then_some(B256::ZERO),
            bytes: 0,
            rules,
        }
    }

    /// The network's rules.
    pub fn rules(&self) -> &SettlementConfig {
        &self.rules
    }

    /// Takes a finalized L1 block in, seen at `now`. Returns whether more is known than before: the same block may come
    /// again and again.
    ///
    /// # Errors
    /// [`L1Refused`]; the view is unchanged.
    pub fn feed(&mut self, block: &L1Block, now: Duration) -> Result<bool, L1Refused> {
        let number = block.number;
        if let Some(expected) = self.hash_of(number).filter(|known| *known != block.hash) {
            return Err(L1Refused::Fork { number, expected });
        }
        let is_known = number <= self.tip().number && (number > self.origin.number || self.complete);
        if is_known {
            return Ok(false);
        }
        let gap = L1Refused::Gap {
            number,
            wanted: self.wanted(),
        };
        let above = number > self.origin.number;
        if above {
            let tip = self.tip();
            if tip.number.checked_add(1) != Some(number) {
                return Err(gap);
            }
            if block.parent != tip.hash {
                let expected = tip.hash;
                return Err(L1Refused::Fork { number, expected });
            }
        }
        let after = u64::from(block.forced_count);
        let first = after.checked_sub(block.forced.len() as u64);
        let first = first.ok_or(L1Refused::Queue(number))?;
        let next = self.next_item();
        if first > next && !self.complete {
            return Err(gap);
        }
        // Items of blocks that the chain has adopted may be here or consumed; none of a later block can be.
        if (above && first != next) || (number == self.origin.number && after < next) {
            return Err(L1Refused::Queue(number));
        }
        let known = usize::try_from(next - first)
            .unwrap_or(usize::MAX)
            .min(block.forced.len());
        let items = &block.forced[known..];
        let word = self.verify(items, number)?;
        self.make_sure_of_room(items, number)?;
        for item in items {
            self.push(item, number);
        }
        self.word = word;
        let completes = !self.complete && (above || (number == self.origin.number && after == self.next_item()));
        self.complete |= completes;
        if above {
            self.blocks.push_back(Seen {
                hash: block.hash,
                at: now,
            });
        }
        Ok(above || completes || !items.is_empty())
    }

    /// Whether `items` continue the queue in L1 block `number`; the queue's word after them.
    fn verify(&self, items: &[ForcedItem], number: u64) -> Result<Option<B256>, L1Refused> {
        let mut word = self.word;
        for (index, item) in (self.next_item()..).zip(items) {
            let linked = word.is_none_or(|before| item.accumulator_after(before, number) == item.accumulator);
            if u64::from(item.index) != index || item.l1_number() != number || !linked {
                return Err(L1Refused::Queue(number));
            }
            word = Some(item.accumulator);
        }
        Ok(word)
    }

    /// One L1 block's items always fit into an empty view.
    fn make_sure_of_room(&self, items: &[ForcedItem], number: u64) -> Result<(), L1Refused> {
        let bytes: usize = items.iter().map(|item| self.footprint(item.payload.len())).sum();
        let crowded = !self.items.is_empty() && !items.is_empty() && self.bytes + bytes > L1_ITEMS_BYTES_MAX;
        if crowded || self.blocks.len() == L1_BLOCKS_MAX {
            return Err(L1Refused::Full(number));
        }
        Ok(())
    }

    fn is_carriable(&self, bytes: usize) -> bool {
        0 < bytes && bytes <= self.rules.forced_bytes_max as usize
    }

    fn footprint(&self, bytes: usize) -> usize {
        L1_ITEM_FOOTPRINT_BYTES + if self.is_carriable(bytes) { bytes } else { 0 }
    }

    fn push(&mut self, item: &ForcedItem, l1_number: u64) {
        let carriable = self.is_carriable(item.payload.len());
        self.bytes += self.footprint(item.payload.len());
        self.items.push_back(Item {
            l1_number,
            rollup: item.rollup,
            hash: transaction_hash(&item.payload),
            // Copied: the watcher's answer from which it is cut may be far longer.
            payload: carriable.then(|| Bytes::copy_from_slice(&item.payload)),
        });
    }

    fn pop_oldest(&mut self) {
        if let Some(item) = self.items.pop_front() {
            self.bytes -= item.footprint();
        }
    }

    /// Moves on to a decided block, after which the replicated state is `state`: what it adopted and consumed goes. Its
    /// origin may be far above what is known here.
    pub fn decided(&mut self, state: &State) {
        let origin = state.l1_origin;
        let was_known = self.complete && self.hash_of(origin.number) == Some(origin.hash);
        let passed = origin.number.saturating_sub(self.origin.number);
        let passed = usize::try_from(passed).unwrap_or(usize::MAX).min(self.blocks.len());
        self.blocks.drain(..passed);
        self.origin = origin;
        let consumed = state.forced_cursor.saturating_sub(self.cursor);
        for _ in 0..consumed.min(self.items.len() as u64) {
            self.pop_oldest();
        }
        self.cursor = state.forced_cursor;
        if !was_known {
            // Whatever is here may be of another L1, or have gaps: it comes again, linked to the origin that was decided.
            self.blocks.clear();
            self.items.clear();
            (self.bytes, self.word) = (0, None);
        }
        self.complete = was_known || is_drained(state, &self.rules);
    }

    /// Whether it is known what is due at the state's own origin: else nothing can be proposed or judged here.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether something is due that the state's own origin brought.
    pub fn has_backlog(&self) -> bool {
        let first = self.items.front();
        first.is_some_and(|item| item.l1_number <= self.origin.number)
    }

    /// What to read next.
    pub fn wanted(&self) -> L1Wanted {
        let above = u64::from(self.complete);
        L1Wanted {
            block: self.tip().number.saturating_add(above),
            item: self.next_item(),
        }
    }

    /// The newest block that was seen by `since`, or the state's own origin: what a proposer adopts.
    pub fn newest_since(&self, since: Duration) -> L1Origin {
        let old = self.blocks.iter().rposition(|seen| seen.at <= since);
        old.map_or(self.origin, |at| L1Origin {
            number: self.origin.number + 1 + at as u64,
            hash: self.blocks[at].hash,
        })
    }

    /// Blocks above the state's origin, and bytes of the items here.
    pub fn sizes(&self) -> (usize, usize) {
        (self.blocks.len(), self.bytes)
    }

    /// The newest block that is known.
    fn tip(&self) -> L1Origin {
        self.newest_since(Duration::MAX)
    }

    fn next_item(&self) -> u64 {
        self.cursor + self.items.len() as u64
    }

    fn hash_of(&self, number: u64) -> Option<B256> {
        if number == self.origin.number {
            return Some(self.origin.hash);
        }
        let above = number.checked_sub(self.origin.number.checked_add(1)?)?;
        let seen = self.blocks.get(usize::try_from(above).ok()?)?;
        Some(seen.hash)
    }

    /// Whether a header may adopt `given`.
    pub(crate) fn check_origin(&self, given: L1Origin) -> Result<(), Invalid> {
        if given.number < self.origin.number {
            let expected = self.origin;
            return Err(Invalid::L1Origin { given, expected });
        }
        match self.hash_of(given.number) {
            Some(hash) if hash != given.hash => {
                let number = given.number;
                let expected = L1Origin { number, hash };
                Err(Invalid::L1Origin { given, expected })
            }
            Some(_) if self.complete => Ok(()),
            _ => Err(Invalid::L1Unseen(given.number)),
        }
    }

    /// What the block above `state` must carry if it adopts `origin`, which [`Self::check_origin`] accepts: the items from
    /// the cursor on that stand at or below it, as many as a block takes. Consumed but not carried are those of rollups that
    /// nobody registered, those that are empty or too long, and those that their stream carried already.
    ///
    /// # Panics
    /// When the view does not stand at `state`.
    pub(crate) fn due(&self, origin: L1Origin, state: &State, window: &Window) -> Due {
        assert_eq!(
            (self.origin, self.cursor),
            (state.l1_origin, state.forced_cursor),
            "the view moves on with the state"
        );
        let mut due = Due {
            to: self.cursor,
            ..Due::default()
        };
        let most = self.rules.forced_per_block as usize;
        let reached = |item: &&Item| item.l1_number <= origin.number;
        for item in self.items.iter().take_while(reached).take(most) {
            due.to += 1;
            let Some(payload) = &item.payload else { continue };
            let (rollup, hash) = (item.rollup, item.hash);
            let repeated = window.sequence_of(rollup, &hash).is_some() || due.hashes(rollup).contains(&hash);
            if repeated || !state.streams.contains_key(&rollup) {
                continue;
            }
            due.count += 1;
            due.bytes += payload.len();
            let lane = due.lanes.entry(rollup).or_default();
            lane.hashes.push(hash);
            lane.payloads.push(payload.clone());
        }
        due
    }
}

impl Item {
    fn footprint(&self) -> usize {
        L1_ITEM_FOOTPRINT_BYTES + self.payload.as_ref().map_or(0, |payload| payload.len())
    }
}

/// Whether the state alone shows that nothing is due at its origin: its last block consumed fewer items than it might, so it
/// consumed all that were due. So a node that starts needs no L1 to go on, unless it starts in the middle of a flood.
fn is_drained(state: &State, rules: &SettlementConfig) -> bool {
    state.forced_taken < u64::from(rules.forced_per_block)
}

#[cfg(test)]
mod tests;
