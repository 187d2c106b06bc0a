//! A batch: a run of decided blocks as Ethereum knows it, and what of it belongs to which rollup.
//!
//! Promises one hash and one packed header for each batch, the same that `BatchInbox` computes
//! (`settlement/contracts/README.md`; both sides read the vectors beside it). Leaves to others: which blocks make a batch
//! and how their bytes lie in blobs (`settlement`), and who signs.
//!
//! A batch is content. Compressors differ, so one content has many encodings: which of them was posted, `data` says, which
//! members sign beside the batch and which is no part of its identity. So a builder that shows each member another
//! encoding, or dies among the signatures, costs a round of signatures and not the batch's number.

use alloy_primitives::{Address, B256, Keccak256, keccak256};

use crate::block::{BlockId, Height, L1Origin, NetworkId};
use crate::committee::Epoch;
use crate::merkle::leaf_hash;
use crate::transaction::RollupId;

/// Bytes of a packed header of a batch that names neither a next committee nor faults.
pub const BATCH_HEADER_BYTES: usize = 176;

/// Bytes of one that does.
pub const BATCH_HEADER_BYTES_LONG: usize = 240;

/// The six numbers that a header begins with.
const HEADER_NUMBERS_BYTES: usize = 48;

const FIELDS: &str = "Batch(bytes32 network,uint64 number,uint64 epoch,uint64 firstHeight,uint64 lastHeight,bytes32 parent,\
                      bytes32 lastBlock,bytes32 namespaces,uint64 l1Number,bytes32 l1Hash,uint64 forcedTo,\
                      bytes32 forcedHash,bytes32 nextCommittee,bytes32 faults)";

/// The content of a run of decided blocks as L1 knows it. DESIGN.md §9.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The network that decided the blocks.
    pub network: NetworkId,
    /// Its place among the network's batches: gap-free from 0.
    pub number: u64,
    /// Epoch of the blocks, and of the committee that attests.
    pub epoch: Epoch,
    /// Height of its first block: one above the last of the batch before, 1 in the first batch.
    pub first_height: Height,
    /// Height of its last block.
    pub last_height: Height,
    /// [`Batch::hash`] of the batch before; zero in the first.
    pub parent: B256,
    /// Id of its last block.
    pub last_block: BlockId,
    /// Merkle root over [`Namespace::leaf`], ascending by rollup.
    pub namespaces: B256,
    /// L1 origin of its last block.
    pub l1_origin: L1Origin,
    /// How many transactions of the forced queue are in the streams up to its last block.
    pub forced_to: u64,
    /// The queue's accumulator there if this batch moves it, else zero.
    pub forced_hash: B256,
    /// Hash of the next epoch's committee in the last batch of an epoch, zero in all others.
    pub next_committee: B256,
    /// Merkle root over the evidence that the committee decided on in these blocks; zero without any.
    pub faults: B256,
}

/// Where attestations count: one inbox on one chain. EIP-712's domain, with the name "Fusion" and the version "1".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchDomain {
    /// EIP-155 id of the L1.
    pub chain_id: u64,
    /// The inbox.
    pub inbox: Address,
}

impl BatchDomain {
    /// EIP-712's domain separator.
    pub fn separator(&self) -> B256 {
        let kind = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        let words = [
            kind,
            keccak256("Fusion"),
            keccak256("1"),
            word(self.chain_id),
            self.inbox.into_word(),
        ];
        hash_words(&words)
    }
}

impl Batch {
    /// EIP-712's `hashStruct`: the batch's identity, what the next one's `parent` is.
    pub fn hash(&self) -> B256 {
        hash_words(&[
            keccak256(FIELDS),
            self.network.0,
            word(self.number),
            word(self.epoch.0),
            word(self.first_height.0),
            word(self.last_height.0),
            self.parent,
            self.last_block.0,
            self.namespaces,
            word(self.l1_origin.number),
            self.l1_origin.hash,
            word(self.forced_to),
            self.forced_hash,
            self.next_committee,
            self.faults,
        ])
    }

    /// What a member signs with its attestation key, having found the batch in `data` ([`blob_data`] or
    /// [`calldata_data`]). Epoch and number stand outside the batch as well, so that two attestations that contradict each
    /// other are proved with two hashes instead of two batches. The same batch in other data is no contradiction.
    pub fn attestation_digest(&self, domain: &BatchDomain, data: B256) -> B256 {
        attestation_digest(domain, self.epoch, self.number, self.hash(), data)
    }

