//! The engine: one node's part in consensus, as a pure step function.
//!
//! It promises: outputs are a function of the inputs and their times alone; nothing unverified reaches the core;
//! every queue is bounded; what must be durable before a message leaves comes out in the same step as the message,
//! before it. It leaves to the shell: time, disk, network, and what a block's content means.

mod acts;
mod bodies;
mod book;
mod future;
mod height;
mod liveness;
mod receive;
mod sizes;
mod witness;

pub use sizes::EngineSizes;

use std::collections::BTreeMap;
use std::time::Duration;

use fusion_types::{BlockId, Certificate, Committee, Height, NetworkId, Rotation, Round, ValidatorId};

use crate::context::{Members, Timeouts};
use crate::evidence::{Evidence, EvidenceLog};
use crate::guard::GuardState;
use crate::interface::{EngineConfig, FatalError, Fault, Input, Output, Recipient, Recovery, RecoveryError, Tip};
use crate::malachite::Machine;
use crate::schedule::CommitteeSchedule;
use crate::signing::Signer;
use crate::sync::Sync;
use crate::timers::Timers;
use crate::wal::WalEntry;
use crate::wire::{Message, PeerId};

use self::bodies::Bodies;
use self::book::Book;
use self::future::Future;

/// How many heights a node may lag and still count on live consensus to catch up.
const LIVE_LAG: u64 = 2;

/// How long a live node waits for the decision that a peer already has before it asks for the block.
const LIVE_PATIENCE: Duration = Duration::from_millis(150);

/// A node tells validators its tip this often at most. Well below [`LIVE_PATIENCE`].
const TIP_INTERVAL: Duration = Duration::from_millis(50);

/// How long a node that starts listens for the tips of a quorum before it signs.
const MEETING: Duration = Duration::from_secs(1);

/// How long a lagging node waits for blocks before it takes part in consensus again.
const SYNC_PATIENCE: Duration = Duration::from_secs(1);

/// A peer that broke rules so often is not listened to for [`MUTE`].
const STRIKES_MAX: u32 = 3;

/// How long a peer that broke rules is not listened to.
const MUTE: Duration = Duration::from_secs(60);

/// Messages of rounds further ahead are dropped. Malachite has the same bound.
const ROUNDS_AHEAD_MAX: u32 = 10;

/// Messages of heights further ahead are dropped.
const HEIGHTS_AHEAD_MAX: u64 = 2;

/// Others' votes repeated in one go when a round does not move: enough for a small committee at once.
const RELAYED_VOTES_MAX: usize = 32;

/// Where the engine stands with the height above its tip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The core does not run: not started, catching up, or this node follows.
    Idle,
    /// The core runs.
    Running,
    /// The block is out; the shell applies it.
    Decided,
}

#[derive(Debug)]
struct Peer {
    /// Index in the committee of the height above the tip.
    validator: Option<usize>,
    strikes: u32,
}

/// One node's consensus.
pub struct Engine {
    network: NetworkId,
    schedule: CommitteeSchedule,
    timeouts: Timeouts,
    idle: Duration,
    /// This node's validator, when its key is in the committee.
    me: Option<ValidatorId>,
    machine: Option<Machine>,
    /// No vote and no proposal up to this height: the log cannot vouch for what the key signed there.
    quarantine: Option<Height>,
    /// Whether the log showed signatures that the guard's file does not hold.
    guard_is_news: bool,
    /// Until when this node waits for others' tips after its start.
    meeting: Option<Duration>,
    /// What the log holds of the height above the tip, until it is replayed.
    log: Vec<WalEntry>,
    /// Own messages in the log, while it is replayed.
    replayed: Option<Vec<WalEntry>>,

    now: Duration,
    tip: Tip,
    rotation: Rotation,
    members: Members,
    phase: Phase,
    halted: bool,
    /// Whether the last decision came from live consensus.
    live: bool,
    /// Whether there is a reason to expect a proposal before the idle interval is over.
    stirred: bool,
    work_waiting: bool,
    /// Round of the last repetition of own messages: a second one in the same round repeats others' votes too.
    repeated: Option<Round>,
    relay_from: usize,

