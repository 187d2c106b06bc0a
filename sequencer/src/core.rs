//! What a node decides: consensus, mempool and the replicated state as one pure state machine.
//!
//! Promises: the same events at the same times give the same actions; everything that must be durable stands
//! in the returned list as [`Action::Persist`], and the shell flushes all of those before it does anything else.
//! Leaves to the shell (`node`): time, disk, network, users. Production and the simulator run this same code.

mod config;
pub use config::{CoreConfig, CoreStatus, Recovery};

mod sizes;
pub use sizes::CoreSizes;

mod backlog;
mod block_size;
mod blocks;
mod clock;
mod l1;
mod postponed;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B256, Bytes};
use fusion_consensus::{Engine, Evidence, Input, Message, Output, PeerId, Recipient};
use fusion_mempool::{L1Refused, L1View, Origin, Pool, PoolTransaction, Reject};
use fusion_types::{
    BlockId, Committee, DecidedBlock, Genesis, Height, L1Block, LaneHashes, NetworkId, RollupId, Round, State, TxHash,
    ValidatorId,
};

use crate::relay::{Key, Relay};
use crate::store::Record;
use backlog::Backlog;
use block_size::BlockSize;
use clock::Clocks;
use postponed::{Asked, Postponed};

/// The time of a turn: a monotonic clock for timers, the wall clock for block times.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Since any fixed moment of this process.
    pub monotonic: Duration,
    /// Unix time in milliseconds.
    pub unix_ms: u64,
}

/// Names a caller that waits for an answer; channels never enter the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// What reaches a node.
#[derive(Debug)]
pub enum Event {
    /// A user's transactions, checked at ingress.
    Submitted {
        /// Who waits for the outcome.
        request: RequestId,
        /// The transactions.
        transactions: Vec<PoolTransaction>,
    },
    /// Transactions that another node took in, checked there (or here, if a follower sent them).
    Relayed {
        /// The transactions.
        transactions: Vec<PoolTransaction>,
        /// Whether their senders rest on the word of a committee member.
        by_member: bool,
    },
    /// A message of consensus or sync from an authenticated peer.
    Received {
        /// The peer.
        peer: PeerId,
        /// The message.
        message: Message,
    },
    /// A connection came up.
    Connected {
        /// The peer.
        peer: PeerId,
    },
    /// A connection went down.
    Disconnected {
        /// The peer.
        peer: PeerId,
    },
    /// Finalized L1 blocks in order, from where [`Core::l1_wanted`] says.
    L1(Vec<L1Block>),
    /// The time of [`Core::deadline`] has come, or any other time has passed.
    Woken,
}

/// What a node does. All `Persist`s of a turn are flushed before any other action of it is carried out.
#[derive(Debug)]
pub enum Action {
    /// Make durable.
    Persist(Record),
    /// Send to peers.
    Send {
        /// To whom.
        to: Recipient,
        /// What.
        message: Message,
    },
    /// Answer a user: one outcome for each transaction submitted.
    Reply {
        /// Who waits.
        request: RequestId,
        /// Accepted, or why not.
        outcomes: Vec<Result<(), Reject>>,
    },
    /// A block is decided, and durable once this is carried out.
    Decided(DecidedBlock),
    /// Read decided blocks from the log and send them.
    ServeSync {
        /// To whom.
        peer: PeerId,
        /// First height.
        from: Height,
        /// Last height.
        to: Height,
    },
    /// Read one decided body from the log and send it.
    ServeBlock {
        /// To whom.
        peer: PeerId,
        /// Its height.
        height: Height,
        /// Its id.
        id: BlockId,
    },
    /// A peer broke the protocol: count it, and close the connection.
    Fault {
        /// The peer.
        peer: PeerId,
        /// What it did.
        reason: String,
    },
    /// A validator signed two contradicting messages.
    Evidence(Evidence),
    /// Stop at once: going on could break a promise.
    Fatal(String),
}

