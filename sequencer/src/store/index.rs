//! The index: transaction to place, sequence number to height. The one file that names `sled`.
//!
//! `sled` 0.34 neither syncs what it flushes nor notices all damage, and random inserts cost it ten times its memory
//! budget. So it holds sorted runs with checksums of our own (`index/run.rs`), and it is never believed: the cursor
//! must be a block of the log, bounds of chunks must meet, and at any doubt the folder is deleted and built again.
//!
//! | key | value |
//! |---|---|
//! | `manifest` | version (1), network (32), indexed height (8), its block (32), next run (8), number of runs (4), runs as (id 8, level 1), number of dropped runs (4), their ids (8 each), CRC32C (4) |
//! | run (8), bound (17) | a chunk |
//!
//! Promises: an answer is right or absent; not found is said only when everything up to the tip was looked at. Memory
//! is bounded by `sled`'s cache, one batch and one block. Leaves to others: to read the block and build a receipt.

mod build;
mod merge;
mod run;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use alloy_primitives::B256;
use fusion_types::{BlockId, DecidedBlock, Height, NetworkId, RollupId, TxHash};
use tokio::sync::watch;

use super::StoreError;
use super::reader::{Place, Shared};
use run::{Chunk, Key, Written};

pub(super) use build::{Builder, thread_name as build_thread};

const MANIFEST: &[u8] = b"manifest";
const VERSION: u8 = 1;

/// Memory that `sled` may use for its pages, in bytes.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// How often `sled` writes its changes to disk, in milliseconds.
const FLUSH_INTERVAL_MS: u64 = 10_000;

/// The index is doubtful and must be built again.
#[derive(Debug)]
struct Doubt(String);

/// The index, shared by its builder and the readers.
#[derive(Debug)]
pub(super) struct Index {
    dir: PathBuf,
    network: NetworkId,
    genesis: BlockId,
    state: RwLock<State>,
    indexed: watch::Sender<Height>,
}

#[derive(Debug)]
struct State {
    /// `None` before it is opened and after it is closed.
    tree: Option<Tree>,
    manifest: Manifest,
    /// Entries of the blocks above the manifest's cursor, up to `pulled`: a sorted list for each block that has any.
    fresh: Vec<Vec<(Key, u64)>>,
    fresh_count: usize,
    pulled: Height,
    /// A reader found damage; the builder will start again.
    doubtful: bool,
}

/// What the tree holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Manifest {
    height: Height,
    block: BlockId,
    next_run: u64,
    /// Id and level, oldest first. A run of level n is made of 8 runs of level n − 1.
    runs: Vec<(u64, u8)>,
    /// Runs of which chunks may be left.
    dropped: Vec<u64>,
}

/// What a block says of a key.
enum Found {
    Value(u64),
    No,
}

