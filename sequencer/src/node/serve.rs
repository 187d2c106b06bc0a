//! Decided blocks for peers that ask, read from the log off the node thread.
//!
//! Promises that reading for peers takes a bounded part of the machine: so many requests at a time, in all and of one
//! peer, and of all followers together so many bytes a second. The committee's own catching up has no such rate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fusion_consensus::wire::{SYNC_BYTES_MAX, sync_response_bytes};
use fusion_consensus::{Message, PeerId};
use fusion_types::{BlockId, Genesis, Height};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::intake::{network_class, network_id};
use crate::network::Network;
use crate::store::LogReader;

/// Requests served at a time. One beyond is dropped: the peer asks another node, or again.
const SERVED_AT_ONCE: usize = 16;

/// Requests of one peer served at a time, so that none takes the places of all.
const SERVED_PER_PEER: usize = 4;

/// Bytes a second for all followers together; what they ask for beyond is dropped, and they ask again.
const FOLLOWERS_BYTES_PER_SECOND: u128 = 32 * 1024 * 1024;

/// What they may save up while nobody asks.
const FOLLOWERS_BYTES_SAVED: i64 = 64 * 1024 * 1024;

/// What a request costs beside the bytes of its answer.
const REQUEST_BYTES: u64 = 64 * 1024;

/// Bytes kept free in a response for what is not blocks.
const RESPONSE_OVERHEAD_BYTES: usize = 64 * 1024;

/// Answers requests for decided blocks.
#[derive(Debug)]
pub(super) struct Server {
    reader: LogReader,
    network: Arc<Network>,
    genesis: Arc<Genesis>,
    /// Where the reading is done.
    threads: Handle,
    places: Arc<Semaphore>,
    per_peer: BTreeMap<PeerId, Arc<Semaphore>>,
    followers: Allowance,
}

/// Bytes that followers may still be sent. Less than none after large answers to many at once: then they wait until
/// that is earned.
#[derive(Debug)]
struct Allowance {
    left: i64,
    counted: Instant,
    /// Sent since it was last counted.
    spent: Arc<AtomicU64>,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self {
            left: FOLLOWERS_BYTES_SAVED,
            counted: now,
            spent: Arc::default(),
        }
    }

    /// Whether another request may be served. An answer counts when it is read: the places bound how much it is
    /// overdrawn.
    fn may_serve(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.counted);
        self.counted = self.counted.max(now);
        let earned = passed.as_nanos().saturating_mul(FOLLOWERS_BYTES_PER_SECOND) / 1_000_000_000;
        let earned = i64::try_from(earned).unwrap_or(i64::MAX);
        let spent = i64::try_from(self.spent.swap(0, Ordering::Relaxed)).unwrap_or(i64::MAX);
        let left = self.left.saturating_sub(spent).saturating_add(earned);
        self.left = left.min(FOLLOWERS_BYTES_SAVED);
        self.left > 0
    }
}

impl Server {
    /// A server of the blocks behind `reader` that reads on `threads`.
    pub(super) fn new(reader: LogReader, network: Arc<Network>, genesis: Arc<Genesis>, threads: Handle) -> Self {
        Self {
            reader,
            network,
            genesis,
            threads,
            places: Arc::new(Semaphore::new(SERVED_AT_ONCE)),
            per_peer: BTreeMap::new(),
            followers: Allowance::new(Instant::now()),
        }
    }

    /// Sends the decided blocks of a range, as many as fit one message.
    pub(super) fn blocks(&mut self, peer: PeerId, from: Height, to: Height) {
        self.spawn(peer, move |reader| {
            let (mut blocks, mut bytes) = (Vec::new(), RESPONSE_OVERHEAD_BYTES);
            for block in reader.range(from, to, SYNC_BYTES_MAX - RESPONSE_OVERHEAD_BYTES)? {
                bytes += sync_response_bytes(&block);
                if bytes > SYNC_BYTES_MAX {
                    break;
                }
                blocks.push((*block).clone());
            }
            Ok(Some(Message::SyncResponse { from, blocks }))
        });
    }

