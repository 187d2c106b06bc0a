//! Two posters on a small L1 that does everything that L1s and their nodes do, under a plan that proptest draws.
//!
//! The L1 includes, forgets, reorganises with and without giving transactions back, changes its fees, loses answers, and says "nonce
//! too low" to what it takes, and shows views that mix two blocks. Posters are killed before any order is carried out and after it, and come back with what they
//! recorded. The checks know nothing of the poster's rules: they look at the chain, at the sends and at the records.

use std::collections::{BTreeMap, VecDeque};

use alloy_primitives::Bytes;
use proptest::prelude::*;

use super::*;
use crate::l1::Fees;
use crate::poster::fees::PostFees;

const GWEI: u128 = 1_000_000_000;
const BATCHES: u64 = 6;
const POSTERS: usize = 2;
/// Blocks that can be dropped, and below which a block is finalized.
const DEPTH: usize = 64;

/// What happens next.
#[derive(Debug, Clone)]
enum Event {
    /// A poster's next order is carried out, or it is told that time has passed.
    Run(usize),
    /// The same, and the answer is lost with the poster.
    CrashAfter(usize),
    /// A poster is killed with all its waiting orders.
    Crash(usize),
    /// A block of what is in the pool; of one poster's only, or of nobody's.
    Mine {
        takes: [bool; POSTERS],
        is_reversed: bool,
    },
    Reorg {
        depth: usize,
        gives_back: bool,
    },
    /// The pool forgets.
    Forget,
    Fees {
        base: u32,
        blob: u32,
    },
    Wait {
        ms: u32,
    },
    /// The next answer to a send is "nonce too low", whatever happened.
    Lie,
    /// The next views are of two blocks: the inbox or the account as some blocks ago, and no receipt is found.
    Mix {
        views: u32,
        blocks: usize,
        is_inbox_old: bool,
    },
}

/// Anything, reorgs only if wanted.
fn event(reorgs: bool) -> impl Strategy<Value = Event> {
    prop_oneof![
        30 => (0..POSTERS).prop_map(Event::Run),
        1 => (0..POSTERS).prop_map(Event::CrashAfter),
        1 => (0..POSTERS).prop_map(Event::Crash),
        6 => (any::<[bool; POSTERS]>(), any::<bool>())
            .prop_map(|(takes, is_reversed)| Event::Mine { takes, is_reversed }),
        u32::from(reorgs) => (1..DEPTH, any::<bool>()).prop_map(|(depth, gives_back)| Event::Reorg { depth, gives_back }),
        1 => Just(Event::Forget),
        2 => (1..50_u32, 1..50_u32).prop_map(|(base, blob)| Event::Fees { base, blob }),
        3 => (0..80_000_u32).prop_map(|ms| Event::Wait { ms }),
        1 => Just(Event::Lie),
        2 => (1..6_u32, 1..4_usize, any::<bool>())
            .prop_map(|(views, blocks, is_inbox_old)| Event::Mix { views, blocks, is_inbox_old }),
    ]
}

/// A transaction of the model: who sent it, and whether it posted.
#[derive(Debug, Clone, Copy)]
struct Included {
    poster: usize,
    attempt: Attempt,
    is_posted: bool,
}

#[derive(Debug, Default)]
struct Model {
    blocks: Vec<Vec<Included>>,
    /// The highest length of the chain whose blocks are final.
    finalized: usize,
    pool: [BTreeMap<u64, Attempt>; POSTERS],
    base_fee: u128,
    blob_fee: u128,
    lies: bool,
    /// For how many views, how many blocks, and whether it is the inbox that is old.
    mixes: (u32, usize, bool),
}

impl Model {
    /// The inbox's next number and the posters' next nonces after the first blocks of the chain.
    fn state(&self, blocks: usize) -> (u64, [u64; POSTERS]) {
        let mut state = (0, [0; POSTERS]);
        for included in self.blocks[..blocks].iter().flatten() {
            state.0 += u64::from(included.is_posted);
            state.1[included.poster] += 1;
        }
        state
    }

