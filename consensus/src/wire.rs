//! Every byte that nodes exchange.
//!
//! A message is one tag byte and the canonical RLP of its content. Decoding is total, takes no more memory than it was
//! sent, and refuses every second encoding of one message. Each message belongs to one [`Class`]; classes travel
//! on separate streams, so that blocks never hold up votes, and a message under the wrong class is refused.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};
use fusion_types::decode_exact;
use fusion_types::limits::{BLOCK_BYTES_MAX, TRANSACTION_BYTES_MAX};
use fusion_types::{
    Attestation, BlockId, Certificate, DecidedBlock, DecodeError, Height, OFFER_PAYLOAD_BYTES_MAX, Offer, RollupId,
    Round, SealError, SealedBlock,
};

use crate::certificates::{Polka, RoundCertificate};
use crate::evidence::Evidence;
use crate::signing::{SignedProposal, SignedVote};

/// Largest message of class `Votes`: a round certificate of 128 members takes about 14 KiB.
pub const VOTES_BYTES_MAX: usize = 32 * 1024;

/// Largest message of class `Bodies`: a block and its tag.
pub const BODIES_BYTES_MAX: usize = BLOCK_BYTES_MAX + 1;

/// Largest message of class `Transactions`: eight transactions of the largest size.
pub const TRANSACTIONS_BYTES_MAX: usize = 8 * TRANSACTION_BYTES_MAX + 4096;

/// Largest message of class `Sync`. Two of the largest blocks fit, with their certificates.
pub const SYNC_BYTES_MAX: usize = 8 * 1024 * 1024 + 64 * 1024;

/// Blocks that one sync request may ask for.
pub const SYNC_BLOCKS_MAX: u64 = 64;

/// Transactions in one message.
pub const FORWARDED_MAX: usize = 1024;

const _: () = assert!(
    SYNC_BYTES_MAX > BLOCK_BYTES_MAX + 32 * 1024,
    "one block always fits a response"
);
const _: () = assert!(
    SYNC_BYTES_MAX > OFFER_PAYLOAD_BYTES_MAX + 1024,
    "an offer always fits a message"
);
const _: () = assert!(
    TRANSACTIONS_BYTES_MAX > TRANSACTION_BYTES_MAX,
    "one transaction always fits a message"
);

/// The node at the other end of a connection, by its network key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub B256);

impl PeerId {
    /// Not above any other.
    pub(crate) const LOWEST: Self = Self(B256::ZERO);
}

impl std::fmt::Display for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which stream a message travels on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Small and urgent: votes, proposals, certificates, tips.
    Votes,
    /// Bodies of blocks that are being decided.
    Bodies,
    /// Transactions on their way to a proposer.
    Transactions,
    /// Requests, and decided blocks for those who lag.
    Sync,
}

impl Class {
    /// Largest encoded message, in bytes. A reader refuses a longer one before it allocates.
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Votes => VOTES_BYTES_MAX,
            Self::Bodies => BODIES_BYTES_MAX,
            Self::Transactions => TRANSACTIONS_BYTES_MAX,
            Self::Sync => SYNC_BYTES_MAX,
        }
    }
}

/// A transaction that another node took in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// Its rollup.
    pub rollup: RollupId,
    /// Its bytes.
    pub payload: Bytes,
    /// Its sender as the other node recovered it; a hint.
    pub sender: Option<Address>,
}

/// What nodes tell each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A block is proposed; its body travels as [`Message::Block`].
    Proposal(SignedProposal),
    /// A prevote or precommit.
    Vote(SignedVote),
    /// Why a block may be proposed again.
    Polka(Polka),
    /// Why a round may be entered.
    RoundCertificate(RoundCertificate),
    /// How far the sender is. A claim: whoever acts on it checks what it then receives.
    Status {
        /// Height of its last decided block.
        tip: Height,
        /// That block.
        tip_id: BlockId,
    },
    /// A body, pushed by its proposer or asked for.
    Block(Arc<SealedBlock>),
    /// Asks for a body.
    BlockRequest {
        /// Its height.
        height: Height,
        /// Its id.
        id: BlockId,
    },
    /// Asks for decided blocks.
    SyncRequest {
        /// First height.
        from: Height,
        /// Last height.
        to: Height,
    },
    /// Decided blocks from `from` on, without gaps; fewer than were asked for when the sender has no more or they
    /// would exceed [`SYNC_BYTES_MAX`].
    SyncResponse {
        /// The first height asked for.
        from: Height,
        /// The blocks.
        blocks: Vec<DecidedBlock>,
    },
    /// Transactions for the next proposers.
    Transactions(Vec<Forwarded>),
    /// Two signatures that convict a validator.
    Evidence(Box<Evidence>),
    /// A batch's bytes, from the member whose turn it is to make them.
    Offer(Offer),
    /// A member's signature of a batch.
    Attestation(Box<Attestation>),
}

