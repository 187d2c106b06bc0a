//! The world: whole nodes on one thread, true time, and everything that lies between the nodes.
//!
//! A node here is the production `Core`, driven as the node's loop drives it: what waits is taken in one turn, its
//! records are made durable, and only then anything becomes visible; while a commit lasts, events gather. `acts`
//! carries out what cores ask for, `wires` carries messages, `weather` lets things go wrong, `clients` and `accounts`
//! use the nodes.

mod accounts;
mod acts;
mod clients;
mod genesis;
mod l1;
mod play;
mod weather;
mod wires;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use ed25519_dalek::SigningKey;
use fusion_consensus::{Message, PeerId};
use fusion_sequencer::core::{Action, Core, CoreConfig, Event};
use fusion_sequencer::store::Record;
use fusion_types::{Genesis, State};

use crate::checker::{Checker, Nonces, Room, Violation};
use crate::clock::Clock;
use crate::disk::Disk;
use crate::faults::{Fault, Faults};
use crate::network::Network;
use crate::plan::{Flaw, Plan};
use crate::rng::Rng;
use crate::trace::Trace;
use crate::traitor::Traitor;
use crate::volume::Snapshot;
use accounts::Accounts;
use clients::Clients;
use genesis::{EVM_ROLLUPS, genesis};
use l1::{L1, Step};
use play::Play;
use weather::Weather;

/// After the healing, all must be well by then.
const PATIENCE: Duration = Duration::from_secs(40);

/// Decided heights after the healing that end a run.
const HEIGHTS_AFTER: u64 = 2;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum What {
    Deliver {
        from: usize,
        to: usize,
        connection: u64,
        message: Message,
    },
    /// Two nodes without a connection try to make one.
    Dial {
        a: usize,
        b: usize,
    },
    /// Whether a connection is given up for want of a sign of life.
    Idle {
        a: usize,
        b: usize,
        connection: u64,
    },
    Wake {
        node: usize,
        life: u64,
    },
    /// The commit of a turn ended.
    Committed {
        node: usize,
        life: u64,
    },
    Restart {
        node: usize,
    },
    Weather(Weather),
    L1(Step),
    Submit,
    Clients,
    Mischief {
        node: usize,
    },
    Answer {
        from: usize,
        to: usize,
        message: Message,
    },
    /// Whether the script's rounds are over.
    Scene,
    Heal,
}

/// One process, and the machine below it.
#[derive(Debug)]
struct Node {
    /// Index of the validator whose key it has.
    identity: usize,
    /// None while the process is down.
    core: Option<Core>,
    disk: Disk,
    clock: Clock,
    /// Counts the processes; what was meant for an earlier one is void.
    life: u64,
    inbox: Vec<Event>,
    /// What becomes visible when the commit ends; `Some` while one lasts.
    showing: Option<Vec<Action>>,
    /// Records that did not find space yet.
    unwritten: Vec<Record>,
    is_frozen: bool,
    disk_slowness: u64,
    woken_at: Option<Duration>,
    strikes: BTreeMap<usize, u32>,
    /// Contradictions that came since it last had nothing to do: by whom, at which height.
    unseen: Vec<(B256, u64)>,
    traitor: Option<Traitor>,
    /// A copy of the disk from earlier.
    backup: Option<Snapshot>,
}

/// A node right after a commit: for whoever goes on from there.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only the tests of damage go on from there"))]
pub(crate) struct Moment {
    /// Its disk.
    pub(crate) disk: Snapshot,
    /// What was committed.
    pub(crate) records: Vec<Record>,
    /// The replicated state then.
    pub(crate) state: State,
    /// What it sent until the next commit.
    pub(crate) sent: Vec<Message>,
}

/// What a run came to.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) violation: Option<Violation>,
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) simulated: Duration,
    pub(crate) height: u64,
    pub(crate) transactions: u64,
    pub(crate) faults: Faults,
    /// Blocks and transactions that were final at the healing.
    pub(crate) at_heal: (u64, u64),
    /// From the healing to the first new block; none if there was none.
    pub(crate) recovery: Option<Duration>,
    /// Contradictions that nobody noticed.
    pub(crate) unnoticed: usize,
    /// Contradictions that somebody noticed more than two blocks later.
    pub(crate) noticed_late: usize,
}

/// One history.
pub(crate) struct World {
    plan: Plan,
    rng: Rng,
    now: Duration,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    genesis: Arc<Genesis>,
    keys: Vec<SigningKey>,
    peers: Vec<PeerId>,
    nodes: Vec<Node>,
    network: Network,
    clients: Clients,
    accounts: Accounts,
    l1: Option<L1>,
    checker: Checker,
    faults: Faults,
    trace: Trace,
    healed_at: Option<Duration>,
    height_at_heal: u64,
    transactions_at_heal: u64,
    recovery: Option<Duration>,
    /// Node 0 after each of its commits, if it is recorded.
    pub(crate) moments: Option<Vec<Moment>>,
    /// For the twin: which of the two processes each other node speaks to.
    twin_side: Vec<bool>,
    /// How far the script is, if there is one.
    play: Option<Play>,
}

