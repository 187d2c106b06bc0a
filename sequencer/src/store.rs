//! Everything that a node keeps on disk: block log, write-ahead log, guard file, index.
//!
//! Promises: what [`Store::commit`] returned `Ok` for survives a power cut; what a [`LogReader`] returns was
//! verified against its checksums and the block id that its certificate names; damage is named with file, offset and
//! height, and never taken for an answer. Leaves to others: what to record (`core`), what WAL and guard contents
//! mean (`fusion-consensus`), and to end the process after a fatal error (`node`).
//!
//! | below the home folder | what it is |
//! |---|---|
//! | `log/00000001.seg`, … | the block log: bodies and decisions; the only authority (`store/segment.rs`) |
//! | `wal/even`, `wal/odd` | what consensus must remember of the height in progress (`store/wal.rs`) |
//! | `guard/state` | the last signatures of this node's key (`store/guard.rs`) |
//! | `evidence` | signatures that convict validators (`store/evidence.rs`) |
//! | `index/` | transaction and sequence number to height; built again at any doubt (`store/index.rs`) |
//!
//! What is durable, and the order in which it becomes so, is [`Files`]; [`Store`] adds the readers' index and its
//! thread. Both stand on a [`Volume`], so that the simulator runs the same code on a disk that fails.

mod check;
mod disk;
mod error;
mod evidence;
mod files;
mod flush;
mod frame;
mod guard;
mod index;
mod local;
mod log;
mod reader;
mod repair;
mod segment;
#[cfg(test)]
mod tests;
mod volume;
mod wal;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::Bytes;
use fusion_types::{Certificate, DecidedBlock, Genesis, Height, SealedBlock, State};

pub use check::{Report, check};
pub use error::StoreError;
pub use evidence::EvidenceFile;
pub use files::Files;
pub use guard::{create as create_guard, path_in as guard_path};
pub use local::LocalVolume;
pub(crate) use local::lock_soon;
pub use reader::{LogReader, Place, RawBlock};
pub use repair::{RepairError, Repaired, repair};
pub use volume::{Volume, VolumeFile};

use index::{Builder, Index, build_thread};
use log::Log;

/// Something to make durable.
#[derive(Debug, Clone)]
pub enum Record {
    /// The body of a proposal, recorded before this node prevotes for it. May stay undecided.
    Body(Arc<SealedBlock>),
    /// The decision of the next height; its body is in an earlier batch or earlier in this one.
    Decision(Certificate),
    /// A record of the write-ahead log of `height`, which is the one after the last decided. Records of heights that
    /// this batch or an earlier one decides are dropped: the decision stands for them.
    Wal {
        /// The height in progress.
        height: Height,
        /// Opaque to the store; at most 8 MiB.
        bytes: Bytes,
    },
    /// The guard's new contents, at most [`GUARD_BYTES_MAX`] bytes; the last of a batch counts.
    Guard(Bytes),
}

/// Largest contents of the guard file, in bytes.
pub const GUARD_BYTES_MAX: usize = 416;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of the guard file; `guard` below the home folder if `None`.
    pub guard_dir: Option<PathBuf>,
    /// Size at which a segment of the log ends, in bytes; reserved on disk at once.
    pub segment_bytes: u64,
    /// Memory for the most recent decided blocks, in bytes.
    pub recent_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            guard_dir: None,
            segment_bytes: 128 * 1024 * 1024,
            recent_bytes: 16 * 1024 * 1024,
        }
    }
}

/// What was on disk.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The replicated state after the last decided block; the genesis state if there is none.
    pub state: State,
    /// The last decided block; `None` at genesis.
    pub tip: Option<Arc<DecidedBlock>>,
    /// Bodies above the last decision, in the order of writing.
    pub bodies: Vec<Arc<SealedBlock>>,
    /// The write-ahead log of the height after the tip.
    pub wal: RecoveredWal,
    /// The guard's contents; `None` if there is no guard file.
    pub guard: Option<Bytes>,
    /// Whether the guard's file shows that contents written later may be lost.
    pub guard_doubtful: bool,
    /// Bytes of an unfinished write that were cut from the end of the log.
    pub cut_bytes: u64,
}

impl Recovered {
    /// Whether nothing is known to be missing of what this node said at the height in progress. Otherwise its key must
    /// not sign there.
    pub fn remembers_all(&self) -> bool {
        self.wal.status == WalStatus::Readable && !self.guard_doubtful
    }
}

/// What the write-ahead log says of the height after the tip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredWal {
    /// Whether `records` is all that was durable, as far as the file can tell.
    pub status: WalStatus,
    /// The readable records, in order.
    pub records: Vec<Bytes>,
}

/// Whether the write-ahead log can be trusted to be complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalStatus {
    /// No sign of damage. The guard may still know of a later signature: then the last records are lost.
    Readable,
    /// There is no file, although this node has run before.
    Missing,
    /// Damaged: records that were durable may be lost.
    Unreadable,
}

/// The one writer, and what serves readers. Dropping it stops the index and frees the folder; readers go on with the
/// blocks that are there.
#[derive(Debug)]
pub struct Store {
    index: Arc<Index>,
    builder: Builder,
    /// Last, so that the folders are free only when the index is closed.
    files: Files,
}

impl Store {
    /// Opens or creates the store of `genesis` below `home`. Reads the log's last segment; the index opens in the
    /// background.
    ///
    /// # Errors
    /// [`StoreError`]: locked, of another network, damaged, or the system's own.
    pub fn open(home: &Path, genesis: &Genesis, options: Options) -> Result<(Self, Recovered), StoreError> {
        let (files, recovered) = Files::open(LocalVolume::shared(), home, genesis, options)?;
        let index = Index::new(home.join("index"), genesis.network(), genesis.block().id());
        let index = Arc::new(index);
        let builder = Builder::start(index.clone(), files.shared().clone())?;
        let store = Self { index, builder, files };
        Ok((store, recovered))
    }

    /// Makes `records` durable, all or nothing; `state` is the replicated state after the last decision among them.
    /// Readers see the decided blocks when it returns.
    ///
    /// # Errors
    /// As [`Files::commit`].
    pub fn commit(&mut self, records: &[Record], state: &State) -> Result<(), StoreError> {
        let tip = self.files.tip();
        self.files.commit(records, state)?;
        if self.files.tip() != tip {
            self.builder.wake();
        }
        Ok(())
    }

    /// A handle to read what is decided.
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.files.shared().clone(), self.index.clone())
    }
}

/// Height of the last decided block in the log below `home`, 0 if there is none: for commands, while no node runs on
/// the folder.
///
/// # Errors
/// As [`Store::open`], of which this is the part that reads the log.
pub fn log_height(
    volume: &Arc<dyn Volume>,
    home: &Path,
    genesis: &Genesis,
    segment_bytes: u64,
) -> Result<Height, StoreError> {
    let dir = home.join("log");
    if !volume.is_folder(&dir) {
        return Ok(Height(0));
    }
    let _lock = disk::lock(&**volume, &dir)?;
    Ok(Log::open(volume, &dir, genesis, segment_bytes)?.state.height)
}

/// The command that mends the log below `home`, as an operator types it.
pub fn repair_command(home: &Path) -> String {
    format!(
        "fusion db repair --home {} --url http://ANOTHER-NODE:7101",
        home.display()
    )
}

/// Whether a panic on the thread of this name is expected and survived: the index's builder and `sled`'s own threads.
pub fn may_panic(thread: &str) -> bool {
    thread == build_thread() || thread.starts_with("sled-")
}
