//! `fusion start`: checks everything that an operator gave, then runs the node until a signal stops it.
//!
//! The first SIGTERM or SIGINT drains and exits 0 within [`DRAIN_MAX`]; a second one exits at once. SIGHUP is ignored.
//! A panic in any thread ends the process with code 70: half a node must not go on.

use std::time::Duration;

use clap::Args;
use fusion_types::Genesis;
use rustix::process::{DumpableBehavior, Resource, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use super::stops::watch_stdin;
use super::{Location, genesis, lock};
use crate::config::{Config, LogFormat};
use crate::exit::{Exit, ExitError};
use crate::keys::Keys;
use crate::store;
use crate::{logging, node};

/// Longest drain. What is not finished then is safe all the same: nothing counts before it is durable.
const DRAIN_MAX: Duration = Duration::from_millis(1800);

const HELP: &str = "\
Refuses to start with exit code 78 and one line a problem when configuration, genesis, keys or sign guard are wrong;
a restart does not help then. SIGTERM drains and exits 0 within 2 seconds. Logs go to stderr.

Examples:
  fusion start --home /var/lib/fusion
  fusion start --config /etc/fusion/config.toml --set log.format=json --set rpc.listen=0.0.0.0:7101";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct StartArgs {
    #[command(flatten)]
    location: Location,
    /// Stop when stdin is closed: `fusion devnet` holds the other end.
    #[arg(long, hide = true)]
    die_with_parent: bool,
}

pub(super) fn run(args: &StartArgs) -> Result<(), ExitError> {
    let mut config = args.location.load()?;
    let format = config.log.format;
    logging::init(&config.log)?;
    end_on_panic();
    let (_, genesis) = genesis::read_into(&mut config)?;
    let _lock = lock::take(&config.node.home)?;
    harden();
    let keys = Keys::load(&config)?;
    check_membership(&config, &keys, &genesis)?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        name = config.node.name,
        network = %genesis.network(),
        network_name = genesis.name(),
        peer = %keys.peer_id(),
        validator = keys.validator().map(|id| id.to_string()),
        home = %config.node.home.display(),
        "starting"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("fusion-io")
        .build()
        .map_err(|error| ExitError::new(Exit::Io, format_args!("cannot start threads: {error}")))?;
    let result = runtime.block_on(supervise(config, keys, genesis, args.die_with_parent));
    runtime.shutdown_timeout(Duration::from_millis(100));
    match &result {
        Ok(()) => info!("stopped"),
        // People read the plain line that follows on stderr; machines read this one.
        Err(error) if format == LogFormat::Json => error!(exit = error.exit as u8, error = error.message, "ended"),
        Err(_) => {}
    }
    result
}

/// Runs the node; turns signals into its shutdown.
async fn supervise(config: Config, keys: Keys, genesis: Genesis, die_with_parent: bool) -> Result<(), ExitError> {
    let mut stops = Stops::new(die_with_parent)?;
    let (stop, stopped) = watch::channel(false);
    let mut node = Box::pin(node::run(config, keys, genesis, stopped));
    let reason = tokio::select! {
        result = &mut node => return result,
        reason = stops.next() => reason,
    };
    info!(reason, "stopping");
    stop.send_replace(true);
    tokio::select! {
        result = &mut node => result,
        reason = stops.next() => {
            warn!(reason, "asked again: not waiting for the drain");
            Ok(())
        }
        () = tokio::time::sleep(DRAIN_MAX) => {
            warn!(drain_max_ms = DRAIN_MAX.as_millis(), "the drain took too long");
            Ok(())
        }
    }
}

/// What asks a node to stop.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    parent: mpsc::Receiver<()>,
    // Nobody reads it. That it is caught makes a write beyond the limit of file sizes an error, a full disk to the
    // store, and not the end of the process.
    _file_size: Signal,
    // Keeps `parent` open when nobody watches stdin.
    _parent: mpsc::Sender<()>,
}

impl Stops {
    fn new(die_with_parent: bool) -> Result<Self, ExitError> {
        let listen = |kind| {
            signal(kind).map_err(|error| ExitError::new(Exit::Io, format_args!("cannot listen for signals: {error}")))
        };
        let (sender, parent) = mpsc::channel(1);
        if die_with_parent {
            watch_stdin(sender.clone());
        }
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            parent,
            _file_size: listen(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
            _parent: sender,
        })
    }

    async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.parent.recv() => return "the parent process ended",
                _ = self.hangup.recv() => info!("SIGHUP ignored: configuration is read at the start alone"),
            }
        }
    }
}

/// Checks that the committee knows this node's keys.
///
/// # Errors
/// Code 78 naming the key file that does not fit.
pub(super) fn check_membership(config: &Config, keys: &Keys, genesis: &Genesis) -> Result<(), ExitError> {
    let Some(validator) = keys.validator() else {
        return Ok(());
    };
    let committee = genesis.committee();
    let Some(index) = committee.index_of(validator) else {
        return Err(ExitError::config(format_args!(
            "keys.consensus: {validator} is not in the committee of {} (network {}); \
             with node.role = \"follower\" the node runs without voting",
            config.node.genesis.display(),
            genesis.network()
        )));
    };
    let listed = committee.validators()[index].peer;
    if listed != keys.peer_id() {
        return Err(ExitError::config(format_args!(
            "keys.peer: is {}, and {} lists {listed} for this validator: one of the two files is not the right one",
            keys.peer_id(),
            config.node.genesis.display()
        )));
    }
    Ok(())
}

/// Keeps keys out of core dumps, and takes every file descriptor that the system allows.
fn harden() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warn!(%error, "core dumps of this process may hold keys");
    }
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "the limit of open files stays as it was");
    }
}

/// Ends the process with code 70 when any thread panics, but for the index and its database: what they lose is built
/// again.
fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        if thread.name().is_some_and(store::may_panic) {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            warn!(thread = thread.name(), place, "the index's database panicked");
            return;
        }
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        error!(
            thread = thread.name(),
            place, message, "panic: this is a defect, please report it"
        );
        std::process::exit(i32::from(Exit::Internal as u8));
    }));
}
