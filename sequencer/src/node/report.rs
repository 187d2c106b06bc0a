//! How the node stands, for users, operators and metrics: built on the node thread, read by everybody else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fusion_client::json::{Data, EvidenceJson, Hash, PeerJson, StatusJson};
use fusion_consensus::Evidence;
use fusion_types::limits::CLOCK_DRIFT_MAX_MS;
use fusion_types::{Committee, Genesis, ValidatorId, encode};
use tokio::sync::watch;

use crate::config::Config;
use crate::core::Core;
use crate::handle::{LinkStatus, NodeStatus};
use crate::keys::Keys;
use crate::metrics::{Direction, Metrics};
use crate::network::{Class, Network, NetworkCounters, PeerStatus};

/// Peers and counters are looked at this often.
const INTERVAL: Duration = Duration::from_millis(250);

/// A wrong clock is told at most this often.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);

/// What does not change while the node runs, and what was told last.
pub(super) struct Reporter {
    name: String,
    network: Hash,
    network_name: String,
    peer: Hash,
    validator: Option<ValidatorId>,
    committee: Committee,
    addresses: BTreeMap<crate::network::PeerId, String>,
    started_ms: u64,
    metrics: Metrics,
    counted: NetworkCounters,
    peers: Vec<PeerJson>,
    links: Vec<LinkStatus>,
    evidence: Vec<EvidenceJson>,
    due: Instant,
    decided: bool,
    /// When this node's clock was complained about last.
    clock_told: Option<Instant>,
}

