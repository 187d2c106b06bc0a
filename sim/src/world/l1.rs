//! L1, and each node's watcher of it: blocks of about a second, finality some blocks behind, a queue of forced transactions.
//! Every node sees the finalized head in its own time, is blind for a while, and is fed from where it wants, too much of it,
//! twice, or not at all.

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, keccak256};
use fusion_sequencer::core::Event;
use fusion_types::{ForcedItem, L1Block, L1Origin, RollupId, SettlementConfig};

use super::genesis::{EVM_ROLLUPS, OPAQUE_ROLLUPS};
use super::{What, World};
use crate::checker::Terms;
use crate::faults::Fault;
use crate::rng::Rng;

/// L1 block of height 0's origin.
const START: u64 = 1_000;

/// Blocks on top of one that is final.
const FINALITY: u64 = 2;

/// L1 blocks in one feed at most.
const FEED_MAX: usize = 8;

/// A rollup that nobody registered.
const UNKNOWN_ROLLUP: u64 = 11;

/// Few and short, so that both bounds are reached.
const PER_BLOCK: u32 = 3;
const BYTES_MAX: u32 = 300;

/// How long a node has seen what it proposes to adopt. Between most nodes' heads there is less.
pub(super) const MARGIN: Duration = Duration::from_millis(700);

fn hash(number: u64) -> B256 {
    keccak256(format!("L1 block {number}"))
}

/// The rules of a network that settles on this L1.
pub(super) fn rules() -> SettlementConfig {
    SettlementConfig {
        l1_chain_id: 1,
        l1_start: L1Origin {
            number: START,
            hash: hash(START),
        },
        forced_per_block: PER_BLOCK,
        forced_bytes_max: BYTES_MAX,
        block_bytes_max: 200_000,
        batch_bytes: 200_000,
        batch_age_ms: 5_000,
        batch_idle_ms: 60_000,
    }
}

/// The same for the checker.
pub(super) fn terms() -> Terms {
    Terms {
        start: (START, hash(START)),
        per_block: PER_BLOCK as usize,
        bytes_max: BYTES_MAX as usize,
        rollups: [OPAQUE_ROLLUPS, EVM_ROLLUPS.map(|(id, _)| id)].concat(),
    }
}

/// What happens about L1.
#[derive(Debug)]
pub(crate) enum Step {
    /// It has a block more.
    Mine,
    /// A node's watcher looks.
    Watch { node: usize },
}

/// The true L1, and how each node sees it.
#[derive(Debug)]
pub(super) struct L1 {
    rng: Rng,
    blocks: Vec<L1Block>,
    /// When each of them became final.
    finalized_at: Vec<Duration>,
    word: B256,
    count: u32,
    made: u64,
    watchers: Vec<Watcher>,
    /// Number of the last L1 block before the healing.
    pub(super) at_heal: u64,
}

#[derive(Debug)]
struct Watcher {
    lag: Duration,
    blind_until: Duration,
}

impl L1 {
    pub(super) fn new(mut rng: Rng, nodes: usize) -> Self {
        let watcher = |rng: &mut Rng| Watcher {
            lag: Duration::from_millis(rng.below(1_500)),
            blind_until: Duration::ZERO,
        };
        Self {
            watchers: (0..nodes).map(|_| watcher(&mut rng)).collect(),
            rng,
            blocks: Vec::new(),
            finalized_at: Vec::new(),
            word: B256::ZERO,
            count: 0,
            made: 0,
            at_heal: START,
        }
    }

    /// The next L1 block, in which these are queued.
    fn mine(&mut self, forced: &[(u64, Bytes)]) -> L1Block {
        let number = START + 1 + self.blocks.len() as u64;
        let mut items = Vec::with_capacity(forced.len());
        for (rollup, payload) in forced {
            let mut item = ForcedItem {
                index: self.count,
                rollup: RollupId(*rollup),
                sender: Address::repeat_byte(1),
                payload: payload.clone(),
                accumulator: B256::ZERO,
            };
            item.accumulator = item.accumulator_after(self.word, number);
            self.word = item.accumulator;
            self.count += 1;
            items.push(item);
        }
        let block = L1Block {
            number,
            hash: hash(number),
            parent: hash(number - 1),
            forced_count: self.count,
            forced: items,
        };
        self.blocks.push(block.clone());
        block
    }

