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

/// A pushed body is not asked for before this time, however fast they usually come.
const PATIENCE_MIN: Duration = Duration::from_millis(100);

/// And is after this, however slow: well before a proposer's time is over.
const PATIENCE_MAX: Duration = Duration::from_millis(400);

/// The usual time of a body follows the last ones by one part in so many.
const USUAL_PARTS: u32 = 4;

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
    /// Since when it is expected to arrive by itself, if it is.
    since: Option<Duration>,
    ask_at: Duration,
    asked: u32,
}

/// Undecided bodies.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    blocks: BTreeMap<BlockId, Arc<SealedBlock>>,
    wants: BTreeMap<BlockId, Want>,
    /// How long after its proposal a body usually comes.
    usual: Duration,
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
        at_height.for_each(|block| bodies.insert(Duration::ZERO, block));
        bodies
    }

    pub(crate) fn get(&self, id: BlockId) -> Option<&Arc<SealedBlock>> {
        self.blocks.get(&id)
    }

    pub(crate) fn is_wanted(&self, id: BlockId) -> bool {
        self.wants.contains_key(&id)
    }

    /// Keeps a body; nobody needs to be asked for it any more.
    pub(crate) fn insert(&mut self, now: Duration, block: Arc<SealedBlock>) {
        let want = self.wants.remove(&block.id());
        if let Some(since) = want.and_then(|want| want.since) {
            let took = now.saturating_sub(since);
            self.usual = self.usual * (USUAL_PARTS - 1) / USUAL_PARTS + took / USUAL_PARTS;
        }
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
        let ask_at = if at_once { now } else { now + self.patience() };
        let since = (!at_once).then_some(now);
        let want = self.wants.entry(id).or_insert(Want {
            since,
            ask_at,
            asked: 0,
        });
        if want.asked == 0 {
            want.ask_at = want.ask_at.min(ask_at);
        }
    }

    /// The bodies to ask for now, each with how often it was asked for before.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<(BlockId, u32)> {
        let (mut due, patience) = (Vec::new(), self.patience());
        for (id, want) in self.wants.iter_mut().filter(|(_, want)| want.ask_at <= now) {
            due.push((*id, want.asked));
            let pause = patience.saturating_mul(1 << want.asked.min(4)).min(PAUSE_MAX);
            want.ask_at = now + pause;
            want.asked = want.asked.saturating_add(1);
        }
        due
    }

    /// How long a pushed body may take before it is asked for. A large one over a long path, or one of whose packets
    /// some were lost, takes longer than usual ones; to ask for it sends all of it again behind the first, and then
    /// everything comes later.
    fn patience(&self) -> Duration {
        (self.usual * 2).clamp(PATIENCE_MIN, PATIENCE_MAX)
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

    /// Bodies of `height`, and bodies above it.
    pub(crate) fn sizes(&self, height: Height) -> (usize, usize) {
        let above = self.blocks.values().filter(|block| block.header().height > height);
        let above = above.count();
        (self.blocks.len() - above, above)
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

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;
    use fusion_types::{Block, Epoch, Header, L1Origin, NetworkId, merkle_root};

    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn block(time_ms: u64) -> Arc<SealedBlock> {
        let header = Header {
            network: NetworkId(B256::ZERO),
            height: Height(1),
            parent: BlockId(B256::ZERO),
            epoch: Epoch(0),
            committee: B256::ZERO,
            proposer: ValidatorId(B256::ZERO),
            time_ms,
            l1_origin: L1Origin {
                number: 0,
                hash: B256::ZERO,
            },
            lanes_root: merkle_root(&[]),
            state_root: B256::ZERO,
            forced_to: None,
        };
        let lanes = Vec::new();
        Arc::new(SealedBlock::new(&Block { header, lanes }).unwrap())
    }

    /// A body is proposed and comes `took` later. Says after how long it would have been asked for.
    fn come(bodies: &mut Bodies, number: u64, took: Duration) -> Duration {
        let (block, now) = (block(number), ms(number * 10_000));
        bodies.want(now, block.id(), false);
        let asked = bodies.deadline().unwrap() - now;
        bodies.insert(now + took, block);
        assert_eq!(bodies.deadline(), None);
        asked
    }

    #[test]
    fn a_body_on_its_way_is_not_asked_for_before_twice_its_usual_time() {
        let mut bodies = Bodies::default();
        assert_eq!(come(&mut bodies, 0, ms(150)), PATIENCE_MIN);
        for number in 1..20 {
            come(&mut bodies, number, ms(150));
        }
        let patience = come(&mut bodies, 20, ms(150));
        assert!((ms(295)..=ms(300)).contains(&patience), "{patience:?}");
        for number in 21..40 {
            come(&mut bodies, number, ms(2));
        }
        assert_eq!(come(&mut bodies, 40, ms(2)), PATIENCE_MIN);
    }

    #[test]
    fn however_slow_bodies_are_one_that_does_not_come_is_asked_for() {
        let mut bodies = Bodies::default();
        for number in 0..20 {
            come(&mut bodies, number, ms(9_000));
        }
        let (lost, now) = (block(99).id(), ms(990_000));
        bodies.want(now, lost, false);
        assert_eq!(bodies.due(now + PATIENCE_MAX), [(lost, 0)]);
        bodies.want(now + PATIENCE_MAX, lost, true);
        assert_eq!(bodies.due(now + PATIENCE_MAX * 2), [(lost, 1)], "and again");
    }

    #[test]
    fn a_body_that_a_certificate_names_is_asked_for_at_once() {
        let mut bodies = Bodies::default();
        come(&mut bodies, 0, ms(400));
        let id = block(1).id();
        bodies.want(ms(10_000), id, true);
        assert_eq!(bodies.due(ms(10_000)), [(id, 0)]);
    }
}