impl Index {
    pub(super) fn new(dir: PathBuf, network: NetworkId, genesis: BlockId) -> Self {
        let state = State {
            tree: None,
            manifest: Manifest::empty(genesis),
            fresh: Vec::new(),
            fresh_count: 0,
            pulled: Height(0),
            doubtful: false,
        };
        Self {
            dir,
            network,
            genesis,
            state: RwLock::new(state),
            indexed: watch::Sender::new(Height(0)),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn indexed(&self) -> Height {
        *self.indexed.borrow()
    }

    /// The indexed height, and a wake-up at every change.
    #[cfg(test)]
    pub(super) fn subscribe(&self) -> watch::Receiver<Height> {
        self.indexed.subscribe()
    }

    pub(super) fn place_of(
        &self,
        shared: &Shared,
        rollup: RollupId,
        hash: TxHash,
    ) -> Result<Option<Place>, StoreError> {
        let key = run::transaction_key(rollup, &hash);
        let in_block = |decided: &DecidedBlock| {
            let mut lanes = decided.block.lanes();
            let (_, hashes) = lanes.find(|(body, _)| body.lane.rollup == rollup)?;
            let index = hashes.iter().rposition(|other| *other == hash)?;
            Some(run::value(decided.certificate.height, index))
        };
        let accept = |found: Key, value| {
            if found == key { Found::Value(value) } else { Found::No }
        };
        let found = self.find(shared, &key, in_block, accept)?;
        Ok(found.map(|value| {
            let (height, index) = run::parts(value);
            Place { height, index }
        }))
    }

    pub(super) fn height_of(
        &self,
        shared: &Shared,
        rollup: RollupId,
        sequence: u64,
    ) -> Result<Option<Height>, StoreError> {
        let key = run::lane_key(rollup, sequence);
        let in_block = |decided: &DecidedBlock| {
            let lane = &decided.block.block().lane(rollup)?.lane;
            let inside = sequence.checked_sub(lane.first_sequence)? < lane.count;
            inside.then(|| run::value(decided.certificate.height, 0))
        };
        let accept = |found: Key, value| match run::lane_of(&found) {
            Some((of, first)) if of == rollup && sequence - first <= u64::from(run::parts(value).1) => {
                Found::Value(value)
            }
            _ => Found::No,
        };
        let found = self.find(shared, &key, in_block, accept)?;
        Ok(found.map(|value| run::parts(value).0))
    }

    /// Looks into the newest first: blocks that the builder has not pulled, its fresh entries, then the runs. Entries
    /// move in the other direction, so none is missed.
    fn find(
        &self,
        shared: &Shared,
        key: &Key,
        in_block: impl Fn(&DecidedBlock) -> Option<u64>,
        accept: impl Fn(Key, u64) -> Found,
    ) -> Result<Option<u64>, StoreError> {
        let state = self.read();
        let (blocks, complete_above) = shared.recent_above(state.pulled);
        if let Some(value) = blocks.iter().find_map(|block| in_block(block)) {
            return Ok(Some(value));
        }
        for block in state.fresh.iter().rev() {
            let floor = block.partition_point(|(other, _)| other <= key).checked_sub(1);
            if let Some(Found::Value(value)) = floor.map(|at| accept(block[at].0, block[at].1)) {
                return Ok(Some(value));
            }
        }
        let mut damaged = false;
        if let Some(tree) = &state.tree {
            for (run, _) in state.manifest.runs.iter().rev() {
                match tree.floor(*run, key) {
                    Ok(Some((found, value))) => {
                        if let Found::Value(value) = accept(found, value) {
                            return Ok(Some(value));
                        }
                    }
                    Ok(None) => {}
                    Err(_) => damaged = true,
                }
            }
        }
        let doubtful = damaged || state.doubtful || state.tree.is_none();
        let unknown = doubtful || complete_above > state.pulled;
        // Up to there everything was looked at.
        let indexed = if doubtful { Height(0) } else { state.pulled };
        drop(state);
        if damaged {
            self.write().doubtful = true;
        }
        if unknown {
            let (tip, _) = shared.tip();
            return Err(StoreError::Indexing { indexed, tip });
        }
        Ok(None)
    }
}

impl Manifest {
    fn empty(genesis: BlockId) -> Self {
        Self {
            height: Height(0),
            block: genesis,
            next_run: 1,
            runs: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// The runs `inputs`, which are neighbours, are one now: `output`.
    fn merged(&mut self, inputs: &[u64], output: u64) {
        let level = self
            .runs
            .iter()
            .find(|(run, _)| inputs.contains(run))
            .map_or(0, |(_, level)| *level);
        let at = self.runs.iter().position(|(run, _)| inputs.contains(run)).unwrap_or(0);
        self.runs.retain(|(run, _)| !inputs.contains(run));
        self.runs.insert(at, (output, level.saturating_add(1)));
        self.dropped.retain(|run| *run != output);
        self.dropped.extend(inputs);
    }

    fn encode(&self, network: NetworkId) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(network.0.as_slice());
        bytes.extend_from_slice(&self.height.0.to_be_bytes());
        bytes.extend_from_slice(self.block.0.as_slice());
        bytes.extend_from_slice(&self.next_run.to_be_bytes());
        bytes.extend_from_slice(&u32::try_from(self.runs.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (run, level) in &self.runs {
            bytes.extend_from_slice(&run.to_be_bytes());
            bytes.push(*level);
        }
        bytes.extend_from_slice(&u32::try_from(self.dropped.len()).unwrap_or(u32::MAX).to_be_bytes());
        for run in &self.dropped {
            bytes.extend_from_slice(&run.to_be_bytes());
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8], network: NetworkId) -> Option<Self> {
        let (mut rest, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if crc != crc32c::crc32c(rest).to_be_bytes() {
            return None;
        }
        let rest = &mut rest;
        if take::<1>(rest)? != [VERSION] || take::<32>(rest)? != network.0.0 {
            return None;
        }
        let height = Height(u64::from_be_bytes(take(rest)?));
        let block = BlockId(B256::from(take::<32>(rest)?));
        let next_run = u64::from_be_bytes(take(rest)?);
        let mut runs = Vec::new();
        for _ in 0..u32::from_be_bytes(take(rest)?) {
            runs.push((u64::from_be_bytes(take(rest)?), take::<1>(rest)?[0]));
        }
        let mut dropped = Vec::new();
        for _ in 0..u32::from_be_bytes(take(rest)?) {
            dropped.push(u64::from_be_bytes(take(rest)?));
        }
        rest.is_empty().then_some(Self {
            height,
            block,
            next_run,
            runs,
            dropped,
        })
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk()?;
    *bytes = tail;
    Some(*head)
}

/// `sled`, with its errors and its panics turned into doubt.
#[derive(Debug, Clone)]
struct Tree(sled::Db);

impl Tree {
    fn open(dir: &Path) -> Result<Self, Doubt> {
        let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES);
        // Every flush of its own competes with those that consensus waits for, and what is lost is built again.
        let config = config.flush_every_ms(Some(FLUSH_INTERVAL_MS));
        Self::guarded(|| config.open().map(Self))
    }

    fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, Doubt> {
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Doubt(error.to_string())),
            Err(_) => Err(Doubt("the index's database panicked".into())),
        }
    }

    fn manifest(&self, network: NetworkId) -> Result<Option<Manifest>, Doubt> {
        let Some(bytes) = Self::guarded(|| self.0.get(MANIFEST))? else {
            return Ok(None);
        };
        let manifest = Manifest::decode(&bytes, network);
        manifest
            .map(Some)
            .ok_or_else(|| Doubt("its manifest does not decode".into()))
    }

    fn put_manifest(&self, manifest: &Manifest, network: NetworkId) -> Result<(), Doubt> {
        let bytes = manifest.encode(network);
        Self::guarded(|| self.0.insert(MANIFEST, bytes)).map(drop)
    }

    fn put_chunk(&self, (key, bytes): Written) -> Result<(), Doubt> {
        Self::guarded(|| self.0.insert(key, bytes)).map(drop)
    }

    /// The last entry of `run` with a key of at most `key`, unless it stands in a chunk that does not reach to `key`.
    fn floor(&self, run: u64, key: &Key) -> Result<Option<(Key, u64)>, Doubt> {
        let range = run::chunk_key(run, &run::FIRST)..=run::chunk_key(run, key);
        let found = Self::guarded(|| self.0.range(range).next_back().transpose())?;
        let (at, bytes) = found.ok_or_else(|| Doubt(format!("run {run} lost a chunk")))?;
        let chunk = Chunk::decode(&at, &bytes).ok_or_else(|| Doubt(format!("a chunk of run {run} is damaged")))?;
        if *key >= chunk.upper {
            return Err(Doubt(format!("run {run} lost a chunk")));
        }
        Ok(chunk.floor(key))
    }

    /// The chunk of `run` with this lower bound, as entries, and its upper bound.
    fn chunk(&self, run: u64, lower: &Key) -> Result<(Vec<(Key, u64)>, Key), Doubt> {
        let key = run::chunk_key(run, lower);
        let bytes = Self::guarded(|| self.0.get(key))?;
        let bytes = bytes.ok_or_else(|| Doubt(format!("run {run} lost a chunk")))?;
        let chunk = Chunk::decode(&key, &bytes).ok_or_else(|| Doubt(format!("a chunk of run {run} is damaged")))?;
        let entries = (0..chunk.len()).filter_map(|index| chunk.entry(index)).collect();
        Ok((entries, chunk.upper))
    }

    /// Removes up to `max` chunks of the runs in `range`; true if there are no more.
    fn remove(&self, range: std::ops::RangeInclusive<u64>, max: usize) -> Result<bool, Doubt> {
        let range = run::chunk_key(*range.start(), &run::FIRST)..=run::chunk_key(*range.end(), &run::LAST);
        Self::guarded(|| {
            let keys = self.0.range(range).keys().take(max).collect::<sled::Result<Vec<_>>>()?;
            for key in &keys {
                self.0.remove(key)?;
            }
            Ok(keys.len() < max)
        })
    }
}
