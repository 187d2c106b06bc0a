//! The sign guard of the attestation key: which batches it has signed, so that it never signs against one.
//!
//! A batch of one number may be signed with several data, other batches of that number never. The guard remembers the hashes
//! of the last [`REMEMBERED`] numbers; below them it refuses everything.
//!
//! Promises: [`GuardFile::record`] returns when the new contents are durable, and what a start reads is the last that were;
//! a file that is damaged or of another network or inbox is an error, never an empty guard. Leaves to others: the lock of the
//! folder (the node's), and signing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use alloy_primitives::B256;
use fusion_types::Epoch;

/// Numbers whose batch is remembered.
pub const REMEMBERED: usize = 64;

const MAGIC: &[u8; 8] = b"FUSIONAG";
const VERSION: u32 = 1;
/// Magic, version, domain, epoch, lowest number that may be signed, count.
const HEAD_BYTES: usize = 8 + 4 + 32 + 8 + 8 + 4;
const ENTRY_BYTES: usize = 8 + 32;
const CRC_BYTES: usize = 4;
const FILE_BYTES_MAX: u64 = (HEAD_BYTES + REMEMBERED * ENTRY_BYTES + CRC_BYTES) as u64;

/// Why the key must not sign a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It signed another.
    #[error("batch {number} was signed as {signed}, not as {asked}")]
    Conflict {
        /// The number.
        number: u64,
        /// What was signed.
        signed: B256,
        /// What was to be signed.
        asked: B256,
    },
    /// So far back that what was signed is forgotten.
    #[error("batch {number} is below {least}, the lowest that this key may still sign")]
    Old {
        /// The number.
        number: u64,
        /// The lowest.
        least: u64,
    },
    /// Of an epoch before one that was signed.
    #[error("epoch {} is before epoch {}, of which a batch was signed", .asked.0, .signed.0)]
    Epoch {
        /// The last.
        signed: Epoch,
        /// What was to be signed.
        asked: Epoch,
    },
}

/// What the key has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationGuard {
    epoch: Epoch,
    /// Nothing below is signed any more.
    least: u64,
    signed: BTreeMap<u64, B256>,
}

impl AttestationGuard {
    /// The guard of a key that signs nothing below batch `least`: 0 for a new key.
    pub fn new(least: u64) -> Self {
        Self {
            epoch: Epoch(0),
            least,
            signed: BTreeMap::new(),
        }
    }

    /// Whether `batch` may be signed under `number` of `epoch`.
    ///
    /// # Errors
    /// [`Refusal`] if that could contradict a signature of this key.
    pub fn check(&self, epoch: Epoch, number: u64, batch: B256) -> Result<(), Refusal> {
        if number < self.least {
            let least = self.least;
            return Err(Refusal::Old { number, least });
        }
        match self.signed.get(&number) {
            Some(signed) if *signed == batch => Ok(()),
            Some(signed) => Err(Refusal::Conflict {
                number,
                signed: *signed,
                asked: batch,
            }),
            None if epoch < self.epoch => Err(Refusal::Epoch {
                signed: self.epoch,
                asked: epoch,
            }),
            None => Ok(()),
        }
    }

    /// Remembers a batch that [`AttestationGuard::check`] allows; whether that is news.
    fn remember(&mut self, epoch: Epoch, number: u64, batch: B256) -> bool {
        let is_news = self.signed.insert(number, batch).is_none();
        self.epoch = self.epoch.max(epoch);
        while self.signed.len() > REMEMBERED {
            if let Some((forgotten, _)) = self.signed.pop_first() {
                self.least = self.least.max(forgotten + 1);
            }
        }
        is_news
    }

    fn encode(&self, domain: B256) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(domain);
        bytes.extend(self.epoch.0.to_be_bytes());
        bytes.extend(self.least.to_be_bytes());
        bytes.extend(u32::try_from(self.signed.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (number, batch) in &self.signed {
            bytes.extend(number.to_be_bytes());
            bytes.extend(batch);
        }
        bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8], domain: B256) -> Result<Self, &'static str> {
        let (body, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or("is too short")?;
        if crc32c::crc32c(body).to_be_bytes() != *crc {
            return Err("is damaged: its checksum is wrong");
        }
        let (head, entries) = body.split_at_checked(HEAD_BYTES).ok_or("is too short")?;
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        if head[..8] != *MAGIC || number(&head[8..12]) != u64::from(VERSION) {
            return Err("is not an attestation guard of version 1");
        }
        if head[12..44] != *domain {
            return Err("is of another chain or inbox");
        }
        let count = number(&head[60..64]);
        if entries.len() as u64 != count * ENTRY_BYTES as u64 || count > REMEMBERED as u64 {
            return Err("has another length than it says");
        }
        let rows = entries.chunks_exact(ENTRY_BYTES);
        let signed: BTreeMap<u64, B256> = rows
            .map(|row| (number(&row[..8]), B256::from_slice(&row[8..])))
            .collect();
        Ok(Self {
            epoch: Epoch(number(&head[44..52])),
            least: number(&head[52..60]),
            signed,
        })
    }
}

/// Why there is no guard to sign with.
#[derive(Debug, thiserror::Error)]
pub enum GuardFileError {
    /// The file system.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not the guard that it must be.
    #[error("{}: {what}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        what: &'static str,
    },
    /// A signature that the guard refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The guard and its file.
#[derive(Debug)]
pub struct GuardFile {
    path: PathBuf,
    domain: B256,
    guard: AttestationGuard,
    /// A write failed: what the file holds is unknown, so nothing is signed any more.
    is_broken: bool,
}

