//! Canonical RLP: one encoding per value, decoding that is total and bounded.
//!
//! `alloy-rlp` refuses leading zeros and long forms of short lengths. This file adds what it leaves
//! open: trailing bytes, and lists whose element count is not bounded by the protocol.

use alloy_rlp::{BufMut, Decodable, Encodable, Header};

/// Why bytes were refused. Every variant is the sender's fault, never ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not canonical RLP of the expected shape.
    #[error("malformed RLP: {0}")]
    Rlp(#[from] alloy_rlp::Error),
    /// Bytes follow the value.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
}

/// The canonical encoding of `value`.
pub fn encode<T: Encodable>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.length());
    value.encode(&mut out);
    out
}

/// Decodes exactly one value.
///
/// # Errors
/// [`DecodeError`] when the bytes are not the one canonical encoding of a `T`, or bytes follow it.
pub fn decode_exact<T: Decodable>(mut bytes: &[u8]) -> Result<T, DecodeError> {
    let value = T::decode(&mut bytes)?;
    if bytes.is_empty() {
        Ok(value)
    } else {
        Err(DecodeError::Trailing(bytes.len()))
    }
}

/// Decodes a list of at most `max` items; memory grows with items read, never with a length promised.
pub(crate) fn decode_bounded<T: Decodable>(buf: &mut &[u8], max: usize) -> alloy_rlp::Result<Vec<T>> {
    let mut payload = Header::decode_bytes(buf, true)?;
    let mut items = Vec::new();
    while !payload.is_empty() {
        if items.len() == max {
            return Err(alloy_rlp::Error::Custom("list has more items than its limit"));
        }
        items.push(T::decode(&mut payload)?);
    }
    Ok(items)
}

/// Encodes a list of items as [`decode_bounded`] reads it.
pub(crate) fn encode_items<T: Encodable>(items: &[T], out: &mut dyn BufMut) {
    alloy_rlp::encode_list(items, out);
}

/// Length of [`encode_items`]' output, in bytes.
pub(crate) fn items_length<T: Encodable>(items: &[T]) -> usize {
    alloy_rlp::list_length(items)
}
