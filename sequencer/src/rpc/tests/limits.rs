//! What happens at each limit.

use super::*;

fn send(id: usize, text: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "fusion_sendTransaction", "params": [OPAQUE, payload(text)]})
}

#[tokio::test]
async fn a_batch_is_one_submission_and_its_answers_keep_their_order() {
    let mut node = Node::start().await;
    let mut calls: Vec<Value> = (0..98).map(|id| send(id, &format!("tx {id}"))).collect();
    calls[40] = send(40, "known");
    calls[41] = json!({"jsonrpc": "2.0", "id": 41, "method": "nothing"});
    calls.push(json!({"jsonrpc": "2.0", "id": 98, "method": "fusion_status"}));
    calls.push(json!(7));
    let (code, answer) = node.post("/", &Value::from(calls).to_string()).await;
    assert_eq!(code, 200);
    let answers = answer.as_array().unwrap();
    assert_eq!(answers.len(), 100);
    for (id, answer) in answers.iter().enumerate() {
        match id {
            40 => assert_eq!(answer["error"]["code"], 1000),
            41 => assert_eq!(answer["error"]["code"], -32601),
            98 => assert_eq!(answer["result"]["name"], "node-0"),
            99 => assert_eq!(answer["error"]["code"], -32600),
            id => assert_eq!(answer["result"], hash(&format!("tx {id}"))),
        }
        if id < 99 {
            assert_eq!(answer["id"], id);
        }
    }
    assert_eq!(node.submitted.recv().await.unwrap().len(), 97);
    assert!(node.submitted.try_recv().is_err());
}

#[tokio::test]
async fn each_call_of_a_batch_is_told_when_too_many_are_in_progress() {
    let options = Options {
        calls: 0,
        ..Options::default()
    };
    let node = Node::with(options).await;
    let calls = vec![send(7, "tx"), send(8, "tx"), json!(9)];
    let (_, answer) = node.post("/", &Value::from(calls).to_string()).await;
    let told: Vec<_> = answer
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["id"], &one["error"]["code"]))
        .collect();
    let (busy, bad) = (json!(-32005), json!(-32600));
    assert_eq!(told, [(&json!(7), &busy), (&json!(8), &busy), (&Value::Null, &bad)]);
}

#[tokio::test]
async fn a_node_with_a_full_disk_takes_nothing_and_says_so() {
    let mut node = Node::start().await;
    node.status
        .send_modify(|status| Arc::make_mut(status).node.step = crate::handle::DISK_FULL.to_owned());
    let (_, answer) = node.post("/", &send(1, "tx").to_string()).await;
    assert_eq!(answer["error"]["code"], -32000);
    assert_eq!(answer["error"]["data"]["name"], "disk_full", "{answer}");
    assert!(node.submitted.try_recv().is_err());
}

#[tokio::test]
async fn a_batch_beyond_the_limit_is_refused_whole() {
    let mut node = Node::start().await;
    let calls: Vec<Value> = (0..101).map(|id| send(id, "tx")).collect();
    let (_, answer) = node.post("/", &Value::from(calls).to_string()).await;
    assert!(answer["error"]["code"].is_i64(), "{answer}");
    assert!(node.submitted.try_recv().is_err());
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_unread() {
    let node = Node::start().await;
    let head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let declared = format!("{head}content-length: 1048577\r\n\r\n{{");
    assert_eq!(node.raw(declared.as_bytes()).await.0, 413);
    let chunk = format!("100000\r\n{}\r\n", "1".repeat(0x10_0000));
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}{chunk}");
    assert_eq!(node.raw(chunked.as_bytes()).await.0, 413);
    let nested = format!("{head}content-length: 1048576\r\n\r\n{}", "[".repeat(33));
    let (code, answer) = node.raw(nested.as_bytes()).await;
    assert_eq!(
        (code, &answer["error"]["data"]["name"]),
        (200, &json!("too_deep")),
        "{answer}"
    );
    let fits = format!(
        "{}{}",
        " ".repeat(1024 * 1024 - 49),
        r#"{"jsonrpc":"2.0","id":1,"method":"fusion_status"}"#
    );
    assert_eq!(fits.len(), 1024 * 1024);
    assert_eq!(node.post("/", &fits).await.1["result"]["name"], "node-0");
}

#[tokio::test]
async fn slow_heads_and_bodies_end_the_connection() {
    let options = Options {
        head_timeout: Duration::from_millis(50),
        body_timeout: Duration::from_millis(50),
        ..Options::default()
    };
    let node = Node::with(options).await;
    assert_eq!(node.raw(b"POST / HTTP/1.1\r\nhost: x\r\n").await.0, 0);
    let body = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 9\r\n\r\n{";
    assert_eq!(node.raw(body).await.0, 408);
    node.call("/", "fusion_status", json!([])).await.unwrap();
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let options = Options {
        connections_loopback: 2,
        ..Options::default()
    };
    let node = Node::with(options).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        // Its answer says that it is counted.
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
        held.push(stream);
    }
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    assert!(text.starts_with("HTTP/1.1 429"), "{text}");
    drop(held);
    // The places come back when the server has seen the ends.
    node.becomes_reachable().await;
}

