//! Who is connected, who may be, and which connection of a pair lives.
//!
//! Either node of a pair may dial; promises that both end with the same single connection. Of two
//! connections by the same node the newer lives: a node dials again only when it has lost the older. Of two by
//! different nodes the one lives that the node with the lower id dialed. Both ends apply the same rule to the same pair
//! of connections, and the dialing end calls itself connected only once the other end has taken it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::counters::{Counters, add};
use super::ending::CloseCode;
use super::frame::Class;
use super::quic::{Link, Receiving, Sockets};
use super::session::{self, Session};
use super::{Inbox, Limits, NetworkEvent, PeerId, Timing, locked};

/// Most bans remembered; the one that ends first gives way.
const BANS_MAX: usize = 1024;

/// How an address of a validator is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum IpSource {
    /// Its configured name leads there.
    Name,
    /// It was connected from there.
    Connection,
}

/// Everything that the tasks of the network share.
#[derive(Debug)]
pub(super) struct Mesh {
    pub(super) id: PeerId,
    pub(super) validators: BTreeSet<PeerId>,
    pub(super) limits: Limits,
    pub(super) timing: Timing,
    pub(super) sockets: Sockets,
    pub(super) counters: Counters,
    pub(super) inbox: Inbox,
    pub(super) closing: AtomicBool,
    sessions: Mutex<BTreeMap<PeerId, Arc<Session>>>,
    bans: Mutex<BTreeMap<PeerId, Instant>>,
    /// Where each validator's name led to, and where it was last connected from. Two for each.
    validator_ips: Mutex<BTreeMap<(PeerId, IpSource), IpAddr>>,
}

impl Mesh {
    /// A mesh without connections.
    pub(super) fn new(
        id: PeerId,
        validators: BTreeSet<PeerId>,
        limits: Limits,
        timing: Timing,
        sockets: Sockets,
        inbox: Inbox,
    ) -> Self {
        Self {
            id,
            validators,
            limits,
            timing,
            sockets,
            counters: Counters::default(),
            inbox,
            closing: AtomicBool::new(false),
            sessions: Mutex::default(),
            bans: Mutex::default(),
            validator_ips: Mutex::default(),
        }
    }

    /// Whether this node is a validator.
    pub(super) fn is_validator(&self) -> bool {
        self.validators.contains(&self.id)
    }

    /// The live session with `peer`.
    pub(super) fn session(&self, peer: PeerId) -> Option<Arc<Session>> {
        locked(&self.sessions).get(&peer).cloned()
    }

    /// All live sessions, by peer.
    pub(super) fn sessions(&self) -> Vec<Arc<Session>> {
        locked(&self.sessions).values().cloned().collect()
    }

    /// Calls `each` for every live session, without copying the list.
    pub(super) fn for_each_session(&self, mut each: impl FnMut(&Session)) {
        for session in locked(&self.sessions).values() {
            each(session);
        }
    }

    /// Takes `link` as the connection with its peer and runs it, or closes it.
    pub(super) fn admit(self: &Arc<Self>, link: Link, first: Option<Receiving>) -> Result<(), CloseCode> {
        match self.place(link) {
            Ok((session, previous)) => {
                add(&self.counters.connected, 1);
                tracing::info!(
                    peer = %session.peer,
                    address = %session.link().address(),
                    validator = session.validator,
                    dialed = session.link().is_dialed(),
                    "peer connected"
                );
                if let Some(previous) = &previous {
                    previous.close(CloseCode::Replaced);
                }
                tokio::spawn(session::run(self.clone(), session, previous, first));
                Ok(())
            }
            Err(code) => {
                add(&self.counters.peers_refused, 1);
                Err(code)
            }
        }
    }

    /// Removes `session`, unless another took its place.
    pub(super) fn forget(&self, session: &Arc<Session>) {
        let mut sessions = locked(&self.sessions);
        if sessions
            .get(&session.peer)
            .is_some_and(|live| Arc::ptr_eq(live, session))
        {
            sessions.remove(&session.peer);
        }
    }

