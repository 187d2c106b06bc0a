//! What `fusion devnet` prints when the network is ready: where it is, and what to do with it.

use std::time::Duration;

use super::home::Plan;
use super::{Ready, child};
use crate::cli::shell_word;

/// The table of endpoints and the commands to go on with.
pub(super) fn ready(plan: &Plan, ready: &Ready<'_>, took: Duration) -> String {
    let mut rows = vec![
        [
            "node",
            "region",
            "pid",
            "rpc (http and ws)",
            "metrics",
            "p2p (udp)",
            "home",
        ]
        .map(str::to_owned),
    ];
    for node in &ready.nodes {
        rows.push([
            node.name.to_owned(),
            node.region.unwrap_or("here").to_owned(),
            node.pid.to_string(),
            node.rpc.clone(),
            node.metrics.clone(),
            node.p2p.clone(),
            node.home.display().to_string(),
        ]);
    }
    let rollups = ready.rollups.iter().map(|rollup| {
        let (kind, ordering) = (format!("{:?}", rollup.kind), format!("{:?}", rollup.ordering));
        format!("{} ({} {})", rollup.id, kind.to_lowercase(), ordering.to_lowercase())
    });
    let starts = plan.nodes.iter().map(|node| format!("  {}\n", node.start_command()));
    let binary = child::binary().map_or_else(|_| "fusion".to_owned(), |path| shell_word(&path));
    let url = &ready.nodes[0].rpc;
    let wan = ready.wan.as_ref().map(|wan| {
        let control = wan.control.map(|control| control.to_string()).unwrap_or_default();
        format!(
            "\nnetwork: {}; its relay takes orders at {control} (fusion relay --help)",
            wan.table.name
        )
    });
    let wan = wan.unwrap_or_default();
    let l1 = ready.l1.map(|l1| {
        format!(
            "\nL1: {} (chain {}), inbox {}, registry {}",
            l1.url, l1.chain_id, l1.inbox, l1.registry
        )
    });
    let l1 = l1.unwrap_or_default();
    format!(
        "{} nodes ready in {:.1} s, network {}\n\n{}\nrollups: {}\ngenesis: {}{wan}{l1}\n\n\
         A killed node starts again with its command:\n{}\n\
         Order something and get the final receipt:\n  \
         curl -s {url} -H 'content-type: application/json' -d '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"fusion_sendTransactionSync\",\
         \"params\":{{\"rollup\":1001,\"transaction\":\"0x68656c6c6f\",\"timeout\":2000}}}}'\n  \
         cast publish --async --rpc-url {url}/rollup/901 0x…signed transaction of chain 901\n\
         Follow a stream, verified:\n  \
         {binary} follow --genesis {} --rollup 1001 --from 0 --url {url}\n\n\
         Ctrl-C stops all nodes.",
        ready.nodes.len(),
        took.as_secs_f64(),
        plan.network,
        table(&rows),
        rollups.collect::<Vec<_>>().join(", "),
        plan.genesis.display(),
        starts.collect::<String>(),
        shell_word(&plan.genesis),
    )
}

/// Rows in aligned columns.
fn table(rows: &[[String; 7]]) -> String {
    let mut widths = [0; 7];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}
