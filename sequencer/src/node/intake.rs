//! From frames to messages: decoding, sealing and ingress checks.
//!
//! Promises: the node thread works on nothing that does not decode; a peer that sends such a thing is disconnected and
//! named. A vote is decoded by the node thread itself, for a task between would cost more than its 150 bytes;
//! everything larger elsewhere, bodies by a task of their own, so that hashing never delays a vote. All queues are
//! bounded: while one is full, the peers' streams that lead into it are not read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fusion_consensus::{Message, PeerId};
use fusion_mempool::PoolTransaction;
use fusion_settlement::settler::Said;
use fusion_types::Genesis;
use tokio::sync::mpsc;

use super::record::Recorder;
use crate::ingress;
pub(super) use crate::network::Credit;
use crate::network::{Class, Network, NetworkEvent};

/// Decoded bodies that may wait for the node thread.
const BODIES_MAX: usize = 16;

/// Decoded transactions and sync messages that may wait for the node thread.
const BULK_MAX: usize = 256;

/// A peer that sends what does not decode is not spoken to for this long.
const GARBAGE_BAN: Duration = Duration::from_secs(60);

/// What the node thread takes in from peers.
#[derive(Debug)]
pub(super) enum Inbound {
    /// A connection came up.
    Connected(PeerId),
    /// A connection went down.
    Disconnected(PeerId),
    /// A message of consensus or sync. The credit is the peer's right to send more; dropped when worked on.
    Message(PeerId, Message, Credit),
    /// Transactions that another node took in, and whether their senders rest on a member's word.
    Transactions(Vec<PoolTransaction>, bool, Credit),
}

/// Where the node thread takes them from. Consensus first: a flood of transactions never delays a vote.
#[derive(Debug)]
pub(super) struct Inboxes {
    /// Connections and votes, as [`Inboxes::decode`] takes them.
    pub(super) ordering: mpsc::Receiver<NetworkEvent>,
    /// Bodies.
    pub(super) bodies: mpsc::Receiver<Inbound>,
    /// Transactions and sync.
    pub(super) bulk: mpsc::Receiver<Inbound>,
    decoder: Arc<Decoder>,
}

impl Inboxes {
    /// Starts the decoding tasks between the network's inboxes and the node thread's.
    pub(super) fn start(
        genesis: Arc<Genesis>,
        network: Arc<Network>,
        ordering: mpsc::Receiver<NetworkEvent>,
        bodies: mpsc::Receiver<NetworkEvent>,
        bulk: mpsc::Receiver<NetworkEvent>,
        recorder: Recorder,
        settlement: mpsc::Sender<Said>,
    ) -> Self {
        let members = genesis
            .committee()
            .validators()
            .iter()
            .map(|validator| PeerId(validator.peer))
            .collect();
        let decoder = Arc::new(Decoder {
            genesis,
            members,
            network,
            recorder,
            settlement,
        });
        let (bodies_in, bodies_out) = mpsc::channel(BODIES_MAX);
        let (bulk_in, bulk_out) = mpsc::channel(BULK_MAX);
        tokio::spawn(decoder.clone().decode_all(bodies, bodies_in));
        tokio::spawn(decoder.clone().decode_all(bulk, bulk_in));
        Self {
            ordering,
            bodies: bodies_out,
            bulk: bulk_out,
            decoder,
        }
    }

    /// What an event of `ordering` says; `None` if it does not decode, and then its peer is disconnected.
    pub(super) fn decode(&self, event: NetworkEvent) -> Option<Inbound> {
        self.decoder.inbound(event)
    }
}

/// What decoding needs to know.
#[derive(Debug)]
struct Decoder {
    genesis: Arc<Genesis>,
    members: BTreeSet<PeerId>,
    network: Arc<Network>,
    recorder: Recorder,
    settlement: mpsc::Sender<Said>,
}

