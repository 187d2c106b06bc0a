//! What no peer can do to a node: wrong, strange, slow and banned ones.

use super::*;

#[tokio::test]
async fn an_oversize_frame_ends_the_connection_as_a_fault() {
    let (mut low, mut high) = connected_pair().await;
    let session = low.network.mesh.session(high.id()).unwrap();
    let mut stream = session.link().open(Class::Bodies).await.unwrap();
    let limit = Class::Bodies.frame_bytes_max(true).unwrap();
    let promised = u32::try_from(limit + 1).unwrap().to_be_bytes();
    stream.write(&mut [Bytes::copy_from_slice(&promised)]).await.unwrap();
    let fault = Fault::Oversize {
        class: Class::Bodies,
        bytes: limit + 1,
        limit,
    };
    assert_eq!(high.disconnected().await, (low.id(), Cause::Fault(fault)));
    assert_eq!(low.disconnected().await, (high.id(), Cause::ByPeer(CloseCode::Fault)));
    assert_eq!(high.network.counters().faults, 1);
    assert_eq!(high.connected().await, (low.id(), true), "a fault alone is no ban");
}

#[tokio::test]
async fn a_second_stream_of_a_class_ends_the_connection_as_a_fault() {
    let (low, mut high) = connected_pair().await;
    let session = low.network.mesh.session(high.id()).unwrap();
    let _first = session.link().open(Class::Sync).await.unwrap();
    let _second = session.link().open(Class::Sync).await.unwrap();
    let fault = Cause::Fault(Fault::Repeated(Class::Sync));
    assert_eq!(high.disconnected().await, (low.id(), fault));
}

#[tokio::test]
async fn frames_that_a_peer_would_refuse_are_not_sent() {
    let (low, high) = connected_pair().await;
    let oversize = frame(0, Class::Votes.frame_bytes_max(true).unwrap() + 1);
    assert!(!low.network.send(high.id(), Class::Votes, oversize.clone()));
    assert!(!low.network.send(high.id(), Class::Votes, Bytes::new()));
    low.network.broadcast(Class::Votes, &oversize);
    assert_eq!(low.network.counters().frames_unsendable, 3);
    assert!(low.is_connected(high.id()));
}

#[tokio::test]
async fn a_node_of_another_network_is_refused() {
    let mut configs = committee(&keys(2));
    configs[1].network = NetworkId(B256::repeat_byte(0x22));
    let nodes: Vec<Node> = configs.into_iter().map(Node::start).collect();
    eventually("the handshake fails at both ends", || {
        nodes[0].network.counters().dials_failed >= 2 && nodes[1].network.counters().handshakes_failed >= 2
    })
    .await;
    assert!(nodes.iter().all(|node| node.network.peers().is_empty()));
}

#[tokio::test]
async fn a_node_that_answers_with_another_key_is_not_connected() {
    let keys = keys(3);
    let mut configs = committee(&keys);
    // Where the second validator should be, the third answers.
    let [second, third] = [1, 2].map(|index| configs[index].listen);
    configs[2].listen = second;
    assert_ne!(second, third);
    let low = Node::start(configs.remove(0));
    let third = Node::start(configs.remove(1));
    eventually("dialing the second validator fails", || {
        low.network.counters().dials_failed >= 2 && third.network.counters().handshakes_failed >= 1
    })
    .await;
    assert!(!low.is_connected(PeerId::of(&keys[1])));
}

#[tokio::test]
async fn an_impostor_is_a_follower_and_cannot_vote() {
    let keys = keys(3);
    let mut configs = committee(&keys[..2]);
    // It counts itself in; nobody else does.
    let mut impostor = follower(&keys[2], &configs[0]);
    impostor.validators.push(ValidatorAddress {
        peer: PeerId::of(&keys[2]),
        address: None,
    });
    impostor.timing.grace = Duration::ZERO;
    let mut member = Node::start(configs.remove(0));
    let mut impostor = Node::start(impostor);
    assert_eq!(member.connected().await, (impostor.id(), false));
    impostor.connected().await;
    member.network.broadcast(Class::Votes, &frame(1, 100));
    impostor.network.send(member.id(), Class::Votes, frame(2, 100));
    let fault = Cause::Fault(Fault::Forbidden(Class::Votes));
    assert_eq!(member.disconnected().await, (impostor.id(), fault));
}

#[tokio::test]
async fn followers_sync_and_forward_and_hear_statuses() {
    let keys = keys(3);
    let configs = committee(&keys[..2]);
    let mut follower = Node::start(follower(&keys[2], &configs[0]));
    let mut members: Vec<Node> = configs.into_iter().map(Node::start).collect();
    for _ in 0..2 {
        assert!(follower.connected().await.1, "it dials every validator");
    }
    for member in &mut members {
        while !member.is_connected(follower.id()) {
            member.connected().await;
        }
        assert!(follower.network.send(member.id(), Class::Sync, frame(1, 40)));
        assert!(follower.network.send(member.id(), Class::Transactions, frame(2, 40)));
        let mut classes = BTreeSet::new();
        for _ in 0..2 {
            classes.insert(member.bulk_frame().await.1);
        }
        assert_eq!(classes, BTreeSet::from([Class::Sync, Class::Transactions]));
        assert!(member.network.send(follower.id(), Class::Sync, frame(3, 1_000_000)));
        assert_eq!(follower.bulk_frame().await.2.len(), 1_000_000);
        assert!(member.network.send(follower.id(), Class::Votes, frame(4, 40)));
        assert_eq!(follower.frame().await.0, member.id());
        assert!(
            !follower.network.send(member.id(), Class::Votes, frame(5, 40)),
            "it has no vote"
        );
    }
}

