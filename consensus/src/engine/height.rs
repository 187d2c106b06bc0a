//! A height's life: recovery, start, decision, and on to the next.

use fusion_types::{Committee, DecidedBlock, Epoch, Height, NetworkId, Rotation, ValidatorId};

use super::{Book, Engine, LIVE_LAG, LIVE_PATIENCE, MEETING, Phase, SYNC_PATIENCE, TIP_INTERVAL};
use crate::engine::book::ProposalState;
use crate::guard::GuardState;
use crate::interface::{Fault, Output, Recipient, Recovery, RecoveryError, Tip};
use crate::sync::SyncFault;
use crate::wal::WalEntry;
use crate::wire::{Message, PeerId};

/// The log's entries of `height`, and whether they are all that it ever held. Signatures are checked again: the log
/// is as good as the disk that kept it.
pub(super) fn usable_log(
    network: NetworkId,
    committee: &Committee,
    height: Height,
    recovery: &Recovery,
) -> (Vec<WalEntry>, bool) {
    let records = recovery.wal.iter().filter(|record| record.height() == height);
    let mut entries = Vec::new();
    for entry in records.map(|record| &record.entry) {
        let verifies = match entry {
            WalEntry::Vote(vote) => vote.verify(network, committee),
            WalEntry::Proposal(proposal) => proposal.verify(network, committee),
            WalEntry::Polka(polka) => {
                let votes = polka.votes(committee);
                votes.is_some_and(|votes| votes.iter().all(|vote| vote.verify(network, committee)))
            }
            WalEntry::Value(_) | WalEntry::Timeout(_) => true,
        };
        if !verifies {
            return (entries, false);
        }
        entries.push(entry.clone());
    }
    (entries, recovery.wal_readable)
}

/// The guard to go on with.
pub(super) fn guard_of(
    network: NetworkId,
    validator: ValidatorId,
    found: Option<GuardState>,
) -> Result<GuardState, RecoveryError> {
    let guard = found.unwrap_or_else(|| GuardState::new(network, validator));
    if guard.network() != network {
        return Err(RecoveryError::GuardNetwork {
            found: guard.network(),
            expected: network,
        });
    }
    if guard.validator() != validator {
        return Err(RecoveryError::GuardKey);
    }
    Ok(guard)
}

/// Up to which height this key must be silent: as far as the guard knows of signatures that the log does not show.
/// A log that is not whole is no reason by itself: without a signature at its height there is nothing to forget.
pub(super) fn quarantine(guard: &GuardState, height: Height, log: &[WalEntry], whole: bool) -> Option<Height> {
    let last = guard.height().filter(|last| *last >= height)?;
    let vote_shown = guard.last_vote().is_none_or(|vote| {
        vote.height < height
            || log
                .iter()
                .any(|entry| matches!(entry, WalEntry::Vote(logged) if logged == vote))
    });
    let proposal_shown = guard.last_proposal().is_none_or(|proposal| {
        let is_it = |entry: &WalEntry| matches!(entry, WalEntry::Proposal(logged) if logged == proposal);
        proposal.height < height || log.iter().any(is_it)
    });
    let shown = whole && last == height && vote_shown && proposal_shown;
    (!shown).then_some(last)
}

/// The log may be ahead of the guard, when the power went between the two: what it shows is signed. Returns whether it
/// was.
pub(super) fn adopt(guard: &mut GuardState, epoch: Epoch, log: &[WalEntry]) -> bool {
    let (before, me) = (*guard, guard.validator());
    for entry in log {
        match entry {
            WalEntry::Vote(vote) if vote.validator == me => guard.record_vote(epoch, *vote),
            WalEntry::Proposal(proposal) if proposal.proposer == me => guard.record_proposal(epoch, *proposal),
            _ => {}
        }
    }
    *guard != before
}

impl Engine {
    pub(super) fn start(&mut self) {
        self.sync_progress = self.now;
        if std::mem::take(&mut self.guard_is_news)
            && let Some(guard) = self.guard().copied()
        {
            self.outputs.push(Output::PersistGuard(guard));
        }
        if self.machine.is_none() {
            return;
        }
        if self.own_power() < self.committee().quorum() {
            self.meeting = Some(self.now + MEETING);
        } else {
            self.start_height();
        }
    }

