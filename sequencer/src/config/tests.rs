//! What the configuration promises an operator.

use super::fields::FIELDS;
use super::*;

fn problem(text: &str) -> String {
    let problems = Config::parse(text, "c.toml", &[]).expect_err("must be refused");
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].clone()
}

#[test]
fn default_file_means_the_defaults() {
    let text = documented(&Config::default());
    assert_eq!(Config::parse(&text, "c.toml", &[]).unwrap(), Config::default());
    assert_eq!(Config::parse("", "c.toml", &[]).unwrap(), Config::default());
}

#[test]
fn default_file_shows_every_key_once() {
    let text = documented(&Config::default());
    let keys = text
        .lines()
        .filter(|line| !line.starts_with('#') && line.contains(" = "))
        .count();
    assert_eq!(keys, FIELDS.len());
    // A field of the struct without a row in the table could never be set.
    let leaves = format!("{:#?}", Config::default())
        .lines()
        .filter(|line| line.starts_with("        ") && !line.starts_with("         ") && line.contains(": "))
        .count();
    assert_eq!(leaves, FIELDS.len());
}

#[test]
fn written_file_reads_back() {
    let mut config = Config::default();
    config.node.name = "alpha".to_owned();
    config.p2p.peers = vec![PeerAddress {
        id: B256::repeat_byte(7),
        address: "node1.example.org:7100".to_owned(),
    }];
    config.metrics.listen = None;
    config.rpc.origins = vec!["https://a.example".to_owned(), "*".to_owned()];
    assert_eq!(Config::parse(&documented(&config), "c.toml", &[]).unwrap(), config);
}

#[test]
fn defaults_are_those_of_the_rooms_that_use_them() {
    let config = Config::default();
    let pool = fusion_mempool::PoolLimits::default();
    assert_eq!(config.mempool.bytes_max, pool.bytes_max);
    assert_eq!(config.mempool.rollup_bytes_max, pool.rollup_bytes_max);
    assert_eq!(config.mempool.sender_bytes_max, pool.sender_bytes_max);
    assert_eq!(config.mempool.sender_transactions_max, pool.sender_transactions_max);
}

#[test]
fn unknown_key_names_place_and_closest_key() {
    let text = problem("[node]\nname = \"a\"\n[p2p]\nlisten = \"0.0.0.0:1\"\nfolowers_max = 3\n");
    assert_eq!(
        text,
        "c.toml:5: p2p.folowers_max: unknown key; did you mean p2p.followers_max?"
    );
}

#[test]
fn key_in_the_wrong_section_is_pointed_home() {
    let text = problem("[rpc]\nfollowers_max = 3\n");
    assert_eq!(
        text,
        "c.toml:2: rpc.followers_max: unknown key; did you mean p2p.followers_max?"
    );
}

#[test]
fn unknown_section_names_closest_section() {
    assert_eq!(
        problem("[consensu]\nx = 1\n"),
        "c.toml:1: [consensu]: unknown section; did you mean [consensus]?"
    );
}

#[test]
fn override_wins_over_file() {
    let overrides = [
        "consensus.timeout_propose_ms=70".to_owned(),
        "p2p.listen=127.0.0.1:9".to_owned(),
    ];
    let config = Config::parse("[consensus]\ntimeout_propose_ms = 60\n", "c.toml", &overrides).unwrap();
    assert_eq!(config.consensus.timeout_propose, Duration::from_millis(70));
    assert_eq!(config.p2p.listen, "127.0.0.1:9".parse().unwrap());
}

#[test]
fn whole_fraction_is_a_number() {
    let config = Config::parse("[p2p]\nfollowers_max = 20.0\n", "c.toml", &[]).unwrap();
    assert_eq!(config.p2p.followers_max, 20);
    assert!(problem("[p2p]\nfollowers_max = 20.5\n").contains("is 20.5"));
}

#[test]
fn every_problem_is_reported_at_once() {
    let problems = Config::parse("[p2p]\na1 = 1\n[rpc]\nlisten = 5\n", "c.toml", &[]).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn hosts_are_checked() {
    for good in ["a:1", "node-1.example.org:7100", "1.2.3.4:5", "[::1]:5", "node_1:7"] {
        host_port(good).unwrap();
    }
    for bad in [
        "",
        "a",
        "a:",
        "a:0",
        ":1",
        "a b:1",
        "http://a:1",
        "a:65536",
        "::1:5",
        "a..b:1",
    ] {
        host_port(bad).unwrap_err();
    }
}

#[test]
fn paths_start_at_the_home_and_the_home_at_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    std::fs::write(&path, "[node]\nhome = \"data\"\n[storage]\nguard_dir = \"/g\"\n").unwrap();
    let config = Config::load(&path, &["debug.record=votes".to_owned()]).unwrap();
    assert_eq!(config.node.home, folder.path().join("data"));
    assert_eq!(config.node.genesis, folder.path().join("data/genesis.json"));
    assert_eq!(config.storage.guard_dir, Path::new("/g"));
    assert_eq!(config.debug.record, Some(folder.path().join("data/votes")));
    std::fs::write(&path, "").unwrap();
    let home = Config::load(&path, &[]).unwrap().node.home;
    assert_eq!(home.as_os_str(), folder.path().as_os_str());
}

proptest::proptest! {
    #[test]
    fn no_text_panics_the_parser(text in "\\PC{0,200}") {
        drop(Config::parse(&text, "c.toml", &[]));
    }
}
