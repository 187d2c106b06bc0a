//! A network of four validators and a chain that three of them signed: what seeds are made of and what inputs are held
//! against.

use std::sync::{Arc, OnceLock};

use alloy_primitives::{B256, B512, Bytes};
use ed25519_dalek::{Signer, SigningKey};
use fusion_types::{
    Block, Certificate, Committee, CommitteeSignature, DecidedBlock, Epoch, Genesis, Header, Height, L1Origin, Lane,
    LaneBody, Ordering, RollupConfig, RollupId, RollupKind, Round, SealedBlock, State, Validator, ValidatorId,
    VoteKind, merkle_root, transaction_hash, vote_sign_bytes,
};

/// An `evm` rollup in order of arrival, one by priority, and one of opaque payloads.
pub const ROLLUPS: [RollupId; 3] = [RollupId(901), RollupId(902), RollupId(903)];

/// Decided blocks of the chain.
pub const BLOCKS: u64 = 4;

/// Unix milliseconds of the genesis.
pub const GENESIS_MS: u64 = 1_700_000_000_000;

/// The network and its chain.
#[derive(Debug)]
pub struct Fixture {
    /// The network.
    pub genesis: Arc<Genesis>,
    /// Keys, in the order of the committee.
    pub keys: Vec<SigningKey>,
    /// Decided blocks from height 1.
    pub blocks: Vec<DecidedBlock>,
    /// States from the genesis' on, one more than blocks.
    pub states: Vec<State>,
}

/// The one fixture of this process.
pub fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(Fixture::new)
}

impl Fixture {
    fn new() -> Self {
        let mut keys: Vec<_> = (1..=4).map(|byte| SigningKey::from_bytes(&[byte; 32])).collect();
        keys.sort_by_key(|key| key.verifying_key().to_bytes());
        let validators = keys.iter().map(|key| Validator {
            id: id_of(key),
            peer: B256::from(
                SigningKey::from_bytes(&key.verifying_key().to_bytes())
                    .verifying_key()
                    .to_bytes(),
            ),
            power: 1,
        });
        let committee = Committee::new(Epoch(0), validators.collect()).expect("four keys form a committee");
        let rollup = |id, kind, ordering| RollupConfig {
            id,
            kind,
            ordering,
            weight: 1,
        };
        let rollups = vec![
            rollup(ROLLUPS[0], RollupKind::Evm, Ordering::Fcfs),
            rollup(ROLLUPS[1], RollupKind::Evm, Ordering::Priority),
            rollup(ROLLUPS[2], RollupKind::Opaque, Ordering::Fcfs),
        ];
        let genesis = Genesis::new("fuzz".to_owned(), GENESIS_MS, committee, rollups).expect("the parts are sound");
        let mut fixture = Self {
            states: vec![genesis.state()],
            genesis: Arc::new(genesis),
            keys,
            blocks: Vec::new(),
        };
        for height in 1..=BLOCKS {
            fixture.grow(height);
        }
        fixture
    }

    fn grow(&mut self, height: u64) {
        let mut state = self.states.last().expect("the genesis' is there").clone();
        let payload = |n: u64| Bytes::from(format!("transaction {n} of height {height}").into_bytes());
        // The second block is empty; lanes of one and of two transactions in the others.
        let lanes = match height {
            2 => Vec::new(),
            3 => vec![(ROLLUPS[2], vec![payload(0)])],
            _ => vec![
                (ROLLUPS[0], vec![payload(0), payload(1)]),
                (ROLLUPS[2], vec![payload(2)]),
            ],
        };
        let block = self.block(&state, self.proposer(&state, Round(0)), state.time_ms + 1, lanes);
        let block = Arc::new(SealedBlock::new(&block).expect("it keeps the limits"));
        let certificate = self.certificate(block.header().height, Round(0), &block, &[0, 1, 2]);
        state
            .apply(block.block(), block.id(), self.genesis.committee())
            .expect("it continues the chain");
        self.blocks.push(DecidedBlock { block, certificate });
        self.states.push(state);
    }

    /// Who proposes in `round` of the height above `state`.
    pub fn proposer(&self, state: &State, round: Round) -> ValidatorId {
        let committee = self.genesis.committee();
        committee.validators()[state.rotation.proposer(committee, state.height.next(), round)].id
    }

    /// A block on `state` with these lanes.
    pub fn block(
        &self,
        state: &State,
        proposer: ValidatorId,
        time_ms: u64,
        lanes: Vec<(RollupId, Vec<Bytes>)>,
    ) -> Block {
        let height = state.height.next();
        let lanes: Vec<LaneBody> = lanes
            .into_iter()
            .map(|(rollup, transactions)| {
                let stream = state.streams[&rollup];
                let hashes: Vec<_> = transactions.iter().map(|payload| transaction_hash(payload)).collect();
                LaneBody {
                    lane: Lane::new(rollup, height, stream.next_sequence, stream.head, &hashes),
                    transactions,
                }
            })
            .collect();
        let leaves: Vec<B256> = lanes.iter().map(|body| body.lane.leaf()).collect();
        let header = Header {
            network: self.genesis.network(),
            height,
            parent: state.block,
            epoch: Epoch(0),
            committee: state.committee,
            proposer,
            time_ms,
            l1_origin: L1Origin::default(),
            lanes_root: merkle_root(&leaves),
            state_root: state.root(),
            forced_to: None,
        };
        Block { header, lanes }
    }

    /// Precommits of `members` for a block.
    pub fn certificate(&self, height: Height, round: Round, block: &SealedBlock, members: &[usize]) -> Certificate {
        let network = self.genesis.network();
        let bytes = vote_sign_bytes(network, Epoch(0), height, round, VoteKind::Precommit, Some(block.id()));
        let signatures = members.iter().map(|at| CommitteeSignature {
            validator: u32::try_from(*at).unwrap_or(u32::MAX),
            signature: sign(&self.keys[*at], &bytes),
        });
        Certificate {
            epoch: Epoch(0),
            height,
            round,
            block: block.id(),
            signatures: signatures.collect(),
        }
    }
}

/// The validator of a key.
pub fn id_of(key: &SigningKey) -> ValidatorId {
    ValidatorId(B256::from(key.verifying_key().to_bytes()))
}

/// A signature as messages hold it.
pub fn sign(key: &SigningKey, bytes: &[u8]) -> B512 {
    B512::from(key.sign(bytes).to_bytes())
}

/// Makes a block's lanes and roots follow from its transactions, so that what was mutated gets past the hashes.
pub fn mend(block: &mut Block) {
    for body in &mut block.lanes {
        let lane = &body.lane;
        let (rollup, first, head) = (lane.rollup, lane.first_sequence, lane.parent_head);
        body.lane = Lane::new(rollup, block.header.height, first, head, &body.hashes());
    }
    block.header.lanes_root = merkle_root(&block.lane_leaves());
}
