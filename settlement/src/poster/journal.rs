//! The poster's journal: signed transactions, durable before they are sent.
//!
//! An append-only file: 8 bytes that name the format, then records. A record: the length of its body (u32), CRC32C of these 4
//! bytes, the body, CRC32C of the body. A body: kind 1 (signed): number u64, batch (32), nonce u64, three fees u128, hash
//! (32), the transaction's bytes; kind 2 (finalized): number u64, nonce u64. Integers are little-endian.
//!
//! Promises that what [`Journal::record`] was given is there after a power cut, and that one process has the file. A record is
//! written only after the one before it was durable, so that only the last one can be torn: it is dropped, for it was
//! not sent. Damage anywhere else is an error. After a failed write the journal must not be used again.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use alloy_primitives::{B256, Bytes};

use super::fees::PostFees;
use super::words::Attempt;

const MAGIC: &[u8; 8] = b"fuspost1";

/// Bytes of a body, at most: six blobs with their proofs are 830 kB.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Bytes from which a file that is mostly of no use is written anew: eighty transactions of six blobs.
const REWRITE_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes of a record before its body, and after it.
const PREFIX_BYTES: u64 = 8;
const SUFFIX_BYTES: u64 = 4;

/// Bytes of a body of kind 1 before the transaction.
const SIGNED_BYTES: usize = 1 + 8 + 32 + 8 + 3 * 16 + 32;

const SIGNED: u8 = 1;
const FINALIZED: u8 = 2;

/// Why the journal cannot be relied on.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system's.
    #[error("cannot {action} {path}: {error}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Its words.
        error: io::Error,
    },
    /// Another process has it.
    #[error("{path} is in use by another process", path = path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// No journal, or one that was changed.
    #[error("{path} is damaged at byte {offset}: {why}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// A transaction larger than any is.
    #[error("a record of {0} bytes, limit is {BODY_BYTES_MAX}")]
    Large(usize),
}

/// What a journal remembers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Attempts whose nonces are not finalized, as they were recorded.
    pub attempts: Vec<Attempt>,
    /// The first batch and the first nonce that are not finalized.
    pub finalized: (u64, u64),
}

/// A file of signed transactions. What [`Journal::record`] was given is there after a power cut.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    end: u64,
    /// Where the bytes of each transaction are, and its nonce.
    places: BTreeMap<B256, Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    length: u64,
    nonce: u64,
}

impl Place {
    const fn record_start(&self) -> u64 {
        self.offset - SIGNED_BYTES as u64 - PREFIX_BYTES
    }

    const fn record_bytes(&self) -> u64 {
        PREFIX_BYTES + SIGNED_BYTES as u64 + self.length + SUFFIX_BYTES
    }
}

