//! What a segment holds, computed from the items themselves: what its leaf has to say.

use alloy_primitives::B256;
use fusion_types::{Height, Lane, Namespace, RollupId, StreamHead, TxHash, leaf_hash, merkle_root};

/// What a segment holds, as its leaf says it.
pub(super) struct Content {
    first: u64,
    count: u64,
    /// Where the stream stands after it.
    pub(super) after: StreamHead,
    transactions_root: B256,
}

impl Content {
    pub(super) fn of_blocks(first: Height, ids: &[B256]) -> Self {
        let leaves: Vec<B256> = ids.iter().map(|id| leaf_hash(id.as_slice())).collect();
        let count = ids.len() as u64;
        Self {
            first: first.0,
            count,
            after: StreamHead {
                next_sequence: first.0.saturating_add(count),
                head: ids.last().copied().unwrap_or_default(),
            },
            transactions_root: merkle_root(&leaves),
        }
    }

    pub(super) fn of_lanes<'a>(
        rollup: RollupId,
        before: StreamHead,
        lanes: impl Iterator<Item = (Height, &'a Vec<TxHash>)>,
    ) -> Self {
        let (mut after, mut leaves) = (before, Vec::new());
        for (height, hashes) in lanes {
            let lane = Lane::new(rollup, height, after.next_sequence, after.head, hashes);
            // A stream that numbers beyond 64 bits gives a leaf that nobody attests.
            after = StreamHead {
                next_sequence: lane.next_sequence().unwrap_or(u64::MAX),
                head: lane.head,
            };
            leaves.extend(hashes.iter().map(|hash| leaf_hash(hash.as_slice())));
        }
        Self {
            first: before.next_sequence,
            count: leaves.len() as u64,
            after,
            transactions_root: merkle_root(&leaves),
        }
    }

    pub(super) fn namespace(&self, rollup: RollupId) -> Namespace {
        Namespace {
            rollup,
            first_sequence: self.first,
            count: self.count,
            head: self.after.head,
            transactions_root: self.transactions_root,
        }
    }
}
