//! What a view takes in and lets go, and what it refuses to tell.

use super::*;
use crate::fixture::{FORCED_PER_BLOCK, L1Chain, Node, OPAQUE, l1_origin, numbered};

const NOW: Duration = Duration::from_secs(5);

fn payloads(count: u64) -> Vec<(RollupId, Bytes)> {
    (0..count).map(|n| (OPAQUE, numbered(OPAQUE, n, 20).payload)).collect()
}

fn view_of(node: &Node) -> L1View {
    L1View::new(*node.genesis.settlement().unwrap(), &node.state)
}

#[test]
fn blocks_come_in_one_after_the_other_and_again_and_again() {
    let (node, mut chain) = (Node::settling(), L1Chain::new());
    let mut view = view_of(&node);
    assert_eq!(view.wanted(), L1Wanted { block: 101, item: 0 });
    let (first, second, third) = (chain.mine(&payloads(2)), chain.mine(&[]), chain.mine(&payloads(1)));
    let wanted = view.wanted();
    assert_eq!(view.feed(&second, NOW), Err(L1Refused::Gap { number: 102, wanted }));
    assert_eq!(view.feed(&first, NOW), Ok(true));
    assert_eq!(view.feed(&first, NOW), Ok(false));
    assert_eq!(view.feed(&second, NOW), Ok(true));
    assert_eq!(view.feed(&first, NOW), Ok(false));
    assert_eq!(view.feed(&third, NOW), Ok(true));
    assert_eq!(view.wanted(), L1Wanted { block: 104, item: 3 });
}

#[test]
fn another_l1_is_refused() {
    let (node, mut chain) = (Node::settling(), L1Chain::new());
    let mut view = view_of(&node);
    let first = chain.mine(&payloads(1));
    let refused = |view: &mut L1View, change: &dyn Fn(&mut L1Block)| {
        let mut other = first.clone();
        change(&mut other);
        view.feed(&other, NOW).unwrap_err()
    };
    let expected = l1_origin(100).hash;
    let fork = L1Refused::Fork { number: 101, expected };
    assert_eq!(refused(&mut view, &|block| block.parent[0] ^= 1), fork);
    let queue = L1Refused::Queue(101);
    assert_eq!(refused(&mut view, &|block| block.forced[0].index = 1), queue);
    assert_eq!(refused(&mut view, &|block| block.forced[0].accumulator[0] ^= 1), queue);
    assert_eq!(
        refused(&mut view, &|block| block.forced[0].payload = Bytes::new()),
        queue
    );
    assert_eq!(refused(&mut view, &|block| block.forced_count = 0), queue);
    assert_eq!(refused(&mut view, &|block| block.forced_count = 2), queue);
    assert_eq!(view.feed(&first, NOW), Ok(true));
    let expected = first.hash;
    let fork = L1Refused::Fork { number: 101, expected };
    assert_eq!(refused(&mut view, &|block| block.hash[0] ^= 1), fork);
}

#[test]
fn a_proposer_adopts_only_what_it_has_seen_for_a_while() {
    let (node, mut chain) = (Node::settling(), L1Chain::new());
    let mut view = view_of(&node);
    for at in [1, 2, 3] {
        view.feed(&chain.mine(&[]), Duration::from_secs(at)).unwrap();
    }
    let newest = [0, 1, 2, 9].map(|at| view.newest_since(Duration::from_secs(at)).number);
    assert_eq!(newest, [100, 101, 102, 103]);
    assert_eq!(view.newest_since(NOW), l1_origin(103));
}

#[test]
fn a_node_that_starts_knows_from_the_state_that_nothing_is_left() {
    let (mut node, mut chain) = (Node::settling(), L1Chain::new());
    let block = chain.mine(&payloads(2));
    node.l1.as_mut().unwrap().feed(&block, NOW).unwrap();
    node.decide();
    assert_eq!(node.state.forced_cursor, 2);
    let view = view_of(&node);
    assert!(view.is_complete());
    assert_eq!(view.wanted(), L1Wanted { block: 102, item: 2 });
}

/// A node in the middle of a flood of `count` items in L1 block 101, of which the first block took as many as it may, and
/// the L1.
fn flooded(count: u64) -> (Node, L1Chain) {
    let (mut node, mut chain) = (Node::settling(), L1Chain::new());
    let block = chain.mine(&payloads(count));
    node.l1.as_mut().unwrap().feed(&block, NOW).unwrap();
    node.decide();
    (node, chain)
}

#[test]
fn a_node_that_starts_in_a_flood_asks_for_what_is_left_and_says_nothing_before() {
    let (node, chain) = flooded(5);
    let mut view = view_of(&node);
    assert!(!view.is_complete());
    assert_eq!(view.wanted(), L1Wanted { block: 101, item: 3 });
    assert_eq!(view.check_origin(l1_origin(101)), Err(Invalid::L1Unseen(101)));
    assert_eq!(view.feed(&chain.blocks[0], NOW), Ok(true));
    assert!(view.is_complete() && view.has_backlog());
    let due = view.due(l1_origin(101), &node.state, node.pool.window());
    assert_eq!((due.to, due.count), (5, 2));
}

