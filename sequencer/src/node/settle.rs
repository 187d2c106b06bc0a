//! The node's part in settlement: which tasks run, with what, and what the rest of the node sees of them.
//!
//! They run on the users' threads, at a lower priority than ordering, and nothing waits for them: a node whose L1 is out of
//! reach, or whose inbox is not what it should be, says so and orders on. Leaves to others: everything about batches
//! (`fusion-settlement`).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_primitives::Address;
use fusion_consensus::Message;
use fusion_settlement::attestor::{AttestorConfig, Certified, WINDOW};
use fusion_settlement::feeder::{self, Wanted};
use fusion_settlement::guard::GuardFile;
use fusion_settlement::l1::{Endpoint, EndpointLimits, L1Key, Panel, Password};
use fusion_settlement::poster::{self, PostJob, PosterConfig, PosterSetup, PosterStatus};
use fusion_settlement::records::Records;
use fusion_settlement::settler::{self, AttestationKey, OUTBOX_MAX, Ports, Said, SettlerConfig, SettlerView};
use fusion_settlement::watcher::{self, InboxView, Watcher, WatcherConfig};
use fusion_types::{BatchDomain, Genesis, L1Block, SettlementConfig};
use tokio::sync::{mpsc, watch};

use super::intake::network_class;
use super::users::UserThreads;
use crate::config::{Config, Settlement};
use crate::exit::ExitError;
use crate::handle::Settling;
use crate::metrics::Metrics;
use crate::network::Network;
use crate::store::LogReader;

/// Longest pause between two looks at an L1 that does not answer.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// An offer that is not certified is repeated so often.
const REPEAT: Duration = Duration::from_secs(2);

/// Certified batches that may wait for the poster: all that the attestor has open.
const POSTS_MAX: usize = 8;

const _: () = assert!(POSTS_MAX as u64 == WINDOW);

/// The guard's file in the folder of guards.
pub const GUARD_FILE: &str = "attestations";

/// What is checked before a node starts.
pub(super) struct Prepared {
    config: Settlement,
    rules: SettlementConfig,
    inbox: Address,
    endpoints: Vec<Endpoint>,
    key: Option<L1Key>,
}

/// Checks what the configuration says about settlement; nothing if it is off.
///
/// # Errors
/// Code 78 naming the key of the configuration.
pub(super) fn prepare(config: &Config, genesis: &Genesis) -> Result<Option<Prepared>, ExitError> {
    let settlement = &config.settlement;
    if !settlement.is_on() {
        return Ok(None);
    }
    let rules = genesis.settlement().copied().ok_or_else(|| {
        ExitError::config(
            "settlement.l1: this network's genesis has no settlement; leave it empty (settlement.l1 = [])",
        )
    })?;
    let endpoint = |url: &String| {
        let endpoint = Endpoint::new(url, EndpointLimits::default());
        endpoint.map_err(|error| ExitError::config(format_args!("settlement.l1: {error}")))
    };
    let path = &settlement.attestation_key;
    let key = if path.exists() {
        let key = L1Key::read(path, &Password::None);
        Some(key.map_err(|error| ExitError::config(format_args!("settlement.attestation_key: {error}")))?)
    } else {
        None
    };
    Ok(Some(Prepared {
        inbox: settlement
            .inbox
            .parse()
            .map_err(|error| ExitError::config(format_args!("settlement.inbox: {error}")))?,
        endpoints: settlement.l1.iter().map(endpoint).collect::<Result<_, _>>()?,
        config: settlement.clone(),
        rules,
        key,
    }))
}

/// What settlement takes from the node.
pub(super) struct Surroundings {
    /// The node's configuration.
    pub(super) config: Config,
    /// The network's genesis.
    pub(super) genesis: Arc<Genesis>,
    /// Decided blocks.
    pub(super) reader: LogReader,
    /// The mesh.
    pub(super) network: Arc<Network>,
    /// What members say about batches.
    pub(super) inbox: mpsc::Receiver<Said>,
    /// Where to show what comes of it.
    pub(super) shown: watch::Sender<Option<Arc<Settling>>>,
    /// Where to count.
    pub(super) metrics: Metrics,
    /// Finalized L1 blocks for the core, and which it wants.
    pub(super) l1: (mpsc::Sender<Vec<L1Block>>, watch::Receiver<Option<Wanted>>),
}

