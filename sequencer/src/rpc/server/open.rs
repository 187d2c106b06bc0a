//! Who holds a connection, and who gives way when there is no room.
//!
//! Promises at most so many connections in all and of one address, and that connections which never asked anything
//! cannot keep out those who want to: when all places are taken, the one that has been silent for longest gives way.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::rpc::Rpc;

/// A new connection has this long to ask something before it may have to give way: a round trip around the world.
const PATIENCE: Duration = Duration::from_secs(1);

/// The open connections.
#[derive(Debug, Clone, Default)]
pub(super) struct Open(Arc<Mutex<Connections>>);

#[derive(Debug, Default)]
struct Connections {
    by_address: BTreeMap<IpAddr, usize>,
    /// By number, so oldest first: those that have not sent a whole head of a request yet.
    silent: BTreeMap<u32, Silent>,
}

#[derive(Debug)]
struct Silent {
    since: Instant,
    /// Unknown for the moment between accepting and serving.
    task: Option<AbortHandle>,
}

/// One open connection; counted until dropped.
#[derive(Debug)]
pub(super) struct Permit {
    open: Open,
    address: IpAddr,
    number: u32,
    rpc: Rpc,
}

impl Open {
    /// A place for connection `number` from `address`, which another one may have to leave. `None`: there is no room.
    pub(super) fn admit(&self, rpc: &Rpc, address: IpAddr, number: u32) -> Option<Permit> {
        let options = rpc.options();
        // An IPv4 address may come as IPv6.
        let address = address.to_canonical();
        let limit = if address.is_loopback() {
            options.connections_loopback
        } else {
            options.connections_per_address
        };
        let mut open = self.lock();
        let all = open.all();
        if open.by_address.get(&address).copied().unwrap_or(0) >= limit {
            return None;
        }
        // Whoever has to leave frees the place as soon as its task ends: until then there is one more.
        if all >= options.connections && !open.dismiss_longest_silent(Instant::now()) {
            return None;
        }
        *open.by_address.entry(address).or_default() += 1;
        let since = Instant::now();
        open.silent.insert(number, Silent { since, task: None });
        rpc.metrics().connections(all + 1);
        Some(Permit {
            open: self.clone(),
            address,
            number,
            rpc: rpc.clone(),
        })
    }

    /// Connection `number` is served by `task`.
    pub(super) fn is_served_by(&self, number: u32, task: AbortHandle) {
        if let Some(silent) = self.lock().silent.get_mut(&number) {
            silent.task = Some(task);
        }
    }

    /// Connection `number` has asked something: from here on it keeps its place.
    pub(super) fn has_asked(&self, number: u32) {
        self.lock().silent.remove(&number);
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    fn all(&self) -> usize {
        self.by_address.values().sum()
    }

    /// Ends the connection that has been silent for longest, if any has for long enough.
    fn dismiss_longest_silent(&mut self, now: Instant) -> bool {
        let first = self.silent.first_entry();
        let Some(oldest) = first.filter(|oldest| now.saturating_duration_since(oldest.get().since) >= PATIENCE) else {
            return false;
        };
        if let Some(task) = oldest.remove().task {
            task.abort();
        }
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        open.silent.remove(&self.number);
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
        self.rpc.metrics().connections(open.all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silent_gives_way_and_nobody_else() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let silent = |since| Silent { since, task: None };
        let mut open = Connections {
            silent: [(3, silent(at(0))), (5, silent(at(500)))].into(),
            ..Connections::default()
        };
        assert!(!open.dismiss_longest_silent(at(999)), "it may still ask");
        assert!(open.dismiss_longest_silent(at(1000)));
        assert_eq!(open.silent.keys().collect::<Vec<_>>(), [&5]);
        assert!(!open.dismiss_longest_silent(at(1499)));
        assert!(open.dismiss_longest_silent(at(1500)));
        assert!(
            !open.dismiss_longest_silent(at(9999)),
            "those who asked keep their places"
        );
    }
}
