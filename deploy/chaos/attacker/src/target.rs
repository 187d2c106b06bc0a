//! Who is attacked, and from which addresses.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use fusion_client::json::GenesisJson;
use fusion_sequencer::network::{PeerId, ValidatorAddress};
use fusion_types::Genesis;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// A node that does not take a connection within this time is taken to refuse it.
const CONNECT: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// The network's genesis, which names its validators.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// The validator under attack, by its place in the genesis.
    #[arg(long, value_name = "N", default_value_t = 0)]
    node: usize,
    /// Its RPC address.
    #[arg(long, value_name = "HOST:PORT")]
    rpc: SocketAddr,
    /// An address of this machine to come from (may be repeated): each has the rights of one user.
    #[arg(long, value_name = "IP", required = true)]
    source: Vec<IpAddr>,
    /// Deeds a second, of floods that would otherwise go as fast as the machine.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rate: u32,
    /// Home folder of the member that floods with votes. Its node must not run.
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
}

/// The node under attack, its network, and where the attackers sit.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Its RPC address.
    pub(crate) rpc: SocketAddr,
    /// Its network.
    pub(crate) genesis: Genesis,
    /// All validators and where they listen.
    pub(crate) validators: Vec<ValidatorAddress>,
    /// Its place among them.
    pub(crate) node: usize,
    /// Addresses to come from; at least one.
    pub(crate) sources: Vec<IpAddr>,
    /// Deeds a second.
    pub(crate) rate: f64,
    /// Home of the dishonest member.
    pub(crate) home: Option<PathBuf>,
}

impl Target {
    /// What the command line says, with the genesis read.
    ///
    /// # Errors
    /// If the genesis cannot be read or has no such validator.
    pub(crate) fn new(args: &TargetArgs) -> anyhow::Result<Self> {
        let path = args.genesis.display();
        let text = std::fs::read(&args.genesis).with_context(|| format!("--genesis {path}"))?;
        let json: GenesisJson = serde_json::from_slice(&text).with_context(|| format!("--genesis {path}"))?;
        let genesis = Genesis::try_from(&json).with_context(|| format!("--genesis {path}"))?;
        let address = |validator: &fusion_client::json::GenesisValidatorJson| ValidatorAddress {
            peer: PeerId(validator.peer.0),
            address: Some(validator.address.clone()),
        };
        let validators: Vec<_> = json.validators.iter().map(address).collect();
        let count = validators.len();
        ensure!(
            args.node < count,
            "--node is {}, the genesis has {count} validators",
            args.node
        );
        Ok(Self {
            rpc: args.rpc,
            genesis,
            validators,
            node: args.node,
            sources: args.source.clone(),
            rate: f64::from(args.rate.max(1)),
            home: args.home.clone(),
        })
    }

    /// The address from which worker `number` comes.
    pub(crate) fn source(&self, number: usize) -> IpAddr {
        self.sources[number % self.sources.len()]
    }

    /// The validator under attack.
    pub(crate) fn victim(&self) -> &ValidatorAddress {
        &self.validators[self.node]
    }

    /// A connection of worker `number` to its RPC.
    ///
    /// # Errors
    /// If the node does not take it.
    pub(crate) async fn connect(&self, number: usize) -> std::io::Result<TcpStream> {
        let socket = if self.rpc.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.bind(SocketAddr::new(self.source(number), 0))?;
        let stream = timeout(CONNECT, socket.connect(self.rpc)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
