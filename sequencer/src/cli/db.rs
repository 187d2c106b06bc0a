//! `fusion db`: a stopped node's data, checked and mended.

use std::io::{IsTerminal, Write};

use clap::Subcommand;
use fusion_client::{NodeUrl, Trust};

use super::{Location, client_runtime, genesis, print, print_json};
use crate::exit::{Exit, ExitError};
use crate::store::{self, LocalVolume, RepairError, Repaired, Report, StoreError};

const CHECK_HELP: &str = "\
Stop the node first. Verifies every checksum, block, certificate and state root from the genesis on, and writes nothing.
Exit code 0 when all is well, 1 when something is damaged, 75 when the node runs.

Example:
  fusion db check --home /var/lib/fusion";

const REPAIR_HELP: &str = "\
Stop the node first, and look at its disk: one that flips bits will do so again. Verifies the log as `db check` does. A segment file in which
anything is damaged is written again: what is sound stays, the rest comes from the nodes given by --url, and every block is
verified against the genesis and the blocks around it. A node that lies is told from one that does not, so one honest node is enough.
Exit code 0 when all is well at the end, 69 when no node gave a block that is needed, 75 when the node runs.

Example:
  fusion db repair --home /var/lib/fusion --url http://a:7101 --url http://b:7101";

#[derive(Debug, Subcommand)]
pub(super) enum DbCommand {
    /// Verify the whole block log.
    #[command(after_help = CHECK_HELP)]
    Check {
        #[command(flatten)]
        location: Location,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Verify the whole block log, and fetch from other nodes what is damaged.
    #[command(after_help = REPAIR_HELP)]
    Repair {
        #[command(flatten)]
        location: Location,
        /// RPC address of another node of the network (may be repeated).
        #[arg(long, value_name = "URL", required = true)]
        url: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: &DbCommand) -> Result<(), ExitError> {
    match command {
        DbCommand::Check { location, json } => check(location, *json),
        DbCommand::Repair { location, url, json } => repair(location, url, *json),
    }
}

fn check(location: &Location, json: bool) -> Result<(), ExitError> {
    let mut config = location.load()?;
    let (_, genesis) = genesis::read_into(&mut config)?;
    let home = &config.node.home;
    let report = store::check(&LocalVolume, home, &genesis, &mut progress()).map_err(|error| match error {
        StoreError::Corrupt { .. } => {
            let command = store::repair_command(home);
            ExitError::new(refusal(&error), format_args!("{error}: `{command}`"))
        }
        _ => ExitError::new(refusal(&error), error),
    })?;
    if json {
        print_json(&as_json(&report))
    } else {
        print(&as_text(&report))
    }
}

fn repair(location: &Location, urls: &[String], json: bool) -> Result<(), ExitError> {
    let urls: Result<Vec<_>, _> = urls.iter().map(|url| NodeUrl::parse(url)).collect();
    let mut urls = urls.map_err(|error| ExitError::new(Exit::Usage, error))?;
    let mut config = location.load()?;
    let (_, genesis) = genesis::read_into(&mut config)?;
    let trust = Trust::of(&genesis);
    let runtime = client_runtime()?;
    // Whoever answered last is asked first: one that is silent costs its time once.
    let mut fetch = |height| {
        let (block, answered) = runtime.block_on(fusion_client::block(&urls, &trust, height))?;
        urls.swap(0, answered);
        Ok(block)
    };
    let repaired = store::repair(&LocalVolume, &config.node.home, &genesis, &mut fetch, &mut progress());
    let repaired = repaired.map_err(|error| match &error {
        RepairError::Store(inner) => ExitError::new(refusal(inner), &error),
        RepairError::Fetch { .. } => ExitError::new(Exit::Unavailable, &error),
    })?;
    if json {
        print_json(&repaired_as_json(&repaired))
    } else {
        print(&repaired_as_text(&repaired))
    }
}

/// Shows how far the check is, where somebody looks.
fn progress() -> impl FnMut(u64, u64) {
    let live = std::io::stderr().is_terminal();
    move |done, total| {
        if live {
            let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
            let mut err = std::io::stderr().lock();
            // Only for the eye.
            drop(write!(err, "\r\x1b[2K{percent} % of {total} bytes\r").and_then(|()| err.flush()));
        }
    }
}

fn refusal(error: &StoreError) -> Exit {
    match error {
        StoreError::Locked { .. } => Exit::Locked,
        StoreError::Network { .. } => Exit::Config,
        StoreError::Io { .. } | StoreError::Full { .. } => Exit::Io,
        _ => Exit::Negative,
    }
}

fn repaired_as_text(repaired: &Repaired) -> String {
    let files = repaired
        .files
        .iter()
        .map(|file| format!("written again: {}\n", file.display()));
    let mut text: String = files.collect();
    if let Some(kept) = &repaired.kept {
        text += &format!(
            "kept: {} (the last segment as it was; decisions in it that could not be read come from other nodes at the next start)\n",
            kept.display()
        );
    }
    let heights: Vec<_> = repaired.fetched.iter().map(ToString::to_string).collect();
    if !heights.is_empty() {
        text += &format!("fetched from other nodes: blocks {}\n", heights.join(", "));
    }
    text + &as_text(&repaired.report)
}

fn repaired_as_json(repaired: &Repaired) -> serde_json::Value {
    let files = repaired.files.iter().map(|file| file.display().to_string());
    serde_json::json!({
        "files": files.collect::<Vec<_>>(),
        "kept": repaired.kept.as_ref().map(|kept| kept.display().to_string()),
        "fetched": repaired.fetched.iter().map(|height| height.0).collect::<Vec<_>>(),
        "report": as_json(&repaired.report),
    })
}

fn as_text(report: &Report) -> String {
    let mut text = format!(
        "all well: {} blocks with {} transactions in {} segments, {} bytes; tip {} at height {}",
        report.blocks, report.transactions, report.segments, report.bytes, report.tip_id, report.tip
    );
    if report.torn_bytes > 0 {
        text += &format!(
            "\n{} bytes of an unfinished write at the end; the next start cuts them",
            report.torn_bytes
        );
    }
    text
}

fn as_json(report: &Report) -> serde_json::Value {
    serde_json::json!({
        "blocks": report.blocks,
        "transactions": report.transactions,
        "segments": report.segments,
        "bytes": report.bytes,
        "height": report.tip.0,
        "tip": report.tip_id.to_string(),
        "undecided": report.undecided,
        "tornBytes": report.torn_bytes,
    })
}
