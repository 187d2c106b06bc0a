//! An L1 to try by hand: `cargo run -p fusion-evm --example l1 -- [--port 8545] [--block-time 0] [--chain-id 1337]
//! [--finality SAFE,FINALIZED]`. Prints its URL and the accounts, and runs until it is interrupted.

use std::process::ExitCode;

use fusion_evm::{ServeConfig, params, serve};

fn configure(arguments: &[String]) -> Result<ServeConfig, String> {
    let mut config = ServeConfig::dev();
    config.listen.set_port(8545);
    for pair in arguments.chunks(2) {
        let [name, value] = pair else {
            return Err(format!("{} needs a value", pair.join(" ")));
        };
        let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{name} {text}: {error}"));
        match name.as_str() {
            "--port" => {
                let port = value.parse().map_err(|error| format!("{name} {value}: {error}"))?;
                config.listen.set_port(port);
            }
            "--block-time" => config.l1.block_time = number(value)?,
            "--chain-id" => config.l1.chain.chain_id = number(value)?,
            "--finality" => {
                let (safe, finalized) = value.split_once(',').ok_or("--finality takes SAFE,FINALIZED")?;
                config.l1.safe_distance = number(safe)?;
                config.l1.finalized_distance = number(finalized)?;
            }
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(config)
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let config = match configure(&arguments) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let chain_id = config.l1.chain.chain_id;
    let server = match serve(config).await {
        Ok(server) => server,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("JSON-RPC and beacon API: {}  (chain id {chain_id})", server.url());
    for (address, key) in params::DEV_ACCOUNTS {
        println!("{address}  0x{key}");
    }
    // An error here means that no signal can be waited for: then there is nothing to wait for either.
    let _ = tokio::signal::ctrl_c().await;
    server.stop().await;
    ExitCode::SUCCESS
}
