//! The index's builder: a thread that follows the log, and merges runs when it has nothing better to do.
//!
//! Promises: it holds no lock while it reads the log or writes runs; it ends within one step of [`Builder::drop`]; it
//! deletes and rebuilds what is doubtful. Work is done in slices of some milliseconds, at low priority.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fusion_types::Height;

use super::merge::Merge;
use super::run::{self, ChunkWriter, Key};
use super::{Doubt, Index, Manifest, Tree};
use crate::store::StoreError;
use crate::store::reader::Shared;

/// Entries that make a run.
const BATCH_ENTRIES: usize = 16 * 1024;

/// Fewer entries make a run too after this time, and as many heights without any move the cursor.
const BATCH_AGE: Duration = Duration::from_secs(2);
const BATCH_HEIGHTS: u64 = 1024;

/// Runs of one level that are merged into one of the next.
const FANOUT: usize = 8;

/// Chunks that are merged or removed in one slice.
const SLICE_CHUNKS: usize = 64;

/// Priority of the thread: below consensus when the index is built anew, yet not starved on a busy machine.
const NICE: i32 = 5;

/// Pause between slices, so that merging neither takes a processor for itself nor fills memory with what `sled` frees
/// late.
const SLICE_PAUSE: Duration = Duration::from_millis(10);

/// Pause after a failure, so that a bad disk does not cost a processor too.
const PAUSE: Duration = Duration::from_secs(5);

/// Name of the builder's thread.
pub(in crate::store) const fn thread_name() -> &'static str {
    "index"
}

/// The thread and its end.
#[derive(Debug)]
pub(in crate::store) struct Builder {
    index: Arc<Index>,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Builder {
    /// Starts to index what `shared` shows.
    pub(in crate::store) fn start(index: Arc<Index>, shared: Arc<Shared>) -> Result<Self, StoreError> {
        let (wake, woken) = sync_channel(1);
        let work = Work {
            index: index.clone(),
            shared,
            woken,
            merge: None,
            first: None,
        };
        let thread = std::thread::Builder::new()
            .name(thread_name().into())
            .spawn(move || work.run());
        let thread = thread.map_err(|error| StoreError::io("start the thread of", &index.dir, error))?;
        Ok(Self {
            index,
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// Says that there is something new. Never waits: one wake-up is enough for any number of blocks.
    pub(in crate::store) fn wake(&self) {
        if let Some(wake) = &self.wake {
            match wake.try_send(()) {
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            }
        }
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // Its panics were reported by the panic hook; there is nothing to save.
            drop(thread.join());
        }
        // Readers that live on must not hold the folder's lock.
        self.index.state.write().unwrap_or_else(PoisonError::into_inner).tree = None;
    }
}

struct Work {
    index: Arc<Index>,
    shared: Arc<Shared>,
    woken: Receiver<()>,
    merge: Option<Merge>,
    /// When the first of the fresh entries was pulled.
    first: Option<Instant>,
}

/// Why the builder stops what it does.
enum Stop {
    /// The store is closed.
    Closed,
    /// The index is doubtful.
    Doubt(Doubt),
    /// The log cannot be read.
    Log(StoreError),
}

impl From<Doubt> for Stop {
    fn from(doubt: Doubt) -> Self {
        Self::Doubt(doubt)
    }
}

impl Work {
    fn run(mut self) {
        // On Linux this is the priority of the calling thread alone. Without it the index only competes harder.
        let _unchanged = rustix::process::setpriority_process(None, NICE);
        let mut fresh_start = false;
        loop {
            let stop = match self.open(fresh_start) {
                Ok(tree) => self.follow(&tree),
                Err(stop) => stop,
            };
            self.close();
            match stop {
                Stop::Closed => return,
                Stop::Doubt(Doubt(what)) => {
                    tracing::warn!(path = %self.index.dir.display(), what, "the index is doubtful and is built again");
                    if fresh_start && self.pause().is_err() {
                        return;
                    }
                    fresh_start = true;
                }
                Stop::Log(error) => {
                    tracing::error!(%error, "the index cannot go on");
                    if self.pause().is_err() {
                        return;
                    }
                    fresh_start = false;
                }
            }
        }
    }

    /// Waits; an error when the store is closed.
    fn pause(&self) -> Result<(), Stop> {
        let until = Instant::now() + PAUSE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.woken.recv_timeout(left) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Stop::Closed),
            }
        }
    }