    /// Sends the body of one decided block.
    pub(super) fn block(&mut self, peer: PeerId, height: Height, id: BlockId) {
        self.spawn(peer, move |reader| {
            let decided = reader.block(height)?.filter(|decided| decided.block.id() == id);
            Ok(decided.map(|decided| Message::Block(decided.block.clone())))
        });
    }

    fn spawn(
        &mut self,
        peer: PeerId,
        read: impl FnOnce(&LogReader) -> Result<Option<Message>, crate::store::StoreError> + Send + 'static,
    ) {
        let is_follower = self.genesis.committee().index_of_peer(peer.0).is_none();
        if is_follower && !self.followers.may_serve(Instant::now()) {
            return;
        }
        self.per_peer
            .retain(|_, places| places.available_permits() < SERVED_PER_PEER);
        let of_peer = self
            .per_peer
            .entry(peer)
            .or_insert_with(|| Arc::new(Semaphore::new(SERVED_PER_PEER)));
        let Ok(peers_place) = of_peer.clone().try_acquire_owned() else {
            return;
        };
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return;
        };
        let (reader, network) = (self.reader.clone(), self.network.clone());
        let spent = is_follower.then(|| self.followers.spent.clone());
        self.threads.spawn_blocking(move || {
            match read(&reader) {
                Ok(Some(message)) => {
                    let answer = message.encode().0;
                    if let Some(spent) = spent {
                        spent.fetch_add(REQUEST_BYTES + answer.len() as u64, Ordering::Relaxed);
                    }
                    network.send(network_id(peer), network_class(message.class()), answer);
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "cannot read decided blocks for a peer"),
            }
            drop((place, peers_place));
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Asks for a mebibyte as often as possible and says how much was served until `end`.
    fn served(allowance: &mut Allowance, begin: Instant, end: Duration) -> u64 {
        let mut bytes = 0;
        for millis in 0..u64::try_from(end.as_millis()).unwrap() {
            while allowance.may_serve(begin + Duration::from_millis(millis)) {
                allowance.spent.fetch_add(1 << 20, Ordering::Relaxed);
                bytes += 1 << 20;
            }
        }
        bytes
    }

    #[test]
    fn followers_get_what_they_saved_and_then_their_rate() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(begin);
        let first = served(&mut allowance, begin, Duration::from_secs(10));
        let mebibytes = first >> 20;
        // 64 at once, and 32 in each of ten seconds.
        assert!((375..=386).contains(&mebibytes), "{mebibytes}");
        // However long nobody asks, no more than this is saved.
        let later = begin + Duration::from_secs(100_000);
        let again = served(&mut allowance, later, Duration::from_millis(1)) >> 20;
        assert!((63..=65).contains(&again), "{again}");
    }

    #[test]
    fn followers_are_served_again_when_a_debt_beyond_all_savings_is_earned() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(begin);
        assert!(allowance.may_serve(begin));
        // All places at once with the largest answers: 16 of 8 MiB, where 64 MiB are saved up.
        allowance.spent.fetch_add(128 << 20, Ordering::Relaxed);
        let second = Duration::from_secs(1);
        assert!(!allowance.may_serve(begin + second));
        assert!(!allowance.may_serve(begin + second * 19 / 10));
        assert!(
            allowance.may_serve(begin + second * 21 / 10),
            "64 MiB of debt take two seconds"
        );
    }

    #[test]
    fn asking_often_does_not_cost_followers_what_they_earn() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(begin);
        allowance.spent.fetch_add(64 << 20, Ordering::Relaxed);
        for tenth in 0..=10_000 {
            allowance.may_serve(begin + Duration::from_micros(100) * tenth);
        }
        // A second is earned and nothing spent: 32 MiB, of which these take all but one.
        allowance.spent.fetch_add(31 << 20, Ordering::Relaxed);
        assert!(allowance.may_serve(begin + Duration::from_secs(1)));
    }
}
