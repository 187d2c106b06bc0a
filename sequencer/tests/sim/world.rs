//! The world: whole nodes on one thread, virtual time, and everything that can go wrong with what is between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B256, Bytes, keccak256};
use ed25519_dalek::SigningKey;
use fusion_consensus::{Message, PeerId, Recipient};
use fusion_sequencer::core::{Action, Core, CoreConfig, Event, Now, RequestId};
use fusion_sequencer::store::{Files, Record};
use fusion_types::{DecidedBlock, Genesis, Height, LaneHashes, RollupId, State};

use crate::checker::Checker;
use crate::disk;
use crate::network::{genesis, transaction};
use crate::rng::Rng;
use crate::volume::{Counts, SimVolume, Snapshot};

/// What a run does. Times are virtual.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    /// Faults happen until here; then everything heals.
    pub(crate) faults_until: Duration,
    /// After healing, every node must have decided something new by here.
    pub(crate) end: Duration,
    /// Messages lost, per mille, while faults last.
    pub(crate) loss: u64,
    /// Mean time between crashes of any node; zero for none.
    pub(crate) crash_every: Duration,
    /// Mean time between partitions; zero for none.
    pub(crate) partition_every: Duration,
    /// A node loses its write-ahead log in every so many crashes; zero for never. Only node 0 does.
    pub(crate) lose_wal: u64,
    /// Whether what node 0 commits is kept.
    pub(crate) recorded: bool,
    /// Time between two transactions of the clients.
    pub(crate) submit_every: Duration,
}

#[derive(Debug)]
enum What {
    Deliver {
        from: usize,
        to: usize,
        link: u64,
        bytes: Bytes,
        class: fusion_consensus::Class,
    },
    Link {
        from: usize,
        to: usize,
        up: bool,
    },
    Wake {
        node: usize,
        incarnation: u64,
    },
    Submit,
    Crash,
    Restart {
        node: usize,
    },
    Cut,
    Mend,
    Heal,
}

struct Node {
    core: Option<Core>,
    volume: SimVolume,
    /// What the core's records go to, as long as it runs.
    files: Option<Files>,
    incarnation: u64,
    woken_at: Option<Duration>,
    clock_ahead_ms: u64,
}

/// How often each fault really happened: a simulation that injects nothing proves nothing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) crashes: u64,
    pub(crate) torn_flushes: u64,
    pub(crate) wal_losses: u64,
    pub(crate) partitions: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.crashes += other.crashes;
        self.torn_flushes += other.torn_flushes;
        self.wal_losses += other.wal_losses;
        self.partitions += other.partitions;
    }

    pub(crate) fn all_but_wal_losses_happened(&self) -> bool {
        [self.lost, self.crashes, self.torn_flushes, self.partitions]
            .iter()
            .all(|count| *count > 20)
    }
}

pub(crate) struct World {
    plan: Plan,
    rng: Rng,
    now: Duration,
    queue: BTreeMap<(Duration, u64), What>,
    order: u64,
    genesis: Arc<Genesis>,
    keys: Vec<SigningKey>,
    peers: Vec<PeerId>,
    nodes: Vec<Node>,
    links: BTreeMap<(usize, usize), u64>,
    cut: BTreeSet<(usize, usize)>,
    busy_until: BTreeMap<(usize, usize), Duration>,
    submitted: u64,
    healed: bool,
    trace: B256,
    pub(crate) checker: Checker,
    pub(crate) faults: Faults,
    /// Node 0 after each of its commits, for whoever goes on from there.
    pub(crate) moments: Vec<Moment>,
}

/// A node right after a commit.
#[derive(Debug)]
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

/// A commit writes and syncs three files; it is cut off anywhere in between, or the next one is.
const OPERATIONS_OF_A_COMMIT: u64 = 8;

