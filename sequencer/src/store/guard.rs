//! The guard file: the last signatures of this node's key, durable before a signature leaves.
//!
//! `state` has two places that are written in turn. Each holds the same slot twice, 4096 bytes apart, written at once; from place to place it
//! is 8192 bytes. A slot:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `FUSIONGD` |
//! | 8 | 4 | version, 2 (1: places of one slot each, 4096 bytes apart) |
//! | 12 | 4 | length of the contents, at most 448 |
//! | 16 | 8 | sequence number; the slot with the highest one counts |
//! | 24 | 32 | network id |
//! | 56 | 448 | contents, then zeros |
//! | 504 | 4 | CRC32C of all above |
//! | 508 | 4 | zero |
//!
//! The first contents go to both places, so that neither is ever empty, and each write's number is one above that of the other place. By that
//! a forgotten signature is noticed. One damaged slot costs nothing: the place has another, and the next write but one makes it whole. A place
//! without a sound slot, or with a number that is further behind, may have held the newest contents: then what is found is *doubtful*, and
//! the key must sign nothing at the height in progress. A write that was torn inside both slots, by a disk that does not write sectors whole,
//! looks the same, and costs the votes of one height. What the file alone cannot show is that all of it was swapped for an older copy. The
//! write-ahead log can: it holds every own signature of the height in progress, durable before any of them leaves, and consensus takes what it
//! shows for signed. At heights that are decided nothing is signed any more.
//!
//! Promises: a write that is torn leaves the contents before it; contents that come back and are not doubtful are the last that were
//! durable, in a file that is not an older one; a file that exists has a readable slot unless it was damaged, and then that is an error and never
//! an empty guard. Leaves to others: what the contents mean, and the lock of the folder (`files.rs`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::{B256, Bytes};
use fusion_types::NetworkId;

use super::flush::Written;
use super::volume::{Volume, VolumeFile};
use super::{GUARD_BYTES_MAX, StoreError, disk};

/// The file in the guard's folder.
const FILE_NAME: &str = "state";

const MAGIC: &[u8; 8] = b"FUSIONGD";
const VERSION: u32 = 2;

/// Of a file whose places hold one slot each.
const VERSION_SINGLE: u32 = 1;

const SLOT_BYTES: usize = 512;
const CONTENTS_AT: usize = 56;
const CRC_AT: usize = CONTENTS_AT + GUARD_BYTES_MAX;

/// The two slots of a place are a page apart, so that what damages one leaves the other.
const COPY_DISTANCE: usize = 4096;

/// What is written at a place: the slot, zeros, the slot.
const PLACE_BYTES: usize = COPY_DISTANCE + SLOT_BYTES;

/// Places have pages of their own, so that writing one cannot tear the other.
const PLACE_DISTANCE: u64 = 2 * COPY_DISTANCE as u64;

const FILE_BYTES: u64 = 2 * PLACE_DISTANCE;

const _: () = assert!(CRC_AT + 8 == SLOT_BYTES);

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
    /// The file has the space that its format needs.
    whole: bool,
}

/// What a guard file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contents {
    pub bytes: Bytes,
    /// Whether contents that were written later may be lost.
    pub doubtful: bool,
}

/// A slot that was read.
struct Slot {
    version: u32,
    sequence: u64,
    network: NetworkId,
    contents: Bytes,
}

