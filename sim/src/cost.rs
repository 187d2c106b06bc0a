//! `cargo sim -- --traitors`: what each way to break the protocol costs the others, against the same histories without
//! traitors.
//!
//! Nothing else goes wrong, users submit all the time, and what is final after a fixed simulated time counts. Blocks
//! are as many as latency allows while nobody interferes, so one time-out costs many of them; users feel the
//! transactions.

use std::time::Duration;

use anyhow::Result;

use crate::plan::Plan;
use crate::report::{as_float, clear_line, is_terminal, say, show_line};
use crate::run::{history, keep_panics_quiet, on_threads};
use crate::traitor::{DEEDS, Deed};

/// Histories for each deed.
const SEEDS: u64 = 10;

/// Simulated time that is measured.
pub(crate) const MEASURED: Duration = Duration::from_secs(20);

/// What must be left of the throughput, in per cent.
const LEAST: f64 = 60.0;

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    blocks: u64,
    transactions: u64,
    broken: u64,
}

/// Measures each deed; true if no promise was broken and enough transactions became final under each.
pub(crate) fn run(nodes: usize, jobs: u64) -> Result<bool> {
    keep_panics_quiet();
    let deeds: Vec<Option<Deed>> = std::iter::once(None)
        .chain(DEEDS.iter().map(|(deed, _)| Some(*deed)))
        .collect();
    let mut sums = vec![Sum::default(); deeds.len()];
    let all = deeds.len() as u64 * SEEDS;
    let place = |number: u64| usize::try_from(number / SEEDS).unwrap_or(0);
    let one = |number: u64| {
        let plan = Plan::attacked(number % SEEDS, nodes, deeds[place(number)], MEASURED);
        (number, history(plan, false))
    };
    let mut done = 0;
    on_threads(
        jobs,
        0..all,
        one,
        |_| false,
        |(number, outcome)| {
            done += 1;
            if is_terminal() {
                show_line(&format!("{done} of {all} histories"));
            }
            let sum = &mut sums[place(number)];
            match outcome {
                Ok(outcome) if outcome.violation.is_none() => {
                    sum.blocks += outcome.at_heal.0;
                    sum.transactions += outcome.at_heal.1;
                }
                _ => sum.broken += 1,
            }
        },
    );
    clear_line();
    let seconds = as_float(SEEDS) * MEASURED.as_secs_f64();
    let calm = sums[0];
    say(&format!(
        "{nodes} nodes, {} of them traitors, {SEEDS} histories of {MEASURED:?} for each deed",
        (nodes - 1) / 3
    ));
    say("deed                       blocks/s  of calm  transactions/s  of calm");
    let mut well = true;
    for (at, sum) in sums.iter().enumerate() {
        let name = at.checked_sub(1).map_or("(no traitor)", |deed| DEEDS[deed].1);
        let share = |count: u64, of: u64| 100.0 * as_float(count) / as_float(of.max(1));
        let transactions = share(sum.transactions, calm.transactions);
        well &= sum.broken == 0 && transactions >= LEAST;
        say(&format!(
            "{name:<26} {:>8.1}  {:>5.0} %  {:>14.1}  {transactions:>5.0} %{}",
            as_float(sum.blocks) / seconds,
            share(sum.blocks, calm.blocks),
            as_float(sum.transactions) / seconds,
            if sum.broken > 0 { "  BROKEN PROMISE" } else { "" }
        ));
    }
    Ok(well)
}