impl World {
    pub(crate) fn new(seed: u64, plan: Plan) -> Self {
        let (genesis, keys) = genesis(plan.nodes);
        let peers = genesis
            .committee()
            .validators()
            .iter()
            .map(|v| PeerId(v.peer))
            .collect();
        let mut rng = Rng::new(seed);
        let nodes = (0..plan.nodes)
            .map(|_| Node {
                core: None,
                volume: SimVolume::new(rng.next()),
                files: None,
                incarnation: 0,
                woken_at: None,
                clock_ahead_ms: rng.below(200),
            })
            .collect();
        let mut world = Self {
            checker: Checker::new(genesis.network()),
            rng,
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            order: 0,
            genesis,
            keys,
            peers,
            nodes,
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            busy_until: BTreeMap::new(),
            submitted: 0,
            healed: false,
            trace: B256::ZERO,
            faults: Faults::default(),
            moments: Vec::new(),
            plan,
        };
        for node in 0..world.nodes.len() {
            let delay = Duration::from_millis(world.rng.below(50));
            world.at(delay, What::Restart { node });
        }
        world.at(Duration::from_millis(100), What::Submit);
        world.plan_fault(world.plan.crash_every, What::Crash);
        world.plan_fault(world.plan.partition_every, What::Cut);
        world.at(world.plan.faults_until, What::Heal);
        world
    }

    /// Runs to the end; the result is the hash of everything that happened.
    pub(crate) fn run(&mut self) -> B256 {
        while let Some(((at, order), what)) = self.queue.pop_first() {
            if at > self.plan.end {
                break;
            }
            self.now = at;
            self.note(format!("{at:?} {order} {what:?}").as_bytes());
            self.happen(what);
        }
        self.trace
    }

    /// What a node needs to know besides its disk.
    pub(crate) fn config(&self, node: usize) -> CoreConfig {
        CoreConfig::new(self.genesis.clone(), Some(self.keys[node].clone()))
    }

    /// Heights that each node published.
    pub(crate) fn heights(&self) -> Vec<u64> {
        (0..self.nodes.len()).map(|node| self.checker.published(node)).collect()
    }

    pub(crate) fn submitted(&self) -> u64 {
        self.submitted
    }

    /// A node that never starts.
    pub(crate) fn silence(&mut self, node: usize) {
        self.queue
            .retain(|_, what| !matches!(what, What::Restart { node: other } if *other == node));
    }

    fn note(&mut self, what: &[u8]) {
        self.trace = keccak256([self.trace.as_slice(), what].concat());
    }

    fn at(&mut self, after: Duration, what: What) {
        self.order += 1;
        self.queue.insert((self.now + after, self.order), what);
    }

