// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FTest} from "./FTest.sol";
import {BadAggregate, BlsCertificateVerifier, IdentityKey} from "../src/BlsCertificateVerifier.sol";
import {BadCertificateLength, NoQuorum, UnknownSigner} from "../src/ICertificateVerifier.sol";
import {Bls12381, BlsPrecompileFailed} from "../src/lib/Bls12381.sol";
import {CommitteeCode} from "../src/lib/CommitteeCode.sol";

/// Certificates of one aggregate signature. Keys and signatures are made with the precompiles' multiplications.
contract BlsTest is FTest {
    uint256 private constant ORDER = 0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001;
    bytes32 private constant DIGEST = keccak256("digest");
    bytes private constant GENERATOR =
        hex"024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
        hex"13e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
        hex"0ce5d527727d6e118cc9cdc6da2e351aadfd9baa8cbdd3a76d429a695160d12c923ac9cc3baca289e193548608b82801"
        hex"0606c4a02ea734cc32acd2b02bc28b99cb3e287e85a763af267492ab572e99ab3f370d275cec1da1aaa9075ff05f79be";

    BlsCertificateVerifier private verifier = new BlsCertificateVerifier();

    function secret(uint256 i) private pure returns (uint256) {
        return uint256(keccak256(abi.encode("bls", i))) % ORDER;
    }

    function keyOf(uint256 scalar) private view returns (bytes memory) {
        (bool ok, bytes memory point) = address(0x0e).staticcall(bytes.concat(Bls12381.unpack(GENERATOR), bytes32(scalar)));
        assertTrue(ok && point.length == 256, "G2MSM");
        return Bls12381.pack(point);
    }

    function signOf(bytes32 digest, uint256 scalar) private view returns (bytes memory point) {
        bool ok;
        (ok, point) =
            address(0x0c).staticcall(bytes.concat(Bls12381.hashToG1(Bls12381.SIGNATURE_DST, digest), bytes32(scalar)));
        assertTrue(ok && point.length == 128, "G1MSM");
    }

    function committeeOf(uint256 n) private returns (address) {
        bytes memory roster;
        for (uint256 i = 0; i < n; i++) roster = bytes.concat(roster, keyOf(secret(i)));
        return CommitteeCode.create(2, n, 0, address(verifier), verifier.prepare(roster));
    }

    function aggregate(uint256 bits) private view returns (bytes memory) {
        uint256 sum;
        for (uint256 i = 0; i < 16; i++) if ((bits >> i) & 1 == 1) sum = addmod(sum, secret(i), ORDER);
        return signOf(DIGEST, sum);
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
        bytes memory roster = bytes.concat(keyOf(secret(0)), keyOf(ORDER - secret(0)));
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
        bytes memory key = keyOf(secret(0));
        key[191] = bytes1(uint8(key[191]) ^ 1);
        vm.expectRevert(abi.encodeWithSelector(BlsPrecompileFailed.selector, 0x0d));
        verifier.prepare(key);
    }
}