    /// Whether to go on listening before anything is signed. A home restored from a copy, even one from before its
    /// first signature, would have this key sign where it signed before; others know better. What more than a third
    /// of power claims, an honest node has seen: up to there this node only follows. The wait is bounded: without a
    /// quorum in reach nothing is decided by what it signs, but two halves of a cluster that start one after the
    /// other must not wait for each other for ever.
    fn is_meeting(&mut self) -> bool {
        let Some(until) = self.meeting else {
            return false;
        };
        let committee = self.committee();
        let power_of = |peer: &PeerId| {
            committee
                .index_of_peer(peer.0)
                .map(|index| committee.validators()[index].power)
        };
        let tips = self.sync.tips();
        let mut claims: Vec<(Height, u64)> = tips.filter_map(|(peer, tip)| Some((tip, power_of(&peer)?))).collect();
        let heard: u64 = claims.iter().map(|(_, power)| power).sum();
        if heard + self.own_power() < committee.quorum() && self.now < until {
            return true;
        }
        let faulty_max = committee.total_power() - committee.quorum();
        claims.sort_unstable();
        let mut vouched = 0;
        let reached = claims.iter().rev().find(|(_, power)| {
            vouched += power;
            vouched > faulty_max
        });
        let reached = reached.map(|(tip, _)| *tip).filter(|tip| *tip > self.tip.height);
        self.meeting = None;
        if let Some(reached) = reached {
            tracing::info!(%reached, tip = %self.tip.height, "others are ahead: nothing is signed up to their height");
            self.quarantine = self.quarantine.max(Some(reached));
        }
        false
    }

    fn own_power(&self) -> u64 {
        let index = self.me.and_then(|me| self.committee().index_of(me));
        index.map_or(0, |index| self.committee().validators()[index].power)
    }

    /// Starts the core at the height above the tip, where the log left it, and lets in what came early.
    pub(super) fn start_height(&mut self) {
        let log = std::mem::take(&mut self.log);
        if log.is_empty() {
            self.begin();
        } else {
            self.replay(log);
        }
        // Who sent them may be gone by now, and the height may end among them: what they sign counts, and convicts, all
        // the same.
        let height = self.height();
        for (peer, message) in self.future.take(height) {
            if self.halted {
                break;
            }
            self.sort(peer, height, message);
        }
    }

    fn begin(&mut self) {
        let height = self.height();
        let voting = !self.is_quarantined();
        self.phase = Phase::Running;
        self.stirred = std::mem::take(&mut self.work_waiting);
        self.repeated = None;
        let (members, epoch) = (self.members.clone(), self.committee().epoch());
        if let Some(machine) = &mut self.machine {
            let acts = machine.start(height, members, epoch, voting);
            self.apply(acts);
        }
    }

    /// Brings the core to where it was when the log ends. Own messages come out of it with the signatures that they
    /// had; one that had not reached the log is signed, logged and sent now.
    fn replay(&mut self, log: Vec<WalEntry>) {
        let Some(me) = self.me else { return };
        let height = self.height();
        let own = log.iter().filter(|entry| match entry {
            WalEntry::Vote(vote) => vote.validator == me,
            WalEntry::Proposal(proposal) => proposal.proposer == me,
            _ => false,
        });
        self.replayed = Some(own.cloned().collect());
        self.begin();
        if let Some(machine) = &mut self.machine {
            machine.begin_replay(&log, height);
        }
        for entry in &log {
            self.enter(entry);
            if self.halted || self.phase != Phase::Running {
                break;
            }
            let acts = self.machine.as_mut().map(|machine| machine.replay(entry, height));
            self.apply(acts.unwrap_or_default());
        }
        if let Some(machine) = &mut self.machine {
            machine.end_replay();
        }
        self.replayed = None;
        if self.phase != Phase::Running || self.halted {
            return;
        }
        let round = self.round();
        let proposes = self
            .machine
            .as_ref()
            .is_some_and(crate::malachite::Machine::is_proposing);
        let mine = self.members.id(self.members.proposer(round)) == Some(me) && !self.is_quarantined();
        if proposes && mine && self.book.proposal_by(me, round).is_none() {
            self.need_block(round);
        }
        self.repeat_own(Recipient::Validators);
    }

