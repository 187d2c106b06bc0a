//! The mesh: authenticated QUIC between the validators, and from followers to them.
//!
//! Promises at most one connection for each peer, whose key is proven; one ordered stream of frames for each
//! [`Class`] and direction, votes first; that sending never waits; and that everything is bounded: what waits
//! for a slow peer gives way by the rule of its class, and a peer that sends more than the node takes
//! is not read, which slows that peer in that class and nobody else. Nothing is sent again after a connection is
//! lost: on [`NetworkEvent::Connected`] the node repeats what the peer needs.
//!
//! Leaves the content of frames, and who deserves a ban, to the node.
//!
//! In reading order: `frame` cuts streams into frames, `queue` holds what waits for one peer, `tls` says
//! who is at the other end, `quic` opens sockets and connections, `session` runs one connection, `mesh` decides
//! which connections live, `dial` and `accept` make them.

mod frame;
pub use frame::{Class, Fault};

mod queue;

mod counters;
pub use counters::{ClassCounts, NetworkCounters};

mod ending;
pub use ending::{Cause, CloseCode};

mod tls;

mod quic;

mod session;
pub use session::Credit;

mod mesh;

mod dial;

mod accept;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use fusion_types::NetworkId;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use counters::add;
use mesh::Mesh;
use session::Session;

/// A node, by its ed25519 peer key: the key of its connections, which is not the one that signs votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub B256);

impl PeerId {
    /// The id of the node with this key.
    pub fn of(key: &SigningKey) -> Self {
        Self(B256::from(key.verifying_key().to_bytes()))
    }
}

impl std::fmt::Display for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A member of the committee, and where to dial it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatorAddress {
    /// Its peer key.
    pub peer: PeerId,
    /// `host:port`, the host a name or an address. `None`: it is expected to dial this node.
    pub address: Option<String>,
}

/// How many strangers a node serves, and how far it trusts the committee's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most followers connected at once. Validators always have a place. Default 64.
    pub followers_max: usize,
    /// Least bytes that may be on their way to a validator, whatever gets lost. At least a packet. Default 256 KiB.
    pub window_floor_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            followers_max: 64,
            window_floor_bytes: 256 << 10,
        }
    }
}

/// Times of the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Silence after which a keep-alive is sent. Default 1 s: with it, a node learns of a peer's restart.
    pub keep_alive: Duration,
    /// Silence after which a connection is lost. Default 5 s; of two nodes the shorter counts.
    pub idle: Duration,
    /// Most time for resolving an address, and for a handshake. Default 2 s.
    pub handshake: Duration,
    /// How much later than the other the node with the higher id dials. Default 500 ms: a handshake around the world.
    pub grace: Duration,
    /// Pause after the first failed attempt; it doubles with each further one. Default 100 ms.
    pub pause_min: Duration,
    /// Longest pause while a peer does not answer. Default 1 s: after a partition heals, a first block is due within
    /// two timeouts, and an unanswered packet a second costs nothing.
    pub pause_max: Duration,
    /// Longest pause while a peer refuses. Default 5 s.
    pub pause_refused_max: Duration,
    /// A connection that lasted this long counts as a success. Default 1 s.
    pub settled: Duration,
    /// Handshakes in a row that one peer does not answer, after which the dialing socket is replaced. Default 8.
    pub renew_after: u32,
    /// A follower that began a frame must go on within this time. Default 10 s.
    pub stall: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(1),
            idle: Duration::from_secs(5),
            handshake: Duration::from_secs(2),
            grace: Duration::from_millis(500),
            pause_min: Duration::from_millis(100),
            pause_max: Duration::from_secs(1),
            pause_refused_max: Duration::from_secs(5),
            settled: Duration::from_secs(1),
            renew_after: 8,
            stall: Duration::from_secs(10),
        }
    }
}

/// What a node must know to join the mesh.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Address of the UDP socket that validators listen on. A follower only dials, from a port of the system's choice
    /// on this interface.
    pub listen: SocketAddr,
    /// The node's peer key. It is a validator if `validators` has it, else a follower.
    pub key: SigningKey,
    /// The network; a node of another one fails the handshake.
    pub network: NetworkId,
    /// The committee, this node included if it is in it.
    pub validators: Vec<ValidatorAddress>,
    /// How many strangers to serve.
    pub limits: Limits,
    /// Times of the connections.
    pub timing: Timing,
}

