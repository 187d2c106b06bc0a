//! Mending a block log with blocks from other nodes: `fusion db repair`.
//!
//! Promises: a segment in which anything is damaged is written again as a whole, from what is sound in it and from
//! blocks that were fetched, each verified as the full check does; it takes the old file's place at once and durably,
//! or not at all. Every other file stays as it is. Leaves to others: where blocks come from, and the end of an
//! unfinished write (the next start cuts it).
//!
//! Which blocks are missing is known from the next segment's header; in the last segment, from the last decision that
//! can be read. What was decided after that, the node fetches from its peers as any node does that was away.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fusion_types::{DecidedBlock, Genesis, Height, State, encode};

use super::check::{Check, Report, follow};
use super::frame::{Kind, Write};
use super::segment::{Decision, Header, Segment, path_of};
use super::volume::{Volume, VolumeFile};
use super::{StoreError, disk, log};

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// The log as it is now.
    pub report: Report,
    /// Segment files that were written again.
    pub files: Vec<PathBuf>,
    /// Blocks that came from other nodes.
    pub fetched: Vec<Height>,
    /// The last segment as it was, if it was written again: it may have held more than could be read.
    pub kept: Option<PathBuf>,
}

/// Why a log could not be repaired. Segments before the one at fault are repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The log cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A block is needed that nobody gave.
    #[error("block {height} is damaged in {path} and cannot be fetched: {what}")]
    Fetch {
        /// The segment it belongs to.
        path: PathBuf,
        /// Its height.
        height: Height,
        /// What the nodes said.
        what: String,
    },
}

/// Where blocks come from that are damaged here.
type Fetch<'a> = &'a mut dyn FnMut(Height) -> Result<DecidedBlock, String>;

/// Verifies the log below `home` as [`check`](super::check()) does, and mends what is damaged with blocks that `fetch`
/// gives.
///
/// # Errors
/// [`RepairError`]: a block cannot be had, a node runs on the folder, or the disk fails.
pub fn repair(
    volume: &dyn Volume,
    home: &Path,
    genesis: &Genesis,
    fetch: Fetch<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Repaired, RepairError> {
    let dir = home.join("log");
    let _lock = disk::lock(volume, &dir)?;
    let numbers = log::listed(volume, &dir)?;
    let last = numbers.last().copied().unwrap_or(0);
    let mut check = Check::start(volume, &dir, &numbers, genesis, progress)?;
    let (mut files, mut fetched, mut kept) = (Vec::new(), Vec::new(), None);
    for number in 1..=last {
        let (state, report) = (check.state.clone(), check.report.clone());
        match check.file(&dir, number, number == last) {
            Ok(()) => continue,
            Err(error) if !is_damage(volume, &error, &path_of(&dir, number)) => return Err(error.into()),
            Err(error) => tracing::warn!(%error, "this segment is written again"),
        }
        let rebuild = Rebuild {
            volume,
            dir: &dir,
            genesis,
            number,
            is_last: number == last,
        };
        let (heights, old) = rebuild.run(state.clone(), fetch)?;
        fetched.extend(heights);
        kept = kept.or(old);
        files.push(path_of(&dir, number));
        (check.state, check.report) = (state, report);
        check.file(&dir, number, number == last)?;
    }
    Ok(Repaired {
        report: check.finish(),
        files,
        fetched,
        kept,
    })
}

/// Whether other nodes can help: the file is damaged, unreadable or gone.
fn is_damage(volume: &dyn Volume, error: &StoreError, path: &Path) -> bool {
    match error {
        StoreError::Corrupt { .. } => true,
        StoreError::Io { action, .. } => *action == "read" || matches!(volume.exists(path), Ok(false)),
        _ => false,
    }
}

/// One segment that is written again.
struct Rebuild<'a> {
    volume: &'a dyn Volume,
    dir: &'a Path,
    genesis: &'a Genesis,
    number: u64,
    is_last: bool,
}

