//! Offline verification of a kept receipt, told check by check.
//!
//! Promises: a verdict lists every check that passed with what it proves, and the first that failed with the field at
//! fault. The checks themselves are `Receipt::verify`'s; this file gives them names for people.

use fusion_types::{CertificateError, Receipt, ReceiptError};
use jsonrpsee::core::JsonRawValue;
use serde::Deserialize;

use crate::json::{JsonError, ReceiptJson, from_str};
use crate::trust::Trust;

mod path;

/// The names of all checks, in the order in which they are made.
pub const CHECKS: [&str; 11] = [
    "document",
    "network",
    "epoch",
    "committee",
    "height",
    "block",
    "certificate",
    "lane",
    "stream",
    "transaction",
    "sequence",
];

/// A check that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// One of [`CHECKS`].
    pub name: &'static str,
    /// What it proves, as a sentence.
    pub proves: String,
}

/// The check that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One of [`CHECKS`].
    pub check: &'static str,
    /// The field at fault, as its path in the document; several when one of them is wrong and no one can say which.
    pub field: String,
    /// What is wrong, with the values.
    pub reason: String,
}

/// The outcome of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The receipt, if every check passed.
    pub receipt: Option<Receipt>,
    /// The checks that passed, in order.
    pub passed: Vec<Check>,
    /// The first check that failed, if any. Those after it were not made.
    pub failure: Option<Failure>,
}

impl Verdict {
    /// Whether every check passed.
    pub fn is_valid(&self) -> bool {
        self.failure.is_none()
    }

    fn failed(passed: Vec<Check>, failure: Failure) -> Self {
        Self {
            receipt: None,
            passed,
            failure: Some(failure),
        }
    }
}

/// Verifies the text of a `receipt.json`: a receipt alone, or a node's answer with the receipt in it. Needs no network.
pub fn verify_receipt(text: &str, trust: &Trust) -> Verdict {
    let receipt = match decode(text) {
        Ok(receipt) => receipt,
        Err(failure) => return Verdict::failed(Vec::new(), failure),
    };
    let mut passed = proves(&receipt, trust);
    let Err(error) = receipt.verify(trust.network, &trust.committee) else {
        return Verdict {
            receipt: Some(receipt),
            passed,
            failure: None,
        };
    };
    let failure = explain(&error);
    let at = CHECKS.iter().position(|name| *name == failure.check);
    passed.truncate(at.unwrap_or(0));
    Verdict::failed(passed, failure)
}

/// What may stand around a receipt.
#[derive(Deserialize)]
struct Answer<'a> {
    /// Around a whole JSON-RPC answer.
    #[serde(borrow, default)]
    result: Option<&'a JsonRawValue>,
    #[serde(borrow, default)]
    error: Option<&'a JsonRawValue>,
    /// Around the result of `fusion_getReceipt`.
    #[serde(borrow, default)]
    receipt: Option<&'a JsonRawValue>,
    #[serde(borrow, default)]
    status: Option<&'a JsonRawValue>,
}

/// The receipt in `text`, which may be a node's answer. What stands around it proves nothing and is not looked at.
fn receipt_in(text: &str) -> Result<&str, Failure> {
    let nothing = |reason| {
        Err(Failure {
            check: CHECKS[0],
            field: "the document".to_owned(),
            reason,
        })
    };
    let mut text = text;
    // `result`, and in it `receipt`.
    for _ in 0..2 {
        let Ok(answer) = serde_json::from_str::<Answer<'_>>(text) else {
            return Ok(text);
        };
        match (answer.result.or(answer.receipt), answer.error, answer.status) {
            (Some(inner), ..) => text = inner.get(),
            (None, Some(error), _) => return nothing(format!("it is no receipt but the error {error}")),
            (None, None, Some(status)) => return nothing(format!("it holds no receipt, its status is {status}")),
            (None, None, None) => return Ok(text),
        }
    }
    Ok(text)
}

fn decode(text: &str) -> Result<Receipt, Failure> {
    let text = receipt_in(text)?;
    let json = from_str::<ReceiptJson>(text);
    json.and_then(|json| Receipt::try_from(&json)).map_err(|error| Failure {
        check: CHECKS[0],
        field: match &error {
            JsonError::Shape(shape) => path::of_place(text, shape.line(), shape.column()),
            JsonError::Number { field, .. } => field.clone(),
            JsonError::Disagree { field, other_field, .. } => format!("{field} or {other_field}"),
            _ => "the document".to_owned(),
        },
        reason: error.to_string(),
    })
}

/// What each check proves if it passes, in the order of [`CHECKS`].
fn proves(receipt: &Receipt, trust: &Trust) -> Vec<Check> {
    let (header, lane, certificate) = (&receipt.header, &receipt.lane, &receipt.certificate);
    let committee = &trust.committee;
    let sentences = [
        "it is one receipt, and its redundant fields agree".to_owned(),
        format!("it is of network {}", header.network),
        format!("its committee is that of epoch {}", header.epoch.0),
        format!("its header names the committee {}", header.committee),
        format!("header and certificate are of height {}", header.height),
        format!("the certificate is for the block of this header, {}", certificate.block),
        format!(
            "{} of {} voting power precommitted that block in round {}; {} is needed",
            certificate.power(committee),
            committee.total_power(),
            certificate.round,
            committee.quorum()
        ),
        format!("the block holds this lane of rollup {}", lane.rollup),
        format!("the lane continues the stream from sequence {}", lane.first_sequence),
        format!("the lane holds transaction {}", receipt.transaction),
        format!("its place in the stream is sequence {}", receipt.sequence),
    ];
    let checks = CHECKS.iter().zip(sentences);
    checks.map(|(name, proves)| Check { name, proves }).collect()
}

fn explain(error: &ReceiptError) -> Failure {
    let (check, field) = match error {
        ReceiptError::Network { .. } => ("network", "network".to_owned()),
        ReceiptError::Epoch { .. } => ("epoch", "header.epoch".to_owned()),
        ReceiptError::Committee => ("committee", "header.committee".to_owned()),
        ReceiptError::Height { .. } => ("height", "certificate.height or header.height".to_owned()),
        ReceiptError::Block => ("block", "header or certificate.block".to_owned()),
        ReceiptError::Certificate(error) => ("certificate", signature_field(error)),
        ReceiptError::LaneProof => ("lane", "lane or laneProof".to_owned()),
        ReceiptError::LaneHead => ("stream", "lane.head".to_owned()),
        ReceiptError::TransactionProof => ("transaction", "transaction or transactionProof".to_owned()),
        ReceiptError::Count { .. } => ("transaction", "transactionProof.count or lane.count".to_owned()),
        ReceiptError::Sequence { .. } => ("sequence", "sequence".to_owned()),
    };
    Failure {
        check,
        field,
        reason: error.to_string(),
    }
}

fn signature_field(error: &CertificateError) -> String {
    match error {
        CertificateError::Epoch { .. } => "certificate.epoch".to_owned(),
        CertificateError::Order(at) => format!("certificate.signatures[{at}].validator"),
        CertificateError::Unknown { at, .. } => format!("certificate.signatures[{at}].validator"),
        // The signed bytes hold round and epoch too, so that a change there shows at the first signature.
        CertificateError::Signature { at, .. } => format!("certificate.signatures[{at}] or certificate.round"),
        CertificateError::Quorum { .. } => "certificate.signatures".to_owned(),
    }
}

#[cfg(test)]
mod tests;
