// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EcdsaLib} from "./lib/EcdsaLib.sol";
import {QuorumLib} from "./lib/QuorumLib.sol";
import {
    BadCertificateLength,
    BadSignature,
    ICertificateVerifier,
    NoQuorum,
    RosterMalformed,
    RosterTooLarge,
    UnknownSigner
} from "./ICertificateVerifier.sol";

/// Certificates of single secp256k1 signatures: the cheapest up to about 46 members.
///
/// Certificate: bitmap of ⌈n/8⌉ bytes, read as a big-endian number whose bit i is member i, then one signature of 64 bytes
/// (EIP-2098, low s) for each set bit, lowest first. There is one certificate for one set of signatures.
contract EcdsaCertificateVerifier is ICertificateVerifier {
    /// COMMITTEE_MAX of types/src/limits.rs.
    uint256 private constant MEMBERS_MAX = 128;
    uint256 private constant ENTRY_BYTES = 20;

    function scheme() external pure returns (uint8) {
        return 1;
    }

    function entryBytes() external pure returns (uint256) {
        return ENTRY_BYTES;
    }

    function membersMax() external pure returns (uint256) {
        return MEMBERS_MAX;
    }

    function prepare(bytes calldata roster) external pure returns (bytes memory payload) {
        uint256 members = roster.length / ENTRY_BYTES;
        if (members == 0 || roster.length % ENTRY_BYTES != 0) revert RosterMalformed(roster.length, ENTRY_BYTES);
        if (members > MEMBERS_MAX) revert RosterTooLarge(members, MEMBERS_MAX);
        return roster;
    }

    function verify(address committee, bytes32 digest, bytes calldata certificate)
        external
        view
        returns (uint256 signers)
    {
        uint256 members;
        uint256 width;
        uint256 bitmap;
        assembly ("memory-safe") {
            // The head of `CommitteeCode`; a count of members is below 2^16, so nothing here overflows.
            extcodecopy(committee, 0, 0, 32)
            members := and(shr(224, mload(0)), 0xffff)
            width := shr(3, add(members, 7))
            // Bytes beyond the certificate would read as zeros or as what follows: the length is checked below.
            bitmap := shr(sub(256, shl(3, width)), calldataload(certificate.offset))
        }
        if (certificate.length < width) revert BadCertificateLength(certificate.length, width);
        if (bitmap >> members != 0) revert UnknownSigner(bitmap, members);
        signers = QuorumLib.signers(bitmap);
        uint256 least = QuorumLib.quorum(members);
        if (signers < least) revert NoQuorum(signers, least);
        unchecked {
            uint256 expected = width + (signers << 6);
            if (certificate.length != expected) revert BadCertificateLength(certificate.length, expected);
        }
        check(committee, members, digest, bitmap, certificate, width);
    }

    /// Recovers each signature, the first at byte `place` of the certificate, and compares it with the member whose bit is
    /// set.
    function check(
        address committee,
        uint256 members,
        bytes32 digest,
        uint256 bitmap,
        bytes calldata certificate,
        uint256 place
    ) private view {
        uint256 sMax = EcdsaLib.S_MAX;
        uint256 bad = type(uint256).max;
        assembly ("memory-safe") {
            place := add(certificate.offset, place)
            // 0x00..0x80 of `input` are ecrecover's arguments, the addresses follow.
            let input := mload(0x40)
            let roster := add(input, 0x80)
            let member := roster
            extcodecopy(committee, roster, 32, mul(members, 20))
            mstore(input, digest)
            let v := add(input, 0x20)
            let rs := add(input, 0x40)
            let s := add(input, 0x60)
            for {} bitmap { bitmap := shr(1, bitmap) } {
                if and(bitmap, 1) {
                    calldatacopy(rs, place, 64)
                    let vs := mload(s)
                    mstore(v, add(27, shr(255, vs)))
                    vs := shr(1, shl(1, vs))
                    mstore(s, vs)
                    // Stays zero where nothing is recovered, and no member has the address zero.
                    mstore(0, 0)
                    pop(staticcall(gas(), 1, input, 0x80, 0, 0x20))
                    if or(gt(vs, sMax), xor(mload(0), shr(96, mload(member)))) {
                        bad := div(sub(member, roster), 20)
                        break
                    }
                    place := add(place, 64)
                }
                member := add(member, 20)
            }
        }
        if (bad != type(uint256).max) revert BadSignature(bad);
    }
}
