//! Every rule of validity that a block can break beyond its own consistency. A proposer's fault, never a user's.

use alloy_primitives::B256;
use fusion_types::limits::CLOCK_DRIFT_MAX_MS;
use fusion_types::{BlockId, Epoch, Height, L1Origin, NetworkId, RollupId, TxHash, ValidatorId};

/// Why a block must not be decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A block of another network.
    #[error("header.network is {0}")]
    Network(NetworkId),
    /// Not the next height.
    #[error("header.height is {given}, expected {expected}")]
    Height {
        /// In the header.
        given: Height,
        /// Above the state.
        expected: Height,
    },
    /// Not on the last decided block.
    #[error("header.parent is {given}, expected {expected}")]
    Parent {
        /// In the header.
        given: BlockId,
        /// The last decided block.
        expected: BlockId,
    },
    /// Of another epoch.
    #[error("header.epoch is {}, expected {}", .given.0, .expected.0)]
    Epoch {
        /// In the header.
        given: Epoch,
        /// Of this height.
        expected: Epoch,
    },
    /// Of another committee.
    #[error("header.committee is {given}, expected {expected}")]
    Committee {
        /// In the header.
        given: B256,
        /// Of this height.
        expected: B256,
    },
    /// Built by somebody outside the committee.
    #[error("header.proposer {0} is not in the committee")]
    Proposer(ValidatorId),
    /// Time stands still or goes back.
    #[error("header.time_ms is {given}, it must exceed the parent's {parent}")]
    TimeBack {
        /// In the header.
        given: u64,
        /// Of the parent.
        parent: u64,
    },
    /// Time ahead of the validator's clock.
    #[error("header.time_ms is {given}, {} ms ahead of this clock, limit is {CLOCK_DRIFT_MAX_MS}", .given - .now)]
    TimeAhead {
        /// In the header.
        given: u64,
        /// The validator's clock.
        now: u64,
    },
    /// An L1 origin that goes back or is not of this L1; where nothing settles, any but the parent's.
    #[error(
        "header.l1_origin is block {} {}, expected {} {}", .given.number, .given.hash, .expected.number, .expected.hash
    )]
    L1Origin {
        /// In the header.
        given: L1Origin,
        /// Of the parent, or the block of that number.
        expected: L1Origin,
    },
    /// An L1 origin of which this node cannot tell yet whether it is right, or what it brings.
    #[error("header.l1_origin is block {0}, this node does not see so far yet")]
    L1Unseen(u64),
    /// Another forced cursor than what is due leads to.
    #[error("header.forced_to is {given:?}, expected {expected:?}")]
    ForcedTo {
        /// In the header.
        given: Option<u64>,
        /// As computed.
        expected: Option<u64>,
    },
    /// A lane that is missing, or does not begin with the forced transactions that are due.
    #[error("the lane of rollup {0} does not begin with the forced transactions that are due")]
    Forced(RollupId),
    /// More than a batch has room for.
    #[error("the block's content is {bytes} bytes, limit is {bytes_max}")]
    Large {
        /// Of its lanes.
        bytes: u64,
        /// The network's limit.
        bytes_max: u64,
    },
    /// Another state after the parent.
    #[error("header.state_root is {given}, expected {expected}")]
    StateRoot {
        /// In the header.
        given: B256,
        /// As computed.
        expected: B256,
    },
    /// A lane of an unregistered rollup.
    #[error("rollup {0} is not registered")]
    UnknownRollup(RollupId),
    /// A lane that does not continue its stream.
    #[error("lane of rollup {0} does not continue its stream")]
    Stream(RollupId),
    /// A transaction that its stream carried lately, or twice in this block.
    #[error("transaction {hash} of rollup {rollup} is repeated")]
    Repeated {
        /// Its rollup.
        rollup: RollupId,
        /// Its hash.
        hash: TxHash,
    },
    /// A `priority` lane with a payload that is no transaction.
    #[error("transaction {hash} in the priority lane of rollup {rollup} cannot be decoded")]
    Undecodable {
        /// Its rollup.
        rollup: RollupId,
        /// Its hash.
        hash: TxHash,
    },
    /// A sender's nonces that do not ascend.
    #[error("transaction {hash} of rollup {rollup} has nonce {nonce}, not above its sender's last")]
    NonceOrder {
        /// Its rollup.
        rollup: RollupId,
        /// Its hash.
        hash: TxHash,
        /// Its nonce.
        nonce: u64,
    },
    /// A transaction before one that pays more.
    #[error("transaction {hash} of rollup {rollup} pays a tip of {tip}, but one that pays {best} could come first")]
    TipOrder {
        /// Its rollup.
        rollup: RollupId,
        /// Its hash.
        hash: TxHash,
        /// Its effective tip, wei per gas.
        tip: u128,
        /// The highest effective tip that could come first.
        best: u128,
    },
}

impl Invalid {
    /// Whether the same block may turn out to be right: where the answer depends on what this node knows by now, it is not
    /// an answer about the block.
    pub fn may_pass_later(&self) -> bool {
        matches!(self, Self::TimeAhead { .. } | Self::L1Unseen(_))
    }
}
