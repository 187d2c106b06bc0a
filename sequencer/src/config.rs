//! One TOML file for one node: what it may say, what it says when it is silent, and what is refused.
//!
//! Every key stands in one table (`config/fields.rs`) with its documentation, unit and limits; reading, `--set`, the
//! commented default file and the error messages are made from it, so they cannot drift apart. An unknown key is an
//! error that names the closest known one. Nothing is read from the environment.
//!
//! What all nodes of a network must agree on is not configuration: that is the genesis and `fusion_types::limits`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_primitives::B256;
use fusion_consensus::Timeouts;

use crate::exit::ExitError;

mod fields;
mod file;
mod settlement;
#[cfg(test)]
mod tests;

pub use fields::{documented, explain};
pub use file::host_port;
pub use settlement::Settlement;

/// Name of the configuration file inside a home folder.
pub const FILE_NAME: &str = "config.toml";

const MIB: usize = 1024 * 1024;

/// Everything that an operator can set. See `fusion config default` for the file with documentation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[keys]`
    pub keys: KeyFiles,
    /// `[p2p]`
    pub p2p: P2p,
    /// `[consensus]`
    pub consensus: Consensus,
    /// `[mempool]`
    pub mempool: Mempool,
    /// `[rpc]`
    pub rpc: Rpc,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[storage]`
    pub storage: Storage,
    /// `[settlement]`
    pub settlement: Settlement,
    /// `[log]`
    pub log: Log,
    /// `[debug]`
    pub debug: Debug,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A validator when its consensus key file exists, a follower otherwise.
    Auto,
    /// Votes; without a consensus key it does not start.
    Validator,
    /// Syncs and serves; leaves a consensus key unread.
    Follower,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Name in logs and metrics; nobody else sees it.
    pub name: String,
    /// What the node is.
    pub role: Role,
    /// Folder of the node's data.
    pub home: PathBuf,
    /// Genesis file.
    pub genesis: PathBuf,
}

/// `[keys]`: paths, never keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    /// Consensus key file.
    pub consensus: PathBuf,
    /// Peer key file.
    pub peer: PathBuf,
    /// File with the password of encrypted key files; none means to ask on the terminal.
    pub password_file: Option<PathBuf>,
}

/// Where a peer listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its peer key.
    pub id: B256,
    /// `host:port`, the host a name or an IP address.
    pub address: String,
}

/// `[p2p]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct P2p {
    /// UDP address to listen on.
    pub listen: SocketAddr,
    /// Addresses of peers. Read from the file these stand above the genesis file's; after [`Config::load`] and
    /// `start` they hold both.
    pub peers: Vec<PeerAddress>,
    /// Most followers connected at a time.
    pub followers_max: usize,
    /// Least bytes that may be on their way to a validator at once.
    pub window_floor_bytes: usize,
}

/// `[consensus]`: pacing of this node. Nodes may differ in it without harm to safety.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consensus {
    /// Wait for a proposal in round 0.
    pub timeout_propose: Duration,
    /// Added to it in each further round.
    pub timeout_propose_delta: Duration,
    /// Wait for more prevotes after the first quorum of them in round 0.
    pub timeout_prevote: Duration,
    /// Added to it in each further round.
    pub timeout_prevote_delta: Duration,
    /// Wait for more precommits after the first quorum of them in round 0.
    pub timeout_precommit: Duration,
    /// Added to it in each further round.
    pub timeout_precommit_delta: Duration,
    /// No timeout grows beyond this.
    pub timeout_max: Duration,
    /// A node without progress repeats its last votes this often.
    pub rebroadcast_interval: Duration,
    /// Least time between two blocks.
    pub block_interval_min: Duration,
    /// With nothing to order, an empty block comes this often.
    pub block_interval_idle: Duration,
    /// A proposer fills a block up to this many bytes.
    pub block_bytes_target: usize,
}

