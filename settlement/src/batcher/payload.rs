//! What a batch carries: its blocks without what can be computed, and each rollup's transactions in a segment of its own.
//!
//! Promises that whoever has the payload, the state before it and the committee gets every block back, byte for byte, and
//! that whoever has one rollup's stream head gets that rollup's part alone; both verified, with every byte accounted for.
//! Leaves to others: whether the committee attested the batch, and where the bytes lie on L1.
//!
//! Layout: version u8 ‖ number of segments u32 ‖ for each (rollup u64 ‖ length u32 ‖ leaf 32 bytes) ‖ the segments in that
//! order, ascending by rollup; numbers are big-endian. The first has the blocks and stands under rollup 0, which no rollup
//! is. The leaves are those of [`Namespace`]; with all of them at hand, a reader of one segment proves its own. Leaves say what
//! is in the segments and nothing of how it is compressed: one content has many payloads, and which one was posted, the
//! attestations' `data` says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use alloy_primitives::B256;
use fusion_types::limits::ROLLUPS_MAX;
use fusion_types::{
    ApplyError, Block, Committee, Epoch, Header, Height, Lane, LaneBody, MerkleProof, MerkleTree, Namespace, NetworkId,
    RollupId, SealError, SealedBlock, State, StreamHead, TxHash, merkle_root, transaction_hash,
};

mod content;
use content::Content;

use super::blobs::PAYLOAD_BYTES_MAX;
use super::segment::{self, Budget, SegmentBlock, SegmentError, SegmentLane};

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 5;

/// One for the blocks, one for each rollup.
const SEGMENTS_MAX: usize = ROLLUPS_MAX + 1;

/// Bytes of one segment's entry in the index.
const INDEX_ENTRY_BYTES: usize = 44;

/// Most blocks of one batch.
pub(crate) const BLOCKS_MAX: usize = 1_024;

/// What a block takes in its segment before compression, at most.
const BLOCK_BYTES: usize = 58;

/// What a payload has beside lanes and transactions, at most: index and heads of the segments, and the blocks.
pub(crate) const OVERHEAD_BYTES_MAX: usize =
    HEAD_BYTES + SEGMENTS_MAX * (INDEX_ENTRY_BYTES + segment::HEAD_BYTES + LIST_BYTES) + BLOCKS_MAX * BLOCK_BYTES;

/// The longest prefix of an RLP list below 4 GiB.
const LIST_BYTES: usize = 5;

/// Under which the blocks themselves stand.
pub(crate) const BLOCKS: RollupId = RollupId(0);

/// Why bytes are no payload, or not the one that continues a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Another version, or shorter than its index.
    #[error("the payload of {0} bytes has no index of version {VERSION}")]
    Index(usize),
    /// More segments than there may be rollups, or none of the blocks in front.
    #[error("the payload has {0} segments, it must have that of the blocks first and {SEGMENTS_MAX} at most")]
    Segments(usize),
    /// Rollups are not strictly ascending.
    #[error("the segment of rollup {0} is out of order")]
    Order(RollupId),
    /// The segments are not as long as the index says.
    #[error("the segments are {bytes} bytes, the index says {said}")]
    Length {
        /// What the index says.
        said: u64,
        /// What follows it.
        bytes: usize,
    },
    /// A segment that cannot be read.
    #[error("rollup {rollup}: {error}")]
    Segment {
        /// Whose.
        rollup: RollupId,
        /// Why.
        error: SegmentError,
    },
    /// A segment that is not what its leaf says.
    #[error("the segment of rollup {0} does not give its leaf")]
    Leaf(RollupId),
    /// A segment of nothing, or a lane of a height that no block has, or out of order.
    #[error("a lane of rollup {0} belongs to no block, or there is none")]
    Lane(RollupId),
    /// More than a batch may have.
    #[error("the payload has {0} blocks, limit is {BLOCKS_MAX}")]
    Blocks(usize),
    /// Not the committee that the state names.
    #[error("the committee of epoch {0:?} is not that of the state before the batch")]
    Committee(Epoch),
    /// More than fits the blobs of one transaction.
    #[error("the payload is {0} bytes, limit is {PAYLOAD_BYTES_MAX}")]
    Large(usize),
    /// A proposer that is no member, or an L1 origin given twice.
    #[error("the block at height {0} is malformed")]
    Block(Height),
    /// Blocks that do not continue the state.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Blocks that break a limit of all blocks.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// One segment's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    rollup: RollupId,
    offset: usize,
    length: usize,
    leaf: B256,
}

/// A batch's payload with its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    bytes: Vec<u8>,
    blocks: Entry,
    streams: Vec<Entry>,
}

