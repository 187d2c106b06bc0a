//! The two chains, and how a scenario is run on each.

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alloy_network::EthereumWallet;
use alloy_primitives::Bytes;
use alloy_provider::{DynProvider, Provider, ProviderBuilder, RootProvider};
use alloy_rpc_types_eth::TransactionReceipt;
use alloy_signer_local::PrivateKeySigner;
use fusion_evm::{L1Server, ServeConfig, params, serve};
use serde_json::Value;

/// Blocks that `safe` and `finalized` are behind on both chains: an epoch of two slots, and two of them.
pub(crate) const SAFE_DISTANCE: u64 = 2;
pub(crate) const FINALIZED_DISTANCE: u64 = 4;

/// A chain with the developer accounts, chain id 1337, blocks of 60 Mgas that come at once.
pub(crate) struct Node {
    pub(crate) url: String,
    /// Whether it refuses what real nodes refuse.
    pub(crate) is_strict: bool,
    pub(crate) provider: RootProvider,
    _running: Running,
}

enum Running {
    Embedded { _server: L1Server },
    Anvil(Child),
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Self::Anvil(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a scenario on the embedded L1, and on anvil if there is one.
pub(crate) async fn on_each<F: Future<Output = ()>>(scenario: impl Fn(Node) -> F) {
    scenario(embedded().await).await;
    match anvil() {
        Some(node) => scenario(node).await,
        None => {
            let required = std::env::var("FUSION_REQUIRE_ANVIL").is_ok_and(|value| value == "1");
            assert!(!required, "anvil is required and was not found");
            eprintln!("anvil was not found: this scenario ran on the embedded L1 only");
        }
    }
}

async fn embedded() -> Node {
    let mut config = ServeConfig::dev();
    (config.l1.safe_distance, config.l1.finalized_distance) = (SAFE_DISTANCE, FINALIZED_DISTANCE);
    let server = serve(config).await.unwrap();
    Node::new(server.url(), true, Running::Embedded { _server: server })
}

fn anvil() -> Option<Node> {
    let mut child = Command::new(find_anvil()?)
        .args(["--port", "0", "--chain-id", "1337", "--gas-limit", "60000000"])
        .args(["--slots-in-an-epoch", &SAFE_DISTANCE.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let listening = lines.find_map(|line| line.unwrap().strip_prefix("Listening on ").map(str::to_owned));
    let url = format!("http://{}", listening.expect("anvil says where it listens"));
    // It writes a line for each request: somebody has to take them.
    std::thread::spawn(move || lines.for_each(drop));
    Some(Node::new(url, false, Running::Anvil(child)))
}

fn find_anvil() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("FUSION_ANVIL") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "FUSION_ANVIL is {}, where no file is", path.display());
        return Some(path);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let package = "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil";
    let mut places = vec![
        root.join("settlement/contracts/target").join(package),
        root.join(package),
    ];
    let path = std::env::var_os("PATH").unwrap_or_default();
    places.extend(std::env::split_paths(&path).map(|folder| folder.join("anvil")));
    places.into_iter().find(|place| place.is_file())
}

impl Node {
    fn new(url: String, is_strict: bool, running: Running) -> Self {
        Self {
            provider: RootProvider::new_http(url.parse().unwrap()),
            url,
            is_strict,
            _running: running,
        }
    }

    /// A provider as an application has it: it fills in nonce, gas, fees and chain id, and signs.
    pub(crate) fn wallet(&self, account: usize) -> DynProvider {
        let wallet = EthereumWallet::from(key(account));
        let builder = ProviderBuilder::new().wallet(wallet);
        builder.connect_http(self.url.parse().unwrap()).erased()
    }

    /// Calls a method that the provider has no name for.
    pub(crate) async fn call(&self, method: &'static str, params: Value) -> Result<Value, String> {
        let result = self.provider.raw_request::<Value, Value>(method.into(), params).await;
        result.map_err(|error| error.to_string())
    }

    /// Sends a transaction; its hash, or what the node says against it.
    pub(crate) async fn send(&self, raw: &Bytes) -> Result<alloy_primitives::B256, String> {
        let sent = self.provider.send_raw_transaction(raw).await;
        sent.map(|pending| *pending.tx_hash())
            .map_err(|error| error.to_string())
    }

    /// Sends a transaction that is to be mined at once, and waits for its receipt. anvil answers before it has mined.
    pub(crate) async fn mined(&self, raw: &Bytes) -> TransactionReceipt {
        let hash = self.send(raw).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(receipt) = self.provider.get_transaction_receipt(hash).await.unwrap() {
                return receipt;
            }
            assert!(Instant::now() < deadline, "{hash} is not mined within 30 s");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Mines blocks.
    pub(crate) async fn mine(&self, blocks: u64) {
        self.call("anvil_mine", serde_json::json!([format!("{blocks:#x}")]))
            .await
            .unwrap();
    }

    /// Asks the beacon API. The status and the body.
    pub(crate) async fn beacon(&self, path: &str) -> (u16, Value) {
        let response = reqwest::get(format!("{}{path}", self.url)).await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

/// The key of a developer account.
pub(crate) fn key(account: usize) -> PrivateKeySigner {
    params::DEV_ACCOUNTS[account].1.parse().unwrap()
}
