//! One file of the block log: a header that says where the chain stood, then bodies and decisions.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `FUSIONSG` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | S, length of the state |
//! | 16 | 32 | network id |
//! | 48 | 8 | number of the segment, from 1 |
//! | 56 | 8 | first height: of the first decision in this file |
//! | 64 | 32 | id of the block below it |
//! | 96 | 4 | salt of the records' checksums |
//! | 100 | S | the replicated state after that block, RLP |
//! | 100 + S | 4 | CRC32C of all above |
//! | 104 + S | … | records (`frame.rs`), then zeros up to the reserved length |
//!
//! A **body**'s payload is the block's canonical RLP. A **decision**'s payload is the offset of its body's record in
//! this same file (8), the length of the body's payload (4), and the certificate's canonical RLP. Integers are
//! little-endian. A decision's height is one above that of the decision before it, and its body lies before it; bodies
//! may stay undecided.
//!
//! Promises: a `.seg` file has a durable header from the moment it has its name. Leaves to others: which file is read
//! when (`reader.rs`) and what is appended (`log.rs`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use alloy_primitives::{B256, Bytes};
use fusion_types::limits::{BLOCK_BYTES_MAX, COMMITTEE_MAX};
use fusion_types::{BlockId, Certificate, DecidedBlock, Height, NetworkId, SealedBlock, State, decode_exact, encode};

use super::frame::{Frame, Frames, Kind};
use super::volume::{Volume, VolumeFile};
use super::{RawBlock, StoreError, disk};

const MAGIC: &[u8; 8] = b"FUSIONSG";
const VERSION: u32 = 1;
const FIXED_BYTES: usize = 100;

/// Largest header that is read: the state of the most rollups and validators is far below.
const HEADER_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a decision before the certificate.
const POINTER_BYTES: usize = 12;

/// Largest payload of a decision, in bytes: 128 bytes a signature are more than enough.
pub(super) const DECISION_BYTES_MAX: usize = POINTER_BYTES + 256 + COMMITTEE_MAX * 128;

/// Marks a height whose decision was not found.
const LOST: u64 = 0;

/// The header of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub network: NetworkId,
    pub number: u64,
    pub salt: u32,
    /// After the last block before this segment.
    pub state: State,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let state = encode(&self.state);
        let mut bytes = Vec::with_capacity(FIXED_BYTES + state.len() + 4);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let length = u32::try_from(state.len()).expect("the limits keep a state below a mebibyte");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(self.network.0.as_slice());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.state.height.next().0.to_le_bytes());
        bytes.extend_from_slice(self.state.block.0.as_slice());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&state);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// The length that the fixed part claims for the header, in bytes.
    fn length(fixed: &[u8]) -> usize {
        let state = fixed.get(12..16).and_then(|bytes| bytes.try_into().ok());
        FIXED_BYTES
            .saturating_add(state.map_or(0, u32::from_le_bytes) as usize)
            .saturating_add(4)
    }

    /// The header at the start of `bytes`, and its length.
    fn decode(bytes: &[u8]) -> Result<(Self, usize), &'static str> {
        let fixed = bytes.get(..FIXED_BYTES).ok_or("the file is shorter than a header")?;
        if fixed[..8] != MAGIC[..] {
            return Err("not a segment of the log");
        }
        let u32_at = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let end = Self::length(fixed) - 4;
        let state = bytes.get(FIXED_BYTES..end).ok_or("the header's length is wrong")?;
        if bytes.get(end..end + 4) != Some(&crc32c::crc32c(&bytes[..end]).to_le_bytes()) {
            return Err("the header's checksum is wrong");
        }
        if u32_at(8) != VERSION {
            return Err("written by another version of this program");
        }
        let state: State = decode_exact(state).map_err(|_| "the header's state does not decode")?;
        if u64_at(56) != state.height.next().0 || fixed[64..96] != state.block.0[..] {
            return Err("the header's height or parent is not that of its state");
        }
        let header = Self {
            network: NetworkId(B256::from_slice(&fixed[16..48])),
            number: u64_at(48),
            salt: u32_at(96),
            state,
        };
        Ok((header, end + 4))
    }
}

/// What a decision's payload says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    pub body_offset: u64,
    pub body_length: u32,
    pub certificate: Certificate,
    /// The certificate's bytes.
    pub encoded: Bytes,
}

impl Decision {
    /// The payload's fixed part.
    pub(super) fn pointer(body_offset: u64, body_length: u32) -> [u8; POINTER_BYTES] {
        let mut bytes = [0; POINTER_BYTES];
        bytes[..8].copy_from_slice(&body_offset.to_le_bytes());
        bytes[8..].copy_from_slice(&body_length.to_le_bytes());
        bytes
    }

