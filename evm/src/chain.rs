//! An EVM chain: ordered transactions and a time come in, a block with its receipts comes out.
//!
//! Promises that the same configuration and the same inputs give the same block hashes everywhere: it reads no clock, no
//! randomness and no hash map's order, and a transaction that cannot be executed is left out of its block by a rule on the block
//! alone ([`Skip`]). It can step back as far as it keeps states, and answers about any block within that window.
//!
//! Leaves to its caller which transactions to take and in which order, when, and what a block means to anybody.

mod trie;

mod state;
pub use state::AccountFields;

mod view;
pub use view::{Unavailable, View};

mod execute;
pub use execute::{BlockInput, Executed, Skip, Skipped};

mod call;
pub use call::{Call, CallFailure, CallSuccess, halt_text};

mod logs;
pub use logs::{LogPlace, LogsRefused};

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use alloy_consensus::{EthereumTxEnvelope, Header, ReceiptEnvelope, Sealed, TxEip4844, transaction::Recovered};
use alloy_eips::{eip2935, eip4788, eip7685::EMPTY_REQUESTS_HASH, eip7840::BlobParams};
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_trie::EMPTY_ROOT_HASH;

use crate::params;
use state::{State, Undo};

/// A signed transaction of a block, without sidecar, and who signed it.
pub type Transaction = Recovered<EthereumTxEnvelope<TxEip4844>>;

/// What a chain begins with.
#[derive(Clone, Debug)]
pub struct ChainConfig {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Seconds since 1970 of the genesis block.
    pub genesis_time: u64,
    /// Gas of a block.
    pub gas_limit: u64,
    /// Wei per gas of the first block.
    pub initial_base_fee: u64,
    /// Who gets the tips.
    pub beneficiary: Address,
    /// Accounts of the genesis block and their wei.
    pub balances: Vec<(Address, U256)>,
    /// Contracts of the genesis block and their code, beside those of EIP-2935 and EIP-4788.
    pub contracts: Vec<(Address, Bytes)>,
    /// Blocks whose state is kept; at least one.
    pub states_retained: usize,
    /// Blocks that are kept; at least `states_retained`.
    pub blocks_retained: usize,
    /// Bytes of all that is kept of blocks and of states other than the latest. The oldest leave, states with their blocks, but never
    /// the latest block.
    pub bytes_retained: usize,
}

impl ChainConfig {
    /// A chain with the developer accounts of [`params::DEV_ACCOUNTS`] that begins at `genesis_time` (s).
    #[must_use]
    pub fn dev(chain_id: u64, genesis_time: u64) -> Self {
        Self {
            chain_id,
            genesis_time,
            gas_limit: params::BLOCK_GAS,
            initial_base_fee: params::INITIAL_BASE_FEE,
            beneficiary: params::BENEFICIARY,
            balances: params::DEV_ACCOUNTS
                .map(|(address, _)| (address, params::DEV_BALANCE))
                .into(),
            contracts: Vec::new(),
            states_retained: params::STATES_RETAINED,
            blocks_retained: params::BLOCKS_RETAINED,
            bytes_retained: params::BLOCK_BYTES_RETAINED,
        }
    }
}

/// What became of one transaction of a block.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The receipt that the block commits to.
    pub receipt: ReceiptEnvelope,
    /// Gas of this transaction alone, refund taken off.
    pub gas_used: u64,
    /// The contract that it created.
    pub contract: Option<Address>,
    /// Place of its first log among the logs of the block.
    pub first_log: u64,
}

/// A block of the chain.
#[derive(Clone, Debug)]
pub struct ExecutedBlock {
    /// The header and its hash.
    pub header: Sealed<Header>,
    /// In their order.
    pub transactions: Vec<Transaction>,
    /// One for each transaction.
    pub outcomes: Vec<Outcome>,
    /// Bytes of the block in RLP.
    pub bytes: usize,
}

impl ExecutedBlock {
    /// The block's hash.
    #[must_use]
    pub fn hash(&self) -> B256 {
        self.header.hash()
    }

