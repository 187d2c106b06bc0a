// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// Where the chain of batches and the forced queue stand. Kept in one word, lowest field first, which a post reads and
/// writes once.
struct Cursor {
    /// Number of the next batch.
    uint32 nextNumber;
    /// Height of the last block of the last batch; zero before the first.
    uint48 lastHeight;
    /// Forced items that certified batches consumed.
    uint32 forcedTo;
    /// Forced items that `escape` consumed.
    uint32 escapedTo;
    /// Forced items ever queued.
    uint32 forcedTail;
    /// L1 origin of the last batch.
    uint40 l1Number;
    /// L1 block of the last post, or of the deployment.
    uint40 postedBlock;
}

/// What the parts of the inbox share.
abstract contract InboxState {
    uint256 private word_;

    /// Where the chain of batches and the forced queue stand.
    function cursor() external view returns (Cursor memory) {
        return readCursor();
    }

    function readCursor() internal view returns (Cursor memory current) {
        uint256 word = word_;
        assembly ("memory-safe") {
            mstore(current, and(word, 0xffffffff))
            mstore(add(current, 32), and(shr(32, word), 0xffffffffffff))
            mstore(add(current, 64), and(shr(80, word), 0xffffffff))
            mstore(add(current, 96), and(shr(112, word), 0xffffffff))
            mstore(add(current, 128), and(shr(144, word), 0xffffffff))
            mstore(add(current, 160), and(shr(176, word), 0xffffffffff))
            mstore(add(current, 192), shr(216, word))
        }
    }

    function writeCursor(Cursor memory current) internal {
        uint256 word = uint256(current.nextNumber) | (uint256(current.lastHeight) << 32)
            | (uint256(current.forcedTo) << 80) | (uint256(current.escapedTo) << 112)
            | (uint256(current.forcedTail) << 144) | (uint256(current.l1Number) << 176)
            | (uint256(current.postedBlock) << 216);
        word_ = word;
    }

    /// The first forced item that nothing has consumed.
    function forcedHead(Cursor memory current) internal pure returns (uint32) {
        return current.forcedTo > current.escapedTo ? current.forcedTo : current.escapedTo;
    }
}
