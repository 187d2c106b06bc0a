//! The client against a server that answers whatever a test says, and against the embedded L1.

use std::sync::Arc;

use alloy_primitives::address;
use fusion_evm::{ServeConfig, params};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const LIMITS: EndpointLimits = EndpointLimits {
    timeout_ms: 500,
    answer_bytes_max: 4096,
    request_bytes_max: 4096,
};

/// A server that answers every request with one body, and its URL. An empty body: it never answers.
async fn answering(body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let body = Arc::new(body);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 8192];
            let _ = stream.read(&mut request).await;
            if body.is_empty() {
                kept.push(stream);
                continue;
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
        }
    });
    url
}

fn endpoint(url: &str) -> Endpoint {
    Endpoint::new(url, LIMITS).unwrap()
}

/// Asks everything there is to ask.
async fn ask_all(node: &Endpoint) -> Vec<Option<EndpointError>> {
    let (account, latest) = (Address::ZERO, BlockId::latest());
    vec![
        node.chain_id().await.err(),
        node.block(BlockNumberOrTag::Latest).await.err(),
        node.block_by_hash(B256::ZERO).await.err(),
        node.fees().await.err(),
        node.transaction_count(account, latest).await.err(),
        node.balance(account, latest).await.err(),
        node.code(account, latest).await.err(),
        node.call(account, Bytes::new(), latest).await.err(),
        node.estimate_gas(&TransactionRequest::default()).await.err(),
        node.send_raw(&Bytes::new()).await.err(),
        node.receipt(B256::ZERO).await.err(),
        node.knows_transaction(B256::ZERO).await.err(),
        node.logs(&Filter::new()).await.err(),
    ]
}

#[tokio::test]
async fn each_way_to_fail_has_its_own_error() {
    let refused = br#"{"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"no"}}"#;
    let error = endpoint(&answering(refused.to_vec()).await)
        .chain_id()
        .await
        .unwrap_err();
    let said = error.refused().unwrap();
    assert_eq!((said.code, said.message.as_str()), (-32000, "no"));

    let error = endpoint(&answering(vec![b'['; 5000]).await)
        .chain_id()
        .await
        .unwrap_err();
    assert!(matches!(error, EndpointError::TooLarge { limit: 4096, .. }), "{error}");

    let error = endpoint(&answering(Vec::new()).await).chain_id().await.unwrap_err();
    assert!(
        matches!(error, EndpointError::Timeout { timeout_ms: 500, .. }),
        "{error}"
    );

    let error = endpoint(&answering(b"<html>".to_vec()).await)
        .chain_id()
        .await
        .unwrap_err();
    assert!(matches!(error, EndpointError::Malformed { .. }), "{error}");

    let error = endpoint("http://127.0.0.1:1").chain_id().await.unwrap_err();
    assert!(matches!(error, EndpointError::Unreachable { .. }), "{error}");

    let node = endpoint(&answering(refused.to_vec()).await);
    let error = node.send_raw(&vec![0; 4096].into()).await.unwrap_err();
    assert!(
        matches!(
            error,
            EndpointError::TooLarge {
                what: "the request",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn what_a_url_keeps_secret_is_never_shown() {
    let node = endpoint("https://user:secret@node.example:8545/v2/secret?key=secret#secret");
    assert_eq!(node.url(), "https://node.example:8545");
    assert!(!format!("{node:?}").contains("secret"));
    for wrong in [
        "ws://secret",
        "secret",
        "http://",
        "http://a secret",
        "http://secret:99999",
        "",
    ] {
        let error = Endpoint::new(wrong, LIMITS).unwrap_err();
        let port = wrong.ends_with("99999");
        assert!(port || !error.to_string().contains("secret"), "{error}");
    }
}

/// JSON of any kind, from quantities that are nearly right to what no node would say.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "0x[0-9a-fA-F]{0,70}".prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
    ];
    let name = prop_oneof![
        Just("hash"),
        Just("number"),
        Just("baseFeePerGas"),
        Just("baseFeePerBlobGas"),
        Just("oldestBlock"),
        Just("gasUsedRatio"),
        Just("transactionHash"),
        Just("type"),
        Just("status"),
        Just("logs"),
        Just("topics"),
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

#[test]
fn no_answer_panics() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(ProptestConfig::with_cases(64));
    let result = runner.run(&json(), |answer| {
        let body = serde_json::json!({ "jsonrpc": "2.0", "id": 0, "result": answer });
        runtime.block_on(async {
            let node = endpoint(&answering(body.to_string().into_bytes()).await);
            ask_all(&node).await;
        });
        Ok(())
    });
    result.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_l1_answers_everything() {
    let server = fusion_evm::serve(ServeConfig::dev()).await.unwrap();
    let node = Endpoint::new(&server.url(), EndpointLimits::default()).unwrap();
    assert_eq!(node.chain_id().await.unwrap(), params::CHAIN_ID);
    let genesis = node.block(BlockNumberOrTag::Latest).await.unwrap().unwrap();
    assert_eq!((genesis.number, genesis.parent), (0, B256::ZERO));
    assert_eq!(node.block_by_hash(genesis.hash).await.unwrap(), Some(genesis));
    assert_eq!(node.block(BlockNumberOrTag::Number(7)).await.unwrap(), None);
    let fees = node.fees().await.unwrap();
    assert!(fees.base_fee > 0 && fees.blob_base_fee > 0 && fees.tip > 0, "{fees:?}");
    let (rich, _) = params::DEV_ACCOUNTS[0];
    assert_eq!(
        node.balance(rich, BlockId::latest()).await.unwrap(),
        params::DEV_BALANCE
    );
    assert_eq!(
        node.transaction_count(rich, BlockId::hash(genesis.hash)).await.unwrap(),
        0
    );
    // EIP-2935's contract is there from the beginning.
    let history = address!("0x0000F90827F1C53a10cb7A02335B175320002935");
    assert!(!node.code(history, BlockId::latest()).await.unwrap().is_empty());
    let error = node
        .call(history, vec![0xff; 31].into(), BlockId::latest())
        .await
        .unwrap_err();
    assert!(error.refused().is_some() && error.contract_error().is_none(), "{error}");
    assert_eq!(node.receipt(B256::ZERO).await.unwrap(), None);
    assert!(!node.knows_transaction(B256::ZERO).await.unwrap());
    assert_eq!(node.logs(&Filter::new()).await.unwrap(), []);
}