/// Something that the node must know of.
#[derive(Debug)]
pub enum NetworkEvent {
    /// A peer is connected: both ends have taken the connection. Comes before anything received over it.
    Connected {
        /// Who.
        peer: PeerId,
        /// Whether it is in the committee.
        validator: bool,
    },
    /// The connection is gone. Comes after everything received over it in `ordering`; frames in the others may still
    /// wait there.
    Disconnected {
        /// Who.
        peer: PeerId,
        /// Why.
        cause: Cause,
    },
    /// A frame.
    Received {
        /// From whom.
        peer: PeerId,
        /// On the stream of which class. A follower sends transactions and sync only.
        class: Class,
        /// Its payload, not empty, within the limit of its class.
        frame: Bytes,
        /// Hold it until the frame is worked on: it is the peer's right to send more.
        credit: Credit,
    },
}

/// Where events go. Bounded: while one is full, the streams that lead into it are not read.
#[derive(Debug, Clone)]
pub struct Inbox {
    /// `Connected`, `Disconnected` and votes. 4,096 is a good capacity.
    pub ordering: mpsc::Sender<NetworkEvent>,
    /// Bodies. 16 is a good capacity.
    pub bodies: mpsc::Sender<NetworkEvent>,
    /// Transactions and sync. 1,024 is a good capacity.
    pub bulk: mpsc::Sender<NetworkEvent>,
}

/// Why the network does not start.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The socket cannot be bound.
    #[error("cannot bind UDP {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// A validator's address is not `host:port`.
    #[error("address of validator {peer} is {address:?}, which is not host:port")]
    Address {
        /// The validator.
        peer: PeerId,
        /// What was configured.
        address: String,
    },
    /// A validator named twice.
    #[error("validator {0} is named twice")]
    Repeated(PeerId),
    /// The key does not make a TLS identity.
    #[error("peer key: {0}")]
    Tls(String),
    /// The network has been shut down.
    #[error("the network is shut down")]
    Closed,
}

/// How the path to a peer does, as this end sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathStatus {
    /// Estimated round trip.
    pub round_trip: Duration,
    /// Bytes that may be on their way at once.
    pub window_bytes: u64,
    /// Packets sent over this connection.
    pub packets_sent: u64,
    /// Of these, packets taken for lost and sent again.
    pub packets_lost: u64,
    /// Largest packet that the path carries, in bytes.
    pub packet_bytes_max: u16,
}

/// What is known of a connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub peer: PeerId,
    /// Where its packets come from.
    pub address: SocketAddr,
    /// Whether it is in the committee.
    pub validator: bool,
    /// Whether this node dialed.
    pub dialed: bool,
    /// For how long.
    pub connected: Duration,
    /// How the path to it does.
    pub path: PathStatus,
    /// What went over this connection, in the order of [`Class::ALL`].
    pub classes: [ClassCounts; 4],
    /// Frames and bytes that wait to be written to it, in the order of [`Class::ALL`].
    pub waiting: [(usize, usize); 4],
}

