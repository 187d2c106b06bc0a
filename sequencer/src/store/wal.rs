//! The write-ahead log: what consensus must remember of the height in progress.
//!
//! Two files of equal layout, `even` and `odd`, take turns by the height's parity. A height's first record overwrites
//! its file from the start: what stood there belongs to the height two below, whose block is durable by then.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `FUSIONWL` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | salt of the records' checksums |
//! | 16 | 32 | network id |
//! | 48 | 8 | height of which this file may have lost records; 0 for none |
//! | 56 | 4 | CRC32C of all above |
//! | 60 | … | zeros up to 4096 |
//! | 4096 | … | records (`frame.rs`) of one height, then anything |
//!
//! The header is written once, when the file is created under another name, and never again, so it cannot be torn. The
//! file's length is really written at creation: overwriting it needs no space and changes no metadata.
//!
//! Promises: [`Wal::open`] never fails because of what is in the files and returns only records that were written for
//! the height asked for, without a gap. It says so when records that were durable are lost, and goes on saying so
//! until that height is decided. Leaves to others: to notice that the last of the records are lost (the guard knows),
//! and to stay silent for that height.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::{B256, Bytes};
use fusion_types::{Height, NetworkId};

use super::flush::Written;
use super::frame::{Frames, Kind, Write};
use super::guard::{Mark, REDO_BYTES_MAX, Redo};
use super::volume::{Volume, VolumeFile};
use super::{RecoveredWal, StoreError, WalStatus, disk};

const MAGIC: &[u8; 8] = b"FUSIONWL";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 60;

/// Where the records start: in a page of their own.
const START: u64 = 4096;

/// Length of a new file. A height of 128 validators and several rounds fits.
const LENGTH: u64 = 4 * 1024 * 1024;

/// Largest payload of one record, in bytes: the reader believes no larger length.
const RECORD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The two files.
#[derive(Debug)]
pub(super) struct Wal {
    files: [Half; 2],
}

/// The file of even or of odd heights.
#[derive(Debug)]
struct Half {
    path: PathBuf,
    file: Arc<dyn VolumeFile>,
    salt: u32,
    length: u64,
    /// Whose records it holds.
    height: Height,
    /// Where the next write starts.
    tail: u64,
}

/// What a file says before its records are looked at.
enum Opened {
    Good(Half, Height),
    Missing,
    Damaged,
}

/// The names of the files, by parity.
const NAMES: [&str; 2] = ["even", "odd"];

fn parity(height: Height) -> usize {
    usize::from(height.0 % 2 == 1)
}

impl Wal {
    /// Opens or creates the files in `dir`, and reads the records of `height`, the first undecided one.
    /// `used`: this node has run before, so that there must be files.
    ///
    /// # Errors
    /// [`StoreError`] of the system only, or for files of another network.
    pub(super) fn open(
        volume: &dyn Volume,
        dir: &Path,
        network: NetworkId,
        height: Height,
        used: bool,
    ) -> Result<(Self, RecoveredWal), StoreError> {
        let paths = NAMES.map(|name| dir.join(name));
        let used = used || disk::exists(volume, &paths[0])? || disk::exists(volume, &paths[1])?;
        let [even, odd] = paths;
        let mut opened = [open_half(volume, &even, network)?, open_half(volume, &odd, network)?];
        let current = parity(height);
        let (mut status, mut records) = (WalStatus::Readable, Vec::new());
        match &mut opened[current] {
            Opened::Good(half, doubtful) => {
                (status, records) = half.read(height)?;
                if *doubtful == height {
                    status = WalStatus::Unreadable;
                }
            }
            Opened::Missing if used => status = WalStatus::Missing,
            Opened::Missing => {}
            Opened::Damaged => status = WalStatus::Unreadable,
        }
        // The new file remembers the doubt, so that another start does not forget it.
        let doubt = (status != WalStatus::Readable).then_some(height);
        let [even_found, odd_found] = opened;
        let mut files = [
            settle(volume, even, network, even_found, doubt.filter(|_| current == 0))?,
            settle(volume, odd, network, odd_found, doubt.filter(|_| current == 1))?,
        ];
        if status == WalStatus::Readable {
            files[current].forget_after_tail()?;
        }
        // The other file holds a decided height, or one that the log does not reach: that must not come back either.
        files[1 - current].forget_after_tail()?;
        // A process that was killed may have written what was read without a sync.
        disk::sync(&*files[current].file, &files[current].path)?;
        Ok((Self { files }, RecoveredWal { status, records }))
    }

