//! What a node has made durable: block log, write-ahead log and guard, and the order of a commit.
//!
//! The order of a commit: a decision is durable before the guard that follows it, and before a record of the WAL
//! overwrites a height that this very batch decides; all else is synced at the same time, each file once. Space is
//! reserved before anything is written, so a full disk refuses a batch as a whole. A failed write or sync after that is
//! fatal: nobody knows what is on the disk then, and syncing again would not tell. Opening syncs what it finds, drops
//! what memory holds of it, and reads the disk: a process that was killed may have written it, one whose sync failed
//! may have left in memory what is not on the disk.
//!
//! Promises: what [`Files::commit`] returned `Ok` for is what [`Files::open`] finds, whatever happened in between, or
//! the damage is named: in an error, in [`WalStatus`](super::WalStatus), or by a guard that knows more than the
//! write-ahead log. Leaves to others: the index (`store.rs`), and the threads that may wait for the disk (`flush.rs`).

use std::path::Path;
use std::sync::Arc;

use alloy_primitives::Bytes;
use fusion_types::{BlockId, DecidedBlock, Genesis, Height, State};

use super::flush::{Flusher, Written};
use super::frame::Write;
use super::guard::{Guard, Mark, Redo};
use super::log::{Batch, Log};
use super::reader::Shared;
use super::volume::{Volume, VolumeFile};
use super::wal::Wal;
use super::{Options, Record, Recovered, StoreError, disk};

/// The durable part of a store, without threads of its own but those that the volume lets sync. One writer.
#[derive(Debug)]
pub struct Files {
    log: Log,
    wal: Wal,
    guard: Guard,
    shared: Arc<Shared>,
    flusher: Flusher,
    /// The first fatal error.
    poison: Option<String>,
    /// Held as long as the files are open.
    _locks: [Arc<dyn VolumeFile>; 2],
}

impl Files {
    /// Opens or creates the files of `genesis` below `home` on `volume`. Reads the log's last segment.
    ///
    /// # Errors
    /// [`StoreError`]: locked, of another network, damaged, or the system's own.
    pub fn open(
        volume: Arc<dyn Volume>,
        home: &Path,
        genesis: &Genesis,
        options: Options,
    ) -> Result<(Self, Recovered), StoreError> {
        let network = genesis.network();
        let log_dir = home.join("log");
        let guard_dir = options.guard_dir.unwrap_or_else(|| home.join("guard"));
        let wal_dir = home.join("wal");
        disk::create_dir(&*volume, home)?;
        if !volume.is_folder(&log_dir) {
            disk::settle_name(&*volume, home)?;
        }
        for folder in [&log_dir, &guard_dir, &wal_dir] {
            disk::create_dir(&*volume, folder)?;
        }
        let locks = [disk::lock(&*volume, &log_dir)?, disk::lock(&*volume, &guard_dir)?];
        let opened = Log::open(&volume, &log_dir, genesis, options.segment_bytes)?;
        let tip = opened.log.tip();
        // The WAL of a height that is decided may be written over: that its commit has ended shows in the log.
        let shows = |mark: &Mark| Ok(mark.height <= tip.0 || Wal::shows(&*volume, &wal_dir, network, mark)?);
        let (guard, contents) = Guard::open(&volume, &guard_dir, network, &shows)?;
        let redo = contents.as_ref().and_then(|contents| contents.redo.as_ref());
        if let Some(redo) = redo.filter(|redo| redo.height == tip.0.next()) {
            Wal::redo(&*volume, &wal_dir, network, redo)?;
        }
        let used = tip.0 > Height(0) || !opened.bodies.is_empty() || contents.is_some();
        let (wal, recovered_wal) = Wal::open(&*volume, &wal_dir, network, tip.0.next(), used)?;
        // Names, too, that a process left behind which was killed before it synced them.
        if contents.is_none() {
            disk::settle_name(&*volume, &guard_dir)?;
        }
        for folder in [home, &log_dir, &guard_dir, &wal_dir] {
            disk::sync_dir(&*volume, folder)?;
        }
        let segment = opened.log.segment().clone();
        let flusher = Flusher::start(volume.sync_threads())?;
        let shared = Shared::new(
            volume,
            log_dir,
            network,
            opened.segments,
            segment,
            tip,
            options.recent_bytes,
        );
        let tip = shared.block(tip.0)?;
        if let Some(decided) = &tip {
            verify_tip(decided, genesis, &opened.log)?;
        }
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
            guard_doubtful: contents.as_ref().is_some_and(|contents| contents.doubtful),
            guard: contents.map(|contents| contents.bytes),
            cut_bytes: opened.cut_bytes,
        };
        let files = Self {
            log: opened.log,
            wal,
            guard,
            shared: Arc::new(shared),
            flusher,
            poison: None,
            _locks: locks,
        };
        Ok((files, recovered))
    }

    /// Makes `records` durable, all or nothing; `state` is the replicated state after the last decision among them.
    /// [`Files::block`] has the decided blocks when it returns.
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

    /// The last decided height and its block; the genesis block at height 0.
    pub fn tip(&self) -> (Height, BlockId) {
        self.log.tip()
    }

    /// The decided block of `height`; `None` above the tip and at height 0.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when what lies there is not that block; [`StoreError::Io`].
    pub fn block(&self, height: Height) -> Result<Option<Arc<DecidedBlock>>, StoreError> {
        self.shared.block(height)
    }

    /// What readers see.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// For tests that put a failing file in its place.
    #[cfg(test)]
    pub(super) fn log_mut(&mut self) -> &mut Log {
        &mut self.log
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
        let wal = staged.wal.as_ref();
        let redo = wal.and_then(|(height, write)| self.wal.redo_of(*height, write));
        // A guard ahead of the log would silence this node for nothing, and so would one ahead of the WAL that cannot
        // bring the WAL after it.
        let guard_waits = decisions > 0 || redo.is_some() != staged.wal.is_some();
        let mut files: Vec<Written> = log.into_iter().collect();
        if !wal_waits {
            files.extend(self.write_wal(staged)?);
        }
        if !guard_waits {
            files.extend(self.write_guard(staged, redo.as_ref())?);
        }
        self.flusher.flush(files)?;
        let mut files = Vec::new();
        if wal_waits {
            files.extend(self.write_wal(staged)?);
        }
        if guard_waits {
            files.extend(self.write_guard(staged, redo.as_ref())?);
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

    fn write_guard(&mut self, staged: &Stage, redo: Option<&Redo>) -> Result<Option<Written>, StoreError> {
        staged
            .guard
            .as_ref()
            .map(|contents| self.guard.write(contents, redo))
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

/// The tip is what this node builds on, so its certificate is verified at every start. Certificates of other epochs
/// than the genesis' are left to the full check.
fn verify_tip(decided: &DecidedBlock, genesis: &Genesis, log: &Log) -> Result<(), StoreError> {
    let committee = genesis.committee();
    if decided.certificate.epoch != committee.epoch() {
        return Ok(());
    }
    let verified = decided.certificate.verify(genesis.network(), committee);
    verified.map_err(|error| StoreError::corrupt(&log.segment().path, 0, decided.certificate.height, error.to_string()))
}
