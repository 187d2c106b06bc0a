//! Which node a transaction travels to: the proposers who can take it next, then everybody.
//!
//! A transaction that this node took in goes to the proposer whose block is open as far as this node knows: of this
//! height until its proposal is known, of the next one then. A proposal without it sends it on to the proposer after;
//! after three of them, or when nothing is proposed or decided for `BROADCAST_AFTER` (longer where blocks take longer),
//! it goes to all validators, and begins anew `HEIGHTS_BEFORE_AGAIN` later if it still waits. So under load a
//! transaction crosses the network about once before it stands in a proposal.
//!
//! Under more load than the chain carries, transactions miss blocks because others are before them, and sending them
//! again would leave less room for the rest. So what a node sends again for one height is at most its share of a
//! quarter of what the block carries; beyond it transactions wait where they are for their proposer's next turn.
//!
//! Pure bookkeeping of keys. The pool keeps the payloads; `core` sends.

use std::collections::BTreeMap;
use std::time::Duration;

use fusion_types::{Height, RollupId, TxHash, ValidatorId};

/// A transaction, by rollup and hash.
pub type Key = (RollupId, TxHash);

/// After this many blocks without it, a transaction goes to everybody.
const HEIGHTS_BEFORE_BROADCAST: u8 = 3;

/// When nothing was proposed or decided for this long, waiting transactions go to everybody: the proposers asked may be
/// gone.
const BROADCAST_AFTER: Duration = Duration::from_millis(250);

/// Never later than this, however long blocks usually take.
const BROADCAST_AFTER_MAX: Duration = Duration::from_secs(1);

/// The usual time of a block follows the last ones by one part in so many.
const USUAL_PARTS: u32 = 8;

/// While a block is closed, frames of new transactions leave at least this far apart: a frame costs every node more
/// than the transactions in it.
const GATHER: Duration = Duration::from_millis(2);

/// The same once this node has precommitted: the next proposer may be about to close its block.
const GATHER_CLOSING: Duration = Duration::from_millis(1);

/// All nodes together send again one part in so many of what a block carries: blocks that fill up leave no room to
/// those who missed one, and whoever sends to the next proposer takes bandwidth and processors from the blocks.
const COPIES_AGAIN_PARTS: usize = 4;

/// Copies that a node may send again for each height, however little its block carries.
const COPIES_AGAIN_MIN: usize = 256;

/// Copies that leave at a time when nothing is decided, oldest transactions first: half a megabyte of usual ones.
/// Mostly the next proposer is not gone but late, and what everybody sends to everybody then makes it later.
const COPIES_STALLED_MAX: usize = 1024;

/// What went to everybody is sent on again when it still waits after so many heights: whoever proposes since may have
/// lost it in a restart, and this node may be benched for long. Each further time it takes twice as long, for most of
/// what waits so long waits for a nonce that nobody sends.
const HEIGHTS_BEFORE_AGAIN: u64 = 16;

/// Of so many it is remembered; of more than that nobody is told again.
const TOLD_MAX: usize = 65_536;

/// How often that time doubles.
const DOUBLINGS_MAX: u8 = 6;

/// Transactions sent on, and what became of them. Bounded by the pool, for it is given keys of pooled transactions only,
/// and by `TOLD_MAX` for what went to everybody.
#[derive(Debug, Default)]
pub struct Relay {
    fresh: Vec<Key>,
    /// When new transactions were sent last, and until when more are gathered.
    sent_at: Option<Duration>,
    gather_until: Option<Duration>,
    /// By the height whose proposer can take them; with the blocks that they missed, in all.
    waiting: BTreeMap<Height, Vec<(Key, u8)>>,
    /// What went to everybody, by the height after which it is looked at again.
    told: BTreeMap<Height, Vec<(Key, u8)>>,
    /// How many those are.
    told_count: usize,
    /// How many left the pool since the start, as far as it was looked at.
    gone: u64,
    last_progress: Duration,
    /// When something last began to wait for a decision.
    waits_since: Duration,
    /// How long that wait usually is: hundreds of milliseconds between continents.
    usual: Duration,
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
    /// The time.
    pub now: Duration,
    /// The height being decided.
    pub height: Height,
    /// Whether its proposal is already known, so that its block is closed.
    pub proposed: bool,
    /// Whether this node has precommitted in it.
    pub closing: bool,
    /// Proposer of `height`.
    pub current: ValidatorId,
    /// Proposer of the height above it.
    pub next: ValidatorId,
    /// This node, if it is a validator.
    pub own: Option<ValidatorId>,
    /// Number of validators.
    pub members: usize,
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