    /// Enters a log entry, whose signatures are verified, into the book.
    fn enter(&mut self, entry: &WalEntry) {
        let (network, committee) = (self.network, self.schedule.committee(self.height()).clone());
        match entry {
            WalEntry::Vote(vote) => {
                if let Some(vote) = vote.verified(network, &committee) {
                    self.note_vote(&vote);
                }
            }
            WalEntry::Proposal(proposal) => {
                if let Some(proposal) = proposal.verified(network, &committee) {
                    self.note_proposal(proposal, ProposalState::Settled);
                }
            }
            WalEntry::Polka(polka) => {
                for vote in polka.votes(&committee).unwrap_or_default() {
                    if let Some(vote) = vote.verified(network, &committee) {
                        self.note_vote(&vote);
                    }
                }
            }
            WalEntry::Value(value) => {
                let verdict = if value.valid {
                    super::bodies::Verdict::Valid
                } else {
                    super::bodies::Verdict::Invalid
                };
                self.bodies.set_verdict(value.block, verdict);
                self.bodies.tell(value.block);
            }
            WalEntry::Timeout(_) => {}
        }
    }

    /// Emits the decision as soon as its body is here; says whether it did.
    pub(super) fn try_commit(&mut self) -> bool {
        if self.phase == Phase::Decided || self.halted {
            return false;
        }
        if self.commit.is_none() && self.phase == Phase::Running {
            let decided = self.book.committed(self.committee().quorum());
            self.commit = decided.map(|(round, id)| (self.book.certificate(self.committee(), round, id), true));
        }
        let Some((certificate, live)) = self.commit.take() else {
            return false;
        };
        let Some(block) = self.bodies.get(certificate.block) else {
            self.bodies.want(self.now, certificate.block, true);
            self.commit = Some((certificate, live));
            return false;
        };
        let block = block.clone();
        self.live = live;
        self.phase = Phase::Decided;
        self.timers.clear();
        self.bodies.want_nothing();
        self.outputs.push(Output::Decided(DecidedBlock { block, certificate }));
        true
    }

    /// Takes the next synced block, if there is one, verifies it and makes it the decision; says whether it did.
    pub(super) fn try_sync(&mut self) -> bool {
        if self.phase == Phase::Decided || self.halted {
            return false;
        }
        while let Some((peer, decided)) = self.sync.take(self.height()) {
            match self.check_synced(&decided) {
                Ok(()) => {
                    self.witness_certificate(&decided.certificate);
                    self.bodies.insert(self.now, decided.block);
                    self.commit = Some((decided.certificate, false));
                    self.sync_progress = self.now;
                    return true;
                }
                Err(fault) => {
                    self.sync.reject(self.now, peer);
                    self.fault(peer, Fault::Sync(fault));
                }
            }
        }
        false
    }

    fn check_synced(&self, decided: &DecidedBlock) -> Result<(), SyncFault> {
        let (header, certificate) = (decided.block.header(), &decided.certificate);
        let height = self.height();
        let committee = self.committee();
        if header.network != self.network || header.parent != self.tip.id || header.height != height {
            return Err(SyncFault::Chain);
        }
        if header.epoch != committee.epoch() || header.committee != self.schedule.committee_hash(height) {
            return Err(SyncFault::Chain);
        }
        let same = certificate.height == height && certificate.block == decided.block.id();
        if same && certificate.verify(self.network, committee).is_ok() {
            Ok(())
        } else {
            Err(SyncFault::Certificate)
        }
    }