    /// The block's number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.header.number
    }

    /// Wei per blob gas in this block.
    #[must_use]
    pub fn blob_fee(&self) -> u128 {
        self.header
            .blob_fee(params::BLOBS)
            .unwrap_or(params::BLOBS.min_blob_fee)
    }

    /// Bytes of memory that it takes, about: what it says, and what holds each of its things.
    fn bytes_held(&self) -> usize {
        let logs = self.outcomes.iter().flat_map(|outcome| outcome.receipt.logs());
        let logs: usize = logs
            .map(|log| size_of_val(log) + log.data.data.len() + size_of_val(log.topics()))
            .sum();
        let place = size_of::<B256>() + size_of::<(u64, usize)>();
        let transactions = self.transactions.len() * (size_of::<Transaction>() + size_of::<Outcome>() + place);
        size_of::<Self>() + place + self.bytes + transactions + logs
    }
}

/// The chain. See the [module](self).
#[derive(Clone, Debug)]
pub struct Chain {
    config: ChainConfig,
    state: State,
    /// The latest blocks, oldest first; never empty.
    blocks: VecDeque<Arc<ExecutedBlock>>,
    /// What the latest blocks changed, oldest first; fewer than blocks.
    undos: VecDeque<Undo>,
    /// Bytes of both, about.
    bytes: usize,
    by_hash: BTreeMap<B256, u64>,
    /// Block and place of each transaction that is kept.
    places: BTreeMap<B256, (u64, usize)>,
}

impl Chain {
    /// A chain that has its genesis block only.
    #[must_use]
    pub fn new(config: ChainConfig) -> Self {
        let mut state = State::default();
        let mut undo = Undo::default();
        state.deploy(eip2935::HISTORY_STORAGE_ADDRESS, &eip2935::HISTORY_STORAGE_CODE);
        state.deploy(eip4788::BEACON_ROOTS_ADDRESS, &eip4788::BEACON_ROOTS_CODE);
        for (address, code) in &config.contracts {
            state.deploy(*address, code);
        }
        for (address, balance) in &config.balances {
            let before = state.account(address).unwrap_or(AccountFields::EMPTY);
            let fields = AccountFields {
                balance: *balance,
                ..before
            };
            state.set_account(&mut undo, *address, Some(fields));
        }
        let header = Header {
            gas_limit: config.gas_limit,
            timestamp: config.genesis_time,
            base_fee_per_gas: Some(config.initial_base_fee),
            beneficiary: config.beneficiary,
            state_root: state.root(),
            withdrawals_root: Some(EMPTY_ROOT_HASH),
            blob_gas_used: Some(0),
            excess_blob_gas: Some(0),
            parent_beacon_block_root: Some(B256::ZERO),
            requests_hash: Some(EMPTY_REQUESTS_HASH),
            ..Header::default()
        };
        let bytes = header.size();
        let genesis = ExecutedBlock {
            header: Sealed::new(header),
            transactions: Vec::new(),
            outcomes: Vec::new(),
            bytes,
        };
        let mut chain = Self {
            config,
            state,
            blocks: VecDeque::new(),
            undos: VecDeque::new(),
            bytes: 0,
            by_hash: BTreeMap::new(),
            places: BTreeMap::new(),
        };
        chain.append(genesis, None);
        chain
    }

    /// What it began with.
    #[must_use]
    pub fn config(&self) -> &ChainConfig {
        &self.config
    }

    /// The latest block.
    ///
    /// # Panics
    /// Never: a chain keeps its latest block.
    #[must_use]
    pub fn head(&self) -> &Arc<ExecutedBlock> {
        self.blocks.back().expect("a chain keeps its latest block")
    }

