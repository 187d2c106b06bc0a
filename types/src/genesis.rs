//! What all nodes of a network agree on before the first block. Its hash names the network.

use alloy_primitives::{B256, keccak256};
use alloy_rlp::{Decodable, Encodable};

use crate::block::{Block, BlockId, Header, Height, L1Origin, NetworkId, initial_head};
use crate::committee::{Committee, Epoch, ValidatorId};
use crate::encoding::{decode_bounded, encode, encode_items, items_length};
use crate::limits::{NETWORK_NAME_BYTES_MAX, ROLLUPS_MAX};
use crate::merkle::merkle_root;
use crate::rotation::Rotation;
use crate::settlement::{SettlementConfig, SettlementError};
use crate::state::{State, StreamHead};
use crate::transaction::{Ordering, RollupConfig, RollupId, RollupKind};

/// The genesis of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    name: String,
    time_ms: u64,
    committee: Committee,
    rollups: Vec<RollupConfig>,
    settlement: Option<SettlementConfig>,
}

/// Why parts do not form a genesis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// The name is empty, too long or not printable.
    #[error(
        "network name has {0} bytes; it must have 1 to {NETWORK_NAME_BYTES_MAX} of letters, digits, '-', '_' and '.'"
    )]
    Name(usize),
    /// The committee is not that of epoch 0.
    #[error("the genesis committee is of epoch {}, not 0", .0.0)]
    Epoch(Epoch),
    /// Too many rollups.
    #[error("{0} rollups, limit is {ROLLUPS_MAX}")]
    Rollups(usize),
    /// Not strictly ascending by id.
    #[error("rollup {0} is out of order or repeated")]
    RollupOrder(RollupId),
    /// Id 0 is no chain id.
    #[error("a rollup has chain id 0")]
    RollupZero,
    /// A share of nothing.
    #[error("rollup {0} has weight 0; at least 1 is needed")]
    Weight(RollupId),
    /// Only `evm` payloads have a tip to order by.
    #[error("rollup {0} is opaque and cannot be ordered by priority")]
    Ordering(RollupId),
    /// Rules of settlement that cannot be kept.
    #[error(transparent)]
    Settlement(#[from] SettlementError),
}

impl Genesis {
    /// A genesis of these parts; rollups in any order.
    ///
    /// # Errors
    /// [`GenesisError`] naming the part that is wrong.
    pub fn new(
        name: String,
        time_ms: u64,
        committee: Committee,
        mut rollups: Vec<RollupConfig>,
    ) -> Result<Self, GenesisError> {
        rollups.sort_by_key(|rollup| rollup.id);
        Self::from_sorted(name, time_ms, committee, rollups)
    }

    fn from_sorted(
        name: String,
        time_ms: u64,
        committee: Committee,
        rollups: Vec<RollupConfig>,
    ) -> Result<Self, GenesisError> {
        let printable = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if name.is_empty() || name.len() > NETWORK_NAME_BYTES_MAX || !printable {
            return Err(GenesisError::Name(name.len()));
        }
        if committee.epoch() != Epoch(0) {
            return Err(GenesisError::Epoch(committee.epoch()));
        }
        if rollups.len() > ROLLUPS_MAX {
            return Err(GenesisError::Rollups(rollups.len()));
        }
        if let Some(pair) = rollups.windows(2).find(|pair| pair[1].id <= pair[0].id) {
            return Err(GenesisError::RollupOrder(pair[1].id));
        }
        for rollup in &rollups {
            if rollup.id.0 == 0 {
                return Err(GenesisError::RollupZero);
            }
            if rollup.weight == 0 {
                return Err(GenesisError::Weight(rollup.id));
            }
            if rollup.ordering == Ordering::Priority && rollup.kind == RollupKind::Opaque {
                return Err(GenesisError::Ordering(rollup.id));
            }
        }
        Ok(Self {
            name,
            time_ms,
            committee,
            rollups,
            settlement: None,
        })
    }

    /// The genesis of the network that settles by these rules and is this one in all else.
    ///
    /// # Errors
    /// [`GenesisError::Settlement`] when the rules cannot be kept.
    pub fn settling(self, rules: SettlementConfig) -> Result<Self, GenesisError> {
        rules.verify()?;
        Ok(Self {
            settlement: Some(rules),
            ..self
        })
    }

