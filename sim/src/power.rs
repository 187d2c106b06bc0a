//! The power goes at every single operation of the store, from the first start on; the disk is full, or fails to sync,
//! at any of them.

use std::path::Path;

use fusion_sequencer::store::{Files, Record, StoreError};

use crate::damage::{Case, Life, life};
use crate::disk;
use crate::volume::SimVolume;

/// Commits of a life that are cut off everywhere: enough for two heights and the first files.
const COMMITS: usize = 8;

/// Opens the files on a fresh disk and commits the life's first batches, as far as the disk lets it; returns the
/// commits that returned, and that were begun.
fn live(life: &Life, volume: &SimVolume) -> (usize, usize) {
    let Ok((mut files, _)) = disk::try_open(volume, &life.config.genesis) else {
        return (0, 0);
    };
    for (at, moment) in life.moments.iter().take(COMMITS).enumerate() {
        if files.commit(&moment.records, &moment.state).is_err() {
            return (at, at + 1);
        }
    }
    (COMMITS, COMMITS)
}

/// The next start finds what was acknowledged, and goes on.
fn check(life: &Life, volume: &SimVolume, durable: usize, begun: usize, what: &str) {
    let (mut files, recovered) = disk::try_open(volume, &life.config.genesis).expect(what);
    if let Some(last) = durable.checked_sub(1) {
        let moment = &life.moments[last];
        assert!(
            recovered.state.height >= moment.state.height,
            "{what}: a decision is lost"
        );
        Case::sound(life, volume.clone(), last, begun.saturating_sub(1)).check(&recovered);
    }
    if recovered.state.height.0 == 0 {
        let moment = &life.moments[0];
        files.commit(&moment.records, &moment.state).expect(what);
    }
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_that_was_acknowledged() {
    let life = life(0);
    let whole = SimVolume::new(0);
    assert_eq!(live(&life, &whole), (COMMITS, COMMITS));
    let operations = whole.operations();
    assert!(operations > 60, "{operations}");
    for seed in 0..4 {
        for operation in 1..=operations {
            let volume = SimVolume::new(seed * 1000 + operation);
            volume.power_off_after(operation);
            let (durable, begun) = live(&life, &volume);
            assert!(volume.is_off(), "operation {operation}");
            volume.power_on();
            check(
                &life,
                &volume,
                durable,
                begun,
                &format!("seed {seed}, operation {operation}"),
            );
        }
    }
}

#[test]
fn what_a_start_found_is_there_at_the_next_whatever_happens() {
    let life = life(0);
    let whole = SimVolume::new(0);
    live(&life, &whole);
    for operation in 1..=whole.operations() {
        let volume = SimVolume::new(operation);
        volume.kill_after(operation);
        live(&life, &volume);
        volume.start_again();
        let open =
            || disk::try_open(&volume, &life.config.genesis).unwrap_or_else(|error| panic!("{operation}: {error}"));
        let (_, found) = open();
        volume.power_on();
        let (_, again) = open();
        assert_eq!(
            (found.state, found.guard),
            (again.state, again.guard),
            "operation {operation}"
        );
        assert_eq!(
            (found.bodies, found.wal.records),
            (again.bodies, again.wal.records),
            "operation {operation}"
        );
    }
}

#[test]
fn what_a_killed_process_left_behind_is_made_durable_by_the_next() {
    let life = life(0);
    let whole = SimVolume::new(0);
    live(&life, &whole);
    for operation in 1..=whole.operations() {
        for seed in 0..3 {
            let volume = SimVolume::new(operation * 10 + seed);
            volume.kill_after(operation);
            let (_, begun) = live(&life, &volume);
            volume.start_again();
            let what = format!("seed {seed}, operation {operation}");
            let (mut files, recovered) = disk::try_open(&volume, &life.config.genesis).expect(&what);
            // What is next: the cut-off batch again, unless it is there.
            let tip = recovered.state.height;
            let mut durable = 0;
            let rest = life.moments.iter().enumerate().skip(begun.saturating_sub(1)).take(2);
            for (at, moment) in rest.filter(|(_, moment)| tip <= moment.state.height) {
                let decides = moment
                    .records
                    .iter()
                    .any(|record| matches!(record, Record::Decision(_)));
                if !(decides && moment.state.height == tip) {
                    files.commit(&moment.records, &moment.state).expect(&what);
                    durable = at + 1;
                }
            }
            volume.power_on();
            let (_, recovered) = disk::try_open(&volume, &life.config.genesis).expect(&what);
            let Some(last) = durable.checked_sub(1) else { continue };
            assert!(
                recovered.state.height >= life.moments[last].state.height,
                "{what}: a decision is lost"
            );
            assert!(
                recovered.guard.is_some() || last < life.guards[0].0,
                "{what}: the guard is lost"
            );
        }
    }
}

#[test]
fn a_home_below_folders_that_are_new_survives() {
    let life = life(0);
    let home = Path::new("/mnt/data/fusion/node");
    for seed in 0..30 {
        let volume = SimVolume::new(seed);
        let open = || Files::open(volume.shared(), home, &life.config.genesis, disk::options());
        let (mut files, _) = open().unwrap_or_else(|error| panic!("{error}"));
        let guard = Record::Guard(life.guards[0].1.clone());
        let state = life.config.genesis.state();
        assert!(files.commit(&[guard], &state).is_ok());
        volume.power_on();
        let (_, recovered) = open().unwrap_or_else(|error| panic!("{error}"));
        assert!(
            recovered.guard.is_some(),
            "seed {seed}: the guard is forgotten with its folder"
        );
    }
}

#[test]
fn after_a_failed_sync_nothing_more_is_written_and_the_next_start_is_clean() {
    let life = life(0);
    let path = |name: &str| Path::new(disk::HOME).join(name);
    for (seed, at) in (0..200).zip((1..COMMITS).cycle()) {
        let volume = SimVolume::new(seed);
        let opened = disk::try_open(&volume, &life.config.genesis);
        let (mut files, _) = opened.unwrap_or_else(|error| panic!("{error}"));
        let (before, rest) = life.moments.split_at(at);
        for moment in before {
            assert!(files.commit(&moment.records, &moment.state).is_ok());
        }
        let file = ["log/00000001.seg", "wal/even", "wal/odd", "guard/state"].map(path)[(seed % 4) as usize].clone();
        volume.fail_syncs([1, u64::MAX][(seed / 4 % 2) as usize], Some(&file));
        let failed = files.commit(&rest[0].records, &rest[0].state);
        let begun = if failed.is_ok() { at + 1 } else { at };
        if let Err(error) = failed {
            assert!(!error.may_retry(), "{error}");
            let operations = volume.operations();
            let again = files.commit(&rest[0].records, &rest[0].state);
            assert!(matches!(again, Err(StoreError::Poisoned(_))));
            assert_eq!(volume.operations(), operations, "a store that failed touches nothing");
        }
        volume.power_on();
        check(&life, &volume, begun, at + 1, &format!("seed {seed}"));
    }
}

#[test]
fn a_full_disk_refuses_whole_batches_and_goes_on_when_there_is_space() {
    let life = life(0);
    let mut refused = 0;
    for free in [0, 10_000, 40_000, 5_000_000, 9_000_000] {
        let volume = SimVolume::new(free);
        volume.set_space(Some(free));
        let mut opened = disk::try_open(&volume, &life.config.genesis);
        if let Err(error) = &opened {
            assert!(error.may_retry(), "{error}");
            volume.set_space(None);
            opened = disk::try_open(&volume, &life.config.genesis);
            volume.set_space(Some(free));
        }
        let (mut files, _) = opened.unwrap_or_else(|error| panic!("{error}"));
        for moment in &life.moments {
            let mut done = files.commit(&moment.records, &moment.state);
            if let Err(error) = &done {
                assert!(error.may_retry(), "{error}");
                refused += 1;
                volume.set_space(None);
                done = files.commit(&moment.records, &moment.state);
                volume.set_space(Some(free % 1000));
            }
            done.unwrap_or_else(|error| panic!("{error}"));
        }
        volume.power_on();
        let last = life.moments.len();
        volume.set_space(None);
        check(&life, &volume, last, last, "full");
    }
    assert!(refused > 1, "{refused}");
}
