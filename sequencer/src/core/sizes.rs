//! How large everything is that a core holds and that has a capacity: numbers for whoever watches the bounds.

use fusion_consensus::EngineSizes;
use fusion_mempool::{L1View, PoolSizes};

use super::Core;

/// Sizes of what a core holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CoreSizes {
    /// The pool's.
    pub pool: PoolSizes,
    /// Consensus'.
    pub engine: EngineSizes,
    /// Transactions of its users that await a decision.
    pub relayed: usize,
    /// Those that went to everybody.
    pub told: usize,
    /// Records that nothing hangs on yet.
    pub held: usize,
    /// Proposals that wait for this node's clock, or for what it sees of L1.
    pub postponed: usize,
    /// Finalized L1 blocks above the state's origin.
    pub l1_blocks: usize,
    /// Bytes of forced transactions that wait for their turn.
    pub l1_bytes: usize,
}

impl Core {
    /// How large everything is that has a capacity.
    pub fn sizes(&self) -> CoreSizes {
        let (l1_blocks, l1_bytes) = self.l1.as_ref().map_or((0, 0), L1View::sizes);
        CoreSizes {
            pool: self.pool.sizes(),
            engine: self.engine.sizes(),
            relayed: self.relay.waiting(),
            told: self.relay.told(),
            held: self.held.len(),
            postponed: self.postponed.len(),
            l1_blocks,
            l1_bytes,
        }
    }
}
