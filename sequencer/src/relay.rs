//! Which node a transaction travels to: the proposers who can take it next, then everybody.
//!
//! A transaction that this node took in goes to the proposer of the next height; if that height's block may still be
//! open, to its proposer too. Each decided block without it sends it on to the next proposer; after
//! `HEIGHTS_BEFORE_BROADCAST` of them, or when nothing is decided for [`BROADCAST_AFTER`], it goes to all validators, once. So under load a
//! transaction crosses the network about once before it stands in a proposal.
//!
//! Pure bookkeeping of keys. The pool keeps the payloads; `core` sends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fusion_types::{Height, RollupId, TxHash, ValidatorId};

/// A transaction, by rollup and hash.
pub type Key = (RollupId, TxHash);

/// After this many decided blocks without it, a transaction goes to everybody.
const HEIGHTS_BEFORE_BROADCAST: u8 = 3;

/// When nothing was decided for this long, waiting transactions go to everybody: the proposers asked may be gone.
pub const BROADCAST_AFTER: Duration = Duration::from_millis(250);

/// Transactions sent on, and what became of them. Bounded by the pool: it holds keys of pooled transactions only.
#[derive(Debug, Default)]
pub struct Relay {
    fresh: Vec<Key>,
    waiting: BTreeMap<Height, Vec<(Key, u8)>>,
    last_progress: Duration,
}

/// What to send where. A target that is this node is left out by the caller.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dispatch {
    /// Keys by proposer.
    pub to: BTreeMap<ValidatorId, Vec<Key>>,
    /// Keys for all validators.
    pub to_all: Vec<Key>,
}

/// Where the chain stands, as far as relaying cares.
#[derive(Debug, Clone, Copy)]
pub struct Outlook {
    /// The height being decided.
    pub height: Height,
    /// Whether its proposal is already known, so that its block is closed.
    pub proposed: bool,
    /// Proposer of `height`.
    pub current: ValidatorId,
    /// Proposer of the height above it.
    pub next: ValidatorId,
}

impl Relay {
    /// Takes note of transactions that this node accepted from a user.
    pub fn accepted(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.fresh.extend(keys);
    }

    /// Whether transactions wait to be sent on for the first time.
    pub fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Sends fresh transactions on their way.
    pub fn dispatch(&mut self, now: Duration, outlook: Outlook) -> Dispatch {
        let mut dispatch = Dispatch::default();
        if self.fresh.is_empty() {
            return dispatch;
        }
        if self.waiting.is_empty() {
            self.last_progress = now;
        }
        let keys = std::mem::take(&mut self.fresh);
        let misses = keys.into_iter().map(|key| (key, 0)).collect();
        self.send(misses, outlook, &mut dispatch);
        dispatch
    }

    /// The block of `height` is decided: what was meant for it and is still pooled goes on.
    pub fn decided(
        &mut self,
        now: Duration,
        height: Height,
        outlook: Outlook,
        pooled: impl Fn(&Key) -> bool,
    ) -> Dispatch {
        self.last_progress = now;
        let mut dispatch = Dispatch::default();
        let later = self.waiting.split_off(&height.next());
        let due = std::mem::replace(&mut self.waiting, later);
        let mut on = Vec::new();
        for (key, misses) in due.into_values().flatten().filter(|(key, _)| pooled(key)) {
            if misses + 1 < HEIGHTS_BEFORE_BROADCAST {
                on.push((key, misses + 1));
            } else {
                dispatch.to_all.push(key);
            }
        }
        self.send(on, outlook, &mut dispatch);
        dispatch
    }

    /// When the waiting transactions go to everybody unless something is decided before.
    pub fn deadline(&self) -> Option<Duration> {
        (!self.waiting.is_empty()).then(|| self.last_progress + BROADCAST_AFTER)
    }

