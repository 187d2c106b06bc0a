//! `fusion devnet` with real processes, disks and sockets: what it orders, what it survives, what it leaves behind.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

/// Longest wait for anything here. A busy machine may take long; a hanging test must end.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running devnet; killed when dropped, and its nodes with it.
struct Devnet {
    process: Child,
    ready: Value,
}

impl Devnet {
    /// One that only orders.
    fn start(home: &Path, more: &[&str]) -> Self {
        Self::start_on(home, "none", more)
    }

    /// One that settles on `l1`.
    fn start_on(home: &Path, l1: &str, more: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_fusion"))
            .args(["devnet", "--json", "--l1", l1, "--home"])
            .arg(home)
            .args(more)
            .env("TMPDIR", home.parent().unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready = serde_json::from_str(&line).expect("one line of JSON when ready");
        Self { process, ready }
    }

    fn pids(&self) -> Vec<Pid> {
        let nodes = self.ready["nodes"].as_array().unwrap().iter();
        nodes.map(|node| pid(node["pid"].as_u64().unwrap())).collect()
    }

    fn call(&self, node: usize, method: &str, params: &Value) -> Value {
        let url = self.ready["nodes"][node]["rpc"].as_str().unwrap();
        let address = url.strip_prefix("http://").unwrap();
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "POST / HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    fn height(&self, node: usize) -> u64 {
        self.call(node, "fusion_status", &json!([]))["result"]["height"]
            .as_u64()
            .unwrap()
    }

    /// Sends bytes to the opaque rollup and returns the final receipt.
    fn order(&self, node: usize, payload: &str) -> Value {
        let params = json!({ "rollup": 1001, "transaction": payload, "timeout": 60_000 });
        let answer = self.call(node, "fusion_sendTransactionSync", &params);
        assert_eq!(answer["result"]["rollup"], 1001, "{answer}");
        answer["result"].clone()
    }

    fn terminate(mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        kill_process(pid(self.process.id().into()), Signal::TERM).unwrap();
        (self.process.wait().unwrap(), start.elapsed())
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        for node in self.ready["nodes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|_| std::thread::panicking())
        {
            let log = std::fs::read_to_string(Path::new(node["home"].as_str().unwrap_or_default()).join("node.log"));
            let log = log.unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "{}:\n{}",
                node["name"],
                lines[lines.len().saturating_sub(20)..].join("\n")
            );
        }
    }
}

fn pid(number: u64) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

#[track_caller]
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ports of one test's own, below those that the system gives away, so that nobody takes them between two starts. Tests
/// of one process begin to look at different places.
fn base_port(place: u32) -> u32 {
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let candidates = (0..100).map(|step| 20_000 + (std::process::id() + place * 150 + step * 7) % 300 * 40);
    let mut all_free = candidates.filter(|base| (*base..base + 40).all(|port| free(u16::try_from(port).unwrap())));
    all_free.next().expect("one of 100 runs of 40 ports is free")
}

#[test]
fn devnet_orders_survives_a_kill_resumes_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("net");

