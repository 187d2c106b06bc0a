//! Settlement: decided blocks become certified batches on Ethereum, and from Ethereum alone they come back.
//!
//! In the order of a batch's life:
//! - [`batcher`] (pure): which blocks are a batch, what it carries, how it lies in blobs, and the way back;
//! - [`cutting`] (pure): a node's decided blocks into batches, one after the other;
//! - [`attestor`] (pure): who makes a batch's bytes, who signs them, when it is enough;
//! - [`guard`]: what the attestation key signed; [`data`]: what bytes hash to on L1;
//! - [`watcher`]: what stands on L1; [`feeder`]: finalized L1 blocks for consensus; [`records`]: the batches that L1 has finalized;
//! - [`settler`]: the task that owns all of these;
//! - [`poster`]: brings certified batches onto L1 and keeps them there.
//!
//! Below them: [`contracts`], the contracts of `contracts/` encoded and decoded; [`l1`], one node of L1, and a key;
//! [`deploy()`], a new network's contracts.
//!
//! The batch itself and its hashes are `fusion_types::Batch`, the contracts that check it are in `contracts/`.

pub mod batcher;
pub mod cutting;

pub mod attestor;
pub mod data;
pub mod guard;

pub mod feeder;
pub mod records;
pub mod settler;
pub mod watcher;

pub mod contracts;
pub mod l1;

pub mod poster;

pub mod deploy;
pub use deploy::deploy;
