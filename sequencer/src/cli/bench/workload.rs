//! What the bench sends: JSON-RPC calls as text, rendered with as little work per transaction as possible.
//!
//! Opaque payloads are a fixed text with a counter at the end, so that all but the last block of their hash is computed
//! once. Signed transfers are signed and rendered beforehand, on all cores. Every run uses payloads and senders of its
//! own: a node refuses a repeat. Leaves to others: when (schedule) and over which connection (load).

use std::io::Write as _;

use alloy_consensus::transaction::SignableTransaction as _;
use alloy_consensus::{TxEip1559, crypto::secp256k1};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, Keccak256, TxKind, U256, hex, keccak256};
use anyhow::{Context as _, ensure};
use fusion_types::limits::TRANSACTION_BYTES_MAX;

/// Bytes of an opaque payload that differ between transactions: 8 of the run, 8 of the counter.
const TAIL_BYTES: usize = 16;

/// The transactions of one run, for all its connections.
#[derive(Debug)]
pub(super) enum Workload {
    /// `--size`.
    Opaque(Box<Opaque>),
    /// `--transfers`.
    Transfers(Transfers),
}

impl Workload {
    /// Appends the JSON-RPC call of transaction `index` of connection `place` and returns the key under which its
    /// hash is found again; `None` when no such transaction was prepared. The call's id is `index`.
    pub(super) fn render(&self, place: usize, index: u64, out: &mut Vec<u8>) -> Option<u64> {
        match self {
            Self::Opaque(opaque) => Some(opaque.render(place, index, out)),
            Self::Transfers(transfers) => transfers.render(place, index, out),
        }
    }

    /// The key of transaction `index` of connection `place`.
    pub(super) fn key(&self, place: usize, index: u64) -> Option<u64> {
        match self {
            Self::Opaque(opaque) => Some(opaque.key(opaque.counter(place, index))),
            Self::Transfers(transfers) => transfers.item(place, index).map(|item| item.key),
        }
    }

    /// Mean size of a payload in bytes.
    pub(super) fn payload_bytes(&self) -> f64 {
        match self {
            Self::Opaque(opaque) => opaque.size as f64,
            Self::Transfers(transfers) => transfers.payload_bytes,
        }
    }
}

/// The first 8 bytes of a hash.
pub(super) fn key_of(hash: B256) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash[..8]);
    u64::from_be_bytes(bytes)
}

/// Payloads of one size that differ in their last bytes.
#[derive(Debug)]
pub(super) struct Opaque {
    size: usize,
    connections: u64,
    rollups: Vec<u64>,
    /// Hash state after all bytes but the counter.
    hashed: Keccak256,
    /// Hex digits of the same bytes.
    digits: Vec<u8>,
}

impl Opaque {
    /// Payloads of `size` bytes for `rollups` in turn; `run` sets them apart from all other runs'.
    pub(super) fn new(size: usize, run: u64, connections: usize, rollups: Vec<u64>) -> anyhow::Result<Self> {
        ensure!(
            (TAIL_BYTES..=TRANSACTION_BYTES_MAX).contains(&size),
            "--size is {size}, it must be {TAIL_BYTES} to {TRANSACTION_BYTES_MAX} bytes"
        );
        ensure!(
            !rollups.is_empty(),
            "no opaque rollup to send to: name one with --rollup"
        );
        let mut bytes: Vec<u8> = (0_u64..)
            .flat_map(|block| keccak256((run ^ block).to_be_bytes()).0)
            .take(size - TAIL_BYTES)
            .collect();
        bytes.extend_from_slice(&run.to_be_bytes());
        let mut hashed = Keccak256::new();
        hashed.update(&bytes);
        Ok(Self {
            size,
            connections: connections.max(1) as u64,
            rollups,
            hashed,
            digits: hex::encode(&bytes).into_bytes(),
        })
    }

    fn counter(&self, place: usize, index: u64) -> u64 {
        index * self.connections + place as u64
    }

    fn key(&self, counter: u64) -> u64 {
        let mut hasher = self.hashed.clone();
        hasher.update(counter.to_be_bytes());
        key_of(hasher.finalize())
    }

    fn render(&self, place: usize, index: u64, out: &mut Vec<u8>) -> u64 {
        let counter = self.counter(place, index);
        let turn = usize::try_from(index % self.rollups.len() as u64).unwrap_or(0);
        put_call(index, self.rollups[turn], out);
        out.extend_from_slice(&self.digits);
        let mut tail = [0; 16];
        hex::encode_to_slice(counter.to_be_bytes(), &mut tail).expect("8 bytes are 16 digits");
        out.extend_from_slice(&tail);
        out.extend_from_slice(b"\"]}");
        self.key(counter)
    }
}

