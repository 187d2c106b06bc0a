//! Write-ahead log, guard, and whole folders as a power cut leaves them.

use std::fs;
use std::path::Path;

use alloy_primitives::Bytes;
use fusion_types::{Height, NetworkId};
use proptest::prelude::*;

use super::chain::Chain;
use super::{open, options, scratch};
use crate::store::guard::{Contents, Guard, Redo};
use crate::store::wal::Wal;
use crate::store::{GUARD_BYTES_MAX, LocalVolume, Record, Store, StoreError, WalStatus};

const NETWORK: NetworkId = NetworkId(alloy_primitives::B256::repeat_byte(7));

fn record(height: u64, text: &str) -> Record {
    Record::Wal {
        height: Height(height),
        bytes: Bytes::copy_from_slice(text.as_bytes()),
    }
}

fn append(wal: &mut Wal, height: u64, records: &[Bytes]) {
    let write = wal
        .prepare(Height(height), &records.iter().collect::<Vec<_>>())
        .unwrap();
    wal.reserve(Height(height), &write).unwrap();
    let written = wal.write(Height(height), &write).unwrap();
    written.file.sync_data().unwrap();
}

fn open_wal(dir: &Path, height: u64) -> (Wal, WalStatus, Vec<Bytes>) {
    let (wal, recovered) = Wal::open(&LocalVolume, dir, NETWORK, Height(height), true).unwrap();
    (wal, recovered.status, recovered.records)
}

#[test]
fn the_wal_of_the_height_in_progress_comes_back_and_older_ones_do_not() {
    let (home, chain) = (scratch(), Chain::of(3));
    let (mut store, recovered) = open(home.path(), &chain);
    assert_eq!(recovered.wal.status, WalStatus::Readable);
    for height in 1..=3 {
        store
            .commit(&[record(height, "proposal"), record(height, "prevote")], &chain.state)
            .unwrap();
        let mut records = chain.records(height..=height);
        records.insert(0, record(height, "late"));
        records.push(record(height + 1, "early"));
        store.commit(&records, chain.state_at(height)).unwrap();
        drop(store);
        let (again, recovered) = open(home.path(), &chain);
        assert_eq!(recovered.wal.status, WalStatus::Readable);
        assert_eq!(recovered.wal.records, [Bytes::from_static(b"early")]);
        store = again;
    }
}

#[test]
fn a_lost_wal_is_reported_until_its_height_is_decided() {
    let (home, chain) = (scratch(), Chain::of(4));
    let (mut store, _) = open(home.path(), &chain);
    store.commit(&chain.records(1..=1), chain.state_at(1)).unwrap();
    store.commit(&[record(2, "vote")], chain.state_at(1)).unwrap();
    drop(store);
    fs::remove_file(home.path().join("wal/even")).unwrap();
    let (store, recovered) = open(home.path(), &chain);
    assert_eq!(recovered.wal.status, WalStatus::Missing);
    drop(store);
    let (mut store, recovered) = open(home.path(), &chain);
    assert_eq!(
        recovered.wal.status,
        WalStatus::Unreadable,
        "the file is new, the doubt remains"
    );
    store.commit(&chain.records(2..=3), chain.state_at(3)).unwrap();
    store.commit(&[record(4, "vote")], chain.state_at(3)).unwrap();
    drop(store);
    let (_, recovered) = open(home.path(), &chain);
    assert_eq!(recovered.wal.status, WalStatus::Readable);
    assert_eq!(recovered.wal.records.len(), 1);
}

