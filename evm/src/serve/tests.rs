//! Whatever is asked, there is an answer, and the chain lives on.

use jsonrpsee::RpcModule;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::fixture::{Draft, GENESIS};

fn module() -> (Owner, RpcModule<Owner>) {
    let owner = Owner::start(L1::new(L1Config::dev(GENESIS))).unwrap();
    let module = methods(&owner, crate::params::CHAIN_ID).unwrap();
    (owner, module)
}

/// A number, a hash, an address, a tag, junk: what a parameter might be, and might not.
fn parameter() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0_u64..5).prop_map(|number| json!(format!("{number:#x}"))),
        any::<u64>().prop_map(|number| json!(format!("{number:#x}"))),
        any::<f64>().prop_map(|number| json!(number)),
        "[ -~]{0,40}".prop_map(Value::from),
        "0x[0-9a-f]{0,70}".prop_map(Value::from),
        "0x[0-9a-f]{64}".prop_map(Value::from),
        "0x[0-9a-f]{40}".prop_map(Value::from),
        prop::sample::select(vec!["latest", "pending", "safe", "finalized", "earliest"]).prop_map(Value::from),
        Just(json!(format!("0x{}", "f".repeat(64)))),
    ];
    let names = vec![
        "from",
        "to",
        "gas",
        "gasPrice",
        "maxFeePerGas",
        "value",
        "data",
        "input",
        "nonce",
        "blockHash",
        "fromBlock",
        "toBlock",
        "address",
        "topics",
        "accessList",
        "depth",
        "tx_block_pairs",
        "authorizationList",
        "type",
    ];
    leaf.prop_recursive(2, 12, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(names.clone()), inner), 0..6).prop_map(|pairs| pairs
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

#[test]
fn no_parameters_of_any_method_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (owner, module) = runtime.block_on(async { module() });
    let names: Vec<&'static str> = module.method_names().collect();
    assert!(names.len() > 40, "{} methods", names.len());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(4000));
    let requests = (prop::sample::select(names), prop::collection::vec(parameter(), 0..4));
    let outcome = runner.run(&requests, |(method, params)| {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let text = request.to_string();
        let (answer, _) = runtime
            .block_on(module.raw_json_request(&text, 1))
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        let answer: Value = serde_json::from_str(answer.get()).unwrap();
        prop_assert!(
            answer.get("result").is_some() || answer["error"]["code"].is_i64(),
            "{answer}"
        );
        // A panic would have ended the thread.
        let alive = runtime.block_on(owner.ask(|l1, _| l1.chain().head().number()));
        prop_assert!(alive.is_ok(), "{request}");
        Ok(())
    });
    outcome.unwrap();
}

#[tokio::test]
async fn a_full_queue_is_answered_with_busy() {
    let owner = Owner::start(L1::new(L1Config::dev(GENESIS))).unwrap();
    let (open, gate) = std::sync::mpsc::sync_channel::<()>(1);
    let blocker = tokio::spawn({
        let owner = owner.clone();
        async move { owner.ask(move |_, _| gate.recv().is_ok()).await }
    });
    tokio::task::yield_now().await;
    let mut waiting = Vec::new();
    let refused = loop {
        let mut ask = Box::pin({
            let owner = owner.clone();
            async move { owner.ask(|_, _| ()).await }
        });
        // One poll puts the question into the queue, or not.
        let polled = futures_poll(&mut ask).await;
        match polled {
            Some(Err(busy)) => break busy,
            _ => waiting.push(ask),
        }
        assert!(waiting.len() < 2000, "the queue has no end");
    };
    assert_eq!(refused, Busy::Full);
    open.send(()).unwrap();
    assert_eq!(blocker.await.unwrap(), Ok(true));
    for ask in waiting {
        assert_eq!(ask.await, Ok(()));
    }
}

/// Polls a future once.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        let polled = std::pin::Pin::new(&mut *future).poll(context);
        std::task::Poll::Ready(match polled {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn blocks_come_by_themselves_when_there_is_a_block_time() {
    let mut config = ServeConfig::dev();
    config.l1.block_time = 1;
    let server = serve(config).await.unwrap();
    let submission = Draft::default().submission();
    let submitted = server.owner().ask(|l1, now| l1.submit(submission, now)).await;
    let hash = submitted.unwrap().unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let mined = server.owner().ask(move |l1, _| l1.chain().place(&hash).is_some()).await;
        if mined.unwrap() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "no block within 20 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.stop().await;
}
