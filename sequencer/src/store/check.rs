//! The full check of a block log: `fusion db check`.
//!
//! Promises: it trusts nothing but the genesis. Every checksum, every block's body against its header, every
//! certificate, the chain, the streams, the header's committee and state root are verified, and every segment's header
//! against the state that follows from the blocks before it. It writes nothing. Leaves to others: WAL and guard, of
//! which the start itself sees all there is to see, and the index, which is built again at any doubt.

use std::path::Path;

use fusion_types::limits::BLOCK_BYTES_MAX;
use fusion_types::{BlockId, DecidedBlock, Genesis, Height, State};

use super::frame::{Frame, Kind};
use super::segment::{DECISION_BYTES_MAX, Segment, path_of};
use super::volume::Volume;
use super::{StoreError, disk, log};

/// Bytes between two calls of `progress`.
const PROGRESS_BYTES: u64 = 16 * 1024 * 1024;

/// What a full check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Decided blocks, all verified.
    pub blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// Segment files.
    pub segments: u64,
    /// Bytes of records.
    pub bytes: u64,
    /// The last decided height.
    pub tip: Height,
    /// Its block; the genesis block at height 0.
    pub tip_id: BlockId,
    /// Bodies that were not decided.
    pub undecided: u64,
    /// Bytes of an unfinished write at the end, which the next start will cut.
    pub torn_bytes: u64,
}

/// Verifies everything in the log below `home`. `progress` is called now and then with the bytes that were verified and
/// the bytes in all.
///
/// # Errors
/// The first damage found; [`StoreError::Locked`] while a node runs on the folder; [`StoreError::Io`] if there is no
/// log.
pub fn check(
    volume: &dyn Volume,
    home: &Path,
    genesis: &Genesis,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, StoreError> {
    let dir = home.join("log");
    let _lock = disk::lock(volume, &dir)?;
    let numbers = log::numbers(volume, &dir)?;
    let mut check = Check::start(volume, &dir, &numbers, genesis, progress)?;
    for number in &numbers {
        check.file(&dir, *number, *number == numbers.len() as u64)?;
    }
    Ok(check.finish())
}

/// A full check in progress.
pub(super) struct Check<'a> {
    volume: &'a dyn Volume,
    genesis: &'a Genesis,
    /// After the last block that was verified.
    pub state: State,
    pub report: Report,
    progress: &'a mut dyn FnMut(u64, u64),
    told: u64,
    total: u64,
}

impl<'a> Check<'a> {
    /// A check of the segments `numbers` in `dir`, before the first.
    pub(super) fn start(
        volume: &'a dyn Volume,
        dir: &Path,
        numbers: &[u64],
        genesis: &'a Genesis,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Result<Self, StoreError> {
        let mut total = 0;
        for number in numbers {
            let path = path_of(dir, *number);
            total += disk::length_of(&*disk::open(volume, &path)?, &path)?;
        }
        let report = Report {
            blocks: 0,
            transactions: 0,
            segments: 0,
            bytes: 0,
            tip: Height(0),
            tip_id: genesis.block().id(),
            undecided: 0,
            torn_bytes: 0,
        };
        Ok(Self {
            volume,
            genesis,
            state: genesis.state(),
            report,
            progress,
            told: 0,
            total,
        })
    }

    /// What was found, after the last segment.
    pub(super) fn finish(self) -> Report {
        (self.progress)(self.total, self.total);
        Report {
            tip: self.state.height,
            tip_id: self.state.block,
            ..self.report
        }
    }

    /// Verifies the next segment.
    pub(super) fn file(&mut self, dir: &Path, number: u64, is_last: bool) -> Result<(), StoreError> {
        let (segment, state) = Segment::open(self.volume, dir, number, self.genesis.network())?;
        if state != self.state {
            let what = "its header's state is not the one that follows from the blocks before it";
            return Err(StoreError::corrupt(&segment.path, 0, self.state.height.next(), what));
        }
        self.segment(&segment, is_last)
    }