impl Journal {
    /// Opens a journal, or begins one. Its folder must exist.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(path: &Path) -> Result<(Self, Recovered), JournalError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(io_error("open", path))?;
        lock(&file, path)?;
        // What another process wrote and did not live to sync is made durable before it is believed.
        file.sync_all().map_err(io_error("sync", path))?;
        let mut journal = Self {
            path: path.to_owned(),
            file,
            end: 0,
            places: BTreeMap::new(),
        };
        let recovered = journal.recover()?;
        sync_folder(path)?;
        Ok((journal, recovered))
    }

    /// Makes a signed transaction durable.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn record(&mut self, attempt: &Attempt, raw: &Bytes) -> Result<(), JournalError> {
        let offset = self.end + PREFIX_BYTES + SIGNED_BYTES as u64;
        self.append(&signed_body(attempt, raw))?;
        let place = Place {
            offset,
            length: raw.len() as u64,
            nonce: attempt.nonce,
        };
        self.places.insert(attempt.hash, place);
        Ok(())
    }

    /// The bytes of a recorded transaction; none where it was never recorded, or is finalized.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn raw(&mut self, hash: &B256) -> Result<Option<Bytes>, JournalError> {
        let Some(place) = self.places.get(hash).copied() else {
            return Ok(None);
        };
        self.read(place.offset, place.length).map(|raw| Some(raw.into()))
    }

    /// Makes it durable that batches below `number` and nonces below `nonce` are finalized. The file begins anew when no
    /// other transaction is left, or when most of it is of no use any more.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn finalize(&mut self, number: u64, nonce: u64) -> Result<(), JournalError> {
        let body = finalized_body(number, nonce);
        let before = self.places.len();
        self.places.retain(|_, place| place.nonce >= nonce);
        let live: u64 = self.places.values().map(Place::record_bytes).sum();
        let is_done = self.places.is_empty() && before > 0;
        if is_done || (self.end > REWRITE_BYTES && self.end / 2 > live) {
            return self.begin_anew(&body);
        }
        self.append(&body)
    }

    fn append(&mut self, body: &[u8]) -> Result<(), JournalError> {
        let record = record(body)?;
        let written = self.file.seek(SeekFrom::Start(self.end));
        let written = written.and_then(|_| self.file.write_all(&record));
        written.map_err(io_error("write", &self.path))?;
        self.file.sync_data().map_err(io_error("sync", &self.path))?;
        self.end += record.len() as u64;
        Ok(())
    }

    /// Puts a file in the place of this one that has a first record, and those of transactions which are not finalized.
    fn begin_anew(&mut self, first: &[u8]) -> Result<(), JournalError> {
        let mut bytes = [&MAGIC[..], &record(first)?].concat();
        let mut places: Vec<(B256, Place)> = self.places.iter().map(|(hash, place)| (*hash, *place)).collect();
        places.sort_by_key(|(_, place)| place.offset);
        for (_, place) in &mut places {
            let kept = self.read(place.record_start(), place.record_bytes())?;
            place.offset = bytes.len() as u64 + PREFIX_BYTES + SIGNED_BYTES as u64;
            bytes.extend(kept);
        }
        let draft = self.path.with_extension("new");
        let mut file = OpenOptions::new();
        let file = file.read(true).write(true).create(true).truncate(true).open(&draft);
        let mut file = file.map_err(io_error("create", &draft))?;
        // Before it has the name: whoever opens that finds it taken.
        lock(&file, &draft)?;
        file.write_all(&bytes).map_err(io_error("write", &draft))?;
        file.sync_all().map_err(io_error("sync", &draft))?;
        std::fs::rename(&draft, &self.path).map_err(io_error("rename", &draft))?;
        sync_folder(&self.path)?;
        self.file = file;
        self.end = bytes.len() as u64;
        self.places = places.into_iter().collect();
        Ok(())
    }

    fn read(&mut self, offset: u64, length: u64) -> Result<Vec<u8>, JournalError> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let read = self.file.seek(SeekFrom::Start(offset));
        let read = read.and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(io_error("read", &self.path))?;
        Ok(bytes)
    }

    /// Reads the file, and cuts off a record that was not durable.
    fn recover(&mut self) -> Result<Recovered, JournalError> {
        let mut bytes = Vec::new();
        self.file
            .read_to_end(&mut bytes)
            .map_err(io_error("read", &self.path))?;
        let mut recovered = Recovered::default();
        if bytes.len() < MAGIC.len() {
            // A process that died while it began: nothing was recorded yet.
            self.file.set_len(0).map_err(io_error("cut", &self.path))?;
            let begun = self.file.seek(SeekFrom::Start(0));
            let begun = begun.and_then(|_| self.file.write_all(MAGIC));
            begun.map_err(io_error("write", &self.path))?;
            self.end = MAGIC.len() as u64;
            self.file.sync_all().map_err(io_error("sync", &self.path))?;
            return Ok(recovered);
        }
        if !bytes.starts_with(MAGIC) {
            return Err(self.damaged(0, "it is no journal of this format"));
        }
        self.end = MAGIC.len() as u64;
        loop {
            let at = usize::try_from(self.end).unwrap_or(usize::MAX);
            let rest = bytes.get(at..).unwrap_or_default();
            match next_body(rest) {
                Next::End => break,
                Next::Torn => {
                    self.file.set_len(self.end).map_err(io_error("cut", &self.path))?;
                    self.file.sync_all().map_err(io_error("sync", &self.path))?;
                    break;
                }
                Next::Damaged(why) => return Err(self.damaged(self.end, why)),
                Next::Body(body) => {
                    if !self.replay(body, &mut recovered) {
                        return Err(self.damaged(self.end, "a record of no known kind"));
                    }
                    self.end += PREFIX_BYTES + body.len() as u64 + SUFFIX_BYTES;
                }
            }
        }
        Ok(recovered)
    }

    fn replay(&mut self, body: &[u8], recovered: &mut Recovered) -> bool {
        if let Some(attempt) = signed_of(body) {
            let place = Place {
                offset: self.end + PREFIX_BYTES + SIGNED_BYTES as u64,
                length: (body.len() - SIGNED_BYTES) as u64,
                nonce: attempt.nonce,
            };
            self.places.insert(attempt.hash, place);
            recovered.attempts.push(attempt);
            return true;
        }
        let Some((number, nonce)) = finalized_of(body) else {
            return false;
        };
        recovered.finalized = (number, nonce);
        recovered.attempts.retain(|attempt| attempt.nonce >= nonce);
        self.places.retain(|_, place| place.nonce >= nonce);
        true
    }

    fn damaged(&self, offset: u64, why: &'static str) -> JournalError {
        JournalError::Damaged {
            path: self.path.clone(),
            offset,
            why,
        }
    }
}