    fn mine(&mut self, takes: [bool; POSTERS], is_reversed: bool) {
        let (mut next, mut nonces) = self.state(self.blocks.len());
        let mut block = Vec::new();
        let mut order = [0, 1];
        if is_reversed {
            order.reverse();
        }
        for poster in order.into_iter().filter(|poster| takes[*poster]) {
            while let Some(attempt) = self.pool[poster].get(&nonces[poster]).copied() {
                if attempt.fees.max_fee < self.base_fee || attempt.fees.blob_fee < self.blob_fee {
                    break;
                }
                let is_posted = attempt.number == next;
                next += u64::from(is_posted);
                nonces[poster] += 1;
                block.push(Included {
                    poster,
                    attempt,
                    is_posted,
                });
            }
            self.pool[poster].retain(|nonce, _| *nonce >= nonces[poster]);
        }
        self.blocks.push(block);
        self.finalized = self.finalized.max(self.blocks.len().saturating_sub(DEPTH));
    }

    fn reorg(&mut self, depth: usize, gives_back: bool) {
        let kept = self.blocks.len().saturating_sub(depth).max(self.finalized);
        for included in self.blocks.drain(kept..).flatten() {
            if gives_back {
                let pool = &mut self.pool[included.poster];
                pool.entry(included.attempt.nonce).or_insert(included.attempt);
            } else {
                // What stood behind it in the pool has a gap before it now, and blob pools keep none.
                self.pool[included.poster].clear();
            }
        }
    }

    fn send(&mut self, poster: usize, attempt: Attempt) -> SendAnswer {
        let (_, nonces) = self.state(self.blocks.len());
        let pool = &mut self.pool[poster];
        let answer = match pool.get(&attempt.nonce) {
            _ if attempt.nonce < nonces[poster] => SendAnswer::NonceTooLow,
            Some(old) if old.hash == attempt.hash => SendAnswer::Taken,
            Some(old) if !is_double(&old.fees, &attempt.fees) => SendAnswer::Underpriced,
            None if (nonces[poster]..attempt.nonce).any(|nonce| !pool.contains_key(&nonce)) => {
                SendAnswer::Refused("nonce too high".into())
            }
            _ => {
                pool.insert(attempt.nonce, attempt);
                SendAnswer::Taken
            }
        };
        if std::mem::take(&mut self.lies) {
            return SendAnswer::NonceTooLow;
        }
        answer
    }

    fn fate(&self, poster: usize, hash: B256) -> Fate {
        let mut included = self.blocks.iter().flatten();
        if let Some(found) = included.find(|included| included.attempt.hash == hash) {
            let (next, _) = self.state(self.blocks.len());
            return match found.is_posted {
                true => Fate::Posted,
                false if found.attempt.number < next => Fate::Reverted(Some(Refusal::Posted)),
                false => Fate::Reverted(Some(Refusal::Gap)),
            };
        }
        let is_pending = self.pool[poster].values().any(|attempt| attempt.hash == hash);
        if is_pending { Fate::Pending } else { Fate::Unknown }
    }

    fn view(&mut self, poster: usize, hashes: &[B256]) -> View {
        let (mut next_number, mut nonces) = self.state(self.blocks.len());
        let (views, blocks, is_inbox_old) = self.mixes;
        self.mixes.0 = views.saturating_sub(1);
        if views > 0 {
            let old = self.state(self.blocks.len().saturating_sub(blocks));
            match is_inbox_old {
                true => next_number = old.0,
                false => nonces = old.1,
            }
        }
        let final_blocks = if views > 0 { 0 } else { self.finalized };
        let (finalized_number, finalized_nonces) = self.state(final_blocks);
        View {
            head: self.blocks.len() as u64,
            next_number,
            nonce: nonces[poster],
            finalized: Some((finalized_number, finalized_nonces[poster])),
            fees: Fees {
                base_fee: self.base_fee,
                blob_base_fee: self.blob_fee,
                tip: GWEI,
            },
            balance: U256::MAX,
            fates: hashes
                .iter()
                .map(|hash| match views {
                    0 => (*hash, self.fate(poster, *hash)),
                    _ => (*hash, Fate::Unknown),
                })
                .collect(),
        }
    }
}

fn is_double(old: &PostFees, new: &PostFees) -> bool {
    new.max_fee > 2 * old.max_fee && new.tip > 2 * old.tip && new.blob_fee > 2 * old.blob_fee
}

/// A poster, what waits to be carried out, and what survives it.
struct Node {
    poster: Poster,
    outputs: VecDeque<Output>,
    recorded: Vec<Attempt>,
    finalized: (u64, u64),
    /// The inbox's next number and the account's next nonce as it saw them last, since it recorded anything.
    seen: Option<(u64, u64)>,
}

