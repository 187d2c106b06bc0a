//! Settlement: decided blocks become certified batches on Ethereum, and from Ethereum alone they come back.
//!
//! What is here so far is the [`batcher`]. Nothing speaks to L1, holds a key or keeps a clock yet. The batch itself and its
//! hashes are `fusion_types::Batch`, the contracts that check it are in `contracts/`.

pub mod batcher;
