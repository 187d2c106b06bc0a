//! `fusion relay`: a network between nodes that delays, loses, doubles, cuts and slows their datagrams.
//!
//! For experiments, on kernels without netem too. Nodes talk to addresses of the relay instead of each other's; what
//! crosses which direction how is set at the start and changed at any time by lines of JSON. `fusion devnet --wan` runs
//! one inside. Promises constant memory (`shape`, `schedule`), order within a direction unless asked otherwise, and the
//! same chances for the same seed. In reading order: `shape` decides on a datagram, `schedule` holds it, `engine` moves
//! it, `control` and `server` take orders.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use alloy_primitives::B256;
use clap::Args;
use serde::Serialize;

use super::stops::Stops;
use super::wan::{self, Wan};
use super::{genesis, print};
use crate::exit::{Exit, ExitError};

mod control;
mod engine;
mod schedule;
mod server;
mod shape;

use control::Directions;
use engine::{Engine, Link};
use server::Server;
use shape::Direction;

pub(super) use shape::Shape;

/// Largest datagram that passes by default: an Ethernet packet without the headers of IP and UDP, as between clouds.
pub(super) const DATAGRAM_BYTES_MAX: u16 = 1472;

const HELP: &str = "\
For every ordered pair of nodes there is one UDP address: what a node sends there reaches the other one after the delay of that
direction, and is answered from there. Give each node these addresses instead of its peers' own, in its p2p.peers; with
--genesis the relay prints them ready for use:
  fusion start --home DIR --set 'p2p.peers=[{ id = \"0x…\", address = \"127.0.0.1:9001\" }, …]'

