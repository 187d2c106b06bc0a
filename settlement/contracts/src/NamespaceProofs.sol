// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Batch, BatchLib} from "./lib/BatchLib.sol";
import {MerkleLib, MerkleProof} from "./lib/MerkleLib.sol";

/// What one batch holds of one rollup: a leaf under `namespaces`. Where its segment lies, the data's own index says.
struct Namespace {
    uint64 rollup;
    /// Number of its first transaction in the rollup's stream, and how many there are.
    uint64 firstSequence;
    uint64 count;
    /// The stream's head after the batch.
    bytes32 head;
    bytes32 transactionsRoot;
}

error BatchNotPosted(uint64 number, bytes32 hash);
/// Absence is proved by at most two leaves, one proof each.
error BadAbsenceShape(uint256 leaves, uint256 proofs);

/// Proofs of what posted batches hold. All views; each first checks that the batch was posted.
///
/// Relies on the committee for the order of the leaves: members sign only trees sorted by rollup, each once.
abstract contract NamespaceProofs {
    /// The hash of a posted batch; zero where there is none.
    mapping(uint64 number => bytes32) public batchHash;

    /// Whether `leaf` stands in the posted `batch`.
    function verifyNamespace(Batch calldata batch, Namespace calldata leaf, MerkleProof calldata proof)
        external
        view
        returns (bool)
    {
        requirePosted(batch);
        return MerkleLib.proves(proof, batch.namespaces, namespaceLeaf(leaf));
    }

    /// Whether the posted `batch` holds nothing of `rollup`: no leaf where it holds nothing at all; the first leaf where
    /// `rollup` is less than all; the last where it is more; else the two between which it would stand.
    function verifyAbsence(
        Batch calldata batch,
        uint64 rollup,
        Namespace[] calldata leaves,
        MerkleProof[] calldata proofs
    ) external view returns (bool) {
        requirePosted(batch);
        if (leaves.length != proofs.length || leaves.length > 2) {
            revert BadAbsenceShape(leaves.length, proofs.length);
        }
        if (leaves.length == 0) return batch.namespaces == MerkleLib.EMPTY;
        for (uint256 i = 0; i < leaves.length; i++) {
            if (!MerkleLib.proves(proofs[i], batch.namespaces, namespaceLeaf(leaves[i]))) return false;
        }
        if (leaves.length == 1) {
            bool isFirst = proofs[0].index == 0 && rollup < leaves[0].rollup;
            bool isLast = proofs[0].index == proofs[0].count - 1 && rollup > leaves[0].rollup;
            return isFirst || isLast;
        }
        // An index that was proved is below its count, so one more does not overflow.
        bool neighbours = proofs[0].index + 1 == proofs[1].index;
        return neighbours && leaves[0].rollup < rollup && rollup < leaves[1].rollup;
    }

    /// Whether `transaction` is in the posted `batch`, as number `leaf.firstSequence + transactionProof.index` of the
    /// rollup's stream.
    function verifyTransaction(
        Batch calldata batch,
        Namespace calldata leaf,
        MerkleProof calldata proof,
        bytes32 transaction,
        MerkleProof calldata transactionProof
    ) external view returns (bool) {
        requirePosted(batch);
        return transactionProof.count == leaf.count && MerkleLib.proves(proof, batch.namespaces, namespaceLeaf(leaf))
            && MerkleLib.proves(
                transactionProof, leaf.transactionsRoot, MerkleLib.leafHash(abi.encodePacked(transaction))
            );
    }

    /// leaf_hash over 88 bytes: the three numbers as u64, then head and transactionsRoot.
    function namespaceLeaf(Namespace calldata leaf) public pure returns (bytes32) {
        return MerkleLib.leafHash(
            abi.encodePacked(leaf.rollup, leaf.firstSequence, leaf.count, leaf.head, leaf.transactionsRoot)
        );
    }

    function requirePosted(Batch calldata batch) private view {
        bytes32 hash = BatchLib.hash(batch);
        if (batchHash[batch.number] != hash) revert BatchNotPosted(batch.number, hash);
    }
}