/// Why bytes are no message. Every variant is the sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Longer than its class allows.
    #[error("message has {bytes} bytes, limit of its class is {limit}")]
    Size {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// No bytes at all.
    #[error("message is empty")]
    Empty,
    /// A tag that means nothing, or belongs to another class.
    #[error("message has tag {tag}, which is no message of class {class:?}")]
    Tag {
        /// The tag.
        tag: u8,
        /// The class under which it came.
        class: Class,
    },
    /// Not canonical RLP of the tag's content.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A block whose body does not fit its header.
    #[error(transparent)]
    Block(#[from] SealError),
}

impl From<alloy_rlp::Error> for WireError {
    fn from(error: alloy_rlp::Error) -> Self {
        Self::Decode(error.into())
    }
}

const PROPOSAL: u8 = 1;
const VOTE: u8 = 2;
const POLKA: u8 = 3;
const ROUND_CERTIFICATE: u8 = 4;
const STATUS: u8 = 5;
const BLOCK: u8 = 6;
const BLOCK_REQUEST: u8 = 7;
const SYNC_REQUEST: u8 = 8;
const SYNC_RESPONSE: u8 = 9;
const TRANSACTIONS: u8 = 10;
const EVIDENCE: u8 = 11;
const OFFER: u8 = 12;
const ATTESTATION: u8 = 13;

#[derive(RlpEncodable, RlpDecodable)]
struct StatusFields {
    tip: Height,
    tip_id: BlockId,
}

#[derive(RlpEncodable, RlpDecodable)]
struct BlockRequestFields {
    height: Height,
    id: BlockId,
}

#[derive(RlpEncodable, RlpDecodable)]
struct SyncRequestFields {
    from: Height,
    to: Height,
}

impl Message {
    /// The round that it is of, if it is of one alone.
    pub fn round(&self) -> Option<Round> {
        match self {
            Self::Proposal(proposal) => Some(proposal.round),
            Self::Vote(vote) => Some(vote.round),
            Self::Polka(polka) => Some(polka.round),
            Self::RoundCertificate(certificate) => Some(certificate.round),
            _ => None,
        }
    }

    /// The stream that it travels on.
    pub fn class(&self) -> Class {
        match self {
            Self::Proposal(_) | Self::Vote(_) | Self::Polka(_) | Self::RoundCertificate(_) | Self::Status { .. } => {
                Class::Votes
            }
            Self::Block(_) => Class::Bodies,
            Self::BlockRequest { .. }
            | Self::SyncRequest { .. }
            | Self::SyncResponse { .. }
            | Self::Evidence(_)
            | Self::Offer(_)
            | Self::Attestation(_) => Class::Sync,
            Self::Transactions(_) => Class::Transactions,
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(256);
        match self {
            Self::Proposal(proposal) => tagged(&mut out, PROPOSAL, proposal),
            Self::Vote(vote) => tagged(&mut out, VOTE, vote),
            Self::Polka(polka) => tagged(&mut out, POLKA, polka),
            Self::RoundCertificate(certificate) => tagged(&mut out, ROUND_CERTIFICATE, certificate),
            Self::Status { tip, tip_id } => {
                let (tip, tip_id) = (*tip, *tip_id);
                tagged(&mut out, STATUS, &StatusFields { tip, tip_id });
            }
            Self::Block(block) => {
                out.reserve_exact(1 + block.encoded().len());
                out.push(BLOCK);
                out.extend_from_slice(block.encoded());
            }
            Self::BlockRequest { height, id } => {
                let (height, id) = (*height, *id);
                tagged(&mut out, BLOCK_REQUEST, &BlockRequestFields { height, id });
            }
            Self::SyncRequest { from, to } => {
                let (from, to) = (*from, *to);
                tagged(&mut out, SYNC_REQUEST, &SyncRequestFields { from, to });
            }
            Self::SyncResponse { from, blocks } => {
                out.push(SYNC_RESPONSE);
                encode_blocks(&mut out, *from, blocks);
            }
            Self::Transactions(transactions) => {
                out.push(TRANSACTIONS);
                alloy_rlp::encode_list(transactions, &mut out);
            }
            Self::Evidence(evidence) => tagged(&mut out, EVIDENCE, evidence.as_ref()),
            Self::Offer(offer) => tagged(&mut out, OFFER, offer),
            Self::Attestation(attestation) => tagged(&mut out, ATTESTATION, attestation.as_ref()),
        }
        out.into()
    }

    /// Reads a message that came under `class`. Blocks in it are sealed and share the memory of `bytes`.
    ///
    /// # Errors
    /// [`WireError`] when the bytes are not the one encoding of a message of that class.
    pub fn decode(class: Class, bytes: &Bytes) -> Result<Self, WireError> {
        if bytes.len() > class.bytes_max() {
            return Err(WireError::Size {
                bytes: bytes.len(),
                limit: class.bytes_max(),
            });
        }
        let (tag, body) = bytes.split_first().ok_or(WireError::Empty)?;
        let message = match (class, *tag) {
            (Class::Votes, PROPOSAL) => Self::Proposal(decode_exact(body)?),
            (Class::Votes, VOTE) => Self::Vote(decode_exact(body)?),
            (Class::Votes, POLKA) => Self::Polka(decode_exact(body)?),
            (Class::Votes, ROUND_CERTIFICATE) => Self::RoundCertificate(decode_exact(body)?),
            (Class::Votes, STATUS) => {
                let StatusFields { tip, tip_id } = decode_exact(body)?;
                Self::Status { tip, tip_id }
            }
            (Class::Bodies, BLOCK) => Self::Block(Arc::new(SealedBlock::decode(slice(bytes, body))?)),
            (Class::Sync, BLOCK_REQUEST) => {
                let BlockRequestFields { height, id } = decode_exact(body)?;
                Self::BlockRequest { height, id }
            }
            (Class::Sync, SYNC_REQUEST) => {
                let SyncRequestFields { from, to } = decode_exact(body)?;
                Self::SyncRequest { from, to }
            }
            (Class::Sync, SYNC_RESPONSE) => decode_blocks(bytes, body)?,
            (Class::Sync, EVIDENCE) => Self::Evidence(Box::new(decode_exact(body)?)),
            (Class::Sync, OFFER) => Self::Offer(decode_offer(bytes, body)?),
            (Class::Sync, ATTESTATION) => Self::Attestation(Box::new(decode_exact(body)?)),
            (Class::Transactions, TRANSACTIONS) => Self::Transactions(decode_transactions(bytes, body)?),
            (class, tag) => return Err(WireError::Tag { tag, class }),
        };
        Ok(message)
    }
}

fn tagged(out: &mut Vec<u8>, tag: u8, content: &impl Encodable) {
    out.push(tag);
    content.encode(out);
}

/// The part of `whole` that `part` is, sharing its memory.
fn slice(whole: &Bytes, part: &[u8]) -> Bytes {
    Bytes(whole.0.slice_ref(part))
}

/// `[from, [[block, certificate], …]]`.
fn encode_blocks(out: &mut Vec<u8>, from: Height, blocks: &[DecidedBlock]) {
    let item_length = |block: &DecidedBlock| block.block.encoded().len() + block.certificate.length();
    let items: usize = blocks
        .iter()
        .map(|block| item_length(block) + alloy_rlp::length_of_length(item_length(block)))
        .sum();
    let list_header = |payload_length| alloy_rlp::Header {
        list: true,
        payload_length,
    };
    let content = from.length() + items + alloy_rlp::length_of_length(items);
    out.reserve_exact(content + alloy_rlp::length_of_length(content));
    list_header(content).encode(out);
    from.encode(out);
    list_header(items).encode(out);
    for block in blocks {
        list_header(item_length(block)).encode(out);
        out.extend_from_slice(block.block.encoded());
        block.certificate.encode(out);
    }
}

fn decode_blocks(whole: &Bytes, body: &[u8]) -> Result<Message, WireError> {
    let mut rest = body;
    let mut content = alloy_rlp::Header::decode_bytes(&mut rest, true)?;
    let from = Height::decode(&mut content)?;
    let mut items = alloy_rlp::Header::decode_bytes(&mut content, true)?;
    if !rest.is_empty() || !content.is_empty() {
        return Err(alloy_rlp::Error::UnexpectedLength.into());
    }
    let mut blocks = Vec::new();
    while !items.is_empty() {
        if blocks.len() as u64 == SYNC_BLOCKS_MAX {
            return Err(alloy_rlp::Error::Custom("response has more blocks than its limit").into());
        }
        let mut item = alloy_rlp::Header::decode_bytes(&mut items, true)?;
        let start = item;
        alloy_rlp::Header::decode_bytes(&mut item, true)?;
        let encoded = &start[..start.len() - item.len()];
        let block = Arc::new(SealedBlock::decode(slice(whole, encoded))?);
        let certificate = Certificate::decode(&mut item)?;
        if !item.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength.into());
        }
        blocks.push(DecidedBlock { block, certificate });
    }
    Ok(Message::SyncResponse { from, blocks })
}

