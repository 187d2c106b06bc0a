//! Committees and the genesis as JSON.

use fusion_types::{
    Committee, Epoch, Genesis, L1Origin, Ordering, RollupConfig, RollupId, RollupKind, SettlementConfig, Validator,
    ValidatorId,
};
use serde::{Deserialize, Serialize};

use super::{Hash, JsonError, L1OriginJson, agree, number};

/// [`Validator`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValidatorJson {
    /// Consensus key.
    pub id: Hash,
    /// Network key.
    pub peer: Hash,
    /// Voting power.
    pub power: u64,
}

/// [`Committee`], with what follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommitteeJson {
    /// The epoch that it governs.
    pub epoch: u64,
    /// What headers commit to; must be the committee's hash.
    pub hash: Hash,
    /// Sum of all power; must be so.
    pub total_power: u64,
    /// Power that decides; must be so.
    pub quorum: u64,
    /// Ascending by id.
    pub validators: Vec<ValidatorJson>,
}

impl From<&Committee> for CommitteeJson {
    fn from(committee: &Committee) -> Self {
        let validators = committee.validators().iter().map(|validator| ValidatorJson {
            id: Hash(validator.id.0),
            peer: Hash(validator.peer),
            power: validator.power,
        });
        Self {
            epoch: committee.epoch().0,
            hash: Hash(committee.hash()),
            total_power: committee.total_power(),
            quorum: committee.quorum(),
            validators: validators.collect(),
        }
    }
}

impl TryFrom<&CommitteeJson> for Committee {
    type Error = JsonError;

    fn try_from(json: &CommitteeJson) -> Result<Self, JsonError> {
        let validators = json.validators.iter().enumerate().map(|(at, validator)| {
            Ok(Validator {
                id: ValidatorId(validator.id.0),
                peer: validator.peer.0,
                power: number(&format!("validators[{at}]."), "power", validator.power)?,
            })
        });
        let validators = validators.collect::<Result<Vec<_>, JsonError>>()?;
        let committee = Self::new(Epoch(number("", "epoch", json.epoch)?), validators)?;
        agree("hash", &json.hash, "the committee's hash", &Hash(committee.hash()))?;
        agree(
            "totalPower",
            &json.total_power,
            "the sum of powers",
            &committee.total_power(),
        )?;
        agree("quorum", &json.quorum, "the power that decides", &committee.quorum())?;
        Ok(committee)
    }
}

/// A validator as `genesis.json` names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GenesisValidatorJson {
    /// Consensus key.
    pub id: Hash,
    /// Network key.
    pub peer: Hash,
    /// Voting power.
    pub power: u64,
    /// `host:port` where its node listens (UDP). No part of the network's id.
    pub address: String,
    /// For people. No part of the network's id.
    #[serde(default)]
    pub name: String,
}

/// [`RollupKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RollupKindJson {
    /// An EIP-2718 signed transaction.
    Evm,
    /// Bytes.
    Opaque,
}

/// [`Ordering`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OrderingJson {
    /// First come, first served.
    Fcfs,
    /// Descending effective tip.
    Priority,
}

/// [`RollupConfig`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RollupJson {
    /// EIP-155 chain id.
    pub id: u64,
    /// What its payloads are.
    pub kind: RollupKindJson,
    /// How its lane is ordered.
    pub ordering: OrderingJson,
    /// Its share of a full block in relation to the others' weights.
    pub weight: u32,
}

impl From<&RollupConfig> for RollupJson {
    fn from(rollup: &RollupConfig) -> Self {
        Self {
            id: rollup.id.0,
            kind: match rollup.kind {
                RollupKind::Evm => RollupKindJson::Evm,
                RollupKind::Opaque => RollupKindJson::Opaque,
            },
            ordering: match rollup.ordering {
                Ordering::Fcfs => OrderingJson::Fcfs,
                Ordering::Priority => OrderingJson::Priority,
            },
            weight: rollup.weight,
        }
    }
}

/// [`SettlementConfig`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SettlementJson {
    /// EIP-155 id of the L1.
    pub l1_chain_id: u64,
    /// L1 origin of height 0: a finalized L1 block, not above the one in which the inbox was deployed.
    pub l1_start: L1OriginJson,
    /// Most forced transactions that one block consumes, up to 32.
    pub forced_per_block: u32,
    /// A forced transaction of more bytes is consumed and not carried; up to 16,384.
    pub forced_bytes_max: u32,
    /// Most bytes of one block's content, up to 640,000: six blobs must hold it.
    pub block_bytes_max: u64,
    /// A batch ends with the block that brings its content to so many bytes, up to 640,000.
    pub batch_bytes: u64,
    /// A batch ends with the first block so many milliseconds after its first block with transactions.
    pub batch_age_ms: u64,
    /// Without transactions it ends with the first block so many milliseconds after its first.
    pub batch_idle_ms: u64,
}

