//! The store's files, read by the real store: guard, write-ahead log, segment, evidence.
//!
//! An input is a file's bytes behind a byte of flags; with flag 1 the checksums are made right first, so that what they
//! guard is reached too. Whatever opens must also work: what is committed to it is found by the next start.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use alloy_primitives::Bytes;
use fusion_consensus::{GUARD_BYTES, GuardState};
use fusion_sequencer::store::{
    EvidenceFile, Files, GUARD_BYTES_MAX, Options, Record, Recovered, StoreError, Volume, check,
};
use fusion_types::{Height, State};

use crate::fixture::{fixture, id_of};
use crate::messages;
use crate::volume::Memory;

/// Where the files lie.
pub const HOME: &str = "/node";

/// Flag: checksums are made right.
const MENDED: u8 = 1;

/// Flag: the other variant of the target.
const OTHER: u8 = 2;

/// Flag: the file ends with the input, as one that was cut.
const CUT: u8 = 4;

const SEGMENT_BYTES: u64 = 1 << 16;
const WAL_BYTES: u64 = 4 << 20;
const WAL_START: usize = 4096;
const SLOT_BYTES: usize = 512;

/// Where the guard's slots are: two at the end of each place of 64 KiB.
pub const GUARD_SLOTS: [usize; 4] = [60_928, 65_024, 126_464, 130_560];

const SEGMENT_FIXED: usize = 100;

fn path(name: &str) -> PathBuf {
    Path::new(HOME).join(name)
}

fn open(volume: &Arc<Memory>) -> Result<(Files, Recovered), StoreError> {
    let options = Options {
        segment_bytes: SEGMENT_BYTES,
        recent_bytes: 0,
        ..Options::default()
    };
    Files::open(volume.clone(), Path::new(HOME), &fixture().genesis, options)
}

/// The files of a node that stopped in height 5: four blocks, an undecided body, records and a guard.
pub fn sound() -> &'static [(&'static str, Vec<u8>)] {
    static FILES: OnceLock<Vec<(&str, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let volume = Arc::new(Memory::default());
        let (mut files, _) = open(&volume).expect("an empty volume opens");
        for (decided, state) in fixture().blocks.iter().zip(&fixture().states[1..]) {
            let mut records = vec![
                Record::Body(decided.block.clone()),
                Record::Decision(decided.certificate.clone()),
            ];
            let height = decided.block.header().height;
            records.extend(wal(height.next()));
            records.push(Record::Guard(guard(height)));
            files.commit(&records, state).expect("a sound batch is taken");
        }
        let last = fixture().states.last().expect("the genesis' is there");
        let body = Record::Body(messages::candidate(last, 1));
        files
            .commit(&[body, Record::Guard(guard(last.height.next()))], last)
            .expect("a sound batch is taken");
        drop(files);
        let names = ["log/00000001.seg", "wal/even", "wal/odd", "guard/state"];
        names
            .map(|name| (name, volume.bytes(&path(name)).expect("the store made it")))
            .into()
    })
}

fn guard(height: Height) -> Bytes {
    let genesis = &fixture().genesis;
    let guard = GuardState::barred_up_to(
        genesis.network(),
        id_of(&fixture().keys[0]),
        genesis.committee().epoch(),
        height,
    );
    Bytes::copy_from_slice(&guard.encode())
}

fn wal(height: Height) -> impl Iterator<Item = Record> {
    let records = [b"a record of the log".as_slice(), b"another"];
    records.into_iter().map(move |bytes| Record::Wal {
        height,
        bytes: Bytes::from_static(bytes),
    })
}

/// All sound files but the one called `name`.
fn volume_without(name: &str) -> Arc<Memory> {
    let volume = Arc::new(Memory::default());
    for (other, bytes) in sound().iter().filter(|(other, _)| *other != name) {
        let length = if other.starts_with("wal/") {
            WAL_BYTES
        } else {
            SEGMENT_BYTES
        };
        volume.put(&path(other), bytes, length);
    }
    volume
}

/// Opens what is there, reads it, commits to it, and opens it again.
fn start(volume: &Arc<Memory>) {
    let Ok((mut files, recovered)) = open(volume) else {
        return;
    };
    let state = &recovered.state;
    assert_eq!(files.tip(), (state.height, state.block));
    assert!(
        recovered
            .guard
            .as_ref()
            .is_none_or(|guard| guard.len() <= GUARD_BYTES_MAX)
    );
    assert!(recovered.bodies.iter().all(|body| state.height < body.header().height));
    read(&files, state.height);
    if state.height.0 == u64::MAX {
        return;
    }
    let contents = Bytes::from(vec![7; GUARD_BYTES]);
    let (height, bytes) = (state.height.next(), Bytes::from_static(b"new"));
    let mut records = vec![
        Record::Wal {
            height,
            bytes: bytes.clone(),
        },
        Record::Guard(contents.clone()),
    ];
    let next = usize::try_from(state.height.0)
        .ok()
        .filter(|at| *at < fixture().blocks.len() && fixture().states[*at] == *state);
    let mut after: &State = state;
    if let Some(next) = next {
        let decided = &fixture().blocks[next];
        records.insert(0, Record::Body(decided.block.clone()));
        records.push(Record::Decision(decided.certificate.clone()));
        after = &fixture().states[next + 1];
    }
    files.commit(&records, after).expect("what opens takes a sound batch");
    drop(files);
    let (files, again) = open(volume).expect("what was committed to opens again");
    assert_eq!(again.guard, Some(contents), "a guard that was durable is lost");
    assert_eq!(&again.state, after, "a decision that was durable is lost");
    if next.is_none() {
        assert_eq!(
            again.wal.records.last(),
            Some(&bytes),
            "a record that was durable is lost"
        );
        assert_eq!(
            again.bodies.len(),
            recovered.bodies.len(),
            "a body that was durable is lost"
        );
    }
    read(&files, again.state.height);
}

