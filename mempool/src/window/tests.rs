//! The window against a plain model, upwards and downwards.

use fusion_types::limits::{BLOCK_TRANSACTIONS_MAX, DEDUP_TRANSACTIONS_MAX};
use fusion_types::{State, transaction_hash};
use proptest::prelude::*;

use super::*;
use crate::fixture::{FCFS, Node, OPAQUE, evm, numbered};

/// Blocks with the given numbers of opaque transactions, and the state after each.
fn chain(counts: &[u64]) -> Vec<(SealedBlock, State)> {
    let (mut node, mut n) = (Node::with_default_limits(), 0);
    let mut blocks = Vec::new();
    for (height, count) in counts.iter().enumerate() {
        for _ in 0..*count {
            node.insert(numbered(OPAQUE, n, 8)).unwrap();
            n += 1;
        }
        if height % 3 == 0 {
            node.insert(evm(FCFS, 1, height as u64 / 3, 1)).unwrap();
        }
        blocks.push((node.decide(), node.state.clone()));
    }
    blocks
}

fn hash(n: u64) -> TxHash {
    numbered(OPAQUE, n, 8).hash
}

/// The streams of a window that it knows something of; every hash of them is found at its place.
fn known(window: &Window) -> Vec<(RollupId, StreamWindow)> {
    let known = window.streams.iter().filter(|(_, stream)| !stream.hashes.is_empty());
    let known = known.inspect(|(_, stream)| {
        for (sequence, hash) in (stream.first_sequence..).zip(&stream.hashes) {
            assert_eq!(stream.sequence_of(hash), Some(sequence));
        }
    });
    known.map(|(rollup, stream)| (*rollup, stream.clone())).collect()
}

#[test]
fn a_decided_transaction_is_found_at_its_sequence_in_its_stream_only() {
    let mut window = Window::default();
    for (block, _) in chain(&[3, 0, 2]) {
        window.advance(&block);
    }
    assert_eq!(window.sequence_of(OPAQUE, &hash(4)), Some(4));
    assert_eq!(window.sequence_of(FCFS, &hash(4)), None);
    assert_eq!(window.sequence_of(OPAQUE, &hash(5)), None);
    assert_eq!(window.height(), Some(Height(3)));
}

#[test]
fn a_stream_forgets_all_but_its_last_transactions() {
    let mut stream = StreamWindow::default();
    let per_lane = BLOCK_TRANSACTIONS_MAX as u64;
    let hash = |n: u64| transaction_hash(&n.to_be_bytes());
    for height in 0..3 {
        let hashes: Vec<TxHash> = (height * per_lane..(height + 1) * per_lane).map(hash).collect();
        stream.push(Height(height + 1), height * per_lane, &hashes);
    }
    assert_eq!(stream.hashes.len(), DEDUP_TRANSACTIONS_MAX);
    let oldest = 3 * per_lane - DEDUP_TRANSACTIONS_MAX as u64;
    assert_eq!(stream.sequence_of(&hash(oldest)), Some(oldest));
    assert_eq!(stream.sequence_of(&hash(oldest - 1)), None);
    assert_eq!(stream.lanes.len(), 2);
}

#[test]
fn a_stream_forgets_what_is_too_many_heights_below_the_tip() {
    let mut stream = StreamWindow::default();
    stream.push(Height(1), 0, &[hash(0), hash(1)]);
    stream.push(Height(2), 2, &[hash(2)]);
    stream.forget(Height(DEDUP_HEIGHTS_MAX));
    assert_eq!(stream.sequence_of(&hash(1)), Some(1));
    stream.forget(Height(DEDUP_HEIGHTS_MAX + 1));
    assert_eq!(stream.sequence_of(&hash(1)), None);
    assert_eq!(stream.sequence_of(&hash(2)), Some(2));
    stream.forget(Height(DEDUP_HEIGHTS_MAX + 2));
    assert!(stream.hashes.is_empty() && stream.lanes.is_empty());
}

#[test]
#[should_panic(expected = "block by block")]
fn a_skipped_block_is_noticed() {
    let blocks = chain(&[1, 1, 1]);
    let mut window = Window::default();
    window.advance(&blocks[0].0);
    window.advance(&blocks[2].0);
}

#[test]
fn restoring_asks_for_no_more_blocks_than_matter() {
    let blocks = chain(&[1, 1, 1, 0]);
    let tip = &blocks[3].1;
    let mut window = Window::default();
    let fed = blocks
        .iter()
        .rev()
        .take_while(|(block, _)| window.extend_down(&LaneHashes::from(block), tip))
        .count();
    assert_eq!(fed, 3, "down to the first block");
    // A window that was full before the first block needs nothing below.
    let mut tip = tip.clone();
    tip.streams.retain(|rollup, _| *rollup == OPAQUE);
    let mut window = Window::default();
    let stops = blocks
        .iter()
        .rev()
        .position(|(block, _)| !window.extend_down(&LaneHashes::from(block), &tip));
    assert_eq!(stops, Some(3));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_restored_window_equals_the_one_that_was_fed_as_blocks_were_decided(
        counts in proptest::collection::vec(0..5_u64, 1..12), more in 0..4_usize,
    ) {
        let blocks = chain(&counts);
        let decided = blocks.len().saturating_sub(more).max(1);
        let mut upwards = Window::default();
        for (block, _) in &blocks {
            upwards.advance(block);
        }
        let mut restored = Window::default();
        let tip = &blocks[decided - 1].1;
        for (block, _) in blocks[..decided].iter().rev() {
            if !restored.extend_down(&LaneHashes::from(block), tip) {
                break;
            }
        }
        for (block, _) in &blocks[decided..] {
            restored.advance(block);
        }
        prop_assert_eq!(known(&restored), known(&upwards));
    }
}
