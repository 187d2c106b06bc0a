// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Bls12381, BlsPrecompileFailed} from "./lib/Bls12381.sol";
import {CommitteeCode} from "./lib/CommitteeCode.sol";
import {QuorumLib} from "./lib/QuorumLib.sol";
import {
    BadCertificateLength,
    ICertificateVerifier,
    NoQuorum,
    RosterMalformed,
    RosterTooLarge,
    UnknownSigner
} from "./ICertificateVerifier.sol";

/// The aggregate signature is not that of the members whose bits are set.
error BadAggregate(uint256 bitmap);
/// The keys that should have signed add up to the identity, which signs everything.
error IdentityKey();

/// Certificates of one aggregate BLS12-381 signature in G1: the cheapest above about 46 members.
///
/// Certificate: bitmap of ⌈n/8⌉ bytes, read as a big-endian number whose bit i is member i, then the aggregate signature,
/// 128 bytes as EIP-2537 encodes G1. Relies on the registry for a proof of possession of every key (rogue keys), which
/// checks each key's group too. The payload stored is the sum of all keys, then each key, packed.
contract BlsCertificateVerifier is ICertificateVerifier {
    /// As many keys as fit into one contract's code (EIP-170): 32 + 192 × (1 + 126) bytes ≤ 24,576.
    uint256 private constant MEMBERS_MAX = 126;

    function scheme() external pure returns (uint8) {
        return 2;
    }

    function entryBytes() external pure returns (uint256) {
        return Bls12381.KEY_BYTES;
    }

    function membersMax() external pure returns (uint256) {
        return MEMBERS_MAX;
    }

    function prepare(bytes calldata roster) external view returns (bytes memory payload) {
        uint256 members = roster.length / Bls12381.KEY_BYTES;
        if (members == 0 || roster.length % Bls12381.KEY_BYTES != 0) {
            revert RosterMalformed(roster.length, Bls12381.KEY_BYTES);
        }
        if (members > MEMBERS_MAX) revert RosterTooLarge(members, MEMBERS_MAX);
        bytes memory sum = new bytes(Bls12381.G2_BYTES);
        for (uint256 i = 0; i < members; i++) {
            bytes memory key = roster[i * Bls12381.KEY_BYTES:(i + 1) * Bls12381.KEY_BYTES];
            Bls12381.add(sum, Bls12381.unpack(key));
        }
        return bytes.concat(Bls12381.pack(sum), roster);
    }

    function verify(address committee, bytes32 digest, bytes calldata certificate)
        external
        view
        returns (uint256 signers)
    {
        (, uint256 members,,) = CommitteeCode.head(committee);
        uint256 width = (members + 7) / 8;
        uint256 expected = width + Bls12381.SIGNATURE_BYTES;
        if (certificate.length != expected) revert BadCertificateLength(certificate.length, expected);
        uint256 bitmap = uint256(bytes32(certificate[:width])) >> (256 - 8 * width);
        if (bitmap >> members != 0) revert UnknownSigner(bitmap, members);
        signers = QuorumLib.signers(bitmap);
        uint256 least = QuorumLib.quorum(members);
        if (signers < least) revert NoQuorum(signers, least);
        bytes memory key = aggregate(committee, bitmap ^ ((1 << members) - 1));
        if (!Bls12381.verifies(Bls12381.SIGNATURE_DST, digest, key, certificate[width:])) revert BadAggregate(bitmap);
    }

    /// The sum of all keys minus those of `absent`. A quorum leaves fewer than a third absent, so this always takes fewer
    /// additions than a sum of the signers.
    function aggregate(address committee, uint256 absent) private view returns (bytes memory key) {
        key = new bytes(Bls12381.G2_BYTES);
        if (absent != 0) {
            bool ok = true;
            assembly ("memory-safe") {
                // The sum so far stands in `input`; the precompile takes it and the next point side by side.
                let input := mload(0x40)
                let point := add(input, 256)
                let packed := add(input, 512)
                calldatacopy(input, calldatasize(), 512)
                let from := 224
                for {} absent { absent := shr(1, absent) } {
                    if and(absent, 1) {
                        extcodecopy(committee, packed, from, 192)
                        mcopy(add(point, 16), packed, 48)
                        mcopy(add(point, 80), add(packed, 48), 48)
                        mcopy(add(point, 144), add(packed, 96), 48)
                        mcopy(add(point, 208), add(packed, 144), 48)
                        ok := and(ok, staticcall(gas(), 0x0d, input, 512, input, 256))
                    }
                    from := add(from, 192)
                }
                mcopy(add(key, 32), input, 256)
            }
            if (!ok) revert BlsPrecompileFailed(0x0d);
            Bls12381.negate(key);
        }
        bytes memory all = new bytes(Bls12381.KEY_BYTES);
        assembly ("memory-safe") {
            extcodecopy(committee, add(all, 32), 32, 192)
        }
        Bls12381.add(key, Bls12381.unpack(all));
        if (Bls12381.isIdentity(key)) revert IdentityKey();
    }
}
