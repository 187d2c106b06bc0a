//! Whatever is asked, there is an answer, and the chain lives on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{TxKind, U256};
use jsonrpsee::RpcModule;
use jsonrpsee::types::ErrorCode;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::fixture::{Draft, GENESIS};

/// A clock that stands still.
fn stopped_clock() -> Duration {
    Duration::from_secs(GENESIS)
}

fn module() -> (Owner, RpcModule<Owner>) {
    let owner = Owner::start(L1::new(L1Config::dev(GENESIS)), stopped_clock).unwrap();
    let module = methods(&owner, crate::params::CHAIN_ID).unwrap();
    (owner, module)
}

/// Transactions as they are sent: of each kind, whole and not.
fn raw_transaction() -> impl Strategy<Value = Value> {
    let blobs = prop::sample::select(vec![(0, vec![]), (1, vec![]), (0, vec![(1, 0)])]);
    let damage = prop::option::of((any::<prop::sample::Index>(), any::<u8>()));
    (0_u64..3, blobs, damage).prop_map(|(nonce, (blobs, authorities), damage)| {
        let draft = Draft {
            nonce,
            blobs,
            authorities,
            gas: 100_000,
            ..Draft::default()
        };
        let mut raw = draft.transaction().inner().encoded_2718();
        if let Some((place, with)) = damage {
            let at = place.index(raw.len());
            raw[at] = with;
        }
        json!(alloy_primitives::Bytes::from(raw))
    })
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
    // One in eight sends a transaction: by chance hardly any would come to where it is decoded.
    let sends = (
        Just("eth_sendRawTransaction"),
        raw_transaction().prop_map(|raw| vec![raw]),
    );
    let asks = (prop::sample::select(names), prop::collection::vec(parameter(), 0..4));
    let requests = prop_oneof![1 => sends, 7 => asks];
    let outcome = runner.run(&requests, |(method, params)| {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let text = request.to_string();
        let (answer, _) = runtime
            .block_on(module.raw_json_request(&text, 1))
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        let answer: Value = serde_json::from_str(answer.get()).unwrap();
        // A panic on a blocking thread is told as an internal error, and what has ended as gone: neither is an answer.
        let code = answer["error"]["code"].as_i64();
        prop_assert!(answer.get("result").is_some() || code.is_some(), "{answer}");
        prop_assert!(
            code != Some(ErrorCode::InternalError.code().into()),
            "{request}: {answer}"
        );
        prop_assert!(
            answer["error"]["message"] != Busy::Gone.to_string(),
            "{request}: {answer}"
        );
        // A panic of a question would have ended the thread.
        let alive = runtime.block_on(owner.ask(|l1, _| l1.chain().head().number()));
        prop_assert!(alive.is_ok(), "{request}");
        Ok(())
    });
    outcome.unwrap();
}

/// Asks until the queue is full, while the thread stands at a question. What waits, and the one that opens the gate.
async fn fill(owner: &Owner) -> (Vec<Waiting>, Waiting, std::sync::mpsc::SyncSender<()>) {
    let (open, gate) = std::sync::mpsc::sync_channel::<()>(1);
    let mut blocker = ask(owner, move |_| u64::from(gate.recv().is_ok()));
    assert_eq!(poll_once(&mut blocker).await, None);
    let mut waiting = Vec::new();
    loop {
        let mut question = ask(owner, |l1| l1.chain().head().number());
        match poll_once(&mut question).await {
            Some(Err(Busy::Full)) => return (waiting, blocker, open),
            Some(answer) => panic!("the thread stands, and answers {answer:?}"),
            None => waiting.push(question),
        }
        assert!(waiting.len() < 2000, "the queue has no end");
    }
}

type Waiting = std::pin::Pin<Box<dyn Future<Output = Result<u64, Busy>>>>;

fn ask(owner: &Owner, question: impl FnOnce(&mut L1) -> u64 + Send + 'static) -> Waiting {
    let owner = owner.clone();
    Box::pin(async move { owner.ask(move |l1, _| question(l1)).await })
}

/// One poll puts a question into the queue, or not.
async fn poll_once(future: &mut Waiting) -> Option<Result<u64, Busy>> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn a_full_queue_is_answered_with_busy() {
    let owner = Owner::start(L1::new(L1Config::dev(GENESIS)), stopped_clock).unwrap();
    let (waiting, blocker, open) = fill(&owner).await;
    open.send(()).unwrap();
    assert_eq!(blocker.await, Ok(1));
    for question in waiting {
        assert_eq!(question.await, Ok(0));
    }
}

