//! What the engine promises, on whole networks.

use std::time::Duration;

use alloy_primitives::B256;
use fusion_types::{BlockId, Height, Rotation, Round, VoteKind};

use super::cluster::Cluster;
use crate::{CommitteeSchedule, Fault, Message, Recipient, SyncFault};

#[test]
fn four_nodes_decide() {
    let mut cluster = Cluster::new(1, 4, 0);
    cluster.start_all();
    cluster.run_to_height(50, 5_000);
    assert!(cluster.decided.values().all(|(_, round)| round.0 == 0));
}

#[test]
fn a_network_of_one_decides() {
    let mut cluster = Cluster::new(1, 1, 0);
    cluster.start_all();
    cluster.run_to_height(20, 1_000);
}

#[test]
fn thirteen_nodes_decide_over_a_slow_network() {
    let mut cluster = Cluster::new(1, 13, 0);
    cluster.latency_ms = (40, 40);
    cluster.start_all();
    cluster.run_to_height(10, 5_000);
}

#[test]
fn with_one_node_dead_the_others_go_on_and_bench_it() {
    let mut cluster = Cluster::new(2, 4, 0);
    cluster.start_all();
    cluster.stop(3);
    cluster.run_to_height(40, 6_000);
    let late = cluster.decided.values().filter(|(_, round)| round.0 > 0).count();
    assert!(late <= 2, "the dead node is waited for {late} times in 40 heights");
}

#[test]
fn two_of_four_decide_nothing() {
    let mut cluster = Cluster::new(3, 4, 0);
    cluster.start_all();
    cluster.stop(0);
    cluster.stop(1);
    cluster.run_for(60_000);
    let top = cluster.height(2).max(cluster.height(3));
    assert!(top <= 1, "two of four decided up to {top}");
}

#[test]
fn without_work_a_block_comes_once_in_an_idle_interval_and_no_round_is_wasted() {
    let mut cluster = Cluster::new(4, 4, 0);
    cluster.work = false;
    cluster.pace = Duration::from_secs(1);
    cluster.start_all();
    cluster.run_for(20_500);
    let height = cluster.height(0);
    assert!((18..=20).contains(&height), "{height} blocks in 20 idle seconds");
    assert!(cluster.decided.values().all(|(_, round)| round.0 == 0));
}

#[test]
fn a_node_that_was_away_catches_up_and_votes_again() {
    let mut cluster = Cluster::new(5, 4, 0);
    cluster.start_all();
    cluster.stop(2);
    cluster.run_to_height(300, 20_000);
    cluster.start(2);
    cluster.run_to_height(330, 2_000);
    assert!(cluster.engine(2).is_voting());
    // It takes part: without it and another one nothing would be decided.
    cluster.stop(0);
    let height = cluster.height(1);
    cluster.run_to_height(height + 20, 5_000);
}

#[test]
fn a_node_restored_from_an_old_copy_signs_nothing_up_to_the_height_of_the_others() {
    for lag in 1..4 {
        let mut cluster = Cluster::new(lag, 4, 0);
        // A second passes between blocks: whoever is stopped right after one has not signed for the next.
        (cluster.work, cluster.pace) = (false, Duration::from_secs(1));
        cluster.start_all();
        cluster.run_to_height(5, 10_000);
        let copy = cluster.nodes[3].disk.clone();
        cluster.run_to_height(5 + lag, 10_000);
        cluster.stop(3);
        cluster.nodes[3].disk = copy;
        cluster.start(3);
        for _ in 0..200 {
            cluster.run_for(1);
            assert!(!cluster.engine(3).is_voting() || cluster.height(3) >= 5 + lag);
        }
        let height = cluster.height(0);
        cluster.stop(0);
        cluster.run_to_height(height + 3, 10_000);
    }
}

#[test]
fn a_follower_follows() {
    let mut cluster = Cluster::new(6, 4, 1);
    cluster.start_all();
    cluster.run_to_height(50, 5_000);
    assert!(!cluster.engine(4).is_voting());
    assert_eq!(cluster.engine(4).validator(), None);
}

#[test]
fn a_lossy_network_is_slow_but_decides() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(seed, 4, 1);
        cluster.loss = 10;
        cluster.start_all();
        cluster.run_to_height(20, 60_000);
    }
}

#[test]
fn the_first_block_after_a_partition_comes_within_two_cycles() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(seed, 4, 0);
        cluster.start_all();
        cluster.run_to_height(5, 2_000);
        cluster.filter = Box::new(|from, to, _| (from < 2) == (to < 2));
        cluster.run_for(20_000);
        let top = (0..4).map(|node| cluster.height(node)).max().unwrap();
        cluster.filter = Box::new(|_, _, _| true);
        // A cycle is a proposal's, a prevote's and a precommit's timeout: one second.
        cluster.run_to_height(top + 1, 2_000);
    }
}