/// What stands at a place in the file.
enum Next<'a> {
    Body(&'a [u8]),
    End,
    /// A write that did not end.
    Torn,
    Damaged(&'static str),
}

fn next_body(rest: &[u8]) -> Next<'_> {
    if rest.is_empty() {
        return Next::End;
    }
    let Some((prefix, behind)) = rest.split_first_chunk::<8>() else {
        return Next::Torn;
    };
    let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| prefix[at + byte]));
    if crc32c::crc32c(&prefix[..4]) != number(4) {
        // The system may have made the file longer, and not written the beginning yet.
        let is_unwritten = prefix.iter().all(|byte| *byte == 0);
        return if is_unwritten {
            Next::Torn
        } else {
            Next::Damaged("the length of a record does not have its checksum")
        };
    }
    let length = number(0) as usize;
    if length > BODY_BYTES_MAX {
        return Next::Damaged("a record is too long");
    }
    let Some((body, behind)) = behind.split_at_checked(length) else {
        return Next::Torn;
    };
    let Some((sum, behind)) = behind.split_first_chunk::<4>() else {
        return Next::Torn;
    };
    if crc32c::crc32c(body) == u32::from_le_bytes(*sum) {
        Next::Body(body)
    } else if behind.is_empty() {
        Next::Torn
    } else {
        Next::Damaged("a record does not have its checksum, and others are behind it")
    }
}

fn record(body: &[u8]) -> Result<Vec<u8>, JournalError> {
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= BODY_BYTES_MAX);
    let length = length.ok_or(JournalError::Large(body.len()))?.to_le_bytes();
    let mut record = Vec::with_capacity(body.len() + 12);
    record.extend(length);
    record.extend(crc32c::crc32c(&length).to_le_bytes());
    record.extend(body);
    record.extend(crc32c::crc32c(body).to_le_bytes());
    Ok(record)
}

fn signed_body(attempt: &Attempt, raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(SIGNED_BYTES + raw.len());
    body.push(SIGNED);
    body.extend(attempt.number.to_le_bytes());
    body.extend(attempt.batch);
    body.extend(attempt.nonce.to_le_bytes());
    let fees = [attempt.fees.max_fee, attempt.fees.tip, attempt.fees.blob_fee];
    body.extend(fees.into_iter().flat_map(u128::to_le_bytes));
    body.extend(attempt.hash);
    body.extend(raw);
    body
}

fn signed_of(body: &[u8]) -> Option<Attempt> {
    let (head, _) = body.split_at_checked(SIGNED_BYTES)?;
    let (kind, head) = head.split_first()?;
    if *kind != SIGNED {
        return None;
    }
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| head[at + byte]));
    let fee = |at: usize| u128::from_le_bytes(std::array::from_fn(|byte| head[48 + 16 * at + byte]));
    let fees = PostFees {
        max_fee: fee(0),
        tip: fee(1),
        blob_fee: fee(2),
    };
    Some(Attempt {
        number: number(0),
        batch: B256::from_slice(&head[8..40]),
        nonce: number(40),
        fees,
        hash: B256::from_slice(&head[96..128]),
    })
}

fn finalized_body(number: u64, nonce: u64) -> Vec<u8> {
    let mut body = vec![FINALIZED];
    body.extend(number.to_le_bytes());
    body.extend(nonce.to_le_bytes());
    body
}

fn finalized_of(body: &[u8]) -> Option<(u64, u64)> {
    let (kind, rest) = body.split_first()?;
    if *kind != FINALIZED || rest.len() != 16 {
        return None;
    }
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| rest[at + byte]));
    Some((number(0), number(8)))
}

fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => JournalError::Locked { path: path.to_owned() },
        TryLockError::Error(error) => io_error("lock", path)(error),
    })
}

/// Makes the names in a file's folder durable.
fn sync_folder(path: &Path) -> Result<(), JournalError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(io_error("sync", folder))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |error| JournalError::Io { action, path, error }
}

#[cfg(test)]
mod tests;
