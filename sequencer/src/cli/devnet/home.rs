//! The folder of a devnet: one genesis, one home per node; made once, then resumed as it is.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use fusion_client::json::{GenesisJson, GenesisValidatorJson, Hash, OrderingJson, RollupJson, RollupKindJson};
use fusion_types::{Genesis, Height, SettlementConfig, ValidatorId};
use rustix::fs::{FlockOperation, flock};

use super::super::cluster::TEMPORARY_PREFIX;
use super::super::wan::Wan;
use super::super::{genesis, shell_word};
use super::child;
use super::wan::{self, Between};
use crate::config::{self, Config, PeerAddress, Role};
use crate::exit::{Exit, ExitError};
use crate::keys::{self, KeyKind};
use crate::node;

/// Nodes when nobody says how many: the fewest that survive the loss of one.
const NODES: u16 = 4;

/// First port when nobody says which and it is free.
const BASE_PORT: u16 = 7100;

/// Ports between two nodes.
const PORT_STEP: u16 = 10;

/// The folder, locked; removed at the end if it is a temporary one.
pub(super) struct Home {
    path: PathBuf,
    temporary: bool,
    kept: bool,
    _link: Option<Link>,
    _lock: File,
}

impl Home {
    /// Opens or makes `path`, or makes a temporary folder.
    pub(super) fn open(path: Option<&Path>, keep: bool) -> Result<Self, ExitError> {
        let temporary = path.is_none();
        let path = match path {
            Some(path) => std::path::absolute(path).map_err(|error| ExitError::io("resolve", path, &error))?,
            None => own_name(),
        };
        if path.join("config.toml").exists() {
            return Err(ExitError::config(format_args!(
                "--home: {} is the home of one node; a devnet takes a folder of its own",
                path.display()
            )));
        }
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700).recursive(!temporary);
        builder
            .create(&path)
            .map_err(|error| ExitError::io("create", &path, &error))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).map_err(|error| ExitError::io("create", &lock_path, &error))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let message = format!("another `fusion devnet` runs in {}", path.display());
            return Err(ExitError::new(Exit::Locked, message));
        }
        // Without a link the client commands want to be told where it is, which is no reason to fail.
        let link = own_name();
        let link = (!temporary && symlink(&path, &link).is_ok()).then_some(Link(link));
        Ok(Self {
            path,
            temporary,
            kept: keep,
            _link: link,
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Does not remove the folder, whatever was asked.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }

    /// Removes a temporary folder; returns the path of one that stays although it is temporary.
    pub(super) fn close(self) -> Option<PathBuf> {
        if !self.temporary {
            return None;
        }
        let removed = !self.kept && std::fs::remove_dir_all(&self.path).is_ok();
        (!removed).then_some(self.path)
    }
}

/// The link to a home where the client commands look for devnets; removed when dropped.
struct Link(PathBuf);

impl Drop for Link {
    fn drop(&mut self) {
        // Whoever removed it before us wanted the same.
        drop(std::fs::remove_file(&self.0));
    }
}

/// A name in the temporary folder that no other devnet has, and that the client commands find.
fn own_name() -> PathBuf {
    let name = format!("{TEMPORARY_PREFIX}{}-{}", std::process::id(), genesis::now_ms());
    std::env::temp_dir().join(name)
}

/// Where everything of a devnet is.
pub(super) struct Plan {
    pub(super) home: PathBuf,
    pub(super) genesis: PathBuf,
    pub(super) network: String,
    pub(super) nodes: Vec<Node>,
    pub(super) rollups: Vec<RollupJson>,
    /// What is between the nodes, if it is more than this machine.
    pub(super) between: Option<Between>,
}

/// Where everything of a node is.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) home: PathBuf,
    pub(super) p2p: SocketAddr,
    pub(super) rpc: SocketAddr,
    pub(super) metrics: SocketAddr,
}

impl Node {
    pub(super) fn log(&self) -> PathBuf {
        self.home.join("node.log")
    }

    /// What starts it again by hand.
    pub(super) fn start_command(&self) -> String {
        let binary = child::binary().map_or_else(|_| "fusion".to_owned(), |path| shell_word(&path));
        format!("{binary} start --home {}", shell_word(&self.home))
    }
}

impl Plan {
    /// The network that is in `home`, or a new one.
    pub(super) fn load_or_create(
        home: &Path,
        count: Option<u16>,
        base_port: Option<u16>,
        wan: Option<&Wan>,
        rules: Option<&SettlementConfig>,
    ) -> Result<Self, ExitError> {
        if !exists(home) {
            let nodes = match wan {
                Some(wan) => u16::try_from(wan.count()).map_err(ExitError::internal)?,
                None => NODES,
            };
            create(home, count.unwrap_or(nodes), base_port, wan, rules)?;
        }
        let between = Between::load(home)?;
        wan::check(home, between.as_ref(), wan, count)?;
        Self::load(home, count, base_port, between)
    }

