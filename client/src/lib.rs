//! What a rollup or an application imports: submit, wait, verify, follow.
//!
//! Promises: nothing that a node says is believed. Receipts and stream blocks are verified against a [`Trust`] that
//! starts at the genesis, nodes are interchangeable, and one that lies is named with the check that it failed and left
//! for good. Leaves to others: keys and signing of transactions (any Ethereum tool), and what a transaction means (the
//! rollup).
//!
//! Three ways in:
//! - [`Client`] sends a transaction and brings back its verified final receipt;
//! - [`Follower`] reads a rollup's stream from several nodes, without gap or repeat, across restarts;
//! - [`verify_receipt`] checks a kept receipt offline and says what it proves.

pub mod json;

mod trust;
pub use trust::Trust;

mod verify;
pub use verify::{CHECKS, Check, Failure, Verdict, verify_receipt};

mod node;
pub use node::NodeUrl;

mod submit;
pub use submit::{Client, ClientError, Liar, Preconfirmation, Rejection, status};

mod block;
pub use block::block;

mod cursor;
pub use cursor::{CursorError, CursorFile};

mod follow;
pub use follow::{Event, FollowError, FollowOptions, Follower, Start};

#[cfg(test)]
mod fake;
