//! What went through the network, counted.
//!
//! Plain atomics, added to where things happen and read as a snapshot by metrics and `fusion_peers`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::frame::Class;

/// Adds to a counter. Counters order nothing.
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Frames and bytes of one class, since the start of what counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClassCounts {
    /// Frames written to streams.
    pub frames_out: u64,
    /// Their payload bytes.
    pub bytes_out: u64,
    /// Frames read from streams.
    pub frames_in: u64,
    /// Their payload bytes.
    pub bytes_in: u64,
    /// Frames dropped because a queue was full, or because this node may not send them.
    pub dropped: u64,
}

/// What the network of a node did since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkCounters {
    /// By class, in the order of [`Class::ALL`].
    pub classes: [ClassCounts; 4],
    /// Connections that both ends agreed on.
    pub connected: u64,
    /// Handshakes that this node began and that failed.
    pub dials_failed: u64,
    /// Handshakes that others began and that failed.
    pub handshakes_failed: u64,
    /// Handshakes that others began and that were refused unseen: too many at once or too often.
    pub handshakes_refused: u64,
    /// Handshakes that were asked to prove their address first.
    pub handshakes_retried: u64,
    /// Authenticated peers turned away: banned, no place, or connected already.
    pub peers_refused: u64,
    /// Connections ended because the peer broke the protocol.
    pub faults: u64,
    /// Connections ended because the peer did not read bodies fast enough.
    pub behind: u64,
    /// Times the dialing socket was replaced.
    pub sockets_renewed: u64,
    /// Frames that the node asked to send and that peers would refuse.
    pub frames_unsendable: u64,
}

/// Live counts of one class.
#[derive(Debug, Default)]
pub(super) struct ClassTraffic {
    frames_out: AtomicU64,
    bytes_out: AtomicU64,
    frames_in: AtomicU64,
    bytes_in: AtomicU64,
    dropped: AtomicU64,
}

/// Live counts of all classes, of one session or of the node.
#[derive(Debug, Default)]
pub(super) struct Traffic([ClassTraffic; 4]);

impl Traffic {
    /// Counts frames written.
    pub(super) fn sent(&self, class: Class, frames: u64, bytes: u64) {
        let class = &self.0[class.index()];
        add(&class.frames_out, frames);
        add(&class.bytes_out, bytes);
    }

    /// Counts a frame read.
    pub(super) fn received(&self, class: Class, bytes: u64) {
        let class = &self.0[class.index()];
        add(&class.frames_in, 1);
        add(&class.bytes_in, bytes);
    }

    /// Counts frames dropped.
    pub(super) fn dropped(&self, class: Class, frames: u64) {
        add(&self.0[class.index()].dropped, frames);
    }

    /// The counts now.
    pub(super) fn snapshot(&self) -> [ClassCounts; 4] {
        Class::ALL.map(|class| {
            let class = &self.0[class.index()];
            ClassCounts {
                frames_out: read(&class.frames_out),
                bytes_out: read(&class.bytes_out),
                frames_in: read(&class.frames_in),
                bytes_in: read(&class.bytes_in),
                dropped: read(&class.dropped),
            }
        })
    }
}

/// Live counts of the node.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) traffic: Traffic,
    pub(super) connected: AtomicU64,
    pub(super) dials_failed: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
    pub(super) handshakes_refused: AtomicU64,
    pub(super) handshakes_retried: AtomicU64,
    pub(super) peers_refused: AtomicU64,
    pub(super) faults: AtomicU64,
    pub(super) behind: AtomicU64,
    pub(super) sockets_renewed: AtomicU64,
    pub(super) frames_unsendable: AtomicU64,
}

impl Counters {
    /// The counts now.
    pub(super) fn snapshot(&self) -> NetworkCounters {
        NetworkCounters {
            classes: self.traffic.snapshot(),
            connected: read(&self.connected),
            dials_failed: read(&self.dials_failed),
            handshakes_failed: read(&self.handshakes_failed),
            handshakes_refused: read(&self.handshakes_refused),
            handshakes_retried: read(&self.handshakes_retried),
            peers_refused: read(&self.peers_refused),
            faults: read(&self.faults),
            behind: read(&self.behind),
            sockets_renewed: read(&self.sockets_renewed),
            frames_unsendable: read(&self.frames_unsendable),
        }
    }
}