/// One rollup's part of a batch, verified against the leaf beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollupPart {
    /// What the batch commits to.
    pub namespace: Namespace,
    /// Its place under the batch's `namespaces`.
    pub proof: MerkleProof,
    /// The lanes in order.
    pub lanes: Vec<SegmentLane>,
    /// Where the stream stands after them.
    pub after: StreamHead,
}

/// A rollup's lanes before they are a segment.
#[derive(Default)]
struct Draft {
    lanes: Vec<SegmentLane>,
    hashes: Vec<Vec<TxHash>>,
}

impl Payload {
    /// The payload of `blocks`, decided one after the other above `before` by `committee`.
    ///
    /// # Panics
    /// When there are none, or they do not continue `before`: they come from the log, which was checked.
    pub fn of(blocks: &[Arc<SealedBlock>], before: &State, committee: &Committee) -> Self {
        let mut drafts: BTreeMap<RollupId, Draft> = BTreeMap::new();
        let mut rows = Vec::with_capacity(blocks.len());
        let (mut origin, mut cursor) = (before.l1_origin, before.forced_cursor);
        for block in blocks {
            let header = block.header();
            let proposer = committee
                .index_of(header.proposer)
                .and_then(|index| u32::try_from(index).ok());
            let is_news = std::mem::replace(&mut origin, header.l1_origin) != header.l1_origin;
            let forced_to = header.forced_to.unwrap_or(cursor);
            let forced = forced_to.checked_sub(std::mem::replace(&mut cursor, forced_to));
            let forced = forced.and_then(|forced| u32::try_from(forced).ok());
            rows.push(SegmentBlock {
                proposer: proposer.expect("a member proposed the block"),
                time_ms: header.time_ms,
                l1_origin: if is_news { vec![header.l1_origin] } else { Vec::new() },
                forced: forced.expect("a valid block moves the forced cursor on by few"),
            });
            for (body, hashes) in block.lanes() {
                let draft = drafts.entry(body.lane.rollup).or_default();
                draft.lanes.push(SegmentLane {
                    height: header.height,
                    transactions: body.transactions.clone(),
                });
                draft.hashes.push(hashes.to_vec());
            }
        }
        let first = blocks.first().expect("a batch has blocks").header().height;
        let ids: Vec<B256> = blocks.iter().map(|block| block.id().0).collect();
        let mut offset = HEAD_BYTES + (drafts.len() + 1) * INDEX_ENTRY_BYTES;
        let mut place = |rollup, segment: &[u8], content: Content| {
            let entry = Entry {
                rollup,
                offset,
                length: segment.len(),
                leaf: content.namespace(rollup).leaf(),
            };
            offset += segment.len();
            entry
        };
        let mut segments = vec![segment::pack(&rows)];
        let row = place(BLOCKS, &segments[0], Content::of_blocks(first, &ids));
        let mut streams = Vec::with_capacity(drafts.len());
        for (rollup, draft) in &drafts {
            let heights = draft.lanes.iter().map(|lane| lane.height);
            let content = Content::of_lanes(*rollup, before.streams[rollup], heights.zip(&draft.hashes));
            let segment = segment::pack(&draft.lanes);
            streams.push(place(*rollup, &segment, content));
            segments.push(segment);
        }
        Self::assemble(row, streams, &segments)
    }

    fn assemble(blocks: Entry, streams: Vec<Entry>, segments: &[Vec<u8>]) -> Self {
        let count = u32::try_from(segments.len()).expect("fewer than rollups");
        let mut bytes = vec![VERSION];
        bytes.extend(count.to_be_bytes());
        for entry in std::iter::once(&blocks).chain(&streams) {
            let length = u32::try_from(entry.length).expect("a segment is below 4 GiB");
            bytes.extend(entry.rollup.0.to_be_bytes());
            bytes.extend(length.to_be_bytes());
            bytes.extend(entry.leaf);
        }
        for segment in segments {
            bytes.extend(segment);
        }
        Self { bytes, blocks, streams }
    }