/// `[mempool]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mempool {
    /// Most bytes waiting in total.
    pub bytes_max: usize,
    /// Most bytes waiting for one rollup.
    pub rollup_bytes_max: usize,
    /// Most bytes waiting from one sender in one rollup.
    pub sender_bytes_max: usize,
    /// Most transactions waiting from one sender in one rollup.
    pub sender_transactions_max: usize,
}

/// `[rpc]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rpc {
    /// TCP address for HTTP and WebSocket.
    pub listen: SocketAddr,
    /// Most connections at a time.
    pub connections_max: usize,
    /// Most connections of one address that is not this machine's.
    pub connections_per_address_max: usize,
    /// Largest request body in bytes.
    pub body_bytes_max: usize,
    /// Largest response in bytes.
    pub response_bytes_max: usize,
    /// Most calls in one batch.
    pub batch_max: usize,
    /// Most subscriptions of one connection.
    pub subscriptions_max: usize,
    /// A subscriber that takes nothing for this time is cut off.
    pub slow_reader: Duration,
    /// Values of the `Host` header that are served, without port; any if empty.
    pub hosts: Vec<String>,
    /// Web pages that may call, by the `Origin` header; `*` for all, none if empty.
    pub origins: Vec<String>,
}

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// TCP address of `/metrics`, `/livez` and `/readyz`; none turns them off.
    pub listen: Option<SocketAddr>,
}

/// `[storage]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// A segment of the block log is closed at this many bytes.
    pub segment_bytes: usize,
    /// Folder of the sign guard.
    pub guard_dir: PathBuf,
    /// Memory for the most recent decided blocks, in bytes.
    pub recent_bytes: usize,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Form of the lines.
    pub format: LogFormat,
    /// A level, or directives as of `tracing_subscriber::EnvFilter`.
    pub level: String,
}

/// `[debug]`: for experiments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debug {
    /// File that takes every vote and proposal sent and received.
    pub record: Option<PathBuf>,
    /// It grows no further than this many bytes.
    pub record_bytes_max: usize,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: "fusion".to_owned(),
            role: Role::Auto,
            home: PathBuf::new(),
            genesis: "genesis.json".into(),
        }
    }
}

impl Default for KeyFiles {
    fn default() -> Self {
        Self {
            consensus: "keys/consensus.json".into(),
            peer: "keys/peer.json".into(),
            password_file: None,
        }
    }
}

impl Default for P2p {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7100)),
            peers: Vec::new(),
            followers_max: 32,
            window_floor_bytes: 256 << 10,
        }
    }
}

impl Default for Consensus {
    fn default() -> Self {
        let timeouts = Timeouts::default();
        Self {
            timeout_propose: timeouts.propose,
            timeout_propose_delta: timeouts.propose_delta,
            timeout_prevote: timeouts.prevote,
            timeout_prevote_delta: timeouts.prevote_delta,
            timeout_precommit: timeouts.precommit,
            timeout_precommit_delta: timeouts.precommit_delta,
            timeout_max: timeouts.max,
            rebroadcast_interval: timeouts.rebroadcast,
            block_interval_min: Duration::from_millis(5),
            block_interval_idle: Duration::from_secs(1),
            block_bytes_target: 2 * MIB,
        }
    }
}

impl Default for Mempool {
    fn default() -> Self {
        Self {
            bytes_max: 96 * MIB,
            rollup_bytes_max: 48 * MIB,
            sender_bytes_max: MIB,
            sender_transactions_max: 64,
        }
    }
}

impl Default for Rpc {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7101)),
            connections_max: 1000,
            connections_per_address_max: 64,
            body_bytes_max: MIB,
            response_bytes_max: 10 * MIB,
            batch_max: 100,
            subscriptions_max: 64,
            slow_reader: Duration::from_secs(5),
            hosts: Vec::new(),
            origins: Vec::new(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 7102))),
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * MIB,
            guard_dir: "guard".into(),
            recent_bytes: 16 * MIB,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

impl Default for Debug {
    fn default() -> Self {
        Self {
            record: None,
            record_bytes_max: 1024 * MIB,
        }
    }
}

