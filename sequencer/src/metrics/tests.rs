//! Tests of this room's promises.

use std::net::SocketAddr;

use alloy_primitives::B256;
use fusion_client::json::{Hash, PeerJson, StatusJson};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::*;
use crate::network::PathStatus;

fn status() -> NodeStatus {
    let zero = Hash(B256::ZERO);
    NodeStatus {
        node: StatusJson {
            name: "node-0".to_owned(),
            version: "0.1.0".to_owned(),
            network: zero,
            network_name: "test".to_owned(),
            peer: zero,
            validator: Some(zero),
            role: "validator".to_owned(),
            voting: true,
            quarantine: None,
            height: 42,
            tip: zero,
            time_ms: 1,
            round: 1,
            step: "propose".to_owned(),
            lag: 0,
            peers: 2,
            power_connected: 3,
            power_total: 4,
            quorum: 3,
            pool_transactions: 5,
            pool_bytes: 500,
            evidence: 0,
            started_ms: 1,
        },
        peers: vec![PeerJson {
            peer: Hash(B256::repeat_byte(7)),
            validator: Some(1),
            name: "node-1".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            connected: true,
            height: Some(42),
            rtt_us: Some(1500),
        }],
        links: vec![LinkStatus {
            peer: Hash(B256::ZERO),
            path: PathStatus {
                round_trip: Duration::from_micros(1500),
                window_bytes: 2_000_000,
                packets_sent: 900,
                packets_lost: 8,
                packet_bytes_max: 1452,
            },
            waiting_bytes: [0, 70_000, 0, 0],
        }],
        evidence: Vec::new(),
        clocks_ahead_ms: None,
    }
}

#[test]
fn every_metric_has_its_prefix_and_a_help_text() {
    let metrics = Metrics::new("node-0", "validator", "0.1.0");
    metrics.decided(2, 10, 1000);
    metrics.final_after(Duration::from_millis(7));
    metrics.flushed(Duration::from_micros(300));
    metrics.accepted(10);
    metrics.rejected("nonce_too_low");
    metrics.refused_to_sign("regression");
    metrics.wire("votes", Direction::Out, 100);
    metrics.dropped("transactions", 3);
    metrics.called("fusion_status", 0, 1);
    metrics.subscriptions("heads", 1);
    let text = metrics.text(&status());
    for line in [
        "fusion_consensus_height 42",
        "fusion_consensus_blocks_total 1",
        "fusion_consensus_transactions_total 10",
        "fusion_consensus_rounds_total{outcome=\"failed\"} 2",
        "fusion_preconf_latency_seconds_count 1",
        "fusion_storage_fsync_seconds_count 1",
        "fusion_mempool_txs 5",
        "fusion_mempool_rejected_total{reason=\"nonce_too_low\"} 1",
        "fusion_p2p_peers{state=\"connected\"} 1",
        "fusion_p2p_bytes_total{class=\"votes\",direction=\"out\"} 100",
        "fusion_p2p_frames_dropped_total{class=\"transactions\"} 3",
        "fusion_p2p_peer_window_bytes{peer=\"0x0000000000000000000000000000000000000000000000000000000000000000\"} 2000000",
        "fusion_p2p_peer_packets{fate=\"lost\",peer=\"0x0000000000000000000000000000000000000000000000000000000000000000\"} 8",
        "fusion_p2p_peer_waiting_bytes{class=\"bodies\",peer=\"0x0000000000000000000000000000000000000000000000000000000000000000\"} 70000",
        "fusion_rpc_requests_total{code=\"0\",method=\"fusion_status\"} 1",
        "fusion_rpc_subscriptions{kind=\"heads\"} 1",
        "fusion_build_info{version=\"0.1.0\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let names = text.lines().filter(|line| !line.starts_with('#'));
    for line in names {
        assert!(line.starts_with("fusion_") || line.starts_with("process_"), "{line}");
        let name = line.split(['{', ' ']).next().unwrap();
        let family = name
            .trim_end_matches("_bucket")
            .trim_end_matches("_sum")
            .trim_end_matches("_count");
        assert!(text.contains(&format!("# HELP {family} ")), "{family}");
    }
}

#[test]
fn the_process_is_measured() {
    let metrics = Metrics::new("node-0", "validator", "0.1.0");
    let text = metrics.text(&status());
    for name in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_threads",
        "process_start_time_seconds",
    ] {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(value > 0.0, "{line}");
    }
    assert!(text.contains("process_cpu_seconds_total "));
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let code = text.split(' ').nth(1).unwrap().parse().unwrap();
    (code, text)
}

#[tokio::test]
async fn probes_tell_life_from_readiness() {
    let metrics = Metrics::new("node-0", "validator", "0.1.0");
    let (publish, watch) = watch::channel(Arc::new(status()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, metrics.clone(), watch, std::future::pending()));
    metrics.heartbeat();
    assert_eq!(get(address, "/livez").await.0, 200);
    assert_eq!(get(address, "/readyz").await.0, 200);
    assert!(get(address, "/metrics").await.1.contains("fusion_consensus_height 42"));

    let mut behind = status();
    behind.node.lag = 11;
    behind.node.power_connected = 2;
    publish.send_replace(Arc::new(behind));
    assert_eq!(get(address, "/livez").await.0, 200);
    let (code, text) = get(address, "/readyz?verbose").await;
    assert_eq!(code, 503);
    assert!(text.contains("[-]caught_up failed: 11 blocks behind"), "{text}");
    assert!(text.contains("[-]quorum failed: voting power 2 is connected, 3 is needed"));
    assert!(text.contains("[+]started ok"));
    assert_eq!(get(address, "/readyz?exclude=caught_up&exclude=quorum").await.0, 200);

    let mut full = status();
    full.node.step = crate::handle::DISK_FULL.to_owned();
    publish.send_replace(Arc::new(full));
    let (code, text) = get(address, "/readyz").await;
    assert_eq!(
        (code, text.contains("[-]disk failed: the disk is full")),
        (503, true),
        "{text}"
    );

    metrics.storage_failed();
    assert_eq!(get(address, "/livez").await.0, 503);
    assert_eq!(get(address, "/other").await.0, 404);
}
