//! *Nonces in order*, checked from payloads alone: RLP is read here again, and a signer is known by the `r` of its
//! idealised signature. `mempool/src/lib.rs` says what is promised; nobody executes here, so an order over blocks is
//! not part of it.
//!
//! - Within a lane of an honest proposer a sender's nonces ascend, and none is left out but what the stream carried
//!   before. In a `priority` lane they ascend whoever proposed, and the highest tip among the senders' next ones comes
//!   first: that is validity.
//! - A node does not take another transaction of a nonce of which it took the last and saw it carried, and while one
//!   waits it takes another only for a tenth more on both fees.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, Bytes, keccak256};

/// What a payload says.
#[derive(Debug, Clone, Copy)]
struct Said {
    sender: Address,
    nonce: u64,
    max_fee: u128,
    tip: u128,
}

/// Rollup, sender and nonce.
type Number = (u64, Address, u64);

/// What a node took last of a nonce.
#[derive(Debug, Clone, Copy)]
struct Taken {
    hash: B256,
    said: Said,
}

/// What one process knows of nonces, as far as it shows.
#[derive(Debug, Default)]
struct Life {
    /// What waits with it, unless others' transactions of the same nonce took its place.
    taken: BTreeMap<Number, Taken>,
    /// All that it ever took.
    ever: BTreeSet<Number>,
    /// The last unbroken run of nonces, `first..next`, that it took and saw carried.
    runs: BTreeMap<(u64, Address), (u64, u64)>,
}

/// The nonces of every stream, and what nodes took of them.
#[derive(Debug)]
pub(crate) struct Nonces {
    /// The `evm` rollups, and whether their lanes are ordered by tip.
    rollups: BTreeMap<u64, bool>,
    /// Whether pools are so small that they let transactions go for dearer ones.
    lets_go: bool,
    carried: BTreeMap<(u64, Address), BTreeSet<u64>>,
    /// What a rollup that skips numbers out of turn has executed: each account's next number.
    accounts: BTreeMap<(u64, Address), u64>,
    /// Different transactions that users made of a nonce.
    made: BTreeMap<Number, BTreeSet<B256>>,
    lives: Vec<Life>,
}

impl Nonces {
    /// Nothing carried yet; `lets_go` says whether pools let transactions go for dearer ones.
    pub(crate) fn new(rollups: BTreeMap<u64, bool>, lets_go: bool, nodes: usize) -> Self {
        let mut lives = Vec::new();
        lives.resize_with(nodes, Life::default);
        Self {
            rollups,
            lets_go,
            carried: BTreeMap::new(),
            accounts: BTreeMap::new(),
            made: BTreeMap::new(),
            lives,
        }
    }

    /// An account whose next number is `next`.
    pub(crate) fn open(&mut self, rollup: u64, sender: Address, next: u64) {
        self.accounts.insert((rollup, sender), next);
    }

    /// The next number of an account, after what the stream carried so far.
    pub(crate) fn next(&self, rollup: u64, sender: Address) -> u64 {
        self.accounts.get(&(rollup, sender)).copied().unwrap_or(0)
    }

    /// Whether a rollup's stream carried a nonce of a sender, in turn or not.
    pub(crate) fn is_carried(&self, rollup: u64, sender: Address, nonce: u64) -> bool {
        let carried = self.carried.get(&(rollup, sender));
        carried.is_some_and(|nonces| nonces.contains(&nonce))
    }

    /// A user made a transaction.
    pub(crate) fn made(&mut self, rollup: u64, payload: &Bytes) {
        if let Some(said) = read(payload) {
            let number = (rollup, said.sender, said.nonce);
            self.made.entry(number).or_default().insert(keccak256(payload));
        }
    }

    /// A lane is decided. Says what is wrong with it.
    pub(super) fn lane(&mut self, rollup: u64, by_honest: bool, payloads: &[Bytes]) -> Result<(), String> {
        let Some(by_tip) = self.rollups.get(&rollup).copied() else {
            return Ok(());
        };
        let said: Option<Vec<Said>> = payloads.iter().map(|payload| read(payload)).collect();
        let Some(said) = said else {
            return if by_honest {
                Err("junk is ordered".into())
            } else {
                Ok(())
            };
        };
        let mut last: BTreeMap<Address, u64> = BTreeMap::new();
        for Said { sender, nonce, .. } in &said {
            let Some(before) = last.insert(*sender, *nonce) else {
                continue;
            };
            if *nonce <= before && (by_honest || by_tip) {
                return Err(format!("nonce {nonce} of {sender} stands behind {before}"));
            }
            let missing = (before + 1..*nonce).find(|missing| !self.is_carried(rollup, *sender, *missing));
            if let Some(missing) = missing.filter(|_| by_honest) {
                return Err(format!(
                    "nonce {nonce} of {sender} stands behind {before}, {missing} is missing"
                ));
            }
        }
        if by_tip {
            best_first(&said)?;
        }
        for Said { sender, nonce, .. } in said {
            self.carried.entry((rollup, sender)).or_default().insert(nonce);
            if let Some(next) = self.accounts.get_mut(&(rollup, sender)).filter(|next| **next == nonce) {
                *next += 1;
            }
        }
        Ok(())
    }

