//! Malachite's `Context` over Fusion's types, and the timeouts of the rounds.
//!
//! The value that consensus runs on is a block's id; validators are their consensus keys; the proposers' order
//! of a height is part of its validator set, so that proposer selection is a function of the set and the round.
//! Malachite's traits cannot be implemented for foreign types, hence the newtypes.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B512;
use arc_malachitebft_core_types as core;
use core::{NilOrVal, SignedExtension, TimeoutKind, VoteType};
use ed25519_dalek::{SigningKey, VerifyingKey};
use fusion_types::{BlockId, Committee, Height, Rotation, Round, ValidatorId};

pub(crate) mod convert;

/// How long a node waits in each step before it goes on without the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a proposal, in round 0.
    pub propose: Duration,
    /// Added to `propose` with each round.
    pub propose_delta: Duration,
    /// For prevotes to agree, after two thirds have prevoted, in round 0.
    pub prevote: Duration,
    /// Added to `prevote` with each round.
    pub prevote_delta: Duration,
    /// For precommits to agree, after two thirds have precommitted, in round 0.
    pub precommit: Duration,
    /// Added to `precommit` with each round.
    pub precommit_delta: Duration,
    /// Between two repetitions of this node's last messages. Does not grow: catching up after a partition waits for
    /// it.
    pub rebroadcast: Duration,
    /// No timeout is longer.
    pub max: Duration,
}

impl Default for Timeouts {
    /// Twice a slow WAN round trip for a proposal, one for votes; a cycle of round 0 is one second.
    fn default() -> Self {
        Self {
            propose: Duration::from_millis(500),
            propose_delta: Duration::from_millis(100),
            prevote: Duration::from_millis(250),
            prevote_delta: Duration::from_millis(50),
            precommit: Duration::from_millis(250),
            precommit_delta: Duration::from_millis(50),
            rebroadcast: Duration::from_millis(500),
            max: Duration::from_secs(10),
        }
    }
}

impl core::Timeouts<Ctx> for Timeouts {
    fn duration_for(&self, timeout: core::Timeout) -> Duration {
        let round = timeout.round.as_u32().unwrap_or(0);
        let (base, delta) = match timeout.kind {
            TimeoutKind::Propose => (self.propose, self.propose_delta),
            TimeoutKind::Prevote => (self.prevote, self.prevote_delta),
            TimeoutKind::Precommit => (self.precommit, self.precommit_delta),
            TimeoutKind::Rebroadcast => (self.rebroadcast, Duration::ZERO),
            TimeoutKind::FinalizeHeight(duration) => (duration, Duration::ZERO),
        };
        base.saturating_add(delta.saturating_mul(round)).min(self.max)
    }
}

/// The instantiation of Malachite's types. Holds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ctx;

pub(crate) type CoreSignedVote = core::SignedVote<Ctx>;
pub(crate) type CoreSignedProposal = core::SignedProposal<Ctx>;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CoreHeight(pub(crate) Height);

impl std::fmt::Display for CoreHeight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl core::Height for CoreHeight {
    const ZERO: Self = Self(Height(0));
    const INITIAL: Self = Self(Height(1));

    fn increment_by(&self, n: u64) -> Self {
        Self(Height(self.0.0.saturating_add(n)))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.0.checked_sub(n).map(|height| Self(Height(height)))
    }

