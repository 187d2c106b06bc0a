//! The fusion node: all I/O and all wiring.

pub mod network;
pub mod store;