    /// The header as it is posted: big-endian numbers, 8 bytes each, `number ‖ epoch ‖ firstHeight ‖ lastHeight ‖ l1Number ‖
    /// forcedTo`, then `lastBlock ‖ namespaces ‖ data ‖ l1Hash`, and `nextCommittee ‖ faults` where either is set. The inbox
    /// knows the network, the parent and the accumulator.
    pub fn header_bytes(&self, data: B256) -> Vec<u8> {
        let numbers = [
            self.number,
            self.epoch.0,
            self.first_height.0,
            self.last_height.0,
            self.l1_origin.number,
            self.forced_to,
        ];
        let hashes = [self.last_block.0, self.namespaces, data, self.l1_origin.hash];
        let mut bytes = Vec::with_capacity(BATCH_HEADER_BYTES_LONG);
        bytes.extend(numbers.into_iter().flat_map(u64::to_be_bytes));
        bytes.extend(hashes.into_iter().flatten());
        if !self.next_committee.is_zero() || !self.faults.is_zero() {
            bytes.extend(self.next_committee);
            bytes.extend(self.faults);
        }
        bytes
    }

    /// Reads a posted header: the batch, and what its data hash to. The other three fields are what the inbox has.
    ///
    /// # Errors
    /// [`BatchHeaderError`] when the bytes are not the one header of a batch.
    pub fn from_header_bytes(
        bytes: &[u8],
        network: NetworkId,
        parent: B256,
        forced_hash: B256,
    ) -> Result<(Self, B256), BatchHeaderError> {
        if bytes.len() != BATCH_HEADER_BYTES && bytes.len() != BATCH_HEADER_BYTES_LONG {
            return Err(BatchHeaderError::Length(bytes.len()));
        }
        let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| bytes[8 * at + byte]));
        let hash = |at: usize| {
            let from = HEADER_NUMBERS_BYTES + 32 * at;
            bytes.get(from..from + 32).map(B256::from_slice).unwrap_or_default()
        };
        let batch = Self {
            network,
            number: number(0),
            epoch: Epoch(number(1)),
            first_height: Height(number(2)),
            last_height: Height(number(3)),
            parent,
            last_block: BlockId(hash(0)),
            namespaces: hash(1),
            l1_origin: L1Origin {
                number: number(4),
                hash: hash(3),
            },
            forced_to: number(5),
            forced_hash,
            next_committee: hash(4),
            faults: hash(5),
        };
        let data = hash(2);
        if batch.header_bytes(data).len() == bytes.len() {
            Ok((batch, data))
        } else {
            Err(BatchHeaderError::NotShortest)
        }
    }
}

/// EIP-712's digest of an attestation of the batch with this hash.
pub(crate) fn attestation_digest(domain: &BatchDomain, epoch: Epoch, number: u64, batch: B256, data: B256) -> B256 {
    let kind = keccak256(format!(
        "Attestation(uint64 epoch,uint64 number,Batch batch,bytes32 data){FIELDS}"
    ));
    let attestation = hash_words(&[kind, word(epoch.0), word(number), batch, data]);
    let mut hasher = Keccak256::new();
    hasher.update([0x19, 0x01]);
    hasher.update(domain.separator());
    hasher.update(attestation);
    hasher.finalize()
}

/// Why bytes are no batch's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchHeaderError {
    /// Neither of the two lengths.
    #[error("a batch header is {BATCH_HEADER_BYTES} or {BATCH_HEADER_BYTES_LONG} bytes, not {0}")]
    Length(usize),
    /// The long form with nothing in it.
    #[error("the batch header names neither a next committee nor faults and has a shorter form")]
    NotShortest,
}

/// What one batch holds of one rollup: a leaf under [`Batch::namespaces`]. Where its segment lies is not content: the
/// payload's own index says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Whose transactions these are. Zero for the batch's blocks themselves, whose sequence numbers are heights, whose
    /// head is the last block's id and whose transactions are the blocks' ids.
    pub rollup: RollupId,
    /// Sequence number of the first.
    pub first_sequence: u64,
    /// How many.
    pub count: u64,
    /// Stream head after the batch.
    pub head: B256,
    /// Merkle root over the transactions' hashes, in the order of the stream.
    pub transactions_root: B256,
}

