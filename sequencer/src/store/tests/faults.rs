//! Full disks and failing syncs.

use std::fs::{File, OpenOptions};
use std::process::Command;
use std::sync::Arc;

use alloy_primitives::Bytes;
use fusion_types::Height;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::chain::{Chain, ROLLUPS};
use super::open;
use crate::store::{Options, Record, Store, StoreError};

const CHILD: &str = "FUSION_TEST_FULL_DISK";

/// A limit on the size of files stands for a full disk: the system refuses to extend them, and allows it again later.
/// It holds for a whole process, so the test runs itself in a process of its own, where the limit's signal is ignored.
#[test]
fn a_full_disk_refuses_the_batch_and_goes_on_when_there_is_space() {
    if std::env::var_os(CHILD).is_some() {
        fill_the_disk();
        return;
    }
    let test = "store::tests::faults::a_full_disk_refuses_the_batch_and_goes_on_when_there_is_space";
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
    shell
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"]);
    let output = shell.env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn fill_the_disk() {
    let (home, mut chain) = (tempfile::tempdir().unwrap(), Chain::of(2));
    let options = Options {
        segment_bytes: 1024 * 1024,
        ..Options::default()
    };
    let (mut store, _) = Store::open(home.path(), &chain.genesis, options.clone()).unwrap();
    store.commit(&chain.records(1..=2), &chain.state).unwrap();
    let unlimited = getrlimit(Resource::Fsize);
    let limit = Rlimit {
        current: Some(6 * 1024 * 1024),
        maximum: unlimited.maximum,
    };
    setrlimit(Resource::Fsize, limit).unwrap();
    let lanes = |n: u8| {
        vec![(
            ROLLUPS[0],
            (0..10)
                .map(|k| Bytes::from(vec![n * 10 + k; 100_000]))
                .collect::<Vec<_>>(),
        )]
    };
    let mut accepted = 0;
    let error = loop {
        let body = Record::Body(chain.body(&lanes(accepted)));
        let wal = Record::Wal {
            height: Height(3),
            bytes: vec![accepted].into(),
        };
        match store.commit(&[body, wal], &chain.state) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 20, "the limit does not hold");
    };
    assert!(matches!(error, StoreError::Full { .. }) && error.may_retry(), "{error}");
    // What fits goes on, and a first guard file too.
    store
        .commit(&[Record::Guard(Bytes::from_static(b"signed"))], &chain.state)
        .unwrap();
    let body = chain.body(&lanes(accepted));
    assert!(
        store
            .commit(&[Record::Body(body.clone())], &chain.state)
            .unwrap_err()
            .may_retry()
    );
    setrlimit(Resource::Fsize, unlimited).unwrap();
    store.commit(&[Record::Body(body)], &chain.state).unwrap();
    let decided = chain.grow(lanes(accepted));
    store
        .commit(&[Record::Decision(decided.certificate.clone())], &chain.state)
        .unwrap();
    drop(store);
    let (store, recovered) = Store::open(home.path(), &chain.genesis, options).unwrap();
    assert_eq!((recovered.state, recovered.cut_bytes), (chain.state.clone(), 0));
    assert_eq!(recovered.guard.unwrap(), b"signed"[..]);
    assert_eq!(store.reader().block(Height(3)).unwrap().unwrap(), decided);
}

/// A segment whose file takes writes and cannot be synced, or takes none at all.
fn replace_log_file(store: &mut Store, file: File) {
    store.files.log_mut().replace_file(Arc::new(file));
}

#[test]
fn after_a_failed_sync_nothing_is_ever_written_again() {
    let (home, chain) = (tempfile::tempdir().unwrap(), Chain::of(3));
    let (mut store, _) = open(home.path(), &chain);
    store.commit(&chain.records(1..=1), chain.state_at(1)).unwrap();
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    replace_log_file(&mut store, null);
    let error = store.commit(&chain.records(2..=2), chain.state_at(2)).unwrap_err();
    assert!(matches!(error, StoreError::Io { action: "sync", .. }), "{error}");
    assert_eq!(store.reader().tip().0, Height(1), "what is not durable is not shown");
    for records in [chain.records(2..=2), vec![Record::Guard(Bytes::new())]] {
        let again = store.commit(&records, chain.state_at(2)).unwrap_err();
        assert!(matches!(again, StoreError::Poisoned(_)), "{again}");
    }
    drop(store);
    let (mut store, recovered) = open(home.path(), &chain);
    assert_eq!(recovered.state, *chain.state_at(1));
    store.commit(&chain.records(2..=3), &chain.state).unwrap();
}

#[test]
fn a_failed_write_is_fatal_too() {
    let (home, chain) = (tempfile::tempdir().unwrap(), Chain::of(2));
    let (mut store, _) = open(home.path(), &chain);
    let read_only = File::open(&Arc::clone(store.files.log_mut().segment()).path).unwrap();
    replace_log_file(&mut store, read_only);
    let error = store.commit(&chain.records(1..=2), &chain.state).unwrap_err();
    assert!(!error.may_retry(), "{error}");
    assert!(matches!(store.commit(&[], &chain.state), Err(StoreError::Poisoned(_))));
}
