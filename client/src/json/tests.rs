//! The JSON mirrors: lossless both ways, strict, and clear about what is wrong.

use std::sync::Arc;

use alloy_primitives::{B256, B512, Bytes};
use ed25519_dalek::SigningKey;
use fusion_types::{
    Block, BlockId, Certificate, Committee, CommitteeSignature, Cursor, DecidedBlock, Epoch, Genesis, Header, Height,
    L1Origin, Lane, LaneBody, Ordering, Receipt, RollupBlock, RollupConfig, RollupId, RollupKind, Round, SealedBlock,
    SettlementConfig, Validator, ValidatorId, initial_head, merkle_root, transaction_hash,
};
use serde_json::Value;

use super::*;

fn committee() -> Committee {
    let validators = (1..=4_u8).map(|seed| Validator {
        id: ValidatorId(B256::from(
            SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes(),
        )),
        peer: B256::repeat_byte(seed),
        power: u64::from(seed),
    });
    Committee::new(Epoch(0), validators.collect()).unwrap()
}

fn decided() -> DecidedBlock {
    let network = fusion_types::NetworkId(B256::repeat_byte(9));
    let lanes = [(901, vec!["a", "b", "c"]), (902, vec!["d"])].map(|(id, payloads)| {
        let rollup = RollupId(id);
        let transactions: Vec<Bytes> = payloads.into_iter().map(|text| Bytes::from(text.as_bytes())).collect();
        let hashes: Vec<B256> = transactions.iter().map(|payload| transaction_hash(payload)).collect();
        LaneBody {
            lane: Lane::new(rollup, Height(7), 0, initial_head(network, rollup), &hashes),
            transactions,
        }
    });
    let leaves: Vec<B256> = lanes.iter().map(|body| body.lane.leaf()).collect();
    let header = Header {
        network,
        height: Height(7),
        parent: BlockId(B256::repeat_byte(6)),
        epoch: Epoch(0),
        committee: committee().hash(),
        proposer: committee().validators()[1].id,
        time_ms: 1_700_000_000_123,
        l1_origin: L1Origin {
            number: 5,
            hash: B256::repeat_byte(3),
        },
        lanes_root: merkle_root(&leaves),
        state_root: B256::repeat_byte(4),
        forced_to: None,
    };
    let block = SealedBlock::new(&Block {
        header,
        lanes: lanes.into(),
    });
    let block = Arc::new(block.unwrap());
    let signatures = [0, 2, 3].map(|validator| CommitteeSignature {
        validator,
        signature: B512::repeat_byte(u8::try_from(validator).unwrap()),
    });
    DecidedBlock {
        certificate: Certificate {
            epoch: Epoch(0),
            height: Height(7),
            round: Round(1),
            block: block.id(),
            signatures: signatures.into(),
        },
        block,
    }
}

/// Writes a value as text and reads it again.
fn through_text<T: serde::Serialize + serde::de::DeserializeOwned>(json: &T) -> T {
    from_str(&serde_json::to_string(json).unwrap()).unwrap()
}

#[test]
fn every_mirror_gives_back_what_it_was_made_of() {
    let decided = decided();
    let block = decided.block.block();
    let json = through_text(&BlockJson::from(&decided));
    assert_eq!(DecidedBlock::try_from(&json).unwrap(), decided);

    let receipt = Receipt::of(block, &decided.certificate, RollupId(901), 2).unwrap();
    let json = through_text(&ReceiptJson::from(&receipt));
    assert_eq!(Receipt::try_from(&json).unwrap(), receipt);

    let seen = RollupBlock::of(block, &decided.certificate, RollupId(902)).unwrap();
    let json = through_text(&RollupBlockJson::from(&seen));
    assert_eq!(RollupBlock::try_from(&json).unwrap(), seen);

    let mut header = block.header.clone();
    header.forced_to = Some(5);
    let json = through_text(&HeaderJson::from(&header));
    assert_eq!(Header::try_from(&json).unwrap(), header);

    let json = through_text(&CommitteeJson::from(&committee()));
    assert_eq!(Committee::try_from(&json).unwrap(), committee());

    let cursor = Cursor::start(block.header.network, RollupId(901));
    let json = through_text(&CursorJson::from(&cursor));
    assert_eq!(json.decode().unwrap(), (cursor.rollup, 0, Some(cursor.head)));
}

fn genesis_json() -> GenesisJson {
    let validators = committee().validators().to_vec();
    let validators = validators
        .iter()
        .enumerate()
        .map(|(at, validator)| GenesisValidatorJson {
            id: Hash(validator.id.0),
            peer: Hash(validator.peer),
            power: validator.power,
            address: format!("node-{at}.example:2650"),
            name: format!("node-{at}"),
        });
    GenesisJson {
        name: "test".to_owned(),
        time_ms: 1_700_000_000_000,
        validators: validators.collect(),
        rollups: vec![RollupJson {
            id: 901,
            kind: RollupKindJson::Evm,
            ordering: OrderingJson::Priority,
            weight: 2,
        }],
        settlement: None,
    }
}

fn rules() -> SettlementConfig {
    SettlementConfig {
        l1_chain_id: 31_337,
        l1_start: L1Origin {
            number: 9,
            hash: B256::repeat_byte(8),
        },
        forced_per_block: 32,
        forced_bytes_max: 16_384,
        block_bytes_max: 640_000,
        batch_bytes: 600_000,
        batch_age_ms: 5_000,
        batch_idle_ms: 3_600_000,
    }
}

