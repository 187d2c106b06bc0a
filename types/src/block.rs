//! What the committee decides: a header, and one lane for each rollup that has transactions.

use alloy_primitives::{B256, Bytes, Keccak256, keccak256};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpDecodableWrapper, RlpEncodable, RlpEncodableWrapper};

use crate::committee::{Epoch, ValidatorId};
use crate::encoding::{decode_bounded, encode, encode_items, items_length};
use crate::limits::{
    BATCH_LANE_BYTES, BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX, ROLLUPS_MAX, TRANSACTION_OVERHEAD_BYTES,
};
use crate::merkle::{leaf_hash, merkle_root};
use crate::transaction::{RollupId, TxHash, transaction_hash};

/// One network: the hash of its genesis. Every signature and every header binds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, RlpEncodableWrapper, RlpDecodableWrapper)]
pub struct NetworkId(pub B256);

/// A block's place in the chain. The genesis stands at 0, the first decided block at 1.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, RlpEncodableWrapper, RlpDecodableWrapper,
)]
pub struct Height(pub u64);

/// An attempt to decide one height, from 0.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, RlpEncodableWrapper, RlpDecodableWrapper,
)]
pub struct Round(pub u32);

/// A block, by the hash of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, RlpEncodableWrapper, RlpDecodableWrapper)]
pub struct BlockId(pub B256);

impl Height {
    /// The height above this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl std::fmt::Display for Height {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for BlockId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for NetworkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The Ethereum block up to which L1 events bind. Zero until a network settles on L1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct L1Origin {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
}

/// What is signed and decided. DESIGN.md §5.
#[derive(Debug, Clone, PartialEq, Eq, RlpEncodable, RlpDecodable)]
#[rlp(trailing(no_gaps))]
pub struct Header {
    /// The network that it belongs to.
    pub network: NetworkId,
    /// Its height.
    pub height: Height,
    /// Id of the block below it.
    pub parent: BlockId,
    /// Epoch of its committee.
    pub epoch: Epoch,
    /// Hash of the committee that decides it.
    pub committee: B256,
    /// Who built it.
    pub proposer: ValidatorId,
    /// Unix time in milliseconds, as its proposer saw it; strictly above its parent's.
    pub time_ms: u64,
    /// Up to where L1 events bind.
    pub l1_origin: L1Origin,
    /// Merkle root over its lanes, ascending by rollup.
    pub lanes_root: B256,
    /// Root of the replicated state *after the parent block*.
    pub state_root: B256,
    /// How many items of the forced queue are consumed after this block, exactly if it consumes any: the encoding of all
    /// others is that of a network without settlement.
    pub forced_to: Option<u64>,
}

impl Header {
    /// `keccak256(rlp(header))`.
    pub fn id(&self) -> BlockId {
        BlockId(keccak256(encode(self)))
    }
}

/// The head of one rollup's part of a block. A leaf of the header's `lanes_root`.
#[derive(Debug, Clone, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Lane {
    /// Whose transactions these are.
    pub rollup: RollupId,
    /// Sequence number of the first of them.
    pub first_sequence: u64,
    /// How many; at least 1.
    pub count: u64,
    /// Stream head before this lane.
    pub parent_head: B256,
    /// Stream head after it: [`Lane::computed_head`].
    pub head: B256,
    /// Merkle root over the transactions' hashes, in order.
    pub transactions_root: B256,
}

impl Lane {
    /// The lane of `hashes` that continues a stream at `(first_sequence, parent_head)`.
    pub fn new(rollup: RollupId, height: Height, first_sequence: u64, parent_head: B256, hashes: &[TxHash]) -> Self {
        let leaves: Vec<B256> = hashes.iter().map(|hash| leaf_hash(hash.as_slice())).collect();
        let mut lane = Self {
            rollup,
            first_sequence,
            count: hashes.len() as u64,
            parent_head,
            head: B256::ZERO,
            transactions_root: merkle_root(&leaves),
        };
        lane.head = lane.computed_head(height);
        lane
    }

    /// `keccak256("fusion/v1/head" ‖ parent_head ‖ transactions_root ‖ first_sequence ‖ count ‖ height)`, numbers as 8
    /// bytes big-endian.
    pub fn computed_head(&self, height: Height) -> B256 {
        let mut hasher = Keccak256::new();
        hasher.update(b"fusion/v1/head");
        hasher.update(self.parent_head);
        hasher.update(self.transactions_root);
        hasher.update(self.first_sequence.to_be_bytes());
        hasher.update(self.count.to_be_bytes());
        hasher.update(height.0.to_be_bytes());
        hasher.finalize()
    }

    /// Sequence number after its last transaction, or `None` beyond 64 bits: no such lane is valid.
    pub fn next_sequence(&self) -> Option<u64> {
        self.first_sequence.checked_add(self.count)
    }

    /// Its leaf in the tree under `lanes_root`.
    pub fn leaf(&self) -> B256 {
        leaf_hash(&encode(self))
    }
}

/// Head of a rollup's empty stream: `keccak256("fusion/v1/stream" ‖ network ‖ rollup)`.
pub fn initial_head(network: NetworkId, rollup: RollupId) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(b"fusion/v1/stream");
    hasher.update(network.0);
    hasher.update(rollup.0.to_be_bytes());
    hasher.finalize()
}

