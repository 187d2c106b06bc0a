//! What a batch commits to of each rollup, straight from decided blocks: no compression, nothing read back.
//!
//! Promises the same leaves as the payload of the same blocks. Leaves to others: whether the blocks follow each other; they
//! are decided, and were checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::B256;
use fusion_types::{Membership, Namespace, RollupId, SealedBlock, leaf_hash, merkle_proof, merkle_root};

use super::payload::BLOCKS;

/// The leaves under a batch's `namespaces`, ascending by rollup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    namespaces: Vec<Namespace>,
}

/// Leaves of one rollup's transactions, in the order of its stream.
fn leaves(blocks: &[Arc<SealedBlock>], rollup: RollupId) -> Vec<B256> {
    let lanes = blocks.iter().flat_map(|block| block.lanes());
    let of_rollup = lanes.filter(|(body, _)| body.lane.rollup == rollup);
    of_rollup
        .flat_map(|(_, hashes)| hashes.iter().map(|hash| leaf_hash(hash.as_slice())))
        .collect()
}

impl Contents {
    /// What `blocks`, decided one after the other, hold; none of nothing.
    pub fn of(blocks: &[Arc<SealedBlock>]) -> Option<Self> {
        let (first, last) = (blocks.first()?, blocks.last()?);
        let ids: Vec<B256> = blocks.iter().map(|block| leaf_hash(block.id().0.as_slice())).collect();
        let mut namespaces = vec![Namespace {
            rollup: BLOCKS,
            first_sequence: first.header().height.0,
            count: blocks.len() as u64,
            head: last.id().0,
            transactions_root: merkle_root(&ids),
        }];
        // By rollup: where its stream was before the batch, and where it is after.
        let mut streams: BTreeMap<RollupId, (u64, B256)> = BTreeMap::new();
        for (body, _) in blocks.iter().flat_map(|block| block.lanes()) {
            let lane = &body.lane;
            let (_, head) = streams.entry(lane.rollup).or_insert((lane.first_sequence, lane.head));
            *head = lane.head;
        }
        namespaces.extend(streams.into_iter().map(|(rollup, (first_sequence, head))| {
            let leaves = leaves(blocks, rollup);
            Namespace {
                rollup,
                first_sequence,
                count: leaves.len() as u64,
                head,
                transactions_root: merkle_root(&leaves),
            }
        }));
        Some(Self { namespaces })
    }

    /// The root over the leaves: a batch's `namespaces`.
    pub fn root(&self) -> B256 {
        merkle_root(&self.leaves())
    }

    fn leaves(&self) -> Vec<B256> {
        self.namespaces.iter().map(Namespace::leaf).collect()
    }

    /// The proof that the batch of `blocks`, whose contents these are, has transaction `sequence` of `rollup`; `None` if it
    /// has not.
    pub fn membership(&self, blocks: &[Arc<SealedBlock>], rollup: RollupId, sequence: u64) -> Option<Membership> {
        let at = self
            .namespaces
            .binary_search_by_key(&rollup, |namespace| namespace.rollup)
            .ok()?;
        let namespace = self.namespaces[at].clone();
        let index = usize::try_from(sequence.checked_sub(namespace.first_sequence)?).ok()?;
        Some(Membership {
            transaction_proof: merkle_proof(&leaves(blocks, rollup), index)?,
            namespace_proof: merkle_proof(&self.leaves(), at)?,
            namespace,
        })
    }
}
