//! The node's loop: events in, one turn of the core, one durable flush, then everything visible.
//!
//! Promises: nothing of a turn is sent, answered or published before all its records are durable; a flush that fails
//! ends the process before anything is sent; the loop never waits for a peer, a user or a reader. It owns the core and
//! the store. Leaves to others: what to decide (`core`), bytes on wires (`network`, `node::intake`), files (`store`).

mod boot;
pub use boot::{create_guard, guard_exists, run};

mod intake;

mod record;

mod report;

mod serve;

mod settle;
pub use settle::GUARD_FILE;

mod users;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fusion_consensus::{Message, PeerId, Recipient};
use fusion_settlement::feeder::Wanted;
use fusion_types::{DecidedBlock, RollupId, TxHash};
use tokio::sync::{oneshot, watch};

use crate::core::{Action, Core, Event, Now, RequestId};
use crate::exit::{Exit, ExitError};
use crate::handle::{DISK_FULL, NodeEnd, NodeStatus, Submission};
use crate::metrics::Metrics;
use crate::network::{Class, Network};
use crate::store::{EvidenceFile, Record, Store, StoreError};
use intake::{Inbound, Inboxes};
use record::Recorder;
use report::Reporter;
use serve::Server;

/// Most events of one turn from one inbox: a turn ends, flushes and answers before the next begins.
const EVENTS_PER_TURN: usize = 256;

/// While the disk is full the node tries again this often. It signs, sends and answers nothing meanwhile.
const FULL_DISK_RETRY: Duration = Duration::from_millis(500);

/// A flush that takes longer than this is told: such a disk makes the node miss its turns.
const SLOW_FLUSH: Duration = Duration::from_secs(1);

/// Slow flushes are told at most this often.
const SLOW_FLUSH_INTERVAL: Duration = Duration::from_secs(10);

/// A peer that breaks the protocol is not spoken to for this long.
const FAULT_BAN: Duration = Duration::from_secs(60);

/// Faults of a peer within [`STRIKE_LIFETIME`] that end its connection.
const STRIKES_MAX: usize = 3;

/// A fault is forgotten after this time.
const STRIKE_LIFETIME: Duration = Duration::from_secs(60);

/// Peers whose faults are remembered. Followers may come under any key.
const STRUCK_PEERS_MAX: usize = 1024;

/// The node thread's state.
struct Node {
    core: Core,
    store: Store,
    network: Arc<Network>,
    server: Server,
    metrics: Metrics,
    reporter: Reporter,
    started: Instant,
    requests: u64,
    replies: BTreeMap<RequestId, Waiting>,
    /// When this node's users' transactions came in, until they are decided. Bounded by the pool: cleared with it.
    taken_in: HashMap<(RollupId, TxHash), Instant>,
    strikes: BTreeMap<PeerId, Vec<Instant>>,
    evidence: Unsaved,
    recorder: Recorder,
    /// When a slow flush was told last.
    slow_flush_told: Option<Instant>,
    status: watch::Sender<Arc<NodeStatus>>,
    stop: watch::Receiver<bool>,
}

/// Evidence on its way to its file. One who contradicts itself at every height must not cost a sync each time.
struct Unsaved {
    file: EvidenceFile,
    is_new: bool,
    may_write_at: Instant,
}

impl Unsaved {
    fn new(file: EvidenceFile) -> Self {
        Self {
            file,
            is_new: false,
            may_write_at: Instant::now(),
        }
    }

    /// Writes what is new, unless it wrote a moment ago. Losing it loses no promise, so that a failure ends nothing.
    fn save(&mut self, core: &Core) {
        if self.is_new && self.may_write_at <= Instant::now() {
            self.save_now(core);
        }
    }

    fn save_now(&mut self, core: &Core) {
        self.may_write_at = Instant::now() + EVIDENCE_INTERVAL;
        let kept: Vec<_> = core.evidence().copied().collect();
        match self.file.write(&kept) {
            Ok(()) => self.is_new = false,
            Err(error) => tracing::error!(%error, "evidence cannot be kept yet"),
        }
    }
}

/// A user who waits for the outcome of a submission.
struct Waiting {
    reply: oneshot::Sender<Vec<Result<(), fusion_mempool::Reject>>>,
    keys: Vec<(RollupId, TxHash)>,
    since: Instant,
}

/// The evidence file is written this often at most.
const EVIDENCE_INTERVAL: Duration = Duration::from_secs(1);

/// `taken_in` forgets everything beyond this many entries: it only feeds a histogram.
const TAKEN_IN_MAX: usize = 200_000;

impl Node {
    /// Runs turns until told to stop, or until going on could break a promise.
    async fn run(mut self, inboxes: Inboxes, end: NodeEnd) -> Result<(), ExitError> {
        let result = self.turns(inboxes, end).await;
        if self.evidence.is_new {
            self.evidence.save_now(&self.core);
        }
        result
    }

