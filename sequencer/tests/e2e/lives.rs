//! Two processes with one key.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::network::{Devnet, PATIENCE, ROLLUP, command};

/// A copy of a node's home that listens elsewhere.
fn copy_home(home: &Path) -> PathBuf {
    let copy = home.with_file_name("copy");
    let copied = std::process::Command::new("cp").arg("-a").args([home, &copy]).status();
    assert!(copied.unwrap().success());
    std::fs::remove_file(copy.join("lock")).unwrap();
    copy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_with_one_key_one_that_votes_ends_with_70() {
    let mut devnet = Devnet::start(17_900);
    let client = devnet.client().await;
    // A validator dials those above it: of the lowest peer key both processes reach the others.
    let peers = devnet
        .nodes
        .iter()
        .map(|node| fusion_client::NodeUrl::parse(&node.url).unwrap());
    let status = fusion_client::status(&peers.collect::<Vec<_>>()).await;
    let peer = |index: &usize| status[*index].1.as_ref().unwrap().peer.0;
    let lowest = (0..devnet.nodes.len()).min_by_key(peer).unwrap();
    let (pid, home) = (devnet.nodes[lowest].pid, devnet.nodes[lowest].home.clone());

    let mut second = command(&copy_home(&home));
    for (field, port) in [("p2p", 17_990), ("rpc", 17_991), ("metrics", 17_992)] {
        second.args(["--set", &format!("{field}.listen=127.0.0.1:{port}")]);
    }
    let second = second.stderr(Stdio::piped()).spawn().unwrap();
    // So that it ends with the network.
    let second = devnet.nodes[lowest].child.insert(second);
    let is_original_up = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    let started = Instant::now();
    let (mut sent, mut ended) = (0_u32, None);
    while ended.is_none() && is_original_up() {
        assert!(started.elapsed() < PATIENCE, "both go on with one key");
        let payload = sent.to_be_bytes().to_vec().into();
        // Which node takes it does not matter, nor whether: there has to be something to vote on.
        drop(client.send(ROLLUP, payload, Duration::from_secs(1)).await);
        sent += 1;
        ended = second.try_wait().unwrap();
    }
    let said = if let Some(end) = ended {
        assert_eq!(end.code(), Some(70));
        std::io::read_to_string(second.stderr.take().unwrap()).unwrap()
    } else {
        std::fs::read_to_string(home.join("node.log")).unwrap()
    };
    assert!(said.contains("another process signs with this node's key"), "{said}");
}
