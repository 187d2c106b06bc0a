//! Classes of traffic and their framing: `u32 length, big endian | payload` on one stream for each class.
//!
//! Promises that a length is checked against its class before a byte of the payload is kept, and that
//! memory follows the bytes received, never the length announced. Leaves the content of a frame to its reader.

use bytes::Bytes;
use fusion_types::limits::BLOCK_BYTES_MAX;

/// A kind of traffic. Each has a stream of its own in both directions, so that none waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Proposals, votes, certificates and status: small, and a round waits for each of them.
    Votes,
    /// Block bodies on their way to a vote.
    Bodies,
    /// Transactions on their way to a proposer.
    Transactions,
    /// Decided blocks for nodes that lag, and requests for them.
    Sync,
}

/// Bytes before each payload.
pub(super) const HEADER_BYTES: usize = 4;

/// Memory taken for a frame before its bytes arrive; beyond it a buffer at most grows fourfold at a time.
const FRAME_RESERVE_BYTES: usize = 16 * 1024;

/// Largest frame of `Class::Votes`: a certificate of the largest committee is below 16 KiB.
const VOTES_FRAME_BYTES_MAX: usize = 64 * 1024;
/// Largest frame of `Class::Bodies`: one block with the message around it.
const BODIES_FRAME_BYTES_MAX: usize = BLOCK_BYTES_MAX + 1024;
/// Largest frame of `Class::Transactions` that a validator sends.
const TRANSACTIONS_FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest frame of `Class::Transactions` that a follower sends: 64 of them together cost memory.
const FOLLOWER_TRANSACTIONS_FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Largest frame of `Class::Sync` that a validator sends: several of the largest blocks.
const SYNC_FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest frame of `Class::Sync` that a follower sends: only requests.
const FOLLOWER_SYNC_FRAME_BYTES_MAX: usize = 4 * 1024;

impl Class {
    /// Every class, in the order of its tag.
    pub const ALL: [Self; 4] = [Self::Votes, Self::Bodies, Self::Transactions, Self::Sync];

