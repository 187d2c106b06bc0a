//! How large the engine's collections are: numbers for whoever watches their bounds.

use super::Engine;

/// Sizes of what an engine holds. Where something is bounded for each peer, validator or height, the largest of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineSizes {
    /// Messages of one peer for one height that is not begun.
    pub future_messages: usize,
    /// Votes in them, those inside certificates too.
    pub future_signatures: usize,
    /// Heights and peers of which such messages are kept.
    pub future_places: usize,
    /// Undecided bodies of the height in progress.
    pub bodies: usize,
    /// Bodies of heights above it.
    pub bodies_ahead: usize,
    /// Proposals of one round.
    pub proposals_of_round: usize,
    /// Evidence, in all.
    pub evidence: usize,
    /// Evidence against one validator at one height.
    pub evidence_of_one: usize,
    /// Windows of catching up that are asked for or held.
    pub windows: usize,
    /// Windows that one peer is asked for.
    pub windows_of_peer: usize,
    /// Blocks in windows that are held.
    pub window_blocks: usize,
    /// Peers that are not listened to.
    pub muted: usize,
}

impl Engine {
    /// How large this engine's collections are, counted anew.
    pub fn sizes(&self) -> EngineSizes {
        let (future_messages, future_signatures, future_places) = self.future.sizes();
        let (bodies, bodies_ahead) = self.bodies.sizes(self.height());
        let (evidence, evidence_of_one) = self.evidence.sizes();
        let (windows, windows_of_peer, window_blocks) = self.sync.sizes();
        EngineSizes {
            future_messages,
            future_signatures,
            future_places,
            bodies,
            bodies_ahead,
            proposals_of_round: self.book.proposals_of_round_most(),
            evidence,
            evidence_of_one,
            windows,
            windows_of_peer,
            window_blocks,
            muted: self.muted.len(),
        }
    }
}
