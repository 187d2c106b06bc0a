//! The writer of the block log: appends batches, starts new segments, and recovers the end after a crash.
//!
//! Promises: what was synced after [`Log::write`] is found again by [`Log::open`]; opening reads the last segment only;
//! bytes are cut from the end only where an unfinished write explains them. Leaves to others: when to sync
//! (`store.rs`), and all reading of decided blocks (`reader.rs`).

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fusion_types::limits::BLOCK_BYTES_MAX;
use fusion_types::{
    Block, BlockId, Certificate, DecidedBlock, Genesis, Height, NetworkId, SealedBlock, State, decode_exact, encode,
};

use super::flush::Written;
use super::frame::{Frame, Kind, Write};
use super::segment::{Decision, Header, Segment, path_of};
use super::volume::Volume;
use super::{StoreError, disk};

/// Undecided bodies kept in memory; older ones are read back when they are decided after all.
const BODIES_MAX: usize = 8;

/// By how much the last segment grows when it is full and cannot be followed by the next one yet, in bytes.
const GROWTH_BYTES: u64 = 16 * 1024 * 1024;

/// A body that is not decided yet.
#[derive(Debug, Clone)]
struct Pending {
    id: BlockId,
    height: Height,
    offset: u64,
    length: u32,
    block: Option<Arc<SealedBlock>>,
}

/// A decision of the batch at hand.
#[derive(Debug, Clone)]
pub(super) struct Staged {
    pub block: Arc<DecidedBlock>,
    pub offset: u64,
}

/// A batch that is encoded but not written.
#[derive(Debug)]
pub(super) struct Batch {
    pub write: Write,
    pending: VecDeque<Pending>,
    pub decided: Vec<Staged>,
    tip: (Height, BlockId),
}

impl Batch {
    /// The tip when this batch is durable.
    pub(super) fn tip(&self) -> (Height, BlockId) {
        self.tip
    }
}

/// The writer.
#[derive(Debug)]
pub(super) struct Log {
    volume: Arc<dyn Volume>,
    dir: PathBuf,
    network: NetworkId,
    segment_bytes: u64,
    /// Length at which the next segment is due.
    full_at: u64,
    segment: Arc<Segment>,
    /// Where the next write starts.
    tail: u64,
    /// Up to where space is reserved.
    reserved: u64,
    pending: VecDeque<Pending>,
    tip: (Height, BlockId),
}

/// What [`Log::open`] found.
#[derive(Debug)]
pub(super) struct Opened {
    pub log: Log,
    /// All segments, as (number, last height before it).
    pub segments: Vec<(u64, Height)>,
    pub state: State,
    pub bodies: Vec<Arc<SealedBlock>>,
    pub cut_bytes: u64,
}

impl Log {
    /// Opens the log in `dir`, or starts one.
    pub(super) fn open(
        volume: &Arc<dyn Volume>,
        dir: &Path,
        genesis: &Genesis,
        segment_bytes: u64,
    ) -> Result<Opened, StoreError> {
        let network = genesis.network();
        let mut anchors = Vec::new();
        let mut last = None;
        for number in numbers(&**volume, dir)? {
            let (segment, state) = Segment::open(&**volume, dir, number, network)?;
            anchors.push((number, segment.anchor));
            last = Some((segment, state));
        }
        let (segment, state) = match last {
            Some((segment, state)) => {
                // What a process left behind that was killed between a write and its sync, or whose sync failed, is
                // settled before it is read.
                disk::settle(&*segment.file, &segment.path)?;
                (segment, state)
            }
            None => (first(&**volume, dir, genesis, segment_bytes)?, genesis.state()),
        };
        let anchors = if anchors.is_empty() {
            vec![(1, Height(0))]
        } else {
            anchors
        };
        let mut scan = Scan {
            segment: &segment,
            genesis,
            state,
            pending: VecDeque::new(),
            bodies: VecDeque::new(),
            offset: segment.start,
        };
        scan.run()?;
        let (tail, state, pending) = (scan.offset, scan.state, scan.pending);
        let cut_bytes = cut(&segment, tail, state.height)?;
        let mut bodies = Vec::new();
        for pending in &pending {
            let frame = segment.frames().prefix(pending.offset)?;
            let frame = frame
                .ok_or_else(|| StoreError::corrupt(&segment.path, pending.offset, pending.height, "it changed"))?;
            bodies.push(segment.body(&frame, pending.id)?);
        }
        let reserved = disk::length_of(&*segment.file, &segment.path)?;
        let log = Self {
            volume: volume.clone(),
            dir: dir.to_owned(),
            network,
            segment_bytes,
            full_at: segment_bytes,
            tail,
            reserved,
            pending,
            tip: (state.height, state.block),
            segment: Arc::new(segment),
        };
        Ok(Opened {
            log,
            segments: anchors,
            state,
            bodies,
            cut_bytes,
        })
    }

