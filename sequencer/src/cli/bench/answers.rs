//! What a node sends back during a bench, read without building a tree.
//!
//! Hashes of decided transactions come by the hundred thousand a second; each is worth some nanoseconds and no more.
//! Only errors, which are rare, are parsed as JSON. Trusts the shape of a node's answers: whoever needs proof uses the
//! client.

use alloy_primitives::hex;
use serde::Deserialize;

/// How many bytes of a message tell a notification from a response.
const KIND_BYTES: usize = 64;

/// Digits that make a key: 8 bytes.
const KEY_DIGITS: usize = 16;

/// Digits of a hash.
const HASH_DIGITS: usize = 64;

/// The calls of one response.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Responses {
    /// Calls that succeeded.
    pub(super) accepted: u64,
    /// Calls that were refused: the call's id, if the node names it, and the error's code.
    pub(super) refused: Vec<(Option<u64>, i64)>,
}

/// Whether a message announces something, and is no answer to a call.
pub(super) fn is_notification(message: &[u8]) -> bool {
    let head = &message[..message.len().min(KIND_BYTES)];
    head.first() == Some(&b'{') && find(head, b"\"method\"").is_some()
}

/// Appends the keys of all hashes in the lists called `hashes` of a message.
pub(super) fn hash_keys(message: &[u8], keys: &mut Vec<u64>) {
    let mut rest = message;
    while let Some(at) = find(rest, b"\"hashes\"") {
        rest = &rest[at + 8..];
        // Up to the list's end: nothing else in it holds a quote or a bracket. A hash is `"0x`, its digits and a quote.
        while let Some(next) = rest.iter().position(|byte| matches!(byte, b'"' | b']')) {
            if rest[next] == b']' {
                break;
            }
            let Some(digits) = rest.get(next + 3..next + 3 + HASH_DIGITS + 1) else {
                return;
            };
            let mut key = [0; 8];
            if hex::decode_to_slice(&digits[..KEY_DIGITS], &mut key).is_ok() {
                keys.push(u64::from_be_bytes(key));
            }
            rest = rest.get(next + 3 + HASH_DIGITS + 1..).unwrap_or_default();
        }
    }
}

#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    id: serde_json::Value,
    error: Option<ErrorPart>,
}

#[derive(Deserialize)]
struct ErrorPart {
    code: i64,
}

/// Counts what a response to a batch, or to one call, says.
pub(super) fn responses(message: &[u8]) -> Responses {
    if find(message, b"\"error\"").is_none() {
        return Responses {
            accepted: count(message, b"\"result\""),
            refused: Vec::new(),
        };
    }
    let list = serde_json::from_slice::<Vec<Response>>(message)
        .or_else(|_| serde_json::from_slice::<Response>(message).map(|one| vec![one]));
    let mut found = Responses::default();
    for response in list.unwrap_or_default() {
        match response.error {
            Some(error) => found.refused.push((response.id.as_u64(), error.code)),
            None => found.accepted += 1,
        }
    }
    found
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}

fn count(mut text: &[u8], word: &[u8]) -> u64 {
    let mut found = 0;
    while let Some(at) = find(text, word) {
        found += 1;
        text = &text[at + word.len()..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(byte: u8) -> String {
        format!("0x{}", format!("{byte:02x}").repeat(32))
    }

    #[test]
    fn keys_come_from_every_list_of_hashes_and_from_nowhere_else() {
        let (a, b, c) = (hash(1), hash(0xab), hash(0xff));
        let message = format!(
            r#"{{"jsonrpc":"2.0","method":"fusion_subscription","params":{{"subscription":1,"result":{{"id":"{c}","header":{{"parent":"{c}"}},
            "lanes":[{{"height":1,"hashes":["{a}","{b}"],"rollup":901}},{{"hashes":[]}},{{"hashes":[ "{c}" ],"first":"{b}"}}]}}}}}}"#
        );
        assert!(is_notification(message.as_bytes()));
        let mut keys = Vec::new();
        hash_keys(message.as_bytes(), &mut keys);
        assert_eq!(keys, [0x0101_0101_0101_0101, 0xabab_abab_abab_abab, u64::MAX]);
    }

    #[test]
    fn a_message_cut_anywhere_does_no_harm() {
        let message = format!(r#"{{"method":"x","hashes":["{}","{}"]}}"#, hash(1), hash(2));
        for end in 0..message.len() {
            let mut keys = Vec::new();
            hash_keys(&message.as_bytes()[..end], &mut keys);
            assert!(keys.len() <= 2);
            responses(&message.as_bytes()[..end]);
        }
    }

    #[test]
    fn responses_are_counted_and_refusals_keep_their_ids() {
        let good = r#"[{"jsonrpc":"2.0","id":1,"result":"0x00"},{"jsonrpc":"2.0","id":2,"result":"0x00"}]"#;
        assert!(!is_notification(good.as_bytes()));
        assert_eq!(responses(good.as_bytes()).accepted, 2);
        let mixed = r#"[{"jsonrpc":"2.0","id":1,"result":"0x00"},{"jsonrpc":"2.0","id":2,"error":{"code":-32005,"message":"busy"}}]"#;
        let expected = Responses {
            accepted: 1,
            refused: vec![(Some(2), -32005)],
        };
        assert_eq!(responses(mixed.as_bytes()), expected);
        let single = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}"#;
        assert_eq!(responses(single.as_bytes()).refused, [(None, -32700)]);
    }
}
