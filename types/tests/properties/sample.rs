//! A small network to test against: fixed keys, a genesis, blocks that continue each other, certificates.
//!
//! Promises the same bytes on every machine and in every run: the golden vectors are made of it.

use alloy_primitives::{B256, B512, Bytes};
use ed25519_dalek::{Signer, SigningKey};
use fusion_types::{
    Block, BlockId, Certificate, Committee, CommitteeSignature, DecidedBlock, Epoch, Genesis, Header, L1Origin, Lane,
    LaneBody, Ordering, RollupConfig, RollupId, RollupKind, Round, SealedBlock, State, Validator, ValidatorId,
    VoteKind, merkle_root, vote_sign_bytes,
};

/// The signing key with the seed `[n; 32]`.
pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

/// A committee of epoch 0 with these powers, and its keys in the order of its validators.
pub(crate) fn committee(powers: &[u64]) -> (Committee, Vec<SigningKey>) {
    let mut members: Vec<_> = (1_u8..)
        .zip(powers)
        .map(|(n, power)| {
            let validator = Validator {
                id: ValidatorId(B256::from(key(n).verifying_key().to_bytes())),
                peer: B256::from(key(n + 128).verifying_key().to_bytes()),
                power: *power,
            };
            (validator, key(n))
        })
        .collect();
    members.sort_by_key(|(validator, _)| validator.id);
    let (validators, keys) = members.into_iter().unzip();
    (Committee::new(Epoch(0), validators).unwrap(), keys)
}

/// A network with its state after the last block that was decided.
pub(crate) struct Network {
    pub(crate) genesis: Genesis,
    pub(crate) keys: Vec<SigningKey>,
    pub(crate) state: State,
}

impl Network {
    /// Registers rollups 901 (`evm`, by priority), 902 (`evm`) and 903 to 910 (`opaque`).
    pub(crate) fn new(powers: &[u64]) -> Self {
        let (committee, keys) = committee(powers);
        let rollups = (901..911).map(|id| RollupConfig {
            id: RollupId(id),
            kind: if id < 903 { RollupKind::Evm } else { RollupKind::Opaque },
            ordering: if id == 901 { Ordering::Priority } else { Ordering::Fcfs },
            weight: 1,
        });
        let genesis = Genesis::new("sample-1".into(), 1_700_000_000_000, committee, rollups.collect()).unwrap();
        let state = genesis.state();
        Self { genesis, keys, state }
    }

    /// The next block with these transactions, proposed by whose turn it is.
    pub(crate) fn block(&self, lanes: &[(u64, Vec<Bytes>)]) -> SealedBlock {
        let committee = self.genesis.committee();
        let height = self.state.height.next();
        let proposer = self.state.rotation.proposer(committee, height, Round(0));
        let lanes: Vec<LaneBody> = lanes
            .iter()
            .map(|(rollup, transactions)| {
                let stream = self.state.streams[&RollupId(*rollup)];
                let hashes: Vec<B256> = transactions
                    .iter()
                    .map(|payload| fusion_types::transaction_hash(payload))
                    .collect();
                let lane = Lane::new(RollupId(*rollup), height, stream.next_sequence, stream.head, &hashes);
                LaneBody {
                    lane,
                    transactions: transactions.clone(),
                }
            })
            .collect();
        let leaves: Vec<B256> = lanes.iter().map(|body| body.lane.leaf()).collect();
        let header = Header {
            network: self.genesis.network(),
            height,
            parent: self.state.block,
            epoch: Epoch(0),
            committee: committee.hash(),
            proposer: committee.validators()[proposer].id,
            time_ms: self.state.time_ms + 250,
            l1_origin: L1Origin::default(),
            lanes_root: merkle_root(&leaves),
            state_root: self.state.root(),
            forced_to: None,
        };
        SealedBlock::new(&Block { header, lanes }).unwrap()
    }

    /// The precommits of these validators for `block` in `round`.
    pub(crate) fn certificate(&self, block: &SealedBlock, round: Round, signers: &[usize]) -> Certificate {
        let header = block.header();
        let (epoch, height) = (header.epoch, header.height);
        let kind = VoteKind::Precommit;
        let bytes = vote_sign_bytes(header.network, epoch, height, round, kind, Some(block.id()));
        let signatures = signers.iter().map(|signer| CommitteeSignature {
            validator: u32::try_from(*signer).unwrap(),
            signature: B512::from(self.keys[*signer].sign(&bytes).to_bytes()),
        });
        Certificate {
            epoch,
            height,
            round,
            block: block.id(),
            signatures: signatures.collect(),
        }
    }

    /// Decides the next block with all validators' precommits, and applies it.
    pub(crate) fn decide(&mut self, lanes: &[(u64, Vec<Bytes>)]) -> DecidedBlock {
        let block = self.block(lanes);
        let everybody: Vec<usize> = (0..self.keys.len()).collect();
        let certificate = self.certificate(&block, Round(0), &everybody);
        let id: BlockId = block.id();
        self.state.apply(block.block(), id, self.genesis.committee()).unwrap();
        DecidedBlock {
            block: block.into(),
            certificate,
        }
    }
}

/// `count` payloads that differ from each other and between names.
pub(crate) fn payloads(name: &str, count: usize) -> Vec<Bytes> {
    (0..count)
        .map(|n| Bytes::from(format!("{name}, transaction {n}").into_bytes()))
        .collect()
}
