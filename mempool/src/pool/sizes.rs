//! How large the parts of a pool are: numbers for whoever watches its bounds.

use super::Pool;

/// Sizes of what a pool holds. Where something is bounded for each rollup, sender or stream, the largest of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolSizes {
    /// Transactions.
    pub transactions: usize,
    /// Their footprint, bytes.
    pub bytes: usize,
    /// Footprint of one rollup's, bytes.
    pub rollup_bytes: usize,
    /// One sender's transactions in one rollup.
    pub sender_transactions: usize,
    /// Footprint of one sender's in one rollup, bytes.
    pub sender_bytes: usize,
    /// Proposals of the height in progress.
    pub proposals: usize,
    /// Transactions that are refused for a while.
    pub bans: usize,
    /// Transactions of one stream that the dedup window remembers.
    pub window_transactions: usize,
    /// Heights from the oldest of them to the window's tip.
    pub window_heights: u64,
}

impl Pool {
    /// How large the parts of this pool are, counted anew where that is cheap. Cost O(senders).
    pub fn sizes(&self) -> PoolSizes {
        let lanes = || self.lanes.values();
        let senders = || lanes().flat_map(|lane| lane.senders.values());
        let (window_transactions, window_heights) = self.window.longest();
        PoolSizes {
            transactions: lanes().map(|lane| lane.entries.len()).sum(),
            bytes: lanes().map(|lane| lane.entries.bytes()).sum(),
            rollup_bytes: lanes().map(|lane| lane.entries.bytes()).max().unwrap_or(0),
            sender_transactions: senders().map(|sender| sender.queue.len()).max().unwrap_or(0),
            sender_bytes: senders().map(|sender| sender.bytes).max().unwrap_or(0),
            proposals: self.proposals.len(),
            bans: self.bans.len().max(self.bans_by_age.len()),
            window_transactions,
            window_heights,
        }
    }
}
