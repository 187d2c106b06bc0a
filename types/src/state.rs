//! The replicated state: what every node must agree on to check the next block.
//!
//! A function of the genesis and the decided blocks alone. `header.state_root` of height h + 1 commits
//! to it as it stands after height h.

use std::collections::BTreeMap;

use alloy_primitives::B256;
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};

use crate::block::{Block, BlockId, Height, L1Origin};
use crate::committee::Committee;
use crate::encoding::{decode_bounded, encode};
use crate::limits::ROLLUPS_MAX;
use crate::merkle::{leaf_hash, merkle_root};
use crate::rotation::Rotation;
use crate::transaction::RollupId;

/// Where a stream stands: the next sequence number, and the hash of everything before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct StreamHead {
    /// Sequence number of the next transaction.
    pub next_sequence: u64,
    /// Hash chain up to it.
    pub head: B256,
}

/// The replicated state after a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Height of that block.
    pub height: Height,
    /// Its id.
    pub block: BlockId,
    /// Its time, Unix milliseconds.
    pub time_ms: u64,
    /// Its L1 origin.
    pub l1_origin: L1Origin,
    /// Every registered rollup's stream.
    pub streams: BTreeMap<RollupId, StreamHead>,
    /// Number of items of the forced queue that are consumed.
    pub forced_cursor: u64,
    /// How many of them that block consumed. Fewer than a block may: none was left that is due at its L1 origin.
    pub forced_taken: u64,
    /// Who is benched.
    pub rotation: Rotation,
    /// Hash of the committee of the next height.
    pub committee: B256,
    /// Hash of its successor's; the same until an epoch ends.
    pub next_committee: B256,
}

/// Why a block does not continue a state. `check` refuses such blocks before they are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Height or parent do not follow.
    #[error("block at height {block} does not follow the state at height {state}")]
    Parent {
        /// Height of the block.
        block: Height,
        /// Height of the state.
        state: Height,
    },
    /// A lane of a rollup that nobody registered.
    #[error("rollup {0} is not registered")]
    UnknownRollup(RollupId),
    /// A header that says to consume forced transactions and does not move the cursor on.
    #[error("the block consumes forced transactions up to {given}, {cursor} are consumed already")]
    Forced {
        /// In the header.
        given: u64,
        /// Of the state.
        cursor: u64,
    },
    /// A lane that does not continue its stream, is repeated or out of order, or numbers beyond 64 bits.
    #[error("lane of rollup {0} does not continue its stream")]
    Stream(RollupId),
}

#[derive(RlpEncodable)]
struct SystemLeaf<'a> {
    forced_cursor: u64,
    committee: B256,
    next_committee: B256,
    rotation: &'a Rotation,
}

#[derive(RlpEncodable, RlpDecodable)]
struct StreamLeaf {
    rollup: RollupId,
    stream: StreamHead,
}

impl State {
    /// Root over the system leaf and one leaf per stream, ascending by rollup.
    pub fn root(&self) -> B256 {
        let system = SystemLeaf {
            forced_cursor: self.forced_cursor,
            committee: self.committee,
            next_committee: self.next_committee,
            rotation: &self.rotation,
        };
        let mut leaves = Vec::with_capacity(self.streams.len() + 1);
        leaves.push(leaf_hash(&encode(&system)));
        for (rollup, stream) in &self.streams {
            leaves.push(leaf_hash(&encode(&StreamLeaf {
                rollup: *rollup,
                stream: *stream,
            })));
        }
        merkle_root(&leaves)
    }

    /// The state after `block`, whose id is `id` and whose committee is `committee`.
    ///
    /// # Errors
    /// [`ApplyError`] when the block does not continue this state, which then is unchanged.
    pub fn apply(&mut self, block: &Block, id: BlockId, committee: &Committee) -> Result<(), ApplyError> {
        let header = &block.header;
        if header.height != self.height.next() || header.parent != self.block {
            return Err(ApplyError::Parent {
                block: header.height,
                state: self.height,
            });
        }
        let cursor = self.forced_cursor;
        let forced_to = header.forced_to.unwrap_or(cursor);
        if header.forced_to.is_some_and(|given| given <= cursor) {
            return Err(ApplyError::Forced {
                given: forced_to,
                cursor,
            });
        }
        let mut streams = Vec::with_capacity(block.lanes.len());
        let mut last = None;
        for lane in block.lanes.iter().map(|body| &body.lane) {
            let stream = self
                .streams
                .get(&lane.rollup)
                .ok_or(ApplyError::UnknownRollup(lane.rollup))?;
            let continues = lane.first_sequence == stream.next_sequence && lane.parent_head == stream.head;
            let next_sequence = lane.next_sequence().filter(|_| continues && last < Some(lane.rollup));
            let next_sequence = next_sequence.ok_or(ApplyError::Stream(lane.rollup))?;
            last = Some(lane.rollup);
            streams.push((
                lane.rollup,
                StreamHead {
                    next_sequence,
                    head: lane.head,
                },
            ));
        }
        self.streams.extend(streams);
        self.height = header.height;
        self.block = id;
        self.time_ms = header.time_ms;
        self.l1_origin = header.l1_origin;
        self.forced_taken = forced_to - cursor;
        self.forced_cursor = forced_to;
        self.rotation.decided(committee, header.height, header.proposer);
        Ok(())
    }
}

