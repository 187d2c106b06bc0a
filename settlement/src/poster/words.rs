//! What goes into the [`Poster`](super::Poster) and what comes out of it.

use std::fmt;

use alloy_primitives::{B256, Bytes, U256};

use super::fees::{self, PostFees};
use crate::contracts::{BatchInbox::BatchInboxErrors, ContractError};
use crate::l1::Fees;

/// A batch to be posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostJob {
    /// Its number.
    pub number: u64,
    /// Its hash: what tells two batches of one number apart.
    pub hash: B256,
    /// What the inbox takes for its header.
    pub header: Bytes,
    /// What the inbox takes for its certificate.
    pub certificate: Bytes,
    /// What lies in the blobs.
    pub payload: Bytes,
    /// Whose turn it is: 0 posts at once, each further rank a delay later.
    pub rank: u32,
    /// Unix time from which it may be posted, in milliseconds.
    pub ready_at_ms: u64,
}

impl PostJob {
    /// Most gas that it takes.
    pub(super) fn gas_limit(&self) -> u64 {
        fees::gas_limit(self.header.len().saturating_add(self.certificate.len()))
    }

    /// Blobs that it takes.
    pub(super) fn blobs(&self) -> usize {
        fees::blob_count(self.payload.len())
    }
}

/// A signed transaction, without its bytes: one attempt at a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// The batch's number.
    pub number: u64,
    /// The batch's hash.
    pub batch: B256,
    /// The account's nonce.
    pub nonce: u64,
    /// What it offers.
    pub fees: PostFees,
    /// Its hash.
    pub hash: B256,
}

/// What became of an attempt, in the chain that a view is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The node does not know it.
    Unknown,
    /// It waits for a block.
    Pending,
    /// It is in a block and did what it was to do.
    Posted,
    /// It is in a block and reverted; the reason where it is known.
    Reverted(Option<Refusal>),
}

/// Why the inbox does not take a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Its number was posted: what was wanted is done.
    Posted,
    /// A batch before it is missing.
    Gap,
    /// Anything else, in the contract's words.
    Other(String),
}

impl Refusal {
    /// Reads what a call of `post` reverted with.
    pub fn of(error: &ContractError) -> Self {
        match error {
            ContractError::Inbox(BatchInboxErrors::AlreadyPosted(_)) => Self::Posted,
            ContractError::Inbox(BatchInboxErrors::NumberGap(_)) => Self::Gap,
            error => Self::Other(error.to_string()),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Posted => f.write_str("the number was posted already"),
            Self::Gap => f.write_str("a batch before it is missing"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// L1 at one block, as one node shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The block's number.
    pub head: u64,
    /// Number of the batch that the inbox takes next.
    pub next_number: u64,
    /// The account's next nonce.
    pub nonce: u64,
    /// The same two at the finalized block; none where the node has no such block or not its state.
    pub finalized: Option<(u64, u64)>,
    /// What the next block asks.
    pub fees: Fees,
    /// Wei of the account.
    pub balance: U256,
    /// What became of the attempts that were asked about.
    pub fates: Vec<(B256, Fate)>,
}

/// What a node says to a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendAnswer {
    /// It has it, now or before.
    Taken,
    /// The account has used the nonce.
    NonceTooLow,
    /// It does not replace what is pending, or no block would take it.
    Underpriced,
    /// Anything else, in its words.
    Refused(String),
    /// There is no answer.
    Unreachable(String),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A batch is certified. One with a number that is waiting takes its place.
    Job(PostJob),
    /// Time has passed.
    Tick,
    /// The answer to [`Output::Look`].
    View(View),
    /// The same, if there is none.
    NoView,
    /// The answer to [`Output::Sign`].
    Signed {
        /// What was signed.
        attempt: Attempt,
        /// Its bytes, sidecar included.
        raw: Bytes,
    },
    /// The same, if the inbox would not take it.
    Refused(Refusal),
    /// The same, if it could not be made.
    NotSigned(String),
    /// The answer to [`Output::Record`]: it is durable.
    Recorded,
    /// The answer to [`Output::Send`].
    Sent {
        /// The attempt.
        hash: B256,
        /// What the node says.
        answer: SendAnswer,
    },
}

/// A transaction to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What to post.
    pub job: PostJob,
    /// At which nonce.
    pub nonce: u64,
    /// For what.
    pub fees: PostFees,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Look at L1, and what became of these attempts.
    Look(Vec<B256>),
    /// See whether the inbox would take it, and sign it.
    Sign(Order),
    /// Make an attempt durable.
    Record {
        /// What was signed.
        attempt: Attempt,
        /// Its bytes.
        raw: Bytes,
    },
    /// Send a recorded attempt's bytes.
    Send(B256),
    /// Make it durable that all batches below `number` and all nonces below `nonce` are in finalized blocks.
    Finalized {
        /// The first batch that is not.
        number: u64,
        /// The first nonce that is not.
        nonce: u64,
    },
    /// Tell the operator.
    Alert(Alert),
    /// What the account has.
    Balance {
        /// Its balance.
        wei: U256,
        /// For how many posts of six blobs that is enough now.
        posts: u64,
    },
}

/// What an operator has to know. Each is told when it begins, not as long as it lasts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Alert {
    /// The inbox does not take the batch. It is asked again after a while, which costs nothing, or when the batch is replaced.
    #[error("the inbox refuses batch {number}: {refusal}")]
    Refused {
        /// The batch.
        number: u64,
        /// Why.
        refusal: Refusal,
    },
    /// It reverted in a block. Nothing more is sent for it before it is replaced.
    #[error("batch {number} reverted in transaction {hash}{}", .refusal.as_ref().map(|refusal| format!(": {refusal}")).unwrap_or_default())]
    Reverted {
        /// The batch.
        number: u64,
        /// The transaction.
        hash: B256,
        /// Why, where it is known.
        refusal: Option<Refusal>,
    },
    /// Posting costs more than it may.
    #[error("posting batch {number} may cost {cost_wei} wei, the budget is {budget_wei}")]
    Budget {
        /// The batch.
        number: u64,
        /// What it may cost.
        cost_wei: U256,
        /// The limit.
        budget_wei: U256,
    },
    /// Somebody else uses the account, or a node shows what is not so. Nothing is signed until that nonce is finalized.
    #[error("nonce {0} of the posting account was used by no transaction of ours")]
    ForeignNonce(u64),
    /// A node does not take the transaction.
    #[error("transaction {hash} of batch {number} is not taken: {words}")]
    NotTaken {
        /// The batch.
        number: u64,
        /// The transaction.
        hash: B256,
        /// The node's words.
        words: String,
    },
    /// It could not be made.
    #[error("batch {number} cannot be made a transaction: {words}")]
    NotSigned {
        /// The batch.
        number: u64,
        /// Why.
        words: String,
    },
    /// More batches than may wait.
    #[error("batch {number} is not taken: {waiting} wait to be finalized")]
    Full {
        /// The batch.
        number: u64,
        /// How many there are.
        waiting: usize,
    },
}
