//! The guard file: the last signatures of this node's key, durable before a signature leaves.
//!
//! `state` has two places of 64 KiB that are written in turn. At its end a place has the same slot
//! twice, each in a sector and a page of its own, and right before them the *redo*: the bytes that the same commit
//! writes to the write-ahead log. All are written at once. A slot:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `FUSIONGD` |
//! | 8 | 4 | version, 3 |
//! | 12 | 4 | length of the contents, at most 416 |
//! | 16 | 8 | sequence number; the slot with the highest one counts |
//! | 24 | 32 | network id |
//! | 56 | 416 | contents, then zeros |
//! | 472 | 28 | the redo's height (8), offset in the log's file (8), salt of that file (4), length (4; 0 for none), CRC32C (4) |
//! | 500 | 4 | CRC32C of all above |
//! | 504 | 8 | zero |
//!
//! **Why a redo.** Guard and write-ahead log are synced at the same time. When the power goes in between, the guard may
//! know of a signature that the log does not show, as if the log had been lost; the key would have to be silent at that
//! height. When the power of many nodes goes at once, that can be too many, and the height is never decided. So the
//! guard carries what the log needs to catch up, and a start writes it there. A redo that is itself torn, while the log
//! lacks its bytes too, belongs to a commit that never ended: nothing of it has left, and the place before it counts.
//!
//! **Why two slots, and doubt.** The first contents go to both places, so that neither is ever empty, and each write's
//! number is one above that of the other place. One damaged slot costs nothing: the place has another, and the next
//! write but one makes it whole. A place without a sound slot, or with a number that is further behind or the same
//! again, may have held the newest contents: then what is found is *doubtful*, and the key must sign nothing
//! at the height in progress. What the file alone cannot show is that all of it was swapped for an older copy. The
//! write-ahead log can: it holds every own signature of the height in progress, durable before any of them leaves, and
//! consensus takes what it shows for signed.
//!
//! Promises: a write that is torn leaves the contents before it; contents that come back and are not doubtful are the
//! last that were durable, in a file that is not an older one; a file that exists has a readable slot unless it was
//! damaged, and then that is an error and never an empty guard. Leaves to others: what the contents mean, and the lock
//! of the folder (`files.rs`); putting a redo into the log (`wal.rs`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::{B256, Bytes};
use fusion_types::{Height, NetworkId};

use super::flush::Written;
use super::volume::{Volume, VolumeFile};
use super::{GUARD_BYTES_MAX, StoreError, disk};

/// The file in the guard's folder.
const FILE_NAME: &str = "state";

const MAGIC: &[u8; 8] = b"FUSIONGD";
const VERSION: u32 = 3;

/// Sequence number of the first contents.
const FIRST: u64 = 1;

const SLOT_BYTES: usize = 512;
const CONTENTS_AT: usize = 56;
const REDO_AT: usize = CONTENTS_AT + GUARD_BYTES_MAX;
const CRC_AT: usize = REDO_AT + 28;

/// The two slots of a place are a page apart, so that what damages one leaves the other.
const COPY_DISTANCE: usize = 4096;

/// Largest redo, in bytes: the write-ahead records of one commit among 128 validators fit.
pub(super) const REDO_BYTES_MAX: usize = PLACE_BYTES - COPY_DISTANCE - SLOT_BYTES;

/// Places have pages of their own, so that writing one cannot tear the other. The slots are at the end: a disk that
/// writes in order has the redo before it has them.
const PLACE_BYTES: usize = 64 * 1024;
const PLACE_DISTANCE: u64 = PLACE_BYTES as u64;
const SLOTS_AT: usize = PLACE_BYTES - COPY_DISTANCE - SLOT_BYTES;

const FILE_BYTES: u64 = 2 * PLACE_DISTANCE;

const _: () = assert!(CRC_AT + 12 == SLOT_BYTES);
const _: () = assert!(
    SLOTS_AT.is_multiple_of(SLOT_BYTES),
    "a slot is one sector, which a disk writes whole"
);

