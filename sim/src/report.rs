//! What a run of many seeds shows: progress on one line, each broken promise with the command that replays it, a
//! summary.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::faults::{Fault, Faults};
use crate::plan::Mode;
use crate::run::{Finished, Task, keep_panics_quiet};

/// A round of consensus that times out at every step, in the timeouts of round 0: what recovery is measured in.
const CYCLE: Duration = Duration::from_secs(1);

/// From so many seeds on, every kind of fault must have happened.
const ENOUGH_SEEDS: u64 = 2_000;

/// Prints a line; whoever closed the pipe has seen enough.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a line for people who look for what went wrong.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Shows progress: on one line that the next takes, where that can be.
pub(crate) fn show_line(line: &str) {
    if is_terminal() {
        let _ = write!(std::io::stdout(), "\r\x1b[K{line}");
        let _ = std::io::stdout().flush();
    } else {
        say(line);
    }
}

/// Takes the line of progress away.
pub(crate) fn clear_line() {
    if is_terminal() {
        let _ = write!(std::io::stdout(), "\r\x1b[K");
    }
}

/// Sums over seeds.
struct Sums {
    started: Instant,
    shown: Instant,
    seeds: u64,
    events: u64,
    simulated: Duration,
    heights: u64,
    transactions: u64,
    unnoticed: usize,
    unnoticed_in: Vec<u64>,
    noticed_late: usize,
    faults: Faults,
    /// With the seeds.
    recoveries: Vec<(Duration, u64, usize)>,
    broken: u64,
}

/// Runs the task and reports. True if every promise was kept and every fault happened.
pub(crate) fn run(task: &Task) -> bool {
    keep_panics_quiet();
    let mut sums = Sums {
        started: Instant::now(),
        shown: Instant::now(),
        seeds: 0,
        events: 0,
        simulated: Duration::ZERO,
        heights: 0,
        transactions: 0,
        unnoticed: 0,
        unnoticed_in: Vec::new(),
        noticed_late: 0,
        faults: Faults::default(),
        recoveries: Vec::new(),
        broken: 0,
    };
    task.all(|finished| sums.take(task, &finished));
    sums.end(task)
}

impl Sums {
    fn take(&mut self, task: &Task, finished: &Finished) {
        self.seeds += 1;
        if let Ok(outcome) = &finished.outcome {
            self.events += outcome.events;
            self.simulated += outcome.simulated;
            self.heights += outcome.height;
            self.transactions += outcome.transactions;
            self.unnoticed += outcome.unnoticed;
            self.noticed_late += outcome.noticed_late;
            if outcome.unnoticed > 0 {
                self.unnoticed_in.push(finished.seed);
            }
            self.faults.add(&outcome.faults);
            self.recoveries
                .extend(outcome.recovery.map(|time| (time, finished.seed, finished.nodes)));
        }
        if let Some(violation) = finished.violation() {
            self.broken += 1;
            clear_line();
            say(&format!(
                "seed {} broke '{}': {}",
                finished.seed, violation.promise, violation.what
            ));
            say(&format!(
                "    replay: cargo sim -- {} --trace",
                arguments(task, finished)
            ));
        }
        if !task.story && self.shown.elapsed() >= Duration::from_millis(if is_terminal() { 200 } else { 10_000 }) {
            self.shown = Instant::now();
            self.progress(task);
        }
    }

    fn rate(&self) -> f64 {
        as_float(self.seeds) / self.started.elapsed().as_secs_f64().max(1e-9)
    }

    fn progress(&self, task: &Task) {
        let all = task.seeds.end - task.seeds.start;
        let crashes = [Fault::Kill, Fault::PowerCut, Fault::TornCommit, Fault::TotalPowerCut];
        let crashes: u64 = crashes.iter().map(|fault| self.faults.of(*fault)).sum();
        let cuts = [Fault::Partition, Fault::OneWayCut, Fault::Flap].iter();
        let cuts: u64 = cuts.map(|fault| self.faults.of(*fault)).sum();
        let line = format!(
            "{} of {all} seeds, {:.0}/s, {} blocks, {crashes} crashes, {cuts} cuts, {} traitors, {} broken promises",
            self.seeds,
            self.rate(),
            self.heights,
            self.faults.of(Fault::Traitor),
            self.broken
        );
        show_line(&line);
    }

    fn end(&mut self, task: &Task) -> bool {
        clear_line();
        let seconds = self.started.elapsed().as_secs_f64();
        say(&format!(
            "{} seeds in {seconds:.1} s: {:.0} a second on {} threads; {} events, {:.1} simulated hours, {} blocks, {} transactions",
            self.seeds,
            self.rate(),
            task.jobs,
            self.events,
            self.simulated.as_secs_f64() / 3600.0,
            self.heights,
            self.transactions
        ));
        let faults: Vec<String> = self
            .faults
            .all()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        for line in faults.chunks(6) {
            say(&format!("    {}", line.join(", ")));
        }
        self.recoveries.sort_unstable();
        if let (Some(half), Some(most), Some(max)) = (self.percentile(50), self.percentile(99), self.recoveries.last())
        {
            say(&format!(
                "first block after the healing: p50 {:.2}, p99 {:.2}, max {:.2} cycles of {CYCLE:?}",
                cycles(half),
                cycles(most),
                cycles(max.0)
            ));
            let slowest = self.recoveries.iter().rev().take(3);
            let slowest: Vec<String> = slowest
                .map(|(time, seed, nodes)| format!("{:.2} in seed {seed} of {nodes} nodes", cycles(*time)))
                .collect();
            say(&format!("    slowest: {}", slowest.join(", ")));
        }
        let equivocations = self.faults.of(Fault::Equivocation);
        say(&format!(
            "contradictions received by an honest node: {equivocations}, evidence later than two blocks: {}, none: {}",
            self.noticed_late, self.unnoticed
        ));
        if !self.unnoticed_in.is_empty() {
            self.unnoticed_in.sort_unstable();
            let seeds: Vec<String> = self.unnoticed_in.iter().take(10).map(u64::to_string).collect();
            say(&format!("    no evidence in seeds {}", seeds.join(", ")));
        }
        let missing = self.missing(task);
        if !missing.is_empty() {
            say(&format!(
                "never happened, so nothing is proved about it: {}",
                missing.join(", ")
            ));
        }
        say(&format!("broken promises: {}", self.broken));
        self.broken == 0 && missing.is_empty()
    }

    fn percentile(&self, percent: usize) -> Option<Duration> {
        let at = (self.recoveries.len() * percent).div_ceil(100);
        self.recoveries.get(at.saturating_sub(1)).map(|(time, ..)| *time)
    }

    fn missing(&self, task: &Task) -> Vec<&'static str> {
        if task.mode != Mode::Everything || self.seeds < ENOUGH_SEEDS {
            return Vec::new();
        }
        let never = self.faults.all().filter(|(_, count)| *count == 0);
        never.map(|(name, _)| name).collect()
    }
}

/// What replays one seed of a task.
pub(crate) fn arguments(task: &Task, finished: &Finished) -> String {
    let mode = match task.mode {
        Mode::Everything => "",
        Mode::Calm => " --mode calm",
        Mode::Liveness => " --mode liveness",
        Mode::Traitors => " --mode traitors",
    };
    format!("--seed {} --nodes {}{mode}", finished.seed, finished.nodes)
}

fn cycles(time: Duration) -> f64 {
    time.as_secs_f64() / CYCLE.as_secs_f64()
}

pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

#[expect(clippy::cast_precision_loss, reason = "a count on its way to a line of text")]
pub(crate) fn as_float(count: u64) -> f64 {
    count as f64
}
