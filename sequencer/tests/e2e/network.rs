//! A network of processes on this machine, and what is asked of all its nodes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fusion_client::{Client, Event, FollowOptions, Follower, Preconfirmation, Start, Trust};
use fusion_types::{Receipt, RollupId};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) const ROLLUP: RollupId = RollupId(1001);

/// Nothing here takes this long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A network on this machine. Its processes end with it.
pub(crate) struct Devnet {
    child: Child,
    pub(crate) nodes: Vec<Node>,
    pub(crate) trust: Trust,
    _home: tempfile::TempDir,
}

pub(crate) struct Node {
    pub(crate) pid: i32,
    pub(crate) home: PathBuf,
    pub(crate) url: String,
    /// Set once this test started it again.
    pub(crate) child: Option<Child>,
}

impl Devnet {
    pub(crate) fn start(base_port: u16) -> Self {
        let home = tempfile::tempdir().unwrap();
        let port = base_port.to_string();
        let mut child = Command::new(env!("CARGO_BIN_EXE_fusion"))
            .args(["devnet", "--json", "--l1", "none", "--base-port", &port, "--home"])
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

    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url.clone()).collect()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.urls(), self.trust.clone()).await.unwrap()
    }

    pub(crate) fn kill(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        kill_process(Pid::from_raw(node.pid).unwrap(), Signal::KILL).unwrap();
        match &mut node.child {
            Some(child) => drop(child.wait().unwrap()),
            None => wait_gone(node.pid),
        }
    }

    pub(crate) fn start_again(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let child = command(&node.home).spawn().unwrap();
        node.pid = i32::try_from(child.id()).unwrap();
        node.child = Some(child);
    }

    /// Waits until a node votes and is not behind.
    pub(crate) async fn wait_voting(&self, index: usize) {
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
    pub(crate) fn stop_and_check(mut self) {
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

pub(crate) fn command(home: &Path) -> Command {
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
pub(crate) fn wait_gone(pid: i32) {
    let started = Instant::now();
    while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(started.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

pub(crate) async fn send_all(client: &Client, label: &str, count: usize, receipts: &mut Vec<Receipt>) {
    for n in 0..count {
        let payload = format!("{label} {n}").into_bytes().into();
        receipts.push(client.send(ROLLUP, payload, PATIENCE).await.unwrap());
    }
}

/// What a node says of a receipt as soon as it has the block: one that was away a moment ago may still be fetching it.
async fn final_receipt(client: &Client, receipt: &Receipt) -> Receipt {
    let started = Instant::now();
    loop {
        let answer = client.receipt(ROLLUP, receipt.transaction).await.unwrap();
        if let Preconfirmation::Final(today) = answer {
            return *today;
        }
        assert!(started.elapsed() < PATIENCE, "a node says {answer:?} of {receipt:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every receipt that a user got is what every node says today, and the stream has them all, once, without a gap.
pub(crate) async fn assert_kept(devnet: &Devnet, receipts: &[Receipt]) {
    for node in &devnet.nodes {
        let client = Client::connect(&[&node.url], devnet.trust.clone()).await.unwrap();
        for receipt in receipts {
            let today = final_receipt(&client, receipt).await;
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

/// Runs a command about a home folder.
pub(crate) fn fusion(arguments: &[&str], home: &Path) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fusion"));
    command.args(arguments).arg("--home").arg(home).output().unwrap()
}
