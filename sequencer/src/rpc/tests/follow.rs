//! Subscriptions over a real WebSocket.

use fusion_client::json::{HeadJson, LaneHashesJson, ReceiptJson, RollupBlockJson};
use fusion_types::{Cursor, Receipt, RollupBlock};
use jsonrpsee::core::client::{ClientT, Subscription, SubscriptionClientT};
use jsonrpsee::core::params::{ArrayParams, BatchRequestBuilder};
use jsonrpsee::rpc_params;
use jsonrpsee::ws_client::{WsClient, WsClientBuilder};

use super::*;

async fn connect(node: &Node, path: &str) -> WsClient {
    let url = format!("ws://{}{path}", node.address);
    WsClientBuilder::default().build(url).await.unwrap()
}

async fn subscribe(
    client: &WsClient,
    kind: &str,
    params: Value,
) -> Result<Subscription<Value>, jsonrpsee::core::client::Error> {
    let mut list = ArrayParams::new();
    list.insert(kind).unwrap();
    list.insert(params).unwrap();
    client.subscribe("fusion_subscribe", list, "fusion_unsubscribe").await
}

async fn next<T: serde::de::DeserializeOwned>(subscription: &mut Subscription<Value>) -> T {
    serde_json::from_value(subscription.next().await.unwrap().unwrap()).unwrap()
}

#[tokio::test]
async fn a_stream_is_backfilled_then_followed_and_every_item_verifies() {
    let mut node = Node::start().await;
    // Longer than what is scanned block by block, so that the index is used too.
    for at in 0..100 {
        let lanes = if at % 10 == 0 {
            vec![lane(OPAQUE, &["a", "b"])]
        } else {
            Vec::new()
        };
        node.chain.decide(lanes);
    }
    let client = connect(&node, "/").await;
    let genesis = node.chain.genesis.clone();
    let mut cursor = Cursor::start(genesis.network(), RollupId(OPAQUE));
    let start = json!({"rollup": OPAQUE, "sequence": 0, "head": cursor.head.to_string()});
    let mut stream = subscribe(&client, "stream", start).await.unwrap();
    for at in 0..14_u64 {
        if at >= 10 {
            node.chain.decide(vec![lane(EVM, &["e"])]);
            node.chain.decide(vec![lane(OPAQUE, &["c", "d"])]);
        }
        let block: RollupBlockJson = next(&mut stream).await;
        let block = RollupBlock::try_from(&block).unwrap();
        cursor = block.verify(genesis.network(), genesis.committee(), &cursor).unwrap();
    }
    assert_eq!(cursor.sequence, 28);
    stream.unsubscribe().await.unwrap();

    // Another connection goes on where this one stood.
    let client = connect(&node, "/rollup/903").await;
    let resumed = json!({"sequence": 26});
    let mut stream = subscribe(&client, "stream", resumed).await.unwrap();
    let block: RollupBlockJson = next(&mut stream).await;
    assert_eq!(block.lane.first_sequence, 26);
}

