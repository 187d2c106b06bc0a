//! *Bounded*: whatever has a capacity in ARCHITECTURE.md's table stays within it. The numbers stand here again, as the
//! table has them; of the code under test only sizes are read.

use fusion_sequencer::core::CoreSizes;

/// How much a node's pool may hold: the table's numbers, or smaller ones that a history sets so that they are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes in all.
    pub(crate) pool_bytes: usize,
    /// Bytes of one rollup.
    pub(crate) rollup_bytes: usize,
}

impl Room {
    /// As in the table.
    pub(crate) const FULL: Self = Self {
        pool_bytes: 96 << 20,
        rollup_bytes: 48 << 20,
    };

    /// So little that a few users fill it.
    pub(crate) const CRAMPED: Self = Self {
        pool_bytes: 64 << 10,
        rollup_bytes: 32 << 10,
    };
}

/// What a waiting transaction costs beside its payload, bytes.
const FOOTPRINT: usize = 384;

/// What exceeds its capacity in a node with `peers` other validators, if anything does.
pub(super) fn exceeded(sizes: &CoreSizes, room: &Room, peers: usize) -> Option<String> {
    let (pool, engine) = (&sizes.pool, &sizes.engine);
    let window_heights = usize::try_from(pool.window_heights).unwrap_or(usize::MAX);
    let table = [
        ("bytes in the pool", pool.bytes, room.pool_bytes),
        ("bytes of one rollup", pool.rollup_bytes, room.rollup_bytes),
        ("bytes of one sender", pool.sender_bytes, 1 << 20),
        ("transactions of one sender", pool.sender_transactions, 64),
        ("proposals in flight", pool.proposals, 8),
        ("bans", pool.bans, 65_536),
        ("transactions in a dedup window", pool.window_transactions, 65_536),
        ("heights in a dedup window", window_heights, 16_384),
        ("relayed transactions", sizes.relayed, room.pool_bytes / FOOTPRINT),
        ("transactions told to everybody", sizes.told, 65_536),
        ("records held back", sizes.held, 512),
        ("postponed proposals", sizes.postponed, 128),
        ("finalized L1 blocks", sizes.l1_blocks, 8_192),
        ("bytes of forced transactions", sizes.l1_bytes, 32 << 20),
        ("future messages of a peer", engine.future_messages, 32),
        ("future signatures of a peer", engine.future_signatures, 512),
        (
            "peers and heights with future messages",
            engine.future_places,
            3 * peers,
        ),
        ("bodies", engine.bodies, 16),
        ("bodies of the next height", engine.bodies_ahead, 4),
        ("proposals of a round", engine.proposals_of_round, 2),
        ("evidence", engine.evidence, 256),
        ("evidence against one at a height", engine.evidence_of_one, 3),
        ("catch-up windows", engine.windows, 4),
        ("catch-up windows of a peer", engine.windows_of_peer, 2),
        ("blocks in catch-up windows", engine.window_blocks, 256),
        ("muted peers", engine.muted, peers),
    ];
    let over = table.iter().find(|(_, size, capacity)| size > capacity)?;
    Some(format!("{} {}, capacity is {}", over.1, over.0, over.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_above_its_capacity_is_seen() {
        let mut sizes = CoreSizes::default();
        sizes.pool.sender_transactions = 64;
        assert_eq!(exceeded(&sizes, &Room::FULL, 3), None);
        sizes.pool.sender_transactions = 65;
        assert!(exceeded(&sizes, &Room::FULL, 3).is_some());
    }
}