impl From<&SettlementConfig> for SettlementJson {
    fn from(rules: &SettlementConfig) -> Self {
        Self {
            l1_chain_id: rules.l1_chain_id,
            l1_start: L1OriginJson {
                number: rules.l1_start.number,
                hash: Hash(rules.l1_start.hash),
            },
            forced_per_block: rules.forced_per_block,
            forced_bytes_max: rules.forced_bytes_max,
            block_bytes_max: rules.block_bytes_max,
            batch_bytes: rules.batch_bytes,
            batch_age_ms: rules.batch_age_ms,
            batch_idle_ms: rules.batch_idle_ms,
        }
    }
}

impl TryFrom<&SettlementJson> for SettlementConfig {
    type Error = JsonError;

    fn try_from(json: &SettlementJson) -> Result<Self, JsonError> {
        let number = |field, value| number("settlement.", field, value);
        Ok(Self {
            l1_chain_id: number("l1ChainId", json.l1_chain_id)?,
            l1_start: L1Origin {
                number: number("l1Start.number", json.l1_start.number)?,
                hash: json.l1_start.hash.0,
            },
            forced_per_block: json.forced_per_block,
            forced_bytes_max: json.forced_bytes_max,
            block_bytes_max: number("blockBytesMax", json.block_bytes_max)?,
            batch_bytes: number("batchBytes", json.batch_bytes)?,
            batch_age_ms: number("batchAgeMs", json.batch_age_ms)?,
            batch_idle_ms: number("batchIdleMs", json.batch_idle_ms)?,
        })
    }
}

/// [`Genesis`] with the addresses at which the first committee is found: `genesis.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GenesisJson {
    /// The network's name.
    pub name: String,
    /// Unix milliseconds that the first block must exceed.
    pub time_ms: u64,
    /// The committee of epoch 0, in any order.
    pub validators: Vec<GenesisValidatorJson>,
    /// The registered rollups, in any order.
    pub rollups: Vec<RollupJson>,
    /// How the network settles on L1; left out where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settlement: Option<SettlementJson>,
}

impl TryFrom<&GenesisJson> for Genesis {
    type Error = JsonError;

    fn try_from(json: &GenesisJson) -> Result<Self, JsonError> {
        let mut validators = Vec::with_capacity(json.validators.len());
        for (at, validator) in json.validators.iter().enumerate() {
            if !is_address(&validator.address) {
                return Err(JsonError::Address {
                    at,
                    address: validator.address.clone(),
                });
            }
            validators.push(Validator {
                id: ValidatorId(validator.id.0),
                peer: validator.peer.0,
                power: number(&format!("validators[{at}]."), "power", validator.power)?,
            });
        }
        let rollups = json.rollups.iter().enumerate().map(|(at, rollup)| {
            Ok(RollupConfig {
                id: RollupId(number(&format!("rollups[{at}]."), "id", rollup.id)?),
                kind: match rollup.kind {
                    RollupKindJson::Evm => RollupKind::Evm,
                    RollupKindJson::Opaque => RollupKind::Opaque,
                },
                ordering: match rollup.ordering {
                    OrderingJson::Fcfs => Ordering::Fcfs,
                    OrderingJson::Priority => Ordering::Priority,
                },
                weight: rollup.weight,
            })
        });
        let genesis = Self::new(
            json.name.clone(),
            number("", "timeMs", json.time_ms)?,
            Committee::new(Epoch(0), validators)?,
            rollups.collect::<Result<_, JsonError>>()?,
        )?;
        match &json.settlement {
            Some(rules) => Ok(genesis.settling(rules.try_into()?)?),
            None => Ok(genesis),
        }
    }
}

/// `host:port`, where the host is a DNS name, an IPv4 address or an IPv6 address in brackets.
fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    let bare_colon = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    let printable = host.bytes().all(|byte| byte.is_ascii_graphic());
    !host.is_empty() && printable && !bare_colon && port.parse::<u16>().is_ok_and(|port| port != 0)
}
