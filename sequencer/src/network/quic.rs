//! QUIC: sockets, connections and their one-way streams. The only file that names `quinn`.
//!
//! Promises authenticated connections with bounded windows, without migration, early data or
//! bidirectional streams. Leaves to the mesh who may connect, and to the session what the streams carry.
//!
//! A node has two sockets. The *listening* one keeps its address for life; what it tells its peers to
//! recognise a restart by derives from the node's key, so that a node that comes back makes them drop a
//! dead connection with the first packet instead of after the idle timeout. The *dialing* one has a port of the
//! system's choice, and is replaced after repeated failures: a stale entry in a connection-tracking
//! table on the way swallows packets of one source port for as long as they keep coming
//! (kubernetes#125467). Connections that live on the old socket stay there.

mod congestion;

use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use alloy_primitives::{B256, keccak256};
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{
    ClientConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig, MtuDiscoveryConfig, ServerConfig,
    TransportConfig, TransportErrorCode, VarInt,
};
use rustix::net::sockopt;
use rustls::pki_types::CertificateDer;

use self::congestion::Congestion;
use super::ending::{CloseCode, Loss, ReadEnd};
use super::frame::{Class, Fault};
use super::tls::{Identity, peer_of};
use super::{NetworkError, PathStatus, PeerId, Timing, locked};

/// Bytes of one stream that may wait to be read: 80 MB/s over a round trip of 100 ms.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// Bytes of one connection with a validator that may wait to be read, or to be acknowledged: its four streams.
const VALIDATOR_WINDOW_BYTES: u32 = 4 * STREAM_WINDOW_BYTES;
/// The same before a peer is known, and with followers: of 64 of them, 128 MiB.
const FOLLOWER_WINDOW_BYTES: u32 = 2 << 20;
/// Bytes that may be on their way to a follower, which reads the log from us: of 64 of them, 256 MiB.
const FOLLOWER_SEND_BYTES: u32 = 4 << 20;
/// Bytes that may be sent before the first acknowledgement. A block of ordinary size leaves in one round
/// trip; `congestion.rs` says what losses change.
const CONGESTION_WINDOW_START_BYTES: u64 = 2 << 20;
/// Assumed round trip until one is measured: lost first packets are sent again after three of them.
const ROUND_TRIP_START: Duration = Duration::from_millis(50);
/// Largest packet to try. Jumbo frames and loopback carry it, which halves the work for each byte; on other paths
/// the search ends near 1,450. quinn hands the kernel ten packets at once, which together must fit in one IP packet.
const PACKET_BYTES_MAX: u16 = 6_500;
const _: () = assert!(PACKET_BYTES_MAX as usize * 10 <= 65_535 - 40 - 8);
/// Socket buffers to ask the kernel for: a burst from every peer must fit while we are not scheduled.
const SOCKET_BUFFER_BYTES: usize = 8 << 20;
/// Connections that may wait to be looked at, and bytes they may send meanwhile.
const INCOMING_MAX: usize = 256;
const INCOMING_BUFFER_BYTES: u64 = 64 << 10;
const INCOMING_BUFFER_BYTES_TOTAL: u64 = 4 << 20;
/// Retired dialing sockets with live connections that are still known at a shutdown.
const RETIRED_MAX: usize = 16;
/// TLS alert `no_application_protocol`. RFC 7301 §3.2.
const ALERT_NO_APPLICATION_PROTOCOL: u8 = 120;
/// Length of connection ids.
const CONNECTION_ID_BYTES: usize = 8;
/// Chunks taken from a stream with one locking of its connection.
pub(super) const READ_CHUNKS: usize = 32;

impl From<quinn::ConnectionError> for Loss {
    fn from(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as E;
        let mismatch = TransportErrorCode::crypto(ALERT_NO_APPLICATION_PROTOCOL);
        match error {
            E::TimedOut => Self::Silent,
            E::Reset => Self::Restarted,
            E::LocallyClosed => Self::ClosedHere,
            E::ApplicationClosed(close) => Self::Closed(CloseCode::of(close.error_code.into_inner())),
            E::ConnectionClosed(close) if close.error_code == mismatch => Self::OtherNetwork,
            E::TransportError(error) if error.code == mismatch => Self::OtherNetwork,
            E::VersionMismatch => Self::OtherNetwork,
            other => Self::Broken(other.to_string()),
        }
    }
}

/// The sockets of a node.
#[derive(Debug)]
pub(super) struct Sockets {
    identity: Identity,
    timing: Timing,
    bind: SocketAddr,
    listening: Option<quinn::Endpoint>,
    dialing: Mutex<Vec<quinn::Endpoint>>,
}

