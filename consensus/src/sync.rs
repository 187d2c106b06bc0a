//! Catching up: which decided blocks to ask of whom, and in what order they apply.
//!
//! Tips are hints. Blocks are asked for in windows, a bounded number at a time, spread over peers; they apply strictly
//! in order, and the engine verifies certificate and parent of each before it does. A peer that lies is dropped
//! for a while, one that is slow is passed over.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use fusion_types::{DecidedBlock, Height};

use crate::wire::{PeerId, SYNC_BLOCKS_MAX};

/// Windows asked for or held at once: with 8 MiB each, what catching up may take of memory.
const WINDOWS_MAX: usize = 4;

/// Windows in flight to one peer.
const WINDOWS_PER_PEER_MAX: usize = 2;

/// A peer that has not answered a full window for so long is passed over; one block has [`STALL_MIN`] and its share.
const STALL: Duration = Duration::from_secs(5);

/// No peer is passed over sooner. An answer that comes later is taken all the same.
const STALL_MIN: Duration = Duration::from_millis(500);

/// For how long a slow peer is passed over the first time; twice as long each time after, up to [`PASS_OVER_MAX`].
const PASS_OVER: Duration = Duration::from_millis(500);

/// No peer is passed over for longer.
const PASS_OVER_MAX: Duration = Duration::from_secs(5);

/// For how long a liar's tip counts for nothing.
const DROP: Duration = Duration::from_secs(60);

/// A claim that is so little below an earlier one was overtaken on its way, and says nothing: half a second of catching
/// up. Above, it is a lie, now or before.
const OVERTAKEN_MAX: u64 = 1024;

/// What a peer did wrong about decided blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SyncFault {
    /// Its tip fell.
    #[error("claims a lower tip than before")]
    TipFell,
    /// It has no block at a height up to its tip.
    #[error("does not have the blocks that its tip claims")]
    TipNotHonoured,
    /// Blocks of other heights than asked for, or that do not follow one another.
    #[error("answered a request with other blocks")]
    Range,
    /// A block that its certificate does not prove.
    #[error("sent a decided block without proof")]
    Certificate,
    /// A block that does not continue the chain.
    #[error("sent a decided block of another chain")]
    Chain,
}

#[derive(Debug)]
struct Source {
    tip: Height,
    unusable_until: Duration,
    /// How often in a row it did not answer.
    stalls: u32,
    asked: u64,
}

#[derive(Debug)]
enum Window {
    Open {
        to: Height,
    },
    Asked {
        to: Height,
        peer: PeerId,
        at: Duration,
    },
    Held {
        to: Height,
        peer: PeerId,
        blocks: VecDeque<DecidedBlock>,
    },
}

/// When an answer to a request made at `at` is overdue.
fn overdue(at: Duration, from: Height, to: Height) -> Duration {
    let blocks = u32::try_from((to.0 - from.0 + 1).min(SYNC_BLOCKS_MAX)).unwrap_or(1);
    at + STALL_MIN + (STALL - STALL_MIN) * blocks / 64
}

impl Window {
    fn to(&self) -> Height {
        match self {
            Self::Open { to } | Self::Asked { to, .. } | Self::Held { to, .. } => *to,
        }
    }
}

/// A request to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) peer: PeerId,
    pub(crate) from: Height,
    pub(crate) to: Height,
}

/// The state of catching up.
#[derive(Debug, Default)]
pub(crate) struct Sync {
    sources: BTreeMap<PeerId, Source>,
    /// By the first height that is still missing or held.
    windows: BTreeMap<Height, Window>,
    asks: u64,
}

impl Sync {
    /// Takes note of a peer's claim.
    pub(crate) fn status(&mut self, now: Duration, peer: PeerId, tip: Height) -> Result<(), SyncFault> {
        let source = self.sources.entry(peer).or_insert(Source {
            tip,
            unusable_until: Duration::ZERO,
            stalls: 0,
            asked: 0,
        });
        if tip >= source.tip {
            source.tip = tip;
            return Ok(());
        }
        if source.tip.0 - tip.0 <= OVERTAKEN_MAX {
            return Ok(());
        }
        source.tip = tip;
        self.drop_source(now, peer);
        Err(SyncFault::TipFell)
    }

    /// Forgets a peer that is gone; what it has sent is kept.
    pub(crate) fn disconnected(&mut self, peer: PeerId) {
        self.sources.remove(&peer);
        self.reopen(|window| matches!(window, Window::Asked { peer: asked, .. } if *asked == peer));
    }

    /// The tips that peers claim.
    pub(crate) fn tips(&self) -> impl Iterator<Item = (PeerId, Height)> {
        self.sources.iter().map(|(peer, source)| (*peer, source.tip))
    }

    /// The highest tip that a usable peer claims.
    pub(crate) fn best_tip(&self, now: Duration) -> Option<Height> {
        let usable = self.sources.values().filter(|source| source.unusable_until <= now);
        usable.map(|source| source.tip).max()
    }

