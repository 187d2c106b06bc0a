//! A network of one validator without signatures, for this crate's tests.
//!
//! An `evm` payload of the fixture spells out its facts, so that decoding is reading.

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, b256};
use fusion_types::{
    Block, Committee, Epoch, Genesis, Ordering, RollupConfig, RollupId, RollupKind, SealedBlock, State, TxHash,
    Validator, ValidatorId, transaction_hash,
};

use crate::{
    BlockLimits, BuildContext, CheckContext, EvmFacts, Invalid, Origin, Pool, PoolLimits, PoolTransaction, Reject,
    build, check,
};

/// Public key of RFC 8032 §7.1, test 1.
const VALIDATOR: B256 = b256!("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");

pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

pub(crate) const OPAQUE: RollupId = RollupId(900);
pub(crate) const FCFS: RollupId = RollupId(901);
pub(crate) const PRIORITY: RollupId = RollupId(902);

/// One rollup of each sort.
pub(crate) fn rollups() -> Vec<RollupConfig> {
    let rollup = |id, kind, ordering| RollupConfig {
        id,
        kind,
        ordering,
        weight: 1,
    };
    vec![
        rollup(OPAQUE, RollupKind::Opaque, Ordering::Fcfs),
        rollup(FCFS, RollupKind::Evm, Ordering::Fcfs),
        rollup(PRIORITY, RollupKind::Evm, Ordering::Priority),
    ]
}

/// A node's pool and replicated state.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) genesis: Genesis,
    pub(crate) state: State,
    pub(crate) pool: Pool,
    pub(crate) now: Duration,
    pub(crate) limits: BlockLimits,
}

impl Node {
    pub(crate) fn new(rollups: Vec<RollupConfig>, limits: PoolLimits) -> Self {
        let validator = Validator {
            id: ValidatorId(VALIDATOR),
            peer: VALIDATOR,
            power: 1,
        };
        let committee = Committee::new(Epoch(0), vec![validator]).unwrap();
        let genesis = Genesis::new("fixture".to_owned(), NOW_MS - 1000, committee, rollups).unwrap();
        Self {
            state: genesis.state(),
            pool: Pool::new(genesis.rollups(), limits),
            genesis,
            now: Duration::from_secs(1000),
            limits: BlockLimits::default(),
        }
    }

    pub(crate) fn with_default_limits() -> Self {
        Self::new(rollups(), PoolLimits::default())
    }

    pub(crate) fn insert(&mut self, transaction: PoolTransaction) -> Result<(), Reject> {
        self.pool.insert(transaction, Origin::Local, self.now)
    }

    pub(crate) fn build(&self) -> Block {
        let context = BuildContext {
            network: self.genesis.network(),
            epoch: Epoch(0),
            committee: self.genesis.committee().hash(),
            proposer: ValidatorId(VALIDATOR),
            now_ms: NOW_MS,
            state_root: self.state.root(),
            limits: self.limits,
        };
        build(&self.pool, &self.state, &context).unwrap().block().clone()
    }

    pub(crate) fn check(&self, block: &SealedBlock) -> Result<(), Invalid> {
        let context = CheckContext {
            network: self.genesis.network(),
            epoch: Epoch(0),
            committee: self.genesis.committee(),
            committee_hash: self.genesis.committee().hash(),
            now_ms: NOW_MS,
            state_root: self.state.root(),
            rollups: self.genesis.rollups(),
            window: self.pool.window(),
            facts_of: &facts_of,
        };
        check(block, &self.state, &context)
    }

    /// Applies a decided block; `known` says whether the node decodes what it did not hold.
    pub(crate) fn apply(&mut self, block: &SealedBlock, known: bool) {
        let decode = |config: &RollupConfig, hash: TxHash, payload: &Bytes| {
            known.then(|| facts_of(config, hash, payload)).flatten()
        };
        self.pool.decided(block, &decode);
        self.state
            .apply(block.block(), block.id(), self.genesis.committee())
            .unwrap();
    }

    /// Builds, checks and applies a block.
    pub(crate) fn decide(&mut self) -> SealedBlock {
        let block = SealedBlock::new(&self.build()).unwrap();
        self.check(&block).unwrap();
        self.apply(&block, true);
        block
    }
}

/// The payloads of a rollup in a block, as the fixture's facts.
pub(crate) fn lane_facts(block: &Block, rollup: RollupId) -> Vec<EvmFacts> {
    let payloads = block.lane(rollup).map_or(&[][..], |body| body.transactions.as_slice());
    payloads.iter().map(|payload| decode(payload).unwrap()).collect()
}

pub(crate) fn opaque(rollup: RollupId, payload: Vec<u8>) -> PoolTransaction {
    PoolTransaction {
        rollup,
        hash: transaction_hash(&payload),
        payload: payload.into(),
        evm: None,
    }
}

/// The `n`th opaque transaction, of `bytes`, at least 8.
pub(crate) fn numbered(rollup: RollupId, n: u64, bytes: usize) -> PoolTransaction {
    let mut payload = n.to_be_bytes().to_vec();
    payload.resize(bytes, 7);
    opaque(rollup, payload)
}

/// A transaction of a sender with equal fee cap and tip.
pub(crate) fn evm(rollup: RollupId, sender: u8, nonce: u64, tip: u128) -> PoolTransaction {
    evm_of(rollup, sender, nonce, tip, tip, 0)
}

/// A transaction with `padding` more bytes.
pub(crate) fn evm_of(
    rollup: RollupId,
    sender: u8,
    nonce: u64,
    max_fee: u128,
    tip: u128,
    padding: usize,
) -> PoolTransaction {
    let mut payload = vec![sender; 20];
    payload.extend(nonce.to_be_bytes());
    payload.extend(max_fee.to_be_bytes());
    payload.extend(tip.to_be_bytes());
    payload.resize(payload.len() + padding, 0);
    let facts = decode(&payload.clone().into());
    PoolTransaction {
        evm: facts,
        ..opaque(rollup, payload)
    }
}

pub(crate) fn facts_of(_: &RollupConfig, _: TxHash, payload: &Bytes) -> Option<EvmFacts> {
    decode(payload)
}

fn decode(payload: &Bytes) -> Option<EvmFacts> {
    Some(EvmFacts {
        sender: Address::from_slice(payload.get(..20)?),
        nonce: u64::from_be_bytes(payload.get(20..28)?.try_into().ok()?),
        max_fee: u128::from_be_bytes(payload.get(28..44)?.try_into().ok()?),
        tip: u128::from_be_bytes(payload.get(44..60)?.try_into().ok()?),
    })
}
