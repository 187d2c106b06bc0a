//! Decided blocks for peers that ask, read from the log off the node thread.

use std::collections::BTreeMap;
use std::sync::Arc;

use fusion_consensus::wire::{SYNC_BYTES_MAX, sync_response_bytes};
use fusion_consensus::{Message, PeerId};
use fusion_types::{BlockId, Height};
use tokio::sync::Semaphore;

use super::intake::{network_class, network_id};
use crate::network::Network;
use crate::store::LogReader;

/// Requests served at a time. One beyond is dropped: the peer asks another node, or again.
const SERVED_AT_ONCE: usize = 16;

/// Requests of one peer served at a time, so that none takes the places of all.
const SERVED_PER_PEER: usize = 4;

/// Bytes kept free in a response for what is not blocks.
const RESPONSE_OVERHEAD_BYTES: usize = 64 * 1024;

/// Answers requests for decided blocks.
#[derive(Debug)]
pub(super) struct Server {
    reader: LogReader,
    network: Arc<Network>,
    places: Arc<Semaphore>,
    per_peer: BTreeMap<PeerId, Arc<Semaphore>>,
}

impl Server {
    /// A server of the blocks behind `reader`.
    pub(super) fn new(reader: LogReader, network: Arc<Network>) -> Self {
        Self {
            reader,
            network,
            places: Arc::new(Semaphore::new(SERVED_AT_ONCE)),
            per_peer: BTreeMap::new(),
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
        tokio::task::spawn_blocking(move || {
            match read(&reader) {
                Ok(Some(message)) => {
                    network.send(network_id(peer), network_class(message.class()), message.encode().0);
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "cannot read decided blocks for a peer"),
            }
            drop((place, peers_place));
        });
    }
}
