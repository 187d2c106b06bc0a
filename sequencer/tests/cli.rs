//! The operator's side of the real binary: what it refuses, how it says so, and with which exit code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

const CONFIG: i32 = 78;

struct Answer {
    code: i32,
    out: String,
    err: String,
}

fn fusion(args: &[&str]) -> Answer {
    let output = Command::new(env!("CARGO_BIN_EXE_fusion"))
        .args(args)
        .env_remove("FUSION_HOME")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Answer {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn ok(args: &[&str]) -> String {
    let answer = fusion(args);
    assert_eq!(answer.code, 0, "{args:?}: {}", answer.err);
    answer.out
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A validator's home that is all right.
struct Node {
    _folder: TempDir,
    home: PathBuf,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let keys = home.join("keys");
        let public: serde_json::Value =
            serde_json::from_str(&ok(&["keygen", "--out", keys.to_str().unwrap()])).unwrap();
        let genesis = folder.path().join("genesis.json");
        let validator = format!(
            "name=a,consensus={},peer={},address=127.0.0.1:7100",
            public["consensus"].as_str().unwrap(),
            public["peer"].as_str().unwrap()
        );
        genesis_new(&[&validator], &genesis);
        let (home_text, genesis_text) = (home.to_str().unwrap(), genesis.to_str().unwrap());
        ok(&[
            "init",
            "--home",
            home_text,
            "--genesis",
            genesis_text,
            "--role",
            "validator",
        ]);
        ok(&[
            "guard",
            "init",
            "--home",
            home_text,
            "--at-height",
            "0",
            "--i-understand",
        ]);
        Self { _folder: folder, home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    fn check(&self, set: &[&str]) -> Answer {
        self.run(&["config", "check"], set)
    }

    fn run(&self, command: &[&str], set: &[&str]) -> Answer {
        let mut args = command.to_vec();
        args.extend(["--home", self.home.to_str().unwrap()]);
        args.extend(set.iter().flat_map(|set| ["--set", set]));
        fusion(&args)
    }
}

fn genesis_new(validators: &[&str], out: &Path) -> String {
    let mut args = vec![
        "genesis",
        "new",
        "--name",
        "test",
        "--time-ms",
        "1700000000000",
        "--rollup",
        "901:evm:fcfs",
    ];
    args.extend(validators.iter().flat_map(|validator| ["--validator", validator]));
    args.extend(["--rollup", "1001:opaque:fcfs:3", "--out", out.to_str().unwrap()]);
    ok(&args)
}

/// One line on stderr that names `key`, and exit code 78.
#[track_caller]
fn refused(answer: &Answer, key: &str) {
    assert_eq!(answer.code, CONFIG, "{key}: {}{}", answer.out, answer.err);
    let lines: Vec<&str> = answer.err.lines().collect();
    assert!(lines.len() == 1 && lines[0].contains(key), "{key}: {lines:?}");
    assert_eq!(answer.out, "");
}

#[test]
fn every_bad_value_is_refused_with_its_key() {
    let node = Node::new();
    assert_eq!(node.check(&[]).code, 0);
    let cases = [
        ("node.nam=x", "did you mean node.name?"),
        ("p2p.followers=3", "did you mean p2p.followers_max?"),
        ("foo.bar=1", "foo.bar"),
        (
            "consensus.timeout_propose=1",
            "did you mean consensus.timeout_propose_ms?",
        ),
        ("node.name=\"\"", "node.name"),
        ("node.name=\"a b\"", "node.name"),
        ("node.role=sentry", "node.role"),
        ("node.genesis=missing.json", "node.genesis"),
        ("keys.consensus=missing.json", "keys.consensus"),
        ("keys.peer=missing.json", "keys.peer"),
        ("keys.peer=keys/consensus.json", "keys.peer"),
        ("keys.consensus=keys", "keys.consensus"),
        ("p2p.listen=7100", "p2p.listen"),
        ("p2p.listen=localhost:7100", "p2p.listen"),
        ("p2p.peers=[]]", "p2p.peers"),
        ("rpc.origins=all", "rpc.origins"),
        ("rpc.hosts=[1]", "rpc.hosts"),
        ("consensus.timeout_max_ms=300", "consensus.timeout_propose_ms"),
        ("mempool.sender_transactions_max=0", "mempool.sender_transactions_max"),
        ("p2p.followers_max=-1", "p2p.followers_max"),
        ("p2p.followers_max=100000", "p2p.followers_max"),
        ("p2p.followers_max=many", "p2p.followers_max"),
        ("p2p.peers=[{ id = \"0x12\", address = \"a:1\" }]", "p2p.peers: [0].id"),
        ("p2p.peers=[{ address = \"a:1\" }]", "p2p.peers: [0].id"),
        ("p2p.peers=[{ adress = \"a:1\" }]", "p2p.peers: [0].adress"),
        ("consensus.timeout_propose_ms=0", "consensus.timeout_propose_ms"),
        ("consensus.timeout_prevote_ms=99999999", "consensus.timeout_prevote_ms"),
        (
            "consensus.timeout_precommit_delta_ms=0",
            "consensus.timeout_precommit_delta_ms",
        ),
        (
            "consensus.rebroadcast_interval_ms=5000",
            "consensus.rebroadcast_interval_ms",
        ),
        ("consensus.block_interval_min_ms=1.5", "consensus.block_interval_min_ms"),
        (
            "consensus.block_interval_min_ms=2000",
            "consensus.block_interval_idle_ms",
        ),
        ("consensus.block_bytes_target=1000", "consensus.block_bytes_target"),
        ("consensus.block_bytes_target=99999999", "consensus.block_bytes_target"),
        ("mempool.bytes_max=9223372036854775807", "mempool.bytes_max"),
        ("mempool.bytes_max=2000000", "mempool.rollup_bytes_max"),
        ("mempool.sender_bytes_max=70000000", "mempool.sender_bytes_max"),
        ("rpc.listen=true", "rpc.listen"),
        ("rpc.connections_max=0", "rpc.connections_max"),
        ("rpc.body_bytes_max=1", "rpc.body_bytes_max"),
        ("rpc.batch_max=0", "rpc.batch_max"),
        ("metrics.listen=127.0.0.1:7101", "metrics.listen"),
        ("metrics.listen=9100", "metrics.listen"),
        ("storage.segment_bytes=1", "storage.segment_bytes"),
        ("log.format=xml", "log.format"),
        ("log.level=loud=very", "log.level"),
        ("listen", "--set listen"),
    ];
    for (set, key) in cases {
        refused(&node.check(&[set]), key);
    }
}

#[test]
fn bad_file_is_refused_with_its_line() {
    let node = Node::new();
    let file = node.path("config.toml");
    for (text, key) in [
        ("[node]\nname = \"a\"\nnmae = \"b\"\n", "config.toml:3: node.nmae"),
        ("[nod]\nname = \"a\"\n", "config.toml:1: [nod]"),
        (
            "name = \"a\"\n",
            "config.toml:1: name: unknown key; did you mean node.name?",
        ),
        ("node = 3\n", "config.toml:1: node"),
        ("[node\n", "config.toml:1"),
        ("[node]\nname = \"a\"\nname = \"b\"\n", "config.toml:3"),
        ("[p2p]\nlisten = 7100\n", "config.toml:2: p2p.listen"),
        ("[p2p.tls]\na = 1\n", "p2p.tls"),
    ] {
        std::fs::write(&file, text).unwrap();
        refused(&node.check(&[]), key);
        refused(&node.run(&["start"], &[]), key);
    }
    std::fs::remove_file(&file).unwrap();
    refused(&node.check(&[]), "config.toml");
    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    refused(&node.check(&[]), "config.toml");
}

#[test]
fn keys_that_others_can_read_are_refused_with_the_repair() {
    let node = Node::new();
    let key = node.path("keys/consensus.json");
    chmod(&key, 0o644);
    refused(&node.run(&["start"], &[]), "chmod 600");
    for mode in [0o400, 0o440, 0o600] {
        chmod(&key, mode);
        assert_eq!(node.check(&[]).code, 0);
    }
}

#[test]
fn damaged_or_foreign_keys_are_refused() {
    let node = Node::new();
    let key = node.path("keys/consensus.json");
    let good = std::fs::read_to_string(&key).unwrap();
    std::fs::write(&key, "hello").unwrap();
    refused(&node.check(&[]), "keys.consensus");
    std::fs::write(&key, good.replace("\"consensus\"", "\"peer\"")).unwrap();
    refused(&node.check(&[]), "keys.consensus");
    // A key that the committee does not know.
    std::fs::write(&key, "11".repeat(32)).unwrap();
    refused(&node.run(&["start"], &[]), "keys.consensus");
    assert_eq!(node.check(&["node.role=follower"]).code, 0);
    std::fs::write(&key, good).unwrap();
    std::fs::write(node.path("keys/peer.json"), "11".repeat(32)).unwrap();
    refused(&node.check(&[]), "keys.peer");
    // It may as well be the genesis file that is wrong.
    refused(&node.check(&[]), node.path("genesis.json").to_str().unwrap());
}

#[test]
fn encrypted_key_without_password_is_refused_where_nobody_can_be_asked() {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("pw");
    std::fs::write(&password, "secret\n").unwrap();
    chmod(&password, 0o600);
    let node = Node::new();
    let out = node.path("sealed");
    let password = password.to_str().unwrap();
    ok(&[
        "keygen",
        "--kind",
        "peer",
        "--out",
        out.to_str().unwrap(),
        "--encrypt",
        "--password-file",
        password,
    ]);
    let follower = ["node.role=follower", "keys.peer=sealed/peer.json"];
    refused(&node.check(&follower), "keys.password_file");
    let with = format!("keys.password_file={password}");
    assert_eq!(node.check(&[follower[0], follower[1], &with]).code, 0);
    chmod(Path::new(password), 0o644);
    refused(&node.check(&[follower[0], follower[1], &with]), "password file");
}

#[test]
fn missing_guard_is_refused_with_the_command_that_repairs_it() {
    let node = Node::new();
    std::fs::remove_dir_all(node.path("guard")).unwrap();
    refused(&node.run(&["start"], &["log.level=error"]), "fusion guard init --home");
}

#[test]
fn unusable_guard_is_refused_with_the_command_that_replaces_it_and_keeps_the_old_file() {
    let node = Node::new();
    let file = node.path("guard/state");
    let other = Node::new();
    let foreign = std::fs::read(other.path("guard/state")).unwrap();
    let mut flipped = std::fs::read(&file).unwrap();
    // One bit in each of its slots: fewer cost nothing.
    [60_928, 65_024, 126_464, 130_560]
        .into_iter()
        .for_each(|slot| flipped[slot + 100] ^= 1);
    for (number, bytes) in (1..).zip([flipped, Vec::new(), foreign]) {
        std::fs::write(&file, &bytes).unwrap();
        let start = node.run(&["start"], &["log.level=error"]);
        refused(&start, "fusion guard init --home");
        assert!(start.err.contains(file.to_str().unwrap()), "{}", start.err);
        let made = node.run(&["guard", "init", "--at-height", "7", "--i-understand"], &[]);
        assert_eq!(made.code, 0, "{}", made.err);
        let aside = node.path(&format!("guard/state.unusable-{number}"));
        assert!(made.out.contains(aside.to_str().unwrap()), "{}", made.out);
        assert_eq!(std::fs::read(&aside).unwrap(), bytes, "moved, not rewritten");
        // The new one is usable: it is not replaced again.
        let again = node.run(&["guard", "init", "--at-height", "7", "--i-understand"], &[]);
        assert_eq!(again.code, CONFIG, "{}", again.err);
    }
}

#[test]
fn guard_is_never_made_by_accident_or_twice() {
    let node = Node::new();
    let again = node.run(&["guard", "init", "--at-height", "5", "--i-understand"], &[]);
    assert_eq!(again.code, CONFIG, "{}", again.err);
    assert_eq!(node.run(&["guard", "init", "--at-height", "5"], &[]).code, 64);
}

#[test]
fn bad_genesis_is_refused() {
    let node = Node::new();
    let path = node.path("genesis.json");
    let good = std::fs::read_to_string(&path).unwrap();
    for (bad, what) in [
        ("{".to_owned(), "genesis"),
        (good.replace("\"power\": 1", "\"power\": 0"), "genesis"),
        (good.replace("\"timeMs\"", "\"time\""), "genesis"),
        (good.replace("\"id\": 1001", "\"id\": 901"), "901"),
        (good.replace("127.0.0.1:7100", "127.0.0.1"), "address"),
    ] {
        assert_ne!(bad, good);
        std::fs::write(&path, bad).unwrap();
        refused(&node.check(&[]), what);
        refused(&node.check(&[]), "node.genesis");
    }
}

#[test]
fn genesis_of_another_network_is_refused_with_its_path() {
    let node = Node::new();
    let path = node.path("genesis.json");
    let good = std::fs::read_to_string(&path).unwrap();
    let other = good.replace("\"weight\": 3", "\"weight\": 2");
    assert_ne!(other, good);
    std::fs::write(&path, other).unwrap();
    refused(&node.run(&["start"], &["log.level=error"]), path.to_str().unwrap());
}

#[test]
fn second_process_in_one_home_is_refused() {
    let node = Node::new();
    let lock = std::fs::File::create(node.path("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let answer = node.run(&["start"], &[]);
    assert_eq!(answer.code, 75, "{}", answer.err);
}

#[test]
fn keygen_never_overwrites_and_shows_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("keys");
    let out = out.to_str().unwrap();
    let public = ok(&["keygen", "--kind", "peer", "--out", out]);
    let file = Path::new(out).join("peer.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let stored: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(!public.contains(stored["secret"].as_str().unwrap()));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // Neither half of the pair is written when one is there.
    refused(&fusion(&["keygen", "--out", out]), "never overwritten");
    assert!(!Path::new(out).join("consensus.json").exists());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn genesis_depends_on_what_it_says_alone() {
    let folder = tempfile::tempdir().unwrap();
    let keys = ["a", "b"].map(|name| {
        let public = ok(&["keygen", "--out", folder.path().join(name).to_str().unwrap()]);
        let public: serde_json::Value = serde_json::from_str(&public).unwrap();
        (
            public["consensus"].as_str().unwrap().to_owned(),
            public["peer"].as_str().unwrap().to_owned(),
        )
    });
    let validator = |index: usize, name: &str, address: &str| {
        format!(
            "name={name},consensus={},peer={},address={address}",
            keys[index].0, keys[index].1
        )
    };
    let first = folder.path().join("1.json");
    let second = folder.path().join("2.json");
    let (a, b) = (validator(0, "a", "h:1"), validator(1, "b", "h:2"));
    let hash = genesis_new(&[&a, &b], &first);
    // Order, names and addresses are for people.
    let (c, d) = (validator(1, "c", "i:3"), validator(0, "d", "i:4"));
    assert_eq!(genesis_new(&[&c, &d], &second), hash);
    assert_eq!(ok(&["genesis", "hash", first.to_str().unwrap()]), hash);
    let shown: serde_json::Value = serde_json::from_str(&ok(&["genesis", "show", first.to_str().unwrap()])).unwrap();
    assert_eq!(shown["network"], hash.trim());
    // Power is not.
    let third = folder.path().join("3.json");
    assert_ne!(genesis_new(&[&format!("{a},power=2"), &b], &third), hash);
}

#[test]
fn init_never_overwrites_and_can_be_repeated() {
    let node = Node::new();
    let before = std::fs::read(node.path("config.toml")).unwrap();
    let genesis = node.path("genesis.json");
    let genesis = genesis.to_str().unwrap();
    let home = node.home.to_str().unwrap();
    let out = ok(&["init", "--home", home, "--genesis", genesis, "--role", "validator"]);
    assert!(!out.contains("wrote"), "{out}");
    assert_eq!(std::fs::read(node.path("config.toml")).unwrap(), before);
}

#[test]
fn wrong_command_lines_exit_64_and_help_exits_0() {
    for args in [
        &["nonsense"][..],
        &[],
        &["start"],
        &["start", "--frobnicate"],
        &["genesis", "new"],
        &["devnet", "--nodes", "0"],
    ] {
        assert_eq!(fusion(args).code, 64, "{args:?}");
    }
    for command in [
        &[][..],
        &["devnet"],
        &["init"],
        &["keygen"],
        &["genesis", "new"],
        &["start"],
        &["config", "check"],
        &["guard", "init"],
        &["db", "check"],
        &["db", "repair"],
    ] {
        let mut args = command.to_vec();
        args.push("--help");
        let help = ok(&args);
        assert!(command.is_empty() || help.contains("Example"), "{command:?}");
    }
    assert!(ok(&["--help"]).contains("Exit codes:"));
    assert_eq!(ok(&["help", "--help"]), ok(&["help"]));
    assert_eq!(ok(&["help", "genesis", "new", "-h"]), ok(&["help", "genesis", "new"]));
    assert_eq!(ok(&["genesis", "help", "--help"]), ok(&["genesis", "help"]));
    assert!(ok(&["version"]).starts_with("fusion "));
}

#[test]
fn printed_default_is_a_valid_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, ok(&["config", "default"])).unwrap();
    ok(&["config", "check", "--only-file", "--config", path.to_str().unwrap()]);
    assert!(ok(&["config", "explain", "p2p.listen"]).contains("0.0.0.0:7100"));
}