    /// Nothing was decided for long: everything that waits and is still pooled goes to everybody.
    pub fn stalled(&mut self, now: Duration, pooled: impl Fn(&Key) -> bool) -> Dispatch {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Dispatch::default();
        }
        self.last_progress = now;
        let waiting = std::mem::take(&mut self.waiting);
        let keys: BTreeSet<Key> = waiting.into_values().flatten().map(|(key, _)| key).collect();
        Dispatch {
            to: BTreeMap::new(),
            to_all: keys.into_iter().filter(pooled).collect(),
        }
    }

    fn send(&mut self, keys: Vec<(Key, u8)>, outlook: Outlook, dispatch: &mut Dispatch) {
        if keys.is_empty() {
            return;
        }
        let plain = || keys.iter().map(|(key, _)| *key);
        dispatch.to.entry(outlook.next).or_default().extend(plain());
        if !outlook.proposed && outlook.current != outlook.next {
            dispatch.to.entry(outlook.current).or_default().extend(plain());
        }
        self.waiting.entry(outlook.height.next()).or_default().extend(keys);
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    fn key(n: u8) -> Key {
        (RollupId(901), B256::repeat_byte(n))
    }

    fn validator(n: u8) -> ValidatorId {
        ValidatorId(B256::repeat_byte(n))
    }

    fn outlook(height: u64, proposed: bool) -> Outlook {
        let seat = |height: u64| validator(u8::try_from(height % 4).unwrap());
        Outlook {
            height: Height(height),
            proposed,
            current: seat(height),
            next: seat(height + 1),
        }
    }

    #[test]
    fn a_closed_block_leaves_only_the_next_proposer() {
        let mut relay = Relay::default();
        relay.accepted([key(1)]);
        let dispatch = relay.dispatch(Duration::ZERO, outlook(5, true));
        assert_eq!(dispatch.to, BTreeMap::from([(validator(2), vec![key(1)])]));
        assert!(
            relay.dispatch(Duration::ZERO, outlook(5, true)).to.is_empty(),
            "sent once"
        );
    }

    #[test]
    fn an_open_block_is_tried_too() {
        let mut relay = Relay::default();
        relay.accepted([key(1)]);
        let dispatch = relay.dispatch(Duration::ZERO, outlook(5, false));
        assert_eq!(
            dispatch.to.keys().copied().collect::<Vec<_>>(),
            [validator(1), validator(2)]
        );
    }

    #[test]
    fn a_transaction_that_misses_three_blocks_goes_to_everybody_once() {
        let mut relay = Relay::default();
        relay.accepted([key(1), key(2)]);
        relay.dispatch(Duration::ZERO, outlook(5, true));
        let pooled = |k: &Key| *k == key(1);
        assert!(
            relay
                .decided(Duration::ZERO, Height(5), outlook(6, false), pooled)
                .to
                .is_empty(),
            "its height is 6"
        );
        assert_eq!(
            relay.decided(Duration::ZERO, Height(6), outlook(7, true), pooled).to[&validator(0)],
            [key(1)]
        );
        relay.decided(Duration::ZERO, Height(7), outlook(8, true), pooled);
        assert_eq!(
            relay.decided(Duration::ZERO, Height(8), outlook(9, true), pooled).to[&validator(2)],
            [key(1)]
        );
        relay.decided(Duration::ZERO, Height(9), outlook(10, true), pooled);
        assert_eq!(
            relay
                .decided(Duration::ZERO, Height(10), outlook(11, true), pooled)
                .to_all,
            [key(1)]
        );
        assert_eq!(relay.deadline(), None);
    }

    #[test]
    fn a_stalled_chain_sends_everything_to_everybody() {
        let mut relay = Relay::default();
        relay.accepted([key(1)]);
        relay.dispatch(Duration::from_secs(1), outlook(5, true));
        assert!(relay.stalled(Duration::from_secs(1), |_| true).to_all.is_empty());
        assert_eq!(relay.stalled(Duration::from_secs(2), |_| true).to_all, [key(1)]);
        assert!(
            relay.stalled(Duration::from_secs(9), |_| true).to_all.is_empty(),
            "once"
        );
    }
}
