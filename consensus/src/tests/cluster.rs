//! The simulated network. It checks at every event that nodes agree and that no honest key contradicts itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B256, Bytes};
use ed25519_dalek::SigningKey;
use fusion_types::{
    Block, BlockId, Committee, DecidedBlock, Epoch, Header, Height, L1Origin, NetworkId, Rotation, Round, SealedBlock,
    Validator, ValidatorId, VoteKind, merkle_root,
};

use super::dice::Dice;
use crate::{
    Class, CommitteeSchedule, Engine, EngineConfig, Evidence, FatalError, Fault, GuardState, Input, Message, Output,
    PeerId, Recipient, Recovery, Timeouts, Tip, WalRecord,
};

pub(super) const NETWORK: NetworkId = NetworkId(B256::repeat_byte(0xfe));
const GENESIS: BlockId = BlockId(B256::repeat_byte(0x11));

const PACE_AFTER_A_MISS: Duration = Duration::from_millis(2);

/// What survives a crash.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    pub(super) log: Vec<DecidedBlock>,
    pub(super) rotation: Rotation,
    pub(super) wal: Vec<WalRecord>,
    pub(super) wal_readable: bool,
    pub(super) guard: Option<GuardState>,
    pub(super) bodies: BTreeMap<BlockId, Arc<SealedBlock>>,
}

impl Disk {
    fn tip(&self) -> Tip {
        let last = self.log.last();
        last.map_or(
            Tip {
                height: Height(0),
                id: GENESIS,
            },
            |decided| Tip {
                height: decided.block.header().height,
                id: decided.block.id(),
            },
        )
    }
}

pub(super) struct Node {
    pub(super) engine: Option<Engine>,
    pub(super) disk: Disk,
    pub(super) faults: Vec<(usize, Fault)>,
    pub(super) evidence: Vec<Evidence>,
    pub(super) fatal: Option<FatalError>,
    /// Lose everything of the turn that comes after so many more turns.
    pub(super) crash_after: Option<u64>,
}

enum Event {
    Deliver {
        from: usize,
        to: usize,
        class: Class,
        bytes: Bytes,
    },
    Propose {
        node: usize,
        height: Height,
        round: Round,
    },
}

type Filter = Box<dyn Fn(usize, usize, &Message) -> bool>;

pub(super) struct Cluster {
    pub(super) now: Duration,
    pub(super) dice: Dice,
    pub(super) keys: Vec<SigningKey>,
    pub(super) committee: Arc<Committee>,
    pub(super) nodes: Vec<Node>,
    /// Latency of a message, in milliseconds: at least, and the spread above.
    pub(super) latency_ms: (u64, u64),
    /// A node that is further away, and by how many milliseconds.
    pub(super) remote: Option<(usize, u64)>,
    /// Messages lost, in percent.
    pub(super) loss: u64,
    /// Whether a message passes.
    pub(super) filter: Filter,
    /// How long a proposer takes for a block of the first round. A missed round is made up for at once.
    pub(super) pace: Duration,
    /// Whether nodes say that there is work at each height.
    pub(super) work: bool,
    pub(super) decided: BTreeMap<Height, (BlockId, Round)>,
    /// Whose second thoughts are not held against it.
    pub(super) byzantine: Option<usize>,
    /// Whether the traitor tells every second node something else.
    pub(super) two_faced: bool,
    /// Whose sync answers arrive with a signature missing.
    pub(super) tamper: Option<usize>,
    said: BTreeMap<(ValidatorId, Height, Round, Option<VoteKind>), Option<BlockId>>,
    queue: BTreeMap<(Duration, u64), Event>,
    events: u64,
    streams: BTreeMap<(usize, usize, Class), Duration>,
    pub(super) timeouts: Timeouts,
}

fn peer(index: usize) -> PeerId {
    let mut key = [0x50; 32];
    key[31] = u8::try_from(index).unwrap();
    PeerId(B256::from(key))
}

fn index_of(peer: PeerId) -> usize {
    usize::from(peer.0[31])
}

