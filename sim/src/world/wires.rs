//! What lies between the nodes: connections that come up and break, and messages on their way.

use std::time::Duration;

use fusion_consensus::{Forwarded, Message};
use fusion_mempool::PoolTransaction;
use fusion_sequencer::core::Event;
use fusion_sequencer::ingress;
use fusion_types::ValidatorId;

use super::acts::story_of;
use super::{What, World};
use crate::faults::Fault;
use crate::network::direction;
use crate::plan::Flaw;

impl World {
    /// Packets vanish: from `a` to `b`, from `b` to `a`.
    pub(super) fn cut(&mut self, a: usize, b: usize, ways: [bool; 2]) {
        let at = direction(a, b);
        let pair = self.network.pair(a, b);
        pair.cut[at] |= ways[0];
        pair.cut[1 - at] |= ways[1];
        self.watch(a, b);
    }

    /// Both ends will notice in time when nothing passes.
    pub(super) fn watch(&mut self, a: usize, b: usize) {
        if a != b
            && let Some(connection) = self.network.pair(a, b).connection
        {
            let timeout = self.plan.idle_timeout;
            self.after(timeout, What::Idle { a, b, connection });
        }
    }

    pub(super) fn idle(&mut self, a: usize, b: usize, connection: u64) {
        let frozen = self.nodes[a].is_frozen || self.nodes[b].is_frozen;
        if self.network.pair(a, b).connection == Some(connection) && (frozen || self.network.is_cut(a, b)) {
            self.faults.count(Fault::IdleTimeout);
            self.part(a, b);
            self.dial_soon(a, b, 50, 500);
        }
    }

    /// A link is as fast as others again, on a new connection: on the old one everything would wait for what is still
    /// on its slow way.
    pub(super) fn mend_link(&mut self, a: usize, b: usize) {
        if std::mem::replace(&mut self.network.pair(a, b).slow, 1) > 1 {
            self.part(a, b);
        }
    }

    pub(super) fn mend_cut(&mut self, a: usize, b: usize) {
        let pair = self.network.pair(a, b);
        pair.cut = [false; 2];
        let held = std::mem::take(&mut pair.held);
        for (way, messages) in held.into_iter().enumerate() {
            let (low, high) = (a.min(b), a.max(b));
            let (from, to) = if way == direction(low, high) {
                (low, high)
            } else {
                (high, low)
            };
            for message in messages {
                self.transmit(from, to, message);
            }
        }
        self.dial_soon(a, b, 1, 100);
    }

    pub(super) fn dial_soon(&mut self, a: usize, b: usize, least_ms: u64, most_ms: u64) {
        if a == b || self.network.pair(a, b).is_dialing {
            return;
        }
        self.network.pair(a, b).is_dialing = true;
        let delay = Duration::from_millis(self.rng.between(least_ms, most_ms));
        self.after(delay, What::Dial { a, b });
    }

    pub(super) fn dial(&mut self, a: usize, b: usize) {
        self.network.pair(a, b).is_dialing = false;
        let alive = |node: usize| self.nodes[node].core.is_some();
        if !alive(a) || !alive(b) || self.nodes[a].identity == self.nodes[b].identity || !self.speaks(a, b) {
            return;
        }
        let now = self.now;
        let frozen = self.nodes[a].is_frozen || self.nodes[b].is_frozen;
        let cut = self.network.is_cut(a, b);
        let pair = self.network.pair(a, b);
        if pair.connection.is_some() {
            return;
        }
        if frozen || cut || pair.banned_until > now {
            self.dial_soon(a, b, 100, 500);
            return;
        }
        self.network.connect(a, b);
        let peer = |node: usize| self.peers[self.nodes[node].identity];
        let (peer_of_a, peer_of_b) = (peer(a), peer(b));
        self.trace.note(&[a as u64, b as u64]);
        self.tell(a, Event::Connected { peer: peer_of_b });
        self.tell(b, Event::Connected { peer: peer_of_a });
    }

    /// Whether two processes would speak to each other: one that has to do with a twin knows one of the two.
    fn speaks(&self, a: usize, b: usize) -> bool {
        if self.play.is_some() {
            return true;
        }
        let side = |node: usize, other: usize| {
            let identity = self.nodes[other].identity;
            if self.plan.flaw(identity) != Some(&Flaw::Twin) {
                return true;
            }
            self.twin_side[node] == (other >= self.plan.nodes)
        };
        side(a, b) && side(b, a)
    }

    /// The connection between two nodes ends, and both notice.
    pub(super) fn part(&mut self, a: usize, b: usize) {
        if a == b || !self.network.disconnect(a, b) {
            return;
        }
        let peer = |node: usize| self.peers[self.nodes[node].identity];
        let (peer_of_a, peer_of_b) = (peer(a), peer(b));
        for (node, other, peer) in [(a, b, peer_of_b), (b, a, peer_of_a)] {
            if !self.has_other_half(node, other) {
                self.tell(node, Event::Disconnected { peer });
            }
        }
        self.dial_soon(a, b, 20, 300);
    }

    /// Whether `node` is connected to another process with the key of `other`: to the node both are one peer.
    fn has_other_half(&mut self, node: usize, other: usize) -> bool {
        let identity = self.nodes[other].identity;
        let halves = (0..self.nodes.len()).filter(|half| *half != other && self.nodes[*half].identity == identity);
        let halves: Vec<usize> = halves.collect();
        halves
            .into_iter()
            .any(|half| self.network.pair(node, half).connection.is_some())
    }

