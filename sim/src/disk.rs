//! A node's disk: the real store on a simulated volume, and what may happen to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fusion_sequencer::core::Recovery;
use fusion_sequencer::store::{Files, Options, Record, Recovered, StoreError};
use fusion_types::{DecidedBlock, Genesis, Height, State};

use crate::rng::Rng;
use crate::volume::{SimVolume, Snapshot};

/// The home of every simulated node, on its own disk.
pub(crate) const HOME: &str = "/node";

/// A commit writes and syncs three files: at most so many operations.
const OPERATIONS_OF_A_COMMIT: u64 = 8;

/// More operations than any life has.
const NEVER: u64 = 1 << 48;

/// Small segments, so that short histories cross many of them.
pub(crate) fn options() -> Options {
    Options {
        segment_bytes: 16 * 1024,
        recent_bytes: 0,
        ..Options::default()
    }
}

/// Opens the node's files as a start does.
pub(crate) fn try_open(volume: &SimVolume, genesis: &Genesis) -> Result<(Files, Recovered), StoreError> {
    Files::open(volume.shared(), Path::new(HOME), genesis, options())
}

/// What the core is told, as at the start of a node.
pub(crate) fn recovery(recovered: Recovered) -> Recovery {
    Recovery {
        wal_readable: recovered.remembers_all(),
        state: recovered.state,
        wal: recovered.wal.records,
        guard: recovered.guard,
        bodies: recovered.bodies,
        evidence: Vec::new(),
    }
}

/// What becomes of a disk when its process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The kernel keeps what was written.
    Kill,
    /// What was not synced survives in part.
    PowerCut,
}

/// One node's disk.
#[derive(Debug)]
pub(crate) struct Disk {
    volume: SimVolume,
    /// Open while the process runs.
    files: Option<Files>,
}

impl Disk {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            volume: SimVolume::new(seed),
            files: None,
        }
    }

    /// Opens the files, as a start does.
    pub(crate) fn open(&mut self, genesis: &Genesis) -> Result<Recovery, StoreError> {
        let (files, recovered) = try_open(&self.volume, genesis)?;
        self.files = Some(files);
        Ok(recovery(recovered))
    }

    /// As the store's: all or nothing, unless the process ends in the middle.
    pub(crate) fn commit(&mut self, records: &[Record], state: &State) -> Result<(), StoreError> {
        let files = self.files.as_mut().expect("the process runs");
        files.commit(records, state)
    }

    /// The process will end somewhere in its next commit or start.
    pub(crate) fn end_soon(&self, end: End, rng: &mut Rng) {
        let operations = rng.between(1, OPERATIONS_OF_A_COMMIT);
        match end {
            End::Kill => self.volume.kill_after(operations),
            End::PowerCut => self.volume.power_off_after(operations),
        }
    }

    pub(crate) fn end(&mut self, end: End) {
        self.files = None;
        match end {
            End::Kill => self.volume.start_again(),
            End::PowerCut => self.volume.power_on(),
        }
        // An end that was due and did not come is not due any more.
        self.volume.kill_after(NEVER);
        self.volume.power_off_after(NEVER);
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.volume.set_space(full.then_some(0));
    }

    /// One sync of any file will fail.
    pub(crate) fn fail_sync(&self) {
        self.volume.fail_syncs(1, None);
    }

    pub(crate) fn mend(&self) {
        self.set_full(false);
        self.volume.fail_syncs(0, None);
        self.volume.slow_syncs(Duration::ZERO);
    }

    pub(crate) fn tip(&self) -> Height {
        self.files.as_ref().map_or(Height(0), |files| files.tip().0)
    }

    /// The decided block of a height; none while the process is down or does not have it.
    pub(crate) fn block(&self, height: Height) -> Option<Arc<DecidedBlock>> {
        self.files.as_ref()?.block(height).ok().flatten()
    }

    /// The write-ahead log is gone, as after a lost file.
    pub(crate) fn lose_wal(&self) {
        for name in ["wal/even", "wal/odd"] {
            self.volume.remove(&path(name));
        }
    }

    /// A bit of the write-ahead log flips, or its end is gone.
    pub(crate) fn damage_wal(&self, rng: &mut Rng) {
        let name = path(if rng.chance(500) { "wal/even" } else { "wal/odd" });
        let used = self.used(&name);
        if rng.chance(500) {
            self.volume.flip(&name, rng.below(used * 8));
        } else {
            self.volume.zero(&name, rng.below(used)..u64::MAX);
        }
    }

    /// A bit of the guard flips.
    pub(crate) fn damage_guard(&self, rng: &mut Rng) {
        let name = path("guard/state");
        let used = self.used(&name);
        self.volume.flip(&name, rng.below(used * 8));
    }

    /// Bytes of a file up to its last that is not zero, among the first 64 KiB.
    fn used(&self, name: &Path) -> u64 {
        let bytes = self.volume.bytes(name, 0..131_072);
        bytes.iter().rposition(|byte| *byte != 0).map_or(1, |at| at as u64 + 1)
    }

    pub(crate) fn copy(&self) -> Snapshot {
        self.volume.snapshot()
    }

    pub(crate) fn restore(&self, copy: &Snapshot) {
        self.volume.restore(copy);
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(HOME).join(name)
}
