//! Whether a seed means one history: the same twice in one process, and the same in a debug and in a release build.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::report::say;
use crate::run::{Task, keep_panics_quiet};

/// `seed hash`, a line for each seed.
pub(crate) fn print_hashes(task: &Task) -> Result<bool> {
    keep_panics_quiet();
    for (seed, hash) in hashes(task) {
        say(&format!("{seed} {hash:016x}"));
    }
    Ok(true)
}

fn hashes(task: &Task) -> BTreeMap<u64, u64> {
    let mut hashes = BTreeMap::new();
    task.all(|finished| {
        hashes.insert(finished.seed, finished.outcome.map_or(0, |outcome| outcome.hash));
    });
    hashes
}

/// Compares; true if every seed had one history.
pub(crate) fn run(task: &Task) -> Result<bool> {
    keep_panics_quiet();
    let first = hashes(task);
    say(&format!("{} seeds, once", first.len()));
    let second = hashes(task);
    say("and again in the same process");
    let other = other_profile(task)?;
    say("and in the other build profile");
    let mut differ = 0;
    for (seed, hash) in &first {
        if second.get(seed) != Some(hash) || other.get(seed) != Some(hash) {
            differ += 1;
            let show = |hash: Option<&u64>| hash.map_or("nothing".into(), |hash| format!("{hash:016x}"));
            say(&format!(
                "seed {seed} has several histories: {hash:016x}, {}, other profile {}",
                show(second.get(seed)),
                show(other.get(seed))
            ));
        }
    }
    say(&format!("{} seeds audited, {differ} differ", first.len()));
    Ok(differ == 0)
}

/// The same seeds in a build of the other profile.
fn other_profile(task: &Task) -> Result<BTreeMap<u64, u64>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--quiet", "--locked", "--manifest-path"]);
    cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    cargo.args(["--target-dir", concat!(env!("CARGO_MANIFEST_DIR"), "/../target")]);
    if cfg!(debug_assertions) && !is_release() {
        cargo.arg("--release");
    }
    cargo.args([
        "--",
        "--hashes",
        "--seeds",
        &format!("{}..{}", task.seeds.start, task.seeds.end),
    ]);
    cargo.args(["--jobs", &task.jobs.to_string()]);
    if let Some(mode) = clap::ValueEnum::to_possible_value(&task.mode) {
        cargo.args(["--mode", mode.get_name()]);
    }
    if let Some(nodes) = task.nodes {
        cargo.args(["--nodes", &nodes.to_string()]);
    }
    let output = cargo.output().context("cannot run cargo for the other build profile")?;
    if !output.status.success() {
        bail!(
            "the other build profile failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |line: &str| {
        let (seed, hash) = line.split_once(' ')?;
        Some((seed.parse().ok()?, u64::from_str_radix(hash, 16).ok()?))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// Which profile this is: both check overflows and assert, so only the place of the program tells.
fn is_release() -> bool {
    let program = std::env::current_exe().unwrap_or_default();
    program.components().any(|part| part.as_os_str() == "release")
}
