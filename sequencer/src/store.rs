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
//! The order of a commit: a decision is durable before the guard that follows it, and before a record of the WAL
//! overwrites a height that this very batch decides; all else is synced at the same time, each file once. Space is
//! reserved before anything is written, so a full disk refuses a batch as a whole. A failed write or sync after that is
//! fatal: nobody knows what is on the disk then, and syncing again would not tell.

mod check;
mod disk;
pub(crate) use disk::lock_soon;
mod error;
mod evidence;
mod flush;
mod frame;
mod guard;
mod index;
mod log;
mod reader;
mod repair;
mod segment;
#[cfg(test)]
mod tests;
mod wal;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::Bytes;
use fusion_types::{Certificate, DecidedBlock, Genesis, Height, SealedBlock, State};

pub use check::{Report, check};
pub use error::StoreError;
pub use evidence::EvidenceFile;
pub use guard::{create as create_guard, path_in as guard_path};
pub use reader::{LogReader, Place, RawBlock};
pub use repair::{RepairError, Repaired, repair};

use flush::{Flusher, Written};
use frame::Write;
use guard::Guard;
use index::{Builder, Index, build_thread};
use log::{Batch, Log};
use reader::Shared;
use wal::Wal;

/// Something to make durable.
#[derive(Debug, Clone)]
pub enum Record {
    /// The body of a proposal, recorded before this node prevotes for it. May stay undecided.
    Body(Arc<SealedBlock>),
    /// The decision of the next height; its body is in an earlier batch or earlier in this one.
    Decision(Certificate),
    /// A record of the write-ahead log of `height`, which is the one after the last decided. Records of heights that this
    /// batch or an earlier one decides are dropped: the decision stands for them.
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
pub const GUARD_BYTES_MAX: usize = 448;

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
    /// Bytes of an unfinished write that were cut from the end of the log.
    pub cut_bytes: u64,
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

/// The one writer. Dropping it stops the index and frees the folder; readers go on with the blocks that are there.
#[derive(Debug)]
pub struct Store {
    log: Log,
    wal: Wal,
    guard: Guard,
    shared: Arc<Shared>,
    index: Arc<Index>,
    builder: Builder,
    flusher: Flusher,
    /// The first fatal error.
    poison: Option<String>,
    /// Held as long as the store is open.
    _locks: [File; 2],
}

impl Store {
    /// Opens or creates the store of `genesis` below `home`. Reads the log's last segment; the index opens in the
    /// background.
    ///
    /// # Errors
    /// [`StoreError`]: locked, of another network, damaged, or the system's own.
    pub fn open(home: &Path, genesis: &Genesis, options: Options) -> Result<(Self, Recovered), StoreError> {
        let network = genesis.network();
        let log_dir = home.join("log");
        let guard_dir = options.guard_dir.unwrap_or_else(|| home.join("guard"));
        disk::create_dir(home)?;
        disk::create_dir(&log_dir)?;
        disk::create_dir(&guard_dir)?;
        let locks = [disk::lock(&log_dir)?, disk::lock(&guard_dir)?];
        let opened = Log::open(&log_dir, genesis, options.segment_bytes)?;
        let (guard, contents) = Guard::open(&guard_dir, network)?;
        let tip = opened.log.tip();
        let used = tip.0 > Height(0) || !opened.bodies.is_empty() || contents.is_some();
        let (wal, recovered_wal) = Wal::open(&home.join("wal"), network, tip.0.next(), used)?;
        let segment = opened.log.segment().clone();
        let shared = Shared::new(log_dir, network, opened.segments, segment, tip, options.recent_bytes);
        let shared = Arc::new(shared);
        let tip = shared.block(tip.0)?;
        if let Some(decided) = &tip {
            verify_tip(decided, genesis, &opened.log)?;
        }
        let index = Arc::new(Index::new(home.join("index"), network, genesis.block().id()));
        let builder = Builder::start(index.clone(), shared.clone())?;
        if opened.cut_bytes > 0 {
            tracing::warn!(
                bytes = opened.cut_bytes,
                "cut an unfinished write from the end of the log"
            );
        }
        let recovered = Recovered {
            state: opened.state,
            tip,
            bodies: opened.bodies,
            wal: recovered_wal,
            guard: contents,
            cut_bytes: opened.cut_bytes,
        };
        let store = Self {
            log: opened.log,
            wal,
            guard,
            shared,
            index,
            builder,
            flusher: Flusher::start()?,
            poison: None,
            _locks: locks,
        };
        Ok((store, recovered))
    }

    /// Makes `records` durable, all or nothing; `state` is the replicated state after the last decision among them.
    /// Readers see the decided blocks when it returns.
    ///
    /// # Errors
    /// [`StoreError::Full`]: nothing of the batch counts, and it may be tried again. [`StoreError::Order`]: the batch is
    /// refused as a whole, a defect of the caller. Everything else is fatal, and so is every call after it.
    pub fn commit(&mut self, records: &[Record], state: &State) -> Result<(), StoreError> {
        if let Some(why) = &self.poison {
            return Err(StoreError::Poisoned(why.clone()));
        }
        let staged = self.stage(records, state)?;
        let written = self.write(&staged);
        let done = written.and_then(|()| self.accept(staged.batch, state));
        done.inspect_err(|error| {
            if !error.may_retry() {
                self.poison = Some(error.to_string());
            }
        })
    }