/// Starts everything on `threads`. Ends with them.
pub(super) fn start(threads: &UserThreads, prepared: Prepared, around: Surroundings) {
    threads.spawn(async move {
        let name = around.config.node.name.clone();
        if let Err(reason) = settle(prepared, around).await {
            tracing::error!(name, reason, "this node does not settle any more; ordering goes on");
        }
    });
}

/// Waits for L1, then runs the settler until it ends.
async fn settle(prepared: Prepared, around: Surroundings) -> Result<(), String> {
    let Surroundings {
        config,
        genesis,
        reader,
        network,
        inbox,
        shown,
        metrics,
        l1: (core, wanted),
    } = around;
    let facts = wait_for_inbox(&prepared).await;
    is_ours(&prepared, &facts, &genesis)?;
    let domain = BatchDomain {
        chain_id: facts.chain_id,
        inbox: prepared.inbox,
    };
    let (own, key) = member(&prepared, &config, &domain, &facts.roster)?;
    let folder = config.node.home.join("settlement");
    let opened = Records::open(&folder, genesis.network(), &domain, genesis.state());
    let (records, from) = opened.map_err(|error| error.to_string())?;
    tracing::info!(inbox = %prepared.inbox, chain = facts.chain_id, batch = from.number, member = own, "settling");

    let (seen, l1) = watch::channel(Arc::new(InboxView::default()));
    let watcher = WatcherConfig {
        network: genesis.network(),
        chain_id: facts.chain_id,
        inbox: prepared.inbox,
        from_block: prepared.config.inbox_block as u64,
        poll: prepared.config.poll,
    };
    let panel = Panel::new(prepared.endpoints.clone(), prepared.config.agree);
    tokio::spawn(Watcher::new(watcher, panel.clone()).run(seen));
    let poll = prepared.config.poll;
    let certified = start_poster(&prepared, &config, &domain, &metrics)?;
    tokio::spawn(feeder::run(panel, prepared.inbox, poll, l1.clone(), wanted, core));
    let (outbox, outgoing) = mpsc::channel(OUTBOX_MAX);
    tokio::spawn(send_all(outgoing, network));
    let (publish, view) = watch::channel(Arc::new(SettlerView::default()));
    tokio::spawn(each(view.clone(), move |view| metrics.settlement(view)));
    shown.send_replace(Some(Arc::new(Settling {
        domain,
        records: records.reader(),
        view,
        l1: l1.clone(),
    })));
    let read = reader.clone();
    let ports = Ports {
        blocks: Box::new(move |from, to, bytes| {
            let blocks = read.range(from, to, bytes).map_err(|error| error.to_string())?;
            Ok(blocks.iter().map(|decided| decided.block.clone()).collect())
        }),
        tip: reader.subscribe(),
        inbox,
        outbox,
        l1,
        certified,
        view: publish,
    };
    let settler = settler_config(&prepared, &genesis, domain, facts.roster, own);
    let ended = settler::run(settler, key, records, from, ports).await;
    ended.map_err(|error| error.to_string())
}

fn settler_config(
    prepared: &Prepared,
    genesis: &Genesis,
    domain: BatchDomain,
    roster: Vec<Address>,
    own: Option<usize>,
) -> SettlerConfig {
    SettlerConfig {
        network: genesis.network(),
        committee: Arc::new(genesis.committee().clone()),
        rule: (&prepared.rules).into(),
        attestor: AttestorConfig {
            domain,
            roster,
            own,
            turn: prepared.config.turn,
            repeat: REPEAT,
        },
    }
}

/// Whether the inbox is this network's, on its chain.
fn is_ours(prepared: &Prepared, facts: &watcher::InboxFacts, genesis: &Genesis) -> Result<(), String> {
    if facts.network != genesis.network() {
        let (inbox, found, own) = (prepared.inbox, facts.network, genesis.network());
        return Err(format!("the inbox {inbox} is of network {found}, not of {own}"));
    }
    if facts.chain_id != prepared.rules.l1_chain_id {
        let (found, wanted) = (facts.chain_id, prepared.rules.l1_chain_id);
        return Err(format!("settlement.l1 is chain {found}, the genesis says {wanted}"));
    }
    Ok(())
}