    /// How many transactions wait to be sent, or for the decision of a height whose proposer has them.
    pub fn waiting(&self) -> usize {
        self.fresh.len() + self.waiting.values().map(Vec::len).sum::<usize>()
    }

    /// How many left the pool since the start, decided mostly: counted when the height comes for which they were meant.
    pub fn gone(&self) -> u64 {
        self.gone
    }

    /// How many went to everybody.
    pub fn told(&self) -> usize {
        self.told.values().map(Vec::len).sum()
    }

    /// Sends fresh transactions on their way, or gathers more of them while nobody could take them yet.
    pub fn dispatch(&mut self, outlook: Outlook) -> Dispatch {
        let mut dispatch = Dispatch::default();
        if self.fresh.is_empty() {
            return dispatch;
        }
        let distance = if outlook.closing { GATHER_CLOSING } else { GATHER };
        let until = self.sent_at.map(|at| at + distance);
        self.gather_until = until.filter(|until| outlook.proposed && outlook.now < *until);
        if self.gather_until.is_some() {
            return dispatch;
        }
        self.sent_at = Some(outlook.now);
        if self.waiting.is_empty() {
            self.last_progress = outlook.now;
            self.waits_since = outlook.now;
        }
        let keys = std::mem::take(&mut self.fresh);
        let keys = keys.into_iter().map(|key| (key, 0)).collect();
        self.send(keys, outlook, &mut dispatch);
        dispatch
    }

    /// A proposal of the height in progress is known, with `count` transactions: what was meant for it and is not in it
    /// goes on, while the next proposer can still take it.
    pub fn proposed(
        &mut self,
        outlook: Outlook,
        count: usize,
        contains: impl Fn(&Key) -> bool,
        pooled: impl Fn(&Key) -> bool,
    ) -> Dispatch {
        // The proposer is there, and the one after it will take what waits.
        self.last_progress = outlook.now;
        let due = self.waiting.remove(&outlook.height).unwrap_or_default();
        let (inside, missed): (Vec<_>, Vec<_>) = due.into_iter().partition(|(key, _)| contains(key));
        if !inside.is_empty() {
            self.waiting.insert(outlook.height, inside);
        }
        self.missed((outlook.height, missed), outlook, count, &pooled)
    }

    /// The block of `height` is decided, with `count` transactions: what was meant for it and is still pooled goes on.
    pub fn decided(
        &mut self,
        height: Height,
        count: usize,
        outlook: Outlook,
        pooled: impl Fn(&Key) -> bool,
    ) -> Dispatch {
        if !self.waiting.is_empty() {
            let took = outlook.now.saturating_sub(self.waits_since);
            self.usual = self.usual * (USUAL_PARTS - 1) / USUAL_PARTS + took / USUAL_PARTS;
        }
        self.last_progress = outlook.now;
        self.waits_since = outlook.now;
        let later = self.waiting.split_off(&height.next());
        let due = std::mem::replace(&mut self.waiting, later);
        let later = self.told.split_off(&height.next());
        let told = std::mem::replace(&mut self.told, later);
        self.told_count -= told.values().map(Vec::len).sum::<usize>();
        let due: Vec<(Key, u8)> = due.into_values().chain(told.into_values()).flatten().collect();
        let count_due = due.len();
        let missed: Vec<(Key, u8)> = due.into_iter().filter(|(key, _)| pooled(key)).collect();
        self.gone += (count_due - missed.len()) as u64;
        self.missed((height, missed), outlook, count, &pooled)
    }

    /// When gathered transactions are due, or waiting ones go to everybody unless something is decided before.
    pub fn deadline(&self) -> Option<Duration> {
        let stalled = self.stalled_at();
        self.gather_until.into_iter().chain(stalled).min()
    }

    fn stalled_at(&self) -> Option<Duration> {
        (!self.waiting.is_empty()).then(|| self.last_progress + self.broadcast_after())
    }

    /// Half as long again as usual: a block on its way is no sign that a proposer is gone, and what all nodes send to
    /// all then takes the bandwidth that the block needs.
    fn broadcast_after(&self) -> Duration {
        (self.usual * 3 / 2).clamp(BROADCAST_AFTER, BROADCAST_AFTER_MAX)
    }

