//! From a transaction's hash to its number, in little memory and a few steps.
//!
//! Keeps the first eight bytes of each hash: comparing and storing these costs a quarter of whole hashes. The owner
//! has the whole hashes and tells candidates apart, so equal prefixes are slow, never wrong; making two equal costs
//! 2^32 hashes.
//!
//! A hash is as good as random, so its leading bits choose one of many short sorted lists, and no list needs to be
//! balanced. Whoever grinds hashes to fill one list gains little: it is searched by halves, and to make it longer by
//! one costs as many hashes as there are lists.

use fusion_types::TxHash;

/// Entries for each list, on average, at which the number of lists is doubled: two cache lines.
const LIST_MEAN_MAX: usize = 8;

/// A set of `(prefix of hash, number)`.
#[derive(Debug, Clone)]
pub(crate) struct HashIndex {
    /// Sorted lists; their number is a power of two, and entries stand in the list that their leading bits number.
    lists: Vec<Vec<(u64, u64)>>,
    count: usize,
}

impl Default for HashIndex {
    fn default() -> Self {
        Self {
            lists: vec![Vec::new()],
            count: 0,
        }
    }
}

impl HashIndex {
    /// Adds `number` under `hash`.
    pub(crate) fn insert(&mut self, hash: &TxHash, number: u64) {
        if self.count >= self.lists.len() * LIST_MEAN_MAX {
            self.split();
        }
        let entry = (prefix(hash), number);
        let at = self.list_of(entry.0);
        let list = &mut self.lists[at];
        if let Err(place) = list.binary_search(&entry) {
            list.insert(place, entry);
            self.count += 1;
        }
    }

    /// Removes `number` under `hash`.
    pub(crate) fn remove(&mut self, hash: &TxHash, number: u64) {
        let entry = (prefix(hash), number);
        let at = self.list_of(entry.0);
        let list = &mut self.lists[at];
        if let Ok(place) = list.binary_search(&entry) {
            list.remove(place);
            self.count -= 1;
        }
    }

    /// Numbers whose hash may be `hash`; almost always none or one. Ascending.
    pub(crate) fn candidates(&self, hash: &TxHash) -> impl Iterator<Item = u64> {
        let prefix = prefix(hash);
        let list = &self.lists[self.list_of(prefix)];
        let first = list.partition_point(|(other, _)| *other < prefix);
        let same = list[first..].iter().take_while(move |(other, _)| *other == prefix);
        same.map(|(_, number)| *number)
    }

    fn list_of(&self, prefix: u64) -> usize {
        // With a single list there are no leading bits to take: the shift by all 64 answers `None`.
        let bits = self.lists.len().trailing_zeros();
        let at = prefix.checked_shr(u64::BITS - bits).unwrap_or(0);
        usize::try_from(at).unwrap_or(0)
    }

    /// Doubles the number of lists. Each is divided in two: its order is that of the leading bits.
    fn split(&mut self) {
        let bits = self.lists.len().trailing_zeros();
        let mut lists = Vec::with_capacity(self.lists.len() * 2);
        for mut lower in std::mem::take(&mut self.lists) {
            let upper_half = |prefix: u64| prefix << bits >> (u64::BITS - 1) == 1;
            let upper = lower.split_off(lower.partition_point(|(prefix, _)| !upper_half(*prefix)));
            lists.push(lower);
            lists.push(upper);
        }
        self.lists = lists;
    }
}

impl PartialEq for HashIndex {
    /// The same entries, however many lists hold them.
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.lists.iter().flatten().eq(other.lists.iter().flatten())
    }
}

impl Eq for HashIndex {}

fn prefix(hash: &TxHash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = hash.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use alloy_primitives::keccak256;
    use proptest::prelude::*;

    use super::*;

    fn hash(n: u64) -> TxHash {
        keccak256(n.to_be_bytes())
    }

    proptest! {
        #[test]
        fn it_holds_what_a_set_holds(steps in prop::collection::vec((any::<bool>(), 0..400_u64, 0..3_u64), 0..1200)) {
            let (mut index, mut set) = (HashIndex::default(), BTreeSet::new());
            for (add, of, number) in steps {
                if add {
                    index.insert(&hash(of), number);
                    set.insert((of, number));
                } else {
                    index.remove(&hash(of), number);
                    set.remove(&(of, number));
                }
            }
            for of in 0..400 {
                let expected: Vec<u64> = set.range((of, 0)..=(of, u64::MAX)).map(|(_, number)| *number).collect();
                prop_assert_eq!(index.candidates(&hash(of)).collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn equal_sets_are_equal_whatever_was_removed_from_them() {
        let (mut grown, mut small) = (HashIndex::default(), HashIndex::default());
        for n in 0..1000 {
            grown.insert(&hash(n), n);
        }
        for n in 3..1000 {
            grown.remove(&hash(n), n);
        }
        for n in (0..3).rev() {
            small.insert(&hash(n), n);
        }
        assert_eq!(grown, small);
        small.remove(&hash(0), 0);
        assert_ne!(grown, small);
    }

    #[test]
    fn hashes_that_share_their_leading_bytes_are_told_apart_by_number_only() {
        let mut index = HashIndex::default();
        let mut other = hash(7);
        other.0[31] ^= 1;
        index.insert(&hash(7), 1);
        index.insert(&other, 2);
        assert_eq!(index.candidates(&hash(7)).collect::<Vec<_>>(), [1, 2]);
    }
}