    book: Book,
    last_book: Option<Book>,
    bodies: Bodies,
    future: Future,
    /// The decision of the height above the tip, while its body is missing.
    commit: Option<(Certificate, bool)>,
    timers: Timers,
    peers: BTreeMap<PeerId, Peer>,
    /// Until when a peer is not listened to, even if it connects again.
    muted: BTreeMap<PeerId, Duration>,
    sync: Sync,
    sync_progress: Duration,
    behind_since: Option<Duration>,
    /// Whether validators have not been told of this tip, and when they were told of one.
    tip_is_news: bool,
    tip_told: Duration,
    evidence: EvidenceLog,
    outputs: Vec<Output>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("tip", &self.tip)
            .field("phase", &self.phase)
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine that goes on where `recovery` ends. The first input must be [`Input::Start`].
    ///
    /// # Errors
    /// [`RecoveryError`] when the guard belongs to another key or network.
    pub fn new(config: EngineConfig, recovery: Recovery) -> Result<Self, RecoveryError> {
        let EngineConfig {
            network,
            schedule,
            key,
            timeouts,
            block_interval_idle,
        } = config;
        let height = recovery.tip.height.next();
        let members = Members::new(schedule.committee(height), height, &recovery.rotation);
        let (log, whole) = height::usable_log(network, schedule.committee(height), height, &recovery);
        let signer = key.map(Signer::new);
        let signer = signer.filter(|signer| schedule.committee(height).index_of(signer.id()).is_some());
        let me = signer.as_ref().map(Signer::id);
        let evidence = recovery.evidence.into_iter();
        let evidence = evidence.filter(|kept| kept.verify(network, schedule.committee(kept.height())));
        let evidence = evidence.collect();
        let (mut quarantine, mut guard_is_news) = (None, false);
        let machine = match signer {
            None => None,
            Some(signer) => {
                let mut guard = height::guard_of(network, signer.id(), recovery.guard)?;
                quarantine = height::quarantine(&guard, height, &log, whole);
                guard_is_news = height::adopt(&mut guard, schedule.committee(height).epoch(), &log);
                Some(Machine::new(signer, guard, height, members.clone()))
            }
        };
        let bodies = Bodies::of(height, recovery.bodies);
        Ok(Self {
            network,
            schedule,
            timeouts,
            idle: block_interval_idle,
            me,
            machine,
            quarantine,
            guard_is_news,
            meeting: None,
            log,
            replayed: None,
            now: Duration::ZERO,
            tip: recovery.tip,
            rotation: recovery.rotation,
            members,
            phase: Phase::Idle,
            halted: false,
            live: true,
            stirred: false,
            work_waiting: false,
            repeated: None,
            relay_from: 0,
            book: Book::new(height),
            last_book: None,
            bodies,
            future: Future::default(),
            commit: None,
            timers: Timers::default(),
            peers: BTreeMap::new(),
            muted: BTreeMap::new(),
            sync: Sync::default(),
            sync_progress: Duration::ZERO,
            behind_since: None,
            tip_is_news: false,
            tip_told: Duration::ZERO,
            evidence,
            outputs: Vec::new(),
        })
    }

    /// Takes in one event at `now`, on a clock that never goes back, and says what to do.
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Output> {
        if self.halted {
            return Vec::new();
        }
        self.now = now.max(self.now);
        match input {
            Input::Start => self.start(),
            Input::Received { peer, message } => self.received(peer, message),
            Input::PeerConnected { peer } => self.connected(peer),
            Input::PeerDisconnected { peer } => {
                self.peers.remove(&peer);
                self.sync.disconnected(peer);
            }
            Input::Propose { height, round, block } => self.propose(height, round, block),
            Input::Checked { height, id, valid, .. } => self.checked(height, id, valid),
            Input::WorkWaiting => {
                self.work_waiting = true;
                if self.phase == Phase::Running {
                    self.stir();
                }
            }
            Input::Advanced { tip, rotation } => self.advanced(tip, rotation),
            Input::DeadlinePassed => self.fire_timers(),
        }
        self.settle();
        std::mem::take(&mut self.outputs)
    }

    /// When [`Input::DeadlinePassed`] is due, on the clock of [`Engine::step`].
    pub fn deadline(&self) -> Option<Duration> {
        if self.halted {
            return None;
        }
        let bodies = self.bodies.deadline();
        let patience = self
            .behind_since
            .map(|since| since + LIVE_PATIENCE)
            .filter(|at| *at > self.now);
        let sync = self.sync.deadline(self.now, self.height());
        let waiting = self.phase == Phase::Idle && self.machine.is_some() && self.lag() > 0;
        let resume = waiting
            .then(|| self.sync_progress + SYNC_PATIENCE)
            .filter(|at| *at > self.now);
        let meeting = self.meeting.filter(|at| *at > self.now);
        let tip = self.tip_is_news.then(|| self.tip_told + TIP_INTERVAL);
        [self.timers.deadline(), bodies, patience, sync, resume, meeting, tip]
            .into_iter()
            .flatten()
            .min()
    }

