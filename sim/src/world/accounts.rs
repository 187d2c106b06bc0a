//! Users of `evm` rollups: their transactions have numbers, which they send in order and out of order, leave out and
//! fill in later, send to several nodes, and replace.
//!
//! Every number that a user signed must stand in the stream in the end. A rollup skips one that stands there before its
//! turn, and its user signs another transaction of it; whether nodes still take that is not promised: those that saw the
//! first one, and not what came after it, take the number for used.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::{Address, Bytes};
use fusion_mempool::Reject;
use fusion_sequencer::core::{Event, RequestId};
use fusion_sequencer::ingress;
use fusion_types::{RollupId, transaction_hash};

use super::{EVM_ROLLUPS, World};
use crate::checker::Nonces;
use crate::evm::{self, Draft};
use crate::faults::Fault;
use crate::rng::Rng;

/// A user sends again, elsewhere, what is not in the stream after this.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Accounts of each rollup.
const ACCOUNTS: u64 = 2;

/// A user with so much under way waits.
const UNDER_WAY_MAX: usize = 12;

/// More than a node takes of one sender.
const HOARD: u64 = 70;

/// The requests of these users have numbers from here on.
const FIRST_REQUEST: u64 = 1 << 32;

/// A number that is not executed yet.
#[derive(Debug)]
struct Pending {
    /// What was signed, the dearest last.
    versions: Vec<Draft>,
    /// Where one was sent last, and when.
    node: usize,
    at: Duration,
}

/// One user.
#[derive(Debug)]
struct Account {
    rollup: RollupId,
    address: Address,
    /// The node that it uses.
    home: usize,
    next: u64,
    pending: BTreeMap<u64, Pending>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Accounts {
    rng: Rng,
    accounts: Vec<Account>,
    /// What was submitted and is not answered.
    asked: BTreeMap<u64, (RollupId, Vec<Bytes>)>,
    requests: u64,
    hoards: u64,
}

impl Accounts {
    /// Users with numbers of their own to begin with, each at one of `nodes`.
    pub(super) fn new(mut rng: Rng, nodes: usize) -> Self {
        evm::idealise();
        let all = EVM_ROLLUPS
            .iter()
            .flat_map(|(rollup, _)| (0..ACCOUNTS).map(|at| (*rollup, at)));
        let account = |(rollup, at): (u64, u64)| Account {
            rollup: RollupId(rollup),
            address: evm::address(at),
            home: rng.index(nodes),
            next: if rng.chance(500) { 0 } else { rng.below(1_000) },
            pending: BTreeMap::new(),
        };
        let accounts = all.map(account).collect();
        Self {
            rng,
            accounts,
            asked: BTreeMap::new(),
            requests: FIRST_REQUEST,
            hoards: 0,
        }
    }

    /// The accounts, and the next number of each.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, Address, u64)> {
        let accounts = self.accounts.iter();
        accounts.map(|account| (account.rollup.0, account.address, account.next))
    }

    /// Numbers that are in no stream.
    pub(super) fn unserved(&self, nonces: &Nonces) -> usize {
        let missing = |account: &Account| {
            let carried = |nonce: &&u64| nonces.is_carried(account.rollup.0, account.address, **nonce);
            account.pending.keys().filter(|nonce| !carried(nonce)).count()
        };
        self.accounts.iter().map(missing).sum()
    }

    /// Signs the next number of a user, for a fee of about a thousand.
    fn sign_next(&mut self, at: usize, now: Duration) -> Draft {
        let account = &mut self.accounts[at];
        let max_fee = u128::from(self.rng.between(500, 2_000));
        let draft = Draft {
            rollup: account.rollup,
            sender: account.address,
            nonce: account.next,
            max_fee,
            tip: (!self.rng.chance(200)).then_some(max_fee / 4),
        };
        account.next += 1;
        let pending = Pending {
            versions: vec![draft],
            node: account.home,
            at: now,
        };
        account.pending.insert(draft.nonce, pending);
        draft
    }

    /// Any of a user's pending numbers.
    fn any_pending(&mut self, at: usize) -> Option<u64> {
        let numbers: Vec<u64> = self.accounts[at].pending.keys().copied().collect();
        (!numbers.is_empty()).then(|| numbers[self.rng.index(numbers.len())])
    }

