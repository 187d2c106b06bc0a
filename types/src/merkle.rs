//! Merkle trees over lists, with proofs of presence.
//!
//! The shape is RFC 9162's: a left subtree is complete and as large as it can be.
//! Leaves and nodes are domain-separated (RFC 9162 §2.1), so that a node never passes for a leaf. The
//! root also commits to the number of leaves: a proof's `count` is not the prover's to choose, which is
//! what makes absence provable by two neighbours (see `rollup::LaneAbsence`).

use alloy_primitives::{B256, Keccak256, keccak256};
use alloy_rlp::{Decodable, RlpEncodable};

use crate::encoding::decode_bounded;
use crate::limits::MERKLE_DEPTH_MAX;

const LEAF: u8 = 0;
const NODE: u8 = 1;
const ROOT: u8 = 2;

/// The path from one leaf to the root.
#[derive(Debug, Clone, PartialEq, Eq, RlpEncodable)]
pub struct MerkleProof {
    /// Place of the leaf, from 0.
    pub index: u64,
    /// Number of leaves of the tree.
    pub count: u64,
    /// Sibling hashes from the leaf upwards; exactly as many as `(index, count)` implies.
    pub siblings: Vec<B256>,
}

/// Hash of a leaf's bytes.
pub fn leaf_hash(data: &[u8]) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update([LEAF]);
    hasher.update(data);
    hasher.finalize()
}

/// Root over leaf hashes made by [`leaf_hash`]. The empty list has a root of its own. Cost O(n).
pub fn merkle_root(leaves: &[B256]) -> B256 {
    MerkleTree::new(leaves.to_vec()).root()
}

/// Proof for the leaf at `index`, or `None` beyond the end. Cost O(n): for many proofs of one list, see [`MerkleTree`].
pub fn merkle_proof(leaves: &[B256], index: usize) -> Option<MerkleProof> {
    MerkleTree::new(leaves.to_vec()).proof(index)
}

/// A tree with all its nodes at hand, for many proofs of one list. 64 bytes a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MerkleTree {
    /// The leaves, then every level above them; the last has one node, or none for the empty list.
    levels: Vec<Vec<B256>>,
}

impl MerkleTree {
    /// The tree over leaf hashes made by [`leaf_hash`]. Cost O(n).
    pub fn new(leaves: Vec<B256>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            // A node without a right neighbour moves up as it is.
            let above = below.chunks(2).map(|pair| match pair {
                [left, right] => node(*left, *right),
                rest => rest[0],
            });
            levels.push(above.collect());
        }
        Self { levels }
    }

    /// Number of leaves.
    pub fn count(&self) -> usize {
        self.levels[0].len()
    }

    /// Its root: what [`merkle_root`] gives. Cost O(1).
    pub fn root(&self) -> B256 {
        let top = self.levels.last().and_then(|level| level.first());
        seal(self.count() as u64, top.copied().unwrap_or_default())
    }

    /// Proof for the leaf at `index`, or `None` beyond the end. Cost O(log n).
    pub fn proof(&self, index: usize) -> Option<MerkleProof> {
        if self.count() <= index {
            return None;
        }
        let mut siblings = Vec::new();
        for (depth, level) in self.levels.iter().enumerate() {
            siblings.extend(level.get((index >> depth) ^ 1));
        }
        Some(MerkleProof {
            index: index as u64,
            count: self.count() as u64,
            siblings,
        })
    }
}

impl MerkleProof {
    /// The root that this proof gives `leaf`, or `None` when the proof's shape is impossible:
    /// index beyond count, or too few or too many siblings. Source: RFC 9162 §2.1.3.2.
    pub fn root_of(&self, leaf: B256) -> Option<B256> {
        if self.count <= self.index || self.siblings.len() > MERKLE_DEPTH_MAX {
            return None;
        }
        let (mut at, mut last, mut hash) = (self.index, self.count - 1, leaf);
        for sibling in &self.siblings {
            if last == 0 {
                return None;
            }
            if at & 1 == 1 || at == last {
                hash = node(*sibling, hash);
                // A node without a right neighbour moves up until it has a left one.
                while at & 1 == 0 && at != 0 {
                    at >>= 1;
                    last >>= 1;
                }
            } else {
                hash = node(hash, *sibling);
            }
            at >>= 1;
            last >>= 1;
        }
        (last == 0).then(|| seal(self.count, hash))
    }

