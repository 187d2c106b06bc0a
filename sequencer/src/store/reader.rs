//! Reading what is decided: fresh blocks from memory, older ones from the log.
//!
//! Promises: a block that is returned has the id that its certificate names and the height asked for; every checksum
//! on the way to it was verified. Reads use `pread` on files of their own and hold no lock while they do, so they never
//! hold up the writer. Memory is bounded by [`Options::recent_bytes`](super::Options) and [`SEGMENTS_OPEN_MAX`]. Leaves
//! to others: to verify certificates (whoever trusts the disk less than that runs `fusion db check`).

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use alloy_primitives::Bytes;
use fusion_types::{BlockId, DecidedBlock, Height, NetworkId, RollupId, TxHash};
use tokio::sync::watch;

use super::StoreError;
use super::index::Index;
use super::segment::Segment;
use super::volume::Volume;

/// Complete segments that are kept open with the places of their decisions.
const SEGMENTS_OPEN_MAX: usize = 8;

/// Memory that a decided block takes beyond its encoding, in bytes: for itself, and for each transaction.
const BLOCK_MEMORY_BYTES: usize = 2048;
const TRANSACTION_MEMORY_BYTES: usize = 64;

/// Where a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Height of its block.
    pub height: Height,
    /// Its index in its rollup's lane there.
    pub index: u32,
}

/// A decided block as it lies in the log: checksums verified, not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBlock {
    /// Its height.
    pub height: Height,
    /// Canonical RLP of the block.
    pub body: Bytes,
    /// Canonical RLP of its certificate.
    pub certificate: Bytes,
}

/// Reads what is decided. Cheap to clone; never holds up the writer.
#[derive(Debug, Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
    index: Arc<Index>,
}

/// What the writer shows to all readers.
#[derive(Debug)]
pub(super) struct Shared {
    volume: Arc<dyn Volume>,
    dir: PathBuf,
    network: NetworkId,
    segments: RwLock<Segments>,
    /// Complete segments in use, the last used at the end.
    open: Mutex<VecDeque<Arc<Segment>>>,
    recent: RwLock<Recent>,
    watch: watch::Sender<Height>,
}

#[derive(Debug)]
struct Segments {
    /// Number and last height before it, of all segments.
    anchors: Vec<(u64, Height)>,
    /// The one that grows.
    last: Arc<Segment>,
}

/// The blocks of the last heights, without a gap up to the tip.
#[derive(Debug)]
struct Recent {
    tip: (Height, BlockId),
    blocks: VecDeque<Arc<DecidedBlock>>,
    bytes: usize,
    bytes_max: usize,
}

fn memory_of(decided: &DecidedBlock) -> usize {
    let transactions = decided.block.block().transaction_count();
    decided.block.encoded().len() + BLOCK_MEMORY_BYTES + transactions * TRANSACTION_MEMORY_BYTES
}

impl Recent {
    fn push(&mut self, decided: Arc<DecidedBlock>) {
        self.tip = (decided.certificate.height, decided.block.id());
        self.bytes += memory_of(&decided);
        self.blocks.push_back(decided);
        while self.bytes > self.bytes_max && self.blocks.len() > 1 {
            let old = self.blocks.pop_front();
            self.bytes -= old.map_or(0, |old| memory_of(&old));
        }
    }

    fn get(&self, height: Height) -> Option<Arc<DecidedBlock>> {
        let first = self.blocks.front()?.certificate.height;
        let index = usize::try_from(height.0.checked_sub(first.0)?).ok()?;
        self.blocks.get(index).cloned()
    }
}

impl Shared {
    pub(super) fn new(
        volume: Arc<dyn Volume>,
        dir: PathBuf,
        network: NetworkId,
        anchors: Vec<(u64, Height)>,
        last: Arc<Segment>,
        tip: (Height, BlockId),
        bytes_max: usize,
    ) -> Self {
        let recent = Recent {
            tip,
            blocks: VecDeque::new(),
            bytes: 0,
            bytes_max,
        };
        Self {
            volume,
            dir,
            network,
            segments: RwLock::new(Segments { anchors, last }),
            open: Mutex::default(),
            recent: RwLock::new(recent),
            watch: watch::Sender::new(tip.0),
        }
    }

    /// Shows decided blocks, the last of which is the new tip.
    pub(super) fn publish(&self, decided: impl Iterator<Item = Arc<DecidedBlock>>) {
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        decided.for_each(|block| recent.push(block));
        let height = recent.tip.0;
        drop(recent);
        self.watch
            .send_if_modified(|tip| std::mem::replace(tip, height) != height);
    }

