//! One record in a file: a prefix with its own checksum, a payload with another.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | kind: 1 body, 2 decision, 3 record of the write-ahead log |
//! | 1 | 3 | zero |
//! | 4 | 4 | length of the payload, n |
//! | 8 | 8 | height |
//! | 16 | 4 | distance from the start of the write that carried this record |
//! | 20 | 4 | CRC32C of salt (4), offset in the file (8) and the 20 bytes above |
//! | 24 | n | payload |
//! | 24 + n | 4 | CRC32C, continued from the prefix's over the payload |
//!
//! Integers are little-endian. The salt is random per file: nobody can plant bytes in a payload that pass for a
//! record. The distance tells damage from a torn write: a write happens only after the one before it was durable, so a
//! record whose write began after a broken place proves that this place was durable once, and is damaged.

use std::path::Path;

use alloy_primitives::Bytes;
use fusion_types::Height;

use super::volume::VolumeFile;
use super::{StoreError, disk};

/// Bytes before the payload.
const PREFIX_BYTES: usize = 24;

/// Bytes that a record needs beyond its payload.
const OVERHEAD_BYTES: usize = PREFIX_BYTES + 4;

/// How much of a file is looked at in one go when searching.
const WINDOW_BYTES: usize = 256 * 1024;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Body = 1,
    Decision = 2,
    Wal = 3,
}

/// A prefix whose checksum is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub kind: Kind,
    pub length: u32,
    pub height: Height,
    /// Where it starts in the file.
    pub offset: u64,
    /// Where the write that carried it started.
    pub write_start: u64,
    crc: u32,
}

impl Frame {
    /// The first byte after it.
    pub(super) fn end(&self) -> u64 {
        self.offset + OVERHEAD_BYTES as u64 + u64::from(self.length)
    }

    fn parse(bytes: &[u8], salt: u32, offset: u64) -> Option<Self> {
        let kind = match bytes.get(..4)? {
            [1, 0, 0, 0] => Kind::Body,
            [2, 0, 0, 0] => Kind::Decision,
            [3, 0, 0, 0] => Kind::Wal,
            _ => return None,
        };
        let crc = prefix_crc(salt, offset, bytes.get(..20)?);
        if bytes.get(20..24)? != crc.to_le_bytes() {
            return None;
        }
        let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        Some(Self {
            kind,
            length: u32_at(4)?,
            height: Height(u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?)),
            offset,
            write_start: offset.checked_sub(u64::from(u32_at(16)?))?,
            crc,
        })
    }
}

fn prefix_crc(salt: u32, offset: u64, prefix: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&salt.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &offset.to_le_bytes()), prefix)
}

/// Records that will go into a file with one write.
#[derive(Debug)]
pub(super) struct Write {
    /// What to write.
    pub bytes: Vec<u8>,
    start: u64,
    salt: u32,
}

impl Write {
    /// A write that will start at `start` of a file with this salt.
    pub(super) fn new(start: u64, salt: u32) -> Self {
        Self {
            bytes: Vec::new(),
            start,
            salt,
        }
    }

    /// Where it starts in the file.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The first byte after it.
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Adds a record of which the payload is the concatenation of `parts`; returns its offset in the file.
    pub(super) fn push(&mut self, kind: Kind, height: Height, parts: &[&[u8]]) -> Result<u64, StoreError> {
        let too_long = |_| StoreError::Order("a write of 4 GiB or more".into());
        let distance = u32::try_from(self.bytes.len()).map_err(too_long)?;
        let length = u32::try_from(parts.iter().map(|part| part.len()).sum::<usize>()).map_err(too_long)?;
        let (at, offset) = (self.bytes.len(), self.end());
        self.bytes.extend_from_slice(&[kind as u8, 0, 0, 0]);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&height.0.to_le_bytes());
        self.bytes.extend_from_slice(&distance.to_le_bytes());
        let mut crc = prefix_crc(self.salt, offset, &self.bytes[at..]);
        self.bytes.extend_from_slice(&crc.to_le_bytes());
        for part in parts {
            crc = crc32c::crc32c_append(crc, part);
            self.bytes.extend_from_slice(part);
        }
        self.bytes.extend_from_slice(&crc.to_le_bytes());
        Ok(offset)
    }
}

/// A file of records, to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frames<'a> {
    pub file: &'a dyn VolumeFile,
    pub path: &'a Path,
    pub salt: u32,
}

impl Frames<'_> {
    /// The record that starts at `offset`, if its prefix is right. The payload is not looked at.
    pub(super) fn prefix(&self, offset: u64) -> Result<Option<Frame>, StoreError> {
        let mut bytes = [0; PREFIX_BYTES];
        let count = disk::read_at(self.file, self.path, &mut bytes, offset)?;
        Ok(Frame::parse(&bytes[..count], self.salt, offset))
    }

    /// The payload of `frame`, if it has at most `max` bytes and its checksum is right.
    pub(super) fn payload(&self, frame: &Frame, max: usize) -> Result<Option<Bytes>, StoreError> {
        let length = frame.length as usize;
        if length > max || frame.end() > disk::length_of(self.file, self.path)? {
            return Ok(None);
        }
        let mut bytes = vec![0; length + 4];
        let start = frame.offset + PREFIX_BYTES as u64;
        if disk::read_at(self.file, self.path, &mut bytes, start)? < bytes.len() {
            return Ok(None);
        }
        let crc = crc32c::crc32c_append(frame.crc, &bytes[..length]);
        if bytes[length..] != crc.to_le_bytes() {
            return Ok(None);
        }
        bytes.truncate(length);
        Ok(Some(bytes.into()))
    }

    /// The first record at or after `offset` that `wanted` accepts, wherever it starts.
    pub(super) fn search(&self, offset: u64, wanted: impl Fn(&Frame) -> bool) -> Result<Option<Frame>, StoreError> {
        let mut window = vec![0; WINDOW_BYTES];
        let mut from = offset;
        while let Some(start) = self.file.next_data(from) {
            let count = disk::read_at(self.file, self.path, &mut window, start)?;
            let bytes = &window[..count];
            for at in 0..count {
                // Nearly every byte fails here, which makes the search fast.
                if !matches!(bytes[at], 1..=3) {
                    continue;
                }
                let place = start + at as u64;
                let frame = bytes.get(at..at + PREFIX_BYTES);
                let frame = frame.and_then(|prefix| Frame::parse(prefix, self.salt, place));
                if let Some(frame) = frame.filter(&wanted) {
                    return Ok(Some(frame));
                }
            }
            if count < window.len() {
                break;
            }
            // Windows overlap, so that no prefix is cut in two.
            from = start + (count - PREFIX_BYTES) as u64;
        }
        Ok(None)
    }

    /// Whether anything but zeros stands at or after `offset`; returns the first byte after the last of it.
    pub(super) fn data_end(&self, offset: u64) -> Result<Option<u64>, StoreError> {
        let mut window = vec![0; WINDOW_BYTES];
        let (mut from, mut last) = (offset, None);
        while let Some(start) = self.file.next_data(from) {
            let count = disk::read_at(self.file, self.path, &mut window, start)?;
            if let Some(at) = window[..count].iter().rposition(|byte| *byte != 0) {
                last = Some(start + at as u64 + 1);
            }
            if count < window.len() {
                break;
            }
            from = start + count as u64;
        }
        Ok(last)
    }
}
