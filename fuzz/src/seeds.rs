//! The first files of each corpus: real objects, and objects that are nearly real. Written by `fuzz/run --seeds`.

use std::path::Path;

use alloy_primitives::{B256, Bytes, hex, keccak256};
use alloy_rlp::Encodable;
use fusion_client::json::{
    BlockJson, CommitteeJson, CursorJson, EvidenceJson, GenesisJson, GenesisValidatorJson, Hash, ReceiptJson,
    RollupBlockJson, RollupJson, StreamJson,
};
use fusion_consensus::{Evidence, GuardState, Message, WalRecord};
use fusion_sequencer::config::{Config, documented};
use fusion_types::{
    Committee, Cursor, Epoch, LaneReceipts, MerkleTree, Receipt, RollupBlock, Validator, encode, leaf_hash,
};
use serde::Serialize;

use crate::fixture::{Fixture, ROLLUPS, fixture, id_of};
use crate::messages::{Author, Script};
use crate::{node, rpc, store};

mod calls;

/// Seeds of one target.
type Seeds = (&'static str, Vec<Vec<u8>>);

/// Writes all seeds below `folder`, one folder a target.
///
/// # Errors
/// The system's.
pub fn write(folder: &Path) -> std::io::Result<()> {
    let all = [codecs(), messages(), documents(), texts(), files(), machines()].concat();
    for (target, seeds) in all {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder)?;
        for seed in seeds {
            let name = hex::encode(&keccak256(&seed)[..8]);
            std::fs::write(folder.join(name), seed)?;
        }
    }
    Ok(())
}

/// Bytes that depend on nothing but `seed`.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let chunk = |n: u64| keccak256([seed.to_be_bytes(), n.to_be_bytes()].concat()).0;
    (0..).flat_map(chunk).take(length).collect()
}

/// Each of `sound`, and some of them spoiled: cut, with a byte more, with a bit changed.
fn near(sound: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (n, bytes) in (0_u64..).zip(&sound) {
        if n < 4 && !bytes.is_empty() {
            all.push(bytes[..bytes.len() - 1].to_vec());
            all.push([bytes.as_slice(), &[0]].concat());
            for draw in noise(n, 6).chunks(2) {
                let mut flipped = bytes.clone();
                let at = (usize::from(draw[0]) << 8 | usize::from(draw[1])) % bytes.len();
                flipped[at] ^= 1 << (draw[0] % 8);
                all.push(flipped);
            }
        }
    }
    all.extend(sound);
    all
}

fn all<T: Encodable>(values: impl IntoIterator<Item = T>) -> Vec<Vec<u8>> {
    near(values.into_iter().map(|value| encode(&value)).collect())
}

fn receipts(fixture: &Fixture) -> Vec<Receipt> {
    let lanes = fixture
        .blocks
        .iter()
        .flat_map(|decided| ROLLUPS.map(|rollup| LaneReceipts::of(decided, rollup)));
    lanes
        .flatten()
        .flat_map(|lane| (0..2).filter_map(move |at| lane.receipt(at)))
        .collect()
}

fn rollup_blocks(fixture: &Fixture) -> Vec<RollupBlock> {
    let of = |decided: &fusion_types::DecidedBlock, rollup| {
        RollupBlock::of(decided.block.block(), &decided.certificate, rollup)
    };
    fixture
        .blocks
        .iter()
        .flat_map(|decided| ROLLUPS.map(|rollup| of(decided, rollup)))
        .flatten()
        .collect()
}

/// Committees of one, of two, and the fixture's.
fn committees(fixture: &Fixture) -> Vec<Committee> {
    let validators = fixture.genesis.committee().validators();
    let of = |members: &[Validator], epoch| Committee::new(Epoch(epoch), members.to_vec()).ok();
    let some = [
        of(&validators[..1], 0),
        of(&validators[1..3], 7),
        of(validators, u64::MAX),
    ];
    some.into_iter()
        .flatten()
        .chain([fixture.genesis.committee().clone()])
        .collect()
}