/// Validators by the round of the first height that each of them proposes first.
fn by_round(cluster: &Cluster) -> [usize; 4] {
    let schedule = CommitteeSchedule::new(cluster.committee.clone());
    [0, 1, 2, 3].map(|round| {
        let proposer = schedule.proposer(Height(1), Round(round), &Rotation::default());
        cluster.committee.index_of(proposer).unwrap()
    })
}

#[test]
fn a_round_without_a_proposal_costs_its_propose_timeout_and_two_hops_of_votes() {
    let mut cluster = Cluster::new(1, 4, 0);
    cluster.latency_ms = (10, 0);
    let [first, ..] = by_round(&cluster);
    for node in (0..4).filter(|node| *node != first) {
        cluster.start(node);
    }
    // The others' tips, 500 ms, prevotes and precommits for nil, then a proposal and its votes: no wait for precommits.
    cluster.run_to_height(1, 10 + 500 + 2 * 10 + 3 * 10 + 5);
    assert_eq!(cluster.decided[&Height(1)].1, Round(1));
}

#[test]
fn a_polka_that_came_after_its_round_is_proposed_again() {
    let mut cluster = Cluster::new(1, 4, 0);
    let [builder, unaware, next, locked] = by_round(&cluster);
    // Of round 0 only one node sees the polka; round 1's proposer neither knows the block nor is heard.
    let hides = move |from: usize, to: usize, message: &Message| match message {
        Message::Proposal(_) | Message::Block(_) => from == unaware || to == unaware,
        Message::Vote(vote) if vote.kind == VoteKind::Prevote => {
            (from == builder && to == next) || (from == next && (to == builder || to == unaware))
        }
        _ => false,
    };
    cluster.filter =
        Box::new(move |from, to, message| !matches!(message, Message::Polka(_)) && !hides(from, to, message));
    cluster.start_all();
    let end = cluster.now + Duration::from_secs(5);
    cluster.run_until(end, |cluster| {
        (0..4).all(|node| cluster.engine(node).round() == Round(1))
    });
    let precommit = *cluster.engine(locked).guard().unwrap().last_vote().unwrap();
    assert_eq!((precommit.round, precommit.kind), (Round(0), VoteKind::Precommit));
    cluster.filter = Box::new(move |from, to, message| !hides(from, to, message));
    cluster.run_to_height(1, 5_000);
    assert_eq!(cluster.decided[&Height(1)], (precommit.block.unwrap(), Round(2)));
}

#[test]
fn two_validators_without_a_link_decide_through_a_third() {
    let mut cluster = Cluster::new(7, 4, 0);
    cluster.start_all();
    cluster.stop(3);
    cluster.filter = Box::new(|from, to, _| from.min(to) != 0 || from.max(to) != 1);
    cluster.run_to_height(5, 30_000);
}

#[test]
fn a_body_that_its_proposer_withholds_is_fetched_from_others() {
    let mut cluster = Cluster::new(8, 4, 0);
    // Whoever proposes never gets a body through to node 3; the others answer when it asks.
    cluster.filter = Box::new(|from, to, message| match message {
        Message::Block(block) if to == 3 => block.header().height.0 % 4 != from as u64,
        _ => true,
    });
    cluster.start_all();
    cluster.run_to_height(20, 20_000);
}

#[test]
fn a_decision_is_not_lost_when_its_proposal_and_body_never_came() {
    let mut cluster = Cluster::new(9, 4, 0);
    cluster.start_all();
    cluster.run_to_height(1, 1_000);
    cluster.filter =
        Box::new(|_, to, message| to != 3 || !matches!(message, Message::Proposal(_) | Message::Status { .. }));
    cluster.run_to_height(10, 20_000);
}

#[test]
fn a_node_that_is_restarted_goes_on_where_it_was() {
    let mut cluster = Cluster::new(10, 4, 0);
    cluster.start_all();
    for round in 0..40 {
        let node = usize::try_from(cluster.dice.below(4)).unwrap();
        cluster.run_for(37);
        cluster.stop(node);
        cluster.run_for(11 * (round % 7));
        cluster.start(node);
    }
    let top = (0..4).map(|node| cluster.height(node)).max().unwrap();
    cluster.run_to_height(top + 5, 5_000);
    assert!((0..4).all(|node| cluster.nodes[node].fatal.is_none()));
}

#[test]
fn all_nodes_restarted_at_once_decide_the_same() {
    let mut cluster = Cluster::new(11, 4, 0);
    cluster.start_all();
    for _ in 0..40 {
        cluster.run_for(23);
        (0..4).for_each(|node| cluster.stop(node));
        cluster.start_all();
    }
    let top = (0..4).map(|node| cluster.height(node)).max().unwrap();
    cluster.run_to_height(top + 5, 5_000);
}

