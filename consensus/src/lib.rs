//! Fusion's consensus: Tendermint by Malachite's core, as one pure step function.
//!
//! [`Engine::step`] takes an event and the time, and returns what to do. The crate has no clock, no randomness, no
//! threads and no I/O, so a network of engines replays exactly from a seed. The shell that drives it owes it two
//! things: what [`Output`]s persist is durable before anything of the same turn is sent, and time never goes back.
//!
//! # The protocol
//!
//! Tendermint (arXiv:1807.04938) on block ids, one height after the other, each in rounds:
//!
//! ```text
//!            NeedBlock / a proposal with its body, checked
//!  new round ───────────▶ propose ──────────────▶ prevote ──────────────▶ precommit ─────────▶ decided
//!      ▲                     │ invalid, or nothing   │ > 2/3 for a block: lock   │ > 2/3 for a block,
//!      │                     │ in time: prevote nil  │ > 2/3 for nil, or no      │ in any round
//!      │                     ▼                       ▼ agreement: precommit nil  │
//!      └─────────────────────────────────────────────────────────────────────────┘ no agreement in time, or
//!                                                                                   > 1/3 are in a later round
//! decided ─ Decided ─▶ the shell applies and keeps the block ─ Advanced ─▶ next height
//! ```
//!
//! The proposers of a height follow one another as `fusion_types::Rotation` says: the state knows who stayed silent.
//!
//! # Where it differs from the paper
//!
//! - Consensus is on ids; bodies travel apart. A proposal reaches the core together with the verdict about its block:
//!   pushed by its proposer, else fetched from someone who voted for it. A fresh block must be its proposer's own, one
//!   that is proposed again must be of somebody scheduled up to its polka's round.
//! - More than two thirds of precommits decide at once, even where the proposal is missing: the certificate proves the
//!   block whatever else is known, and only its body is still wanted.
//! - Round 0 waits for its proposer only when there is something to order: the propose timeout starts with work
//!   waiting, with a first message of the height, or with the idle interval. So there is no fixed block time. A
//!   proposer who hears that others already wait proposes at once.
//! - Certificates of polkas and of entered rounds travel, and own messages are repeated at a flat interval. When a
//!   round does not move, others' votes and the tip are repeated too: two validators without a link are still heard.
//! - A wait for votes ends early where nothing can come of it: all have voted, or a quorum prevoted nil and no lock can
//!   be. So a dead proposer costs its propose timeout and two hops. A polka that arrives after its round is proposed
//!   again all the same, where the paper's proposer knows only what it saw in time.
//! - Who lags fetches decided blocks with their certificates instead of playing heights again.
//!
//! # Why it is safe
//!
//! Two blocks decided at one height would need more than a third of voting power to precommit both, across rounds
//! against its locks; honest validators do neither:
//!
//! - *within a run*, by Malachite's state machine, which is given verified messages only (the type of a verified
//!   message cannot be made otherwise) and never a message of a height that has not begun;
//! - *across restarts*, by the log: own and others' messages, verdicts and timeouts are logged before they act
//!   outwards, and fed through the same state machine again they give the same locks and the same signatures;
//! - *without the log*, by the sign guard: [`GuardState`] is durable before a signature leaves, refuses to go back or
//!   to contradict itself, and where it shows signatures that the log does not, the node follows that height in silence
//!   (quarantine) and votes again at the next;
//! - *after a restore from an old copy*, by listening first: before its first signature after a start, a node waits for
//!   a quorum's tips, at most a second, and is silent up to the height that more than a third of power claims;
//!   validators tell whom they connect to what they last heard of it, and where it spoke before it is silent too;
//! - *with the key elsewhere*: a message under this key that the guard does not know stops a voting node
//!   ([`FatalError::KeyInUse`]); two processes with one key take each other's connections, and each is told of the
//!   other.
//!
//! A decided block is proven by its certificate alone, so blocks from anyone are as good as one's own decision.

mod certificates;
mod context;
mod engine;
mod evidence;
mod guard;
mod interface;
mod malachite;
mod schedule;
mod signing;
mod sync;
mod timers;
mod wal;
pub mod wire;

// What goes in and what comes out.
pub use engine::{Engine, EngineSizes};
pub use interface::{EngineConfig, FatalError, Fault, Input, Output, Recipient, Recovery, RecoveryError, Tip};

// How it is set up.
pub use context::Timeouts;
pub use schedule::CommitteeSchedule;

// What is kept on disk.
pub use guard::{GUARD_BYTES, GuardError, GuardRefusal, GuardState, GuardVerdict};
pub use wal::WalRecord;

// What nodes exchange.
pub use certificates::{Polka, RoundCertificate, RoundReason, RoundVote};
pub use signing::{SignedProposal, SignedVote};
pub use wire::{Class, Forwarded, Message, PeerId, WireError};

// Who broke which rule.
pub use evidence::{EVIDENCE_MAX, EVIDENCE_PER_VALIDATOR_MAX, Evidence};
pub use sync::SyncFault;

#[cfg(test)]
mod tests;