    /// Sends one message on its way.
    pub(super) fn transmit(&mut self, from: usize, to: usize, message: Message) {
        let Some(message) = self.unless_apart(from, to, message) else {
            return;
        };
        let Some(connection) = self.network.pair(from, to).connection else {
            return;
        };
        let class = message.class();
        let (least, most) = self.plan.latency_us;
        let mut delay = Duration::from_micros(self.rng.between(least, most));
        if self.is_slow(from) || self.is_slow(to) {
            delay *= 100;
        }
        let (mut overtakes, mut twice) = (false, false);
        if self.healed_at.is_none() {
            let rates = self.plan.rates.clone();
            if self.rng.chance(rates.reset) {
                self.faults.count(Fault::Reset);
                self.part(from, to);
                return;
            }
            // A queue of bodies that overflows ends the connection; the others lose a message.
            let may_lose = class != fusion_consensus::Class::Bodies;
            if may_lose && self.rng.chance(rates.drop) {
                self.faults.count(Fault::Dropped);
                return;
            }
            if self.rng.chance(rates.retransmit) {
                self.faults.count(Fault::Retransmitted);
                delay += Duration::from_millis(self.rng.between(10, 300));
            }
            overtakes = self.rng.chance(rates.reorder);
            twice = class != fusion_consensus::Class::Sync && self.rng.chance(rates.duplicate);
        }
        if overtakes {
            self.faults.count(Fault::Reordered);
        }
        if twice {
            self.faults.count(Fault::Duplicated);
        }
        for _ in 0..=u8::from(twice) {
            let at = self.network.arrival((from, to), class, self.now, delay, overtakes);
            let message = message.clone();
            let what = What::Deliver {
                from,
                to,
                connection,
                message,
            };
            self.after(at - self.now, what);
        }
    }

    fn is_slow(&self, node: usize) -> bool {
        self.healed_at.is_some() && self.plan.flaw(node) == Some(&Flaw::Slow)
    }

    pub(super) fn deliver(&mut self, (from, to): (usize, usize), connection: u64, message: Message) {
        let pair = self.network.pair(from, to);
        if pair.connection != Some(connection) {
            return;
        }
        if pair.cut[direction(from, to)] {
            pair.held[direction(from, to)].push(message);
            return;
        }
        let healed = self.healed_at.is_some();
        let silenced = |node: usize, flaw: &Flaw| healed && self.plan.flaw(node) == Some(flaw);
        if silenced(to, &Flaw::Deaf) || silenced(from, &Flaw::Mute) {
            return;
        }
        if self.is_told_of_its_twin(to, &message) {
            return;
        }
        self.trace.note(&[from as u64, to as u64]);
        self.trace
            .tell(self.now, || format!("    {to} <- {from}: {}", story_of(&message)));
        self.look_at(to, &message);
        let peer = self.peers[self.nodes[from].identity];
        let event = match message {
            Message::Transactions(forwarded) => Event::Relayed {
                transactions: forwarded.into_iter().filter_map(|one| self.admit(one)).collect(),
                by_member: true,
            },
            message => Event::Received { peer, message },
        };
        self.tell(to, event);
    }

    /// A transaction that a member forwarded, as the node's intake takes it.
    fn admit(&mut self, forwarded: Forwarded) -> Option<PoolTransaction> {
        let rollup = self.genesis.rollup(forwarded.rollup)?;
        match ingress::facts_without_signature(rollup, forwarded.payload, forwarded.sender) {
            Ok(transaction) => Some(transaction),
            Err(reject) => {
                let what = format!("a node forwards a transaction that ingress refuses: {reject}");
                self.checker.fail("honest peers", what);
                None
            }
        }
    }

    /// A message reaches a process: a contradiction among them must be noticed, unless the process ends before it gets
    /// to it. What it hears of its own key makes it end or fall silent instead: nobody accuses himself.
    fn look_at(&mut self, to: usize, message: &Message) {
        let node = &mut self.nodes[to];
        let own = self.genesis.committee().validators()[node.identity].id;
        if signer(message) == Some(own) {
            return;
        }
        if node.has_nothing_to_do() {
            node.unseen.clear();
        }
        if let Some(traitor) = &mut node.traitor {
            traitor.hear(message);
        } else if let Some(core) = &node.core
            && let Some(place) = self.checker.received(to, core.status().height.0 + 1, message)
        {
            node.unseen.push(place);
            self.faults.count(Fault::Equivocation);
        }
    }

    /// What a process did not get to look at before it ended is not held against it.
    pub(super) fn forget(&mut self, node: usize) {
        let unseen = std::mem::take(&mut self.nodes[node].unseen);
        let unseen = if self.nodes[node].has_nothing_to_do() {
            Vec::new()
        } else {
            unseen
        };
        self.checker.forgot(node, &unseen);
    }

    /// An honest node with a twin would learn of it and fall silent; whoever runs twins on purpose keeps it from them.
    fn is_told_of_its_twin(&self, to: usize, message: &Message) -> bool {
        let identity = self.nodes[to].identity;
        if self.plan.flaw(identity) != Some(&Flaw::Twin) {
            return false;
        }
        let own = self.genesis.committee().validators()[identity].id;
        match message {
            Message::Evidence(evidence) => evidence.validator() == own,
            _ => signer(message) == Some(own) || self.tells_of_other_half(to, message),
        }
    }
}

/// Whose signature a message carries, if it is one alone.
fn signer(message: &Message) -> Option<ValidatorId> {
    match message {
        Message::Vote(vote) => Some(vote.validator),
        Message::Proposal(proposal) => Some(proposal.proposer),
        _ => None,
    }
}
