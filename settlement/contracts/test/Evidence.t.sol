// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Fixture} from "./Fixture.sol";
import "../src/Evidence.sol";
import {AlreadySlashed, NotEvidence, Status, TooEarly, WrongStatus} from "../src/CommitteeRegistry.sol";
import {BadSignature, NoQuorum} from "../src/ICertificateVerifier.sol";
import {BatchLib} from "../src/lib/BatchLib.sol";
import {Eip712} from "../src/lib/Eip712.sol";

/// Equivocation is slashed once, and pays who found it.
contract EvidenceTest is Fixture {
    address private constant REPORTER = address(0x4e904);
    bytes32 private constant DATA = keccak256("data");

    function setUp() public {
        deploy(4);
    }

    function pair() private pure returns (bytes32 first, bytes32 second) {
        (first, second) = (keccak256("one batch"), keccak256("another"));
        if (first > second) (first, second) = (second, first);
    }

    function signed(uint256 i, uint64 number, bytes32 hash) private view returns (bytes32 r, bytes32 vs) {
        return sign2098(keyOf(i), digestOf(number, hash, DATA));
    }

    function digestOf(uint64 number, bytes32 hash, bytes32 data) private view returns (bytes32) {
        return Eip712.digest(Eip712.domain(address(inbox)), BatchLib.attestation(0, number, hash, data));
    }

    function report(uint256 i, uint256 j, bytes32 first, bytes32 second, address reporter, bytes32 salt) private {
        bytes32[4] memory signatures;
        (signatures[0], signatures[1]) = signed(i, 7, first);
        (signatures[2], signatures[3]) = signed(j, 7, second);
        evidence.reportAttestations(0, 7, [first, second], [DATA, DATA], signatures, reporter, salt);
    }

    function test_two_attestations_of_one_number_take_the_bond_once() public {
        (bytes32 first, bytes32 second) = pair();
        report(1, 1, first, second, REPORTER, 0);
        assertTrue(registry.memberOf(attestationOf(1)).status == Status.Slashed, "slashed");
        vm.expectRevert(abi.encodeWithSelector(AlreadySlashed.selector, attestationOf(1)));
        report(1, 1, first, second, REPORTER, 0);
        uint256 from = block.number + 300;
        vm.expectRevert(abi.encodeWithSelector(TooEarly.selector, block.number, from + 1));
        registry.settle(attestationOf(1));
        vm.roll(from + 1);
        registry.settle(attestationOf(1));
        assertEq(REPORTER.balance, BOND / 10, "reward");
        assertEq(address(registry).balance, 3 * BOND, "the rest is burned");
        vm.expectRevert(abi.encodeWithSelector(WrongStatus.selector, attestationOf(1), Status.Slashed));
        registry.settle(attestationOf(1));
        vm.expectRevert(abi.encodeWithSelector(AlreadySlashed.selector, attestationOf(1)));
        report(1, 1, first, second, REPORTER, 0);
    }

    function test_honest_members_cannot_be_accused() public {
        (bytes32 first, bytes32 second) = pair();
        vm.expectRevert(abi.encodeWithSelector(NotSignedByOne.selector, attestationOf(0), attestationOf(1)));
        report(0, 1, first, second, REPORTER, 0);
        vm.expectRevert(abi.encodeWithSelector(NotContradictory.selector, first, first));
        report(0, 0, first, first, REPORTER, 0);
        vm.expectRevert(abi.encodeWithSelector(NotContradictory.selector, second, first));
        report(0, 0, second, first, REPORTER, 0);
        bytes32[4] memory signatures;
        (signatures[0], signatures[1]) = signed(0, 7, first);
        (signatures[2], signatures[3]) = signed(0, 8, second);
        // The second was signed for another number: under this one it recovers to somebody else.
        bool ok = reportFails(first, second, signatures);
        assertTrue(ok, "refused");
        assertTrue(registry.memberOf(attestationOf(0)).status == Status.Active, "unharmed");
    }

    function reportFails(bytes32 first, bytes32 second, bytes32[4] memory signatures) private returns (bool) {
        (bool ok, bytes memory reason) = address(evidence).call(
            abi.encodeCall(
                evidence.reportAttestations, (0, 7, [first, second], [DATA, DATA], signatures, REPORTER, 0)
            )
        );
        return !ok && bytes4(reason) == NotSignedByOne.selector;
    }

    function test_one_batch_in_other_data_is_no_fault() public {
        (bytes32 first,) = pair();
        bytes32[4] memory s;
        (s[0], s[1]) = sign2098(keyOf(1), digestOf(7, first, keccak256("one encoding")));
        (s[2], s[3]) = sign2098(keyOf(1), digestOf(7, first, keccak256("another")));
        vm.expectRevert(abi.encodeWithSelector(NotContradictory.selector, first, first));
        evidence.reportAttestations(
            0, 7, [first, first], [keccak256("one encoding"), keccak256("another")], s, REPORTER, 0
        );
    }

    function testFuzz_two_batches_are_a_fault_in_whatever_data(bytes32 one, bytes32 another) public {
        (bytes32 first, bytes32 second) = pair();
        bytes32[4] memory s;
        (s[0], s[1]) = sign2098(keyOf(1), digestOf(7, first, one));
        (s[2], s[3]) = sign2098(keyOf(1), digestOf(7, second, another));
        evidence.reportAttestations(0, 7, [first, second], [one, another], s, REPORTER, 0);
        assertTrue(registry.memberOf(attestationOf(1)).status == Status.Slashed, "slashed");
    }

    function test_outsiders_have_nothing_to_lose() public {
        (bytes32 first, bytes32 second) = pair();
        vm.expectRevert(abi.encodeWithSelector(WrongStatus.selector, attestationOf(9), Status.None));
        report(9, 9, first, second, REPORTER, 0);
    }

    function test_only_evidence_slashes() public {
        vm.expectRevert(abi.encodeWithSelector(NotEvidence.selector, address(this)));
        registry.slash(attestationOf(0), REPORTER, block.number, 0);
    }

    function test_who_committed_first_keeps_the_reward_from_a_copy() public {
        (bytes32 first, bytes32 second) = pair();
        bytes32 id = evidence.attestationFault(attestationOf(1), 0, 7, [first, second]);
        bytes32 salt = keccak256("salt");
        evidence.commit(keccak256(abi.encode(REPORTER, id, salt)));
        advance(2);
        address thief = address(0x7417ef);
        report(1, 1, first, second, thief, 0);
        // The thief has no commitment, nor can it use another's salt.
        vm.expectRevert(abi.encodeWithSelector(AlreadySlashed.selector, attestationOf(1)));
        report(1, 1, first, second, thief, salt);
        report(1, 1, first, second, REPORTER, salt);
        advance(301);
        registry.settle(attestationOf(1));
        assertEq(REPORTER.balance, BOND / 10, "reward");
        assertEq(thief.balance, 0, "nothing for the copy");
    }

    function test_older_claim_on_another_fault_takes_nothing_over() public {
        // The offender has signed a third batch, told nobody, and committed to that fault long ago.
        (bytes32 first, bytes32 second) = pair();
        bytes32[2] memory kept = [bytes32(uint256(1)), bytes32(uint256(2))];
        address friend = address(0xf41e4d);
        bytes32 salt = keccak256("salt");
        bytes32 id = evidence.attestationFault(attestationOf(1), 0, 7, kept);
        evidence.commit(keccak256(abi.encode(friend, id, salt)));
        advance(2);
        report(1, 1, first, second, REPORTER, 0);
        vm.expectRevert(abi.encodeWithSelector(AlreadySlashed.selector, attestationOf(1)));
        report(1, 1, kept[0], kept[1], friend, salt);
    }

    function test_commitment_cannot_be_dated_back() public {
        bytes32 commitment = keccak256("c");
        evidence.commit(commitment);
        advance(1);
        vm.expectRevert(abi.encodeWithSelector(AlreadyCommitted.selector, commitment));
        evidence.commit(commitment);
    }

    function test_bond_on_its_way_out_is_still_taken() public {
        vm.prank(operatorOf(1));
        registry.requestExit(attestationOf(1));
        vm.roll(inbox.postedBlock() + UNBONDING / 12 + 1);
        registry.release(attestationOf(1));
        (bytes32 first, bytes32 second) = pair();
        report(1, 1, first, second, REPORTER, 0);
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(operatorOf(1));
        vm.expectRevert(abi.encodeWithSelector(WrongStatus.selector, attestationOf(1), Status.Slashed));
        registry.withdraw(attestationOf(1), payable(operatorOf(1)));
    }

    function testFuzz_shares_add_up(uint88 extra) public {
        vm.deal(operatorOf(1), extra);
        uint256 bond = BOND + extra;
        if (bond > type(uint88).max) return;
        vm.prank(operatorOf(1));
        registry.deposit{value: extra}(attestationOf(1));
        (bytes32 first, bytes32 second) = pair();
        report(1, 1, first, second, REPORTER, 0);
        advance(301);
        uint256 burned = address(0).balance;
        registry.settle(attestationOf(1));
        assertEq(REPORTER.balance, bond / 10, "rounded down");
        assertEq(REPORTER.balance + address(0).balance - burned, bond, "nothing stays");
    }

    function test_reporter_that_takes_nothing_has_it_burned() public {
        (bytes32 first, bytes32 second) = pair();
        report(1, 1, first, second, address(registry), 0);
        advance(301);
        registry.settle(attestationOf(1));
        assertEq(address(registry).balance, 3 * BOND, "burned");
        vm.expectRevert(NoReporter.selector);
        report(2, 2, first, second, address(0), 0);
    }

    // ---- whole certificates ----

    function certificates(uint256 one, uint256 another) private view returns (bytes[2] memory out) {
        (bytes32 first, bytes32 second) = pair();
        out[0] = certificateOf(digestOf(7, first, DATA), one);
        out[1] = certificateOf(digestOf(7, second, DATA), another);
    }

    function reportBoth(bytes[2] memory both, address reporter, bytes32 salt) private {
        (bytes32 first, bytes32 second) = pair();
        evidence.reportCertificates(
            7, Roster(0, 1, roster()), [first, second], [DATA, DATA], both, reporter, salt
        );
    }

    function isSlashed(uint256 i) private view returns (bool) {
        return registry.memberOf(attestationOf(i)).status == Status.Slashed;
    }

    function test_two_certificates_slash_who_signed_both() public {
        reportBoth(certificates(7, 14), REPORTER, 0);
        assertTrue(!isSlashed(0) && isSlashed(1) && isSlashed(2) && !isSlashed(3), "members 1 and 2");
        vm.expectRevert(abi.encodeWithSelector(NobodyToSlash.selector, 6));
        reportBoth(certificates(7, 14), REPORTER, 0);
        // Another certificate brings another offender to light.
        reportBoth(certificates(7, 11), REPORTER, 0);
        assertTrue(isSlashed(0) && !isSlashed(3), "member 0");
    }

    function test_certificates_that_prove_nothing_slash_nobody() public {
        (bytes32 first, bytes32 second) = pair();
        bytes[2] memory both = certificates(7, 7);
        Roster memory four = Roster(0, 1, roster());
        vm.expectRevert(abi.encodeWithSelector(NotContradictory.selector, second, first));
        evidence.reportCertificates(7, four, [second, first], [DATA, DATA], both, REPORTER, 0);
        vm.expectRevert(abi.encodeWithSelector(BadSignature.selector, 0));
        evidence.reportCertificates(8, four, [first, second], [DATA, DATA], both, REPORTER, 0);
        vm.expectRevert(abi.encodeWithSelector(BadSignature.selector, 0));
        evidence.reportCertificates(7, four, [first, second], [DATA, bytes32(0)], both, REPORTER, 0);
        both[1] = both[0];
        vm.expectRevert(abi.encodeWithSelector(BadSignature.selector, 0));
        evidence.reportCertificates(7, four, [first, second], [DATA, DATA], both, REPORTER, 0);
        both = certificates(7, 3);
        vm.expectRevert(abi.encodeWithSelector(NoQuorum.selector, 2, 3));
        evidence.reportCertificates(7, four, [first, second], [DATA, DATA], both, REPORTER, 0);
        four.epoch = 1;
        bytes32 unknown = registry.committeeHash(1, 1, four.keys);
        vm.expectRevert(abi.encodeWithSelector(UnknownCommittee.selector, unknown));
        evidence.reportCertificates(7, four, [first, second], [DATA, DATA], both, REPORTER, 0);
        for (uint256 i = 0; i < 4; i++) assertTrue(!isSlashed(i), "unharmed");
    }

    function test_who_committed_first_keeps_the_reward_of_certificates() public {
        (bytes32 first, bytes32 second) = pair();
        bytes32 salt = keccak256("salt");
        bytes32 id = evidence.attestationFault(address(0), 0, 7, [first, second]);
        evidence.commit(keccak256(abi.encode(REPORTER, id, salt)));
        advance(2);
        address thief = address(0x7417ef);
        reportBoth(certificates(7, 14), thief, 0);
        reportBoth(certificates(7, 14), REPORTER, salt);
        advance(301);
        for (uint256 i = 1; i < 3; i++) registry.settle(attestationOf(i));
        assertEq(REPORTER.balance, 2 * (BOND / 10), "reward");
        assertEq(thief.balance, 0, "nothing for the copy");
    }

    // ---- faults that a batch carries ----

    function faultOf(uint256 i) private view returns (Fault memory) {
        return Fault(2, 0, 5, 1, attestationOf(i), ed25519Of("consensus", i), keccak256("two precommits"));
    }

    function single(bytes32 leaf) private pure returns (bytes32 root, MerkleProof memory proof) {
        proof = MerkleProof(0, 1, new bytes32[](0));
        root = keccak256(abi.encodePacked(uint8(2), uint64(1), leaf));
    }

    function carried(Fault memory fault) private returns (Batch memory batch, MerkleProof memory proof) {
        batch = nextBatch();
        (batch.faults, proof) = single(evidence.faultLeaf(fault));
        post(batch);
    }

    function test_fault_in_a_posted_batch_is_slashed_once() public {
        (Batch memory batch, MerkleProof memory proof) = carried(faultOf(1));
        evidence.reportFault(batch, faultOf(1), proof, REPORTER, 0);
        assertTrue(registry.memberOf(attestationOf(1)).status == Status.Slashed, "slashed");
        Fault memory again = faultOf(1);
        vm.expectRevert(abi.encodeWithSelector(AlreadySlashed.selector, attestationOf(1)));
        evidence.reportFault(batch, again, proof, REPORTER, 0);
    }

    function test_fault_must_be_posted_proved_recent_and_of_the_members_key() public {
        Fault memory fault = faultOf(1);
        (Batch memory batch, MerkleProof memory proof) = carried(fault);
        Batch memory other = nextBatch();
        vm.expectRevert(abi.encodeWithSelector(UnknownBatch.selector, other.number, hashOf(other)));
        evidence.reportFault(other, fault, proof, REPORTER, 0);
        fault.height = 6;
        vm.expectRevert(abi.encodeWithSelector(FaultNotProved.selector, 0, evidence.faultLeaf(fault)));
        evidence.reportFault(batch, fault, proof, REPORTER, 0);
        fault.kind = 5;
        vm.expectRevert(abi.encodeWithSelector(BadFaultKind.selector, 5));
        evidence.reportFault(batch, fault, proof, REPORTER, 0);
        vm.roll(batch.l1Number + 50_401);
        vm.expectRevert(
            abi.encodeWithSelector(EvidenceExpired.selector, batch.l1Number, 50_400, block.number)
        );
        evidence.reportFault(batch, fault, proof, REPORTER, 0);
    }

    function test_fault_of_an_epoch_to_come_is_refused() public {
        Fault memory fault = faultOf(1);
        fault.epoch = 1;
        (Batch memory batch, MerkleProof memory proof) = carried(fault);
        vm.expectRevert(abi.encodeWithSelector(FaultAhead.selector, 1, 0));
        evidence.reportFault(batch, fault, proof, REPORTER, 0);
    }

    function test_fault_of_a_key_that_is_not_the_members_is_refused() public {
        Fault memory fault = faultOf(1);
        fault.attestation = attestationOf(2);
        (Batch memory batch, MerkleProof memory proof) = carried(fault);
        vm.expectRevert(abi.encodeWithSelector(NotAKeyOf.selector, attestationOf(2), fault.consensusKey));
        evidence.reportFault(batch, fault, proof, REPORTER, 0);
    }

    function test_batch_without_faults_proves_none() public {
        Batch memory batch = nextBatch();
        post(batch);
        (, MerkleProof memory proof) = single(0);
        Fault memory fault = faultOf(1);
        vm.expectRevert(abi.encodeWithSelector(FaultNotProved.selector, 0, evidence.faultLeaf(fault)));
        evidence.reportFault(batch, fault, proof, REPORTER, 0);
    }

    function test_window_is_shorter_than_the_unbonding() public {
        uint64 blocks = UNBONDING / 12;
        vm.expectRevert(abi.encodeWithSelector(WindowTooLong.selector, UNBONDING, UNBONDING));
        new Evidence(registry, IBatchHashes(address(inbox)), blocks);
        new Evidence(registry, IBatchHashes(address(inbox)), blocks - 1);
    }
}