/// The guard file.
#[derive(Debug)]
pub(super) struct Guard {
    volume: Arc<dyn Volume>,
    path: PathBuf,
    network: NetworkId,
    file: Option<Arc<dyn VolumeFile>>,
    /// The first file before it has its name.
    draft: Option<Arc<dyn VolumeFile>>,
    sequence: u64,
    /// The place of the next write.
    place: u64,
}

/// What a guard file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contents {
    pub bytes: Bytes,
    /// Whether contents that were written later may be lost.
    pub doubtful: bool,
    /// What the write-ahead log must show too.
    pub redo: Option<Redo>,
}

/// A write to the write-ahead log: so many bytes at a place of the file with this salt, for a height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redo {
    pub height: Height,
    pub salt: u32,
    pub offset: u64,
    pub bytes: Bytes,
}

/// What a slot says about its redo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub height: Height,
    pub salt: u32,
    pub offset: u64,
    pub length: u32,
    pub crc: u32,
}

/// A slot that was read.
struct Slot {
    sequence: u64,
    network: NetworkId,
    contents: Bytes,
    redo: Option<Mark>,
}

/// A place that was read.
struct Place {
    slot: Slot,
    /// The redo's bytes are what was written.
    is_whole: bool,
}

/// Writes the first guard file of a folder, or a new one in the place of one that is of no use: unreadable, of another
/// network, or with contents that `usable` does not accept. That file is moved aside, never deleted; returns where it
/// is now.
///
/// # Errors
/// [`StoreError::Order`] if there is a usable one already; [`StoreError::Io`] or [`StoreError::Full`] when it cannot be
/// written.
pub fn create(
    volume: &Arc<dyn Volume>,
    dir: &Path,
    network: NetworkId,
    contents: &[u8],
    usable: impl FnOnce(&[u8]) -> bool,
) -> Result<Option<PathBuf>, StoreError> {
    disk::create_dir(&**volume, dir)?;
    let _lock = disk::lock(&**volume, dir)?;
    let replaces = match Guard::open(volume, dir, network, &|_| Ok(false)) {
        Ok((_, None)) => false,
        Ok((_, Some(found))) if usable(&found.bytes) => {
            let what = format!("there is a sign guard in {} already", dir.display());
            return Err(StoreError::Order(what));
        }
        Ok(_)
        | Err(
            StoreError::GuardUnreadable { .. } | StoreError::Network { .. } | StoreError::Io { action: "read", .. },
        ) => true,
        Err(error) => return Err(error),
    };
    let mut guard = Guard::absent(volume, dir, network);
    guard.reserve(contents)?;
    let written = guard.write(contents, None)?;
    disk::sync(&*written.file, &written.path)?;
    // Between the two names there is no guard: whoever starts then is refused, and may run this again.
    let aside = if replaces {
        Some(disk::move_aside(&**volume, &guard.path)?)
    } else {
        None
    };
    guard.written()?;
    Ok(aside)
}