impl GuardFile {
    /// Makes the file of a key that signs nothing below batch `least`. `domain`: the EIP-712 separator.
    ///
    /// # Errors
    /// [`GuardFileError::Io`]; also if it exists.
    pub fn create(path: &Path, domain: B256, least: u64) -> Result<Self, GuardFileError> {
        let file = Self {
            path: path.to_owned(),
            domain,
            guard: AttestationGuard::new(least),
            is_broken: false,
        };
        if path.exists() {
            let what = "exists already";
            return Err(GuardFileError::Unusable { path: file.path, what });
        }
        file.write()?;
        Ok(file)
    }

    /// Reads the file; `None` if there is none.
    ///
    /// # Errors
    /// [`GuardFileError`] if it cannot be read, is damaged, or belongs to another chain or inbox.
    pub fn open(path: &Path, domain: B256) -> Result<Option<Self>, GuardFileError> {
        let io = |error| GuardFileError::Io {
            path: path.to_owned(),
            error,
        };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
        let path = path.to_owned();
        match AttestationGuard::decode(&bytes, domain) {
            Ok(guard) => Ok(Some(Self {
                path,
                domain,
                guard,
                is_broken: false,
            })),
            Err(what) => Err(GuardFileError::Unusable { path, what }),
        }
    }

    /// Allows one signature: when this returns, that it may be made is durable.
    ///
    /// # Errors
    /// [`GuardFileError::Refused`] if it would contradict another, [`GuardFileError::Io`] if it could not be written; after
    /// that nothing is allowed any more.
    pub fn record(&mut self, epoch: Epoch, number: u64, batch: B256) -> Result<(), GuardFileError> {
        if self.is_broken {
            let (path, what) = (self.path.clone(), "could not be written before; start the node again");
            return Err(GuardFileError::Unusable { path, what });
        }
        self.guard.check(epoch, number, batch)?;
        if !self.guard.remember(epoch, number, batch) {
            return Ok(());
        }
        self.is_broken = true;
        self.write()?;
        self.is_broken = false;
        Ok(())
    }

    /// Through a new file, so that a torn write leaves the old one.
    fn write(&self) -> Result<(), GuardFileError> {
        let new = self.path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&new)?;
            file.write_all(&self.guard.encode(self.domain))?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)?;
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
        };
        write().map_err(|error| GuardFileError::Io {
            path: self.path.clone(),
            error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: B256 = B256::repeat_byte(7);
    const ONE: B256 = B256::repeat_byte(1);
    const TWO: B256 = B256::repeat_byte(2);

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("attestations");
        (folder, path)
    }

    #[test]
    fn a_number_is_signed_for_one_batch_across_restarts() {
        let (_folder, path) = file();
        let mut guard = GuardFile::create(&path, DOMAIN, 0).unwrap();
        guard.record(Epoch(0), 5, ONE).unwrap();
        guard.record(Epoch(0), 4, TWO).unwrap();
        let mut guard = GuardFile::open(&path, DOMAIN).unwrap().unwrap();
        guard.record(Epoch(0), 5, ONE).unwrap();
        let conflict = Refusal::Conflict {
            number: 5,
            signed: ONE,
            asked: TWO,
        };
        assert!(matches!(guard.record(Epoch(0), 5, TWO), Err(GuardFileError::Refused(why)) if why == conflict));
        // A higher epoch does not free the number.
        assert!(guard.record(Epoch(1), 5, TWO).is_err());
    }

    #[test]
    fn what_is_forgotten_is_never_signed_again() {
        let (_folder, path) = file();
        let mut guard = GuardFile::create(&path, DOMAIN, 3).unwrap();
        let old = |number, least| Refusal::Old { number, least };
        assert!(matches!(guard.record(Epoch(0), 2, ONE), Err(GuardFileError::Refused(why)) if why == old(2, 3)));
        for number in 3..3 + 65 {
            guard.record(Epoch(0), number, ONE).unwrap();
        }
        let guard = GuardFile::open(&path, DOMAIN).unwrap().unwrap().guard;
        assert_eq!(guard.check(Epoch(0), 3, ONE), Err(old(3, 4)));
        assert_eq!(guard.check(Epoch(0), 4, ONE), Ok(()));
    }

    #[test]
    fn an_epoch_that_is_over_signs_nothing_new() {
        let (_folder, path) = file();
        let mut guard = GuardFile::create(&path, DOMAIN, 0).unwrap();
        guard.record(Epoch(2), 5, ONE).unwrap();
        assert!(guard.record(Epoch(1), 6, ONE).is_err());
        guard.record(Epoch(2), 6, ONE).unwrap();
    }

    #[test]
    fn every_damaged_byte_is_an_error_and_no_file_is_none() {
        let (_folder, path) = file();
        assert!(GuardFile::open(&path, DOMAIN).unwrap().is_none());
        let mut guard = GuardFile::create(&path, DOMAIN, 0).unwrap();
        guard.record(Epoch(0), 5, ONE).unwrap();
        assert!(GuardFile::create(&path, DOMAIN, 0).is_err());
        assert!(GuardFile::open(&path, B256::ZERO).is_err());
        let sound = std::fs::read(&path).unwrap();
        for at in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert!(GuardFile::open(&path, DOMAIN).is_err(), "byte {at}");
            std::fs::write(&path, &sound[..at]).unwrap();
            assert!(GuardFile::open(&path, DOMAIN).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn a_guard_that_could_not_be_written_signs_nothing_more() {
        let (folder, path) = file();
        let mut guard = GuardFile::create(&path, DOMAIN, 0).unwrap();
        // Nothing can be created under a folder that is gone.
        drop(folder);
        assert!(guard.record(Epoch(0), 1, ONE).is_err());
        assert!(guard.record(Epoch(0), 1, ONE).is_err());
        assert!(guard.record(Epoch(0), 0, ONE).is_err());
    }
}