    fn load(
        home: &Path,
        count: Option<u16>,
        base_port: Option<u16>,
        between: Option<Between>,
    ) -> Result<Self, ExitError> {
        let path = home.join("genesis.json");
        let (json, genesis) = genesis::read(&path)?;
        let mut nodes = Vec::with_capacity(json.validators.len());
        for validator in &json.validators {
            let config = Config::load(&home.join(&validator.name).join(config::FILE_NAME), &[])?;
            let metrics = config.metrics.listen.ok_or_else(|| {
                ExitError::config("metrics.listen: devnet reads the nodes' metrics; it must not be \"\"")
            })?;
            nodes.push(Node {
                name: validator.name.clone(),
                home: config.node.home,
                p2p: config.p2p.listen,
                rpc: config.rpc.listen,
                metrics,
            });
        }
        if let Some(count) = count
            && usize::from(count) != nodes.len()
        {
            let message = format!(
                "{} has {} nodes, not {count}; leave out --nodes",
                home.display(),
                nodes.len()
            );
            return Err(ExitError::new(Exit::Usage, message));
        }
        if let Some(base) = base_port
            && let Some(first) = nodes.first().map(|node| node.p2p.port())
            && base != first
        {
            let message = format!(
                "{} has its ports already, from {first} on, not {base}; leave out --base-port",
                home.display()
            );
            return Err(ExitError::new(Exit::Usage, message));
        }
        let regions = between.as_ref().map_or(nodes.len(), |between| between.table.count());
        if regions != nodes.len() {
            let nodes = nodes.len();
            return Err(ExitError::config(format_args!(
                "wan.json has {regions} regions, genesis.json {nodes} nodes"
            )));
        }
        for node in &nodes {
            if !(udp_is_free(node.p2p) && tcp_is_free(node.rpc) && tcp_is_free(node.metrics)) {
                let message = format!(
                    "a port of {} is in use: {} (UDP), {} or {}; does it run already?",
                    node.name, node.p2p, node.rpc, node.metrics
                );
                return Err(ExitError::new(Exit::Unavailable, message));
            }
        }
        Ok(Self {
            home: home.to_owned(),
            genesis: path,
            network: genesis.network().to_string(),
            nodes,
            rollups: json.rollups,
            between,
        })
    }

    /// Writes `devnet.json`, through a new file so that a reader never sees half of it.
    pub(super) fn write_ready(&self, line: &str) -> Result<(), ExitError> {
        let path = self.home.join("devnet.json");
        let new = self.home.join("devnet.json.new");
        std::fs::write(&new, format!("{line}\n"))
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|error| ExitError::io("write", &path, &error))
    }

    /// Removes `devnet.json`: it speaks of nodes that run.
    pub(super) fn forget_ready(&self) {
        // It may never have been written.
        drop(std::fs::remove_file(self.home.join("devnet.json")));
    }
}

/// Whether there is a network in `home`.
pub(super) fn exists(home: &Path) -> bool {
    home.join("genesis.json").exists()
}

/// Makes keys, configurations and, last, the genesis: without it a half-made folder is not taken for a network.
fn create(
    home: &Path,
    count: u16,
    base_port: Option<u16>,
    wan: Option<&Wan>,
    rules: Option<&SettlementConfig>,
) -> Result<(), ExitError> {
    if wan.is_some_and(|wan| wan.count() != usize::from(count)) {
        return wan::check(home, None, wan, Some(count));
    }
    let ports = ports(count, base_port)?;
    let between = match wan {
        Some(wan) => {
            let last = ports.iter().map(|[p2p, ..]| p2p.port()).max().unwrap_or(BASE_PORT);
            Some(Between::new(wan.clone(), last.saturating_add(PORT_STEP))?)
        }
        None => None,
    };
    let mut consensus_keys = (0..count).map(|_| keys::generate()).collect::<Result<Vec<_>, _>>()?;
    // Validators propose in the order of their keys, and so nodes do in the order of their numbers.
    consensus_keys.sort_by_key(keys::public);
    let peer_keys = (0..count).map(|_| keys::generate()).collect::<Result<Vec<_>, _>>()?;
    let mut validators = Vec::with_capacity(usize::from(count));
    let mut made = Vec::with_capacity(usize::from(count));
    for (index, ports) in ports.into_iter().enumerate() {
        let (consensus, peer) = (&consensus_keys[index], &peer_keys[index]);
        let name = format!("node{index}");
        let folder = home.join(&name);
        let mut config = Config::default();
        config.node.name.clone_from(&name);
        config.node.role = Role::Validator;
        config.node.genesis = "../genesis.json".into();
        config.p2p.listen = ports[0];
        config.p2p.peers = between
            .iter()
            .flat_map(|between| peers(between, index, &peer_keys))
            .collect();
        config.rpc.listen = ports[1];
        config.metrics.listen = Some(ports[2]);
        let file = folder.join(config::FILE_NAME);
        keys::write_new(&file, config::documented(&config).as_bytes(), 0o644)?;
        let config = Config::load(&file, &[])?;
        keys::write(KeyKind::Consensus, &config.keys.consensus, consensus, None)?;
        keys::write(KeyKind::Peer, &config.keys.peer, peer, None)?;
        validators.push(GenesisValidatorJson {
            id: Hash(keys::public(consensus)),
            peer: Hash(keys::public(peer)),
            power: 1,
            address: ports[0].to_string(),
            name,
        });
        made.push((config, ValidatorId(keys::public(consensus))));
    }
    if let Some(between) = &between {
        between.save(home)?;
    }
    let json = GenesisJson {
        name: "devnet".to_owned(),
        time_ms: genesis::now_ms(),
        validators,
        rollups: vec![
            rollup(901, RollupKindJson::Evm, OrderingJson::Fcfs),
            rollup(902, RollupKindJson::Evm, OrderingJson::Priority),
            rollup(1001, RollupKindJson::Opaque, OrderingJson::Fcfs),
        ],
        settlement: rules.map(Into::into),
    };
    let genesis = Genesis::try_from(&json).map_err(ExitError::internal)?;
    for (config, validator) in made {
        let _moved = node::create_guard(&config, &genesis, validator, Height(0))?;
    }
    genesis::write(&json, &home.join("genesis.json"))
}

