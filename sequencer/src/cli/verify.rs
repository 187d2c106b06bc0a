//! `fusion verify`: a receipt against a genesis, offline.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use fusion_client::{CHECKS, Verdict, verify_receipt};
use serde_json::json;

use super::{cluster, print, print_json};
use crate::exit::{Exit, ExitError};

const HELP: &str = "\
Exit code 0 when the receipt is valid, 1 when it is not. A node's whole JSON-RPC answer with the receipt in it will do as well.

Examples:
  fusion verify receipt.json --genesis genesis.json
  curl … fusion_getReceipt … | fusion verify - --genesis genesis.json --json";

/// A receipt takes some kilobytes; proofs and certificates have bounds.
const RECEIPT_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct VerifyArgs {
    /// The receipt, or a node's answer that holds it; - for stdin.
    #[arg(value_name = "FILE")]
    receipt: PathBuf,
    /// Genesis of the network: the only thing that is trusted.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &VerifyArgs) -> Result<(), ExitError> {
    let trust = cluster::read_trust(&args.genesis)?;
    let text = read(&args.receipt).map_err(|error| ExitError::io("read", &args.receipt, &error))?;
    let verdict = verify_receipt(&text, &trust);
    if args.json {
        print_json(&as_json(&verdict))?;
    } else {
        print(&as_text(&verdict))?;
    }
    match &verdict.failure {
        None => Ok(()),
        Some(failure) => Err(ExitError::new(
            Exit::Negative,
            format_args!("the receipt is not valid: {} ({})", failure.field, failure.reason),
        )),
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().take(RECEIPT_BYTES_MAX).read_to_string(&mut text)?;
    } else {
        let file = std::fs::File::open(path)?;
        file.take(RECEIPT_BYTES_MAX).read_to_string(&mut text)?;
    }
    Ok(text)
}

fn as_text(verdict: &Verdict) -> String {
    let mut lines: Vec<String> = verdict
        .passed
        .iter()
        .map(|check| format!("  ok    {:<12} {}", check.name, check.proves))
        .collect();
    if let Some(failure) = &verdict.failure {
        lines.push(format!(
            "  FAIL  {:<12} {}: {}",
            failure.check, failure.field, failure.reason
        ));
    }
    for name in &CHECKS[lines.len().min(CHECKS.len())..] {
        lines.push(format!("  -     {name:<12} not reached"));
    }
    match &verdict.receipt {
        Some(receipt) => lines.insert(
            0,
            format!(
                "valid: transaction {} is final, rollup {}, sequence {}, height {}",
                receipt.transaction, receipt.lane.rollup, receipt.sequence, receipt.header.height
            ),
        ),
        None => lines.insert(0, "not valid".to_owned()),
    }
    lines.join("\n")
}

fn as_json(verdict: &Verdict) -> serde_json::Value {
    let checks = verdict
        .passed
        .iter()
        .map(|check| json!({ "check": check.name, "proves": check.proves }));
    json!({
        "valid": verdict.is_valid(),
        "passed": checks.collect::<Vec<_>>(),
        "failed": verdict.failure.as_ref().map(|failure| json!({
            "check": failure.check,
            "field": failure.field,
            "reason": failure.reason,
        })),
    })
}