    /// The oldest block that is kept.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.blocks.front().map_or(0, |block| block.number())
    }

    /// The block of a number, if it is kept.
    #[must_use]
    pub fn block(&self, number: u64) -> Option<&Arc<ExecutedBlock>> {
        let index = number.checked_sub(self.oldest())?;
        self.blocks.get(usize::try_from(index).ok()?)
    }

    /// The block of a hash, if it is kept. Blocks that were rolled back are not.
    #[must_use]
    pub fn block_by_hash(&self, hash: &B256) -> Option<&Arc<ExecutedBlock>> {
        self.block(*self.by_hash.get(hash)?)
    }

    /// The block that holds a transaction, and its place in it.
    #[must_use]
    pub fn place(&self, transaction: &B256) -> Option<(&Arc<ExecutedBlock>, usize)> {
        let (number, index) = self.places.get(transaction)?;
        Some((self.block(*number)?, *index))
    }

    /// Bytes that blocks and states other than the latest take, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many blocks [`Chain::rollback`] can take back.
    #[must_use]
    pub fn depth_max(&self) -> usize {
        self.undos.len()
    }

    /// The state after the block of a number.
    ///
    /// # Errors
    /// If that block is not yet there, or its state no longer is.
    pub fn view(&self, number: u64) -> Result<View<'_>, Unavailable> {
        View::new(self, number)
    }

    /// The state after the latest block.
    #[must_use]
    pub fn latest(&self) -> View<'_> {
        View::latest(self)
    }

    /// Wei per gas that the next block asks, by EIP-1559.
    #[must_use]
    pub fn next_base_fee(&self) -> u64 {
        let next = self.head().header.next_block_base_fee(params::BASE_FEE);
        next.unwrap_or(self.config.initial_base_fee)
    }

    /// Excess blob gas of the next block, by EIP-4844 and EIP-7918.
    #[must_use]
    pub fn next_excess_blob_gas(&self) -> u64 {
        let next = self.head().header.next_block_excess_blob_gas(params::BLOBS);
        next.unwrap_or_default()
    }

    /// Wei per blob gas that the next block asks.
    #[must_use]
    pub fn next_blob_fee(&self) -> u128 {
        let params: BlobParams = params::BLOBS;
        params.calc_blob_fee(self.next_excess_blob_gas())
    }

    /// Takes back the latest `depth` blocks and returns them, oldest first.
    ///
    /// # Errors
    /// If so many states are not kept; then nothing is taken back.
    pub fn rollback(&mut self, depth: usize) -> Result<Vec<Arc<ExecutedBlock>>, Unavailable> {
        if depth > self.undos.len() {
            return Err(Unavailable::TooDeep {
                depth,
                most: self.undos.len(),
            });
        }
        let mut dropped = Vec::with_capacity(depth);
        for _ in 0..depth {
            if let (Some(block), Some(undo)) = (self.blocks.pop_back(), self.undos.pop_back()) {
                self.bytes -= undo.bytes_held();
                self.state.undo(undo);
                self.forget(&block);
                dropped.push(block);
            }
        }
        dropped.reverse();
        Ok(dropped)
    }

    /// Sets a balance out of thin air, for tests. It counts as a part of the latest block: a rollback of that block takes it back. The
    /// root in the latest header does not know it; the next one does.
    pub fn set_balance(&mut self, address: Address, balance: U256) {
        let before = self.state.account(&address).unwrap_or(AccountFields::EMPTY);
        let fields = AccountFields { balance, ..before };
        let fields = (fields != AccountFields::EMPTY).then_some(fields);
        let mut genesis = Undo::default();
        let Some(undo) = self.undos.back_mut() else {
            return self.state.set_account(&mut genesis, address, fields);
        };
        self.bytes -= undo.bytes_held();
        self.state.set_account(undo, address, fields);
        self.bytes += undo.bytes_held();
    }

    /// Adds a block that was executed on the state. The genesis block has nothing to undo.
    fn append(&mut self, block: ExecutedBlock, undo: Option<Undo>) {
        let number = block.number();
        self.by_hash.insert(block.hash(), number);
        for (index, transaction) in block.transactions.iter().enumerate() {
            self.places.insert(*transaction.tx_hash(), (number, index));
        }
        self.bytes += block.bytes_held() + undo.as_ref().map_or(0, Undo::bytes_held);
        self.blocks.push_back(Arc::new(block));
        self.undos.extend(undo);
        self.prune();
    }

    fn prune(&mut self) {
        while self.undos.len() > self.config.states_retained {
            self.drop_oldest_state();
        }
        // One block more than states, so that the state below the oldest undo has its block.
        let blocks_retained = self.config.blocks_retained.max(self.config.states_retained + 1);
        let is_over = |chain: &Self| chain.blocks.len() > blocks_retained || chain.bytes > chain.config.bytes_retained;
        while self.blocks.len() > 1 && is_over(self) {
            if self.undos.len() + 1 >= self.blocks.len() {
                self.drop_oldest_state();
            }
            if let Some(oldest) = self.blocks.pop_front() {
                self.forget(&oldest);
            }
        }
    }

    fn drop_oldest_state(&mut self) {
        if let Some(undo) = self.undos.pop_front() {
            self.bytes -= undo.bytes_held();
        }
    }

    fn forget(&mut self, block: &ExecutedBlock) {
        self.bytes -= block.bytes_held();
        self.by_hash.remove(&block.hash());
        for transaction in &block.transactions {
            self.places.remove(transaction.tx_hash());
        }
    }
}
