//! `fusion db`: a stopped node's data.

use std::io::{IsTerminal, Write};

use clap::Subcommand;

use super::{Location, genesis, print, print_json};
use crate::exit::{Exit, ExitError};
use crate::store::{self, Report, StoreError};

const CHECK_HELP: &str = "\
Stop the node first. Verifies every checksum, block, certificate and state root from the genesis on, and writes nothing.
Exit code 0 when all is well, 1 when something is damaged, 75 when the node runs.

Example:
  fusion db check --home /var/lib/fusion";

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
}

pub(super) fn run(command: &DbCommand) -> Result<(), ExitError> {
    let DbCommand::Check { location, json } = command;
    let mut config = location.load()?;
    let (_, genesis) = genesis::read_into(&mut config)?;
    let report = store::check(&config.node.home, &genesis, &mut progress()).map_err(|error| refusal(&error))?;
    if *json {
        print_json(&as_json(&report))
    } else {
        print(&as_text(&report))
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

fn refusal(error: &StoreError) -> ExitError {
    let exit = match error {
        StoreError::Locked { .. } => Exit::Locked,
        StoreError::Network { .. } => Exit::Config,
        StoreError::Io { .. } | StoreError::Full { .. } => Exit::Io,
        _ => Exit::Negative,
    };
    ExitError::new(exit, error)
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
