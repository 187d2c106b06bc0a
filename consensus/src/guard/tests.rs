//! The sign guard never lets a key contradict itself.

use alloy_primitives::{B256, B512};
use fusion_types::{BlockId, Epoch, Height, NetworkId, Round, ValidatorId, VoteKind};
use proptest::prelude::*;

use super::{GUARD_BYTES, GuardRefusal, GuardState, GuardVerdict};
use crate::signing::{SignedProposal, SignedVote};

const EPOCH: Epoch = Epoch(3);
const ME: ValidatorId = ValidatorId(B256::repeat_byte(7));

fn vote(height: u64, round: u32, kind: VoteKind, block: Option<u8>, signature: u8) -> SignedVote {
    SignedVote {
        height: Height(height),
        round: Round(round),
        kind,
        block: block.map(|byte| BlockId(B256::repeat_byte(byte))),
        validator: ME,
        signature: B512::repeat_byte(signature),
    }
}

fn proposal(height: u64, round: u32, valid: Option<u32>, block: u8, signature: u8) -> SignedProposal {
    SignedProposal {
        height: Height(height),
        round: Round(round),
        valid_round: valid.map(Round),
        block: BlockId(B256::repeat_byte(block)),
        proposer: ME,
        signature: B512::repeat_byte(signature),
    }
}

fn guard() -> GuardState {
    GuardState::new(NetworkId(B256::repeat_byte(1)), ME)
}

#[test]
fn the_same_vote_again_yields_the_same_signature() {
    let mut guard = guard();
    guard.record_vote(EPOCH, vote(5, 1, VoteKind::Prevote, Some(2), 9));
    let again = vote(5, 1, VoteKind::Prevote, Some(2), 0);
    assert_eq!(
        guard.check_vote(EPOCH, &again),
        GuardVerdict::Same(B512::repeat_byte(9))
    );
}

#[test]
fn another_value_for_the_same_place_is_a_conflict() {
    let mut guard = guard();
    guard.record_vote(EPOCH, vote(5, 1, VoteKind::Prevote, Some(2), 9));
    let place = GuardRefusal::Conflict {
        height: Height(5),
        round: Round(1),
    };
    for block in [None, Some(3)] {
        let other = vote(5, 1, VoteKind::Prevote, block, 0);
        assert_eq!(guard.check_vote(EPOCH, &other), GuardVerdict::Refuse(place));
    }
    guard.record_proposal(EPOCH, proposal(5, 1, None, 2, 9));
    for other in [proposal(5, 1, None, 3, 0), proposal(5, 1, Some(0), 2, 0)] {
        assert_eq!(guard.check_proposal(EPOCH, &other), GuardVerdict::Refuse(place));
    }
}

#[test]
fn nothing_below_the_last_place_is_signed() {
    let mut guard = guard();
    guard.record_vote(EPOCH, vote(5, 1, VoteKind::Precommit, None, 9));
    for lower in [
        vote(5, 1, VoteKind::Prevote, None, 0),
        vote(5, 0, VoteKind::Precommit, None, 0),
        vote(4, 9, VoteKind::Precommit, None, 0),
    ] {
        let verdict = guard.check_vote(EPOCH, &lower);
        assert!(
            matches!(verdict, GuardVerdict::Refuse(GuardRefusal::Regression { .. })),
            "{verdict:?}"
        );
    }
    for higher in [
        vote(5, 2, VoteKind::Prevote, None, 0),
        vote(6, 0, VoteKind::Prevote, None, 0),
    ] {
        assert_eq!(guard.check_vote(EPOCH, &higher), GuardVerdict::Sign);
    }
    assert_eq!(
        guard.check_proposal(EPOCH, &proposal(1, 0, None, 1, 0)),
        GuardVerdict::Sign
    );
}

fn any_guard() -> impl Strategy<Value = GuardState> {
    let votes = (
        any::<u64>(),
        any::<u64>(),
        any::<u32>(),
        any::<bool>(),
        any::<Option<u8>>(),
        any::<u8>(),
    );
    let proposals = (
        any::<u64>(),
        any::<u64>(),
        any::<u32>(),
        any::<Option<u32>>(),
        any::<u8>(),
        any::<u8>(),
    );
    (proptest::option::of(votes), proptest::option::of(proposals)).prop_map(|(v, p)| {
        let mut guard = guard();
        if let Some((epoch, height, round, prevote, block, signature)) = v {
            let kind = if prevote {
                VoteKind::Prevote
            } else {
                VoteKind::Precommit
            };
            guard.record_vote(Epoch(epoch), vote(height, round, kind, block, signature));
        }
        if let Some((epoch, height, round, valid, block, signature)) = p {
            guard.record_proposal(Epoch(epoch), proposal(height, round, valid, block, signature));
        }
        guard
    })
}

proptest! {
    #[test]
    fn decoding_gives_back_what_was_encoded(guard in any_guard()) {
        prop_assert_eq!(GuardState::decode(&guard.encode()), Ok(guard));
    }

    #[test]
    fn bytes_have_one_meaning_or_none(mut bytes in proptest::collection::vec(any::<u8>(), GUARD_BYTES)) {
        bytes[0] = 1;
        if let Ok(guard) = GuardState::decode(&bytes) {
            prop_assert_eq!(guard.encode().to_vec(), bytes);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = GuardState::decode(&bytes);
    }
}
