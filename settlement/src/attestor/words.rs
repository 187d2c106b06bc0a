//! What an attestor is told, and what it says.

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes};
use fusion_types::{Attestation, Batch, BatchDomain, Epoch, Offer};

/// Who attests, and how patiently.
#[derive(Debug, Clone)]
pub struct AttestorConfig {
    /// Where attestations count.
    pub domain: BatchDomain,
    /// The members' attestation addresses, in the committee's order.
    pub roster: Vec<Address>,
    /// This node's place in the roster; none for one that only watches.
    pub own: Option<usize>,
    /// Each further member in turn waits so much longer before it makes an offer of its own.
    pub turn: Duration,
    /// An offer that is not certified is repeated so often.
    pub repeat: Duration,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// This node's own blocks make this batch.
    Cut(Batch),
    /// The answer to [`Output::Encode`].
    Encoded {
        /// Of which batch.
        number: u64,
        /// What the payload's data hash to.
        data: B256,
        /// The bytes.
        payload: Bytes,
    },
    /// A member's offer came in.
    Offered(Offer),
    /// The answer to [`Output::Check`]: the payload has these data and gives this node's own batch, or why not.
    Checked {
        /// Of which batch.
        number: u64,
        /// With which data.
        data: B256,
        /// What came of it.
        outcome: Result<(), String>,
    },
    /// A member's attestation came in.
    Attested(Attestation),
    /// The answer to [`Output::Sign`]: the guard is durable.
    Signed(Attestation),
    /// The next number to be posted.
    Posted(u64),
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Make the payload of this batch; answer with [`Input::Encoded`].
    Encode(u64),
    /// Decode and compare; answer with [`Input::Checked`].
    Check {
        /// Of which batch.
        number: u64,
        /// What the payload must hash to.
        data: B256,
        /// The bytes.
        payload: Bytes,
    },
    /// Sign, if the guard allows; answer with [`Input::Signed`].
    Sign {
        /// Epoch of the batch.
        epoch: Epoch,
        /// Its number.
        number: u64,
        /// Its hash.
        batch: B256,
        /// Which data.
        data: B256,
    },
    /// Send to all members.
    Offer(Offer),
    /// Send to all members.
    Attest(Attestation),
    /// A quorum signed. Comes once for each number.
    Certified(Box<Certified>),
    /// What a member offered is not to be signed, and why.
    Refused {
        /// Whose offer.
        maker: Address,
        /// Of which batch.
        number: u64,
        /// Why.
        reason: String,
    },
    /// A member signed two batches of one number.
    Contradiction(Box<(Attestation, Attestation)>),
}

/// A batch that can be posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// The batch.
    pub batch: Batch,
    /// Its data's hash.
    pub data: B256,
    /// What the verifier on L1 takes.
    pub certificate: Bytes,
    /// The bytes to be posted.
    pub payload: Bytes,
    /// How many members are in turn before this node; none if it has no turn.
    pub rank: Option<usize>,
}
