//! The L1 of a devnet: in this process, an anvil, or somebody else's; and the network's contracts on it.
//!
//! Promises that whatever is started here ends with the devnet. An L1 of our own begins anew at every start, so that a
//! network which is resumed has lost it: it orders on and does not settle. Leaves to others: what nodes do with an L1.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use alloy_eips::BlockNumberOrTag;
use alloy_primitives::{Address, B256, U256};
use fusion_evm::{L1Server, ServeConfig, params, serve};
use fusion_settlement::deploy::{Deployed, Deployment, deploy, fund};
use fusion_settlement::l1::{Endpoint, EndpointLimits, L1Key, Password};
use fusion_types::limits::{FORCED_BYTES_MAX, FORCED_PER_BLOCK_MAX, SETTLED_BLOCK_BYTES_MAX};
use fusion_types::{L1Origin, SettlementConfig};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::exit::{Exit, ExitError};

/// Blocks that `safe` and `finalized` are behind on an L1 of our own: real ones take 32 and 64, and people wait.
const SAFE_DISTANCE: u64 = 4;
const FINALIZED_DISTANCE: u64 = 8;

/// Seconds between blocks of an L1 of our own.
const BLOCK_TIME_S: u64 = 1;

/// While contracts are deployed, an L1 of our own makes blocks this often.
const HURRY: Duration = Duration::from_millis(50);

/// An anvil that says nothing for so long does not start.
const ANVIL_START_MAX: Duration = Duration::from_secs(10);

/// A batch of a devnet is posted five seconds after its first transaction, and without any every five minutes.
const BATCH_AGE_MS: u64 = 5_000;
const BATCH_IDLE_MS: u64 = 300_000;

/// Wei that a poster's account begins with: a hundred ether where they are made up, a tenth where they are not.
const MADE_UP_WEI: u128 = 100 * 1_000_000_000_000_000_000;
const REAL_WEI: u128 = 100_000_000_000_000_000;

/// The file in a devnet's home that says which L1 it settles on.
const FILE: &str = "l1.json";

/// Which L1 a devnet settles on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum L1Choice {
    /// In this process.
    Embedded,
    /// An anvil that is found.
    Anvil,
    /// Somebody else's.
    Url(String),
    /// None: the network only orders.
    None,
}

impl FromStr for L1Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "anvil" => Ok(Self::Anvil),
            "none" => Ok(Self::None),
            url if url.starts_with("http://") || url.starts_with("https://") => Ok(Self::Url(url.to_owned())),
            _ => Err("must be embedded, anvil, none, or an http:// or https:// address".to_owned()),
        }
    }
}

/// An L1 that a devnet settles on. Dropped, one of our own ends.
pub(super) struct L1 {
    pub(super) url: String,
    endpoint: Endpoint,
    owner: L1Key,
    poster_wei: u128,
    running: Running,
}

enum Running {
    Embedded(L1Server),
    Anvil { _process: Child },
    Elsewhere,
}

/// What a devnet keeps about its L1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct L1Json {
    /// Its JSON-RPC.
    pub(super) url: String,
    /// Whether it ended with the devnet that made it.
    pub(super) is_ours: bool,
    /// EIP-155 id.
    pub(super) chain_id: u64,
    /// BatchInbox.
    pub(super) inbox: Address,
    /// The block with it.
    pub(super) inbox_block: u64,
    /// CommitteeRegistry.
    pub(super) registry: Address,
    /// Evidence.
    pub(super) evidence: Address,
}

impl L1Json {
    /// What the devnet in `home` keeps; nothing if it does not settle.
    pub(super) fn load(home: &Path) -> Result<Option<Self>, ExitError> {
        let path = home.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(|error| ExitError::io("read", &path, &error))?;
        let json = serde_json::from_str(&text);
        json.map(Some)
            .map_err(|error| ExitError::config(format_args!("{}: {error}", path.display())))
    }

    pub(super) fn save(&self, home: &Path) -> Result<(), ExitError> {
        let path = home.join(FILE);
        let text = serde_json::to_string_pretty(self).map_err(ExitError::internal)?;
        std::fs::write(&path, text + "\n").map_err(|error| ExitError::io("write", &path, &error))
    }
}

fn unavailable(error: impl std::fmt::Display) -> ExitError {
    ExitError::new(Exit::Unavailable, format_args!("--l1: {error}"))
}

impl L1 {
    /// Starts or finds it; `key` pays on somebody else's.
    pub(super) async fn start(choice: &L1Choice, key: Option<&Path>) -> Result<Option<Self>, ExitError> {
        let (url, running) = match choice {
            L1Choice::None => return Ok(None),
            L1Choice::Embedded => {
                let mut config = ServeConfig::dev();
                config.l1.block_time = BLOCK_TIME_S;
                (config.l1.safe_distance, config.l1.finalized_distance) = (SAFE_DISTANCE, FINALIZED_DISTANCE);
                let server = serve(config).await.map_err(unavailable)?;
                (server.url(), Running::Embedded(server))
            }
            L1Choice::Anvil => start_anvil().await?,
            L1Choice::Url(url) => (url.clone(), Running::Elsewhere),
        };
        let owner = match (key, &running) {
            (Some(path), _) => L1Key::read(path, &Password::None)
                .map_err(|error| ExitError::config(format_args!("--l1-key: {error}")))?,
            (None, Running::Elsewhere) => {
                return Err(ExitError::new(
                    Exit::Usage,
                    "--l1 with an address needs --l1-key: a file with the key of an account that pays for the contracts",
                ));
            }
            (None, _) => dev_key()?,
        };
        let poster_wei = match running {
            Running::Elsewhere => REAL_WEI,
            _ => MADE_UP_WEI,
        };
        Ok(Some(Self {
            endpoint: Endpoint::new(&url, EndpointLimits::default()).map_err(unavailable)?,
            url,
            owner,
            poster_wei,
            running,
        }))
    }