/// Writes the first guard file of a folder, or a new one in the place of one that is of no use: unreadable, of another network, or with
/// contents that `usable` does not accept. That file is moved aside, never deleted; returns where it is now.
///
/// # Errors
/// [`StoreError::Order`] if there is a usable one already; [`StoreError::Io`] or [`StoreError::Full`] when it cannot be written.
pub fn create(
    volume: &Arc<dyn Volume>,
    dir: &Path,
    network: NetworkId,
    contents: &[u8],
    usable: impl FnOnce(&[u8]) -> bool,
) -> Result<Option<PathBuf>, StoreError> {
    disk::create_dir(&**volume, dir)?;
    let _lock = disk::lock(&**volume, dir)?;
    let replaces = match Guard::open(volume, dir, network) {
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
    let written = guard.write(contents)?;
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
    /// Opens the guard in `dir`; no contents if there is no file.
    ///
    /// # Errors
    /// [`StoreError::GuardUnreadable`] when there is a file without a readable slot; [`StoreError::Network`].
    pub(super) fn open(
        volume: &Arc<dyn Volume>,
        dir: &Path,
        network: NetworkId,
    ) -> Result<(Self, Option<Contents>), StoreError> {
        let mut guard = Self::absent(volume, dir, network);
        if !disk::exists(&**volume, &guard.path)? {
            return Ok((guard, None));
        }
        let file = disk::open(&**volume, &guard.path)?;
        let places = [guard.read(&*file, 0)?, guard.read(&*file, 1)?];
        let sequences = places.each_ref().map(|slot| slot.as_ref().map(|slot| slot.sequence));
        let place = u64::from(sequences[0] < sequences[1]);
        let Some(slot) = places
            .into_iter()
            .max_by_key(|slot| slot.as_ref().map(|slot| slot.sequence))
            .flatten()
        else {
            return Err(StoreError::GuardUnreadable { path: guard.path });
        };
        if slot.network != network {
            return Err(StoreError::Network {
                path: guard.path,
                found: slot.network,
                expected: network,
            });
        }
        // The first contents stand in both places with one number.
        let other = sequences[usize::from(place == 0)];
        let doubtful =
            slot.version != VERSION_SINGLE && other.is_none_or(|other| other.saturating_add(1) < slot.sequence);
        // A process that was killed may have written it without a sync.
        disk::sync(&*file, &guard.path)?;
        guard.whole = disk::length_of(&*file, &guard.path)? >= FILE_BYTES;
        guard.file = Some(file);
        guard.sequence = slot.sequence;
        guard.place = 1 - place;
        let bytes = slot.contents;
        Ok((guard, Some(Contents { bytes, doubtful })))
    }

    /// The newest sound slot of a place.
    fn read(&self, file: &dyn VolumeFile, place: u64) -> Result<Option<Slot>, StoreError> {
        let mut bytes = [0; PLACE_BYTES];
        disk::read_at(file, &self.path, &mut bytes, place * PLACE_DISTANCE)?;
        let copies = [decode(&bytes[..SLOT_BYTES]), decode(&bytes[COPY_DISTANCE..])];
        Ok(copies.into_iter().flatten().max_by_key(|slot| slot.sequence))
    }

    /// The guard of a folder that has none.
    fn absent(volume: &Arc<dyn Volume>, dir: &Path, network: NetworkId) -> Self {
        Self {
            volume: volume.clone(),
            path: path_in(dir),
            network,
            file: None,
            draft: None,
            sequence: 0,
            place: 0,
            whole: true,
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
        if let Some(file) = self.file.as_ref().filter(|_| !self.whole) {
            disk::allocate(&**file, &self.path, FILE_BYTES)?;
            self.whole = true;
        }
        Ok(())
    }

    /// Writes what was reserved. It counts when it is synced and [`Guard::written`] was called.
    pub(super) fn write(&mut self, contents: &[u8]) -> Result<Written, StoreError> {
        let slot = encode(self.sequence + 1, self.network, contents);
        let mut bytes = [0; PLACE_BYTES];
        bytes[..SLOT_BYTES].copy_from_slice(&slot);
        bytes[COPY_DISTANCE..].copy_from_slice(&slot);
        let file = self.file.as_ref().or(self.draft.as_ref());
        let file = file.ok_or_else(|| StoreError::Order("the guard was not reserved".into()))?;
        disk::write_at(&**file, &self.path, &bytes, self.place * PLACE_DISTANCE)?;
        if self.draft.is_some() {
            disk::write_at(&**file, &self.path, &bytes, (1 - self.place) * PLACE_DISTANCE)?;
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

fn encode(sequence: u64, network: NetworkId, contents: &[u8]) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    let length = u32::try_from(contents.len()).expect("the caller checked the length");
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&length.to_le_bytes());
    bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
    bytes[24..CONTENTS_AT].copy_from_slice(network.0.as_slice());
    bytes[CONTENTS_AT..CONTENTS_AT + contents.len()].copy_from_slice(contents);
    let crc = crc32c::crc32c(&bytes[..CRC_AT]);
    bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Slot> {
    let version = u32::from_le_bytes(bytes[8..12].try_into().ok()?);
    let crc = crc32c::crc32c(&bytes[..CRC_AT]);
    if bytes[..8] != MAGIC[..]
        || ![VERSION, VERSION_SINGLE].contains(&version)
        || bytes[CRC_AT..CRC_AT + 4] != crc.to_le_bytes()
    {
        return None;
    }
    let length = u32::from_le_bytes(bytes[12..16].try_into().ok()?) as usize;
    let contents = bytes[CONTENTS_AT..CRC_AT].get(..length)?;
    Some(Slot {
        version,
        sequence: u64::from_le_bytes(bytes[16..24].try_into().ok()?),
        network: NetworkId(B256::from_slice(&bytes[24..CONTENTS_AT])),
        contents: Bytes::copy_from_slice(contents),
    })
}
