//! A load against nodes that order, refuse and die.

use alloy_primitives::{B256, hex, keccak256};
use jsonrpsee::server::{RpcModule, Server, ServerHandle, SubscriptionMessage};
use jsonrpsee::types::ErrorObjectOwned;
use tokio::sync::broadcast;

use super::super::workload::Opaque;
use super::*;

/// A node that orders at once what it takes, and refuses every tenth transaction.
struct FakeNode {
    url: String,
    handle: ServerHandle,
    /// What it ordered.
    ordered: broadcast::Receiver<B256>,
}

const REFUSED: i32 = -32005;

async fn fake_node(refuse_tenth: bool) -> FakeNode {
    let server = Server::builder().build("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    let (ordered, seen) = broadcast::channel::<B256>(10_000);
    let mut module = RpcModule::new(ordered);
    module
        .register_method("fusion_sendTransaction", move |params, ordered, _| {
            let (rollup, payload): (u64, String) = params.parse()?;
            assert_eq!(rollup, 1001);
            let payload = hex::decode(payload).unwrap();
            if refuse_tenth && payload[payload.len() - 1] % 10 == 0 {
                return Err(ErrorObjectOwned::owned(REFUSED, "busy", None::<()>));
            }
            let hash = keccak256(payload);
            ordered.send(hash).unwrap();
            Ok::<_, ErrorObjectOwned>(hash.to_string())
        })
        .unwrap();
    module
        .register_subscription(
            "fusion_subscribe",
            "fusion_subscription",
            "fusion_unsubscribe",
            |_, pending, ordered, _| async move {
                let mut ordered = ordered.subscribe();
                let sink = pending.accept().await.unwrap();
                while let Ok(hash) = ordered.recv().await {
                    let item = serde_json::json!({ "lanes": [{ "hashes": [hash.to_string()] }] });
                    let message = SubscriptionMessage::from(serde_json::value::to_raw_value(&item).unwrap());
                    if sink.send(message).await.is_err() {
                        break;
                    }
                }
            },
        )
        .unwrap();
    let handle = server.start(module);
    FakeNode {
        url,
        handle,
        ordered: seen,
    }
}

/// Runs the load on a thread of its own and waits until nothing is in flight, or `patience` is over.
async fn run(nodes: &[&FakeNode], plan: Plan, patience: Duration) -> Tally {
    let targets: Vec<Target> = nodes.iter().map(|node| Target::parse(&node.url).unwrap()).collect();
    let run = tokio::task::spawn_blocking(move || {
        let opaque = Opaque::new(64, 5, targets.len(), vec![1001]).unwrap();
        let workload = Arc::new(Workload::Opaque(Box::new(opaque)));
        let load = Load::start(connect(&targets).unwrap(), &workload, plan).unwrap();
        let end = plan.end();
        while load.started().elapsed() < end
            || (load.tally().unfinished > 0 && load.started().elapsed() < end + patience)
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        load.finish().0
    });
    run.await.unwrap()
}

const PLAN: Plan = Plan {
    rate: 2_000,
    warmup: Duration::from_millis(100),
    window: Duration::from_millis(400),
};

#[tokio::test(flavor = "multi_thread")]
async fn everything_due_is_sent_once_and_becomes_final() {
    let (a, b) = (fake_node(false).await, fake_node(false).await);
    let tally = run(&[&a, &b], PLAN, Duration::from_secs(10)).await;
    assert_eq!(tally.failures, Vec::<String>::new());
    assert_eq!((tally.sent, tally.accepted, tally.finals), (1_000, 1_000, 1_000));
    assert_eq!((tally.unfinished, tally.unsent, tally.refusals()), (0, 0, 0));
    assert_eq!(
        (tally.sent_in_window, tally.latency.len(), tally.late.len()),
        (800, 800, 800)
    );
    assert!(
        (1..=1_000).contains(&tally.finals_in_window),
        "{}",
        tally.finals_in_window
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_counted_by_code_and_not_waited_for() {
    let node = fake_node(true).await;
    let tally = run(&[&node], PLAN, Duration::from_secs(10)).await;
    assert_eq!(tally.sent, 1_000);
    assert_eq!(tally.refused.keys().collect::<Vec<_>>(), [&i64::from(REFUSED)]);
    assert_eq!(tally.finals + tally.refusals(), 1_000);
    assert_eq!((tally.unfinished, tally.accepted), (0, tally.finals));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_is_told_and_its_share_counts_as_unsent() {
    let (good, dying) = (fake_node(false).await, fake_node(false).await);
    let plan = Plan {
        window: Duration::from_millis(900),
        ..PLAN
    };
    let (handle, mut ordered) = (dying.handle.clone(), dying.ordered.resubscribe());
    let nodes = [&good, &dying];
    let (tally, ()) = tokio::join!(run(&nodes, plan, Duration::from_secs(2)), async move {
        // It dies with a good part of its share taken and a good part still to come.
        for _ in 0..300 {
            ordered.recv().await.unwrap();
        }
        handle.stop().unwrap();
    });
    assert_eq!(tally.failures.len(), 1, "{:?}", tally.failures);
    assert!(tally.failures[0].starts_with("connection 1"), "{:?}", tally.failures);
    assert!(tally.unsent > 0 && tally.finals >= 900, "{tally:?}");
    assert_eq!(tally.sent + tally.unsent, 2_000);
}

#[test]
fn addresses_without_tls_are_understood_and_others_refused() {
    let target = Target::parse("ws://node:1/rollup/5").unwrap();
    assert_eq!((target.host.as_str(), target.path.as_str()), ("node:1", "/rollup/5"));
    assert_eq!(Target::parse("http://node").unwrap().host, "node:80");
    for url in ["https://node", "node:1", "http://", ""] {
        assert!(Target::parse(url).is_err(), "{url}");
    }
}