    async fn turns(&mut self, mut inboxes: Inboxes, mut end: NodeEnd) -> Result<(), ExitError> {
        let mut stop = self.stop.clone();
        let actions = self.core.start(self.now());
        self.carry_out(actions)?;
        self.reporter.publish(&self.core, &self.network, &end.status);
        loop {
            let mut events = Vec::new();
            let mut credits = Vec::new();
            let deadline = self
                .core
                .deadline()
                .map(|at| tokio::time::Instant::from_std(self.started + at));
            let report_at = tokio::time::Instant::from_std(self.reporter.due());
            let wake_at = deadline.map_or(report_at, |at| at.min(report_at));
            tokio::select! {
                biased;
                _ = stop.changed() => return Ok(()),
                Some(event) = inboxes.ordering.recv() => {
                    if let Some(inbound) = inboxes.decode(event) {
                        self.receive(inbound, &mut events, &mut credits);
                    }
                }
                Some(inbound) = inboxes.bodies.recv() => self.receive(inbound, &mut events, &mut credits),
                Some(submission) = end.submissions.recv() => self.submitted(submission, &mut events),
                Some(question) = end.questions.recv() => {
                    // The asker may have gone; nobody else wants the answer.
                    let _ = question.reply.send(self.core.is_pooled(question.rollup, &question.hash));
                }
                Some(inbound) = inboxes.bulk.recv() => self.receive(inbound, &mut events, &mut credits),
                Some(blocks) = end.l1.recv() => events.push(Event::L1(blocks)),
                () = tokio::time::sleep_until(wake_at) => {}
            }
            self.gather(&mut inboxes, &mut end, &mut events, &mut credits);
            self.metrics.heartbeat();
            let now = self.now();
            let actions = self.core.turn(now, events);
            // Before the answers: what they let go of is counted here.
            let (waiting, most) = self.core.backlog(now);
            self.want_l1(&end);
            end.room.set(waiting, most, |rollup| self.core.has_share(rollup, most));
            self.carry_out(actions)?;
            drop(credits);
            self.evidence.save(&self.core);
            self.reporter.publish(&self.core, &self.network, &end.status);
        }
    }

    /// Says from where the core wants to be fed with L1 blocks.
    fn want_l1(&self, end: &NodeEnd) {
        let wanted = self.core.l1_wanted().map(|wanted| Wanted {
            block: wanted.block,
            item: wanted.item,
        });
        end.l1_wanted
            .send_if_modified(|shown| std::mem::replace(shown, wanted) != wanted);
    }

    /// Takes what else waits, up to the limit of a turn, so that one flush serves all of it.
    fn gather(
        &mut self,
        inboxes: &mut Inboxes,
        end: &mut NodeEnd,
        events: &mut Vec<Event>,
        credits: &mut Vec<intake::Credit>,
    ) {
        for _ in 0..EVENTS_PER_TURN {
            let Ok(event) = inboxes.ordering.try_recv() else { break };
            if let Some(inbound) = inboxes.decode(event) {
                self.receive(inbound, events, credits);
            }
        }
        for _ in 0..EVENTS_PER_TURN {
            let Ok(inbound) = inboxes.bodies.try_recv() else { break };
            self.receive(inbound, events, credits);
        }
        for _ in 0..EVENTS_PER_TURN {
            let Ok(submission) = end.submissions.try_recv() else {
                break;
            };
            self.submitted(submission, events);
        }
        for _ in 0..EVENTS_PER_TURN {
            let Ok(inbound) = inboxes.bulk.try_recv() else { break };
            self.receive(inbound, events, credits);
        }
    }

    fn receive(&mut self, inbound: Inbound, events: &mut Vec<Event>, credits: &mut Vec<intake::Credit>) {
        match inbound {
            Inbound::Connected(peer) => events.push(Event::Connected { peer }),
            Inbound::Disconnected(peer) => events.push(Event::Disconnected { peer }),
            Inbound::Message(peer, message, credit) => {
                credits.push(credit);
                events.push(Event::Received { peer, message });
            }
            Inbound::Transactions(transactions, by_member, credit) => {
                credits.push(credit);
                events.push(Event::Relayed {
                    transactions,
                    by_member,
                });
            }
        }
    }

    fn submitted(&mut self, submission: Submission, events: &mut Vec<Event>) {
        let Submission { transactions, reply } = submission;
        self.requests += 1;
        let request = RequestId(self.requests);
        let keys = transactions
            .iter()
            .map(|transaction| (transaction.rollup, transaction.hash))
            .collect();
        self.replies.insert(
            request,
            Waiting {
                reply,
                keys,
                since: Instant::now(),
            },
        );
        events.push(Event::Submitted { request, transactions });
    }

    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            monotonic: self.started.elapsed(),
            unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Durable, then visible.
    fn carry_out(&mut self, actions: Vec<Action>) -> Result<(), ExitError> {
        let mut visible = Vec::with_capacity(actions.len());
        let mut records = Vec::new();
        for action in actions {
            match action {
                Action::Persist(record) => records.push(record),
                Action::Fatal(reason) => return Err(ExitError::new(Exit::Internal, reason)),
                other => visible.push(other),
            }
        }
        if !records.is_empty() {
            self.flush(&records)?;
        }
        for action in visible {
            self.show(action);
        }
        Ok(())
    }

