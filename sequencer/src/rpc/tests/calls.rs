//! What each method answers.

use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, TxKind, hex};
use fusion_client::json::{
    BlockJson, CertificateJson, CommitteeJson, ReceiptJson, ReceiptStatusJson, RollupBlockJson, StreamJson,
};
use fusion_types::{Certificate, Committee, Cursor, DecidedBlock, Receipt, RollupBlock};
use serde::de::DeserializeOwned;

use super::*;

fn decode<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn transfer(chain_id: u64) -> (String, String) {
    let transaction = TxEip1559 {
        chain_id,
        gas_limit: 21_000,
        max_fee_per_gas: 2,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(Address::ZERO),
        ..Default::default()
    };
    let signature = sign_message(B256::repeat_byte(1), transaction.signature_hash()).unwrap();
    let signed = transaction.into_signed(signature);
    (hex::encode_prefixed(signed.encoded_2718()), signed.hash().to_string())
}

#[tokio::test]
async fn wallets_get_what_they_call() {
    let mut node = Node::start().await;
    assert_eq!(
        node.call("/rollup/901", "eth_chainId", json!([])).await.unwrap(),
        "0x385"
    );
    assert_eq!(node.call("/rollup/901", "net_version", json!([])).await.unwrap(), "901");
    assert_eq!(
        node.call("/rollup/901", "eth_blockNumber", json!([])).await.unwrap(),
        "0x0"
    );
    let (raw, expected) = transfer(EVM);
    let sent = node
        .call("/rollup/901", "eth_sendRawTransaction", json!([raw]))
        .await
        .unwrap();
    assert_eq!(sent, expected);
    let taken = node.submitted.recv().await.unwrap();
    assert_eq!(taken[0].hash.to_string(), expected);
    assert!(taken[0].evm.is_some());
    let (wrong, _) = transfer(902);
    let error = node
        .call("/rollup/901", "eth_sendRawTransaction", json!([wrong]))
        .await
        .unwrap_err();
    assert_eq!(error["code"], -32602);
    assert_eq!(error["data"]["name"], "chain_id");
    assert_eq!(
        error["message"],
        "invalid chain id: transaction is for 902, this is rollup 901"
    );
}

#[tokio::test]
async fn the_block_number_is_that_of_the_rollups_last_lane() {
    let mut node = Node::start().await;
    for at in 0..5 {
        let texts = [format!("a{at}"), format!("b{at}")];
        node.chain.decide(vec![lane(OPAQUE, &[&texts[0], &texts[1]])]);
    }
    node.chain.decide(Vec::new());
    let path = format!("/rollup/{OPAQUE}");
    assert_eq!(node.call(&path, "eth_blockNumber", json!([])).await.unwrap(), "0x5");
    assert_eq!(
        node.call("/rollup/901", "eth_blockNumber", json!([])).await.unwrap(),
        "0x0"
    );
}

#[tokio::test]
async fn a_transaction_can_be_named_by_position_by_name_and_by_path() {
    let node = Node::start().await;
    let raw = payload("hello");
    let forms = [
        ("/", json!([OPAQUE, raw])),
        ("/", json!({"rollup": OPAQUE, "transaction": raw})),
        ("/rollup/903", json!([raw])),
        ("/rollup/903/", json!({"transaction": raw})),
        ("/rollup/903", json!([OPAQUE, raw])),
    ];
    for (path, params) in forms {
        let sent = node.call(path, "fusion_sendTransaction", params.clone()).await;
        assert_eq!(sent, Ok(Value::from(hash("hello"))), "{path} {params}");
    }
    let error = node
        .call("/rollup/903", "fusion_sendTransaction", json!([901, raw]))
        .await
        .unwrap_err();
    assert_eq!(
        error["message"],
        "invalid params: fusion_sendTransaction: rollup is 901, the path is /rollup/903"
    );
}

#[tokio::test]
async fn a_refusal_has_its_code_its_name_and_its_numbers() {
    let node = Node::start().await;
    let send = |text: &str| node.call("/", "fusion_sendTransaction", json!([OPAQUE, payload(text)]));
    let error = send("known").await.unwrap_err();
    assert_eq!(error["code"], 1000);
    assert_eq!(error["data"]["name"], "already_known");
    assert_eq!(error["data"]["transaction"], hash("known"));
    let error = send("gap").await.unwrap_err();
    assert_eq!(error["data"]["next"], 3);
    let error = send("full").await.unwrap_err();
    assert_eq!((&error["code"], &error["data"]["limit"]), (&json!(-32005), &json!(90)));
    let error = node
        .call("/", "fusion_sendTransaction", json!([5, "0x00"]))
        .await
        .unwrap_err();
    assert_eq!(error["message"], "rollup 5 is not registered");
    let large = payload(&"x".repeat(fusion_types::limits::TRANSACTION_BYTES_MAX + 1));
    let error = node
        .call("/", "fusion_sendTransaction", json!([OPAQUE, large]))
        .await
        .unwrap_err();
    assert_eq!(error["data"]["name"], "too_large");
    assert_eq!(error["data"]["bytes"], fusion_types::limits::TRANSACTION_BYTES_MAX + 1);
}