impl Sockets {
    /// Binds them. A node that does not `listen` answers no handshake.
    pub(super) fn bind(
        address: SocketAddr,
        listen: bool,
        key: &SigningKey,
        identity: Identity,
        timing: Timing,
    ) -> Result<Self, NetworkError> {
        let listening = if listen {
            Some(listening_endpoint(address, key, &identity, &timing)?)
        } else {
            None
        };
        // The same interface as for listening, with a port of the system's choice.
        let bind = SocketAddr::new(address.ip(), 0);
        let dialing = Mutex::new(vec![dialing_endpoint(bind)?]);
        Ok(Self {
            identity,
            timing,
            bind,
            listening,
            dialing,
        })
    }

    /// Where peers reach the node; without a listening socket, where it dials from.
    pub(super) fn local_address(&self) -> Result<SocketAddr, NetworkError> {
        let endpoint = self.listening.clone().or_else(|| self.dialer());
        let address = endpoint.map(|endpoint| endpoint.local_addr());
        match address {
            Some(Ok(address)) => Ok(address),
            Some(Err(source)) => Err(bind_error(self.bind, source)),
            None => Err(NetworkError::Closed),
        }
    }

    /// Whether the dialing socket can reach `address` at all.
    pub(super) fn can_reach(&self, address: SocketAddr) -> bool {
        address.is_ipv4() || self.bind.is_ipv6()
    }

    /// The next handshake that someone begins. `None` once the node stops, or if it does not listen.
    pub(super) async fn knock(&self) -> Option<Knock> {
        self.listening.as_ref()?.accept().await.map(Knock)
    }

    /// Connects to `expected` at `address`.
    pub(super) async fn dial(&self, address: SocketAddr, expected: PeerId) -> Result<Link, Loss> {
        let broken = |error: &dyn fmt::Display| Loss::Broken(error.to_string());
        let tls = self.identity.client(expected).map_err(|error| broken(&error))?;
        let tls = QuicClientConfig::try_from(tls).map_err(|error| broken(&error))?;
        let mut config = ClientConfig::new(Arc::new(tls));
        config.transport_config(Arc::new(transport(&self.timing, VALIDATOR_WINDOW_BYTES)));
        let endpoint = self.dialer().ok_or(Loss::ClosedHere)?;
        let connecting = endpoint
            .connect_with(config, address, "fusion")
            .map_err(|error| broken(&error))?;
        Link::of(connecting.await?, true)
    }

    /// Dials from a new port from now on.
    pub(super) fn renew(&self) -> Result<(), NetworkError> {
        let fresh = dialing_endpoint(self.bind)?;
        let mut endpoints = locked(&self.dialing);
        endpoints.retain(|endpoint| endpoint.open_connections() > 0);
        let excess = endpoints.len().saturating_sub(RETIRED_MAX);
        endpoints.drain(..excess);
        endpoints.push(fresh);
        Ok(())
    }

    /// Closes every connection and refuses new ones.
    pub(super) fn close(&self) {
        let code = CloseCode::Shutdown;
        for endpoint in self.all() {
            endpoint.close(VarInt::from_u32(code.number()), code.reason().as_bytes());
        }
    }

    /// Waits until the peers have been told of every close.
    pub(super) async fn wait_idle(&self) {
        for endpoint in self.all() {
            endpoint.wait_idle().await;
        }
    }

    fn all(&self) -> Vec<quinn::Endpoint> {
        self.listening
            .iter()
            .chain(locked(&self.dialing).iter())
            .cloned()
            .collect()
    }

    fn dialer(&self) -> Option<quinn::Endpoint> {
        locked(&self.dialing).last().cloned()
    }
}

/// A handshake that someone began and nobody has looked at.
#[derive(Debug)]
pub(super) struct Knock(quinn::Incoming);

impl Knock {
    /// Where it says that it comes from.
    pub(super) fn address(&self) -> SocketAddr {
        self.0.remote_address()
    }

    /// Whether it proved that address.
    pub(super) fn has_proven_address(&self) -> bool {
        self.0.remote_address_validated()
    }

    /// Lets it prove its address first. Costs nothing here.
    pub(super) fn ask_for_proof(self) {
        if let Err(error) = self.0.retry() {
            error.into_incoming().refuse();
        }
    }

    /// Answers no.
    pub(super) fn refuse(self) {
        self.0.refuse();
    }

    /// Goes through the handshake.
    pub(super) async fn answer(self) -> Result<Link, Loss> {
        Link::of(self.0.accept()?.await?, false)
    }
}

