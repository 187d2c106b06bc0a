// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BlsKeys} from "./BlsKeys.sol";
import {BadAggregate, BlsCertificateVerifier, IdentityKey} from "../src/BlsCertificateVerifier.sol";
import {BadCertificateLength, NoQuorum, UnknownSigner} from "../src/ICertificateVerifier.sol";
import {Bls12381, BlsPrecompileFailed} from "../src/lib/Bls12381.sol";
import {CommitteeCode} from "../src/lib/CommitteeCode.sol";

/// Certificates of one aggregate signature.
contract BlsTest is BlsKeys {
    bytes32 private constant DIGEST = keccak256("digest");

    BlsCertificateVerifier private verifier = new BlsCertificateVerifier();

    function committeeOf(uint256 n) private returns (address) {
        bytes memory roster;
        for (uint256 i = 0; i < n; i++) roster = bytes.concat(roster, blsKeyOf(secret(i)));
        return CommitteeCode.create(2, n, 0, address(verifier), verifier.prepare(roster));
    }

    function aggregate(uint256 bits) private view returns (bytes memory) {
        return blsSign(Bls12381.SIGNATURE_DST, DIGEST, sumOf(bits, 0));
    }

    function testFuzz_every_quorum_and_nothing_less_is_a_certificate(uint256 bits) public {
        address committee = committeeOf(4);
        bits = bound(bits, 1, 15);
        uint256 count;
        for (uint256 i = 0; i < 4; i++) count += (bits >> i) & 1;
        bytes memory certificate = bytes.concat(bytes1(uint8(bits)), aggregate(bits));
        if (count < 3) {
            vm.expectRevert(abi.encodeWithSelector(NoQuorum.selector, count, 3));
            verifier.verify(committee, DIGEST, certificate);
        } else {
            assertEq(verifier.verify(committee, DIGEST, certificate), count, "signers");
        }
    }

    function test_claimed_signers_that_did_not_sign_are_noticed() public {
        address committee = committeeOf(4);
        bytes memory three = aggregate(7);
        vm.expectRevert(abi.encodeWithSelector(BadAggregate.selector, 15));
        verifier.verify(committee, DIGEST, bytes.concat(hex"0f", three));
        vm.expectRevert(abi.encodeWithSelector(BadAggregate.selector, 14));
        verifier.verify(committee, DIGEST, bytes.concat(hex"0e", three));
        vm.expectRevert(abi.encodeWithSelector(BadAggregate.selector, 7));
        verifier.verify(committee, keccak256("another"), bytes.concat(hex"07", three));
    }

    function test_identity_proves_nothing() public {
        address committee = committeeOf(4);
        vm.expectRevert(abi.encodeWithSelector(BadAggregate.selector, 7));
        verifier.verify(committee, DIGEST, bytes.concat(hex"07", new bytes(128)));
        // Keys that add up to the identity would sign everything with the identity.
        bytes memory roster = bytes.concat(blsKeyOf(secret(0)), blsKeyOf(ORDER - secret(0)));
        address cancelled = CommitteeCode.create(2, 2, 0, address(verifier), verifier.prepare(roster));
        vm.expectRevert(IdentityKey.selector);
        verifier.verify(cancelled, DIGEST, bytes.concat(hex"03", new bytes(128)));
    }

    function test_shape_is_checked() public {
        address committee = committeeOf(4);
        bytes memory right = aggregate(7);
        vm.expectRevert(abi.encodeWithSelector(BadCertificateLength.selector, 128, 129));
        verifier.verify(committee, DIGEST, right);
        vm.expectRevert(abi.encodeWithSelector(UnknownSigner.selector, 23, 4));
        verifier.verify(committee, DIGEST, bytes.concat(hex"17", right));
        bytes memory off = right;
        off[127] = bytes1(uint8(off[127]) ^ 1);
        vm.expectRevert(abi.encodeWithSelector(BlsPrecompileFailed.selector, 0x0f));
        verifier.verify(committee, DIGEST, bytes.concat(hex"07", off));
    }

    function test_roster_of_points_off_the_curve_is_refused() public {
        bytes memory key = blsKeyOf(secret(0));
        key[191] = bytes1(uint8(key[191]) ^ 1);
        vm.expectRevert(abi.encodeWithSelector(BlsPrecompileFailed.selector, 0x0d));
        verifier.prepare(key);
    }
}
