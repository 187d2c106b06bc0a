//! Submits bytes to an opaque rollup and waits for the verified final receipt, which it prints as `receipt.json`.
//!
//! `cargo run -p fusion-client --example submit -- GENESIS ROLLUP TEXT [URL…]`, with the genesis that `fusion devnet`
//! prints; for instance `cargo run -p fusion-client --example submit -- /tmp/fusion-devnet-…/genesis.json 1001 hello http://127.0.0.1:7101`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use fusion_client::json::ReceiptJson;
use fusion_client::{Client, Trust};
use fusion_types::RollupId;

const DEFAULT_URLS: [&str; 2] = ["http://127.0.0.1:7101", "http://127.0.0.1:7111"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(genesis), Some(rollup), Some(text)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: submit GENESIS ROLLUP TEXT [URL…]".into());
    };
    let mut urls: Vec<String> = args.collect();
    if urls.is_empty() {
        urls = DEFAULT_URLS.map(str::to_owned).to_vec();
    }

    // The genesis is all that is trusted: get it from someone you trust, not from a node.
    let trust = Trust::from_genesis_json(&std::fs::read_to_string(genesis)?)?;
    let client = Client::connect(&urls, trust).await?;
    let rollup = RollupId(rollup.parse()?);
    // For an evm rollup: the raw signed transaction.
    let payload = text.into_bytes().into();
    let receipt = client.send(rollup, payload, Duration::from_secs(10)).await?;
    eprintln!(
        "final: sequence {} of rollup {rollup}, height {}",
        receipt.sequence, receipt.header.height
    );
    println!("{}", serde_json::to_string_pretty(&ReceiptJson::from(&receipt))?);
    Ok(())
}
