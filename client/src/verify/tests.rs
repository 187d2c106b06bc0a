//! A true receipt is valid; one changed anywhere is not, and the failure says where.

use fusion_types::transaction_hash;
use serde_json::{Value, json};

use super::*;
use crate::fake::Chain;

fn receipt_and_trust() -> (Value, Trust) {
    let chain = Chain::new(5);
    let receipt = chain.receipt(transaction_hash(b"3 b")).unwrap();
    (
        serde_json::to_value(ReceiptJson::from(&receipt)).unwrap(),
        chain.trust(),
    )
}

/// Paths of all values that are no lists or objects.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(key, field)| leaves(field, &format!("{path}/{key}"), found)),
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                leaves(item, &format!("{path}/{at}"), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn a_true_receipt_is_valid_and_says_what_it_proves() {
    let (receipt, trust) = receipt_and_trust();
    let verdict = verify_receipt(&receipt.to_string(), &trust);
    assert!(verdict.is_valid(), "{verdict:?}");
    let names: Vec<&str> = verdict.passed.iter().map(|check| check.name).collect();
    assert_eq!(names, CHECKS);
    assert!(
        verdict
            .passed
            .iter()
            .any(|check| check.proves.contains("3 of 4 voting power"))
    );
    assert!(verify_receipt(&serde_json::to_string_pretty(&receipt).unwrap(), &trust).is_valid());
}

#[test]
fn every_flipped_byte_of_every_hex_field_fails_and_names_a_field() {
    let (receipt, trust) = receipt_and_trust();
    let mut paths = Vec::new();
    leaves(&receipt, "", &mut paths);
    let mut flips = 0;
    for path in &paths {
        let Some(text) = receipt.pointer(path).unwrap().as_str().map(str::to_owned) else {
            continue;
        };
        for at in (2..text.len()).step_by(2) {
            let mut changed = receipt.clone();
            let byte = u8::from_str_radix(&text[at..at + 2], 16).unwrap() ^ (1 << (at % 8));
            let new_text = format!("{}{byte:02x}{}", &text[..at], &text[at + 2..]);
            *changed.pointer_mut(path).unwrap() = new_text.into();
            let verdict = verify_receipt(&changed.to_string(), &trust);
            let failure = verdict
                .failure
                .unwrap_or_else(|| panic!("{path} byte {} was not missed", at / 2));
            assert!(names(&failure.field, path), "{path}: {failure:?}");
            flips += 1;
        }
    }
    assert!(flips > 600, "{flips}");
}

#[test]
fn every_changed_number_fails_and_names_a_field() {
    let (receipt, trust) = receipt_and_trust();
    let mut paths = Vec::new();
    leaves(&receipt, "", &mut paths);
    for path in paths {
        let Some(number) = receipt.pointer(&path).unwrap().as_u64() else {
            continue;
        };
        for other in [
            number + 1,
            number.wrapping_sub(1),
            number ^ (1 << 31),
            1 << 53,
            u64::MAX,
        ] {
            let mut changed = receipt.clone();
            *changed.pointer_mut(&path).unwrap() = other.into();
            let verdict = verify_receipt(&changed.to_string(), &trust);
            let failure = verdict
                .failure
                .unwrap_or_else(|| panic!("{path} = {other} was not missed"));
            assert!(names(&failure.field, &path), "{path} = {other}: {failure:?}");
        }
    }
}

/// Whether what the failure names covers the field that was changed: the field, one that holds it, or its twin.
fn names(named: &str, changed: &str) -> bool {
    let top = |path: &str| {
        path.trim_start_matches('/')
            .split(['/', '.', '['])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    // These stand in two places; header and certificate bind each other.
    let twins = match top(changed).as_str() {
        "height" => vec!["header"],
        "rollup" => vec!["lane"],
        "header" => vec!["network", "certificate", "height"],
        "lane" => vec!["laneProof", "rollup", "transactionProof"],
        "certificate" => vec!["header"],
        _ => Vec::new(),
    };
    named
        .split(" or ")
        .any(|name| top(name) == top(changed) || twins.contains(&top(name).as_str()))
}

#[test]
fn every_changed_character_of_the_text_fails_or_is_blank() {
    let (receipt, trust) = receipt_and_trust();
    let text = receipt.to_string();
    for at in 0..text.len() {
        for replacement in ['x', '"', '7', '{'] {
            if text[at..].starts_with(replacement) {
                continue;
            }
            let changed = format!("{}{replacement}{}", &text[..at], &text[at + 1..]);
            let verdict = verify_receipt(&changed, &trust);
            let failure = verdict
                .failure
                .unwrap_or_else(|| panic!("{replacement} at {at} was not missed"));
            assert!(!failure.field.is_empty() && !failure.reason.is_empty());
        }
    }
}

#[test]
fn a_text_of_the_wrong_shape_names_its_field() {
    let (receipt, trust) = receipt_and_trust();
    let failure = |text: &str| verify_receipt(text, &trust).failure.unwrap();
    let mut upper = receipt.clone();
    *upper.pointer_mut("/laneProof/siblings/0").unwrap() = format!("0x{}", "AB".repeat(32)).into();
    assert_eq!(failure(&upper.to_string()).field, "laneProof.siblings[0]");
    let mut unknown = receipt;
    unknown["header"]["extra"] = 1.into();
    assert_eq!(failure(&unknown.to_string()).field, "header.extra");
    assert_eq!(failure("").check, "document");
}

#[test]
fn a_receipt_is_found_in_a_nodes_answer_and_its_absence_is_told() {
    let (receipt, trust) = receipt_and_trust();
    let status = json!({ "status": "final", "height": 9, "lag": 0, "receipt": receipt });
    let answer = json!({ "jsonrpc": "2.0", "id": 1, "result": status });
    let sync = json!({ "jsonrpc": "2.0", "id": 1, "result": receipt });
    for holder in [&status, &answer, &sync] {
        let verdict = verify_receipt(&holder.to_string(), &trust);
        assert!(verdict.is_valid(), "{verdict:?}");
    }
    let failure = |value: &Value| verify_receipt(&value.to_string(), &trust).failure.unwrap();
    // The place of a fault is told as seen from the receipt.
    let mut changed = answer;
    changed["result"]["receipt"]["header"]["extra"] = 1.into();
    assert_eq!(failure(&changed).field, "header.extra");
    let pending = json!({ "jsonrpc": "2.0", "id": 1, "result": { "status": "pending", "height": 9, "lag": 0 } });
    assert!(failure(&pending).reason.contains("status is \"pending\""));
    let error = json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": -32001, "message": "not here" } });
    assert!(failure(&error).reason.contains("not here"));
}

#[test]
fn a_receipt_of_another_network_fails_at_the_network() {
    let (receipt, _) = receipt_and_trust();
    let verdict = verify_receipt(&receipt.to_string(), &Chain::with_keys(2, 1).trust());
    assert_eq!(verdict.failure.unwrap().check, "network");
    assert_eq!(verdict.passed.len(), 1);
}
