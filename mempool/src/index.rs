//! From a transaction's hash to its number, in order and in little memory.
//!
//! Keeps the first eight bytes of each hash: comparing and storing these costs a quarter of whole hashes. The owner
//! has the whole hashes and tells candidates apart, so equal prefixes are slow, never wrong; making two equal costs 2^32 hashes.

use std::collections::BTreeSet;

use fusion_types::TxHash;

/// A set of `(prefix of hash, number)`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HashIndex {
    entries: BTreeSet<(u64, u64)>,
}

impl HashIndex {
    /// Adds `number` under `hash`.
    pub(crate) fn insert(&mut self, hash: &TxHash, number: u64) {
        self.entries.insert((prefix(hash), number));
    }

    /// Removes `number` under `hash`.
    pub(crate) fn remove(&mut self, hash: &TxHash, number: u64) {
        self.entries.remove(&(prefix(hash), number));
    }

    /// Numbers whose hash may be `hash`; almost always none or one.
    pub(crate) fn candidates(&self, hash: &TxHash) -> impl Iterator<Item = u64> {
        let prefix = prefix(hash);
        self.entries
            .range((prefix, 0)..=(prefix, u64::MAX))
            .map(|(_, number)| *number)
    }
}

fn prefix(hash: &TxHash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = hash.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
