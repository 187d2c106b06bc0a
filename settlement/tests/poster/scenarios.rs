//! The scenarios.

use alloy_primitives::B256;
use fusion_settlement::poster::{Alert, PosterConfig, PosterStatus};

use crate::chain::{Chain, embedded, on_each};
use crate::network::Settled;

const GWEI: u64 = 1_000_000_000;

fn config() -> PosterConfig {
    PosterConfig {
        rank_delay_ms: 1000,
        refusal_retry_ms: 100,
        ..PosterConfig::default()
    }
}

fn posted(number: u64) -> impl Fn(&PosterStatus) -> bool {
    move |status| status.posted >= number
}

fn finalized(number: u64) -> impl Fn(&PosterStatus) -> bool {
    move |status| status.finalized >= number
}

#[tokio::test(flavor = "multi_thread")]
async fn three_batches_are_posted_and_finalized_in_three_transactions() {
    on_each(async |chain: Chain| {
        let mut network = Settled::on(chain).await;
        let folder = tempfile::tempdir().unwrap();
        let mut poster = network.poster(1, folder.path(), config());
        let mut hashes = Vec::new();
        for _ in 0..3 {
            let job = network.next_job();
            hashes.push(job.hash);
            poster.jobs.send(job).await.unwrap();
        }
        network.mine_until(&mut poster, finalized(3)).await;
        for (number, hash) in (0..).zip(hashes) {
            assert_eq!(network.posted_hash(number).await, hash);
        }
        assert_eq!(network.nonce(1).await, 3);
        let status = poster.status.borrow().clone();
        assert_eq!((status.posted, status.alert), (3, None));
        assert!(status.posts_left > 1000, "{}", status.posts_left);
        poster.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reorg_drops_is_posted_again_by_the_same_transactions() {
    on_each(async |chain: Chain| {
        let mut network = Settled::on(chain).await;
        let folder = tempfile::tempdir().unwrap();
        let mut poster = network.poster(1, folder.path(), config());
        for _ in 0..3 {
            poster.jobs.send(network.next_job()).await.unwrap();
        }
        network.mine_until(&mut poster, posted(3)).await;
        network.chain.reorg(3).await;
        assert_eq!(network.posted_hash(2).await, B256::ZERO);
        poster.until(|status| status.posted < 3).await;
        network.mine_until(&mut poster, finalized(3)).await;
        assert_eq!(network.nonce(1).await, 3);
        poster.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reorg_gives_back_to_the_pool_is_left_there() {
    let mut network = Settled::on(embedded().await).await;
    let folder = tempfile::tempdir().unwrap();
    let mut poster = network.poster(1, folder.path(), config());
    for _ in 0..3 {
        poster.jobs.send(network.next_job()).await.unwrap();
    }
    network.mine_until(&mut poster, posted(3)).await;
    network.chain.reorg_and_requeue(3).await;
    network.mine_until(&mut poster, finalized(3)).await;
    assert_eq!(network.nonce(1).await, 3);
    poster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spike_of_fees_is_followed_by_replacement() {
    on_each(async |chain: Chain| {
        let mut network = Settled::on(chain).await;
        let folder = tempfile::tempdir().unwrap();
        let mut poster = network.poster(1, folder.path(), config());
        poster.jobs.send(network.next_job()).await.unwrap();
        network.wait_for_pending(1).await;
        // A block that asks a hundred times as much, and the next ones nearly so.
        network.chain.set_next_base_fee(200 * GWEI).await;
        network.mine_until(&mut poster, finalized(1)).await;
        assert_eq!(network.nonce(1).await, 1);
        let fees = network.chain.endpoint.fees().await.unwrap();
        assert!(fees.base_fee > 10 * u128::from(GWEI), "{fees:?}");
        poster.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poster_that_was_killed_goes_on_with_its_journal() {
    on_each(async |chain: Chain| {
        let mut network = Settled::on(chain).await;
        let folder = tempfile::tempdir().unwrap();
        let poster = network.poster(1, folder.path(), config());
        let job = network.next_job();
        poster.jobs.send(job.clone()).await.unwrap();
        // The journal has more than its first bytes: the transaction is recorded, and sent or about to be.
        let journal = folder.path().join("poster-1");
        while std::fs::metadata(&journal).map_or(0, |journal| journal.len()) < 1000 {
            tokio::task::yield_now().await;
        }
        poster.kill().await;
        network.chain.drop_pending().await;
        // Nobody tells it again what to post: the journal does.
        let mut poster = network.poster(1, folder.path(), config());
        network.mine_until(&mut poster, finalized(1)).await;
        assert_eq!(network.posted_hash(0).await, job.hash);
        assert_eq!(network.nonce(1).await, 1);
        poster.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_posts_what_the_first_does_not_and_neither_posts_twice() {
    let mut network = Settled::on(embedded().await).await;
    let folder = tempfile::tempdir().unwrap();
    let mut backup = network.poster(2, folder.path(), config());
    let mut jobs = Vec::new();
    for _ in 0..2 {
        let mut job = network.next_job();
        job.rank = 1;
        backup.jobs.send(job.clone()).await.unwrap();
        job.rank = 0;
        jobs.push(job);
    }
    network.mine_until(&mut backup, posted(1)).await;
    let mut first = network.poster(1, folder.path(), config());
    for job in jobs {
        first.jobs.send(job).await.unwrap();
    }
    network.mine_until(&mut first, finalized(2)).await;
    network.mine_until(&mut backup, finalized(2)).await;
    assert_eq!(network.nonce(1).await + network.nonce(2).await, 2);
    first.stop().await;
    backup.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_the_inbox_refuses_costs_nothing_and_waits_for_another() {
    on_each(async |chain: Chain| {
        let mut network = Settled::on(chain).await;
        let folder = tempfile::tempdir().unwrap();
        let mut poster = network.poster(1, folder.path(), config());
        let job = network.next_job();
        let mut wrong = job.clone();
        let mut certificate = wrong.certificate.to_vec();
        certificate[10] ^= 1;
        wrong.certificate = certificate.into();
        wrong.hash = B256::repeat_byte(1);
        poster.jobs.send(wrong).await.unwrap();
        poster.until(|status| status.alert.is_some()).await;
        let alert = poster.status.borrow().alert.clone().unwrap();
        assert!(matches!(alert, Alert::Refused { number: 0, .. }), "{alert}");
        assert!(alert.to_string().contains("BadSignature"), "{alert}");
        poster.jobs.send(job).await.unwrap();
        network.mine_until(&mut poster, finalized(1)).await;
        assert_eq!(network.nonce(1).await, 1);
        assert_eq!(poster.status.borrow().alert, None);
        poster.stop().await;
    })
    .await;
}