    /// Bans `peer` for `duration` from now, unless it is banned for longer.
    pub(super) fn ban(&self, peer: PeerId, duration: Duration) {
        let now = Instant::now();
        let Some(until) = now.checked_add(duration) else { return };
        let mut bans = locked(&self.bans);
        bans.retain(|_, until| *until > now);
        if bans.len() >= BANS_MAX
            && let Some(first) = bans.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer)
        {
            bans.remove(&first);
        }
        let ban = bans.entry(peer).or_insert(until);
        *ban = until.max(*ban);
    }

    /// Until when `peer` is banned, if it is.
    pub(super) fn banned_until(&self, peer: PeerId) -> Option<Instant> {
        let until = locked(&self.bans).get(&peer).copied()?;
        (until > Instant::now()).then_some(until)
    }

    /// Remembers where `validator` is: such addresses have no quota of handshakes.
    pub(super) fn note_ip(&self, validator: PeerId, source: IpSource, ip: IpAddr) {
        locked(&self.validator_ips).insert((validator, source), ip.to_canonical());
    }

    /// Whether a validator is known to be at `ip`.
    pub(super) fn is_validator_ip(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        locked(&self.validator_ips).values().any(|known| *known == ip)
    }

    /// Where frames of `class` go: what a round waits for never stands behind bulk.
    pub(super) fn inbox(&self, class: Class) -> &mpsc::Sender<NetworkEvent> {
        match class {
            Class::Votes => &self.inbox.ordering,
            Class::Bodies => &self.inbox.bodies,
            Class::Transactions | Class::Sync => &self.inbox.bulk,
        }
    }

    /// Tells the node who is connected. A node that is gone does not need to know.
    pub(super) async fn tell(&self, event: NetworkEvent) {
        let _ = self.inbox.ordering.send(event).await;
    }

    /// Finds the place of `link` among the sessions; closes it if there is none.
    fn place(&self, link: Link) -> Result<(Arc<Session>, Option<Arc<Session>>), CloseCode> {
        let validator = self.validators.contains(&link.peer());
        let mut sessions = locked(&self.sessions);
        if let Err(code) = self.judge(&link, validator, &sessions) {
            drop(sessions);
            link.close(code);
            return Err(code);
        }
        if validator {
            self.note_ip(link.peer(), IpSource::Connection, link.address().ip());
        }
        let session = Arc::new(Session::new(link, validator, self.limits));
        let previous = sessions.insert(session.peer, session.clone());
        Ok((session, previous))
    }

    fn judge(&self, link: &Link, validator: bool, sessions: &BTreeMap<PeerId, Arc<Session>>) -> Result<(), CloseCode> {
        if self.closing.load(Ordering::Relaxed) {
            return Err(CloseCode::Shutdown);
        }
        if self.banned_until(link.peer()).is_some() {
            return Err(CloseCode::Banned);
        }
        if link.peer() == self.id {
            return Err(CloseCode::Duplicate);
        }
        if let Some(live) = sessions.get(&link.peer()) {
            let (old, new) = (self.dialer_of(live.link()), self.dialer_of(link));
            return if replaces(new, old) {
                Ok(())
            } else {
                Err(CloseCode::Duplicate)
            };
        }
        let followers = sessions.values().filter(|session| !session.validator).count();
        if !validator && followers >= self.limits.followers_max {
            return Err(CloseCode::Full);
        }
        Ok(())
    }

    fn dialer_of(&self, link: &Link) -> PeerId {
        if link.is_dialed() { self.id } else { link.peer() }
    }
}

/// Whether a connection dialed by `new` takes the place of a live one of the same pair dialed by `old`.
fn replaces(new: PeerId, old: PeerId) -> bool {
    new <= old
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    #[test]
    fn both_ends_keep_the_same_connection_in_every_order() {
        let low = PeerId(B256::repeat_byte(1));
        let high = PeerId(B256::repeat_byte(2));
        for order in [[low, high], [high, low]] {
            let kept = if replaces(order[1], order[0]) {
                order[1]
            } else {
                order[0]
            };
            assert_eq!(kept, low);
        }
        assert!(
            replaces(low, low) && replaces(high, high),
            "of one dialer the newer lives"
        );
    }
}