/// The guard file of a folder.
pub fn path_in(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

impl Guard {
    /// Opens the guard in `dir`; no contents if there is no file. `is_shown` tells whether the write-ahead log has the
    /// bytes of a redo with this height, salt, offset, length and checksum.
    ///
    /// # Errors
    /// [`StoreError::GuardUnreadable`] when there is a file without a readable slot; [`StoreError::Network`].
    pub(super) fn open(
        volume: &Arc<dyn Volume>,
        dir: &Path,
        network: NetworkId,
        is_shown: &dyn Fn(&Mark) -> Result<bool, StoreError>,
    ) -> Result<(Self, Option<Contents>), StoreError> {
        let mut guard = Self::absent(volume, dir, network);
        if !disk::exists(&**volume, &guard.path)? {
            return Ok((guard, None));
        }
        let file = disk::open_settled(&**volume, &guard.path)?;
        let mut places = [guard.read(&*file, 0)?, guard.read(&*file, 1)?];
        let sequences = places
            .each_ref()
            .map(|place| place.as_ref().map(|place| place.slot.sequence));
        let mut newest = usize::from(sequences[0] < sequences[1]);
        let Some(found) = &places[newest] else {
            return Err(StoreError::GuardUnreadable { path: guard.path });
        };
        if found.slot.network != network {
            return Err(StoreError::Network {
                path: guard.path,
                found: found.slot.network,
                expected: network,
            });
        }
        // Only the first contents stand in both places with one number: else one was written over by a copy of the
        // other.
        let other = sequences[1 - newest];
        let follows = |other: u64| {
            let number = found.slot.sequence;
            other.checked_add(1) == Some(number) || (other == number && number == FIRST)
        };
        let doubtful = !other.is_some_and(follows);
        let unfinished = !found.is_whole && other.is_some_and(|other| other + 1 == found.slot.sequence);
        if unfinished && !found.slot.redo.as_ref().map_or(Ok(true), is_shown)? {
            newest = 1 - newest;
        }
        let Some(Place { slot, is_whole }) = places[newest].take() else {
            return Err(StoreError::GuardUnreadable { path: guard.path });
        };
        let redo = slot.redo.filter(|_| is_whole);
        let redo = redo.map(|mark| guard.redo(&*file, newest as u64, &mark)).transpose()?;
        guard.file = Some(file);
        guard.sequence = slot.sequence;
        guard.place = 1 - newest as u64;
        let bytes = slot.contents;
        Ok((guard, Some(Contents { bytes, doubtful, redo })))
    }

    /// The newest sound slot of a place.
    fn read(&self, file: &dyn VolumeFile, place: u64) -> Result<Option<Place>, StoreError> {
        let mut bytes = [0; COPY_DISTANCE + SLOT_BYTES];
        disk::read_at(file, &self.path, &mut bytes, place * PLACE_DISTANCE + SLOTS_AT as u64)?;
        let copies = [decode(&bytes[..SLOT_BYTES]), decode(&bytes[COPY_DISTANCE..])];
        let Some(slot) = copies.into_iter().flatten().max_by_key(|slot| slot.sequence) else {
            return Ok(None);
        };
        let is_whole = match &slot.redo {
            Some(mark) => crc32c::crc32c(&self.redo(file, place, mark)?.bytes) == mark.crc,
            None => true,
        };
        Ok(Some(Place { slot, is_whole }))
    }

    fn redo(&self, file: &dyn VolumeFile, place: u64, mark: &Mark) -> Result<Redo, StoreError> {
        let mut bytes = vec![0; mark.length as usize];
        let start = place * PLACE_DISTANCE + SLOTS_AT as u64 - u64::from(mark.length);
        disk::read_at(file, &self.path, &mut bytes, start)?;
        let Mark {
            height, salt, offset, ..
        } = *mark;
        let bytes = bytes.into();
        Ok(Redo {
            height,
            salt,
            offset,
            bytes,
        })
    }

    /// The guard of a folder that has none.
    fn absent(volume: &Arc<dyn Volume>, dir: &Path, network: NetworkId) -> Self {
        Self {
            volume: volume.clone(),
            path: path_in(dir),
            network,
            file: None,
            draft: None,
            sequence: FIRST - 1,
            place: 0,
        }
    }

    /// Checks the contents' size, and takes the space for a first file, so that [`Guard::write`] cannot fail for space.
    pub(super) fn reserve(&mut self, contents: &[u8]) -> Result<(), StoreError> {
        if contents.len() > GUARD_BYTES_MAX {
            let what = format!(
                "guard contents have {} bytes, limit is {GUARD_BYTES_MAX}",
                contents.len()
            );
            return Err(StoreError::Order(what));
        }
        if self.file.is_none() && self.draft.is_none() {
            self.draft = Some(disk::draft(&*self.volume, &self.path, &[], FILE_BYTES, true)?);
        }
        Ok(())
    }

    /// Writes what was reserved, with what the write-ahead log gets in the same commit, at most [`REDO_BYTES_MAX`]
    /// bytes. It counts when it is synced and [`Guard::written`] was called.
    pub(super) fn write(&mut self, contents: &[u8], redo: Option<&Redo>) -> Result<Written, StoreError> {
        let slot = encode(self.sequence + 1, self.network, contents, redo);
        let redo = redo.map_or(&[][..], |redo| &redo.bytes);
        let file = self.file.as_ref().or(self.draft.as_ref());
        let file = file.ok_or_else(|| StoreError::Order("the guard was not reserved".into()))?;
        let places = if self.draft.is_some() {
            0..2
        } else {
            self.place..self.place + 1
        };
        for start in places.map(|place| place * PLACE_DISTANCE) {
            let start = start + (SLOTS_AT - redo.len()) as u64;
            disk::write_at(&**file, &self.path, &place_bytes(redo, &slot), start)?;
        }
        Ok(Written {
            file: file.clone(),
            path: self.path.clone(),
        })
    }

    /// What was written is durable: the next write takes the other place.
    pub(super) fn written(&mut self) -> Result<(), StoreError> {
        if let Some(draft) = self.draft.take() {
            // A file appears only with a readable slot in it.
            disk::publish(&*self.volume, &self.path)?;
            self.file = Some(draft);
        }
        self.place = 1 - self.place;
        self.sequence += 1;
        Ok(())
    }
}

/// The redo and both slots, as they follow each other.
fn place_bytes(redo: &[u8], slot: &[u8; SLOT_BYTES]) -> Vec<u8> {
    let mut bytes = vec![0; redo.len() + COPY_DISTANCE + SLOT_BYTES];
    bytes[..redo.len()].copy_from_slice(redo);
    bytes[redo.len()..redo.len() + SLOT_BYTES].copy_from_slice(slot);
    bytes[redo.len() + COPY_DISTANCE..].copy_from_slice(slot);
    bytes
}

fn encode(sequence: u64, network: NetworkId, contents: &[u8], redo: Option<&Redo>) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    let length = u32::try_from(contents.len()).expect("the caller checked the length");
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&length.to_le_bytes());
    bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
    bytes[24..CONTENTS_AT].copy_from_slice(network.0.as_slice());
    bytes[CONTENTS_AT..CONTENTS_AT + contents.len()].copy_from_slice(contents);
    if let Some(redo) = redo {
        let length = u32::try_from(redo.bytes.len()).expect("the caller checked the length");
        bytes[REDO_AT..REDO_AT + 8].copy_from_slice(&redo.height.0.to_le_bytes());
        bytes[REDO_AT + 8..REDO_AT + 16].copy_from_slice(&redo.offset.to_le_bytes());
        bytes[REDO_AT + 16..REDO_AT + 20].copy_from_slice(&redo.salt.to_le_bytes());
        bytes[REDO_AT + 20..REDO_AT + 24].copy_from_slice(&length.to_le_bytes());
        bytes[REDO_AT + 24..CRC_AT].copy_from_slice(&crc32c::crc32c(&redo.bytes).to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes[..CRC_AT]);
    bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Slot> {
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let crc = crc32c::crc32c(bytes.get(..CRC_AT)?);
    if bytes[..8] != MAGIC[..] || u32_at(8)? != VERSION || u32_at(CRC_AT)? != crc {
        return None;
    }
    let contents = bytes[CONTENTS_AT..REDO_AT].get(..u32_at(12)? as usize)?;
    let mark = Mark {
        height: Height(u64_at(REDO_AT)?),
        offset: u64_at(REDO_AT + 8)?,
        salt: u32_at(REDO_AT + 16)?,
        length: u32_at(REDO_AT + 20)?,
        crc: u32_at(REDO_AT + 24)?,
    };
    Some(Slot {
        sequence: u64_at(16)?,
        network: NetworkId(B256::from_slice(&bytes[24..CONTENTS_AT])),
        contents: Bytes::copy_from_slice(contents),
        redo: Some(mark).filter(|mark| (1..=REDO_BYTES_MAX).contains(&(mark.length as usize))),
    })
}