    /// Nothing was proposed or decided for long: what waits longest and is still pooled goes to everybody.
    pub fn stalled(&mut self, now: Duration, members: usize, pooled: impl Fn(&Key) -> bool) -> Dispatch {
        let mut dispatch = Dispatch::default();
        if self.stalled_at().is_none_or(|at| now < at) {
            return dispatch;
        }
        self.last_progress = now;
        let most = (COPIES_STALLED_MAX / members.saturating_sub(1).max(1)).max(1);
        while let Some((height, keys)) = self.waiting.pop_first() {
            let mut keys = keys.into_iter().filter(|(key, _)| pooled(key));
            let room = most - dispatch.to_all.len();
            for (key, misses) in keys.by_ref().take(room) {
                self.tell_all(height, key, misses, &mut dispatch);
            }
            let rest: Vec<(Key, u8)> = keys.collect();
            if !rest.is_empty() {
                self.waiting.insert(height, rest);
                break;
            }
        }
        dispatch
    }

    /// Sends on what missed the block of `height` with `count` transactions, as far as this node's share of copies
    /// allows.
    fn missed(
        &mut self,
        (height, missed): (Height, Vec<(Key, u8)>),
        outlook: Outlook,
        count: usize,
        pooled: &dyn Fn(&Key) -> bool,
    ) -> Dispatch {
        let mut dispatch = Dispatch::default();
        let mut copies = COPIES_AGAIN_MIN.max(count / COPIES_AGAIN_PARTS / outlook.members.max(1));
        let (mut on, mut missed) = (Vec::new(), missed.into_iter());
        while copies > 0 {
            let Some((key, misses)) = missed.next() else { break };
            if !pooled(&key) {
                continue;
            }
            if misses % HEIGHTS_BEFORE_BROADCAST + 1 < HEIGHTS_BEFORE_BROADCAST {
                on.push((key, misses + 1));
                copies -= 1;
            } else {
                self.tell_all(height, key, misses, &mut dispatch);
                copies = copies.saturating_sub(outlook.members - 1);
            }
        }
        let next_turn = Height(height.0.saturating_add(outlook.members as u64));
        if missed.len() > 0 {
            self.waiting.entry(next_turn).or_default().extend(missed);
        }
        self.send(on, outlook, &mut dispatch);
        dispatch
    }

    /// Sends to everybody at `height` what missed so many blocks, and looks at it again later.
    fn tell_all(&mut self, height: Height, key: Key, misses: u8, dispatch: &mut Dispatch) {
        dispatch.to_all.push(key);
        if self.told_count == TOLD_MAX {
            return;
        }
        self.told_count += 1;
        let times = (misses / HEIGHTS_BEFORE_BROADCAST).min(DOUBLINGS_MAX);
        let again = Height(height.0.saturating_add(HEIGHTS_BEFORE_AGAIN << times));
        let misses = (times + 1) * HEIGHTS_BEFORE_BROADCAST;
        self.told.entry(again).or_default().push((key, misses));
    }

