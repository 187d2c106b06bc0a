//! What one rollup sees of a decided block, verifiable alone: its lane with proof, or the proof that it has none.

use alloy_primitives::{B256, Bytes};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};

use crate::block::{Block, Header, Lane, LaneBody, NetworkId, initial_head};
use crate::certificate::Certificate;
use crate::committee::Committee;
use crate::merkle::{MerkleProof, merkle_proof};
use crate::receipt::{ReceiptError, verify_header};
use crate::transaction::RollupId;

/// A place in a stream, valid on any node: the next sequence number to read and the hash of all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Cursor {
    /// Whose stream.
    pub rollup: RollupId,
    /// Sequence number of the next transaction.
    pub sequence: u64,
    /// Stream head before it.
    pub head: B256,
}

impl Cursor {
    /// The start of a rollup's stream.
    pub fn start(network: NetworkId, rollup: RollupId) -> Self {
        Self {
            rollup,
            sequence: 0,
            head: initial_head(network, rollup),
        }
    }
}

/// One rollup's lane of a decided block, with everything that proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollupBlock {
    /// Header of the decided block.
    pub header: Header,
    /// The lane and its transactions.
    pub body: LaneBody,
    /// From the lane to `header.lanes_root`.
    pub lane_proof: MerkleProof,
    /// Precommits for the block.
    pub certificate: Certificate,
}

/// Which check a rollup block failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Header or certificate.
    #[error(transparent)]
    Header(#[from] ReceiptError),
    /// Another rollup's lane.
    #[error("lane.rollup is {lane}, the cursor is of {cursor}")]
    Rollup {
        /// What the lane says.
        lane: RollupId,
        /// Whose stream is read.
        cursor: RollupId,
    },
    /// A gap or a repeat.
    #[error("lane starts at sequence {lane}, the cursor is at {cursor}")]
    Sequence {
        /// First sequence of the lane.
        lane: u64,
        /// Next sequence of the cursor.
        cursor: u64,
    },
    /// A different history.
    #[error("lane.parent_head is not the cursor's head: a different history before sequence {0}")]
    ParentHead(u64),
    /// The lane is not under the header.
    #[error("lane_proof does not lead from the lane to header.lanes_root")]
    LaneProof,
    /// The lane does not follow from its transactions.
    #[error("the lane does not follow from its {0} transactions")]
    Transactions(usize),
}

impl RollupBlock {
    /// What `rollup` sees of a decided `block`, or `None` if it has no lane there.
    pub fn of(block: &Block, certificate: &Certificate, rollup: RollupId) -> Option<Self> {
        let index = block
            .lanes
            .binary_search_by_key(&rollup, |body| body.lane.rollup)
            .ok()?;
        Some(Self {
            header: block.header.clone(),
            body: block.lanes[index].clone(),
            lane_proof: merkle_proof(&block.lane_leaves(), index)?,
            certificate: certificate.clone(),
        })
    }

    /// Checks that this lane is decided and continues the stream exactly at `cursor`; returns the cursor after it.
    ///
    /// # Errors
    /// [`StreamError`] names the first check that failed.
    pub fn verify(&self, network: NetworkId, committee: &Committee, cursor: &Cursor) -> Result<Cursor, StreamError> {
        let lane = &self.body.lane;
        if lane.rollup != cursor.rollup {
            return Err(StreamError::Rollup {
                lane: lane.rollup,
                cursor: cursor.rollup,
            });
        }
        if lane.first_sequence != cursor.sequence {
            return Err(StreamError::Sequence {
                lane: lane.first_sequence,
                cursor: cursor.sequence,
            });
        }
        if lane.parent_head != cursor.head {
            return Err(StreamError::ParentHead(cursor.sequence));
        }
        verify_header(&self.header, &self.certificate, network, committee)?;
        if !self.lane_proof.proves(self.header.lanes_root, lane.leaf()) {
            return Err(StreamError::LaneProof);
        }
        let hashes = self.body.hashes();
        let computed = Lane::new(
            lane.rollup,
            self.header.height,
            lane.first_sequence,
            lane.parent_head,
            &hashes,
        );
        let next_sequence = lane.next_sequence().filter(|_| computed == *lane);
        Ok(Cursor {
            rollup: lane.rollup,
            sequence: next_sequence.ok_or(StreamError::Transactions(hashes.len()))?,
            head: lane.head,
        })
    }

