//! Valid decided chains with real keys.

use std::sync::{Arc, OnceLock};

use alloy_primitives::{B256, B512, Bytes};
use ed25519_dalek::{Signer, SigningKey};
use fusion_types::{
    Block, Certificate, Committee, CommitteeSignature, DecidedBlock, Epoch, Genesis, Header, Height, L1Origin, Lane,
    LaneBody, Ordering, RollupConfig, RollupId, RollupKind, Round, SealedBlock, State, Validator, ValidatorId,
    VoteKind, merkle_root, transaction_hash, vote_sign_bytes,
};

use crate::store::Record;

/// Rollups of every test network.
pub(super) const ROLLUPS: [RollupId; 3] = [RollupId(901), RollupId(902), RollupId(903)];

/// A chain of decided blocks.
pub(super) struct Chain {
    pub genesis: Genesis,
    /// The state after the last block.
    pub state: State,
    pub blocks: Vec<Arc<DecidedBlock>>,
    /// States after each block, from the genesis'.
    pub states: Vec<State>,
    keys: Vec<SigningKey>,
}

impl Chain {
    /// A network of four validators without a block.
    pub(super) fn new(name: &str) -> Self {
        let mut keys: Vec<_> = (1..=4).map(|byte| SigningKey::from_bytes(&[byte; 32])).collect();
        keys.sort_by_key(|key| key.verifying_key().to_bytes());
        let validators = keys.iter().map(|key| Validator {
            id: ValidatorId(key.verifying_key().to_bytes().into()),
            peer: B256::from(key.verifying_key().to_bytes()) ^ B256::repeat_byte(1),
            power: 1,
        });
        let committee = Committee::new(Epoch(0), validators.collect()).unwrap();
        let rollups = ROLLUPS.map(|id| RollupConfig {
            id,
            kind: RollupKind::Opaque,
            ordering: Ordering::Fcfs,
            weight: 1,
        });
        let genesis = Genesis::new(name.into(), 1_000, committee, rollups.to_vec()).unwrap();
        Self {
            state: genesis.state(),
            states: vec![genesis.state()],
            genesis,
            blocks: Vec::new(),
            keys,
        }
    }

    /// A chain of `count` blocks with two small transactions each; every fifth is empty.
    pub(super) fn of(count: u64) -> Self {
        let mut chain = Self::new("test");
        for height in 1..=count {
            chain.grow(Self::payloads(height));
        }
        chain
    }

    /// 10,000 blocks, made once.
    pub(super) fn long() -> &'static Self {
        static CHAIN: OnceLock<Chain> = OnceLock::new();
        CHAIN.get_or_init(|| Self::of(10_000))
    }

    fn payloads(height: u64) -> Vec<(RollupId, Vec<Bytes>)> {
        if height.is_multiple_of(5) {
            return Vec::new();
        }
        let payload = |n: u64| -> Bytes { format!("transaction {n} of height {height}").into_bytes().into() };
        let second = ROLLUPS[usize::from(height.is_multiple_of(2)) + 1];
        vec![(ROLLUPS[0], vec![payload(0), payload(1)]), (second, vec![payload(2)])]
    }

    /// A body for the next height that nobody decides here.
    pub(super) fn body(&self, lanes: &[(RollupId, Vec<Bytes>)]) -> Arc<SealedBlock> {
        let height = self.state.height.next();
        let lanes = lanes.iter().map(|(rollup, transactions)| {
            let stream = self.state.streams[rollup];
            let hashes: Vec<_> = transactions.iter().map(|payload| transaction_hash(payload)).collect();
            LaneBody {
                lane: Lane::new(*rollup, height, stream.next_sequence, stream.head, &hashes),
                transactions: transactions.clone(),
            }
        });
        let mut block = Block {
            header: Header {
                network: self.genesis.network(),
                height,
                parent: self.state.block,
                epoch: Epoch(0),
                committee: self.state.committee,
                proposer: self.proposer(height),
                time_ms: self.state.time_ms + 1,
                l1_origin: L1Origin::default(),
                lanes_root: B256::ZERO,
                state_root: self.state.root(),
                forced_to: None,
            },
            lanes: lanes.collect(),
        };
        block.header.lanes_root = merkle_root(&block.lane_leaves());
        Arc::new(SealedBlock::new(&block).unwrap())
    }

    fn proposer(&self, height: Height) -> ValidatorId {
        let committee = self.genesis.committee();
        let index = self.state.rotation.proposer(committee, height, Round(0));
        committee.validators()[index].id
    }

    /// Adds a decided block.
    pub(super) fn grow(&mut self, lanes: Vec<(RollupId, Vec<Bytes>)>) -> Arc<DecidedBlock> {
        let block = self.body(&lanes);
        let certificate = self.certify(&block);
        let committee = self.genesis.committee().clone();
        self.state.apply(block.block(), block.id(), &committee).unwrap();
        self.states.push(self.state.clone());
        self.blocks.push(Arc::new(DecidedBlock { block, certificate }));
        self.blocks.last().unwrap().clone()
    }

    /// Precommits of three of the four.
    pub(super) fn certify(&self, block: &SealedBlock) -> Certificate {
        let (height, round) = (block.header().height, Round(0));
        let network = self.genesis.network();
        let bytes = vote_sign_bytes(network, Epoch(0), height, round, VoteKind::Precommit, Some(block.id()));
        let signatures = self.keys[..3]
            .iter()
            .zip(0..)
            .map(|(key, validator)| CommitteeSignature {
                validator,
                signature: B512::from(key.sign(&bytes).to_bytes()),
            });
        Certificate {
            epoch: Epoch(0),
            height,
            round,
            block: block.id(),
            signatures: signatures.collect(),
        }
    }

    /// The records of the blocks of these heights.
    pub(super) fn records(&self, heights: std::ops::RangeInclusive<u64>) -> Vec<Record> {
        let blocks = heights.map(|height| &self.blocks[usize::try_from(height).unwrap() - 1]);
        blocks
            .flat_map(|decided| {
                [
                    Record::Body(decided.block.clone()),
                    Record::Decision(decided.certificate.clone()),
                ]
            })
            .collect()
    }

    /// The state after `height`.
    pub(super) fn state_at(&self, height: u64) -> &State {
        &self.states[usize::try_from(height).unwrap()]
    }
}