impl Rebuild<'_> {
    /// Writes the segment that starts after `state`; returns the heights that were fetched, and where the old last
    /// segment is now.
    fn run(&self, state: State, fetch: Fetch<'_>) -> Result<(Vec<Height>, Option<PathBuf>), RepairError> {
        let path = path_of(self.dir, self.number);
        let old = self.readable(state.height);
        let header = Header {
            network: self.genesis.network(),
            number: self.number,
            salt: disk::salt(self.volume)?,
            state: state.clone(),
        };
        let bytes = header.encode();
        let start = bytes.len() as u64;
        let mut draft = Draft {
            file: disk::draft(self.volume, &path, &bytes, start, false)?,
            path: &path,
            salt: header.salt,
            end: start,
        };
        let filled = self.fill(&mut draft, old.as_ref(), state, fetch);
        let fetched = filled.inspect_err(|_| disk::discard(self.volume, &path))?;
        disk::sync(&*draft.file, &path)?;
        // In the last segment there may be more than could be read, and nobody else says how much.
        let kept = (self.is_last && disk::exists(self.volume, &path)?)
            .then(|| disk::link_aside(self.volume, &path))
            .transpose()?;
        disk::publish(self.volume, &path)?;
        Ok((fetched, kept))
    }

    /// The file as it is, as far as it can be read at all. Without its header nothing in it can be told from noise.
    fn readable(&self, anchor: Height) -> Option<Segment> {
        let (old, _) = Segment::open(self.volume, self.dir, self.number, self.genesis.network()).ok()?;
        old.find_decisions(Height(u64::MAX)).ok()?;
        Some(old).filter(|old| old.anchor == anchor)
    }

    /// The last height that belongs into the segment.
    fn last_height(&self, old: Option<&Segment>, anchor: Height) -> Result<Height, StoreError> {
        let found = old.map(Segment::last_found);
        if self.is_last {
            return Ok(found.unwrap_or(anchor));
        }
        let next = Segment::open(self.volume, self.dir, self.number + 1, self.genesis.network());
        match (next, found) {
            (Ok((next, _)), _) => Ok(next.anchor),
            (Err(_), Some(found)) => Ok(found),
            (Err(error), None) => Err(error),
        }
    }

    fn fill(
        &self,
        draft: &mut Draft<'_>,
        old: Option<&Segment>,
        mut state: State,
        fetch: Fetch<'_>,
    ) -> Result<Vec<Height>, RepairError> {
        let mut fetched = Vec::new();
        let last = self.last_height(old, state.height)?;
        while state.height < last {
            let height = state.height.next();
            let kept = old.and_then(|old| old.block(height).ok());
            let kept = kept.filter(|block| follow(self.genesis, &mut state, block).is_ok());
            let block = match kept {
                Some(block) => block,
                None => {
                    let given = fetch(height).and_then(|block| {
                        follow(self.genesis, &mut state, &block)?;
                        Ok(block)
                    });
                    fetched.push(height);
                    given.map_err(|what| RepairError::Fetch {
                        path: draft.path.to_owned(),
                        height,
                        what,
                    })?
                }
            };
            draft.push(&block)?;
        }
        if let Some(old) = old.filter(|_| self.is_last) {
            draft.push_undecided(old, last)?;
        }
        Ok(fetched)
    }
}

/// The new file before it has its name.
struct Draft<'a> {
    file: Arc<dyn VolumeFile>,
    path: &'a Path,
    salt: u32,
    end: u64,
}

impl Draft<'_> {
    fn push(&mut self, decided: &DecidedBlock) -> Result<(), StoreError> {
        let (height, encoded) = (decided.certificate.height, decided.block.encoded());
        let mut write = Write::new(self.end, self.salt);
        let body = write.push(Kind::Body, height, &[encoded])?;
        let length = u32::try_from(encoded.len()).expect("a sealed block is below 4 MiB");
        let parts = [&Decision::pointer(body, length)[..], &encode(&decided.certificate)[..]];
        write.push(Kind::Decision, height, &parts)?;
        self.append(&write)
    }

    /// Keeps the bodies that wait for their decision: this node may have voted for them.
    fn push_undecided(&mut self, old: &Segment, above: Height) -> Result<(), StoreError> {
        let mut offset = old.start;
        while let Some(frame) = old.frame_from(offset)? {
            offset = frame.end();
            if frame.kind != Kind::Body || frame.height <= above {
                continue;
            }
            if let Ok(body) = old.undecided(&frame) {
                let mut write = Write::new(self.end, self.salt);
                write.push(Kind::Body, frame.height, &[body.encoded()])?;
                self.append(&write)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, write: &Write) -> Result<(), StoreError> {
        disk::write_at(&*self.file, self.path, &write.bytes, write.start())?;
        self.end = write.end();
        Ok(())
    }
}