    /// Signs another transaction of a pending number, for `percent` of the dearest one's fees.
    fn sign_again(&mut self, at: usize, nonce: u64, percent: u128) -> Option<(usize, Draft)> {
        let pending = self.accounts[at].pending.get_mut(&nonce)?;
        let dearest = pending.versions.last()?;
        let share = |fee: u128| fee * percent / 100;
        let draft = Draft {
            max_fee: share(dearest.max_fee),
            tip: dearest.tip.map(share),
            ..*dearest
        };
        let place = if percent > 100 { pending.versions.len() } else { 0 };
        pending.versions.insert(place, draft);
        Some((pending.node, draft))
    }
}

impl World {
    /// A user does something.
    pub(super) fn use_account(&mut self) {
        let nodes = self.plan.nodes;
        let now = self.now;
        let users = &mut self.accounts;
        let at = users.rng.index(users.accounts.len());
        let account = &users.accounts[at];
        let home = account.home;
        let node = if users.rng.chance(700) {
            home
        } else {
            users.rng.index(nodes)
        };
        let is_busy = account.pending.len() >= UNDER_WAY_MAX;
        let pending = users.any_pending(at);
        match (users.rng.below(10), pending) {
            (4..=5, Some(nonce)) => self.replace(at, nonce),
            (6, Some(nonce)) => {
                if let Some((node, draft)) = users.sign_again(at, nonce, 100 - u128::from(nonce % 50)) {
                    self.hand_in_drafts(node, &[draft]);
                }
            }
            (7, Some(nonce)) => {
                let draft = users.accounts[at].pending[&nonce].versions.last().copied();
                for node in 0..nodes.min(4) {
                    self.hand_in_drafts(node, draft.as_slice());
                }
            }
            (8, _) => self.send_stale(at),
            _ if is_busy => {}
            (0..=1, _) => self.send_some(at, node),
            (2, _) => {
                // The one between is left out, and filled in when patience is over.
                users.sign_next(at, now);
                let draft = users.sign_next(at, now);
                self.faults.count(Fault::NonceGap);
                self.hand_in_drafts(node, &[draft]);
            }
            (9, _) if self.plan.hoards && users.hoards < 2 => self.hoard(node),
            _ => {
                let draft = users.sign_next(at, now);
                self.hand_in_drafts(node, &[draft]);
            }
        }
    }

    /// Two to four numbers at once, in order or not.
    fn send_some(&mut self, at: usize, node: usize) {
        let now = self.now;
        let users = &mut self.accounts;
        let count = users.rng.between(2, 4);
        let mut drafts: Vec<Draft> = (0..count).map(|_| users.sign_next(at, now)).collect();
        match users.rng.below(3) {
            0 => drafts.reverse(),
            1 => drafts.rotate_left(1),
            _ => {}
        }
        self.hand_in_drafts(node, &drafts);
    }

    /// The same number for more, where it waits or elsewhere.
    fn replace(&mut self, at: usize, nonce: u64) {
        let users = &mut self.accounts;
        let percent = u128::from(users.rng.between(105, 150));
        let elsewhere = users.rng.chance(300).then(|| users.rng.index(self.plan.nodes));
        if let Some((node, draft)) = users.sign_again(at, nonce, percent) {
            self.faults.count(Fault::Replacement);
            self.hand_in_drafts(elsewhere.unwrap_or(node), &[draft]);
        }
    }

    /// Another transaction of a number that is executed.
    fn send_stale(&mut self, at: usize) {
        let account = &self.accounts.accounts[at];
        let last = account
            .next
            .checked_sub(1)
            .filter(|last| !account.pending.contains_key(last));
        let draft = last.map(|nonce| Draft {
            rollup: account.rollup,
            sender: account.address,
            nonce,
            max_fee: 5_000,
            tip: Some(5_000),
        });
        let home = account.home;
        self.hand_in_drafts(home, draft.as_slice());
    }

