//! `cargo sim`: whole nodes through everything that can go wrong, one history for each seed.
//!
//! The nodes are the production `Core`, the messages the production encoding; time, network, disks, clocks, users and
//! traitors are simulated on one thread, and everything follows from the seed. The checkers (`checker.rs`) look at what
//! nodes make visible and share no code with them. Leaves to others: real disks, sockets and processes
//! (`deploy/chaos/`).

mod audit;
mod checker;
mod clock;
mod cost;
mod disk;
mod evm;
mod faults;
mod mutants;
mod network;
mod plan;
mod report;
mod rng;
mod run;
mod script;
mod trace;
mod traitor;
mod twins;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "parts of the disk serve the tests of damage and of power only")
)]
mod volume;
mod world;

#[cfg(test)]
mod damage;
#[cfg(test)]
mod power;

use std::ops::Range;
use std::process::ExitCode;

use clap::Parser;

use plan::Mode;

/// Whole Fusion nodes under every fault, deterministically: one seed, one history.
///
/// Each seed switches on its own few faults: crashes and power cuts at any moment, torn commits, lost write-ahead logs,
/// full and failing disks, partitions, one-way cuts, slow and flapping links, wrong clocks, frozen nodes, twins and
/// traitors. After some seconds everything heals but what is broken for good, and the rest must go on. A seed that
/// breaks a promise is printed with the command that replays it.
#[derive(Debug, Parser)]
#[command(name = "cargo sim --", version, after_help = EXAMPLES)]
struct Args {
    /// Seeds to run, FROM..TO.
    #[arg(long, value_parser = range, default_value = "0..1000", value_name = "FROM..TO")]
    seeds: Range<u64>,
    /// Runs this seed alone.
    #[arg(long, conflicts_with = "seeds", value_name = "SEED")]
    seed: Option<u64>,
    /// Validators: 4 to 13; without it, 7 in every third seed and 4 in the others.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=13))]
    nodes: Option<u64>,
    /// What happens.
    #[arg(long, value_enum, default_value_t = Mode::Everything)]
    mode: Mode,
    /// Threads; each seed runs on one.
    #[arg(long, default_value_t = run::cores(), value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: u64,
    /// Tells the story of each seed, event by event.
    #[arg(long)]
    trace: bool,
    /// Runs every seed twice here and once in the other build profile (debug or release): the same history each time.
    #[arg(long, conflicts_with_all = ["trace", "mutants"])]
    audit: bool,
    /// Builds deliberate bugs into a copy of the nodes: each must be caught within 500 seeds.
    #[arg(long, conflicts_with = "trace")]
    mutants: bool,
    /// With --mutants: only those whose names contain this.
    #[arg(long, requires = "mutants", value_name = "NAME")]
    only: Option<String>,
    /// Plays scenarios of twins, two processes with one key, while who hears whom changes from round to round: all of
    /// them for 4 nodes (some minutes), samples for more.
    #[arg(long, conflicts_with_all = ["seeds", "seed", "mode", "mutants", "audit"])]
    twins: bool,
    /// With --twins and more than 4 nodes: how many scenarios.
    #[arg(long, requires = "twins", default_value_t = 10_000, value_name = "COUNT")]
    samples: u64,
    /// With --twins: this scenario alone.
    #[arg(long, requires = "twins", value_name = "NUMBER")]
    scenario: Option<u64>,
    /// Measures what each way to break the protocol costs the others: blocks and transactions a simulated second,
    /// against the same histories without traitors.
    #[arg(long, conflicts_with_all = ["seeds", "seed", "mode", "mutants", "audit", "twins", "trace"])]
    traitors: bool,
    /// Stops at the first seed or scenario that breaks a promise.
    #[arg(long)]
    stop: bool,
    /// Prints `seed hash` for each seed and nothing else: what --audit compares.
    #[arg(long, hide = true)]
    hashes: bool,
}

const EXAMPLES: &str = "Examples:
  cargo sim                                 the first thousand seeds
  cargo sim -- --seeds 0..10000             more of them
  cargo sim -- --seed 1164 --trace          the story of one seed
  cargo sim -- --mode liveness              something is broken for good in every seed
  cargo sim -- --mode traitors --nodes 7    two traitors of seven
  cargo sim -- --twins                      every scenario of twins for 4 nodes
  cargo sim -- --twins --nodes 7 --samples 100000
  cargo sim -- --twins --scenario 1234 --trace
  cargo sim -- --traitors                   what each kind of traitor costs the others
  cargo sim -- --mutants                    proves that the checkers bite";

/// A range of seeds, `FROM..TO`.
fn range(text: &str) -> Result<Range<u64>, String> {
    let parts = text.split_once("..").ok_or("a range is FROM..TO, as in 0..1000")?;
    let number = |name: &str, text: &str| {
        text.parse::<u64>()
            .map_err(|_| format!("{name} is '{text}', which is no number below 2^64"))
    };
    let range = number("FROM", parts.0)?..number("TO", parts.1)?;
    if range.is_empty() {
        return Err(format!("'{text}' has no seed: FROM must be below TO"));
    }
    Ok(range)
}

fn main() -> ExitCode {
    let args = Args::parse();
    let task = run::Task {
        seeds: args.seed.map_or(args.seeds, |seed| seed..seed.saturating_add(1)),
        nodes: args.nodes.and_then(|nodes| usize::try_from(nodes).ok()),
        mode: args.mode,
        jobs: args.jobs,
        story: args.trace,
        stop: args.stop,
    };
    let result = if args.twins {
        twins::run(&twins::Twins {
            nodes: task.nodes.unwrap_or(4),
            samples: args.samples,
            scenario: args.scenario,
            jobs: task.jobs,
            story: task.story,
            stop: task.stop,
        })
    } else if args.traitors {
        cost::run(task.nodes.unwrap_or(4), task.jobs)
    } else if args.mutants {
        mutants::run(&task, args.only.as_deref())
    } else if args.hashes {
        audit::print_hashes(&task)
    } else if args.audit {
        audit::run(&task)
    } else {
        Ok(report::run(&task))
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