    /// Whether the record in `frame` is the body that it names.
    pub(super) fn names(&self, frame: &Frame) -> bool {
        frame.kind == Kind::Body
            && frame.height == self.certificate.height
            && (frame.offset, frame.length) == (self.body_offset, self.body_length)
    }

    fn decode(payload: &Bytes) -> Option<Self> {
        let offset = payload.get(..8)?.try_into().ok()?;
        let length = payload.get(8..POINTER_BYTES)?.try_into().ok()?;
        let encoded = payload.slice(POINTER_BYTES..);
        Some(Self {
            body_offset: u64::from_le_bytes(offset),
            body_length: u32::from_le_bytes(length),
            certificate: decode_exact(&encoded).ok()?,
            encoded,
        })
    }
}

/// An open segment, shared by the writer and the readers.
#[derive(Debug)]
pub(super) struct Segment {
    pub path: PathBuf,
    pub file: Arc<dyn VolumeFile>,
    pub number: u64,
    pub salt: u32,
    /// The last height before this segment.
    pub anchor: Height,
    /// Where its records start.
    pub start: u64,
    /// Offsets of its decisions, by height from `anchor + 1`.
    decisions: RwLock<Vec<u64>>,
}

/// Name of segment `number` in `dir`.
pub(super) fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.seg"))
}

impl Segment {
    /// Opens segment `number` and reads its header.
    pub(super) fn open(
        volume: &dyn Volume,
        dir: &Path,
        number: u64,
        network: NetworkId,
    ) -> Result<(Self, State), StoreError> {
        let path = path_of(dir, number);
        let file = disk::open(volume, &path)?;
        let bytes = disk::read_start(&*file, &path, FIXED_BYTES)?;
        let length = Header::length(&bytes).min(HEADER_BYTES_MAX);
        let bytes = disk::read_start(&*file, &path, length)?;
        let decoded = Header::decode(&bytes);
        let (header, start) = decoded.map_err(|what| StoreError::corrupt(&path, 0, Height(0), what))?;
        if header.network != network {
            return Err(StoreError::Network {
                path,
                found: header.network,
                expected: network,
            });
        }
        if header.number != number {
            let what = format!("its header is that of segment {}", header.number);
            return Err(StoreError::corrupt(&path, 48, header.state.height.next(), what));
        }
        Ok((Self::of(path, file, &header, start as u64), header.state))
    }

    /// Creates a segment; `length` bytes are reserved for it.
    pub(super) fn create(volume: &dyn Volume, dir: &Path, header: &Header, length: u64) -> Result<Self, StoreError> {
        let path = path_of(dir, header.number);
        let bytes = header.encode();
        let start = bytes.len() as u64;
        let file = disk::replace(volume, &path, &bytes, length.max(start), false)?;
        Ok(Self::of(path, file, header, start))
    }

