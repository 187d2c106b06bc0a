//! Write-ahead records survive their encoding.

use alloy_primitives::{B256, B512};
use fusion_types::{BlockId, CommitteeSignature, Height, Round, ValidatorId, VoteKind};
use proptest::prelude::*;

use super::{ProposedBlock, WalEntry, WalRecord, WalTimeout};
use crate::certificates::Polka;
use crate::signing::{SignedProposal, SignedVote};
use crate::timers::TimerKind;

fn b256() -> impl Strategy<Value = B256> {
    any::<[u8; 32]>().prop_map(B256::from)
}

fn b512() -> impl Strategy<Value = B512> {
    any::<u8>().prop_map(B512::repeat_byte)
}

fn any_entry() -> impl Strategy<Value = (Height, WalEntry)> {
    let place = (
        any::<u64>(),
        any::<u32>(),
        b256(),
        b256(),
        b512(),
        proptest::option::of(any::<u32>()),
    );
    (place, 0_u8..6, any::<bool>()).prop_map(|((height, round, block, id, signature, valid), shape, flag)| {
        let (height, round, block, validator) = (Height(height), Round(round), BlockId(block), ValidatorId(id));
        let valid_round = valid.map(Round);
        let entry = match shape {
            0 | 1 => WalEntry::Vote(SignedVote {
                height,
                round,
                kind: if shape == 0 {
                    VoteKind::Prevote
                } else {
                    VoteKind::Precommit
                },
                block: flag.then_some(block),
                validator,
                signature,
            }),
            2 => WalEntry::Proposal(SignedProposal {
                height,
                round,
                valid_round,
                block,
                proposer: validator,
                signature,
            }),
            3 => WalEntry::Value(ProposedBlock {
                round,
                valid_round,
                proposer: validator,
                block,
                valid: flag,
            }),
            4 => WalEntry::Timeout(WalTimeout {
                kind: if flag { TimerKind::Prevote } else { TimerKind::Precommit },
                round,
            }),
            _ => WalEntry::Polka(Polka {
                height,
                round,
                block,
                signatures: (0..round.0 % 5)
                    .map(|validator| CommitteeSignature { validator, signature })
                    .collect(),
            }),
        };
        (height, entry)
    })
}

proptest! {
    #[test]
    fn decoding_gives_back_what_was_encoded((height, entry) in any_entry()) {
        let record = WalRecord::new(height, entry);
        prop_assert_eq!(WalRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn a_cut_or_changed_record_is_refused_or_means_something_else(
        (height, entry) in any_entry(), at in any::<prop::sample::Index>(), flip in 1_u8..,
    ) {
        let record = WalRecord::new(height, entry);
        let mut bytes = record.encode();
        let at = at.index(bytes.len());
        prop_assert!(WalRecord::decode(&bytes[..at]).is_err());
        bytes[at] ^= flip;
        prop_assert_ne!(WalRecord::decode(&bytes), Ok(record));
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(record) = WalRecord::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes);
        }
    }
}
