// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BlsKeys} from "./BlsKeys.sol";
import {Fixture} from "./Fixture.sol";
import {BadAggregate} from "../src/BlsCertificateVerifier.sol";
import {
    BadBlsKey, BadProof, BadProofLength, KeyTaken, Registration, Status
} from "../src/CommitteeRegistry.sol";
import {NotAKeyOf, NotContradictory, NotSignedByOne, Roster} from "../src/Evidence.sol";
import {Batch, BatchLib} from "../src/lib/BatchLib.sol";
import {Bls12381, BlsPrecompileFailed} from "../src/lib/Bls12381.sol";
import {Eip712} from "../src/lib/Eip712.sol";

/// Members with BLS keys: what registration refuses, and how their equivocation is proved.
contract BlsMembersTest is Fixture, BlsKeys {
    address private constant REPORTER = address(0x4e904);
    bytes32 private constant DATA = keccak256("data");

    bytes private keys;

    function setUp() public {
        deploy(4);
        for (uint256 i = 4; i < 8; i++) {
            accept(blsForm(i));
            keys = bytes.concat(keys, blsKeyOf(secret(i)));
        }
        registry.install(0, 2, keys);
    }

    // ---- registration ----

    /// The form of member `i` with a BLS key that is proved to be possessed.
    function blsForm(uint256 i) private view returns (Registration memory) {
        return blsForm(i, blsKeyOf(secret(i)));
    }

    function blsForm(uint256 i, bytes memory key) private view returns (Registration memory form) {
        form = formOf(i);
        form.blsKey = key;
        bytes32 digest = registry.registrationDigest(
            operatorOf(i), form.attestation, form.consensusKey, form.peerKey, keccak256(key)
        );
        (form.r, form.vs) = sign2098(keyOf(i), digest);
        form.blsProof = blsSign(Bls12381.POSSESSION_DST, digest, secret(i));
    }

    function accept(Registration memory form) private {
        address operator = operatorOfForm(form);
        vm.deal(operator, BOND);
        vm.prank(operator);
        registry.register{value: BOND}(form);
    }

    function operatorOfForm(Registration memory form) private pure returns (address) {
        for (uint256 i = 0; i < 16; i++) if (attestationOf(i) == form.attestation) return operatorOf(i);
        return address(0);
    }

    function refused(Registration memory form, bytes memory reason) private {
        address operator = operatorOfForm(form);
        vm.deal(operator, BOND);
        vm.prank(operator);
        vm.expectRevert(reason);
        registry.register{value: BOND}(form);
    }

    function test_key_that_is_proved_is_the_members() public view {
        assertEq(registry.memberOf(attestationOf(4)).blsKey, keccak256(blsKeyOf(secret(4))), "key");
        assertEq(registry.ownerOfKey(keccak256(blsKeyOf(secret(4)))), attestationOf(4), "owner");
    }

    function test_key_without_its_own_proof_is_refused() public {
        Registration memory form = blsForm(8);
        // Made under the DST of certificates: else a certificate could be a proof, and a proof a certificate.
        bytes32 digest = registry.registrationDigest(
            operatorOf(8), form.attestation, form.consensusKey, form.peerKey, keccak256(form.blsKey)
        );
        form.blsProof = blsSign(Bls12381.SIGNATURE_DST, digest, secret(8));
        refused(form, abi.encodeWithSelector(BadProof.selector, form.attestation));
        // By another key.
        form.blsProof = blsSign(Bls12381.POSSESSION_DST, digest, secret(9));
        refused(form, abi.encodeWithSelector(BadProof.selector, form.attestation));
        // Of another registration.
        form.blsProof = blsForm(9).blsProof;
        refused(form, abi.encodeWithSelector(BadProof.selector, form.attestation));
        form.blsProof = new bytes(128);
        refused(form, abi.encodeWithSelector(BadProof.selector, form.attestation));
        form.blsProof = new bytes(127);
        refused(form, abi.encodeWithSelector(BadProofLength.selector, 127, 128));
        accept(blsForm(8));
    }

    function test_rogue_key_is_refused() public {
        // The key that would cancel member 4's out of a sum, which its maker cannot sign with: it knows the difference only.
        bytes memory rogue = blsKeyOf(addmod(secret(8), ORDER - secret(4), ORDER));
        Registration memory form = blsForm(8, rogue);
        refused(form, abi.encodeWithSelector(BadProof.selector, form.attestation));
    }

    function test_malformed_keys_are_refused() public {
        Registration memory form = blsForm(8, new bytes(191));
        refused(form, abi.encodeWithSelector(BadBlsKey.selector, 191));
        form = blsForm(8, new bytes(192));
        refused(form, abi.encodeWithSelector(BadBlsKey.selector, 0));
        bytes memory off = blsKeyOf(secret(8));
        off[191] = bytes1(uint8(off[191]) ^ 1);
        refused(blsForm(8, off), abi.encodeWithSelector(BlsPrecompileFailed.selector, 0x0f));
    }

    function test_bls_key_serves_one_member_for_ever() public {
        bytes memory taken = blsKeyOf(secret(4));
        Registration memory form = blsForm(8, taken);
        bytes32 digest = registry.registrationDigest(
            operatorOf(8), form.attestation, form.consensusKey, form.peerKey, keccak256(taken)
        );
        form.blsProof = blsSign(Bls12381.POSSESSION_DST, digest, secret(4));
        refused(form, abi.encodeWithSelector(KeyTaken.selector, keccak256(taken)));
    }

    // ---- evidence ----

    function pair() private pure returns (bytes32[2] memory) {
        return [bytes32(uint256(1)), bytes32(uint256(2))];
    }

    function digestOf(uint64 number, bytes32 hash, bytes32 data) private view returns (bytes32) {
        return Eip712.digest(Eip712.domain(address(inbox)), BatchLib.attestation(0, number, hash, data));
    }

    function signed(uint256 i, uint64 number, bytes32 hash, bytes32 data) private view returns (bytes memory) {
        return blsSign(Bls12381.SIGNATURE_DST, digestOf(number, hash, data), secret(i));
    }

    function isSlashed(uint256 i) private view returns (bool) {
        return registry.memberOf(attestationOf(i)).status == Status.Slashed;
    }

    function test_two_bls_attestations_of_one_number_take_the_bond() public {
        bytes32[2] memory hashes = pair();
        bytes32 other = keccak256("other data");
        bytes[2] memory signatures = [signed(4, 7, hashes[0], DATA), signed(4, 7, hashes[1], other)];
        bytes memory key = blsKeyOf(secret(4));
        evidence.reportBlsAttestations(attestationOf(4), 0, 7, hashes, [DATA, other], key, signatures, REPORTER, 0);
        assertTrue(isSlashed(4), "slashed");
        advance(301);
        registry.settle(attestationOf(4));
        assertEq(REPORTER.balance, BOND / 10, "reward");
    }

    function accuse(uint256 i, bytes32[2] memory hashes, bytes memory key, bytes[2] memory signatures, bytes memory why)
        private
    {
        vm.expectRevert(why);
        evidence.reportBlsAttestations(attestationOf(i), 0, 7, hashes, [DATA, DATA], key, signatures, REPORTER, 0);
        assertTrue(!isSlashed(i), "unharmed");
    }

    function test_honest_bls_members_cannot_be_accused() public {
        bytes32[2] memory h = pair();
        bytes memory key = blsKeyOf(secret(4));
        bytes[2] memory right = [signed(4, 7, h[0], DATA), signed(4, 7, h[1], DATA)];
        bytes memory notByOne = abi.encodeWithSelector(NotSignedByOne.selector, attestationOf(4), address(0));
        accuse(4, [h[1], h[0]], key, right, abi.encodeWithSelector(NotContradictory.selector, h[1], h[0]));
        accuse(4, [h[0], h[0]], key, [right[0], right[0]], abi.encodeWithSelector(NotContradictory.selector, h[0], h[0]));
        accuse(4, h, key, [right[0], right[0]], notByOne);
        accuse(4, h, key, [right[0], signed(4, 8, h[1], DATA)], notByOne);
        accuse(4, h, key, [right[0], signed(4, 7, h[1], keccak256("other data"))], notByOne);
        accuse(4, h, key, [right[0], signed(5, 7, h[1], DATA)], notByOne);
        accuse(4, h, key, [right[0], bytes("")], notByOne);
        accuse(4, h, key, [new bytes(128), right[1]], notByOne);
        // Another's signatures, under its key and under nobody's.
        bytes memory notIts = abi.encodeWithSelector(NotAKeyOf.selector, attestationOf(5), keccak256(key));
        accuse(5, h, key, right, notIts);
        accuse(0, h, key, right, abi.encodeWithSelector(NotAKeyOf.selector, attestationOf(0), keccak256(key)));
    }

    /// An aggregate by the members whose bits are set, number 4 being bit 0.
    function aggregate(uint256 bits, bytes32 hash) private view returns (bytes memory) {
        bytes memory signature = blsSign(Bls12381.SIGNATURE_DST, digestOf(7, hash, DATA), sumOf(bits, 4));
        return bytes.concat(bytes1(uint8(bits)), signature);
    }

    function test_two_aggregates_slash_who_is_in_both() public {
        bytes32[2] memory h = pair();
        bytes[2] memory both = [aggregate(7, h[0]), aggregate(14, h[1])];
        evidence.reportCertificates(7, Roster(0, 2, keys), h, [DATA, DATA], both, REPORTER, 0);
        assertTrue(!isSlashed(4) && isSlashed(5) && isSlashed(6) && !isSlashed(7), "members 5 and 6");
    }

    function test_aggregate_that_claims_more_signers_slashes_nobody() public {
        bytes32[2] memory h = pair();
        bytes[2] memory both = [aggregate(7, h[0]), aggregate(7, h[1])];
        both[1][0] = 0x0f;
        vm.expectRevert(abi.encodeWithSelector(BadAggregate.selector, 15));
        evidence.reportCertificates(7, Roster(0, 2, keys), h, [DATA, DATA], both, REPORTER, 0);
        for (uint256 i = 4; i < 8; i++) assertTrue(!isSlashed(i), "unharmed");
    }
}
