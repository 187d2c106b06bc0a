//! Floods a node of a cluster on this machine, as strangers, users and a dishonest member would.
//!
//! One flood a run, for as long as it is told; prints what it did as a line of JSON. `deploy/chaos/floods` runs it
//! beside honest users and measures what they notice. It judges nothing itself, and holds back nothing but the pace of
//! `--rate`: on one machine, an attacker without a pace measures how the kernel shares cores and memory.
//!
//! In reading order: `target` is who is attacked and from where, `pace` counts deeds and spreads them over time;
//! `udp`, `mesh`, `http`, `websocket` and `transactions` hold the floods by the door at which they knock.

mod http;
mod mesh;
mod pace;
mod target;
mod transactions;
mod udp;
mod websocket;

use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use pace::Counts;
use target::{Target, TargetArgs};

/// Floods a node of a cluster on this machine.
#[derive(Debug, Parser)]
#[command(name = "attacker")]
struct Args {
    /// What to flood it with.
    #[arg(value_enum)]
    flood: Flood,
    /// How long, in seconds.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    #[command(flatten)]
    target: TargetArgs,
}

/// Every flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Flood {
    /// First packets of QUIC handshakes that nobody goes on with.
    Initials,
    /// Whole handshakes by unknown keys, half of them of another network.
    Dials,
    /// HTTP/2's rapid reset: requests that are cancelled at once.
    Resets,
    /// WebSocket pings.
    Pings,
    /// A thousand connections that send their request a byte at a time.
    Slowloris,
    /// Batches of a hundred expensive questions, and batches far beyond the limit.
    Batches,
    /// Bodies far beyond the limit, announced and not.
    Bodies,
    /// JSON nested half a million deep.
    Nesting,
    /// Signed transactions whose nonces leave gaps, from thousands of senders.
    Gaps,
    /// Signed transactions that replace each other, each for a little more.
    Replacements,
    /// More valid transactions than the chain carries, in batches over 13 connections.
    Submissions,
    /// A member's signed votes for heights and rounds to come. Needs --home.
    Votes,
    /// Followers that ask for blocks all the time.
    Sync,
    /// Subscribers that never read.
    Subscribers,
}

/// Runs `flood` until `until`.
async fn run(flood: Flood, target: &Target, until: Instant) -> anyhow::Result<Counts> {
    match flood {
        Flood::Initials => udp::initials(target, until).await,
        Flood::Dials => mesh::dials(target, until).await,
        Flood::Resets => http::resets(target, until).await,
        Flood::Pings => websocket::pings(target, until).await,
        Flood::Slowloris => http::slowloris(target, until).await,
        Flood::Batches => http::batches(target, until).await,
        Flood::Bodies => http::bodies(target, until).await,
        Flood::Nesting => http::nesting(target, until).await,
        Flood::Gaps => transactions::gaps(target, until).await,
        Flood::Replacements => transactions::replacements(target, until).await,
        Flood::Submissions => transactions::submissions(target, until).await,
        Flood::Votes => mesh::votes(target, until).await,
        Flood::Sync => mesh::sync(target, until).await,
        Flood::Subscribers => websocket::subscribers(target, until).await,
    }
}

/// One thread: an attacker with more would take the nodes' cores, which are not what is attacked.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let target = Target::new(&args.target)?;
    let begun = Instant::now();
    let counts = run(args.flood, &target, begun + Duration::from_secs(args.seconds)).await?;
    let name = args.flood.to_possible_value().map(|value| value.get_name().to_owned());
    let report = serde_json::json!({ "flood": name, "seconds": begun.elapsed().as_secs_f64(), "did": counts });
    #[expect(clippy::print_stdout, reason = "the report is what this program is for")]
    {
        println!("{report}");
    }
    Ok(())
}
