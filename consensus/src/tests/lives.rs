//! One key, several lives: a restored home, a process beside this one.

use std::time::Duration;

use alloy_primitives::B256;
use fusion_types::{BlockId, Height, VoteKind};

use super::cluster::Cluster;
use crate::{Fault, Message, Recipient};

#[test]
fn a_node_that_sees_its_key_used_elsewhere_stops() {
    let mut cluster = Cluster::new(15, 4, 0);
    cluster.byzantine = Some(0);
    cluster.start_all();
    let block = Some(BlockId(B256::repeat_byte(9)));
    let vote = cluster.sign_vote(0, 1, VoteKind::Prevote, block);
    let to = crate::PeerId(cluster.committee.validators()[0].peer);
    cluster.send(1, Recipient::Peer(to), &Message::Vote(vote));
    cluster.run_for(100);
    assert_eq!(cluster.nodes[0].fatal, Some(crate::FatalError::KeyInUse(Height(1))));
}

#[test]
fn a_home_restored_from_a_copy_is_silent_where_its_key_has_voted_since() {
    let mut cluster = Cluster::new(18, 4, 0);
    cluster.start_all();
    cluster.run_to_height(5, 2_000);
    let copy = cluster.nodes[2].disk.clone();
    // Height 8 gets its prevotes and no decision: nobody's tip tells of it.
    cluster.filter = Box::new(
        |_, _, message| !matches!(message, Message::Vote(vote) if vote.kind == VoteKind::Precommit && vote.height == Height(8)),
    );
    cluster.run_to_height(7, 2_000);
    cluster.run_until(cluster.now + Duration::from_secs(5), |cluster| {
        cluster.nodes[2].disk.guard.and_then(|guard| guard.height()) == Some(Height(8))
    });
    cluster.run_for(20);
    cluster.stop(2);
    cluster.nodes[2].disk = copy;
    cluster.start(2);
    cluster.run_to_height(7, 5_000);
    assert!(cluster.engine(2).is_quarantined() && !cluster.engine(2).is_voting());
    let signed = cluster.nodes[2].disk.guard.and_then(|guard| guard.height());
    assert!(signed < Some(Height(8)), "signed at height 8 again: {signed:?}");
    cluster.filter = Box::new(|_, _, _| true);
    cluster.run_to_height(10, 5_000);
    assert!(cluster.engine(2).is_voting());
}

#[test]
fn a_voting_node_stops_at_a_signature_of_its_key_that_it_did_not_make() {
    let mut cluster = Cluster::new(19, 4, 0);
    cluster.byzantine = Some(0);
    cluster.start_all();
    cluster.run_to_height(3, 2_000);
    let to = crate::PeerId(cluster.committee.validators()[0].peer);
    let vote = cluster.sign_vote(0, 100, VoteKind::Prevote, None);
    cluster.send(1, Recipient::Peer(to), &Message::Vote(vote));
    cluster.run_for(100);
    assert!(matches!(cluster.nodes[0].fatal, Some(crate::FatalError::KeyInUse(_))));
}

#[test]
fn a_forged_signature_of_its_key_stops_nobody() {
    let mut cluster = Cluster::new(20, 4, 0);
    cluster.start_all();
    cluster.run_to_height(3, 2_000);
    let to = crate::PeerId(cluster.committee.validators()[0].peer);
    let mut vote = cluster.sign_vote(0, 5, VoteKind::Prevote, None);
    vote.signature.0[3] ^= 1;
    cluster.send(1, Recipient::Peer(to), &Message::Vote(vote));
    cluster.run_to_height(10, 5_000);
    assert_eq!(cluster.nodes[0].fatal, None);
    assert_eq!(cluster.nodes[0].faults.as_slice(), &[(1, Fault::Signature)]);
}