/// An offer whose payload shares the memory of `whole`.
fn decode_offer(whole: &Bytes, mut body: &[u8]) -> Result<Offer, WireError> {
    let mut fields = alloy_rlp::Header::decode_bytes(&mut body, true)?;
    let attestation = Attestation::decode(&mut fields)?;
    let payload = alloy_rlp::Header::decode_bytes(&mut fields, false)?;
    if !body.is_empty() || !fields.is_empty() {
        return Err(alloy_rlp::Error::UnexpectedLength.into());
    }
    if payload.is_empty() || payload.len() > OFFER_PAYLOAD_BYTES_MAX {
        return Err(alloy_rlp::Error::Custom("payload of a batch is empty or larger than its limit").into());
    }
    let payload = slice(whole, payload);
    Ok(Offer { attestation, payload })
}

/// Bytes of a [`DecidedBlock`] in a response: what a server adds up against [`SYNC_BYTES_MAX`].
pub fn sync_response_bytes(block: &DecidedBlock) -> usize {
    let payload = block.block.encoded().len() + block.certificate.length();
    payload + alloy_rlp::length_of_length(payload)
}

impl Forwarded {
    fn sender_bytes(&self) -> &[u8] {
        self.sender.as_ref().map_or(&[], |sender| sender.as_slice())
    }

