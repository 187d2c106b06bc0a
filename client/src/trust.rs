//! What a verifier believes before it has seen anything: a network and its committee.

use fusion_types::{Committee, Genesis, NetworkId, RollupId};

use crate::json::{GenesisJson, JsonError, from_str};

/// The root of trust. Everything else is proved from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The network: every signature and every header binds it.
    pub network: NetworkId,
    /// Who decides.
    pub committee: Committee,
    /// The rollups that are registered, ascending.
    pub rollups: Vec<RollupId>,
}

impl Trust {
    /// Trust in a genesis and in the committee that it names.
    pub fn of(genesis: &Genesis) -> Self {
        Self {
            network: genesis.network(),
            committee: genesis.committee().clone(),
            rollups: genesis.rollups().iter().map(|rollup| rollup.id).collect(),
        }
    }

    /// Trust in the text of a `genesis.json`.
    ///
    /// # Errors
    /// [`JsonError`] names the field that is wrong.
    pub fn from_genesis_json(text: &str) -> Result<Self, JsonError> {
        let json: GenesisJson = from_str(text)?;
        Ok(Self::of(&Genesis::try_from(&json)?))
    }
}