/// A connection with a peer whose key is proven.
#[derive(Debug)]
pub(super) struct Link {
    connection: quinn::Connection,
    peer: PeerId,
    dialed: bool,
}

impl Link {
    fn of(connection: quinn::Connection, dialed: bool) -> Result<Self, Loss> {
        let identity = connection.peer_identity();
        let presented = identity.and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
        match presented.as_deref().map(Vec::as_slice) {
            Some([key]) => {
                let peer = peer_of(key).ok_or_else(|| Loss::Broken("peer key is not usable".into()))?;
                Ok(Self {
                    connection,
                    peer,
                    dialed,
                })
            }
            _ => Err(Loss::Broken("peer presented no key".into())),
        }
    }

    /// Who is at the other end.
    pub(super) fn peer(&self) -> PeerId {
        self.peer
    }

    /// Whether this node dialed it.
    pub(super) fn is_dialed(&self) -> bool {
        self.dialed
    }

    /// Where the other end is.
    pub(super) fn address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// How its path does.
    pub(super) fn path(&self) -> PathStatus {
        let path = self.connection.stats().path;
        PathStatus {
            round_trip: path.rtt,
            window_bytes: path.cwnd,
            packets_sent: path.sent_packets,
            packets_lost: path.lost_packets,
            packet_bytes_max: path.current_mtu,
        }
    }

    /// Gives the peer the windows of a validator, the congestion window never below `window_floor_bytes`. An answered
    /// connection begins with a follower's.
    pub(super) fn widen(&self, window_floor_bytes: u64) {
        self.connection.set_receive_window(VALIDATOR_WINDOW_BYTES.into());
        self.connection.set_send_window(VALIDATOR_WINDOW_BYTES.into());
        congestion::trust(self.connection.congestion_state(), window_floor_bytes);
    }

    /// Opens the stream of `class` and names it.
    pub(super) async fn open(&self, class: Class) -> Result<Sending, Loss> {
        let mut stream = self.connection.open_uni().await?;
        let broken = |_| Loss::Broken("stream of ours was stopped".into());
        // Fails only on a stream that is closed, and this one is new.
        stream.set_priority(class.priority()).map_err(|_| Loss::ClosedHere)?;
        stream.write_all(&[class.tag()]).await.map_err(broken)?;
        Ok(Sending(stream))
    }

    /// The next stream that the peer opens.
    pub(super) async fn accept(&self) -> Result<Receiving, Loss> {
        Ok(Receiving(self.connection.accept_uni().await?))
    }

    /// Ends the connection.
    pub(super) fn close(&self, code: CloseCode) {
        self.connection
            .close(VarInt::from_u32(code.number()), code.reason().as_bytes());
    }
}

/// The writing end of a stream.
#[derive(Debug)]
pub(super) struct Sending(quinn::SendStream);

impl Sending {
    /// Writes all `chunks`, which are empty afterwards. An error means that the connection is gone, or will be:
    /// no peer stops a stream and keeps the rest.
    pub(super) async fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), Loss> {
        self.0.write_all_chunks(chunks).await.map_err(|error| match error {
            quinn::WriteError::ConnectionLost(error) => error.into(),
            other => Loss::Broken(other.to_string()),
        })
    }
}

/// The reading end of a stream.
#[derive(Debug)]
pub(super) struct Receiving(quinn::RecvStream);

impl Receiving {
    /// The first byte.
    pub(super) async fn read_tag(&mut self) -> Result<u8, ReadEnd> {
        let mut tag = [0];
        match self.0.read(&mut tag).await {
            Ok(Some(_)) => Ok(tag[0]),
            Ok(None) => Err(ReadEnd::Fault(Fault::Ended)),
            Err(error) => Err(read_end(&error)),
        }
    }

    /// Waits for bytes and takes what is there, in order. Returns how many of `chunks` it filled, from the first.
    pub(super) async fn read(&mut self, chunks: &mut [Bytes; READ_CHUNKS]) -> Result<usize, ReadEnd> {
        match self.0.read_chunks(chunks).await {
            Ok(Some(count)) => Ok(count),
            Ok(None) => Err(ReadEnd::Fault(Fault::Ended)),
            Err(error) => Err(read_end(&error)),
        }
    }
}

fn read_end(error: &quinn::ReadError) -> ReadEnd {
    match error {
        quinn::ReadError::ConnectionLost(_) => ReadEnd::Lost,
        _ => ReadEnd::Fault(Fault::Ended),
    }
}

fn bind_error(address: SocketAddr, source: std::io::Error) -> NetworkError {
    NetworkError::Bind { address, source }
}

