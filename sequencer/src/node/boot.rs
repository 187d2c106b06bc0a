//! Starting and stopping a node: what is opened, in which order, and what ends when.
//!
//! The log before anything else; the network before the core speaks; users last in, first out.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use fusion_consensus::{GuardState, Timeouts};
use fusion_mempool::PoolLimits;
use fusion_settlement::settler::{INBOX_MAX, Said};
use fusion_types::{Genesis, Height, LaneHashes, ValidatorId};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::intake::Inboxes;
use super::record::Recorder;
use super::report::Reporter;
use super::serve::Server;
use super::settle;
use super::users::UserThreads;
use super::{EVENTS_PER_TURN, Node, Unsaved};
use crate::config::Config;
use crate::core::{Core, CoreConfig, Recovery};
use crate::exit::{Exit, ExitError};
use crate::handle::NodeHandle;
use crate::keys::Keys;
use crate::metrics::{self, Metrics};
use crate::network::{self, Inbox, Limits, Network, NetworkConfig, Timing, ValidatorAddress};
use crate::rpc;
use crate::store::{self, EvidenceFile, LocalVolume, LogReader, Options, Recovered, Store, StoreError};

/// Frames of votes that may wait for the node thread.
const ORDERING_MAX: usize = 4096;

/// Bodies that may wait to be decoded.
const BODIES_MAX: usize = 16;

/// Frames of transactions and sync that may wait to be decoded.
const BULK_MAX: usize = 1024;

/// Runs a node until `stop` turns true, then drains.
///
/// # Errors
/// Why it cannot start, or what ended it, with the exit code that says so.
pub async fn run(config: Config, keys: Keys, genesis: Genesis, stop: watch::Receiver<bool>) -> Result<(), ExitError> {
    let genesis = Arc::new(genesis);
    let settlement = settle::prepare(&config, &genesis)?;
    let opened = Instant::now();
    let (store, recovered) = Store::open(&config.node.home, &genesis, store_options(&config))
        .map_err(|error| store_error(&config, error))?;
    let reader = store.reader();
    require_guard(&config, &keys, &recovered)?;
    let mut core = core(&config, &keys, &genesis, recovered)?;
    restore_window(&mut core, &reader, &config)?;
    tracing::info!(height = %core.state().height, ready_ms = opened.elapsed().as_millis(), "log opened");

    let recorder = Recorder::open(config.debug.record.as_deref(), config.debug.record_bytes_max as u64)?;
    let (network, inboxes, batches) = join(&config, &keys, &genesis, &recorder)?;

    let role = if keys.validator().is_some() {
        "validator"
    } else {
        "follower"
    };
    let metrics = Metrics::new(&config.node.name, role, env!("CARGO_PKG_VERSION"));
    let mut reporter = Reporter::new(&config, &keys, &genesis, metrics.clone());
    reporter.evidence(core.evidence());
    let (handle, end) = NodeHandle::new(genesis.clone(), reader.clone(), reporter.status(&core));
    // Users are served as long as the node thread runs: it ends when the process is told to stop, and when going on
    // would break a promise.
    let (ended, end_of_node) = watch::channel(false);
    let users = UserThreads::start()?;
    let rpc = start_rpc(&users, &config, handle.clone(), metrics.clone(), end_of_node.clone()).await?;
    start_metrics(&config, &handle, &metrics, end_of_node).await?;
    if let Some(prepared) = settlement {
        let around = settle::Surroundings {
            config: config.clone(),
            genesis: genesis.clone(),
            reader: reader.clone(),
            network: network.clone(),
            inbox: batches,
            shown: end.settlement.clone(),
            metrics: metrics.clone(),
            l1: (handle.l1.clone(), handle.l1_wanted.clone()),
        };
        settle::start(&users, prepared, around);
    }

    let node = Node {
        core,
        server: Server::new(reader, network.clone(), genesis.clone(), users.handle()),
        store,
        network: network.clone(),
        metrics,
        reporter,
        started: Instant::now(),
        requests: 0,
        replies: std::collections::BTreeMap::new(),
        taken_in: HashMap::with_capacity(EVENTS_PER_TURN),
        strikes: std::collections::BTreeMap::new(),
        evidence: Unsaved::new(EvidenceFile::new(&LocalVolume::shared(), &config.node.home)),
        recorder,
        slow_flush_told: None,
        status: end.status.clone(),
        stop,
    };
    let result = on_own_thread(move |runtime| runtime.block_on(node.run(inboxes, end))).await;
    ended.send_replace(true);
    // Users were refused since the node thread ended; what they were told is durable. Tell peers and go.
    if let Err(error) = rpc.await {
        tracing::error!(%error, "rpc task ended badly");
    }
    network.shutdown().await;
    result
}