#[test]
fn crashes_in_the_middle_of_a_flush_never_make_a_key_contradict_itself() {
    for seed in 0..25 {
        let mut cluster = Cluster::new(seed, 4, 0);
        cluster.loss = 3;
        cluster.start_all();
        for _ in 0..25 {
            let node = usize::try_from(cluster.dice.below(4)).unwrap();
            let turns = cluster.dice.below(40);
            cluster.nodes[node].crash_after = Some(turns);
            cluster.run_for(150);
            for node in 0..4 {
                if !cluster.is_up(node) {
                    cluster.start(node);
                }
            }
        }
        (0..4).for_each(|node| cluster.nodes[node].crash_after = None);
        let top = (0..4).map(|node| cluster.height(node)).max().unwrap();
        cluster.run_to_height(top + 3, 10_000);
        assert!((0..4).all(|node| cluster.nodes[node].fatal.is_none()));
    }
}

#[test]
fn a_node_that_lost_its_log_is_silent_for_one_height() {
    let mut cluster = Cluster::new(12, 4, 0);
    cluster.start_all();
    cluster.run_to_height(5, 2_000);
    cluster.run_until(cluster.now + Duration::from_secs(5), |cluster| {
        let guard = cluster.nodes[1].disk.guard.and_then(|guard| guard.height());
        guard == Some(Height(cluster.height(1) + 1))
    });
    cluster.stop(1);
    cluster.nodes[1].disk.wal.clear();
    cluster.start(1);
    let height = cluster.height(1);
    assert!(cluster.engine(1).is_quarantined() && !cluster.engine(1).is_voting());
    cluster.run_to_height(height + 1, 5_000);
    assert!(cluster.engine(1).is_voting());
    cluster.run_to_height(height + 10, 5_000);
}

#[test]
fn a_guard_far_ahead_of_the_chain_keeps_its_key_silent_until_the_chain_is_there() {
    let mut cluster = Cluster::new(13, 4, 0);
    cluster.start_all();
    cluster.run_to_height(20, 5_000);
    cluster.stop(2);
    let guard = cluster.nodes[2].disk.guard;
    // An old backup of the data, with the guard's file untouched.
    let disk = &mut cluster.nodes[2].disk;
    disk.log.truncate(5);
    disk.wal.clear();
    disk.rotation = Rotation::default();
    for decided in disk.log.clone() {
        let header = decided.block.header();
        let committee = cluster.committee.clone();
        cluster.nodes[2]
            .disk
            .rotation
            .decided(&committee, header.height, header.proposer);
    }
    cluster.start(2);
    assert!(cluster.engine(2).is_quarantined());
    let until = guard.and_then(|guard| guard.height()).unwrap().0;
    cluster.run_to_height(until + 3, 5_000);
    assert!(!cluster.engine(2).is_quarantined());
}

#[test]
fn a_peer_that_signs_badly_is_named_and_muted() {
    let mut cluster = Cluster::new(16, 4, 0);
    cluster.start_all();
    let to = crate::PeerId(cluster.committee.validators()[0].peer);
    for height in 1..=5 {
        let mut vote = cluster.sign_vote(1, height, VoteKind::Precommit, None);
        vote.signature.0[3] ^= 1;
        vote.round.0 = 2;
        cluster.send(1, Recipient::Peer(to), &Message::Vote(vote));
    }
    cluster.run_for(300);
    let faults = &cluster.nodes[0].faults;
    assert_eq!(faults.as_slice(), &[(1, Fault::Signature); 3]);
}

#[test]
fn a_false_tip_costs_nothing_but_the_liar() {
    let mut cluster = Cluster::new(17, 4, 0);
    cluster.start_all();
    let tip = Message::Status {
        tip: Height(u64::MAX),
        tip_id: BlockId(B256::ZERO),
    };
    for to in 0..3 {
        let to = crate::PeerId(cluster.committee.validators()[to].peer);
        cluster.send(3, Recipient::Peer(to), &tip);
    }
    cluster.run_to_height(30, 8_000);
    let faults: Vec<_> = (0..3).flat_map(|node| cluster.nodes[node].faults.clone()).collect();
    assert!(!faults.is_empty());
    assert!(
        faults
            .iter()
            .all(|(peer, fault)| *peer == 3 && matches!(fault, Fault::Sync(_))),
        "{faults:?}"
    );
}

#[test]
fn a_lying_server_is_dropped_and_another_one_asked() {
    let mut cluster = Cluster::new(18, 4, 1);
    for node in 0..4 {
        cluster.start(node);
    }
    cluster.run_to_height(200, 10_000);
    // Node 1's answers lose a signature each on their way.
    cluster.tamper = Some(1);
    cluster.start(4);
    cluster.run_to_height(220, 3_000);
    let faults = &cluster.nodes[4].faults;
    assert!(faults.contains(&(1, Fault::Sync(SyncFault::Certificate))), "{faults:?}");
    assert!(faults.iter().all(|(peer, _)| *peer == 1), "{faults:?}");
}

