//! How a payload lies in EIP-4844 blobs.
//!
//! A blob is 4,096 field elements of 32 bytes. Each carries 31 bytes behind a zero byte, so that every one is below the
//! field's modulus. The first four bytes of all are the payload's length, big-endian; what follows the payload is zero, and
//! there is no blob without payload: one payload, one list of blobs.

/// Bytes of a blob. Source: EIP-4844.
pub const BLOB_BYTES: usize = 4096 * 32;

/// Bytes that a blob carries.
pub const BLOB_PAYLOAD_BYTES: usize = 4096 * 31;

/// Most blobs of one transaction. Source: EIP-7594.
pub const BLOBS_MAX: usize = 6;

const LENGTH_BYTES: usize = 4;

/// Largest payload of one transaction, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = BLOBS_MAX * BLOB_PAYLOAD_BYTES - LENGTH_BYTES;

/// Why a payload has no blobs, or blobs have no payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// More than six blobs hold.
    #[error("payload is {0} bytes, limit is {PAYLOAD_BYTES_MAX}")]
    Large(usize),
    /// None, or more than a transaction may carry.
    #[error("{0} blobs, there must be 1 to {BLOBS_MAX}")]
    Count(usize),
    /// A blob of another size.
    #[error("blob {blob} is {bytes} bytes, it must be {BLOB_BYTES}")]
    Size {
        /// Its place.
        blob: usize,
        /// Its length.
        bytes: usize,
    },
    /// A length that does not fit the number of blobs.
    #[error("the payload says to be {bytes} bytes in {blobs} blobs")]
    Length {
        /// What it says.
        bytes: usize,
        /// How many there are.
        blobs: usize,
    },
    /// A byte that must be zero and is not.
    #[error("byte {0} of the blobs must be zero")]
    Padding(usize),
}

/// The blobs of `payload`, [`BLOB_BYTES`] each.
///
/// # Errors
/// [`BlobError::Large`] when they are more than [`BLOBS_MAX`].
pub fn pack(payload: &[u8]) -> Result<Vec<Vec<u8>>, BlobError> {
    let length = u32::try_from(payload.len()).map_err(|_| BlobError::Large(payload.len()))?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(BlobError::Large(payload.len()));
    }
    let mut carried = Vec::with_capacity(LENGTH_BYTES + payload.len());
    carried.extend(length.to_be_bytes());
    carried.extend(payload);
    let blob = |part: &[u8]| {
        let mut blob = vec![0; BLOB_BYTES];
        for (element, bytes) in blob.chunks_exact_mut(32).zip(part.chunks(31)) {
            element[1..=bytes.len()].copy_from_slice(bytes);
        }
        blob
    };
    Ok(carried.chunks(BLOB_PAYLOAD_BYTES).map(blob).collect())
}

/// The payload of `blobs`, which are all blobs of one transaction in order.
///
/// # Errors
/// [`BlobError`] when they are not what [`pack`] makes of any payload.
pub fn unpack<B: AsRef<[u8]>>(blobs: &[B]) -> Result<Vec<u8>, BlobError> {
    if blobs.is_empty() || blobs.len() > BLOBS_MAX {
        return Err(BlobError::Count(blobs.len()));
    }
    let mut carried = Vec::with_capacity(blobs.len() * BLOB_PAYLOAD_BYTES);
    for (at, blob) in blobs.iter().map(AsRef::as_ref).enumerate() {
        if blob.len() != BLOB_BYTES {
            let bytes = blob.len();
            return Err(BlobError::Size { blob: at, bytes });
        }
        for (index, element) in blob.chunks_exact(32).enumerate() {
            if element[0] != 0 {
                return Err(BlobError::Padding(at * BLOB_BYTES + index * 32));
            }
            carried.extend(&element[1..]);
        }
    }
    let bytes = u32::from_be_bytes(std::array::from_fn(|byte| carried[byte])) as usize;
    let end = LENGTH_BYTES + bytes;
    if end.div_ceil(BLOB_PAYLOAD_BYTES) != blobs.len() {
        let blobs = blobs.len();
        return Err(BlobError::Length { bytes, blobs });
    }
    if let Some(at) = carried[end..].iter().position(|byte| *byte != 0) {
        let at = end + at;
        return Err(BlobError::Padding(at / 31 * 32 + 1 + at % 31));
    }
    carried.truncate(end);
    carried.drain(..LENGTH_BYTES);
    Ok(carried)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_blob_more_is_taken_only_when_it_is_needed() {
        for (bytes, blobs) in [
            (0, 1),
            (BLOB_PAYLOAD_BYTES - 4, 1),
            (BLOB_PAYLOAD_BYTES - 3, 2),
            (PAYLOAD_BYTES_MAX, 6),
        ] {
            let packed = pack(&vec![0xff; bytes]).unwrap();
            assert_eq!(packed.len(), blobs, "{bytes} bytes");
            assert_eq!(unpack(&packed).unwrap(), vec![0xff; bytes]);
        }
        let large = PAYLOAD_BYTES_MAX + 1;
        assert_eq!(pack(&vec![0; large]), Err(BlobError::Large(large)));
    }

    #[test]
    fn only_the_one_form_is_read() {
        let packed = pack(&[1, 2, 3]).unwrap();
        let changed = |at: usize, byte: u8| {
            let mut packed = packed.clone();
            packed[0][at] = byte;
            unpack(&packed)
        };
        // Length 3 stands in bytes 1 to 4, the payload in 5 to 7.
        assert_eq!(changed(8, 1), Err(BlobError::Padding(8)));
        assert_eq!(changed(32, 1), Err(BlobError::Padding(32)));
        assert_eq!(changed(BLOB_BYTES - 1, 1), Err(BlobError::Padding(BLOB_BYTES - 1)));
        assert_eq!(changed(4, 2), Err(BlobError::Padding(7)));
        assert_eq!(
            changed(1, 1),
            Err(BlobError::Length {
                bytes: (1 << 24) + 3,
                blobs: 1
            })
        );
        assert_eq!(unpack::<Vec<u8>>(&[]), Err(BlobError::Count(0)));
        assert_eq!(unpack(&[vec![0; 31]]), Err(BlobError::Size { blob: 0, bytes: 31 }));
        let blob = packed[0].clone();
        assert_eq!(
            unpack(&[blob, vec![0; BLOB_BYTES]]),
            Err(BlobError::Length { bytes: 3, blobs: 2 })
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_packed_comes_back(payload in proptest::collection::vec(any::<u8>(), 0..300_000)) {
            prop_assert_eq!(unpack(&pack(&payload).unwrap()).unwrap(), payload);
        }
    }
}