    fn segment(&mut self, segment: &Segment, is_last: bool) -> Result<(), StoreError> {
        self.report.segments += 1;
        let mut offset = segment.start;
        let mut bodies: Vec<Frame> = Vec::new();
        while let Some(frame) = segment.frames().prefix(offset)? {
            let max = match frame.kind {
                Kind::Body => BLOCK_BYTES_MAX,
                Kind::Decision => DECISION_BYTES_MAX,
                Kind::Wal => break,
            };
            if segment.frames().payload(&frame, max)?.is_none() {
                break;
            }
            if frame.kind == Kind::Body {
                bodies.push(frame);
            } else {
                let decided = self.decision(segment, &frame, &bodies)?;
                // A start decodes every body, whether it was decided or not.
                let settled = bodies.iter().filter(|body| body.height <= frame.height);
                for body in settled.filter(|body| body.offset != decided) {
                    segment.undecided(body)?;
                    self.report.undecided += 1;
                }
                bodies.retain(|body| body.height > frame.height);
            }
            offset = frame.end();
            self.tell(offset - frame.offset);
        }
        for body in &bodies {
            segment.undecided(body)?;
            self.report.undecided += 1;
        }
        let torn = log::torn_end(segment, offset, self.state.height)?;
        if let Some(end) = torn {
            if !is_last {
                let what = "a record is damaged";
                return Err(StoreError::corrupt(
                    &segment.path,
                    offset,
                    self.state.height.next(),
                    what,
                ));
            }
            self.report.torn_bytes = end - offset;
        }
        Ok(())
    }

    fn tell(&mut self, bytes: u64) {
        self.report.bytes += bytes;
        if self.report.bytes >= self.told + PROGRESS_BYTES {
            self.told = self.report.bytes;
            (self.progress)(self.told, self.total);
        }
    }

    /// Verifies a decision with its block, one of `bodies` before it; returns where the body lies. A start and the
    /// readers find it by the same place and length.
    fn decision(&mut self, segment: &Segment, frame: &Frame, bodies: &[Frame]) -> Result<u64, StoreError> {
        let corrupt = |what: String| StoreError::corrupt(&segment.path, frame.offset, frame.height, what);
        let decision = segment.decision(frame)?;
        let body = bodies.iter().find(|body| decision.names(body));
        let body = body.ok_or_else(|| corrupt("the decision's body is not where it says".into()))?;
        let block = segment.body(body, decision.certificate.block)?;
        let decided = DecidedBlock {
            block,
            certificate: decision.certificate,
        };
        follow(self.genesis, &mut self.state, &decided).map_err(corrupt)?;
        self.report.blocks += 1;
        self.report.transactions += decided.block.block().transaction_count() as u64;
        Ok(decision.body_offset)
    }
}

/// Applies a block to the state before it, if the committee decided it and everything in its header follows from that
/// state. Otherwise the state stays as it is.
///
/// # Errors
/// What does not fit.
pub(super) fn follow(genesis: &Genesis, state: &mut State, decided: &DecidedBlock) -> Result<(), String> {
    let (block, certificate) = (&decided.block, &decided.certificate);
    let (header, committee, network) = (block.header(), genesis.committee(), genesis.network());
    if (certificate.block, certificate.height) != (block.id(), header.height) {
        return Err("the certificate is for another block".to_owned());
    }
    let certified = certificate.verify(network, committee);
    certified.map_err(|error| error.to_string())?;
    if header.network != network || header.epoch != committee.epoch() || header.committee != state.committee {
        return Err("the header is of another network, epoch or committee".to_owned());
    }
    if header.state_root != state.root() {
        return Err("header.state_root does not follow from the blocks below".to_owned());
    }
    if header.time_ms <= state.time_ms {
        return Err("header.time_ms is not above its parent's".to_owned());
    }
    let applied = state.apply(block.block(), block.id(), committee);
    applied.map_err(|error| error.to_string())
}
