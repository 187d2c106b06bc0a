//! Floods over finished handshakes: by unknown keys, by followers, and by a member of the committee.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use alloy_primitives::{B256, B512};
use anyhow::Context as _;
use ed25519_dalek::{Signer as _, SigningKey};
use fusion_consensus::{Class as MessageClass, Message, SignedVote};
use fusion_sequencer::config::Config;
use fusion_sequencer::keys::{self, Keys};
use fusion_sequencer::network::{
    Class, Inbox, Limits, Network, NetworkConfig, NetworkEvent, PeerId, Timing, ValidatorAddress,
};
use fusion_types::{BlockId, Epoch, Height, NetworkId, Round, ValidatorId, VoteKind};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::timeout;

use crate::pace::{Counts, Pace, count, together};
use crate::target::Target;

/// Handshakes at a time, and followers at a time.
const DIALERS: usize = 16;
const FOLLOWERS: usize = 16;
/// A dial that is not answered within this time is given up.
const PATIENCE: Duration = Duration::from_secs(1);
/// Blocks asked for at once: as many as a node gives.
const BLOCKS: u64 = 64;
/// Votes are for this many heights ahead, and as many more far beyond what anybody keeps.
const HEIGHTS_AHEAD: u64 = 512;
const FAR_AHEAD: u64 = 1_000_000;
const ROUNDS: u32 = 16;

/// What a network gives to its node.
#[derive(Debug)]
struct Received {
    ordering: Receiver<NetworkEvent>,
    bodies: Receiver<NetworkEvent>,
    bulk: Receiver<NetworkEvent>,
}

fn start(
    listen: SocketAddr,
    key: SigningKey,
    network: NetworkId,
    validators: Vec<ValidatorAddress>,
) -> anyhow::Result<(Network, Received)> {
    let (ordering, bodies, bulk) = (channel(4096), channel(16), channel(1024));
    let inbox = Inbox {
        ordering: ordering.0,
        bodies: bodies.0,
        bulk: bulk.0,
    };
    let config = NetworkConfig {
        listen,
        key,
        network,
        validators,
        limits: Limits::default(),
        timing: Timing::default(),
    };
    let received = Received {
        ordering: ordering.1,
        bodies: bodies.1,
        bulk: bulk.1,
    };
    Ok((Network::start(config, inbox)?, received))
}

/// A follower of its own key that dials the victim from worker `number`'s address.
fn follower(target: &Target, number: usize, network: NetworkId) -> anyhow::Result<(Network, Received)> {
    let key = keys::generate().map_err(|error| anyhow::anyhow!("{error}"))?;
    let listen = SocketAddr::new(target.source(number), 0);
    start(listen, key, network, vec![target.victim().clone()])
}

/// Handshakes to their end, by keys that nobody knows; every second one of a network that is not the victim's.
///
/// # Errors
/// If a worker fails.
pub(crate) async fn dials(target: &Target, until: Instant) -> anyhow::Result<Counts> {
    together(DIALERS, |number| dialer(target.clone(), number, until)).await
}

async fn dialer(target: Target, number: usize, until: Instant) -> Counts {
    let mut counts = Counts::new();
    while Instant::now() < until {
        let own = target.genesis.network();
        let network = if number.is_multiple_of(2) {
            own
        } else {
            NetworkId(!own.0)
        };
        let Ok((dialing, mut received)) = follower(&target, number, network) else {
            count(&mut counts, "no socket", 1);
            tokio::time::sleep(PATIENCE).await;
            continue;
        };
        let what = match timeout(PATIENCE, received.ordering.recv()).await {
            Ok(Some(NetworkEvent::Connected { .. })) => "connected",
            _ => "turned away",
        };
        count(&mut counts, what, 1);
        drop(dialing);
    }
    counts
}

/// Followers that ask for as many blocks as one may, again and again.
///
/// # Errors
/// If a worker fails.
pub(crate) async fn sync(target: &Target, until: Instant) -> anyhow::Result<Counts> {
    together(FOLLOWERS, |number| asker(target.clone(), number, until)).await
}

