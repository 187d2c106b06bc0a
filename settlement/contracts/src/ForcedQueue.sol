// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Cursor, InboxState} from "./InboxState.sol";

error ForcedFeeTooLow(uint256 paid, uint256 fee);
error ForcedPayloadTooLarge(uint256 bytes_, uint256 max);
error ForcedPayloadEmpty();
error ForcedQueueFull(uint256 pending);
error NothingToEscape(uint32 head, uint32 tail);
/// The item before `to` is not due yet, or was not for long enough while batches are still posted.
error EscapeNotOpen(uint32 to, uint256 itemBlock, uint256 postedBlock, uint256 blockNumber);
error BadEscapeCursor(uint32 head, uint32 tail, uint32 to);
error RefundFailed(address to, uint256 amount);
error NotTreasury(address caller);

/// Transactions forced in through L1: a queue that no committee can reorder, and a way on without the committee.
///
/// Each item is one word, which is the accumulator up to and with the item: keccak256 over the word before it, rollup,
/// sender and payload, its low 40 bits replaced by the L1 block. An item is due for every batch whose L1 origin is at least
/// `forcedBlocks` after the item's block, which a member can tell when it signs: nothing that is signed becomes invalid by
/// waiting. Escapes never touch the chain of batches. They only say which items L1 executes by itself, so nobody
/// can use them to undo the committee's work; README.md says how a stream is derived where both have consumed an item.
abstract contract ForcedQueue is InboxState {
    /// Bytes of one payload, at most. Small, because every node must take it whatever it costs; larger transactions can go
    /// through any of the committee's members. What one batch must consume, FORCED_PER_BATCH × FORCED_BYTES_MAX = 524,288
    /// bytes, has to fit the six blobs of one transaction, 6 × 126,976 = 761,856 bytes, even where nothing compresses: else
    /// a flood would ask for a batch that nobody can post.
    uint256 public constant FORCED_BYTES_MAX = 16_384;
    /// Due items that one batch must consume, so that a flood delays the queue and not the chain.
    uint256 public constant FORCED_PER_BATCH = 32;
    /// Items that double the fee: with 32 pending it is 2x, with 64 4x and so on. Filling the queue costs 33 million fees.
    uint256 public constant FORCED_FEE_DOUBLING = 32;
    /// Items that wait at most.
    uint256 public constant FORCED_PENDING_MAX = 640;

    /// L1 blocks after which an item is due.
    uint64 public immutable forcedBlocks;
    /// L1 blocks without a batch, or with a due item unconsumed, after which anybody may let due items escape.
    uint64 public immutable escapeBlocks;
    /// Wei for an item while the queue is short.
    uint256 public immutable forcedFee;
    /// Where fees go.
    address public immutable treasury;

    /// The accumulator after each item.
    mapping(uint32 index => bytes32) public forcedItem;

    event ForcedEnqueued(
        uint32 indexed index, uint64 indexed rollup, address sender, bytes32 accumulator, bytes payload
    );
    /// `nextNumber`: the escape stands between the batches before and from this number.
    event ForcedEscaped(uint32 indexed from, uint32 indexed to, uint32 nextNumber, bytes32 accumulator);
    event FeesCollected(uint256 amount);

    constructor(uint64 forcedBlocks_, uint64 escapeBlocks_, uint256 forcedFee_, address treasury_) {
        forcedBlocks = forcedBlocks_;
        escapeBlocks = escapeBlocks_;
        forcedFee = forcedFee_;
        treasury = treasury_;
    }

    /// Queues a transaction for `rollup`. What is paid above the fee comes back to the caller.
    function enqueueForced(uint64 rollup, bytes calldata payload) external payable returns (uint32 index) {
        Cursor memory current = readCursor();
        if (payload.length == 0) revert ForcedPayloadEmpty();
        if (payload.length > FORCED_BYTES_MAX) revert ForcedPayloadTooLarge(payload.length, FORCED_BYTES_MAX);
        uint256 fee = forcedFeeAt(current);
        if (msg.value < fee) revert ForcedFeeTooLow(msg.value, fee);
        index = current.forcedTail;
        bytes32 before = index == 0 ? bytes32(0) : forcedItem[index - 1];
        bytes32 item = forcedAccumulator(before, rollup, msg.sender, keccak256(payload), block.number);
        forcedItem[index] = item;
        current.forcedTail = index + 1;
        writeCursor(current);
        emit ForcedEnqueued(index, rollup, msg.sender, item, payload);
        // Last, because it runs the caller's code. By then the queue holds the item, and a nested call is one more.
        if (msg.value > fee) {
            (bool ok,) = msg.sender.call{value: msg.value - fee}("");
            if (!ok) revert RefundFailed(msg.sender, msg.value - fee);
        }
    }

    /// Consumes the items before `to`, in order, by L1 alone: those that are due once no batch came for `escapeBlocks`; else
    /// those that have been due for `escapeBlocks`. One that is not due never escapes: it could be queued and executed
    /// before blocks that are final and only not posted yet.
    function escape(uint32 to) external {
        Cursor memory current = readCursor();
        uint32 head = forcedHead(current);
        if (head == current.forcedTail) revert NothingToEscape(head, current.forcedTail);
        if (to <= head || to > current.forcedTail) revert BadEscapeCursor(head, current.forcedTail, to);
        bytes32 last = forcedItem[to - 1];
        // Blocks never decrease along the queue: the last item decides for all.
        uint256 since = forcedBlock(last);
        uint256 dueAt = since + forcedBlocks;
        bool stalled = block.number > uint256(current.postedBlock) + escapeBlocks && block.number >= dueAt;
        bool overdue = block.number > dueAt + escapeBlocks;
        if (!stalled && !overdue) revert EscapeNotOpen(to, since, current.postedBlock, block.number);
        current.escapedTo = to;
        writeCursor(current);
        emit ForcedEscaped(head, to, current.nextNumber, last);
    }

    /// Sends the fees to the treasury. Only the treasury may, so that nobody else runs its code.
    function collectFees() external {
        if (msg.sender != treasury) revert NotTreasury(msg.sender);
        uint256 amount = address(this).balance;
        emit FeesCollected(amount);
        (bool ok,) = treasury.call{value: amount}("");
        if (!ok) revert RefundFailed(treasury, amount);
    }

    /// Wei for the next item.
    function forcedFeeNow() external view returns (uint256) {
        return forcedFeeAt(readCursor());
    }

    /// The accumulator after the first `count` items: zero for none.
    function forcedHashAt(uint32 count) public view returns (bytes32) {
        return count == 0 ? bytes32(0) : forcedItem[count - 1];
    }

    /// keccak256(before ‖ rollup u64 ‖ sender ‖ payloadHash), its low 40 bits replaced by the L1 block.
    function forcedAccumulator(
        bytes32 before,
        uint64 rollup,
        address sender,
        bytes32 payloadHash,
        uint256 blockNumber
    ) public pure returns (bytes32) {
        bytes32 hash = keccak256(abi.encodePacked(before, rollup, sender, payloadHash));
        return bytes32((uint256(hash) >> 40 << 40) | uint40(blockNumber));
    }

    /// The L1 block in which an item was queued.
    function forcedBlock(bytes32 item) internal pure returns (uint256) {
        return uint40(uint256(item));
    }

    function forcedFeeAt(Cursor memory current) private view returns (uint256) {
        uint256 pending = current.forcedTail - forcedHead(current);
        if (pending >= FORCED_PENDING_MAX) revert ForcedQueueFull(pending);
        return forcedFee << (pending / FORCED_FEE_DOUBLING);
    }
}