    fn flush(&mut self, records: &[Record]) -> Result<(), ExitError> {
        let mut full = false;
        loop {
            let started = Instant::now();
            match self.store.commit(records, self.core.state()) {
                Ok(()) => {
                    self.flushed(started.elapsed());
                    if full {
                        tracing::info!("there is space on the disk again: the node goes on");
                    }
                    return Ok(());
                }
                Err(error @ StoreError::Full { .. }) => {
                    if *self.stop.borrow() {
                        return Err(ExitError::new(Exit::Storage, error));
                    }
                    // Nothing of the batch counts, and nothing of this turn was sent: waiting is safe, going on is not.
                    if !std::mem::replace(&mut full, true) {
                        tracing::error!(%error, "disk full: the node stands still until there is space");
                        self.status.send_modify(|status| {
                            let node = &mut Arc::make_mut(status).node;
                            (node.voting, node.step) = (false, DISK_FULL.to_owned());
                        });
                    }
                    self.metrics.heartbeat();
                    std::thread::sleep(FULL_DISK_RETRY);
                }
                Err(error) => {
                    self.metrics.storage_failed();
                    return Err(ExitError::new(Exit::Storage, error));
                }
            }
        }
    }

    fn flushed(&mut self, time: Duration) {
        self.metrics.flushed(time);
        let told = self.slow_flush_told;
        if time >= SLOW_FLUSH && told.is_none_or(|told| told.elapsed() >= SLOW_FLUSH_INTERVAL) {
            self.slow_flush_told = Some(Instant::now());
            tracing::warn!(
                ms = time.as_millis(),
                limit_ms = SLOW_FLUSH.as_millis(),
                "the disk is slow: a flush took this long, and votes wait for flushes"
            );
        }
    }

    fn show(&mut self, action: Action) {
        match action {
            Action::Send { to, message } => self.send(to, &message),
            Action::Reply { request, outcomes } => self.reply(request, outcomes),
            Action::Decided(decided) => self.decided(&decided),
            Action::ServeSync { peer, from, to } => self.server.blocks(peer, from, to),
            Action::ServeBlock { peer, height, id } => self.server.block(peer, height, id),
            Action::Fault { peer, reason } => self.fault(peer, &reason),
            Action::Evidence(_) => {
                self.evidence.is_new = true;
                self.reporter.evidence(self.core.evidence());
            }
            Action::Persist(_) | Action::Fatal(_) => unreachable!("taken out before the flush"),
        }
    }

    /// One fault may be a misunderstanding; a peer that goes on is not spoken to for a while.
    fn fault(&mut self, peer: PeerId, reason: &str) {
        tracing::warn!(%peer, reason, "a peer broke the protocol");
        let strikes = self.strikes.entry(peer).or_default();
        strikes.retain(|at| at.elapsed() < STRIKE_LIFETIME);
        strikes.push(Instant::now());
        if strikes.len() >= STRIKES_MAX {
            self.strikes.remove(&peer);
            self.network.disconnect(intake::network_id(peer), reason, FAULT_BAN);
        }
        while self.strikes.len() > STRUCK_PEERS_MAX {
            self.strikes.pop_first();
        }
    }

    fn send(&self, to: Recipient, message: &Message) {
        let class = intake::network_class(message.class());
        let frame = message.encode().0;
        if class == Class::Votes {
            let peer = match to {
                Recipient::Peer(peer) => Some(peer),
                Recipient::Validators => None,
            };
            self.recorder.sent(peer, &frame);
        }
        match to {
            Recipient::Peer(peer) => {
                self.network.send(intake::network_id(peer), class, frame);
            }
            Recipient::Validators => self.network.broadcast(class, &frame),
        }
    }

    fn reply(&mut self, request: RequestId, outcomes: Vec<Result<(), fusion_mempool::Reject>>) {
        let Some(waiting) = self.replies.remove(&request) else {
            return;
        };
        if self.taken_in.len() > TAKEN_IN_MAX {
            self.taken_in.clear();
        }
        for (key, outcome) in waiting.keys.iter().zip(&outcomes) {
            match outcome {
                Ok(()) => {
                    self.metrics.accepted(1);
                    self.taken_in.insert(*key, waiting.since);
                }
                Err(reject) => self.metrics.rejected(reject.name()),
            }
        }
        // The user may have gone; the transactions are in the pool all the same.
        let _ = waiting.reply.send(outcomes);
    }

    fn decided(&mut self, decided: &DecidedBlock) {
        let block = &decided.block;
        let transactions = block.block().transaction_count() as u64;
        self.metrics
            .decided(decided.certificate.round.0, transactions, block.encoded().len() as u64);
        for (body, hashes) in block.lanes() {
            for hash in hashes {
                if let Some(since) = self.taken_in.remove(&(body.lane.rollup, *hash)) {
                    self.metrics.final_after(since.elapsed());
                }
            }
        }
        self.reporter.decided();
    }
}
