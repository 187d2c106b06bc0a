//! The bytes that validators sign: fixed layout, domain-separated, bound to network, epoch, height and round.
//!
//! A signature of one kind never verifies as another: the first 32 bytes name the kind, and every field has its
//! fixed place. Integers are big-endian.

use alloy_primitives::B256;

use crate::block::{BlockId, Height, NetworkId, Round};
use crate::committee::Epoch;

const VOTE_DOMAIN: &[u8; 32] = b"fusion/v1/vote\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const PROPOSAL_DOMAIN: &[u8; 32] = b"fusion/v1/proposal\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// The two steps of voting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VoteKind {
    /// Tendermint's `PREVOTE`.
    Prevote,
    /// Tendermint's `PRECOMMIT`. Certificates are made of these.
    Precommit,
}

/// `domain 32 ‖ network 32 ‖ epoch 8 ‖ height 8 ‖ round 4 ‖ kind 1 (1 prevote, 2 precommit) ‖ 1 or 0 for nil ‖ block id
/// 32 (zero for nil)`.
pub fn vote_sign_bytes(
    network: NetworkId,
    epoch: Epoch,
    height: Height,
    round: Round,
    kind: VoteKind,
    block: Option<BlockId>,
) -> [u8; 118] {
    let mut bytes = [0; 118];
    put_place(&mut bytes, VOTE_DOMAIN, network, epoch, height, round);
    bytes[84] = match kind {
        VoteKind::Prevote => 1,
        VoteKind::Precommit => 2,
    };
    bytes[85] = u8::from(block.is_some());
    bytes[86..].copy_from_slice(block.map_or(B256::ZERO, |id| id.0).as_slice());
    bytes
}

/// `domain 32 ‖ network 32 ‖ epoch 8 ‖ height 8 ‖ round 4 ‖ 1 or 0 for no valid round ‖ valid round 4 ‖ block id 32`.
pub fn proposal_sign_bytes(
    network: NetworkId,
    epoch: Epoch,
    height: Height,
    round: Round,
    valid_round: Option<Round>,
    block: BlockId,
) -> [u8; 121] {
    let mut bytes = [0; 121];
    put_place(&mut bytes, PROPOSAL_DOMAIN, network, epoch, height, round);
    bytes[84] = u8::from(valid_round.is_some());
    bytes[85..89].copy_from_slice(&valid_round.map_or(0, |round| round.0).to_be_bytes());
    bytes[89..].copy_from_slice(block.0.as_slice());
    bytes
}

fn put_place(bytes: &mut [u8], domain: &[u8; 32], network: NetworkId, epoch: Epoch, height: Height, round: Round) {
    bytes[..32].copy_from_slice(domain);
    bytes[32..64].copy_from_slice(network.0.as_slice());
    bytes[64..72].copy_from_slice(&epoch.0.to_be_bytes());
    bytes[72..80].copy_from_slice(&height.0.to_be_bytes());
    bytes[80..84].copy_from_slice(&round.0.to_be_bytes());
}
