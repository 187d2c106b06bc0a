//! Which nodes the client commands talk to: those given by `--url`, or those of a devnet on this machine.
//!
//! A running devnet leaves `devnet.json` in its home folder, and a link to a home that is not in the temporary folder
//! there. Without any option the newest one found there is taken, so that `fusion devnet` in one terminal and `fusion
//! bench` in another need no address.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use fusion_client::Trust;
use fusion_client::json::{GenesisJson, RollupJson, RollupKindJson};
use serde::Deserialize;

use super::shell_word;
use super::wan::Wan;
use crate::exit::{Exit, ExitError};

/// Folders of devnets without `--home`, and links to those with one, start with this.
pub(super) const TEMPORARY_PREFIX: &str = "fusion-devnet-";

/// What a running devnet says of itself.
const READY_FILE: &str = "devnet.json";

/// Nodes to talk to.
#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    /// RPC address of a node (may be repeated) [default: all nodes of the devnet].
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// Home folder of a devnet [default: the one that was started last].
    #[arg(long, visible_alias = "home", value_name = "DIR")]
    devnet: Option<PathBuf>,
}

/// A devnet that was started on this machine.
#[derive(Debug, Deserialize)]
struct Devnet {
    genesis: PathBuf,
    nodes: Vec<DevnetNode>,
    rollups: Vec<RollupJson>,
    wan: Option<DevnetWan>,
}

/// The network between its nodes.
#[derive(Debug, Deserialize)]
struct DevnetWan {
    #[serde(flatten)]
    table: serde_json::Value,
    control: SocketAddr,
}

#[derive(Debug, Deserialize)]
struct DevnetNode {
    pid: u32,
    rpc: String,
    metrics: String,
}

/// What is known of the nodes to talk to. Beyond the addresses, a node given by `--url` alone is unknown.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    /// RPC addresses, at least one.
    pub(super) urls: Vec<String>,
    /// Its genesis file.
    pub(super) genesis: Option<PathBuf>,
    /// The nodes' processes on this machine.
    pub(super) pids: Vec<u32>,
    /// Addresses of the nodes' metrics.
    pub(super) metrics: Vec<String>,
    /// The registered rollups.
    pub(super) rollups: Vec<RollupJson>,
    /// The network between all nodes of a devnet, if it has one, and where its relay takes orders.
    pub(super) wan: Option<(Wan, SocketAddr)>,
}

impl ClusterArgs {
    /// Whether it is about all nodes of a devnet, whichever they are, and not about nodes that were named one by one.
    pub(super) fn is_whole_devnet(&self) -> bool {
        self.url.is_empty()
    }

    /// The nodes that the options name.
    pub(super) fn find(&self) -> Result<Cluster, ExitError> {
        let file = match &self.devnet {
            Some(home) => ready_file(home),
            None => newest(&std::env::temp_dir()),
        };
        let devnet = file.and_then(|file| Cluster::load(&file));
        if self.url.is_empty() {
            return devnet;
        }
        // A devnet that happens to run here says nothing about nodes elsewhere.
        let known = match devnet {
            Ok(devnet) if self.devnet.is_some() || self.url.iter().any(|url| devnet.urls.contains(url)) => devnet,
            Err(error) if self.devnet.is_some() => return Err(error),
            _ => Cluster::default(),
        };
        Ok(Cluster {
            urls: self.url.clone(),
            ..known
        })
    }
}

impl Cluster {
    fn load(file: &Path) -> Result<Self, ExitError> {
        let text = std::fs::read_to_string(file).map_err(|error| ExitError::io("read", file, &error))?;
        Self::read(&text).map_err(|error| ExitError::config(format_args!("{}: {error}", file.display())))
    }

    /// What a devnet says of itself as one line of JSON.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let devnet: Devnet = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if devnet.nodes.is_empty() {
            return Err("it names no node".to_owned());
        }
        let wan = match devnet.wan {
            Some(wan) => Some((Wan::parse(&wan.table.to_string(), "wan.json")?, wan.control)),
            None => None,
        };
        Ok(Self {
            wan,
            urls: devnet.nodes.iter().map(|node| node.rpc.clone()).collect(),
            genesis: Some(devnet.genesis),
            // 0 stands for a process that the devnet did not start.
            pids: devnet
                .nodes
                .iter()
                .map(|node| node.pid)
                .filter(|pid| *pid != 0)
                .collect(),
            metrics: devnet.nodes.into_iter().map(|node| node.metrics).collect(),
            rollups: devnet.rollups,
        })
    }

    /// Trust in `genesis`, or in the devnet's if none is given.
    pub(super) fn trust(&self, genesis: Option<&Path>) -> Result<Trust, ExitError> {
        let path = genesis.or(self.genesis.as_deref()).ok_or_else(|| {
            ExitError::new(
                Exit::Usage,
                "give --genesis FILE: without it nothing that a node says can be verified",
            )
        })?;
        read_trust(path)
    }

    /// Ids of the rollups of one kind.
    pub(super) fn rollups_of(&self, kind: RollupKindJson) -> Vec<u64> {
        let rollups = self.rollups.iter().filter(|rollup| rollup.kind == kind);
        rollups.map(|rollup| rollup.id).collect()
    }
}

