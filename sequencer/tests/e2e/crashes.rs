//! kill -9 of one node and of all, a lost write-ahead log, a lost guard.

use std::process::{Command, Stdio};

use crate::network::{Devnet, assert_kept, command, send_all};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_final_survives_kill_9_of_one_node_and_of_all() {
    let mut devnet = Devnet::start(17_100);
    let client = devnet.client().await;
    let mut receipts = Vec::new();
    send_all(&client, "before", 10, &mut receipts).await;

    devnet.kill(1);
    send_all(&client, "one node down", 5, &mut receipts).await;
    devnet.start_again(1);
    devnet.wait_voting(1).await;
    assert_kept(&devnet, &receipts).await;

    for _ in 0..2 {
        (0..4).for_each(|node| devnet.kill(node));
        (0..4).for_each(|node| devnet.start_again(node));
        for node in 0..4 {
            devnet.wait_voting(node).await;
        }
        let client = devnet.client().await;
        send_all(&client, &format!("after {} receipts", receipts.len()), 5, &mut receipts).await;
        assert_kept(&devnet, &receipts).await;
    }
    devnet.stop_and_check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_write_ahead_log_is_survived_and_a_lost_guard_is_refused() {
    let mut devnet = Devnet::start(17_300);
    let client = devnet.client().await;
    let mut receipts = Vec::new();
    send_all(&client, "before", 5, &mut receipts).await;

    devnet.kill(2);
    std::fs::remove_dir_all(devnet.nodes[2].home.join("wal")).unwrap();
    devnet.start_again(2);
    devnet.wait_voting(2).await;
    send_all(&client, "without the log", 5, &mut receipts).await;

    devnet.kill(2);
    std::fs::remove_dir_all(devnet.nodes[2].home.join("guard")).unwrap();
    let refused = command(&devnet.nodes[2].home).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(said.contains("fusion guard init --home"), "{said}");
    send_all(&client, "three nodes", 5, &mut receipts).await;
    assert!(client.liars().is_empty());

    let home = devnet.nodes[2].home.clone();
    let height = receipts.last().unwrap().header.height.0 + 1;
    let repaired = Command::new(env!("CARGO_BIN_EXE_fusion"))
        .args([
            "guard",
            "init",
            "--at-height",
            &height.to_string(),
            "--i-understand",
            "--home",
        ])
        .arg(&home)
        .output()
        .unwrap();
    assert!(
        repaired.status.success(),
        "{}",
        String::from_utf8_lossy(&repaired.stderr)
    );
    devnet.start_again(2);
    send_all(&client, "four nodes again", 5, &mut receipts).await;
    devnet.wait_voting(2).await;
    assert_kept(&devnet, &receipts).await;
    devnet.stop_and_check();
}