    /// What to ask now when `next` is the lowest height that is needed.
    pub(crate) fn plan(&mut self, now: Duration, next: Height) -> Vec<Ask> {
        self.pass_over_the_slow(now);
        let mut asks = Vec::new();
        // Open windows at the end are as good as none: they are planned anew.
        while self
            .windows
            .last_entry()
            .is_some_and(|last| matches!(last.get(), Window::Open { .. }))
        {
            self.windows.pop_last();
        }
        // What came out and did not hold up is missing again.
        if let Some(first) = self.windows.keys().next().copied().filter(|first| *first > next) {
            self.windows.insert(
                next,
                Window::Open {
                    to: Height(first.0 - 1),
                },
            );
        }
        let mut above = next;
        while let Some((from, to)) = self.gap(above) {
            above = from.next();
            if self.source_of(now, from).is_none() {
                continue;
            }
            if !self.make_room(from) {
                // It is the last one, and an answer that nobody asked for would fill it.
                self.windows.remove(&from);
                break;
            }
            let end = self.ask(now, from, to, &mut asks);
            if let Some(end) = end.filter(|end| *end < to) {
                self.windows.insert(end.next(), Window::Open { to });
            }
        }
        while self.windows.len() < WINDOWS_MAX {
            let end = self.windows.values().next_back().map(Window::to);
            let from = end.map_or(next, |end| end.next().max(next));
            let to = Height(from.0.saturating_add(SYNC_BLOCKS_MAX - 1));
            if self.ask(now, from, to, &mut asks).is_none() {
                break;
            }
        }
        asks
    }

    /// The lowest window at `above` or higher that is neither asked for nor held.
    fn gap(&self, above: Height) -> Option<(Height, Height)> {
        self.windows.range(above..).find_map(|(from, window)| match window {
            Window::Open { to } => Some((*from, *to)),
            _ => None,
        })
    }

    /// Makes room for a window at `from`: short answers leave gaps, and what lies highest cannot apply before they are
    /// filled. Returns whether there is room.
    fn make_room(&mut self, from: Height) -> bool {
        while WINDOWS_MAX <= self.sizes().0 {
            match self.windows.last_entry() {
                Some(last) if from < *last.key() => last.remove(),
                _ => return false,
            };
        }
        true
    }

    /// Takes in an answer. One that is not needed is not looked at.
    pub(crate) fn response(
        &mut self,
        now: Duration,
        peer: PeerId,
        from: Height,
        mut blocks: Vec<DecidedBlock>,
    ) -> Result<(), SyncFault> {
        // An answer that comes late, when another peer was asked, is as good; only whoever was asked owes one.
        let (to, owed, is_open) = match self.windows.get(&from) {
            Some(Window::Asked { to, peer: asked, .. }) => (*to, *asked == peer, false),
            Some(Window::Open { to }) => (*to, false, true),
            Some(Window::Held { .. }) | None => return Ok(()),
        };
        // A peer that was asked twice, for less the second time, may answer the first question last.
        if blocks.len() as u64 <= SYNC_BLOCKS_MAX {
            blocks.truncate(usize::try_from(to.0 - from.0 + 1).unwrap_or(usize::MAX));
        }
        match check_range(from, to, &blocks) {
            Ok(()) => {}
            Err(fault) if owed => {
                self.drop_source(now, peer);
                return Err(fault);
            }
            Err(_) => return Ok(()),
        }
        if is_open && !self.make_room(from) {
            return Ok(());
        }
        if let Some(source) = self.sources.get_mut(&peer) {
            source.stalls = 0;
        }
        let last = Height(from.0 + blocks.len() as u64 - 1);
        let held = Window::Held {
            to: last,
            peer,
            blocks: blocks.into(),
        };
        self.windows.insert(from, held);
        if last < to {
            self.windows.insert(last.next(), Window::Open { to });
        }
        Ok(())
    }

    /// Takes out the block of `next`, if it is there, with the peer that sent it.
    pub(crate) fn take(&mut self, next: Height) -> Option<(PeerId, DecidedBlock)> {
        let Some(Window::Held { peer, .. }) = self.windows.get(&next) else {
            return None;
        };
        let peer = *peer;
        let Some(Window::Held { to, mut blocks, .. }) = self.windows.remove(&next) else {
            return None;
        };
        let block = blocks.pop_front()?;
        if !blocks.is_empty() {
            self.windows.insert(next.next(), Window::Held { to, peer, blocks });
        }
        Some((peer, block))
    }

    /// Forgets everything below `next`.
    pub(crate) fn advance(&mut self, next: Height) {
        while let Some(entry) = self.windows.first_entry() {
            if *entry.key() >= next {
                break;
            }
            let to = entry.get().to();
            match entry.remove() {
                Window::Held { peer, mut blocks, .. } if to >= next => {
                    blocks.retain(|block| block.block.header().height >= next);
                    self.windows.insert(next, Window::Held { to, peer, blocks });
                }
                // What is in flight is keyed by its first height: its answer would not be found again.
                _ if to >= next => {
                    self.windows.insert(next, Window::Open { to });
                }
                _ => {}
            }
        }
    }

