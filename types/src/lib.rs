//! Fusion's data, and everything that can be verified about it without a network.
//!
//! This crate promises: one canonical encoding per value, decoding that is total and bounded, and
//! verification that needs nothing but the bytes and a committee. It leaves to others: deciding
//! (`consensus`), choosing (`mempool`), storing and sending (`sequencer`).
//!
//! The words of the house, in the order a transaction meets them:
//!
//! - **rollup**: a chain whose transactions Fusion orders, named by its EIP-155 id ([`RollupId`]).
//! - **lane**: the transactions of one rollup in one block, in order ([`Lane`]).
//! - **stream**: a rollup's lanes over all heights, numbered without gaps from 0 and hash-chained.
//! - **sequence number**: a transaction's place in its stream. **head**: the hash of a stream up to a place.
//! - **height**, **round**, **proposal**, **prevote**, **precommit**, **decided**: as in Tendermint (arXiv:1807.04938).
//! - **committee**, **validator**, **epoch**: who decides, one of them, and for which run of heights ([`Committee`]).
//! - **certificate**: precommits of more than 2/3 of voting power for one block ([`Certificate`]).
//! - **receipt**: the proof that a decided block holds a transaction at a place ([`Receipt`]).
//! - **batch**: a run of decided blocks as Ethereum knows it; **attestation**: a member's signature of one ([`Batch`]).
//! - **L1 origin**: the Ethereum block up to which a header has taken L1 events ([`L1Origin`]).
//! - **forced transaction**: one that was queued on Ethereum and that no committee may leave out ([`ForcedItem`]).

pub mod limits;

mod encoding;
pub use encoding::{DecodeError, decode_exact, encode};

mod transaction;
pub use transaction::{Ordering, RollupConfig, RollupId, RollupKind, TxHash, transaction_hash};

mod merkle;
pub use merkle::{MerkleProof, MerkleTree, leaf_hash, merkle_proof, merkle_root};

mod committee;
pub use committee::{Committee, CommitteeError, Epoch, Validator, ValidatorId, quorum_power};

mod rotation;
pub use rotation::Rotation;

mod block;
pub use block::{Block, BlockId, Header, Height, L1Origin, Lane, LaneBody, NetworkId, Round, initial_head};

mod state;
pub use state::{ApplyError, State, StreamHead};

mod l1;
pub use l1::{ForcedItem, L1Block};

mod settlement;
pub use settlement::{SettlementConfig, SettlementError};

mod genesis;
pub use genesis::{Genesis, GenesisError};

mod signing;
pub use signing::{VoteKind, proposal_sign_bytes, vote_sign_bytes};

mod certificate;
pub use certificate::{Certificate, CertificateError, CommitteeSignature};

mod sealed;
pub use sealed::{DecidedBlock, LaneHashes, SealError, SealedBlock};

mod membership;
pub use membership::{Membership, MembershipError};

mod receipt;
pub use receipt::{LaneReceipts, Receipt, ReceiptError};

mod rollup;
pub use rollup::{AbsenceError, Cursor, LaneAbsence, RollupBlock, StreamError};

mod attestation;
pub use attestation::{Attestation, OFFER_PAYLOAD_BYTES_MAX, Offer};

mod batch;
pub use batch::{
    BATCH_HEADER_BYTES, BATCH_HEADER_BYTES_LONG, Batch, BatchDomain, BatchHeaderError, Namespace, blob_data,
    calldata_data,
};