/// What the inbox is, as soon as an endpoint tells.
async fn wait_for_inbox(prepared: &Prepared) -> watcher::InboxFacts {
    let mut pause = prepared.config.poll;
    loop {
        for endpoint in &prepared.endpoints {
            match watcher::facts(endpoint, prepared.inbox).await {
                Ok(facts) => return facts,
                Err(reason) => tracing::warn!(endpoint = endpoint.url(), reason, "no inbox yet"),
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// This node's place in the roster, and its key with the guard; neither for a node without a key or a place.
fn member(
    prepared: &Prepared,
    config: &Config,
    domain: &BatchDomain,
    roster: &[Address],
) -> Result<(Option<usize>, Option<AttestationKey>), String> {
    let Some(signer) = prepared.key.clone() else {
        return Ok((None, None));
    };
    let Some(own) = roster.iter().position(|address| *address == signer.address()) else {
        tracing::warn!(address = %signer.address(), "the attestation key is no member's: this node signs no batches");
        return Ok((None, None));
    };
    let path = config.storage.guard_dir.join(GUARD_FILE);
    let guard = GuardFile::open(&path, domain.separator()).map_err(|error| error.to_string())?;
    let guard = guard.ok_or_else(|| {
        format!(
            "storage.guard_dir: {} is missing, which holds what the attestation key signed; if no other copy of the key can \
             ever sign again, run `fusion guard init-attestations --home {} --from-batch N --i-understand`, where N is one \
             more than the last batch on L1",
            path.display(),
            config.node.home.display()
        )
    })?;
    Ok((Some(own), Some(AttestationKey { signer, guard })))
}

/// Starts the poster, if this node has an account for it. Returns where it takes certified batches.
fn start_poster(
    prepared: &Prepared,
    config: &Config,
    domain: &BatchDomain,
    metrics: &Metrics,
) -> Result<Option<mpsc::Sender<Certified>>, String> {
    let Some(path) = &prepared.config.poster_key else {
        return Ok(None);
    };
    let key = L1Key::read(path, &Password::None).map_err(|error| format!("settlement.poster_key: {error}"))?;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let setup = PosterSetup {
        endpoints: prepared.endpoints.clone(),
        chain_id: domain.chain_id,
        inbox: domain.inbox,
        key,
        journal: config.node.home.join("settlement").join("posts"),
        config: PosterConfig {
            rank_delay_ms: millis(prepared.config.rank_delay),
            ..PosterConfig::default()
        },
        poll_ms: millis(prepared.config.poll),
    };
    let (certified, waiting) = mpsc::channel(POSTS_MAX);
    let (jobs, jobs_out) = mpsc::channel(POSTS_MAX);
    let (publish, status) = watch::channel(PosterStatus::default());
    let counted = metrics.clone();
    tokio::spawn(each(status, move |status| counted.poster(status)));
    tokio::spawn(pass_on(waiting, jobs));
    tokio::spawn(async move {
        if let Err(error) = poster::run(setup, jobs_out, publish).await {
            tracing::error!(%error, "this node does not post any more");
        }
    });
    Ok(Some(certified))
}

/// Shows each value of `values` until there are no more.
async fn each<T: Clone>(mut values: watch::Receiver<T>, show: impl Fn(&T)) {
    while values.changed().await.is_ok() {
        let value = values.borrow_and_update().clone();
        show(&value);
    }
}

/// Certified batches to the poster, as many at a time as it takes.
async fn pass_on(mut certified: mpsc::Receiver<Certified>, jobs: mpsc::Sender<PostJob>) {
    while let Some(certified) = certified.recv().await {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let job = PostJob {
            number: certified.batch.number,
            hash: certified.batch.hash(),
            header: certified.batch.header_bytes(certified.data).into(),
            certificate: certified.certificate,
            payload: certified.payload,
            rank: certified
                .rank
                .and_then(|rank| u32::try_from(rank).ok())
                .unwrap_or(u32::MAX),
            ready_at_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        };
        if jobs.send(job).await.is_err() {
            return;
        }
    }
}

async fn send_all(mut outgoing: mpsc::Receiver<Said>, network: Arc<Network>) {
    while let Some(said) = outgoing.recv().await {
        let message = match said {
            Said::Offer(offer) => Message::Offer(offer),
            Said::Attestation(attestation) => Message::Attestation(Box::new(attestation)),
        };
        network.broadcast(network_class(message.class()), &message.encode().0);
    }
}
