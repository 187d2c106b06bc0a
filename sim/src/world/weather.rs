//! What goes wrong, and when: links, machines, disks and clocks; and the healing after which all must be well.

use std::time::Duration;

use super::{What, World};
use crate::disk::End;
use crate::faults::Fault;
use crate::plan::Flaw;

/// Something that goes wrong, or ends going wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Weather {
    Partition,
    OneWay,
    Flap {
        a: usize,
        b: usize,
        times: u64,
    },
    StartFlap,
    SlowLink,
    Kill,
    PowerCut,
    TotalPowerCut,
    SlowDisk,
    FullDisk,
    SyncFails,
    Freeze,
    ClockJump,
    SwitchTwin,
    MendCut {
        a: usize,
        b: usize,
    },
    MendLink {
        a: usize,
        b: usize,
    },
    MendDisk {
        node: usize,
    },
    Thaw {
        node: usize,
    },
    /// Something lasting shows again.
    Lasting {
        node: usize,
    },
}

impl World {
    pub(super) fn plan_weather(&mut self) {
        for weather in [
            Weather::Partition,
            Weather::OneWay,
            Weather::StartFlap,
            Weather::SlowLink,
            Weather::Kill,
            Weather::PowerCut,
            Weather::TotalPowerCut,
            Weather::SlowDisk,
            Weather::FullDisk,
            Weather::SyncFails,
            Weather::Freeze,
            Weather::ClockJump,
            Weather::SwitchTwin,
        ] {
            self.plan_next(weather);
        }
    }

    /// The next time that something goes wrong.
    fn plan_next(&mut self, weather: Weather) {
        let rates = &self.plan.rates;
        let mean = match weather {
            Weather::Partition => rates.partition,
            Weather::OneWay => rates.one_way,
            Weather::StartFlap => rates.flap,
            Weather::SlowLink => rates.slow_link,
            Weather::Kill => rates.kill,
            Weather::PowerCut => rates.power_cut,
            Weather::TotalPowerCut => rates.total_power_cut,
            Weather::SlowDisk => rates.slow_disk,
            Weather::FullDisk => rates.full_disk,
            Weather::SyncFails => rates.sync_fails,
            Weather::Freeze => rates.freeze,
            Weather::ClockJump => rates.clock_jump,
            Weather::SwitchTwin if self.nodes.len() > self.plan.nodes => 600,
            _ => 0,
        };
        if mean > 0 {
            let after = Duration::from_millis(self.rng.around(mean));
            self.after(after, What::Weather(weather));
        }
    }

    fn a_node(&mut self) -> usize {
        self.rng.index(self.nodes.len())
    }

    fn two_nodes(&mut self) -> (usize, usize) {
        let a = self.a_node();
        let b = (a + 1 + self.rng.index(self.nodes.len() - 1)) % self.nodes.len();
        (a, b)
    }

    pub(super) fn weather(&mut self, weather: Weather) {
        let lasts = Duration::from_millis(self.rng.between(50, 2_500));
        let ends = match weather {
            Weather::MendCut { a, b } => return self.mend_cut(a, b),
            Weather::MendLink { a, b } => return self.mend_link(a, b),
            Weather::MendDisk { node } => {
                self.nodes[node].disk.set_full(false);
                self.nodes[node].disk_slowness = 1;
                return;
            }
            Weather::Thaw { node } => return self.thaw(node),
            Weather::Lasting { node } => return self.lasting(node),
            _ if self.healed_at.is_some() => return,
            Weather::Flap { a, b, times } => return self.flap(a, b, times),
            Weather::Partition => {
                self.partition(lasts);
                None
            }
            Weather::OneWay => {
                let (a, b) = self.two_nodes();
                self.faults.count(Fault::OneWayCut);
                self.trace
                    .tell(self.now, || format!("nothing passes from {a} to {b} for {lasts:?}"));
                self.cut(a, b, [true, false]);
                Some(Weather::MendCut { a, b })
            }
            Weather::StartFlap => {
                let (a, b) = self.two_nodes();
                let times = self.rng.between(2, 8);
                self.flap(a, b, times);
                None
            }
            Weather::SlowLink => {
                let (a, b) = self.two_nodes();
                self.faults.count(Fault::SlowLink);
                self.network.pair(a, b).slow = self.rng.between(5, 50);
                Some(Weather::MendLink { a, b })
            }
            Weather::TotalPowerCut => {
                self.faults.count(Fault::TotalPowerCut);
                self.trace.tell(self.now, || "the power of all nodes goes".into());
                for node in 0..self.nodes.len() {
                    self.crash(node, End::PowerCut);
                }
                None
            }
            other => self.strike(other),
        };
        if let Some(ends) = ends {
            self.after(lasts, What::Weather(ends));
        }
        self.plan_next(weather);
    }

