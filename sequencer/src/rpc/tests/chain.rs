//! A chain that four keys sign, block by block, into a real store.

use std::sync::Arc;

use alloy_primitives::{B256, B512, Bytes};
use ed25519_dalek::{Signer, SigningKey};
use fusion_types::{
    Block, Certificate, Committee, CommitteeSignature, DecidedBlock, Epoch, Genesis, Header, L1Origin, Lane, LaneBody,
    Ordering, RollupConfig, RollupId, RollupKind, Round, SealedBlock, State, Validator, ValidatorId, VoteKind,
    merkle_root, transaction_hash, vote_sign_bytes,
};

use super::{EVM, OPAQUE};
use crate::store::{LogReader, Options, Record, Store};

pub(super) struct Chain {
    pub(super) genesis: Arc<Genesis>,
    pub(super) keys: Vec<SigningKey>,
    state: State,
    store: Store,
    _home: tempfile::TempDir,
}

impl Chain {
    pub(super) fn new() -> Self {
        let mut keys: Vec<SigningKey> = (1..=4).map(|seed| SigningKey::from_bytes(&[seed; 32])).collect();
        keys.sort_by_key(|key| key.verifying_key().to_bytes());
        let validators = keys.iter().enumerate().map(|(at, key)| Validator {
            id: ValidatorId(B256::from(key.verifying_key().to_bytes())),
            peer: B256::with_last_byte(u8::try_from(at).unwrap()),
            power: 1,
        });
        let rollups = [(EVM, RollupKind::Evm), (OPAQUE, RollupKind::Opaque)].map(|(id, kind)| RollupConfig {
            id: RollupId(id),
            kind,
            ordering: Ordering::Fcfs,
            weight: 1,
        });
        let committee = Committee::new(Epoch(0), validators.collect()).unwrap();
        let genesis = Genesis::new("test".to_owned(), 1, committee, rollups.into()).unwrap();
        let home = tempfile::tempdir().unwrap();
        let (store, recovered) = Store::open(home.path(), &genesis, Options::default()).unwrap();
        Self {
            genesis: Arc::new(genesis),
            keys,
            state: recovered.state,
            store,
            _home: home,
        }
    }

    pub(super) fn reader(&self) -> LogReader {
        self.store.reader()
    }

    /// Decides the next block, durably.
    pub(super) fn decide(&mut self, lanes: Vec<(RollupId, Vec<Bytes>)>) -> DecidedBlock {
        let height = self.state.height.next();
        let lanes: Vec<LaneBody> = lanes
            .into_iter()
            .map(|(rollup, transactions)| {
                let stream = self.state.streams[&rollup];
                let hashes: Vec<B256> = transactions.iter().map(|payload| transaction_hash(payload)).collect();
                LaneBody {
                    lane: Lane::new(rollup, height, stream.next_sequence, stream.head, &hashes),
                    transactions,
                }
            })
            .collect();
        let leaves: Vec<B256> = lanes.iter().map(|body| body.lane.leaf()).collect();
        let committee = self.genesis.committee();
        let proposer = self.state.rotation.order(committee, height)[0];
        let header = Header {
            network: self.genesis.network(),
            height,
            parent: self.state.block,
            epoch: Epoch(0),
            committee: committee.hash(),
            proposer: committee.validators()[proposer].id,
            time_ms: self.state.time_ms + 1,
            l1_origin: L1Origin::default(),
            lanes_root: merkle_root(&leaves),
            state_root: self.state.root(),
            forced_to: None,
        };
        let block = Arc::new(SealedBlock::new(&Block { header, lanes }).unwrap());
        let bytes = vote_sign_bytes(
            self.genesis.network(),
            Epoch(0),
            height,
            Round(0),
            VoteKind::Precommit,
            Some(block.id()),
        );
        let signatures = (0..3_u32).zip(&self.keys).map(|(validator, key)| CommitteeSignature {
            validator,
            signature: B512::from(key.sign(&bytes).to_bytes()),
        });
        let certificate = Certificate {
            epoch: Epoch(0),
            height,
            round: Round(0),
            block: block.id(),
            signatures: signatures.collect(),
        };
        self.state
            .apply(block.block(), block.id(), self.genesis.committee())
            .unwrap();
        let records = [Record::Body(block.clone()), Record::Decision(certificate.clone())];
        self.store.commit(&records, &self.state).unwrap();
        DecidedBlock { block, certificate }
    }
}
