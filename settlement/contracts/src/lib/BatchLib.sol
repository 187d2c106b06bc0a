// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// The content of a run of decided blocks as L1 knows it. README.md says what each field means. Which data carry it is no part
/// of it: the same content has many encodings.
struct Batch {
    bytes32 network;
    uint64 number;
    uint64 epoch;
    uint64 firstHeight;
    uint64 lastHeight;
    bytes32 parent;
    bytes32 lastBlock;
    bytes32 namespaces;
    uint64 l1Number;
    bytes32 l1Hash;
    uint64 forcedTo;
    bytes32 forcedHash;
    bytes32 nextCommittee;
    bytes32 faults;
}

/// A header is 176 bytes, or 240 where it names a next committee or faults.
error BadHeaderLength(uint256 length);
/// A header of 240 bytes that names neither has a shorter form, which is the only one allowed.
error HeaderNotShortest();

/// How a batch is hashed, packed and attested.
library BatchLib {
    /// Source: EIP-712, encodeType.
    bytes32 internal constant TYPE = keccak256(
        "Batch(bytes32 network,uint64 number,uint64 epoch,uint64 firstHeight,uint64 lastHeight,bytes32 parent,"
        "bytes32 lastBlock,bytes32 namespaces,uint64 l1Number,bytes32 l1Hash,uint64 forcedTo,"
        "bytes32 forcedHash,bytes32 nextCommittee,bytes32 faults)"
    );
    /// What members sign: a batch, and the data that they found it in. Epoch and number stand outside the batch as well, so
    /// that two attestations that contradict each other are proved with two hashes instead of two batches.
    bytes32 internal constant ATTESTATION_TYPE = keccak256(
        "Attestation(uint64 epoch,uint64 number,Batch batch,bytes32 data)"
        "Batch(bytes32 network,uint64 number,uint64 epoch,uint64 firstHeight,uint64 lastHeight,bytes32 parent,"
        "bytes32 lastBlock,bytes32 namespaces,uint64 l1Number,bytes32 l1Hash,uint64 forcedTo,"
        "bytes32 forcedHash,bytes32 nextCommittee,bytes32 faults)"
    );

    uint256 internal constant HEADER_BYTES = 176;
    uint256 internal constant HEADER_BYTES_LONG = 240;

    /// hashStruct(batch): the batch's identity, what `parent` links to and `batchHash` gives.
    function hash(Batch memory batch) internal pure returns (bytes32 out) {
        bytes32 typeHash = TYPE;
        assembly ("memory-safe") {
            // A struct of value types lies in memory as EIP-712 encodes it: 14 clean words. The word before it is lent.
            let start := sub(batch, 32)
            let lent := mload(start)
            mstore(start, typeHash)
            out := keccak256(start, 480)
            mstore(start, lent)
        }
    }

    /// hashStruct of the attestation of the batch with `batchHash`, found in `data`.
    function attestation(uint64 epoch, uint64 index, bytes32 batchHash, bytes32 data)
        internal
        pure
        returns (bytes32 out)
    {
        bytes32 typeHash = ATTESTATION_TYPE;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typeHash)
            mstore(add(free, 32), epoch)
            mstore(add(free, 64), index)
            mstore(add(free, 96), batchHash)
            mstore(add(free, 128), data)
            out := keccak256(free, 160)
        }
    }

    /// Unpacks a header as README.md lays it out, but for `data`, which is no part of a batch. Leaves `network`, `parent` and
    /// `forcedHash` zero: the inbox knows them, and calldata is dear.
    function decode(bytes calldata header) internal pure returns (Batch memory batch) {
        uint256 length = header.length;
        if (length != HEADER_BYTES && length != HEADER_BYTES_LONG) revert BadHeaderLength(length);
        assembly ("memory-safe") {
            let from := header.offset
            let numbers := calldataload(from)
            mstore(add(batch, 32), shr(192, numbers)) // number
            mstore(add(batch, 64), shr(192, shl(64, numbers))) // epoch
            mstore(add(batch, 96), shr(192, shl(128, numbers))) // firstHeight
            mstore(add(batch, 128), shr(192, shl(192, numbers))) // lastHeight
            numbers := calldataload(add(from, 32))
            mstore(add(batch, 256), shr(192, numbers)) // l1Number
            mstore(add(batch, 320), shr(192, shl(64, numbers))) // forcedTo
            // lastBlock and namespaces, then l1Hash.
            calldatacopy(add(batch, 192), add(from, 48), 64)
            calldatacopy(add(batch, 288), add(from, 144), 32)
        }
        if (length == HEADER_BYTES_LONG) {
            assembly ("memory-safe") {
                // nextCommittee, faults
                calldatacopy(add(batch, 384), add(header.offset, 176), 64)
            }
            if (batch.nextCommittee | batch.faults == 0) revert HeaderNotShortest();
        }
    }

    /// `data` of a header, whose length `decode` has checked.
    function dataOf(bytes calldata header) internal pure returns (bytes32 out) {
        assembly ("memory-safe") {
            out := calldataload(add(header.offset, 112))
        }
    }

    /// `data` where the segments lie in the blobs of this transaction: keccak256(0x01 ‖ all versioned hashes).
    /// Zero where the transaction carries none.
    function blobData() internal view returns (bytes32 out) {
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore8(free, 1)
            let end := add(free, 1)
            let i := 0
            for { let versioned := blobhash(0) } versioned { versioned := blobhash(i) } {
                mstore(end, versioned)
                end := add(end, 32)
                i := add(i, 1)
            }
            if i { out := keccak256(free, sub(end, free)) }
        }
    }

    /// `data` where the segments lie in calldata: keccak256(0x02 ‖ keccak256(payload)).
    function calldataData(bytes calldata payload) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(2), keccak256(payload)));
    }
}
