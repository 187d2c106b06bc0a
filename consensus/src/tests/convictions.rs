//! Who signs two things for one place is convicted by whoever hears both, however late and whoever is still there.

use std::time::Duration;

use alloy_primitives::B256;
use fusion_types::{BlockId, Round, VoteKind};

use super::cluster::Cluster;
use crate::{Evidence, Message, Recipient};

#[test]
fn what_came_early_convicts_a_signer_who_is_gone_when_the_height_begins() {
    let mut cluster = Cluster::new(14, 4, 0);
    cluster.byzantine = Some(3);
    let to = Recipient::Peer(crate::PeerId(cluster.committee.validators()[0].peer));
    let vote = |cluster: &Cluster, byte| {
        let block = BlockId(B256::repeat_byte(byte));
        Message::Vote(cluster.sign_vote(3, 1, VoteKind::Precommit, Some(block)))
    };
    // Two of four are no quorum: node 0 listens and begins nothing.
    cluster.start(0);
    cluster.start(3);
    cluster.send(3, to, &vote(&cluster, 1));
    cluster.run_for(50);
    cluster.stop(3);
    cluster.start(1);
    cluster.start(2);
    cluster.run_to_height(1, 5_000);
    cluster.send(1, to, &vote(&cluster, 2));
    cluster.run_for(50);
    let culprit = cluster.committee.validators()[3].id;
    assert!(matches!(cluster.nodes[0].evidence[..], [Evidence::Votes(..)]));
    assert_eq!(cluster.nodes[0].evidence[0].validator(), culprit);
}

#[test]
fn who_contradicts_itself_after_the_decision_is_convicted_too() {
    let mut cluster = Cluster::new(14, 4, 0);
    cluster.byzantine = Some(3);
    cluster.filter = Box::new(|_, to, message| to != 3 || !matches!(message, Message::Evidence(_)));
    cluster.start_all();
    cluster.stop(3);
    let to = Recipient::Peer(crate::PeerId(cluster.committee.validators()[0].peer));
    cluster.run_to_height(1, 5_000);
    for byte in [1, 2] {
        let block = BlockId(B256::repeat_byte(byte));
        let vote = cluster.sign_vote(3, 1, VoteKind::Precommit, Some(block));
        cluster.send(1, to, &Message::Vote(vote));
    }
    cluster.run_for(50);
    assert!(matches!(cluster.nodes[0].evidence[..], [Evidence::Votes(..)]));
    cluster.start(3);
    let end = cluster.now + Duration::from_secs(60);
    let round = |cluster: &Cluster| cluster.decided.values().last().map(|(_, round)| *round);
    cluster.run_until(end, |cluster| {
        round(cluster) == Some(Round(0)) && cluster.height(0) % 4 == 3
    });
    let height = cluster.height(0);
    let block = BlockId(B256::repeat_byte(3));
    let proposal = cluster.sign_proposal(3, height, block);
    cluster.send(1, to, &Message::Proposal(proposal));
    cluster.run_for(50);
    assert!(matches!(cluster.nodes[0].evidence[..], [_, Evidence::Proposals(..)]));
}

#[test]
fn an_equivocator_is_convicted_by_its_own_signatures() {
    let mut cluster = Cluster::new(14, 4, 0);
    cluster.byzantine = Some(3);
    cluster.start_all();
    for height in 1..20 {
        for (to, byte) in [(0, 1), (1, 2), (2, 1), (2, 2)] {
            let block = BlockId(B256::repeat_byte(byte));
            let vote = cluster.sign_vote(3, height, VoteKind::Prevote, Some(block));
            let to = crate::PeerId(cluster.committee.validators()[to].peer);
            cluster.send(3, Recipient::Peer(to), &Message::Vote(vote));
        }
        cluster.run_to_height(height, 5_000);
    }
    let culprit = cluster.committee.validators()[3].id;
    for node in 0..3 {
        let evidence = &cluster.nodes[node].evidence;
        assert!(evidence.iter().all(|evidence| evidence.validator() == culprit));
    }
    assert!(matches!(cluster.nodes[2].evidence[0], Evidence::Votes(..)));
    // Only node 2 saw both faces of most heights; it told the others, and they remember.
    cluster.run_for(50);
    let known = |cluster: &Cluster, node| cluster.engine(node).evidence().count();
    for node in [0, 1, 2] {
        let kept = known(&cluster, node);
        assert!(kept >= 16, "node {node} has {kept} pairs");
        cluster.stop(node);
        cluster.start(node);
        assert_eq!(known(&cluster, node), kept);
    }
}
