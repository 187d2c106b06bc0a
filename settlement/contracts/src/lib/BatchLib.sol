// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// A run of decided blocks as L1 knows it. README.md says what each field means.
struct Batch {
    bytes32 network;
    uint64 number;
    uint64 epoch;
    uint64 firstHeight;
    uint64 lastHeight;
    bytes32 parent;
    bytes32 lastBlock;
    bytes32 namespaces;
    bytes32 data;
    uint64 l1Number;
    bytes32 l1Hash;
    uint64 forcedTo;
    bytes32 forcedHash;
    bytes32 nextCommittee;
    bytes32 faults;
}

/// A header is 208 bytes, or 272 where it names a next committee or faults.
error BadHeaderLength(uint256 length);
/// A header of 272 bytes that names neither has a shorter form, which is the only one allowed.
error HeaderNotShortest();

/// How a batch is hashed, packed and attested.
library BatchLib {
    /// Source: EIP-712, encodeType.
    bytes32 internal constant TYPE = keccak256(
        "Batch(bytes32 network,uint64 number,uint64 epoch,uint64 firstHeight,uint64 lastHeight,bytes32 parent,"
        "bytes32 lastBlock,bytes32 namespaces,bytes32 data,uint64 l1Number,bytes32 l1Hash,uint64 forcedTo,"
        "bytes32 forcedHash,bytes32 nextCommittee,bytes32 faults)"
    );
    /// What members sign. Epoch and number stand outside the batch as well, so that two attestations that contradict each
    /// other are proved with two hashes instead of two batches.
    bytes32 internal constant ATTESTATION_TYPE = keccak256(
        "Attestation(uint64 epoch,uint64 number,Batch batch)"
        "Batch(bytes32 network,uint64 number,uint64 epoch,uint64 firstHeight,uint64 lastHeight,bytes32 parent,"
        "bytes32 lastBlock,bytes32 namespaces,bytes32 data,uint64 l1Number,bytes32 l1Hash,uint64 forcedTo,"
        "bytes32 forcedHash,bytes32 nextCommittee,bytes32 faults)"
    );

    uint256 internal constant HEADER_BYTES = 208;
    uint256 internal constant HEADER_BYTES_LONG = 272;

    /// hashStruct(batch): the batch's identity, what `parent` links to and `batchHash` gives.
    function hash(Batch memory batch) internal pure returns (bytes32 out) {
        bytes32 typeHash = TYPE;
        assembly ("memory-safe") {
            // A struct of value types lies in memory as EIP-712 encodes it: 15 clean words. The word before it is lent.
            let start := sub(batch, 32)
            let lent := mload(start)
            mstore(start, typeHash)
            out := keccak256(start, 512)
            mstore(start, lent)
        }
    }

    /// hashStruct of the attestation of the batch with `batchHash`.
    function attestation(uint64 epoch, uint64 number, bytes32 batchHash) internal pure returns (bytes32) {
        return keccak256(abi.encode(ATTESTATION_TYPE, epoch, number, batchHash));
    }

    /// Unpacks a header as README.md lays it out. Leaves `network` and `forcedHash` zero: the inbox knows them.
    function decode(bytes calldata header) internal pure returns (Batch memory batch) {
        uint256 length = header.length;
        if (length != HEADER_BYTES && length != HEADER_BYTES_LONG) revert BadHeaderLength(length);
        uint256 numbers = uint256(bytes32(header[0:32]));
        batch.number = uint64(numbers >> 192);
        batch.epoch = uint64(numbers >> 128);
        batch.firstHeight = uint64(numbers >> 64);
        batch.lastHeight = uint64(numbers);
        batch.l1Number = uint64(bytes8(header[32:40]));
        batch.forcedTo = uint64(bytes8(header[40:48]));
        batch.parent = bytes32(header[48:80]);
        batch.lastBlock = bytes32(header[80:112]);
        batch.namespaces = bytes32(header[112:144]);
        batch.data = bytes32(header[144:176]);
        batch.l1Hash = bytes32(header[176:208]);
        if (length == HEADER_BYTES_LONG) {
            batch.nextCommittee = bytes32(header[208:240]);
            batch.faults = bytes32(header[240:272]);
            if (batch.nextCommittee | batch.faults == 0) revert HeaderNotShortest();
        }
    }

    /// `data` of a batch whose segments lie in the blobs of this transaction: keccak256(0x01 ‖ all versioned hashes).
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

    /// `data` of a batch whose segments lie in calldata: keccak256(0x02 ‖ keccak256(payload)).
    function calldataData(bytes calldata payload) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(2), keccak256(payload)));
    }
}
