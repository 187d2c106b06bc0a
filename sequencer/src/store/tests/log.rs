//! Appending, reading, rotating, checking.

use std::time::Instant;

use alloy_primitives::Bytes;
use fusion_types::{Height, SealedBlock};

use super::chain::{Chain, ROLLUPS};
use super::{open, options};
use crate::store::{LocalVolume, LogReader, Options, Record, Store, StoreError, check};

fn assert_holds(reader: &LogReader, chain: &Chain, tip: u64) {
    assert_eq!(reader.tip(), (Height(tip), chain.state_at(tip).block));
    for height in 1..=tip {
        let found = reader.block(Height(height)).unwrap().unwrap();
        assert_eq!(*found, *chain.blocks[usize::try_from(height).unwrap() - 1]);
    }
    assert_eq!(reader.block(Height(tip + 1)).unwrap(), None);
    assert_eq!(reader.block(Height(0)).unwrap(), None);
}

#[test]
fn decided_blocks_and_state_are_there_after_reopening() {
    let (home, chain) = (tempfile::tempdir().unwrap(), Chain::of(12));
    let (mut store, recovered) = open(home.path(), &chain);
    assert_eq!(recovered.state, chain.genesis.state());
    assert!(recovered.tip.is_none());
    for height in 1..=12 {
        store
            .commit(&chain.records(height..=height), chain.state_at(height))
            .unwrap();
        assert_holds(&store.reader(), &chain, height);
    }
    drop(store);
    let (store, recovered) = open(home.path(), &chain);
    assert_eq!(recovered.state, chain.state);
    assert_eq!(recovered.tip.unwrap(), chain.blocks[11]);
    assert_eq!(recovered.cut_bytes, 0);
    assert_holds(&store.reader(), &chain, 12);
}

#[test]
fn undecided_bodies_come_back_until_their_height_is_decided() {
    let (home, mut chain) = (tempfile::tempdir().unwrap(), Chain::of(3));
    let (mut store, _) = open(home.path(), &chain);
    store.commit(&chain.records(1..=3), &chain.state).unwrap();
    let other = chain.body(&[(ROLLUPS[0], vec![Bytes::from_static(b"other")])]);
    let chosen = chain.body(&[(ROLLUPS[1], vec![Bytes::from_static(b"chosen")])]);
    for body in [&other, &chosen, &other] {
        store.commit(&[Record::Body(body.clone())], &chain.state).unwrap();
    }
    drop(store);
    let (mut store, recovered) = open(home.path(), &chain);
    assert_eq!(recovered.bodies, [other, chosen]);
    let decided = chain.grow(vec![(ROLLUPS[1], vec![Bytes::from_static(b"chosen")])]);
    store
        .commit(&[Record::Decision(decided.certificate.clone())], &chain.state)
        .unwrap();
    drop(store);
    let (store, recovered) = open(home.path(), &chain);
    assert!(recovered.bodies.is_empty());
    assert_holds(&store.reader(), &chain, 4);
}

#[test]
fn a_body_that_left_memory_can_still_be_decided() {
    let (home, mut chain) = (tempfile::tempdir().unwrap(), Chain::of(0));
    let (mut store, _) = open(home.path(), &chain);
    let lanes = |n: u64| vec![(ROLLUPS[0], vec![n.to_string().into_bytes().into()])];
    for n in 0..20 {
        store
            .commit(&[Record::Body(chain.body(&lanes(n)))], &chain.state)
            .unwrap();
    }
    let decided = chain.grow(lanes(0));
    store
        .commit(&[Record::Decision(decided.certificate.clone())], &chain.state)
        .unwrap();
    assert_holds(&store.reader(), &chain, 1);
}

#[test]
fn batches_that_do_not_continue_the_log_are_refused_and_change_nothing() {
    let (home, chain) = (tempfile::tempdir().unwrap(), Chain::of(4));
    let (mut store, _) = open(home.path(), &chain);
    store.commit(&chain.records(1..=2), chain.state_at(2)).unwrap();
    let without_body = [Record::Decision(chain.blocks[2].certificate.clone())];
    let wrong = [
        (chain.records(4..=4), chain.state_at(4)),
        (chain.records(2..=2), chain.state_at(2)),
        (without_body.to_vec(), chain.state_at(3)),
        (chain.records(3..=3), chain.state_at(2)),
        (
            vec![Record::Wal {
                height: Height(4),
                bytes: Bytes::from_static(b"early"),
            }],
            chain.state_at(2),
        ),
    ];
    for (records, state) in wrong {
        let error = store.commit(&records, state).unwrap_err();
        assert!(matches!(error, StoreError::Order(_)), "{error}");
    }
    store.commit(&chain.records(3..=4), chain.state_at(4)).unwrap();
    assert_holds(&store.reader(), &chain, 4);
}