    /// Drops a peer whose block did not hold up, and everything else that it sent.
    pub(crate) fn reject(&mut self, now: Duration, peer: PeerId) {
        self.drop_source(now, peer);
        self.reopen(|window| matches!(window, Window::Held { peer: sender, .. } if *sender == peer));
    }

    /// Windows asked for or held, most windows asked of one peer, and blocks held.
    pub(crate) fn sizes(&self) -> (usize, usize, usize) {
        let (mut busy, mut blocks_held) = (0, 0);
        let mut of_peer: BTreeMap<PeerId, usize> = BTreeMap::new();
        for window in self.windows.values() {
            match window {
                Window::Open { .. } => continue,
                Window::Asked { peer, .. } => *of_peer.entry(*peer).or_default() += 1,
                Window::Held { blocks, .. } => blocks_held += blocks.len(),
            }
            busy += 1;
        }
        (busy, of_peer.into_values().max().unwrap_or(0), blocks_held)
    }

    /// Whether the block of `next` is here.
    pub(crate) fn holds(&self, next: Height) -> bool {
        matches!(self.windows.get(&next), Some(Window::Held { .. }))
    }

    /// When [`Sync::plan`] has to run again, if nothing else happens and `next` is needed.
    pub(crate) fn deadline(&self, now: Duration, next: Height) -> Option<Duration> {
        let stalls = self.windows.iter().filter_map(|(from, window)| match window {
            Window::Asked { at, to, .. } => Some(overdue(*at, *from, *to)),
            _ => None,
        });
        let useful = self.sources.values().filter(|source| source.tip >= next);
        let usable_again = useful.map(|source| source.unusable_until);
        stalls.chain(usable_again).filter(|at| *at > now).min()
    }

    fn drop_source(&mut self, now: Duration, peer: PeerId) {
        if let Some(source) = self.sources.get_mut(&peer) {
            source.unusable_until = now + DROP;
        }
        self.reopen(|window| matches!(window, Window::Asked { peer: asked, .. } if *asked == peer));
    }

    fn pass_over_the_slow(&mut self, now: Duration) {
        for (from, window) in &mut self.windows {
            let Window::Asked { to, peer, at } = *window else {
                continue;
            };
            if overdue(at, *from, to) > now {
                continue;
            }
            if let Some(source) = self.sources.get_mut(&peer) {
                let pause = PASS_OVER.saturating_mul(1 << source.stalls.min(8));
                source.unusable_until = now + pause.min(PASS_OVER_MAX);
                source.stalls = source.stalls.saturating_add(1);
            }
            *window = Window::Open { to };
        }
    }

    fn reopen(&mut self, which: impl Fn(&Window) -> bool) {
        for window in self.windows.values_mut().filter(|window| which(window)) {
            *window = Window::Open { to: window.to() };
        }
    }

    /// The least busy of the most reliable peers that claim to have `from`. One that did not answer is not asked while
    /// another one may: its window would hold up all that follow.
    fn source_of(&self, now: Duration, from: Height) -> Option<PeerId> {
        let in_flight = |peer: &PeerId| {
            let asked = |window: &&Window| matches!(window, Window::Asked { peer: asked, .. } if asked == peer);
            self.windows.values().filter(asked).count()
        };
        let usable = |source: &Source| source.unusable_until <= now && source.tip >= from;
        let stalls = self
            .sources
            .values()
            .filter(|source| usable(source))
            .map(|source| source.stalls)
            .min()?;
        let chosen = self
            .sources
            .iter()
            .filter(|(_, source)| usable(source) && source.stalls == stalls)
            .map(|(peer, source)| (in_flight(peer), source.asked, *peer))
            .filter(|(in_flight, ..)| *in_flight < WINDOWS_PER_PEER_MAX)
            .min();
        chosen.map(|(_, _, peer)| peer)
    }

    /// Asks a peer; says up to where.
    fn ask(&mut self, now: Duration, from: Height, to: Height, asks: &mut Vec<Ask>) -> Option<Height> {
        let peer = self.source_of(now, from)?;
        self.asks += 1;
        let asked = self.asks;
        let source = self.sources.get_mut(&peer).expect("chosen from the sources");
        source.asked = asked;
        let to = to.min(source.tip);
        self.windows.insert(from, Window::Asked { to, peer, at: now });
        asks.push(Ask { peer, from, to });
        Some(to)
    }
}

fn check_range(from: Height, to: Height, blocks: &[DecidedBlock]) -> Result<(), SyncFault> {
    if blocks.is_empty() {
        return Err(SyncFault::TipNotHonoured);
    }
    if blocks.len() as u64 > to.0 - from.0 + 1 {
        return Err(SyncFault::Range);
    }
    for (at, decided) in blocks.iter().enumerate() {
        let (header, certificate) = (decided.block.header(), &decided.certificate);
        let height = Height(from.0 + at as u64);
        let follows = at == 0 || header.parent == blocks[at - 1].block.id();
        let fits = certificate.height == height && certificate.block == decided.block.id();
        if header.height != height || !follows || !fits {
            return Err(SyncFault::Range);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
