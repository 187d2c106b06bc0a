//! Settlement: decided blocks become certified batches on Ethereum, and from Ethereum alone they come back.
//!
//! - [`batcher`]: which blocks are a batch and what it carries. Pure;
//! - [`contracts`]: the contracts of `contracts/`, encoded and decoded;
//! - [`l1`]: one node of L1, and a key;
//! - [`poster`]: brings batches onto L1 and keeps them there;
//! - [`deploy()`]: a new network's contracts.
//!
//! The batch itself and its hashes are `fusion_types::Batch`, the contracts that check it are in `contracts/`.

pub mod batcher;

pub mod contracts;

pub mod l1;

pub mod poster;

pub mod deploy;
pub use deploy::deploy;