    /// Something to force in: new, seen before, unknown, empty or too long.
    fn item(&mut self, known: Option<(u64, Bytes)>) -> (u64, Bytes) {
        self.made += 1;
        let rollup = OPAQUE_ROLLUPS[self.rng.index(OPAQUE_ROLLUPS.len())];
        let mut payload = format!("forced {}", self.made).into_bytes();
        match self.rng.below(10) {
            0 => (UNKNOWN_ROLLUP, payload.into()),
            1 => (rollup, Bytes::new()),
            2 => {
                payload.resize(BYTES_MAX as usize + 1, 0);
                (rollup, payload.into())
            }
            3 => (EVM_ROLLUPS[self.rng.index(EVM_ROLLUPS.len())].0, payload.into()),
            4 => {
                let items = self.blocks.iter().rev().flat_map(|block| &block.forced);
                let before = items.last().map(|item| (item.rollup.0, item.payload.clone()));
                before.unwrap_or((rollup, payload.into()))
            }
            5..=6 => known.unwrap_or((rollup, payload.into())),
            _ => (rollup, payload.into()),
        }
    }

    /// Blocks that a node sees as final at `now`.
    fn seen(&self, node: usize, now: Duration) -> usize {
        let watcher = &self.watchers[node];
        let seen = |at: &&Duration| **at + watcher.lag <= now;
        self.finalized_at.iter().take_while(seen).count()
    }
}

impl World {
    /// L1 begins, and everybody begins to watch it.
    pub(super) fn begin_l1(&mut self) {
        if self.l1.is_none() {
            return;
        }
        self.after(Duration::from_millis(100), What::L1(Step::Mine));
        for node in 0..self.nodes.len() {
            self.after(Duration::from_millis(50), What::L1(Step::Watch { node }));
        }
    }

    pub(super) fn l1_goes_on(&mut self, step: Step) {
        match step {
            Step::Mine => self.mine(),
            Step::Watch { node } => self.look_at_l1(node),
        }
    }

    /// L1 has a block more, and another is final.
    fn mine(&mut self) {
        let known = self.clients.any_waiting();
        let Some(l1) = &mut self.l1 else { return };
        let count = match l1.rng.below(20) {
            _ if self.healed_at.is_some() => 0,
            0 => 12,
            1..=8 => 1 + l1.rng.below(3),
            _ => 0,
        };
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(l1.item(known.clone()));
        }
        let block = l1.mine(&items);
        let finalized = block.number.saturating_sub(FINALITY);
        if finalized > START {
            l1.finalized_at.push(self.now);
        }
        if self.healed_at.is_none() {
            l1.at_heal = block.number;
        }
        let pause = Duration::from_millis(l1.rng.between(300, 1_700));
        for _ in &items {
            self.faults.count(Fault::Forced);
        }
        let forced = self.checker.forced.as_mut();
        if let Some(forced) = forced {
            forced.mined(block.number, block.hash, &items);
            forced.finalized(finalized.max(START));
        }
        self.after(pause, What::L1(Step::Mine));
    }

    /// A node's watcher looks, and feeds.
    fn look_at_l1(&mut self, node: usize) {
        let healed = self.healed_at.is_some();
        let Some(l1) = &mut self.l1 else { return };
        let pause = Duration::from_millis(l1.rng.between(50, 400));
        if healed {
            l1.watchers[node].lag = l1.watchers[node].lag.min(Duration::from_millis(200));
        } else if l1.rng.chance(30) {
            self.faults.count(Fault::L1Blind);
            l1.watchers[node].blind_until = self.now + Duration::from_millis(l1.rng.between(500, 4_000));
        }
        let wanted = self.nodes[node].core.as_ref().and_then(|core| core.l1_wanted());
        let is_blind = self.now < l1.watchers[node].blind_until && !healed;
        let mut feeds = Vec::new();
        if let Some(wanted) = wanted.filter(|_| !is_blind) {
            let seen = l1.seen(node, self.now);
            let item_at = |block: &L1Block| block.forced.iter().any(|item| u64::from(item.index) == wanted.item);
            let of_item = l1.blocks.iter().position(item_at);
            let next = usize::try_from(wanted.block.saturating_sub(START + 1)).unwrap_or(usize::MAX);
            let mut first = of_item.map_or(next, |at| at.min(next));
            if l1.rng.chance(100) {
                self.faults.count(Fault::FeedRepeated);
                first = first.saturating_sub(l1.rng.index(4));
            }
            let range = first.min(seen)..seen.min(first.saturating_add(FEED_MAX));
            let blocks = l1.blocks.get(range).unwrap_or_default().to_vec();
            let times = if healed { 1 } else { l1.rng.below(10).min(2) };
            if times == 0 && !blocks.is_empty() {
                self.faults.count(Fault::FeedDropped);
            }
            feeds = vec![blocks; usize::try_from(times).unwrap_or(0)];
        }
        for blocks in feeds.into_iter().filter(|blocks| !blocks.is_empty()) {
            self.tell(node, Event::L1(blocks));
        }
        self.after(pause, What::L1(Step::Watch { node }));
    }

    /// Forced transactions from before the healing that no block has consumed.
    pub(super) fn unforced(&self) -> usize {
        let queued = self.l1.as_ref().map_or(0, |l1| l1.at_heal);
        let forced = self.checker.forced.as_ref();
        forced.map_or(0, |forced| forced.unserved(queued))
    }
}
