//! Which committee decides a height, and who proposes in its rounds.
//!
//! Everything in this crate asks here and nowhere else, so that a change of committee between epochs touches one
//! file. Today a network has one epoch and one committee. The rotation (who is benched) is the replicated
//! state's; it comes in as an argument.

use std::sync::Arc;

use alloy_primitives::B256;
use fusion_types::{Committee, Height, Rotation, Round, ValidatorId};

/// The committees of a network by height.
#[derive(Debug, Clone)]
pub struct CommitteeSchedule {
    committee: Arc<Committee>,
    hash: B256,
}

impl CommitteeSchedule {
    /// The schedule of a network whose genesis committee is `committee`.
    pub fn new(committee: Arc<Committee>) -> Self {
        let hash = committee.hash();
        Self { committee, hash }
    }

    /// The committee that decides `height`.
    pub fn committee(&self, _height: Height) -> &Arc<Committee> {
        &self.committee
    }

    /// Its hash, which headers of `height` carry. Kept, because hashing a large committee is slow.
    pub fn committee_hash(&self, _height: Height) -> B256 {
        self.hash
    }

    /// Who proposes in `round` of `height` when `rotation` is the state's after the height below.
    pub fn proposer(&self, height: Height, round: Round, rotation: &Rotation) -> ValidatorId {
        let committee = self.committee(height);
        committee.validators()[rotation.proposer(committee, height, round)].id
    }
}