    /// Reads a payload's index; what the segments hold is verified when they are read.
    ///
    /// # Errors
    /// [`PayloadError`] when the bytes are not an index and its segments.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, PayloadError> {
        let total = bytes.len();
        if total > PAYLOAD_BYTES_MAX {
            return Err(PayloadError::Large(total));
        }
        let head = bytes.split_first_chunk::<HEAD_BYTES>();
        let (head, rest) = head
            .filter(|(head, _)| head[0] == VERSION)
            .ok_or(PayloadError::Index(total))?;
        let count = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if count == 0 || count > SEGMENTS_MAX {
            return Err(PayloadError::Segments(count));
        }
        let index = rest
            .get(..count * INDEX_ENTRY_BYTES)
            .ok_or(PayloadError::Index(total))?;
        let mut offset = HEAD_BYTES + index.len();
        let mut entries = index.chunks_exact(INDEX_ENTRY_BYTES).map(|row| {
            let length = u32::from_be_bytes(std::array::from_fn(|byte| row[8 + byte])) as usize;
            let entry = Entry {
                rollup: RollupId(u64::from_be_bytes(std::array::from_fn(|byte| row[byte]))),
                offset,
                length,
                leaf: B256::from_slice(&row[12..]),
            };
            offset = offset.saturating_add(length);
            entry
        });
        let blocks = entries.next().filter(|entry| entry.rollup == BLOCKS);
        let blocks = blocks.ok_or(PayloadError::Segments(count))?;
        let streams: Vec<Entry> = entries.collect();
        let mut last = BLOCKS;
        for entry in &streams {
            if entry.rollup <= last {
                return Err(PayloadError::Order(entry.rollup));
            }
            last = entry.rollup;
        }
        if offset != total {
            let start = HEAD_BYTES + index.len();
            let said = (offset - start) as u64;
            let bytes = total - start;
            return Err(PayloadError::Length { said, bytes });
        }
        Ok(Self { bytes, blocks, streams })
    }

    /// The payload as it is posted.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The root over the leaves: what the batch's `namespaces` must be.
    pub fn namespaces_root(&self) -> B256 {
        self.tree().root()
    }

    /// The rollups that have a part.
    pub fn rollups(&self) -> impl Iterator<Item = RollupId> {
        self.streams.iter().map(|entry| entry.rollup)
    }

    /// Every block, as decided above `before` by `committee`, and the state after them. All leaves are verified; whether
    /// the last block's id is the attested one, the caller compares.
    ///
    /// # Errors
    /// [`PayloadError`] names the first thing that does not fit.
    pub fn blocks(
        &self,
        network: NetworkId,
        before: &State,
        committee: &Committee,
    ) -> Result<(Vec<SealedBlock>, State), PayloadError> {
        if committee.hash() != before.committee {
            return Err(PayloadError::Committee(committee.epoch()));
        }
        let mut budget = Budget::default();
        let rows = segment::blocks(self.segment(&self.blocks), &mut budget).map_err(|error| of(BLOCKS, error))?;
        if rows.len() > BLOCKS_MAX {
            return Err(PayloadError::Blocks(rows.len()));
        }
        let mut waiting = BTreeMap::new();
        for entry in &self.streams {
            if !before.streams.contains_key(&entry.rollup) {
                return Err(ApplyError::UnknownRollup(entry.rollup).into());
            }
            waiting.insert(entry.rollup, VecDeque::from(self.lanes(entry, &mut budget)?));
        }
        let mut hashes: BTreeMap<RollupId, Vec<(Height, Vec<TxHash>)>> = BTreeMap::new();
        let (mut state, mut decided) = (before.clone(), Vec::with_capacity(rows.len()));
        for row in rows {
            let lanes = next_lanes(&state, &mut waiting, &mut hashes)?;
            let block = block_of(row, lanes, network, &state, committee)?;
            let block = SealedBlock::new(&block)?;
            state.apply(block.block(), block.id(), committee)?;
            decided.push(block);
        }
        if let Some((rollup, _)) = waiting.iter().find(|(_, lanes)| !lanes.is_empty()) {
            return Err(PayloadError::Lane(*rollup));
        }
        if let Some(empty) = self.streams.iter().find(|entry| !hashes.contains_key(&entry.rollup)) {
            return Err(PayloadError::Lane(empty.rollup));
        }
        let first = decided.first().ok_or(PayloadError::Lane(BLOCKS))?;
        let ids: Vec<B256> = decided.iter().map(|block| block.id().0).collect();
        self.verify(&self.blocks, Content::of_blocks(first.header().height, &ids))?;
        for (entry, (rollup, lanes)) in self.streams.iter().zip(&hashes) {
            let lanes = lanes.iter().map(|(height, hashes)| (*height, hashes));
            self.verify(entry, Content::of_lanes(*rollup, before.streams[rollup], lanes))?;
        }
        Ok((decided, state))
    }

    /// The part of `rollup`, whose stream stands at `before`; nothing when the batch holds none of it.
    ///
    /// # Errors
    /// [`PayloadError`] names the first thing that does not fit.
    pub fn stream(&self, rollup: RollupId, before: StreamHead) -> Result<Option<RollupPart>, PayloadError> {
        let Ok(at) = self.streams.binary_search_by_key(&rollup, |entry| entry.rollup) else {
            return Ok(None);
        };
        let entry = &self.streams[at];
        let lanes = self.lanes(entry, &mut Budget::default())?;
        let ascending = lanes.windows(2).all(|pair| pair[0].height < pair[1].height);
        if lanes.is_empty() || !ascending {
            return Err(PayloadError::Lane(rollup));
        }
        let hash = |lane: &SegmentLane| -> Vec<TxHash> {
            lane.transactions
                .iter()
                .map(|payload| transaction_hash(payload))
                .collect()
        };
        let hashes: Vec<Vec<TxHash>> = lanes.iter().map(hash).collect();
        let heights = lanes.iter().map(|lane| lane.height);
        let content = Content::of_lanes(rollup, before, heights.zip(&hashes));
        let after = content.after;
        let namespace = self.verify(entry, content)?;
        // The blocks' leaf stands before all others.
        let proof = self.tree().proof(at + 1).ok_or(PayloadError::Leaf(rollup))?;
        Ok(Some(RollupPart {
            namespace,
            proof,
            lanes,
            after,
        }))
    }

    fn tree(&self) -> MerkleTree {
        let entries = std::iter::once(&self.blocks).chain(&self.streams);
        MerkleTree::new(entries.map(|entry| entry.leaf).collect())
    }

    fn segment(&self, entry: &Entry) -> &[u8] {
        &self.bytes[entry.offset..entry.offset + entry.length]
    }

    fn lanes(&self, entry: &Entry, budget: &mut Budget) -> Result<Vec<SegmentLane>, PayloadError> {
        segment::lanes(self.segment(entry), budget).map_err(|error| of(entry.rollup, error))
    }

    fn verify(&self, entry: &Entry, content: Content) -> Result<Namespace, PayloadError> {
        let namespace = content.namespace(entry.rollup);
        if namespace.leaf() == entry.leaf {
            Ok(namespace)
        } else {
            Err(PayloadError::Leaf(entry.rollup))
        }
    }
}

