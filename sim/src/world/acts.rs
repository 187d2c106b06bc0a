//! What the shell does: turns, commits, and carrying out what a core asks for.

use std::time::Duration;

use fusion_consensus::{Message, Recipient};
use fusion_sequencer::core::{Action, Core, Event, Now};
use fusion_sequencer::store::{Record, StoreError};
use fusion_types::{Height, LaneHashes};

use super::{Moment, What, World};
use crate::disk::End;
use crate::faults::Fault;
use crate::plan::Flaw;
use crate::traitor::Deed;

/// Blocks in one answer to one who syncs.
const SYNC_BLOCKS: usize = 16;

/// While its disk is full a node tries again this often, as in production.
const FULL_DISK_RETRY: Duration = Duration::from_millis(500);

/// Faults of a peer that end its connection for a minute, as in production.
const STRIKES_MAX: u32 = 3;
const BAN: Duration = Duration::from_secs(60);

/// A message in a few words.
pub(super) fn story_of(message: &Message) -> String {
    let block = |id: &fusion_types::BlockId| format!("{:.6}", alloy_primitives::hex::encode(id.0));
    match message {
        Message::Vote(vote) => {
            let value = vote.block.as_ref().map_or("nil".into(), block);
            format!(
                "{:?} {} in {}/{} by {:.6}",
                vote.kind, value, vote.height, vote.round, vote.validator.0
            )
        }
        Message::Proposal(p) => format!(
            "proposal {} in {}/{}, valid {:?}",
            block(&p.block),
            p.height,
            p.round,
            p.valid_round
        ),
        Message::Polka(p) => format!("polka for {} in {}/{}", block(&p.block), p.height, p.round),
        Message::RoundCertificate(c) => format!("round certificate {}/{}", c.height, c.round),
        Message::Status { tip, .. } => format!("tip {tip}"),
        Message::Block(b) => format!("body {} of {}", block(&b.id()), b.header().height),
        Message::BlockRequest { height, id } => format!("asks for body {} of {height}", block(id)),
        Message::SyncRequest { from, to } => format!("asks for {from} to {to}"),
        Message::SyncResponse { from, blocks } => format!("{} blocks from {from}", blocks.len()),
        Message::Transactions(t) => format!("{} transactions", t.len()),
        Message::Evidence(e) => format!("evidence against {:.6} at {}", e.validator().0, e.height()),
        Message::Offer(o) => format!("bytes of batch {}", o.attestation.number),
        Message::Attestation(a) => format!("attestation of batch {}", a.number),
    }
}

impl World {
    fn clock(&self, node: usize) -> Now {
        let clock = &self.nodes[node].clock;
        Now {
            monotonic: clock.monotonic(self.now),
            unix_ms: clock.unix_ms(self.now),
        }
    }

    /// Something for a node to take in, now or when it can.
    pub(super) fn tell(&mut self, node: usize, event: Event) {
        if self.nodes[node].core.is_some() {
            self.nodes[node].inbox.push(event);
            self.work(node);
        }
    }

    /// A turn, if there is anything to do and the node can do it.
    pub(super) fn work(&mut self, node: usize) {
        let now = self.clock(node);
        let state = &mut self.nodes[node];
        let Some(core) = &mut state.core else { return };
        if state.is_frozen || state.showing.is_some() {
            return;
        }
        let is_due = core.deadline().is_some_and(|deadline| deadline <= now.monotonic);
        if !state.inbox.is_empty() || is_due {
            let events = std::mem::take(&mut state.inbox);
            let actions = core.turn(now, events);
            let sizes = core.sizes();
            self.checker.grew(node, &sizes);
            self.carry_out(node, actions);
        } else {
            self.set_alarm(node);
        }
    }

    fn carry_out(&mut self, node: usize, actions: Vec<Action>) {
        let mut records: Vec<Record> = Vec::new();
        let mut visible = Vec::new();
        for action in actions {
            match action {
                Action::Persist(record) => records.push(record),
                other => visible.push(other),
            }
        }
        if records.is_empty() {
            self.show_all(node, visible);
            self.set_alarm(node);
            return;
        }
        self.nodes[node].showing = Some(visible);
        self.commit(node, records);
    }

