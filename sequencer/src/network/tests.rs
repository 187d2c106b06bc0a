//! Whole networks over loopback: how nodes find each other, and find each other again.

mod peers;

use std::net::UdpSocket;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::*;

/// Longest that any test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
const NETWORK: NetworkId = NetworkId(B256::repeat_byte(0x11));

struct Node {
    network: Network,
    ordering: Receiver<NetworkEvent>,
    bulk: Receiver<NetworkEvent>,
}

impl Node {
    fn start(config: NetworkConfig) -> Self {
        Self::with_capacity(config, 1024)
    }

    fn with_capacity(config: NetworkConfig, events: usize) -> Self {
        let (to_ordering, ordering) = mpsc::channel(events);
        let (to_bulk, bulk) = mpsc::channel(events);
        let inbox = Inbox {
            bodies: to_ordering.clone(),
            ordering: to_ordering,
            bulk: to_bulk,
        };
        Self {
            network: Network::start(config, inbox).unwrap(),
            ordering,
            bulk,
        }
    }

    fn id(&self) -> PeerId {
        self.network.id()
    }

    async fn event(&mut self) -> NetworkEvent {
        timeout(PATIENCE, self.ordering.recv()).await.unwrap().unwrap()
    }

    async fn connected(&mut self) -> (PeerId, bool) {
        loop {
            if let NetworkEvent::Connected { peer, validator } = self.event().await {
                return (peer, validator);
            }
        }
    }

    async fn disconnected(&mut self) -> (PeerId, Cause) {
        loop {
            if let NetworkEvent::Disconnected { peer, cause } = self.event().await {
                return (peer, cause);
            }
        }
    }

    async fn frame(&mut self) -> (PeerId, Class, Bytes) {
        loop {
            if let NetworkEvent::Received { peer, class, frame, .. } = self.event().await {
                return (peer, class, frame);
            }
        }
    }

    async fn bulk_frame(&mut self) -> (PeerId, Class, Bytes) {
        match timeout(PATIENCE, self.bulk.recv()).await.unwrap().unwrap() {
            NetworkEvent::Received { peer, class, frame, .. } => (peer, class, frame),
            other => panic!("{other:?} does not belong in the bulk inbox"),
        }
    }

    fn is_connected(&self, peer: PeerId) -> bool {
        self.network.peers().iter().any(|status| status.peer == peer)
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(timeout(PATIENCE, looking).await.is_ok(), "{what}");
}

/// Keys in the order of their ids.
fn keys(count: u8) -> Vec<SigningKey> {
    let mut keys: Vec<SigningKey> = (1..=count).map(|seed| SigningKey::from_bytes(&[seed; 32])).collect();
    keys.sort_by_key(PeerId::of);
    keys
}

/// Addresses on which nothing listens yet.
fn free_addresses(count: usize) -> Vec<SocketAddr> {
    // Below the ports that the system hands out, so that no other test's socket takes one in between.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut addresses = Vec::new();
    while addresses.len() < count {
        let offset = std::process::id() * 61 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + u16::try_from(offset % 6_000).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if UdpSocket::bind(address).is_ok() {
            addresses.push(address);
        }
    }
    addresses
}

/// Times for tests: the node with the higher id never dials first.
fn timing() -> Timing {
    Timing {
        grace: PATIENCE,
        ..Timing::default()
    }
}

/// Configurations of a committee of which everybody knows everybody's address.
fn committee(keys: &[SigningKey]) -> Vec<NetworkConfig> {
    let addresses = free_addresses(keys.len());
    let validators: Vec<ValidatorAddress> = keys
        .iter()
        .zip(&addresses)
        .map(|(key, address)| ValidatorAddress {
            peer: PeerId::of(key),
            address: Some(address.to_string()),
        })
        .collect();
    let config = |(key, address): (&SigningKey, &SocketAddr)| NetworkConfig {
        listen: *address,
        key: key.clone(),
        network: NETWORK,
        validators: validators.clone(),
        limits: Limits::default(),
        timing: timing(),
    };
    keys.iter().zip(&addresses).map(config).collect()
}

/// The configuration of a node that is not in the committee that `member` knows.
fn follower(key: &SigningKey, member: &NetworkConfig) -> NetworkConfig {
    NetworkConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        key: key.clone(),
        ..member.clone()
    }
}

async fn connected_pair() -> (Node, Node) {
    let mut nodes = committee(&keys(2)).into_iter().map(Node::start);
    let (mut low, mut high) = (nodes.next().unwrap(), nodes.next().unwrap());
    assert_eq!(low.connected().await, (high.id(), true));
    assert_eq!(high.connected().await, (low.id(), true));
    (low, high)
}

