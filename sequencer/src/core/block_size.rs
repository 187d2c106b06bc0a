//! How large a proposal of this node may be: half for each round that failed, and more again with every block that came
//! in its first round.
//!
//! A link or a machine too slow for full blocks would otherwise fail every first round, and under load a chain that
//! stands has ever more to propose. Local: what others accept does not depend on it. That a proposer is gone fails a
//! round too; then blocks are smaller for a moment, for nothing.

use fusion_types::Round;
use fusion_types::limits::{BLOCK_OVERHEAD_BYTES, TRANSACTION_BYTES_MAX, TRANSACTION_OVERHEAD_BYTES};

/// It never falls below this, or below what is configured: the largest transaction has to fit.
const FLOOR_BYTES: usize = 512 * 1024;

const _: () = assert!(TRANSACTION_BYTES_MAX + TRANSACTION_OVERHEAD_BYTES + BLOCK_OVERHEAD_BYTES <= FLOOR_BYTES);

/// A block in its first round gives back one part in so many of what is configured.
const RECOVERY_PARTS: usize = 32;

/// Rounds after which halving goes no further.
const HALVINGS_MAX: u32 = 8;

/// The size to fill blocks up to.
#[derive(Debug)]
pub(super) struct BlockSize {
    configured: usize,
    now: usize,
}

impl BlockSize {
    pub(super) fn new(configured: usize) -> Self {
        Self {
            configured,
            now: configured,
        }
    }

    /// Bytes for a block that is proposed in `round`: the rounds before it failed.
    pub(super) fn bytes(&self, round: Round) -> usize {
        let halved = self.now >> round.0.min(HALVINGS_MAX);
        halved.max(FLOOR_BYTES.min(self.configured))
    }

    /// A block was decided in `round`.
    pub(super) fn decided(&mut self, round: Round) {
        let recovered = self.now + self.configured / RECOVERY_PARTS;
        self.now = if round == Round(0) {
            recovered.min(self.configured)
        } else {
            self.bytes(round)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURED: usize = 2 << 20;

    #[test]
    fn each_failed_round_halves_what_is_proposed_down_to_the_floor() {
        let size = BlockSize::new(CONFIGURED);
        let sizes: Vec<_> = [0, 1, 2, 3, 4, u32::MAX].map(|round| size.bytes(Round(round))).into();
        assert_eq!(sizes, [2 << 20, 1 << 20, 512 << 10, 512 << 10, 512 << 10, 512 << 10]);
        assert_eq!(BlockSize::new(10_000).bytes(Round(3)), 10_000);
    }

    #[test]
    fn after_a_lost_round_full_size_is_back_within_sixteen_blocks() {
        let mut size = BlockSize::new(CONFIGURED);
        size.decided(Round(1));
        assert_eq!(size.bytes(Round(0)), CONFIGURED / 2);
        for _ in 0..16 {
            size.decided(Round(0));
        }
        assert_eq!(size.bytes(Round(0)), CONFIGURED);
        size.decided(Round(0));
        assert_eq!(size.bytes(Round(0)), CONFIGURED);
    }

    #[test]
    fn over_a_link_for_small_blocks_most_come_in_their_first_round() {
        let (mut size, passes, mut first, mut bytes) = (BlockSize::new(CONFIGURED), 600 << 10, 0, 0);
        for _ in 0..1000 {
            let round = (0..).map(Round).find(|round| size.bytes(*round) <= passes).unwrap();
            bytes += size.bytes(round);
            first += usize::from(round == Round(0));
            size.decided(round);
        }
        assert!(first >= 600, "{first}");
        assert!(bytes / 1000 >= passes / 2, "and most of the link is used: {bytes}");
    }
}
