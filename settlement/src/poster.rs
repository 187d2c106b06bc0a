//! The poster: certified batches onto L1, each once, through reorgs, crashes, spikes of fees and nodes that forget or lie.
//!
//! - [`Poster`]: what to do next. Pure: views of L1 and answers come in, orders go out;
//! - [`FeeRule`]: what to offer for a place in a block. Pure;
//! - [`Journal`]: signed transactions, durable before they are sent;
//! - [`run`]: the task that carries the orders out.
//!
//! One account posts, and does nothing else: nodes keep accounts of blobs apart from others, and a pending blob
//! transaction can only be replaced by another for twice its fees. One nonce is in flight at a time. Payloads in calldata
//! are not posted: they would need an account of their own.
//!
//! Source of the rules: op-batcher's, Nitro's and ZKsync's posters, and what went wrong with them.

mod fees;
pub use fees::{FeeRule, PostFees};

mod words;
pub use words::{Alert, Attempt, Fate, Input, Order, Output, PostJob, Refusal, SendAnswer, View};

mod machine;
pub use machine::{JOBS_MAX, Poster, PosterConfig};

mod journal;
pub use journal::{Journal, JournalError, Recovered};

mod transaction;

mod look;

mod task;
pub use task::{PosterError, PosterSetup, PosterStatus, run};
