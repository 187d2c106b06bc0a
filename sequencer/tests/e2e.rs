//! The real thing: processes of the real binary, real disks, real QUIC, kill -9. The client, which trusts no node, is the judge.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fusion_client::{Client, Event, FollowOptions, Follower, Preconfirmation, Start, Trust};
use fusion_types::{Receipt, RollupId};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

const ROLLUP: RollupId = RollupId(1001);

/// Nothing here takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network on this machine. Its processes end with it.
struct Devnet {
    child: Child,
    nodes: Vec<Node>,
    trust: Trust,
    _home: tempfile::TempDir,
}

struct Node {
    pid: i32,
    home: PathBuf,
    url: String,
    /// Set once this test started it again.
    child: Option<Child>,
}

impl Devnet {
    fn start(base_port: u16) -> Self {
        let home = tempfile::tempdir().unwrap();
        let port = base_port.to_string();
        let mut child = Command::new(env!("CARGO_BIN_EXE_fusion"))
            .args(["devnet", "--json", "--base-port", &port, "--home"])
            .arg(home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut ready)
            .unwrap();
        let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let node = |node: &serde_json::Value| Node {
            pid: i32::try_from(node["pid"].as_i64().unwrap()).unwrap(),
            home: text(&node["home"]).into(),
            url: text(&node["rpc"]),
            child: None,
        };
        let genesis = std::fs::read_to_string(text(&ready["genesis"])).unwrap();
        Self {
            child,
            nodes: ready["nodes"].as_array().unwrap().iter().map(node).collect(),
            trust: Trust::from_genesis_json(&genesis).unwrap(),
            _home: home,
        }
    }

    fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url.clone()).collect()
    }

    async fn client(&self) -> Client {
        Client::connect(&self.urls(), self.trust.clone()).await.unwrap()
    }

    fn kill(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        kill_process(Pid::from_raw(node.pid).unwrap(), Signal::KILL).unwrap();
        match &mut node.child {
            Some(child) => drop(child.wait().unwrap()),
            None => wait_gone(node.pid),
        }
    }

    fn start_again(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let child = command(&node.home).spawn().unwrap();
        node.pid = i32::try_from(child.id()).unwrap();
        node.child = Some(child);
    }

    /// Waits until a node votes and is not behind.
    async fn wait_voting(&self, index: usize) {
        let urls = [fusion_client::NodeUrl::parse(&self.nodes[index].url).unwrap()];
        let started = Instant::now();
        loop {
            let answers = fusion_client::status(&urls).await;
            if answers[0]
                .1
                .as_ref()
                .is_ok_and(|status| status.voting && status.lag < 3)
            {
                return;
            }
            if started.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(self.nodes[index].home.join("node.log")).unwrap_or_default();
                let end: Vec<&str> = log.lines().rev().take(20).collect();
                panic!("node {index} does not vote: {:?}\n{}", answers[0], end.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks every process to stop, and the store of every node to check itself.
    fn stop_and_check(mut self) {
        for node in &mut self.nodes {
            if let Some(child) = &mut node.child {
                kill_process(Pid::from_raw(node.pid).unwrap(), Signal::TERM).unwrap();
                let asked = Instant::now();
                assert_eq!(child.wait().unwrap().code(), Some(0), "SIGTERM drains and exits 0");
                assert!(asked.elapsed() < Duration::from_secs(3), "within about 2 s");
            }
        }
        kill_process(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap(),
            Signal::TERM,
        )
        .unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        for node in &self.nodes {
            let check = Command::new(env!("CARGO_BIN_EXE_fusion"))
                .args(["db", "check", "--home"])
                .arg(&node.home)
                .output()
                .unwrap();
            assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
        }
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        // Nodes that this test started are not devnet's children. Failures mean that they are gone already.
        for child in self
            .nodes
            .iter_mut()
            .filter_map(|node| node.child.as_mut())
            .chain([&mut self.child])
        {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fusion"));
    command.args(["start", "--home"]).arg(home).stdin(Stdio::null());
    let log = std::fs::File::options()
        .append(true)
        .create(true)
        .open(home.join("node.log"));
    command.stderr(log.unwrap());
    command
}

/// Waits until a process that is not ours has ended; a zombie holds nothing any more.
fn wait_gone(pid: i32) {
    let started = Instant::now();
    while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(started.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

async fn send_all(client: &Client, label: &str, count: usize, receipts: &mut Vec<Receipt>) {
    for n in 0..count {
        let payload = format!("{label} {n}").into_bytes().into();
        receipts.push(client.send(ROLLUP, payload, PATIENCE).await.unwrap());
    }
}

/// Every receipt that a user got is what every node says today, and the stream has them all, once, without a gap.
async fn assert_kept(devnet: &Devnet, receipts: &[Receipt]) {
    for node in &devnet.nodes {
        let client = Client::connect(&[&node.url], devnet.trust.clone()).await.unwrap();
        for receipt in receipts {
            let answer = client.receipt(ROLLUP, receipt.transaction).await.unwrap();
            let Preconfirmation::Final(today) = answer else {
                panic!("{} says {answer:?}", node.url)
            };
            assert_eq!((today.sequence, &today.header), (receipt.sequence, &receipt.header));
        }
    }
    let expected: BTreeMap<u64, _> = receipts
        .iter()
        .map(|receipt| (receipt.sequence, receipt.transaction))
        .collect();
    assert_eq!(expected.len(), receipts.len(), "no two transactions share a place");
    let last = *expected.last_key_value().unwrap().0;
    let start = Start::Sequence(ROLLUP, 0);
    let mut follower = Follower::new(&devnet.urls(), devnet.trust.clone(), start, FollowOptions::default()).unwrap();
    let mut next = 0;
    while next <= last {
        let Event::Block { block, .. } = follower.next().await.unwrap() else {
            continue;
        };
        for (sequence, payload) in block.transactions() {
            assert_eq!(sequence, next);
            next += 1;
            if let Some(hash) = expected.get(&sequence) {
                assert_eq!(*hash, fusion_types::transaction_hash(payload));
            }
        }
    }
}

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

fn fusion(arguments: &[&str], home: &Path) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fusion"));
    command.args(arguments).arg("--home").arg(home).output().unwrap()
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
    let refused = command(&home).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(71), "{said}");
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
