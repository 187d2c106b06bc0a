//! Damage of one file of a node, at any moment of a life, also on top of a commit that the power cut off: what the real
//! recovery makes of it.
//!
//! A node's life is recorded in a whole network. A case goes back to the disk after one of its commits, tears the next
//! commit or not, damages the write-ahead log, the guard or the last segment, opens the files, and lets a core live on
//! alone from what was found. Then:
//!
//! - nothing panics, and damage of the write-ahead log never stops a start;
//! - records of the write-ahead log that come back were written, in order; an own signature in it that was durable
//!   comes back, or the loss is told by the status or by a guard that knows of a later signature;
//! - a guard that comes back was written, and is not older than the last durable one unless it is said to be doubtful,
//!   or the whole file was swapped for an older one;
//! - the core never signs against what the key had sent.
//!
//! `FUSION_CORRUPTIONS=100000 cargo sim-test --release damage -- --nocapture` is the long run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_primitives::{B256, Bytes};
use fusion_consensus::{GuardState, WalRecord};
use fusion_sequencer::core::{Action, Core, CoreConfig, Event, Now};
use fusion_sequencer::store::{Files, Record, Recovered, StoreError, WalStatus};
use fusion_types::ValidatorId;

use crate::checker::{Deed, deed};
use crate::disk::{self, HOME};
use crate::plan::{Mode, Plan};
use crate::rng::Rng;
use crate::volume::{Counts, SimVolume};
use crate::world::{Moment, World};

/// Turns of a core that goes on from what was found; enough for every timeout of two rounds.
const TURNS: usize = 12;

/// What a case did to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    None,
    Flip,
    Cut,
    ZeroTail,
    ZeroPart,
    Duplicate,
    Swap,
    Remove,
}

const KINDS: [Damage; 8] = [
    Damage::None,
    Damage::Flip,
    Damage::Cut,
    Damage::ZeroTail,
    Damage::ZeroPart,
    Damage::Duplicate,
    Damage::Swap,
    Damage::Remove,
];

/// Which file was damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Wal,
    Guard,
    Segment,
}

/// What came of the cases, for whoever reads the output.
#[derive(Debug, Default)]
struct Outcomes {
    by_kind: BTreeMap<(Target, Damage), u64>,
    refused: BTreeMap<&'static str, u64>,
    wal_whole: u64,
    wal_doubtful: u64,
    /// Own signatures lost from a log that looks sound, and known to the guard.
    guard_knew: u64,
    /// Records of others lost from the end of a log that looks sound.
    others_lost: u64,
    guard_old: u64,
    guard_doubtful: u64,
    revived: u64,
    signed_again: u64,
    disks: Counts,
}

/// A recorded life, and what it made durable and visible.
pub(crate) struct Life {
    pub(crate) config: CoreConfig,
    me: ValidatorId,
    pub(crate) moments: Vec<Moment>,
    /// What the guard held, and after which commit.
    pub(crate) guards: Vec<(usize, Bytes)>,
    sent: BTreeMap<Deed, (usize, B256)>,
}

impl Life {
    fn of(world: World) -> Self {
        let config = world.config(0);
        let key = config.key.as_ref().expect("it is a validator");
        let me = ValidatorId(key.verifying_key().to_bytes().into());
        let (mut guards, mut sent) = (Vec::new(), BTreeMap::new());
        let moments = world.moments.unwrap_or_default();
        for (at, moment) in moments.iter().enumerate() {
            let contents = moment.records.iter().filter_map(|record| match record {
                Record::Guard(contents) => Some(contents.clone()),
                _ => None,
            });
            guards.extend(contents.last().map(|contents| (at, contents)));
            for (place, value) in moment.sent.iter().filter_map(deed) {
                sent.entry(place).or_insert((at, value));
            }
        }
        Self {
            config,
            me,
            moments,
            guards,
            sent,
        }
    }

    /// The records of the write-ahead log of `height` that the commits `from..=to` wrote.
    fn wal(&self, height: u64, from: usize, to: usize) -> Vec<Bytes> {
        let first = self
            .moments
            .partition_point(|moment| moment.state.height.0 + 1 < height);
        let moments = self.moments.iter().enumerate().take(to + 1).skip(first.max(from));
        let mut found = Vec::new();
        for (_, moment) in moments.take_while(|(_, moment)| moment.state.height.0 < height) {
            found.extend(moment.records.iter().filter_map(|record| match record {
                Record::Wal { height: of, bytes } if of.0 == height => Some(bytes.clone()),
                _ => None,
            }));
        }
        found
    }
}

/// A disk, and what must be on it.
pub(crate) struct Case<'a> {
    life: &'a Life,
    rng: Rng,
    volume: SimVolume,
    /// The last commit that returned.
    durable: usize,
    /// The last commit that was begun.
    begun: usize,
    target: Target,
    damage: Damage,
}

