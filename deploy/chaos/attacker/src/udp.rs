//! Floods of single packets.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::pace::{Counts, Pace, count};
use crate::target::Target;

/// Different first packets; each comes again after all others.
const PACKETS: usize = 4096;
/// Sockets that they come from, at each source address.
const SOCKETS_PER_SOURCE: usize = 4;

/// First packets of handshakes, valid as far as they go: the node cannot know that nobody is behind them.
///
/// # Errors
/// If sockets cannot be had.
pub(crate) async fn initials(target: &Target, until: Instant) -> anyhow::Result<Counts> {
    let packets = first_packets(target).await?;
    let victim = victim(target).await?;
    let mut sockets = Vec::new();
    for number in 0..target.sources.len() * SOCKETS_PER_SOURCE {
        sockets.push(UdpSocket::bind(SocketAddr::new(target.source(number), 0)).await?);
    }
    let (mut counts, mut pace, mut sent) = (Counts::new(), Pace::new(target.rate, until), 0);
    while let Some(due) = pace.due().await {
        for _ in 0..due {
            let done = sockets[sent % sockets.len()]
                .send_to(&packets[sent % packets.len()], victim)
                .await;
            count(&mut counts, if done.is_ok() { "packets" } else { "not sent" }, 1);
            sent += 1;
        }
    }
    for socket in &sockets {
        let mut answer = [0; 2048];
        while socket.try_recv(&mut answer).is_ok() {
            count(&mut counts, "answers still in sockets", 1);
        }
    }
    Ok(counts)
}

async fn victim(target: &Target) -> anyhow::Result<SocketAddr> {
    let address = target
        .victim()
        .address
        .clone()
        .context("validators of a genesis have addresses")?;
    let mut found = tokio::net::lookup_host(&address)
        .await
        .with_context(|| address.clone())?;
    found.next().with_context(|| format!("{address} has no address"))
}

/// What dialing nodes say first, caught by a socket that never answers.
async fn first_packets(target: &Target) -> anyhow::Result<Vec<Vec<u8>>> {
    let sink = UdpSocket::bind("127.0.0.1:0").await?;
    let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let config = client_config(target)?;
    let (mut packets, mut connections) = (Vec::new(), BTreeSet::new());
    let mut buffer = [0; 2048];
    while packets.len() < PACKETS {
        let dialing = endpoint.connect_with(config.clone(), sink.local_addr()?, "node")?;
        let received = timeout(Duration::from_secs(5), sink.recv(&mut buffer)).await;
        let bytes = received.context("a dialing node sends nothing")??;
        // A long header: flags, version, and the length of the connection's id before it. Packets that end an earlier
        // dial come too, with its id.
        let id_bytes = usize::from(buffer[5]);
        if connections.insert(buffer[6..6 + id_bytes].to_vec()) {
            packets.push(buffer[..bytes].to_vec());
        }
        drop(dialing);
    }
    Ok(packets)
}

/// A client that offers the name of the network, so that the node goes on with the handshake.
fn client_config(target: &Target) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    tls.alpn_protocols = vec![network_name(target)];
    Ok(ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?)))
}

/// The protocol's name on this network, as nodes offer it.
fn network_name(target: &Target) -> Vec<u8> {
    let digits: String = target.genesis.network().0[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("fusion/1/{digits}").into_bytes()
}