#[test]
fn what_a_flood_left_below_the_origin_comes_before_the_origin() {
    let (mut node, mut chain) = (Node::settling(), L1Chain::new());
    for count in [3, 0, 2, 0] {
        let items = payloads(10).split_off(chain.blocks.len() * 3);
        let block = chain.mine(&items[..count]);
        node.l1.as_mut().unwrap().feed(&block, NOW).unwrap();
    }
    node.decide();
    assert_eq!((node.state.l1_origin, node.state.forced_cursor), (l1_origin(104), 3));
    let mut view = view_of(&node);
    let wanted = L1Wanted { block: 104, item: 3 };
    assert_eq!(view.wanted(), wanted);
    assert_eq!(
        view.feed(&chain.blocks[3], NOW),
        Err(L1Refused::Gap { number: 104, wanted })
    );
    assert_eq!(view.feed(&chain.blocks[2], NOW), Ok(true));
    assert!(!view.is_complete());
    assert_eq!(view.feed(&chain.blocks[3], NOW), Ok(true));
    assert!(view.is_complete());
    // Or, if that is there already, before the block above the origin.
    let mut view = view_of(&node);
    let next = chain.mine(&[]);
    assert!(view.feed(&next, NOW).is_err());
    view.feed(&chain.blocks[2], NOW).unwrap();
    assert_eq!(view.feed(&next, NOW), Ok(true));
    assert!(view.is_complete());
}

#[test]
fn a_view_that_is_behind_follows_the_state() {
    let (mut ahead, mut chain) = (Node::settling(), L1Chain::new());
    let mut behind = view_of(&ahead);
    for count in [1, 2, 0] {
        let block = chain.mine(&payloads(count));
        ahead.l1.as_mut().unwrap().feed(&block, NOW).unwrap();
        if chain.blocks.len() == 1 {
            behind.feed(&block, NOW).unwrap();
        }
    }
    ahead.decide();
    behind.decided(&ahead.state);
    // As many as a block takes: something may be left, which only L1 tells.
    assert!(!behind.is_complete());
    assert_eq!(behind.wanted(), L1Wanted { block: 103, item: 3 });
    assert_eq!(behind.feed(&chain.blocks[2], NOW), Ok(true));
    assert!(behind.is_complete());
    ahead.decide();
    behind.decided(&ahead.state);
    assert!(behind.is_complete());
    assert_eq!(behind.wanted(), L1Wanted { block: 104, item: 3 });
}

#[test]
fn a_view_of_another_l1_than_was_decided_begins_anew() {
    let (mut node, mut chain) = (Node::settling(), L1Chain::new());
    let mut other = view_of(&node);
    let mut forked = chain.clone().mine(&payloads(1));
    forked.hash[0] ^= 1;
    other.feed(&forked, NOW).unwrap();
    let block = chain.mine(&[]);
    node.l1.as_mut().unwrap().feed(&block, NOW).unwrap();
    node.decide();
    other.decided(&node.state);
    assert_eq!(other.sizes(), (0, 0));
    assert_eq!(other.wanted(), L1Wanted { block: 102, item: 0 });
    assert!(other.is_complete());
}

#[test]
fn a_full_view_refuses_what_is_newest_and_takes_it_later() {
    let (mut node, mut chain) = (Node::settling(), L1Chain::new());
    let count = L1_ITEMS_BYTES_MAX / (L1_ITEM_FOOTPRINT_BYTES + 400);
    let many: Vec<_> = (0..count as u64)
        .map(|n| (OPAQUE, numbered(OPAQUE, n, 400).payload))
        .collect();
    let (first, second) = (chain.mine(&many), chain.mine(&payloads(5)));
    let view = node.l1.as_mut().unwrap();
    view.feed(&first, NOW).unwrap();
    assert_eq!(view.feed(&second, NOW), Err(L1Refused::Full(102)));
    assert!(view.sizes().1 <= L1_ITEMS_BYTES_MAX);
    for _ in 0..=5 * 148 / (FORCED_PER_BLOCK as usize * 528) {
        node.decide();
    }
    assert_eq!(node.l1.as_mut().unwrap().feed(&second, NOW), Ok(true));
    for _ in chain.blocks.len()..L1_BLOCKS_MAX + 2 {
        let block = chain.mine(&[]);
        let _ = node.l1.as_mut().unwrap().feed(&block, NOW);
    }
    let view = node.l1.as_mut().unwrap();
    assert_eq!(view.sizes().0, L1_BLOCKS_MAX);
    let next = &chain.blocks[usize::try_from(view.wanted().block - 101).unwrap()];
    assert_eq!(view.feed(next, NOW), Err(L1Refused::Full(next.number)));
}