    /// Its name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Votes => "votes",
            Self::Bodies => "bodies",
            Self::Transactions => "transactions",
            Self::Sync => "sync",
        }
    }

    /// Its place in [`Class::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Self::Votes => 0,
            Self::Bodies => 1,
            Self::Transactions => 2,
            Self::Sync => 3,
        }
    }

    /// The first byte of its stream.
    pub(super) const fn tag(self) -> u8 {
        match self {
            Self::Votes => 0,
            Self::Bodies => 1,
            Self::Transactions => 2,
            Self::Sync => 3,
        }
    }

    /// The class whose streams begin with `tag`.
    pub(super) fn of_tag(tag: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.tag() == tag)
    }

    /// Which stream's data leaves first when a link is short of bandwidth; higher first.
    ///
    /// A vote is worth a round. A body is what the votes of this height wait for. A node that syncs is a
    /// fault less that the committee tolerates, so it comes before transactions, which can wait at their node.
    pub(super) const fn priority(self) -> i32 {
        match self {
            Self::Votes => 3,
            Self::Bodies => 2,
            Self::Sync => 1,
            Self::Transactions => 0,
        }
    }

    /// Largest frame that a node may send in this class, in bytes. `None`: it may not send in it at all.
    ///
    /// Followers ask for blocks and forward transactions; they have no vote and no proposal.
    pub const fn frame_bytes_max(self, sender_is_validator: bool) -> Option<usize> {
        match (self, sender_is_validator) {
            (Self::Votes, true) => Some(VOTES_FRAME_BYTES_MAX),
            (Self::Bodies, true) => Some(BODIES_FRAME_BYTES_MAX),
            (Self::Transactions, true) => Some(TRANSACTIONS_FRAME_BYTES_MAX),
            (Self::Sync, true) => Some(SYNC_FRAME_BYTES_MAX),
            (Self::Transactions, false) => Some(FOLLOWER_TRANSACTIONS_FRAME_BYTES_MAX),
            (Self::Sync, false) => Some(FOLLOWER_SYNC_FRAME_BYTES_MAX),
            (Self::Votes | Self::Bodies, false) => None,
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A peer broke the protocol of streams and frames. Its connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A frame longer than its class allows.
    #[error("frame of {class} is {bytes} bytes, limit is {limit}")]
    Oversize {
        /// Class of the stream.
        class: Class,
        /// Length that the frame announced.
        bytes: usize,
        /// Most that the peer may send.
        limit: usize,
    },
    /// A frame without content.
    #[error("frame of {0} is empty")]
    Empty(Class),
    /// A stream whose first byte names no class.
    #[error("stream of unknown class {0}")]
    UnknownClass(u8),
    /// A stream of a class in which this peer may not send.
    #[error("a follower opened a stream of {0}")]
    Forbidden(Class),
    /// A second stream of one class on one connection.
    #[error("second stream of {0}")]
    Repeated(Class),
    /// A stream that its sender finished or reset while the connection lives.
    #[error("a stream ended before its connection")]
    Ended,
    /// A follower that began a frame and sent nothing more.
    #[error("frame of {class} stalled for {after:?}")]
    Stalled {
        /// Class of the stream.
        class: Class,
        /// How long nothing came.
        after: std::time::Duration,
    },
}

/// Cuts one stream into frames.
#[derive(Debug)]
pub(super) struct Assembler {
    class: Class,
    limit: usize,
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    payload: Vec<u8>,
    payload_length: usize,
}

impl Assembler {
    /// Frames of `class`, of at most `limit` bytes each.
    pub(super) fn new(class: Class, limit: usize) -> Self {
        Self {
            class,
            limit,
            header: [0; HEADER_BYTES],
            header_filled: 0,
            payload: Vec::new(),
            payload_length: 0,
        }
    }

    /// The class of its stream.
    pub(super) const fn class(&self) -> Class {
        self.class
    }

    /// Whether a frame has begun and is not complete.
    pub(super) const fn is_inside_frame(&self) -> bool {
        self.header_filled > 0
    }

    /// Takes bytes off the front of `chunk` until a frame is complete or `chunk` is empty.
    ///
    /// # Errors
    /// [`Fault::Oversize`] or [`Fault::Empty`], as soon as the length is known.
    pub(super) fn feed(&mut self, chunk: &mut Bytes) -> Result<Option<Bytes>, Fault> {
        if self.header_filled < HEADER_BYTES {
            let taken = chunk.split_to(chunk.len().min(HEADER_BYTES - self.header_filled));
            self.header[self.header_filled..self.header_filled + taken.len()].copy_from_slice(&taken);
            self.header_filled += taken.len();
            if self.header_filled < HEADER_BYTES {
                return Ok(None);
            }
            self.begin()?;
        }
        let taken = chunk.split_to(chunk.len().min(self.payload_length - self.payload.len()));
        self.grow_for(taken.len());
        self.payload.extend_from_slice(&taken);
        if self.payload.len() < self.payload_length {
            return Ok(None);
        }
        self.header_filled = 0;
        Ok(Some(Bytes::from(std::mem::take(&mut self.payload))))
    }

    /// Judges the length of the next frame.
    fn begin(&mut self) -> Result<(), Fault> {
        let bytes = usize::try_from(u32::from_be_bytes(self.header)).unwrap_or(usize::MAX);
        if bytes == 0 {
            return Err(Fault::Empty(self.class));
        }
        if bytes > self.limit {
            return Err(Fault::Oversize {
                class: self.class,
                bytes,
                limit: self.limit,
            });
        }
        self.payload_length = bytes;
        Ok(())
    }

    /// Makes room for `more` bytes: exactly once for a small frame, else in steps that follow what has come.
    fn grow_for(&mut self, more: usize) {
        let needed = self.payload.len() + more;
        if needed > self.payload.capacity() {
            let wanted = (needed * 4).max(FRAME_RESERVE_BYTES).min(self.payload_length);
            self.payload.reserve_exact(wanted - self.payload.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in payloads {
            bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(payload);
        }
        bytes
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting_of_their_stream(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..100), 0..8),
            cuts in prop::collection::vec(1usize..60, 1..20),
        ) {
            let mut rest = Bytes::from(framed(&payloads));
            let mut assembler = Assembler::new(Class::Votes, 100);
            let mut found = Vec::new();
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let mut chunk = rest.split_to((*cuts.next().unwrap()).min(rest.len()));
                while !chunk.is_empty() {
                    found.extend(assembler.feed(&mut chunk).unwrap().map(|frame| frame.to_vec()));
                }
            }
            prop_assert_eq!(found, payloads);
            prop_assert!(!assembler.is_inside_frame());
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_its_payload() {
        let mut assembler = Assembler::new(Class::Sync, 1000);
        let fault = assembler.feed(&mut Bytes::from_static(&[0, 0, 3, 233])).unwrap_err();
        let expected = Fault::Oversize {
            class: Class::Sync,
            bytes: 1001,
            limit: 1000,
        };
        assert_eq!(fault, expected);
        assert_eq!(assembler.payload.capacity(), 0);
    }

    #[test]
    fn an_empty_frame_is_refused() {
        let mut assembler = Assembler::new(Class::Votes, 1000);
        assert_eq!(
            assembler.feed(&mut Bytes::from_static(&[0; 4])),
            Err(Fault::Empty(Class::Votes))
        );
    }

    #[test]
    fn memory_follows_the_bytes_received_and_not_the_length_promised() {
        let promised = 16 * 1024 * 1024_u32;
        let mut assembler = Assembler::new(Class::Sync, 16 * 1024 * 1024);
        let mut stream = promised.to_be_bytes().to_vec();
        stream.resize(4 + 40_000, 7);
        let mut stream = Bytes::from(stream);
        while !stream.is_empty() {
            let mut chunk = stream.split_to(stream.len().min(1400));
            assert_eq!(assembler.feed(&mut chunk), Ok(None));
            assert!(assembler.payload.capacity() <= FRAME_RESERVE_BYTES + 4 * assembler.payload.len());
        }
    }

    #[test]
    fn every_class_has_its_own_tag_and_index() {
        for (index, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class.index(), index);
            assert_eq!(Class::of_tag(class.tag()), Some(class));
        }
        assert_eq!(Class::of_tag(4), None);
    }
}
