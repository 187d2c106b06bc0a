//! The index answers right, or says that it cannot yet; and it comes back from anything.

use std::fs;
use std::path::Path;

use alloy_primitives::{B256, Bytes};
use fusion_types::{Height, RollupId, transaction_hash};

use super::chain::{Chain, ROLLUPS};
use super::open;
use crate::store::{LogReader, Options, Place, Store, StoreError};

/// Waits until the index on disk has reached `height`.
fn wait_for_index(store: &Store, height: u64) {
    let mut indexed = store.index.subscribe();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let wait = async {
        let reached = indexed.wait_for(|indexed| *indexed >= Height(height));
        tokio::time::timeout(std::time::Duration::from_secs(60), reached)
            .await
            .unwrap()
            .unwrap();
    };
    runtime.block_on(wait);
}

fn commit_all(store: &mut Store, chain: &Chain) {
    let tip = chain.blocks.len() as u64;
    for first in (1..=tip).step_by(100) {
        let last = (first + 99).min(tip);
        store
            .commit(&chain.records(first..=last), chain.state_at(last))
            .unwrap();
    }
}

/// Every transaction of these blocks is found where it is, and every sequence number at its height.
fn assert_finds(reader: &LogReader, chain: &Chain, heights: impl Iterator<Item = u64>) {
    for height in heights {
        let decided = &chain.blocks[usize::try_from(height).unwrap() - 1];
        for (body, hashes) in decided.block.lanes() {
            let rollup = body.lane.rollup;
            for (index, hash) in (0..).zip(hashes) {
                let place = Place {
                    height: Height(height),
                    index,
                };
                assert_eq!(reader.place_of(rollup, *hash).unwrap(), Some(place));
            }
            for sequence in body.lane.first_sequence..body.lane.first_sequence + body.lane.count {
                assert_eq!(reader.height_of(rollup, sequence).unwrap(), Some(Height(height)));
            }
        }
    }
}

fn assert_nothing_else(reader: &LogReader, chain: &Chain) {
    for rollup in ROLLUPS {
        let next = chain.state.streams[&rollup].next_sequence;
        assert_eq!(reader.height_of(rollup, next).unwrap(), None);
        assert_eq!(reader.height_of(rollup, u64::MAX).unwrap(), None);
        assert_eq!(reader.place_of(rollup, B256::repeat_byte(9)).unwrap(), None);
    }
    let hash = transaction_hash(b"transaction 0 of height 1");
    assert_eq!(
        reader.place_of(ROLLUPS[2], hash).unwrap(),
        None,
        "another rollup's transaction"
    );
    assert_eq!(reader.height_of(RollupId(1), 0).unwrap(), None);
    assert_eq!(reader.height_of(RollupId(u64::MAX), 0).unwrap(), None);
}

#[test]
fn everything_is_found_from_memory_and_from_merged_runs() {
    let (home, chain) = (tempfile::tempdir().unwrap(), Chain::long());
    let (mut store, _) = Store::open(home.path(), &chain.genesis, Options::default()).unwrap();
    commit_all(&mut store, chain);
    // Nine runs of 1024 heights: eight are merged into one. The rest is in memory.
    wait_for_index(&store, 9 * 1024);
    let reader = store.reader();
    assert_finds(&reader, chain, (1..=10_000).step_by(3));
    assert_nothing_else(&reader, chain);
    drop((store, reader));
    let (store, _) = Store::open(home.path(), &chain.genesis, Options::default()).unwrap();
    wait_for_index(&store, 10_000);
    assert_finds(&store.reader(), chain, (1..=10_000).step_by(7));
    assert_nothing_else(&store.reader(), chain);
}

#[test]
fn fresh_blocks_are_found_at_once() {
    let (home, chain) = (tempfile::tempdir().unwrap(), Chain::of(40));
    let (mut store, _) = open(home.path(), &chain);
    for height in 1..=40 {
        store
            .commit(&chain.records(height..=height), chain.state_at(height))
            .unwrap();
        assert_finds(&store.reader(), &chain, height..=height);
    }
}

#[test]
fn the_last_place_of_a_repeated_transaction_is_given() {
    let (home, mut chain) = (tempfile::tempdir().unwrap(), Chain::new("test"));
    let repeated = Bytes::from_static(b"again");
    for height in 1..=3000_u64 {
        let first_or_late = height == 1 || height == 1500;
        chain.grow(if first_or_late {
            vec![(ROLLUPS[0], vec![repeated.clone()])]
        } else {
            vec![]
        });
    }
    let (mut store, _) = open(home.path(), &chain);
    commit_all(&mut store, &chain);
    wait_for_index(&store, 2048);
    let place = store
        .reader()
        .place_of(ROLLUPS[0], transaction_hash(&repeated))
        .unwrap();
    assert_eq!(
        place,
        Some(Place {
            height: Height(1500),
            index: 0
        })
    );
}

/// What is done to the index folder while the node is down.
fn assert_rebuilt_after(harm: impl Fn(&Path)) {
    let (home, chain) = (tempfile::tempdir().unwrap(), Chain::of(1500));
    let (mut store, _) = open(home.path(), &chain);
    commit_all(&mut store, &chain);
    wait_for_index(&store, 1024);
    drop(store);
    harm(&home.path().join("index"));
    let (store, _) = open(home.path(), &chain);
    let reader = store.reader();
    // While it is built, an answer is right or withheld.
    match reader.place_of(ROLLUPS[0], transaction_hash(b"transaction 1 of height 2")) {
        Ok(place) => assert_eq!(
            place,
            Some(Place {
                height: Height(2),
                index: 1
            })
        ),
        Err(error) => assert!(matches!(error, StoreError::Indexing { .. }), "{error}"),
    }
    wait_for_index(&store, 1500);
    assert_finds(&reader, &chain, 1..=1500);
    assert_nothing_else(&reader, &chain);
}

#[test]
fn a_deleted_index_is_built_again() {
    assert_rebuilt_after(|dir| fs::remove_dir_all(dir).unwrap());
}

#[test]
fn an_index_of_garbage_is_built_again() {
    assert_rebuilt_after(|dir| {
        for file in files(dir) {
            let mut bytes = fs::read(&file).unwrap();
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte ^= u8::try_from(at * 31 % 251).unwrap();
            }
            fs::write(&file, bytes).unwrap();
        }
    });
}

#[test]
fn an_emptied_index_is_built_again() {
    assert_rebuilt_after(|dir| {
        for file in files(dir) {
            fs::write(file, b"").unwrap();
        }
    });
}

#[test]
fn an_index_ahead_of_the_log_is_built_again() {
    let (home, chain) = (tempfile::tempdir().unwrap(), Chain::of(1500));
    let (mut store, _) = open(home.path(), &chain);
    commit_all(&mut store, &chain);
    wait_for_index(&store, 1500);
    drop(store);
    fs::remove_dir_all(home.path().join("log")).unwrap();
    let (mut store, _) = open(home.path(), &chain);
    let mut short = Chain::of(0);
    short.grow(vec![(ROLLUPS[0], vec![Bytes::from_static(b"other history")])]);
    store.commit(&short.records(1..=1), &short.state).unwrap();
    wait_for_index(&store, 1);
    let old = transaction_hash(b"transaction 0 of height 2");
    assert_eq!(store.index.indexed(), Height(1));
    assert_eq!(store.reader().place_of(ROLLUPS[0], old).unwrap(), None);
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}
