//! A segment: one rollup's part of a batch, compressed by itself so that its rollup reads it alone.
//!
//! Compressing each rollup apart costs next to nothing (`deploy/bench/`), and what does not compress is stored as it is.
//! Compressors differ between versions: a segment is decoded and compared, never made again and compared.
//!
//! Layout: kind u8 (0 stored, 1 brotli) ‖ length before compression u32, big-endian ‖ bytes.

use std::io::Write;

use alloy_primitives::Bytes;
use alloy_rlp::{Decodable, RlpDecodable, RlpEncodable};
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use fusion_types::limits::{FORCED_PER_BLOCK_MAX, TRANSACTION_BYTES_MAX};
use fusion_types::{DecodeError, Height, L1Origin};

const STORED: u8 = 0;
const BROTLI: u8 = 1;
pub(crate) const HEAD_BYTES: usize = 5;

/// Quality 5 compresses transactions as well as 9 does, at five times the speed.
const QUALITY: i32 = 5;
/// A window of 4 MiB: more than any segment.
const WINDOW_BITS: i32 = 22;

/// What the segments of one payload may be before compression, in bytes, all together. A batch is far smaller; one block
/// may be half of it.
const RAW_BYTES_MAX: usize = 8 << 20;

/// Items of all lists of a payload together. A block has 32,768 transactions at most, and a batch of several blocks has no
/// room for so many.
const ITEMS_MAX: usize = 1 << 17;

/// What may still be unpacked of one payload: its segments share it, so that many small ones cost no more than a large one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    bytes: usize,
    items: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: RAW_BYTES_MAX,
            items: ITEMS_MAX,
        }
    }
}

impl Budget {
    fn take_bytes(&mut self, bytes: usize) -> Result<(), SegmentError> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(SegmentError::Large(bytes))?;
        Ok(())
    }

    fn take_item(&mut self) -> alloy_rlp::Result<()> {
        const FULL: alloy_rlp::Error = alloy_rlp::Error::Custom("more items than a payload may have");
        self.items = self.items.checked_sub(1).ok_or(FULL)?;
        Ok(())
    }
}

/// One lane, as its rollup's segment carries it.
#[derive(Debug, Clone, PartialEq, Eq, RlpEncodable)]
pub struct SegmentLane {
    /// Height of its block.
    pub height: Height,
    /// Payloads in order; at least one.
    pub transactions: Vec<Bytes>,
}

/// One block without what follows from the blocks before it and from the lanes.
#[derive(Debug, Clone, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(crate) struct SegmentBlock {
    /// Place of its proposer in the committee.
    pub(crate) proposer: u32,
    pub(crate) time_ms: u64,
    /// Empty where it is the parent's.
    pub(crate) l1_origin: Vec<L1Origin>,
    /// How many forced transactions it consumes; their place in the queue follows from the blocks before.
    pub(crate) forced: u32,
}

/// Why bytes are no segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Shorter than its head, or of an unknown kind.
    #[error("the segment of {0} bytes has no known head")]
    Head(usize),
    /// Says to be larger than what a payload may still hold.
    #[error("the segment says to be {0} bytes, limit is {RAW_BYTES_MAX} with all segments before it")]
    Large(usize),
    /// Not as long as it says.
    #[error("the segment holds {bytes} bytes and says {said}")]
    Length {
        /// What it says.
        said: usize,
        /// What came out.
        bytes: usize,
    },
    /// The compressed bytes are damaged, or no RFC 7932 stream.
    #[error("the segment does not decompress")]
    Compression,
    /// Bytes follow the compressed ones.
    #[error("{0} bytes follow the compressed segment")]
    Behind(usize),
    /// Not the list that it must be.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// The segment of `items`.
pub(crate) fn pack<T: alloy_rlp::Encodable>(items: &[T]) -> Vec<u8> {
    let mut raw = Vec::new();
    alloy_rlp::encode_list(items, &mut raw);
    let compressed = compress(&raw);
    let (kind, bytes) = if compressed.len() < raw.len() {
        (BROTLI, &compressed)
    } else {
        (STORED, &raw)
    };
    let length = u32::try_from(raw.len()).expect("a batch's blocks are far below 4 GiB");
    let mut segment = Vec::with_capacity(HEAD_BYTES + bytes.len());
    segment.push(kind);
    segment.extend(length.to_be_bytes());
    segment.extend(bytes);
    segment
}

/// The lanes of a rollup's segment; none is without transactions, none of these empty or too large.
pub(crate) fn lanes(segment: &[u8], budget: &mut Budget) -> Result<Vec<SegmentLane>, SegmentError> {
    let raw = Bytes::from(unpack(segment, budget)?);
    list(&raw, budget, |buf, budget| lane(&raw, buf, budget))
}