    /// Makes the turn's records durable; the power may go while it does.
    fn commit(&mut self, node: usize, records: Vec<Record>) {
        let torn = self.healed_at.is_none() && self.rng.chance(self.plan.rates.torn_commit);
        let end = if self.rng.chance(500) { End::Kill } else { End::PowerCut };
        let state = &mut self.nodes[node];
        if torn {
            self.faults.count(Fault::TornCommit);
            state.disk.end_soon(end, &mut self.rng);
        }
        let Some(core) = &state.core else { return };
        let (life, committed) = (state.life, state.disk.commit(&records, core.state()));
        match committed {
            Ok(()) if !torn => {
                if let (0, Some(moments)) = (node, &mut self.moments) {
                    moments.push(Moment {
                        disk: state.disk.copy(),
                        records,
                        state: core.state().clone(),
                        sent: Vec::new(),
                    });
                }
                let (least, most) = self.plan.flush_us;
                let micros = self.rng.between(least, most) * self.nodes[node].disk_slowness;
                self.after(Duration::from_micros(micros), What::Committed { node, life });
            }
            Err(error) if error.may_retry() && !torn => {
                state.unwritten = records;
                self.after(FULL_DISK_RETRY, What::Committed { node, life });
            }
            _ if torn => {
                self.trace
                    .tell(self.now, || format!("{node}: {end:?} in the middle of a commit"));
                self.crash(node, end);
            }
            result => {
                self.faults.count(Fault::SyncFailed);
                self.trace.tell(self.now, || {
                    format!("{node}: its disk fails, the process ends: {result:?}")
                });
                self.crash(node, End::Kill);
            }
        }
    }

    pub(super) fn committed(&mut self, node: usize) {
        if !self.nodes[node].unwritten.is_empty() {
            let records = std::mem::take(&mut self.nodes[node].unwritten);
            self.commit(node, records);
            return;
        }
        if self.nodes[node].is_frozen {
            // It goes on when it thaws.
            return;
        }
        if let Some(visible) = self.nodes[node].showing.take() {
            self.show_all(node, visible);
        }
        self.work(node);
    }

    fn show_all(&mut self, node: usize, visible: Vec<Action>) {
        for action in visible {
            if self.nodes[node].core.is_none() {
                return;
            }
            self.show(node, action);
        }
    }

    fn set_alarm(&mut self, node: usize) {
        let state = &self.nodes[node];
        let Some(deadline) = state.core.as_ref().and_then(Core::deadline) else {
            return;
        };
        let at = state.clock.when(deadline).max(self.now + Duration::from_micros(10));
        if state.woken_at.is_none_or(|woken| at < woken || woken <= self.now) {
            let life = state.life;
            self.nodes[node].woken_at = Some(at);
            self.after(at - self.now, What::Wake { node, life });
        }
    }

    fn show(&mut self, node: usize, action: Action) {
        match action {
            Action::Send { to, message } => self.send(node, to, message),
            Action::Reply { request, outcomes } => {
                self.clients.replied(request, &outcomes);
                self.answered(node, request, &outcomes);
            }
            Action::Decided(decided) => {
                let height = decided.block.header().height.0;
                self.trace.bytes(decided.block.id().0.as_slice());
                self.trace.tell(self.now, || {
                    let round = decided.certificate.round;
                    format!("{node}: decided height {height}, round {round}: {}", decided.block.id())
                });
                if self.nodes[node].traitor.is_none() {
                    self.checker.decided(node, &decided);
                }
                if self.healed_at.is_some()
                    && self.recovery.is_none()
                    && self.is_core(node)
                    && height > self.height_at_heal
                {
                    self.recovery = self.healed_at.map(|healed_at| self.now - healed_at);
                }
            }
            Action::ServeSync { peer, from, to } => self.serve_blocks(node, peer, from, to),
            Action::ServeBlock { peer, height, id } => {
                let found = self.nodes[node].disk.block(height);
                if let Some(block) = found.map(|found| found.block.clone()).filter(|block| block.id() == id) {
                    self.send(node, Recipient::Peer(peer), Message::Block(block));
                }
            }
            Action::Fatal(reason) => self.fatal(node, &reason),
            Action::Fault { peer, reason } => self.accused(node, peer, &reason),
            Action::Evidence(evidence) => {
                self.faults.count(Fault::Evidence);
                self.trace.tell(self.now, || {
                    format!("{node}: evidence against {}", evidence.validator())
                });
                if self.nodes[node].traitor.is_none() {
                    self.checker.evidence(node, &evidence);
                }
            }
            Action::Persist(_) => unreachable!("taken out before the commit"),
        }
    }