struct World {
    model: Model,
    nodes: Vec<Node>,
    now_ms: u64,
    signed: u64,
    /// Each may drop the batch before one that is pending, which then reverts for the gap.
    reorgs: usize,
    broken: Vec<String>,
}

fn config() -> PosterConfig {
    PosterConfig {
        // Fees double for each replacement; that they end is another test's.
        fees: FeeRule {
            budget_wei: U256::MAX,
            ..FeeRule::default()
        },
        ..PosterConfig::default()
    }
}

fn jobs(poster: usize) -> impl Iterator<Item = PostJob> {
    (0..BATCHES)
        .zip((0..POSTERS).cycle())
        .map(move |(number, first)| PostJob {
            number,
            hash: B256::with_last_byte(1 + u8::try_from(number).unwrap()),
            header: Bytes::new(),
            certificate: Bytes::new(),
            payload: Bytes::new(),
            rank: u32::from(first != poster),
            ready_at_ms: 0,
        })
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            model: Model {
                base_fee: GWEI,
                blob_fee: GWEI,
                ..Model::default()
            },
            nodes: Vec::new(),
            now_ms: 1_000_000,
            signed: 0,
            reorgs: 0,
            broken: Vec::new(),
        };
        for at in 0..POSTERS {
            world.nodes.push(Node {
                poster: Poster::new(config(), &[], (0, 0)),
                outputs: VecDeque::new(),
                recorded: Vec::new(),
                finalized: (0, 0),
                seen: None,
            });
            world.crash(at);
        }
        world
    }

    /// Kills a poster and starts it again, with what it recorded and with all jobs.
    fn crash(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.outputs.clear();
        node.poster = Poster::new(config(), &node.recorded, node.finalized);
        for job in jobs(at) {
            node.outputs.extend(node.poster.step(self.now_ms, Input::Job(job)));
        }
    }

    /// Carries one order out, and has the poster told of it unless it dies before.
    fn run(&mut self, at: usize, dies: bool) {
        self.now_ms += 100;
        let input = match self.nodes[at].outputs.pop_front() {
            None => Some(Input::Tick),
            Some(output) => self.carry_out(at, output),
        };
        if dies {
            self.crash(at);
        } else if let Some(input) = input {
            let node = &mut self.nodes[at];
            node.outputs.extend(node.poster.step(self.now_ms, input));
        }
    }

    fn carry_out(&mut self, at: usize, output: Output) -> Option<Input> {
        let node = &mut self.nodes[at];
        match output {
            Output::Look(hashes) => {
                let view = self.model.view(at, &hashes);
                node.seen = Some((view.next_number, view.nonce));
                Some(Input::View(view))
            }
            Output::Sign(order) => {
                self.signed += 1;
                let attempt = Attempt {
                    number: order.job.number,
                    batch: order.job.hash,
                    nonce: order.nonce,
                    fees: order.fees,
                    hash: U256::from(self.signed).into(),
                };
                Some(Input::Signed {
                    attempt,
                    raw: Bytes::new(),
                })
            }
            Output::Record { attempt, .. } => {
                node.recorded.push(attempt);
                node.seen = None;
                Some(Input::Recorded)
            }
            Output::Send(hash) => {
                let Some(attempt) = node.recorded.iter().find(|attempt| attempt.hash == hash).copied() else {
                    self.broken
                        .push(format!("poster {at} sent {hash}, which it had not recorded"));
                    return None;
                };
                if node.seen != Some((attempt.number, attempt.nonce)) {
                    let seen = node.seen;
                    self.broken
                        .push(format!("poster {at} saw {seen:?} and sent {attempt:?}"));
                }
                let answer = self.model.send(at, attempt);
                Some(Input::Sent { hash, answer })
            }
            Output::Finalized { number, nonce } => {
                let (final_number, final_nonces) = self.model.state(self.model.finalized);
                if number > final_number || nonce > final_nonces[at] {
                    self.broken
                        .push(format!("poster {at} takes {number} for finalized, {final_number} is"));
                }
                if number < node.finalized.0 || nonce < node.finalized.1 {
                    self.broken
                        .push(format!("what was final for poster {at} is not any more"));
                }
                node.finalized = (number, nonce);
                None
            }
            Output::Alert(_) | Output::Balance { .. } => None,
        }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Run(at) => self.run(at, false),
            Event::CrashAfter(at) => self.run(at, true),
            Event::Crash(at) => self.crash(at),
            Event::Mine { takes, is_reversed } => self.model.mine(takes, is_reversed),
            Event::Reorg { depth, gives_back } => {
                self.model.reorg(depth, gives_back);
                self.reorgs += 1;
            }
            Event::Forget => self.model.pool = Default::default(),
            Event::Fees { base, blob } => {
                (self.model.base_fee, self.model.blob_fee) = (GWEI * u128::from(base), GWEI * u128::from(blob));
            }
            Event::Wait { ms } => self.now_ms += u64::from(ms),
            Event::Lie => self.model.lies = true,
            Event::Mix {
                views,
                blocks,
                is_inbox_old,
            } => self.model.mixes = (views, blocks, is_inbox_old),
        }
        for (at, pool) in self.model.pool.iter().enumerate() {
            let (_, nonces) = self.model.state(self.model.blocks.len());
            let recorded = &self.nodes[at].recorded;
            if !pool.values().all(|attempt| recorded.contains(attempt)) {
                self.broken
                    .push(format!("the pool has what poster {at} did not record"));
            }
            // More than one only if a reorg gave them back.
            if pool.keys().next().is_some_and(|first| *first > nonces[at]) {
                self.broken
                    .push(format!("poster {at} has a gap before its pending nonces"));
            }
        }
    }

    /// Nothing goes wrong any more, but for posters that stay dead, until every batch is finalized. Fees stay as they are.
    fn heal(&mut self, lives: [bool; POSTERS]) {
        self.model.lies = false;
        self.model.mixes.0 = 0;
        let alive: Vec<usize> = (0..POSTERS).filter(|at| lives[*at]).collect();
        for _ in 0..600 {
            for at in &alive {
                (0..8).for_each(|_| self.run(*at, false));
            }
            self.model.mine([true; POSTERS], false);
            self.now_ms += 12_000;
            if alive.iter().all(|at| self.nodes[*at].finalized.0 == BATCHES) {
                return;
            }
        }
        let (next, _) = self.model.state(self.model.blocks.len());
        self.broken
            .push(format!("{next} of {BATCHES} batches are posted long after all is well"));
    }

    /// What the chain has in the end.
    fn judge(&mut self) {
        let included: Vec<Included> = self.model.blocks.iter().flatten().copied().collect();
        for number in 0..BATCHES {
            let of = |is_posted: bool| {
                included
                    .iter()
                    .filter(move |included| included.attempt.number == number && included.is_posted == is_posted)
            };
            if of(true).count() != 1 {
                self.broken
                    .push(format!("batch {number} is posted {} times", of(true).count()));
            }
            for poster in 0..POSTERS {
                let is_own = of(true).all(|included| included.poster == poster);
                let repeated = of(false).any(|included| included.poster == poster);
                if is_own && repeated && self.reorgs == 0 {
                    self.broken
                        .push(format!("poster {poster} posted its own batch {number} again"));
                }
                let wasted = of(false).filter(|included| included.poster == poster).count();
                if wasted > 1 + self.reorgs {
                    self.broken.push(format!(
                        "poster {poster} wasted {wasted} transactions on batch {number}"
                    ));
                }
            }
        }
    }
}

/// What is wrong after a plan, and after all is well again.
fn run(events: &[Event], lives: [bool; POSTERS]) -> Vec<String> {
    let mut world = World::new();
    for event in events {
        world.happen(event);
    }
    world.heal(lives);
    world.judge();
    world.broken
}

fn lives() -> impl Strategy<Value = [bool; POSTERS]> {
    prop_oneof![Just([true, true]), Just([true, false]), Just([false, true])]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_shrink_iters: 4000, ..ProptestConfig::default() })]
    #[test]
    fn every_batch_is_posted_once_whatever_l1_and_its_nodes_do(
        events in prop::collection::vec(event(true), 0..400), lives in lives()
    ) {
        let broken = run(&events, lives);
        prop_assert!(broken.is_empty(), "{broken:#?}");
    }

    #[test]
    fn without_reorgs_no_poster_pays_twice_for_a_batch(
        events in prop::collection::vec(event(false), 0..400), lives in lives()
    ) {
        let broken = run(&events, lives);
        prop_assert!(broken.is_empty(), "{broken:#?}");
    }
}
