//! Following over honest, lying, silent and dying nodes.

use alloy_primitives::{B256, Bytes};

use super::*;
use crate::fake::{Chain, FakeNode, Manners, ROLLUP};
use crate::json::{Data, Hash, RollupBlockJson};

fn quick() -> FollowOptions {
    FollowOptions {
        answer_timeout: Duration::from_millis(500),
        check_interval: Duration::from_millis(50),
        retry_min: Duration::from_millis(10),
        retry_max: Duration::from_millis(100),
    }
}

fn honest() -> Manners {
    Manners::default()
}

fn tampering(tamper: fn(&mut RollupBlockJson)) -> Manners {
    Manners {
        tamper: Some(tamper),
        ..Manners::default()
    }
}

fn follower(chain: &Chain, urls: &[&str], sequence: u64) -> Follower {
    Follower::new(urls, chain.trust(), Start::Sequence(ROLLUP, sequence), quick()).unwrap()
}

/// The next `count` blocks, and the nodes left on the way.
async fn read(follower: &mut Follower, count: usize) -> (Vec<RollupBlock>, Vec<(String, String, bool)>) {
    let (mut blocks, mut left) = (Vec::new(), Vec::new());
    while blocks.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(20), follower.next());
        match next.await.expect("the stream goes on").unwrap() {
            Event::Block { block, .. } => blocks.push(*block),
            Event::Left { url, reason, lied } => left.push((url, reason, lied)),
            Event::OtherNetwork { url, network } => left.push((url, network.to_string(), false)),
        }
        assert!(left.len() < 100, "{left:?}");
    }
    (blocks, left)
}

#[tokio::test]
async fn the_stream_comes_whole_and_goes_on_as_the_chain_grows() {
    let chain = Chain::new(12);
    let node = FakeNode::start(&chain, 7, honest()).await;
    let mut follower = follower(&chain, &[&node.url], 0);
    let (blocks, left) = read(&mut follower, chain.stream(7).len()).await;
    assert_eq!((blocks, left), (chain.stream(7), Vec::new()));
    node.tip.send(12).unwrap();
    let rest = chain.stream(12).len() - chain.stream(7).len();
    let (blocks, left) = read(&mut follower, rest).await;
    assert_eq!(blocks, chain.stream(12)[chain.stream(7).len()..]);
    assert_eq!(left, Vec::new());
}

#[tokio::test]
async fn when_its_node_dies_it_goes_on_with_another_without_gap_or_repeat() {
    let chain = Chain::new(12);
    let first = FakeNode::start(&chain, 6, honest()).await;
    let second = FakeNode::start(&chain, 12, honest()).await;
    // Without the look elsewhere: only the death of the node may cause the change.
    let options = FollowOptions {
        check_interval: Duration::from_secs(60),
        ..quick()
    };
    let urls = [&first.url, &second.url];
    let mut follower = Follower::new(&urls, chain.trust(), Start::Sequence(ROLLUP, 0), options).unwrap();
    let (mut blocks, left) = read(&mut follower, 4).await;
    assert_eq!(left, Vec::new());
    let url = first.kill().await;
    let (rest, left) = read(&mut follower, chain.stream(12).len() - 4).await;
    blocks.extend(rest);
    assert_eq!(blocks, chain.stream(12));
    assert!(left.iter().all(|(left, _, lied)| *left == url && !lied), "{left:?}");
    assert!(!left.is_empty());
}

#[tokio::test]
async fn a_node_that_hangs_is_left_and_one_that_withholds_is_noticed() {
    let chain = Chain::new(9);
    let hung = FakeNode::start(&chain, 9, Manners { hang: true, ..honest() }).await;
    let stale = FakeNode::start(&chain, 3, honest()).await;
    let good = FakeNode::start(&chain, 9, honest()).await;
    let mut follower = follower(&chain, &[&hung.url, &stale.url, &good.url], 0);
    let (blocks, left) = read(&mut follower, chain.stream(9).len()).await;
    assert_eq!(blocks, chain.stream(9));
    assert!(left.iter().any(|(url, _, lied)| *url == hung.url && !lied), "{left:?}");
    let behind = left
        .iter()
        .find(|(url, ..)| *url == stale.url)
        .expect("stale node is left");
    assert!(behind.1.contains(&good.url) && !behind.2, "{behind:?}");
}

/// Every way to lie about a block, and a word of the check that catches it.
/// What a liar does to an honest block.
type Lie = fn(&mut RollupBlockJson);

const LIES: [(&str, Lie); 9] = [
    ("signature", |block| {
        block.certificate.signatures[0].signature.0.0[5] ^= 1;
    }),
    ("voting power", |block| {
        block.certificate.signatures.pop();
    }),
    ("hash of the header", |block| block.header.time_ms += 1),
    ("expected", |block| block.header.network.0.0[0] ^= 1),
    ("transactions", |block| {
        block.transactions[0] = Data(Bytes::from_static(b"other"));
    }),
    ("transactions", |block| block.transactions.swap(0, 1)),
    ("lane_proof", |block| block.lane.transactions_root.0.0[0] ^= 1),
    ("cursor is at", |block| block.lane.first_sequence += 1),
    ("different history", |block| {
        block.lane.parent_head = Hash(B256::ZERO);
    }),
];