    fn plan_fault(&mut self, mean: Duration, what: What) {
        if mean > Duration::ZERO {
            let mean = mean.as_millis() as u64;
            let after = Duration::from_millis(self.rng.between(mean / 4, mean * 2));
            self.at(after, what);
        }
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Deliver {
                from,
                to,
                link,
                bytes,
                class,
            } => {
                if self.links.get(&(from, to)) == Some(&link) {
                    let message = Message::decode(class, &bytes).expect("nodes send what nodes can read");
                    let peer = self.peers[from];
                    let event = match message {
                        Message::Transactions(forwarded) => Event::Relayed {
                            transactions: forwarded
                                .into_iter()
                                .map(|f| transaction(f.rollup, f.payload))
                                .collect(),
                            by_member: true,
                        },
                        message => Event::Received { peer, message },
                    };
                    self.turn(to, event);
                }
            }
            What::Link { from, to, up } => self.link(from, to, up),
            What::Wake { node, incarnation } => {
                if self.nodes[node].incarnation == incarnation && self.nodes[node].woken_at == Some(self.now) {
                    self.nodes[node].woken_at = None;
                    self.turn(node, Event::Woken);
                }
            }
            What::Submit => self.submit(),
            What::Crash => {
                if !self.healed {
                    let node = self.rng.below(self.nodes.len() as u64) as usize;
                    self.crash(node);
                    self.plan_fault(self.plan.crash_every, What::Crash);
                }
            }
            What::Restart { node } => self.restart(node),
            What::Cut => self.partition(),
            What::Mend => self.mend(),
            What::Heal => {
                self.healed = true;
                self.mend();
            }
        }
    }

    fn submit(&mut self) {
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        let rollup = RollupId(7 + self.rng.below(2));
        self.submitted += 1;
        let payload = Bytes::from(format!("transaction {}", self.submitted).into_bytes());
        let request = RequestId(self.submitted);
        self.turn(
            node,
            Event::Submitted {
                request,
                transactions: vec![transaction(rollup, payload)],
            },
        );
        self.at(self.plan.submit_every, What::Submit);
    }

    fn now(&self, node: usize) -> Now {
        let unix_ms = 10_000 + self.now.as_millis() as u64 + self.nodes[node].clock_ahead_ms;
        Now {
            monotonic: self.now,
            unix_ms,
        }
    }

    fn turn(&mut self, node: usize, event: Event) {
        let now = self.now(node);
        if let Some(core) = &mut self.nodes[node].core {
            let actions = core.turn(now, vec![event]);
            self.carry_out(node, actions);
        }
    }

    /// What the shell does: records, flush, and only then the rest. A crash may come in between.
    fn carry_out(&mut self, node: usize, actions: Vec<Action>) {
        let mut records: Vec<Record> = Vec::new();
        let mut visible = Vec::new();
        for action in actions {
            match action {
                Action::Persist(record) => records.push(record),
                other => visible.push(other),
            }
        }
        if !records.is_empty() {
            let Node {
                core, files, volume, ..
            } = &mut self.nodes[node];
            if !self.healed && self.plan.crash_every > Duration::ZERO && self.rng.chance(1) {
                self.faults.torn_flushes += 1;
                volume.power_off_after(1 + self.rng.below(OPERATIONS_OF_A_COMMIT));
            }
            let state = core.as_ref().expect("it acts").state();
            let committed = files.as_mut().expect("it runs").commit(&records, state);
            if let Err(error) = committed {
                assert!(volume.is_off(), "{error}");
                self.crash(node);
                return;
            }
            if node == 0 && self.plan.recorded {
                self.moments.push(Moment {
                    disk: volume.snapshot(),
                    state: state.clone(),
                    records,
                    sent: Vec::new(),
                });
            }
        }
        for action in visible {
            if self.nodes[node].core.is_none() {
                return;
            }
            self.show(node, action);
        }
        self.set_alarm(node);
    }

    /// A decided block, read from the node's log.
    fn block(&self, node: usize, height: Height) -> Option<DecidedBlock> {
        let files = self.nodes[node].files.as_ref()?;
        let block = files.block(height).expect("its disk is sound");
        block.map(Arc::unwrap_or_clone)
    }

    /// What the disks did.
    pub(crate) fn disks(&self) -> Counts {
        let mut all = Counts::default();
        self.nodes.iter().for_each(|node| all.add(&node.volume.counts()));
        all
    }

    fn set_alarm(&mut self, node: usize) {
        let Some(deadline) = self.nodes[node].core.as_ref().and_then(Core::deadline) else {
            return;
        };
        let at = deadline.max(self.now + Duration::from_micros(10));
        if self.nodes[node]
            .woken_at
            .is_none_or(|woken| at < woken || woken <= self.now)
        {
            self.nodes[node].woken_at = Some(at);
            let incarnation = self.nodes[node].incarnation;
            self.at(at - self.now, What::Wake { node, incarnation });
        }
    }

    fn show(&mut self, node: usize, action: Action) {
        match action {
            Action::Send { to, message } => self.send(node, to, message),
            Action::Decided(decided) => {
                self.note(decided.block.id().0.as_slice());
                self.checker.decided(node, &decided);
            }
            Action::ServeSync { peer, from, to } => {
                let blocks = (from.0..=to.0)
                    .take(16)
                    .map_while(|height| self.block(node, Height(height)));
                let blocks: Vec<_> = blocks.collect();
                self.send(node, Recipient::Peer(peer), Message::SyncResponse { from, blocks });
            }
            Action::ServeBlock { peer, height, id } => {
                let found = self.block(node, height).filter(|decided| decided.block.id() == id);
                if let Some(decided) = found {
                    self.send(node, Recipient::Peer(peer), Message::Block(decided.block));
                }
            }
            Action::Fatal(reason) => {
                self.note(reason.as_bytes());
                self.crash(node);
            }
            Action::Fault { peer, reason } => panic!("an honest node faulted an honest peer {peer:?}: {reason}"),
            Action::Evidence(evidence) => panic!("an honest node was accused: {evidence:?}"),
            Action::Reply { .. } | Action::Persist(_) => {}
        }
    }

    fn send(&mut self, from: usize, to: Recipient, message: Message) {
        self.checker.sent(&message);
        if from == 0
            && let Some(moment) = self.moments.last_mut()
        {
            moment.sent.push(message.clone());
        }
        let bytes = message.encode();
        self.note(&bytes);
        let class = message.class();
        let targets: Vec<usize> = match to {
            Recipient::Peer(peer) => self.peers.iter().position(|p| *p == peer).into_iter().collect(),
            Recipient::Validators => (0..self.nodes.len()).filter(|to| *to != from).collect(),
        };
        for to in targets {
            self.transmit(from, to, class, bytes.clone());
        }
    }

    /// A stream keeps order and loses nothing while its connection stands; loss is a connection that breaks.
    fn transmit(&mut self, from: usize, to: usize, class: fusion_consensus::Class, bytes: Bytes) {
        let Some(link) = self.links.get(&(from, to)).copied() else {
            return;
        };
        if !self.healed && self.rng.chance(self.plan.loss) {
            self.faults.lost += 1;
            self.link(from, to, false);
            let back = Duration::from_millis(self.rng.between(1, 300));
            self.at(back, What::Link { from, to, up: true });
            return;
        }
        let delay = Duration::from_micros(self.rng.between(200, 20_000));
        let arrival = (self.now + delay).max(self.busy_until.get(&(from, to)).copied().unwrap_or_default());
        self.busy_until.insert((from, to), arrival);
        self.at(
            arrival - self.now,
            What::Deliver {
                from,
                to,
                link,
                bytes,
                class,
            },
        );
    }

    /// Brings a connection up or down, both ways.
    fn link(&mut self, a: usize, b: usize, up: bool) {
        let (a, b) = (a.min(b), a.max(b));
        let alive = self.nodes[a].core.is_some() && self.nodes[b].core.is_some() && !self.cut.contains(&(a, b));
        let stands = self.links.contains_key(&(a, b));
        if up && alive && !stands {
            self.order += 1;
            self.links.insert((a, b), self.order);
            self.links.insert((b, a), self.order);
            self.turn(a, Event::Connected { peer: self.peers[b] });
            self.turn(b, Event::Connected { peer: self.peers[a] });
        } else if !up && stands {
            self.links.remove(&(a, b));
            self.links.remove(&(b, a));
            self.turn(a, Event::Disconnected { peer: self.peers[b] });
            self.turn(b, Event::Disconnected { peer: self.peers[a] });
        }
    }

    fn crash(&mut self, node: usize) {
        if self.nodes[node].core.take().is_none() {
            return;
        }
        self.faults.crashes += 1;
        self.nodes[node].incarnation += 1;
        self.nodes[node].woken_at = None;
        self.nodes[node].volume.power_off();
        self.nodes[node].files = None;
        if node == 0 && self.plan.lose_wal > 0 && self.rng.below(self.plan.lose_wal) == 0 {
            self.faults.wal_losses += 1;
            disk::lose_wal(&self.nodes[node].volume);
        }
        for other in 0..self.nodes.len() {
            self.link(node, other, false);
        }
        let down = Duration::from_millis(self.rng.between(5, 2_000));
        self.at(down, What::Restart { node });
    }

    fn restart(&mut self, node: usize) {
        if self.nodes[node].core.is_some() {
            return;
        }
        self.nodes[node].volume.power_on();
        let (files, recovery) = disk::open(&self.nodes[node].volume, &self.genesis);
        let tip = files.tip().0;
        self.nodes[node].files = Some(files);
        let heights = (1..=tip.0).map(Height);
        let log: Vec<_> = heights.map_while(|height| self.block(node, height)).collect();
        self.checker.restarted(node, &log);
        let mut core = Core::new(self.config(node), recovery).expect("a node can always start again");
        for decided in log.iter().rev() {
            if !core.restore(&LaneHashes::from(&*decided.block)) {
                break;
            }
        }
        let actions = core.start(self.now(node));
        self.nodes[node].core = Some(core);
        self.carry_out(node, actions);
        for other in 0..self.nodes.len() {
            let after = Duration::from_millis(self.rng.between(1, 50));
            self.at(
                after,
                What::Link {
                    from: node,
                    to: other,
                    up: true,
                },
            );
        }
    }

    fn partition(&mut self) {
        if self.healed {
            return;
        }
        self.faults.partitions += 1;
        let side: Vec<bool> = self.nodes.iter().map(|_| self.rng.chance(500)).collect();
        for a in 0..side.len() {
            for b in a + 1..side.len() {
                if side[a] != side[b] {
                    self.cut.insert((a, b));
                    self.link(a, b, false);
                }
            }
        }
        let lasts = Duration::from_millis(self.rng.between(50, 3_000));
        self.at(lasts, What::Mend);
        self.plan_fault(self.plan.partition_every, What::Cut);
    }

    fn mend(&mut self) {
        for (a, b) in std::mem::take(&mut self.cut) {
            let after = Duration::from_millis(self.rng.between(1, 100));
            self.at(
                after,
                What::Link {
                    from: a,
                    to: b,
                    up: true,
                },
            );
        }
    }
}