    /// Whether `leaf` stands at `self.index` of the tree under `root`.
    pub fn proves(&self, root: B256, leaf: B256) -> bool {
        self.root_of(leaf) == Some(root)
    }
}

impl Decodable for MerkleProof {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let mut payload = alloy_rlp::Header::decode_bytes(buf, true)?;
        let index = u64::decode(&mut payload)?;
        let count = u64::decode(&mut payload)?;
        let siblings = decode_bounded(&mut payload, MERKLE_DEPTH_MAX)?;
        if !payload.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength);
        }
        Ok(Self { index, count, siblings })
    }
}

fn node(left: B256, right: B256) -> B256 {
    let mut bytes = [0; 65];
    bytes[0] = NODE;
    bytes[1..33].copy_from_slice(left.as_slice());
    bytes[33..].copy_from_slice(right.as_slice());
    keccak256(bytes)
}

fn seal(count: u64, tree: B256) -> B256 {
    let mut bytes = [0; 41];
    bytes[0] = ROOT;
    bytes[1..9].copy_from_slice(&count.to_be_bytes());
    bytes[9..].copy_from_slice(tree.as_slice());
    keccak256(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: usize) -> Vec<B256> {
        (0..count).map(|i| leaf_hash(&(i as u64).to_be_bytes())).collect()
    }

    /// The root as RFC 9162 §2.1.1 defines it, by recursion.
    fn defined(leaves: &[B256]) -> B256 {
        if let [leaf] = leaves {
            return *leaf;
        }
        let mut left = 1;
        while left * 2 < leaves.len() {
            left *= 2;
        }
        node(defined(&leaves[..left]), defined(&leaves[left..]))
    }

    #[test]
    fn roots_are_those_of_the_definition() {
        for count in 1..70 {
            let leaves = leaves(count);
            assert_eq!(merkle_root(&leaves), seal(count as u64, defined(&leaves)), "{count}");
        }
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proved_and_only_at_its_place() {
        for count in 1..40 {
            let leaves = leaves(count);
            let root = merkle_root(&leaves);
            for (index, leaf) in leaves.iter().enumerate() {
                let proof = merkle_proof(&leaves, index).unwrap();
                assert!(proof.proves(root, *leaf), "{index} of {count}");
                for other in 0..count as u64 + 2 {
                    let moved = MerkleProof {
                        index: other,
                        ..proof.clone()
                    };
                    assert_eq!(
                        moved.proves(root, *leaf),
                        other == index as u64,
                        "{index} as {other} of {count}"
                    );
                }
                for other in (0..count as u64 + 3).filter(|c| *c != count as u64) {
                    assert!(
                        !MerkleProof {
                            count: other,
                            ..proof.clone()
                        }
                        .proves(root, *leaf)
                    );
                }
            }
        }
    }

    #[test]
    fn a_sibling_more_or_less_is_refused() {
        let leaves = leaves(11);
        let root = merkle_root(&leaves);
        let proof = merkle_proof(&leaves, 10).unwrap();
        let mut longer = proof.clone();
        longer.siblings.push(B256::ZERO);
        assert!(!longer.proves(root, leaves[10]));
        let mut shorter = proof;
        shorter.siblings.pop();
        assert!(!shorter.proves(root, leaves[10]));
    }

    #[test]
    fn roots_of_lists_that_differ_only_in_length_differ() {
        assert_ne!(merkle_root(&[]), merkle_root(&[B256::ZERO]));
        assert_ne!(merkle_root(&leaves(2)), merkle_root(&leaves(3)));
        assert!(merkle_proof(&[], 0).is_none());
    }
}
