//! The command line of `fusion`: what an operator types, and how it ends.
//!
//! Results go to stdout, logs and errors to stderr. Every error is one line a problem; the exit code is in
//! [`crate::exit`]. No command asks a question unless stdin is a terminal, and none overwrites a file.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::{self, Config};
use crate::exit::{self, Exit, ExitError};

mod bench;
mod cluster;
mod config_file;
mod db;
mod devnet;
mod follow;
mod genesis;
mod guard;
mod init;
mod keygen;
mod lock;
mod relay;
mod start;
mod status;
mod stops;
mod verify;
mod version;
mod wan;

/// Orders the transactions of many rollups as one network.
#[derive(Debug, Parser)]
#[command(
    name = "fusion",
    version,
    about = "Fusion: a committee orders the transactions of many rollups",
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = FIRST_STEPS,
    after_long_help = format!("{FIRST_STEPS}\n\n{}", exit::help()),
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
Try it on this machine:
  fusion devnet                               4 nodes, 3 rollups; Ctrl-C stops them

Run a node of a committee:
  fusion keygen --out /var/lib/fusion/keys    on each machine; send the printed public keys around
  fusion genesis new --name mynet … --out genesis.json
  fusion genesis hash genesis.json            everybody compares this
  fusion init --home /var/lib/fusion --genesis genesis.json --role validator
  fusion guard init --home /var/lib/fusion --at-height 0 --i-understand    for a key that has signed nothing
  fusion start --home /var/lib/fusion

`fusion <command> --help` explains each command; `fusion --help` lists the exit codes.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole network on this machine, for development.
    Devnet(devnet::DevnetArgs),
    /// Prepare a home folder: configuration, keys, genesis.
    Init(init::InitArgs),
    /// Make key files.
    Keygen(keygen::KeygenArgs),
    /// Make and inspect genesis files.
    #[command(subcommand)]
    Genesis(genesis::GenesisCommand),
    /// Print and check the configuration.
    #[command(subcommand)]
    Config(config_file::ConfigCommand),
    /// Run a node.
    Start(start::StartArgs),
    /// Inspect a node's data while it is stopped.
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Manage the sign guard, which keeps a key from signing twice.
    #[command(subcommand)]
    Guard(guard::GuardCommand),
    /// Show how nodes stand.
    Status(status::StatusArgs),
    /// Follow a rollup's stream, verified.
    Follow(follow::FollowArgs),
    /// Verify a receipt offline.
    Verify(verify::VerifyArgs),
    /// Load a cluster and measure it.
    Bench(bench::BenchArgs),
    /// Put delays, losses and cuts between nodes, for experiments.
    Relay(relay::RelayArgs),
    /// Print the version.
    Version(version::VersionArgs),
}

/// Runs what the process's arguments ask for; returns the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(without_help_of_help(std::env::args_os().collect())) {
        Ok(cli) => cli,
        Err(error) => {
            let asked = !error.use_stderr();
            // A closed pipe is no reason to complain about help that nobody reads.
            drop(error.print());
            return if asked { Exit::Ok.into() } else { Exit::Usage.into() };
        }
    };
    match run(cli.command) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            for line in error.message.lines() {
                // An indented line belongs to the one above it.
                let prefix = if line.starts_with(' ') { "" } else { "error: " };
                eprintln!("{prefix}{line}");
            }
            error.exit.into()
        }
    }
}

/// The arguments, without `--help` behind `help`: clap takes only names of commands there, and the wish is clear.
fn without_help_of_help(mut args: Vec<OsString>) -> Vec<OsString> {
    let mut command = Cli::command();
    for at in 1..args.len() {
        if command.has_subcommands() && args[at] == "help" {
            args.retain(|arg| arg != "--help" && arg != "-h");
            break;
        }
        match command.find_subcommand(&args[at]) {
            Some(next) => command = next.clone(),
            None => break,
        }
    }
    args
}

fn run(command: Command) -> Result<(), ExitError> {
    match command {
        Command::Devnet(args) => devnet::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Genesis(command) => genesis::run(command),
        Command::Config(command) => config_file::run(command),
        Command::Start(args) => start::run(&args),
        Command::Db(command) => db::run(&command),
        Command::Guard(command) => guard::run(&command),
        Command::Status(args) => status::run(&args),
        Command::Follow(args) => follow::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Relay(args) => relay::run(&args),
        Command::Version(args) => version::run(&args),
    }
}

/// Writes a result to stdout, and a line feed. A reader who left wants no more of it.
fn print(text: &str) -> Result<(), ExitError> {
    print_to_reader(text).map(drop)
}

/// Writes to stdout, and a line feed; says whether somebody still reads.
fn print_to_reader(text: &str) -> Result<bool, ExitError> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(ExitError::new(
            Exit::Io,
            format_args!("cannot write to stdout: {error}"),
        )),
    }
}

/// The runtime of the commands that talk to nodes.
fn client_runtime() -> Result<tokio::runtime::Runtime, ExitError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ExitError::new(Exit::Io, format_args!("cannot start: {error}")))
}

/// Writes a result to stdout as JSON, over several lines.
fn print_json(value: &impl serde::Serialize) -> Result<(), ExitError> {
    let text = serde_json::to_string_pretty(value).map_err(ExitError::internal)?;
    print(&text)
}

/// Where a node's configuration is.
#[derive(Debug, Args)]
struct Location {
    /// Folder with config.toml and the node's data [default: $FUSION_HOME].
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    home: Option<PathBuf>,
    /// Configuration file; the data is in its node.home, or beside it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key above the file, e.g. --set p2p.listen=0.0.0.0:7100 (may be repeated).
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Location {
    /// The configuration file.
    fn file(&self) -> Result<PathBuf, ExitError> {
        if let Some(file) = &self.config {
            return Ok(file.clone());
        }
        let home = self
            .home
            .clone()
            .or_else(|| std::env::var_os("FUSION_HOME").map(PathBuf::from));
        home.map(|home| home.join(config::FILE_NAME))
            .ok_or_else(|| ExitError::new(Exit::Usage, "give --home DIR or --config FILE, or set FUSION_HOME"))
    }

    fn load(&self) -> Result<Config, ExitError> {
        let file = self.file()?;
        if !file.exists() {
            return Err(ExitError::config(format_args!(
                "no configuration {}; make one with `fusion init`",
                file.display()
            )));
        }
        Config::load(&file, &self.set)
    }
}

/// `path` as text that a shell takes as one word.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"/._-+=:,@".contains(&b));
    if plain {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
