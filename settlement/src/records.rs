//! The batches that L1 has finalized, and where cutting goes on after the last of them.
//!
//! Two files in one folder: `batches`, one row of [`ROW_BYTES`] for each batch in order, and `cut`, the replicated state
//! after the last. Both follow from the block log and L1: at any doubt they are emptied, and the settler reads everything
//! again. Promises: what is read back is what was written, or nothing; a batch is found by its height in the logarithm of
//! their number, from any thread. Leaves to others: what is final.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::B256;
use alloy_rlp::{Decodable, Encodable};
use fusion_types::{BATCH_HEADER_BYTES_LONG, Batch, BatchDomain, Height, NetworkId, State};

use crate::cutting::Cut;

/// Bytes of a row: length of the header u16 ‖ header, padded with zeros ‖ parent ‖ forced hash ‖ transaction ‖ block u64 ‖
/// block hash ‖ 2 zeros ‖ CRC32C.
pub const ROW_BYTES: usize = 384;

const CRC_AT: usize = ROW_BYTES - 4;
const HEADER_AT: usize = 2;
const PARENT_AT: usize = HEADER_AT + BATCH_HEADER_BYTES_LONG;
const FORCED_AT: usize = PARENT_AT + 32;
const TRANSACTION_AT: usize = FORCED_AT + 32;
const BLOCK_AT: usize = TRANSACTION_AT + 32;
const BLOCK_HASH_AT: usize = BLOCK_AT + 8;

const _: () = assert!(BLOCK_HASH_AT + 32 + 2 == CRC_AT);

const MAGIC: &[u8; 8] = b"FUSIONCT";

/// A batch on L1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The batch.
    pub batch: Batch,
    /// What its data hash to.
    pub data: B256,
    /// The L1 transaction that posted it.
    pub transaction: B256,
    /// Number of the L1 block with it.
    pub block: u64,
    /// That block's hash.
    pub block_hash: B256,
}

/// Why there is no account of batches.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The file system.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A batch out of order: a defect.
    #[error("batch {number} does not follow {rows} batches")]
    Order {
        /// Its number.
        number: u64,
        /// How many there are.
        rows: u64,
    },
}

/// Writes them. One settler has it.
#[derive(Debug)]
pub struct Records {
    folder: PathBuf,
    file: Arc<File>,
    rows: u64,
    network: NetworkId,
    domain: B256,
}

/// Reads them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RecordsReader {
    file: Arc<File>,
    network: NetworkId,
}

impl Records {
    /// Opens the records in `folder`, and says where cutting goes on: at `genesis`, where there is nothing.
    ///
    /// # Errors
    /// [`RecordsError::Io`].
    pub fn open(
        folder: &Path,
        network: NetworkId,
        domain: &BatchDomain,
        genesis: State,
    ) -> Result<(Self, Cut), RecordsError> {
        let path = folder.join("batches");
        let io = |error| RecordsError::Io {
            path: path.clone(),
            error,
        };
        std::fs::create_dir_all(folder).map_err(io)?;
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(&path).map_err(io)?;
        let rows = file.metadata().map_err(io)?.len() / ROW_BYTES as u64;
        let mut records = Self {
            folder: folder.to_owned(),
            file: Arc::new(file),
            rows,
            network,
            domain: domain.separator(),
        };
        let found = records.read_cut().filter(|cut| {
            let last = cut.number.checked_sub(1).map(|last| records.reader().row(last));
            let last_hash = last.map(|row| row.map(|record| record.batch.hash()));
            cut.number <= rows && last_hash.unwrap_or(Some(B256::ZERO)) == Some(cut.parent)
        });
        let cut = found.unwrap_or(Cut {
            number: 0,
            parent: B256::ZERO,
            state: genesis,
        });
        records.rows = cut.number;
        records.file.set_len(cut.number * ROW_BYTES as u64).map_err(io)?;
        Ok((records, cut))
    }

    /// A reader of the same records.
    pub fn reader(&self) -> RecordsReader {
        RecordsReader {
            file: self.file.clone(),
            network: self.network,
        }
    }

    /// Adds the next batch; `after` is the state after its last block.
    ///
    /// # Errors
    /// [`RecordsError`]; then a start reads everything again.
    pub fn append(&mut self, record: &Record, after: &State) -> Result<(), RecordsError> {
        if record.batch.number != self.rows {
            let (number, rows) = (record.batch.number, self.rows);
            return Err(RecordsError::Order { number, rows });
        }
        let path = self.folder.join("batches");
        let io = |error| RecordsError::Io {
            path: path.clone(),
            error,
        };
        let mut file = &*self.file;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        file.write_all(&row(record)).map_err(io)?;
        file.sync_data().map_err(io)?;
        self.rows += 1;
        self.write_cut(self.rows, record.batch.hash(), after)
    }