/// How often transactions that wait too long for a missing nonce are looked for.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);

/// Most records held back: bounds what a height that does not end keeps in memory.
const HELD_MAX: usize = 256;

/// A proposal that consensus asks of us.
#[derive(Debug, Clone, Copy)]
struct Need {
    height: Height,
    round: Round,
}

/// The node's decisions. One owner: the node thread, or the simulator.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    genesis: Arc<Genesis>,
    network: NetworkId,
    committee: Arc<Committee>,
    committee_hash: B256,
    /// This node as a validator, if it has a key of the committee.
    validator: Option<ValidatorId>,
    engine: Engine,
    pool: Pool,
    backlog: Backlog,
    /// Of all rollups together.
    weights: u128,
    relay: Relay,
    /// After the last decided block, with its root.
    state: State,
    state_root: B256,
    /// The block that consensus waits for from us.
    need: Option<Need>,
    height_started: Duration,
    /// Whether a proposal of this height is known, and when the last proposal of any height was.
    proposal_known: bool,
    last_proposal: Option<Duration>,
    block_size: BlockSize,
    work_told: bool,
    /// Not to propose before: this node's clock is behind the parent's time.
    clock_allows_at: Duration,
    postponed: Postponed,
    /// What is known of L1; none where nothing settles.
    l1: Option<L1View>,
    /// Whether more is known of it than when postponed proposals were looked at.
    l1_grew: bool,
    /// The last contradiction in what the watcher told.
    l1_refused: Option<L1Refused>,
    clocks: Clocks,
    /// Undecided bodies that the log already holds.
    bodies_logged: BTreeSet<BlockId>,
    expire_at: Duration,
    /// Records that nothing hangs on yet, in order.
    held: Vec<Action>,
    /// A fatal action was returned; nothing is decided any more.
    stopped: bool,
}

impl Core {
    /// A core that goes on where `recovery` ends.
    ///
    /// # Errors
    /// When the recovered parts contradict each other; the text names them.
    pub fn new(config: CoreConfig, recovery: Recovery) -> Result<Self, String> {
        let genesis = config.genesis.clone();
        let committee = Arc::new(genesis.committee().clone());
        let id = config
            .key
            .as_ref()
            .map(|key| ValidatorId(B256::from(key.verifying_key().to_bytes())));
        let engine = config.engine(&recovery)?;
        Ok(Self {
            network: genesis.network(),
            validator: id.filter(|id| committee.index_of(*id).is_some()),
            committee_hash: committee.hash(),
            pool: Pool::new(genesis.rollups(), config.pool),
            backlog: Backlog::default(),
            weights: genesis.rollups().iter().map(|rollup| u128::from(rollup.weight)).sum(),
            relay: Relay::default(),
            state_root: recovery.state.root(),
            bodies_logged: recovery.bodies.iter().map(|body| body.id()).collect(),
            l1: genesis.settlement().map(|rules| L1View::new(*rules, &recovery.state)),
            l1_grew: false,
            l1_refused: None,
            state: recovery.state,
            need: None,
            height_started: Duration::ZERO,
            proposal_known: false,
            last_proposal: None,
            block_size: BlockSize::new(config.block_bytes_target),
            work_told: false,
            clock_allows_at: Duration::ZERO,
            postponed: Postponed::default(),
            clocks: Clocks::default(),
            expire_at: Duration::ZERO,
            held: Vec::new(),
            stopped: false,
            genesis,
            committee,
            engine,
            config,
        })
    }

    /// Before the first turn: remembers what the streams carried lately, from the log's tip downwards.
    /// Returns whether the block below is needed too.
    pub fn restore(&mut self, block: &LaneHashes) -> bool {
        self.pool.restore(block, &self.state)
    }

    /// Whether [`Core::restore`] still takes transactions of a rollup; lanes of others need not be read.
    pub fn restores(&self, rollup: RollupId) -> bool {
        self.pool.window().wants(rollup)
    }

