//! How connections end, and why none begins.

use std::fmt;

use super::frame::Fault;

/// Why an end closes a connection. The number is part of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// The node stops.
    Shutdown,
    /// A newer connection of the same pair takes over.
    Replaced,
    /// The pair already has a better connection.
    Duplicate,
    /// There are as many followers as the node takes.
    Full,
    /// The peer is banned.
    Banned,
    /// The peer broke the protocol of streams and frames.
    Fault,
    /// The peer did not read block bodies fast enough and must sync.
    Behind,
    /// The node asked for it.
    Asked,
    /// A code of a later version.
    Other,
}

impl CloseCode {
    const ALL: [Self; 8] = [
        Self::Shutdown,
        Self::Replaced,
        Self::Duplicate,
        Self::Full,
        Self::Banned,
        Self::Fault,
        Self::Behind,
        Self::Asked,
    ];

    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Shutdown => 0,
            Self::Replaced => 1,
            Self::Duplicate => 2,
            Self::Full => 3,
            Self::Banned => 4,
            Self::Fault => 5,
            Self::Behind => 6,
            Self::Asked => 7,
            Self::Other => 255,
        }
    }

    pub(super) fn of(number: u64) -> Self {
        Self::ALL
            .into_iter()
            .find(|code| u64::from(code.number()) == number)
            .unwrap_or(Self::Other)
    }

    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Shutdown => "the node stops",
            Self::Replaced => "a newer connection takes over",
            Self::Duplicate => "already connected",
            Self::Full => "no place for another follower",
            Self::Banned => "banned",
            Self::Fault => "protocol fault",
            Self::Behind => "too slow, sync instead",
            Self::Asked => "disconnected",
            Self::Other => "unknown reason",
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

/// Why there is no connection, or no longer one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Loss {
    /// Nothing comes from the other end.
    #[error("no answer")]
    Silent,
    /// The other end restarted.
    #[error("the peer restarted")]
    Restarted,
    /// The other end closed it.
    #[error("closed by the peer: {0}")]
    Closed(CloseCode),
    /// This end closed it.
    #[error("closed")]
    ClosedHere,
    /// The ends are not of one network and protocol version.
    #[error("the other end is of another network or protocol version")]
    OtherNetwork,
    /// Anything else: wrong key, no TLS, no route.
    #[error("{0}")]
    Broken(String),
}

/// Why a stream cannot be read further.
#[derive(Debug)]
pub(super) enum ReadEnd {
    /// The connection is gone.
    Lost,
    /// The peer broke the protocol.
    Fault(Fault),
    /// Nobody takes frames any more: the node stops.
    NodeGone,
}

/// Why a peer was disconnected, as [`NetworkEvent::Disconnected`](super::NetworkEvent::Disconnected) tells it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The connection broke: no answer, a restart, or anything that neither node decided.
    #[error("{0}")]
    Lost(String),
    /// The peer closed it.
    #[error("closed by the peer: {0}")]
    ByPeer(CloseCode),
    /// This node closed it.
    #[error("closed here: {0}")]
    Here(CloseCode),
    /// The peer broke the protocol of streams and frames.
    #[error("{0}")]
    Fault(Fault),
}