#[test]
fn records_of_a_height_that_the_log_lost_do_not_come_back() {
    let dir = scratch();
    let record = |byte: u8| Bytes::from(vec![byte; 50]);
    let (mut wal, ..) = open_wal(dir.path(), 2);
    append(&mut wal, 3, &[record(1), record(2), record(3)]);
    let mut bytes = fs::read(dir.path().join("odd")).unwrap();
    for torn in [false, true] {
        bytes[4096] ^= u8::from(torn);
        fs::write(dir.path().join("odd"), &bytes).unwrap();
        // The log ends at height 1 after all. Height 3 comes again, with one record of the same length.
        let (mut wal, ..) = open_wal(dir.path(), 2);
        append(&mut wal, 3, &[record(4)]);
        assert_eq!(open_wal(dir.path(), 3).2, [record(4)]);
    }
}

#[test]
fn a_wal_longer_than_its_file_grows_it() {
    let dir = scratch();
    let records: Vec<Bytes> = (0..9_u8).map(|byte| vec![byte; 1_000_000].into()).collect();
    let (mut wal, ..) = open_wal(dir.path(), 1);
    for chunk in records.chunks(2) {
        append(&mut wal, 1, chunk);
    }
    assert_eq!(open_wal(dir.path(), 1).2, records);
}

#[test]
fn a_torn_wal_record_never_comes_back_behind_a_later_one() {
    let dir = scratch();
    let texts = |texts: &[&'static str]| {
        texts
            .iter()
            .map(|text| Bytes::from_static(text.as_bytes()))
            .collect::<Vec<_>>()
    };
    let (mut wal, ..) = open_wal(dir.path(), 0);
    append(&mut wal, 2, &texts(&["kept"]));
    append(&mut wal, 2, &texts(&["torn", "ghost"]));
    let mut bytes = fs::read(dir.path().join("even")).unwrap();
    let at = bytes.windows(4).position(|window| window == b"torn").unwrap();
    bytes[at] ^= 1;
    fs::write(dir.path().join("even"), bytes).unwrap();
    let (mut wal, status, records) = open_wal(dir.path(), 2);
    assert_eq!((status, records), (WalStatus::Readable, texts(&["kept"])));
    append(&mut wal, 2, &texts(&["next"]));
    assert_eq!(open_wal(dir.path(), 2).2, texts(&["kept", "next"]));
}

#[test]
fn damage_inside_the_wal_is_told_from_a_torn_write() {
    let dir = scratch();
    let (mut wal, ..) = open_wal(dir.path(), 0);
    append(&mut wal, 2, &[Bytes::from_static(b"first")]);
    append(&mut wal, 2, &[Bytes::from_static(b"second")]);
    let mut bytes = fs::read(dir.path().join("even")).unwrap();
    let at = bytes.windows(5).position(|window| window == b"first").unwrap();
    bytes[at] ^= 1;
    fs::write(dir.path().join("even"), bytes).unwrap();
    assert_eq!(open_wal(dir.path(), 2).1, WalStatus::Unreadable);
    assert_eq!(
        open_wal(dir.path(), 2).1,
        WalStatus::Unreadable,
        "the second start does not forget"
    );
    assert_eq!(open_wal(dir.path(), 4).1, WalStatus::Readable);
}