fn of(rollup: RollupId, error: SegmentError) -> PayloadError {
    PayloadError::Segment { rollup, error }
}

/// Takes out the lanes of the block above `state`, and notes their hashes.
fn next_lanes(
    state: &State,
    waiting: &mut BTreeMap<RollupId, VecDeque<SegmentLane>>,
    hashes: &mut BTreeMap<RollupId, Vec<(Height, Vec<TxHash>)>>,
) -> Result<Vec<LaneBody>, PayloadError> {
    let height = state.height.next();
    let mut lanes = Vec::new();
    for (rollup, lanes_of) in waiting {
        let Some(found) = lanes_of.pop_front_if(|lane| lane.height == height) else {
            continue;
        };
        let stream = state.streams.get(rollup).ok_or(ApplyError::UnknownRollup(*rollup))?;
        let transactions = found.transactions;
        let own: Vec<TxHash> = transactions.iter().map(|payload| transaction_hash(payload)).collect();
        let lane = Lane::new(*rollup, height, stream.next_sequence, stream.head, &own);
        hashes.entry(*rollup).or_default().push((height, own));
        lanes.push(LaneBody { lane, transactions });
    }
    Ok(lanes)
}

/// The block above `state` that has these lanes.
fn block_of(
    row: SegmentBlock,
    lanes: Vec<LaneBody>,
    network: NetworkId,
    state: &State,
    committee: &Committee,
) -> Result<Block, PayloadError> {
    let height = state.height.next();
    let proposer = committee.validators().get(row.proposer as usize);
    let l1_origin = match row.l1_origin[..] {
        [] => Some(state.l1_origin),
        [origin] => Some(origin).filter(|origin| *origin != state.l1_origin),
        _ => None,
    };
    let (Some(proposer), Some(l1_origin)) = (proposer, l1_origin) else {
        return Err(PayloadError::Block(height));
    };
    let forced_to = state.forced_cursor.saturating_add(row.forced.into());
    let forced_to = Some(forced_to).filter(|_| row.forced > 0);
    let leaves: Vec<B256> = lanes.iter().map(|body| body.lane.leaf()).collect();
    let header = Header {
        network,
        height,
        parent: state.block,
        epoch: committee.epoch(),
        committee: state.committee,
        proposer: proposer.id,
        time_ms: row.time_ms,
        l1_origin,
        lanes_root: merkle_root(&leaves),
        state_root: state.root(),
        forced_to,
    };
    Ok(Block { header, lanes })
}

#[cfg(test)]
mod tests;