/// An L1 with a block each second, and its clock (ms since its genesis), which stands still unless it is set.
fn by_the_second() -> (Owner, Arc<AtomicU64>) {
    let time = Arc::new(AtomicU64::new(0));
    let clock = {
        let time = Arc::clone(&time);
        move || Duration::from_millis(GENESIS * 1000 + time.load(Ordering::SeqCst))
    };
    let mut config = L1Config::dev(GENESIS);
    config.block_time = 1;
    (Owner::start(L1::new(config), clock).unwrap(), time)
}

#[tokio::test]
async fn a_slot_has_its_block_however_full_the_queue_is() {
    let (owner, time) = by_the_second();
    let (waiting, blocker, open) = fill(&owner).await;
    time.store(1000, Ordering::SeqCst);
    open.send(()).unwrap();
    blocker.await.unwrap();
    for question in waiting {
        assert_eq!(question.await, Ok(1), "the slot began before this was answered");
    }
}

#[tokio::test]
async fn a_question_sees_the_block_of_the_slot_in_which_it_is_asked() {
    let (owner, time) = by_the_second();
    let submission = Draft::default().submission();
    let hash = owner.ask(|l1, now| l1.submit(submission, now)).await.unwrap().unwrap();
    for (millis, mined) in [(999, None), (1000, Some(1)), (2500, Some(1))] {
        time.store(millis, Ordering::SeqCst);
        let place = owner.ask(move |l1, _| l1.chain().place(&hash).map(|(block, _)| block.number()));
        assert_eq!(place.await.unwrap(), mined, "{millis} ms");
    }
    let head = owner.ask(|l1, now| (l1.chain().head().number(), l1.chain().head().header.timestamp, now));
    assert_eq!(head.await.unwrap(), (2, GENESIS + 2, GENESIS + 2));
}

#[tokio::test]
async fn blocks_come_by_themselves_when_there_is_a_block_time() {
    // The thread looks at its clock: a millisecond before slot 1, in slot 1, in slot 7 at last. Nobody has asked it anything until then.
    let (looked, looks) = std::sync::mpsc::sync_channel(16);
    let times = [999, 1000, 7000].map(|millis| Duration::from_millis(GENESIS * 1000 + millis));
    let next = AtomicU64::new(0);
    let clock = move || {
        let index = usize::try_from(next.fetch_add(1, Ordering::SeqCst)).unwrap();
        // Nobody listens any more when the test is over.
        let _ = looked.try_send(index);
        times.get(index).copied().unwrap_or(times[2])
    };
    let mut config = L1Config::dev(GENESIS);
    config.block_time = 1;
    let owner = Owner::start(L1::new(config), clock).unwrap();
    for index in 0..3 {
        assert_eq!(looks.recv_timeout(Duration::from_secs(20)), Ok(index));
    }
    let slots = owner.ask(|l1, _| [1, 2].map(|number| l1.chain().block(number).map(|block| l1.slot(block))));
    assert_eq!(slots.await.unwrap(), [Some(1), Some(7)]);
}

#[tokio::test]
async fn a_create_that_fails_has_no_contract_in_its_receipt() {
    let (owner, module) = module();
    // PUSH0, PUSH0, REVERT; and STOP, which creates a contract without code.
    for (nonce, code, status) in [(0, vec![0x5f, 0x5f, 0xfd], "0x0"), (1, vec![0x00], "0x1")] {
        let draft = Draft {
            nonce,
            gas: 100_000,
            kind: TxKind::Create,
            value: U256::ZERO,
            data: code.into(),
            ..Draft::default()
        };
        let submission = draft.submission();
        let hash = owner.ask(|l1, now| l1.submit(submission, now)).await.unwrap().unwrap();
        let receipt: Value = module.call("eth_getTransactionReceipt", [hash]).await.unwrap();
        assert_eq!(receipt["status"], status);
        assert_eq!(receipt["contractAddress"].is_null(), status == "0x0", "{receipt}");
        assert!(receipt.as_object().unwrap().contains_key("contractAddress"));
    }
}