    /// Shows a new last segment.
    pub(super) fn rotated(&self, segment: Arc<Segment>) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.anchors.push((segment.number, segment.anchor));
        let full = std::mem::replace(&mut segments.last, segment);
        drop(segments);
        self.keep_open(full);
    }

    pub(super) fn tip(&self) -> (Height, BlockId) {
        self.recent.read().unwrap_or_else(PoisonError::into_inner).tip
    }

    /// The recent blocks above `height`, from the tip down, and the height above which they are complete.
    pub(super) fn recent_above(&self, height: Height) -> (Vec<Arc<DecidedBlock>>, Height) {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let blocks = recent.blocks.iter().rev();
        let fresh = blocks.take_while(|block| block.certificate.height > height).cloned();
        let fresh: Vec<_> = fresh.collect();
        let complete = fresh
            .last()
            .map_or(recent.tip.0, |block| Height(block.certificate.height.0 - 1));
        (fresh, complete)
    }

    pub(super) fn block(&self, height: Height) -> Result<Option<Arc<DecidedBlock>>, StoreError> {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let (tip, found) = (recent.tip.0, recent.get(height));
        drop(recent);
        if found.is_some() || height == Height(0) || height > tip {
            return Ok(found);
        }
        let block = self.segment_of(height)?.block(height)?;
        Ok(Some(Arc::new(block)))
    }

    fn raw(&self, height: Height) -> Result<Option<RawBlock>, StoreError> {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let (tip, found) = (recent.tip.0, recent.get(height));
        drop(recent);
        if let Some(decided) = found {
            return Ok(Some(RawBlock {
                height,
                body: decided.block.encoded().clone(),
                certificate: fusion_types::encode(&decided.certificate).into(),
            }));
        }
        if height == Height(0) || height > tip {
            return Ok(None);
        }
        let (raw, _) = self.segment_of(height)?.raw(height)?;
        Ok(Some(raw))
    }

    /// The segment that has the decision of `height`, which is at most the tip.
    fn segment_of(&self, height: Height) -> Result<Arc<Segment>, StoreError> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let at = segments.anchors.partition_point(|(_, anchor)| *anchor < height);
        let Some((number, _)) = at.checked_sub(1).and_then(|at| segments.anchors.get(at)).copied() else {
            return Ok(segments.last.clone());
        };
        if number == segments.last.number {
            return Ok(segments.last.clone());
        }
        let last = segments.anchors.get(at).map_or(height, |(_, anchor)| *anchor);
        drop(segments);
        if let Some(segment) = self.find_open(number) {
            return Ok(segment);
        }
        let (segment, _) = Segment::open(&*self.volume, &self.dir, number, self.network)?;
        segment.find_decisions(last)?;
        let segment = Arc::new(segment);
        self.keep_open(segment.clone());
        Ok(segment)
    }

    fn find_open(&self, number: u64) -> Option<Arc<Segment>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let at = open.iter().position(|segment| segment.number == number)?;
        let segment = open.remove(at)?;
        open.push_back(segment.clone());
        Some(segment)
    }

    fn keep_open(&self, segment: Arc<Segment>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|other| other.number != segment.number);
        if open.len() == SEGMENTS_OPEN_MAX {
            open.pop_front();
        }
        open.push_back(segment);
    }
}

impl LogReader {
    pub(super) fn new(shared: Arc<Shared>, index: Arc<Index>) -> Self {
        Self { shared, index }
    }

    /// The last decided height and its block; the genesis block at height 0.
    pub fn tip(&self) -> (Height, BlockId) {
        self.shared.tip()
    }

    /// The decided block of `height`; `None` above the tip and at height 0, which nobody decided.
    /// Blocks of the last seconds come from memory.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when what lies there is not that block; [`StoreError::Io`].
    pub fn block(&self, height: Height) -> Result<Option<Arc<DecidedBlock>>, StoreError> {
        self.shared.block(height)
    }

    /// Decided blocks from `from` to `to` inclusive: as many as exist and as fit `bytes_max`, but one at least.
    ///
    /// # Errors
    /// As [`LogReader::block`], when the first block cannot be read; the range ends before any other such block.
    pub fn range(&self, from: Height, to: Height, bytes_max: usize) -> Result<Vec<Arc<DecidedBlock>>, StoreError> {
        let size = |block: &Arc<DecidedBlock>| block.block.encoded().len();
        bounded(from, to, bytes_max, |height| self.shared.block(height), size)
    }

    /// [`LogReader::range`] without decoding the blocks: for whoever passes them on.
    ///
    /// # Errors
    /// As [`LogReader::range`].
    pub fn raw_range(&self, from: Height, to: Height, bytes_max: usize) -> Result<Vec<RawBlock>, StoreError> {
        let size = |raw: &RawBlock| raw.body.len() + raw.certificate.len();
        bounded(from, to, bytes_max, |height| self.shared.raw(height), size)
    }

    /// Where the decided transaction `hash` of `rollup` stands; `None` if no decided block has it. If its stream
    /// carries it more than once, the last of its places.
    ///
    /// # Errors
    /// [`StoreError::Indexing`] when it was not found and the index is behind.
    pub fn place_of(&self, rollup: RollupId, hash: TxHash) -> Result<Option<Place>, StoreError> {
        self.index.place_of(&self.shared, rollup, hash)
    }

    /// The height whose lane of `rollup` holds `sequence`; `None` if it is not decided yet.
    ///
    /// # Errors
    /// [`StoreError::Indexing`] when it was not found and the index is behind.
    pub fn height_of(&self, rollup: RollupId, sequence: u64) -> Result<Option<Height>, StoreError> {
        self.index.height_of(&self.shared, rollup, sequence)
    }

    /// Up to which height the index on disk reaches; above it the blocks in memory answer.
    pub fn indexed(&self) -> Height {
        self.index.indexed()
    }

    /// The tip's height, and a wake-up at every change.
    pub fn subscribe(&self) -> watch::Receiver<Height> {
        self.shared.watch.subscribe()
    }
}

/// Reads heights one after the other until there is no more, `bytes_max` is used up or one cannot be read.
fn bounded<T>(
    from: Height,
    to: Height,
    bytes_max: usize,
    read: impl Fn(Height) -> Result<Option<T>, StoreError>,
    size: impl Fn(&T) -> usize,
) -> Result<Vec<T>, StoreError> {
    let (mut items, mut bytes) = (Vec::new(), 0_usize);
    for height in from.0..=to.0 {
        let item = match read(Height(height)) {
            Ok(Some(item)) => item,
            Err(error) if items.is_empty() => return Err(error),
            Ok(None) | Err(_) => break,
        };
        bytes = bytes.saturating_add(size(&item));
        if bytes > bytes_max && !items.is_empty() {
            break;
        }
        items.push(item);
    }
    Ok(items)
}
