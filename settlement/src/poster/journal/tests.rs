//! The journal through restarts, cuts at every byte, and damage.

use std::fs;

use proptest::prelude::*;

use super::*;

fn attempt(nonce: u64, name: u8) -> Attempt {
    Attempt {
        number: nonce + 100,
        batch: B256::repeat_byte(7),
        nonce,
        fees: PostFees {
            max_fee: u128::MAX,
            tip: 1 << 70,
            blob_fee: 3,
        },
        hash: B256::repeat_byte(name),
    }
}

fn raw(name: u8) -> Bytes {
    vec![name; 300].into()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("journal")
    }

    fn open(&self) -> (Journal, Recovered) {
        Journal::open(&self.path()).unwrap()
    }

    /// A journal of three attempts, the first of which is finalized, and its bytes.
    fn filled(&self) -> Vec<u8> {
        let (mut journal, recovered) = self.open();
        assert_eq!(recovered, Recovered::default());
        for name in 1..=3 {
            journal.record(&attempt(name.into(), name), &raw(name)).unwrap();
        }
        journal.finalize(102, 2).unwrap();
        fs::read(self.path()).unwrap()
    }
}

#[test]
fn what_was_recorded_comes_back_with_its_bytes() {
    let folder = Folder::new();
    folder.filled();
    let (mut journal, recovered) = folder.open();
    assert_eq!(recovered.attempts, [attempt(2, 2), attempt(3, 3)]);
    assert_eq!(recovered.finalized, (102, 2));
    assert_eq!(journal.raw(&B256::repeat_byte(3)).unwrap(), Some(raw(3)));
    assert_eq!(journal.raw(&B256::repeat_byte(1)).unwrap(), None);
    journal.record(&attempt(3, 4), &raw(4)).unwrap();
    assert_eq!(journal.raw(&B256::repeat_byte(2)).unwrap(), Some(raw(2)));
    drop(journal);
    let (mut journal, recovered) = folder.open();
    assert_eq!(recovered.attempts, [attempt(2, 2), attempt(3, 3), attempt(3, 4)]);
    assert_eq!(journal.raw(&B256::repeat_byte(4)).unwrap(), Some(raw(4)));
}

#[test]
fn the_file_begins_anew_once_everything_is_finalized() {
    let folder = Folder::new();
    let full = folder.filled().len();
    let (mut journal, _) = folder.open();
    journal.finalize(104, 4).unwrap();
    assert!(fs::read(folder.path()).unwrap().len() < 50 && full > 900);
    // It is the same journal, for others too.
    assert!(matches!(
        Journal::open(&folder.path()),
        Err(JournalError::Locked { .. })
    ));
    journal.record(&attempt(4, 5), &raw(5)).unwrap();
    assert_eq!(journal.raw(&B256::repeat_byte(5)).unwrap(), Some(raw(5)));
    drop(journal);
    let (_, recovered) = folder.open();
    assert_eq!(
        (recovered.attempts, recovered.finalized),
        (vec![attempt(4, 5)], (104, 4))
    );
}

#[test]
fn a_file_that_is_mostly_of_no_use_is_written_anew_with_what_is_left() {
    let folder = Folder::new();
    let (mut journal, _) = folder.open();
    let large = |name: u8| Bytes::from(vec![name; 2_000_000]);
    for name in 1..=40 {
        journal.record(&attempt(name.into(), name), &large(name)).unwrap();
    }
    let length = || fs::metadata(folder.path()).unwrap().len();
    journal.finalize(111, 11).unwrap();
    assert!(length() > 80_000_000, "most is of use");
    journal.finalize(138, 38).unwrap();
    assert!(length() < 7_000_000);
    journal.record(&attempt(41, 41), &raw(41)).unwrap();
    drop(journal);
    let (mut journal, recovered) = folder.open();
    let left: Vec<Attempt> = (38..=41).map(|name| attempt(name.into(), name)).collect();
    assert_eq!((recovered.attempts, recovered.finalized), (left, (138, 38)));
    assert_eq!(journal.raw(&B256::repeat_byte(39)).unwrap(), Some(large(39)));
    assert_eq!(journal.raw(&B256::repeat_byte(41)).unwrap(), Some(raw(41)));
}

#[test]
fn a_journal_that_was_cut_off_has_all_records_before() {
    let folder = Folder::new();
    let bytes = folder.filled();
    for cut in (0..bytes.len()).step_by(3) {
        for tail in [0, 5, 500] {
            // Blocks that the file was given and that were never written read as zeros.
            let mut torn = bytes[..cut].to_vec();
            torn.resize(cut + tail, 0);
            fs::write(folder.path(), &torn).unwrap();
            let opened = Journal::open(&folder.path());
            let (mut journal, recovered) = match opened {
                Ok(opened) => opened,
                // The rest of a length that is not whole is zeros: this cannot be told from damage, and stops the node.
                Err(JournalError::Damaged { .. }) if tail > 0 => continue,
                Err(error) => panic!("{error}"),
            };
            for attempt in &recovered.attempts {
                let name = attempt.hash[0];
                assert_eq!(journal.raw(&attempt.hash).unwrap(), Some(raw(name)));
            }
            let whole = [8, 449, 890, 1331];
            let records = whole.iter().filter(|end| **end <= cut).count().saturating_sub(1);
            assert_eq!(recovered.attempts.len(), records.min(3), "cut at {cut}");
            journal.record(&attempt(9, 9), &raw(9)).unwrap();
            drop(journal);
            assert_eq!(folder.open().1.attempts.last(), Some(&attempt(9, 9)));
        }
    }
}

#[test]
fn damage_before_the_last_record_is_an_error_that_says_where() {
    let folder = Folder::new();
    let bytes = folder.filled();
    for at in (0..1331).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(folder.path(), &damaged).unwrap();
        let error = Journal::open(&folder.path()).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { .. }), "byte {at}: {error}");
    }
    let large = folder.0.path().join("other");
    let (mut journal, _) = Journal::open(&large).unwrap();
    let raw = vec![0; BODY_BYTES_MAX].into();
    assert!(matches!(
        journal.record(&attempt(1, 1), &raw),
        Err(JournalError::Large(_))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), is_ours in any::<bool>()) {
        let folder = Folder::new();
        let head: &[u8] = if is_ours { MAGIC } else { &[] };
        fs::write(folder.path(), [head, &bytes].concat()).unwrap();
        let _ = Journal::open(&folder.path());
    }
}
