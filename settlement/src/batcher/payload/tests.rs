//! What an attacker posts: segments of his own making, under leaves that fit them.

use alloy_primitives::Bytes;
use fusion_types::L1Origin;
use proptest::prelude::*;

use super::*;

#[path = "../../../../types/tests/properties/sample.rs"]
mod sample;
use sample::{Network, payloads};

/// A block's row: proposer, time, L1 origins, forced transactions.
type Row = (u32, u64, usize, u32);

/// A lane: height, and its payloads.
type RawLane = (u64, Vec<Vec<u8>>);

fn lanes() -> impl Strategy<Value = Vec<RawLane>> {
    let payload = proptest::collection::vec(any::<u8>(), 0..4);
    proptest::collection::vec((0_u64..5, proptest::collection::vec(payload, 0..3)), 0..4)
}

/// A payload of these rows and lanes whose leaves say what is in it.
fn payload(network: &Network, rows: &[Row], streams: &BTreeMap<u64, Vec<RawLane>>) -> Payload {
    let origin = L1Origin {
        number: 1,
        hash: B256::repeat_byte(1),
    };
    let rows: Vec<SegmentBlock> = rows
        .iter()
        .map(|(proposer, time_ms, origins, forced)| SegmentBlock {
            proposer: *proposer,
            time_ms: *time_ms,
            l1_origin: vec![origin; *origins],
            forced: *forced,
        })
        .collect();
    let mut segments = vec![segment::pack(&rows)];
    let mut contents = vec![(BLOCKS, Content::of_blocks(Height(1), &[]))];
    for (rollup, lanes) in streams {
        let lanes: Vec<SegmentLane> = lanes
            .iter()
            .map(|(height, payloads)| SegmentLane {
                height: Height(*height),
                transactions: payloads.iter().cloned().map(Bytes::from).collect(),
            })
            .collect();
        let hashes: Vec<Vec<TxHash>> = lanes
            .iter()
            .map(|lane| {
                lane.transactions
                    .iter()
                    .map(|payload| transaction_hash(payload))
                    .collect()
            })
            .collect();
        let rollup = RollupId(*rollup);
        let before = network.state.streams.get(&rollup).copied();
        let before = before.unwrap_or(StreamHead {
            next_sequence: 0,
            head: B256::ZERO,
        });
        let heights = lanes.iter().map(|lane| lane.height);
        contents.push((rollup, Content::of_lanes(rollup, before, heights.zip(&hashes))));
        segments.push(segment::pack(&lanes));
    }
    let mut offset = HEAD_BYTES + segments.len() * INDEX_ENTRY_BYTES;
    let entries = contents.iter().zip(&segments).map(|((rollup, content), segment)| {
        let entry = Entry {
            rollup: *rollup,
            offset,
            length: segment.len(),
            leaf: content.namespace(*rollup).leaf(),
        };
        offset += segment.len();
        entry
    });
    let mut entries: Vec<Entry> = entries.collect();
    let blocks = entries.remove(0);
    Payload::assemble(blocks, entries, &segments)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_taken_is_what_honest_members_would_post(
        rows in proptest::collection::vec((0_u32..6, 0_u64..10, 0_usize..3, 0_u32..34), 0..5),
        streams in proptest::collection::btree_map(prop_oneof![Just(7_u64), Just(901), Just(903)], lanes(), 0..3),
    ) {
        let mut network = Network::new(&[1, 1, 1, 1]);
        network.decide(&[(901, payloads("before the batch", 2))]);
        let (id, committee) = (network.genesis.network(), network.genesis.committee());
        let posted = payload(&network, &rows, &streams);
        let mut read = Payload::parse(posted.bytes().to_vec()).unwrap();
        // Who knows the rules knows the blocks' leaf too.
        if let Err(PayloadError::Leaf(BLOCKS)) = read.blocks(id, &network.state, committee) {
            let mut bytes = posted.bytes().to_vec();
            let leaf = HEAD_BYTES + INDEX_ENTRY_BYTES - 32;
            bytes[leaf..leaf + 32].copy_from_slice(blocks_leaf(&read, &network).as_slice());
            read = Payload::parse(bytes).unwrap();
        }
        for rollup in [7, 901, 903].map(RollupId) {
            let before = network.state.streams.get(&rollup).copied();
            let part = before.map(|before| read.stream(rollup, before));
            prop_assert!(!matches!(part, Some(Ok(Some(part))) if part.lanes.is_empty()));
        }
        if let Ok((blocks, after)) = read.blocks(id, &network.state, committee) {
            let blocks: Vec<_> = blocks.into_iter().map(Arc::new).collect();
            let again = Payload::of(&blocks, &network.state, committee);
            prop_assert_eq!(again.blocks(id, &network.state, committee).map(|(_, state)| state), Ok(after));
            prop_assert_eq!(again, read);
        }
    }
}

#[test]
fn one_content_in_another_encoding_is_the_same_batch() {
    let mut network = Network::new(&[1, 1, 1, 1]);
    let before = network.state.clone();
    let blocks: Vec<_> = (0..20)
        .map(|_| network.decide(&[(901, payloads("again and again", 5))]).block)
        .collect();
    let (id, committee) = (network.genesis.network(), network.genesis.committee());
    let packed = Payload::of(&blocks, &before, committee);
    let stored = stored(&packed);
    assert_ne!(stored.bytes(), packed.bytes());
    let stored = Payload::parse(stored.bytes).unwrap();
    assert_eq!(stored.namespaces_root(), packed.namespaces_root());
    assert_eq!(
        stored.blocks(id, &before, committee),
        packed.blocks(id, &before, committee)
    );
    let stream = before.streams[&RollupId(901)];
    assert_eq!(
        stored.stream(RollupId(901), stream),
        packed.stream(RollupId(901), stream)
    );
}

/// The same segments without compression.
fn stored(payload: &Payload) -> Payload {
    let mut entries: Vec<Entry> = std::iter::once(payload.blocks).chain(payload.streams.clone()).collect();
    let mut offset = entries[0].offset;
    let mut segments = Vec::new();
    for entry in &mut entries {
        let raw = segment::unpack(payload.segment(entry), &mut Budget::default()).unwrap();
        let length = u32::try_from(raw.len()).unwrap().to_be_bytes();
        let segment = [[0].as_slice(), &length, &raw].concat();
        (entry.offset, entry.length) = (offset, segment.len());
        offset += segment.len();
        segments.push(segment);
    }
    let blocks = entries.remove(0);
    Payload::assemble(blocks, entries, &segments)
}

/// The leaf of the blocks that a payload's segments make.
fn blocks_leaf(read: &Payload, network: &Network) -> B256 {
    let mut budget = Budget::default();
    let rows = segment::blocks(read.segment(&read.blocks), &mut budget).unwrap();
    let mut waiting: BTreeMap<RollupId, VecDeque<SegmentLane>> = BTreeMap::new();
    for entry in &read.streams {
        waiting.insert(entry.rollup, read.lanes(entry, &mut budget).unwrap().into());
    }
    let (mut state, mut ids) = (network.state.clone(), Vec::new());
    for row in rows {
        let lanes = next_lanes(&state, &mut waiting, &mut BTreeMap::new()).unwrap();
        let committee = network.genesis.committee();
        let block = block_of(row, lanes, network.genesis.network(), &state, committee).unwrap();
        state.apply(&block, block.id(), committee).unwrap();
        ids.push(block.id().0);
    }
    let content = Content::of_blocks(network.state.height.next(), &ids);
    content.namespace(BLOCKS).leaf()
}
