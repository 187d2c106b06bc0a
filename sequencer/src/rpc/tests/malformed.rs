//! Whatever is sent, the answer is a valid JSON-RPC error or a plain HTTP refusal, and the node goes on.

use super::*;

/// Checks the shape of one response: version, id, and an error with code and message.
fn assert_error(answer: &Value, sent: &str) {
    assert_eq!(answer["jsonrpc"], "2.0", "{sent} got {answer}");
    assert!(answer.get("id").is_some(), "{sent} got {answer}");
    assert!(answer["error"]["code"].is_i64(), "{sent} got {answer}");
    assert!(answer["error"]["message"].is_string(), "{sent} got {answer}");
    let text = answer.to_string();
    assert!(
        !text.contains(".rs") && !text.contains("/tmp") && !text.contains("panicked"),
        "{text}"
    );
}

#[tokio::test]
async fn malformed_requests_get_valid_errors() {
    let node = Node::start().await;
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies = [
        "{".to_owned(),
        "[".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        "[{}]".to_owned(),
        "[1,2]".to_owned(),
        r#"{"jsonrpc":"1.0","id":1,"method":"fusion_status"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":5}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1.5,"method":"fusion_status"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":{},"method":"fusion_status"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":99999999999999999999,"method":"fusion_status"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"fusion_status"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"nothing"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":""}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"fusion_getBlock","params":1}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"fusion_getBlock","params":"x"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"fusion_getBlock","params":[1e400]}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"fusion_getBlock","params":[1.5]}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"fusion_getBlock","params":{"hight":1}}"#.to_owned(),
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"fusion_getBlock","params":{deep}}}"#),
        deep,
        "\u{0}\u{1}".to_owned(),
        " ".to_owned(),
    ];
    for body in &bodies {
        let (_, answer) = node.post("/", body).await;
        let short: String = body.chars().take(80).collect();
        match &answer {
            Value::Array(answers) => answers.iter().for_each(|answer| assert_error(answer, &short)),
            answer => assert_error(answer, &short),
        }
    }
    node.call("/", "fusion_status", json!([])).await.unwrap();
}

#[tokio::test]
async fn every_method_survives_every_kind_of_parameters() {
    let node = Node::start().await;
    let values = [
        json!(null),
        json!([]),
        json!({}),
        json!([null]),
        json!([null, null, null, null, null]),
        json!([-1, -1]),
        json!([u64::MAX, u64::MAX]),
        json!([1.5, 1.5]),
        json!(["0x", "0x"]),
        json!(["0xzz", "0x0"]),
        json!(["stream", {"rollup": "x"}]),
        json!(["stream", [1, 2, 3]]),
        json!([[[]], {}]),
        json!({"rollup": [], "transaction": {}, "hash": 1, "height": {}}),
        json!([OPAQUE, "0x00", "0xffffffffffffffffff"]),
        json!(["é\u{0}\"", "\\"]),
    ];
    for method in openrpc::METHODS {
        for path in ["/", "/rollup/903", "/rollup/901"] {
            for params in &values {
                let sent = format!("{path} {} {params}", method.name);
                // No transaction in this corpus may wait for its receipt longer than the test runs.
                if let Err(error) = node.call(path, method.name, params.clone()).await {
                    assert!(
                        error["code"].is_i64() && error["message"].is_string(),
                        "{sent}: {error}"
                    );
                }
            }
        }
    }
}

/// Path, method, parameters, and what is said of them.
#[rustfmt::skip]
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    ("/", "fusion_getStream", r#"[903, "x"]"#,
        r#"fusion_getStream: from is "x", expected a whole number"#),
    ("/", "fusion_getStream", r#"[903]"#,
        r#"fusion_getStream: from is missing, expected a whole number"#),
    ("/rollup/903", "fusion_getStream", r#"[-1]"#,
        r#"fusion_getStream: from is -1, expected a whole number"#),
    ("/", "fusion_getStream", r#"[903, 0, 1, 2]"#,
        r#"fusion_getStream: it takes rollup (a whole number), from (a whole number), limit (a whole number, optional)"#),
    ("/", "fusion_getBlock", r#"{"height": 1, "hight": 1}"#,
        r#"fusion_getBlock has no parameter "hight", it takes height (a whole number or "latest")"#),
    ("/", "fusion_getCertificate", r#"[1.5]"#,
        r#"fusion_getCertificate: height is 1.5, expected a whole number or "latest""#),
    ("/", "fusion_sendTransaction", r#"[903, 5]"#,
        r#"fusion_sendTransaction: transaction is 5, expected 0x and hex digits, two per byte"#),
    ("/rollup/903", "eth_sendRawTransactionSync", r#"["0xabc"]"#,
        r#"eth_sendRawTransactionSync: transaction is "0xabc", expected 0x and hex digits, two per byte"#),
    ("/", "fusion_sendTransactionSync", r#"[903, "0x00", "soon"]"#,
        r#"fusion_sendTransactionSync: timeout is "soon", expected milliseconds as a whole number or as 0x and hex digits"#),
    ("/", "fusion_getReceipt", r#"[903, "0x12"]"#,
        r#"fusion_getReceipt: hash is "0x12", expected 0x and 64 hex digits"#),
];

#[tokio::test]
async fn a_wrong_parameter_is_told_with_its_method_what_was_given_and_what_is_expected() {
    let node = Node::start().await;
    for (path, method, params, expected) in MISTAKES {
        let params = serde_json::from_str(params).unwrap();
        let error = node.call(path, method, params).await.unwrap_err();
        assert_eq!(error["message"], format!("invalid params: {expected}"));
    }
}

#[tokio::test]
async fn long_nonsense_is_quoted_in_short() {
    let node = Node::start().await;
    let error = node
        .call("/", "fusion_getBlock", json!(["x".repeat(100_000)]))
        .await
        .unwrap_err();
    assert!(error.to_string().len() < 1000);
    let error = node
        .call("/", "fusion_getStream", json!(["é".repeat(100_000)]))
        .await
        .unwrap_err();
    assert!(error.to_string().len() < 1000);
}

#[tokio::test]
async fn paths_methods_and_content_types_that_are_not_served_are_refused() {
    let node = Node::start().await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#;
    for path in [
        "/x",
        "/rollup",
        "/rollup/",
        "/rollup/x",
        "/rollup/0901",
        "/rollup/-1",
        "/rollup/99",
        "/rollup/901/x",
    ] {
        let (code, answer) = node.post(path, body).await;
        assert_eq!(code, 404, "{path}");
        assert_error(&answer, path);
    }
    let error = node.call("/", "eth_chainId", json!([])).await.unwrap_err();
    assert_eq!(error["message"], "this method is served at /rollup/<id>");
    assert_eq!(
        node.raw(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .0,
        405
    );
    let text =
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    assert_eq!(node.raw(text).await.0, 415);
}

#[tokio::test]
async fn smuggled_and_broken_http_is_refused() {
    let options = Options {
        head_timeout: Duration::from_millis(200),
        ..Options::default()
    };
    let node = Node::with(options).await;
    let both = "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    let twice =
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\nconnection: close\r\n\r\n{}   ";
    for request in [both, twice, "\r\n\r\n\r\n", "GARBAGE\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let (code, _) = node.raw(request.as_bytes()).await;
        assert!(code == 0 || (400..500).contains(&code), "{request:?} got {code}");
    }
    node.call("/", "fusion_status", json!([])).await.unwrap();
}