/// The blocks of a batch.
pub(crate) fn blocks(segment: &[u8], budget: &mut Budget) -> Result<Vec<SegmentBlock>, SegmentError> {
    let raw = unpack(segment, budget)?;
    list(&raw, budget, |buf, _| match SegmentBlock::decode(buf)? {
        row if row.forced > FORCED_PER_BLOCK_MAX => Err(alloy_rlp::Error::Custom("a block consumes too many")),
        row => Ok(row),
    })
}

fn list<T>(
    mut raw: &[u8],
    budget: &mut Budget,
    item: impl Fn(&mut &[u8], &mut Budget) -> alloy_rlp::Result<T>,
) -> Result<Vec<T>, SegmentError> {
    let mut list = alloy_rlp::Header::decode_bytes(&mut raw, true).map_err(DecodeError::from)?;
    if !raw.is_empty() {
        return Err(DecodeError::Trailing(raw.len()).into());
    }
    let mut items = Vec::new();
    while !list.is_empty() {
        budget.take_item().map_err(DecodeError::from)?;
        items.push(item(&mut list, budget).map_err(DecodeError::from)?);
    }
    Ok(items)
}

/// Reads one lane out of `raw`; the payloads share its memory.
fn lane(raw: &Bytes, buf: &mut &[u8], budget: &mut Budget) -> alloy_rlp::Result<SegmentLane> {
    let mut payload = alloy_rlp::Header::decode_bytes(buf, true)?;
    let height = Height::decode(&mut payload)?;
    let mut list = alloy_rlp::Header::decode_bytes(&mut payload, true)?;
    if !payload.is_empty() || list.is_empty() {
        return Err(alloy_rlp::Error::UnexpectedLength);
    }
    let mut transactions = Vec::new();
    while !list.is_empty() {
        budget.take_item()?;
        let transaction = alloy_rlp::Header::decode_bytes(&mut list, false)?;
        if transaction.is_empty() || transaction.len() > TRANSACTION_BYTES_MAX {
            return Err(alloy_rlp::Error::Custom("a transaction is empty or too large"));
        }
        transactions.push(raw.slice_ref(transaction));
    }
    Ok(SegmentLane { height, transactions })
}

/// The bytes before compression.
pub(crate) fn unpack(segment: &[u8], budget: &mut Budget) -> Result<Vec<u8>, SegmentError> {
    let (Some((head, bytes)), Some(kind)) = (segment.split_first_chunk::<HEAD_BYTES>(), segment.first()) else {
        return Err(SegmentError::Head(segment.len()));
    };
    let said = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    budget.take_bytes(said)?;
    match *kind {
        STORED if bytes.len() == said => Ok(bytes.to_vec()),
        STORED => {
            let bytes = bytes.len();
            Err(SegmentError::Length { said, bytes })
        }
        BROTLI => decompress(bytes, said),
        _ => Err(SegmentError::Head(segment.len())),
    }
}

fn compress(raw: &[u8]) -> Vec<u8> {
    let params = brotli::enc::BrotliEncoderParams {
        quality: QUALITY,
        lgwin: WINDOW_BITS,
        size_hint: raw.len(),
        ..Default::default()
    };
    let mut compressed = Vec::new();
    let mut writer = brotli::CompressorWriter::with_params(&mut compressed, 1 << 16, &params);
    writer.write_all(raw).expect("a vector takes everything");
    drop(writer);
    compressed
}

