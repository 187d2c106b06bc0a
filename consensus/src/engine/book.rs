//! What is known of one height: every verified vote and proposal, by whom and for what.
//!
//! The book decides what is worth a signature check, finds equivocation, counts power behind blocks, and makes the
//! certificate of the decided block. It is bounded by construction: a validator has one slot for each
//! round and kind with room for two different votes, a round has room for two proposals, and rounds come one by one.

use std::collections::BTreeMap;

use fusion_types::{BlockId, Certificate, Committee, CommitteeSignature, Height, Round, ValidatorId, VoteKind};

use crate::certificates::Polka;
use crate::evidence::Evidence;
use crate::signing::{SignedProposal, SignedVote, Verified};

/// Different proposals kept of one round: two are evidence, more are noise. Malachite keeps as many.
const PROPOSALS_PER_ROUND_MAX: usize = 2;

#[derive(Debug)]
struct Slot {
    first: SignedVote,
    second: Option<SignedVote>,
}

impl Slot {
    fn votes(&self) -> impl Iterator<Item = &SignedVote> {
        std::iter::once(&self.first).chain(&self.second)
    }
}

/// How far a proposal has come on its way to the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProposalState {
    /// Its block is not known to be valid or invalid.
    Waiting,
    /// The core has it, or must never get it.
    Settled,
}

/// One height's messages.
#[derive(Debug)]
pub(crate) struct Book {
    height: Height,
    votes: BTreeMap<(Round, VoteKind, u32), Slot>,
    power: BTreeMap<(VoteKind, Round, BlockId), u64>,
    proposals: BTreeMap<Round, Vec<(Verified<SignedProposal>, ProposalState)>>,
}

/// What a vote or proposal brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    Nothing,
    First,
    Conflict(Box<Evidence>),
}

impl Book {
    pub(crate) fn new(height: Height) -> Self {
        Self {
            height,
            votes: BTreeMap::new(),
            power: BTreeMap::new(),
            proposals: BTreeMap::new(),
        }
    }

    pub(crate) fn height(&self) -> Height {
        self.height
    }

    /// Whether this vote, of the validator at `index`, would be news if its signature verifies.
    pub(crate) fn wants_vote(&self, index: usize, vote: &SignedVote) -> bool {
        let Some(slot) = self.slot(index, vote) else {
            return true;
        };
        slot.first.block != vote.block && slot.second.is_none()
    }

    /// The last round in which anybody voted.
    pub(crate) fn last_round(&self) -> Round {
        self.votes.keys().next_back().map_or(Round(0), |(round, ..)| *round)
    }

    /// Whether `block` has the prevotes of `quorum` in some round.
    pub(crate) fn has_polka(&self, block: BlockId, quorum: u64) -> bool {
        self.polkas(quorum).any(|(_, id)| id == block)
    }

    /// The block with the prevotes of `quorum` in `round`.
    pub(crate) fn polka_of(&self, round: Round, quorum: u64) -> Option<BlockId> {
        let mut polkas = self.polkas(quorum);
        polkas.find_map(|(at, block)| (at == round).then_some(block))
    }

    /// The latest round in which a block had the prevotes of `quorum`, and the block.
    pub(crate) fn last_polka(&self, quorum: u64) -> Option<(Round, BlockId)> {
        self.polkas(quorum).last()
    }

    /// Whether there is a polka for every block that somebody precommitted in `round`.
    pub(crate) fn knows_every_polka(&self, round: Round, quorum: u64) -> bool {
        let votes = self.votes_of_round(round);
        let mut precommitted = votes
            .filter(|vote| vote.kind == VoteKind::Precommit)
            .filter_map(|vote| vote.block);
        let polka = self.polka_of(round, quorum);
        precommitted.all(|block| polka == Some(block))
    }

    /// Polkas by round.
    fn polkas(&self, quorum: u64) -> impl Iterator<Item = (Round, BlockId)> {
        let tallies = self.power.iter();
        tallies
            .filter(move |((kind, ..), power)| *kind == VoteKind::Prevote && **power >= quorum)
            .map(|((_, round, block), _)| (*round, *block))
    }