    /// The first turn.
    pub fn start(&mut self, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        self.height_started = now.monotonic;
        self.consensus(now, Input::Start, &mut actions);
        self.settle(now, &mut actions);
        self.hold_back(actions)
    }

    /// One turn: takes in what happened, returns what to do.
    pub fn turn(&mut self, now: Now, events: Vec<Event>) -> Vec<Action> {
        let mut actions = Vec::new();
        for event in events {
            if self.stopped {
                break;
            }
            self.take(now, event, &mut actions);
        }
        self.settle(now, &mut actions);
        self.hold_back(actions)
    }

    /// Keeps records back while nothing hangs on them: what others said has to be durable before we sign again or
    /// publish a decision, not sooner. So a height costs three flushes, however its votes arrive.
    fn hold_back(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let binds = |action: &Action| matches!(action, Action::Persist(Record::Guard(_) | Record::Decision(_)));
        let is_record = |action: &Action| matches!(action, Action::Persist(_));
        if self.held.len() < HELD_MAX && !actions.iter().any(binds) {
            let (records, visible) = actions.into_iter().partition(is_record);
            self.held.extend::<Vec<Action>>(records);
            return visible;
        }
        let mut all = std::mem::take(&mut self.held);
        all.extend(actions);
        all
    }

    /// When the next turn is due even if nothing happens.
    pub fn deadline(&self) -> Option<Duration> {
        let postponed = self.postponed.deadline();
        let need = self.need.filter(|_| self.knows_what_is_due());
        let propose = need.map(|_| self.propose_at());
        let times = [self.engine.deadline(), self.relay.deadline(), propose, postponed];
        times.into_iter().flatten().min()
    }

    /// The replicated state after the last decided block.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether a transaction waits in the pool.
    pub fn is_pooled(&self, rollup: RollupId, hash: &TxHash) -> bool {
        self.pool.get(rollup, hash).is_some()
    }

    /// How many transactions of this node's users wait for a decision, and how many may before users are refused.
    /// Those that wait for a missing nonce do not count, as far as they can be told apart. To be asked after every
    /// turn.
    pub fn backlog(&mut self, now: Now) -> (usize, usize) {
        let waiting = self.waiting();
        (waiting, self.backlog.most(now.monotonic, waiting))
    }

    fn waiting(&self) -> usize {
        self.relay.waiting().min(self.pool.executable())
    }

    /// Whether a rollup has its share by weight, or more, when `most` transactions may wait: all that wait here count,
    /// whoever's users sent them.
    pub fn has_share(&self, rollup: RollupId, most: usize) -> bool {
        let Some(config) = self.genesis.rollup(rollup) else {
            return true;
        };
        let executable = self.pool.pending(rollup).map_or(0, |pending| pending.executable);
        executable >= backlog::share(most, config.weight, self.weights)
    }

    /// Where this core stands.
    pub fn status(&self) -> CoreStatus {
        CoreStatus {
            height: self.state.height,
            block: self.state.block,
            time_ms: self.state.time_ms,
            round: self.engine.round(),
            step: self.engine.step_name(),
            voting: self.engine.is_voting(),
            quarantined: self.engine.is_quarantined(),
            pool_transactions: self.pool.len(),
            pool_bytes: self.pool.bytes(),
            clocks_ahead_ms: self.clocks.ahead_ms(),
        }
    }

    /// The tips that peers told.
    pub fn peer_tips(&self) -> impl Iterator<Item = (PeerId, Height)> {
        self.engine.peer_tips()
    }

    /// The evidence at hand, oldest first.
    pub fn evidence(&self) -> impl Iterator<Item = &Evidence> {
        self.engine.evidence()
    }

