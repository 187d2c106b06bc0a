//! Decoders of what nodes exchange, sign and keep.

use std::fmt::Debug;

use alloy_primitives::Bytes;
use alloy_rlp::{Decodable, Encodable};
use fusion_consensus::{Class, Evidence, GuardState, Message, WalRecord};
use fusion_types::{
    Block, Certificate, Committee, Cursor, Genesis, LaneHashes, MerkleProof, MerkleTree, Receipt, RollupBlock,
    SealedBlock, State, decode_exact, encode, leaf_hash,
};

use crate::fixture::{fixture, mend};

/// Decodes; what decodes has these bytes as its one encoding, says its length, and comes back equal.
fn canonical<T: Decodable + Encodable + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = decode_exact(bytes).ok()?;
    let again = encode(&value);
    assert_eq!(again, bytes, "a second encoding of {value:?}");
    assert_eq!(value.length(), bytes.len(), "length of {value:?}");
    let back: T = decode_exact(&again).expect("what was encoded decodes");
    assert_eq!(back, value);
    Some(value)
}

/// `fusion_types::Certificate`.
pub fn certificate(data: &[u8]) {
    if let Some(certificate) = canonical::<Certificate>(data) {
        let genesis = &fixture().genesis;
        let verified = certificate.verify(genesis.network(), genesis.committee());
        let power = certificate.power(genesis.committee());
        assert!(verified.is_err() || power >= genesis.committee().quorum());
    }
}

/// `fusion_types::Receipt`.
pub fn receipt(data: &[u8]) {
    if let Some(receipt) = canonical::<Receipt>(data) {
        let genesis = &fixture().genesis;
        let known = |block: &fusion_types::DecidedBlock| block.block.id() == receipt.header.id();
        if receipt.verify(genesis.network(), genesis.committee()).is_ok() {
            assert!(
                fixture().blocks.iter().any(known),
                "a receipt for a block that nobody decided"
            );
        }
    }
}

/// `fusion_types::Committee`.
pub fn committee(data: &[u8]) {
    if let Some(committee) = canonical::<Committee>(data) {
        assert!(committee.quorum() <= committee.total_power());
        for (at, validator) in committee.validators().iter().enumerate() {
            assert_eq!(committee.index_of(validator.id), Some(at));
            assert!(committee.key(at).is_some());
        }
        let again = Committee::new(committee.epoch(), committee.validators().to_vec());
        assert_eq!(again.as_ref().map(Committee::hash), Ok(committee.hash()));
    }
}

/// `fusion_types::Genesis`.
pub fn genesis(data: &[u8]) {
    if let Some(genesis) = canonical::<Genesis>(data) {
        let state = genesis.state();
        assert_eq!(state.block, genesis.block().id());
        canonical::<State>(&encode(&state)).expect("a genesis' state has an encoding");
    }
}

/// `fusion_types::State`: what a segment's header holds.
pub fn state(data: &[u8]) {
    if let Some(state) = canonical::<State>(data) {
        state.root();
        let mut after = state.clone();
        if after
            .apply(
                fixture().blocks[0].block.block(),
                fixture().blocks[0].block.id(),
                fixture().genesis.committee(),
            )
            .is_ok()
        {
            canonical::<State>(&encode(&after)).expect("a block leads from one state to another");
        }
    }
}

/// `fusion_types::Block`, its seal, and what a start reads of it.
pub fn block(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let sealed = SealedBlock::decode(bytes.clone());
    let Some(mut block) = canonical::<Block>(data) else {
        assert!(sealed.is_err(), "a block was sealed that does not decode");
        return;
    };
    assert_eq!(
        sealed.as_ref().ok().map(SealedBlock::id),
        SealedBlock::new(&block).ok().map(|sealed| sealed.id())
    );
    let read = LaneHashes::read(&bytes, &|_| true).expect("what decodes is read");
    if let Ok(sealed) = &sealed {
        assert_eq!(sealed.block(), &block);
        assert_eq!(sealed.encoded(), &bytes);
        assert_eq!(read, LaneHashes::from(sealed));
    }
    // Hashes stop every mutation: the same block with right ones gets further.
    mend(&mut block);
    if let Ok(sealed) = SealedBlock::new(&block) {
        let again = SealedBlock::decode(sealed.encoded().clone()).expect("a sealed block's bytes seal");
        assert_eq!((again.id(), again.block()), (block.id(), &block));
        let mut state = fixture().states[0].clone();
        let _ = state.apply(&block, block.id(), fixture().genesis.committee());
    }
}

