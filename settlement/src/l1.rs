//! What speaks to L1: one node's JSON-RPC, and the key that pays for transactions.
//!
//! - [`Endpoint`]: typed calls to one node, each bounded in time and in bytes. Believes nothing beyond the form of an
//!   answer; whoever needs more asks several nodes;
//! - [`Panel`]: several endpoints as one, where enough of them agree;
//! - [`L1Key`]: a secp256k1 key from a file.

mod client;
pub use client::{Endpoint, EndpointLimits, Fees, L1Block};

mod panel;
pub use panel::{Panel, PollError};

mod error;
pub use error::{EndpointError, Refused};

mod key;
pub use key::{KeyError, L1Key, Password};