    fn payload_length(&self) -> usize {
        self.rollup.length() + self.payload.length() + self.sender_bytes().length()
    }
}

impl Encodable for Forwarded {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        alloy_rlp::Header {
            list: true,
            payload_length: self.payload_length(),
        }
        .encode(out);
        self.rollup.encode(out);
        self.payload.encode(out);
        self.sender_bytes().encode(out);
    }

    fn length(&self) -> usize {
        self.payload_length() + alloy_rlp::length_of_length(self.payload_length())
    }
}

fn decode_transactions(whole: &Bytes, mut body: &[u8]) -> Result<Vec<Forwarded>, WireError> {
    let mut items = alloy_rlp::Header::decode_bytes(&mut body, true)?;
    if !body.is_empty() {
        return Err(alloy_rlp::Error::UnexpectedLength.into());
    }
    let mut transactions = Vec::new();
    while !items.is_empty() {
        if transactions.len() == FORWARDED_MAX {
            return Err(alloy_rlp::Error::Custom("message has more transactions than its limit").into());
        }
        let mut fields = alloy_rlp::Header::decode_bytes(&mut items, true)?;
        let rollup = RollupId::decode(&mut fields)?;
        let payload = alloy_rlp::Header::decode_bytes(&mut fields, false)?;
        let sender = alloy_rlp::Header::decode_bytes(&mut fields, false)?;
        if payload.is_empty() || payload.len() > TRANSACTION_BYTES_MAX {
            return Err(alloy_rlp::Error::Custom("transaction is empty or larger than its limit").into());
        }
        let sender = match sender.len() {
            0 => None,
            20 => Some(Address::from_slice(sender)),
            _ => return Err(alloy_rlp::Error::Custom("sender has neither 0 nor 20 bytes").into()),
        };
        if !fields.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength.into());
        }
        transactions.push(Forwarded {
            rollup,
            payload: slice(whole, payload),
            sender,
        });
    }
    Ok(transactions)
}

#[cfg(test)]
mod tests;