#[tokio::test]
async fn a_cursor_of_another_history_is_refused_at_once() {
    let mut node = Node::start().await;
    node.chain.decide(vec![lane(OPAQUE, &["a", "b"])]);
    let client = connect(&node, "/").await;
    let wrong = alloy_primitives::B256::repeat_byte(1).to_string();
    for (sequence, name) in [(0, "wrong_head"), (1, "inside_lane"), (2, "wrong_head")] {
        let cursor = json!({"rollup": OPAQUE, "sequence": sequence, "head": wrong});
        let error = subscribe(&client, "stream", cursor).await.unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    // Beyond the tip nothing can be said yet: it waits, and tells when the lane comes.
    let cursor = json!({"rollup": OPAQUE, "sequence": 3, "head": wrong});
    let mut stream = subscribe(&client, "stream", cursor).await.unwrap();
    node.chain.decide(vec![lane(OPAQUE, &["c"])]);
    node.chain.decide(vec![lane(OPAQUE, &["d"])]);
    assert!(stream.next().await.is_none_or(|item| item.is_err()));
}

#[tokio::test]
async fn asking_beyond_the_tip_waits_and_skips_nothing() {
    let mut node = Node::start().await;
    let client = connect(&node, "/").await;
    let mut stream = subscribe(&client, "stream", json!({"rollup": OPAQUE, "sequence": 3}))
        .await
        .unwrap();
    node.chain.decide(vec![lane(OPAQUE, &["a", "b"])]);
    node.chain.decide(vec![lane(OPAQUE, &["c", "d"])]);
    let block: RollupBlockJson = next(&mut stream).await;
    assert_eq!(block.lane.first_sequence, 2);
}

#[tokio::test]
async fn heads_carry_certificates_and_hashes_if_asked() {
    let mut node = Node::start().await;
    let client = connect(&node, "/").await;
    let mut plain = subscribe(&client, "heads", json!({})).await.unwrap();
    let mut full = subscribe(&client, "heads", json!({"includeTransactions": true}))
        .await
        .unwrap();
    node.chain.decide(vec![lane(EVM, &["e"]), lane(OPAQUE, &["a", "b"])]);
    let head: HeadJson = next(&mut plain).await;
    assert_eq!((head.header.height, head.lanes), (1, None));
    let head: HeadJson = next(&mut full).await;
    let lanes = head.lanes.unwrap();
    assert_eq!(lanes[1].hashes[1].to_string(), hash("b"));
    let mut past = subscribe(&client, "heads", json!({"from": 1})).await.unwrap();
    assert_eq!(next::<HeadJson>(&mut past).await.header.height, 1);
}

#[tokio::test]
async fn receipts_come_for_all_lanes_or_for_the_hashes_asked() {
    let mut node = Node::start().await;
    node.chain.decide(vec![lane(OPAQUE, &["early"])]);
    let client = connect(&node, "/rollup/903").await;
    let mut lanes = subscribe(&client, "receipts", json!({})).await.unwrap();
    let hashes = json!({"hashes": [hash("early"), hash("late")]});
    let mut receipts = subscribe(&client, "receipts", hashes).await.unwrap();
    node.chain.decide(vec![lane(EVM, &["e"])]);
    node.chain.decide(vec![lane(OPAQUE, &["x", "late"])]);
    let compact: LaneHashesJson = next(&mut lanes).await;
    assert_eq!(
        (compact.height, compact.first_sequence, compact.hashes.len()),
        (3, 1, 2)
    );
    let genesis = &node.chain.genesis;
    for expected in ["early", "late"] {
        let receipt = Receipt::try_from(&next::<ReceiptJson>(&mut receipts).await).unwrap();
        receipt.verify(genesis.network(), genesis.committee()).unwrap();
        assert_eq!(receipt.transaction.to_string(), hash(expected));
    }
}

#[tokio::test]
async fn one_subscription_too_many_is_refused() {
    let options = Options {
        subscriptions: 2,
        ..Options::default()
    };
    let node = Node::with(options).await;
    let client = connect(&node, "/").await;
    let first = subscribe(&client, "heads", json!({})).await.unwrap();
    let _second = subscribe(&client, "heads", json!({})).await.unwrap();
    assert!(subscribe(&client, "heads", json!({})).await.is_err());
    first.unsubscribe().await.unwrap();
    // The place comes back when the subscription's task has seen the end.
    let again = async {
        while subscribe(&client, "heads", json!({})).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(20), again).await;
    again.expect("the place comes back");
}

#[tokio::test]
async fn a_wrong_parameter_of_a_subscription_is_told() {
    let node = Node::start().await;
    let client = connect(&node, "/").await;
    for (kind, params, expected) in [
        (
            "stream",
            json!({"rollup": OPAQUE}),
            "fusion_subscribe stream: sequence is missing, expected a whole number",
        ),
        (
            "heads",
            json!({"from": "x"}),
            "fusion_subscribe heads: from is \"x\", expected a whole number",
        ),
        (
            "receipts",
            json!({"rollup": OPAQUE, "hashes": [1]}),
            "fusion_subscribe receipts: hashes is [1], expected a list of hashes",
        ),
        (
            "head",
            json!({}),
            "fusion_subscribe: kind is \"head\", expected \"stream\", \"heads\" or \"receipts\"",
        ),
    ] {
        let error = subscribe(&client, kind, params).await.unwrap_err();
        let jsonrpsee::core::client::Error::Call(error) = error else {
            panic!("{error}");
        };
        assert!(error.message().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn subscriptions_need_a_websocket_and_a_call_of_their_own() {
    let node = Node::start().await;
    for method in ["fusion_subscribe", "fusion_unsubscribe"] {
        let error = node.call("/rollup/903", method, json!(["heads"])).await.unwrap_err();
        assert_eq!(
            error["message"],
            format!("{method} needs a WebSocket connection: connect to ws://localhost/rollup/903 (wss:// behind TLS)")
        );
        let call = json!([{"jsonrpc": "2.0", "id": 1, "method": method, "params": ["heads"]}]);
        let (_, answer) = node.post("/", &call.to_string()).await;
        assert_eq!(answer[0]["error"]["data"]["name"], "needs_websocket");
    }
    let mut batch = BatchRequestBuilder::new();
    batch.insert("fusion_subscribe", rpc_params!["heads"]).unwrap();
    let answers = connect(&node, "/").await.batch_request::<Value>(batch).await.unwrap();
    let error = answers.into_iter().next().unwrap().unwrap_err();
    assert!(error.message().contains("not served in a batch"), "{error}");
}

/// A WebSocket client that sends one text and then reads only when told to.
async fn lazy(node: &Node, text: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(node.address).await.unwrap();
    let upgrade = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    // A masked text frame with a mask of zeros; RFC 6455 §5.2.
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).unwrap();
    let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    stream.write_all(&frame).await.unwrap();
    stream
}

#[tokio::test]
async fn a_slow_reader_is_cut_off_and_told_where_to_resume_while_others_go_on() {
    let options = Options {
        slow_reader: Duration::from_millis(100),
        ..Options::default()
    };
    let mut node = Node::with(options).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "fusion_subscribe", "params": ["stream", {"rollup": OPAQUE, "sequence": 0}]});
    let mut slow = lazy(&node, &call.to_string()).await;
    let client = connect(&node, "/").await;
    let mut quick = subscribe(&client, "stream", json!({"rollup": OPAQUE, "sequence": 0}))
        .await
        .unwrap();
    let large = Bytes::from(vec![7; 100 * 1024]);
    for sequence in 0..100 {
        node.chain.decide(vec![(RollupId(OPAQUE), vec![large.clone()])]);
        let block: RollupBlockJson = next(&mut quick).await;
        assert_eq!(block.lane.first_sequence, sequence);
    }
    // Nothing is read until the server has given up.
    while !node
        .metrics
        .text(&status(&node.chain))
        .contains("fusion_rpc_slow_readers_total 1")
    {
        tokio::task::yield_now().await;
    }
    let mut read = Vec::new();
    let needle = b"slow reader";
    while !read.windows(needle.len()).any(|window| window == needle) {
        let mut chunk = vec![0; 1 << 20];
        let count = slow.read(&mut chunk).await.unwrap();
        assert!(count > 0, "closed without a word");
        let keep = read.len().saturating_sub(needle.len());
        read.drain(..keep);
        read.extend_from_slice(&chunk[..count]);
    }
    let text = String::from_utf8_lossy(&read);
    assert!(text.contains("resume from sequence"), "no place to resume");
}

#[tokio::test]
async fn a_connection_that_reads_nothing_is_closed() {
    let options = Options {
        slow_reader: Duration::from_secs(600),
        write_timeout: Duration::from_millis(100),
        ..Options::default()
    };
    let mut node = Node::with(options).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "fusion_subscribe", "params": ["stream", {"rollup": OPAQUE, "sequence": 0}]});
    let _slow = lazy(&node, &call.to_string()).await;
    let large = Bytes::from(vec![7; 100 * 1024]);
    for _ in 0..100 {
        node.chain.decide(vec![(RollupId(OPAQUE), vec![large.clone()])]);
    }
    while !node
        .metrics
        .text(&status(&node.chain))
        .contains("fusion_rpc_connections 0")
    {
        tokio::task::yield_now().await;
    }
}
