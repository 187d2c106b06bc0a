//! Promises of the rotation: turns in proportion to power, silence is benched, and those who may be sound always propose.

use alloy_primitives::B256;
use fusion_types::{Committee, Epoch, Height, Rotation, Round, ValidatorId};
use proptest::prelude::*;

use crate::sample;

fn proposer(rotation: &Rotation, committee: &Committee, height: u64, round: u32) -> usize {
    rotation.proposer(committee, Height(height), Round(round))
}

proptest! {
    #[test]
    fn every_validator_proposes_in_proportion_to_its_power(powers in proptest::collection::vec(1_u64..50, 1..12)) {
        let (committee, _) = sample::committee(&powers);
        let heights = 40_000;
        let mut turns = vec![0_u64; powers.len()];
        for height in 1..=heights {
            turns[proposer(&Rotation::default(), &committee, height, 0)] += 1;
        }
        let total: u64 = powers.iter().sum();
        for (validator, turns) in committee.validators().iter().zip(turns) {
            // A cycle has 16 turns per validator of average power; each share is true to one turn of it.
            let expected = heights * validator.power / total;
            let turn = heights / (16 * powers.len() as u64 - powers.len() as u64) + 1;
            let error = turns.abs_diff(expected);
            let tolerance = turn + turns * powers.len() as u64 / (15 * powers.len() as u64);
            prop_assert!(error <= tolerance, "{} of {}: {} turns, {} expected", validator.power, total, turns, expected);
        }
    }

    #[test]
    fn every_height_has_an_order_of_all_validators_once(
        powers in proptest::collection::vec(1_u64..50, 1..12),
        history in proptest::collection::vec(any::<usize>(), 0..60),
    ) {
        let (committee, _) = sample::committee(&powers);
        let mut rotation = Rotation::default();
        for (height, pick) in (1..).zip(history) {
            let mut order = rotation.order(&committee, Height(height));
            let first_benched = order
                .iter()
                .position(|index| rotation.is_benched(committee.validators()[*index].id, Height(height)));
            let ready = &order[..first_benched.unwrap_or(order.len())];
            let benched = &order[ready.len()..];
            prop_assert!(benched.iter().all(|i| rotation.is_benched(committee.validators()[*i].id, Height(height))));
            let proposer = order[pick % order.len()];
            order.sort_unstable();
            prop_assert_eq!(order, (0..powers.len()).collect::<Vec<_>>());
            rotation.decided(&committee, Height(height), committee.validators()[proposer].id);

            let next = Height(height + 1);
            let validators = committee.validators().iter();
            let benched = validators.filter(|validator| rotation.is_benched(validator.id, next));
            let power: u64 = benched.map(|validator| validator.power).sum();
            let total: u64 = powers.iter().sum();
            prop_assert!(3 * power < total, "{power} of {total} are benched, and faulty is less than a third");
        }
    }
}

#[test]
fn equal_validators_take_turns() {
    let (committee, _) = sample::committee(&[5; 4]);
    let rotation = Rotation::default();
    let order: Vec<usize> = (0..8)
        .map(|height| proposer(&rotation, &committee, height, 0))
        .collect();
    assert_eq!(order, [0, 1, 2, 3, 0, 1, 2, 3]);
    let rounds: Vec<usize> = (0..6).map(|round| proposer(&rotation, &committee, 2, round)).collect();
    assert_eq!(rounds, [2, 3, 0, 1, 2, 3]);
}

#[test]
fn the_largest_powers_and_heights_have_an_order() {
    let (committee, _) = sample::committee(&[u64::MAX / 3 - 1, 1]);
    let turns = (0..1000).filter(|height| proposer(&Rotation::default(), &committee, *height, 0) == 1);
    assert!(turns.count() > 0, "the least power has turns too");
    proposer(&Rotation::default(), &committee, u64::MAX, u32::MAX);
    let mut rotation = Rotation::default();
    rotation.decided(&committee, Height(u64::MAX), committee.validators()[0].id);
}

