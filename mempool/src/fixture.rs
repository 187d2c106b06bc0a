//! A network of one validator without signatures, for this crate's tests.
//!
//! An `evm` payload of the fixture spells out its facts, so that decoding is reading.

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, b256, keccak256};
use fusion_types::{
    Block, Committee, Epoch, ForcedItem, Genesis, L1Block, L1Origin, Ordering, RollupConfig, RollupId, RollupKind,
    SealedBlock, SettlementConfig, State, TxHash, Validator, ValidatorId, transaction_hash,
};

use crate::{
    BlockLimits, BuildContext, CheckContext, EvmFacts, Invalid, L1View, Origin, Pool, PoolLimits, PoolTransaction,
    Reject, build, check,
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
    /// None where nothing settles.
    pub(crate) l1: Option<L1View>,
}

/// A settling network takes this many forced transactions a block, of up to so many bytes.
pub(crate) const FORCED_PER_BLOCK: u32 = 3;
pub(crate) const FORCED_BYTES_MAX: u32 = 500;

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
            l1: None,
        }
    }

    /// A node of a network that settles; L1 begins at block 100.
    pub(crate) fn settling() -> Self {
        let mut node = Self::with_default_limits();
        let rules = SettlementConfig {
            l1_chain_id: 1,
            l1_start: l1_origin(100),
            forced_per_block: FORCED_PER_BLOCK,
            forced_bytes_max: FORCED_BYTES_MAX,
            block_bytes_max: 140_000,
            batch_bytes: 140_000,
            batch_age_ms: 1,
            batch_idle_ms: 1,
        };
        node.genesis = node.genesis.settling(rules).unwrap();
        node.state = node.genesis.state();
        node.l1 = Some(L1View::new(rules, &node.state));
        node
    }

    pub(crate) fn with_default_limits() -> Self {
        Self::new(rollups(), PoolLimits::default())
    }

    pub(crate) fn insert(&mut self, transaction: PoolTransaction) -> Result<(), Reject> {
        self.pool.insert(transaction, Origin::Local, self.now)
    }

    /// Adopts the newest L1 block that is known.
    pub(crate) fn build(&self) -> Block {
        let newest = self.l1.as_ref().map(|l1| l1.newest_since(Duration::MAX));
        let context = BuildContext {
            network: self.genesis.network(),
            epoch: Epoch(0),
            committee: self.genesis.committee().hash(),
            proposer: ValidatorId(VALIDATOR),
            now_ms: NOW_MS,
            state_root: self.state.root(),
            l1_origin: newest.unwrap_or(self.state.l1_origin),
            l1: self.l1.as_ref(),
            window: self.pool.window(),
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
            l1: self.l1.as_ref(),
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
        if let Some(l1) = &mut self.l1 {
            l1.decided(&self.state);
        }
    }

    /// Builds, checks and applies a block.
    pub(crate) fn decide(&mut self) -> SealedBlock {
        let block = SealedBlock::new(&self.build()).unwrap();
        self.check(&block).unwrap();
        self.apply(&block, true);
        block
    }
}

/// The L1 block of this number, which has one hash.
pub(crate) fn l1_origin(number: u64) -> L1Origin {
    let hash = keccak256(number.to_be_bytes());
    L1Origin { number, hash }
}

/// An L1 that grows as a test says: its blocks from 101 on, and its queue.
#[derive(Debug, Clone)]
pub(crate) struct L1Chain {
    pub(crate) blocks: Vec<L1Block>,
    word: B256,
    count: u32,
}

impl L1Chain {
    pub(crate) fn new() -> Self {
        Self {
            blocks: Vec::new(),
            word: B256::ZERO,
            count: 0,
        }
    }

    /// The next block, in which these are queued.
    pub(crate) fn mine(&mut self, forced: &[(RollupId, Bytes)]) -> L1Block {
        let number = 101 + self.blocks.len() as u64;
        let items = forced.iter().map(|(rollup, payload)| {
            let mut item = ForcedItem {
                index: self.count,
                rollup: *rollup,
                sender: Address::repeat_byte(5),
                payload: payload.clone(),
                accumulator: B256::ZERO,
            };
            item.accumulator = item.accumulator_after(self.word, number);
            (self.word, self.count) = (item.accumulator, self.count + 1);
            item
        });
        let forced = items.collect();
        let block = L1Block {
            number,
            hash: l1_origin(number).hash,
            parent: l1_origin(number - 1).hash,
            forced_count: self.count,
            forced,
        };
        self.blocks.push(block.clone());
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