    /// A node took a user's transaction. Says why it must not have.
    pub(super) fn took(&mut self, node: usize, rollup: u64, payload: &Bytes) -> Result<(), String> {
        let Some(said) = read(payload).filter(|_| self.rollups.contains_key(&rollup)) else {
            return Ok(());
        };
        let (sender, nonce) = (said.sender, said.nonce);
        let life = &mut self.lives[node];
        let run = life.runs.get(&(rollup, sender)).filter(|_| !self.lets_go);
        if let Some((first, next)) = run.filter(|(first, next)| (*first..*next).contains(&nonce)) {
            return Err(format!(
                "node {node} takes nonce {nonce} of {sender} after it saw {first} to {next} carried"
            ));
        }
        let hash = keccak256(payload);
        life.ever.insert((rollup, sender, nonce));
        let before = life.taken.insert((rollup, sender, nonce), Taken { hash, said });
        let cheap = |now: u128, before: u128| now * 10 < before * 11;
        // A third one may have come from a member and taken the place of the first: what only a member says to be the
        // sender's gives way to whatever is really signed.
        let others = self.made.get(&(rollup, sender, nonce)).map_or(0, BTreeSet::len) > 2;
        match before.map(|before| before.said).filter(|_| !self.lets_go && !others) {
            Some(before) if cheap(said.max_fee, before.max_fee) || cheap(said.tip, before.tip) => Err(format!(
                "node {node} takes nonce {nonce} of {sender} for {} and {}, after one for {} and {}",
                said.max_fee, said.tip, before.max_fee, before.tip
            )),
            _ => Ok(()),
        }
    }

    /// A node published a lane: what it took of these nonces no longer waits.
    pub(super) fn published(&mut self, node: usize, rollup: u64, payloads: &[Bytes]) {
        if !self.rollups.contains_key(&rollup) {
            return;
        }
        let life = &mut self.lives[node];
        for payload in payloads {
            let Some(Said { sender, nonce, .. }) = read(payload) else {
                continue;
            };
            let number = (rollup, sender, nonce);
            let taken = life.taken.remove(&number);
            if !life.ever.contains(&number) {
                continue;
            }
            // Of several transactions of one nonce this node may hold another than it took.
            let is_same = taken.is_some_and(|taken| taken.hash == keccak256(payload));
            let is_sure = is_same && self.made.get(&number).is_some_and(|made| made.len() == 1);
            let run = life.runs.remove(&(rollup, sender));
            if is_sure {
                let first = run.filter(|(_, next)| *next == nonce).map_or(nonce, |(first, _)| first);
                life.runs.insert((rollup, sender), (first, nonce + 1));
            }
        }
    }

    /// A process ended, and what it knew of nonces with it.
    pub(super) fn forgot(&mut self, node: usize) {
        self.lives[node] = Life::default();
    }
}

/// Whether each transaction pays at least as much as whatever else could stand in its place.
fn best_first(said: &[Said]) -> Result<(), String> {
    for (at, one) in said.iter().enumerate() {
        let mut seen = BTreeSet::new();
        for other in &said[at..] {
            if seen.insert(other.sender) && one.tip.min(one.max_fee) < other.tip.min(other.max_fee) {
                return Err(format!(
                    "nonce {} of {}, which pays {}, stands before nonce {} of {}, which pays {}",
                    one.nonce, one.sender, one.tip, other.nonce, other.sender, other.tip
                ));
            }
        }
    }
    Ok(())
}

