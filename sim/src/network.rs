//! Connections between nodes, as QUIC gives them: ordered streams by class that lose nothing while the connection
//! stands. Packets may be lost, and then the stream waits; a queue may overflow, and then a message is gone; a
//! direction may be cut, and after the idle time-out both ends notice.

use std::time::Duration;

use fusion_consensus::{Class, Message};

/// What stands between two nodes.
#[derive(Debug, Default)]
pub(crate) struct Pair {
    /// Number of the connection; none while there is none.
    pub(crate) connection: Option<u64>,
    /// Whether packets vanish, by direction: from the lower node, from the higher.
    pub(crate) cut: [bool; 2],
    /// What waits behind a cut.
    pub(crate) held: [Vec<Message>; 2],
    /// When the last message of a class arrives.
    last: [[Duration; 4]; 2],
    /// How many times as long everything takes.
    pub(crate) slow: u64,
    /// Neither end speaks to the other before.
    pub(crate) banned_until: Duration,
    pub(crate) is_dialing: bool,
}

/// Every pair of nodes.
#[derive(Debug)]
pub(crate) struct Network {
    nodes: usize,
    pairs: Vec<Pair>,
    connections: u64,
}

/// Which of two directions.
pub(crate) fn direction(from: usize, to: usize) -> usize {
    usize::from(from > to)
}

impl Network {
    pub(crate) fn new(nodes: usize) -> Self {
        let mut pairs = Vec::new();
        pairs.resize_with(nodes * nodes, Pair::default);
        Self {
            nodes,
            pairs,
            connections: 0,
        }
    }

    pub(crate) fn pair(&mut self, a: usize, b: usize) -> &mut Pair {
        let at = a.min(b) * self.nodes + a.max(b);
        &mut self.pairs[at]
    }

    pub(crate) fn is_cut(&mut self, a: usize, b: usize) -> bool {
        self.pair(a, b).cut != [false; 2]
    }

    /// A new connection, with nothing under way.
    pub(crate) fn connect(&mut self, a: usize, b: usize) {
        self.connections += 1;
        let connection = self.connections;
        let pair = self.pair(a, b);
        pair.connection = Some(connection);
        pair.held = Default::default();
        pair.last = Default::default();
    }

    /// The connection is gone, and all that was under way with it. False if there was none.
    pub(crate) fn disconnect(&mut self, a: usize, b: usize) -> bool {
        let pair = self.pair(a, b);
        pair.held = Default::default();
        pair.connection.take().is_some()
    }

    /// When a message sent at `now` arrives: not before the one before it on its stream, unless it `overtakes`.
    pub(crate) fn arrival(
        &mut self,
        (from, to): (usize, usize),
        class: Class,
        now: Duration,
        delay: Duration,
        overtakes: bool,
    ) -> Duration {
        let pair = self.pair(from, to);
        let at = now + delay * u32::try_from(pair.slow.max(1)).unwrap_or(1);
        let last = &mut pair.last[direction(from, to)][class as usize];
        if overtakes {
            return at;
        }
        *last = at.max(*last + Duration::from_nanos(1));
        *last
    }
}
