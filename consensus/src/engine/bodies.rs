//! Bodies of blocks that are not decided: what is here, what is wanted, and what was found about them.
//!
//! Bounded: a peer may push a few bodies at a height, and what is kept in all gives way by the round in which it was
//! last proposed. What gave way and turns out to matter is fetched again by its id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fusion_types::{BlockId, Height, Round, SealedBlock, ValidatorId};

use crate::wire::PeerId;

/// Bodies kept of one height: 64 MiB at most.
const BODIES_MAX: usize = 16;

/// Bodies that one proposer may push at one height.
const PUSHED_MAX: usize = 4;

/// Bodies kept for the next height, whoever pushes them.
const FUTURE_MAX: usize = 4;

/// How long a pushed body may take before it is asked for: two slow round trips.
const PATIENCE: Duration = Duration::from_millis(100);

/// No pause between two requests for one body is longer.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often one peer gets the same body from us at one height.
const SERVED_MAX: u8 = 3;

/// What is known about a block's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The shell was asked.
    Asked,
    /// It is valid.
    Valid,
    /// It is not.
    Invalid,
}

#[derive(Debug)]
struct Want {
    ask_at: Duration,
    asked: u32,
}

/// Undecided bodies.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    blocks: BTreeMap<BlockId, Arc<SealedBlock>>,
    wants: BTreeMap<BlockId, Want>,
    verdicts: BTreeMap<BlockId, Verdict>,
    served: BTreeMap<(PeerId, BlockId), u8>,
    /// Blocks whose verdict the core has.
    told: BTreeSet<BlockId>,
}

impl Bodies {
    /// Those of `height` among what the log holds.
    pub(crate) fn of(height: Height, logged: Vec<Arc<SealedBlock>>) -> Self {
        let mut bodies = Self::default();
        let at_height = logged.into_iter().filter(|block| block.header().height == height);
        at_height.for_each(|block| bodies.insert(block));
        bodies
    }

    pub(crate) fn get(&self, id: BlockId) -> Option<&Arc<SealedBlock>> {
        self.blocks.get(&id)
    }

    pub(crate) fn is_wanted(&self, id: BlockId) -> bool {
        self.wants.contains_key(&id)
    }

    /// Keeps a body; nobody needs to be asked for it any more.
    pub(crate) fn insert(&mut self, block: Arc<SealedBlock>) {
        self.wants.remove(&block.id());
        self.blocks.insert(block.id(), block);
    }

    /// Whether there is room for a body that `proposer` pushes for the current `height`.
    pub(crate) fn has_room_for(&self, proposer: ValidatorId, height: Height) -> bool {
        let same = |block: &&Arc<SealedBlock>| block.header().proposer == proposer && block.header().height == height;
        self.blocks.values().filter(same).count() < PUSHED_MAX
    }

    /// Whether there is room for a body that `proposer` pushes for a `height` not yet begun: one of each, few in all.
    pub(crate) fn has_future_room_for(&self, proposer: ValidatorId, height: Height) -> bool {
        let mut ahead = self
            .blocks
            .values()
            .map(|block| block.header())
            .filter(|header| header.height == height);
        ahead.clone().count() < FUTURE_MAX && !ahead.any(|header| header.proposer == proposer)
    }

    /// Lets bodies go until there is room again. `rank` says when a block was last proposed, and nothing for one that
    /// must stay.
    pub(crate) fn make_room(&mut self, height: Height, rank: impl Fn(BlockId) -> Option<Round>) {
        loop {
            let of_height = self.blocks.values().filter(|block| block.header().height == height);
            if of_height.clone().count() <= BODIES_MAX {
                return;
            }
            let least = of_height
                .filter_map(|block| Some((rank(block.id())?, block.id())))
                .min();
            let Some((_, id)) = least else {
                return;
            };
            self.blocks.remove(&id);
        }
    }

    /// Wants a body: at once, or after it had time to arrive by itself.
    pub(crate) fn want(&mut self, now: Duration, id: BlockId, at_once: bool) {
        let ask_at = if at_once { now } else { now + PATIENCE };
        let want = self.wants.entry(id).or_insert(Want { ask_at, asked: 0 });
        if want.asked == 0 {
            want.ask_at = want.ask_at.min(ask_at);
        }
    }

    /// The bodies to ask for now, each with how often it was asked for before.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<(BlockId, u32)> {
        let mut due = Vec::new();
        for (id, want) in self.wants.iter_mut().filter(|(_, want)| want.ask_at <= now) {
            due.push((*id, want.asked));
            let pause = PATIENCE.saturating_mul(1 << want.asked.min(4)).min(PAUSE_MAX);
            want.ask_at = now + pause;
            want.asked = want.asked.saturating_add(1);
        }
        due
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.wants.values().map(|want| want.ask_at).min()
    }

    pub(crate) fn verdict(&self, id: BlockId) -> Option<Verdict> {
        self.verdicts.get(&id).copied()
    }

    pub(crate) fn set_verdict(&mut self, id: BlockId, verdict: Verdict) {
        self.verdicts.insert(id, verdict);
    }

    /// Notes that the core is told the verdict; says whether it was not told before.
    pub(crate) fn tell(&mut self, id: BlockId) -> bool {
        self.told.insert(id)
    }

    /// Notes that `peer` asks for a body; says whether it is to get it.
    pub(crate) fn may_serve(&mut self, peer: PeerId, id: BlockId) -> bool {
        let count = self.served.entry((peer, id)).or_default();
        *count = count.saturating_add(1);
        *count <= SERVED_MAX
    }

    /// Nothing is wanted any more.
    pub(crate) fn want_nothing(&mut self) {
        self.wants.clear();
    }

    /// Forgets everything up to `height`.
    pub(crate) fn advance(&mut self, height: Height) {
        self.blocks.retain(|_, block| block.header().height > height);
        self.wants.clear();
        self.verdicts.clear();
        self.served.clear();
        self.told.clear();
    }
}
