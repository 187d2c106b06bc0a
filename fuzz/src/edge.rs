//! Decoders of what users and operators hand in: transactions, configuration, key files, cursors, addresses.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use alloy_consensus::{EthereumTxEnvelope, TxEip4844};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_primitives::Bytes;
use fusion_client::json::parse;
use fusion_client::{CursorFile, NodeUrl};
use fusion_sequencer::config::{Config, documented, host_port};
use fusion_sequencer::ingress::{admit, facts_without_signature};
use fusion_sequencer::keys::{self, KeyKind, PasswordSource};
use fusion_types::{NetworkId, RollupConfig, RollupKind, transaction_hash};

use crate::fixture::{ROLLUPS, fixture};

/// A payload at ingress: as a user's, and as a member forwards it.
pub fn ingress(data: &[u8]) {
    let payload = Bytes::copy_from_slice(data);
    for rollup in fixture().genesis.rollups() {
        admit_to(rollup, &payload);
    }
    // And to the rollup that it is for, which bytes alone would rarely name.
    let envelope = EthereumTxEnvelope::<TxEip4844>::decode_2718_exact(&payload);
    let chain = envelope
        .ok()
        .and_then(|envelope| alloy_consensus::Transaction::chain_id(&envelope));
    if let Some(chain) = chain {
        let mut rollup = fixture().genesis.rollups()[0];
        rollup.id.0 = chain;
        admit_to(&rollup, &payload);
    }
}

fn admit_to(rollup: &RollupConfig, payload: &Bytes) {
    let admitted = admit(rollup, payload.clone());
    let Ok(transaction) = admitted else { return };
    assert_eq!(transaction.hash, transaction_hash(payload));
    assert_eq!(&transaction.payload, payload);
    assert_eq!(transaction.evm.is_some(), rollup.kind == RollupKind::Evm);
    let sender = transaction.evm.map(|facts| facts.sender);
    let forwarded = facts_without_signature(rollup, payload.clone(), sender);
    assert_eq!(
        forwarded.as_ref(),
        Ok(&transaction),
        "a member's node and a user's disagree"
    );
    if rollup.kind == RollupKind::Evm {
        let envelope = EthereumTxEnvelope::<TxEip4844>::decode_2718_exact(payload).expect("it was admitted");
        assert_eq!(
            &Bytes::from(envelope.encoded_2718()),
            payload,
            "a second encoding of one transaction"
        );
    }
}

/// `config.toml`, up to the first NUL, and `--set` overrides, one a line, after it.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, overrides) = text.split_once('\0').unwrap_or((text, ""));
    let overrides: Vec<String> = overrides.lines().map(str::to_owned).collect();
    match Config::parse(text, "config.toml", &overrides) {
        Ok(config) => {
            let written = documented(&config);
            let again =
                Config::parse(&written, "config.toml", &[]).expect("what `config check` prints is a configuration");
            assert_eq!(documented(&again), written);
        }
        Err(problems) => assert!(!problems.is_empty()),
    }
}

/// A file of this process for decoders that read files; `fuzz/run` sees to it that such files live in memory and leave
/// with it.
fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("fusion-fuzz-{}-{name}", std::process::id()))
}

fn write(path: &Path, data: &[u8]) {
    std::fs::write(path, data).expect("the scratch file can be written");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("the scratch file is ours");
}

/// A key file. There is no password: deriving keys is argon2's work, slow on purpose, and its costs are bounded by
/// constants.
pub fn key_file(data: &[u8]) {
    static PATHS: OnceLock<[PathBuf; 3]> = OnceLock::new();
    let [path, copy, password] = PATHS.get_or_init(|| ["key", "copy", "no-password"].map(scratch));
    write(path, data);
    for kind in [KeyKind::Consensus, KeyKind::Peer] {
        let Ok(key) = keys::read(kind, path, &mut PasswordSource::new(Some(password))) else {
            continue;
        };
        let _ = std::fs::remove_file(copy);
        keys::write(kind, copy, &key, None).expect("a key can be written");
        let again = keys::read(kind, copy, &mut PasswordSource::new(Some(password)));
        assert_eq!(again.map(|key| key.to_bytes()), Ok(key.to_bytes()));
    }
}

/// The file in which a reader keeps its place.
pub fn cursor_file(data: &[u8]) {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| scratch("cursor"));
    write(path, data);
    let network: NetworkId = fixture().genesis.network();
    let file = CursorFile::new(path, network, ROLLUPS[0]);
    if let Ok(Some(cursor)) = file.load() {
        file.store(&cursor).expect("a cursor can be written");
        assert_eq!(file.load().ok().flatten(), Some(cursor));
    }
}

/// Short texts: an address of a node, an address of a peer, hexadecimal digits.
pub fn text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(url) = NodeUrl::parse(text) {
        assert_eq!(NodeUrl::parse(url.http()).as_ref(), Ok(&url));
    }
    if let Ok(address) = host_port(text) {
        assert_eq!(host_port(&address), Ok(address.clone()));
    }
    for limit in [0, 32, 1 << 17] {
        if let Ok(bytes) = parse(text, limit) {
            assert!(bytes.len() <= limit && text.len() == 2 + 2 * bytes.len());
            assert!(text.eq_ignore_ascii_case(&bytes.to_string()));
        }
    }
}
