//! Who decides: validators with voting power, and quorum arithmetic.

use alloy_primitives::{B256, keccak256};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpDecodableWrapper, RlpEncodable, RlpEncodableWrapper};
use ed25519_dalek::VerifyingKey;

use crate::encoding::{decode_bounded, encode, encode_items, items_length};
use crate::limits::{COMMITTEE_MAX, POWER_TOTAL_MAX};

/// A run of heights with one committee.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, RlpEncodableWrapper, RlpDecodableWrapper,
)]
pub struct Epoch(pub u64);

/// A validator, by its ed25519 consensus key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, RlpEncodableWrapper, RlpDecodableWrapper)]
pub struct ValidatorId(pub B256);

impl std::fmt::Display for ValidatorId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One member of a committee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Validator {
    /// Consensus key: votes and proposals verify under it.
    pub id: ValidatorId,
    /// Network key: its QUIC connections authenticate with it. Not the consensus key, which never leaves the signer.
    pub peer: B256,
    /// Voting power, at least 1.
    pub power: u64,
}

/// The validators of one epoch: ascending by id, without repeats, every key a valid curve point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committee {
    epoch: Epoch,
    validators: Vec<Validator>,
    keys: Vec<VerifyingKey>,
    total_power: u64,
    turns: Vec<u32>,
    hash: B256,
}

/// Why validators do not form a committee.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitteeError {
    /// No validator, or more than the protocol allows.
    #[error("a committee has 1 to {COMMITTEE_MAX} validators, not {0}")]
    Size(usize),
    /// Not strictly ascending by id.
    #[error("validator {0} is out of order or repeated")]
    Order(ValidatorId),
    /// A network key used twice.
    #[error("network key {0} is used by two validators")]
    PeerRepeated(B256),
    /// Not a point of the curve, of small order, or not its point's one encoding.
    #[error("validator key {0} is not a usable ed25519 key")]
    Key(ValidatorId),
    /// A validator without power.
    #[error("validator {0} has no voting power")]
    Powerless(ValidatorId),
    /// The sum does not fit the protocol.
    #[error("total voting power exceeds {POWER_TOTAL_MAX}")]
    Power,
}

/// The least power that exceeds two thirds of `total`: what decides.
/// Source: Tendermint (arXiv:1807.04938), lines 36 and 49, with power for counts.
pub const fn quorum_power(total: u64) -> u64 {
    // floor(2 * total / 3) + 1, in a form that no total overflows.
    total - total.div_ceil(3) + 1
}

impl Committee {
    /// A committee of `validators`, in any order.
    ///
    /// # Errors
    /// [`CommitteeError`] when they do not form one.
    pub fn new(epoch: Epoch, mut validators: Vec<Validator>) -> Result<Self, CommitteeError> {
        validators.sort_by_key(|v| v.id);
        Self::from_sorted(epoch, validators)
    }

    fn from_sorted(epoch: Epoch, validators: Vec<Validator>) -> Result<Self, CommitteeError> {
        if validators.is_empty() || validators.len() > COMMITTEE_MAX {
            return Err(CommitteeError::Size(validators.len()));
        }
        if let Some(pair) = validators.windows(2).find(|pair| pair[1].id <= pair[0].id) {
            return Err(CommitteeError::Order(pair[1].id));
        }
        let mut peers: Vec<B256> = validators.iter().map(|v| v.peer).collect();
        peers.sort_unstable();
        if let Some(pair) = peers.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(CommitteeError::PeerRepeated(pair[0]));
        }
        let mut keys = Vec::with_capacity(validators.len());
        let mut total_power = 0_u64;
        for validator in &validators {
            if validator.power == 0 {
                return Err(CommitteeError::Powerless(validator.id));
            }
            total_power = total_power
                .checked_add(validator.power)
                .filter(|total| *total <= POWER_TOTAL_MAX)
                .ok_or(CommitteeError::Power)?;
            let key = VerifyingKey::from_bytes(&validator.id.0.0)
                .ok()
                .filter(|key| !key.is_weak() && key.to_edwards().compress().0 == validator.id.0.0)
                .ok_or(CommitteeError::Key(validator.id))?;
            keys.push(key);
        }
        let turns = crate::rotation::turns(&validators, total_power);
        let mut committee = Self {
            epoch,
            validators,
            keys,
            total_power,
            turns,
            hash: B256::ZERO,
        };
        committee.hash = keccak256(encode(&committee));
        Ok(committee)
    }

    /// The epoch that it governs.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Its validators, ascending by id. A position in this list is a validator's index.
    pub fn validators(&self) -> &[Validator] {
        &self.validators
    }

    /// Sum of all voting power.
    pub fn total_power(&self) -> u64 {
        self.total_power
    }

    /// Voting power that decides: more than two thirds of the total.
    pub fn quorum(&self) -> u64 {
        quorum_power(self.total_power)
    }

    /// Index of a validator.
    pub fn index_of(&self, id: ValidatorId) -> Option<usize> {
        self.validators.binary_search_by_key(&id, |v| v.id).ok()
    }

    /// Index of the validator with this network key.
    pub fn index_of_peer(&self, peer: B256) -> Option<usize> {
        self.validators.iter().position(|v| v.peer == peer)
    }

    /// Verifying key of the validator at `index`.
    pub fn key(&self, index: usize) -> Option<&VerifyingKey> {
        self.keys.get(index)
    }

    /// The proposers' turns, as indices: each validator as often as its power asks, well spread.
    pub(crate) fn turns(&self) -> &[u32] {
        &self.turns
    }

    /// What a header commits to: keccak256 of the committee's encoding.
    pub fn hash(&self) -> B256 {
        self.hash
    }
}

impl Encodable for Committee {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        alloy_rlp::Header {
            list: true,
            payload_length: self.epoch.length() + items_length(&self.validators),
        }
        .encode(out);
        self.epoch.encode(out);
        encode_items(&self.validators, out);
    }

    fn length(&self) -> usize {
        let payload = self.epoch.length() + items_length(&self.validators);
        payload + alloy_rlp::length_of_length(payload)
    }
}

impl Decodable for Committee {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let mut payload = alloy_rlp::Header::decode_bytes(buf, true)?;
        let epoch = Epoch::decode(&mut payload)?;
        let validators = decode_bounded(&mut payload, COMMITTEE_MAX)?;
        if !payload.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength);
        }
        Self::from_sorted(epoch, validators).map_err(|_| alloy_rlp::Error::Custom("not a committee"))
    }
}