    fn cut_path(&self) -> PathBuf {
        self.folder.join("cut")
    }

    fn head(&self) -> Vec<u8> {
        [MAGIC.as_slice(), self.network.0.as_slice(), self.domain.as_slice()].concat()
    }

    fn write_cut(&self, number: u64, parent: B256, state: &State) -> Result<(), RecordsError> {
        let (path, new) = (self.cut_path(), self.folder.join("cut.new"));
        let mut bytes = self.head();
        number.encode(&mut bytes);
        parent.encode(&mut bytes);
        state.encode(&mut bytes);
        bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)
        };
        write().map_err(|error| RecordsError::Io {
            path: path.clone(),
            error,
        })
    }

    /// What `cut` says, if it is whole and of this network and inbox.
    fn read_cut(&self) -> Option<Cut> {
        let mut bytes = Vec::new();
        File::open(self.cut_path()).ok()?.read_to_end(&mut bytes).ok()?;
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body).to_be_bytes() != *crc {
            return None;
        }
        let mut rest = body.strip_prefix(self.head().as_slice())?;
        let number = u64::decode(&mut rest).ok()?;
        let parent = B256::decode(&mut rest).ok()?;
        let state = State::decode(&mut rest).ok()?;
        rest.is_empty().then_some(Cut { number, parent, state })
    }
}

impl RecordsReader {
    /// How many batches there are.
    fn rows(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len()) / ROW_BYTES as u64
    }

    /// The batch with this number, if it is there and whole.
    pub fn row(&self, number: u64) -> Option<Record> {
        let mut bytes = [0; ROW_BYTES];
        let at = number.checked_mul(ROW_BYTES as u64)?;
        self.file.read_exact_at(&mut bytes, at).ok()?;
        parse(&bytes, self.network)
    }

    /// The batch with the block at `height`.
    pub fn at_height(&self, height: Height) -> Option<Record> {
        let (mut low, mut high) = (0, self.rows());
        while low < high {
            let middle = low + (high - low) / 2;
            let record = self.row(middle)?;
            if record.batch.last_height < height {
                low = middle + 1;
            } else if record.batch.first_height > height {
                high = middle;
            } else {
                return Some(record);
            }
        }
        None
    }
}

fn row(record: &Record) -> [u8; ROW_BYTES] {
    let mut row = [0; ROW_BYTES];
    let header = record.batch.header_bytes(record.data);
    let length = u16::try_from(header.len()).expect("a header is 240 bytes at most");
    row[..HEADER_AT].copy_from_slice(&length.to_be_bytes());
    row[HEADER_AT..HEADER_AT + header.len()].copy_from_slice(&header);
    row[PARENT_AT..FORCED_AT].copy_from_slice(record.batch.parent.as_slice());
    row[FORCED_AT..TRANSACTION_AT].copy_from_slice(record.batch.forced_hash.as_slice());
    row[TRANSACTION_AT..BLOCK_AT].copy_from_slice(record.transaction.as_slice());
    row[BLOCK_AT..BLOCK_HASH_AT].copy_from_slice(&record.block.to_be_bytes());
    row[BLOCK_HASH_AT..BLOCK_HASH_AT + 32].copy_from_slice(record.block_hash.as_slice());
    let crc = crc32c::crc32c(&row[..CRC_AT]);
    row[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
    row
}

fn parse(row: &[u8; ROW_BYTES], network: NetworkId) -> Option<Record> {
    if row[CRC_AT..] != crc32c::crc32c(&row[..CRC_AT]).to_be_bytes() {
        return None;
    }
    let hash = |at: usize| B256::from_slice(&row[at..at + 32]);
    let length = usize::from(u16::from_be_bytes([row[0], row[1]]));
    let header = row.get(HEADER_AT..HEADER_AT.checked_add(length)?)?;
    let read = Batch::from_header_bytes(header, network, hash(PARENT_AT), hash(FORCED_AT));
    let (batch, data) = read.ok()?;
    Some(Record {
        batch,
        data,
        transaction: hash(TRANSACTION_AT),
        block: u64::from_be_bytes(std::array::from_fn(|byte| row[BLOCK_AT + byte])),
        block_hash: hash(BLOCK_HASH_AT),
    })
}