    fn take(&mut self, now: Now, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Submitted { request, transactions } => {
                let mut outcomes = Vec::with_capacity(transactions.len());
                for transaction in transactions {
                    let key = (transaction.rollup, transaction.hash);
                    let outcome = self.pool.insert(transaction, Origin::Local, now.monotonic);
                    if outcome.is_ok() {
                        self.relay.accepted([key]);
                    }
                    outcomes.push(outcome);
                }
                actions.push(Action::Reply { request, outcomes });
            }
            Event::Relayed {
                transactions,
                by_member,
            } => {
                let origin = if by_member { Origin::Member } else { Origin::Peer };
                for transaction in transactions {
                    // A refusal here is nobody's fault: the same transaction may have come from two nodes.
                    let _ = self.pool.insert(transaction, origin, now.monotonic);
                }
            }
            Event::Received { peer, message } => self.consensus(now, Input::Received { peer, message }, actions),
            Event::Connected { peer } => self.consensus(now, Input::PeerConnected { peer }, actions),
            Event::Disconnected { peer } => self.consensus(now, Input::PeerDisconnected { peer }, actions),
            Event::L1(blocks) => self.l1_came(now, &blocks),
            Event::Woken => {}
        }
    }

    /// The end of a turn: timers, pacing, and what the turn's events add up to.
    fn settle(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.engine.deadline().is_some_and(|deadline| deadline <= now.monotonic) {
            self.consensus(now, Input::DeadlinePassed, actions);
        }
        if !self.work_told && self.has_work() {
            self.work_told = true;
            self.consensus(now, Input::WorkWaiting, actions);
        }
        self.check_postponed(now, actions);
        // Before a proposal of our own, so that what it takes is sent to nobody.
        if self.relay.has_fresh() {
            self.backlog.waits(now.monotonic);
            let fresh = self.relay.dispatch(self.outlook(now));
            self.relay_out(&fresh, actions);
        }
        self.try_propose(now, actions);
        let pooled = |(rollup, hash): &Key| self.pool.get(*rollup, hash).is_some();
        let stalled = self
            .relay
            .stalled(now.monotonic, self.committee.validators().len(), pooled);
        self.relay_out(&stalled, actions);
        if self.expire_at <= now.monotonic {
            self.expire_at = now.monotonic + EXPIRE_INTERVAL;
            self.pool.expire(now.monotonic);
        }
    }

    /// Feeds consensus, and carries out what it asks until it asks no more.
    fn consensus(&mut self, now: Now, input: Input, actions: &mut Vec<Action>) {
        let mut outputs: VecDeque<Output> = self.engine.step(now.monotonic, input).into();
        while let Some(output) = outputs.pop_front() {
            let answer = match output {
                Output::NeedBlock { height, round } => {
                    self.need = Some(Need { height, round });
                    None
                }
                Output::CheckBlock { height, round, block } => {
                    self.check_block(now, Asked { height, round, block }, actions)
                }
                Output::Persist(record) => {
                    actions.push(Action::Persist(Record::Wal {
                        height: record.height(),
                        bytes: record.encode().into(),
                    }));
                    None
                }
                Output::PersistGuard(guard) => {
                    actions.push(Action::Persist(Record::Guard(Bytes::copy_from_slice(&guard.encode()))));
                    None
                }
                Output::Send { to, message } => {
                    actions.push(Action::Send { to, message });
                    None
                }
                Output::Decided(decided) => self.decided(now, decided, actions),
                Output::ServeSync { peer, from, to } => {
                    actions.push(Action::ServeSync { peer, from, to });
                    None
                }
                Output::ServeBlock { peer, height, id } => {
                    actions.push(Action::ServeBlock { peer, height, id });
                    None
                }
                Output::Evidence(evidence) => {
                    actions.push(Action::Evidence(evidence));
                    None
                }
                Output::Fault { peer, fault } => {
                    actions.push(Action::Fault {
                        peer,
                        reason: fault.to_string(),
                    });
                    None
                }
                Output::Fatal(error) => {
                    self.stopped = true;
                    actions.push(Action::Fatal(error.to_string()));
                    return;
                }
            };
            if let Some(input) = answer {
                outputs.extend(self.engine.step(now.monotonic, input));
            }
        }
    }
}
