//! The table of methods: who is served where, what it takes and gives; and the OpenRPC document made of it.
//!
//! The same table decides which path serves a method and which names metrics may use as labels. A test holds it equal
//! to what is registered.

use fusion_client::json::{Hash, Timeout};
use serde::Deserialize as _;
use serde_json::{Value, json};

/// Which paths serve a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// `/rollup/<id>` only.
    Rollup,
    /// Both; on `/rollup/<id>` the first parameter, `rollup`, may be left out.
    Both,
}

/// One method.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) name: &'static str,
    pub(super) scope: Scope,
    summary: &'static str,
    pub(super) params: &'static [Param],
    result: Kind,
}

/// One parameter.
#[derive(Debug)]
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) required: bool,
    pub(super) kind: Kind,
}

/// The shapes that parameters and results have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Number,
    Quantity,
    Text,
    Bytes,
    Hash,
    Hashes,
    Timeout,
    Boolean,
    Height,
    Object(&'static str),
    List(&'static str),
}

impl Kind {
    /// Whether a value has this shape. What the bytes of a text mean is for the method to say.
    pub(super) fn fits(self, value: &Value) -> bool {
        match self {
            Self::Number => value.is_u64(),
            Self::Quantity | Self::Text | Self::Bytes => value.is_string(),
            Self::Hash => Hash::deserialize(value).is_ok(),
            Self::Hashes => Vec::<Hash>::deserialize(value).is_ok(),
            Self::Timeout => Timeout::deserialize(value).is_ok(),
            Self::Boolean => value.is_boolean(),
            Self::Height => value.is_u64() || value.is_string(),
            Self::Object(_) => value.is_object() || value.is_array(),
            Self::List(_) => value.is_array(),
        }
    }

    /// The shape in words.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Number => "a whole number",
            Self::Quantity => "0x and a number in hex digits",
            Self::Text => "a text",
            Self::Bytes => "0x and hex digits, two per byte",
            Self::Hash => "0x and 64 lower-case hex digits",
            Self::Hashes => "a list of hashes, each 0x and 64 lower-case hex digits",
            Self::Timeout => "milliseconds as a whole number or as 0x and hex digits",
            Self::Boolean => "true or false",
            Self::Height => "a whole number or \"latest\"",
            Self::Object(_) => "an object",
            Self::List(_) => "a list",
        }
    }
}

pub(super) const fn required(name: &'static str, kind: Kind) -> Param {
    Param {
        name,
        required: true,
        kind,
    }
}

pub(super) const fn optional(name: &'static str, kind: Kind) -> Param {
    Param {
        name,
        required: false,
        kind,
    }
}

const fn method(
    name: &'static str,
    scope: Scope,
    summary: &'static str,
    params: &'static [Param],
    result: Kind,
) -> Method {
    Method {
        name,
        scope,
        summary,
        params,
        result,
    }
}

pub(super) const ROLLUP: Param = required("rollup", Kind::Number);