    /// The segment that grows.
    pub(super) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// The last decided height and its block.
    pub(super) fn tip(&self) -> (Height, BlockId) {
        self.tip
    }

    /// Puts another file in the place of the segment's: one that fails.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: Arc<dyn super::VolumeFile>) {
        self.segment = Arc::new(self.segment.with_file(file));
    }

    /// An empty batch.
    pub(super) fn batch(&self) -> Batch {
        Batch {
            write: Write::new(self.tail, self.segment.salt),
            pending: self.pending.clone(),
            decided: Vec::new(),
            tip: self.tip,
        }
    }

    /// Adds a body, unless it is there already or its height is decided.
    pub(super) fn add_body(batch: &mut Batch, block: &Arc<SealedBlock>) -> Result<(), StoreError> {
        let (id, height) = (block.id(), block.header().height);
        if height <= batch.tip.0 || batch.pending.iter().any(|pending| pending.id == id) {
            return Ok(());
        }
        let length = u32::try_from(block.encoded().len()).expect("a sealed block is below 4 MiB");
        let offset = batch.write.push(Kind::Body, height, &[block.encoded()])?;
        batch.pending.push_back(Pending {
            id,
            height,
            offset,
            length,
            block: Some(block.clone()),
        });
        if let Some(old) = batch.pending.len().checked_sub(BODIES_MAX + 1) {
            batch.pending[old].block = None;
        }
        Ok(())
    }

    /// Adds the decision of the next height.
    pub(super) fn add_decision(&self, batch: &mut Batch, certificate: &Certificate) -> Result<(), StoreError> {
        let (height, parent) = batch.tip;
        if certificate.height != height.next() {
            let what = format!("decision of height {} after height {height}", certificate.height);
            return Err(StoreError::Order(what));
        }
        let body = batch.pending.iter().find(|pending| pending.id == certificate.block);
        let body = body.ok_or_else(|| StoreError::Order(format!("decision of height {height} without its body")))?;
        let block = match &body.block {
            Some(block) => block.clone(),
            None => self.read_back(body)?,
        };
        if block.header().height != certificate.height || block.header().parent != parent {
            let what = format!("block {} does not follow height {height}", certificate.block);
            return Err(StoreError::Order(what));
        }
        let parts = [
            &Decision::pointer(body.offset, body.length)[..],
            &encode(certificate)[..],
        ];
        let offset = batch.write.push(Kind::Decision, certificate.height, &parts)?;
        batch.tip = (certificate.height, certificate.block);
        batch.pending.retain(|pending| pending.height > certificate.height);
        let block = Arc::new(DecidedBlock {
            block,
            certificate: certificate.clone(),
        });
        batch.decided.push(Staged { block, offset });
        Ok(())
    }

    fn read_back(&self, body: &Pending) -> Result<Arc<SealedBlock>, StoreError> {
        let frame = self.segment.frames().prefix(body.offset)?;
        let frame = frame.filter(|frame| frame.length == body.length);
        let lost = || {
            StoreError::corrupt(
                &self.segment.path,
                body.offset,
                body.height,
                "the body's prefix is wrong",
            )
        };
        self.segment.body(&frame.ok_or_else(lost)?, body.id)
    }

    /// Reserves the space that `batch` needs. Nothing is written yet.
    pub(super) fn reserve(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let needed = batch.write.end();
        if needed <= self.reserved {
            return Ok(());
        }
        let generous = needed + GROWTH_BYTES.min(self.segment_bytes);
        let reserved = disk::allocate(&*self.segment.file, &self.segment.path, generous);
        let reserved = match reserved {
            Err(StoreError::Full { .. }) => {
                disk::allocate(&*self.segment.file, &self.segment.path, needed)?;
                needed
            }
            other => other.map(|()| generous)?,
        };
        self.reserved = reserved;
        Ok(())
    }

    /// Writes `batch`, if there is anything to write.
    pub(super) fn write(&mut self, batch: &Batch) -> Result<Option<Written>, StoreError> {
        if batch.write.bytes.is_empty() {
            return Ok(None);
        }
        let (file, path) = (&self.segment.file, &self.segment.path);
        let written = disk::write_at(&**file, path, &batch.write.bytes, batch.write.start());
        if let Err(error) = written {
            // Whatever was written must not be found by a later start behind a shorter batch.
            disk::truncate(&**file, path, self.tail)?;
            self.reserved = self.tail;
            return Err(error);
        }
        Ok(Some(Written {
            file: file.clone(),
            path: path.clone(),
        }))
    }

    /// The batch is durable: the log now ends with it.
    pub(super) fn accept(&mut self, batch: Batch) -> Vec<Staged> {
        self.tail = batch.write.end();
        self.pending = batch.pending;
        self.tip = batch.tip;
        batch.decided
    }

    /// Whether the next segment should be started: this one is full, and ends with a decision.
    pub(super) fn is_full(&self) -> bool {
        self.tail >= self.full_at && self.pending.is_empty()
    }

    /// Starts the next segment; `state` is the replicated state at the tip.
    pub(super) fn rotate(&mut self, state: &State) -> Result<(), StoreError> {
        let header = Header {
            network: self.network,
            number: self.segment.number + 1,
            salt: disk::salt(&*self.volume)?,
            state: state.clone(),
        };
        // If there is no space, this segment grows on, and it is tried again later.
        self.full_at = self.tail + GROWTH_BYTES;
        let segment = Segment::create(&*self.volume, &self.dir, &header, self.segment_bytes)?;
        self.full_at = self.segment_bytes;
        // The space that the last batches left over.
        disk::truncate(&*self.segment.file, &self.segment.path, self.tail)?;
        self.tail = segment.start;
        self.reserved = disk::length_of(&*segment.file, &segment.path)?;
        self.segment = Arc::new(segment);
        Ok(())
    }
}