impl<'a> Case<'a> {
    fn new(life: &'a Life, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let at = rng.below(life.moments.len() as u64 - 1) as usize;
        let volume = SimVolume::new(rng.next());
        volume.restore(&life.moments[at].disk);
        volume.power_on();
        let target = [Target::Wal, Target::Guard, Target::Segment][rng.below(3) as usize];
        let damage = KINDS[rng.below(KINDS.len() as u64) as usize];
        let mut case = Self {
            life,
            rng,
            volume,
            durable: at,
            begun: at,
            target,
            damage,
        };
        if case.rng.chance(500) {
            case.tear_next();
        }
        case.damage();
        case.volume.power_on();
        case
    }

    /// A disk that took no damage at rest.
    pub(crate) fn sound(life: &'a Life, volume: SimVolume, durable: usize, begun: usize) -> Self {
        Self {
            life,
            rng: Rng::new(0),
            volume,
            durable,
            begun,
            target: Target::Wal,
            damage: Damage::None,
        }
    }

    /// All that was durable is found, and nothing that nobody wrote.
    pub(crate) fn check(&self, recovered: &Recovered) {
        let mut outcomes = Outcomes::default();
        self.check_wal(recovered, &mut outcomes);
        self.check_guard(recovered, &mut outcomes);
        assert_eq!(
            (outcomes.guard_knew, outcomes.others_lost, outcomes.guard_old),
            (0, 0, 0)
        );
        assert!(recovered.remembers_all());
    }

    /// Begins the next commit of the life and cuts it off somewhere.
    fn tear_next(&mut self) {
        let (mut files, _) = self.open().expect("nothing is damaged yet");
        let next = &self.life.moments[self.begun + 1];
        self.begun += 1;
        self.volume.power_off_after(1 + self.rng.below(9));
        if files.commit(&next.records, &next.state).is_ok() {
            self.durable += 1;
        }
        self.volume.power_off();
    }

    fn open(&self) -> Result<(Files, Recovered), StoreError> {
        disk::try_open(&self.volume, &self.life.config.genesis)
    }

    fn path(&mut self) -> PathBuf {
        let home = Path::new(HOME);
        match self.target {
            Target::Wal => home.join(["wal/even", "wal/odd"][self.rng.below(2) as usize]),
            Target::Guard => home.join("guard/state"),
            Target::Segment => {
                let files = self.volume.files();
                let mut segments = files
                    .iter()
                    .filter(|path| path.extension().is_some_and(|end| end == "seg"));
                segments.next_back().expect("there is a log").clone()
            }
        }
    }