The control address takes one JSON object a line and answers each with one line:
  {\"do\":\"set\",\"from\":\"node0\",\"to\":\"node1\",\"delayMs\":80,\"jitterMs\":5}   one direction; what is not named stays
  {\"do\":\"set\",\"node\":\"node2\",\"cut\":true}                               all directions from and to a node
  {\"do\":\"set\",\"from\":[\"node0\",\"node1\"],\"to\":[\"node2\"],\"cut\":true}    lists, for parts of a network
  {\"do\":\"set\",\"loss\":0.01,\"duplicate\":0.001,\"reorder\":true}            all directions; probabilities are 0 to 1
  {\"do\":\"set\",\"mbitPerSecond\":100}                                     a limit of bandwidth; 0 for none
  {\"do\":\"reset\"}                                                      as it began; takes from, to and node too
  {\"do\":\"show\"}   {\"do\":\"count\",\"from\":\"node0\"}                         settings; counters, and how late it sends
Answers are {\"ok\":true,…} or {\"ok\":false,\"error\":…}; a refused request changes nothing.

A direction holds 32 MiB, all together 256 MiB, the buffer of a limited bandwidth 1 MiB; what does not fit is dropped and counted.
Order is kept, whatever the jitter, unless reorder is set.

Examples:
  fusion relay --genesis net/genesis.json --wan 4-eu-us --control 127.0.0.1:7090 --json
  fusion relay --node a=10.0.0.1:7100 --node b=10.0.1.1:7100 --delay-ms 40 --loss 0.01 --listen 0.0.0.0:9000
  echo '{\"do\":\"set\",\"node\":\"a\",\"cut\":true}' | nc -N 127.0.0.1 7090";

#[derive(Debug, Args)]
#[command(after_help = format!("{HELP}\n\n{}", wan::HELP))]
pub(super) struct RelayArgs {
    /// A node and where it listens (repeat for each; a host name is looked up once).
    #[arg(
        long = "node",
        value_name = "NAME=HOST:PORT",
        required_unless_present = "genesis",
        conflicts_with = "genesis"
    )]
    nodes: Vec<String>,
    /// Takes the nodes from a genesis file, and prints p2p.peers for each.
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Delays by a table of regions, one for each node in order: 4-eu-us, 4-global, 7-global, 10-global or a file.
    #[arg(long, value_name = "NAME|FILE", value_parser = Wan::find, conflicts_with = "delay_ms")]
    wan: Option<Wan>,
    /// Delays every direction alike, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0.0, value_parser = parse_milliseconds)]
    delay_ms: f64,
    /// Adds up to so many milliseconds to each datagram.
    #[arg(long, value_name = "MS", default_value_t = 0.0, value_parser = parse_milliseconds)]
    jitter_ms: f64,
    /// Loses datagrams with this probability, 0 to 1.
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = parse_probability)]
    loss: f64,
    /// Doubles datagrams with this probability, 0 to 1.
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = parse_probability)]
    duplicate: f64,
    /// Limits the bandwidth of each direction, in 10^6 bits per second; 0 for no limit.
    #[arg(long, value_name = "MBIT", default_value_t = 0.0, value_parser = parse_mbit)]
    mbit: f64,
    /// Drops datagrams above this size, as a path with packets of 1,500 bytes does.
    #[arg(long, value_name = "BYTES", default_value_t = DATAGRAM_BYTES_MAX, value_parser = clap::value_parser!(u16).range(1200..))]
    datagram_bytes_max: u16,
    /// Where the addresses are; with a port P they take P, P+1, …, without one whatever is free.
    #[arg(long, value_name = "IP[:PORT]", default_value = "127.0.0.1", value_parser = parse_listen)]
    listen: SocketAddr,
    /// TCP address of the control; port 0 for a free one.
    #[arg(long, value_name = "IP:PORT")]
    control: Option<SocketAddr>,
    /// Chances follow from this: the same for the same seed and the same datagrams.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// An address of the relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Address {
    /// The node that is to send to it.
    pub(super) from: String,
    /// The node that it leads to.
    pub(super) to: String,
    /// The address.
    pub(super) address: SocketAddr,
}

/// A node's name, and where it listens.
pub(super) type Node = (String, SocketAddr);

/// What to run.
#[derive(Debug)]
pub(super) struct Setup {
    /// The nodes.
    pub(super) nodes: Vec<Node>,
    /// Where to listen for each ordered pair, row by row, the pairs of a node with itself left out.
    pub(super) listen: Vec<SocketAddr>,
    /// One-way delays in milliseconds, from row to column.
    pub(super) delays_ms: Vec<Vec<f64>>,
    /// How every direction treats datagrams, but for the delay.
    pub(super) shape: Shape,
    /// Address of the control, if there is to be one.
    pub(super) control: Option<SocketAddr>,
    /// Largest datagram that passes.
    pub(super) datagram_bytes_max: u16,
    /// Chances follow from this.
    pub(super) seed: u64,
}

/// A running relay; ends when dropped.
#[derive(Debug)]
pub(super) struct Relay {
    /// Its addresses, in the order of [`Setup::listen`].
    pub(super) addresses: Vec<Address>,
    /// Where it takes orders.
    pub(super) control: Option<SocketAddr>,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Binds everything and begins to relay.
    ///
    /// # Errors
    /// Code 69 naming the address that cannot be bound.
    pub(super) fn start(setup: Setup) -> Result<Self, ExitError> {
        let Setup {
            nodes,
            listen,
            delays_ms,
            ..
        } = setup;
        let (mut links, mut addresses) = (Vec::new(), Vec::new());
        for ((from, to), wanted) in pairs(nodes.len()).zip(listen) {
            let failed = |error| unavailable(&format!("cannot listen at {wanted} (UDP)"), &error);
            let socket = UdpSocket::bind(wanted).map_err(failed)?;
            addresses.push(Address {
                from: nodes[from].0.clone(),
                to: nodes[to].0.clone(),
                address: socket.local_addr().map_err(failed)?,
            });
            links.push(Link {
                from,
                to,
                target: nodes[to].1,
                socket,
            });
        }
        let server = match setup.control {
            Some(wanted) => {
                let failed = |error| unavailable(&format!("cannot listen at {wanted} (TCP)"), &error);
                let server = Server::bind(wanted).map_err(failed)?;
                Some((server.address().map_err(failed)?, server))
            }
            None => None,
        };
        let control = server.as_ref().map(|(address, _)| *address);
        let count = nodes.len() as u64;
        let names = nodes.into_iter().map(|(name, _)| name).collect();
        let directions = Directions::new(names, |from, to| {
            let place = from as u64 * count + to as u64;
            let seed = setup.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ (place << 32);
            let shape = Shape {
                delay_ms: delays_ms[from][to],
                ..setup.shape
            };
            Direction::new(shape, setup.datagram_bytes_max.into(), seed)
        });
        let failed = |error| unavailable("cannot start the relay", &error);
        let (stop, stopped) = UnixStream::pair().map_err(failed)?;
        let engine = Engine::new(directions, links, server.map(|(_, server)| server), stopped).map_err(failed)?;
        let thread = std::thread::Builder::new().name("fusion-relay".to_owned());
        let thread = thread.spawn(move || {
            if let Err(error) = engine.run() {
                eprintln!("the relay ended: {error}");
            }
        });
        Ok(Self {
            addresses,
            control,
            stop: Some(stop),
            thread: Some(thread.map_err(failed)?),
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has printed itself.
            drop(thread.join());
        }
    }
}

/// The ordered pairs of `count` nodes, row by row.
pub(super) fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    let all = (0..count).flat_map(move |from| (0..count).map(move |to| (from, to)));
    all.filter(|(from, to)| from != to)
}

fn unavailable(what: &str, error: &std::io::Error) -> ExitError {
    ExitError::new(Exit::Unavailable, format_args!("{what}: {error}"))
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    control: Option<SocketAddr>,
    links: &'a [Address],
    /// `p2p.peers` of each node, when the nodes' ids are known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peers: Vec<Peers>,
}

#[derive(Debug, Serialize)]
struct Peers {
    node: String,
    /// For `fusion start --set`.
    set: String,
}

pub(super) fn run(args: &RelayArgs) -> Result<(), ExitError> {
    let (nodes, ids) = match &args.genesis {
        Some(path) => nodes_of_genesis(path)?,
        None => (nodes_of(&args.nodes)?, Vec::new()),
    };
    let ids: Vec<(String, B256)> = nodes.iter().map(|(name, _)| name.clone()).zip(ids).collect();
    let count = nodes.len();
    if count < 2 {
        return Err(usage(format_args!("there are {count} nodes, a relay needs at least 2")));
    }
    let delays_ms = match &args.wan {
        Some(wan) if wan.count() != count => {
            let (name, regions) = (&wan.name, wan.count());
            return Err(usage(format_args!(
                "--wan: {name} has {regions} regions, there are {count} nodes; one each"
            )));
        }
        Some(wan) => wan.one_way_ms.clone(),
        None => vec![vec![args.delay_ms; count]; count],
    };
    let listen = pairs(count).zip(0..).map(|(_, at)| listen_at(args.listen, at));
    let setup = Setup {
        listen: listen.collect::<Result<_, _>>()?,
        nodes,
        delays_ms,
        shape: Shape {
            jitter_ms: args.jitter_ms,
            loss: args.loss,
            duplicate: args.duplicate,
            mbit_per_second: args.mbit,
            ..Shape::delaying(0.0)
        },
        control: args.control,
        datagram_bytes_max: args.datagram_bytes_max,
        seed: args.seed,
    };
    let relay = Relay::start(setup)?;
    print(&ready_text(args.json, &relay, &ids)?)?;
    super::client_runtime()?.block_on(async {
        Stops::new(false)?.next().await;
        Ok(())
    })
}

/// Where address number `at` is.
fn listen_at(first: SocketAddr, at: u16) -> Result<SocketAddr, ExitError> {
    let port = match first.port() {
        0 => Some(0),
        port => port.checked_add(at),
    };
    let port = port.ok_or_else(|| usage(format_args!("--listen: {} addresses do not fit above {first}", at + 1)))?;
    Ok(SocketAddr::new(first.ip(), port))
}

/// `NAME=HOST:PORT`, each.
fn nodes_of(texts: &[String]) -> Result<Vec<Node>, ExitError> {
    let mut nodes: Vec<Node> = Vec::with_capacity(texts.len());
    for text in texts {
        let (name, address) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| usage(format_args!("--node is {text:?}, it must be NAME=HOST:PORT")))?;
        if nodes.iter().any(|(known, _)| known == name) {
            return Err(usage(format_args!("--node: {name} is given twice")));
        }
        nodes.push((name.to_owned(), resolve("--node", address)?));
    }
    Ok(nodes)
}

/// The validators of a genesis file, and their peer keys.
fn nodes_of_genesis(path: &Path) -> Result<(Vec<Node>, Vec<B256>), ExitError> {
    let (json, _) = genesis::read(path)?;
    let mut nodes = Vec::with_capacity(json.validators.len());
    for (validator, at) in json.validators.iter().zip(0..) {
        let name = match validator.name.as_str() {
            "" => format!("node{at}"),
            name => name.to_owned(),
        };
        nodes.push((name, resolve(&path.display().to_string(), &validator.address)?));
    }
    Ok((
        nodes,
        json.validators.iter().map(|validator| validator.peer.0).collect(),
    ))
}

fn resolve(source: &str, address: &str) -> Result<SocketAddr, ExitError> {
    let mut found = address.to_socket_addrs().map_err(|error| {
        usage(format_args!(
            "{source}: {address:?} is no HOST:PORT that resolves: {error}"
        ))
    })?;
    found
        .next()
        .ok_or_else(|| usage(format_args!("{source}: {address:?} resolves to nothing")))
}

/// `p2p.peers` of node `from` with these addresses, as TOML.
pub(super) fn peers_of<'a>(from: &str, addresses: &'a [Address], ids: impl Fn(&'a str) -> Option<B256>) -> String {
    let from_here = addresses.iter().filter(|address| address.from == from);
    let peer = |address: &'a Address| {
        let id = ids(&address.to)?;
        Some(format!("{{ id = \"{id}\", address = \"{}\" }}", address.address))
    };
    format!(
        "p2p.peers=[{}]",
        from_here.filter_map(peer).collect::<Vec<_>>().join(", ")
    )
}

