//! What goes into the engine and what comes out: the whole contract with the shell.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use fusion_types::limits::ROUND_MAX;
use fusion_types::{BlockId, DecidedBlock, Height, NetworkId, Rotation, Round, SealedBlock};

use crate::context::Timeouts;
use crate::evidence::Evidence;
use crate::guard::{GuardRefusal, GuardState};
use crate::schedule::CommitteeSchedule;
use crate::sync::SyncFault;
use crate::wal::WalRecord;
use crate::wire::{Message, PeerId};

/// How a node takes part.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The network.
    pub network: NetworkId,
    /// Its committees.
    pub schedule: CommitteeSchedule,
    /// The consensus key. A node without one, or with one outside the committee, follows.
    pub key: Option<SigningKey>,
    /// Waiting times of the rounds.
    pub timeouts: Timeouts,
    /// How long a height may stay without work before an empty block is due.
    pub block_interval_idle: Duration,
}

/// A decided block's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Its height.
    pub height: Height,
    /// Its id.
    pub id: BlockId,
}

/// What a node found on its disk.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// The last durable decided block, or the genesis block.
    pub tip: Tip,
    /// The state's rotation after it.
    pub rotation: Rotation,
    /// The log's records in their order. Those of other heights than `tip + 1` are stale and skipped.
    pub wal: Vec<WalRecord>,
    /// Whether the log could be read to its end. A torn last record that was never durable counts as read.
    pub wal_readable: bool,
    /// The guard's state; nothing only when the key has never signed on this network.
    pub guard: Option<GuardState>,
    /// Bodies in the block log that are not decided.
    pub bodies: Vec<Arc<SealedBlock>>,
    /// Evidence that was kept. What does not verify is dropped.
    pub evidence: Vec<Evidence>,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The node is up. First input, once.
    Start,
    /// A message came from a connected peer.
    Received {
        /// The peer.
        peer: PeerId,
        /// The message.
        message: Message,
    },
    /// A peer connected, or connected again.
    PeerConnected {
        /// The peer.
        peer: PeerId,
    },
    /// A peer is gone: no connection to it is left.
    PeerDisconnected {
        /// The peer.
        peer: PeerId,
    },
    /// A block of ours, valid by the same check as others' blocks. Answers [`Output::NeedBlock`], at any time.
    Propose {
        /// As in `NeedBlock`.
        height: Height,
        /// As in `NeedBlock`.
        round: Round,
        /// The block.
        block: Arc<SealedBlock>,
    },
    /// Answers [`Output::CheckBlock`], at any time: an answer that comes after the height is over is ignored.
    Checked {
        /// As in `CheckBlock`.
        height: Height,
        /// As in `CheckBlock`.
        round: Round,
        /// The block's id.
        id: BlockId,
        /// The verdict. A valid block's body is durable in the same flush as our vote for it, or before.
        valid: bool,
    },
    /// There is something to order: the proposer of this height is expected to propose without waiting for the
    /// idle interval. To be told again after each [`Input::Advanced`] while it lasts.
    WorkWaiting,
    /// The block of [`Output::Decided`] is applied and durable, at the latest with the flush of this turn.
    Advanced {
        /// That block.
        tip: Tip,
        /// The state's rotation after it.
        rotation: Rotation,
    },
    /// The time that [`crate::Engine::deadline`] named has come.
    DeadlinePassed,
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipient {
    /// One peer.
    Peer(PeerId),
    /// All connected validators but this node.
    Validators,
}

/// What to do, in this order; everything to persist in one turn is durable before anything of that turn is sent.
#[derive(Debug, Clone)]
pub enum Output {
    /// This node proposes: answer with [`Input::Propose`] as soon as there is work, else after the idle interval. An
    /// answer that comes after the round has passed is ignored.
    NeedBlock {
        /// Height to build for.
        height: Height,
        /// Round to build for.
        round: Round,
    },
    /// Check a block's content against the state after its parent; answer with [`Input::Checked`]. Parent, height,
    /// epoch, committee and proposer are checked already.
    CheckBlock {
        /// Its height.
        height: Height,
        /// The round that it was built for.
        round: Round,
        /// The block.
        block: Arc<SealedBlock>,
    },
    /// Append to the write-ahead log.
    Persist(WalRecord),
    /// Replace the sign guard's content.
    PersistGuard(GuardState),
    /// Send a message, after this turn's flush.
    Send {
        /// To whom.
        to: Recipient,
        /// What.
        message: Message,
    },
    /// A block is decided: apply it, make it durable, answer with [`Input::Advanced`].
    Decided(DecidedBlock),
    /// Answer a peer's request with a [`Message::SyncResponse`] from the block log.
    ServeSync {
        /// The peer.
        peer: PeerId,
        /// First height.
        from: Height,
        /// Last height; at most [`crate::wire::SYNC_BLOCKS_MAX`] blocks, and none above the tip.
        to: Height,
    },
    /// Answer a peer's request with a [`Message::Block`] from the block log.
    ServeBlock {
        /// The peer.
        peer: PeerId,
        /// The block's height.
        height: Height,
        /// The block's id.
        id: BlockId,
    },
    /// A validator contradicted itself: keep [`Engine::evidence`](crate::Engine::evidence) for the next start.
    Evidence(Evidence),
    /// A peer broke a rule. Drop the connection of one that does so again and again.
    Fault {
        /// The peer.
        peer: PeerId,
        /// The rule.
        fault: Fault,
    },
    /// End the process; it must not sign with this state any more. The engine says nothing after this.
    Fatal(FatalError),
}

/// A rule that a peer broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A signature that does not verify.
    #[error("sent a message whose signature does not verify")]
    Signature,
    /// A vote or certificate of someone outside the committee.
    #[error("sent a message of someone outside the committee")]
    UnknownValidator,
    /// A proposal by someone whose turn it is not, or with a valid round that is not below its round.
    #[error("sent a proposal that its proposer may not make")]
    Proposal,
    /// A certificate without the power that it needs, or out of order.
    #[error("sent a certificate that proves nothing")]
    Certificate,
    /// Evidence whose messages do not exclude each other or were not signed by one member.
    #[error("sent evidence that proves nothing")]
    Evidence,
    /// Consensus messages of a node that is no validator.
    #[error("sent consensus messages without being a validator")]
    Stranger,
    /// A round that no committee comes to.
    #[error("sent a message of a round above {ROUND_MAX}")]
    Round,
    /// A request whose range makes no sense.
    #[error("sent a request whose range makes no sense")]
    Request,
    /// Something wrong about decided blocks.
    #[error(transparent)]
    Sync(#[from] SyncFault),
}

/// Why the process must end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FatalError {
    /// The sign guard refused. After a restart the node follows this height without voting.
    #[error("the sign guard refused a signature: {0}")]
    Guard(#[from] GuardRefusal),
    /// The write-ahead log leads to other messages than it records.
    #[error("the write-ahead log contradicts itself: {0}")]
    Replay(String),
    /// Someone else signs with this node's key.
    #[error("another process signs with this node's key: a signature for height {0} is not of this process")]
    KeyInUse(Height),
}

/// Why an engine cannot be built from what was on disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// The guard is of another network.
    #[error("the sign guard is of network {found}, this is network {expected}")]
    GuardNetwork {
        /// The guard's.
        found: NetworkId,
        /// The configured one.
        expected: NetworkId,
    },
    /// The guard is of another key.
    #[error("the sign guard is of another consensus key")]
    GuardKey,
}
