//! RPC over real sockets, against a store with a signed chain made by hand, and a node that answers by what it is sent.

mod calls;
mod chain;
mod follow;
mod limits;
mod malformed;

use std::net::SocketAddr;
use std::sync::Arc;

use alloy_primitives::Bytes;
use fusion_client::json::{Hash, StatusJson};
use fusion_mempool::{PoolTransaction, Reject};
use fusion_types::RollupId;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

use self::chain::Chain;
use super::*;
use crate::handle::{NodeEnd, NodeHandle, NodeStatus, Room};

/// An opaque rollup, the one that most tests use.
const OPAQUE: u64 = 903;

/// An `evm` rollup.
const EVM: u64 = 901;

/// A served node.
struct Node {
    address: SocketAddr,
    chain: Chain,
    status: watch::Sender<Arc<NodeStatus>>,
    room: Arc<Room>,
    /// What the pool was given, one list per submission.
    submitted: mpsc::Receiver<Vec<PoolTransaction>>,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
    metrics: Metrics,
}

fn status(chain: &Chain) -> NodeStatus {
    let zero = Hash(alloy_primitives::B256::ZERO);
    NodeStatus {
        node: StatusJson {
            name: "node-0".to_owned(),
            version: "0.1.0".to_owned(),
            network: Hash(chain.genesis.network().0),
            network_name: "test".to_owned(),
            peer: zero,
            validator: None,
            role: "follower".to_owned(),
            voting: false,
            quarantine: None,
            height: 0,
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

/// What the pool of the test says: payloads that start with a word are refused for that reason.
fn verdict(transaction: &PoolTransaction) -> Result<(), Reject> {
    if transaction.payload.starts_with(b"known") {
        return Err(Reject::AlreadyKnown(transaction.hash));
    }
    if transaction.payload.starts_with(b"gap") {
        return Err(Reject::NonceGap {
            nonce: 9,
            next: 3,
            limit: 4,
        });
    }
    if transaction.payload.starts_with(b"full") {
        return Err(Reject::PoolFull {
            bytes: 100,
            bytes_max: 90,
        });
    }
    Ok(())
}

/// Plays the node thread: notes what is submitted, answers by [`verdict`]; what was accepted waits for good.
async fn play(mut end: NodeEnd, submitted: mpsc::Sender<Vec<PoolTransaction>>) {
    let mut waiting = Vec::new();
    loop {
        tokio::select! {
            Some(submission) = end.submissions.recv() => {
                let answers: Vec<_> = submission.transactions.iter().map(verdict).collect();
                for (transaction, answer) in submission.transactions.iter().zip(&answers) {
                    if answer.is_ok() {
                        waiting.push((transaction.rollup, transaction.hash));
                    }
                }
                let _ = submitted.send(submission.transactions).await;
                let _ = submission.reply.send(answers);
            }
            Some(question) = end.questions.recv() => {
                let _ = question.reply.send(waiting.contains(&(question.rollup, question.hash)));
            }
            else => return,
        }
    }
}

impl Node {
    async fn start() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let chain = Chain::new();
        let (handle, end) = NodeHandle::new(chain.genesis.clone(), chain.reader(), status(&chain));
        let (note, submitted) = mpsc::channel(1024);
        let (publish, room) = (end.status.clone(), end.room.clone());
        tokio::spawn(play(end, note));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let metrics = Metrics::new("node-0", "follower", "0.1.0");
        let stopped = async {
            let _ = stopped.await;
        };
        Self {
            address,
            chain,
            status: publish,
            room,
            submitted,
            stop: Some(stop),
            served: tokio::spawn(serve(listener, options, handle, metrics.clone(), stopped)),
            metrics,
        }
    }

    fn lag(&self, blocks: u64) {
        let mut status = status(&self.chain);
        status.node.lag = blocks;
        self.status.send_replace(Arc::new(status));
    }

    /// Sends any body and reads the answer: HTTP status, JSON if it is JSON.
    async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        self.raw(request.as_bytes()).await
    }

    /// Asks over new connections until one is served.
    async fn becomes_reachable(&self) {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"fusion_status"}"#;
        let served = async {
            while self.post("/", body).await.0 != 200 {
                tokio::task::yield_now().await;
            }
        };
        let served = tokio::time::timeout(Duration::from_secs(20), served).await;
        served.expect("a place comes back");
    }

    async fn raw(&self, request: &[u8]) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(request).await;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        (code, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// One call: its result, or its error.
    async fn call(&self, path: &str, method: &str, params: Value) -> Result<Value, Value> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let (code, answer) = self.post(path, &body).await;
        assert_eq!(code, 200, "{method}: {answer}");
        assert_eq!(answer["jsonrpc"], "2.0");
        assert_eq!(answer["id"], 1);
        match answer.get("result") {
            Some(result) => Ok(result.clone()),
            None => Err(answer["error"].clone()),
        }
    }
}

fn payload(text: &str) -> String {
    alloy_primitives::hex::encode_prefixed(text)
}

fn hash(text: &str) -> String {
    fusion_types::transaction_hash(text.as_bytes()).to_string()
}

fn lane(rollup: u64, texts: &[&str]) -> (RollupId, Vec<Bytes>) {
    let payloads = texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes()));
    (RollupId(rollup), payloads.collect())
}