/// Joins the mesh. What comes in is decoded on its way to the node thread, or to the settler.
fn join(
    config: &Config,
    keys: &Keys,
    genesis: &Arc<Genesis>,
    recorder: &Recorder,
) -> Result<(Arc<Network>, Inboxes, mpsc::Receiver<Said>), ExitError> {
    let (ordering, ordering_out) = mpsc::channel(ORDERING_MAX);
    let (bodies, bodies_out) = mpsc::channel(BODIES_MAX);
    let (bulk, bulk_out) = mpsc::channel(BULK_MAX);
    let inbox = Inbox { ordering, bodies, bulk };
    let network = Network::start(network_config(config, keys, genesis), inbox);
    let network = Arc::new(network.map_err(|error| ExitError::new(Exit::Unavailable, error))?);
    let (batches, batches_out) = mpsc::channel(INBOX_MAX);
    let (from, recorded) = (network.clone(), recorder.clone());
    let inboxes = Inboxes::start(
        genesis.clone(),
        from,
        ordering_out,
        bodies_out,
        bulk_out,
        recorded,
        batches,
    );
    Ok((network, inboxes, batches_out))
}

/// The node thread: blocking on the disk there delays nobody else.
async fn on_own_thread(
    work: impl FnOnce(tokio::runtime::Runtime) -> Result<(), ExitError> + Send + 'static,
) -> Result<(), ExitError> {
    let (done, result) = oneshot::channel();
    let failed =
        |error: std::io::Error| ExitError::new(Exit::Io, format_args!("cannot start the node thread: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let thread = std::thread::Builder::new().name("fusion-node".into());
    thread
        .spawn(move || {
            // The receiver is gone only when the whole process is told to stop twice.
            let _ = done.send(work(runtime));
        })
        .map_err(failed)?;
    result
        .await
        .unwrap_or_else(|_| Err(ExitError::new(Exit::Internal, "the node thread ended without a word")))
}

/// A consensus key without its guard may have signed anything: it must not sign until someone says from where on.
fn require_guard(config: &Config, keys: &Keys, recovered: &Recovered) -> Result<(), ExitError> {
    if keys.validator().is_none() || recovered.guard.is_some() {
        return Ok(());
    }
    let height = if recovered.tip.is_none() {
        "0 if this key is new and has signed nothing, else one more than the network's height now".to_owned()
    } else {
        format!(
            "one more than the network's height now, at least {}",
            recovered.state.height.0 + 1
        )
    };
    Err(ExitError::config(format_args!(
        "storage.guard_dir: {} holds no sign guard for this validator's key; {}, where H is {height}",
        config.storage.guard_dir.display(),
        guard_command(config),
    )))
}

/// The one way to a new sign guard, and its condition.
fn guard_command(config: &Config) -> String {
    format!(
        "if no other copy of the key can ever sign again, run `fusion guard init --home {} --at-height H --i-understand`",
        config.node.home.display()
    )
}

/// A guard that is there and of no use: what it remembered is lost, and only a person can say from where on the key may
/// sign.
fn unusable_guard(config: &Config, what: &dyn std::fmt::Display) -> ExitError {
    ExitError::config(format_args!(
        "storage.guard_dir: {what}; {}, where H is one more than the network's height now: it moves the file aside",
        guard_command(config)
    ))
}

fn store_options(config: &Config) -> Options {
    Options {
        guard_dir: Some(config.storage.guard_dir.clone()),
        segment_bytes: config.storage.segment_bytes as u64,
        recent_bytes: config.storage.recent_bytes,
    }
}

fn core(config: &Config, keys: &Keys, genesis: &Arc<Genesis>, recovered: Recovered) -> Result<Core, ExitError> {
    let consensus = &config.consensus;
    let defaults = CoreConfig::new(genesis.clone(), None);
    let core_config = CoreConfig {
        genesis: genesis.clone(),
        key: keys.consensus.clone(),
        timeouts: Timeouts {
            propose: consensus.timeout_propose,
            propose_delta: consensus.timeout_propose_delta,
            prevote: consensus.timeout_prevote,
            prevote_delta: consensus.timeout_prevote_delta,
            precommit: consensus.timeout_precommit,
            precommit_delta: consensus.timeout_precommit_delta,
            rebroadcast: consensus.rebroadcast_interval,
            max: consensus.timeout_max,
        },
        pool: PoolLimits {
            bytes_max: config.mempool.bytes_max,
            rollup_bytes_max: config.mempool.rollup_bytes_max,
            sender_bytes_max: config.mempool.sender_bytes_max,
            sender_transactions_max: config.mempool.sender_transactions_max,
            ..PoolLimits::default()
        },
        block_interval_min: consensus.block_interval_min,
        block_interval_idle: consensus.block_interval_idle,
        block_bytes_target: consensus.block_bytes_target,
        l1_margin: defaults.l1_margin,
    };
    if recovered.guard_doubtful {
        tracing::error!(
            "the sign guard is damaged: what it held last may be lost, so this node does not vote at this height"
        );
    }
    let recovery = Recovery {
        wal_readable: recovered.remembers_all(),
        state: recovered.state,
        wal: recovered.wal.records,
        guard: recovered.guard,
        bodies: recovered.bodies,
        evidence: EvidenceFile::new(&LocalVolume::shared(), &config.node.home).read(),
    };
    // What contradicts the rest is the sign guard: of another key, or written by another version.
    let guard = store::guard_path(&config.storage.guard_dir);
    Core::new(core_config, recovery)
        .map_err(|error| unusable_guard(config, &format_args!("{}: {error}", guard.display())))
}

/// Reads the last blocks back, so that what the streams carried lately is refused a second time.
fn restore_window(core: &mut Core, reader: &LogReader, config: &Config) -> Result<(), ExitError> {
    let mut height = core.state().height;
    while height > Height(0) {
        let raw = reader.raw_range(height, height, usize::MAX);
        let raw = raw.map_err(|error| store_error(config, error))?;
        let unreadable = |what: &dyn std::fmt::Display| damaged(config, &format_args!("block {height}: {what}"));
        let raw = raw.first().ok_or_else(|| unreadable(&"the log does not have it"))?;
        let lanes = LaneHashes::read(&raw.body, &|rollup| core.restores(rollup)).map_err(|error| unreadable(&error))?;
        if !core.restore(&lanes) {
            return Ok(());
        }
        height = Height(height.0 - 1);
    }
    Ok(())
}

fn network_config(config: &Config, keys: &Keys, genesis: &Genesis) -> NetworkConfig {
    let address = |peer| {
        config
            .p2p
            .peers
            .iter()
            .find(|known| known.id == peer)
            .map(|known| known.address.clone())
    };
    let validators = genesis
        .committee()
        .validators()
        .iter()
        .map(|validator| ValidatorAddress {
            peer: network::PeerId(validator.peer),
            address: address(validator.peer),
        });
    NetworkConfig {
        listen: config.p2p.listen,
        key: keys.peer.clone(),
        network: genesis.network(),
        validators: validators.collect(),
        limits: Limits {
            followers_max: config.p2p.followers_max,
            window_floor_bytes: config.p2p.window_floor_bytes as u64,
        },
        timing: Timing::default(),
    }
}

async fn listen(address: std::net::SocketAddr, what: &str) -> Result<TcpListener, ExitError> {
    let failed = |error| {
        ExitError::new(
            Exit::Unavailable,
            format_args!("{what}.listen: cannot listen on {address}: {error}"),
        )
    };
    TcpListener::bind(address).await.map_err(failed)
}

async fn start_rpc(
    users: &UserThreads,
    config: &Config,
    handle: NodeHandle,
    metrics: Metrics,
    stop: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, ExitError> {
    // Sockets belong to the runtime that opens them.
    let listener = users.spawn(listen(config.rpc.listen, "rpc")).await;
    let listener = listener.map_err(|error| ExitError::new(Exit::Internal, error))??;
    let limits = &config.rpc;
    let options = rpc::Options {
        request_bytes: u32::try_from(limits.body_bytes_max).unwrap_or(u32::MAX),
        response_bytes: u32::try_from(limits.response_bytes_max).unwrap_or(u32::MAX),
        batch_calls: u32::try_from(limits.batch_max).unwrap_or(u32::MAX),
        connections: limits.connections_max,
        connections_per_address: limits.connections_per_address_max,
        subscriptions: u32::try_from(limits.subscriptions_max).unwrap_or(u32::MAX),
        slow_reader: limits.slow_reader,
        hosts: limits.hosts.clone(),
        origins: limits.origins.clone(),
        ..rpc::Options::default()
    };
    Ok(users.spawn(async move {
        if let Err(error) = rpc::serve(listener, options, handle, metrics, stopped(stop)).await {
            tracing::error!(%error, "rpc server ended");
        }
    }))
}

/// Completes when the node is told to stop, or is gone.
async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that nobody can tell any more: stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn start_metrics(
    config: &Config,
    handle: &NodeHandle,
    metrics: &Metrics,
    stop: watch::Receiver<bool>,
) -> Result<(), ExitError> {
    let Some(address) = config.metrics.listen else {
        return Ok(());
    };
    let listener = listen(address, "metrics").await?;
    let (metrics, status) = (metrics.clone(), handle.status.clone());
    tokio::spawn(async move {
        if let Err(error) = metrics::serve(listener, metrics, status, stopped(stop)).await {
            tracing::error!(%error, "metrics server ended");
        }
    });
    Ok(())
}

/// The exit code that a storage error means, and the way out.
fn store_error(config: &Config, error: StoreError) -> ExitError {
    let exit = match &error {
        StoreError::GuardUnreadable { .. } => return unusable_guard(config, &error),
        StoreError::Network { path, .. } if path.starts_with(&config.storage.guard_dir) => {
            let genesis = config.node.genesis.display();
            return unusable_guard(
                config,
                &format_args!("{error}; see first that {genesis} is the right one"),
            );
        }
        StoreError::Network { .. } => return wrong_genesis(config, &error),
        StoreError::Corrupt { .. } => return damaged(config, &error),
        StoreError::Locked { .. } => Exit::Locked,
        _ => Exit::Storage,
    };
    ExitError::new(exit, error)
}

/// What this node has decided belongs to another network: hardly ever is it the log that is wrong.
fn wrong_genesis(config: &Config, what: &dyn std::fmt::Display) -> ExitError {
    ExitError::config(format_args!(
        "node.genesis: {what}: put the genesis file of that network back at {}, or choose another --home",
        config.node.genesis.display()
    ))
}

/// The log is damaged: a person should look at the disk, and then has one command to run.
fn damaged(config: &Config, what: &dyn std::fmt::Display) -> ExitError {
    let command = store::repair_command(&config.node.home);
    ExitError::new(Exit::Storage, format_args!("{what}: `{command}`"))
}

/// Creates the sign guard of `key`: nothing at or below `height` will be signed. A guard that is of no use to this key
/// is moved aside; returns where it is then.
///
/// # Errors
/// Code 78 if a usable guard is there already or the node's log shows that `height` is too low, 71 if it cannot be
/// written.
pub fn create_guard(
    config: &Config,
    genesis: &Genesis,
    key: ValidatorId,
    height: Height,
) -> Result<Option<PathBuf>, ExitError> {
    let volume = LocalVolume::shared();
    let tip = store::log_height(&volume, &config.node.home, genesis, config.storage.segment_bytes as u64);
    let tip = tip.map_err(|error| store_error(config, error))?;
    if Height(0) < tip && height <= tip {
        return Err(ExitError::config(format_args!(
            "--at-height is {height}, but this node's log has height {tip}: at least {} is needed, and one more than \
             the network's height now",
            tip.next()
        )));
    }
    let (network, epoch) = (genesis.network(), genesis.committee().epoch());
    let state = GuardState::barred_up_to(network, key, epoch, height);
    let usable = |found: &[u8]| GuardState::decode(found).is_ok_and(|found| found.validator() == key);
    store::create_guard(&volume, &config.storage.guard_dir, network, &state.encode(), usable).map_err(|error| {
        match error {
            StoreError::Order(_) => ExitError::config(error),
            other => store_error(config, other),
        }
    })
}

/// Whether the node has a sign guard.
pub fn guard_exists(config: &Config) -> bool {
    store::guard_path(&config.storage.guard_dir).exists()
}
