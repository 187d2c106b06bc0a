//! `fusion genesis`: the file that all operators of a network agree on.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::B256;
use clap::Subcommand;
use fusion_client::json::{
    CommitteeJson, GenesisJson, GenesisValidatorJson, Hash, OrderingJson, RollupJson, RollupKindJson,
};
use fusion_types::Genesis;
use serde_json::json;

use super::{print, print_json};
use crate::config::{Config, PeerAddress, host_port};
use crate::exit::{Exit, ExitError};
use crate::keys;

/// Largest genesis file that is read, in bytes: 128 validators and 1024 rollups stay far below.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum GenesisCommand {
    /// Write a genesis file.
    #[command(after_help = NEW_HELP)]
    New(NewArgs),
    /// Print the network id: operators compare it before the start.
    #[command(after_help = "Example:\n  fusion genesis hash genesis.json")]
    Hash {
        /// Genesis file.
        file: PathBuf,
    },
    /// Check a genesis file and print what follows from it, as JSON.
    #[command(after_help = "Example:\n  fusion genesis show genesis.json")]
    Show {
        /// Genesis file.
        file: PathBuf,
    },
}

const NEW_HELP: &str = "\
A validator is name=…,consensus=0x…,peer=0x…,address=host:port[,power=1], its keys as `fusion keygen` printed them.
A rollup is id:kind:ordering[:weight]; kind is evm or opaque, ordering fcfs or priority (evm alone), weight its share
of a full block. Names and addresses are for finding each other and no part of the network id.

Example:
  fusion genesis new --name mynet \\
    --validator name=a,consensus=0x…,peer=0x…,address=a.example.org:7100 \\
    --validator name=b,consensus=0x…,peer=0x…,address=b.example.org:7100,power=2 \\
    --rollup 901:evm:fcfs --rollup 1001:opaque:fcfs:3 --out genesis.json";

#[derive(Debug, clap::Args)]
pub(super) struct NewArgs {
    /// Name of the network, for people.
    #[arg(long)]
    name: String,
    /// A member of the committee (repeat for each).
    #[arg(long = "validator", value_name = "KEY=VALUE,…", required = true, value_parser = validator)]
    validators: Vec<GenesisValidatorJson>,
    /// A rollup (repeat for each).
    #[arg(long = "rollup", value_name = "ID:KIND:ORDERING[:WEIGHT]", value_parser = rollup)]
    rollups: Vec<RollupJson>,
    /// Unix time in milliseconds that the first block must exceed [default: now].
    #[arg(long, value_name = "MS")]
    time_ms: Option<u64>,
    /// File to write; never overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(command: GenesisCommand) -> Result<(), ExitError> {
    match command {
        GenesisCommand::New(args) => {
            let json = GenesisJson {
                name: args.name,
                time_ms: args.time_ms.unwrap_or_else(now_ms),
                validators: args.validators,
                rollups: args.rollups,
                settlement: None,
            };
            let genesis = Genesis::try_from(&json).map_err(|error| ExitError::new(Exit::Usage, error))?;
            write(&json, &args.out)?;
            print(&genesis.network().to_string())
        }
        GenesisCommand::Hash { file } => print(&read(&file)?.1.network().to_string()),
        GenesisCommand::Show { file } => {
            let (json, genesis) = read(&file)?;
            let mut shown = json!({
                "network": genesis.network().to_string(),
                "name": json.name,
                "timeMs": json.time_ms,
                "committee": CommitteeJson::from(genesis.committee()),
                "validators": json.validators,
                "rollups": json.rollups,
            });
            if let Some(rules) = json.settlement {
                shown["settlement"] = json!(rules);
            }
            print_json(&shown)
        }
    }
}

/// Now, as Unix milliseconds.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Writes a genesis file that must not exist.
pub(super) fn write(json: &GenesisJson, path: &Path) -> Result<(), ExitError> {
    let mut text = serde_json::to_string_pretty(json).map_err(ExitError::internal)?;
    text.push('\n');
    keys::write_new(path, text.as_bytes(), 0o644)
}

/// Reads and checks a genesis file.
pub(super) fn read(path: &Path) -> Result<(GenesisJson, Genesis), ExitError> {
    let wrong = |what: &dyn Display| ExitError::config(format_args!("genesis {}: {what}", path.display()));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| wrong(&error))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(wrong(&format_args!("is larger than {FILE_BYTES_MAX} bytes")));
    }
    let json: GenesisJson = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    let genesis = Genesis::try_from(&json).map_err(|error| wrong(&error))?;
    Ok((json, genesis))
}

/// Reads the genesis that `config` names, and adds its addresses to `p2p.peers` where the file gives none.
pub(super) fn read_into(config: &mut Config) -> Result<(GenesisJson, Genesis), ExitError> {
    let (json, genesis) = read(&config.node.genesis)
        .map_err(|error| ExitError::new(error.exit, format_args!("node.genesis: {}", error.message)))?;
    for validator in &json.validators {
        let id = validator.peer.0;
        if !config.p2p.peers.iter().any(|peer| peer.id == id) {
            let address = validator.address.clone();
            config.p2p.peers.push(PeerAddress { id, address });
        }
    }
    Ok((json, genesis))
}

fn validator(text: &str) -> Result<GenesisValidatorJson, String> {
    let mut parts = BTreeMap::new();
    for part in text.split(',') {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| format!("\"{part}\" is not key=value"))?;
        if !["name", "consensus", "peer", "power", "address"].contains(&key) {
            return Err(format!(
                "unknown key {key}; known are name, consensus, peer, power and address"
            ));
        }
        if parts.insert(key, value).is_some() {
            return Err(format!("{key} is given twice"));
        }
    }
    let part = |key: &str| parts.get(key).copied().ok_or_else(|| format!("{key} is missing"));
    let hash = |key: &str| -> Result<Hash, String> {
        let text = part(key)?;
        let hash: B256 = text
            .parse()
            .map_err(|_| format!("{key} is \"{text}\", must be 0x and 64 hex digits"))?;
        Ok(Hash(hash))
    };
    let power = parts.get("power").copied().unwrap_or("1");
    Ok(GenesisValidatorJson {
        id: hash("consensus")?,
        peer: hash("peer")?,
        power: power
            .parse()
            .map_err(|_| format!("power is \"{power}\", must be a whole number from 1"))?,
        address: host_port(part("address")?).map_err(|problem| format!("address {problem}"))?,
        name: parts.get("name").copied().unwrap_or_default().to_owned(),
    })
}

fn rollup(text: &str) -> Result<RollupJson, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (id, kind, ordering, weight) = match parts[..] {
        [id, kind, ordering] => (id, kind, ordering, "1"),
        [id, kind, ordering, weight] => (id, kind, ordering, weight),
        _ => return Err("must be id:kind:ordering[:weight], such as 901:evm:fcfs".to_owned()),
    };
    Ok(RollupJson {
        id: id.parse().map_err(|_| format!("id is \"{id}\", must be a chain id"))?,
        kind: match kind {
            "evm" => RollupKindJson::Evm,
            "opaque" => RollupKindJson::Opaque,
            _ => return Err(format!("kind is \"{kind}\", must be evm or opaque")),
        },
        ordering: match ordering {
            "fcfs" => OrderingJson::Fcfs,
            "priority" => OrderingJson::Priority,
            _ => return Err(format!("ordering is \"{ordering}\", must be fcfs or priority")),
        },
        weight: weight
            .parse()
            .map_err(|_| format!("weight is \"{weight}\", must be 1 to {}", u32::MAX))?,
    })
}