#[test]
fn many_segments_hold_one_chain() {
    let (home, chain) = (tempfile::tempdir().unwrap(), Chain::of(300));
    let small = Options {
        segment_bytes: 2048,
        recent_bytes: 0,
        ..options()
    };
    let (mut store, _) = Store::open(home.path(), &chain.genesis, small.clone()).unwrap();
    for height in (1..=300).step_by(3) {
        store
            .commit(&chain.records(height..=height + 2), chain.state_at(height + 2))
            .unwrap();
    }
    assert_holds(&store.reader(), &chain, 300);
    drop(store);
    let files = std::fs::read_dir(home.path().join("log")).unwrap().count();
    assert!(files > 50, "{files} files");
    let (store, recovered) = Store::open(home.path(), &chain.genesis, small).unwrap();
    assert_eq!(recovered.state, chain.state);
    assert_eq!(recovered.tip.unwrap(), chain.blocks[299]);
    for height in (1..=300).rev() {
        let found = store.reader().block(Height(height)).unwrap().unwrap();
        assert_eq!(found, chain.blocks[usize::try_from(height).unwrap() - 1]);
    }
    drop(store);
    let mut calls = 0;
    let report = check(&LocalVolume, home.path(), &chain.genesis, &mut |_, _| calls += 1).unwrap();
    assert_eq!(
        (report.blocks, report.tip, report.tip_id),
        (300, Height(300), chain.state.block)
    );
    assert_eq!((report.transactions, report.torn_bytes), (720, 0));
    assert!(calls > 0);
}

#[test]
fn ranges_are_bounded_by_bytes_and_by_the_tip() {
    let (home, chain) = (tempfile::tempdir().unwrap(), Chain::of(20));
    let (mut store, _) = open(home.path(), &chain);
    store.commit(&chain.records(1..=20), &chain.state).unwrap();
    let reader = store.reader();
    let size = chain.blocks[5].block.encoded().len();
    let blocks = reader.range(Height(6), Height(18), size).unwrap();
    assert_eq!(blocks, [chain.blocks[5].clone()]);
    assert_eq!(reader.range(Height(6), Height(18), 0).unwrap().len(), 1);
    assert_eq!(reader.range(Height(15), Height(u64::MAX), usize::MAX).unwrap().len(), 6);
    assert!(reader.range(Height(21), Height(30), usize::MAX).unwrap().is_empty());
    drop((store, reader));
    let (store, _) = open(home.path(), &chain);
    let raw = store.reader().raw_range(Height(3), Height(7), usize::MAX).unwrap();
    assert_eq!(raw.len(), 5);
    for (raw, decided) in raw.iter().zip(&chain.blocks[2..]) {
        assert_eq!(SealedBlock::decode(raw.body.clone()).unwrap(), *decided.block);
        assert_eq!(raw.certificate, fusion_types::encode(&decided.certificate));
    }
}

#[test]
fn the_tip_is_watched() {
    let (home, chain) = (tempfile::tempdir().unwrap(), Chain::of(2));
    let (mut store, _) = open(home.path(), &chain);
    let mut tip = store.reader().subscribe();
    assert_eq!(*tip.borrow_and_update(), Height(0));
    store.commit(&chain.records(1..=2), &chain.state).unwrap();
    assert!(tip.has_changed().unwrap());
    assert_eq!(*tip.borrow_and_update(), Height(2));
}

#[test]
fn another_networks_folder_is_refused_with_both_names() {
    let (home, chain) = (tempfile::tempdir().unwrap(), Chain::of(1));
    drop(open(home.path(), &chain));
    let other = Chain::new("other");
    let error = Store::open(home.path(), &other.genesis, options()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StoreError::Network { .. }));
    assert!(text.contains(&chain.genesis.network().to_string()) && text.contains(&other.genesis.network().to_string()));
}

#[test]
fn a_second_process_is_refused() {
    let (home, chain) = (tempfile::tempdir().unwrap(), Chain::of(0));
    let (store, _) = open(home.path(), &chain);
    // flock excludes open files, whichever process they are of.
    let error = Store::open(home.path(), &chain.genesis, options()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }));
    assert!(matches!(
        check(&LocalVolume, home.path(), &chain.genesis, &mut |_, _| {}),
        Err(StoreError::Locked { .. })
    ));
    let elsewhere = tempfile::tempdir().unwrap();
    let shared_guard = Options {
        guard_dir: Some(home.path().join("guard")),
        ..options()
    };
    let error = Store::open(elsewhere.path(), &chain.genesis, shared_guard).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }));
    drop(store);
    open(home.path(), &chain);
}

#[test]
fn ten_thousand_blocks_open_by_reading_the_last_segment() {
    let (home, chain) = (tempfile::tempdir().unwrap(), Chain::long());
    let (mut store, _) = Store::open(home.path(), &chain.genesis, Options::default()).unwrap();
    for height in (1..=10_000).step_by(500) {
        store
            .commit(&chain.records(height..=height + 499), chain.state_at(height + 499))
            .unwrap();
    }
    drop(store);
    let begin = Instant::now();
    let (store, recovered) = Store::open(home.path(), &chain.genesis, Options::default()).unwrap();
    println!("10,000 blocks opened in {:?}", begin.elapsed());
    assert_eq!(recovered.state, chain.state);
    assert_eq!(store.reader().tip().0, Height(10_000));
}
