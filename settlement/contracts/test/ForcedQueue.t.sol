// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Fixture} from "./Fixture.sol";
import {BadForcedCursor, BatchInbox, ForcedInclusionDue} from "../src/BatchInbox.sol";
import "../src/ForcedQueue.sol";
import {Batch} from "../src/lib/BatchLib.sol";

/// A user that queues one item more when its refund arrives.
contract Reentrant {
    BatchInbox private immutable inbox;
    bool private again = true;

    constructor(BatchInbox inbox_) payable {
        inbox = inbox_;
    }

    function run() external {
        inbox.enqueueForced{value: 1 ether}(901, "first");
    }

    receive() external payable {
        if (again) {
            again = false;
            inbox.enqueueForced{value: 0.5 ether}(901, "second");
        }
    }
}

/// The queue that no committee reorders, and the way on without it.
contract ForcedQueueTest is Fixture {
    function setUp() public {
        deploy(4);
    }

    function test_due_item_cannot_be_skipped_and_one_not_due_can() public {
        force(901, "a");
        uint256 dueAt = block.number + FORCED_BLOCKS;
        advance(FORCED_BLOCKS);
        // The origin is one block behind: not due yet.
        post(nextBatch());
        advance(1);
        refused(nextBatch(), abi.encodeWithSelector(ForcedInclusionDue.selector, 0, dueAt, dueAt));
        post(nextBatch(1));
        assertEq(inbox.cursor().forcedTo, 1, "consumed");
    }

    function test_a_signed_batch_stays_valid_while_items_come_due() public {
        force(901, "a");
        Batch memory batch = nextBatch();
        advance(10 * FORCED_BLOCKS);
        post(batch);
    }

    function test_flood_asks_for_no_more_than_the_cap() public {
        for (uint256 i = 0; i < 40; i++) force(901, "a");
        advance(FORCED_BLOCKS + 1);
        uint256 dueAt = block.number - 1;
        refused(nextBatch(31), abi.encodeWithSelector(ForcedInclusionDue.selector, 31, dueAt, dueAt));
        post(nextBatch(32));
        advance(1);
        post(nextBatch(40));
    }

    function test_cursor_stays_within_the_queue_and_never_goes_back() public {
        force(901, "a");
        Batch memory batch = nextBatch();
        batch.forcedTo = 2;
        refused(batch, abi.encodeWithSelector(BadForcedCursor.selector, 0, 1, 2));
        post(nextBatch(1));
        advance(1);
        batch = nextBatch();
        batch.forcedTo = 0;
        refused(batch, abi.encodeWithSelector(BadForcedCursor.selector, 1, 1, 0));
    }

    function testFuzz_accumulator_chains_every_item(uint64 rollup, bytes calldata payload) public {
        if (payload.length == 0) return;
        bytes32 before = 0;
        for (uint32 i = 0; i < 3; i++) {
            assertEq(force(rollup, payload), i, "index");
            bytes32 hash = keccak256(abi.encodePacked(before, rollup, address(this), keccak256(payload)));
            before = bytes32((uint256(hash) & ~uint256(type(uint40).max)) | block.number);
            assertEq(inbox.forcedItem(i), before, "item");
            advance(1);
        }
    }

    function test_payload_is_bounded() public {
        vm.deal(address(this), 1 ether);
        vm.expectRevert(ForcedPayloadEmpty.selector);
        inbox.enqueueForced{value: FEE}(901, "");
        vm.expectRevert(abi.encodeWithSelector(ForcedPayloadTooLarge.selector, 16_385, 16_384));
        inbox.enqueueForced{value: FEE}(901, new bytes(16_385));
        inbox.enqueueForced{value: FEE}(901, new bytes(16_384));
    }

    function test_all_that_a_batch_must_consume_fits_its_blobs() public view {
        // 31 bytes of each of 4096 field elements, and a fifth for what stands around it.
        uint256 blobBytes = 4096 * 31;
        assertTrue(inbox.FORCED_PER_BATCH() * inbox.FORCED_BYTES_MAX() <= 6 * blobBytes * 4 / 5, "fits");
    }

    function test_fee_doubles_with_the_queue_and_the_queue_is_bounded() public {
        for (uint256 i = 0; i < 640; i++) {
            assertEq(inbox.forcedFeeNow(), FEE << (i / 32), "fee");
            force(901, "a");
        }
        vm.expectRevert(abi.encodeWithSelector(ForcedQueueFull.selector, 640));
        inbox.enqueueForced(901, "a");
    }

    function test_fee_is_asked_and_the_rest_comes_back() public {
        vm.deal(address(0xbeef), 1 ether);
        vm.prank(address(0xbeef));
        vm.expectRevert(abi.encodeWithSelector(ForcedFeeTooLow.selector, FEE - 1, FEE));
        inbox.enqueueForced{value: FEE - 1}(901, "a");
        vm.prank(address(0xbeef));
        inbox.enqueueForced{value: 1 ether}(901, "a");
        assertEq(address(0xbeef).balance, 1 ether - FEE, "refund");
        assertEq(address(inbox).balance, FEE, "fee");
    }

    function test_nested_call_on_refund_is_one_item_more_at_its_full_fee() public {
        Reentrant user = new Reentrant{value: 1 ether}(inbox);
        user.run();
        assertEq(inbox.cursor().forcedTail, 2, "items");
        assertEq(address(inbox).balance, 2 * FEE, "fees");
    }

    function test_caller_that_takes_no_refund_is_refused() public {
        vm.deal(address(inbox.registry()), 1 ether);
        vm.prank(address(inbox.registry()));
        vm.expectRevert(abi.encodeWithSelector(RefundFailed.selector, address(registry), 1 ether - FEE));
        inbox.enqueueForced{value: 1 ether}(901, "a");
    }

    function test_only_the_treasury_collects() public {
        force(901, "a");
        vm.expectRevert(abi.encodeWithSelector(NotTreasury.selector, address(this)));
        inbox.collectFees();
        vm.prank(TREASURY);
        inbox.collectFees();
        assertEq(TREASURY.balance, FEE, "collected");
    }

    function test_escape_opens_when_no_batch_comes() public {
        force(901, "a");
        force(901, "b");
        uint256 posted = inbox.postedBlock();
        vm.expectRevert(abi.encodeWithSelector(EscapeNotOpen.selector, 2, block.number, posted, block.number));
        inbox.escape(2);
        vm.roll(posted + ESCAPE_BLOCKS + 1);
        inbox.escape(1);
        inbox.escape(2);
        vm.expectRevert(abi.encodeWithSelector(NothingToEscape.selector, 2, 2));
        inbox.escape(3);
    }

    function test_escape_opens_for_an_item_that_batches_pass_by() public {
        Batch memory old = nextBatch();
        force(901, "a");
        uint256 from = block.number;
        // The committee holds its origin back, so that the item never comes due.
        vm.roll(from + FORCED_BLOCKS + ESCAPE_BLOCKS);
        post(old);
        vm.expectRevert(
            abi.encodeWithSelector(EscapeNotOpen.selector, 1, from, block.number, block.number)
        );
        inbox.escape(1);
        vm.roll(from + FORCED_BLOCKS + ESCAPE_BLOCKS + 1);
        inbox.escape(1);
    }

    function test_escape_keeps_order_and_bounds() public {
        force(901, "a");
        force(901, "b");
        advance(2 * ESCAPE_BLOCKS);
        vm.expectRevert(abi.encodeWithSelector(BadEscapeCursor.selector, 0, 2, 3));
        inbox.escape(3);
        vm.expectRevert(abi.encodeWithSelector(BadEscapeCursor.selector, 0, 2, 0));
        inbox.escape(0);
        inbox.escape(2);
    }

    function test_escape_makes_no_signed_batch_invalid() public {
        force(901, "a");
        Batch memory without = nextBatch();
        advance(ESCAPE_BLOCKS + 1);
        inbox.escape(1);
        post(without);
        force(901, "b");
        advance(FORCED_BLOCKS + 1);
        // The escaped item is not due any more; the next one is.
        uint256 dueAt = block.number - 1;
        refused(nextBatch(1), abi.encodeWithSelector(ForcedInclusionDue.selector, 1, dueAt, dueAt));
        post(nextBatch(2));
    }

    function test_escape_between_signatures_and_post_makes_no_capped_batch_invalid() public {
        for (uint256 i = 0; i < 40; i++) force(901, "a");
        advance(FORCED_BLOCKS + 1);
        for (uint256 i = 0; i < 30; i++) force(901, "a");
        // All of the first 40 are due at its origin; it consumes as many as it must.
        Batch memory signed = nextBatch(32);
        advance(FORCED_BLOCKS + ESCAPE_BLOCKS);
        inbox.escape(20);
        post(signed);
        assertEq(inbox.cursor().forcedTo, 32, "consumed");
    }

    function testFuzz_escape_makes_no_signed_batch_invalid(uint256 queued, uint256 to, uint256 escaped) public {
        queued = bound(queued, 33, 80);
        for (uint256 i = 0; i < queued; i++) {
            force(901, "a");
            advance(2);
        }
        advance(FORCED_BLOCKS / 2);
        Batch memory signed = nextBatch(uint64(bound(to, 0, queued)));
        bytes memory certificate = certificateOf(digestOf(signed), leastQuorum());
        vm.blobhashes(blobs());
        // In a call of its own that is taken back: whether the batch is valid before the escape.
        (, bytes memory answer) = address(this).call(abi.encodeCall(this.tryPost, (headerOf(signed), certificate)));
        bool wasValid = answer.length == 4 && bytes4(answer) == Taken.selector;
        advance(FORCED_BLOCKS + ESCAPE_BLOCKS);
        inbox.escape(uint32(bound(escaped, 1, queued)));
        if (wasValid) post(signed);
    }

    error Taken();

    function tryPost(bytes calldata header, bytes calldata certificate) external {
        inbox.post(header, certificate);
        revert Taken();
    }

    function test_nobody_queues_and_escapes_before_final_blocks_are_posted() public {
        advance(2 * ESCAPE_BLOCKS);
        force(901, "a");
        uint256 from = block.number;
        uint256 posted = inbox.postedBlock();
        vm.expectRevert(abi.encodeWithSelector(EscapeNotOpen.selector, 1, from, posted, from));
        inbox.escape(1);
        vm.roll(from + FORCED_BLOCKS - 1);
        vm.expectRevert(abi.encodeWithSelector(EscapeNotOpen.selector, 1, from, posted, block.number));
        inbox.escape(1);
        vm.roll(from + FORCED_BLOCKS);
        inbox.escape(1);
    }

    receive() external payable {}
}