/// An event in its place.
#[derive(Debug)]
struct Scheduled {
    at: Duration,
    order: u64,
    what: What,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl World {
    pub(crate) fn new(plan: Plan, story: bool) -> Self {
        let (genesis, keys) = genesis(plan.nodes, plan.settles);
        let mut rng = Rng::new(plan.seed).fork();
        let members = genesis.committee().validators();
        let peers = members.iter().map(|member| PeerId(member.peer)).collect();
        let dishonest = |at: usize| matches!(plan.flaw(at), Some(Flaw::Traitor(_) | Flaw::Twin | Flaw::Restored));
        let validators = members
            .iter()
            .enumerate()
            .map(|(at, member)| (member.id.0, !dishonest(at)));
        let validators: Vec<(B256, bool)> = validators.collect();
        let twins = plan
            .flaws
            .iter()
            .filter(|(_, flaw)| *flaw == Flaw::Twin)
            .map(|(at, _)| *at);
        let identities: Vec<usize> = (0..plan.nodes).chain(twins).collect();
        let count = identities.len();
        let mut nodes = Vec::with_capacity(count);
        for identity in identities {
            nodes.push(Node::new(&plan, &mut rng, &genesis, &keys, identity));
        }
        let clients = Clients::new(rng.fork());
        let accounts = Accounts::new(rng.fork(), plan.nodes);
        let mut nonces = Nonces::new(EVM_ROLLUPS.into(), plan.room != Room::FULL, count);
        for (rollup, sender, next) in accounts.all() {
            nonces.open(rollup, sender, next);
        }
        let terms = plan.settles.then(l1::terms);
        let mut world = Self {
            checker: Checker::new(genesis.network().0, validators, nonces, plan.room, count, terms),
            trace: Trace::new(story),
            network: Network::new(count),
            twin_side: (0..count).map(|_| rng.chance(500)).collect(),
            clients,
            accounts,
            l1: plan.settles.then(|| L1::new(Rng::new(plan.seed), count)),
            rng,
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            order: 0,
            genesis,
            keys,
            peers,
            nodes,
            faults: Faults::default(),
            healed_at: None,
            height_at_heal: 0,
            transactions_at_heal: 0,
            recovery: None,
            moments: None,
            play: plan.script.clone().map(|script| Play::new(script, count)),
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        if self.play.is_some() {
            self.begin_play();
            return;
        }
        for node in 0..self.nodes.len() {
            let delay = Duration::from_millis(self.rng.below(50));
            self.after(delay, What::Restart { node });
            if self.nodes[node].traitor.is_some() {
                self.faults.count(Fault::Traitor);
                self.after(delay, What::Mischief { node });
            }
        }
        for _ in self.plan.nodes..self.nodes.len() {
            self.faults.count(Fault::Twins);
        }
        self.after(Duration::from_millis(100), What::Submit);
        self.after(Duration::from_millis(500), What::Clients);
        self.after(self.plan.faults_until, What::Heal);
        self.plan_weather();
        self.begin_l1();
    }

    /// Runs until all is well after the healing, or a promise is broken.
    pub(crate) fn run(&mut self) -> Outcome {
        while let Some(Reverse(Scheduled { at, what, .. })) = self.queue.pop() {
            self.now = at;
            self.trace.note(&[u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)]);
            self.happen(what);
            if self.checker.violation().is_some() || self.is_over() {
                break;
            }
        }
        if self.checker.violation().is_none() && !self.is_well() {
            self.not_well();
        }
        if let Some(violation) = self.checker.violation() {
            let violation = violation.clone();
            self.trace.tell(self.now, || {
                format!("VIOLATION of '{}': {}", violation.promise, violation.what)
            });
        }
        for node in 0..self.nodes.len() {
            self.forget(node);
        }
        for (node, (validator, height, round, kind)) in self.checker.unnoticed() {
            self.trace.tell(self.now, || {
                let kind = ["proposals", "prevotes", "precommits"][usize::from(kind)];
                format!("UNNOTICED: {node} received two {kind} in {height}/{round} of {validator}")
            });
        }
        let mut faults = self.faults.clone();
        faults.set(Fault::LaterRound, self.checker.later_rounds);
        Outcome {
            violation: self.checker.violation().cloned(),
            hash: self.trace.hash(),
            events: self.trace.events,
            simulated: self.now,
            height: self.checker.height(),
            transactions: self.checker.transactions,
            at_heal: (self.height_at_heal, self.transactions_at_heal),
            recovery: self.recovery,
            unnoticed: self.checker.unnoticed().len(),
            noticed_late: self.checker.noticed_late(),
            faults,
        }
    }

    /// What the core of a node is made of.
    pub(crate) fn config(&self, node: usize) -> CoreConfig {
        let identity = self.nodes[node].identity;
        let mut config = CoreConfig::new(self.genesis.clone(), Some(self.keys[identity].clone()));
        config.l1_margin = l1::MARGIN;
        if self.plan.room != Room::FULL {
            config.pool.bytes_max = self.plan.room.pool_bytes;
            config.pool.rollup_bytes_max = self.plan.room.rollup_bytes;
        }
        config
    }

    /// Nodes on which the others may count after the healing.
    fn is_core(&self, node: usize) -> bool {
        node < self.plan.nodes && !self.plan.flaw(node).is_some_and(Flaw::lasts)
    }

    fn is_well(&self) -> bool {
        let reached = self.height_at_heal + HEIGHTS_AFTER;
        let mut core = (0..self.plan.nodes).filter(|node| self.is_core(*node));
        self.healed_at.is_some() && core.all(|node| self.checker.published(node) >= reached) && self.unserved() == 0
    }

    /// Transactions and numbers that should be final and are not.
    fn unserved(&self) -> usize {
        self.clients.unserved() + self.accounts.unserved(&self.checker.nonces) + self.unforced()
    }

    fn is_over(&self) -> bool {
        let Some(healed_at) = self.healed_at else { return false };
        self.now > healed_at + PATIENCE || self.is_well()
    }

    fn not_well(&mut self) {
        let heights: Vec<u64> = (0..self.nodes.len()).map(|node| self.checker.published(node)).collect();
        let status: Vec<String> = self.nodes.iter().map(Node::describe).collect();
        let what = format!(
            "{PATIENCE:?} after the healing at height {} the nodes are at {heights:?}, {} transactions are not final; {}",
            self.height_at_heal,
            self.unserved(),
            status.join(", ")
        );
        self.checker.fail("liveness", what);
    }

    fn after(&mut self, delay: Duration, what: What) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled {
            at: self.now + delay,
            order: self.order,
            what,
        }));
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Deliver {
                from,
                to,
                connection,
                message,
            } => self.deliver((from, to), connection, message),
            What::Dial { a, b } => self.dial(a, b),
            What::Idle { a, b, connection } => self.idle(a, b, connection),
            What::Wake { node, life } => {
                if self.nodes[node].life == life && self.nodes[node].woken_at == Some(self.now) {
                    self.nodes[node].woken_at = None;
                    self.work(node);
                }
            }
            What::Committed { node, life } => {
                if self.nodes[node].life == life {
                    self.committed(node);
                }
            }
            What::Restart { node } => self.restart(node),
            What::Weather(weather) => self.weather(weather),
            What::L1(step) => self.l1_goes_on(step),
            What::Submit => self.submit(),
            What::Clients => self.serve_clients(),
            What::Mischief { node } => self.mischief(node),
            What::Answer { from, to, message } => self.transmit(from, to, message),
            What::Scene => self.scene(),
            What::Heal => self.heal(),
        }
    }
}

