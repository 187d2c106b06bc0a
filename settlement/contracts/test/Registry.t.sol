// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Fixture} from "./Fixture.sol";
import "../src/CommitteeRegistry.sol";
import {AlreadyInstalled, RosterUnordered, SchemeTaken, UnknownKey, UnknownScheme} from "../src/CommitteeStore.sol";
import {Evidence, IBatchHashes} from "../src/Evidence.sol";
import {RosterMalformed, RosterTooLarge} from "../src/ICertificateVerifier.sol";
import {EcdsaCertificateVerifier} from "../src/EcdsaCertificateVerifier.sol";
import {Batch} from "../src/lib/BatchLib.sol";

/// Takes its bond back twice, if it can.
contract Greedy {
    CommitteeRegistry private immutable registry;
    address private immutable attestation;

    constructor(CommitteeRegistry registry_, address attestation_) {
        registry = registry_;
        attestation = attestation_;
    }

    receive() external payable {
        registry.withdraw(attestation, payable(address(this)));
    }
}

/// An inbox of a registry, as far as wiring asks.
contract OtherInbox {
    CommitteeRegistry public immutable registry;
    bytes32 public immutable network;

    constructor(CommitteeRegistry registry_) {
        registry = registry_;
        network = registry_.network();
    }
}

/// Who may be in the committee, with what keys and what bond.
contract RegistryTest is Fixture {
    function setUp() public {
        deploy(4);
    }

    /// Ends the present epoch with the same members.
    function rotate() private {
        uint64 epoch = inbox.present().epoch + 1;
        registry.install(epoch, 1, roster());
        Batch memory batch = nextBatch();
        batch.nextCommittee = registry.committeeHash(epoch, 1, roster());
        post(batch);
        advance(10);
    }

    function depart(uint256 i) private {
        vm.prank(operatorOf(i));
        registry.requestExit(attestationOf(i));
        advance(1);
        for (uint256 e = 0; e < 2; e++) rotate();
        registry.release(attestationOf(i));
    }

    function test_registered_member_is_in_no_committee_before_approval() public {
        join(4);
        assertTrue(registry.memberOf(attestationOf(4)).status == Status.Registered, "registered");
        vm.prank(operatorOf(4));
        vm.expectRevert(abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", operatorOf(4)));
        registry.approve(attestationOf(4));
        registry.approve(attestationOf(4));
        assertTrue(registry.memberOf(attestationOf(4)).status == Status.Active, "active");
        assertEq(registry.memberAt(5), attestationOf(4), "by id");
    }

    function test_nobody_registers_with_what_another_signed() public {
        Registration memory form = formOf(4);
        vm.deal(address(0xbad), BOND);
        vm.prank(address(0xbad));
        vm.expectRevert(abi.encodeWithSelector(BadProof.selector, form.attestation));
        registry.register{value: BOND}(form);
        join(4);
    }

    function test_proof_of_another_key_is_refused() public {
        Registration memory form = formOf(4);
        form.consensusKey = ed25519Of("another", 4);
        vm.deal(operatorOf(4), BOND);
        vm.prank(operatorOf(4));
        vm.expectRevert(abi.encodeWithSelector(BadProof.selector, form.attestation));
        registry.register{value: BOND}(form);
    }

    function test_zero_address_has_no_proof() public {
        Registration memory form = formOf(4);
        form.attestation = address(0);
        (form.r, form.vs) = (bytes32(0), bytes32(0));
        vm.deal(operatorOf(4), BOND);
        vm.prank(operatorOf(4));
        vm.expectRevert(abi.encodeWithSelector(BadProof.selector, address(0)));
        registry.register{value: BOND}(form);
    }

    function test_attestation_key_serves_one_member_for_ever() public {
        Registration memory form = formOf(0);
        vm.deal(operatorOf(0), BOND);
        vm.prank(operatorOf(0));
        vm.expectRevert(
            abi.encodeWithSelector(KeyTaken.selector, keccak256(abi.encodePacked(form.attestation)))
        );
        registry.register{value: BOND}(form);
    }

    function test_ed25519_keys_that_no_node_can_use_are_refused() public {
        bytes32[7] memory bad = [
            bytes32(0), // y = 0, order 4
            bytes32(uint256(1) << 248), // y = 1, the identity
            bytes32(uint256(2) << 248), // y = 2 has no x
            0x26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05, // order 8
            0xc7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a, // order 8
            0xeeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f, // y = p + 1, not canonical
            0xf0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f // y = p + 3, else a good point
        ];
        vm.deal(operatorOf(4), 10 * BOND);
        for (uint256 i = 0; i < bad.length; i++) {
            Registration memory form = formOf(4);
            form.consensusKey = bad[i];
            vm.prank(operatorOf(4));
            vm.expectRevert(abi.encodeWithSelector(BadEd25519Key.selector, bad[i]));
            registry.register{value: BOND}(form);
            form = formOf(4);
            form.peerKey = bad[i];
            vm.prank(operatorOf(4));
            vm.expectRevert(abi.encodeWithSelector(BadEd25519Key.selector, bad[i]));
            registry.register{value: BOND}(form);
        }
    }

    function test_bond_is_asked() public {
        Registration memory form = formOf(4);
        vm.deal(operatorOf(4), BOND);
        vm.prank(operatorOf(4));
        vm.expectRevert(abi.encodeWithSelector(BondTooSmall.selector, BOND - 1, BOND));
        registry.register{value: BOND - 1}(form);
    }

    function test_exit_waits_for_the_committee_that_knows_of_it() public {
        vm.prank(operatorOf(0));
        registry.requestExit(attestationOf(0));
        uint64 exitBlock = uint64(block.number);
        advance(1);
        vm.expectRevert(abi.encodeWithSelector(ExitNotEffective.selector, exitBlock, 0));
        registry.release(attestationOf(0));
        rotate();
        // The committee that begins now was decided on at the end of the epoch before: without knowing.
        vm.expectRevert(abi.encodeWithSelector(ExitNotEffective.selector, exitBlock, 0));
        registry.release(attestationOf(0));
        rotate();
        registry.release(attestationOf(0));
    }

    function testFuzz_bond_is_locked_for_the_unbonding(uint256 wait) public {
        depart(0);
        wait = bound(wait, 0, 2 * UNBONDING);
        uint256 until = block.timestamp + UNBONDING;
        vm.warp(block.timestamp + wait);
        vm.prank(operatorOf(0));
        if (wait < UNBONDING) vm.expectRevert(abi.encodeWithSelector(TooEarly.selector, block.timestamp, until));
        registry.withdraw(attestationOf(0), payable(operatorOf(0)));
        assertEq(operatorOf(0).balance, wait < UNBONDING ? 0 : BOND, "paid");
    }

    function test_bond_leaves_once_and_to_its_operator_only() public {
        depart(0);
        vm.warp(block.timestamp + UNBONDING);
        vm.expectRevert(abi.encodeWithSelector(NotOperator.selector, address(this), operatorOf(0)));
        registry.withdraw(attestationOf(0), payable(address(this)));
        Greedy greedy = new Greedy(registry, attestationOf(0));
        vm.prank(operatorOf(0));
        vm.expectRevert(abi.encodeWithSelector(TransferFailed.selector, address(greedy), BOND));
        registry.withdraw(attestationOf(0), payable(address(greedy)));
        vm.prank(operatorOf(0));
        registry.withdraw(attestationOf(0), payable(operatorOf(0)));
        vm.prank(operatorOf(0));
        vm.expectRevert(abi.encodeWithSelector(WrongStatus.selector, attestationOf(0), Status.Withdrawn));
        registry.withdraw(attestationOf(0), payable(operatorOf(0)));
    }

    function test_dead_chain_keeps_nobody() public {
        vm.prank(operatorOf(0));
        registry.requestExit(attestationOf(0));
        vm.roll(inbox.postedBlock() + UNBONDING / 12 + 1);
        registry.release(attestationOf(0));
    }

    function test_deposit_raises_the_bond() public {
        vm.deal(operatorOf(0), 1 ether);
        vm.prank(operatorOf(0));
        registry.deposit{value: 1 ether}(attestationOf(0));
        assertEq(registry.memberOf(attestationOf(0)).bond, 2 ether, "bond");
        vm.expectRevert(abi.encodeWithSelector(NotOperator.selector, address(this), operatorOf(0)));
        registry.deposit(attestationOf(0));
    }

    function test_switch_is_announced_waits_and_is_never_undone() public {
        vm.expectRevert(NotAnnounced.selector);
        registry.goPermissionless();
        registry.announcePermissionless();
        uint256 from = block.timestamp + 7 days;
        vm.warp(from - 1);
        vm.expectRevert(abi.encodeWithSelector(TooEarly.selector, from - 1, from));
        registry.goPermissionless();
        vm.warp(from);
        vm.prank(address(0xbeef));
        registry.goPermissionless();
        vm.expectRevert(NotPermissioned.selector);
        registry.cancelPermissionless();
        vm.expectRevert(NotPermissioned.selector);
        registry.revoke(attestationOf(0));
        join(4);
        vm.expectRevert(NotPermissioned.selector);
        registry.approve(attestationOf(4));
    }

    function test_cancelled_switch_waits_anew() public {
        registry.announcePermissionless();
        registry.cancelPermissionless();
        vm.warp(block.timestamp + 8 days);
        vm.expectRevert(NotAnnounced.selector);
        registry.goPermissionless();
    }

    function test_roster_has_registered_keys_in_order_once() public {
        vm.expectRevert(abi.encodeWithSelector(UnknownKey.selector, 0));
        registry.install(1, 1, abi.encodePacked(address(0xbad)));
        vm.expectRevert(abi.encodeWithSelector(RosterUnordered.selector, 1));
        registry.install(1, 1, abi.encodePacked(attestationOf(0), attestationOf(0)));
        vm.expectRevert(abi.encodeWithSelector(RosterUnordered.selector, 1));
        registry.install(1, 1, abi.encodePacked(attestationOf(1), attestationOf(0)));
        vm.expectRevert(abi.encodeWithSelector(RosterMalformed.selector, 21, 20));
        registry.install(1, 1, new bytes(21));
        vm.expectRevert(abi.encodeWithSelector(RosterMalformed.selector, 0, 20));
        registry.install(1, 1, "");
        vm.expectRevert(abi.encodeWithSelector(RosterTooLarge.selector, 129, 128));
        registry.install(1, 1, new bytes(129 * 20));
        vm.expectRevert(abi.encodeWithSelector(UnknownScheme.selector, 9));
        registry.install(1, 9, roster());
        bytes32 hash = registry.committeeHash(0, 1, roster());
        vm.expectRevert(abi.encodeWithSelector(AlreadyInstalled.selector, hash));
        registry.install(0, 1, roster());
    }

    function test_scheme_is_never_replaced() public {
        EcdsaCertificateVerifier another = new EcdsaCertificateVerifier();
        vm.expectRevert(abi.encodeWithSelector(SchemeTaken.selector, 1));
        registry.addVerifier(another);
    }

    function test_stall_that_ended_keeps_the_bond_until_the_exit_takes_effect() public {
        vm.prank(operatorOf(0));
        registry.requestExit(attestationOf(0));
        vm.roll(inbox.postedBlock() + UNBONDING / 12 + 1);
        registry.release(attestationOf(0));
        vm.warp(block.timestamp + UNBONDING);
        // The chain goes on with the committee that it had, the leaving member among them.
        advance(1);
        post(nextBatch());
        vm.prank(operatorOf(0));
        vm.expectRevert(abi.encodeWithSelector(StallEnded.selector, attestationOf(0)));
        registry.withdraw(attestationOf(0), payable(operatorOf(0)));
        vm.expectRevert(abi.encodeWithSelector(WrongStatus.selector, attestationOf(0), Status.Unbonding));
        registry.release(attestationOf(0));
        advance(1);
        for (uint256 e = 0; e < 2; e++) rotate();
        registry.release(attestationOf(0));
        uint256 until = block.timestamp + UNBONDING;
        vm.prank(operatorOf(0));
        vm.expectRevert(abi.encodeWithSelector(TooEarly.selector, block.timestamp, until));
        registry.withdraw(attestationOf(0), payable(operatorOf(0)));
        // Only once: nobody holds a member up by releasing it again.
        vm.expectRevert(abi.encodeWithSelector(WrongStatus.selector, attestationOf(0), Status.Unbonding));
        registry.release(attestationOf(0));
        vm.warp(until);
        vm.prank(operatorOf(0));
        registry.withdraw(attestationOf(0), payable(operatorOf(0)));
        assertEq(operatorOf(0).balance, BOND, "paid");
    }

    function test_stall_that_lasts_pays_the_bond_out() public {
        vm.prank(operatorOf(0));
        registry.requestExit(attestationOf(0));
        vm.roll(inbox.postedBlock() + UNBONDING / 12 + 1);
        registry.release(attestationOf(0));
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(operatorOf(0));
        registry.withdraw(attestationOf(0), payable(operatorOf(0)));
        assertEq(operatorOf(0).balance, BOND, "paid");
    }

    /// As if `count` members held a place: a slot of the registry, found by its value.
    function fill(uint32 count) private {
        for (uint256 slot = 0; slot < 32; slot++) {
            uint256 word = uint256(vm.load(address(registry), bytes32(slot)));
            for (uint256 shift = 0; shift <= 224; shift += 32) {
                if (uint32(word >> shift) != 4) continue;
                uint256 mask = uint256(type(uint32).max) << shift;
                vm.store(address(registry), bytes32(slot), bytes32((word & ~mask) | (uint256(count) << shift)));
                if (registry.living() == count) return;
                vm.store(address(registry), bytes32(slot), bytes32(word));
            }
        }
        assertTrue(false, "no slot holds the number of the living");
    }

    function test_full_registry_refuses_until_a_place_is_free() public {
        fill(4096);
        Registration memory form = formOf(4);
        vm.deal(operatorOf(4), BOND);
        vm.prank(operatorOf(4));
        vm.expectRevert(abi.encodeWithSelector(RegistryFull.selector, 4096));
        registry.register{value: BOND}(form);
        // An exit frees the place at once; the bond stays under the rules of every exit.
        registry.revoke(attestationOf(0));
        join(4);
        assertEq(registry.living(), 4096, "full again");
    }

    function test_place_is_freed_once() public {
        registry.revoke(attestationOf(0));
        assertEq(registry.living(), 3, "left");
        vm.prank(address(evidence));
        registry.slash(attestationOf(0), address(this), block.number, 0);
        assertEq(registry.living(), 3, "slashed on its way out");
        vm.prank(address(evidence));
        registry.slash(attestationOf(1), address(this), block.number, 0);
        assertEq(registry.living(), 2, "slashed");
    }

    function test_parts_that_do_not_belong_together_are_not_wired() public {
        ICertificateVerifier[] memory verifiers = new ICertificateVerifier[](1);
        verifiers[0] = new EcdsaCertificateVerifier();
        CommitteeRegistry other = new CommitteeRegistry(NETWORK, address(this), BOND, UNBONDING, 7 days, verifiers);
        // An inbox of the same network that asks another registry.
        vm.expectRevert(abi.encodeWithSelector(NotOfThisNetwork.selector, address(inbox)));
        other.wire(ICommitteeClock(address(inbox)), address(evidence));
        CommitteeRegistry foreign =
            new CommitteeRegistry(keccak256("other"), address(this), BOND, UNBONDING, 7 days, verifiers);
        vm.expectRevert(abi.encodeWithSelector(WrongNetwork.selector, keccak256("other"), NETWORK));
        foreign.wire(ICommitteeClock(address(inbox)), address(evidence));
        // Evidence that slashes elsewhere, and evidence that looks at another inbox.
        ICommitteeClock its = ICommitteeClock(address(new OtherInbox(other)));
        vm.expectRevert(abi.encodeWithSelector(NotOfThisNetwork.selector, address(evidence)));
        other.wire(its, address(evidence));
        Evidence astray = new Evidence(other, IBatchHashes(address(inbox)), 50_400);
        vm.expectRevert(abi.encodeWithSelector(NotOfThisNetwork.selector, address(astray)));
        other.wire(its, address(astray));
        other.wire(its, address(new Evidence(other, IBatchHashes(address(its)), 50_400)));
    }

    function test_wiring_happens_once() public {
        vm.expectRevert(AlreadyWired.selector);
        registry.wire(ICommitteeClock(address(inbox)), address(0xbad));
    }

    function test_revoked_member_leaves_like_any_other() public {
        registry.revoke(attestationOf(0));
        assertTrue(registry.memberOf(attestationOf(0)).status == Status.Exiting, "exiting");
        vm.expectRevert(abi.encodeWithSelector(WrongStatus.selector, attestationOf(0), Status.Exiting));
        registry.revoke(attestationOf(0));
    }
}
