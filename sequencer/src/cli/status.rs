//! `fusion status`: how nodes stand, in their own words.

use clap::Args;
use fusion_client::NodeUrl;
use fusion_client::json::StatusJson;
use serde_json::json;

use super::cluster::ClusterArgs;
use super::{client_runtime, print, print_json};
use crate::exit::{Exit, ExitError};

const HELP: &str = "\
Exit code 0 when every node answered, 69 when one did not.

Examples:
  fusion status                            all nodes of the devnet that runs on this machine
  fusion status --url http://a:7101 --json";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Print JSON: a list with `url` and `status` or `error`.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StatusArgs) -> Result<(), ExitError> {
    let cluster = args.cluster.find()?;
    let mut urls = Vec::with_capacity(cluster.urls.len());
    for url in &cluster.urls {
        urls.push(NodeUrl::parse(url).map_err(|error| ExitError::new(Exit::Usage, error))?);
    }
    let answers = client_runtime()?.block_on(fusion_client::status(&urls));
    if args.json {
        let list = answers.iter().map(|(url, answer)| match answer {
            Ok(status) => json!({ "url": url, "status": status }),
            Err(error) => json!({ "url": url, "error": error }),
        });
        print_json(&list.collect::<Vec<_>>())?;
    } else {
        let blocks = answers.iter().map(|(url, answer)| match answer {
            Ok(status) => as_text(url, status),
            Err(error) => format!("{url}\n  no answer: {error}"),
        });
        print(&blocks.collect::<Vec<_>>().join("\n\n"))?;
    }
    let silent = answers.iter().filter(|(_, answer)| answer.is_err()).count();
    if silent == 0 {
        return Ok(());
    }
    let of = answers.len();
    Err(ExitError::new(
        Exit::Unavailable,
        format_args!("{silent} of {of} nodes did not answer"),
    ))
}

fn as_text(url: &str, status: &StatusJson) -> String {
    let voting = match (status.voting, status.quarantine) {
        (_, Some(height)) => format!("in quarantine: follows height {height} without voting"),
        (true, None) => "voting".to_owned(),
        (false, None) => "not voting".to_owned(),
    };
    let lag = match status.lag {
        0 => "up to date".to_owned(),
        lag => format!("{lag} blocks behind its peers"),
    };
    let rows = [
        ("node", format!("{}, version {}", status.name, status.version)),
        ("network", format!("{} {}", status.network_name, status.network)),
        ("role", format!("{}, {voting}", status.role)),
        ("height", format!("{}, {lag}", status.height)),
        ("tip", format!("{} at {} ms", status.tip, status.time_ms)),
        ("consensus", format!("round {}, {}", status.round, status.step)),
        (
            "peers",
            format!(
                "{} connected, voting power {} of {} ({} decide)",
                status.peers, status.power_connected, status.power_total, status.quorum
            ),
        ),
        (
            "pool",
            format!("{} transactions, {} bytes", status.pool_transactions, status.pool_bytes),
        ),
        ("evidence", status.evidence.to_string()),
    ];
    let rows = rows.map(|(name, value)| format!("  {name:<10} {value}"));
    format!("{url}\n{}", rows.join("\n"))
}

#[cfg(test)]
mod tests {
    use fusion_client::json::from_str;

    use super::*;

    #[test]
    fn a_lagging_quarantined_node_says_so() {
        let hash = format!("0x{}", "11".repeat(32));
        let text = json!({
            "name": "n", "version": "1", "network": hash, "networkName": "net", "peer": hash, "role": "validator",
            "voting": false, "quarantine": 7, "height": 6, "tip": hash, "timeMs": 1, "round": 0, "step": "propose",
            "lag": 3, "peers": 2, "powerConnected": 3, "powerTotal": 4, "quorum": 3, "poolTransactions": 0, "poolBytes": 0,
            "evidence": 0, "startedMs": 0
        });
        let status: StatusJson = from_str(&text.to_string()).unwrap();
        let shown = as_text("http://x", &status);
        for words in [
            "3 blocks behind",
            "in quarantine: follows height 7",
            "voting power 3 of 4 (3 decide)",
        ] {
            assert!(shown.contains(words), "{words}: {shown}");
        }
    }
}