/// Trust in a `genesis.json`.
pub(super) fn read_trust(path: &Path) -> Result<Trust, ExitError> {
    let text = std::fs::read_to_string(path).map_err(|error| ExitError::io("read", path, &error))?;
    let json = serde_json::from_str::<GenesisJson>(&text).map_err(|error| error.to_string());
    let genesis = json.and_then(|json| fusion_types::Genesis::try_from(&json).map_err(|error| error.to_string()));
    let genesis = genesis.map_err(|error| ExitError::config(format_args!("{}: {error}", path.display())))?;
    Ok(Trust::of(&genesis))
}

/// The ready file of the devnet that runs in `home`.
fn ready_file(home: &Path) -> Result<PathBuf, ExitError> {
    let file = home.join(READY_FILE);
    if file.exists() {
        return Ok(file);
    }
    let dir = shell_word(home);
    Err(ExitError::new(
        Exit::Usage,
        format_args!(
            "no devnet is running in {dir}: start it with `fusion devnet --home {dir}`, or give --url URL for a node without one"
        ),
    ))
}

/// The ready file of the devnet that was started last, among those that the temporary folder holds or links to.
fn newest(folder: &Path) -> Result<PathBuf, ExitError> {
    let entries = std::fs::read_dir(folder).map_err(|error| ExitError::io("read", folder, &error))?;
    let found = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        if !entry.file_name().to_str()?.starts_with(TEMPORARY_PREFIX) {
            return None;
        }
        let file = entry.path().join(READY_FILE);
        let modified: SystemTime = file.metadata().ok()?.modified().ok()?;
        Some((modified, file))
    });
    found.max().map(|(_, file)| file).ok_or_else(|| {
        ExitError::new(
            Exit::Usage,
            "no devnet is running on this machine: start one with `fusion devnet`, or give --url URL",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str = r#"{"genesis":"/x/genesis.json","nodes":[
        {"name":"node0","pid":7,"home":"/x/node0","rpc":"http://127.0.0.1:1","metrics":"http://127.0.0.1:2/metrics","p2p":"127.0.0.1:3"},
        {"name":"node1","pid":0,"home":"/x/node1","rpc":"http://127.0.0.1:4","metrics":"http://127.0.0.1:5/metrics","p2p":"127.0.0.1:6"}],
        "rollups":[{"id":901,"kind":"evm","ordering":"fcfs","weight":1},{"id":1001,"kind":"opaque","ordering":"fcfs","weight":1}]}"#;

    #[test]
    fn a_devnets_own_words_give_addresses_processes_and_rollups() {
        let cluster = Cluster::read(READY).unwrap();
        assert_eq!(cluster.urls, ["http://127.0.0.1:1", "http://127.0.0.1:4"]);
        assert_eq!(cluster.pids, [7]);
        assert_eq!(cluster.metrics.len(), 2);
        assert_eq!(cluster.rollups_of(RollupKindJson::Opaque), [1001]);
        assert!(Cluster::read("{}").is_err());
    }

    #[test]
    fn the_newest_devnet_is_found_and_its_absence_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert!(newest(folder.path()).unwrap_err().message.contains("fusion devnet"));
        for (name, age) in [("fusion-devnet-1", 100), ("fusion-devnet-2", 1), ("other", 0)] {
            let home = folder.path().join(name);
            std::fs::create_dir(&home).unwrap();
            let file = std::fs::File::create(home.join(READY_FILE)).unwrap();
            let then = SystemTime::now() - std::time::Duration::from_secs(age);
            file.set_modified(then).unwrap();
        }
        assert!(newest(folder.path()).unwrap().ends_with("fusion-devnet-2/devnet.json"));
        // One with a home of its own is found by its link, and a link to what is gone is not looked at.
        std::os::unix::fs::symlink(folder.path().join("other"), folder.path().join("fusion-devnet-3")).unwrap();
        std::os::unix::fs::symlink("/gone", folder.path().join("fusion-devnet-4")).unwrap();
        assert!(newest(folder.path()).unwrap().ends_with("fusion-devnet-3/devnet.json"));
        let refused = ready_file(&folder.path().join("x y")).unwrap_err();
        assert!(refused.message.contains("fusion devnet --home '"), "{refused}");
    }
}