/// `fusion_types::MerkleProof`: a proof that fits a small tree is that tree's one proof for its place.
pub fn merkle_proof(data: &[u8]) {
    let Some(proof) = canonical::<MerkleProof>(data) else {
        return;
    };
    proof.root_of(leaf_hash(data));
    if proof.count <= 64 && proof.index < proof.count {
        let leaves: Vec<_> = (0..proof.count).map(|at| leaf_hash(&at.to_be_bytes())).collect();
        let tree = MerkleTree::new(leaves.clone());
        let index = usize::try_from(proof.index).expect("it is below 64");
        let real = tree.proof(index).expect("it is below the count");
        assert!(real.proves(tree.root(), leaves[index]));
        assert_eq!(proof.proves(tree.root(), leaves[index]), proof == real);
    }
}

/// `fusion_types::RollupBlock` and `fusion_types::Cursor`.
pub fn rollup_block(data: &[u8]) {
    let genesis = &fixture().genesis;
    if let Some(cursor) = canonical::<Cursor>(data) {
        let block = &fixture().blocks[0];
        let seen = RollupBlock::of(block.block.block(), &block.certificate, cursor.rollup);
        let _ = seen.map(|seen| seen.verify(genesis.network(), genesis.committee(), &cursor));
    }
    if let Some(block) = canonical::<RollupBlock>(data) {
        let cursor = Cursor {
            rollup: block.body.lane.rollup,
            sequence: block.body.lane.first_sequence,
            head: block.body.lane.parent_head,
        };
        if let Ok(next) = block.verify(genesis.network(), genesis.committee(), &cursor) {
            assert_eq!(next.sequence, cursor.sequence + block.body.transactions.len() as u64);
        }
        assert_eq!(block.transactions().count(), block.body.transactions.len());
    }
}

/// `fusion_consensus::Evidence`, alone.
pub fn evidence(data: &[u8]) {
    if let Some(evidence) = canonical::<Evidence>(data) {
        let genesis = &fixture().genesis;
        evidence.verify(genesis.network(), genesis.committee());
    }
}

/// `fusion_consensus::WalRecord`.
pub fn wal_record(data: &[u8]) {
    if let Ok(record) = WalRecord::decode(data) {
        assert_eq!(record.encode(), data, "a second encoding of {record:?}");
        assert_eq!(WalRecord::decode(&record.encode()), Ok(record));
    }
}

/// `fusion_consensus::GuardState`.
pub fn guard_state(data: &[u8]) {
    if let Ok(guard) = GuardState::decode(data) {
        assert_eq!(guard.encode(), data, "a second encoding of {guard:?}");
        assert!(guard.last_vote().is_none() || guard.height() >= guard.last_vote().map(|vote| vote.height));
    }
}

/// `fusion_consensus::Message` under a class.
fn wire(class: Class, data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let Ok(message) = Message::decode(class, &bytes) else {
        return;
    };
    assert_eq!(message.class(), class);
    assert_eq!(message.encode(), bytes, "a second encoding of {message:?}");
    assert_eq!(Message::decode(class, &message.encode()).as_ref(), Ok(&message));
    for other in [Class::Votes, Class::Bodies, Class::Transactions, Class::Sync] {
        assert_eq!(
            Message::decode(other, &bytes).is_ok(),
            other == class,
            "a message of two classes"
        );
    }
}

/// Messages of class `Votes`.
pub fn wire_votes(data: &[u8]) {
    wire(Class::Votes, data);
}

/// Messages of class `Bodies`.
pub fn wire_bodies(data: &[u8]) {
    wire(Class::Bodies, data);
    // The same block with right hashes.
    let Some((tag, body)) = data.split_first() else {
        return;
    };
    if let Ok(mut block) = decode_exact::<Block>(body) {
        mend(&mut block);
        let mut bytes = vec![*tag];
        bytes.extend(encode(&block));
        wire(Class::Bodies, &bytes);
    }
}

/// Messages of class `Transactions`.
pub fn wire_transactions(data: &[u8]) {
    wire(Class::Transactions, data);
}

/// Messages of class `Sync`.
pub fn wire_sync(data: &[u8]) {
    wire(Class::Sync, data);
}
