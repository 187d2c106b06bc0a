//! A new devnet's settlement: keys, contracts on its L1, and what each node's configuration says of them.

use std::path::Path;
use std::time::Duration;

use alloy_primitives::{B256, hex};
use fusion_settlement::deploy::{DeployParameters, Deployment, MemberKeys};
use fusion_settlement::guard::GuardFile;
use fusion_settlement::l1::L1Key;
use fusion_types::BatchDomain;

use super::home::Plan;
use super::l1::{L1, L1Json};
use crate::cli::genesis;
use crate::config::{self, Config};
use crate::exit::ExitError;
use crate::keys;
use crate::node::GUARD_FILE;

/// A devnet's L1 makes blocks every second: it is asked twice as often, and backups do not wait for mainnet's slots.
const POLL: Duration = Duration::from_millis(500);
const RANK_DELAY: Duration = Duration::from_secs(6);

/// Deploys the contracts of a network that was just made and tells its nodes.
pub(super) async fn found(plan: &Plan, l1: &L1) -> Result<L1Json, ExitError> {
    let (_, genesis) = genesis::read(&plan.genesis)?;
    let (mut members, mut posters) = (Vec::new(), Vec::new());
    for node in &plan.nodes {
        let config = Config::load(&node.home.join(config::FILE_NAME), &[])?;
        let keys = keys::Keys::load(&config)?;
        let consensus = keys
            .consensus
            .ok_or_else(|| ExitError::internal("a devnet's nodes are validators"))?;
        members.push(MemberKeys {
            attestation: new_key(&config.settlement.attestation_key)?,
            consensus,
            peer: keys.peer,
        });
        posters.push(new_key(&node.home.join(POSTER_KEY))?.address());
    }
    let deployment = Deployment {
        network: genesis.network(),
        members,
        parameters: DeployParameters::devnet(),
    };
    let json = l1.found(&deployment, &posters).await?;
    let domain = BatchDomain {
        chain_id: json.chain_id,
        inbox: json.inbox,
    };
    for node in &plan.nodes {
        let config = tell(&node.home, &json)?;
        let guard = config.storage.guard_dir.join(GUARD_FILE);
        GuardFile::create(&guard, domain.separator(), 0).map_err(ExitError::internal)?;
    }
    json.save(&plan.home)?;
    Ok(json)
}

/// Where a devnet's node has the key of its poster's account.
const POSTER_KEY: &str = "keys/poster.key";

/// Makes a secp256k1 key and its file.
fn new_key(path: &Path) -> Result<L1Key, ExitError> {
    loop {
        let secret = B256::from(keys::generate()?.to_bytes());
        // Almost every number below 2^256 is a key.
        if let Some(key) = L1Key::from_secret(&secret) {
            keys::write_new(path, format!("0x{}\n", hex::encode(secret)).as_bytes(), 0o600)?;
            return Ok(key);
        }
    }
}

/// Writes what a node has to know into its configuration; returns it as the node reads it.
fn tell(home: &Path, json: &L1Json) -> Result<Config, ExitError> {
    let path = home.join(config::FILE_NAME);
    let text = std::fs::read_to_string(&path).map_err(|error| ExitError::io("read", &path, &error))?;
    let config = Config::parse(&text, &path.display().to_string(), &[]);
    let mut config = config.map_err(|problems| ExitError::config(problems.join("\n")))?;
    let settlement = &mut config.settlement;
    settlement.l1 = vec![json.url.clone()];
    settlement.inbox = json.inbox.to_string();
    settlement.inbox_block = usize::try_from(json.inbox_block).map_err(ExitError::internal)?;
    settlement.poster_key = Some(POSTER_KEY.into());
    settlement.poll = POLL;
    settlement.rank_delay = RANK_DELAY;
    std::fs::write(&path, config::documented(&config)).map_err(|error| ExitError::io("write", &path, &error))?;
    Config::load(&path, &[])
}