    /// Rules for a network that begins to settle here now.
    pub(super) async fn rules(&self) -> Result<SettlementConfig, ExitError> {
        let chain_id = self.endpoint.chain_id().await.map_err(unavailable)?;
        let block = self
            .endpoint
            .block(BlockNumberOrTag::Finalized)
            .await
            .map_err(unavailable)?;
        let block = block.ok_or_else(|| unavailable("it has no finalized block"))?;
        Ok(SettlementConfig {
            l1_chain_id: chain_id,
            l1_start: L1Origin {
                number: block.number,
                hash: block.hash,
            },
            forced_per_block: FORCED_PER_BLOCK_MAX,
            forced_bytes_max: FORCED_BYTES_MAX,
            block_bytes_max: SETTLED_BLOCK_BYTES_MAX as u64,
            batch_bytes: SETTLED_BLOCK_BYTES_MAX as u64,
            batch_age_ms: BATCH_AGE_MS,
            batch_idle_ms: BATCH_IDLE_MS,
        })
    }

    /// Deploys the contracts and fills the posters' accounts.
    pub(super) async fn found(&self, deployment: &Deployment, posters: &[Address]) -> Result<L1Json, ExitError> {
        let mut told = |_: usize, _: usize| {};
        let work = async {
            let deployed = deploy(&self.endpoint, &self.owner, deployment, &mut told).await?;
            fund(&self.endpoint, &self.owner, posters, U256::from(self.poster_wei)).await?;
            Ok::<_, fusion_settlement::deploy::DeployError>(deployed)
        };
        let deployed = tokio::select! {
            deployed = work => deployed.map_err(unavailable)?,
            () = self.hurry() => unreachable!("it hurries for as long as it is asked to"),
        };
        Ok(self.json(&deployed))
    }

    /// Makes blocks of an L1 of our own faster than it would by itself.
    async fn hurry(&self) {
        loop {
            tokio::time::sleep(HURRY).await;
            if let Running::Embedded(server) = &self.running {
                // A busy L1 makes the next block a moment later.
                drop(server.owner().ask(|l1, now| l1.mine(now)).await);
            }
        }
    }

    fn json(&self, deployed: &Deployed) -> L1Json {
        L1Json {
            url: self.url.clone(),
            is_ours: !matches!(self.running, Running::Elsewhere),
            chain_id: deployed.chain_id,
            inbox: deployed.inbox,
            inbox_block: deployed.inbox_block,
            registry: deployed.registry,
            evidence: deployed.evidence,
        }
    }
}

/// The first of the accounts that every developers' chain fills.
fn dev_key() -> Result<L1Key, ExitError> {
    let secret: B256 = params::DEV_ACCOUNTS[0].1.parse().map_err(ExitError::internal)?;
    L1Key::from_secret(&secret).ok_or_else(|| ExitError::internal("the developers' key is no key"))
}

async fn start_anvil() -> Result<(String, Running), ExitError> {
    let path = find_anvil().ok_or_else(|| {
        unavailable("anvil was found neither at $FUSION_ANVIL, nor in node_modules, nor on PATH; `npm i @foundry-rs/anvil` brings it")
    })?;
    let mut process = Command::new(&path)
        .args(["--port", "0", "--block-time", &BLOCK_TIME_S.to_string()])
        .args(["--slots-in-an-epoch", &SAFE_DISTANCE.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| ExitError::io("start", &path, &error))?;
    let out = process
        .stdout
        .take()
        .ok_or_else(|| unavailable("anvil has no output"))?;
    let mut lines = BufReader::new(out).lines();
    let listening = async {
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(address) = line.strip_prefix("Listening on ") {
                return Some(format!("http://{address}"));
            }
        }
        None
    };
    let url = tokio::time::timeout(ANVIL_START_MAX, listening).await.ok().flatten();
    let url = url.ok_or_else(|| unavailable(format_args!("{} does not say where it listens", path.display())))?;
    // It writes a line for each request: somebody has to take them.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((url, Running::Anvil { _process: process }))
}

fn find_anvil() -> Option<PathBuf> {
    let package = "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil";
    let mut places: Vec<PathBuf> = std::env::var_os("FUSION_ANVIL")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    places.extend([package.into(), Path::new("settlement/contracts/target").join(package)]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    places.extend(std::env::split_paths(&path).map(|folder| folder.join("anvil")));
    places.into_iter().find(|place| place.is_file())
}