    fn serve_blocks(&mut self, node: usize, peer: fusion_consensus::PeerId, from: Height, to: Height) {
        let disk = &self.nodes[node].disk;
        let range = (from.0..=to.0)
            .take(SYNC_BLOCKS)
            .map_while(|height| disk.block(Height(height)));
        let mut blocks: Vec<_> = range.map(|decided| (*decided).clone()).collect();
        self.faults.count(Fault::SyncAnswered);
        let mut delay = Duration::ZERO;
        if let Some(traitor) = &mut self.nodes[node].traitor {
            blocks = traitor.sync(blocks);
            if traitor.does(Deed::SlowDrip) {
                delay = Duration::from_millis(self.rng.between(1_000, 3_000));
            }
        }
        let message = Message::SyncResponse { from, blocks };
        for to in self.reachable(node, Recipient::Peer(peer)) {
            let message = message.clone();
            self.after(
                delay,
                What::Answer {
                    from: node,
                    to,
                    message,
                },
            );
        }
    }

    /// A process ends itself. An honest one on an honest disk has no reason to.
    fn fatal(&mut self, node: usize, reason: &str) {
        self.trace.tell(self.now, || format!("{node}: ends itself: {reason}"));
        let identity = self.nodes[node].identity;
        if !matches!(
            self.plan.flaw(identity),
            Some(Flaw::Twin | Flaw::Restored | Flaw::Traitor(_))
        ) {
            self.checker
                .fail("honest peers", format!("node {node} ends itself: {reason}"));
        }
        self.crash(node, End::Kill);
    }

    fn accused(&mut self, node: usize, peer: fusion_consensus::PeerId, reason: &str) {
        let Some(accused) = self.peers.iter().position(|other| *other == peer) else {
            return;
        };
        self.trace
            .tell(self.now, || format!("{node}: {accused} broke the protocol: {reason}"));
        // A twin's second process stands behind the nodes of the plan.
        let honest =
            |at: usize| at < self.plan.nodes && !matches!(self.plan.flaw(at), Some(Flaw::Twin | Flaw::Traitor(_)));
        if honest(node) && honest(accused) {
            self.checker
                .fail("honest peers", format!("node {node} accuses node {accused}: {reason}"));
        }
        let strikes = self.nodes[node].strikes.entry(accused).or_default();
        *strikes += 1;
        if *strikes >= STRIKES_MAX {
            self.nodes[node].strikes.remove(&accused);
            for other in 0..self.nodes.len() {
                if self.nodes[other].identity == accused {
                    self.network.pair(node, other).banned_until = self.now + BAN;
                    self.part(node, other);
                }
            }
        }
    }

    /// The processes that a message of `from` to `to` is for.
    fn reachable(&self, from: usize, to: Recipient) -> Vec<usize> {
        let peer = |node: usize| self.peers[self.nodes[node].identity];
        let others = (0..self.nodes.len()).filter(|other| self.nodes[*other].identity != self.nodes[from].identity);
        match to {
            Recipient::Peer(wanted) => others.filter(|other| peer(*other) == wanted).collect(),
            Recipient::Validators => others.collect(),
        }
    }

    fn send(&mut self, from: usize, to: Recipient, message: Message) {
        let targets = self.reachable(from, to);
        if let Some(traitor) = &mut self.nodes[from].traitor {
            for (to, message) in traitor.twist(targets, message) {
                self.send_to(from, &to, &message);
            }
        } else {
            self.send_to(from, &targets, &message);
        }
    }

    /// A message as it leaves: encoded, and read again by those who get it.
    pub(super) fn send_to(&mut self, from: usize, targets: &[usize], message: &Message) {
        if targets.is_empty() {
            return;
        }
        if self.nodes[from].traitor.is_none() {
            self.checker.sent(message);
        }
        self.trace
            .tell(self.now, || format!("{from} -> {targets:?}: {}", story_of(message)));
        if let (0, Some(moment)) = (from, self.moments.as_mut().and_then(|moments| moments.last_mut())) {
            moment.sent.push(message.clone());
        }
        let bytes = message.encode();
        self.trace.bytes(&bytes);
        match Message::decode(message.class(), &bytes) {
            Ok(message) => {
                for to in targets {
                    self.transmit(from, *to, message.clone());
                }
            }
            Err(error) if self.nodes[from].traitor.is_none() => {
                self.checker.fail(
                    "honest peers",
                    format!("node {from} sends what nobody can read: {error}"),
                );
            }
            // A traitor's bytes that do not decode cost it the connection.
            Err(_) => targets.iter().for_each(|to| self.part(from, *to)),
        }
    }