    fn as_u64(&self) -> u64 {
        self.0.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address(pub(crate) ValidatorId);

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl core::Address for Address {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Value(pub(crate) BlockId);

impl core::Value for Value {
    type Id = BlockId;

    fn id(&self) -> BlockId {
        self.0
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    address: Address,
    key: VerifyingKey,
    power: u64,
}

impl core::Validator<Ctx> for Member {
    fn address(&self) -> &Address {
        &self.address
    }

    fn public_key(&self) -> &VerifyingKey {
        &self.key
    }

    fn voting_power(&self) -> u64 {
        self.power
    }
}

/// The committee of one height with the order in which its members propose. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Members {
    members: Arc<[Member]>,
    order: Arc<[usize]>,
    total_power: u64,
}

impl Members {
    pub(crate) fn new(committee: &Committee, height: Height, rotation: &Rotation) -> Self {
        let members = committee
            .validators()
            .iter()
            .enumerate()
            .map(|(index, validator)| Member {
                address: Address(validator.id),
                key: *committee.key(index).expect("a committee has a key for each validator"),
                power: validator.power,
            });
        Self {
            members: members.collect(),
            order: rotation.order(committee, height).into(),
            total_power: committee.total_power(),
        }
    }

    /// The same committee at another height.
    pub(crate) fn turn(&mut self, committee: &Committee, height: Height, rotation: &Rotation) {
        self.order = rotation.order(committee, height).into();
    }

    /// Index of the proposer of `round`.
    pub(crate) fn proposer(&self, round: Round) -> usize {
        self.order[round.0 as usize % self.order.len()]
    }

    /// Index of a validator.
    pub(crate) fn index_of(&self, address: Address) -> Option<usize> {
        self.members
            .binary_search_by_key(&address, |member| member.address)
            .ok()
    }

    /// Id of the validator at `index`.
    pub(crate) fn id(&self, index: usize) -> Option<ValidatorId> {
        self.members.get(index).map(|member| member.address.0)
    }

    /// The first round in which the validator at `index` proposes.
    pub(crate) fn first_round(&self, index: usize) -> Option<Round> {
        let position = self.order.iter().position(|scheduled| *scheduled == index)?;
        u32::try_from(position).ok().map(Round)
    }

    /// Whether the validator at `index` is scheduled in any round up to `round`.
    pub(crate) fn proposes_until(&self, index: usize, round: Round) -> bool {
        self.order
            .iter()
            .take(round.0 as usize + 1)
            .any(|scheduled| *scheduled == index)
    }
}

impl core::ValidatorSet<Ctx> for Members {
    fn count(&self) -> usize {
        self.members.len()
    }

    fn total_voting_power(&self) -> u64 {
        self.total_power
    }

    fn get_by_address(&self, address: &Address) -> Option<&Member> {
        self.index_of(*address).and_then(|index| self.members.get(index))
    }

    fn get_by_index(&self, index: usize) -> Option<&Member> {
        self.members.get(index)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CoreVote {
    height: CoreHeight,
    round: core::Round,
    kind: VoteType,
    value: NilOrVal<BlockId>,
    validator: Address,
}

impl core::Vote<Ctx> for CoreVote {
    fn height(&self) -> CoreHeight {
        self.height
    }

    fn round(&self) -> core::Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<BlockId> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<BlockId> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Address {
        &self.validator
    }

    fn extension(&self) -> Option<&SignedExtension<Ctx>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Ctx>> {
        None
    }

    fn extend(self, _extension: SignedExtension<Ctx>) -> Self {
        self
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CoreProposal {
    height: CoreHeight,
    round: core::Round,
    value: Value,
    pol_round: core::Round,
    proposer: Address,
}

impl core::Proposal<Ctx> for CoreProposal {
    fn height(&self) -> CoreHeight {
        self.height
    }

    fn round(&self) -> core::Round {
        self.round
    }

    fn value(&self) -> &Value {
        &self.value
    }

    fn take_value(self) -> Value {
        self.value
    }

    fn pol_round(&self) -> core::Round {
        self.pol_round
    }

    fn validator_address(&self) -> &Address {
        &self.proposer
    }
}

/// Bodies are Fusion's own business: Malachite never sees a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoPart;

impl core::ProposalPart<Ctx> for NoPart {
    fn is_first(&self) -> bool {
        true
    }

    fn is_last(&self) -> bool {
        true
    }
}

/// ed25519. Signing and verifying happen in `signing`; Malachite only carries the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ed25519;

impl core::SigningScheme for Ed25519 {
    type DecodingError = &'static str;
    type Signature = B512;
    type PublicKey = VerifyingKey;
    type PrivateKey = SigningKey;

    fn decode_signature(bytes: &[u8]) -> Result<B512, &'static str> {
        B512::try_from(bytes).map_err(|_| "a signature has 64 bytes")
    }

    fn encode_signature(signature: &B512) -> Vec<u8> {
        signature.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<VerifyingKey, &'static str> {
        VerifyingKey::try_from(bytes).map_err(|_| "not an ed25519 key")
    }

    fn encode_public_key(key: &VerifyingKey) -> Vec<u8> {
        key.to_bytes().to_vec()
    }
}

impl core::Context for Ctx {
    type Address = Address;
    type Height = CoreHeight;
    type ProposalPart = NoPart;
    type Proposal = CoreProposal;
    type Validator = Member;
    type ValidatorSet = Members;
    type Timeouts = Timeouts;
    type Value = Value;
    type Vote = CoreVote;
    type Extension = ();
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(&self, members: &'a Members, _height: CoreHeight, round: core::Round) -> &'a Member {
        &members.members[members.proposer(Round(round.as_u32().unwrap_or(0)))]
    }

    fn new_proposal(
        &self,
        height: CoreHeight,
        round: core::Round,
        value: Value,
        pol_round: core::Round,
        proposer: Address,
    ) -> CoreProposal {
        CoreProposal {
            height,
            round,
            value,
            pol_round,
            proposer,
        }
    }

    fn new_prevote(
        &self,
        height: CoreHeight,
        round: core::Round,
        value: NilOrVal<BlockId>,
        validator: Address,
    ) -> CoreVote {
        CoreVote {
            height,
            round,
            kind: VoteType::Prevote,
            value,
            validator,
        }
    }

    fn new_precommit(
        &self,
        height: CoreHeight,
        round: core::Round,
        value: NilOrVal<BlockId>,
        validator: Address,
    ) -> CoreVote {
        CoreVote {
            height,
            round,
            kind: VoteType::Precommit,
            value,
            validator,
        }
    }
}