/// The running network of a node. Dropping it ends every connection; [`Network::shutdown`] also tells the peers.
#[derive(Debug)]
pub struct Network {
    mesh: Arc<Mesh>,
    address: SocketAddr,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Network {
    /// Binds the sockets and begins to answer and to dial. To be called on a tokio runtime.
    ///
    /// # Errors
    /// [`NetworkError`], if an address cannot be bound or does not parse, or a validator is named twice.
    pub fn start(config: NetworkConfig, inbox: Inbox) -> Result<Self, NetworkError> {
        let id = PeerId::of(&config.key);
        let mut addresses = BTreeMap::new();
        for ValidatorAddress { peer, address } in config.validators {
            check_address(peer, address.as_deref())?;
            if addresses.insert(peer, address).is_some() {
                return Err(NetworkError::Repeated(peer));
            }
        }
        let validators: BTreeSet<PeerId> = addresses.keys().copied().collect();
        let identity =
            tls::Identity::new(&config.key, config.network).map_err(|error| NetworkError::Tls(error.to_string()))?;
        let listen = validators.contains(&id);
        let sockets = quic::Sockets::bind(config.listen, listen, &config.key, identity, config.timing)?;
        let address = sockets.local_address()?;
        let mesh = Arc::new(Mesh::new(id, validators, config.limits, config.timing, sockets, inbox));
        let mut tasks = vec![tokio::spawn(accept::answer_all(mesh.clone())).abort_handle()];
        for (peer, address) in addresses {
            let Some(address) = address.filter(|_| peer != id) else {
                continue;
            };
            let target = dial::Target { peer, address };
            tasks.push(tokio::spawn(dial::keep_connected(mesh.clone(), target)).abort_handle());
        }
        tracing::info!(peer = %id, %address, validator = listen, "network started");
        Ok(Self {
            mesh,
            address,
            tasks: Mutex::new(tasks),
        })
    }

    /// This node's id.
    pub fn id(&self) -> PeerId {
        self.mesh.id
    }

    /// The address it listens on; of a follower, the one it dials from.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Queues `frame` for `peer`. Never waits. False: `peer` is not connected, or the frame was dropped by the rule of
    /// its class.
    ///
    /// A frame that the peer would refuse (too large, or a class in which a follower does not send) is dropped and
    /// counted.
    pub fn send(&self, peer: PeerId, class: Class, frame: Bytes) -> bool {
        if !self.may_send(class, &frame) {
            return false;
        }
        let session = self.mesh.session(peer);
        session.is_some_and(|session| session.send(&self.mesh, class, frame))
    }

    /// Queues `frame` for every connected validator. Never waits.
    pub fn broadcast(&self, class: Class, frame: &Bytes) {
        if !self.may_send(class, frame) {
            return;
        }
        self.mesh.for_each_session(|session| {
            if session.validator {
                session.send(&self.mesh, class, frame.clone());
            }
        });
    }

    /// Ends the connection with `peer`, if there is one, and refuses others for as long as `ban`.
    pub fn disconnect(&self, peer: PeerId, reason: &str, ban: Duration) {
        tracing::info!(%peer, reason, ban_seconds = ban.as_secs(), "disconnecting peer");
        if !ban.is_zero() {
            self.mesh.ban(peer, ban);
        }
        if let Some(session) = self.mesh.session(peer) {
            session.close(if ban.is_zero() {
                CloseCode::Asked
            } else {
                CloseCode::Banned
            });
        }
    }

    /// The connected peers, ascending by id.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let status = |session: Arc<Session>| PeerStatus {
            peer: session.peer,
            address: session.link().address(),
            validator: session.validator,
            dialed: session.link().is_dialed(),
            connected: session.connected.elapsed(),
            path: session.link().path(),
            classes: session.traffic.snapshot(),
            waiting: Class::ALL.map(|class| session.waiting(class)),
        };
        self.mesh.sessions().into_iter().map(status).collect()
    }

    /// What the network did since its start.
    pub fn counters(&self) -> NetworkCounters {
        self.mesh.counters.snapshot()
    }

    /// Closes every connection and tells the peers, for at most 500 ms. Frames that are still queued are dropped.
    pub async fn shutdown(&self) {
        self.stop();
        let told = tokio::time::timeout(Duration::from_millis(500), self.mesh.sockets.wait_idle()).await;
        if told.is_err() {
            tracing::debug!("not every peer confirmed the end of its connection");
        }
    }

    fn stop(&self) {
        self.mesh.closing.store(true, Ordering::Relaxed);
        for task in locked(&self.tasks).drain(..) {
            task.abort();
        }
        self.mesh.for_each_session(|session| session.close(CloseCode::Shutdown));
        self.mesh.sockets.close();
    }

    /// Whether peers take such a frame from this node.
    fn may_send(&self, class: Class, frame: &Bytes) -> bool {
        let limit = class.frame_bytes_max(self.mesh.is_validator());
        let fits = limit.is_some_and(|limit| !frame.is_empty() && frame.len() <= limit);
        if !fits {
            add(&self.mesh.counters.frames_unsendable, 1);
            tracing::debug!(%class, bytes = frame.len(), limit, "frame not sent: peers would refuse it");
        }
        fits
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop();
    }
}

fn check_address(peer: PeerId, address: Option<&str>) -> Result<(), NetworkError> {
    let Some(address) = address else { return Ok(()) };
    let parts = address.rsplit_once(':');
    if parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Ok(());
    }
    Err(NetworkError::Address {
        peer,
        address: address.to_owned(),
    })
}

/// Locks a mutex. What it guards is consistent after every statement, so a panic elsewhere does not spoil it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
