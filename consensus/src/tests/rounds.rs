//! Rounds that no committee comes to.

use alloy_primitives::B256;
use fusion_types::{BlockId, Height, Round, VoteKind};

use super::cluster::Cluster;
use crate::certificates::{Polka, RoundCertificate, RoundReason, RoundVote};
use crate::{Fault, Message, Recipient};

#[test]
fn a_round_that_no_committee_comes_to_is_refused_whoever_signed_it() {
    for round in [Round(u32::MAX), Round(u32::MAX - 1)] {
        for (reason, kind) in [
            (RoundReason::Skip, VoteKind::Prevote),
            (RoundReason::Precommits, VoteKind::Precommit),
        ] {
            let mut cluster = Cluster::new(16, 4, 0);
            cluster.byzantine = Some(3);
            cluster.start_all();
            cluster.run_to_height(1, 5_000);
            let height = cluster.height(0) + 1;
            let votes = (1..4).map(|validator| {
                let vote = cluster.sign_vote_in(validator, (height, round), kind, None);
                let signature = vote.signature;
                let validator = u32::try_from(validator).unwrap();
                RoundVote {
                    validator,
                    kind,
                    block: None,
                    signature,
                }
            });
            let certificate = RoundCertificate {
                height: Height(height),
                round,
                reason,
                votes: votes.collect(),
            };
            let to = crate::PeerId(cluster.committee.validators()[0].peer);
            cluster.send(3, Recipient::Peer(to), &Message::RoundCertificate(certificate));
            cluster.run_to_height(height + 5, 5_000);
            assert_eq!(cluster.nodes[0].faults.as_slice(), &[(3, Fault::Round)]);
        }
    }
}

#[test]
fn a_round_above_2_to_the_24_is_its_senders_fault_and_2_to_the_24_is_not() {
    let mut cluster = Cluster::new(16, 4, 0);
    cluster.byzantine = Some(3);
    cluster.start_all();
    cluster.run_to_height(1, 5_000);
    let to = Recipient::Peer(crate::PeerId(cluster.committee.validators()[0].peer));
    for (above, faults) in [(0, 0), (1, 1)] {
        let (height, round) = (cluster.height(0) + 1, Round((1 << 24) + above));
        let vote = cluster.sign_vote_in(3, (height, round), VoteKind::Prevote, None);
        cluster.send(3, to, &Message::Vote(vote));
        cluster.run_for(50);
        let of_round = |cluster: &Cluster| {
            let faults = cluster.nodes[0].faults.iter();
            faults.filter(|(_, fault)| *fault == Fault::Round).count()
        };
        assert_eq!(of_round(&cluster), faults);
    }
    for message in [
        Message::Proposal(cluster.sign_proposal(3, 1, BlockId(B256::ZERO))),
        Message::Vote(cluster.sign_vote(3, 1, VoteKind::Prevote, None)),
        Message::Polka(Polka {
            height: Height(1),
            round: Round(0),
            block: BlockId(B256::ZERO),
            signatures: Vec::new(),
        }),
    ] {
        assert_eq!(message.round(), Some(Round(0)));
    }
}