impl Cluster {
    /// `validators` nodes with one vote each, and `followers` more.
    pub(super) fn new(seed: u64, validators: usize, followers: usize) -> Self {
        let key = |index: usize| SigningKey::from_bytes(&[u8::try_from(index + 1).unwrap(); 32]);
        let mut keys: Vec<_> = (0..validators).map(key).collect();
        keys.sort_by_key(|key| key.verifying_key().to_bytes());
        let member = |(index, key): (usize, &SigningKey)| Validator {
            id: ValidatorId(B256::from(key.verifying_key().to_bytes())),
            peer: peer(index).0,
            power: 1,
        };
        let members = keys.iter().enumerate().map(member).collect();
        let disk = Disk {
            wal_readable: true,
            ..Disk::default()
        };
        let node = |_| Node {
            engine: None,
            disk: disk.clone(),
            faults: Vec::new(),
            evidence: Vec::new(),
            fatal: None,
            crash_after: None,
        };
        Self {
            now: Duration::ZERO,
            dice: Dice::new(seed),
            committee: Arc::new(Committee::new(Epoch(0), members).unwrap()),
            keys,
            nodes: (0..validators + followers).map(node).collect(),
            latency_ms: (5, 5),
            remote: None,
            loss: 0,
            filter: Box::new(|_, _, _| true),
            pace: Duration::from_millis(2),
            work: true,
            decided: BTreeMap::new(),
            byzantine: None,
            two_faced: false,
            tamper: None,
            said: BTreeMap::new(),
            queue: BTreeMap::new(),
            events: 0,
            streams: BTreeMap::new(),
            timeouts: Timeouts::default(),
        }
    }

    pub(super) fn start_all(&mut self) {
        for index in 0..self.nodes.len() {
            self.start(index);
        }
    }

    /// Boots a node from its disk and connects it to all that are up.
    pub(super) fn start(&mut self, index: usize) {
        let node = &self.nodes[index];
        let disk = &node.disk;
        let recovery = Recovery {
            tip: disk.tip(),
            rotation: disk.rotation.clone(),
            wal: disk.wal.clone(),
            wal_readable: disk.wal_readable,
            guard: disk.guard,
            bodies: disk.bodies.values().cloned().collect(),
            evidence: node.evidence.clone(),
        };
        let config = EngineConfig {
            network: NETWORK,
            schedule: CommitteeSchedule::new(Arc::clone(&self.committee)),
            key: self.keys.get(index).cloned(),
            timeouts: self.timeouts,
            block_interval_idle: Duration::from_secs(1),
        };
        let node = &mut self.nodes[index];
        node.disk.wal_readable = true;
        node.engine = Some(Engine::new(config, recovery).unwrap());
        self.turn(index, Input::Start);
        if self.work {
            self.turn(index, Input::WorkWaiting);
        }
        for other in 0..self.nodes.len() {
            if other != index && self.is_up(other) {
                self.turn(index, Input::PeerConnected { peer: peer(other) });
                self.turn(other, Input::PeerConnected { peer: peer(index) });
            }
        }
    }

    /// Ends a node without warning; its disk stays.
    pub(super) fn stop(&mut self, index: usize) {
        self.nodes[index].engine = None;
        self.nodes[index].crash_after = None;
        for other in 0..self.nodes.len() {
            if other != index && self.is_up(other) {
                self.turn(other, Input::PeerDisconnected { peer: peer(index) });
            }
        }
    }

    pub(super) fn is_up(&self, index: usize) -> bool {
        self.nodes[index].engine.is_some()
    }

    pub(super) fn engine(&self, index: usize) -> &Engine {
        self.nodes[index].engine.as_ref().unwrap()
    }

    pub(super) fn height(&self, index: usize) -> u64 {
        self.nodes[index].disk.tip().height.0
    }

    pub(super) fn run_for(&mut self, millis: u64) {
        self.run_until(self.now + Duration::from_millis(millis), |_| false);
    }

    /// Runs until every node that is up has `height` decided; panics when that takes longer than `millis`.
    pub(super) fn run_to_height(&mut self, height: u64, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        let there = |cluster: &Self| {
            let mut up = (0..cluster.nodes.len()).filter(|index| cluster.is_up(*index));
            up.all(|index| cluster.height(index) >= height)
        };
        self.run_until(end, there);
        let heights: Vec<_> = (0..self.nodes.len()).map(|index| self.height(index)).collect();
        assert!(there(self), "not all at height {height} after {millis} ms: {heights:?}");
    }