/// What a disk may do to a file of the write-ahead log; places are in its used part.
fn corrupt(bytes: &mut Vec<u8>, kind: u8, at: usize, length: usize, other: usize) {
    let end = (at + length).min(bytes.len());
    match kind {
        0 => bytes[at] ^= 1 << (other % 8),
        1 => bytes.truncate(at),
        2 => bytes[at..].fill(0),
        3 => bytes[at..end].fill(0),
        4 => {
            bytes.truncate(at);
            bytes.resize(at + 4096, 0);
        }
        5 => {
            let to = other.min(bytes.len() - (end - at));
            bytes.copy_within(at..end, to);
        }
        _ => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(other..other, copy);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn damage_of_the_wal_never_stops_the_start_and_never_invents_a_record(
        kind in 0_u8..7,
        places in prop::array::uniform2(0_usize..6000),
        length in 1_usize..700,
        height in 1_u64..4,
    ) {
        let dir = scratch();
        let records: Vec<Bytes> = (0..12_u8).map(|byte| vec![byte; 60 + usize::from(byte)].into()).collect();
        fs::write(dir.path().join("odd"), &template()[1]).unwrap();
        let mut bytes = template()[0].clone();
        corrupt(&mut bytes, kind, places[0], length, places[1]);
        let unharmed = bytes == template()[0];
        fs::write(dir.path().join("even"), bytes).unwrap();
        let (mut wal, status, found) = open_wal(dir.path(), height);
        if height == 2 {
            prop_assert!(records.starts_with(&found));
            prop_assert!(!unharmed || (found == records && status == WalStatus::Readable));
        } else {
            prop_assert!(found.is_empty());
        }
        append(&mut wal, height, &[Bytes::from_static(b"more")]);
        drop(wal);
        let again = open_wal(dir.path(), height);
        prop_assert_eq!(again.2.last().map(AsRef::as_ref), Some(&b"more"[..]));
    }
}

/// The files `even` and `odd` with twelve records of height 2, cut to a handy length.
fn template() -> &'static [Vec<u8>; 2] {
    static TEMPLATE: std::sync::OnceLock<[Vec<u8>; 2]> = std::sync::OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let dir = scratch();
        let (mut wal, ..) = open_wal(dir.path(), 0);
        for byte in (0..12_u8).step_by(2) {
            let record = |byte: u8| Bytes::from(vec![byte; 60 + usize::from(byte)]);
            append(&mut wal, 2, &[record(byte), record(byte + 1)]);
        }
        ["even", "odd"].map(|name| fs::read(dir.path().join(name)).unwrap()[..8192].to_vec())
    })
}

fn guard_of(dir: &Path) -> Result<Option<Bytes>, StoreError> {
    Guard::open(&LocalVolume::shared(), dir, NETWORK, &|_| Ok(false)).map(|(_, found)| found.map(|found| found.bytes))
}

fn is_doubtful(dir: &Path) -> bool {
    let (_, found) = Guard::open(&LocalVolume::shared(), dir, NETWORK, &|_| Ok(false)).unwrap();
    found.unwrap().doubtful
}

/// Where the slots are: two at the end of each place of 64 KiB.
const SLOTS: [usize; 4] = [60_928, 65_024, 126_464, 130_560];

fn put(guard: &mut Guard, contents: &[u8]) {
    guard.reserve(contents).unwrap();
    guard.write(contents, None).unwrap();
    guard.written().unwrap();
}

#[test]
fn the_guard_returns_what_was_written_last() {
    let dir = scratch();
    assert_eq!(guard_of(dir.path()).unwrap(), None);
    for length in [0, 1, 100, GUARD_BYTES_MAX] {
        let contents = vec![length.to_le_bytes()[0]; length];
        let (mut guard, _) = Guard::open(&LocalVolume::shared(), dir.path(), NETWORK, &|_| Ok(false)).unwrap();
        put(&mut guard, b"before");
        put(&mut guard, &contents);
        assert_eq!(guard_of(dir.path()).unwrap().unwrap(), contents);
    }
    let (mut guard, _) = Guard::open(&LocalVolume::shared(), dir.path(), NETWORK, &|_| Ok(false)).unwrap();
    assert!(matches!(
        guard.reserve(&[0; GUARD_BYTES_MAX + 1]),
        Err(StoreError::Order(_))
    ));
}

#[test]
fn a_guard_write_torn_anywhere_leaves_the_old_or_the_new_contents() {
    let dir = scratch();
    let path = dir.path().join("state");
    let (mut guard, _) = Guard::open(&LocalVolume::shared(), dir.path(), NETWORK, &|_| Ok(false)).unwrap();
    put(&mut guard, b"oldest");
    for (old, new) in [("even", "odd contents"), ("odd contents", "even again")] {
        put(&mut guard, old.as_bytes());
        let before = fs::read(&path).unwrap();
        put(&mut guard, new.as_bytes());
        let after = fs::read(&path).unwrap();
        for cut in SLOTS.into_iter().flat_map(|slot| slot - 5..=slot + 512) {
            let torn = [&after[..cut], &before[cut..]].concat();
            fs::write(&path, torn).unwrap();
            let found = guard_of(dir.path()).unwrap().unwrap();
            assert!(*found == *old.as_bytes() || *found == *new.as_bytes());
        }
        fs::write(&path, after).unwrap();
    }
}