    /// Its transactions with their sequence numbers, which mean something only after [`RollupBlock::verify`].
    pub fn transactions(&self) -> impl Iterator<Item = (u64, &Bytes)> {
        let first = self.body.lane.first_sequence;
        let numbered = self.body.transactions.iter().enumerate();
        numbered.map(move |(index, payload)| (first.saturating_add(index as u64), payload))
    }
}

impl Encodable for RollupBlock {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        alloy_rlp::Header {
            list: true,
            payload_length: self.payload_length(),
        }
        .encode(out);
        self.header.encode(out);
        self.body.encode(out);
        self.lane_proof.encode(out);
        self.certificate.encode(out);
    }

    fn length(&self) -> usize {
        self.payload_length() + alloy_rlp::length_of_length(self.payload_length())
    }
}

impl RollupBlock {
    fn payload_length(&self) -> usize {
        self.header.length() + self.body.length() + self.lane_proof.length() + self.certificate.length()
    }
}

impl Decodable for RollupBlock {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let mut payload = alloy_rlp::Header::decode_bytes(buf, true)?;
        let value = Self {
            header: Header::decode(&mut payload)?,
            body: LaneBody::decode(&mut payload)?,
            lane_proof: MerkleProof::decode(&mut payload)?,
            certificate: Certificate::decode(&mut payload)?,
        };
        if payload.is_empty() {
            Ok(value)
        } else {
            Err(alloy_rlp::Error::UnexpectedLength)
        }
    }
}

/// The proof that a rollup has no lane in a block: the lanes on both sides of where it would stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneAbsence {
    /// The last lane of a smaller rollup id, with its proof; none when the rollup would come first.
    pub before: Option<(Lane, MerkleProof)>,
    /// The first lane of a larger rollup id, with its proof; none when the rollup would come last.
    pub after: Option<(Lane, MerkleProof)>,
}

/// Which check a proof of absence failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AbsenceError {
    /// A neighbour is not under the root.
    #[error("a neighbour's proof does not lead to header.lanes_root")]
    Proof,
    /// A neighbour is on the wrong side.
    #[error("rollup {0} is not between the neighbours")]
    Order(RollupId),
    /// The neighbours are not next to each other, or not at the edge where one is missing.
    #[error("the neighbours are not adjacent")]
    Gap,
    /// No neighbours, but the block has lanes.
    #[error("no neighbours are given and header.lanes_root is not that of an empty block")]
    NotEmpty,
}

impl LaneAbsence {
    /// The proof that `rollup` has no lane in `block`, or `None` if it has one.
    pub fn of(block: &Block, rollup: RollupId) -> Option<Self> {
        let at = block
            .lanes
            .binary_search_by_key(&rollup, |body| body.lane.rollup)
            .err()?;
        let leaves = block.lane_leaves();
        let neighbour = |index: usize| Some((block.lanes.get(index)?.lane.clone(), merkle_proof(&leaves, index)?));
        Some(Self {
            before: at.checked_sub(1).and_then(neighbour),
            after: neighbour(at),
        })
    }

    /// Checks that no lane of `rollup` is under `lanes_root`.
    ///
    /// # Errors
    /// [`AbsenceError`] names the first check that failed.
    pub fn verify(&self, lanes_root: B256, rollup: RollupId) -> Result<(), AbsenceError> {
        for (lane, proof) in self.before.iter().chain(&self.after) {
            if !proof.proves(lanes_root, lane.leaf()) {
                return Err(AbsenceError::Proof);
            }
        }
        if self.before.as_ref().is_some_and(|(lane, _)| rollup <= lane.rollup)
            || self.after.as_ref().is_some_and(|(lane, _)| lane.rollup <= rollup)
        {
            return Err(AbsenceError::Order(rollup));
        }
        let adjacent = match (&self.before, &self.after) {
            (Some((_, before)), Some((_, after))) => before.index.checked_add(1) == Some(after.index),
            (Some((_, before)), None) => before.index.checked_add(1) == Some(before.count),
            (None, Some((_, after))) => after.index == 0,
            (None, None) if lanes_root == crate::merkle::merkle_root(&[]) => true,
            (None, None) => return Err(AbsenceError::NotEmpty),
        };
        if adjacent { Ok(()) } else { Err(AbsenceError::Gap) }
    }
}
