//! Bytes as JSON text: `0x` and lower-case hexadecimal digits, two per byte, one text per value.
//!
//! Strict on purpose: an upper-case digit, a missing prefix or a missing byte is refused, so that a document
//! that was changed in any place does not decode to the same value. What users type is read by [`parse`], which is
//! lenient.

use std::fmt;

use alloy_primitives::{Address, B256, B512, Bytes, hex};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// 32 bytes: a hash, an id or a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub B256);

/// 64 bytes: an ed25519 signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub B512);

/// Any number of bytes: a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data(pub Bytes);

/// 20 bytes: an Ethereum address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account(pub Address);

/// Why a text is not bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// No `0x` in front.
    #[error("hex text must start with 0x")]
    Prefix,
    /// An odd number of digits, or a character that is none.
    #[error("not hex: {0}")]
    Digits(String),
    /// More bytes than allowed. Nothing was decoded.
    #[error("{bytes} bytes, limit is {limit}")]
    Long {
        /// Bytes that the text stands for.
        bytes: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
}

/// Reads `0x`-prefixed hexadecimal digits of either case, at most `limit` bytes.
///
/// # Errors
/// [`HexError`] says what is wrong with the text.
pub fn parse(text: &str, limit: usize) -> Result<Bytes, HexError> {
    let digits = text.strip_prefix("0x").ok_or(HexError::Prefix)?;
    if digits.len() / 2 > limit {
        return Err(HexError::Long {
            bytes: digits.len() / 2,
            limit,
        });
    }
    let bytes = decode(digits).map_err(|error| HexError::Digits(error.to_string()))?;
    Ok(bytes.into())
}

/// Decodes what follows the prefix. The library would take a second prefix there, and so two texts for the same bytes.
fn decode(digits: &str) -> Result<Vec<u8>, hex::FromHexError> {
    if let Some(c @ ('x' | 'X')) = digits.chars().nth(1) {
        return Err(hex::FromHexError::InvalidHexCharacter { c, index: 1 });
    }
    hex::decode(digits.as_bytes())
}

/// Reads the one text that [`write()`] gives for some bytes.
fn parse_strict(text: &str) -> Result<Vec<u8>, &'static str> {
    let digits = text.strip_prefix("0x").ok_or("hex text must start with 0x")?;
    if digits.bytes().any(|digit| digit.is_ascii_uppercase()) {
        return Err("hex text must be lower-case");
    }
    decode(digits).map_err(|_| "hex text must be digits 0-9 and a-f, two per byte")
}

fn write<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode_prefixed(bytes))
}

/// Accepts a text of `expected` bytes, or of any number of bytes if `None`.
struct Visitor {
    expected: Option<usize>,
}

impl serde::de::Visitor<'_> for Visitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.expected {
            Some(bytes) => write!(f, "0x and the hex digits of {bytes} bytes"),
            None => write!(f, "0x and hex digits"),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
        let bytes = parse_strict(text).map_err(E::custom)?;
        if self.expected.is_some_and(|expected| bytes.len() != expected) {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        Ok(bytes)
    }
}

fn read<'de, D: Deserializer<'de>>(deserializer: D, expected: Option<usize>) -> Result<Vec<u8>, D::Error> {
    deserializer.deserialize_str(Visitor { expected })
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write(self.0.as_slice(), serializer)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, Some(32)).map(|bytes| Self(B256::from_slice(&bytes)))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write(self.0.as_slice(), serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, Some(64)).map(|bytes| Self(B512::from_slice(&bytes)))
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write(self.0.as_slice(), serializer)
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, Some(20)).map(|bytes| Self(Address::from_slice(&bytes)))
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, None).map(|bytes| Self(bytes.into()))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