fn frame(index: u32, bytes: usize) -> Bytes {
    let mut frame = vec![0xfe; bytes.max(4)];
    frame[..4].copy_from_slice(&index.to_be_bytes());
    Bytes::from(frame)
}

fn index_of(frame: &Bytes) -> u32 {
    u32::from_be_bytes(frame[..4].try_into().unwrap())
}

#[tokio::test]
async fn a_mesh_of_four_connects_each_pair_exactly_once() {
    let mut nodes: Vec<Node> = committee(&keys(4)).into_iter().map(Node::start).collect();
    let ids: Vec<PeerId> = nodes.iter().map(Node::id).collect();
    for node in &mut nodes {
        let mut peers = BTreeSet::new();
        for _ in 0..3 {
            let (peer, validator) = node.connected().await;
            assert!(validator && peers.insert(peer), "{peer} twice");
        }
        assert_eq!(peers, ids.iter().copied().filter(|id| *id != node.id()).collect());
    }
    // Traffic over every pair: nothing but these frames has happened since.
    for node in &nodes {
        node.network.broadcast(Class::Votes, &frame(1, 100));
    }
    for node in &mut nodes {
        for _ in 0..3 {
            assert!(matches!(node.event().await, NetworkEvent::Received { .. }));
        }
        assert_eq!(node.network.counters().connected, 3);
        for status in node.network.peers() {
            assert_eq!(status.dialed, node.id() < status.peer, "the lower id dials");
        }
    }
}

#[tokio::test]
async fn nodes_that_dial_each_other_at_once_agree_on_one_connection() {
    for _ in 0..5 {
        let mut configs = committee(&keys(2));
        for config in &mut configs {
            config.timing.grace = Duration::ZERO;
        }
        let nodes: Vec<Node> = configs.into_iter().map(Node::start).collect();
        let agreed = || {
            let [low, high] = [&nodes[0], &nodes[1]].map(|node| node.network.peers());
            low.len() == 1 && high.len() == 1 && low[0].dialed != high[0].dialed
        };
        eventually("both ends have the two sides of one connection", agreed).await;
        drop(nodes);
    }
}

#[tokio::test]
async fn the_node_with_the_higher_id_connects_if_it_alone_can_dial() {
    let mut configs = committee(&keys(2));
    configs[1].timing.grace = Duration::from_millis(10);
    for validator in &mut configs[0].validators {
        validator.address = None;
    }
    let mut nodes: Vec<Node> = configs.into_iter().map(Node::start).collect();
    let high = nodes[1].id();
    assert_eq!(nodes[0].connected().await, (high, true));
    assert!(!nodes[0].network.peers()[0].dialed);
}

#[tokio::test]
async fn frames_of_each_class_arrive_in_order_and_unchanged() {
    let (low, mut high) = connected_pair().await;
    let sizes = [5, 300, 70_000, 1_000_000];
    for index in 0..60 {
        for class in Class::ALL {
            let bytes = sizes[index as usize % 4].min(class.frame_bytes_max(true).unwrap());
            // Bodies are bounded to 16 in a queue: the other end takes them while we send.
            while low.network.peers()[0].waiting[class.index()].0 >= 8 {
                tokio::task::yield_now().await;
            }
            assert!(low.network.send(high.id(), class, frame(index, bytes)));
        }
        for _ in 0..2 {
            high.frame().await;
            high.bulk_frame().await;
        }
    }
    let mut next = BTreeMap::new();
    for index in 0..100 {
        for class in Class::ALL {
            low.network.send(high.id(), class, frame(index, 10));
        }
        for _ in 0..2 {
            for (peer, class, frame) in [high.frame().await, high.bulk_frame().await] {
                let next = next.entry(class).or_insert(0);
                assert_eq!((peer, index_of(&frame), frame.len()), (low.id(), *next, 10));
                *next += 1;
            }
        }
    }
    let sent = low.network.counters().classes;
    let received = high.network.counters().classes;
    for class in Class::ALL {
        let (sent, received) = (sent[class.index()], received[class.index()]);
        assert_eq!((sent.frames_out, sent.bytes_out), (160, received.bytes_in));
        assert_eq!((sent.dropped, received.frames_in), (0, 160));
    }
}

