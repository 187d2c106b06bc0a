// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BlsKeys} from "./BlsKeys.sol";
import {Fixture} from "./Fixture.sol";
import {BlsCertificateVerifier} from "../src/BlsCertificateVerifier.sol";
import {EcdsaCertificateVerifier} from "../src/EcdsaCertificateVerifier.sol";
import {ICertificateVerifier, NoQuorum} from "../src/ICertificateVerifier.sol";
import {Bls12381} from "../src/lib/Bls12381.sol";
import {CommitteeCode} from "../src/lib/CommitteeCode.sol";

/// How many must sign, for committees of every kind of size. The numbers are written out: 2f + 1, which is the same where n is
/// 3f + 1, would be 1 of 2, 1 of 3, 3 of 5, 3 of 6 and 5 of 9, and two such certificates need not share an honest member.
contract QuorumTest is Fixture, BlsKeys {
    bytes32 private constant DIGEST = keccak256("digest");

    ICertificateVerifier private ecdsa = new EcdsaCertificateVerifier();
    ICertificateVerifier private bls = new BlsCertificateVerifier();

    /// n − ⌊(n−1)/3⌋.
    function sizes() private pure returns (uint256[2][8] memory) {
        return [
            [uint256(1), 1],
            [uint256(2), 2],
            [uint256(3), 3],
            [uint256(5), 4],
            [uint256(6), 5],
            [uint256(9), 7],
            [uint256(126), 85],
            [uint256(128), 86]
        ];
    }

    /// As many as `count` members, the first or the last of `n`.
    function bitsOf(uint256 n, uint256 count, bool last_) private pure returns (uint256) {
        return ((1 << count) - 1) << (last_ ? n - count : 0);
    }

    function test_ecdsa_committee_of_every_size_asks_for_its_quorum() public {
        for (uint256 i = 0; i < 8; i++) {
            (uint256 n, uint256 q) = (sizes()[i][0], sizes()[i][1]);
            size = n;
            address committee = CommitteeCode.create(1, n, 0, address(ecdsa), ecdsa.prepare(roster()));
            for (uint256 side = 0; side < 2; side++) {
                bytes memory right = certificateOf(DIGEST, bitsOf(n, q, side == 1));
                assertEq(ecdsa.verify(committee, DIGEST, right), q, "quorum");
                bytes memory few = certificateOf(DIGEST, bitsOf(n, q - 1, side == 1));
                vm.expectRevert(abi.encodeWithSelector(NoQuorum.selector, q - 1, q));
                ecdsa.verify(committee, DIGEST, few);
            }
            bytes memory all = certificateOf(DIGEST, bitsOf(n, n, false));
            assertEq(ecdsa.verify(committee, DIGEST, all), n, "all");
        }
    }

    function aggregate(uint256 n, uint256 bits) private view returns (bytes memory) {
        uint256 width = (n + 7) / 8;
        bytes memory bitmap = abi.encodePacked(bytes32(bits << (256 - 8 * width)));
        assembly ("memory-safe") {
            mstore(bitmap, width)
        }
        return bytes.concat(bitmap, blsSign(Bls12381.SIGNATURE_DST, DIGEST, sumOf(bits, 0)));
    }

    function test_bls_committee_of_every_size_asks_for_its_quorum() public {
        bytes memory keys;
        // 126 keys are what fits.
        for (uint256 i = 0; i < 7; i++) {
            (uint256 n, uint256 q) = (sizes()[i][0], sizes()[i][1]);
            for (uint256 k = keys.length / 192; k < n; k++) keys = bytes.concat(keys, blsKeyOf(secret(k)));
            address committee = CommitteeCode.create(2, n, 0, address(bls), bls.prepare(keys));
            for (uint256 side = 0; side < 2; side++) {
                bytes memory right = aggregate(n, bitsOf(n, q, side == 1));
                assertEq(bls.verify(committee, DIGEST, right), q, "quorum");
                bytes memory few = aggregate(n, bitsOf(n, q - 1, side == 1));
                vm.expectRevert(abi.encodeWithSelector(NoQuorum.selector, q - 1, q));
                bls.verify(committee, DIGEST, few);
            }
        }
    }
}
