//! The store's promises, on a real disk.

mod chain;
mod damage;
mod faults;
mod indexing;
mod log;
mod recovery;
mod repair;

use std::path::Path;

use chain::Chain;
use tempfile::TempDir;

use super::{Options, Recovered, Store};

/// Small segments, so that short chains cross many of them.
fn options() -> Options {
    Options {
        segment_bytes: 8 * 1024,
        ..Options::default()
    }
}

fn open(home: &Path, chain: &Chain) -> (Store, Recovered) {
    Store::open(home, &chain.genesis, options()).unwrap()
}

/// A folder in memory where the system has one, for the tests that damage files thousands of times.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = memory.is_dir().then(|| tempfile::tempdir_in(memory).ok()).flatten();
    folder.unwrap_or_else(|| tempfile::tempdir().unwrap())
}
