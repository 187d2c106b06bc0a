// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Fixture} from "./Fixture.sol";
import "../src/BatchInbox.sol";
import {BadSignature, BadCertificateLength, NoQuorum, UnknownSigner} from "../src/ICertificateVerifier.sol";
import {EcdsaCertificateVerifier} from "../src/EcdsaCertificateVerifier.sol";
import {EcdsaLib} from "../src/lib/EcdsaLib.sol";
import {NotGuardian, PauseCoolingDown} from "../src/EmergencyPause.sol";
import {Batch, BadHeaderLength, HeaderNotShortest} from "../src/lib/BatchLib.sol";

/// What the inbox accepts, and with which words it refuses the rest.
contract BatchInboxTest is Fixture {
    function setUp() public {
        deploy(4);
    }

    function test_batches_chain_by_number_parent_and_height() public {
        for (uint64 i = 0; i < 3; i++) {
            Batch memory batch = nextBatch();
            post(batch);
            assertEq(inbox.batchHash(i), hashOf(batch), "hash by number");
            advance(5);
        }
        assertEq(inbox.cursor().nextNumber, 3, "next number");
        assertEq(inbox.cursor().lastHeight, 30, "last height");
    }

    function test_duplicate_says_so_and_gap_says_what_is_missing() public {
        Batch memory batch = nextBatch();
        post(batch);
        refused(batch, abi.encodeWithSelector(AlreadyPosted.selector, 0));
        batch = nextBatch();
        batch.number += 1;
        refused(batch, abi.encodeWithSelector(NumberGap.selector, 1, 2));
    }

    function test_batch_of_another_parent_has_no_certificate_here() public {
        post(nextBatch());
        Batch memory batch = nextBatch();
        batch.parent = keccak256("another");
        refused(batch, abi.encodeWithSelector(BadSignature.selector, 0));
    }

    function test_signatures_of_another_network_epoch_chain_or_inbox_are_refused() public {
        Batch memory batch = nextBatch();
        batch.network = keccak256("another");
        refused(batch, abi.encodeWithSelector(BadSignature.selector, 0));
        batch = nextBatch();
        batch.epoch = 1;
        refused(batch, abi.encodeWithSelector(WrongEpoch.selector, 0, 1));
        batch = nextBatch();
        bytes memory certificate = certificateOf(digestOf(batch), leastQuorum());
        BatchInbox other = new BatchInbox(
            registry, Parameters(registry.committeeHash(0, 1, roster()), 0, GUARDIAN, TREASURY, 64, 7200, FEE)
        );
        vm.blobhashes(blobs());
        vm.expectRevert(abi.encodeWithSelector(BadSignature.selector, 0));
        other.post(headerOf(batch), certificate);
    }

    function deployed(Parameters memory parameters) private returns (BatchInbox) {
        return new BatchInbox(registry, parameters);
    }

    function test_parameters_that_cannot_work_are_refused() public {
        bytes32 committee = registry.committeeHash(0, 1, roster());
        // 12 hours of slots: a pause alone would open the escape.
        vm.expectRevert(abi.encodeWithSelector(BadParameter.selector, 3600));
        deployed(Parameters(committee, 0, GUARDIAN, TREASURY, 64, 3600, FEE));
        deployed(Parameters(committee, 0, GUARDIAN, TREASURY, 64, 3601, FEE));
        // No guardian, no pause: a devnet may be as quick as it likes.
        deployed(Parameters(committee, 0, address(0), TREASURY, 2, 1, 0));
        vm.expectRevert(abi.encodeWithSelector(BadParameter.selector, 0));
        deployed(Parameters(committee, 0, GUARDIAN, address(0), 64, 7200, FEE));
        uint256 most = type(uint128).max;
        vm.expectRevert(abi.encodeWithSelector(BadParameter.selector, most + 1));
        deployed(Parameters(committee, 0, GUARDIAN, TREASURY, 64, 7200, most + 1));
        uint64 epoch = uint64(type(uint32).max) + 1;
        registry.install(epoch, 1, roster());
        committee = registry.committeeHash(epoch, 1, roster());
        vm.expectRevert(abi.encodeWithSelector(BadParameter.selector, epoch));
        deployed(Parameters(committee, epoch, GUARDIAN, TREASURY, 64, 7200, FEE));
    }

    function testFuzz_heights_have_no_gap(uint64 first, uint64 last_) public {
        Batch memory batch = nextBatch();
        batch.firstHeight = first;
        batch.lastHeight = last_;
        if (first == 1 && last_ >= 1 && last_ <= type(uint48).max) {
            post(batch);
        } else {
            refused(batch, abi.encodeWithSelector(BadHeights.selector, 1, first, last_));
        }
    }

    function test_origin_never_goes_back_nor_ahead_and_is_of_this_chain() public {
        post(nextBatch());
        Batch memory batch = nextBatch();
        batch.l1Number -= 1;
        refused(batch, abi.encodeWithSelector(OriginRegressed.selector, last.l1Number, last.l1Number - 1));
        batch.l1Number = uint64(block.number);
        refused(batch, abi.encodeWithSelector(OriginInFuture.selector, block.number, block.number));
        advance(1);
        batch = nextBatch();
        bytes32 right = batch.l1Hash;
        batch.l1Hash = keccak256("fork");
        refused(batch, abi.encodeWithSelector(BadOrigin.selector, batch.l1Number, right, batch.l1Hash));
    }

    function test_origin_out_of_the_opcodes_reach_is_checked_by_the_history_contract() public {
        Batch memory batch = nextBatch();
        batch.l1Hash = keccak256("as the history contract has it");
        // As the contract of EIP-2935 it takes 32 bytes, the block's number, and reverts on all else: CALLDATASIZE, PUSH1 32,
        // EQ, PUSH0, CALLDATALOAD, PUSH8 number, EQ, AND, PUSH1 23, JUMPI, PUSH0, PUSH0, REVERT, JUMPDEST, PUSH32 hash, PUSH0,
        // MSTORE, PUSH1 32, PUSH0, RETURN. An answer that does not come is no answer: the next lines would post the fork.
        vm.etch(
            0x0000F90827F1C53a10cb7A02335B175320002935,
            abi.encodePacked(
                hex"366020145f3567", batch.l1Number, hex"14166017575f5ffd5b7f", batch.l1Hash, hex"5f5260205ff3"
            )
        );
        advance(300);
        bytes32 right = batch.l1Hash;
        batch.l1Hash = keccak256("fork");
        refused(batch, abi.encodeWithSelector(BadOrigin.selector, batch.l1Number, right, batch.l1Hash));
        batch.l1Hash = right;
        post(batch);
    }

    function test_origin_too_old_to_tell_does_not_hold_a_batch_up() public {
        Batch memory batch = nextBatch();
        advance(9000);
        post(batch);
    }

    function test_data_is_that_of_the_transaction() public {
        Batch memory batch = nextBatch();
        bytes32 other = keccak256("other blobs");
        bytes memory certificate = certificateOf(inbox.attestationDigest(batch, other), leastQuorum());
        vm.blobhashes(blobs());
        vm.expectRevert(abi.encodeWithSelector(BadData.selector, blobsData(), other));
        inbox.post(headerOf(batch, other), certificate);
        vm.blobhashes(new bytes32[](0));
        vm.expectRevert(NoBlobs.selector);
        inbox.post(headerOf(batch, other), certificate);
    }

    function test_signatures_for_other_data_are_no_certificate_of_these() public {
        Batch memory batch = nextBatch();
        bytes memory certificate = certificateOf(inbox.attestationDigest(batch, keccak256("other")), leastQuorum());
        vm.expectRevert(abi.encodeWithSelector(BadSignature.selector, 0));
        postWith(batch, certificate);
    }

    function testFuzz_one_batch_has_one_hash_in_whatever_data(bytes calldata payload, bool inBlobs) public {
        Batch memory batch = nextBatch();
        bytes32 hash = hashOf(batch);
        if (inBlobs) {
            post(batch);
        } else {
            bytes32 data = keccak256(abi.encodePacked(uint8(2), keccak256(payload)));
            bytes memory certificate = certificateOf(inbox.attestationDigest(batch, data), leastQuorum());
            inbox.postCalldata(headerOf(batch, data), certificate, payload);
        }
        assertEq(inbox.batchHash(0), hash, "identity");
        // What comes next links to the content, and was right whichever data were posted.
        advance(1);
        batch = nextBatch();
        batch.parent = hash;
        post(batch);
    }

    function testFuzz_calldata_carries_tiny_batches(bytes calldata payload) public {
        Batch memory batch = nextBatch();
        bytes32 data = keccak256(abi.encodePacked(uint8(2), keccak256(payload)));
        bytes memory certificate = certificateOf(inbox.attestationDigest(batch, data), leastQuorum());
        bytes32 other = keccak256(abi.encodePacked(uint8(2), keccak256(bytes.concat(payload, hex"00"))));
        vm.expectRevert(abi.encodeWithSelector(BadData.selector, other, data));
        inbox.postCalldata(headerOf(batch, data), certificate, bytes.concat(payload, hex"00"));
        inbox.postCalldata(headerOf(batch, data), certificate, payload);
        assertEq(inbox.batchHash(0), hashOf(batch), "posted");
    }

    function testFuzz_header_has_two_lengths_and_one_form(bytes calldata header) public {
        if (header.length == 176 || header.length == 240) return;
        vm.expectRevert(abi.encodeWithSelector(BadHeaderLength.selector, header.length));
        inbox.post(header, "");
    }

    function test_long_header_that_could_be_short_is_refused() public {
        bytes memory header = bytes.concat(headerOf(nextBatch()), bytes32(0), bytes32(0));
        vm.expectRevert(HeaderNotShortest.selector);
        inbox.post(header, "");
    }

    function testFuzz_certificate_needs_a_quorum_of_known_members(uint256 bits) public {
        bits = bound(bits, 0, 255);
        Batch memory batch = nextBatch();
        bytes32 digest = digestOf(batch);
        bytes memory certificate = certificateOf(digest, bits);
        uint256 count;
        for (uint256 i = 0; i < 8; i++) count += (bits >> i) & 1;
        if (bits > 15) vm.expectRevert(abi.encodeWithSelector(UnknownSigner.selector, bits, 4));
        else if (count < 3) vm.expectRevert(abi.encodeWithSelector(NoQuorum.selector, count, 3));
        postWith(batch, certificate);
    }

    function testFuzz_certificate_of_wrong_length_is_refused(uint256 cut) public {
        Batch memory batch = nextBatch();
        bytes memory certificate = certificateOf(digestOf(batch), 7);
        cut = bound(cut, 0, certificate.length - 1);
        assembly ("memory-safe") {
            mstore(certificate, cut)
        }
        vm.expectRevert(abi.encodeWithSelector(BadCertificateLength.selector, cut, cut == 0 ? 1 : 193));
        postWith(batch, certificate);
    }

    function test_signatures_out_of_order_are_refused() public {
        Batch memory batch = nextBatch();
        bytes32 digest = digestOf(batch);
        (bytes32 r0, bytes32 vs0) = sign2098(keyOf(0), digest);
        (bytes32 r1, bytes32 vs1) = sign2098(keyOf(1), digest);
        (bytes32 r2, bytes32 vs2) = sign2098(keyOf(2), digest);
        vm.expectRevert(abi.encodeWithSelector(BadSignature.selector, 1));
        postWith(batch, abi.encodePacked(uint8(7), r0, vs0, r2, vs2, r1, vs1));
        vm.expectRevert(abi.encodeWithSelector(BadSignature.selector, 1));
        postWith(batch, abi.encodePacked(uint8(7), r0, vs0, r0, vs0, r2, vs2));
    }

    function test_high_s_and_garbage_are_refused() public {
        Batch memory batch = nextBatch();
        bytes32 digest = digestOf(batch);
        bytes memory rest = certificateOf(digest, 6);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(keyOf(0), digest);
        // The other form of the same signature: n − s and the other parity. Its s still fits EIP-2098 where s is low.
        uint256 high = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141 - uint256(s);
        if (high >> 255 == 0) {
            bytes32 vs = bytes32(high | (v == 28 ? 0 : uint256(1) << 255));
            vm.expectRevert(abi.encodeWithSelector(BadSignature.selector, 0));
            postWith(batch, bytes.concat(hex"07", r, vs, tail(rest)));
        }
        vm.expectRevert(abi.encodeWithSelector(BadSignature.selector, 0));
        postWith(batch, bytes.concat(hex"07", bytes32(0), bytes32(0), tail(rest)));
        assertTrue(EcdsaLib.recover(digest, r, bytes32(EcdsaLib.S_MAX + 1)) == address(0), "high s");
    }

    function tail(bytes memory certificate) private pure returns (bytes memory out) {
        out = new bytes(certificate.length - 1);
        for (uint256 i = 0; i < out.length; i++) out[i] = certificate[i + 1];
    }

    function test_epoch_ends_with_a_committee_that_is_installed() public {
        Batch memory batch = nextBatch();
        batch.nextCommittee = registry.committeeHash(1, 1, roster());
        refused(batch, abi.encodeWithSelector(CommitteeMissing.selector, batch.nextCommittee));
        registry.install(1, 1, roster());
        post(batch);
        assertEq(inbox.present().epoch, 1, "epoch");
        advance(1);
        batch = nextBatch();
        batch.epoch = 0;
        refused(batch, abi.encodeWithSelector(WrongEpoch.selector, 1, 0));
        post(nextBatch());
    }

    function test_committee_of_another_epoch_does_not_follow() public {
        registry.install(2, 1, roster());
        Batch memory batch = nextBatch();
        batch.nextCommittee = registry.committeeHash(2, 1, roster());
        refused(batch, abi.encodeWithSelector(WrongEpoch.selector, 1, 2));
    }

    function test_old_committee_signs_nothing_in_the_new_epoch() public {
        size = 5;
        join(4);
        registry.approve(attestationOf(4));
        // Members 1 to 4 follow on 0 to 3.
        bytes memory next = bytes.concat(
            bytes20(attestationOf(1)), bytes20(attestationOf(2)), bytes20(attestationOf(3)), bytes20(attestationOf(4))
        );
        registry.install(1, 1, next);
        size = 4;
        Batch memory batch = nextBatch();
        batch.nextCommittee = registry.committeeHash(1, 1, next);
        post(batch);
        advance(1);
        refused(nextBatch(), abi.encodeWithSelector(BadSignature.selector, 0));
    }

    function test_pause_ends_by_itself_and_does_not_chain() public {
        vm.expectRevert(abi.encodeWithSelector(NotGuardian.selector, address(this)));
        inbox.pause();
        vm.prank(GUARDIAN);
        inbox.pause();
        uint256 from = block.timestamp;
        refused(nextBatch(), abi.encodeWithSelector(Paused.selector, from + 12 hours));
        vm.warp(from + 12 hours);
        post(nextBatch());
        vm.prank(GUARDIAN);
        vm.expectRevert(abi.encodeWithSelector(PauseCoolingDown.selector, from + 12 hours + 6 days));
        inbox.pause();
        vm.warp(from + 12 hours + 6 days);
        vm.prank(GUARDIAN);
        inbox.pause();
        vm.prank(GUARDIAN);
        inbox.unpause();
        advance(1);
        post(nextBatch());
    }

    function test_pause_touches_neither_the_queue_nor_the_escape() public {
        advance(ESCAPE_BLOCKS);
        vm.prank(GUARDIAN);
        inbox.pause();
        force(901, "a");
        advance(FORCED_BLOCKS);
        inbox.escape(1);
        assertEq(inbox.cursor().escapedTo, 1, "escaped");
    }
}