    fn damage(&mut self) {
        let path = self.path();
        let bytes = self.volume.bytes(&path, 0..131_072);
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |at| at as u64 + 1);
        let (a, b) = (self.rng.below(used), self.rng.below(used));
        let (from, to) = (a.min(b), a.max(b) + 1);
        match self.damage {
            Damage::None => {}
            Damage::Flip => self.volume.flip(&path, a * 8 + b % 8),
            Damage::Cut => self.volume.cut(&path, a),
            Damage::ZeroTail => self.volume.zero(&path, a..u64::MAX),
            Damage::ZeroPart => self.volume.zero(&path, from..to),
            Damage::Duplicate => {
                let part = self.volume.bytes(&path, from..to.min(from + 4096));
                let at = self.rng.below(used);
                self.volume.overwrite(&path, &part, at);
            }
            Damage::Swap => {
                let back = 1 + self.rng.below(30) as usize;
                let older = &self.life.moments[self.durable.saturating_sub(back)];
                self.volume.restore_file(&older.disk, &path);
            }
            Damage::Remove => self.volume.remove(&path),
        }
    }

    fn run(&mut self, outcomes: &mut Outcomes) {
        *outcomes.by_kind.entry((self.target, self.damage)).or_default() += 1;
        let opened = self.open();
        outcomes.disks.add(&self.volume.counts());
        let (files, recovered) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let name = match (&error, self.target) {
                    (StoreError::Corrupt { .. }, Target::Segment) => "damaged log",
                    (StoreError::GuardUnreadable { .. }, Target::Guard) => "unreadable guard",
                    _ => panic!("{:?} of {:?}: {error}", self.damage, self.target),
                };
                assert_ne!(self.damage, Damage::None);
                *outcomes.refused.entry(name).or_default() += 1;
                return;
            }
        };
        if self.target != Target::Segment {
            let tip = self.life.moments[self.durable].state.height;
            assert!(recovered.state.height >= tip, "a decision is lost");
        }
        self.check_wal(&recovered, outcomes);
        if self.check_guard(&recovered, outcomes) {
            self.revive(files, recovered, outcomes);
        } else {
            *outcomes.refused.entry("no guard").or_default() += 1;
        }
    }

    fn check_wal(&self, recovered: &Recovered, outcomes: &mut Outcomes) {
        let height = recovered.state.height.0 + 1;
        let durable = self.life.wal(height, 0, self.durable);
        let begun = self.life.wal(height, 0, self.begun);
        let found = &recovered.wal.records;
        assert!(begun.starts_with(found), "a record that nobody wrote");
        if recovered.wal.status != WalStatus::Readable {
            outcomes.wal_doubtful += 1;
            return;
        }
        if found.len() >= durable.len() {
            outcomes.wal_whole += 1;
            return;
        }
        let guard = recovered
            .guard
            .as_ref()
            .map(|bytes| GuardState::decode(bytes).expect("it was written"));
        let lost = durable[found.len()..]
            .iter()
            .map(|bytes| WalRecord::decode(bytes).expect("it was written"));
        if lost.filter(|record| record.is_signed_by(self.life.me)).count() == 0 {
            outcomes.others_lost += 1;
            return;
        }
        // The last signature of this key that was durable with the lost records: the guard has it, or a later one.
        let last = self.life.guards.iter().rfind(|(at, _)| *at <= self.durable);
        let last = last.map(|(_, bytes)| GuardState::decode(bytes).expect("it was written"));
        let knows = guard.zip(last).is_some_and(|(guard, last)| {
            let vote = |state: &GuardState| state.last_vote().map(|vote| (vote.height, vote.round, vote.kind));
            let proposal = |state: &GuardState| state.last_proposal().map(|found| (found.height, found.round));
            vote(&guard) >= vote(&last) && proposal(&guard) >= proposal(&last)
        });
        assert!(knows, "an own signature is lost, and nobody says so");
        outcomes.guard_knew += 1;
    }

    /// Whether there is a guard; without one a validator does not start.
    fn check_guard(&self, recovered: &Recovered, outcomes: &mut Outcomes) -> bool {
        let written = self.life.guards.iter().take_while(|(at, _)| *at <= self.begun);
        let written: Vec<_> = written.collect();
        let durable = written.iter().take_while(|(at, _)| *at <= self.durable).count();
        let Some(guard) = &recovered.guard else {
            let removed = (self.target, self.damage) == (Target::Guard, Damage::Remove);
            assert!(removed || durable == 0, "a guard is forgotten");
            return durable == 0;
        };
        let place = written.iter().rposition(|(_, bytes)| bytes == guard);
        let place = place.expect("a guard that nobody wrote");
        if place + 1 < durable {
            outcomes.guard_old += 1;
            outcomes.guard_doubtful += u64::from(recovered.guard_doubtful);
            let swapped = recovered.guard_doubtful || (self.target, self.damage) == (Target::Guard, Damage::Swap);
            assert!(
                swapped,
                "an old guard is taken for the last: {:?} {:?}",
                self.target, self.damage
            );
        }
        true
    }

    /// A core goes on from what was found, alone, and must not sign against what the key has sent.
    fn revive(&self, mut files: Files, recovered: Recovered, outcomes: &mut Outcomes) {
        outcomes.revived += 1;
        let mut core = Core::new(self.life.config.clone(), disk::recovery(recovered)).expect("its parts fit");
        let mut now = Now {
            monotonic: Duration::ZERO,
            unix_ms: 1_000_000,
        };
        let mut actions = core.start(now);
        for _ in 0..TURNS {
            let mut records = Vec::new();
            for action in actions {
                match action {
                    Action::Persist(record) => records.push(record),
                    Action::Send { message, .. } => {
                        let Some((place, value)) = deed(&message) else {
                            continue;
                        };
                        let before = self.life.sent.get(&place).filter(|(at, _)| *at <= self.durable);
                        let same = before.is_none_or(|(_, before)| *before == value);
                        assert!(same, "{place:?}: {value} after {before:?}");
                        outcomes.signed_again += u64::from(before.is_some());
                    }
                    _ => {}
                }
            }
            files.commit(&records, core.state()).expect("the disk is sound now");
            let Some(deadline) = core.deadline() else { break };
            now.unix_ms += (deadline.saturating_sub(now.monotonic)).as_millis() as u64 + 1;
            now.monotonic = deadline.max(now.monotonic + Duration::from_millis(1));
            actions = core.turn(now, vec![Event::Woken]);
        }
    }
}

/// Lives in networks that lose messages, so that heights take several rounds.
pub(crate) fn life(seed: u64) -> Life {
    let mut plan = Plan::new(seed, 4, Mode::Calm);
    plan.latency_us = (200, 20_000);
    plan.submit_every_ms = 37;
    plan.faults_until = Duration::from_secs(4);
    plan.rates.drop = 20;
    plan.rates.partition = 1_000;
    let mut world = World::new(plan, false);
    world.moments = Some(Vec::new());
    assert_eq!(world.run().violation, None);
    Life::of(world)
}

#[test]
fn damage_of_any_file_is_told_and_signs_nothing_twice() {
    let cases = std::env::var("FUSION_CORRUPTIONS")
        .ok()
        .and_then(|text| text.parse().ok());
    let only = std::env::var("FUSION_SIM_SEED")
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    let cases = only.map_or_else(|| 0..cases.unwrap_or(3_000), |seed| seed..seed + 1);
    let lives: Vec<Life> = (0..4).map(life).collect();
    let mut outcomes = Outcomes::default();
    for seed in cases {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Case::new(&lives[(seed % 4) as usize], seed).run(&mut outcomes);
        }));
        assert!(result.is_ok(), "FUSION_SIM_SEED={seed} replays this case");
    }
    println!("{outcomes:#?}");
}