#[tokio::test]
async fn followers_are_limited_and_never_take_a_validators_place() {
    let keys = keys(6);
    let mut configs = committee(&keys[..2]);
    configs[0].limits.followers_max = 2;
    let second = configs.remove(1);
    let followers: Vec<NetworkConfig> = keys[2..].iter().map(|key| follower(key, &configs[0])).collect();
    let mut member = Node::start(configs.remove(0));
    let followers: Vec<Node> = followers.into_iter().map(Node::start).collect();
    for _ in 0..2 {
        assert!(!member.connected().await.1);
    }
    eventually("the other two are turned away", || {
        member.network.counters().peers_refused >= 2
    })
    .await;
    assert_eq!(member.network.peers().len(), 2);
    let second = Node::start(second);
    assert_eq!(member.connected().await, (second.id(), true));
    assert_eq!(member.network.peers().len(), 3);
    assert_eq!(
        followers
            .iter()
            .filter(|follower| follower.is_connected(member.id()))
            .count(),
        2
    );
}

#[tokio::test]
async fn a_slow_reader_is_cut_off_and_does_not_slow_the_others() {
    let keys = keys(3);
    let mut configs = committee(&keys);
    configs[0].timing.settled = PATIENCE;
    let mut sender = Node::start(configs[0].clone());
    let mut reader = Node::start(configs[1].clone());
    // It takes its own two connections, and then nothing more.
    let slow = Node::with_capacity(configs[2].clone(), 2);
    for _ in 0..2 {
        sender.connected().await;
    }
    let body = Bytes::from(vec![7; 4_000_000]);
    let mut sent = 0;
    while sender.network.counters().behind == 0 {
        sender.network.broadcast(Class::Bodies, &body);
        sent += 1;
        assert!(
            sent < 200,
            "the slow peer is cut off after its windows and its queue are full"
        );
        let (from, class, received) = reader.frame().await;
        assert_eq!((from, class, received.len()), (sender.id(), Class::Bodies, body.len()));
    }
    let (peer, cause) = sender.disconnected().await;
    assert_eq!((peer, cause), (slow.id(), Cause::Here(CloseCode::Behind)));
    assert!(sender.is_connected(reader.id()));
}

#[tokio::test]
async fn votes_pass_a_node_that_takes_no_transactions() {
    let keys = keys(2);
    let mut configs = committee(&keys);
    let mut low = Node::start(configs.remove(0));
    let mut high = Node::with_capacity(configs.remove(0), 4);
    low.connected().await;
    high.connected().await;
    // More than its inbox, its budget, its window and our queue hold together.
    while low.network.counters().classes[Class::Transactions.index()].dropped == 0 {
        low.network.send(high.id(), Class::Transactions, frame(0, 1_000_000));
        tokio::task::yield_now().await;
    }
    for index in 0..100 {
        low.network.send(high.id(), Class::Votes, frame(index, 200));
        let (_, class, received) = high.frame().await;
        assert_eq!((class, index_of(&received)), (Class::Votes, index));
    }
}

#[tokio::test]
async fn a_peer_has_no_more_in_the_inbox_than_its_budget() {
    let (low, mut high) = connected_pair().await;
    for index in 0..6 {
        low.network.send(high.id(), Class::Bodies, frame(index, 4_000_000));
    }
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(high.event().await);
    }
    eventually("the rest waits below", || {
        high.network.counters().classes[Class::Bodies.index()].frames_in == 5
    })
    .await;
    assert!(high.ordering.try_recv().is_err(), "16 MiB are in the node's hands");
    drop(held);
    assert_eq!(index_of(&high.frame().await.2), 4);
    assert_eq!(index_of(&high.frame().await.2), 5);
}

#[tokio::test]
async fn a_banned_peer_stays_out_until_its_ban_ends() {
    let (mut low, mut high) = connected_pair().await;
    let ban = Duration::from_millis(700);
    let begin = Instant::now();
    high.network.disconnect(low.id(), "it lied", ban);
    assert_eq!(high.disconnected().await, (low.id(), Cause::Here(CloseCode::Banned)));
    assert_eq!(low.disconnected().await, (high.id(), Cause::ByPeer(CloseCode::Banned)));
    assert_eq!(high.connected().await, (low.id(), true));
    assert!(begin.elapsed() >= ban);
    assert!(high.network.counters().peers_refused >= 1, "it tried before");
}

#[tokio::test]
async fn a_follower_that_stalls_inside_a_frame_is_cut_off() {
    let keys = keys(3);
    let mut configs = committee(&keys[..2]);
    configs[0].timing.stall = Duration::from_millis(50);
    let follower = follower(&keys[2], &configs[0]);
    let mut member = Node::start(configs.remove(0));
    let mut follower = Node::start(follower);
    follower.connected().await;
    let session = follower.network.mesh.session(member.id()).unwrap();
    let mut stream = session.link().open(Class::Sync).await.unwrap();
    stream.write(&mut [Bytes::from_static(&[0, 0, 1, 0, 7])]).await.unwrap();
    let fault = Fault::Stalled {
        class: Class::Sync,
        after: Duration::from_millis(50),
    };
    assert_eq!(member.disconnected().await, (follower.id(), Cause::Fault(fault)));
}
