//! `fusion init`: a home folder with everything that `fusion start` needs.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use fusion_types::Genesis;

use super::{genesis, print, shell_word};
use crate::config::{self, Config};
use crate::exit::ExitError;
use crate::keys::{self, KeyKind, Keys};
use crate::node;

const HELP: &str = "\
Writes config.toml, genesis.json and the keys that are missing; never overwrites, so it can be run again. A follower
needs no place in the genesis. A validator's keys come first, because the genesis names them: `fusion keygen --out
DIR/keys`, collect everybody's public keys into a genesis file, then init.

Examples:
  fusion init --home /var/lib/fusion --genesis genesis.json                     a follower
  fusion init --home /var/lib/fusion --genesis genesis.json --role validator";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct InitArgs {
    /// Folder of the node; made if missing.
    #[arg(long, value_name = "DIR")]
    home: PathBuf,
    /// Genesis file of the network.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// What the node is to be.
    #[arg(long, value_enum, default_value = "follower")]
    role: RoleArg,
    /// Name of the node in logs and metrics.
    #[arg(long)]
    name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleArg {
    /// Votes: its keys stand in the genesis.
    Validator,
    /// Syncs and serves.
    Follower,
}

pub(super) fn run(args: &InitArgs) -> Result<(), ExitError> {
    let (_, genesis) = genesis::read(&args.genesis)?;
    let home = std::path::absolute(&args.home).map_err(|error| ExitError::io("resolve", &args.home, &error))?;
    let mut wrote = Vec::new();
    let config_path = home.join(config::FILE_NAME);
    if !config_path.exists() {
        let config = configuration(args)?;
        keys::write_new(&config_path, config::documented(&config).as_bytes(), 0o644)?;
        wrote.push(config_path.clone());
    }
    let config = Config::load(&config_path, &[])?;
    place_genesis(args, &config, &genesis, &mut wrote)?;
    if args.role == RoleArg::Validator && !config.keys.consensus.exists() {
        let keys = config.keys.consensus.parent().unwrap_or(&home);
        return Err(ExitError::config(format_args!(
            "keys.consensus: {} is missing, and a new key cannot stand in a genesis that exists; run `fusion keygen --out {}`, \
             then make the genesis with the public keys that it prints",
            config.keys.consensus.display(),
            shell_word(keys)
        )));
    }
    make_keys(&config, &mut wrote)?;
    for path in &wrote {
        print(&format!("wrote {}", path.display()))?;
    }
    let keys = Keys::load(&config)?;
    print(&next_steps(&home, &config, &keys, &genesis))
}

fn configuration(args: &InitArgs) -> Result<Config, ExitError> {
    let role = match args.role {
        RoleArg::Validator => "validator",
        RoleArg::Follower => "follower",
    };
    let mut overrides = vec![format!("node.role={role}")];
    overrides.extend(args.name.as_ref().map(|name| format!("node.name=\"{name}\"")));
    Config::parse("", "", &overrides).map_err(|problems| ExitError::config(problems.join("\n")))
}

fn place_genesis(
    args: &InitArgs,
    config: &Config,
    genesis: &Genesis,
    wrote: &mut Vec<PathBuf>,
) -> Result<(), ExitError> {
    let path = &config.node.genesis;
    if path.exists() {
        let there = genesis::read(path)?.1.network();
        if there != genesis.network() {
            return Err(ExitError::config(format_args!(
                "node.genesis: {} is of network {there}, {} of {}; use another --home",
                path.display(),
                args.genesis.display(),
                genesis.network()
            )));
        }
        return Ok(());
    }
    let bytes = std::fs::read(&args.genesis).map_err(|error| ExitError::io("read", &args.genesis, &error))?;
    keys::write_new(path, &bytes, 0o644)?;
    wrote.push(path.clone());
    Ok(())
}

/// Makes the peer key if it is missing: nobody needs to know it beforehand.
fn make_keys(config: &Config, wrote: &mut Vec<PathBuf>) -> Result<(), ExitError> {
    let path = &config.keys.peer;
    if !path.exists() {
        keys::write(KeyKind::Peer, path, &keys::generate()?, None)?;
        wrote.push(path.clone());
    }
    Ok(())
}

fn next_steps(home: &Path, config: &Config, keys: &Keys, genesis: &Genesis) -> String {
    let mut text = format!(
        "network {} ({})\npeer key {}\n",
        genesis.network(),
        genesis.name(),
        keys.peer_id()
    );
    let home = shell_word(home);
    if let Some(validator) = keys.validator() {
        text += &format!("consensus key {validator}\n");
        if genesis.committee().index_of(validator).is_none() {
            text += "This consensus key is not in the genesis. Make a genesis with it, and run init with that file and a new home.\n";
        }
        if !node::guard_exists(config) {
            text += &format!(
                "Its sign guard is not made up. If the key has signed nothing yet:\n  \
                 fusion guard init --home {home} --at-height 0 --i-understand\n"
            );
        }
    } else {
        text += "This node follows: it does not vote.\n";
    }
    text + &format!("Next:\n  fusion config check --home {home}\n  fusion start --home {home}")
}