    let devnet = Devnet::start(&home, &["--base-port", &base_port(0).to_string()]);
    let first = devnet.order(0, "0x68656c6c6f");
    assert_eq!(first["sequence"], 0);
    let written = std::fs::read_to_string(home.join("devnet.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), devnet.ready);

    // The client commands find it without being told where it is.
    let fusion = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fusion"));
        command.args(args).env("TMPDIR", folder.path()).output().unwrap()
    };
    let status = fusion(&["status"]);
    assert!(status.status.success(), "{status:?}");
    let status = String::from_utf8(status.stdout).unwrap();
    assert_eq!(status.matches("voting power 4 of 4 (3 decide)").count(), 4, "{status}");

    // One of four is lost: the others go on, and it comes back by hand with the command that is printed for it.
    let lost = devnet.ready["nodes"][1]["home"].as_str().unwrap().to_owned();
    kill_process(devnet.pids()[1], Signal::KILL).unwrap();
    assert_eq!(devnet.order(2, "0x01")["sequence"], 1);
    let bench = fusion(&[
        "bench",
        "--rate",
        "20",
        "--warmup",
        "100ms",
        "--duration",
        "1s",
        "--json",
    ]);
    assert!(bench.status.success(), "{bench:?}");
    let report: Value = serde_json::from_slice(&bench.stdout).unwrap();
    let silent = devnet.ready["nodes"][1]["rpc"].as_str().unwrap().replace("http://", "");
    assert_eq!(report["workload"]["leftOut"], json!([silent]), "{report}");
    assert_eq!(report["workload"]["nodes"], 3);
    assert!(report["cluster"]["cores"].is_f64(), "{report}");
    assert_ne!(report["total"]["final"], 0, "{report}");
    let mut by_hand = Command::new(env!("CARGO_BIN_EXE_fusion"))
        .args(["start", "--home", &lost, "--set", "log.level=warn"])
        .spawn()
        .unwrap();
    let height = devnet.height(0);
    let url = devnet.ready["nodes"][1]["rpc"].as_str().unwrap().replace("http://", "");
    eventually("the node answers again", || TcpStream::connect(&url).is_ok());
    eventually("the node catches up", || devnet.height(1) > height);
    let told = || serde_json::from_str::<Value>(&std::fs::read_to_string(home.join("devnet.json")).unwrap()).unwrap();
    eventually("its new process is told", || told()["nodes"][1]["pid"] == by_hand.id());

    // What was started by hand ends with the others.
    let pids = devnet.pids();
    let (status, took) = devnet.terminate();
    assert_eq!(by_hand.wait().unwrap().code(), Some(0));
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(
        pids.iter().all(|pid| test_kill_process(*pid).is_err()),
        "a node is left"
    );
    assert!(!home.join("devnet.json").exists());
    let refused = fusion(&["devnet", "--home", home.to_str().unwrap(), "--base-port", "1024"]);
    assert_eq!(refused.status.code(), Some(64));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a link is left");

    // The same chain goes on, and when devnet is killed its nodes end too.
    let devnet = Devnet::start(&home, &[]);
    assert!(devnet.order(1, "0x02")["sequence"].as_u64().unwrap() > 1);
    let again = devnet.call(3, "fusion_getReceipt", &json!([1001, first["transaction"]]));
    assert_eq!(again["result"]["receipt"]["height"], first["height"], "{again}");
    let pids = devnet.pids();
    drop(devnet);
    eventually("the nodes end with their parent", || {
        pids.iter().all(|pid| test_kill_process(*pid).is_err())
    });
}

/// Gives the relay of a devnet an order and returns its answer.
fn order_relay(devnet: &Devnet, request: &Value) -> Value {
    let control = devnet.ready["wan"]["control"].as_str().unwrap();
    let mut stream = TcpStream::connect(control).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    writeln!(stream, "{request}").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

#[test]
fn a_devnet_over_a_wide_area_network_keeps_its_distances_and_obeys_cuts() {
    let folder = tempfile::tempdir().unwrap();
    let (home, table) = (folder.path().join("net"), folder.path().join("far.toml"));
    let rows = "[0, 30, 30, 30], [30, 0, 30, 30], [30, 30, 0, 30], [30, 30, 30, 0]";
    std::fs::write(
        &table,
        format!("regions = [\"a\", \"b\", \"c\", \"d\"]\noneWayMs = [{rows}]\n"),
    )
    .unwrap();
    let table = table.to_str().unwrap();

    let devnet = Devnet::start(&home, &["--wan", table, "--base-port", &base_port(1).to_string()]);
    assert_eq!(devnet.ready["nodes"][2]["region"], "c");
    let start = Instant::now();
    devnet.order(0, "0x01");
    assert!(
        start.elapsed() >= Duration::from_millis(90),
        "three hops of 30 ms: {:?}",
        start.elapsed()
    );

    // One region is cut off: the others decide without it, and it catches up when the cut is healed.
    let cut = order_relay(&devnet, &json!({ "do": "set", "node": "node3", "cut": true }));
    assert_eq!(cut, json!({ "ok": true, "changed": 6 }));
    devnet.order(0, "0x02");
    order_relay(&devnet, &json!({ "do": "reset" }));
    let height = devnet.height(0);
    eventually("the region that was cut off catches up", || devnet.height(3) >= height);
    let counts = order_relay(&devnet, &json!({ "do": "count", "to": "node3" }));
    assert!(counts["links"][0]["cut"].as_u64() > Some(0), "{counts}");
    assert!(devnet.terminate().0.success());

    // The home remembers its network; another one is refused.
    let other = Command::new(env!("CARGO_BIN_EXE_fusion"))
        .args(["devnet", "--l1", "none", "--wan", "4-global", "--home"])
        .arg(&home)
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(64), "{other:?}");
    let devnet = Devnet::start(&home, &[]);
    assert_eq!(devnet.ready["wan"]["regions"], json!(["a", "b", "c", "d"]));
    devnet.order(1, "0x03");
    assert!(devnet.terminate().0.success());
}

/// What stands on L1 is there for everybody: the rungs above final, their proof, and a network that a member's end does not hold up.
#[test]
fn what_is_ordered_is_posted_and_settled_and_each_rung_has_its_proof() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("net");
    let devnet = Devnet::start_on(&home, "embedded", &[]);
    let l1 = &devnet.ready["l1"];
    let receipt = devnet.order(0, "0x68656c6c6f");
    let (hash, height) = (&receipt["transaction"], receipt["height"].as_u64().unwrap());
    let ask = |node: usize| devnet.call(node, "fusion_getReceipt", &json!([1001, hash]))["result"].clone();
    eventually("it is posted", || ask(1)["settlement"].is_object());
    let posted = ask(1);
    assert!(
        posted["status"] == "posted" || posted["status"] == "settled",
        "{posted}"
    );
    let place = &posted["settlement"]["l1"];
    assert_eq!((&place["inbox"], &place["chainId"]), (&l1["inbox"], &l1["chainId"]));
    let batch = &posted["settlement"]["batch"];
    assert!(batch["firstHeight"].as_u64().unwrap() <= height && height <= batch["lastHeight"].as_u64().unwrap());
    for node in 0..4 {
        eventually("it is settled on every node", || ask(node)["status"] == "settled");
        let settled = ask(node);
        assert_eq!(settled["settlement"]["batch"], *batch, "all nodes know one batch");
        // The proof leads from the receipt to the batch.
        let settlement: fusion_client::json::PostedJson =
            serde_json::from_value(settled["settlement"].clone()).unwrap();
        let receipt: fusion_client::json::ReceiptJson = serde_json::from_value(settled["receipt"].clone()).unwrap();
        let receipt = fusion_types::Receipt::try_from(&receipt).unwrap();
        let batch = settlement.batch.decode(receipt.header.network).unwrap();
        settlement.membership().unwrap().verify(&batch, &receipt).unwrap();
    }
}