#[tokio::test]
async fn connections_that_never_asked_make_room_for_those_who_do() {
    let options = Options {
        connections: 2,
        ..Options::default()
    };
    let node = Node::with(options).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream
            .write_all(b"POST / HTTP/1.1\r\nhost: x\r\nx-slow: ")
            .await
            .unwrap();
        slow.push(stream);
    }
    // Refused until they were silent for a second.
    node.becomes_reachable().await;
    let first = slow[0].read(&mut [0; 64]).await;
    assert!(
        matches!(first, Ok(0) | Err(_)),
        "the one that was silent for longest is cut: {first:?}"
    );
}

#[tokio::test]
async fn web_pages_and_other_hosts_are_refused_unless_listed() {
    let options = Options {
        hosts: vec!["node.example".to_owned()],
        origins: vec!["https://app.example".to_owned()],
        ..Options::default()
    };
    let node = Node::with(options).await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"fusion_status"}"#;
    let request = |host: &str, origin: &str| {
        format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\n{origin}content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for (host, origin, expected) in [
        ("node.example", "", 200),
        ("NODE.example:8545", "", 200),
        ("evil.example", "", 403),
        ("node.example", "origin: https://app.example\r\n", 200),
        ("node.example", "origin: https://evil.example\r\n", 403),
    ] {
        let (code, _) = node.raw(request(host, origin).as_bytes()).await;
        assert_eq!(code, expected, "{host} {origin}");
    }
}

#[tokio::test]
async fn a_full_queue_says_busy_and_keeps_nobody_waiting() {
    let chain = Chain::new();
    let (handle, mut end) = NodeHandle::new(chain.genesis.clone(), chain.reader(), status(&chain));
    // Nobody takes what is submitted.
    let mut waiting = Vec::new();
    for _ in 0..crate::handle::SUBMISSIONS_MAX {
        let (reply, answer) = oneshot::channel();
        let submission = crate::handle::Submission {
            transactions: Vec::new(),
            reply,
        };
        handle.submit.try_send(submission).unwrap();
        waiting.push(answer);
    }
    let answers = handle.submit(Vec::new()).await.unwrap();
    assert!(answers.is_empty());
    let opaque = chain.genesis.rollup(RollupId(OPAQUE)).unwrap();
    let transaction = crate::ingress::admit(opaque, Bytes::from_static(b"tx")).unwrap();
    let answers = handle.submit(vec![transaction]).await.unwrap();
    assert!(matches!(answers[..], [Err(Reject::Busy { limit: 4096, .. })]));
    end.submissions.close();
}

#[tokio::test]
async fn a_node_that_stands_still_is_said_to_be_busy() {
    let options = Options {
        call_timeout: Duration::from_millis(20),
        ..Options::default()
    };
    let mut node = Node::with(options).await;
    // The node that plays waits until this list is read, once it is full.
    for id in 0..2000 {
        let (_, answer) = node
            .post("/", &json!([send(id, &format!("tx {id}"))]).to_string())
            .await;
        if answer[0]["error"]["code"] == -32005 {
            assert_eq!(answer[0]["error"]["data"]["name"], "busy");
            node.submitted.close();
            return;
        }
    }
    panic!("it never was busy");
}

#[tokio::test]
async fn under_overload_transactions_are_refused_unread_and_everything_else_is_answered() {
    let mut node = Node::start().await;
    node.room.set(700, 512, |rollup| rollup == RollupId(OPAQUE));
    let status = json!({"jsonrpc": "2.0", "id": 1, "method": "fusion_status"});
    // What is no hex would be an error of its own if it were read.
    let mut unread = send(2, "tx");
    unread["params"][1] = "no hex".into();
    let (code, answers) = node
        .post("/", &json!([send(0, "tx"), status, unread]).to_string())
        .await;
    assert_eq!(code, 200);
    for at in [0, 2] {
        let error = &answers[at]["error"];
        let message = "busy: 700 transactions are waiting, limit is 512 at the present rate; send again later";
        assert_eq!((&error["code"], &error["message"]), (&json!(-32005), &json!(message)));
        assert_eq!(error["data"], json!({"name": "busy", "waiting": 700, "limit": 512}));
    }
    assert_eq!(answers[1]["result"]["name"], "node-0");
    let params = json!([payload("tx"), 2000]);
    let one = json!({"jsonrpc": "2.0", "id": 3, "method": "fusion_sendTransactionSync", "params": params});
    // Where the path says of which rollup it is, the request is not even parsed.
    let not_parsed = format!("{one} and so on");
    for (path, body) in [("/rollup/903", one.to_string()), ("/rollup/903", not_parsed.clone())] {
        let (code, answer) = node.post(path, &body).await;
        assert_eq!((code, &answer["error"]["data"]["name"]), (503, &json!("busy")));
        assert_eq!(answer["id"], Value::Null);
    }
    let (code, answer) = node.post("/rollup/901", &not_parsed).await;
    assert_eq!((code, &answer["error"]["code"]), (200, &json!(-32700)));
    assert!(node.submitted.try_recv().is_err(), "nothing reached the node");
    // A rollup below its share is none of those who cause it.
    node.room.set(700, 512, |rollup| rollup != RollupId(OPAQUE));
    let (_, answer) = node.post("/", &json!([send(4, "tx")]).to_string()).await;
    assert_eq!(answer[0]["result"], json!(hash("tx")));
    assert_eq!(node.submitted.recv().await.unwrap().len(), 1);
    // Nothing has room: then no path needs a look inside.
    node.room.set(700, 512, |_| true);
    assert_eq!(node.post("/", &json!([send(5, "tx")]).to_string()).await.0, 503);
    assert_eq!(node.post("/", &json!([status]).to_string()).await.0, 200);
}