    fn send(&mut self, keys: Vec<(Key, u8)>, outlook: Outlook, dispatch: &mut Dispatch) {
        if keys.is_empty() {
            return;
        }
        let (target, height) = if outlook.proposed {
            (outlook.next, outlook.height.next())
        } else {
            (outlook.current, outlook.height)
        };
        let plain = keys.iter().map(|(key, _)| *key);
        dispatch.to.entry(target).or_default().extend(plain);
        self.waiting.entry(height).or_default().extend(keys);
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

    /// Four validators take turns; this node is one of them, or follows.
    fn outlook(height: u64, proposed: bool) -> Outlook {
        let seat = |height: u64| validator(u8::try_from(height % 4).unwrap());
        Outlook {
            now: Duration::ZERO,
            height: Height(height),
            proposed,
            closing: proposed,
            current: seat(height),
            next: seat(height + 1),
            own: None,
            members: 4,
        }
    }

    /// Accepts a transaction and sends it as soon as it may be sent.
    fn send(relay: &mut Relay, keys: &[Key], outlook: Outlook) -> Dispatch {
        relay.accepted(keys.iter().copied());
        let held = relay.dispatch(outlook);
        match relay.gather_until {
            Some(now) => relay.dispatch(Outlook { now, ..outlook }),
            None => held,
        }
    }

    fn to(validator: ValidatorId, keys: &[Key]) -> BTreeMap<ValidatorId, Vec<Key>> {
        BTreeMap::from([(validator, keys.to_vec())])
    }

    #[test]
    fn a_closed_block_leaves_only_the_next_proposer() {
        let mut relay = Relay::default();
        let dispatch = send(&mut relay, &[key(1)], outlook(5, true));
        assert_eq!(dispatch.to, to(validator(2), &[key(1)]));
        let again = relay.dispatch(outlook(5, true));
        assert!(again.to.is_empty(), "sent once");
    }

    #[test]
    fn an_open_block_is_tried_first() {
        let mut relay = Relay::default();
        let dispatch = send(&mut relay, &[key(1)], outlook(5, false));
        assert_eq!(dispatch.to, to(validator(1), &[key(1)]));
        let missed = relay.proposed(outlook(5, true), 9, |_| false, |_| true);
        assert_eq!(missed.to, to(validator(2), &[key(1)]), "it came too late");
    }

    #[test]
    fn while_the_block_is_closed_transactions_are_gathered() {
        let mut relay = Relay::default();
        let at = |ms, closing| Outlook {
            now: Duration::from_millis(ms),
            closing,
            ..outlook(5, true)
        };
        relay.accepted([key(1)]);
        assert_eq!(
            relay.dispatch(at(100, false)).to,
            to(validator(2), &[key(1)]),
            "at once"
        );
        relay.accepted([key(2)]);
        assert_eq!(relay.dispatch(at(100, false)), Dispatch::default());
        assert_eq!(relay.deadline(), Some(Duration::from_millis(102)));
        relay.accepted([key(3)]);
        assert_eq!(relay.dispatch(at(101, false)), Dispatch::default());
        let closing = relay.dispatch(at(101, true));
        assert_eq!(
            closing.to,
            to(validator(2), &[key(2), key(3)]),
            "the next block is near"
        );
        assert_eq!(relay.deadline(), Some(Duration::from_millis(100) + BROADCAST_AFTER));
    }

    #[test]
    fn a_proposal_without_it_sends_a_transaction_on_and_the_third_to_everybody_once() {
        let mut relay = Relay::default();
        send(&mut relay, &[key(1), key(2)], outlook(5, true));
        let inside = |k: &Key| *k == key(2);
        let early = relay.proposed(outlook(5, true), 9, inside, |_| true);
        assert_eq!(early, Dispatch::default(), "its height is 6");
        for (height, target) in [(6, 3), (7, 0)] {
            let missed = relay.proposed(outlook(height, true), 9, inside, |_| true);
            assert_eq!(missed.to, to(validator(target), &[key(1)]));
        }
        assert_eq!(relay.proposed(outlook(8, true), 9, inside, |_| true).to_all, [key(1)]);
        let gone = relay.decided(Height(8), 9, outlook(9, false), |_| false);
        assert_eq!((gone, relay.deadline()), (Dispatch::default(), None));
    }

    #[test]
    fn what_went_to_everybody_and_still_waits_long_after_goes_out_again() {
        let mut relay = Relay::default();
        send(&mut relay, &[key(1)], outlook(5, true));
        for height in 6..=8 {
            relay.proposed(outlook(height, true), 9, |_| false, |_| true);
        }
        for height in 8..8 + HEIGHTS_BEFORE_AGAIN {
            let quiet = relay.decided(Height(height), 9, outlook(height + 1, false), |_| true);
            assert_eq!(quiet, Dispatch::default(), "height {height}");
        }
        assert_eq!(relay.deadline(), None, "nobody waits for it");
        let again = relay.decided(Height(24), 9, outlook(25, false), |_| true);
        assert_eq!(again.to, to(validator(1), &[key(1)]));
        // Two proposers more did not take it; the next time is twice as far.
        for height in 25..=26 {
            relay.proposed(outlook(height, true), 9, |_| false, |_| true);
        }
        for height in 26..26 + 32 {
            let quiet = relay.decided(Height(height), 9, outlook(height + 1, false), |_| true);
            assert_eq!(quiet, Dispatch::default(), "height {height}");
        }
        let third = relay.decided(Height(58), 9, outlook(59, false), |_| true);
        assert_eq!(third.to, to(validator(3), &[key(1)]));
    }

    #[test]
    fn of_what_went_to_everybody_a_bounded_number_is_remembered() {
        let mut relay = Relay::default();
        let many = u32::try_from(TOLD_MAX).unwrap() + 1000;
        let many: Vec<Key> = (0..many)
            .map(|n| (RollupId(901), B256::left_padding_from(&n.to_be_bytes())))
            .collect();
        send(&mut relay, &many, outlook(5, true));
        let mut second = 0;
        while relay.waiting() > 0 {
            second += 1;
            relay.stalled(Duration::from_secs(second), 2, |_| true);
        }
        assert_eq!((relay.waiting(), relay.told()), (0, TOLD_MAX));
        // Decided meanwhile: all are forgotten, and there is room again.
        relay.decided(Height(9999), 9, outlook(10_000, false), |_| false);
        assert_eq!((relay.waiting(), relay.told(), relay.told_count), (0, 0, 0));
    }

    #[test]
    fn a_transaction_of_a_proposal_that_was_not_decided_goes_on() {
        let mut relay = Relay::default();
        send(&mut relay, &[key(1)], outlook(5, true));
        assert_eq!(
            relay.proposed(outlook(6, true), 1, |_| true, |_| true),
            Dispatch::default()
        );
        let missed = relay.decided(Height(6), 0, outlook(7, true), |_| true);
        assert_eq!(missed.to, to(validator(0), &[key(1)]));
    }

    #[test]
    fn what_is_sent_again_for_a_height_is_a_share_of_its_block() {
        let many: Vec<Key> = (0..1000_u32)
            .map(|n| (RollupId(901), B256::left_padding_from(&n.to_be_bytes())))
            .collect();
        let sent = |count| {
            let mut relay = Relay::default();
            send(&mut relay, &many, outlook(5, true));
            let missed = relay.proposed(outlook(6, true), count, |_| false, |_| true);
            let first = missed.to[&validator(3)].len();
            let second = relay.proposed(outlook(10, true), count, |_| false, |_| true);
            (first, second.to[&validator(3)].len())
        };
        assert_eq!(
            sent(4800),
            (300, 300),
            "a quarter of a quarter now, the next at its proposer's next turn"
        );
        assert_eq!(sent(0), (256, 256));
    }

    #[test]
    fn a_stall_does_not_flood_the_network_however_much_waits() {
        let many: Vec<Key> = (0..5000_u32)
            .map(|n| (RollupId(901), B256::left_padding_from(&n.to_be_bytes())))
            .collect();
        for members in [2, 4, 100] {
            let mut relay = Relay::default();
            send(&mut relay, &many, outlook(5, true));
            let mut sent = Vec::new();
            for second in 1..=3 {
                let keys = relay.stalled(Duration::from_secs(second), members, |_| true).to_all;
                assert!(!keys.is_empty() && keys.len() * (members - 1) <= COPIES_STALLED_MAX);
                sent.extend(keys);
            }
            assert_eq!(sent, many[..sent.len()], "oldest first, none twice");
        }
    }

    #[test]
    fn where_blocks_take_long_their_time_is_no_stall() {
        let mut relay = Relay::default();
        let at = |height: u64, ms| Outlook {
            now: Duration::from_millis(ms),
            ..outlook(height, true)
        };
        // 300 ms a block, as around the world; in each one something waits for the next.
        for height in 1..=40 {
            let now = height * 300;
            send(&mut relay, &[key(1)], at(height, now));
            let moved = relay.decided(Height(height), 9, at(height, now + 299), |_| false);
            assert_eq!(moved, Dispatch::default());
        }
        let last = Duration::from_millis(40 * 300 + 299);
        let patience = |relay: &Relay| (relay.deadline().unwrap() - last).as_millis();
        assert!((420..=450).contains(&patience(&relay)), "{}", patience(&relay));
        assert!(
            !relay
                .stalled(last + Duration::from_millis(451), 4, |_| true)
                .to_all
                .is_empty()
        );
        // However long it takes, it is not waited for longer than a second.
        send(&mut relay, &[key(2)], at(41, 60_000));
        relay.decided(Height(40), 9, at(41, 90_000), |_| true);
        let now = Duration::from_secs(90);
        assert_eq!(relay.deadline(), Some(now + BROADCAST_AFTER_MAX));
    }

    #[test]
    fn a_proposal_is_progress_as_a_decision_is() {
        let mut relay = Relay::default();
        send(&mut relay, &[key(1)], outlook(5, true));
        let now = Duration::from_millis(200);
        relay.proposed(
            Outlook {
                now,
                ..outlook(6, true)
            },
            1,
            |_| true,
            |_| true,
        );
        assert_eq!(relay.deadline(), Some(now + BROADCAST_AFTER));
        assert_eq!(
            relay.stalled(Duration::from_millis(449), 4, |_| true),
            Dispatch::default()
        );
        assert_eq!(relay.stalled(Duration::from_millis(450), 4, |_| true).to_all, [key(1)]);
    }

    #[test]
    fn a_stalled_chain_sends_everything_to_everybody() {
        let mut relay = Relay::default();
        send(&mut relay, &[key(1)], outlook(5, true));
        assert!(relay.stalled(Duration::from_millis(249), 4, |_| true).to_all.is_empty());
        assert_eq!(relay.stalled(Duration::from_secs(1), 4, |_| true).to_all, [key(1)]);
        let again = relay.stalled(Duration::from_secs(9), 4, |_| true);
        assert!(again.to_all.is_empty(), "once");
    }
}