#[tokio::test]
async fn a_synchronous_call_answers_with_the_receipt_once_it_is_durable() {
    let mut node = Node::start().await;
    let address = node.address;
    for (path, params) in [
        ("/", json!([OPAQUE, payload("one"), 30_000])),
        ("/rollup/903", json!([payload("two"), "0x7530"])),
    ] {
        let asked = async {
            let body = json!({"jsonrpc": "2.0", "id": 1, "method": "fusion_sendTransactionSync", "params": params});
            post_to(address, path, &body.to_string()).await
        };
        let decided = async {
            let taken = node.submitted.recv().await.unwrap();
            let payloads = taken.iter().map(|transaction| transaction.payload.clone()).collect();
            node.chain.decide(vec![(RollupId(OPAQUE), payloads)]);
            taken[0].hash
        };
        let (answer, hash) = tokio::join!(asked, decided);
        let receipt = Receipt::try_from(&decode::<ReceiptJson>(answer["result"].clone())).unwrap();
        let genesis = &node.chain.genesis;
        receipt.verify(genesis.network(), genesis.committee()).unwrap();
        assert_eq!(receipt.transaction, hash);
    }
    // Again: it is decided, so that nothing is submitted and the same receipt comes back.
    let again = node
        .call("/rollup/903", "fusion_sendTransactionSync", json!([payload("two")]))
        .await
        .unwrap();
    assert_eq!(decode::<ReceiptJson>(again).sequence, 1);
    assert!(node.submitted.try_recv().is_err());
}

