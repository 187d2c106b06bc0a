//! The table of keys: each one once, with documentation, limits and its place in [`Config`].

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fusion_types::limits::{
    BLOCK_BYTES_MAX, BLOCK_OVERHEAD_BYTES, COMMITTEE_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_OVERHEAD_BYTES,
};

use super::{Config, LogFormat, MIB, PeerAddress, Role};

/// One key of the file.
pub(super) struct Field {
    /// `section.key`.
    pub(super) key: &'static str,
    /// What it is for, in one or more lines of at most 110 characters.
    pub(super) doc: &'static str,
    /// Its place, with its type and limits.
    pub(super) slot: fn(&mut Config) -> Slot<'_>,
}

/// A place in a [`Config`]: knows how to take a TOML value and how to print itself. `file.rs` does both.
pub(super) enum Slot<'a> {
    /// 1 to 64 bytes of letters, digits, '-', '_' and '.'.
    Name(&'a mut String),
    /// Any text.
    Text(&'a mut String),
    /// A path.
    Path(&'a mut PathBuf),
    /// A path, or "" for none.
    OptionalPath(&'a mut Option<PathBuf>),
    /// `ip:port`.
    Address(&'a mut SocketAddr),
    /// `ip:port`, or "" for none.
    OptionalAddress(&'a mut Option<SocketAddr>),
    /// A list of texts.
    List(&'a mut Vec<String>),
    /// A number of milliseconds within limits.
    Millis(&'a mut Duration, u64, u64),
    /// A number within limits, with its unit.
    Number(&'a mut usize, usize, usize, &'static str),
    /// `auto`, `validator` or `follower`.
    Role(&'a mut Role),
    /// `text` or `json`.
    LogFormat(&'a mut LogFormat),
    /// `[{ id, address }, …]`.
    Peers(&'a mut Vec<PeerAddress>),
}

/// Titles of the sections, in the order of the file.
const SECTIONS: [(&str, &str); 11] = [
    ("node", "The node itself. Relative paths start at the home folder."),
    (
        "keys",
        "Paths of key files; keys themselves never stand here. Files must have mode 0600, 0400 or 0440.",
    ),
    (
        "p2p",
        "QUIC (UDP) between nodes. Open this port to the other validators.",
    ),
    (
        "consensus",
        "Pacing. A round that fails costs about propose + prevote + precommit; each further round waits its delta longer.\n\
         Below about twice the largest round trip between validators, rounds fail without need.",
    ),
    (
        "mempool",
        "Transactions that wait for a block. A full pool answers \"busy\".",
    ),
    (
        "rpc",
        "JSON-RPC over HTTP and WebSocket. Put a proxy with TLS before it when it faces the internet.",
    ),
    (
        "metrics",
        "Prometheus metrics at /metrics, health at /livez and /readyz.",
    ),
    ("storage", "Block log, index and sign guard."),
    (
        "settlement",
        "Certified batches on Ethereum. Without endpoints this node takes no part in them: it attests and posts nothing.",
    ),
    ("log", "Logs go to stderr."),
    (
        "debug",
        "For experiments; nothing of it belongs on a node that matters.",
    ),
];

/// Least that still holds the largest transaction beside the largest headers.
const BLOCK_BYTES_TARGET_MIN: usize = TRANSACTION_BYTES_MAX + TRANSACTION_OVERHEAD_BYTES + BLOCK_OVERHEAD_BYTES;

const MINUTE_MS: u64 = 60_000;

/// Every key, in the order of the file.
pub(super) const FIELDS: &[Field] = &[
    Field {
        key: "node.name",
        doc: "Name in logs and metrics.",
        slot: |c| Slot::Name(&mut c.node.name),
    },
    Field {
        key: "node.role",
        doc: "\"validator\" refuses to start without a consensus key, \"follower\" never votes,\n\
              \"auto\" is a validator when the file keys.consensus exists.",
        slot: |c| Slot::Role(&mut c.node.role),
    },
    Field {
        key: "node.home",
        doc: "Folder of the node's data. \"\" is the folder of this file.",
        slot: |c| Slot::Path(&mut c.node.home),
    },
    Field {
        key: "node.genesis",
        doc: "Genesis file of the network; `fusion genesis hash` prints what operators compare.",
        slot: |c| Slot::Path(&mut c.node.genesis),
    },
    Field {
        key: "keys.consensus",
        doc: "Key that signs votes. One running node per key, ever.",
        slot: |c| Slot::Path(&mut c.keys.consensus),
    },
    Field {
        key: "keys.peer",
        doc: "Key that authenticates connections.",
        slot: |c| Slot::Path(&mut c.keys.peer),
    },
    Field {
        key: "keys.password_file",
        doc: "File with the password of encrypted key files. \"\" asks on the terminal.",
        slot: |c| Slot::OptionalPath(&mut c.keys.password_file),
    },
    Field {
        key: "p2p.listen",
        doc: "UDP address to listen on.",
        slot: |c| Slot::Address(&mut c.p2p.listen),
    },
    Field {
        key: "p2p.peers",
        doc: "Addresses that replace those of the genesis file: [{ id = \"0x…peer key\", address = \"host:port\" }].",
        slot: |c| Slot::Peers(&mut c.p2p.peers),
    },
    Field {
        key: "p2p.followers_max",
        doc: "Most followers served at a time; 0 serves validators alone.",
        slot: |c| Slot::Number(&mut c.p2p.followers_max, 0, 1024, "connections"),
    },
    Field {
        key: "p2p.window_floor_bytes",
        doc: "Least bytes that may be on their way to a validator at once, whatever gets lost: over a round trip of 100 ms,\n\
              ten times as many a second. Not more than the link to each of them carries in a round trip.",
        slot: |c| Slot::Number(&mut c.p2p.window_floor_bytes, 4 << 10, 32 << 20, "bytes"),
    },
    Field {
        key: "consensus.timeout_propose_ms",
        doc: "Wait for a proposal in round 0.",
        slot: |c| Slot::Millis(&mut c.consensus.timeout_propose, 10, MINUTE_MS),
    },
    Field {
        key: "consensus.timeout_propose_delta_ms",
        doc: "Added to it in each further round.",
        slot: |c| Slot::Millis(&mut c.consensus.timeout_propose_delta, 1, MINUTE_MS),
    },
    Field {
        key: "consensus.timeout_prevote_ms",
        doc: "Wait for late prevotes once a quorum has voted without agreeing.",
        slot: |c| Slot::Millis(&mut c.consensus.timeout_prevote, 10, MINUTE_MS),
    },
    Field {
        key: "consensus.timeout_prevote_delta_ms",
        doc: "Added to it in each further round.",
        slot: |c| Slot::Millis(&mut c.consensus.timeout_prevote_delta, 1, MINUTE_MS),
    },
    Field {
        key: "consensus.timeout_precommit_ms",
        doc: "Wait for late precommits once a quorum has voted without agreeing.",
        slot: |c| Slot::Millis(&mut c.consensus.timeout_precommit, 10, MINUTE_MS),
    },
    Field {
        key: "consensus.timeout_precommit_delta_ms",
        doc: "Added to it in each further round.",
        slot: |c| Slot::Millis(&mut c.consensus.timeout_precommit_delta, 1, MINUTE_MS),
    },
    Field {
        key: "consensus.timeout_max_ms",
        doc: "No timeout grows beyond this, whatever the round.",
        slot: |c| Slot::Millis(&mut c.consensus.timeout_max, 100, 10 * MINUTE_MS),
    },
    Field {
        key: "consensus.rebroadcast_interval_ms",
        doc: "Without progress a node repeats its last votes this often.",
        slot: |c| Slot::Millis(&mut c.consensus.rebroadcast_interval, 10, 1000),
    },
    Field {
        key: "consensus.block_interval_min_ms",
        doc: "Least time between two blocks.",
        slot: |c| Slot::Millis(&mut c.consensus.block_interval_min, 0, MINUTE_MS),
    },
    Field {
        key: "consensus.block_interval_idle_ms",
        doc: "With nothing to order, an empty block comes this often.",
        slot: |c| Slot::Millis(&mut c.consensus.block_interval_idle, 10, 10 * MINUTE_MS),
    },
    Field {
        key: "consensus.block_bytes_target",
        doc: "A proposer fills a block up to this size.",
        slot: |c| {
            Slot::Number(
                &mut c.consensus.block_bytes_target,
                BLOCK_BYTES_TARGET_MIN,
                BLOCK_BYTES_MAX,
                "bytes",
            )
        },
    },
    Field {
        key: "mempool.bytes_max",
        doc: "Most bytes that wait, of all rollups together.",
        slot: |c| Slot::Number(&mut c.mempool.bytes_max, MIB, 4096 * MIB, "bytes"),
    },
    Field {
        key: "mempool.rollup_bytes_max",
        doc: "Most bytes that wait for one rollup.",
        slot: |c| {
            Slot::Number(
                &mut c.mempool.rollup_bytes_max,
                TRANSACTION_BYTES_MAX,
                4096 * MIB,
                "bytes",
            )
        },
    },
    Field {
        key: "mempool.sender_bytes_max",
        doc: "Most bytes that wait from one sender in one rollup.",
        slot: |c| {
            Slot::Number(
                &mut c.mempool.sender_bytes_max,
                TRANSACTION_BYTES_MAX,
                4096 * MIB,
                "bytes",
            )
        },
    },
    Field {
        key: "mempool.sender_transactions_max",
        doc: "Most transactions that wait from one sender in one rollup.",
        slot: |c| Slot::Number(&mut c.mempool.sender_transactions_max, 1, 65_536, "transactions"),
    },
    Field {
        key: "rpc.listen",
        doc: "TCP address to listen on.",
        slot: |c| Slot::Address(&mut c.rpc.listen),
    },
    Field {
        key: "rpc.connections_max",
        doc: "Most connections at a time; a further one is closed.",
        slot: |c| Slot::Number(&mut c.rpc.connections_max, 1, 65_536, "connections"),
    },
    Field {
        key: "rpc.connections_per_address_max",
        doc: "Most connections of one address that is not this machine's.",
        slot: |c| Slot::Number(&mut c.rpc.connections_per_address_max, 1, 65_536, "connections"),
    },
    Field {
        key: "rpc.body_bytes_max",
        doc: "Largest request. Hex doubles a payload, so this is at least twice the largest transaction.",
        slot: |c| {
            Slot::Number(
                &mut c.rpc.body_bytes_max,
                2 * TRANSACTION_BYTES_MAX + 1024,
                64 * MIB,
                "bytes",
            )
        },
    },
    Field {
        key: "rpc.response_bytes_max",
        doc: "Largest response.",
        slot: |c| Slot::Number(&mut c.rpc.response_bytes_max, MIB, 64 * MIB, "bytes"),
    },
    Field {
        key: "rpc.batch_max",
        doc: "Most calls in one batch.",
        slot: |c| Slot::Number(&mut c.rpc.batch_max, 1, 1000, "calls"),
    },
    Field {
        key: "rpc.subscriptions_max",
        doc: "Most subscriptions of one connection.",
        slot: |c| Slot::Number(&mut c.rpc.subscriptions_max, 1, 1024, "subscriptions"),
    },
    Field {
        key: "rpc.slow_reader_ms",
        doc: "A subscriber that takes nothing for this time is cut off, and can resume.",
        slot: |c| Slot::Millis(&mut c.rpc.slow_reader, 100, MINUTE_MS),
    },
    Field {
        key: "rpc.hosts",
        doc: "Host names that are served, without port, e.g. [\"rpc.example.org\"]. [] serves any.",
        slot: |c| Slot::List(&mut c.rpc.hosts),
    },
    Field {
        key: "rpc.origins",
        doc: "Web pages that may call, e.g. [\"https://app.example.org\"]. [\"*\"] allows all, [] none.",
        slot: |c| Slot::List(&mut c.rpc.origins),
    },
    Field {
        key: "metrics.listen",
        doc: "TCP address to listen on. \"\" turns metrics and health off.",
        slot: |c| Slot::OptionalAddress(&mut c.metrics.listen),
    },
    Field {
        key: "storage.segment_bytes",
        doc: "A file of the block log is closed at this size.",
        slot: |c| Slot::Number(&mut c.storage.segment_bytes, 2 * BLOCK_BYTES_MAX, 1024 * MIB, "bytes"),
    },
    Field {
        key: "storage.guard_dir",
        doc: "Folder of the sign guard: a few hundred bytes that keep this key from signing twice.\n\
              On a disk that outlives the data. Never copy it to a second node, never restore it from a backup.",
        slot: |c| Slot::Path(&mut c.storage.guard_dir),
    },
    Field {
        key: "storage.recent_bytes",
        doc: "Memory for the most recent decided blocks, which are read most.",
        slot: |c| Slot::Number(&mut c.storage.recent_bytes, MIB, 4096 * MIB, "bytes"),
    },
    Field {
        key: "settlement.l1",
        doc: "JSON-RPC endpoints of L1, e.g. [\"https://l1.example.org\"]. Several of different operators, if you can.",
        slot: |c| Slot::List(&mut c.settlement.l1),
    },
    Field {
        key: "settlement.agree",
        doc: "A claim about L1 counts when so many endpoints make it.",
        slot: |c| Slot::Number(&mut c.settlement.agree, 1, 16, "endpoints"),
    },
    Field {
        key: "settlement.inbox",
        doc: "Address of the BatchInbox contract.",
        slot: |c| Slot::Text(&mut c.settlement.inbox),
    },
    Field {
        key: "settlement.inbox_block",
        doc: "L1 block in which it was deployed: nothing before is read.",
        slot: |c| Slot::Number(&mut c.settlement.inbox_block, 0, usize::MAX >> 1, "block"),
    },
    Field {
        key: "settlement.attestation_key",
        doc: "Key that signs batches: 32 bytes in hex. Registered on L1 with the consensus key. One running node per key, ever.",
        slot: |c| Slot::Path(&mut c.settlement.attestation_key),
    },
    Field {
        key: "settlement.poster_key",
        doc: "Key of the L1 account that pays for posting: 32 bytes in hex, or a keystore of geth's form. An account for nothing\n\
              else. \"\" leaves posting to the others.",
        slot: |c| Slot::OptionalPath(&mut c.settlement.poster_key),
    },
    Field {
        key: "settlement.poll_ms",
        doc: "L1 is asked for news this often.",
        slot: |c| Slot::Millis(&mut c.settlement.poll, 50, MINUTE_MS),
    },
    Field {
        key: "settlement.rank_delay_ms",
        doc: "Whoever is next in turn posts a batch that did not come after so long: three slots of Ethereum.",
        slot: |c| Slot::Millis(&mut c.settlement.rank_delay, 100, 60 * MINUTE_MS),
    },
    Field {
        key: "settlement.turn_ms",
        doc: "Whoever is next in turn encodes a batch that is not certified after so long.",
        slot: |c| Slot::Millis(&mut c.settlement.turn, 100, 10 * MINUTE_MS),
    },
    Field {
        key: "log.format",
        doc: "\"text\" for people, \"json\" for machines.",
        slot: |c| Slot::LogFormat(&mut c.log.format),
    },
    Field {
        key: "log.level",
        doc: "error, warn, info, debug, trace, or a filter such as \"info,fusion_sequencer::network=debug\".",
        slot: |c| Slot::Text(&mut c.log.level),
    },
    Field {
        key: "debug.record",
        doc: "File that every vote and proposal, sent or received, is appended to, for a judge of who signed what:\n\
              lines of microseconds, in or out, peer, frame in hex. Never waited for: a killed node loses its last lines.\n\
              \"\" records nothing.",
        slot: |c| Slot::OptionalPath(&mut c.debug.record),
    },
    Field {
        key: "debug.record_bytes_max",
        doc: "When the file has this size nothing more is recorded, and the log says so once.",
        slot: |c| Slot::Number(&mut c.debug.record_bytes_max, MIB, 64 * 1024 * MIB, "bytes"),
    },
];

/// Most peers that a file lists: every validator of the largest committee.
pub(super) const PEERS_MAX: usize = COMMITTEE_MAX;

/// The file that says what an empty file means, with documentation, units and limits.
pub fn documented(config: &Config) -> String {
    let mut config = config.clone();
    let mut text = String::from("# Configuration of a fusion node. A key that is missing has the value shown by\n");
    text.push_str(
        "# `fusion config default`; an unknown key is an error. `fusion config check` reads it as `start` does.\n",
    );
    for (section, title) in SECTIONS {
        let _infallible = write!(text, "\n{}\n[{section}]\n", comment(title));
        for field in FIELDS {
            if let Some(key) = field.key.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')) {
                let slot = (field.slot)(&mut config);
                let limits = slot.limits().map_or_else(String::new, |limits| format!("\n{limits}."));
                let _infallible = write!(
                    text,
                    "{}\n{key} = {}\n",
                    comment(&format!("{}{limits}", field.doc)),
                    slot.value()
                );
            }
        }
    }
    text
}

/// Documentation, limits and default of one key.
pub fn explain(key: &str) -> Option<String> {
    let field = FIELDS.iter().find(|field| field.key == key)?;
    let mut config = Config::default();
    let slot = (field.slot)(&mut config);
    let limits = slot.limits().map_or_else(String::new, |limits| format!("\n{limits}."));
    Some(format!(
        "{}\n{}{limits}\nDefault: {}",
        field.key,
        field.doc,
        slot.value()
    ))
}

fn comment(text: &str) -> String {
    text.lines()
        .map(|line| format!("# {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
