// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CommitteeCode} from "./lib/CommitteeCode.sol";
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
        (, uint256 members,,) = CommitteeCode.head(committee);
        uint256 width = (members + 7) / 8;
        if (certificate.length < width) revert BadCertificateLength(certificate.length, width);
        uint256 bitmap = uint256(bytes32(certificate[:width])) >> (256 - 8 * width);
        if (bitmap >> members != 0) revert UnknownSigner(bitmap, members);
        signers = QuorumLib.signers(bitmap);
        uint256 least = QuorumLib.quorum(members);
        if (signers < least) revert NoQuorum(signers, least);
        uint256 expected = width + 64 * signers;
        if (certificate.length != expected) revert BadCertificateLength(certificate.length, expected);
        check(committee, members, digest, bitmap, certificate[width:]);
    }

    /// Recovers each signature and compares it with the member whose bit is set.
    function check(
        address committee,
        uint256 members,
        bytes32 digest,
        uint256 bitmap,
        bytes calldata signatures
    ) private view {
        uint256 sMax = EcdsaLib.S_MAX;
        uint256 bad = type(uint256).max;
        assembly ("memory-safe") {
            // 0x00..0x80 of `input` are ecrecover's arguments, the addresses follow.
            let input := mload(0x40)
            let roster := add(input, 0x80)
            extcodecopy(committee, roster, 32, mul(members, 20))
            mstore(input, digest)
            let at := signatures.offset
            for { let i := 0 } bitmap { i := add(i, 1) } {
                if and(bitmap, 1) {
                    let vs := calldataload(add(at, 32))
                    let s := shr(1, shl(1, vs))
                    mstore(add(input, 0x20), add(27, shr(255, vs)))
                    mstore(add(input, 0x40), calldataload(at))
                    mstore(add(input, 0x60), s)
                    // Left at zero where nothing is recovered; no member has the address zero.
                    mstore(0, 0)
                    pop(staticcall(gas(), 1, input, 0x80, 0, 0x20))
                    let signer := mload(0)
                    let member := shr(96, mload(add(roster, mul(i, 20))))
                    if or(or(gt(s, sMax), iszero(signer)), iszero(eq(signer, member))) {
                        bad := i
                        break
                    }
                    at := add(at, 64)
                }
                bitmap := shr(1, bitmap)
            }
        }
        if (bad != type(uint256).max) revert BadSignature(bad);
    }
}
