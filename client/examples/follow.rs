//! Follows a rollup's stream on several nodes and keeps its place in a file.
//!
//! `cargo run -p fusion-client --example follow -- GENESIS ROLLUP [URL…]`, with the genesis that `fusion devnet`
//! prints; for instance `cargo run -p fusion-client --example follow -- /tmp/fusion-devnet-…/genesis.json 1001 http://127.0.0.1:7101 http://127.0.0.1:7111`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use fusion_client::{CursorFile, Event, FollowOptions, Follower, Start, Trust};
use fusion_types::RollupId;

const DEFAULT_URLS: [&str; 4] = [
    "http://127.0.0.1:7101",
    "http://127.0.0.1:7111",
    "http://127.0.0.1:7121",
    "http://127.0.0.1:7131",
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(genesis), Some(rollup)) = (args.next(), args.next()) else {
        return Err("usage: follow GENESIS ROLLUP [URL…]".into());
    };
    let mut urls: Vec<String> = args.collect();
    if urls.is_empty() {
        urls = DEFAULT_URLS.map(str::to_owned).to_vec();
    }

    // The genesis is all that is trusted: get it from someone you trust, not from a node.
    let trust = Trust::from_genesis_json(&std::fs::read_to_string(genesis)?)?;
    let rollup = RollupId(rollup.parse()?);
    let file = CursorFile::new(format!("{rollup}.cursor"), trust.network, rollup);
    let start = Start::Sequence(rollup, 0);
    let mut follower = Follower::with_file(&urls, trust, start, FollowOptions::default(), file)?;

    loop {
        match follower.next().await? {
            Event::Block { block, cursor, url } => {
                for (sequence, payload) in block.transactions() {
                    // A rollup would execute the payload here.
                    println!(
                        "{sequence}: {} bytes, height {}, from {url}",
                        payload.len(),
                        block.header.height
                    );
                }
                // Only now, so that a crash above repeats the block instead of losing it.
                follower.acknowledge(&cursor)?;
            }
            Event::OtherNetwork { url, network } => println!("left {url}: it says to be of network {network}"),
            Event::Left { url, reason, lied } => println!("left {url} ({reason}), lied: {lied}"),
        }
    }
}