    /// Something happens to one machine; returns what ends it.
    fn strike(&mut self, weather: Weather) -> Option<Weather> {
        let node = self.a_node();
        match weather {
            Weather::Kill => {
                self.faults.count(Fault::Kill);
                self.trace.tell(self.now, || format!("{node}: killed"));
                self.crash(node, End::Kill);
            }
            Weather::PowerCut => {
                self.faults.count(Fault::PowerCut);
                self.trace.tell(self.now, || format!("{node}: its power goes"));
                self.crash(node, End::PowerCut);
            }
            Weather::SlowDisk => {
                self.faults.count(Fault::SlowDisk);
                self.nodes[node].disk_slowness = self.rng.between(10, 400);
                return Some(Weather::MendDisk { node });
            }
            Weather::FullDisk => {
                self.faults.count(Fault::DiskFull);
                self.trace.tell(self.now, || format!("{node}: its disk is full"));
                self.nodes[node].disk.set_full(true);
                return Some(Weather::MendDisk { node });
            }
            Weather::SyncFails => self.nodes[node].disk.fail_sync(),
            Weather::Freeze => {
                self.faults.count(Fault::Frozen);
                self.trace.tell(self.now, || format!("{node}: stands still"));
                self.freeze(node);
                return Some(Weather::Thaw { node });
            }
            Weather::ClockJump => {
                self.faults.count(Fault::ClockJump);
                let offset = i64::try_from(self.rng.below(250)).unwrap_or(0);
                self.nodes[node].clock.jump(offset);
            }
            Weather::SwitchTwin => self.switch_twin(),
            _ => {}
        }
        None
    }

    /// Which of the twins a node speaks to changes.
    fn switch_twin(&mut self) {
        let node = self.rng.index(self.plan.nodes);
        self.twin_side[node] = !self.twin_side[node];
        for other in 0..self.nodes.len() {
            if self.plan.flaw(self.nodes[other].identity) == Some(&Flaw::Twin) {
                self.part(node, other);
                self.dial_soon(node, other, 1, 20);
            }
        }
    }

    fn freeze(&mut self, node: usize) {
        if self.nodes[node].core.is_some() {
            self.nodes[node].is_frozen = true;
            for other in 0..self.nodes.len() {
                self.watch(node, other);
            }
        }
    }

    fn thaw(&mut self, node: usize) {
        if std::mem::take(&mut self.nodes[node].is_frozen) {
            self.trace.tell(self.now, || format!("{node}: goes on"));
            // A commit that ended meanwhile shows now.
            self.committed(node);
        }
    }

    fn partition(&mut self, lasts: Duration) {
        self.faults.count(Fault::Partition);
        let side: Vec<bool> = self.nodes.iter().map(|_| self.rng.chance(500)).collect();
        self.trace
            .tell(self.now, || format!("partition {side:?} for {lasts:?}"));
        for a in 0..side.len() {
            for b in a + 1..side.len() {
                if side[a] != side[b] {
                    self.cut(a, b, [true, true]);
                    self.after(lasts, What::Weather(Weather::MendCut { a, b }));
                }
            }
        }
    }

    fn flap(&mut self, a: usize, b: usize, times: u64) {
        self.faults.count(Fault::Flap);
        self.part(a, b);
        self.dial_soon(a, b, 1, 100);
        if times > 0 {
            let pause = Duration::from_millis(self.rng.between(50, 500));
            let times = times - 1;
            self.after(pause, What::Weather(Weather::Flap { a, b, times }));
        }
    }

    pub(super) fn mischief(&mut self, node: usize) {
        let pause = Duration::from_millis(self.rng.between(30, 300));
        self.after(pause, What::Mischief { node });
        if self.nodes[node].core.is_none() || self.nodes[node].is_frozen {
            return;
        }
        let others: Vec<usize> = (0..self.nodes.len()).filter(|other| *other != node).collect();
        let acts = self.nodes[node].traitor.as_mut().map(|traitor| traitor.act(&others));
        for (to, message) in acts.unwrap_or_default() {
            self.send_to(node, &to, &message);
        }
    }

    /// Everything heals but what lasts.
    pub(super) fn heal(&mut self) {
        if self.healed_at.is_some() {
            return;
        }
        self.healed_at = Some(self.now);
        self.height_at_heal = self.checker.height();
        self.transactions_at_heal = self.checker.transactions;
        self.trace
            .tell(self.now, || format!("HEALED, except {:?}", self.plan.flaws));
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                self.mend_link(a, b);
                self.mend_cut(a, b);
            }
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].disk.mend();
            self.nodes[node].disk_slowness = 1;
            self.thaw(node);
            let delay = Duration::from_millis(self.rng.between(1, 50));
            self.after(delay, What::Restart { node });
            self.lasting(node);
        }
        self.end_play();
    }

    /// What stays wrong with a node.
    fn lasting(&mut self, node: usize) {
        let Some(flaw) = self.plan.flaw(node).cloned() else {
            return;
        };
        let again = match flaw {
            Flaw::Gone => {
                self.crash(node, End::PowerCut);
                None
            }
            Flaw::Frozen => {
                self.freeze(node);
                None
            }
            Flaw::Slow => {
                self.nodes[node].disk_slowness = 100;
                None
            }
            Flaw::CrashLoop => {
                self.crash(node, End::Kill);
                Some(400)
            }
            Flaw::Flapping => {
                for other in 0..self.nodes.len() {
                    self.part(node, other);
                }
                Some(200)
            }
            Flaw::ClockFarOff => {
                self.faults.count(Fault::ClockFarOff);
                let offset = -self.nodes[node].clock.offset_ms();
                self.nodes[node].clock.jump(offset);
                Some(3_000)
            }
            Flaw::Deaf | Flaw::Mute => None,
            _ => return,
        };
        self.faults.count(Fault::BrokenForGood);
        if let Some(mean) = again {
            let pause = Duration::from_millis(self.rng.around(mean));
            self.after(pause, What::Weather(Weather::Lasting { node }));
        }
    }
}