/// Where node `from` reaches the others: through the relay.
fn peers(between: &Between, from: usize, keys: &[SigningKey]) -> Vec<PeerAddress> {
    let peer = |(to, key): (usize, &SigningKey)| {
        let address = between.address(from, to)?.to_string();
        let id = keys::public(key);
        Some(PeerAddress { id, address })
    };
    keys.iter().enumerate().filter_map(peer).collect()
}

fn rollup(id: u64, kind: RollupKindJson, ordering: OrderingJson) -> RollupJson {
    RollupJson {
        id,
        kind,
        ordering,
        weight: 1,
    }
}

/// p2p, RPC and metrics address of each node.
fn ports(count: u16, base: Option<u16>) -> Result<Vec<[SocketAddr; 3]>, ExitError> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let block = |base: u16| {
        let node = move |index: u16| {
            let first = base.checked_add(index.checked_mul(PORT_STEP)?)?;
            Some([local(first), local(first.checked_add(1)?), local(first.checked_add(2)?)])
        };
        (0..count).map(node).collect::<Option<Vec<_>>>()
    };
    let used = |ports: &[[SocketAddr; 3]]| {
        let mut all = ports.iter().flat_map(|[p2p, rpc, metrics]| {
            [
                (*p2p, udp_is_free(*p2p)),
                (*rpc, tcp_is_free(*rpc)),
                (*metrics, tcp_is_free(*metrics)),
            ]
        });
        all.find(|(_, free)| !free).map(|(address, _)| address)
    };
    let wanted = base.unwrap_or(BASE_PORT);
    let ports = block(wanted);
    match (ports.map(|ports| (used(&ports), ports)), base) {
        (Some((None, ports)), _) => Ok(ports),
        (Some((Some(address), _)), Some(_)) => Err(ExitError::new(
            Exit::Unavailable,
            format_args!("--base-port: {address} is in use"),
        )),
        (None, Some(base)) => Err(ExitError::new(
            Exit::Usage,
            format_args!("--base-port: {count} nodes do not fit above {base}"),
        )),
        (_, None) => free_ports(count),
    }
}

/// Ports that the system picks. All stay taken until all are known, so that none is given twice.
fn free_ports(count: u16) -> Result<Vec<[SocketAddr; 3]>, ExitError> {
    let pick = || -> std::io::Result<(UdpSocket, TcpListener, TcpListener)> {
        let any = (Ipv4Addr::LOCALHOST, 0);
        Ok((UdpSocket::bind(any)?, TcpListener::bind(any)?, TcpListener::bind(any)?))
    };
    let taken: std::io::Result<Vec<_>> = (0..count).map(|_| pick()).collect();
    let addresses = taken.and_then(|taken| {
        let address = |(p2p, rpc, metrics): &(UdpSocket, TcpListener, TcpListener)| {
            Ok([p2p.local_addr()?, rpc.local_addr()?, metrics.local_addr()?])
        };
        taken.iter().map(address).collect()
    });
    addresses.map_err(|error: std::io::Error| ExitError::new(Exit::Unavailable, format_args!("no free port: {error}")))
}

pub(super) fn udp_is_free(address: SocketAddr) -> bool {
    UdpSocket::bind(address).is_ok()
}

fn tcp_is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_that_the_home_has_may_be_repeated_and_another_is_refused_with_both() {
        let folder = tempfile::tempdir().unwrap();
        create(folder.path(), 1, None, None, None).unwrap();
        let config = Config::load(&folder.path().join("node0").join(config::FILE_NAME), &[]).unwrap();
        let first = config.p2p.listen.port();
        // Somebody else may take the port meanwhile, which is another refusal.
        let same = Plan::load_or_create(folder.path(), None, Some(first), None, None);
        assert_ne!(same.err().map(|error| error.exit), Some(Exit::Usage));
        let refused = Plan::load_or_create(folder.path(), None, Some(first ^ 1), None, None);
        let refused = refused.err().unwrap();
        assert_eq!(refused.exit, Exit::Usage);
        assert!(
            refused.message.contains(&format!("from {first} on, not {}", first ^ 1)),
            "{}",
            refused.message
        );
    }
}
