//! Seeds of JSON-RPC.

use alloy_primitives::{B256, hex};

use crate::node;

/// Calls of every method, alone and in a batch, right and wrong.
pub(super) fn all() -> Vec<Vec<u8>> {
    let hash = B256::repeat_byte(1);
    let raw = hex::encode_prefixed(&node::signed()[0].payload);
    let params = [
        ("eth_chainId", "[]".to_owned()),
        ("net_version", "[]".to_owned()),
        ("eth_blockNumber", "null".to_owned()),
        ("eth_sendRawTransaction", format!("[\"{raw}\"]")),
        ("eth_sendRawTransactionSync", format!("[\"{raw}\",\"0x1\"]")),
        ("fusion_sendTransaction", format!("[901,\"{raw}\"]")),
        (
            "fusion_sendTransaction",
            "{\"rollup\":903,\"transaction\":\"0x6e6f\"}".to_owned(),
        ),
        ("fusion_sendTransactionSync", "[903,\"0x01\",1]".to_owned()),
        ("fusion_getReceipt", format!("[901,\"{hash}\"]")),
        ("fusion_getReceipt", format!("[\"{hash}\"]")),
        ("fusion_getStream", "{\"rollup\":901,\"from\":0}".to_owned()),
        ("fusion_getStream", "[903,1,2]".to_owned()),
        ("fusion_getBlock", "[\"latest\"]".to_owned()),
        ("fusion_getBlock", "[2]".to_owned()),
        ("fusion_getCertificate", "{\"height\":1}".to_owned()),
        ("fusion_getCommittee", "[0]".to_owned()),
        ("fusion_status", "[]".to_owned()),
        ("fusion_peers", "[]".to_owned()),
        ("fusion_evidence", "[]".to_owned()),
        ("fusion_subscribe", "[\"heads\",{}]".to_owned()),
        ("rpc.discover", "[]".to_owned()),
        ("eth_call", "[{}]".to_owned()),
    ];
    let call = |(id, (method, params)): (usize, &(&str, String))| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
    };
    let calls: Vec<String> = params.iter().enumerate().map(call).collect();
    let mut all: Vec<Vec<u8>> = Vec::new();
    for (n, text) in (0_u8..).zip(&calls) {
        all.push([&[0], text.as_bytes()].concat());
        all.push([&[1 + n % 3], text.as_bytes()].concat());
    }
    for batch in calls.chunks(3) {
        all.push([b"\x01[".as_slice(), batch.join(",").as_bytes(), b"]"].concat());
    }
    for text in [
        "",
        "[]",
        "{",
        "[1,2]",
        "null",
        r#"{"id":1,"id":2}"#,
        r#"{"jsonrpc":"2.0","method":"fusion_status"}"#,
    ] {
        all.push([b"\x00".as_slice(), text.as_bytes()].concat());
    }
    all
}
