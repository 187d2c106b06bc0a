//! Sorted runs: how the index lies in its tree, so that no write is random and a loss is seen.
//!
//! A run holds the entries of a span of heights, sorted, in chunks. Small runs are merged into larger ones.
//!
//! | an entry's bytes | what |
//! |---|---|
//! | 1 | 0: a lane; 1: a transaction |
//! | 16 | lane: rollup (8), first sequence number (8); transaction: the first 16 bytes of its hash, of which the first 8 are xored with the rollup |
//! | 8 | height · 2^16 + (lane: number of transactions − 1; transaction: index in its lane) |
//!
//! | a chunk | what |
//! |---|---|
//! | key, 25 bytes | run (8), lower bound of its entries' keys (17; zeros for the first chunk) |
//! | 17 | upper bound: the next chunk's lower bound; all ones for the last chunk |
//! | n · 25 | entries |
//! | 4 | CRC32C of the key and all above |
//!
//! Integers are big-endian, so that bytes sort as numbers. Bounds that meet prove that no chunk between two is lost.

use fusion_types::{Height, RollupId, TxHash};

/// What an entry is found by.
pub(super) type Key = [u8; KEY_BYTES];

const KEY_BYTES: usize = 17;
const ENTRY_BYTES: usize = KEY_BYTES + 8;
const CRC_BYTES: usize = 4;

/// Entries of a chunk, but for those with one key, which stay together. `sled` keeps up to 16 chunks in a node, copies
/// whole nodes, and counts nodes rather than bytes before it evicts: with chunks of 16 KiB it takes twice the memory.
const CHUNK_ENTRIES: usize = 64;

/// Below every key.
pub(super) const FIRST: Key = [0; KEY_BYTES];

/// Above every key.
pub(super) const LAST: Key = [0xff; KEY_BYTES];

/// Key of the lane of `rollup` that starts at `first_sequence`.
pub(super) fn lane_key(rollup: RollupId, first_sequence: u64) -> Key {
    let mut key = FIRST;
    key[1..9].copy_from_slice(&rollup.0.to_be_bytes());
    key[9..].copy_from_slice(&first_sequence.to_be_bytes());
    key
}

/// The rollup and first sequence number of a lane's key.
pub(super) fn lane_of(key: &Key) -> Option<(RollupId, u64)> {
    let rollup = u64::from_be_bytes(key[1..9].try_into().ok()?);
    let first_sequence = u64::from_be_bytes(key[9..].try_into().ok()?);
    (key[0] == 0).then_some((RollupId(rollup), first_sequence))
}

/// Key of a transaction.
pub(super) fn transaction_key(rollup: RollupId, hash: &TxHash) -> Key {
    let mut key = FIRST;
    key[0] = 1;
    key[1..].copy_from_slice(&hash[..16]);
    for (byte, other) in key[1..9].iter_mut().zip(rollup.0.to_be_bytes()) {
        *byte ^= other;
    }
    key
}

/// An entry's value.
pub(super) fn value(height: Height, small: usize) -> u64 {
    height.0 << 16 | (small as u64 & 0xffff)
}

/// The height and the small number in a value.
pub(super) fn parts(value: u64) -> (Height, u32) {
    (
        Height(value >> 16),
        u32::from(value.to_be_bytes()[6]) << 8 | u32::from(value.to_be_bytes()[7]),
    )
}

/// Key of the chunk of `run` with this lower bound.
pub(super) fn chunk_key(run: u64, lower: &Key) -> [u8; 8 + KEY_BYTES] {
    let mut key = [0; 8 + KEY_BYTES];
    key[..8].copy_from_slice(&run.to_be_bytes());
    key[8..].copy_from_slice(lower);
    key
}

/// Cuts sorted entries into chunks.
#[derive(Debug)]
pub(super) struct ChunkWriter {
    run: u64,
    lower: Key,
    last: Key,
    /// Room for the upper bound, then the entries.
    bytes: Vec<u8>,
}

/// A chunk's key and bytes.
pub(super) type Written = ([u8; 8 + KEY_BYTES], Vec<u8>);

impl ChunkWriter {
    pub(super) fn new(run: u64) -> Self {
        Self {
            run,
            lower: FIRST,
            last: FIRST,
            bytes: vec![0; KEY_BYTES],
        }
    }

    /// Adds an entry, not below the one before; returns a chunk that is full.
    pub(super) fn push(&mut self, key: &Key, value: u64) -> Option<Written> {
        let full = self.bytes.len() >= KEY_BYTES + CHUNK_ENTRIES * ENTRY_BYTES && *key != self.last;
        let chunk = full.then(|| self.close(*key));
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self.last = *key;
        chunk
    }

    /// The last chunk.
    pub(super) fn finish(mut self) -> Written {
        self.close(LAST)
    }

    fn close(&mut self, upper: Key) -> Written {
        let key = chunk_key(self.run, &self.lower);
        let mut bytes = std::mem::replace(&mut self.bytes, vec![0; KEY_BYTES]);
        bytes[..KEY_BYTES].copy_from_slice(&upper);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&key), &bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        self.lower = upper;
        (key, bytes)
    }
}

/// A chunk that was read.
#[derive(Debug)]
pub(super) struct Chunk<'a> {
    pub upper: Key,
    entries: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// The chunk in `bytes` that was found under `key`; `None` if it is damaged.
    pub(super) fn decode(key: &[u8], bytes: &'a [u8]) -> Option<Self> {
        let (rest, crc) = bytes.split_at_checked(bytes.len().checked_sub(CRC_BYTES)?)?;
        if crc != crc32c::crc32c_append(crc32c::crc32c(key), rest).to_be_bytes() {
            return None;
        }
        let (upper, entries) = rest.split_at_checked(KEY_BYTES)?;
        let upper = upper.try_into().ok()?;
        (entries.len() % ENTRY_BYTES == 0).then_some(Self { upper, entries })
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len() / ENTRY_BYTES
    }

    /// Entry `index`.
    pub(super) fn entry(&self, index: usize) -> Option<(Key, u64)> {
        let bytes = self.entries.get(index * ENTRY_BYTES..(index + 1) * ENTRY_BYTES)?;
        let (key, value) = bytes.split_at(KEY_BYTES);
        Some((key.try_into().ok()?, u64::from_be_bytes(value.try_into().ok()?)))
    }

    /// The last entry with a key of at most `key`.
    pub(super) fn floor(&self, key: &Key) -> Option<(Key, u64)> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.entry(middle).is_some_and(|(found, _)| found <= *key) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.entry(low.checked_sub(1)?)
    }
}