/// The call up to the payload's digits.
fn put_call(index: u64, rollup: u64, out: &mut Vec<u8>) {
    write!(
        out,
        r#"{{"jsonrpc":"2.0","id":{index},"method":"fusion_sendTransaction","params":[{rollup},"0x"#
    )
    .expect("a Vec takes every write");
}

/// Signed EIP-1559 transfers, rendered.
#[derive(Debug)]
pub(super) struct Transfers {
    connections: Vec<Rendered>,
    payload_bytes: f64,
}

/// The calls of one connection, one after another.
#[derive(Debug, Default)]
struct Rendered {
    text: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    /// Where the call ends in the text.
    end: usize,
    key: u64,
}

/// How many transfers to sign, and for whom.
#[derive(Debug, Clone)]
pub(super) struct TransfersPlan {
    /// Sets the senders apart from all other runs'.
    pub(super) run: u64,
    /// Number of connections; a sender stays with one, so that its nonces arrive in order.
    pub(super) connections: usize,
    /// Transfers for each connection.
    pub(super) per_connection: usize,
    /// Senders in all.
    pub(super) senders: usize,
    /// Rollups that they send to; each sender keeps to one.
    pub(super) rollups: Vec<u64>,
}

impl Transfers {
    /// Signs and renders everything, on all cores. Costs about 30 µs of one core for each transfer.
    pub(super) fn sign(plan: &TransfersPlan) -> anyhow::Result<Self> {
        ensure!(
            !plan.rollups.is_empty(),
            "no evm rollup to send to: name one with --rollup"
        );
        ensure!(
            plan.senders >= plan.connections,
            "--senders is {}, it must be at least the number of nodes, {}",
            plan.senders,
            plan.connections
        );
        let signed: Vec<anyhow::Result<(Rendered, usize)>> = std::thread::scope(|scope| {
            let work: Vec<_> = (0..plan.connections)
                .map(|place| scope.spawn(move || sign_connection(plan, place)))
                .collect();
            work.into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        let (mut connections, mut bytes) = (Vec::new(), 0);
        for result in signed {
            let (rendered, payload_bytes) = result?;
            connections.push(rendered);
            bytes += payload_bytes;
        }
        let count = (plan.connections * plan.per_connection).max(1);
        Ok(Self {
            connections,
            payload_bytes: bytes as f64 / count as f64,
        })
    }

    fn item(&self, place: usize, index: u64) -> Option<Item> {
        let items = &self.connections.get(place)?.items;
        items.get(usize::try_from(index).ok()?).copied()
    }

    fn render(&self, place: usize, index: u64, out: &mut Vec<u8>) -> Option<u64> {
        let item = self.item(place, index)?;
        let start = match index.checked_sub(1) {
            Some(before) => self.item(place, before)?.end,
            None => 0,
        };
        out.extend_from_slice(&self.connections[place].text[start..item.end]);
        Some(item.key)
    }
}

/// The calls of connection `place`, and the bytes of their payloads.
fn sign_connection(plan: &TransfersPlan, place: usize) -> anyhow::Result<(Rendered, usize)> {
    let senders: Vec<usize> = (place..plan.senders).step_by(plan.connections).collect();
    let mut rendered = Rendered::default();
    let mut bytes = 0;
    for index in 0..plan.per_connection {
        let sender = senders[index % senders.len()];
        // By the sender's place in the list and not by its number: numbers step by the count of connections.
        let rollup = plan.rollups[(index % senders.len()) % plan.rollups.len()];
        let nonce = (index / senders.len()) as u64;
        let raw = transfer(secret(plan.run, sender), rollup, nonce)?;
        put_call(index as u64, rollup, &mut rendered.text);
        rendered.text.extend_from_slice(hex::encode(&raw).as_bytes());
        rendered.text.extend_from_slice(b"\"]}");
        rendered.items.push(Item {
            end: rendered.text.len(),
            key: key_of(keccak256(&raw)),
        });
        bytes += raw.len();
    }
    Ok((rendered, bytes))
}

/// A sender's key: worth nothing, so that it may follow from the run's number.
fn secret(run: u64, sender: usize) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(b"fusion bench sender");
    hasher.update(run.to_be_bytes());
    hasher.update((sender as u64).to_be_bytes());
    hasher.finalize()
}

/// A signed transfer of 1 wei to nobody.
fn transfer(secret: B256, chain_id: u64, nonce: u64) -> anyhow::Result<Vec<u8>> {
    let transaction = TxEip1559 {
        chain_id,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 2_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to: TxKind::Call(Address::repeat_byte(0xfe)),
        value: U256::from(1),
        ..TxEip1559::default()
    };
    let signature = secp256k1::sign_message(secret, transaction.signature_hash()).context("a hash is no usable key")?;
    Ok(transaction.into_signed(signature).encoded_2718())
}

#[cfg(test)]
mod tests;