fn ready_text(json: bool, relay: &Relay, ids: &[(String, B256)]) -> Result<String, ExitError> {
    let id = |name: &str| ids.iter().find(|(known, _)| known == name).map(|(_, id)| *id);
    let peers = ids.iter().map(|(name, _)| Peers {
        node: name.clone(),
        set: peers_of(name, &relay.addresses, id),
    });
    let ready = Ready {
        control: relay.control,
        links: &relay.addresses,
        peers: peers.collect(),
    };
    if json {
        return serde_json::to_string(&ready).map_err(ExitError::internal);
    }
    let mut text = String::new();
    for Address { from, to, address } in ready.links {
        text += &format!("{from} reaches {to} at {address}\n");
    }
    for Peers { node, set } in &ready.peers {
        text += &format!("start {node} with --set '{set}'\n");
    }
    text += &match ready.control {
        Some(control) => format!("control at {control}; Ctrl-C stops the relay"),
        None => "Ctrl-C stops the relay; with --control it takes orders".to_owned(),
    };
    Ok(text)
}

fn usage(message: impl std::fmt::Display) -> ExitError {
    ExitError::new(Exit::Usage, message)
}

/// An IP address, with or without a port.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse().ok();
    let without = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0));
    with_port
        .or_else(without)
        .ok_or_else(|| format!("{text:?} must be IP or IP:PORT"))
}

fn parse_within(text: &str, min: f64, max: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (min..=max).contains(&number) {
        return Ok(number);
    }
    Err(format!("is {text}, it must be {min} to {max}"))
}

fn parse_milliseconds(text: &str) -> Result<f64, String> {
    parse_within(text, 0.0, control::DELAY_MS_MAX)
}

/// `0` to `1`.
pub(super) fn parse_probability(text: &str) -> Result<f64, String> {
    parse_within(text, 0.0, 1.0)
}

fn parse_mbit(text: &str) -> Result<f64, String> {
    match parse_within(text, 0.0, control::MBIT_MAX)? {
        none if none == 0.0 => Ok(none),
        _ => parse_within(text, control::MBIT_MIN, control::MBIT_MAX),
    }
}

#[cfg(test)]
mod tests;