impl Reporter {
    pub(super) fn new(config: &Config, keys: &Keys, genesis: &Genesis, metrics: Metrics) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let addresses = config
            .p2p
            .peers
            .iter()
            .map(|peer| (crate::network::PeerId(peer.id), peer.address.clone()));
        Self {
            name: config.node.name.clone(),
            network: Hash(genesis.network().0),
            network_name: genesis.name().to_owned(),
            peer: Hash(keys.peer_id()),
            validator: keys.validator(),
            committee: genesis.committee().clone(),
            addresses: addresses.collect(),
            started_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
            metrics,
            counted: NetworkCounters::default(),
            peers: Vec::new(),
            links: Vec::new(),
            evidence: Vec::new(),
            due: Instant::now(),
            decided: false,
            clock_told: None,
        }
    }

    /// When peers and counters are to be looked at again.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// A block was decided: the next publication tells the new height.
    pub(super) fn decided(&mut self) {
        self.decided = true;
    }

    /// Takes over the engine's evidence for `fusion_evidence`.
    pub(super) fn evidence<'a>(&mut self, kept: impl Iterator<Item = &'a Evidence>) {
        self.evidence = kept.map(evidence_json).collect();
    }

    /// Publishes what changed, if it is time to.
    pub(super) fn publish(&mut self, core: &Core, network: &Network, to: &watch::Sender<Arc<NodeStatus>>) {
        let due = self.due <= Instant::now();
        if due {
            self.due = Instant::now() + INTERVAL;
            let connected = network.peers();
            self.links = connected.iter().filter_map(link).collect();
            self.peers = self.peers(core, connected);
            self.count(network);
            self.tell_clock(core);
        }
        if due || std::mem::take(&mut self.decided) {
            to.send_replace(Arc::new(self.status(core)));
        }
    }

    /// Says so while this node's clock is so far behind that it is half-way to holding up the others' proposals.
    fn tell_clock(&mut self, core: &Core) {
        let limit_ms = (CLOCK_DRIFT_MAX_MS / 2).cast_signed();
        let Some(behind_ms) = core.status().clocks_ahead_ms.filter(|ahead| *ahead > limit_ms) else {
            return;
        };
        if self.clock_told.is_none_or(|told| told.elapsed() >= CLOCK_INTERVAL) {
            self.clock_told = Some(Instant::now());
            tracing::warn!(
                behind_ms,
                limit_ms,
                "this node's clock is behind the other proposers' clocks: look at its time service"
            );
        }
    }

    /// How the node stands now; peers as of the last look.
    pub(super) fn status(&self, core: &Core) -> NodeStatus {
        let status = core.status();
        let connected: Vec<usize> = self
            .peers
            .iter()
            .filter(|peer| peer.connected)
            .filter_map(|peer| peer.validator)
            .map(|index| index as usize)
            .collect();
        let own = self.validator.and_then(|id| self.committee.index_of(id));
        let members = self.committee.validators();
        let power = connected
            .iter()
            .chain(own.iter())
            .filter_map(|index| members.get(*index))
            .map(|member| member.power)
            .sum();
        let node = StatusJson {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network: self.network,
            network_name: self.network_name.clone(),
            peer: self.peer,
            validator: self.validator.map(|id| Hash(id.0)),
            role: if self.validator.is_some() {
                "validator"
            } else {
                "follower"
            }
            .to_owned(),
            voting: status.voting,
            quarantine: status.quarantined.then_some(status.height.0 + 1),
            height: status.height.0,
            tip: Hash(status.block.0),
            time_ms: status.time_ms,
            round: status.round.0,
            step: status.step.to_owned(),
            lag: self.lag(core, status.height.0),
            peers: self.peers.iter().filter(|peer| peer.connected).count() as u64,
            power_connected: power,
            power_total: self.committee.total_power(),
            quorum: self.committee.quorum(),
            pool_transactions: status.pool_transactions as u64,
            pool_bytes: status.pool_bytes as u64,
            evidence: self.evidence.len() as u64,
            started_ms: self.started_ms,
        };
        NodeStatus {
            node,
            peers: self.peers.clone(),
            links: self.links.clone(),
            evidence: self.evidence.clone(),
            clocks_ahead_ms: status.clocks_ahead_ms,
        }
    }

    /// How far behind this node is. While it has not heard the tips of a quorum it cannot know, and says 1 at least:
    /// what it does not find may be decided all the same.
    fn lag(&self, core: &Core, height: u64) -> u64 {
        let members = self.committee.validators();
        let own = self
            .validator
            .and_then(|id| self.committee.index_of(id))
            .map(|index| members[index].power);
        let (mut power, mut best) = (own.unwrap_or(0), 0);
        for (peer, tip) in core.peer_tips() {
            if let Some(index) = self.committee.index_of_peer(peer.0) {
                power = power.saturating_add(members[index].power);
                best = best.max(tip.0);
            }
        }
        let blind = u64::from(power < self.committee.quorum());
        best.saturating_sub(height).max(blind)
    }

    /// Every validator but this one, connected or not, then the followers that are connected.
    fn peers(&self, core: &Core, connected: Vec<PeerStatus>) -> Vec<PeerJson> {
        let tips: BTreeMap<_, _> = core.peer_tips().map(|(peer, height)| (peer.0, height.0)).collect();
        let mut connected: BTreeMap<_, _> = connected.into_iter().map(|peer| (peer.peer, peer)).collect();
        let mut peers = Vec::new();
        for (index, member) in self.committee.validators().iter().enumerate() {
            let id = crate::network::PeerId(member.peer);
            if Hash(member.peer) == self.peer {
                continue;
            }
            let status = connected.remove(&id);
            let known = self.addresses.get(&id).cloned();
            let address = status.as_ref().map(|status| status.address.to_string()).or(known);
            peers.push(PeerJson {
                peer: Hash(member.peer),
                validator: u32::try_from(index).ok(),
                name: String::new(),
                address: address.unwrap_or_default(),
                connected: status.is_some(),
                height: tips.get(&member.peer).copied(),
                rtt_us: status.and_then(|status| u64::try_from(status.path.round_trip.as_micros()).ok()),
            });
        }
        peers.extend(connected.into_values().map(|status| PeerJson {
            peer: Hash(status.peer.0),
            validator: None,
            name: String::new(),
            address: status.address.to_string(),
            connected: true,
            height: tips.get(&status.peer.0).copied(),
            rtt_us: u64::try_from(status.path.round_trip.as_micros()).ok(),
        }));
        peers
    }

    /// Adds to the metrics what the network did since the last look.
    fn count(&mut self, network: &Network) {
        let counters = network.counters();
        for (index, class) in Class::ALL.into_iter().enumerate() {
            let (now, then) = (counters.classes[index], self.counted.classes[index]);
            self.metrics
                .wire(class.name(), Direction::In, now.bytes_in - then.bytes_in);
            self.metrics
                .wire(class.name(), Direction::Out, now.bytes_out - then.bytes_out);
            self.metrics.dropped(class.name(), now.dropped - then.dropped);
        }
        for _ in self.counted.sockets_renewed..counters.sockets_renewed {
            self.metrics.rebound();
        }
        self.counted = counters;
    }
}

/// How the connection with `peer` does, if it is a validator: followers come and go, and nobody depends on them.
fn link(peer: &PeerStatus) -> Option<LinkStatus> {
    peer.validator.then(|| LinkStatus {
        peer: Hash(peer.peer.0),
        path: peer.path,
        waiting_bytes: peer.waiting.map(|(_, bytes)| bytes),
    })
}

fn evidence_json(evidence: &Evidence) -> EvidenceJson {
    let (kind, round, first, second) = match evidence {
        Evidence::Votes(first, second) => ("votes", first.round, encode(first), encode(second)),
        Evidence::Proposals(first, second) => ("proposals", first.round, encode(first), encode(second)),
    };
    EvidenceJson {
        kind: kind.to_owned(),
        validator: Hash(evidence.validator().0),
        height: evidence.height().0,
        round: round.0,
        first: Data(first.into()),
        second: Data(second.into()),
    }
}
