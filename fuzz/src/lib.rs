//! What the fuzz targets do with their bytes: one function for each file in `fuzz_targets/`.
//!
//! Promises to find, given time: a panic, an endless loop or an allocation beyond what was sent, a value with two
//! encodings, a value that does not survive encoding, a store that takes damage for an answer, a machine that signs two
//! values for one place. All of the code is production's, signatures included. Leaves to others: networks of honest
//! nodes and their faults (`sim/`).

pub mod codec;
pub mod edge;
pub mod engine;
pub mod fixture;
pub mod handshake;
pub mod json;
pub mod messages;
pub mod node;
pub mod pool;
pub mod private;
pub mod rpc;
pub mod seeds;
pub mod store;
pub mod volume;