impl Decoder {
    /// Ends with the network or with the node thread.
    async fn decode_all(self: Arc<Self>, mut from: mpsc::Receiver<NetworkEvent>, to: mpsc::Sender<Inbound>) {
        while let Some(event) = from.recv().await {
            if let Some(inbound) = self.inbound(event)
                && to.send(inbound).await.is_err()
            {
                return;
            }
        }
    }

    fn inbound(&self, event: NetworkEvent) -> Option<Inbound> {
        let (peer, class, frame, credit) = match event {
            NetworkEvent::Connected { peer, .. } => return Some(Inbound::Connected(PeerId(peer.0))),
            NetworkEvent::Disconnected { peer, .. } => return Some(Inbound::Disconnected(PeerId(peer.0))),
            NetworkEvent::Received {
                peer,
                class,
                frame,
                credit,
            } => (peer, class, frame, credit),
        };
        if class == Class::Votes {
            self.recorder.received(PeerId(peer.0), &frame);
        }
        match self.decode(PeerId(peer.0), class, frame) {
            Ok(Decoded::Message(message)) => Some(Inbound::Message(PeerId(peer.0), message, credit)),
            Ok(Decoded::Settlement(said)) => {
                // A node that does not settle has nobody there; a full queue is no harm, for members repeat themselves.
                drop(self.settlement.try_send(said));
                None
            }
            Ok(Decoded::Transactions(transactions, by_member)) => {
                Some(Inbound::Transactions(transactions, by_member, credit))
            }
            Err(reason) => {
                self.network.disconnect(peer, &reason, GARBAGE_BAN);
                None
            }
        }
    }

    fn decode(&self, peer: PeerId, class: Class, frame: Bytes) -> Result<Decoded, String> {
        let message = Message::decode(consensus_class(class), &frame.into()).map_err(|error| error.to_string())?;
        let member = self.members.contains(&peer);
        let forwarded = match message {
            Message::Transactions(forwarded) => forwarded,
            Message::Offer(_) | Message::Attestation(_) if !member => {
                return Err("a batch from a node that is no member".to_owned());
            }
            Message::Offer(offer) => return Ok(Decoded::Settlement(Said::Offer(offer))),
            Message::Attestation(attestation) => return Ok(Decoded::Settlement(Said::Attestation(*attestation))),
            other => return Ok(Decoded::Message(other)),
        };
        let mut transactions = Vec::with_capacity(forwarded.len());
        for item in forwarded {
            let rollup = self
                .genesis
                .rollup(item.rollup)
                .ok_or_else(|| format!("transaction of rollup {}", item.rollup))?;
            // A member's word on the sender is taken: it only arranges this node's pool, and a signature costs 50 µs.
            let admitted = ingress::facts_without_signature(rollup, item.payload, item.sender.filter(|_| member));
            transactions.push(admitted.map_err(|reject| format!("transaction that ingress refuses: {reject}"))?);
        }
        Ok(Decoded::Transactions(transactions, member))
    }
}

enum Decoded {
    Message(Message),
    Settlement(Said),
    Transactions(Vec<PoolTransaction>, bool),
}

/// The network's name for a peer.
pub(super) fn network_id(peer: PeerId) -> crate::network::PeerId {
    crate::network::PeerId(peer.0)
}

/// The network's name for a class.
pub(super) fn network_class(class: fusion_consensus::Class) -> Class {
    match class {
        fusion_consensus::Class::Votes => Class::Votes,
        fusion_consensus::Class::Bodies => Class::Bodies,
        fusion_consensus::Class::Transactions => Class::Transactions,
        fusion_consensus::Class::Sync => Class::Sync,
    }
}

fn consensus_class(class: Class) -> fusion_consensus::Class {
    match class {
        Class::Votes => fusion_consensus::Class::Votes,
        Class::Bodies => fusion_consensus::Class::Bodies,
        Class::Transactions => fusion_consensus::Class::Transactions,
        Class::Sync => fusion_consensus::Class::Sync,
    }
}
