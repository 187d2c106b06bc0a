//! Equivocation: two signed messages of one validator that exclude each other.
//!
//! Evidence verifies by itself, with nothing but the committee. What is kept is bounded for each validator and in all;
//! one pair is proof enough, later ones only fill the log.

use std::collections::{BTreeMap, VecDeque};

use alloy_rlp::{Decodable, Encodable};
use fusion_types::{Committee, Height, NetworkId, ValidatorId};

use crate::signing::{SignedProposal, SignedVote};

/// Pairs kept in all; the oldest of whoever has most give way. About 300 bytes each.
pub const EVIDENCE_MAX: usize = 256;

/// Pairs kept of one validator at one height.
pub const EVIDENCE_PER_VALIDATOR_MAX: usize = 3;

/// Pairs of one validator, of all heights, beyond which nothing more is taken from hearsay: whoever signs against
/// itself could have us verify and write for ever.
const HEARSAY_PER_VALIDATOR_MAX: usize = 16;

/// Two messages that no honest validator signs both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Two votes of one kind for one round, for different blocks. The one that arrived first comes first.
    Votes(SignedVote, SignedVote),
    /// Two different proposals for one round. The one that arrived first comes first.
    Proposals(SignedProposal, SignedProposal),
}

impl Evidence {
    /// Who is accused.
    pub fn validator(&self) -> ValidatorId {
        match self {
            Self::Votes(first, _) => first.validator,
            Self::Proposals(first, _) => first.proposer,
        }
    }

    /// The height at which it happened.
    pub fn height(&self) -> Height {
        match self {
            Self::Votes(first, _) => first.height,
            Self::Proposals(first, _) => first.height,
        }
    }

    /// Whether the messages exclude each other and one member of `committee`, that of their height, signed both.
    pub fn verify(&self, network: NetworkId, committee: &Committee) -> bool {
        match self {
            Self::Votes(first, second) => {
                let place = |vote: &SignedVote| (vote.height, vote.round, vote.kind, vote.validator);
                place(first) == place(second)
                    && first.block != second.block
                    && first.verify(network, committee)
                    && second.verify(network, committee)
            }
            Self::Proposals(first, second) => {
                let place = |proposal: &SignedProposal| (proposal.height, proposal.round, proposal.proposer);
                let value = |proposal: &SignedProposal| (proposal.block, proposal.valid_round);
                place(first) == place(second)
                    && value(first) != value(second)
                    && first.verify(network, committee)
                    && second.verify(network, committee)
            }
        }
    }

    /// Whether both are about the same deed: one place of one validator.
    fn is_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Votes(mine, _), Self::Votes(theirs, _)) => {
                let place = |vote: &SignedVote| (vote.height, vote.round, vote.kind, vote.validator);
                place(mine) == place(theirs)
            }
            (Self::Proposals(mine, _), Self::Proposals(theirs, _)) => {
                let place = |proposal: &SignedProposal| (proposal.height, proposal.round, proposal.proposer);
                place(mine) == place(theirs)
            }
            _ => false,
        }
    }

    fn tag(&self) -> u8 {
        match self {
            Self::Votes(..) => 1,
            Self::Proposals(..) => 2,
        }
    }

    fn payload_length(&self) -> usize {
        let pair = match self {
            Self::Votes(first, second) => first.length() + second.length(),
            Self::Proposals(first, second) => first.length() + second.length(),
        };
        self.tag().length() + pair
    }
}

impl Encodable for Evidence {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        alloy_rlp::Header {
            list: true,
            payload_length: self.payload_length(),
        }
        .encode(out);
        self.tag().encode(out);
        match self {
            Self::Votes(first, second) => {
                first.encode(out);
                second.encode(out);
            }
            Self::Proposals(first, second) => {
                first.encode(out);
                second.encode(out);
            }
        }
    }

    fn length(&self) -> usize {
        self.payload_length() + alloy_rlp::length_of_length(self.payload_length())
    }
}

impl Decodable for Evidence {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let mut payload = alloy_rlp::Header::decode_bytes(buf, true)?;
        let evidence = match u8::decode(&mut payload)? {
            1 => Self::Votes(Decodable::decode(&mut payload)?, Decodable::decode(&mut payload)?),
            2 => Self::Proposals(Decodable::decode(&mut payload)?, Decodable::decode(&mut payload)?),
            _ => return Err(alloy_rlp::Error::Custom("evidence kind is neither 1 nor 2")),
        };
        if payload.is_empty() {
            Ok(evidence)
        } else {
            Err(alloy_rlp::Error::UnexpectedLength)
        }
    }
}