async fn asker(target: Target, number: usize, until: Instant) -> Counts {
    let mut counts = Counts::new();
    let Ok((network, mut received)) = follower(&target, number, target.genesis.network()) else {
        count(&mut counts, "no socket", 1);
        return counts;
    };
    let request = Message::SyncRequest {
        from: Height(1),
        to: Height(BLOCKS),
    };
    let request = request.encode().0;
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let mut pace = Pace::new(target.rate / FOLLOWERS as f64, until);
    while let Some(due) = pace.due().await {
        for _ in 0..due {
            let taken = network.send(target.victim().peer, Class::Sync, request.clone());
            count(&mut counts, if taken { "requests" } else { "not taken" }, 1);
        }
        while let Ok(event) = received.bulk.try_recv() {
            if let NetworkEvent::Received { frame, .. } = event {
                count(&mut counts, "answers", 1);
                count(&mut counts, "bytes of answers", frame.len() as u64);
            }
        }
        while let Ok(event) = received.ordering.try_recv() {
            if matches!(event, NetworkEvent::Disconnected { .. }) {
                count(&mut counts, "disconnected", 1);
            }
        }
    }
    counts
}

/// Votes by a member whose signatures are good, for heights and rounds that nobody is at.
///
/// # Errors
/// If the member's home cannot be read or its socket is taken.
pub(crate) async fn votes(target: &Target, until: Instant) -> anyhow::Result<Counts> {
    let home = target.home.as_ref().context("votes need --home")?;
    let config = Config::load(&home.join("config.toml"), &[]).map_err(|error| anyhow::anyhow!("{error}"))?;
    let keys = Keys::load(&config).map_err(|error| anyhow::anyhow!("{error}"))?;
    let key = keys
        .consensus
        .context("--home is a follower's: it has no key to vote with")?;
    let own = keys.peer.verifying_key().to_bytes();
    let validators = target.validators.clone();
    let listen = validators
        .iter()
        .find(|validator| validator.peer == PeerId(B256::from(own)));
    let listen = listen
        .and_then(|validator| validator.address.clone())
        .context("--home is no validator's")?;
    let listen = tokio::net::lookup_host(&listen)
        .await?
        .next()
        .context("the member's address")?;
    let network_id = target.genesis.network();
    let (network, mut received) = start(listen, keys.peer, network_id, validators)?;
    let (mut counts, mut pace, mut sent, mut tip) = (Counts::new(), Pace::new(target.rate, until), 0, 0);
    while let Some(due) = pace.due().await {
        for _ in 0..due {
            let vote = future_vote(&key, network_id, tip, sent);
            network.broadcast(Class::Votes, &Message::Vote(vote).encode().0);
            sent += 1;
        }
        count(&mut counts, "votes", u64::from(due));
        while let Ok(event) = received.ordering.try_recv() {
            match event {
                NetworkEvent::Connected { .. } => count(&mut counts, "connected", 1),
                NetworkEvent::Disconnected { .. } => count(&mut counts, "disconnected", 1),
                NetworkEvent::Received { frame, .. } => tip = tip.max(told_tip(frame).unwrap_or(0)),
            }
        }
        while received.bodies.try_recv().is_ok() || received.bulk.try_recv().is_ok() {}
    }
    Ok(counts)
}

/// How far a peer says it is.
fn told_tip(frame: impl Into<alloy_primitives::Bytes>) -> Option<u64> {
    match Message::decode(MessageClass::Votes, &frame.into()) {
        Ok(Message::Status { tip, .. }) => Some(tip.0),
        Ok(Message::Vote(vote)) => Some(vote.height.0),
        _ => None,
    }
}

/// A vote that no other one equals: all heights in turn, then all rounds, half of them far away.
fn future_vote(key: &SigningKey, network: NetworkId, tip: u64, number: u64) -> SignedVote {
    let ahead = 1 + (number / 2) % HEIGHTS_AHEAD;
    let far = if number.is_multiple_of(2) { 0 } else { FAR_AHEAD };
    let round = u32::try_from((number / (2 * HEIGHTS_AHEAD)) % u64::from(ROUNDS)).unwrap_or(0);
    let mut vote = SignedVote {
        height: Height(tip + ahead + far),
        round: Round(round),
        kind: if (number / 2).is_multiple_of(2) {
            VoteKind::Prevote
        } else {
            VoteKind::Precommit
        },
        block: Some(BlockId(alloy_primitives::keccak256(number.to_be_bytes()))),
        validator: ValidatorId(keys::public(key)),
        signature: B512::ZERO,
    };
    vote.signature = B512::from(key.sign(&vote.sign_bytes(network, Epoch(0))).to_bytes());
    vote
}
