// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// Where the chain of batches and the forced queue stand: one slot, written once by each post.
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
    Cursor internal cursor_;

    /// Where the chain of batches and the forced queue stand.
    function cursor() external view returns (Cursor memory) {
        return cursor_;
    }

    /// The first forced item that nothing has consumed.
    function forcedHead(Cursor memory cursor) internal pure returns (uint32) {
        return cursor.forcedTo > cursor.escapedTo ? cursor.forcedTo : cursor.escapedTo;
    }
}
