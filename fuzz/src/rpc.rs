//! JSON-RPC as a user meets it: a served node on a socket of this machine, any body, the answer looked at.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use fusion_client::json::{Hash, StatusJson};
use fusion_mempool::Reject;
use fusion_sequencer::handle::{NodeEnd, NodeHandle, NodeStatus};
use fusion_sequencer::metrics::Metrics;
use fusion_sequencer::rpc::{Options, serve};
use fusion_sequencer::store::{self, Record, Store};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::fixture::{ROLLUPS, fixture};

/// Where a call goes: its first byte says.
/// What a thread of the index may take for four blocks.
const INDEXED_WITHIN: Duration = Duration::from_secs(30);
const PATHS: [&str; 4] = ["/", "/rollup/901", "/rollup/902", "/rollup/903"];

struct Served {
    runtime: Runtime,
    address: std::net::SocketAddr,
    stream: Option<TcpStream>,
    _store: Store,
}

/// A path and the body of a POST to it: the answer is JSON-RPC, whatever the question was.
pub fn call(data: &[u8]) {
    static SERVED: OnceLock<Mutex<Served>> = OnceLock::new();
    let Some((path, body)) = data.split_first() else { return };
    let path = PATHS[usize::from(path % 4)];
    let served = SERVED.get_or_init(|| Mutex::new(start()));
    let mut served = served.lock().unwrap_or_else(PoisonError::into_inner);
    let Served {
        runtime,
        address,
        stream,
        ..
    } = &mut *served;
    let (code, answer) = runtime.block_on(post(*address, stream, path, body));
    assert!([200, 400, 413].contains(&code), "HTTP status {code}");
    if code != 200 || answer.is_empty() {
        return;
    }
    match serde_json::from_slice(&answer).expect("an answer is JSON") {
        Value::Array(answers) => {
            assert!(!answers.is_empty());
            answers.iter().for_each(is_answer);
        }
        // To a notification.
        Value::Null => {}
        answer => is_answer(&answer),
    }
}

fn is_answer(answer: &Value) {
    assert_eq!(answer["jsonrpc"], "2.0", "{answer}");
    assert!(answer.get("id").is_some(), "{answer}");
    let (result, error) = (answer.get("result"), answer.get("error"));
    assert!(result.is_some() != error.is_some(), "{answer}");
    if let Some(error) = error {
        assert!(error["code"].is_i64() && error["message"].is_string(), "{answer}");
        assert_ne!(error["code"], -32603, "an internal error: {answer}");
    }
}

async fn post(
    address: std::net::SocketAddr,
    stream: &mut Option<TcpStream>,
    path: &str,
    body: &[u8],
) -> (u16, Vec<u8>) {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    let request = [head.as_bytes(), body].concat();
    let mut open = match stream.take() {
        Some(open) => open,
        None => TcpStream::connect(address).await.expect("the node listens"),
    };
    open.write_all(&request).await.expect("the node reads");
    let mut bytes = Vec::new();
    let head_end = loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            break end + 4;
        }
        let count = open.read_buf(&mut bytes).await.expect("the node answers");
        assert!(0 < count, "the node answers before it closes");
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_lowercase();
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name).map(str::trim));
    let length: usize = field("content-length:")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    while bytes.len() < head_end + length {
        let count = open.read_buf(&mut bytes).await.expect("the node answers");
        assert!(0 < count, "the node sends all of its answer");
    }
    if field("connection:") != Some("close") {
        *stream = Some(open);
    }
    (code, bytes[head_end..].to_vec())
}

/// A node with four decided blocks, whose pool takes everything but what starts with `no`.
fn start() -> Served {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system has a thread");
    let home = std::env::temp_dir().join(format!("fusion-fuzz-{}-rpc", std::process::id()));
    let genesis = fixture().genesis.clone();
    let options = store::Options {
        segment_bytes: 1 << 20,
        ..store::Options::default()
    };
    let (mut store, _) = Store::open(&home, &genesis, options).expect("an empty folder opens");
    for (decided, state) in fixture().blocks.iter().zip(&fixture().states[1..]) {
        let records = [
            Record::Body(decided.block.clone()),
            Record::Decision(decided.certificate.clone()),
        ];
        store.commit(&records, state).expect("a sound batch is taken");
    }
    let reader = store.reader();
    let begun = Instant::now();
    while reader.height_of(ROLLUPS[0], 0).is_err() {
        assert!(
            begun.elapsed() < INDEXED_WITHIN,
            "the index does not take the blocks up"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let (handle, end) = NodeHandle::new(genesis, reader, status());
    let options = Options {
        sync_timeout: Duration::from_millis(1),
        sync_timeout_max: Duration::from_millis(1),
        ..Options::default()
    };
    let listener = runtime
        .block_on(TcpListener::bind("127.0.0.1:0"))
        .expect("there is a port");
    let address = listener.local_addr().expect("it is bound");
    runtime.spawn(play(end));
    let metrics = Metrics::new("fuzz", "follower", "0.1.0");
    runtime.spawn(serve(listener, options, handle, metrics, std::future::pending()));
    Served {
        runtime,
        address,
        stream: None,
        _store: store,
    }
}

async fn play(mut end: NodeEnd) {
    loop {
        tokio::select! {
            Some(submission) = end.submissions.recv() => {
                let verdict = |transaction: &fusion_mempool::PoolTransaction| {
                    if transaction.payload.starts_with(b"no") {
                        Err(Reject::AlreadyKnown(transaction.hash))
                    } else {
                        Ok(())
                    }
                };
                let _ = submission.reply.send(submission.transactions.iter().map(verdict).collect());
            }
            Some(question) = end.questions.recv() => {
                let _ = question.reply.send(question.hash[0].is_multiple_of(2));
            }
            else => return,
        }
    }
}

fn status() -> NodeStatus {
    let zero = Hash(alloy_primitives::B256::ZERO);
    NodeStatus {
        node: StatusJson {
            name: "fuzz".to_owned(),
            version: "0.1.0".to_owned(),
            network: Hash(fixture().genesis.network().0),
            network_name: "fuzz".to_owned(),
            peer: zero,
            validator: None,
            role: "follower".to_owned(),
            voting: false,
            quarantine: None,
            height: crate::fixture::BLOCKS,
            tip: zero,
            time_ms: 0,
            round: 0,
            step: "propose".to_owned(),
            lag: 0,
            peers: 1,
            power_connected: 4,
            power_total: 4,
            quorum: 3,
            pool_transactions: 0,
            pool_bytes: 0,
            evidence: 0,
            started_ms: 1,
        },
        peers: Vec::new(),
        links: Vec::new(),
        evidence: Vec::new(),
        clocks_ahead_ms: None,
    }
}

/// A status document, for seeds.
pub fn status_json() -> String {
    serde_json::to_string(&status().node).expect("it has a JSON form")
}
