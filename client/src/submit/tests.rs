//! Submitting through several nodes, some of which lie or die.

use super::*;
use crate::fake::{Chain, FakeNode, Manners, ROLLUP};

const PATIENCE: Duration = Duration::from_millis(400);

fn payload() -> Bytes {
    Bytes::from_static(b"0 a")
}

async fn client(chain: &Chain, nodes: &[&FakeNode]) -> Client {
    let urls: Vec<&str> = nodes.iter().map(|node| node.url.as_str()).collect();
    Client::connect(&urls, chain.trust()).await.unwrap()
}

#[tokio::test]
async fn a_receipt_comes_back_verified() {
    let chain = Chain::new(3);
    let node = FakeNode::start(&chain, 3, Manners::default()).await;
    let client = client(&chain, &[&node]).await;
    let receipt = client.send(ROLLUP, payload(), PATIENCE).await.unwrap();
    assert_eq!(receipt, chain.receipt(transaction_hash(&payload())).unwrap());
    assert_eq!(client.submit(ROLLUP, payload()).await.unwrap(), receipt.transaction);
    let known = client.receipt(ROLLUP, receipt.transaction).await.unwrap();
    assert_eq!(known, Preconfirmation::Final(Box::new(receipt)));
    let unknown = client.receipt(ROLLUP, TxHash::ZERO).await.unwrap();
    assert_eq!(unknown, Preconfirmation::Unknown);
}

#[tokio::test]
async fn a_forged_receipt_names_its_node_and_the_next_one_is_asked() {
    let chain = Chain::new(3);
    let forgeries: [fn(&mut ReceiptJson); 3] = [
        |receipt| receipt.sequence += 1,
        |receipt| receipt.certificate.signatures[0].signature.0.0[0] ^= 1,
        |receipt| receipt.transaction.0.0[0] ^= 1,
    ];
    for forge in forgeries {
        let manners = Manners {
            forge: Some(forge),
            ..Manners::default()
        };
        let liar = FakeNode::start(&chain, 3, manners).await;
        let good = FakeNode::start(&chain, 3, Manners::default()).await;
        let client = client(&chain, &[&liar, &good]).await;
        assert!(client.send(ROLLUP, payload(), PATIENCE).await.is_ok());
        assert_eq!(client.liars().len(), 1);
        assert_eq!(client.liars()[0].url, liar.url);
    }
}

#[tokio::test]
async fn a_true_receipt_of_another_transaction_is_a_lie() {
    let chain = Chain::new(3);
    let other: fn(&mut ReceiptJson) = |receipt| {
        let hash = transaction_hash(b"0 b");
        *receipt = ReceiptJson::from(&Chain::new(3).receipt(hash).unwrap());
    };
    let manners = Manners {
        forge: Some(other),
        ..Manners::default()
    };
    let liar = FakeNode::start(&chain, 3, manners).await;
    let client = client(&chain, &[&liar]).await;
    let error = client.send(ROLLUP, payload(), PATIENCE).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable(_)), "{error}");
    assert!(client.liars()[0].check.contains("transaction"));
}

#[tokio::test]
async fn a_refusal_is_final_but_a_busy_or_dead_node_is_passed_over() {
    let chain = Chain::new(3);
    let refusing = |code| Manners {
        refuse: Some(code),
        ..Manners::default()
    };
    let strict = FakeNode::start(&chain, 3, refusing(-32003)).await;
    let error = client(&chain, &[&strict]).await.send(ROLLUP, payload(), PATIENCE).await;
    assert!(
        matches!(&error, Err(ClientError::Rejected(rejection)) if rejection.code == -32003),
        "{error:?}"
    );

    let busy = FakeNode::start(&chain, 3, refusing(CODE_BUSY)).await;
    let good = FakeNode::start(&chain, 3, Manners::default()).await;
    let both = client(&chain, &[&busy, &good]).await;
    assert!(both.send(ROLLUP, payload(), PATIENCE).await.is_ok());
    let url = busy.kill().await;
    let urls = [url, good.url.clone()];
    let again = Client::connect(&urls, chain.trust()).await.unwrap();
    assert!(again.send(ROLLUP, payload(), PATIENCE).await.is_ok());
}

#[tokio::test]
async fn what_does_not_become_final_ends_with_its_hash_and_the_time() {
    let chain = Chain::new(3);
    let node = FakeNode::start(&chain, 3, Manners::default()).await;
    let client = client(&chain, &[&node]).await;
    let never = Bytes::from_static(b"never ordered");
    let error = client.send(ROLLUP, never.clone(), PATIENCE).await.unwrap_err();
    let ClientError::Timeout { transaction, last, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(transaction, transaction_hash(&never));
    assert!(last.contains("not final in time"), "{last}");
}

#[tokio::test]
async fn already_known_means_taken() {
    let chain = Chain::new(3);
    let manners = Manners {
        refuse: Some(CODE_KNOWN),
        ..Manners::default()
    };
    let node = FakeNode::start(&chain, 3, manners).await;
    let client = client(&chain, &[&node]).await;
    assert!(client.send(ROLLUP, payload(), PATIENCE).await.is_ok());
    assert!(client.submit(ROLLUP, payload()).await.is_ok());
}

#[tokio::test]
async fn no_node_or_the_wrong_network_is_told_when_connecting() {
    let (chain, other) = (Chain::new(1), Chain::with_keys(2, 1));
    let node = FakeNode::start(&other, 1, Manners::default()).await;
    let wrong = Client::connect(&[&node.url], chain.trust()).await.unwrap_err();
    assert!(wrong.to_string().contains("network"), "{wrong}");
    let url = node.kill().await;
    let dead = Client::connect(&[&url], chain.trust()).await.unwrap_err();
    assert!(dead.to_string().contains(&url), "{dead}");
}