impl Namespace {
    /// Its leaf: [`leaf_hash`] of 88 bytes, the numbers as 8 bytes big-endian each, then the hashes.
    pub fn leaf(&self) -> B256 {
        let numbers = [self.rollup.0, self.first_sequence, self.count];
        let mut bytes = Vec::with_capacity(88);
        bytes.extend(numbers.into_iter().flat_map(u64::to_be_bytes));
        bytes.extend([self.head, self.transactions_root].into_iter().flatten());
        leaf_hash(&bytes)
    }
}

/// What the data of a batch hash to whose payload lies in blobs: `keccak256(0x01 ‖ versioned hashes)`, all of the transaction's.
pub fn blob_data(versioned_hashes: &[B256]) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update([1]);
    for hash in versioned_hashes {
        hasher.update(hash);
    }
    hasher.finalize()
}

/// What the data of a batch hash to whose payload lies in calldata: `keccak256(0x02 ‖ keccak256(payload))`.
pub fn calldata_data(payload: &[u8]) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update([2]);
    hasher.update(keccak256(payload));
    hasher.finalize()
}

/// A number as EIP-712 and the ABI encode it: 32 bytes, big-endian.
fn word(number: u64) -> B256 {
    let mut word = B256::ZERO;
    word[24..].copy_from_slice(&number.to_be_bytes());
    word
}

fn hash_words(words: &[B256]) -> B256 {
    let mut hasher = Keccak256::new();
    for word in words {
        hasher.update(word);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(next_committee: B256, faults: B256) -> Batch {
        let hash = B256::repeat_byte;
        Batch {
            network: NetworkId(hash(1)),
            number: 2,
            epoch: Epoch(3),
            first_height: Height(4),
            last_height: Height(5),
            parent: hash(6),
            last_block: BlockId(hash(7)),
            namespaces: hash(8),
            l1_origin: L1Origin {
                number: 10,
                hash: hash(11),
            },
            forced_to: 12,
            forced_hash: hash(13),
            next_committee,
            faults,
        }
    }

    #[test]
    fn a_header_comes_back_in_its_shortest_form_only() {
        let (zero, some, data) = (B256::ZERO, B256::repeat_byte(14), B256::repeat_byte(9));
        for (next, faults, length) in [
            (zero, zero, 176),
            (some, zero, 240),
            (zero, some, 240),
            (some, some, 240),
        ] {
            let batch = sample(next, faults);
            let bytes = batch.header_bytes(data);
            assert_eq!(bytes.len(), length);
            let read = Batch::from_header_bytes(&bytes, batch.network, batch.parent, batch.forced_hash);
            assert_eq!(read, Ok((batch, data)));
        }
        let batch = sample(zero, zero);
        let read = |bytes: &[u8]| Batch::from_header_bytes(bytes, batch.network, batch.parent, batch.forced_hash);
        let mut long = batch.header_bytes(data);
        long.extend([0; 64]);
        assert_eq!(read(&long), Err(BatchHeaderError::NotShortest));
        assert_eq!(read(&long[..177]), Err(BatchHeaderError::Length(177)));
    }

    #[test]
    fn every_field_is_part_of_the_hash() {
        let batch = sample(B256::ZERO, B256::ZERO);
        let changes: [fn(&mut Batch); 14] = [
            |b| b.network.0[0] ^= 1,
            |b| b.number ^= 1,
            |b| b.epoch.0 ^= 1,
            |b| b.first_height.0 ^= 1,
            |b| b.last_height.0 ^= 1,
            |b| b.parent[0] ^= 1,
            |b| b.last_block.0[0] ^= 1,
            |b| b.namespaces[0] ^= 1,
            |b| b.l1_origin.number ^= 1,
            |b| b.l1_origin.hash[0] ^= 1,
            |b| b.forced_to ^= 1,
            |b| b.forced_hash[0] ^= 1,
            |b| b.next_committee[0] ^= 1,
            |b| b.faults[0] ^= 1,
        ];
        let mut hashes = vec![batch.hash()];
        for change in changes {
            let mut changed = batch.clone();
            change(&mut changed);
            hashes.push(changed.hash());
        }
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 15);
    }

    #[test]
    fn an_attestation_names_the_batch_and_its_data() {
        let domain = BatchDomain {
            chain_id: 1,
            inbox: Address::repeat_byte(2),
        };
        let batch = sample(B256::ZERO, B256::ZERO);
        let (one, another) = (B256::repeat_byte(9), B256::repeat_byte(10));
        let digest = batch.attestation_digest(&domain, one);
        assert_ne!(batch.attestation_digest(&domain, another), digest);
        let other = Batch { forced_to: 13, ..batch };
        assert_ne!(other.attestation_digest(&domain, one), digest);
    }
}