#[test]
fn a_damaged_guard_is_an_error_and_never_empty() {
    let dir = scratch();
    let path = dir.path().join("state");
    let (mut guard, _) = Guard::open(&LocalVolume::shared(), dir.path(), NETWORK, &|_| Ok(false)).unwrap();
    put(&mut guard, b"one");
    put(&mut guard, b"two");
    let good = fs::read(&path).unwrap();
    for place in [0, 9, 13, 17, 30, 60, 480, 501] {
        let mut bytes = good.clone();
        let damage = |bytes: &mut Vec<u8>, page: usize| {
            bytes[SLOTS[page] + place] ^= 1;
            fs::write(&path, bytes).unwrap();
        };
        damage(&mut bytes, 3);
        damage(&mut bytes, 1);
        assert_eq!(guard_of(dir.path()).unwrap().unwrap(), b"two"[..]);
        assert!(!is_doubtful(dir.path()), "each place has a sound slot");
        damage(&mut bytes, 2);
        assert_eq!(guard_of(dir.path()).unwrap().unwrap(), b"one"[..]);
        assert!(is_doubtful(dir.path()), "what was written last is lost");
        damage(&mut bytes, 0);
        assert!(matches!(guard_of(dir.path()), Err(StoreError::GuardUnreadable { .. })));
    }
    for bytes in [&b""[..], &good[..10], &[0; 131_072]] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(guard_of(dir.path()), Err(StoreError::GuardUnreadable { .. })));
    }
}

#[test]
fn a_guard_is_doubtful_until_it_is_whole_again() {
    let dir = scratch();
    let path = dir.path().join("state");
    let open = || {
        Guard::open(&LocalVolume::shared(), dir.path(), NETWORK, &|_| Ok(false))
            .unwrap()
            .0
    };
    let mut guard = open();
    let texts = [&b"one"[..], b"two", b"three", b"four"];
    let images = texts.map(|text| {
        put(&mut guard, text);
        assert!(!is_doubtful(dir.path()));
        fs::read(&path).unwrap()
    });
    let half = images[3].len() / 2;
    // The place of the newest contents is cut off, zeroed, or from an older copy.
    let cut = images[3][..half].to_vec();
    let zeroed = [&images[3][..half], &vec![0; half]].concat();
    let swapped = [&images[0][..half], &images[3][half..]].concat();
    for (image, found) in [(cut, &b"three"[..]), (zeroed, b"three"), (swapped, b"four")] {
        fs::write(&path, image).unwrap();
        assert_eq!(guard_of(dir.path()).unwrap().unwrap(), *found);
        assert!(is_doubtful(dir.path()));
        put(&mut open(), b"five");
        assert_eq!(guard_of(dir.path()).unwrap().unwrap(), b"five"[..]);
        assert!(!is_doubtful(dir.path()));
    }
}

fn redo(offset: u64, bytes: &[u8]) -> Redo {
    Redo {
        height: Height(7),
        salt: 5,
        offset,
        bytes: Bytes::copy_from_slice(bytes),
    }
}

/// Opens a guard beside a log that shows, or does not, what the redo tells of.
fn open_beside(dir: &Path, shown: bool) -> (Guard, Contents) {
    let (guard, found) = Guard::open(&LocalVolume::shared(), dir, NETWORK, &|_| Ok(shown)).unwrap();
    (guard, found.unwrap())
}

