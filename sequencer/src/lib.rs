//! The fusion node: all I/O and all wiring.

pub mod core;
pub mod relay;

pub mod handle;
pub mod ingress;
pub mod metrics;
pub mod rpc;

pub mod network;
pub mod store;