fn codecs() -> Vec<Seeds> {
    let fixture = fixture();
    let blocks: Vec<_> = fixture
        .blocks
        .iter()
        .map(|decided| decided.block.block().clone())
        .collect();
    let mut proofs = Vec::new();
    for count in [1_u64, 2, 3, 8, 11, 33] {
        let tree = MerkleTree::new((0..count).map(|at| leaf_hash(&at.to_be_bytes())).collect());
        proofs.extend(
            [0, usize::try_from(count).unwrap_or(1) - 1]
                .into_iter()
                .filter_map(|at| tree.proof(at)),
        );
    }
    let cursors = ROLLUPS.map(|rollup| Cursor::start(fixture.genesis.network(), rollup));
    let checked = encoded(&blocks)
        .into_iter()
        .flat_map(|block| [0, 0x7c, 0x7f, 0xff].map(|right| [&[right], block.as_slice()].concat()));
    vec![
        (
            "certificate",
            all(fixture.blocks.iter().map(|decided| decided.certificate.clone())),
        ),
        ("receipt", all(receipts(fixture))),
        ("committee", all(committees(fixture))),
        ("genesis", all([(*fixture.genesis).clone()])),
        ("state", all(fixture.states.clone())),
        ("block", all(blocks.clone())),
        ("merkle_proof", all(proofs)),
        ("rollup_block", [all(rollup_blocks(fixture)), all(cursors)].concat()),
        ("mempool_check", checked.collect()),
    ]
}

fn encoded<T: Encodable>(values: &[T]) -> Vec<Vec<u8>> {
    values.iter().map(encode).collect()
}

/// Messages of every kind, as the author of scripts composes them.
fn messages() -> Vec<Seeds> {
    let author = Author { honest: Some(0) };
    let (mut votes, mut bodies, mut sync, mut transactions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut evidence, mut records) = (Vec::new(), Vec::new());
    for seed in 0..400_u64 {
        let mut bytes = noise(seed, 200);
        bytes[0] = u8::try_from(seed % 19).unwrap_or(0);
        let state = &fixture().states[usize::try_from(seed / 19 % 4).unwrap_or(0)];
        let Some(message) = author.message(&mut Script::new(&bytes), state) else {
            continue;
        };
        let encoded = message.encode();
        let (list, most) = match message.class() {
            fusion_consensus::Class::Votes => (&mut votes, 60),
            fusion_consensus::Class::Bodies => (&mut bodies, 12),
            fusion_consensus::Class::Transactions => (&mut transactions, 12),
            fusion_consensus::Class::Sync => (&mut sync, 40),
        };
        if list.len() < most {
            list.push(encoded.to_vec());
        }
        // A record of the log is a tag and what the message holds behind its own.
        let tag = match &message {
            Message::Vote(_) => Some(1),
            Message::Proposal(_) => Some(2),
            Message::Polka(_) => Some(5),
            Message::Evidence(found) => {
                evidence.push((**found).clone());
                None
            }
            _ => None,
        };
        if let Some(tag) = tag.filter(|_| records.len() < 30) {
            records.push([&[tag], &encoded[1..]].concat());
        }
    }
    records.extend(own_records());
    evidence.truncate(8);
    let evidence_files = (0..4).map(|count| encode(&evidence[..count].to_vec()));
    vec![
        ("wire_votes", near(votes)),
        ("wire_bodies", near(bodies)),
        ("wire_sync", near(sync)),
        ("wire_transactions", near(transactions)),
        ("wal_record", near(records)),
        ("evidence_file", near(evidence_files.collect())),
        ("evidence", all::<Evidence>(evidence)),
    ]
}

/// Records of values and of timeouts, which no message holds.
fn own_records() -> Vec<Vec<u8>> {
    #[derive(alloy_rlp::RlpEncodable)]
    struct Value {
        height: u64,
        round: u32,
        valid_round: Bytes,
        proposer: B256,
        block: B256,
        valid: bool,
    }
    #[derive(alloy_rlp::RlpEncodable)]
    struct Timeout {
        height: u64,
        kind: u8,
        round: u32,
    }
    let value = Value {
        height: 5,
        round: 1,
        valid_round: Bytes::new(),
        proposer: B256::repeat_byte(1),
        block: B256::repeat_byte(2),
        valid: true,
    };
    let timeouts = (1..=4).map(|kind| {
        [
            &[4],
            encode(&Timeout {
                height: 5,
                kind,
                round: 2,
            })
            .as_slice(),
        ]
        .concat()
    });
    let records: Vec<Vec<u8>> = timeouts.chain([[&[3], encode(&value).as_slice()].concat()]).collect();
    debug_assert!(records.iter().any(|record| WalRecord::decode(record).is_ok()));
    records
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("it has a JSON form")
}