/// Reads a legacy transaction (nine items, the first three nonce, price, gas) or one of type 2 (twelve: chain, nonce,
/// tip, fee, gas, ...); both end with `r` and `s`.
fn read(payload: &[u8]) -> Option<Said> {
    let (first, rest) = payload.split_first()?;
    let is_legacy = *first >= 0xc0;
    let (list, end) = item(if is_legacy { payload } else { rest })?;
    let mut items = Vec::with_capacity(12);
    let mut left = list;
    while !left.is_empty() {
        let (content, after) = item(left)?;
        items.push(content);
        left = after;
    }
    let wanted = if is_legacy { 9 } else { 12 };
    if items.len() != wanted || !end.is_empty() || !is_legacy && *first != 2 {
        return None;
    }
    let [nonce, tip, max_fee] = if is_legacy { [0, 1, 1] } else { [1, 2, 3] };
    Some(Said {
        sender: Address::try_from(items[wanted - 2]).ok()?,
        nonce: u64::try_from(number(items[nonce])?).ok()?,
        max_fee: number(items[max_fee])?,
        tip: number(items[tip])?,
    })
}

/// The content of the first RLP item, and what is behind it. Lengths of lengths above two do not occur here.
fn item(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = usize::from(*bytes.first()?);
    let (start, length) = match first {
        0..=0x7f => (0, 1),
        0x80..=0xb7 => (1, first - 0x80),
        0xb8..=0xb9 => long(bytes, first - 0xb7)?,
        0xc0..=0xf7 => (1, first - 0xc0),
        0xf8..=0xf9 => long(bytes, first - 0xf7)?,
        _ => return None,
    };
    Some((bytes.get(start..start + length)?, bytes.get(start + length..)?))
}

/// Where the content starts, and how long it is, when `count` bytes say its length.
fn long(bytes: &[u8], count: usize) -> Option<(usize, usize)> {
    let length = number(bytes.get(1..=count)?)?;
    Some((1 + count, usize::try_from(length).ok()?))
}

fn number(bytes: &[u8]) -> Option<u128> {
    let sum = |sum: u128, byte: &u8| sum << 8 | u128::from(*byte);
    (bytes.len() <= 16).then(|| bytes.iter().fold(0, sum))
}

#[cfg(test)]
mod tests {
    use fusion_types::RollupId;

    use super::*;
    use crate::evm::{Draft, address};

    fn payload(user: u64, nonce: u64, fee: u128) -> Bytes {
        let draft = Draft {
            rollup: RollupId(10),
            sender: address(user),
            nonce,
            max_fee: fee,
            tip: Some(fee),
        };
        draft.sign()
    }

    fn nonces() -> Nonces {
        Nonces::new(BTreeMap::from([(9, false), (10, true)]), false, 1)
    }

    #[test]
    fn both_kinds_are_read() {
        for tip in [None, Some(7)] {
            let draft = Draft {
                rollup: RollupId(10),
                sender: address(1),
                nonce: 1 << 40,
                max_fee: 1 << 70,
                tip,
            };
            let said = read(&draft.sign()).unwrap();
            assert_eq!((said.sender, said.nonce), (address(1), 1 << 40));
            assert_eq!((said.max_fee, said.tip), (1 << 70, tip.unwrap_or(1 << 70)));
        }
        assert!(read(b"no transaction").is_none());
    }

    #[test]
    fn gaps_repeats_and_tips_out_of_order_are_seen() {
        let lane = |payloads: &[Bytes], by_honest| nonces().lane(10, by_honest, payloads);
        assert!(lane(&[payload(1, 4, 9), payload(1, 5, 9), payload(2, 0, 9)], true).is_ok());
        assert!(lane(&[payload(1, 5, 9), payload(1, 4, 9)], false).is_err());
        assert!(lane(&[payload(1, 4, 9), payload(1, 4, 8)], false).is_err());
        assert!(lane(&[payload(1, 4, 9), payload(1, 6, 9)], true).is_err());
        assert!(lane(&[payload(1, 4, 8), payload(2, 6, 9)], false).is_err());
        assert!(
            lane(&[payload(1, 4, 8), payload(1, 5, 9)], false).is_ok(),
            "its own nonce is before it"
        );
    }

    #[test]
    fn a_node_that_takes_too_little_or_what_is_carried_is_seen() {
        let mut nonces = nonces();
        let (first, second) = (payload(1, 4, 100), payload(1, 4, 109));
        nonces.made(10, &first);
        assert!(nonces.took(0, 10, &first).is_ok());
        assert!(nonces.took(0, 10, &second).is_err());
        nonces.forgot(0);
        assert!(nonces.took(0, 10, &first).is_ok(), "another life");
        nonces.published(0, 10, std::slice::from_ref(&first));
        assert!(nonces.took(0, 10, &payload(1, 4, 900)).is_err());
    }
}