/// The evidence at hand, oldest first.
#[derive(Debug, Default)]
pub(crate) struct EvidenceLog {
    kept: VecDeque<Evidence>,
}

impl FromIterator<Evidence> for EvidenceLog {
    fn from_iter<I: IntoIterator<Item = Evidence>>(evidence: I) -> Self {
        let mut log = Self::default();
        for pair in evidence {
            log.add(pair);
        }
        log
    }
}

impl EvidenceLog {
    /// Whether a pair would be kept.
    pub(crate) fn wants(&self, evidence: &Evidence) -> bool {
        let of_same = |kept: &&Evidence| kept.validator() == evidence.validator() && kept.height() == evidence.height();
        self.kept.iter().filter(of_same).count() < EVIDENCE_PER_VALIDATOR_MAX
            && !self.kept.iter().any(|kept| kept.is_of(evidence))
    }

    /// Whether a pair would be kept that only another validator has seen.
    pub(crate) fn wants_hearsay(&self, evidence: &Evidence) -> bool {
        let of_same = |kept: &&Evidence| kept.validator() == evidence.validator();
        self.kept.iter().filter(of_same).count() < HEARSAY_PER_VALIDATOR_MAX && self.wants(evidence)
    }

    /// Keeps a pair; says whether it was kept.
    pub(crate) fn add(&mut self, evidence: Evidence) -> bool {
        if !self.wants(&evidence) {
            return false;
        }
        if self.kept.len() == EVIDENCE_MAX {
            self.drop_one();
        }
        self.kept.push_back(evidence);
        true
    }

    /// Makes room: who contradicts itself all the time must not push out what convicts others.
    fn drop_one(&mut self) {
        let mut counts: BTreeMap<ValidatorId, usize> = BTreeMap::new();
        for kept in &self.kept {
            *counts.entry(kept.validator()).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        let oldest = self
            .kept
            .iter()
            .position(|kept| Some(kept.validator()) == most.map(|(id, _)| id));
        if let Some(oldest) = oldest {
            self.kept.remove(oldest);
        }
    }

    /// Pairs in all, and most pairs of one validator at one height.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let mut places: BTreeMap<(ValidatorId, Height), usize> = BTreeMap::new();
        for kept in &self.kept {
            *places.entry((kept.validator(), kept.height())).or_default() += 1;
        }
        (self.kept.len(), places.into_values().max().unwrap_or(0))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Evidence> {
        self.kept.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{B256, B512};
    use fusion_types::{BlockId, Round, VoteKind};

    fn pair(validator: u8, height: u64) -> Evidence {
        let vote = |byte| SignedVote {
            height: Height(height),
            round: Round(0),
            kind: VoteKind::Prevote,
            block: Some(BlockId(B256::repeat_byte(byte))),
            validator: ValidatorId(B256::repeat_byte(validator)),
            signature: B512::ZERO,
        };
        Evidence::Votes(vote(1), vote(2))
    }

    #[test]
    fn one_deed_is_kept_once_whichever_half_came_first() {
        let mut log = EvidenceLog::default();
        let Evidence::Votes(first, second) = pair(1, 5) else {
            unreachable!()
        };
        assert!(log.add(Evidence::Votes(first, second)));
        assert!(!log.add(Evidence::Votes(second, first)));
        assert!(log.add(pair(1, 6)) && log.add(pair(2, 5)));
    }

    #[test]
    fn hearsay_about_one_validator_has_an_end() {
        let mut log = EvidenceLog::default();
        let told = (0..1_000).filter(|height| log.wants_hearsay(&pair(1, *height)) && log.add(pair(1, *height)));
        assert_eq!(told.count(), HEARSAY_PER_VALIDATOR_MAX);
        assert!(log.wants_hearsay(&pair(2, 5)) && log.wants(&pair(1, 5_000)));
    }

    #[test]
    fn who_contradicts_itself_all_the_time_does_not_push_out_what_convicts_others() {
        let mut log = EvidenceLog::default();
        log.add(pair(2, 1));
        for height in 0..1_000 {
            log.add(pair(1, height));
        }
        assert_eq!(log.iter().count(), EVIDENCE_MAX);
        assert_eq!(log.iter().next(), Some(&pair(2, 1)));
    }
}
