//! The relay with real sockets: what reaches whom, when, and what orders do to it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// Two nodes that listen, and a third socket that the first dials from, as nodes do.
struct World {
    relay: Relay,
    nodes: Vec<UdpSocket>,
    dialing: UdpSocket,
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

impl World {
    fn start(delay_ms: f64) -> Self {
        let nodes = vec![socket(), socket()];
        let named = nodes
            .iter()
            .zip(0..)
            .map(|(node, at)| (format!("node{at}"), node.local_addr().unwrap()));
        let relay = Relay::start(Setup {
            nodes: named.collect(),
            listen: vec!["127.0.0.1:0".parse().unwrap(); 2],
            delays_ms: vec![vec![0.0, delay_ms], vec![2.0 * delay_ms, 0.0]],
            shape: Shape::delaying(0.0),
            control: Some("127.0.0.1:0".parse().unwrap()),
            datagram_bytes_max: DATAGRAM_BYTES_MAX,
            seed: 1,
        });
        Self {
            relay: relay.unwrap(),
            nodes,
            dialing: socket(),
        }
    }

    fn order(&self, line: &str) -> Value {
        let mut stream = TcpStream::connect(self.relay.control.unwrap()).unwrap();
        writeln!(stream, "{line}").unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    /// Sends from node 0 to node 1 and returns what comes, from where, and how long it took.
    fn there(&self, bytes: &[u8]) -> (Vec<u8>, SocketAddr, Duration) {
        let start = Instant::now();
        self.dialing.send_to(bytes, self.relay.addresses[0].address).unwrap();
        receive(&self.nodes[1], start)
    }
}

fn receive(socket: &UdpSocket, start: Instant) -> (Vec<u8>, SocketAddr, Duration) {
    let mut buffer = [0; 2048];
    let (count, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..count].to_vec(), from, start.elapsed())
}

#[test]
fn a_datagram_arrives_after_its_delay_and_its_answer_after_that_of_the_other_direction() {
    let world = World::start(20.0);
    let (bytes, path, took) = world.there(b"question");
    assert_eq!(bytes, b"question");
    assert!(took >= Duration::from_millis(20), "{took:?}");
    let start = Instant::now();
    world.nodes[1].send_to(b"answer", path).unwrap();
    let (bytes, from, took) = receive(&world.dialing, start);
    assert_eq!(
        (bytes.as_slice(), from),
        (b"answer".as_slice(), world.relay.addresses[0].address)
    );
    assert!(took >= Duration::from_millis(40), "{took:?}");
    let counts = world.order(r#"{"do":"count","from":"node0","to":"node1"}"#);
    assert_eq!(counts["links"][0]["delivered"], 1);
}

#[test]
fn two_ports_of_one_node_are_answered_each() {
    let world = World::start(0.0);
    let other = socket();
    let (_, first, _) = world.there(b"a");
    other.send_to(b"b", world.relay.addresses[0].address).unwrap();
    let (_, second, _) = receive(&world.nodes[1], Instant::now());
    assert_ne!(first, second);
    world.nodes[1].send_to(b"to b", second).unwrap();
    world.nodes[1].send_to(b"to a", first).unwrap();
    assert_eq!(receive(&other, Instant::now()).0, b"to b");
    assert_eq!(receive(&world.dialing, Instant::now()).0, b"to a");
}

#[test]
fn orders_change_what_happens_while_it_runs() {
    let world = World::start(0.0);
    let cut = world.order(r#"{"do":"set","from":"node0","to":"node1","cut":true}"#);
    assert_eq!((&cut["ok"], &cut["changed"]), (&Value::Bool(true), &Value::from(1)));
    world
        .dialing
        .send_to(b"swallowed", world.relay.addresses[0].address)
        .unwrap();
    while world.order(r#"{"do":"count","from":"node0"}"#)["links"][0]["cut"] != 1 {
        std::thread::yield_now();
    }
    assert_eq!(world.order(r#"{"do":"reset"}"#)["changed"], 2);
    assert_eq!(world.there(b"passes").0, b"passes");
    assert_eq!(world.order("nonsense")["ok"], false);
}

#[test]
fn a_relay_that_is_dropped_frees_its_addresses() {
    let world = World::start(0.0);
    let address = world.relay.addresses[0].address;
    drop(world);
    UdpSocket::bind(address).unwrap();
}

#[test]
fn addresses_and_peers_are_told_ready_for_use() {
    let mut world = World::start(0.0);
    let [first, second] = [7001, 7002].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    (world.relay.addresses[0].address, world.relay.addresses[1].address) = (first, second);
    world.relay.control = None;
    let ids = [1, 2].map(B256::repeat_byte);
    let ids = [("node0".to_owned(), ids[0]), ("node1".to_owned(), ids[1])];
    let text = ready_text(false, &world.relay, &ids).unwrap();
    let peers = format!("p2p.peers=[{{ id = \"{}\", address = \"127.0.0.1:7001\" }}]", ids[1].1);
    assert!(text.contains("node0 reaches node1 at 127.0.0.1:7001\n"), "{text}");
    assert!(text.contains(&format!("start node0 with --set '{peers}'\n")), "{text}");
    let config = crate::config::Config::parse("", "test", &[peers]).unwrap();
    assert_eq!(config.p2p.peers[0].address, "127.0.0.1:7001");
}

#[test]
fn wrong_options_are_refused_with_value_and_limit() {
    assert!(
        parse_probability("1.5")
            .unwrap_err()
            .contains("is 1.5, it must be 0 to 1")
    );
    assert!(parse_mbit("0.001").unwrap_err().contains("0.01"));
    assert!(
        parse_listen("here")
            .unwrap_err()
            .contains("\"here\" must be IP or IP:PORT")
    );
    let twice = ["a=127.0.0.1:1", "a=127.0.0.1:2"].map(str::to_owned);
    assert!(nodes_of(&twice).unwrap_err().message.contains("a is given twice"));
    assert!(
        nodes_of(&["a".to_owned()])
            .unwrap_err()
            .message
            .contains("must be NAME=HOST:PORT")
    );
    let last = "127.0.0.1:65535".parse().unwrap();
    assert!(listen_at(last, 1).unwrap_err().message.contains("do not fit"));
}
