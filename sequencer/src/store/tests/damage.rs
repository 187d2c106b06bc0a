//! Torn writes are cut, damage is named, wrong data is never returned.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use alloy_primitives::Bytes;
use fusion_types::Height;
use proptest::prelude::*;

use super::chain::{Chain, ROLLUPS};
use super::{open, scratch};
use crate::store::log::{Log, Opened};
use crate::store::reader::Shared;
use crate::store::{LocalVolume, Record, StoreError, check};

const SEGMENT_BYTES: u64 = 4096;

/// A log folder as it was at some moment.
pub(super) struct Image(pub(super) Vec<(PathBuf, Vec<u8>)>);

impl Image {
    pub(super) fn of(dir: &Path) -> Self {
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files
            .map(|path| (path.file_name().unwrap().into(), std::fs::read(path).unwrap()))
            .collect();
        files.sort();
        Self(files)
    }

    pub(super) fn put(&self, dir: &Path) {
        for (name, bytes) in &self.0 {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
    }
}

pub(super) fn open_log(dir: &Path, chain: &Chain) -> Result<Opened, StoreError> {
    Log::open(&LocalVolume::shared(), dir, &chain.genesis, SEGMENT_BYTES)
}

/// Writes the blocks up to `tip` in batches of one block, and returns the log.
fn write(log: &mut Log, chain: &Chain, records: &[Record], height: u64) {
    let mut batch = log.batch();
    for record in records {
        match record {
            Record::Body(block) => Log::add_body(&mut batch, block).unwrap(),
            Record::Decision(certificate) => log.add_decision(&mut batch, certificate).unwrap(),
            Record::Wal { .. } | Record::Guard(_) => unreachable!("the log has none"),
        }
    }
    log.reserve(&batch).unwrap();
    log.write(&batch).unwrap().unwrap();
    log.accept(batch);
    if log.is_full() {
        log.rotate(chain.state_at(height)).unwrap();
    }
}

/// Every block that can be read is the right one; returns how many can.
pub(super) fn assert_nothing_wrong(dir: &Path, chain: &Chain, opened: Opened) -> usize {
    let tip = opened.log.tip();
    assert_eq!(opened.state, *chain.state_at(tip.0.0), "state at height {}", tip.0);
    let segment = opened.log.segment().clone();
    let shared = Shared::new(
        LocalVolume::shared(),
        dir.to_owned(),
        chain.genesis.network(),
        opened.segments,
        segment,
        tip,
        0,
    );
    let mut readable = 0;
    for (height, expected) in (1..=tip.0.0).zip(&chain.blocks) {
        match shared.block(Height(height)) {
            Ok(found) => {
                assert_eq!(found.as_ref(), Some(expected));
                readable += 1;
            }
            Err(StoreError::Corrupt { height: named, .. }) => assert!(named <= Height(height)),
            Err(other) => panic!("{other}"),
        }
    }
    readable
}

#[test]
fn a_write_torn_at_any_byte_is_cut_and_the_log_goes_on() {
    let (dir, chain) = (scratch(), Chain::of(4));
    let dir = dir.path();
    let mut log = open_log(dir, &chain).unwrap().log;
    for height in 1..=3 {
        write(&mut log, &chain, &chain.records(height..=height), height);
    }
    let before = Image::of(dir);
    write(&mut log, &chain, &chain.records(4..=4), 4);
    let after = Image::of(dir);
    drop(log);
    let (start, end) = difference(&before.0[0].1, &after.0[0].1);
    for cut in start..end {
        for zeros in [false, true] {
            let mut bytes = after.0[0].1.clone();
            if zeros {
                bytes[cut..].fill(0);
            } else {
                bytes.truncate(cut);
            }
            std::fs::write(dir.join(&after.0[0].0), bytes).unwrap();
            let opened = open_log(dir, &chain).unwrap();
            assert_eq!(opened.log.tip().0, Height(3), "cut at {cut}");
            let mut log = opened.log;
            write(&mut log, &chain, &chain.records(4..=4), 4);
            let opened = open_log(dir, &chain).unwrap();
            assert_eq!((opened.log.tip().0, opened.cut_bytes), (Height(4), 0));
            assert_eq!(assert_nothing_wrong(dir, &chain, opened), 4);
        }
    }
}

/// First and last place where two files differ.
fn difference(a: &[u8], b: &[u8]) -> (usize, usize) {
    assert_eq!(a.len(), b.len());
    let start = a.iter().zip(b).position(|(a, b)| a != b).unwrap();
    let end = a.iter().zip(b).rposition(|(a, b)| a != b).unwrap() + 1;
    (start, end)
}

#[test]
fn bytes_that_look_like_a_record_in_a_payload_do_not_stop_the_start() {
    let (dir, mut chain) = (scratch(), Chain::of(2));
    let dir = dir.path();
    let mut log = Log::open(&LocalVolume::shared(), dir, &chain.genesis, 64 * 1024)
        .unwrap()
        .log;
    write(&mut log, &chain, &chain.records(1..=2), 2);
    // Records of this very file as the payload of a transaction: only their offsets are wrong.
    let planted = std::fs::read(dir.join("00000001.seg")).unwrap()[..2048].to_vec();
    chain.grow(vec![(ROLLUPS[0], vec![planted.into()])]);
    write(&mut log, &chain, &chain.records(3..=3), 3);
    let mut bytes = std::fs::read(dir.join("00000001.seg")).unwrap();
    let tail = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[tail - 2500] ^= 1;
    bytes[tail] ^= 1;
    std::fs::write(dir.join("00000001.seg"), bytes).unwrap();
    let opened = Log::open(&LocalVolume::shared(), dir, &chain.genesis, 64 * 1024).unwrap();
    assert_eq!(opened.log.tip().0, Height(2));
    assert!(opened.cut_bytes > 2048);
}

#[test]
fn damage_before_the_end_is_refused_by_name() {
    let (dir, chain) = (scratch(), Chain::of(5));
    let dir = dir.path();
    let mut log = open_log(dir, &chain).unwrap().log;
    write(&mut log, &chain, &chain.records(1..=1), 1);
    let (path, image) = (dir.join("00000001.seg"), Image::of(dir));
    write(&mut log, &chain, &chain.records(2..=2), 2);
    let (place, _) = difference(&image.0[0].1, &std::fs::read(&path).unwrap());
    write(&mut log, &chain, &chain.records(3..=3), 3);
    drop(log);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[place + 40] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    let error = open_log(dir, &chain).unwrap_err();
    let text = error.to_string();
    let StoreError::Corrupt {
        path: named,
        offset,
        height,
        ..
    } = error
    else {
        panic!("{text}");
    };
    assert_eq!((named, height), (path, Height(2)));
    assert_eq!(offset, place as u64);
    assert!(text.contains("fusion db repair"), "{text}");
}

#[test]
fn a_missing_segment_is_named() {
    let (home, chain) = (scratch(), Chain::of(60));
    let (mut store, _) = open(home.path(), &chain);
    for height in 1..=60 {
        store
            .commit(&chain.records(height..=height), chain.state_at(height))
            .unwrap();
    }
    drop(store);
    std::fs::remove_file(home.path().join("log/00000002.seg")).unwrap();
    let error = crate::store::Store::open(home.path(), &chain.genesis, super::options()).unwrap_err();
    assert!(error.to_string().contains("00000002.seg"), "{error}");
    assert!(check(&LocalVolume, home.path(), &chain.genesis, &mut |_, _| {}).is_err());
}

#[test]
fn one_damaged_block_costs_only_itself() {
    let (dir, chain) = (scratch(), Chain::of(40));
    let dir = dir.path();
    let mut log = open_log(dir, &chain).unwrap().log;
    for height in 1..=40 {
        write(&mut log, &chain, &chain.records(height..=height), height);
    }
    drop(log);
    let path = dir.join("00000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[2000] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    let opened = open_log(dir, &chain).unwrap();
    assert_eq!(assert_nothing_wrong(dir, &chain, opened), 39);
}

/// A log of several segments, with a batch of several records and an undecided body at its end.
pub(super) fn fixture() -> &'static (Chain, Image) {
    static FIXTURE: OnceLock<(Chain, Image)> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let (dir, chain) = (scratch(), Chain::of(24));
        let mut log = open_log(dir.path(), &chain).unwrap().log;
        for height in 1..=20 {
            write(&mut log, &chain, &chain.records(height..=height), height);
        }
        write(&mut log, &chain, &chain.records(21..=24), 24);
        let undecided = chain.body(&[(ROLLUPS[2], vec![Bytes::from_static(b"undecided")])]);
        write(&mut log, &chain, &[Record::Body(undecided)], 24);
        (chain, Image::of(dir.path()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn damage_anywhere_never_gives_wrong_data(file in any::<prop::sample::Index>(), damage in damage()) {
        let (chain, image) = fixture();
        let dir = scratch();
        image.put(dir.path());
        let (name, bytes) = &image.0[file.index(image.0.len())];
        std::fs::write(dir.path().join(name), damage.apply(bytes)).unwrap();
        // An error is an honest answer too.
        if let Ok(opened) = open_log(dir.path(), chain) {
            assert_nothing_wrong(dir.path(), chain, opened);
        }
    }
}

/// What may happen to a file.
#[derive(Debug, Clone)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Zero(prop::sample::Index, usize),
    Append(Vec<u8>),
    Copy(prop::sample::Index, prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<prop::sample::Index>(), 0_u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        1 => (any::<prop::sample::Index>(), 1_usize..600).prop_map(|(at, length)| Damage::Zero(at, length)),
        1 => prop::collection::vec(any::<u8>(), 1..100).prop_map(Damage::Append),
        1 => (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1_usize..600)
            .prop_map(|(from, to, length)| Damage::Copy(from, to, length)),
    ]
}

impl Damage {
    fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let length = bytes.len();
        match self {
            Self::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Self::Cut(at) => bytes.truncate(at.index(length)),
            Self::Zero(at, count) => {
                let at = at.index(length);
                bytes[at..(at + count).min(length)].fill(0);
            }
            Self::Append(more) => bytes.extend_from_slice(more),
            Self::Copy(from, to, count) => {
                let (from, to) = (from.index(length), to.index(length));
                let count = (*count).min(length - from).min(length - to);
                bytes.copy_within(from..from + count, to);
            }
        }
        bytes
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// A power cut may keep any of the sectors of the last write.
    #[test]
    fn any_sectors_of_the_last_write_may_be_lost(lost in prop::collection::vec(any::<bool>(), 16)) {
        let (chain, dir) = (Chain::of(9), scratch());
        let dir = dir.path();
        let segment_bytes = 64 * 1024;
        let mut log = Log::open(&LocalVolume::shared(), dir, &chain.genesis, segment_bytes).unwrap().log;
        write(&mut log, &chain, &chain.records(1..=2), 2);
        let before = Image::of(dir);
        write(&mut log, &chain, &chain.records(3..=9), 9);
        let mut bytes = Image::of(dir).0[0].1.clone();
        for (sector, lost) in lost.iter().enumerate() {
            let place = sector * 512..(sector + 1) * 512;
            if *lost {
                bytes[place.clone()].copy_from_slice(&before.0[0].1[place]);
            }
        }
        std::fs::write(dir.join("00000001.seg"), bytes).unwrap();
        let opened = Log::open(&LocalVolume::shared(), dir, &chain.genesis, segment_bytes).unwrap();
        prop_assert!(opened.log.tip().0 >= Height(2));
        let tip = opened.log.tip().0.0;
        let readable = assert_nothing_wrong(dir, &chain, opened);
        prop_assert_eq!(readable as u64, tip);
    }
}

#[test]
fn the_full_check_finds_every_flipped_bit() {
    let (chain, image) = fixture();
    let home = scratch();
    let dir = home.path().join("log");
    std::fs::create_dir(&dir).unwrap();
    image.put(&dir);
    let report = check(&LocalVolume, home.path(), &chain.genesis, &mut |_, _| {}).unwrap();
    assert_eq!((report.blocks, report.undecided), (24, 1));
    let shared: Arc<Vec<(PathBuf, usize)>> = Arc::new(places(image));
    for (name, place) in shared.iter() {
        let path = dir.join(name);
        let bytes = std::fs::read(&path).unwrap();
        let mut flipped = bytes.clone();
        flipped[*place] ^= 1;
        std::fs::write(&path, flipped).unwrap();
        let found = check(&LocalVolume, home.path(), &chain.genesis, &mut |_, _| {});
        let seen = found.as_ref().map_or(true, |report| report.torn_bytes > 0);
        assert!(seen, "{} at {place}", name.display());
        std::fs::write(&path, bytes).unwrap();
    }
}

/// Every 37th byte that is in use.
pub(super) fn places(image: &Image) -> Vec<(PathBuf, usize)> {
    let places = image.0.iter().flat_map(|(name, bytes)| {
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        (0..=end).step_by(37).map(|place| (name.clone(), place))
    });
    places.collect()
}
