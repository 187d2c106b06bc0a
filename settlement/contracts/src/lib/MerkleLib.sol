// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// The path from one leaf to a root. `count` leaves in all; `siblings` from the leaf upwards.
struct MerkleProof {
    uint64 index;
    uint64 count;
    bytes32[] siblings;
}

/// Merkle trees over lists, the twin of types/src/merkle.rs: RFC 9162's shape, keccak256, domains 0 (leaf), 1 (node) and
/// 2 (root). The root commits to the number of leaves, which makes absence provable by two neighbours.
library MerkleLib {
    /// The root of the empty list: keccak256(0x02 ‖ u64 0 ‖ 32 zero bytes).
    bytes32 internal constant EMPTY = keccak256(abi.encodePacked(uint8(2), uint64(0), bytes32(0)));
    uint256 internal constant DEPTH_MAX = 32;

    /// Hash of a leaf's bytes.
    function leafHash(bytes memory data) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(0), data));
    }

    /// Whether `leaf` stands at `proof.index` of the tree under `root`. Source: RFC 9162 §2.1.3.2.
    function proves(MerkleProof calldata proof, bytes32 root, bytes32 leaf) internal pure returns (bool) {
        if (proof.count <= proof.index || proof.siblings.length > DEPTH_MAX) return false;
        uint256 place = proof.index;
        uint256 last = proof.count - 1;
        bytes32 hash = leaf;
        for (uint256 i = 0; i < proof.siblings.length; i++) {
            if (last == 0) return false;
            if (place & 1 == 1 || place == last) {
                hash = node(proof.siblings[i], hash);
                // A node without a right neighbour moves up until it has a left one.
                while (place & 1 == 0 && place != 0) {
                    place >>= 1;
                    last >>= 1;
                }
            } else {
                hash = node(hash, proof.siblings[i]);
            }
            place >>= 1;
            last >>= 1;
        }
        return last == 0 && keccak256(abi.encodePacked(uint8(2), proof.count, hash)) == root;
    }

    function node(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(1), left, right));
    }
}