/// Blocks that come back are those of their heights and certificates; none is above the tip.
fn read(files: &Files, tip: Height) {
    let near = (tip.0.saturating_sub(2)..=tip.0.saturating_add(1)).chain(0..6);
    for height in near.map(Height) {
        if let Ok(Some(decided)) = files.block(height) {
            assert!(height <= tip && decided.block.header().height == height);
            assert_eq!(decided.certificate.block, decided.block.id());
        }
    }
}

/// Makes the checksums of records right, from `at` on.
fn mend_records(bytes: &mut [u8], mut at: usize, salt: u32) {
    while let Some(prefix) = bytes.get(at..at + 20) {
        let length = u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]) as usize;
        let mut crc = crc32c::crc32c(&salt.to_le_bytes());
        crc = crc32c::crc32c_append(crc, &(at as u64).to_le_bytes());
        crc = crc32c::crc32c_append(crc, prefix);
        let (start, end) = (at + 24, (at + 24).saturating_add(length));
        if let Some(field) = bytes.get_mut(at + 20..start) {
            field.copy_from_slice(&crc.to_le_bytes());
        }
        let Some(payload) = bytes.get(start..end) else { return };
        crc = crc32c::crc32c_append(crc, payload);
        let Some(field) = bytes.get_mut(end..end + 4) else {
            return;
        };
        field.copy_from_slice(&crc.to_le_bytes());
        at = end + 4;
    }
}

fn mend_crc(bytes: &mut [u8], end: usize) {
    if bytes.len() >= end + 4 {
        let crc = crc32c::crc32c(&bytes[..end]);
        bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

fn salt_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .map_or(0, |salt| u32::from_le_bytes([salt[0], salt[1], salt[2], salt[3]]))
}

/// `guard/state`: four slots of 512 bytes, one after the other in the input.
pub fn guard_file(data: &[u8]) {
    let Some((flags, slots)) = data.split_first() else {
        return;
    };
    let volume = volume_without("guard/state");
    let mut file = Vec::new();
    for (at, slot) in slots.chunks(SLOT_BYTES).take(4).enumerate() {
        file.resize(GUARD_SLOTS[at], 0);
        let start = file.len();
        file.extend_from_slice(slot);
        if flags & (MENDED << (at % 2 * 3)) != 0 {
            mend_crc(&mut file[start..], SLOT_BYTES - 12);
        }
    }
    let length = if flags & CUT != 0 { 0 } else { 131_072 };
    volume.put(&path("guard/state"), &file, length);
    start(&volume);
}

/// A file of the write-ahead log: 60 bytes of header, then the records, which stand a page later in the file.
pub fn wal_file(data: &[u8]) {
    let Some((flags, rest)) = data.split_first() else {
        return;
    };
    let name = if flags & OTHER != 0 { "wal/even" } else { "wal/odd" };
    let volume = volume_without(name);
    let (header, records) = rest.split_at(rest.len().min(60));
    let mut file = header.to_vec();
    if flags & MENDED != 0 {
        mend_crc(&mut file, 56);
    }
    if !records.is_empty() {
        file.resize(WAL_START, 0);
        file.extend_from_slice(records);
    }
    if flags & MENDED != 0 {
        let salt = salt_at(&file, 12);
        mend_records(&mut file, WAL_START, salt);
    }
    let length = if flags & CUT != 0 { 0 } else { WAL_BYTES };
    volume.put(&path(name), &file, length);
    start(&volume);
}

/// A segment of the block log.
pub fn segment(data: &[u8]) {
    let Some((flags, bytes)) = data.split_first() else {
        return;
    };
    let name = "log/00000001.seg";
    let volume = volume_without(name);
    let mut file = bytes.to_vec();
    if flags & MENDED != 0 {
        let end = SEGMENT_FIXED.saturating_add(salt_at(&file, 12) as usize);
        mend_crc(&mut file, end);
        let salt = salt_at(&file, 96);
        let start = end.saturating_add(4).min(file.len());
        mend_records(&mut file, start, salt);
    }
    let length = if flags & CUT != 0 { 0 } else { SEGMENT_BYTES };
    volume.put(&path(name), &file, length);
    if flags & OTHER != 0 {
        // The command for operators trusts nothing but the genesis: what it accepts, the committee has signed, and a
        // node starts with it and has every block.
        if let Ok(report) = check(&*volume, Path::new(HOME), &fixture().genesis, &mut |_, _| {}) {
            let known = fixture()
                .states
                .iter()
                .any(|state| (state.height, state.block) == (report.tip, report.tip_id));
            assert!(known, "the check accepts a block that nobody decided");
            let (files, _) = open(&volume).expect("a node starts with what the check accepts");
            assert_eq!(files.tip(), (report.tip, report.tip_id));
            for height in 1..=report.tip.0 {
                assert!(
                    matches!(files.block(Height(height)), Ok(Some(_))),
                    "block {height} is lost"
                );
            }
        }
    }
    start(&volume);
}

/// `evidence`.
pub fn evidence_file(data: &[u8]) {
    let volume = Arc::new(Memory::default());
    volume.put(&path("evidence"), data, 0);
    let volume: Arc<dyn Volume> = volume;
    let file = EvidenceFile::new(&volume, Path::new(HOME));
    let kept = file.read();
    let exists = volume.exists(&path("evidence")).unwrap_or(false);
    assert!(exists || kept.is_empty(), "what is unusable is put aside");
    file.write(&kept).expect("memory takes it");
    assert_eq!(file.read(), kept);
}