    /// Power of those who voted in `round`, with a vote that `counts` takes.
    pub(crate) fn power(
        &self,
        committee: &Committee,
        round: Round,
        kind: VoteKind,
        counts: impl Fn(Option<BlockId>) -> bool,
    ) -> u64 {
        let slots = self.votes.range((round, kind, 0)..=(round, kind, u32::MAX));
        let voters = slots.filter(|(_, slot)| slot.votes().any(|vote| counts(vote.block)));
        let members = voters.filter_map(|((_, _, validator), _)| committee.validators().get(*validator as usize));
        members.map(|member| member.power).sum()
    }

    /// The vote in the book that says the same, perhaps under another signature: ed25519 allows several over one
    /// message, and whoever makes them up must not cost a check each time.
    pub(crate) fn same_vote(&self, index: usize, vote: &SignedVote) -> Option<SignedVote> {
        let mut known = self.slot(index, vote)?.votes();
        known.find(|known| known.block == vote.block).copied()
    }

    /// Enters a vote of the validator at `index` with voting power `power`.
    pub(crate) fn add_vote(&mut self, index: usize, power: u64, vote: &Verified<SignedVote>) -> News {
        let vote = *vote.get();
        let Ok(validator) = u32::try_from(index) else {
            return News::Nothing;
        };
        let news = match self.votes.entry((vote.round, vote.kind, validator)) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(Slot {
                    first: vote,
                    second: None,
                });
                News::First
            }
            std::collections::btree_map::Entry::Occupied(mut occupied) => {
                let slot = occupied.get_mut();
                if slot.first.block == vote.block || slot.second.is_some() {
                    return News::Nothing;
                }
                slot.second = Some(vote);
                News::Conflict(Box::new(Evidence::Votes(slot.first, vote)))
            }
        };
        if let Some(block) = vote.block {
            let sum = self.power.entry((vote.kind, vote.round, block)).or_default();
            *sum = sum.saturating_add(power);
        }
        news
    }

    /// The block that `quorum` has precommitted in one round.
    pub(crate) fn committed(&self, quorum: u64) -> Option<(Round, BlockId)> {
        let decided = |(kind, power): (VoteKind, u64)| kind == VoteKind::Precommit && power >= quorum;
        let mut tallies = self.power.iter();
        let tally = tallies.find(|((kind, ..), power)| decided((*kind, **power)));
        tally.map(|((_, round, block), _)| (*round, *block))
    }

    /// The certificate of `block`, of all its precommits of `round` that are known.
    pub(crate) fn certificate(&self, committee: &Committee, round: Round, block: BlockId) -> Certificate {
        Certificate {
            epoch: committee.epoch(),
            height: self.height,
            round,
            block,
            signatures: self.signatures(round, VoteKind::Precommit, block),
        }
    }

    /// All prevotes for `block` in `round` that are known.
    pub(crate) fn polka(&self, round: Round, block: BlockId) -> Polka {
        Polka {
            height: self.height,
            round,
            block,
            signatures: self.signatures(round, VoteKind::Prevote, block),
        }
    }

    fn signatures(&self, round: Round, kind: VoteKind, block: BlockId) -> Vec<CommitteeSignature> {
        let slots = self.votes.range((round, kind, 0)..=(round, kind, u32::MAX));
        let signatures = slots.filter_map(|((_, _, validator), slot)| {
            let vote = slot.votes().find(|vote| vote.block == Some(block))?;
            Some(CommitteeSignature {
                validator: *validator,
                signature: vote.signature,
            })
        });
        signatures.collect()
    }

    /// Indices of those who voted for `block` in any round: they have its body.
    pub(crate) fn voters(&self, block: BlockId) -> Vec<usize> {
        let mut voters: Vec<usize> = self
            .votes
            .iter()
            .filter(|(_, slot)| slot.votes().any(|vote| vote.block == Some(block)))
            .map(|((_, _, validator), _)| *validator as usize)
            .collect();
        voters.sort_unstable();
        voters.dedup();
        voters
    }

    /// Every vote of `round`.
    pub(crate) fn votes_of_round(&self, round: Round) -> impl Iterator<Item = &SignedVote> {
        let slots = self
            .votes
            .range((round, VoteKind::Prevote, 0)..=(round, VoteKind::Precommit, u32::MAX));
        slots.flat_map(|(_, slot)| slot.votes())
    }

    /// The vote of `validator` of the highest round and step.
    pub(crate) fn last_vote_of(&self, validator: ValidatorId) -> Option<&SignedVote> {
        let mut latest_first = self.votes.values().rev().map(|slot| &slot.first);
        latest_first.find(|vote| vote.validator == validator)
    }

    /// The proposal of `validator` of the highest round.
    pub(crate) fn last_proposal_of(&self, validator: ValidatorId) -> Option<&SignedProposal> {
        let latest_first = self.proposals.values().rev().flatten();
        let mut proposals = latest_first.map(|(proposal, _)| proposal.get());
        proposals.find(|proposal| proposal.proposer == validator)
    }

    /// Whether this proposal would be news if its signature verifies.
    pub(crate) fn wants_proposal(&self, proposal: &SignedProposal) -> bool {
        let known = self.proposals.get(&proposal.round).map_or(&[][..], Vec::as_slice);
        known.len() < PROPOSALS_PER_ROUND_MAX && !known.iter().any(|(known, _)| same_proposal(known.get(), proposal))
    }

    /// Enters a proposal.
    pub(crate) fn add_proposal(&mut self, proposal: Verified<SignedProposal>, state: ProposalState) -> News {
        if !self.wants_proposal(proposal.get()) {
            return News::Nothing;
        }
        let known = self.proposals.entry(proposal.get().round).or_default();
        let first = known.first().map(|(first, _)| *first.get());
        known.push((proposal, state));
        first.map_or(News::First, |first| {
            News::Conflict(Box::new(Evidence::Proposals(first, *proposal.get())))
        })
    }

    /// Proposals up to `round` that wait for a verdict about their block.
    pub(crate) fn waiting_proposals(&self, round: Round) -> Vec<Verified<SignedProposal>> {
        let proposals = self.proposals.range(..=round).flat_map(|(_, proposals)| proposals);
        let waiting = proposals.filter(|(_, state)| *state == ProposalState::Waiting);
        waiting.map(|(proposal, _)| *proposal).collect()
    }

    /// Marks a proposal as done with.
    pub(crate) fn settle(&mut self, proposal: &SignedProposal) {
        for (known, state) in self.proposals.entry(proposal.round).or_default() {
            if same_proposal(known.get(), proposal) {
                *state = ProposalState::Settled;
            }
        }
    }

    /// The proposals of `round`.
    pub(crate) fn proposals_of_round(&self, round: Round) -> Vec<SignedProposal> {
        let proposals = self.proposals.get(&round).into_iter().flatten();
        proposals.map(|(proposal, _)| *proposal.get()).collect()
    }

    /// Most proposals of one round.
    pub(crate) fn proposals_of_round_most(&self) -> usize {
        self.proposals.values().map(Vec::len).max().unwrap_or(0)
    }

    /// The proposal that `proposer` made in `round`.
    pub(crate) fn proposal_by(&self, proposer: ValidatorId, round: Round) -> Option<&SignedProposal> {
        let proposals = self.proposals.get(&round)?.iter().map(|(proposal, _)| proposal.get());
        proposals.into_iter().find(|proposal| proposal.proposer == proposer)
    }

    /// The latest round in which `block` was proposed.
    pub(crate) fn last_proposed(&self, block: BlockId) -> Option<Round> {
        let of_block = |proposals: &Vec<(Verified<SignedProposal>, ProposalState)>| {
            proposals.iter().any(|(proposal, _)| proposal.get().block == block)
        };
        self.proposals
            .iter()
            .rev()
            .find(|(_, proposals)| of_block(proposals))
            .map(|(round, _)| *round)
    }

    fn slot(&self, index: usize, vote: &SignedVote) -> Option<&Slot> {
        let validator = u32::try_from(index).ok()?;
        self.votes.get(&(vote.round, vote.kind, validator))
    }
}

/// The same proposal, whatever the signature: ed25519 allows several over one message.
fn same_proposal(left: &SignedProposal, right: &SignedProposal) -> bool {
    let content = |proposal: &SignedProposal| (proposal.round, proposal.valid_round, proposal.block, proposal.proposer);
    content(left) == content(right)
}
