// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Fixture} from "./Fixture.sol";
import {BatchInbox} from "../src/BatchInbox.sol";
import {CommitteeRegistry, Registration} from "../src/CommitteeRegistry.sol";
import {CommitteeStore} from "../src/CommitteeStore.sol";
import {EmergencyPause} from "../src/EmergencyPause.sol";
import {Evidence} from "../src/Evidence.sol";
import {ForcedQueue} from "../src/ForcedQueue.sol";
import {Batch, BatchLib} from "../src/lib/BatchLib.sol";
import {Eip712} from "../src/lib/Eip712.sol";

/// What nodes rebuild their knowledge of L1 from: every event with every field.
contract EventsTest is Fixture {
    address private constant REPORTER = address(0x4e904);

    function setUp() public {
        deploy(4);
    }

    function certified(Batch memory batch) private view returns (bytes memory) {
        return certificateOf(digestOf(batch), leastQuorum());
    }

    function test_posts_tell_number_hash_header_and_successor() public {
        registry.install(1, 1, roster());
        Batch memory batch = nextBatch();
        batch.nextCommittee = registry.committeeHash(1, 1, roster());
        bytes memory certificate = certified(batch);
        address committee = registry.committeeOf(batch.nextCommittee);
        vm.expectEmit(address(inbox));
        emit BatchInbox.BatchPosted(0, hashOf(batch), headerOf(batch));
        vm.expectEmit(address(inbox));
        emit BatchInbox.CommitteeActivated(1, batch.nextCommittee, committee);
        postWith(batch, certificate);
    }

    function test_calldata_posts_tell_the_payload() public {
        Batch memory batch = nextBatch();
        bytes memory payload = "payload";
        bytes32 data = keccak256(abi.encodePacked(uint8(2), keccak256(payload)));
        bytes memory certificate = certificateOf(inbox.attestationDigest(batch, data), leastQuorum());
        vm.expectEmit(address(inbox));
        emit BatchInbox.BatchPosted(0, hashOf(batch), headerOf(batch, data));
        vm.expectEmit(address(inbox));
        emit BatchInbox.BatchPayload(0, payload);
        inbox.postCalldata(headerOf(batch, data), certificate, payload);
    }

    function test_queue_tells_items_escapes_and_fees() public {
        bytes32 item = inbox.forcedAccumulator(0, 901, address(this), keccak256("a"), block.number);
        vm.expectEmit(address(inbox));
        emit ForcedQueue.ForcedEnqueued(0, 901, address(this), item, "a");
        force(901, "a");
        post(nextBatch());
        advance(2 * ESCAPE_BLOCKS);
        vm.expectEmit(address(inbox));
        emit ForcedQueue.ForcedEscaped(0, 1, 1, item);
        inbox.escape(1);
        vm.expectEmit(address(inbox));
        emit ForcedQueue.FeesCollected(FEE);
        vm.prank(TREASURY);
        inbox.collectFees();
    }

    function test_pause_tells_its_end() public {
        vm.expectEmit(address(inbox));
        emit EmergencyPause.PauseBegun(uint64(block.timestamp) + 12 hours);
        vm.prank(GUARDIAN);
        inbox.pause();
        vm.expectEmit(address(inbox));
        emit EmergencyPause.PauseEnded();
        vm.prank(GUARDIAN);
        inbox.unpause();
    }

    function test_registration_tells_all_keys_and_proofs() public {
        Registration memory form = formOf(4);
        form.consensusProof[0] = 0x01;
        form.peerProof[0] = 0x02;
        uint64 change = registry.changes();
        vm.deal(operatorOf(4), 2 * BOND);
        vm.expectEmit(address(registry));
        emit CommitteeRegistry.MemberRegistered(
            change,
            form.attestation,
            operatorOf(4),
            5,
            BOND,
            form.consensusKey,
            form.peerKey,
            "",
            form.consensusProof,
            form.peerProof
        );
        vm.prank(operatorOf(4));
        registry.register{value: BOND}(form);
        vm.expectEmit(address(registry));
        emit CommitteeRegistry.MemberApproved(change + 1, form.attestation);
        registry.approve(form.attestation);
        vm.expectEmit(address(registry));
        emit CommitteeRegistry.BondDeposited(change + 2, form.attestation, 3, BOND + 3);
        vm.prank(operatorOf(4));
        registry.deposit{value: 3}(form.attestation);
        assertEq(registry.changes(), change + 3, "changes");
    }

    function test_exits_tell_who_asked_and_when_the_bond_is_free() public {
        uint64 change = registry.changes();
        vm.expectEmit(address(registry));
        emit CommitteeRegistry.ExitRequested(change, attestationOf(0), false);
        vm.prank(operatorOf(0));
        registry.requestExit(attestationOf(0));
        vm.expectEmit(address(registry));
        emit CommitteeRegistry.ExitRequested(change + 1, attestationOf(1), true);
        registry.revoke(attestationOf(1));
        vm.roll(inbox.postedBlock() + UNBONDING / 12 + 1);
        uint64 until = uint64(block.timestamp) + UNBONDING;
        vm.expectEmit(address(registry));
        emit CommitteeRegistry.UnbondingStarted(change + 2, attestationOf(0), until);
        registry.release(attestationOf(0));
        vm.warp(until);
        vm.expectEmit(address(registry));
        emit CommitteeRegistry.BondWithdrawn(change + 3, attestationOf(0), address(0xbeef), BOND);
        vm.prank(operatorOf(0));
        registry.withdraw(attestationOf(0), payable(address(0xbeef)));
    }

    function test_switch_tells_its_steps() public {
        uint64 change = registry.changes();
        vm.expectEmit(address(registry));
        emit CommitteeRegistry.PermissionlessAnnounced(change, uint64(block.timestamp) + 7 days);
        registry.announcePermissionless();
        vm.expectEmit(address(registry));
        emit CommitteeRegistry.PermissionlessCancelled(change + 1);
        registry.cancelPermissionless();
        registry.announcePermissionless();
        vm.warp(block.timestamp + 7 days);
        vm.expectEmit(address(registry));
        emit CommitteeRegistry.PermissionlessBegun(change + 3);
        registry.goPermissionless();
    }

    function test_committees_are_told_whole() public {
        bytes32 hash = registry.committeeHash(9, 1, roster());
        address committee = vm.computeCreateAddress(address(registry), vm.getNonce(address(registry)));
        vm.expectEmit(address(registry));
        emit CommitteeStore.CommitteeInstalled(hash, 9, 1, 4, committee, roster());
        registry.install(9, 1, roster());
    }

    function test_slashes_tell_fault_reporter_and_shares() public {
        bytes32[2] memory hashes = [bytes32(uint256(1)), bytes32(uint256(2))];
        bytes32[2] memory data;
        bytes32[4] memory s;
        (s[0], s[1]) = sign2098(keyOf(1), attestation(hashes[0]));
        (s[2], s[3]) = sign2098(keyOf(1), attestation(hashes[1]));
        bytes32 salt = keccak256("salt");
        bytes32 id = evidence.attestationFault(attestationOf(1), 0, 7, hashes);
        bytes32 commitment = keccak256(abi.encode(REPORTER, id, salt));
        vm.expectEmit(address(evidence));
        emit Evidence.Committed(commitment);
        evidence.commit(commitment);
        uint32 standing = uint32(block.number);
        advance(1);
        vm.expectEmit(address(evidence));
        emit Evidence.EquivocationProved(attestationOf(1), 0, 0, 7);
        vm.expectEmit(address(registry));
        emit CommitteeRegistry.MemberSlashed(registry.changes(), attestationOf(1), address(0xabc), BOND);
        evidence.reportAttestations(0, 7, hashes, data, s, address(0xabc), 0);
        vm.expectEmit(address(registry));
        emit CommitteeRegistry.ReporterReplaced(attestationOf(1), REPORTER, standing);
        evidence.reportAttestations(0, 7, hashes, data, s, REPORTER, salt);
        advance(301);
        vm.expectEmit(address(registry));
        emit CommitteeRegistry.SlashSettled(attestationOf(1), REPORTER, BOND / 10, BOND - BOND / 10);
        registry.settle(attestationOf(1));
    }

    function attestation(bytes32 hash) private view returns (bytes32) {
        return Eip712.digest(Eip712.domain(address(inbox)), BatchLib.attestation(0, 7, hash, 0));
    }
}
