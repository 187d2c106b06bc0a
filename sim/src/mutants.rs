//! Deliberate bugs: proof that the checkers bite.
//!
//! Production code knows nothing of mutants. A mutant is a piece of source and what stands in its place, in
//! `sim/mutants.toml`; all of them are built at once into a copy of the crates below `target/`, each behind a switch
//! that the copy reads from its environment. So a mutant whose piece of source is gone is noticed at once, and the copy
//! with every switch off must be clean.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::report::say;
use crate::run::Task;

/// Seeds within which a mutant must be caught, and within which the copy must be clean.
const SEEDS: u64 = 500;

/// What the copy adds to `types`: the switch.
const SWITCH: &str = r#"
/// Whether a mutant is switched on.
pub fn mutant(name: &str) -> bool {
    static ON: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    ON.get_or_init(|| std::env::var("FUSION_MUTANT").ok()).as_deref() == Some(name)
}
"#;

/// Name of the copy's program.
const PROGRAM: &str = "fusion-sim-mutants";

/// What the copy consists of.
const PARTS: [&str; 10] = [
    "Cargo.toml",
    "Cargo.lock",
    "types",
    "mempool",
    "consensus",
    "client",
    "evm",
    "settlement",
    "sequencer",
    "sim",
];

#[derive(Debug, Deserialize)]
struct File {
    mutant: Vec<Mutant>,
}

/// What `cargo metadata` tells.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
}

/// One deliberate bug.
#[derive(Debug, Deserialize)]
struct Mutant {
    name: String,
    /// What is wrong.
    what: String,
    /// The dependency that has the file; one of our crates if none.
    package: Option<String>,
    file: PathBuf,
    /// A piece of the file that is there exactly once.
    find: String,
    /// What stands in its place; `ON` is the switch.
    replace: String,
    /// Validators, if a mix of 4 and 7 is not what finds it soonest.
    nodes: Option<u64>,
    mode: Option<String>,
    /// Whether the scenarios of twins must catch it, in the place of the seeds.
    #[serde(default)]
    twins: bool,
}

/// Builds the copy, checks that it is clean, and demands that each mutant is caught.
pub(crate) fn run(task: &Task, only: Option<&str>) -> Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let foreign = foreign_packages(&root)?;
    let text = fs::read_to_string(root.join("sim/mutants.toml")).context("cannot read sim/mutants.toml")?;
    let mutants = toml::from_str::<File>(&text).context("sim/mutants.toml")?.mutant;
    let copy = root.join("target/mutants");
    write_copy(&root, &copy, &mutants, &foreign)?;
    say(&format!("building a copy of the nodes with {} mutants", mutants.len()));
    let program = build(&root, &copy)?;
    let clean = seeds(&program, task, None)?;
    if let Some((seed, promise)) = clean {
        bail!("the copy without any mutant breaks '{promise}' at seed {seed}");
    }
    say(&format!("{:<34} {SEEDS} seeds, clean", "no mutant"));
    let mut escaped = 0;
    for mutant in mutants
        .iter()
        .filter(|mutant| only.is_none_or(|only| mutant.name.contains(only)))
    {
        if mutant.twins {
            escaped += usize::from(!is_caught_by_twins(&program, task, mutant)?);
            continue;
        }
        match seeds(&program, task, Some(mutant))? {
            Some((seed, promise)) => say(&format!(
                "{:<34} caught by '{promise}' after {} seeds",
                mutant.name,
                seed + 1
            )),
            None => {
                escaped += 1;
                say(&format!(
                    "{:<34} NOT CAUGHT within {SEEDS} seeds: {}",
                    mutant.name, mutant.what
                ));
            }
        }
    }
    say(&format!("{escaped} of {} mutants escaped", mutants.len()));
    Ok(escaped == 0)
}