#[test]
fn a_genesis_keeps_its_hash_and_ignores_addresses_and_order() {
    let json = genesis_json();
    let genesis = Genesis::try_from(&through_text(&json)).unwrap();
    let rollup = RollupConfig {
        id: RollupId(901),
        kind: RollupKind::Evm,
        ordering: Ordering::Priority,
        weight: 2,
    };
    let expected = Genesis::new("test".to_owned(), 1_700_000_000_000, committee(), vec![rollup]).unwrap();
    assert_eq!(genesis, expected);
    let mut settling = json.clone();
    settling.settlement = Some(SettlementJson::from(&rules()));
    let genesis_of_settling = Genesis::try_from(&through_text(&settling)).unwrap();
    assert_eq!(genesis_of_settling, expected.settling(rules()).unwrap());
    assert_ne!(genesis_of_settling.network(), genesis.network());
    let mut other = json;
    other.validators.reverse();
    other.validators[0].address = "[::1]:9".to_owned();
    assert_eq!(Genesis::try_from(&other).unwrap().network(), genesis.network());
}

#[test]
fn an_address_without_host_or_port_is_refused() {
    for address in ["", "host", "host:", ":1", "host:0", "host:65536", "::1:9", "a b:1"] {
        let mut json = genesis_json();
        json.validators[1].address = address.to_owned();
        let error = Genesis::try_from(&json).unwrap_err().to_string();
        assert!(error.starts_with("validators[1].address"), "{address}: {error}");
    }
}

#[test]
fn numbers_that_others_would_round_are_refused_by_name() {
    let mut json = genesis_json();
    json.time_ms = NUMBER_END;
    let error = Genesis::try_from(&json).unwrap_err().to_string();
    assert_eq!(error, "timeMs is 9007199254740992, it must be below 2^53");
    json = genesis_json();
    json.settlement = Some(SettlementJson {
        batch_age_ms: NUMBER_END,
        ..SettlementJson::from(&rules())
    });
    let error = Genesis::try_from(&json).unwrap_err().to_string();
    assert!(
        error.starts_with("settlement.batchAgeMs is 9007199254740992"),
        "{error}"
    );
}

#[test]
fn redundant_fields_of_a_receipt_must_agree() {
    let decided = decided();
    let receipt = Receipt::of(decided.block.block(), &decided.certificate, RollupId(901), 0).unwrap();
    for (change, field) in [
        (("rollup", Value::from(902)), "rollup is 902, lane.rollup is 901"),
        (("height", Value::from(8)), "height is 8, header.height is 7"),
        (
            ("network", Value::from(Hash(B256::ZERO).to_string())),
            "network is 0x0000",
        ),
    ] {
        let mut value = serde_json::to_value(ReceiptJson::from(&receipt)).unwrap();
        value[change.0] = change.1;
        let json: ReceiptJson = serde_json::from_value(value).unwrap();
        let error = Receipt::try_from(&json).unwrap_err().to_string();
        assert!(error.starts_with(field), "{error}");
    }
}

#[test]
fn shapes_are_strict() {
    let decided = decided();
    let receipt = Receipt::of(decided.block.block(), &decided.certificate, RollupId(901), 0).unwrap();
    let text = serde_json::to_string(&ReceiptJson::from(&receipt)).unwrap();
    assert!(from_str::<ReceiptJson>(&text).is_ok());
    let changed = [
        text.replacen("\"sequence\":0", "\"sequence\":0,\"extra\":1", 1),
        text.replacen("\"sequence\":0", "\"sequence\":0,\"sequence\":0", 1),
        text.replacen("\"sequence\":0,", "", 1),
        text.replacen("\"sequence\":0", "\"sequence\":0.0", 1),
        text.replacen("\"sequence\":0", "\"sequence\":-1", 1),
        text.replacen("\"sequence\":0", "\"sequence\":\"0\"", 1),
        text.replacen("0x", "0X", 1),
        text.replacen("0x", "", 1),
        text.replacen("0x", "0x0", 1),
        text.replacen("0x", "0x00", 1),
        text.replacen("0x", "0x0x", 1),
        text.to_uppercase(),
        format!("{text}1"),
    ];
    for text in changed {
        assert!(from_str::<ReceiptJson>(&text).is_err(), "{text}");
    }
}

#[test]
fn a_block_that_does_not_hash_to_its_id_is_refused() {
    let mut json = BlockJson::from(&decided());
    json.id = Hash(B256::ZERO);
    assert!(matches!(
        DecidedBlock::try_from(&json),
        Err(JsonError::Disagree { field: "id", .. })
    ));
    let mut json = BlockJson::from(&decided());
    json.lanes[0].transactions[1] = Data(Bytes::from_static(b"x"));
    assert!(matches!(DecidedBlock::try_from(&json), Err(JsonError::Block(_))));
}

#[test]
fn timeouts_are_numbers_or_hex_quantities() {
    assert_eq!(from_str::<Timeout>("1500").unwrap(), Timeout(1500));
    assert_eq!(from_str::<Timeout>("\"0x5dc\"").unwrap(), Timeout(1500));
    for text in ["\"1500\"", "-1", "1.5", "\"0x\"", "\"0x+1\"", "null", "[]"] {
        assert!(from_str::<Timeout>(text).is_err(), "{text}");
    }
}

#[test]
fn user_hex_is_lenient_in_case_and_bounded_in_size() {
    assert_eq!(parse("0xABcd", 2).unwrap(), Bytes::from_static(&[0xab, 0xcd]));
    assert_eq!(parse("0xabcdef", 2), Err(HexError::Long { bytes: 3, limit: 2 }));
    assert_eq!(parse("ab", 2), Err(HexError::Prefix));
    assert!(matches!(parse("0xabc", 9), Err(HexError::Digits(_))));
    assert!(matches!(parse("0xzz", 9), Err(HexError::Digits(_))));
    for doubled in ["0x0xab", "0x0Xab", "0x0X"] {
        assert!(matches!(parse(doubled, 9), Err(HexError::Digits(_))), "{doubled}");
    }
}
