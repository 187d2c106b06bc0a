//! What a batch is and what it carries: the pure part, which every member, poster and reader shares.
//!
//! - [`Cutter`]: which run of decided blocks is a batch, by a rule on the blocks alone;
//! - [`Payload`]: what a batch carries, one compressed segment for each rollup, and what is read back from it: a whole
//!   batch ([`Payload::blocks`]) or one rollup's part ([`Payload::stream`]), each verified;
//! - [`blobs`]: how a payload lies in EIP-4844 blobs.

mod cut;
pub use cut::{BlockFacts, CutRule, Cutter};

mod segment;
pub use segment::{SegmentError, SegmentLane};

mod contents;
pub use contents::Contents;

mod payload;
pub use payload::{Payload, PayloadError, RollupPart};

pub mod blobs;