/// The state's fields without the streams, in the order of its encoding.
#[derive(RlpEncodable, RlpDecodable)]
#[rlp(trailing(no_gaps))]
struct Fixed {
    height: Height,
    block: BlockId,
    time_ms: u64,
    l1_origin: L1Origin,
    forced_cursor: u64,
    rotation: Rotation,
    committee: B256,
    next_committee: B256,
    /// Left out where it is zero, so that logs from before it was kept can be read.
    forced_taken: Option<u64>,
}

impl State {
    fn parts(&self) -> (Fixed, Vec<StreamLeaf>) {
        let fixed = Fixed {
            height: self.height,
            block: self.block,
            time_ms: self.time_ms,
            l1_origin: self.l1_origin,
            forced_cursor: self.forced_cursor,
            rotation: self.rotation.clone(),
            committee: self.committee,
            next_committee: self.next_committee,
            forced_taken: Some(self.forced_taken).filter(|taken| *taken != 0),
        };
        let streams = self.streams.iter().map(|(rollup, stream)| StreamLeaf {
            rollup: *rollup,
            stream: *stream,
        });
        (fixed, streams.collect())
    }
}

/// The encoding in which a node keeps the state beside its log; never sent to anyone.
impl Encodable for State {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        let (fixed, streams) = self.parts();
        alloy_rlp::Header {
            list: true,
            payload_length: fixed.length() + alloy_rlp::list_length(&streams),
        }
        .encode(out);
        fixed.encode(out);
        alloy_rlp::encode_list(&streams, out);
    }

    fn length(&self) -> usize {
        let (fixed, streams) = self.parts();
        let payload = fixed.length() + alloy_rlp::list_length(&streams);
        payload + alloy_rlp::length_of_length(payload)
    }
}

impl Decodable for State {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let mut payload = alloy_rlp::Header::decode_bytes(buf, true)?;
        let fixed = Fixed::decode(&mut payload)?;
        let streams: Vec<StreamLeaf> = decode_bounded(&mut payload, ROLLUPS_MAX)?;
        let ascending = streams.windows(2).all(|pair| pair[0].rollup < pair[1].rollup);
        if !payload.is_empty() || !ascending || fixed.forced_taken == Some(0) {
            return Err(alloy_rlp::Error::Custom("not a state"));
        }
        Ok(Self {
            height: fixed.height,
            block: fixed.block,
            time_ms: fixed.time_ms,
            l1_origin: fixed.l1_origin,
            streams: streams.into_iter().map(|leaf| (leaf.rollup, leaf.stream)).collect(),
            forced_cursor: fixed.forced_cursor,
            forced_taken: fixed.forced_taken.unwrap_or(0),
            rotation: fixed.rotation,
            committee: fixed.committee,
            next_committee: fixed.next_committee,
        })
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::b256;

    use super::*;
    use crate::committee::{Epoch, Validator, ValidatorId};
    use crate::genesis::Genesis;

    /// Public key of RFC 8032 §7.1, test 1.
    const VALIDATOR: B256 = b256!("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");

    fn genesis() -> Genesis {
        let validator = Validator {
            id: ValidatorId(VALIDATOR),
            peer: VALIDATOR,
            power: 1,
        };
        let committee = Committee::new(Epoch(0), vec![validator]).unwrap();
        Genesis::new("state".to_owned(), 1_000, committee, Vec::new()).unwrap()
    }

    /// The block above `state` that moves the cursor to `forced_to`.
    fn block(genesis: &Genesis, state: &State, forced_to: Option<u64>) -> Block {
        let mut block = genesis.block();
        block.header.height = state.height.next();
        block.header.parent = state.block;
        block.header.proposer = ValidatorId(VALIDATOR);
        block.header.forced_to = forced_to;
        block
    }

    #[test]
    fn the_forced_cursor_follows_from_headers_and_never_goes_back() {
        let genesis = genesis();
        let mut state = genesis.state();
        for (forced_to, cursor, taken) in [(None, 0, 0), (Some(3), 3, 3), (Some(4), 4, 1), (None, 4, 0)] {
            let block = block(&genesis, &state, forced_to);
            state.apply(&block, block.id(), genesis.committee()).unwrap();
            assert_eq!((state.forced_cursor, state.forced_taken), (cursor, taken));
        }
        for given in [0, 3, 4] {
            let (block, before) = (block(&genesis, &state, Some(given)), state.clone());
            let result = state.apply(&block, block.id(), genesis.committee());
            assert_eq!(result, Err(ApplyError::Forced { given, cursor: 4 }));
            assert_eq!(state, before);
        }
    }

    #[test]
    fn the_root_commits_to_the_cursor_and_not_to_how_it_came_there() {
        let mut state = genesis().state();
        let before = state.root();
        state.forced_taken = 7;
        assert_eq!(state.root(), before);
        state.forced_cursor = 7;
        assert_ne!(state.root(), before);
    }
}
