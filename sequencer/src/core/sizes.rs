//! How large everything is that a core holds and that has a capacity: numbers for whoever watches the bounds.

use fusion_consensus::EngineSizes;
use fusion_mempool::PoolSizes;

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
    /// Proposals that are ahead of this node's clock.
    pub postponed: usize,
}

impl Core {
    /// How large everything is that has a capacity.
    pub fn sizes(&self) -> CoreSizes {
        CoreSizes {
            pool: self.pool.sizes(),
            engine: self.engine.sizes(),
            relayed: self.relay.waiting(),
            told: self.relay.told(),
            held: self.held.len(),
            postponed: self.postponed.len(),
        }
    }
}