    fn close(&mut self) {
        self.merge = None;
        self.first = None;
        let mut state = self.index.write();
        let tree = state.tree.take();
        state.fresh.clear();
        state.fresh_count = 0;
        state.manifest = Manifest::empty(self.index.genesis);
        state.pulled = Height(0);
        state.doubtful = false;
        drop(state);
        // `sled` may panic once more when it is dropped after damage.
        drop(Tree::guarded(|| {
            drop(tree);
            Ok(())
        }));
    }

    /// Opens the tree and checks its cursor against the log; with `anew` after deleting it.
    fn open(&mut self, anew: bool) -> Result<Tree, Stop> {
        let dir = &self.index.dir;
        if anew && dir.exists() {
            let removed = std::fs::remove_dir_all(dir);
            removed.map_err(|error| Stop::Log(StoreError::io("delete", dir, error)))?;
        }
        let tree = Tree::open(dir)?;
        let manifest = tree.manifest(self.index.network)?;
        let manifest = manifest.unwrap_or_else(|| Manifest::empty(self.index.genesis));
        if manifest.height > Height(0) {
            let block = self.shared.block(manifest.height).map_err(Stop::Log)?;
            if block.is_none_or(|block| block.block.id() != manifest.block) {
                let what = format!("height {} of the log has another block", manifest.height);
                return Err(Stop::Doubt(Doubt(what)));
            }
        }
        // What an interrupted write or merge left.
        while !tree.remove(manifest.next_run..=u64::MAX >> 8, SLICE_CHUNKS)? {}
        let mut state = self.index.write();
        state.tree = Some(tree.clone());
        state.pulled = manifest.height;
        self.index.indexed.send_replace(manifest.height);
        state.manifest = manifest;
        Ok(tree)
    }

    fn follow(&mut self, tree: &Tree) -> Stop {
        loop {
            match self.turn(tree) {
                Ok(()) => {}
                Err(stop) => return stop,
            }
        }
    }