    /// The network's name, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Unix time in milliseconds that the first block must exceed.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// The committee of epoch 0: where trust starts.
    pub fn committee(&self) -> &Committee {
        &self.committee
    }

    /// The registered rollups, ascending by id.
    pub fn rollups(&self) -> &[RollupConfig] {
        &self.rollups
    }

    /// The rollup with this id.
    pub fn rollup(&self, id: RollupId) -> Option<&RollupConfig> {
        self.rollups
            .binary_search_by_key(&id, |rollup| rollup.id)
            .ok()
            .map(|index| &self.rollups[index])
    }

    /// How the network settles on L1, if it does.
    pub fn settlement(&self) -> Option<&SettlementConfig> {
        self.settlement.as_ref()
    }

    /// L1 origin of height 0. Zero where nothing settles.
    fn l1_start(&self) -> L1Origin {
        self.settlement.map_or_else(L1Origin::default, |rules| rules.l1_start)
    }

    /// keccak256 of the encoding: the network's id.
    pub fn network(&self) -> NetworkId {
        NetworkId(keccak256(encode(self)))
    }

    /// The block at height 0. Nobody signs it: it follows from the genesis.
    pub fn block(&self) -> Block {
        let committee = self.committee.hash();
        let header = Header {
            network: self.network(),
            height: Height(0),
            parent: BlockId(B256::ZERO),
            epoch: Epoch(0),
            committee,
            proposer: ValidatorId(B256::ZERO),
            time_ms: self.time_ms,
            l1_origin: self.l1_start(),
            lanes_root: merkle_root(&[]),
            state_root: B256::ZERO,
            forced_to: None,
        };
        Block {
            header,
            lanes: Vec::new(),
        }
    }

    /// The replicated state after the block at height 0.
    pub fn state(&self) -> State {
        let network = self.network();
        let committee = self.committee.hash();
        let streams = self.rollups.iter().map(|rollup| {
            (
                rollup.id,
                StreamHead {
                    next_sequence: 0,
                    head: initial_head(network, rollup.id),
                },
            )
        });
        State {
            height: Height(0),
            block: self.block().id(),
            time_ms: self.time_ms,
            l1_origin: self.l1_start(),
            streams: streams.collect(),
            forced_cursor: 0,
            forced_taken: 0,
            rotation: Rotation::default(),
            committee,
            next_committee: committee,
        }
    }
}

impl Genesis {
    fn payload_length(&self) -> usize {
        let settlement = self.settlement.as_ref().map_or(0, Encodable::length);
        self.name.length() + self.time_ms.length() + self.committee.length() + items_length(&self.rollups) + settlement
    }
}

impl Encodable for Genesis {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        alloy_rlp::Header {
            list: true,
            payload_length: self.payload_length(),
        }
        .encode(out);
        self.name.encode(out);
        self.time_ms.encode(out);
        self.committee.encode(out);
        encode_items(&self.rollups, out);
        // Left out where there is none: the encoding of a network from before there was settlement.
        if let Some(rules) = &self.settlement {
            rules.encode(out);
        }
    }

    fn length(&self) -> usize {
        self.payload_length() + alloy_rlp::length_of_length(self.payload_length())
    }
}

impl Decodable for Genesis {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let mut payload = alloy_rlp::Header::decode_bytes(buf, true)?;
        let name = String::decode(&mut payload)?;
        let time_ms = u64::decode(&mut payload)?;
        let committee = Committee::decode(&mut payload)?;
        let rollups = decode_bounded(&mut payload, ROLLUPS_MAX)?;
        let rules = (!payload.is_empty()).then(|| SettlementConfig::decode(&mut payload));
        let rules = rules.transpose()?;
        if !payload.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength);
        }
        let genesis = Self::from_sorted(name, time_ms, committee, rollups);
        let genesis = match rules {
            Some(rules) => genesis.and_then(|genesis| genesis.settling(rules)),
            None => genesis,
        };
        genesis.map_err(|_| alloy_rlp::Error::Custom("not a genesis"))
    }
}
