//! Keeps this node connected to one validator.
//!
//! Promises an attempt as soon as a connection is lost, then jittered pauses that double, and never more than one
//! attempt at a time. The name of the address is resolved anew for each attempt, and every address it has gets its
//! turn. Either node of a pair dials: the one with the lower id at once, the other a little later, so that normally
//! one handshake is enough, and a node that can be reached from one side only is still connected.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, sleep_until, timeout};

use super::PeerId;
use super::counters::add;
use super::ending::{CloseCode, Loss};
use super::mesh::{IpSource, Mesh};

/// Attempts in a row that met another connection before it is said; a restart makes one or two.
const SUSPECT_AFTER: u32 = 8;

/// A validator that this node wants to be connected to.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) peer: PeerId,
    /// Host and port, as configured.
    pub(super) address: String,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("address does not resolve: {0}")]
    Unresolved(std::io::Error),
    #[error("address has no entry that this node's socket can reach")]
    Unreachable,
    #[error(transparent)]
    Lost(#[from] Loss),
    #[error("refused here: {0}")]
    Refused(CloseCode),
}

impl Failure {
    /// Nothing came back: the packets may vanish on the way, and the peer may return at any moment.
    fn is_silence(&self) -> bool {
        matches!(self, Self::Lost(Loss::Silent))
    }

    /// The peer is there and says no, which trying again soon does not change.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Lost(Loss::Closed(code)) => *code != CloseCode::Shutdown,
            Self::Lost(Loss::OtherNetwork | Loss::Broken(_)) => true,
            _ => false,
        }
    }

    /// The two nodes met on another connection.
    fn is_harmless(&self) -> bool {
        matches!(
            self,
            Self::Refused(_) | Self::Lost(Loss::Closed(CloseCode::Duplicate | CloseCode::Replaced))
        )
    }
}

/// Dials `target` whenever it is not connected, for ever.
pub(super) async fn keep_connected(mesh: Arc<Mesh>, target: Target) {
    // The node with the lower id dials first. A follower has nobody to wait for.
    let grace = if mesh.is_validator() && mesh.id > target.peer {
        mesh.timing.grace
    } else {
        Duration::ZERO
    };
    let mut failures = 0_u32;
    let mut silent = 0;
    let mut pause_max = mesh.timing.pause_max;
    loop {
        if let Some(session) = mesh.session(target.peer) {
            session.ended().await;
            // A connection that did not last is no success: two nodes that turn each other away must not spin.
            let lasted = session.connected.elapsed() >= mesh.timing.settled;
            failures = if lasted { 0 } else { failures.saturating_add(1) };
            suspect(&target, failures);
            continue;
        }
        if let Some(until) = mesh.banned_until(target.peer) {
            sleep_until(until).await;
            continue;
        }
        sleep(grace + pause(failures, mesh.timing.pause_min, pause_max)).await;
        if mesh.session(target.peer).is_some() {
            continue;
        }
        match attempt(&mesh, &target, failures).await {
            Ok(()) => silent = 0,
            Err(failure) => {
                failures = failures.saturating_add(1);
                pause_max = if failure.is_refusal() {
                    mesh.timing.pause_refused_max
                } else {
                    mesh.timing.pause_max
                };
                report(&mesh, &target, &failure, failures);
                silent = if failure.is_silence() { silent + 1 } else { 0 };
                if silent >= mesh.timing.renew_after {
                    silent = 0;
                    renew(&mesh);
                }
            }
        }
    }
}

/// One attempt: resolve, shake hands, and hear from the peer that it takes the connection.
async fn attempt(mesh: &Arc<Mesh>, target: &Target, failures: u32) -> Result<(), Failure> {
    let limit = mesh.timing.handshake;
    let address = timeout(limit, resolve(mesh, &target.address, failures))
        .await
        .unwrap_or_else(|_| Err(Failure::Unresolved(std::io::ErrorKind::TimedOut.into())))?;
    mesh.note_ip(target.peer, IpSource::Name, address.ip());
    let met = async {
        let link = mesh.sockets.dial(address, target.peer).await?;
        // The first stream is the other end's consent: it has checked our key and has a place for us.
        let first = link.accept().await?;
        Ok((link, first))
    };
    let (link, first) = timeout(limit, met).await.unwrap_or(Err(Loss::Silent))?;
    mesh.admit(link, Some(first)).map_err(Failure::Refused)
}

async fn resolve(mesh: &Mesh, address: &str, failures: u32) -> Result<SocketAddr, Failure> {
    let found = tokio::net::lookup_host(address).await.map_err(Failure::Unresolved)?;
    let reachable: Vec<SocketAddr> = found.filter(|address| mesh.sockets.can_reach(*address)).collect();
    let turn = usize::try_from(failures).unwrap_or(0) % reachable.len().max(1);
    reachable.get(turn).copied().ok_or(Failure::Unreachable)
}

/// Says what is wrong: at first, and then ever more rarely.
fn report(mesh: &Mesh, target: &Target, failure: &Failure, failures: u32) {
    if failure.is_harmless() {
        tracing::debug!(peer = %target.peer, %failure, "dialing was not needed");
        suspect(target, failures);
        return;
    }
    add(&mesh.counters.dials_failed, 1);
    if failures.is_power_of_two() {
        tracing::warn!(peer = %target.peer, address = %target.address, attempts = failures, %failure, "cannot reach peer");
    } else {
        tracing::debug!(peer = %target.peer, address = %target.address, attempts = failures, %failure, "cannot reach peer");
    }
}

/// Connections that end at once, or are refused because there is one already, time and again: somebody else has them.
fn suspect(target: &Target, failures: u32) {
    if failures >= SUSPECT_AFTER && failures.is_power_of_two() {
        tracing::warn!(
            peer = %target.peer, attempts = failures,
            "the peer holds another connection under this node's peer key: is another process running with a copy of it?"
        );
    }
}

/// Replaces the dialing socket: handshakes vanish, maybe because of its port.
fn renew(mesh: &Mesh) {
    match mesh.sockets.renew() {
        Ok(()) => {
            add(&mesh.counters.sockets_renewed, 1);
            tracing::debug!("dialing from a new port");
        }
        Err(error) => tracing::warn!(%error, "cannot bind a new dialing socket"),
    }
}

/// How long to wait before the next attempt: nothing at first, then half to all of a time that doubles.
fn pause(failures: u32, min: Duration, max: Duration) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let full = min.saturating_mul(1 << (failures - 1).min(16)).min(max);
    // Without random numbers nodes pause in step, which is not worth failing for.
    let random = u32::try_from(getrandom::u64().unwrap_or(0) % 1000).unwrap_or(0);
    full / 2 + full / 2 * random / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_maximum_and_are_jittered_by_half() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
        assert_eq!(pause(0, min, max), Duration::ZERO);
        for (failures, full_ms) in [(1, 100), (2, 200), (3, 400), (6, 3200), (7, 5000), (u32::MAX, 5000)] {
            let full = Duration::from_millis(full_ms);
            let pause = pause(failures, min, max);
            assert!(pause >= full / 2 && pause <= full, "{pause:?} of {full:?}");
        }
    }
}
