//! A block whose body is known to match its header, with its hashes at hand.
//!
//! Sealing is the one place where a body is hashed. Everything downstream (check, log, receipts, streams)
//! takes a [`SealedBlock`] and neither repeats nor forgets that work. The payloads are slices of the block's one
//! encoding.

use alloy_primitives::Bytes;

use crate::block::{Block, BlockId, Header, Height, Lane, LaneBody, slice_block};
use crate::certificate::Certificate;
use crate::encoding::{DecodeError, encode};
use crate::limits::{BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX, TRANSACTION_BYTES_MAX};
use crate::merkle::merkle_root;
use crate::transaction::{RollupId, TxHash};

/// A block, its id, its transactions' hashes and its canonical encoding, all consistent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBlock {
    id: BlockId,
    block: Block,
    hashes: Vec<Vec<TxHash>>,
    encoded: Bytes,
}

/// Why a body does not belong to its header, or breaks a limit that holds for all blocks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The bytes are no block.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Larger than a block may be.
    #[error("block is {0} bytes, limit is {BLOCK_BYTES_MAX}")]
    Bytes(usize),
    /// More transactions than a block may hold.
    #[error("block has {0} transactions, limit is {BLOCK_TRANSACTIONS_MAX}")]
    Transactions(usize),
    /// A payload that is empty or too large.
    #[error("a transaction of rollup {rollup} has {bytes} bytes, it must have 1 to {TRANSACTION_BYTES_MAX}")]
    Payload {
        /// Its rollup.
        rollup: RollupId,
        /// Its size.
        bytes: usize,
    },
    /// Lanes are not strictly ascending by rollup.
    #[error("lane of rollup {0} is out of order or repeated")]
    Order(RollupId),
    /// A lane without transactions.
    #[error("lane of rollup {0} is empty")]
    Empty(RollupId),
    /// A lane's fields do not follow from its transactions.
    #[error("lane of rollup {0} does not follow from its transactions")]
    Lane(RollupId),
    /// The lanes do not give the header's root.
    #[error("header.lanes_root does not follow from the lanes")]
    LanesRoot,
}

/// A decided block with the certificate that proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidedBlock {
    /// The block.
    pub block: std::sync::Arc<SealedBlock>,
    /// More than two thirds of voting power precommitted it.
    pub certificate: Certificate,
}

impl SealedBlock {
    /// Seals a block built here: hashes its body and compares it with the header.
    ///
    /// # Errors
    /// [`SealError`] names the first thing that does not fit.
    pub fn new(block: &Block) -> Result<Self, SealError> {
        Self::decode(encode(block).into())
    }

    /// Seals a block built here from transactions whose hashes are known, lane by lane: everything is checked but
    /// these.
    ///
    /// # Errors
    /// [`SealError`] names the first thing that does not fit.
    pub fn with_hashes(block: &Block, hashes: Vec<Vec<TxHash>>) -> Result<Self, SealError> {
        Self::seal(encode(block).into(), |_| hashes)
    }

    /// Seals a block from its canonical encoding; the payloads share the memory of `encoded`.
    ///
    /// # Errors
    /// [`SealError`] names the first thing that does not fit.
    pub fn decode(encoded: Bytes) -> Result<Self, SealError> {
        Self::seal(encoded, |block| block.lanes.iter().map(LaneBody::hashes).collect())
    }

    fn seal(encoded: Bytes, hashes: impl FnOnce(&Block) -> Vec<Vec<TxHash>>) -> Result<Self, SealError> {
        if encoded.len() > BLOCK_BYTES_MAX {
            return Err(SealError::Bytes(encoded.len()));
        }
        let block = slice_block(&encoded).map_err(DecodeError::from)?;
        verify_sizes(&block)?;
        let hashes = hashes(&block);
        verify_roots(&block, &hashes)?;
        Ok(Self {
            id: block.id(),
            block,
            hashes,
            encoded,
        })
    }

    /// Hash of the header.
    pub fn id(&self) -> BlockId {
        self.id
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.block.header
    }

    /// The block itself.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Lanes with the hashes of their transactions.
    pub fn lanes(&self) -> impl Iterator<Item = (&LaneBody, &[TxHash])> {
        self.block.lanes.iter().zip(self.hashes.iter().map(Vec::as_slice))
    }

    /// Canonical RLP of the block.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }
}

/// The lanes of a decided block with the hashes of their transactions: what rebuilding a dedup window takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneHashes {
    /// Height of the block.
    pub height: Height,
    /// Lanes, ascending by rollup; those that were not wanted are left out.
    pub lanes: Vec<(Lane, Vec<TxHash>)>,
}

impl LaneHashes {
    /// Reads a block that was sealed before it was logged: the lanes of `wanted` rollups are hashed, nothing is
    /// checked again.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are no block.
    pub fn read(encoded: &Bytes, wanted: &dyn Fn(RollupId) -> bool) -> Result<Self, DecodeError> {
        let block = slice_block(encoded).map_err(DecodeError::from)?;
        let wanted = block.lanes.iter().filter(|body| wanted(body.lane.rollup));
        let lanes = wanted.map(|body| (body.lane.clone(), body.hashes())).collect();
        Ok(Self {
            height: block.header.height,
            lanes,
        })
    }
}

impl From<&SealedBlock> for LaneHashes {
    fn from(block: &SealedBlock) -> Self {
        let lanes = block.lanes().map(|(body, hashes)| (body.lane.clone(), hashes.to_vec()));
        Self {
            height: block.header().height,
            lanes: lanes.collect(),
        }
    }
}

/// Whether the body keeps the limits, and its lanes their order.
fn verify_sizes(block: &Block) -> Result<(), SealError> {
    if block.transaction_count() > BLOCK_TRANSACTIONS_MAX {
        return Err(SealError::Transactions(block.transaction_count()));
    }
    let mut last: Option<RollupId> = None;
    for body in &block.lanes {
        let rollup = body.lane.rollup;
        if last.is_some_and(|last| rollup <= last) {
            return Err(SealError::Order(rollup));
        }
        last = Some(rollup);
        if body.transactions.is_empty() {
            return Err(SealError::Empty(rollup));
        }
        let mut sizes = body.transactions.iter().map(|payload| payload.len());
        if let Some(bytes) = sizes.find(|bytes| *bytes == 0 || *bytes > TRANSACTION_BYTES_MAX) {
            return Err(SealError::Payload { rollup, bytes });
        }
    }
    Ok(())
}

/// Whether lanes and header follow from the hashes of the transactions.
fn verify_roots(block: &Block, hashes: &[Vec<TxHash>]) -> Result<(), SealError> {
    let height = block.header.height;
    for (at, body) in block.lanes.iter().enumerate() {
        let lane = &body.lane;
        let hashes = hashes.get(at).map_or(&[][..], Vec::as_slice);
        let fits = hashes.len() == body.transactions.len()
            && Lane::new(lane.rollup, height, lane.first_sequence, lane.parent_head, hashes) == *lane;
        if !fits || lane.next_sequence().is_none() {
            return Err(SealError::Lane(lane.rollup));
        }
    }
    if hashes.len() != block.lanes.len() || merkle_root(&block.lane_leaves()) != block.header.lanes_root {
        return Err(SealError::LanesRoot);
    }
    Ok(())
}