#[test]
fn an_old_signature_that_a_new_guard_does_not_know_stops_nobody() {
    let mut cluster = Cluster::new(21, 4, 0);
    cluster.start_all();
    cluster.run_to_height(30, 5_000);
    // The guard was lost, and made again above everything signed: it knows of no proposal.
    cluster.stop(0);
    let id = cluster.committee.validators()[0].id;
    let bar = Height(cluster.height(0) + 1);
    let guard = crate::GuardState::barred_up_to(super::cluster::NETWORK, id, fusion_types::Epoch(0), bar);
    cluster.nodes[0].disk.guard = Some(guard);
    cluster.nodes[0].disk.wal.clear();
    cluster.start(0);
    cluster.run_to_height(bar.0 + 2, 5_000);
    assert!(cluster.engine(0).is_voting());
    let old = cluster.sign_proposal(0, 7, BlockId(B256::repeat_byte(3)));
    let to = crate::PeerId(cluster.committee.validators()[0].peer);
    cluster.send(1, Recipient::Peer(to), &Message::Proposal(old));
    let height = cluster.height(0);
    cluster.run_to_height(height + 5, 5_000);
    assert_eq!(cluster.nodes[0].fatal, None);
}

#[test]
fn a_home_restored_from_before_its_first_signature_follows_and_then_votes() {
    let mut cluster = Cluster::new(22, 4, 0);
    let copy = cluster.nodes[2].disk.clone();
    cluster.start_all();
    cluster.run_to_height(10, 5_000);
    cluster.stop(2);
    cluster.nodes[2].disk = copy;
    cluster.start(2);
    let height = cluster.height(0);
    cluster.run_to_height(height + 5, 5_000);
    assert_eq!(cluster.nodes[2].fatal, None);
    assert!(cluster.engine(2).is_voting());
}

#[test]
fn a_home_copied_in_the_middle_of_a_height_is_restored_like_any_other() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(seed, 4, 0);
        cluster.start_all();
        cluster.run_to_height(5, 2_000);
        cluster.run_until(cluster.now + Duration::from_secs(5), |cluster| {
            let signed = cluster.nodes[2].disk.guard.and_then(|guard| guard.height());
            signed == Some(Height(cluster.height(2) + 1))
        });
        let copy = cluster.nodes[2].disk.clone();
        assert!(!copy.wal.is_empty());
        cluster.run_to_height(20, 5_000);
        cluster.stop(2);
        let top = cluster.height(0);
        cluster.nodes[2].disk = copy;
        cluster.start(2);
        cluster.run_to_height(top + 5, 5_000);
        assert_eq!(cluster.nodes[2].fatal, None);
        assert!(cluster.engine(2).is_voting());
    }
}

/// The power went between the log and the guard, and a third node is gone: without this one nothing is decided any
/// more.
#[test]
fn a_log_ahead_of_its_guard_vouches_for_itself() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(seed, 4, 0);
        cluster.start_all();
        cluster.run_to_height(5, 2_000);
        let older = cluster.nodes[2].disk.guard;
        // Nobody hears another prevote than this node's, so that nothing follows from it.
        let id = cluster.committee.validators()[2].id;
        let others = move |message: &Message| matches!(message, Message::Vote(vote) if vote.validator != id);
        let height = Height(cluster.height(2) + 2);
        cluster.filter = Box::new(move |_, _, message| message_height(message) < Some(height) || !others(message));
        cluster.run_until(cluster.now + Duration::from_secs(5), |cluster| {
            cluster.nodes[2].disk.guard.and_then(|guard| guard.height()) == Some(height)
        });
        cluster.run_for(20);
        cluster.stop(2);
        cluster.stop(3);
        assert!(!cluster.nodes[2].disk.wal.is_empty());
        cluster.nodes[2].disk.guard = older;
        // The others' echoes come before their tips, so before this node has begun the height.
        cluster.filter = Box::new(|_, _, message| !matches!(message, Message::Status { .. }));
        cluster.start(2);
        cluster.run_for(50);
        cluster.filter = Box::new(|_, _, _| true);
        cluster.run_to_height(height.0 + 2, 10_000);
        assert_eq!(cluster.nodes[2].fatal, None);
        assert!(cluster.engine(2).is_voting(), "seed {seed}");
    }
}

fn message_height(message: &Message) -> Option<Height> {
    match message {
        Message::Vote(vote) => Some(vote.height),
        _ => None,
    }
}
