//! What a seed does. Every seed switches on its own few faults, at its own rates ("swarm testing", Groce et al. 2012):
//! a history with everything at once hides what two faults do together.

use std::time::Duration;

use crate::checker::Room;
use crate::rng::Rng;
use crate::script::Script;
use crate::traitor::{DEEDS, Deed};

/// No script takes longer: its rounds end by themselves long before.
const SCRIPT_MAX: Duration = Duration::from_secs(60);

/// What is wrong with one of the `f` nodes that may be worse than unlucky.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Its write-ahead log is gone after some crashes.
    LosesWal,
    /// Its write-ahead log is damaged after some crashes.
    DamagesWal,
    /// A bit of its guard flips after some crashes.
    DamagesGuard,
    /// After a crash its disk is an older copy of itself.
    Restored,
    /// Its wall clock is an hour off and jumps.
    ClockFarOff,
    /// A second process runs with its key.
    Twin,
    /// It does not keep to the protocol.
    Traitor(Vec<Deed>),
    /// From the healing on: it is gone.
    Gone,
    /// From the healing on: it hears nothing, but speaks.
    Deaf,
    /// From the healing on: it hears, but nobody hears it.
    Mute,
    /// From the healing on: its connections break all the time.
    Flapping,
    /// From the healing on: it stands still without being gone.
    Frozen,
    /// From the healing on: it starts and dies, again and again.
    CrashLoop,
    /// From the healing on: everything about it takes a hundred times as long.
    Slow,
}

impl Flaw {
    /// Whether it lasts: others then have to go on without counting on this node.
    pub(crate) fn lasts(&self) -> bool {
        !matches!(self, Self::LosesWal | Self::DamagesWal | Self::Restored)
    }
}

/// Mean times between faults of a kind, in milliseconds, and chances per mille; 0 for never.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rates {
    pub(crate) drop: u64,
    pub(crate) duplicate: u64,
    pub(crate) reorder: u64,
    pub(crate) retransmit: u64,
    pub(crate) reset: u64,
    pub(crate) partition: u64,
    pub(crate) one_way: u64,
    pub(crate) flap: u64,
    pub(crate) slow_link: u64,
    pub(crate) kill: u64,
    pub(crate) power_cut: u64,
    pub(crate) total_power_cut: u64,
    pub(crate) torn_commit: u64,
    pub(crate) slow_disk: u64,
    pub(crate) full_disk: u64,
    pub(crate) sync_fails: u64,
    pub(crate) freeze: u64,
    pub(crate) clock_jump: u64,
}

/// One seed's history, before it happens. Times are true times.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    /// Faults happen until here; then everything heals but what lasts.
    pub(crate) faults_until: Duration,
    /// One-way delays between two nodes, least and most, in microseconds.
    pub(crate) latency_us: (u64, u64),
    /// How long a commit takes, least and most, in microseconds.
    pub(crate) flush_us: (u64, u64),
    /// A connection without a sign of life is given up after this.
    pub(crate) idle_timeout: Duration,
    pub(crate) clock_rate_spread: u64,
    pub(crate) clock_offset_ms: u64,
    pub(crate) submit_every_ms: u64,
    /// What pools may hold.
    pub(crate) room: Room,
    /// Whether some senders send more than a node takes of one.
    pub(crate) hoards: bool,
    /// Whether the network settles on an L1, from which transactions are forced in.
    pub(crate) settles: bool,
    pub(crate) rates: Rates,
    /// At most `f` nodes with what is wrong with them.
    pub(crate) flaws: Vec<(usize, Flaw)>,
    /// Who hears whom, round by round, instead of weather.
    pub(crate) script: Option<Script>,
}

/// What a run of many seeds asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// Everything, as the seed decides.
    Everything,
    /// Nothing goes wrong.
    Calm,
    /// Something lasts in every seed.
    Liveness,
    /// A traitor in every seed, its deeds alone or in pairs.
    Traitors,
}

impl Plan {
    /// The history of `seed` for `nodes` validators.
    pub(crate) fn new(seed: u64, nodes: usize, mode: Mode) -> Self {
        let mut rng = Rng::new(seed);
        let calm = mode == Mode::Calm;
        let mut plan = Self {
            seed,
            nodes,
            faults_until: Duration::from_millis(rng.between(2_000, 7_000)),
            latency_us: latency(&mut rng),
            flush_us: (50, rng.between(100, 5_000)),
            idle_timeout: Duration::from_millis(rng.between(1_000, 10_000)),
            clock_rate_spread: 0,
            clock_offset_ms: rng.below(200),
            submit_every_ms: rng.between(80, 800),
            room: Room::FULL,
            hoards: false,
            settles: Rng::new(!seed).chance(400),
            rates: Rates::default(),
            flaws: Vec::new(),
            script: None,
        };
        if calm {
            return plan;
        }
        if rng.chance(300) {
            plan.clock_rate_spread = 200;
        }
        if rng.chance(60) {
            plan.room = Room::CRAMPED;
        }
        plan.hoards = rng.chance(50);
        plan.rates = rates(&mut rng);
        let faulty = (nodes - 1) / 3;
        let mut at = rng.index(nodes);
        for _ in 0..faulty {
            if let Some(flaw) = flaw(&mut rng, mode) {
                plan.flaws.push((at, flaw));
            }
            at = (at + 1 + rng.index(nodes - faulty)) % nodes;
            while plan.flaws.iter().any(|(other, _)| *other == at) {
                at = (at + 1) % nodes;
            }
        }
        plan
    }

