//! A segment: one rollup's part of a batch, compressed by itself so that its rollup reads it alone.
//!
//! Compressing each rollup apart costs next to nothing (`deploy/bench/`), and what does not compress is stored as it is.
//! Compressors differ between versions: a segment is decoded and compared, never made again and compared.
//!
//! Layout: kind u8 (0 stored, 1 brotli) ‖ length before compression u32, big-endian ‖ bytes.

use std::io::{Read, Write};

use alloy_primitives::Bytes;
use alloy_rlp::{Decodable, RlpDecodable, RlpEncodable};
use fusion_types::{DecodeError, Height, L1Origin};

const STORED: u8 = 0;
const BROTLI: u8 = 1;
pub(crate) const HEAD_BYTES: usize = 5;

/// Quality 5 compresses transactions as well as 9 does, at five times the speed.
const QUALITY: i32 = 5;
/// A window of 4 MiB: more than any segment.
const WINDOW_BITS: i32 = 22;

/// Largest segment before compression, in bytes. A batch is far smaller; one block may be so large.
const RAW_BYTES_MAX: usize = 8 << 20;

/// Items of a segment's list, at most: each takes a byte or more.
const ITEMS_MAX: usize = 1 << 20;

/// One lane, as its rollup's segment carries it.
#[derive(Debug, Clone, PartialEq, Eq, RlpEncodable, RlpDecodable)]
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
}

/// Why bytes are no segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Shorter than its head, or of an unknown kind.
    #[error("the segment of {0} bytes has no known head")]
    Head(usize),
    /// Says to be larger than any segment.
    #[error("the segment says to be {0} bytes, limit is {RAW_BYTES_MAX}")]
    Large(usize),
    /// Not as long as it says.
    #[error("the segment holds {bytes} bytes and says {said}")]
    Length {
        /// What it says.
        said: usize,
        /// What came out.
        bytes: usize,
    },
    /// The compressed bytes are damaged.
    #[error("the segment does not decompress: {0}")]
    Compression(String),
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

/// The items of a segment.
pub(crate) fn unpack<T: Decodable>(segment: &[u8]) -> Result<Vec<T>, SegmentError> {
    let raw = unpack_raw(segment)?;
    let mut bytes = raw.as_slice();
    let mut list = alloy_rlp::Header::decode_bytes(&mut bytes, true).map_err(DecodeError::from)?;
    if !bytes.is_empty() {
        return Err(DecodeError::Trailing(bytes.len()).into());
    }
    let mut items = Vec::new();
    while !list.is_empty() {
        if items.len() == ITEMS_MAX {
            return Err(DecodeError::from(alloy_rlp::Error::Custom("list has more items than its limit")).into());
        }
        items.push(T::decode(&mut list).map_err(DecodeError::from)?);
    }
    Ok(items)
}

fn unpack_raw(segment: &[u8]) -> Result<Vec<u8>, SegmentError> {
    let (Some((head, bytes)), Some(kind)) = (segment.split_first_chunk::<HEAD_BYTES>(), segment.first()) else {
        return Err(SegmentError::Head(segment.len()));
    };
    let said = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if said > RAW_BYTES_MAX {
        return Err(SegmentError::Large(said));
    }
    let raw = match *kind {
        STORED => bytes.to_vec(),
        BROTLI => decompress(bytes, said)?,
        _ => return Err(SegmentError::Head(segment.len())),
    };
    if raw.len() == said {
        Ok(raw)
    } else {
        let bytes = raw.len();
        Err(SegmentError::Length { said, bytes })
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

/// Reads one byte more than was said at most, so that a bomb costs no more than an honest segment.
fn decompress(bytes: &[u8], said: usize) -> Result<Vec<u8>, SegmentError> {
    let mut raw = Vec::new();
    let reader = brotli::Decompressor::new(bytes, 1 << 12);
    let limit = said as u64 + 1;
    match reader.take(limit).read_to_end(&mut raw) {
        Ok(_) => Ok(raw),
        Err(error) => Err(SegmentError::Compression(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(count: u64, payload: &[u8]) -> Vec<SegmentLane> {
        let lane = |height| SegmentLane {
            height: Height(height),
            transactions: vec![Bytes::copy_from_slice(payload)],
        };
        (0..count).map(lane).collect()
    }

    #[test]
    fn what_repeats_is_compressed_and_noise_is_stored() {
        for (items, kind) in [(lanes(100, &[7; 200]), BROTLI), (lanes(1, &[1, 2, 3]), STORED)] {
            let segment = pack(&items);
            assert_eq!(segment[0], kind);
            assert_eq!(unpack::<SegmentLane>(&segment).unwrap(), items);
        }
    }

    #[test]
    fn a_segment_is_as_long_as_it_says_and_no_bomb_is_opened_further() {
        let mut segment = pack(&lanes(20_000, &[7; 200]));
        assert!(segment.len() < 100_000, "{} bytes compress well", segment.len());
        segment[1..5].copy_from_slice(&1_000_u32.to_be_bytes());
        let length = SegmentError::Length {
            said: 1_000,
            bytes: 1_001,
        };
        assert_eq!(unpack::<SegmentLane>(&segment), Err(length));
        segment[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(unpack::<SegmentLane>(&segment), Err(SegmentError::Large(0xffff_ffff)));
    }

    #[test]
    fn bytes_that_are_no_segment_are_refused() {
        assert_eq!(unpack::<SegmentLane>(&[]), Err(SegmentError::Head(0)));
        assert_eq!(
            unpack::<SegmentLane>(&[9, 0, 0, 0, 1, 0xc0]),
            Err(SegmentError::Head(6))
        );
        assert!(matches!(
            unpack::<SegmentLane>(&[0, 0, 0, 0, 1, 0x80]),
            Err(SegmentError::Decode(_))
        ));
        assert!(matches!(
            unpack::<SegmentLane>(&[0, 0, 0, 0, 2, 0xc0, 0]),
            Err(SegmentError::Decode(_))
        ));
        assert!(matches!(
            unpack::<SegmentLane>(&[1, 0, 0, 0, 2, 0xff, 0xff]),
            Err(SegmentError::Compression(_))
        ));
    }
}