/// Folders of the dependencies, by name.
fn foreign_packages(root: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(root.join("sim/Cargo.toml"));
    let output = cargo.output().context("cannot run cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let folder = |package: Package| Some((package.name, package.manifest_path.parent()?.to_owned()));
    Ok(metadata.packages.into_iter().filter_map(folder).collect())
}

/// Copies the sources, and puts the mutants in. Of dependencies, those that have mutants are copied too.
fn write_copy(root: &Path, copy: &Path, mutants: &[Mutant], foreign: &BTreeMap<String, PathBuf>) -> Result<()> {
    let (own, others): (Vec<&Mutant>, Vec<&Mutant>) = mutants.iter().partition(|mutant| mutant.package.is_none());
    for part in PARTS {
        // Unchanged files keep their times, so that a second run builds little.
        copy_changed(&root.join(part), &copy.join(part), Path::new(part), &own)
            .with_context(|| format!("cannot copy {part}"))?;
    }
    for mutant in &own {
        ensure!(
            root.join(&mutant.file).is_file(),
            "mutant {}: there is no {}",
            mutant.name,
            mutant.file.display()
        );
    }
    let mut patches = String::new();
    for mutant in &others {
        let package = mutant.package.as_deref().unwrap_or_default();
        let folder = foreign
            .get(package)
            .with_context(|| format!("there is no dependency {package}"))?;
        let here: Vec<&Mutant> = others
            .iter()
            .copied()
            .filter(|other| other.package == mutant.package)
            .collect();
        copy_changed(folder, &copy.join(package), Path::new(""), &here)
            .with_context(|| format!("cannot copy {package}"))?;
        let patch = format!("{package} = {{ path = \"../{package}\" }}\n");
        if !patches.contains(&patch) {
            patches.push_str(&patch);
        }
    }
    let manifest = fs::read_to_string(root.join("sim/Cargo.toml"))?;
    // A name of its own: both programs stand in one folder.
    let manifest = manifest.replacen("name = \"fusion-sim\"", &format!("name = \"{PROGRAM}\""), 1);
    let manifest = manifest.replace("[patch.crates-io]\n", &format!("[patch.crates-io]\n{patches}"));
    write_changed(&copy.join("sim/Cargo.toml"), manifest.as_bytes())
}

/// Copies a file or folder; `place` is where it stands for mutants.
fn copy_changed(from: &Path, to: &Path, place: &Path, mutants: &[&Mutant]) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            if name != "target" {
                copy_changed(&from.join(&name), &to.join(&name), &place.join(&name), mutants)?;
            }
        }
        return Ok(());
    }
    // It names the patched dependencies, and is written apart.
    if place == Path::new("sim/Cargo.toml") || place == Path::new("sim/Cargo.lock") && to.exists() {
        return Ok(());
    }
    let mut bytes = fs::read(from)?;
    let here: Vec<&&Mutant> = mutants.iter().filter(|mutant| mutant.file == place).collect();
    if !here.is_empty() {
        let mut text = String::from_utf8(bytes)?;
        for mutant in here {
            text = mutant.put_into(&text)?;
        }
        bytes = text.into_bytes();
    }
    if place == Path::new("types/src/lib.rs") {
        bytes.extend_from_slice(SWITCH.as_bytes());
    }
    write_changed(to, &bytes)
}

fn write_changed(to: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(to, bytes)?;
    Ok(())
}

impl Mutant {
    fn put_into(&self, text: &str) -> Result<String> {
        let (name, file) = (&self.name, self.file.display());
        let count = text.matches(&self.find).count();
        ensure!(
            count == 1,
            "mutant {name}: its piece of source is {count} times in {file}, it must be there once"
        );
        let on = if self.package.is_some() {
            format!("{{ extern crate std; std::env::var(\"FUSION_MUTANT\").as_deref() == Ok(\"{name}\") }}")
        } else if self.file.starts_with("types") {
            format!("crate::mutant(\"{name}\")")
        } else {
            format!("fusion_types::mutant(\"{name}\")")
        };
        Ok(text.replacen(&self.find, &self.replace.replace("ON", &on), 1))
    }
}

/// Builds the copy with the profile of this program, beside its own build, so that the dependencies are built once.
fn build(root: &Path, copy: &Path) -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let release = program.components().any(|part| part.as_os_str() == "release");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Not locked: the copy's patches change its lock file, and nothing else does.
    cargo
        .args(["build", "--quiet", "--offline", "--manifest-path"])
        .arg(copy.join("sim/Cargo.toml"));
    cargo.arg("--target-dir").arg(root.join("target"));
    if release {
        cargo.arg("--release");
    }
    let status = cargo.status().context("cannot run cargo")?;
    ensure!(status.success(), "the copy with the mutants does not build");
    let profile = if release { "release" } else { "debug" };
    Ok(root.join("target").join(profile).join(PROGRAM))
}

/// Whether the scenarios of twins catch a mutant.
fn is_caught_by_twins(program: &Path, task: &Task, mutant: &Mutant) -> Result<bool> {
    let mut command = Command::new(program);
    command.args(["--twins", "--stop", "--jobs", &task.jobs.to_string()]);
    command.env("FUSION_MUTANT", &mutant.name);
    let output = command.output().context("cannot run the copy")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.lines().find(|line| line.starts_with("scenario "));
    let promise = found.and_then(|line| line.split('\'').nth(1));
    let count = text
        .lines()
        .find(|line| line.contains(" scenarios in "))
        .and_then(|line| line.split(' ').next());
    match promise {
        Some(promise) => say(&format!(
            "{:<34} caught by '{promise}' after {} scenarios of twins",
            mutant.name,
            count.unwrap_or("some")
        )),
        None => say(&format!("{:<34} NOT CAUGHT by twins: {}", mutant.name, mutant.what)),
    }
    Ok(promise.is_some())
}

/// The first seed that broke a promise, and which.
fn seeds(program: &Path, task: &Task, mutant: Option<&Mutant>) -> Result<Option<(u64, String)>> {
    let mut command = Command::new(program);
    command.args([
        "--stop",
        "--jobs",
        &task.jobs.to_string(),
        "--seeds",
        &format!("0..{SEEDS}"),
    ]);
    if let Some(mutant) = mutant {
        command.env("FUSION_MUTANT", &mutant.name);
        if let Some(nodes) = mutant.nodes {
            command.args(["--nodes", &nodes.to_string()]);
        }
        if let Some(mode) = &mutant.mode {
            command.args(["--mode", mode]);
        }
    }
    let output = command.output().context("cannot run the copy")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.lines().find_map(|line| {
        let (seed, rest) = line.strip_prefix("seed ")?.split_once(" broke '")?;
        Some((seed.parse().ok()?, rest.split('\'').next()?.to_owned()))
    });
    ensure!(found.is_some() || output.status.success(), "the copy failed: {text}");
    Ok(found)
}