    /// Nothing goes wrong, but as many nodes as may be faulty do `deed`; users submit all the time.
    pub(crate) fn attacked(seed: u64, nodes: usize, deed: Option<Deed>, lasts: Duration) -> Self {
        let mut plan = Self::new(seed, nodes, Mode::Calm);
        plan.faults_until = lasts;
        plan.settles = false;
        plan.latency_us = (200, 5_000);
        plan.flush_us = (50, 1_000);
        plan.submit_every_ms = 20;
        let faulty = (nodes - 1) / 3;
        if let Some(deed) = deed {
            plan.flaws = (0..faulty).map(|node| (node, Flaw::Traitor(vec![deed]))).collect();
        }
        plan
    }

    /// A scenario of twins: everything is calm but what `script` says.
    pub(crate) fn scripted(number: u64, nodes: usize, script: Script) -> Self {
        let twins = script.twins().iter().map(|twin| (*twin, Flaw::Twin));
        Self {
            seed: number,
            nodes,
            faults_until: SCRIPT_MAX,
            latency_us: (1_000, 1_000),
            flush_us: (100, 100),
            idle_timeout: Duration::from_secs(10),
            clock_rate_spread: 0,
            clock_offset_ms: 0,
            submit_every_ms: 0,
            room: Room::FULL,
            hoards: false,
            settles: false,
            rates: Rates::default(),
            flaws: twins.collect(),
            script: Some(script),
        }
    }

    /// What is wrong with a node.
    pub(crate) fn flaw(&self, node: usize) -> Option<&Flaw> {
        self.flaws
            .iter()
            .find(|(other, _)| *other == node)
            .map(|(_, flaw)| flaw)
    }
}

/// A data centre, a region, a continent, or the world.
fn latency(rng: &mut Rng) -> (u64, u64) {
    match rng.below(4) {
        0 => (50, 500),
        1 => (200, 5_000),
        2 => (5_000, 40_000),
        _ => (20_000, 120_000),
    }
}

fn rates(rng: &mut Rng) -> Rates {
    let mut on = |per_mille: u64, low: u64, high: u64| {
        let (is_on, rate) = (rng.chance(per_mille), rng.between(low, high));
        if is_on { rate } else { 0 }
    };
    Rates {
        drop: on(300, 1, 60),
        duplicate: on(200, 1, 60),
        reorder: on(200, 1, 100),
        retransmit: on(400, 1, 100),
        reset: on(300, 1, 20),
        partition: on(350, 600, 4_000),
        one_way: on(250, 600, 4_000),
        flap: on(150, 600, 4_000),
        slow_link: on(200, 600, 4_000),
        kill: on(400, 300, 4_000),
        power_cut: on(300, 300, 4_000),
        total_power_cut: on(200, 800, 4_000),
        torn_commit: on(400, 1, 30),
        slow_disk: on(200, 600, 4_000),
        full_disk: on(150, 800, 4_000),
        sync_fails: on(150, 800, 4_000),
        freeze: on(250, 600, 4_000),
        clock_jump: on(150, 600, 4_000),
    }
}

fn flaw(rng: &mut Rng, mode: Mode) -> Option<Flaw> {
    let deeds = |rng: &mut Rng| {
        let first = DEEDS[rng.index(DEEDS.len())].0;
        let second = DEEDS[rng.index(DEEDS.len())].0;
        if rng.chance(500) || first == second {
            vec![first]
        } else {
            vec![first, second]
        }
    };
    let choice = match mode {
        Mode::Calm => return None,
        Mode::Traitors => 100,
        Mode::Liveness => rng.between(5, 13),
        Mode::Everything => rng.below(20),
    };
    Some(match choice {
        0 => Flaw::LosesWal,
        1 => Flaw::DamagesGuard,
        2..=3 => Flaw::DamagesWal,
        4 => Flaw::Restored,
        5 => Flaw::ClockFarOff,
        6 => Flaw::Gone,
        7 => Flaw::Deaf,
        8 => Flaw::Mute,
        9 => Flaw::Flapping,
        10 => Flaw::Frozen,
        11 => Flaw::CrashLoop,
        12 => Flaw::Slow,
        13 | 14 => Flaw::Twin,
        15..=17 | 100 => Flaw::Traitor(deeds(rng)),
        _ => return None,
    })
}
