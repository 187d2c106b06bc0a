//! The two L1s, and how a scenario is run on each.

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fusion_evm::{L1Server, ServeConfig, params, serve};
use fusion_settlement::l1::{Endpoint, EndpointLimits, L1Key};
use jsonrpsee::core::client::ClientT;
use jsonrpsee::core::params::ArrayParams;
use jsonrpsee::http_client::HttpClient;
use serde_json::{Value, json};

/// Blocks that `safe` and `finalized` are behind on both chains: an epoch of two slots, and two of them.
const SAFE_DISTANCE: u64 = 2;
const FINALIZED_DISTANCE: u64 = 4;

/// A chain with the developer accounts. Blocks come at once until a scenario says otherwise.
pub(crate) struct Chain {
    pub(crate) endpoint: Endpoint,
    control: HttpClient,
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
pub(crate) async fn on_each<F: Future<Output = ()>>(scenario: impl Fn(Chain) -> F) {
    scenario(embedded().await).await;
    match anvil() {
        Some(chain) => scenario(chain).await,
        None => {
            let required = std::env::var("FUSION_REQUIRE_ANVIL").is_ok_and(|value| value == "1");
            assert!(!required, "anvil is required and was not found");
            eprintln!("anvil was not found: this scenario ran on the embedded L1 only");
        }
    }
}

pub(crate) async fn embedded() -> Chain {
    let mut config = ServeConfig::dev();
    (config.l1.safe_distance, config.l1.finalized_distance) = (SAFE_DISTANCE, FINALIZED_DISTANCE);
    let server = serve(config).await.unwrap();
    Chain::new(&server.url(), Running::Embedded { _server: server })
}

fn anvil() -> Option<Chain> {
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
    Some(Chain::new(&url, Running::Anvil(child)))
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

impl Chain {
    fn new(url: &str, running: Running) -> Self {
        Self {
            endpoint: Endpoint::new(url, EndpointLimits::default()).unwrap(),
            control: HttpClient::builder().build(url).unwrap(),
            _running: running,
        }
    }

    async fn control(&self, method: &str, arguments: &[Value]) -> Value {
        let mut params = ArrayParams::new();
        for argument in arguments {
            params.insert(argument).unwrap();
        }
        self.control.request(method, params).await.unwrap()
    }

    /// Blocks come only when a scenario mines them.
    pub(crate) async fn stop_mining(&self) {
        self.control("evm_setAutomine", &[json!(false)]).await;
    }

    pub(crate) async fn mine(&self, blocks: u64) {
        self.control("anvil_mine", &[json!(format!("{blocks:#x}"))]).await;
    }

    /// Drops the last blocks and their transactions, and mines as many others.
    pub(crate) async fn reorg(&self, depth: u64) {
        self.control("anvil_reorg", &[json!(depth), json!([])]).await;
    }

    /// The same, with the transactions back in the pool. The embedded L1 only.
    pub(crate) async fn reorg_and_requeue(&self, depth: u64) {
        self.control("fusionl1_reorg", &[json!(depth), json!(true)]).await;
    }

    pub(crate) async fn set_next_base_fee(&self, wei: u64) {
        let wei = json!(format!("{wei:#x}"));
        self.control("anvil_setNextBlockBaseFeePerGas", &[wei]).await;
    }

    pub(crate) async fn drop_pending(&self) {
        self.control("anvil_dropAllTransactions", &[]).await;
    }
}

/// The key of a developer account.
pub(crate) fn key(account: usize) -> L1Key {
    L1Key::from_secret(&params::DEV_ACCOUNTS[account].1.parse().unwrap()).unwrap()
}