#[test]
fn a_silent_proposer_is_benched_longer_each_time_and_forgiven_when_it_proposes() {
    let (committee, _) = sample::committee(&[1; 4]);
    let id = |index: usize| committee.validators()[index].id;
    let mut rotation = Rotation::default();
    let mut height = 0;
    let mut lengths = Vec::new();
    for _ in 0..5 {
        // The next height at which 0 is first; 1 proposes in its place.
        while proposer(&rotation, &committee, height, 0) != 0 {
            height += 1;
        }
        assert_eq!(proposer(&rotation, &committee, height, 1), 1);
        rotation.decided(&committee, Height(height), id(1));
        let benched = (height + 1..).take_while(|height| rotation.is_benched(id(0), Height(*height)));
        lengths.push(benched.count() as u64 + 1);
        height += lengths[lengths.len() - 1];
    }
    assert_eq!(lengths, [256, 4096, 65_536, 65_536, 65_536]);

    rotation.decided(&committee, Height(height), id(0));
    assert_eq!(rotation, Rotation::default());
}

#[test]
fn the_benched_are_passed_over_and_propose_when_all_others_fail() {
    let (committee, _) = sample::committee(&[1; 7]);
    let mut rotation = Rotation::default();
    rotation.decided(&committee, Height(7), committee.validators()[2].id);
    // 0 and 1 were silent before 2.
    assert_eq!(rotation.order(&committee, Height(14)), [2, 3, 4, 5, 6, 0, 1]);
    assert_eq!(rotation.order(&committee, Height(15)), [2, 3, 4, 5, 6, 1, 0]);
    assert_eq!(proposer(&rotation, &committee, 15, 6), 0);
}

/// A storm in which all but one missed their turn once left that one alone to propose, for 256 heights (simulator, seed
/// 74767): whatever it did not know of waited for so long.
#[test]
fn no_more_are_benched_than_may_be_faulty() {
    let (committee, _) = sample::committee(&[1; 4]);
    let id = |index: usize| committee.validators()[index].id;
    let benched = |rotation: &Rotation, height| -> Vec<usize> {
        (0..4)
            .filter(|index| rotation.is_benched(id(*index), Height(height)))
            .collect()
    };
    let mut rotation = Rotation::default();
    rotation.decided(&committee, Height(4), id(1));
    assert_eq!(benched(&rotation, 5), [0]);
    // Of two it is the one who would be back sooner that comes back, though it has been gone for longer.
    rotation.decided(&committee, Height(6), id(3));
    assert_eq!(benched(&rotation, 7), [2]);
    // It missed before: its second miss is worth 4096 heights, and the other's 256 give way to them.
    rotation.decided(&committee, Height(8), id(1));
    assert_eq!(benched(&rotation, 9), [0]);
    assert_eq!(benched(&rotation, 8 + 4095), [0]);
    assert_eq!(benched(&rotation, 8 + 4096), [0; 0]);
    // All three before it were silent: two of them are back at once.
    let mut rotation = Rotation::default();
    rotation.decided(&committee, Height(4), id(3));
    assert_eq!(benched(&rotation, 5), [2]);
    assert_eq!(rotation.order(&committee, Height(6)), [3, 0, 1, 2]);
}

#[test]
fn a_power_that_nobody_can_do_without_is_never_benched() {
    for powers in [&[1, 1, 1][..], &[1], &[5, 1, 1]] {
        let (committee, _) = sample::committee(powers);
        let mut rotation = Rotation::default();
        for height in 0..50 {
            let order = rotation.order(&committee, Height(height));
            let last = committee.validators()[order[order.len() - 1]].id;
            rotation.decided(&committee, Height(height), last);
            let heaviest = committee.validators().iter().max_by_key(|validator| validator.power);
            let heaviest = heaviest.expect("a committee has members").id;
            assert!(!rotation.is_benched(heaviest, Height(height + 1)), "{powers:?}");
        }
    }
}

#[test]
fn strangers_neither_bench_nor_stay_benched() {
    let (committee, _) = sample::committee(&[1; 4]);
    let mut rotation = Rotation::default();
    rotation.decided(&committee, Height(4), ValidatorId(B256::ZERO));
    assert_eq!(rotation, Rotation::default());

    rotation.decided(&committee, Height(4), committee.validators()[1].id);
    let rest = Committee::new(Epoch(1), committee.validators()[1..].to_vec()).unwrap();
    let first = rest.validators()[rotation.proposer(&rest, Height(5), Round(0))].id;
    rotation.decided(&rest, Height(5), first);
    assert_eq!(rotation, Rotation::default(), "who left the committee is forgotten");
}