    /// Whether the log in `dir` holds the bytes that the guard's mark tells of.
    pub(super) fn shows(volume: &dyn Volume, dir: &Path, network: NetworkId, mark: &Mark) -> Result<bool, StoreError> {
        let path = dir.join(NAMES[parity(mark.height)]);
        let Opened::Good(half, _) = open_half(volume, &path, network)? else {
            return Ok(false);
        };
        let mut bytes = vec![0; mark.length as usize];
        let count = disk::read_at(&*half.file, &half.path, &mut bytes, mark.offset)?;
        Ok(half.salt == mark.salt && count == bytes.len() && crc32c::crc32c(&bytes) == mark.crc)
    }

    /// Writes again what a commit wrote to the log in `dir`, unless it is there, or the file is not the one it was
    /// written to.
    pub(super) fn redo(volume: &dyn Volume, dir: &Path, network: NetworkId, redo: &Redo) -> Result<(), StoreError> {
        let path = dir.join(NAMES[parity(redo.height)]);
        let Opened::Good(half, _) = open_half(volume, &path, network)? else {
            return Ok(());
        };
        let mut there = vec![0; redo.bytes.len()];
        let count = disk::read_at(&*half.file, &half.path, &mut there, redo.offset)?;
        if half.salt != redo.salt || (count == there.len() && there[..] == redo.bytes[..]) {
            return Ok(());
        }
        let end = redo.offset.saturating_add(redo.bytes.len() as u64);
        if half.length < end {
            disk::allocate(&*half.file, &half.path, end)?;
        }
        disk::write_at(&*half.file, &half.path, &redo.bytes, redo.offset)?;
        disk::sync(&*half.file, &half.path)
    }

    /// What the guard keeps of a write, so that the log catches up with it after a torn commit. None if it is too long
    /// for that.
    pub(super) fn redo_of(&self, height: Height, write: &Write) -> Option<Redo> {
        (write.bytes.len() <= REDO_BYTES_MAX).then(|| Redo {
            height,
            salt: self.files[parity(height)].salt,
            offset: write.start(),
            bytes: Bytes::copy_from_slice(&write.bytes),
        })
    }

    /// Encodes `records` of `height` for one write.
    pub(super) fn prepare(&self, height: Height, records: &[&Bytes]) -> Result<Write, StoreError> {
        let half = &self.files[parity(height)];
        let tail = if half.height == height { half.tail } else { START };
        let mut write = Write::new(tail, half.salt);
        for record in records {
            if record.len() > RECORD_BYTES_MAX {
                let what = format!("record has {} bytes, limit is {RECORD_BYTES_MAX}", record.len());
                return Err(StoreError::Order(what));
            }
            write.push(Kind::Wal, height, &[record])?;
        }
        Ok(write)
    }

    /// Reserves the space that `write` needs. Nothing is written yet.
    pub(super) fn reserve(&mut self, height: Height, write: &Write) -> Result<(), StoreError> {
        let half = &mut self.files[parity(height)];
        if write.end() > half.length {
            let length = write.end().next_multiple_of(LENGTH);
            disk::allocate(&*half.file, &half.path, length)?;
            half.length = length;
        }
        Ok(())
    }

    /// Writes what was prepared and reserved.
    pub(super) fn write(&mut self, height: Height, write: &Write) -> Result<Written, StoreError> {
        let half = &mut self.files[parity(height)];
        disk::write_at(&*half.file, &half.path, &write.bytes, write.start())?;
        half.height = height;
        half.tail = write.end();
        Ok(Written {
            file: half.file.clone(),
            path: half.path.clone(),
        })
    }
}