    /// More at once than a node takes of one sender; nobody cares what becomes of it.
    fn hoard(&mut self, node: usize) {
        self.faults.count(Fault::Hoard);
        self.accounts.hoards += 1;
        let (rollup, _) = EVM_ROLLUPS[self.accounts.rng.index(EVM_ROLLUPS.len())];
        let sender = evm::address(1_000 + self.accounts.hoards);
        let draft = |nonce: u64| Draft {
            rollup: RollupId(rollup),
            sender,
            nonce,
            max_fee: 1_000,
            tip: Some(100),
        };
        let drafts: Vec<Draft> = (0..HOARD).map(draft).collect();
        self.hand_in_drafts(node, &drafts);
    }

    /// Submits in one request what is of one rollup.
    fn hand_in_drafts(&mut self, node: usize, drafts: &[Draft]) {
        let Some(rollup) = drafts.first().map(|draft| draft.rollup) else {
            return;
        };
        let Some(config) = self.genesis.rollup(rollup) else {
            return;
        };
        let mut payloads = Vec::with_capacity(drafts.len());
        let mut transactions = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let payload = draft.sign();
            self.checker.nonces.made(rollup.0, &payload);
            match ingress::admit(config, payload.clone()) {
                Ok(transaction) => transactions.push(transaction),
                Err(reject) => self
                    .checker
                    .fail("liveness", format!("ingress refuses {draft:?}: {reject}")),
            }
            payloads.push(payload);
        }
        self.trace.tell(self.now, || {
            let nonces: Vec<u64> = drafts.iter().map(|draft| draft.nonce).collect();
            format!("a user submits {nonces:?} of {} to {node}", drafts[0].sender)
        });
        let users = &mut self.accounts;
        users.requests += 1;
        let request = RequestId(users.requests);
        users.asked.insert(request.0, (rollup, payloads));
        self.tell(node, Event::Submitted { request, transactions });
    }

    /// A node answered one of these users.
    pub(super) fn answered(&mut self, node: usize, request: RequestId, outcomes: &[Result<(), Reject>]) {
        let Some((rollup, payloads)) = self.accounts.asked.remove(&request.0) else {
            return;
        };
        for (payload, outcome) in payloads.iter().zip(outcomes) {
            if let Err(reject) = outcome {
                self.trace.tell(self.now, || format!("{node}: refuses: {reject}"));
            }
            match outcome {
                Ok(()) if self.nodes[node].traitor.is_none() => self.checker.took(node, rollup.0, payload),
                Err(Reject::NonceTooLow { .. }) => self.faults.count(Fault::NonceTooLow),
                Err(Reject::ReplacementUnderpriced { .. }) => self.faults.count(Fault::Underpriced),
                Err(Reject::SenderFull { .. } | Reject::NonceGap { .. }) => self.faults.count(Fault::SenderFull),
                _ => {}
            }
        }
    }

    /// Users look what is executed, and send again, in order and elsewhere, what has not been for long; what the
    /// stream carried out of turn they sign anew.
    pub(super) fn serve_accounts(&mut self) {
        let now = self.now;
        for at in 0..self.accounts.accounts.len() {
            let account = &mut self.accounts.accounts[at];
            let rollup = account.rollup.0;
            let next = self.checker.nonces.next(rollup, account.address);
            account.pending = account.pending.split_off(&next);
            if !account.pending.values().any(|pending| pending.at + PATIENCE < now) {
                continue;
            }
            let node = self.accounts.rng.index(self.plan.nodes);
            account.home = node;
            let nonces: Vec<u64> = account.pending.keys().copied().collect();
            let mut again = Vec::with_capacity(nonces.len());
            for nonce in nonces {
                let Some(pending) = self.accounts.accounts[at].pending.get_mut(&nonce) else {
                    continue;
                };
                (pending.node, pending.at) = (node, now);
                let dearest = pending.versions.last().copied();
                let is_carried = |draft: &Draft| {
                    let hash = transaction_hash(&draft.sign());
                    self.checker.place(rollup, &hash).is_some()
                };
                again.extend(match dearest.filter(is_carried) {
                    Some(_) => self.accounts.sign_again(at, nonce, 125).map(|(_, draft)| draft),
                    None => dearest,
                });
            }
            self.faults.count(Fault::Resubmitted);
            self.hand_in_drafts(node, &again);
        }
    }
}