#[test]
fn a_guard_brings_back_what_the_log_got_with_it() {
    let dir = scratch();
    let path = dir.path().join("state");
    let mut guard = Guard::open(&LocalVolume::shared(), dir.path(), NETWORK, &|_| Ok(false))
        .unwrap()
        .0;
    for (byte, text) in (1..).zip([&b"one"[..], b"two", b"three"]) {
        let redo = redo(4095 + u64::from(byte), &vec![byte; 1000 * usize::from(byte)]);
        guard.reserve(text).unwrap();
        guard.write(text, Some(&redo)).unwrap();
        guard.written().unwrap();
        let found = open_beside(dir.path(), false).1;
        assert_eq!(
            (&found.bytes[..], found.redo, found.doubtful),
            (text, Some(redo), false)
        );
    }
    // The redo of a commit that never ended is torn: the one before it counts, unless the log has its bytes all the
    // same.
    let whole = fs::read(&path).unwrap();
    let mut torn = whole;
    torn[SLOTS[0] - 700] ^= 1;
    fs::write(&path, &torn).unwrap();
    let found = open_beside(dir.path(), false).1;
    assert_eq!((&found.bytes[..], found.doubtful), (&b"two"[..], false));
    assert_eq!(found.redo, Some(redo(4097, &[2_u8; 2000])));
    let found = open_beside(dir.path(), true).1;
    assert_eq!(
        (&found.bytes[..], found.redo, found.doubtful),
        (&b"three"[..], None, false)
    );
    // The next write takes its place.
    let (mut guard, _) = open_beside(dir.path(), false);
    put(&mut guard, b"four");
    assert_eq!(open_beside(dir.path(), false).1.bytes, b"four"[..]);
}

#[test]
fn a_guard_of_another_network_is_refused() {
    let (home, chain) = (scratch(), Chain::of(0));
    let (mut store, _) = open(home.path(), &chain);
    store
        .commit(&[Record::Guard(Bytes::from_static(b"signed"))], &chain.state)
        .unwrap();
    drop(store);
    fs::remove_dir_all(home.path().join("log")).unwrap();
    let error = Store::open(home.path(), &Chain::new("other").genesis, options()).unwrap_err();
    assert!(matches!(error, StoreError::Network { .. }));
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

#[test]
fn a_power_cut_after_any_commit_loses_nothing() {
    let (home, chain) = (scratch(), Chain::of(25));
    let (mut store, _) = open(home.path(), &chain);
    for height in 1..=25 {
        let body = Record::Body(chain.blocks[usize::try_from(height - 1).unwrap()].block.clone());
        let decision = chain.records(height..=height).pop().unwrap();
        let guard = |step: &str| Record::Guard(format!("{height} {step}").into_bytes().into());
        let turns = [
            (vec![body, record(height, "prevote"), guard("prevote")], height - 1),
            (vec![record(height, "precommit"), guard("precommit")], height - 1),
            (vec![decision, record(height + 1, "start"), guard("start")], height),
        ];
        for (turn, (records, tip)) in turns.into_iter().enumerate() {
            store.commit(&records, chain.state_at(tip)).unwrap();
            let image = scratch();
            for part in ["log", "wal", "guard"] {
                copy_dir(&home.path().join(part), &image.path().join(part));
            }
            let (_, recovered) = open(image.path(), &chain);
            assert_eq!(recovered.state, *chain.state_at(tip));
            assert_eq!(recovered.bodies.len(), usize::from(turn < 2));
            assert_eq!(recovered.wal.status, WalStatus::Readable);
            let count = if turn == 2 {
                1
            } else {
                turn + 1 + usize::from(height > 1)
            };
            assert_eq!(recovered.wal.records.len(), count, "height {height}, turn {turn}");
            let step = ["prevote", "precommit", "start"][turn];
            assert_eq!(*recovered.guard.unwrap(), *format!("{height} {step}").as_bytes());
        }
    }
}
