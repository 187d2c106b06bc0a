//! Whole nodes in one thread: the same `Core::turn` and the same store as in production, virtual time, lossy and partitioned
//! connections, disks in memory that lose any part of what was not synced. One seed, one history.
//!
//! `FUSION_SIM_SEED=7 cargo test -p fusion-sequencer --test sim` replays one seed;
//! `FUSION_SIM_SEEDS=5000` runs as many. The defaults fit a coffee break, not a night.

#![expect(
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "counts of a simulation are small; a failing seed has to be seen"
)]

mod checker;
mod damage;
mod disk;
mod network;
mod power;
mod rng;
mod volume;
mod world;

use std::time::Duration;

use volume::Counts;
use world::{Faults, Plan, World};

fn plan(nodes: usize) -> Plan {
    Plan {
        nodes,
        faults_until: Duration::from_secs(12),
        end: Duration::from_secs(24),
        loss: 5,
        crash_every: Duration::from_secs(2),
        partition_every: Duration::from_secs(5),
        lose_wal: 0,
        recorded: false,
        submit_every: Duration::from_millis(37),
    }
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("FUSION_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FUSION_SIM_SEEDS").unwrap_or(default),
    }
}

/// Whether a test runs its own number of seeds, enough for every fault to happen often.
fn is_full_run() -> bool {
    std::env::var("FUSION_SIM_SEED").is_err() && std::env::var("FUSION_SIM_SEEDS").is_err()
}

/// Runs a seed to its end and demands that every node went on after the faults ended.
fn run(seed: u64, plan: Plan) -> World {
    println!("seed {seed}");
    let mut world = World::new(seed, plan);
    world.run();
    let heights = world.heights();
    let (least, most) = (heights.iter().min().copied().unwrap_or(0), world.checker.height());
    assert!(
        least + 3 > most && most > 10,
        "liveness: seed {seed} ends at heights {heights:?}"
    );
    world
}

#[test]
fn same_seed_same_history() {
    for seed in seeds(3) {
        let trace = || World::new(seed, plan(4)).run();
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

#[test]
fn without_faults_every_transaction_is_decided() {
    for seed in seeds(3) {
        let calm = Plan {
            loss: 0,
            crash_every: Duration::ZERO,
            partition_every: Duration::ZERO,
            ..plan(4)
        };
        let mut world = World::new(seed, calm);
        world.run();
        assert!(world.submitted() > 500);
        assert!(
            world.checker.transactions + 20 > world.submitted(),
            "seed {seed}: {} of {}",
            world.checker.transactions,
            world.submitted()
        );
    }
}

#[test]
fn four_nodes_keep_their_promises_through_crashes_and_partitions() {
    let (mut faults, mut disks) = (Faults::default(), Counts::default());
    for seed in seeds(60) {
        let world = run(seed, plan(4));
        faults.add(&world.faults);
        disks.add(&world.disks());
    }
    assert!(!is_full_run() || faults.all_but_wal_losses_happened(), "{faults:?}");
    assert!(!is_full_run() || disks.every_tear_happened(), "{disks:?}");
}

#[test]
fn seven_nodes_keep_their_promises_through_crashes_and_partitions() {
    for seed in seeds(12) {
        run(seed, plan(7));
    }
}

#[test]
fn a_node_that_loses_its_write_ahead_log_never_signs_twice() {
    let mut faults = Faults::default();
    for seed in seeds(40) {
        faults.add(&run(seed, Plan { lose_wal: 2, ..plan(4) }).faults);
    }
    assert!(!is_full_run() || faults.wal_losses > 10, "{faults:?}");
}

#[test]
fn one_node_down_for_good_does_not_stop_the_others() {
    for seed in seeds(5) {
        let mut world = World::new(
            seed,
            Plan {
                crash_every: Duration::ZERO,
                partition_every: Duration::ZERO,
                loss: 0,
                ..plan(4)
            },
        );
        world.silence(3);
        world.run();
        let heights = world.heights();
        assert!(
            heights[..3].iter().all(|height| *height > 200),
            "seed {seed}: {heights:?}"
        );
    }
}