#[tokio::test]
async fn a_liar_is_named_with_the_check_and_never_asked_again() {
    let chain = Chain::new(9);
    for (word, tamper) in LIES {
        let liar = FakeNode::start(&chain, 9, tampering(tamper)).await;
        let good = FakeNode::start(&chain, 6, honest()).await;
        let mut follower = follower(&chain, &[&liar.url, &good.url], 0);
        let (blocks, left) = read(&mut follower, chain.stream(6).len()).await;
        assert_eq!(blocks, chain.stream(6));
        assert_eq!(left.len(), 1, "{left:?}");
        let (url, reason, lied) = &left[0];
        assert!(*url == liar.url && *lied && reason.contains(word), "{word}: {left:?}");
        // Only the liar claims to have more, and it is not believed nor asked.
        let asked = liar.requests.load(std::sync::atomic::Ordering::Relaxed);
        let more = tokio::time::timeout(Duration::from_millis(300), follower.next()).await;
        assert!(more.is_err(), "{more:?}");
        assert_eq!(liar.requests.load(std::sync::atomic::Ordering::Relaxed), asked);
    }
}

#[tokio::test]
async fn a_liar_on_the_live_stream_and_one_asked_aside_are_caught_too() {
    let chain = Chain::new(9);
    let lie: fn(&mut RollupBlockJson) = |block| {
        if block.header.height > 5 {
            block.header.state_root = Hash(B256::ZERO);
        }
    };
    let liar = FakeNode::start(&chain, 5, tampering(lie)).await;
    let other_liar = FakeNode::start(&chain, 9, tampering(lie)).await;
    let good = FakeNode::start(&chain, 5, honest()).await;
    let mut follower = follower(&chain, &[&liar.url, &other_liar.url, &good.url], 0);
    let (blocks, _) = read(&mut follower, chain.stream(5).len()).await;
    assert_eq!(blocks, chain.stream(5));
    liar.tip.send(9).unwrap();
    good.tip.send(9).unwrap();
    let (rest, left) = read(&mut follower, chain.stream(9).len() - blocks.len()).await;
    assert_eq!(rest, chain.stream(9)[blocks.len()..]);
    let liars: Vec<_> = left.iter().filter(|(.., lied)| *lied).map(|(url, ..)| url).collect();
    assert!(
        liars.contains(&&liar.url) || liars.contains(&&other_liar.url),
        "{left:?}"
    );
    assert!(!liars.contains(&&good.url), "{left:?}");
}

#[tokio::test]
async fn when_all_nodes_are_of_another_network_it_ends_with_both_networks_and_accuses_nobody() {
    let (chain, other) = (Chain::new(3), Chain::with_keys(2, 3));
    let nodes = [
        FakeNode::start(&other, 3, honest()).await,
        FakeNode::start(&other, 3, honest()).await,
    ];
    let mut follower = follower(&chain, &[&nodes[0].url, &nodes[1].url], 0);
    let (ours, network) = (chain.genesis.network(), other.genesis.network());
    for node in &nodes {
        let url = node.url.clone();
        assert_eq!(follower.next().await.unwrap(), Event::OtherNetwork { url, network });
    }
    assert_eq!(
        follower.next().await.unwrap_err().to_string(),
        format!("the genesis is of network {ours}, but every node says to be of {network}")
    );
}

#[tokio::test]
async fn one_node_that_says_to_be_of_another_network_stops_nobody() {
    let (chain, other) = (Chain::new(6), Chain::with_keys(2, 3));
    let stranger = FakeNode::start(&other, 3, honest()).await;
    let good = FakeNode::start(&chain, 6, honest()).await;
    let mut follower = follower(&chain, &[&stranger.url, &good.url], 0);
    let (blocks, left) = read(&mut follower, chain.stream(6).len()).await;
    assert_eq!(blocks, chain.stream(6));
    assert_eq!(left, [(stranger.url, other.genesis.network().to_string(), false)]);
}

#[tokio::test]
async fn a_rollup_that_the_genesis_does_not_name_is_refused_with_those_that_it_names() {
    let chain = Chain::new(1);
    let start = Start::Sequence(RollupId(7), 0);
    let refused = Follower::new(&["http://x"], chain.trust(), start, quick()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "rollup 7 is not registered; registered are 901, 903"
    );
}

#[tokio::test]
async fn it_resumes_from_the_stored_cursor_and_repeats_only_what_was_not_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let chain = Chain::new(9);
    let node = FakeNode::start(&chain, 9, honest()).await;
    let open = || {
        let file = CursorFile::new(folder.path().join("cursor"), chain.trust().network, ROLLUP);
        let from = Start::Sequence(ROLLUP, 0);
        Follower::with_file(&[&node.url], chain.trust(), from, quick(), file).unwrap()
    };
    let mut follower = open();
    let event = follower.next().await.unwrap();
    let Event::Block { cursor, .. } = event else {
        panic!("{event:?}")
    };
    follower.acknowledge(&cursor).unwrap();
    let Event::Block {
        block: unacknowledged, ..
    } = follower.next().await.unwrap()
    else {
        panic!("no block")
    };
    drop(follower);
    let (blocks, _) = read(&mut open(), chain.stream(9).len() - 1).await;
    assert_eq!(blocks, chain.stream(9)[1..]);
    assert_eq!(blocks[0], *unacknowledged);
}

#[tokio::test]
async fn it_starts_in_the_middle_of_a_lane_and_beyond_the_end() {
    let chain = Chain::new(9);
    let node = FakeNode::start(&chain, 6, honest()).await;
    let all = chain.stream(9);
    let (blocks, _) = read(&mut follower(&chain, &[&node.url], 3), 1).await;
    assert_eq!(blocks[0], all[1], "the block that holds sequence 3 begins at 2");
    let mut ahead = follower(&chain, &[&node.url], 8);
    let nothing = tokio::time::timeout(Duration::from_millis(200), ahead.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    node.tip.send(9).unwrap();
    let (blocks, _) = read(&mut ahead, 1).await;
    assert_eq!(blocks[0], all[4]);
}