/// A lane with its transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneBody {
    /// The lane's head.
    pub lane: Lane,
    /// Payloads in order.
    pub transactions: Vec<Bytes>,
}

impl LaneBody {
    /// Hashes of its transactions, in order.
    pub fn hashes(&self) -> Vec<TxHash> {
        self.transactions
            .iter()
            .map(|payload| transaction_hash(payload))
            .collect()
    }
}

/// A block: its header and everything that the header commits to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The header.
    pub header: Header,
    /// Lanes ascending by rollup; none is empty.
    pub lanes: Vec<LaneBody>,
}

impl Block {
    /// Its id: the hash of its header.
    pub fn id(&self) -> BlockId {
        self.header.id()
    }

    /// Number of transactions in all lanes.
    pub fn transaction_count(&self) -> usize {
        self.lanes.iter().map(|lane| lane.transactions.len()).sum()
    }

    /// What its lanes take in a batch before compression, at most, in bytes. Zero without any.
    pub fn batch_bytes(&self) -> usize {
        let payloads = self.lanes.iter().flat_map(|lane| &lane.transactions);
        let transactions: usize = payloads.map(|payload| payload.len() + TRANSACTION_OVERHEAD_BYTES).sum();
        transactions + self.lanes.len() * BATCH_LANE_BYTES
    }

    /// The lane of `rollup`, if it has transactions here.
    pub fn lane(&self, rollup: RollupId) -> Option<&LaneBody> {
        self.lanes
            .binary_search_by_key(&rollup, |lane| lane.lane.rollup)
            .ok()
            .map(|index| &self.lanes[index])
    }

    /// Leaves of the tree under `lanes_root`.
    pub fn lane_leaves(&self) -> Vec<B256> {
        self.lanes.iter().map(|lane| lane.lane.leaf()).collect()
    }
}

impl Encodable for LaneBody {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        alloy_rlp::Header {
            list: true,
            payload_length: self.lane.length() + items_length(&self.transactions),
        }
        .encode(out);
        self.lane.encode(out);
        encode_items(&self.transactions, out);
    }

    fn length(&self) -> usize {
        let payload = self.lane.length() + items_length(&self.transactions);
        payload + alloy_rlp::length_of_length(payload)
    }
}

impl Decodable for LaneBody {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let mut payload = alloy_rlp::Header::decode_bytes(buf, true)?;
        let lane = Lane::decode(&mut payload)?;
        let transactions = decode_bounded(&mut payload, BLOCK_TRANSACTIONS_MAX)?;
        if !payload.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength);
        }
        Ok(Self { lane, transactions })
    }
}

impl Encodable for Block {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        alloy_rlp::Header {
            list: true,
            payload_length: self.header.length() + items_length(&self.lanes),
        }
        .encode(out);
        self.header.encode(out);
        encode_items(&self.lanes, out);
    }

    fn length(&self) -> usize {
        let payload = self.header.length() + items_length(&self.lanes);
        payload + alloy_rlp::length_of_length(payload)
    }
}

impl Decodable for Block {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let mut rest = *buf;
        alloy_rlp::Header::decode_bytes(&mut rest, true)?;
        let item = &buf[..buf.len() - rest.len()];
        if item.len() > BLOCK_BYTES_MAX {
            return Err(alloy_rlp::Error::Custom("block is larger than its limit"));
        }
        *buf = rest;
        slice_block(&Bytes::copy_from_slice(item))
    }
}

/// A block from exactly its encoding, with payloads as slices of it instead of copies. The one decoder of blocks.
pub(crate) fn slice_block(encoded: &Bytes) -> alloy_rlp::Result<Block> {
    let mut rest: &[u8] = encoded;
    let mut payload = alloy_rlp::Header::decode_bytes(&mut rest, true)?;
    if !rest.is_empty() {
        return Err(alloy_rlp::Error::UnexpectedLength);
    }
    let header = Header::decode(&mut payload)?;
    let mut lane_items = alloy_rlp::Header::decode_bytes(&mut payload, true)?;
    if !payload.is_empty() {
        return Err(alloy_rlp::Error::UnexpectedLength);
    }
    let (mut lanes, mut count) = (Vec::new(), 0);
    while !lane_items.is_empty() {
        let mut fields = alloy_rlp::Header::decode_bytes(&mut lane_items, true)?;
        let lane = Lane::decode(&mut fields)?;
        let mut items = alloy_rlp::Header::decode_bytes(&mut fields, true)?;
        let mut transactions = Vec::new();
        while !items.is_empty() {
            let bytes = alloy_rlp::Header::decode_bytes(&mut items, false)?;
            transactions.push(Bytes(encoded.0.slice_ref(bytes)));
            count += 1;
            if count > BLOCK_TRANSACTIONS_MAX {
                return Err(alloy_rlp::Error::Custom("block has more transactions than its limit"));
            }
        }
        if !fields.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength);
        }
        lanes.push(LaneBody { lane, transactions });
        if lanes.len() > ROLLUPS_MAX {
            return Err(alloy_rlp::Error::Custom("block has more lanes than its limit"));
        }
    }
    Ok(Block { header, lanes })
}