/// Every method.
#[rustfmt::skip]
pub(super) const METHODS: &[Method] = &[
    method("eth_chainId", Scope::Rollup, "The rollup's EIP-155 chain id.", &[], Kind::Quantity),
    method("net_version", Scope::Rollup, "The rollup's chain id in decimal.", &[], Kind::Text),
    method("eth_blockNumber", Scope::Rollup, "Height of the block that holds the rollup's last transaction; 0 before the first.", &[], Kind::Quantity),
    method("eth_sendRawTransaction", Scope::Rollup, "Adds a signed transaction to the pool.", &[required("transaction", Kind::Bytes)], Kind::Hash),
    method("eth_sendRawTransactionSync", Scope::Rollup, "Adds a signed transaction and waits until it is final (EIP-7966). The answer tells its place; there is no execution status, for Fusion orders and does not execute.",
        &[required("transaction", Kind::Bytes), optional("timeout", Kind::Timeout)], Kind::Object("EthReceipt")),
    method("fusion_sendTransaction", Scope::Both, "Adds a transaction to the pool.", &[ROLLUP, required("transaction", Kind::Bytes)], Kind::Hash),
    method("fusion_sendTransactionSync", Scope::Both, "Adds a transaction and waits for its final receipt.",
        &[ROLLUP, required("transaction", Kind::Bytes), optional("timeout", Kind::Timeout)], Kind::Object("Receipt")),
    method("fusion_getReceipt", Scope::Both, "How sure a transaction's order is, and its receipt when final.", &[ROLLUP, required("hash", Kind::Hash)], Kind::Object("ReceiptStatus")),
    method("fusion_getStream", Scope::Both, "Blocks that continue a rollup's stream at a sequence number; none beyond the tip.",
        &[ROLLUP, required("from", Kind::Number), optional("limit", Kind::Number)], Kind::Object("Stream")),
    method("fusion_getBlock", Scope::Both, "A decided block with its certificate.", &[required("height", Kind::Height)], Kind::Object("Block")),
    method("fusion_getCertificate", Scope::Both, "The certificate of a height.", &[required("height", Kind::Height)], Kind::Object("Certificate")),
    method("fusion_getCommittee", Scope::Both, "The committee of an epoch.", &[optional("epoch", Kind::Number)], Kind::Object("Committee")),
    method("fusion_status", Scope::Both, "How this node stands.", &[], Kind::Object("Status")),
    method("fusion_peers", Scope::Both, "The peers that this node knows.", &[], Kind::Object("Peers")),
    method("fusion_evidence", Scope::Both, "Contradicting signatures that this node has seen.", &[], Kind::List("Evidence")),
    method("fusion_subscribe", Scope::Both, "Follows over WebSocket: kind `stream` (parameters: a cursor), `heads` or `receipts`. Items come as `fusion_subscription` notifications.",
        &[required("kind", Kind::Text), optional("params", Kind::Object("SubscriptionParams"))], Kind::Text),
    method("fusion_unsubscribe", Scope::Both, "Ends a subscription.", &[required("subscription", Kind::Text)], Kind::Boolean),
    method("rpc.discover", Scope::Both, "This document.", &[], Kind::Object("OpenRpc")),
];

/// The method called `name`.
pub(super) fn find(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

fn schema(kind: Kind) -> Value {
    match kind {
        Kind::Number => json!({"type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_u64}),
        Kind::Quantity => json!({"type": "string", "pattern": "^0x(0|[1-9a-f][0-9a-f]*)$"}),
        Kind::Text => json!({"type": "string"}),
        Kind::Bytes => json!({"type": "string", "pattern": "^0x([0-9a-fA-F]{2})*$"}),
        Kind::Hash => json!({"type": "string", "pattern": "^0x[0-9a-fA-F]{64}$"}),
        Kind::Hashes => json!({"type": "array", "items": schema(Kind::Hash)}),
        Kind::Timeout => json!({"title": "milliseconds", "oneOf": [schema(Kind::Number), schema(Kind::Quantity)]}),
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::Height => json!({"oneOf": [schema(Kind::Number), {"const": "latest"}]}),
        Kind::Object(title) => json!({"type": "object", "title": title}),
        Kind::List(title) => json!({"type": "array", "items": {"type": "object", "title": title}}),
    }
}

/// The OpenRPC document. Source: <https://spec.open-rpc.org>, version 1.3.2.
pub(super) fn document() -> Value {
    let methods = METHODS.iter().map(|method| {
        let paths = match method.scope {
            Scope::Rollup => json!(["/rollup/{id}"]),
            Scope::Both => json!(["/", "/rollup/{id}"]),
        };
        let params = method
            .params
            .iter()
            .map(|param| json!({"name": param.name, "required": param.required, "schema": schema(param.kind)}));
        json!({
            "name": method.name,
            "summary": method.summary,
            "paramStructure": "either",
            "params": params.collect::<Vec<_>>(),
            "result": {"name": "result", "schema": schema(method.result)},
            "x-paths": paths,
        })
    });
    json!({
        "openrpc": "1.3.2",
        "info": {"title": "Fusion node", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0"}},
        "methods": methods.collect::<Vec<_>>(),
    })
}