impl Node {
    fn new(plan: &Plan, rng: &mut Rng, genesis: &Genesis, keys: &[SigningKey], identity: usize) -> Self {
        let spread = plan.clock_rate_spread;
        let rate = rng.between(1000 - spread, 1000 + spread * 5 / 4);
        let mut offset = i64::try_from(rng.below(plan.clock_offset_ms + 1)).unwrap_or(0);
        if plan.flaw(identity) == Some(&Flaw::ClockFarOff) {
            offset = if rng.chance(500) { 3_600_000 } else { -3_600_000 };
        }
        let traitor = match plan.flaw(identity) {
            Some(Flaw::Traitor(deeds)) => Some(Traitor::new(
                deeds.clone(),
                rng.fork(),
                genesis.network(),
                keys[identity].clone(),
                keys.to_vec(),
            )),
            _ => None,
        };
        Self {
            identity,
            core: None,
            disk: Disk::new(rng.next()),
            clock: Clock::new(rate, offset),
            life: 0,
            inbox: Vec::new(),
            showing: None,
            is_frozen: false,
            unwritten: Vec::new(),
            disk_slowness: 1,
            woken_at: None,
            strikes: BTreeMap::new(),
            unseen: Vec::new(),
            traitor,
            backup: None,
        }
    }

    /// Whether all that it was told has been taken in and shown. Not while it listens after a start or catches up:
    /// messages of its height are kept until it begins that.
    fn has_nothing_to_do(&self) -> bool {
        let keeps_messages = self.core.as_ref().is_some_and(|core| core.status().step == "sync");
        self.inbox.is_empty() && self.showing.is_none() && !self.is_frozen && !keeps_messages
    }

    fn describe(&self) -> String {
        match &self.core {
            Some(core) => {
                let status = core.status();
                let voting = if status.quarantined {
                    "quarantined"
                } else if status.voting {
                    "voting"
                } else {
                    "silent"
                };
                format!(
                    "after {} in round {} {} {voting}",
                    status.height, status.round, status.step
                )
            }
            None => "down".into(),
        }
    }
}