    pub(super) fn run_until(&mut self, end: Duration, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let wakes = self.nodes.iter().enumerate();
            let wake = wakes
                .filter_map(|(index, node)| Some((node.engine.as_ref()?.deadline()?, index)))
                .min();
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let next = wake.map(|(at, _)| at).into_iter().chain(event).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            match wake.filter(|(at, _)| event.is_none_or(|event| *at < event)) {
                Some((_, index)) => self.turn(index, Input::DeadlinePassed),
                None => {
                    let (_, event) = self.queue.pop_first().unwrap();
                    self.handle(event);
                }
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, class, bytes } => {
                let message = Message::decode(class, &bytes).unwrap();
                if self.is_up(to) && (self.filter)(from, to, &message) {
                    self.turn(
                        to,
                        Input::Received {
                            peer: peer(from),
                            message,
                        },
                    );
                }
            }
            Event::Propose { node, height, round } => {
                if self.is_up(node) && self.engine(node).height() == height {
                    let block = self.build(node, height, round);
                    let disk = &mut self.nodes[node].disk;
                    disk.bodies.insert(block.id(), Arc::clone(&block));
                    self.turn(node, Input::Propose { height, round, block });
                }
            }
        }
    }

    pub(super) fn build(&self, node: usize, height: Height, round: Round) -> Arc<SealedBlock> {
        let header = Header {
            network: NETWORK,
            height,
            parent: self.nodes[node].disk.tip().id,
            epoch: Epoch(0),
            committee: self.committee.hash(),
            proposer: self.committee.validators()[node].id,
            time_ms: u64::try_from(self.now.as_millis()).unwrap(),
            l1_origin: L1Origin {
                number: round.0.into(),
                hash: B256::ZERO,
            },
            lanes_root: merkle_root(&[]),
            state_root: B256::ZERO,
            forced_to: None,
        };
        let block = Block {
            header,
            lanes: Vec::new(),
        };
        Arc::new(SealedBlock::new(&block).unwrap())
    }

    /// One turn of a node's loop: step until nothing is left to step, flush, send.
    pub(super) fn turn(&mut self, index: usize, input: Input) {
        let node = &mut self.nodes[index];
        if node.engine.is_none() {
            return;
        }
        let dies = node.crash_after == Some(0);
        node.crash_after = node.crash_after.map(|turns| turns.saturating_sub(1));
        let before = dies.then(|| node.disk.clone());
        let mut batch = std::mem::take(&mut node.disk);
        let mut inputs = VecDeque::from([input]);
        let mut sends = Vec::new();
        while let Some(input) = inputs.pop_front() {
            let now = self.now;
            let engine = self.nodes[index].engine.as_mut();
            for output in engine.map(|engine| engine.step(now, input)).unwrap_or_default() {
                self.output(index, output, &mut batch, &mut inputs, &mut sends);
            }
        }
        if let Some(before) = before {
            self.nodes[index].disk = self.torn(before, &batch);
            self.stop(index);
            return;
        }
        self.nodes[index].disk = batch;
        if self.nodes[index].fatal.is_some() {
            self.nodes[index].engine = None;
            return;
        }
        for (to, message) in sends {
            self.check_said(index, &message);
            self.send(index, to, &message);
        }
    }

    /// What a crash during the flush of `batch` leaves: some of the log's new records, and only after all of them the
    /// guard.
    fn torn(&mut self, mut disk: Disk, batch: &Disk) -> Disk {
        if disk.tip() == batch.tip() {
            let new = &batch.wal[disk.wal.len()..];
            let kept = usize::try_from(self.dice.below(new.len() as u64 + 1)).unwrap();
            disk.wal.extend_from_slice(&new[..kept]);
            if kept == new.len() && self.dice.chance(50) {
                disk.guard = batch.guard;
            }
        }
        disk
    }

    fn output(
        &mut self,
        index: usize,
        output: Output,
        batch: &mut Disk,
        inputs: &mut VecDeque<Input>,
        sends: &mut Vec<(Recipient, Message)>,
    ) {
        match output {
            Output::NeedBlock { height, round } => {
                let event = Event::Propose {
                    node: index,
                    height,
                    round,
                };
                let pace = if round == Round(0) {
                    self.pace
                } else {
                    PACE_AFTER_A_MISS
                };
                self.schedule(pace, event);
            }
            Output::CheckBlock { height, round, block } => {
                let id = block.id();
                batch.bodies.insert(id, block);
                inputs.push_back(Input::Checked {
                    height,
                    round,
                    id,
                    valid: true,
                });
            }
            Output::Persist(record) => {
                assert_eq!(WalRecord::decode(&record.encode()).unwrap(), record);
                batch.wal.push(record);
            }
            Output::PersistGuard(guard) => batch.guard = Some(guard),
            Output::Send { to, message } => sends.push((to, message)),
            Output::Decided(decided) => {
                inputs.push_back(self.decided(decided, batch));
                if self.work {
                    inputs.push_back(Input::WorkWaiting);
                }
            }
            Output::ServeSync { peer, from, to } => {
                let blocks = &batch.log[usize::try_from(from.0 - 1).unwrap()..usize::try_from(to.0).unwrap()];
                let mut blocks = blocks.to_vec();
                if self.tamper == Some(index) {
                    for block in &mut blocks {
                        block.certificate.signatures[0].signature.0[0] ^= 1;
                    }
                }
                sends.push((Recipient::Peer(peer), Message::SyncResponse { from, blocks }));
            }
            Output::ServeBlock { peer, height, id } => {
                let found = batch.log.get(usize::try_from(height.0 - 1).unwrap());
                if let Some(decided) = found.filter(|decided| decided.block.id() == id) {
                    sends.push((Recipient::Peer(peer), Message::Block(Arc::clone(&decided.block))));
                }
            }
            Output::Evidence(evidence) => {
                assert!(evidence.verify(NETWORK, &self.committee));
                self.nodes[index].evidence.push(evidence);
            }
            Output::Fault { peer, fault } => self.nodes[index].faults.push((index_of(peer), fault)),
            Output::Fatal(error) => self.nodes[index].fatal = Some(error),
        }
    }

    fn decided(&mut self, decided: DecidedBlock, batch: &mut Disk) -> Input {
        let (id, header) = (decided.block.id(), decided.block.header().clone());
        decided.certificate.verify(NETWORK, &self.committee).unwrap();
        assert_eq!(header.height, batch.tip().height.next(), "decisions come in order");
        assert_eq!(header.parent, batch.tip().id, "decisions form a chain");
        assert_eq!(decided.certificate.block, id);
        let first = *self
            .decided
            .entry(header.height)
            .or_insert((id, decided.certificate.round));
        assert_eq!(first.0, id, "two blocks decided at height {}", header.height);
        batch.rotation.decided(&self.committee, header.height, header.proposer);
        batch.log.push(decided);
        batch.wal.clear();
        batch.bodies.clear();
        let tip = batch.tip();
        let rotation = batch.rotation.clone();
        Input::Advanced { tip, rotation }
    }

    /// No honest key ever says two things about one place, whatever happened to its node in between.
    fn check_said(&mut self, index: usize, message: &Message) {
        if self.byzantine == Some(index) {
            return;
        }
        let (place, block) = match message {
            Message::Vote(vote) => ((vote.validator, vote.height, vote.round, Some(vote.kind)), vote.block),
            Message::Proposal(p) => ((p.proposer, p.height, p.round, None), Some(p.block)),
            _ => return,
        };
        let honest = self
            .byzantine
            .is_none_or(|traitor| self.committee.validators()[traitor].id != place.0);
        let first = *self.said.entry(place).or_insert(block);
        assert!(
            !honest || first == block,
            "{place:?} said twice: {first:?} and {block:?}"
        );
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.events += 1;
        self.queue.insert((self.now + after, self.events), event);
    }

    pub(super) fn send(&mut self, from: usize, to: Recipient, message: &Message) {
        let validators = self.committee.validators().len();
        let targets: Vec<usize> = match to {
            Recipient::Peer(peer) => vec![index_of(peer)],
            Recipient::Validators => (0..validators).collect(),
        };
        let class = message.class();
        let plain = message.encode();
        let lie = (self.two_faced && self.byzantine == Some(from)).then(|| self.lie(from, message).encode());
        for to in targets {
            if to == from || self.dice.chance(self.loss) {
                continue;
            }
            let bytes = lie.as_ref().filter(|_| to % 2 == 1).unwrap_or(&plain);
            let latency = self.latency_ms.0 + self.dice.below(self.latency_ms.1 + 1);
            let bytes = bytes.clone();
            let remote = self.remote.filter(|(node, _)| *node == from || *node == to);
            let latency = latency + remote.map_or(0, |(_, more)| more);
            // A class is a stream: what is sent later arrives later.
            let last = self.streams.entry((from, to, class)).or_default();
            *last = (*last).max(self.now + Duration::from_millis(latency));
            let latency = *last - self.now;
            self.schedule(latency, Event::Deliver { from, to, class, bytes });
        }
    }
}