    pub(super) fn advanced(&mut self, tip: Tip, rotation: Rotation) {
        if self.phase != Phase::Decided || tip.height != self.height() {
            tracing::error!(height = %tip.height, expected = %self.height(), "the shell advanced to another height");
            return;
        }
        self.tip = tip;
        self.rotation = rotation;
        self.phase = Phase::Idle;
        self.log.clear();
        self.behind_since = None;
        let height = self.height();
        let committee = self.schedule.committee(height).clone();
        self.members.turn(&committee, height, &self.rotation);
        self.last_book = Some(std::mem::replace(&mut self.book, Book::new(height)));
        self.bodies.advance(tip.height);
        self.sync.advance(height);
        // What came early for a height that sync decided can still convict its signers.
        for (peer, message) in self.future.take(tip.height) {
            self.late(peer, &message);
        }
        self.tip_is_news = true;
        // While catching up every block would be news to nobody.
        if self.live || !self.sync.holds(height) {
            self.tell_followers();
        }
    }

    /// Followers have nothing but this to tell them that there is a block to ask for.
    fn tell_followers(&mut self) {
        let followers = self.peers.iter().filter(|(_, peer)| peer.validator.is_none());
        let followers: Vec<PeerId> = followers.map(|(peer, _)| *peer).collect();
        for peer in followers {
            self.send(Recipient::Peer(peer), self.status());
        }
    }

    /// A validator mostly decides by itself a moment later: the tip in so many words is for one that lost something.
    fn tell_validators(&mut self) {
        if self.tip_is_news && self.now >= self.tip_told + TIP_INTERVAL {
            self.tip_is_news = false;
            self.tip_told = self.now;
            self.send(Recipient::Validators, self.status());
        }
    }

    pub(super) fn status(&self) -> Message {
        Message::Status {
            tip: self.tip.height,
            tip_id: self.tip.id,
        }
    }

    /// Does whatever has become possible.
    pub(super) fn settle(&mut self) {
        loop {
            let moved = self.try_commit() || self.try_sync() || self.try_start() || self.try_proposals();
            if !moved || self.halted {
                break;
            }
        }
        if self.halted {
            return;
        }
        self.end_vain_waits();
        self.tell_validators();
        self.ask_for_bodies();
        self.ask_for_blocks();
    }

    /// Starts the next height, unless blocks are on their way; says whether it did.
    fn try_start(&mut self) -> bool {
        let catching_up = self.lag() > LIVE_LAG && self.now < self.sync_progress + SYNC_PATIENCE;
        if self.phase != Phase::Idle || self.machine.is_none() || self.commit.is_some() || catching_up {
            return false;
        }
        if self.is_meeting() {
            return false;
        }
        self.start_height();
        true
    }

    fn ask_for_blocks(&mut self) {
        let lag = self.lag();
        if lag == 0 {
            self.behind_since = None;
            return;
        }
        let since = *self.behind_since.get_or_insert(self.now);
        let live = self.live && self.phase == Phase::Running && lag <= LIVE_LAG;
        if live && self.now < since + LIVE_PATIENCE {
            return;
        }
        let next = if self.phase == Phase::Decided {
            self.height().next()
        } else {
            self.height()
        };
        for ask in self.sync.plan(self.now, next) {
            let message = Message::SyncRequest {
                from: ask.from,
                to: ask.to,
            };
            self.send(Recipient::Peer(ask.peer), message);
        }
    }

    fn ask_for_bodies(&mut self) {
        let height = self.height();
        for (id, asked) in self.bodies.due(self.now) {
            let mut holders: Vec<PeerId> = self
                .book
                .voters(id)
                .into_iter()
                .filter_map(|at| self.peer_of(at))
                .collect();
            if holders.is_empty() {
                // Nobody is known to have it: whoever proposed it has, and others may.
                let round = self.book.last_proposed(id).unwrap_or_default();
                holders.extend(self.peer_of(self.members.proposer(round)));
                let validators = self.peers.iter().filter(|(_, peer)| peer.validator.is_some());
                holders.extend(validators.map(|(peer, _)| *peer));
            }
            if let Some(peer) = holders.get(asked as usize % holders.len().max(1)) {
                self.send(Recipient::Peer(*peer), Message::BlockRequest { height, id });
            }
        }
    }
}
