//! Fusion's mempool: what is waiting, what goes into a block, and whether a block is right.
//!
//! Pure: time comes in as an argument, and nothing here does I/O. The shell decodes payloads and recovers signers; the
//! pool believes it.
//!
//! # The ordering policy
//!
//! **Between rollups**, a block is shared in bytes by weighted fair queueing. A rollup that wants no more than its
//! share of the block gets all it wants, whatever the others want; what it leaves is shared by the others in proportion
//! to their weights. A short transaction counts as long as the average one of a block full in both bytes and number.
//! One rollup, in turn by height, has its first transaction taken before all, so that a long one never waits for ever.
//!
//! **Within a rollup**, its genesis entry says how:
//! - `fcfs`: in the order in which they became executable here. This cannot be checked and is not.
//! - `priority`: the greedy merge of the senders' runs. At each step comes the transaction with the highest effective
//!   tip (`min(tip, max_fee)`) among every sender's lowest remaining nonce; among equals the proposer chooses, and ours
//!   takes the one that came first. This is checked within the lane: a proposer may leave out, but not reorder.
//!
//! **Within a sender** of an `evm` rollup nonces ascend. We do not execute, so we never know an account's nonce. We
//! know which nonces the stream carried: a nonce among the last unbroken run of these is stale and refused; the next
//! one is executable; one further ahead waits for those between, at most three minutes. One that was carried sooner
//! than the one below it may be signed again: a rollup may have skipped it. A sender of whom nothing is known, or too
//! little because the stream carried transactions whose sender this node did not see, is taken at face value: its
//! lowest waiting nonce is executable. An account whose nonce also moves without a transaction of its own (EIP-7702)
//! may thus have to wait. A nonce is replaced only by one that pays ten percent more on both fees, at most once a
//! second, and never while the replaced one is in a proposal.
//!
//! **When the pool is full**, `fcfs` refuses the newcomer. `priority` lets it take the room of others of its rollup
//! that pay less: the least first, the newest first among equals, and only if it is executable itself. No rollup can
//! take the room that is reserved for another.
//!
//! **No repeats**: a stream does not carry a transaction again that is among its last ones ([`Window`]).
//!
//! **Forced transactions** stand before all others of their lane, in the order of L1's queue, in the block that adopts their
//! L1 block as its origin, or, past what a block takes, in the next ones ([`L1View`]). The policies above hold for the rest
//! of the lane. One that cannot be carried (no such rollup, empty, too long, carried already) is consumed and skipped.

pub mod limits;
pub use limits::PoolLimits;

mod transaction;
pub use transaction::{EvmFacts, FactsOf, Origin, PoolTransaction};

mod reject;
pub use reject::Reject;

mod pool;
pub use pool::{Pending, Pool, PoolSizes};

mod lane;

mod sender;

mod entries;

mod cursor;

mod window;
pub use window::Window;

mod index;

mod l1;
pub use l1::{L1Refused, L1View, L1Wanted};

mod payload;
pub use payload::{BlockLimits, BuildContext, CheckContext, build, check};

mod invalid;
pub use invalid::Invalid;

#[cfg(test)]
mod fixture;