fn listening_endpoint(
    address: SocketAddr,
    key: &SigningKey,
    identity: &Identity,
    timing: &Timing,
) -> Result<quinn::Endpoint, NetworkError> {
    let tls = identity
        .server()
        .map_err(|error| NetworkError::Tls(error.to_string()))?;
    let tls = QuicServerConfig::try_from(tls).map_err(|error| NetworkError::Tls(error.to_string()))?;
    let mut server = ServerConfig::with_crypto(Arc::new(tls));
    server
        .transport_config(Arc::new(transport(timing, FOLLOWER_WINDOW_BYTES)))
        .migration(false)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_BYTES_TOTAL);
    let mut config = EndpointConfig::new(Arc::new(ResetKey::of(key)));
    config.cid_generator(|| Box::new(ConnectionIds));
    endpoint(config, Some(server), address)
}

fn dialing_endpoint(bind: SocketAddr) -> Result<quinn::Endpoint, NetworkError> {
    endpoint(EndpointConfig::default(), None, bind)
}

fn endpoint(
    mut config: EndpointConfig,
    server: Option<ServerConfig>,
    address: SocketAddr,
) -> Result<quinn::Endpoint, NetworkError> {
    let allowed = config.max_udp_payload_size(PACKET_BYTES_MAX).is_ok();
    assert!(allowed, "the packet size is between 1,200 and 65,527 bytes");
    let socket = UdpSocket::bind(address).map_err(|source| bind_error(address, source))?;
    enlarge_buffers(&socket);
    quinn::Endpoint::new(config, server, socket, Arc::new(quinn::TokioRuntime))
        .map_err(|source| bind_error(address, source))
}

/// Asks the kernel for large buffers, and says once if it gives less.
fn enlarge_buffers(socket: &UdpSocket) {
    static WARNED: Once = Once::new();
    // A refusal shows in what is read back.
    let _ = sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER_BYTES);
    let _ = sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER_BYTES);
    let receive = sockopt::socket_recv_buffer_size(socket).unwrap_or(0);
    let send = sockopt::socket_send_buffer_size(socket).unwrap_or(0);
    if receive.min(send) < SOCKET_BUFFER_BYTES {
        WARNED.call_once(|| {
            tracing::warn!(
                receive_bytes = receive,
                send_bytes = send,
                wanted_bytes = SOCKET_BUFFER_BYTES,
                "the kernel caps UDP socket buffers; raise net.core.rmem_max and net.core.wmem_max to avoid lost packets"
            );
        });
    }
}

/// What makes the listening socket's reset tokens: the same after every restart of the node.
struct ResetKey(B256);

impl ResetKey {
    fn of(key: &SigningKey) -> Self {
        Self(keccak256([b"fusion/reset/1".as_slice(), key.as_bytes()].concat()))
    }

    /// Keccak takes the key in front of the message: a sponge cannot be extended.
    fn code(&self, data: &[u8]) -> B256 {
        keccak256([self.0.as_slice(), data].concat())
    }
}

/// Random connection ids. The default ones carry a check that only the process that made them passes, so a
/// restarted node would not answer packets of its former connections, which is what tells their senders.
#[derive(Debug)]
struct ConnectionIds;

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CONNECTION_ID_BYTES];
        getrandom::fill(&mut id).expect("the system has random numbers, or TLS would not work either");
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(self.code(data).as_slice());
    }

    fn signature_len(&self) -> usize {
        B256::len_bytes()
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        if self.code(data).as_slice() == signature {
            Ok(())
        } else {
            Err(CryptoError)
        }
    }
}

fn transport(timing: &Timing, window_bytes: u32) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let mut packet_sizes = MtuDiscoveryConfig::default();
    packet_sizes.upper_bound(PACKET_BYTES_MAX);
    let congestion = Congestion::new(CONGESTION_WINDOW_START_BYTES);
    let streams = u32::try_from(Class::ALL.len()).unwrap_or(u32::MAX);
    let idle_ms = u32::try_from(timing.idle.as_millis()).unwrap_or(u32::MAX);
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(streams))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(window_bytes))
        .send_window(u64::from(window_bytes.max(FOLLOWER_SEND_BYTES)))
        .keep_alive_interval(Some(timing.keep_alive))
        .max_idle_timeout(Some(VarInt::from_u32(idle_ms).into()))
        .initial_rtt(ROUND_TRIP_START)
        .mtu_discovery_config(Some(packet_sizes))
        .congestion_controller_factory(Arc::new(congestion));
    transport
}