fn documents() -> Vec<Seeds> {
    let fixture = fixture();
    let receipts: Vec<ReceiptJson> = receipts(fixture).iter().map(ReceiptJson::from).collect();
    let mut kept: Vec<_> = receipts.iter().map(json).collect();
    let answer = serde_json::json!({"jsonrpc": "2.0", "id": 1, "result": {"status": "final", "height": 4, "lag": 0, "receipt": receipts[0]}});
    kept.push(json(&answer));
    let lanes: Vec<_> = rollup_blocks(fixture).iter().map(RollupBlockJson::from).collect();
    let next = CursorJson::from(&Cursor::start(fixture.genesis.network(), ROLLUPS[0]));
    let stream = StreamJson {
        blocks: lanes.clone(),
        next,
        height: 4,
    };
    let mut blocks: Vec<_> = fixture
        .blocks
        .iter()
        .map(|decided| json(&BlockJson::from(decided)))
        .collect();
    blocks.extend(lanes.iter().map(json));
    blocks.push(json(&stream));
    let validators = fixture
        .genesis
        .committee()
        .validators()
        .iter()
        .map(|validator| GenesisValidatorJson {
            id: Hash(validator.id.0),
            peer: Hash(validator.peer),
            power: validator.power,
            address: "localhost:7100".to_owned(),
            name: "a".to_owned(),
        });
    let genesis = GenesisJson {
        name: "fuzz".to_owned(),
        time_ms: fixture.genesis.time_ms(),
        validators: validators.collect(),
        rollups: fixture.genesis.rollups().iter().map(RollupJson::from).collect(),
        settlement: None,
    };
    let mut networks: Vec<_> = committees(fixture)
        .iter()
        .map(|committee| json(&CommitteeJson::from(committee)))
        .collect();
    networks.push(json(&genesis));
    let evidence = EvidenceJson {
        kind: "votes".to_owned(),
        validator: Hash(B256::repeat_byte(1)),
        height: 1,
        round: 0,
        first: fusion_client::json::Data(Bytes::from_static(&[1, 2])),
        second: fusion_client::json::Data(Bytes::new()),
    };
    let texts = [
        r#"{"peers":[{"peer":"0x0101010101010101010101010101010101010101010101010101010101010101","name":"","address":"a:1","connected":true,"height":3,"rttUs":7}]}"#,
        r#"{"includeTransactions":true,"from":3}"#,
        r#"[901,"0x00",5]"#,
        r#"{"rollup":901,"hashes":["0x0101010101010101010101010101010101010101010101010101010101010101"]}"#,
        r#"{"height":1,"rollup":901,"firstSequence":0,"hashes":[]}"#,
        r#""0x7d0""#,
        r#"{"name":"nonceGap","nonce":3,"transaction":"0x0101010101010101010101010101010101010101010101010101010101010101"}"#,
        r#"{"status":"pending","height":4,"lag":0}"#,
    ];
    let mut answers: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    answers.extend([rpc::status_json().into_bytes(), json(&evidence), json(&next)]);
    vec![
        ("json_receipt", near(kept)),
        ("json_block", near(blocks)),
        ("json_genesis", near(networks)),
        ("json_answers", near(answers)),
    ]
}