    fn of(path: PathBuf, file: Arc<dyn VolumeFile>, header: &Header, start: u64) -> Self {
        Self {
            path,
            file,
            number: header.number,
            salt: header.salt,
            anchor: header.state.height,
            start,
            decisions: RwLock::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn with_file(&self, file: Arc<dyn VolumeFile>) -> Self {
        Self {
            path: self.path.clone(),
            file,
            number: self.number,
            salt: self.salt,
            anchor: self.anchor,
            start: self.start,
            decisions: RwLock::default(),
        }
    }

    pub(super) fn frames(&self) -> Frames<'_> {
        Frames {
            file: &*self.file,
            path: &self.path,
            salt: self.salt,
        }
    }

    /// Notes where the decision of the next height is.
    pub(super) fn push_decision(&self, offset: u64) {
        let mut decisions = self.decisions.write().unwrap_or_else(PoisonError::into_inner);
        decisions.push(offset);
    }

    /// Finds the decisions of a segment that is complete, up to height `last`. Damage costs the heights that it hits,
    /// no others.
    pub(super) fn find_decisions(&self, last: Height) -> Result<(), StoreError> {
        let count = usize::try_from(last.0.saturating_sub(self.anchor.0)).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let mut offset = self.start;
        while found.len() < count {
            let Some(frame) = self.frame_from(offset)? else { break };
            let index = frame.height.0.checked_sub(self.anchor.0 + 1);
            let index = index.and_then(|index| usize::try_from(index).ok());
            if let (Kind::Decision, Some(index)) = (frame.kind, index)
                && (found.len()..count).contains(&index)
            {
                found.resize(index, LOST);
                found.push(frame.offset);
            }
            offset = frame.end();
        }
        found.shrink_to_fit();
        *self.decisions.write().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(())
    }

    /// The first record at or after `offset` whose prefix is right.
    pub(super) fn frame_from(&self, offset: u64) -> Result<Option<Frame>, StoreError> {
        match self.frames().prefix(offset)? {
            Some(frame) => Ok(Some(frame)),
            None => self.frames().search(offset, |_| true),
        }
    }

    /// The highest decision that was found in it; the height before it if there is none.
    pub(super) fn last_found(&self) -> Height {
        let decisions = self.decisions.read().unwrap_or_else(PoisonError::into_inner);
        Height(self.anchor.0 + decisions.len() as u64)
    }

    fn decision_offset(&self, height: Height) -> Option<u64> {
        let index = usize::try_from(height.0.checked_sub(self.anchor.0 + 1)?).ok()?;
        let decisions = self.decisions.read().unwrap_or_else(PoisonError::into_inner);
        decisions.get(index).copied().filter(|offset| *offset != LOST)
    }

    /// The decision in `frame`, and that it is of that height.
    pub(super) fn decision(&self, frame: &Frame) -> Result<Decision, StoreError> {
        let corrupt = |what: &str| StoreError::corrupt(&self.path, frame.offset, frame.height, what);
        let payload = self.frames().payload(frame, DECISION_BYTES_MAX)?;
        let payload = payload.ok_or_else(|| corrupt("the decision's checksum is wrong"))?;
        let decision = Decision::decode(&payload).ok_or_else(|| corrupt("the decision does not decode"))?;
        if decision.certificate.height != frame.height {
            return Err(corrupt("the certificate is of another height"));
        }
        Ok(decision)
    }

    /// The decided body of `height` and its certificate, checksums verified, not decoded.
    pub(super) fn raw(&self, height: Height) -> Result<(RawBlock, Decision), StoreError> {
        let lost = || StoreError::corrupt(&self.path, 0, height, "its decision is not found");
        let offset = self.decision_offset(height).ok_or_else(lost)?;
        let corrupt = |at: u64, what: &str| StoreError::corrupt(&self.path, at, height, what);
        let frame = self.frames().prefix(offset)?;
        let frame = frame.filter(|frame| frame.kind == Kind::Decision && frame.height == height);
        let frame = frame.ok_or_else(|| corrupt(offset, "the decision's prefix is wrong"))?;
        let decision = self.decision(&frame)?;
        let at = decision.body_offset;
        let body = self.frames().prefix(at)?;
        let body = body.filter(|body| decision.names(body));
        let body = body.ok_or_else(|| corrupt(at, "the body's prefix is wrong"))?;
        let payload = self.frames().payload(&body, BLOCK_BYTES_MAX)?;
        let raw = RawBlock {
            height,
            body: payload.ok_or_else(|| corrupt(at, "the body's checksum is wrong"))?,
            certificate: decision.encoded.clone(),
        };
        Ok((raw, decision))
    }

    /// The decided block of `height`, known to be the one that its certificate names.
    pub(super) fn block(&self, height: Height) -> Result<DecidedBlock, StoreError> {
        let (raw, decision) = self.raw(height)?;
        let block = self.seal(raw.body, height, Some(decision.certificate.block), decision.body_offset)?;
        Ok(DecidedBlock {
            block,
            certificate: decision.certificate,
        })
    }

    /// The undecided or decided body in `frame`.
    pub(super) fn body(&self, frame: &Frame, id: BlockId) -> Result<Arc<SealedBlock>, StoreError> {
        let payload = self.frames().payload(frame, BLOCK_BYTES_MAX)?;
        let wrong = || StoreError::corrupt(&self.path, frame.offset, frame.height, "the body's checksum is wrong");
        self.seal(payload.ok_or_else(wrong)?, frame.height, Some(id), frame.offset)
    }

    /// The body in `frame`, of which no decision says the id.
    pub(super) fn undecided(&self, frame: &Frame) -> Result<Arc<SealedBlock>, StoreError> {
        let payload = self.frames().payload(frame, BLOCK_BYTES_MAX)?;
        let wrong = || StoreError::corrupt(&self.path, frame.offset, frame.height, "the body's checksum is wrong");
        self.seal(payload.ok_or_else(wrong)?, frame.height, None, frame.offset)
    }

    fn seal(
        &self,
        body: Bytes,
        height: Height,
        id: Option<BlockId>,
        offset: u64,
    ) -> Result<Arc<SealedBlock>, StoreError> {
        let corrupt = |what: String| StoreError::corrupt(&self.path, offset, height, what);
        let sealed = SealedBlock::decode(body).map_err(|error| corrupt(error.to_string()))?;
        if let Some(id) = id.filter(|id| sealed.id() != *id) {
            return Err(corrupt(format!("the body is that of block {}, not {id}", sealed.id())));
        }
        if sealed.header().height != height {
            return Err(corrupt(format!("the body is of height {}", sealed.header().height)));
        }
        Ok(Arc::new(sealed))
    }
}