/// Decompresses exactly `said` bytes, which the caller has bounded, from all of `bytes`. Strict: a larger window than
/// RFC 7932's is no stream that others can read.
fn decompress(bytes: &[u8], said: usize) -> Result<Vec<u8>, SegmentError> {
    let allocator = StandardAlloc::default;
    let mut state = BrotliState::new_strict(allocator(), allocator(), allocator());
    let mut raw = vec![0; said];
    let (mut behind, mut read, mut room, mut at, mut written) = (bytes.len(), 0, said, 0, 0);
    let result = BrotliDecompressStream(
        &mut behind,
        &mut read,
        bytes,
        &mut room,
        &mut at,
        &mut raw,
        &mut written,
        &mut state,
    );
    match result {
        BrotliResult::ResultSuccess if behind > 0 => Err(SegmentError::Behind(behind)),
        BrotliResult::ResultSuccess if room == 0 => Ok(raw),
        BrotliResult::ResultSuccess => Err(SegmentError::Length { said, bytes: at }),
        // There is at least one byte more.
        BrotliResult::NeedsMoreOutput => Err(SegmentError::Length { said, bytes: said + 1 }),
        BrotliResult::NeedsMoreInput | BrotliResult::ResultFailure => Err(SegmentError::Compression),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(segment: &[u8]) -> Result<Vec<SegmentLane>, SegmentError> {
        lanes(segment, &mut Budget::default())
    }

    fn some_lanes(count: u64, payload: &[u8]) -> Vec<SegmentLane> {
        let lane = |height| SegmentLane {
            height: Height(height),
            transactions: vec![Bytes::copy_from_slice(payload)],
        };
        (0..count).map(lane).collect()
    }

    #[test]
    fn what_repeats_is_compressed_and_noise_is_stored() {
        for (items, kind) in [
            (some_lanes(100, &[7; 200]), BROTLI),
            (some_lanes(1, &[1, 2, 3]), STORED),
        ] {
            let segment = pack(&items);
            assert_eq!(segment[0], kind);
            assert_eq!(read(&segment).unwrap(), items);
        }
    }

    #[test]
    fn a_segment_is_as_long_as_it_says_and_no_bomb_is_opened_further() {
        let mut segment = pack(&some_lanes(20_000, &[7; 200]));
        assert!(segment.len() < 100_000, "{} bytes compress well", segment.len());
        segment[1..5].copy_from_slice(&1_000_u32.to_be_bytes());
        let length = SegmentError::Length {
            said: 1_000,
            bytes: 1_001,
        };
        assert_eq!(read(&segment), Err(length));
        segment[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(read(&segment), Err(SegmentError::Large(0xffff_ffff)));
    }

    #[test]
    fn bytes_that_are_no_segment_are_refused() {
        assert_eq!(read(&[]), Err(SegmentError::Head(0)));
        assert_eq!(read(&[9, 0, 0, 0, 1, 0xc0]), Err(SegmentError::Head(6)));
        assert!(matches!(read(&[0, 0, 0, 0, 1, 0x80]), Err(SegmentError::Decode(_))));
        assert!(matches!(read(&[0, 0, 0, 0, 2, 0xc0, 0]), Err(SegmentError::Decode(_))));
        assert!(matches!(
            read(&[1, 0, 0, 0, 2, 0xff, 0xff]),
            Err(SegmentError::Compression)
        ));
    }
    #[test]
    fn nothing_stands_behind_a_compressed_segment() {
        let mut segment = pack(&some_lanes(100, &[7; 200]));
        segment.extend([0; 10_000]);
        assert_eq!(read(&segment), Err(SegmentError::Behind(10_000)));
    }

    #[test]
    fn a_window_that_only_some_decoders_know_is_refused() {
        let params = brotli::enc::BrotliEncoderParams {
            large_window: true,
            lgwin: 26,
            ..Default::default()
        };
        let (mut raw, mut compressed) = (Vec::new(), Vec::new());
        alloy_rlp::encode_list(&some_lanes(100, &[7; 200]), &mut raw);
        brotli::BrotliCompress(&mut raw.as_slice(), &mut compressed, &params).unwrap();
        let length = u32::try_from(raw.len()).unwrap().to_be_bytes();
        let segment = [&[BROTLI], length.as_slice(), &compressed].concat();
        assert_eq!(read(&segment), Err(SegmentError::Compression));
        let mut lenient = Vec::new();
        brotli::BrotliDecompress(&mut compressed.as_slice(), &mut lenient).unwrap();
        assert_eq!(lenient, raw);
    }

    #[test]
    fn all_segments_of_a_payload_share_one_budget() {
        let segment = pack(&some_lanes(20_000, &[7; 200]));
        let mut budget = Budget::default();
        // Each is 4.1 MB before compression, and 40,000 items.
        assert!(lanes(&segment, &mut budget).is_ok() && lanes(&segment, &mut budget).is_ok());
        assert!(matches!(lanes(&segment, &mut budget), Err(SegmentError::Large(_))));
        let many = pack(&some_lanes(50_000, &[7]));
        let mut budget = Budget::default();
        assert!(lanes(&many, &mut budget).is_ok());
        assert!(matches!(lanes(&many, &mut budget), Err(SegmentError::Decode(_))));
    }

    #[test]
    fn a_lane_without_transactions_or_with_an_empty_one_is_refused() {
        for payloads in [
            Vec::new(),
            vec![Bytes::new()],
            vec![vec![7; TRANSACTION_BYTES_MAX + 1].into()],
        ] {
            let lane = SegmentLane {
                height: Height(1),
                transactions: payloads,
            };
            assert!(matches!(read(&pack(&[lane])), Err(SegmentError::Decode(_))));
        }
    }
}