    /// Pulls what is there, writes a run when it is time, does a slice of housekeeping, or waits.
    fn turn(&mut self, tree: &Tree) -> Result<(), Stop> {
        if self.index.read().doubtful {
            return Err(Stop::Doubt(Doubt("a reader found damage".into())));
        }
        let more = self.pull()?;
        self.flush(tree)?;
        let busy = self.housekeep(tree)?;
        let wait = match (more, busy) {
            (true, _) => Duration::ZERO,
            (false, true) => SLICE_PAUSE,
            (false, false) => BATCH_AGE / 4,
        };
        match self.woken.recv_timeout(wait) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err(Stop::Closed),
        }
    }

    /// Takes blocks up to the tip, or until a run is full; true if there are more.
    fn pull(&mut self) -> Result<bool, Stop> {
        loop {
            let state = self.index.read();
            let (pulled, full) = (state.pulled, state.fresh_count >= BATCH_ENTRIES);
            let far = pulled.0 - state.manifest.height.0 >= BATCH_HEIGHTS;
            drop(state);
            if full || far {
                return Ok(true);
            }
            let height = pulled.next();
            let Some(decided) = self.shared.block(height).map_err(Stop::Log)? else {
                return Ok(false);
            };
            let mut entries = Vec::with_capacity(decided.block.block().transaction_count());
            for (body, hashes) in decided.block.lanes() {
                let lane = &body.lane;
                let key = run::lane_key(lane.rollup, lane.first_sequence);
                entries.push((key, run::value(height, hashes.len() - 1)));
                for (index, hash) in hashes.iter().enumerate() {
                    let key = run::transaction_key(lane.rollup, hash);
                    entries.push((key, run::value(height, index)));
                }
            }
            entries.sort_unstable();
            let mut state = self.index.write();
            state.fresh_count += entries.len();
            if !entries.is_empty() {
                state.fresh.push(entries);
            }
            state.pulled = height;
            drop(state);
            self.first.get_or_insert_with(Instant::now);
        }
    }

    /// Writes the fresh entries as a run, when they are many or old.
    fn flush(&mut self, tree: &Tree) -> Result<(), Stop> {
        let state = self.index.read();
        let mut manifest = state.manifest.clone();
        let heights = state.pulled.0 - manifest.height.0;
        let old = self.first.is_some_and(|first| first.elapsed() >= BATCH_AGE) && !state.fresh.is_empty();
        if state.fresh_count < BATCH_ENTRIES && heights < BATCH_HEIGHTS && !old {
            return Ok(());
        }
        let run = manifest.next_run;
        let mut writer = ChunkWriter::new(run);
        // Sorted lists one after the other are quick to sort, and of equal keys the later block's stays behind.
        let mut entries: Vec<(Key, u64)> = state.fresh.concat();
        entries.sort_by_key(|(key, _)| *key);
        let latest = entries.chunk_by(|a, b| a.0 == b.0).filter_map(<[(Key, u64)]>::last);
        let mut chunks: Vec<_> = latest.filter_map(|(key, value)| writer.push(key, *value)).collect();
        if !state.fresh.is_empty() {
            chunks.push(writer.finish());
            manifest.runs.push((run, 0));
            manifest.next_run += 1;
        }
        manifest.height = state.pulled;
        drop(state);
        let block = self.shared.block(manifest.height).map_err(Stop::Log)?;
        manifest.block = block.map_or(manifest.block, |block| block.block.id());
        for chunk in chunks {
            tree.put_chunk(chunk)?;
        }
        tree.put_manifest(&manifest, self.index.network)?;
        let mut state = self.index.write();
        let height = manifest.height;
        state.manifest = manifest;
        state.fresh.clear();
        state.fresh_count = 0;
        drop(state);
        self.index.indexed.send_replace(height);
        self.first = None;
        Ok(())
    }

    /// A slice of merging or removing; true if there is more to do.
    fn housekeep(&mut self, tree: &Tree) -> Result<bool, Stop> {
        if let Some(merge) = &mut self.merge {
            if merge.step(tree, SLICE_CHUNKS)? {
                let merged = self.merge.take().map(|merge| (merge.inputs(), merge.output()));
                let (inputs, output) = merged.expect("it was there a line above");
                self.change(tree, |manifest| manifest.merged(&inputs, output))?;
            }
            return Ok(true);
        }
        let manifest = self.index.read().manifest.clone();
        if let Some(inputs) = due(&manifest.runs) {
            let output = manifest.next_run;
            // Listed as dropped until it is whole, so that an interrupted merge leaves nothing behind.
            self.change(tree, |manifest| {
                manifest.next_run += 1;
                manifest.dropped.push(output);
            })?;
            self.merge = Some(Merge::new(inputs, output));
            return Ok(true);
        }
        let Some(run) = manifest.dropped.first().copied() else {
            return Ok(false);
        };
        if tree.remove(run..=run, SLICE_CHUNKS)? {
            self.change(tree, |manifest| manifest.dropped.retain(|other| *other != run))?;
        }
        Ok(true)
    }

    /// Changes the manifest, first in the tree, then for the readers.
    fn change(&self, tree: &Tree, change: impl FnOnce(&mut Manifest)) -> Result<(), Doubt> {
        let mut manifest = self.index.read().manifest.clone();
        change(&mut manifest);
        tree.put_manifest(&manifest, self.index.network)?;
        self.index.write().manifest = manifest;
        Ok(())
    }
}

/// The oldest runs of the lowest level that has enough of them to merge.
fn due(runs: &[(u64, u8)]) -> Option<Vec<u64>> {
    let mut groups = runs.chunk_by(|a, b| a.1 == b.1).rev();
    let group = groups.find(|group| group.len() >= FANOUT)?;
    Some(group[..FANOUT].iter().map(|(run, _)| *run).collect())
}
