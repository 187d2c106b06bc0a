//! L1 in a core: what comes from the watcher, and what of it a proposal of this node adopts.
//!
//! L1 events bind when a decided header adopts their L1 block, not when this node hears of them: the view only lets it
//! propose and judge such headers. Leaves to others: reading L1 (the watcher), and what is due (`mempool`).

use std::time::Duration;

use fusion_mempool::{L1Refused, L1View, L1Wanted};
use fusion_types::{L1Block, L1Origin, Round};

use super::{Core, Now};

impl Core {
    /// From where on L1 is to be read for this node, after a start and at any time: what was fed and not taken for want of
    /// room, or because it left a gap, is wanted again. None where nothing settles.
    pub fn l1_wanted(&self) -> Option<L1Wanted> {
        self.l1.as_ref().map(L1View::wanted)
    }

    /// Finalized L1 blocks came, in order. Those that are known may come again; the first that does not fit ends it, for
    /// the rest would leave a gap.
    pub(super) fn l1_came(&mut self, now: Now, blocks: &[L1Block]) {
        let Some(view) = &mut self.l1 else { return };
        for block in blocks {
            match view.feed(block, now.monotonic) {
                Ok(grew) => {
                    self.l1_grew |= grew;
                    self.l1_refused = self.l1_refused.filter(|_| !grew);
                }
                Err(refused @ (L1Refused::Gap { .. } | L1Refused::Full(_))) => {
                    tracing::debug!(%refused, "the watcher has to feed again");
                    return;
                }
                Err(refused) => {
                    // It comes again and again: said once.
                    if self.l1_refused != Some(refused) {
                        tracing::error!(%refused, "what this node was told of L1 contradicts what it or the network knows");
                    }
                    self.l1_refused = Some(refused);
                    return;
                }
            }
        }
    }

    /// Whether nothing that must stand in the next block may be unknown to this node.
    pub(super) fn knows_what_is_due(&self) -> bool {
        self.l1.as_ref().is_none_or(L1View::is_complete)
    }

    /// Whether there is anything to order: in the pool, or left of what an adopted L1 block brought.
    pub(super) fn has_work(&self) -> bool {
        !self.pool.is_empty() || self.l1.as_ref().is_some_and(L1View::has_backlog)
    }

    /// The L1 block that a proposal adopts. The first proposer of a height goes on to the newest that the others will have
    /// seen too; if that was wrong, the others lose no second round over it.
    pub(super) fn origin_to_adopt(&self, now: Now, round: Round) -> L1Origin {
        let since = now.monotonic.checked_sub(self.config.l1_margin);
        match (&self.l1, since) {
            (Some(view), Some(since)) if round == Round(0) => view.newest_since(since),
            _ => self.state.l1_origin,
        }
    }
}

/// For so long a node has seen an L1 block before it proposes to adopt it: the others' providers and polls are not in step
/// with its own.
pub(super) const L1_MARGIN: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests;