impl Half {
    fn frames(&self) -> Frames<'_> {
        Frames {
            file: &*self.file,
            path: &self.path,
            salt: self.salt,
        }
    }

    /// The valid records of `height` from the start, and whether more were durable once.
    fn read(&mut self, height: Height) -> Result<(WalStatus, Vec<Bytes>), StoreError> {
        let (mut records, mut offset) = (Vec::new(), START);
        while let Some(frame) = self.frames().prefix(offset)? {
            if frame.kind != Kind::Wal || frame.height != height {
                break;
            }
            let Some(payload) = self.frames().payload(&frame, RECORD_BYTES_MAX)? else {
                break;
            };
            records.push(payload);
            offset = frame.end();
        }
        (self.height, self.tail) = (height, offset);
        let later = self
            .frames()
            .search(offset, |frame| frame.height == height && frame.write_start > offset)?;
        let status = if later.is_some() {
            WalStatus::Unreadable
        } else {
            WalStatus::Readable
        };
        Ok((status, records))
    }

    /// Overwrites what follows the records with zeros, so that a torn record cannot come back behind later ones.
    fn forget_after_tail(&mut self) -> Result<(), StoreError> {
        let Some(end) = self.frames().data_end(self.tail)? else {
            return Ok(());
        };
        let zeros = vec![0; 64 * 1024];
        let mut offset = self.tail;
        while offset < end {
            let step = usize::try_from(end - offset).unwrap_or(usize::MAX).min(zeros.len());
            disk::write_at(&*self.file, &self.path, &zeros[..step], offset)?;
            offset += step as u64;
        }
        disk::sync(&*self.file, &self.path)
    }
}

fn open_half(volume: &dyn Volume, path: &Path, network: NetworkId) -> Result<Opened, StoreError> {
    if !disk::exists(volume, path)? {
        return Ok(Opened::Missing);
    }
    let file = disk::open_settled(volume, path)?;
    let bytes = disk::read_start(&*file, path, HEADER_BYTES)?;
    let length = disk::length_of(&*file, path)?;
    let sound = bytes.len() == HEADER_BYTES
        && bytes[..8] == MAGIC[..]
        && bytes[8..12] == VERSION.to_le_bytes()
        && bytes[56..] == crc32c::crc32c(&bytes[..56]).to_le_bytes();
    if !sound || length < START {
        return Ok(Opened::Damaged);
    }
    let found = NetworkId(B256::from_slice(&bytes[16..48]));
    if found != network {
        return Err(StoreError::Network {
            path: path.to_owned(),
            found,
            expected: network,
        });
    }
    let doubtful = bytes[48..56].try_into().map_or(0, u64::from_le_bytes);
    let half = Half {
        path: path.to_owned(),
        file,
        salt: u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]),
        length,
        height: Height(0),
        tail: START,
    };
    Ok(Opened::Good(half, Height(doubtful)))
}

/// The file to go on with: the one found, or a new one where there is none or none to trust.
fn settle(
    volume: &dyn Volume,
    path: PathBuf,
    network: NetworkId,
    found: Opened,
    doubt: Option<Height>,
) -> Result<Half, StoreError> {
    match (found, doubt) {
        (Opened::Good(half, _), None) => Ok(half),
        _ => create_half(volume, path, network, doubt.unwrap_or(Height(0))),
    }
}

fn create_half(volume: &dyn Volume, path: PathBuf, network: NetworkId, doubtful: Height) -> Result<Half, StoreError> {
    let salt = disk::salt(volume)?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&salt.to_le_bytes());
    bytes.extend_from_slice(network.0.as_slice());
    bytes.extend_from_slice(&doubtful.0.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    let file = disk::replace(volume, &path, &bytes, LENGTH, true)?;
    Ok(Half {
        path,
        file,
        salt,
        length: LENGTH,
        height: Height(0),
        tail: START,
    })
}