fn first(volume: &dyn Volume, dir: &Path, genesis: &Genesis, length: u64) -> Result<Segment, StoreError> {
    let header = Header {
        network: genesis.network(),
        number: 1,
        salt: disk::salt(volume)?,
        state: genesis.state(),
    };
    Segment::create(volume, dir, &header, length)
}

/// The numbers of the segments in `dir`: 1, 2, … without a gap.
pub(super) fn numbers(volume: &dyn Volume, dir: &Path) -> Result<Vec<u64>, StoreError> {
    let numbers = listed(volume, dir)?;
    for (expected, found) in (1..).zip(&numbers) {
        if expected != *found {
            return Err(StoreError::corrupt(
                &path_of(dir, expected),
                0,
                Height(0),
                "the file is missing",
            ));
        }
    }
    Ok(numbers)
}

/// The numbers of the segments that are in `dir`, ascending.
pub(super) fn listed(volume: &dyn Volume, dir: &Path) -> Result<Vec<u64>, StoreError> {
    let names = volume.names(dir).map_err(|error| StoreError::io("list", dir, error))?;
    let mut numbers = Vec::new();
    for name in names {
        let number = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Cuts what an unfinished write left behind `tail`; refuses when it was durable once.
fn cut(segment: &Segment, tail: u64, height: Height) -> Result<u64, StoreError> {
    let (file, path) = (&*segment.file, &segment.path);
    let Some(end) = torn_end(segment, tail, height)? else {
        return Ok(0);
    };
    let length = disk::length_of(file, path)?;
    disk::truncate(file, path, tail)?;
    // Without space the segment stays short, and grows with the next batch.
    match disk::allocate(file, path, length) {
        Ok(()) | Err(StoreError::Full { .. }) => {}
        Err(error) => return Err(error),
    }
    disk::sync_all(file, path)?;
    Ok(end - tail)
}

/// The end of an unfinished write at `tail`, if there is one.
pub(super) fn torn_end(segment: &Segment, tail: u64, height: Height) -> Result<Option<u64>, StoreError> {
    let Some(end) = segment.frames().data_end(tail)? else {
        return Ok(None);
    };
    let witness = segment.frames().search(tail, |frame| frame.write_start > tail)?;
    if let Some(witness) = witness {
        let what = format!(
            "a record is damaged, and what follows at offset {} is not",
            witness.offset
        );
        return Err(StoreError::corrupt(&segment.path, tail, height.next(), what));
    }
    Ok(Some(end))
}

/// The reading of the last segment at the start.
struct Scan<'a> {
    segment: &'a Segment,
    genesis: &'a Genesis,
    state: State,
    pending: VecDeque<Pending>,
    /// What `pending` holds, decoded but not hashed.
    bodies: VecDeque<Block>,
    offset: u64,
}

impl Scan<'_> {
    fn run(&mut self) -> Result<(), StoreError> {
        while let Some(frame) = self.segment.frames().prefix(self.offset)? {
            let max = match frame.kind {
                Kind::Body => BLOCK_BYTES_MAX,
                Kind::Decision => super::segment::DECISION_BYTES_MAX,
                Kind::Wal => break,
            };
            let Some(payload) = self.segment.frames().payload(&frame, max)? else {
                break;
            };
            match frame.kind {
                Kind::Body => self.body(&frame, &payload)?,
                _ => self.decision(&frame)?,
            }
            self.offset = frame.end();
        }
        Ok(())
    }

    fn corrupt(&self, frame: &Frame, what: impl Into<String>) -> StoreError {
        StoreError::corrupt(&self.segment.path, frame.offset, frame.height, what)
    }

    fn body(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), StoreError> {
        let block: Block = decode_exact(payload).map_err(|error| self.corrupt(frame, error.to_string()))?;
        if frame.height <= self.state.height {
            return Ok(());
        }
        self.pending.push_back(Pending {
            id: block.id(),
            height: frame.height,
            offset: frame.offset,
            length: frame.length,
            block: None,
        });
        self.bodies.push_back(block);
        Ok(())
    }

    fn decision(&mut self, frame: &Frame) -> Result<(), StoreError> {
        let decision = self.segment.decision(frame)?;
        let id = decision.certificate.block;
        let place = (decision.body_offset, decision.body_length);
        let index = self
            .pending
            .iter()
            .position(|pending| pending.id == id && (pending.offset, pending.length) == place);
        let index = index.ok_or_else(|| self.corrupt(frame, "the decision's body is not where it says"))?;
        let applied = self.state.apply(&self.bodies[index], id, self.genesis.committee());
        applied.map_err(|error| self.corrupt(frame, error.to_string()))?;
        let height = frame.height;
        if self.state.height != height {
            return Err(self.corrupt(frame, "the decision is of another height than its block"));
        }
        self.segment.push_decision(frame.offset);
        let keep: Vec<bool> = self.pending.iter().map(|pending| pending.height > height).collect();
        let mut kept = keep.iter();
        self.pending.retain(|_| *kept.next().unwrap_or(&false));
        let mut kept = keep.iter();
        self.bodies.retain(|_| *kept.next().unwrap_or(&false));
        Ok(())
    }
}
