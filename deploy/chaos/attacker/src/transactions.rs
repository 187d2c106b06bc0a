//! Floods of transactions that are valid and of no use.

use std::fmt::Write as _;
use std::time::Instant;

use alloy_consensus::transaction::SignableTransaction as _;
use alloy_consensus::{TxEip1559, crypto::secp256k1};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, TxKind, U256, hex, keccak256};
use fusion_types::{RollupId, RollupKind};

use anyhow::Context as _;

use crate::http::{self, send_paced};
use crate::pace::Counts;
use crate::target::Target;

/// Nonces that a sender with gaps uses: every second one from 1, so that nothing can be ordered.
const GAPS_PER_SENDER: u64 = 32;
/// How often one transaction is replaced, for an eighth more each time.
const REPLACEMENTS: u64 = 400;
/// Bytes of a payload.
const SUBMISSION_BYTES: usize = 512;
const GWEI: u128 = 1_000_000_000;

/// Signed transfers that can never be ordered, each sender's at every second nonce.
///
/// # Errors
/// If the network has no `evm` rollup, or a worker fails.
pub(crate) async fn gaps(target: &Target, until: Instant) -> anyhow::Result<Counts> {
    let rollup = evm_rollup(target)?;
    send_paced(target, until, |number| {
        let mut sent = 0;
        move || {
            let (sender, nonce) = (sent / GAPS_PER_SENDER, 1 + 2 * (sent % GAPS_PER_SENDER));
            sent += 1;
            call(rollup, secret(number, sender), nonce, GWEI)
        }
    })
    .await
}

/// Signed transfers behind a gap, each replaced again and again.
///
/// # Errors
/// If the network has no `evm` rollup, or a worker fails.
pub(crate) async fn replacements(target: &Target, until: Instant) -> anyhow::Result<Counts> {
    let rollup = evm_rollup(target)?;
    send_paced(target, until, |number| {
        let (mut sent, mut fee) = (0, GWEI);
        move || {
            let sender = sent / REPLACEMENTS;
            fee = if sent % REPLACEMENTS == 0 { GWEI } else { fee + fee / 8 };
            sent += 1;
            call(rollup, secret(number, sender), 1, fee)
        }
    })
    .await
}

/// Payloads for an opaque rollup, valid and each another, as fast as the pace says.
///
/// # Errors
/// If the network has no opaque rollup, or a worker fails.
pub(crate) async fn submissions(target: &Target, until: Instant) -> anyhow::Result<Counts> {
    let mut rollups = target.genesis.rollups().iter();
    let opaque = rollups.find(|rollup| rollup.kind == RollupKind::Opaque);
    let rollup = opaque.context("the genesis has no opaque rollup")?.id;
    let path = format!("/rollup/{rollup}");
    let tail = "5a".repeat(SUBMISSION_BYTES - 16);
    http::submit_paced(target, until, &path, |number| {
        let (process, mut sent) = (std::process::id(), 0_u64);
        let tail = tail.clone();
        move |out: &mut String| {
            let _ = write!(
                out,
                r#"{{"jsonrpc":"2.0","id":{sent},"method":"fusion_sendTransaction","params":["0x{process:08x}{number:08x}{sent:016x}{tail}"]}}"#,
            );
            sent += 1;
        }
    })
    .await
}

fn evm_rollup(target: &Target) -> anyhow::Result<RollupId> {
    let evm = target
        .genesis
        .rollups()
        .iter()
        .find(|rollup| rollup.kind == RollupKind::Evm);
    Ok(evm.context("the genesis has no evm rollup")?.id)
}

/// A sender's key: worth nothing, and another in every run.
fn secret(worker: usize, sender: u64) -> B256 {
    let text = format!("fusion attacker {} {worker} {sender}", std::process::id());
    keccak256(text)
}

fn call(rollup: RollupId, secret: B256, nonce: u64, fee: u128) -> String {
    let transaction = TxEip1559 {
        chain_id: rollup.0,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: fee.saturating_mul(2),
        max_priority_fee_per_gas: fee,
        to: TxKind::Call(Address::repeat_byte(0xfe)),
        value: U256::from(1),
        ..TxEip1559::default()
    };
    // Fails for a key of 0 or beyond the curve's order only: then the call is a refused one, which floods too.
    let raw = secp256k1::sign_message(secret, transaction.signature_hash())
        .map(|signature| transaction.into_signed(signature).encoded_2718())
        .unwrap_or_default();
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"fusion_sendTransaction","params":[{},"0x{}"]}}"#,
        rollup.0,
        hex::encode(raw)
    )
}