    /// A handle to read what is decided.
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.shared.clone(), self.index.clone())
    }

    /// Encodes the batch and checks that it continues what is there.
    fn stage(&self, records: &[Record], state: &State) -> Result<Stage, StoreError> {
        let mut batch = self.log.batch();
        let (mut wal, mut guard) = (Vec::new(), None);
        for record in records {
            match record {
                Record::Body(block) => Log::add_body(&mut batch, block)?,
                Record::Decision(certificate) => self.log.add_decision(&mut batch, certificate)?,
                Record::Wal { height, bytes } => wal.push((*height, bytes)),
                Record::Guard(contents) => guard = Some(contents.clone()),
            }
        }
        let (tip, id) = batch.tip();
        if !batch.decided.is_empty() && (state.height, state.block) != (tip, id) {
            let what = format!("state is of height {}, the last decision of height {tip}", state.height);
            return Err(StoreError::Order(what));
        }
        let height = tip.next();
        if let Some((above, _)) = wal.iter().find(|(other, _)| *other > height) {
            let what = format!("write-ahead record of height {above} while {height} is next");
            return Err(StoreError::Order(what));
        }
        let current = wal.into_iter().filter(|(other, _)| *other == height);
        let current: Vec<&Bytes> = current.map(|(_, bytes)| bytes).collect();
        let wal = if current.is_empty() {
            None
        } else {
            Some((height, self.wal.prepare(height, &current)?))
        };
        Ok(Stage { batch, wal, guard })
    }

    fn write(&mut self, staged: &Stage) -> Result<(), StoreError> {
        self.log.reserve(&staged.batch)?;
        if let Some((height, write)) = &staged.wal {
            self.wal.reserve(*height, write)?;
        }
        if let Some(contents) = &staged.guard {
            self.guard.reserve(contents)?;
        }
        let log = self.log.write(&staged.batch)?;
        // From here on the batch counts, at least in part: it can neither be taken back nor tried again.
        let written = self.write_rest(staged, log);
        written.map_err(|error| match error {
            StoreError::Full { .. } => StoreError::Poisoned(error.to_string()),
            other => other,
        })
    }

    /// Writes WAL and guard, and syncs everything, in as few waits as the order allows.
    fn write_rest(&mut self, staged: &Stage, log: Option<Written>) -> Result<(), StoreError> {
        let decisions = staged.batch.decided.len();
        // The WAL's file holds the height two below. It is durable already, unless this batch decides more than one.
        let wal_waits = decisions > 1;
        // A guard ahead of the log would silence this node for nothing.
        let guard_waits = decisions > 0;
        let mut files: Vec<Written> = log.into_iter().collect();
        if !wal_waits {
            files.extend(self.write_wal(staged)?);
        }
        if !guard_waits {
            files.extend(self.write_guard(staged)?);
        }
        self.flusher.flush(files)?;
        let mut files = Vec::new();
        if wal_waits {
            files.extend(self.write_wal(staged)?);
        }
        if guard_waits {
            files.extend(self.write_guard(staged)?);
        }
        self.flusher.flush(files)?;
        if staged.guard.is_some() {
            self.guard.written()?;
        }
        Ok(())
    }

    fn write_wal(&mut self, staged: &Stage) -> Result<Option<Written>, StoreError> {
        let wal = staged.wal.as_ref();
        wal.map(|(height, write)| self.wal.write(*height, write)).transpose()
    }

    fn write_guard(&mut self, staged: &Stage) -> Result<Option<Written>, StoreError> {
        staged
            .guard
            .as_ref()
            .map(|contents| self.guard.write(contents))
            .transpose()
    }

    /// The batch is durable: shows it to the readers, and starts the next segment when it is time.
    fn accept(&mut self, batch: Batch, state: &State) -> Result<(), StoreError> {
        let decided = self.log.accept(batch);
        if decided.is_empty() {
            return Ok(());
        }
        for staged in &decided {
            self.log.segment().push_decision(staged.offset);
        }
        self.shared.publish(decided.into_iter().map(|staged| staged.block));
        self.builder.wake();
        if self.log.is_full() {
            match self.log.rotate(state) {
                Ok(()) => self.shared.rotated(self.log.segment().clone()),
                Err(StoreError::Full { path }) => {
                    tracing::warn!(path = %path.display(), "no space for the next segment")
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A batch, encoded for each file.
struct Stage {
    batch: Batch,
    wal: Option<(Height, Write)>,
    guard: Option<Bytes>,
}

/// Height of the last decided block in the log below `home`, 0 if there is none: for commands, while no node runs on the folder.
///
/// # Errors
/// As [`Store::open`], of which this is the part that reads the log.
pub fn log_height(home: &Path, genesis: &Genesis, segment_bytes: u64) -> Result<Height, StoreError> {
    let dir = home.join("log");
    if !dir.exists() {
        return Ok(Height(0));
    }
    let _lock = disk::lock(&dir)?;
    Ok(Log::open(&dir, genesis, segment_bytes)?.state.height)
}

/// The tip is what this node builds on, so its certificate is verified at every start. Certificates of other epochs than the
/// genesis' are left to the full check.
fn verify_tip(decided: &DecidedBlock, genesis: &Genesis, log: &Log) -> Result<(), StoreError> {
    let committee = genesis.committee();
    if decided.certificate.epoch != committee.epoch() {
        return Ok(());
    }
    let verified = decided.certificate.verify(genesis.network(), committee);
    verified.map_err(|error| StoreError::corrupt(&log.segment().path, 0, decided.certificate.height, error.to_string()))
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