async fn post_to(address: SocketAddr, path: &str, body: &str) -> Value {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn eip_7966_errors_are_those_of_the_standard() {
    let node = Node::start().await;
    let sync = |text: &str, timeout: Value| {
        let params = json!([payload(text), timeout]);
        node.call("/rollup/903", "eth_sendRawTransactionSync", params)
    };
    for timeout in [json!(20), json!("0x14")] {
        let error = sync("late", timeout).await.unwrap_err();
        assert_eq!((&error["code"], &error["data"]), (&json!(4), &json!(hash("late"))));
    }
    let error = sync("full", json!(20)).await.unwrap_err();
    assert_eq!((&error["code"], &error["data"]), (&json!(5), &json!(hash("full"))));
    let error = sync("gap", json!(20)).await.unwrap_err();
    assert_eq!((&error["code"], &error["data"]), (&json!(6), &json!("0x3")));
    let error = sync("late", json!("soon")).await.unwrap_err();
    assert_eq!(error["code"], -32602);
    let params = json!([payload("late"), 20]);
    let error = node
        .call("/rollup/903", "fusion_sendTransactionSync", params)
        .await
        .unwrap_err();
    assert_eq!((&error["code"], &error["data"]["name"]), (&json!(4), &json!("timeout")));
}

#[tokio::test]
async fn a_receipt_climbs_the_ladder_and_never_says_unknown_for_not_yet() {
    let mut node = Node::start().await;
    let path = "/rollup/903";
    let ask = |node: &Node, text: &str| {
        let params = json!([hash(text)]);
        let (address, body) = (
            node.address,
            json!({"jsonrpc": "2.0", "id": 1, "method": "fusion_getReceipt", "params": params}).to_string(),
        );
        async move { decode::<ReceiptStatusJson>(post_to(address, path, &body).await["result"].clone()) }
    };
    let answer = serde_json::to_value(ask(&node, "tx").await).unwrap();
    assert_eq!(answer, json!({"status": "unknown", "height": 0, "lag": 0}));
    node.lag(12);
    let answer = serde_json::to_value(ask(&node, "tx").await).unwrap();
    assert_eq!(answer, json!({"status": "behind", "height": 0, "lag": 12}));
    node.call(path, "fusion_sendTransaction", json!([payload("tx")]))
        .await
        .unwrap();
    let answer = serde_json::to_value(ask(&node, "tx").await).unwrap();
    assert_eq!(answer["status"], "pending");
    node.chain.decide(vec![lane(OPAQUE, &["other", "tx"])]);
    let answer = ask(&node, "tx").await;
    let receipt = Receipt::try_from(&answer.receipt.unwrap()).unwrap();
    let genesis = &node.chain.genesis;
    receipt.verify(genesis.network(), genesis.committee()).unwrap();
    assert_eq!((receipt.sequence, answer.height), (1, 1));
}

#[tokio::test]
async fn blocks_certificates_and_committees_verify() {
    let mut node = Node::start().await;
    let decided = node.chain.decide(vec![lane(EVM, &["e"]), lane(OPAQUE, &["a", "b"])]);
    let block = node.call("/", "fusion_getBlock", json!([1])).await.unwrap();
    assert_eq!(DecidedBlock::try_from(&decode::<BlockJson>(block)).unwrap(), decided);
    let latest = node.call("/", "fusion_getBlock", json!(["latest"])).await.unwrap();
    assert_eq!(latest["header"]["height"], 1);
    let committee = node.call("/", "fusion_getCommittee", json!([])).await.unwrap();
    let committee = Committee::try_from(&decode::<CommitteeJson>(committee)).unwrap();
    assert_eq!(&committee, node.chain.genesis.committee());
    let certificate = node
        .call("/", "fusion_getCertificate", json!({"height": 1}))
        .await
        .unwrap();
    let certificate = Certificate::try_from(&decode::<CertificateJson>(certificate)).unwrap();
    certificate.verify(node.chain.genesis.network(), &committee).unwrap();

    node.lag(3);
    let error = node.call("/", "fusion_getBlock", json!([9])).await.unwrap_err();
    assert_eq!(
        (&error["code"], &error["data"]["name"]),
        (&json!(-32001), &json!("not_yet"))
    );
    assert_eq!((&error["data"]["tip"], &error["data"]["lag"]), (&json!(1), &json!(3)));
    for (params, name) in [
        (json!([0]), "genesis"),
        (json!([-1]), "invalid_params"),
        (json!(["x"]), "invalid_params"),
    ] {
        assert_eq!(
            node.call("/", "fusion_getBlock", params).await.unwrap_err()["data"]["name"],
            name
        );
    }
    let error = node.call("/", "fusion_getCommittee", json!([1])).await.unwrap_err();
    assert_eq!(error["data"]["name"], "unknown_epoch");
}

#[tokio::test]
async fn a_range_of_a_stream_verifies_and_says_where_to_go_on() {
    let mut node = Node::start().await;
    for at in 0..6 {
        let texts = [format!("a{at}"), format!("b{at}")];
        node.chain.decide(vec![lane(OPAQUE, &[&texts[0], &texts[1]])]);
        node.chain.decide(vec![lane(EVM, &["e"])]);
    }
    let genesis = node.chain.genesis.clone();
    let mut cursor = Cursor::start(genesis.network(), RollupId(OPAQUE));
    for expected in [4, 2, 0] {
        let params = json!([OPAQUE, cursor.sequence, 4]);
        let answer: StreamJson = decode(node.call("/", "fusion_getStream", params).await.unwrap());
        assert_eq!(answer.blocks.len(), expected);
        for block in &answer.blocks {
            let block = RollupBlock::try_from(block).unwrap();
            cursor = block.verify(genesis.network(), genesis.committee(), &cursor).unwrap();
        }
        assert_eq!(answer.next.sequence, cursor.sequence);
        assert_eq!(answer.height, 12);
    }
    assert_eq!(cursor.sequence, 12);
    let inside: StreamJson = decode(
        node.call("/rollup/903", "fusion_getStream", json!([3, 1]))
            .await
            .unwrap(),
    );
    assert_eq!(inside.blocks[0].lane.first_sequence, 2);
    let error = node
        .call("/", "fusion_getStream", json!([OPAQUE, 0, 0]))
        .await
        .unwrap_err();
    assert_eq!(
        error["message"],
        "invalid params: fusion_getStream: limit is 0, expected 1 to 1000"
    );
    let _: Vec<RollupBlockJson> = inside.blocks;
}

#[tokio::test]
async fn a_node_tells_how_it_stands() {
    let mut node = Node::start().await;
    node.chain.decide(Vec::new());
    let status = node.call("/", "fusion_status", json!([])).await.unwrap();
    assert_eq!((&status["height"], &status["name"]), (&json!(1), &json!("node-0")));
    assert_eq!(
        node.call("/", "fusion_peers", json!([])).await.unwrap(),
        json!({"peers": []})
    );
    assert_eq!(node.call("/", "fusion_evidence", json!([])).await.unwrap(), json!([]));
}

#[tokio::test]
async fn the_openrpc_document_lists_exactly_what_is_registered() {
    let node = Node::start().await;
    let document = node.call("/", "rpc.discover", json!([])).await.unwrap();
    let mut listed: Vec<String> = document["methods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|method| method["name"].as_str().unwrap().to_owned())
        .collect();
    listed.sort_unstable();
    let chain = Chain::new();
    let (handle, _end) = NodeHandle::new(chain.genesis.clone(), chain.reader(), status(&chain));
    let rpc = Rpc(Arc::new(Inner {
        options: Options::default(),
        handle,
        metrics: Metrics::new("node-0", "follower", "0.1.0"),
        finality: Finality::default(),
        receipts: Receipts::default(),
        heavy: Semaphore::new(1),
    }));
    let module = methods::all(rpc);
    let mut registered: Vec<String> = module.method_names().map(str::to_owned).collect();
    registered.sort_unstable();
    assert_eq!(listed, registered);
}

#[tokio::test]
async fn a_node_that_stops_ends_its_connections() {
    let mut node = Node::start().await;
    let mut idle = TcpStream::connect(node.address).await.unwrap();
    node.call("/", "fusion_status", json!([])).await.unwrap();
    node.stop.take().unwrap().send(()).unwrap();
    node.served.await.unwrap().unwrap();
    let mut end = Vec::new();
    assert_eq!(idle.read_to_end(&mut end).await.unwrap_or(0), 0);
}