    pub(super) fn restart(&mut self, node: usize) {
        if self.nodes[node].core.is_some() || self.plan.flaw(node) == Some(&Flaw::Gone) && self.healed_at.is_some() {
            return;
        }
        let identity = self.nodes[node].identity;
        let torn = self.healed_at.is_none() && self.rng.chance(self.plan.rates.torn_commit);
        if torn {
            self.nodes[node].disk.end_soon(End::PowerCut, &mut self.rng);
        }
        let recovery = match self.nodes[node].disk.open(&self.genesis) {
            Ok(recovery) => recovery,
            // The disk fails or is full, or the power goes during the start: another try, later.
            Err(error) if torn || error.may_retry() || matches!(error, StoreError::Io { .. }) => {
                self.trace
                    .tell(self.now, || format!("{node}: does not start yet: {error}"));
                self.nodes[node].disk.end(End::PowerCut);
                let pause = Duration::from_millis(self.rng.between(50, 1_000));
                self.after(pause, What::Restart { node });
                return;
            }
            Err(error) => {
                self.refused(node, &error);
                return;
            }
        };
        let tip = self.nodes[node].disk.tip();
        if self.nodes[node].traitor.is_none() {
            let may_be_old = self.plan.flaw(identity) == Some(&Flaw::Restored);
            let disk = &self.nodes[node].disk;
            self.checker
                .restarted(node, tip.0, &|height| disk.block(Height(height)), may_be_old);
        }
        let mut core = match Core::new(self.config(node), recovery) {
            Ok(core) => core,
            Err(error) => {
                self.checker
                    .fail("honest peers", format!("node {node} cannot start: {error}"));
                return;
            }
        };
        for height in (1..=tip.0).rev() {
            let block = self.nodes[node].disk.block(Height(height));
            if !block.is_some_and(|decided| core.restore(&LaneHashes::from(&*decided.block))) {
                break;
            }
        }
        if core.status().quarantined {
            self.faults.count(Fault::Quarantine);
        }
        self.nodes[node].clock.restart(self.now);
        let now = self.clock(node);
        let actions = core.start(now);
        self.trace.tell(self.now, || {
            let status = core.status();
            format!(
                "{node}: starts after height {}, quarantined: {}",
                status.height, status.quarantined
            )
        });
        self.nodes[node].core = Some(core);
        self.carry_out(node, actions);
        for other in 0..self.nodes.len() {
            self.dial_soon(node, other, 1, 50);
        }
    }

    /// The files cannot be opened: right only where they were damaged.
    fn refused(&mut self, node: usize, error: &StoreError) {
        self.trace.tell(self.now, || format!("{node}: does not start: {error}"));
        let flaw = self.plan.flaw(self.nodes[node].identity);
        if !matches!(
            (flaw, error),
            (Some(Flaw::DamagesGuard), StoreError::GuardUnreadable { .. })
        ) {
            self.checker
                .fail("honest peers", format!("node {node} does not start: {error}"));
        }
    }

    /// The process is gone; with the power, so is what was not synced.
    pub(super) fn crash(&mut self, node: usize, end: End) {
        if self.nodes[node].core.is_none() {
            return;
        }
        // While the core is there: it knows what it kept for later.
        self.forget(node);
        self.nodes[node].core = None;
        let mut rng = self.rng.fork();
        let state = &mut self.nodes[node];
        state.life += 1;
        state.woken_at = None;
        state.inbox.clear();
        state.showing = None;
        state.is_frozen = false;
        state.unwritten.clear();
        state.disk.end(end);
        if self.healed_at.is_none() {
            self.tamper(node, &mut rng);
        }
        for other in 0..self.nodes.len() {
            self.part(node, other);
        }
        let down = if self.healed_at.is_some() { 50 } else { 2_000 };
        let down = Duration::from_millis(self.rng.between(5, down));
        self.after(down, What::Restart { node });
    }

    /// What is wrong with a node's disk shows after a crash.
    fn tamper(&mut self, node: usize, rng: &mut crate::rng::Rng) {
        let flaw = self.plan.flaw(self.nodes[node].identity).cloned();
        let state = &mut self.nodes[node];
        match flaw {
            Some(Flaw::LosesWal) if rng.chance(500) => {
                self.faults.count(Fault::WalLost);
                state.disk.lose_wal();
            }
            Some(Flaw::DamagesGuard) if rng.chance(500) => {
                self.faults.count(Fault::GuardDamaged);
                state.disk.damage_guard(rng);
            }
            Some(Flaw::DamagesWal) if rng.chance(500) => {
                self.faults.count(Fault::WalDamaged);
                state.disk.damage_wal(rng);
            }
            Some(Flaw::Restored) => match state.backup.take() {
                Some(backup) if rng.chance(500) => {
                    self.faults.count(Fault::Restored);
                    state.disk.restore(&backup);
                }
                _ => state.backup = Some(state.disk.copy()),
            },
            _ => {}
        }
    }
}