    /// The height being decided: one above the tip.
    pub fn height(&self) -> Height {
        self.tip.height.next()
    }

    /// The round of that height that this node is in.
    pub fn round(&self) -> Round {
        match (&self.machine, self.phase) {
            (Some(machine), Phase::Running | Phase::Decided) => machine.round(),
            _ => Round(0),
        }
    }

    /// What the node is doing: `sync`, `new`, `propose`, `prevote`, `precommit` or `commit`.
    pub fn step_name(&self) -> &'static str {
        match (&self.machine, self.phase) {
            (_, Phase::Decided) => "commit",
            (Some(machine), Phase::Running) => machine.step_name(),
            _ => "sync",
        }
    }

    /// Whether this node has precommitted in the round in progress, or the height is decided.
    pub fn has_precommitted(&self) -> bool {
        matches!(self.step_name(), "precommit" | "commit")
    }

    /// The last block that the shell has applied.
    pub fn tip(&self) -> Tip {
        self.tip
    }

    /// This node's validator, when its key is in the committee.
    pub fn validator(&self) -> Option<ValidatorId> {
        self.me
    }

    /// Whether this node votes at the current height.
    pub fn is_voting(&self) -> bool {
        self.machine.is_some() && self.phase != Phase::Idle && !self.is_quarantined() && !self.halted
    }

    /// Whether this node follows the current height in silence because its log cannot vouch for what its key signed.
    pub fn is_quarantined(&self) -> bool {
        self.quarantine.is_some_and(|until| self.height() <= until)
    }

    /// Whether there is a reason to propose at this height now: work, or others whose timeouts already run.
    pub fn is_stirred(&self) -> bool {
        self.stirred
    }

    /// Whether a quorum prevoted for a block of the height in progress.
    pub fn has_polka(&self, block: BlockId) -> bool {
        self.book.has_polka(block, self.committee().quorum())
    }

    /// Who proposes in the round that this node is in.
    pub fn proposer(&self) -> ValidatorId {
        self.schedule.proposer(self.height(), self.round(), &self.rotation)
    }

    /// The tips that connected peers claim.
    pub fn peer_tips(&self) -> impl Iterator<Item = (PeerId, Height)> {
        self.sync.tips()
    }

    /// The evidence at hand, oldest first.
    pub fn evidence(&self) -> impl Iterator<Item = &Evidence> {
        self.evidence.iter()
    }

    /// What the consensus key signed last, when there is one.
    pub fn guard(&self) -> Option<&GuardState> {
        self.machine.as_ref().map(Machine::guard)
    }

    fn committee(&self) -> &Committee {
        self.schedule.committee(self.height())
    }

    /// How many heights the best peer is ahead.
    fn lag(&self) -> u64 {
        let best = self.sync.best_tip(self.now).map_or(0, |tip| tip.0);
        best.saturating_sub(self.tip.height.0)
    }

    fn send(&mut self, to: Recipient, message: Message) {
        self.outputs.push(Output::Send { to, message });
    }

    fn fault(&mut self, peer: PeerId, fault: Fault) {
        tracing::warn!(%peer, %fault, "a peer broke a rule");
        if let Some(state) = self.peers.get_mut(&peer) {
            state.strikes += 1;
            if state.strikes >= STRIKES_MAX {
                state.strikes = 0;
                let now = self.now;
                self.muted.retain(|_, until| *until > now);
                self.muted.insert(peer, now + MUTE);
            }
        }
        self.outputs.push(Output::Fault { peer, fault });
    }

    fn halt(&mut self, error: FatalError) {
        tracing::error!(%error, "consensus stops");
        self.halted = true;
        self.outputs.push(Output::Fatal(error));
    }

    /// The network key of the validator at `index`.
    fn peer_of(&self, index: usize) -> Option<PeerId> {
        let validator = self.committee().validators().get(index)?;
        Some(PeerId(validator.peer)).filter(|peer| self.peers.contains_key(peer))
    }

    fn body_is_here(&self, id: BlockId) -> bool {
        self.bodies.get(id).is_some()
    }
}
