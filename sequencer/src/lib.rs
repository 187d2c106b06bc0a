//! The fusion node: all I/O and all wiring, and the pure core that it wires.
//!
//! Reading order: [`cli`] parses the command line, [`config`] and [`keys`] load what an operator gave, [`node`] runs:
//! it feeds [`core`], makes its records durable in [`store`], and carries out the rest through [`network`] and
//! [`rpc`]. [`exit`] says how the process ends.

pub mod cli;
pub mod config;
pub mod exit;
pub mod keys;
pub mod logging;

pub mod core;
pub mod node;
pub mod relay;

pub mod handle;
pub mod ingress;
pub mod metrics;
pub mod rpc;

pub mod network;
pub mod store;