fn texts() -> Vec<Seeds> {
    let fixture = fixture();
    let config = documented(&Config::default());
    let mut configs = vec![config.clone().into_bytes()];
    // Sections alone, with their comments gone and their defaults switched on.
    let lines = config.lines().map(|line| line.trim_start_matches("# "));
    let set: Vec<&str> = lines
        .filter(|line| line.starts_with('[') || line.contains(" = "))
        .collect();
    configs.push(set.join("\n").into_bytes());
    configs.extend(
        set.iter()
            .filter(|line| !line.starts_with('['))
            .take(40)
            .map(|line| line.as_bytes().to_vec()),
    );
    configs.push(b"\0rpc.listen=127.0.0.1:1\nlog.level=info,fusion=debug".to_vec());
    configs.push(b"[[p2p.peers]]\nid = \"0x01\"\naddress = \"a:1\"\n".to_vec());
    let secret = hex::encode_prefixed(fixture.keys[0].to_bytes());
    let public = id_of(&fixture.keys[0]);
    let encrypted = format!(
        r#"{{"version":1,"kind":"peer","public":"{public}","encrypted":{{"kdf":"argon2id","memoryKib":65536,"passes":3,"lanes":1,"salt":"{public}","cipher":"chacha20-poly1305","nonce":"0x010203040506070809101112","ciphertext":"0x00"}}}}"#
    );
    let keys = vec![
        secret.clone().into_bytes(),
        secret[2..].as_bytes().to_vec(),
        format!(r#"{{"version":1,"kind":"consensus","public":"{public}","secret":"{secret}"}}"#).into_bytes(),
        encrypted.into_bytes(),
    ];
    let cursor = format!(
        r#"{{"network":"{}","rollup":901,"sequence":3,"head":"{public}"}}"#,
        fixture.genesis.network()
    );
    let texts = [
        "http://a:1/",
        "wss://node.example.org:7101/rollup/901",
        "a.example.org:7100",
        "[::1]:80",
        "0x00ff",
        "0xFF",
    ];
    let payloads = node::signed().iter().map(|transaction| transaction.payload.to_vec());
    let der = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let certificates = fixture
        .keys
        .iter()
        .map(|key| [der.as_slice(), key.verifying_key().as_bytes()].concat());
    vec![
        ("config", near(configs)),
        ("key_file", near(keys)),
        ("cursor_file", near(vec![cursor.into_bytes()])),
        (
            "text",
            near(texts.iter().map(|text| text.as_bytes().to_vec()).collect()),
        ),
        ("ingress", near(payloads.collect())),
        ("peer_key", near(certificates.collect())),
        ("rpc", calls::all()),
    ]
}

fn files() -> Vec<Seeds> {
    let of = |name: &str| {
        store::sound()
            .iter()
            .find(|(other, _)| *other == name)
            .map(|(_, bytes)| bytes.clone())
    };
    let flagged =
        |flags: &[u8], bytes: &[u8]| -> Vec<Vec<u8>> { flags.iter().map(|flag| [&[*flag], bytes].concat()).collect() };
    let guard = of("guard/state").unwrap_or_default();
    let slots: Vec<u8> = store::GUARD_SLOTS
        .iter()
        .flat_map(|at| slice(&guard, *at, 512))
        .collect();
    let mut wals = Vec::new();
    for (name, flags) in [("wal/odd", [0, 1, 4]), ("wal/even", [2, 3, 6])] {
        let file = of(name).unwrap_or_default();
        let packed = [slice(&file, 0, 60), slice(&file, 4096, file.len().saturating_sub(4096))].concat();
        wals.extend(flagged(&flags, &packed));
    }
    let segment = of("log/00000001.seg").unwrap_or_default();
    let genesis = &fixture().genesis;
    let own = id_of(&fixture().keys[0]);
    let guards = [
        GuardState::new(genesis.network(), own),
        GuardState::barred_up_to(genesis.network(), own, Epoch(0), fusion_types::Height(9)),
    ];
    let frames = (0..8_u8).map(|n| {
        let frame = |length: u8| {
            [
                &[0, 0, 0, length],
                noise(u64::from(length), usize::from(length)).as_slice(),
            ]
            .concat()
        };
        [&[n, n, 1 + n * 3][..], &frame(n + 1), &frame(40), &frame(1)].concat()
    });
    let chunk = [
        vec![1],
        vec![0; 25],
        vec![0xff; 17],
        vec![0; 25],
        vec![1; 25],
        vec![2; 25],
    ]
    .concat();
    vec![
        ("guard_file", near(flagged(&[0, 9, 4], &slots))),
        ("wal_file", near(wals)),
        ("segment", near(flagged(&[0, 1, 2, 3, 4], &segment))),
        (
            "guard_state",
            near(guards.iter().map(|guard| guard.encode().to_vec()).collect()),
        ),
        ("frames", near(frames.collect())),
        ("index_chunk", near(vec![chunk])),
    ]
}

/// Part of a file, zeros where it has ended.
fn slice(bytes: &[u8], at: usize, length: usize) -> Vec<u8> {
    let mut part: Vec<u8> = bytes.iter().skip(at).take(length).copied().collect();
    part.resize(length, 0);
    part
}

/// Scripts for the machines.
fn machines() -> Vec<Seeds> {
    let scripts = |salt: u64, count: u64| -> Vec<Vec<u8>> {
        let length = |n: u64| usize::try_from(40 + n * 17 % 700).unwrap_or(40);
        (0..count).map(|n| noise(salt + n, length(n))).collect()
    };
    vec![
        ("engine_step", scripts(1_000, 80)),
        ("core_turn", scripts(2_000, 80)),
        ("mempool_build", scripts(3_000, 80)),
    ]
}