#[test]
fn a_server_that_does_not_answer_is_passed_over() {
    let mut cluster = Cluster::new(19, 4, 1);
    for node in 0..4 {
        cluster.start(node);
    }
    cluster.run_to_height(300, 10_000);
    cluster.filter = Box::new(|from, _, message| from == 0 || !matches!(message, Message::SyncResponse { .. }));
    cluster.start(4);
    cluster.run_to_height(301, 15_000);
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let mut cluster = Cluster::new(seed, 4, 0);
        cluster.loss = 10;
        cluster.start_all();
        cluster.run_for(5_000);
        cluster.decided
    };
    assert_eq!(history(20), history(20));
    assert_ne!(history(20), history(21));
}

#[test]
fn a_long_way_behind_is_caught_up_in_a_moment() {
    let mut cluster = Cluster::new(21, 4, 1);
    for node in 0..4 {
        cluster.start(node);
    }
    cluster.run_to_height(600, 60_000);
    // The chain stands still: what is missing can only come from the past.
    (0..3).for_each(|node| cluster.stop(node));
    cluster.start(4);
    cluster.start(0);
    cluster.run_to_height(600, 500);
}

#[test]
fn a_two_faced_validator_forks_nothing_halts_nothing_and_is_convicted() {
    let mut convictions = 0;
    for seed in 0..15 {
        let mut cluster = Cluster::new(seed, 4, 1);
        let traitor = usize::try_from(seed % 4).unwrap();
        cluster.byzantine = Some(traitor);
        cluster.two_faced = true;
        cluster.loss = 2;
        cluster.start_all();
        for _ in 0..6 {
            let victim = usize::try_from(cluster.dice.below(4)).unwrap();
            let turns = cluster.dice.below(60);
            cluster.nodes[victim].crash_after = (victim != traitor).then_some(turns);
            cluster.run_for(700);
            for node in 0..4 {
                if !cluster.is_up(node) && cluster.nodes[node].fatal.is_none() {
                    cluster.start(node);
                }
            }
        }
        (0..4).for_each(|node| cluster.nodes[node].crash_after = None);
        let honest: Vec<_> = (0..4).filter(|node| *node != traitor).collect();
        let top = honest.iter().map(|node| cluster.height(*node)).max().unwrap();
        let end = cluster.now + Duration::from_secs(20);
        cluster.run_until(end, |cluster| {
            honest.iter().all(|node| cluster.height(*node) >= top + 3)
        });
        assert!(
            honest.iter().all(|node| cluster.height(*node) >= top + 3),
            "seed {seed} stands still at {top}"
        );
        let culprit = cluster.committee.validators()[traitor].id;
        let evidence: Vec<_> = honest.iter().flat_map(|node| &cluster.nodes[*node].evidence).collect();
        assert!(evidence.iter().all(|evidence| evidence.validator() == culprit));
        convictions += usize::from(!evidence.is_empty());
    }
    // In a few networks its contradictions never meet in one honest node.
    assert!(convictions > 10, "{convictions}");
}

#[test]
fn a_node_that_loses_its_log_at_every_crash_never_contradicts_itself() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(seed, 4, 0);
        cluster.loss = 2;
        cluster.start_all();
        for _ in 0..20 {
            let turns = cluster.dice.below(50);
            cluster.nodes[1].crash_after = Some(turns);
            cluster.run_for(120);
            if !cluster.is_up(1) {
                cluster.nodes[1].disk.wal.clear();
                cluster.nodes[1].disk.wal_readable = cluster.dice.chance(50);
                cluster.start(1);
            }
        }
        cluster.nodes[1].crash_after = None;
        let top = (0..4).map(|node| cluster.height(node)).max().unwrap();
        // A lost answer of sync costs seconds.
        cluster.run_to_height(top + 3, 10_000);
        assert_eq!(cluster.nodes[1].fatal, None);
    }
}

#[test]
fn a_distant_node_keeps_up_and_carries_the_network_when_it_is_needed() {
    let mut cluster = Cluster::new(22, 4, 0);
    cluster.remote = Some((3, 80));
    cluster.start_all();
    cluster.run_for(5_000);
    // Three turns of 20 ms and its own of 180 make about 80 heights.
    let (top, distant) = (cluster.height(0), cluster.height(3));
    assert!(top > 60, "the others are at {top}");
    assert!(top - distant < 10, "the distant node is at {distant} of {top}");
    cluster.stop(0);
    let height = cluster.height(1);
    cluster.run_to_height(height + 10, 8_000);
}