#[tokio::test]
async fn a_shutdown_is_told_and_the_node_can_return() {
    let configs = committee(&keys(2));
    let mut low = Node::start(configs[0].clone());
    let mut high = Node::start(configs[1].clone());
    let (low_id, high_id) = (low.id(), high.id());
    low.connected().await;
    high.connected().await;
    let begin = Instant::now();
    high.network.shutdown().await;
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert_eq!(low.disconnected().await, (high_id, Cause::ByPeer(CloseCode::Shutdown)));
    assert_eq!(high.disconnected().await, (low_id, Cause::Here(CloseCode::Shutdown)));
    drop(high);
    let mut high = Node::start(rebindable(configs[1].clone()).await);
    assert_eq!(low.connected().await, (high_id, true));
    assert_eq!(high.connected().await, (low_id, true));
}

/// Waits until the address of `config` is free again.
async fn rebindable(config: NetworkConfig) -> NetworkConfig {
    eventually("the address is free", || UdpSocket::bind(config.listen).is_ok()).await;
    config
}

/// A node that dies without a word, whose peer would believe in the connection for a minute.
async fn killed_node_is_back_soon(killed: usize) {
    let mut configs = committee(&keys(2));
    for config in &mut configs {
        config.timing.idle = Duration::from_secs(60);
    }
    let mut survivor = Node::start(configs[1 - killed].clone());
    let runtime = Runtime::new().unwrap();
    let victim = {
        let _context = runtime.enter();
        Node::start(configs[killed].clone())
    };
    let id = victim.id();
    assert_eq!(survivor.connected().await, (id, true));
    runtime.shutdown_background();
    drop(victim);
    let config = rebindable(configs[killed].clone()).await;
    let begin = Instant::now();
    let mut reborn = Node::start(config);
    assert_eq!(survivor.connected().await, (id, true));
    assert_eq!(reborn.connected().await, (survivor.id(), true));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(survivor.network.peers().len(), 1);
}

#[tokio::test]
async fn a_killed_node_that_dials_is_back_soon() {
    killed_node_is_back_soon(0).await;
}

#[tokio::test]
async fn a_killed_node_that_is_dialed_is_back_soon() {
    killed_node_is_back_soon(1).await;
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_lost_after_the_idle_time() {
    let mut configs = committee(&keys(2));
    configs[1].timing.idle = Duration::from_millis(300);
    configs[1].timing.keep_alive = Duration::from_millis(100);
    let runtime = Runtime::new().unwrap();
    let victim = {
        let _context = runtime.enter();
        Node::start(configs[0].clone())
    };
    let mut survivor = Node::start(configs[1].clone());
    survivor.connected().await;
    runtime.shutdown_background();
    let (peer, cause) = survivor.disconnected().await;
    assert_eq!((peer, cause), (victim.id(), Cause::Lost("no answer".into())));
}

#[tokio::test]
async fn a_path_that_carries_large_packets_gets_them() {
    let (low, high) = connected_pair().await;
    let sizes = || [&low, &high].map(|node| node.network.peers()[0].path.packet_bytes_max);
    eventually("loopback is found to carry more than Ethernet", || {
        sizes().iter().all(|bytes| *bytes > 1472)
    })
    .await;
}

#[tokio::test]
async fn dialing_moves_to_a_new_port_when_handshakes_vanish() {
    let mut configs = committee(&keys(3));
    let silent = UdpSocket::bind(configs[2].listen).unwrap();
    configs[0].timing = Timing {
        handshake: Duration::from_millis(200),
        pause_max: Duration::from_millis(20),
        renew_after: 3,
        ..timing()
    };
    let mut low = Node::start(configs.remove(0));
    let mut high = Node::start(configs.remove(0));
    assert_eq!(low.connected().await.0, high.id());
    high.connected().await;
    eventually("the socket is replaced", || low.network.counters().sockets_renewed >= 2).await;
    low.network.send(high.id(), Class::Votes, frame(1, 10));
    assert_eq!(high.frame().await.0, low.id(), "the connection lives on the old socket");
    let mut sources = BTreeSet::new();
    let mut buffer = [0; 2048];
    silent.set_nonblocking(true).unwrap();
    while let Ok((_, source)) = silent.recv_from(&mut buffer) {
        sources.insert(source);
    }
    assert!(sources.len() >= 2, "{sources:?}");
}

#[tokio::test]
async fn an_address_without_a_port_is_refused_by_name() {
    for (address, valid) in [
        ("h", false),
        ("h:", false),
        (":1", false),
        ("h:0", false),
        ("h:1", true),
        ("[::1]:9", true),
    ] {
        let peer = PeerId(B256::ZERO);
        assert_eq!(check_address(peer, Some(address)).is_ok(), valid, "{address}");
    }
}
