//! `cargo sim -- --twins`: every scenario of twins for four nodes, or samples for more, and what came of them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::checker::Violation;
use crate::faults::Fault;
use crate::plan::Plan;
use crate::report::{as_float, clear_line, is_terminal, say, show_line};
use crate::run::{history, keep_panics_quiet, on_threads};
use crate::script::{Enumeration, Script};
use crate::world::Outcome;

/// Nodes of which all scenarios are played.
const ENUMERATED: usize = 4;

/// Scenarios are played out of order, so that the first thousands are of all sorts. It has no factor in common with how
/// many there are.
const STRIDE: u64 = 127_777;

/// What to play, and how.
#[derive(Debug, Clone)]
pub(crate) struct Twins {
    pub(crate) nodes: usize,
    /// How many, where not all are played.
    pub(crate) samples: u64,
    /// This one alone.
    pub(crate) scenario: Option<u64>,
    pub(crate) jobs: u64,
    pub(crate) story: bool,
    pub(crate) stop: bool,
}

/// Scenarios without evidence that are named.
const UNNOTICED_SHOWN: usize = 10;

struct Played {
    number: u64,
    script: Script,
    outcome: Result<Outcome, Violation>,
}

impl Played {
    fn violation(&self) -> Option<&Violation> {
        self.outcome
            .as_ref()
            .map_or_else(Some, |outcome| outcome.violation.as_ref())
    }
}

#[derive(Default)]
struct Sums {
    played: u64,
    broken: u64,
    events: u64,
    simulated: Duration,
    blocks: u64,
    later_rounds: u64,
    equivocations: u64,
    evidence: u64,
    unnoticed: usize,
    /// The first scenarios in which something was not noticed.
    unnoticed_in: Vec<u64>,
    noticed_late: usize,
    recoveries: Vec<Duration>,
}

/// Plays them; true if every promise was kept in all.
pub(crate) fn run(twins: &Twins) -> Result<bool> {
    keep_panics_quiet();
    let all = Enumeration::new();
    let is_whole = twins.nodes == ENUMERATED;
    let numbers = if is_whole { all.numbers() } else { u64::MAX };
    ensure!(
        twins.scenario.is_none_or(|number| number < numbers),
        "scenarios of {ENUMERATED} nodes have numbers below {numbers}"
    );
    let script = |number| {
        if is_whole {
            all.script(number)
        } else {
            Script::sampled(number, twins.nodes)
        }
    };
    let play = |number| {
        let script = script(number);
        let outcome = history(Plan::scripted(number, twins.nodes, script.clone()), twins.story);
        Played {
            number,
            script,
            outcome,
        }
    };
    let mut sums = Sums::default();
    let started = Instant::now();
    if let Some(number) = twins.scenario {
        sums.take(twins, &play(number));
        sums.end(twins, started);
        return Ok(sums.broken == 0);
    }
    let (range, count) = if is_whole {
        (numbers, all.count())
    } else {
        (twins.samples, twins.samples)
    };
    say(&format!("{count} scenarios of {} nodes", twins.nodes));
    let mut shown = Instant::now();
    let one = |at: u64| {
        let number = if is_whole { at * STRIDE % numbers } else { at };
        (!is_whole || all.counts(number)).then(|| play(number))
    };
    let ends =
        |played: &Option<Played>| twins.stop && played.as_ref().is_some_and(|played| played.violation().is_some());
    on_threads(twins.jobs, 0..range, one, ends, |played| {
        let Some(played) = played else { return };
        sums.take(twins, &played);
        if shown.elapsed() >= Duration::from_millis(if is_terminal() { 200 } else { 30_000 }) {
            shown = Instant::now();
            let rate = as_float(sums.played) / started.elapsed().as_secs_f64().max(1e-9);
            show_line(&format!(
                "{} of {count} scenarios, {rate:.0}/s, {} broken promises",
                sums.played, sums.broken
            ));
        }
    });
    clear_line();
    sums.end(twins, started);
    Ok(sums.broken == 0)
}

impl Sums {
    fn take(&mut self, twins: &Twins, played: &Played) {
        self.played += 1;
        if let Ok(outcome) = &played.outcome {
            self.events += outcome.events;
            self.simulated += outcome.simulated;
            self.blocks += outcome.height;
            self.later_rounds += outcome.faults.of(Fault::LaterRound);
            self.equivocations += outcome.faults.of(Fault::Equivocation);
            self.evidence += outcome.faults.of(Fault::Evidence);
            self.unnoticed += outcome.unnoticed;
            if outcome.unnoticed > 0 && self.unnoticed_in.len() < UNNOTICED_SHOWN {
                self.unnoticed_in.push(played.number);
            }
            self.noticed_late += outcome.noticed_late;
            self.recoveries.extend(outcome.recovery);
        }
        if let Some(violation) = played.violation() {
            self.broken += 1;
            clear_line();
            say(&format!(
                "scenario {} broke '{}': {}",
                played.number, violation.promise, violation.what
            ));
            say(&format!("    {}", played.script));
            say(&format!(
                "    replay: cargo sim -- --twins --nodes {} --scenario {} --trace",
                twins.nodes, played.number
            ));
        }
    }

    fn end(&mut self, twins: &Twins, started: Instant) {
        let seconds = started.elapsed().as_secs_f64();
        say(&format!(
            "{} scenarios in {seconds:.1} s: {:.0} a second on {} threads; {} events, {:.1} simulated hours, {} blocks, {} of them in later rounds",
            self.played,
            as_float(self.played) / seconds.max(1e-9),
            twins.jobs,
            self.events,
            self.simulated.as_secs_f64() / 3600.0,
            self.blocks,
            self.later_rounds
        ));
        say(&format!(
            "contradictions received by an honest node: {}, evidence {}; later than two blocks: {}, none: {}",
            self.equivocations, self.evidence, self.noticed_late, self.unnoticed
        ));
        if !self.unnoticed_in.is_empty() {
            say(&format!("    no evidence in scenarios {:?}", self.unnoticed_in));
        }
        self.recoveries.sort_unstable();
        let at = |per_cent: usize| {
            self.recoveries
                .get((self.recoveries.len() * per_cent / 100).min(self.recoveries.len().saturating_sub(1)))
        };
        if let (Some(half), Some(most), Some(max)) = (at(50), at(99), self.recoveries.last()) {
            say(&format!(
                "first block after the healing: p50 {half:.2?}, p99 {most:.2?}, max {max:.2?}"
            ));
        }
        say(&format!("broken promises: {}", self.broken));
    }
}