impl Config {
    /// Reads a file, lays `overrides` (`section.key=value`) over it, checks all, and makes every path absolute.
    ///
    /// # Errors
    /// Code 78 with one line for each thing that is wrong: place, key, what was found, what is allowed.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, ExitError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            ExitError::config(format_args!("cannot read configuration {}: {error}", path.display()))
        })?;
        let mut config = Self::parse(&text, &path.display().to_string(), overrides)
            .map_err(|problems| ExitError::config(problems.join("\n")))?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        config
            .anchor(folder)
            .map_err(|error| ExitError::io("resolve", folder, &error))?;
        Ok(config)
    }

    /// Parses and checks the text of a file called `source` in messages. Paths stay as written.
    ///
    /// # Errors
    /// Every problem, one line each.
    pub fn parse(text: &str, source: &str, overrides: &[String]) -> Result<Self, Vec<String>> {
        let mut config = Self::default();
        let mut problems = file::apply(&mut config, text, source);
        problems.extend(file::apply_overrides(&mut config, overrides));
        if problems.is_empty() {
            problems.extend(config.relations());
        }
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// Makes paths absolute: the home starts at `folder`, all others at the home.
    fn anchor(&mut self, folder: &Path) -> std::io::Result<()> {
        // An empty path joined would leave a slash at the end.
        let home = if self.node.home.as_os_str().is_empty() {
            folder.to_owned()
        } else {
            folder.join(&self.node.home)
        };
        let home = if home.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            home
        };
        let home = std::path::absolute(home)?;
        for path in [
            &mut self.node.genesis,
            &mut self.keys.consensus,
            &mut self.keys.peer,
            &mut self.storage.guard_dir,
            &mut self.settlement.attestation_key,
        ] {
            *path = home.join(&*path);
        }
        for path in [
            &mut self.keys.password_file,
            &mut self.debug.record,
            &mut self.settlement.poster_key,
        ]
        .into_iter()
        .flatten()
        {
            *path = home.join(&*path);
        }
        self.node.home = home;
        Ok(())
    }

    /// What must hold between fields.
    fn relations(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let consensus = &self.consensus;
        if consensus.block_interval_idle < consensus.block_interval_min {
            problems.push(format!(
                "consensus.block_interval_idle_ms: {} is below consensus.block_interval_min_ms = {}",
                consensus.block_interval_idle.as_millis(),
                consensus.block_interval_min.as_millis()
            ));
        }
        for (key, timeout) in [
            ("timeout_propose_ms", consensus.timeout_propose),
            ("timeout_prevote_ms", consensus.timeout_prevote),
            ("timeout_precommit_ms", consensus.timeout_precommit),
        ] {
            if timeout > consensus.timeout_max {
                problems.push(format!(
                    "consensus.{key}: {} is above consensus.timeout_max_ms = {}",
                    timeout.as_millis(),
                    consensus.timeout_max.as_millis()
                ));
            }
        }
        let mempool = &self.mempool;
        if mempool.rollup_bytes_max > mempool.bytes_max {
            problems.push(format!(
                "mempool.rollup_bytes_max: {} is above mempool.bytes_max = {}",
                mempool.rollup_bytes_max, mempool.bytes_max
            ));
        }
        if mempool.sender_bytes_max > mempool.rollup_bytes_max {
            problems.push(format!(
                "mempool.sender_bytes_max: {} is above mempool.rollup_bytes_max = {}",
                mempool.sender_bytes_max, mempool.rollup_bytes_max
            ));
        }
        if let Some(listen) = self.metrics.listen
            && listen == self.rpc.listen
            && listen.port() != 0
        {
            problems.push(format!("metrics.listen: {listen} is the address of rpc.listen"));
        }
        problems.extend(self.settlement.problems());
        if let Err(error) = crate::logging::filter(&self.log.level) {
            problems.push(format!("log.level: {error}"));
        }
        problems
    }
}
