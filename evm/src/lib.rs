//! An embedded EVM chain on `revm`, and an L1 around it: for devnets, tests and the reference rollup.
//!
//! Three rooms, each of which knows only those before it:
//! - [`chain`]: an EVM chain. Blocks, receipts, logs, state and its root, calls. Pure: ordered transactions and a time come
//!   in, a block comes out, and the same input gives the same bytes on every machine. A rollup needs no more than this.
//! - [`l1`]: what makes it an L1. The pool with the strict rules of real nodes, blobs with EIP-7594 proofs, the tags `safe` and
//!   `finalized`, block time, reorgs. Pure too, except that the first look at a blob loads the KZG setup.
//! - [`serve()`]: one thread that owns the [`L1`], JSON-RPC over HTTP and WebSocket and the beacon API, all on one port.
//!
//! The rules are those of mainnet after Osaka and BPO2 ([`params`] has them with their sources).
//!
//! By hand: `cargo run -p fusion-evm --example l1 -- --port 8545 --block-time 1`, then point `cast`, viem or ethers at it.
//!
//! # What is absent, on purpose
//! - Persistence: a restart begins a new chain.
//! - A beacon chain. The root of a beacon block is defined to be the hash of the execution block in it (which EIP-4788's contract
//!   serves), slots are counted from the genesis time, and nobody signs anything.
//! - Deposits, withdrawals and the other requests of validators (EIP-7685: the list is always empty).
//! - Peers, traces, `eth_getProof`, log filters with a memory (`eth_newFilter`), `eth_subscribe`, state overrides.
//! - Safety for money: keys of the accounts are public, and whoever reaches the port may reorg the chain. It binds loopback.

pub mod params;

pub mod chain;
pub use chain::{BlockInput, Chain, ChainConfig, ExecutedBlock};

pub mod l1;
pub use l1::{L1, L1Config, Refusal, Submission};

pub mod serve;
pub use serve::{L1Server, ServeConfig, serve};

#[cfg(test)]
mod fixture;
