//! A flipped bit, a disk that fails, a disk that is full.

use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use fusion_client::Client;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::network::{Devnet, PATIENCE, ROLLUP, assert_kept, command, fusion, send_all};

/// Flips a bit of the first place in a node's log where `text` stands.
fn flip_in_log(home: &Path, text: &str) -> PathBuf {
    let path = home.join("log/00000001.seg");
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    // Payloads of opaque rollups lie in the log as they are.
    let mut bytes = vec![0; 1024 * 1024];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let at = bytes
        .windows(text.len())
        .position(|window| window == text.as_bytes())
        .unwrap();
    file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
    path
}

/// Starts a node that ends with `code`; its words.
fn refused_with(home: &Path, more: &[&str], code: i32) -> String {
    let refused = command(home).args(more).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(code), "{said}");
    said
}

/// A home whose log is of another network than the genesis file names that file.
fn refuse_another_network(home: &Path) {
    let genesis = std::fs::read_to_string(home.join("../genesis.json")).unwrap();
    let changed = genesis.replace("\"weight\": 1", "\"weight\": 2");
    assert_ne!(changed, genesis);
    let other = home.join("changed.json");
    std::fs::write(&other, changed).unwrap();
    let said = refused_with(home, &["--set", &format!("node.genesis={}", other.display())], 78);
    let last = said.lines().last().unwrap();
    assert!(last.contains("00000001.seg") && last.contains("changed.json"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_an_old_block_is_told_and_repaired_from_other_nodes() {
    let mut devnet = Devnet::start(17_500);
    let client = devnet.client().await;
    let mut receipts = Vec::new();
    send_all(&client, "before", 10, &mut receipts).await;
    // Started again, the node reads old blocks from its disk.
    devnet.kill(1);
    devnet.start_again(1);
    devnet.wait_voting(1).await;

    let home = devnet.nodes[1].home.clone();
    let (hit, height) = (receipts[4].transaction, receipts[4].header.height);
    let segment = flip_in_log(&home, "before 4");
    let own = [fusion_client::NodeUrl::parse(&devnet.nodes[1].url).unwrap()];
    let told = fusion_client::block(&own, &devnet.trust, height).await.unwrap_err();
    assert!(
        told.contains(&format!("height {height} is damaged on this node")),
        "{told}"
    );
    let alone = Client::connect(&[&devnet.nodes[1].url], devnet.trust.clone())
        .await
        .unwrap();
    assert!(alone.receipt(ROLLUP, hit).await.is_err(), "neither wrong nor unknown");
    assert!(alone.liars().is_empty());
    devnet.wait_voting(1).await;
    send_all(&client, "with a damaged block", 5, &mut receipts).await;

    devnet.kill(1);
    let said = refused_with(&home, &[], 71);
    for part in [
        &format!("height {height}"),
        segment.to_str().unwrap(),
        "fusion db repair --home",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(fusion(&["db", "check"], &home).status.code(), Some(1));

    let nobody = fusion(&["db", "repair", "--url", "http://127.0.0.1:9"], &home);
    assert_eq!(
        nobody.status.code(),
        Some(69),
        "{}",
        String::from_utf8_lossy(&nobody.stderr)
    );
    let urls = [&devnet.nodes[0].url[..], &devnet.nodes[2].url];
    let repair = [
        "db",
        "repair",
        "--url",
        "http://127.0.0.1:9",
        "--url",
        urls[0],
        "--url",
        urls[1],
    ];
    let repaired = fusion(&repair, &home);
    assert!(
        repaired.status.success(),
        "{}",
        String::from_utf8_lossy(&repaired.stderr)
    );
    let said = String::from_utf8_lossy(&repaired.stdout).into_owned();
    assert!(
        said.contains(&format!("fetched from other nodes: blocks {height}\n")),
        "{said}"
    );
    assert!(fusion(&["db", "check"], &home).status.success());

    refuse_another_network(&home);
    devnet.start_again(1);
    devnet.wait_voting(1).await;
    send_all(&client, "mended", 5, &mut receipts).await;
    assert_kept(&devnet, &receipts).await;
    devnet.stop_and_check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_fails_ends_by_itself_with_71_and_serves_nobody() {
    let mut devnet = Devnet::start(17_600);
    devnet.kill(1);
    let home = devnet.nodes[1].home.clone();
    let mut small = command(&home);
    small.args(["--set", "storage.segment_bytes=8388608"]);
    let mut child = small.stderr(Stdio::piped()).spawn().unwrap();
    devnet.nodes[1].pid = i32::try_from(child.id()).unwrap();
    devnet.wait_voting(1).await;

    // The next segment of the log cannot be made: nothing to wait for, and no write to try again.
    std::fs::rename(home.join("log"), home.join("gone")).unwrap();
    let others = [&devnet.nodes[0].url, &devnet.nodes[2].url];
    let client = Client::connect(&others, devnet.trust.clone()).await.unwrap();
    let started = Instant::now();
    let mut sent = 0_u64;
    let end = loop {
        if let Some(end) = child.try_wait().unwrap() {
            break end;
        }
        assert!(started.elapsed() < PATIENCE, "the node goes on without its log");
        let mut payload = vec![0; 120_000];
        payload[..8].copy_from_slice(&sent.to_be_bytes());
        client.send(ROLLUP, payload.into(), PATIENCE).await.unwrap();
        sent += 1;
    };
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(end.code(), Some(71), "{said}");
    assert!(said.lines().last().unwrap().starts_with("error: cannot "), "{said}");
    assert!(sent >= 60, "it ended after {sent} transactions");
}

/// Lets the process write files up to `bytes`: beyond, it finds the disk full.
fn limit_files(pid: i32, bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(Pid::from_raw(pid), Resource::Fsize, limit).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_space_says_so_takes_nothing_and_goes_on_when_there_is_space() {
    let mut devnet = Devnet::start(17_800);
    let client = devnet.client().await;
    let mut receipts = Vec::new();
    for n in 0..4 {
        receipts.push(client.send(ROLLUP, vec![n; 100_000].into(), PATIENCE).await.unwrap());
    }
    devnet.kill(1);
    devnet.start_again(1);
    devnet.wait_voting(1).await;
    // The log is longer than that already; write-ahead log and guard stay below, as their space is taken in advance.
    let (pid, url) = (devnet.nodes[1].pid, devnet.nodes[1].url.clone());
    limit_files(pid, Some(256 * 1024));
    let urls = [fusion_client::NodeUrl::parse(&url).unwrap()];
    let started = Instant::now();
    loop {
        let status = fusion_client::status(&urls).await.remove(0).1.unwrap();
        if status.step == "disk full" {
            assert!(!status.voting);
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let alone = Client::connect(&[&url], devnet.trust.clone()).await.unwrap();
    let refused = alone.submit(ROLLUP, b"no space".to_vec().into()).await.unwrap_err();
    assert!(
        refused.to_string().contains("the disk of this node is full"),
        "{refused}"
    );
    send_all(&client, "three nodes", 5, &mut receipts).await;

    limit_files(pid, None);
    devnet.wait_voting(1).await;
    alone.submit(ROLLUP, b"space".to_vec().into()).await.unwrap();
    assert_kept(&devnet, &receipts).await;
    devnet.stop_and_check();
}
