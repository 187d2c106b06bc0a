//! `fusion follow`: a rollup's stream, verified, from several nodes.

use std::path::PathBuf;

use clap::Args;
use fusion_client::json::RollupBlockJson;
use fusion_client::{CursorFile, Event, FollowError, FollowOptions, Follower, Start};
use fusion_types::{RollupBlock, RollupId};
use serde_json::json;

use super::cluster::ClusterArgs;
use super::{client_runtime, print_to_reader};
use crate::exit::{Exit, ExitError};

const HELP: &str = "\
Every line is verified: the committee decided the block, the block holds the lane, the lane continues the stream. A node that lies is named
on stderr and left for good; one that dies or lags is left for a while. Without gap or repeat, whichever nodes the lines come from.

With --cursor the place is stored after each line is written, and the same command goes on from there.

Examples:
  fusion follow --rollup 901                             the devnet that runs on this machine
  fusion follow --rollup 901 --from 1000 --url http://a:7101 --url http://b:7101 --genesis genesis.json --cursor 901.cursor
  fusion follow --rollup 1001 --json --limit 10          ten blocks with their payloads and proofs";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct FollowArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Genesis of the network [default: the devnet's].
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// The rollup.
    #[arg(long, value_name = "ID")]
    rollup: u64,
    /// Sequence number to start from; the first block is the one that holds it.
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    from: u64,
    /// File that keeps the place; if it exists, --from is not used.
    #[arg(long, value_name = "FILE")]
    cursor: Option<PathBuf>,
    /// Stop after this many blocks.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print one line of JSON for each block, with header, payloads and proofs.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &FollowArgs) -> Result<(), ExitError> {
    let cluster = args.cluster.find()?;
    let trust = cluster.trust(args.genesis.as_deref())?;
    let rollup = RollupId(args.rollup);
    let from = Start::Sequence(rollup, args.from);
    let options = FollowOptions::default();
    let follower = match &args.cursor {
        Some(path) => {
            let file = CursorFile::new(path, trust.network, rollup);
            Follower::with_file(&cluster.urls, trust, from, options, file)
        }
        None => Follower::new(&cluster.urls, trust, from, options),
    };
    let follower = follower.map_err(exit_error)?;
    let followed = client_runtime()?.block_on(follow(follower, args));
    followed.map_err(|error| {
        // Whoever reads of a wrong genesis wants to know which file it is.
        let genesis = args.genesis.as_deref().or(cluster.genesis.as_deref());
        match genesis.filter(|_| error.exit == Exit::Config) {
            Some(path) => ExitError::config(format_args!("{}: {}", path.display(), error.message)),
            None => error,
        }
    })
}

async fn follow(mut follower: Follower, args: &FollowArgs) -> Result<(), ExitError> {
    let mut count = 0;
    while args.limit.is_none_or(|limit| count < limit) {
        let event = tokio::select! {
            event = follower.next() => event.map_err(exit_error)?,
            // What was printed is acknowledged; there is nothing else to end.
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        match event {
            Event::Block { block, cursor, .. } => {
                // What nobody read is not acknowledged: the same command prints it again.
                if !print_to_reader(&line(&block, args.json))? {
                    return Ok(());
                }
                follower
                    .acknowledge(&cursor)
                    .map_err(|error| exit_error(error.into()))?;
                count += 1;
            }
            Event::Left {
                url,
                reason,
                lied: true,
            } => eprintln!("left for good: {url} lied: {reason}"),
            Event::OtherNetwork { url, network } => {
                eprintln!("left for good: {url} says to be of network {network}, not that of the genesis");
            }
            Event::Left { url, reason, .. } => eprintln!("left for now: {url}: {reason}"),
        }
    }
    Ok(())
}

fn line(block: &RollupBlock, as_json: bool) -> String {
    if as_json {
        return json!(RollupBlockJson::from(block)).to_string();
    }
    let height = block.header.height;
    let hashes = block.body.hashes();
    let transactions = block.transactions().zip(hashes);
    let lines = transactions.map(|((sequence, payload), hash)| {
        format!("sequence {sequence}  {hash}  height {height}  {} bytes", payload.len())
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn exit_error(error: FollowError) -> ExitError {
    let exit = match &error {
        FollowError::Url(_) | FollowError::UnknownRollup { .. } => Exit::Usage,
        FollowError::OtherNetwork { .. } => Exit::Config,
        FollowError::NobodyLeft { .. } => Exit::Negative,
        FollowError::Cursor(_) => Exit::Io,
    };
    ExitError::new(exit, error)
}
