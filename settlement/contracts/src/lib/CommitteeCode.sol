// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

error CommitteeCodeNotCreated(uint256 bytes_);

/// A committee kept as the code of a contract without functions, which is cheaper to read than storage.
///
/// Layout: 0x00 (STOP, so that nobody can run it) ‖ scheme u8 ‖ members u16 ‖ epoch u64 ‖ verifier (20 bytes) ‖ what the
/// verifier made of the roster. 32 bytes before the payload. Source: the SSTORE2 pattern, EIP-170 for the size.
library CommitteeCode {
    uint256 internal constant HEAD_BYTES = 32;

    /// Creates the contract.
    function create(uint8 scheme, uint256 members, uint64 epoch, address verifier, bytes memory payload)
        internal
        returns (address committee)
    {
        bytes memory code =
            abi.encodePacked(uint8(0), scheme, uint16(members), epoch, bytes20(verifier), payload);
        // PUSH2 size, DUP1, PUSH1 10, RETURNDATASIZE, CODECOPY, RETURNDATASIZE, RETURN: returns all that follows.
        bytes memory creation = abi.encodePacked(hex"61", uint16(code.length), hex"80600a3d393df3", code);
        assembly ("memory-safe") {
            committee := create(0, add(creation, 32), mload(creation))
        }
        if (committee == address(0)) revert CommitteeCodeNotCreated(code.length);
    }

    /// The first word of the code: scheme, members, epoch and verifier.
    function head(address committee)
        internal
        view
        returns (uint8 scheme, uint256 members, uint64 epoch, address verifier)
    {
        uint256 word;
        assembly ("memory-safe") {
            extcodecopy(committee, 0, 0, 32)
            word := mload(0)
        }
        scheme = uint8(word >> 240);
        members = uint16(word >> 224);
        epoch = uint64(word >> 160);
        verifier = address(uint160(word));
    }
}
