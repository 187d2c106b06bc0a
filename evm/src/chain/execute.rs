//! Execution of a block: the system calls, the transactions in their order, the header.

use alloy_consensus::{Block, BlockBody, Header, ReceiptEnvelope, Sealed, Transaction as _, TxReceipt, Typed2718};
use alloy_consensus::{Receipt, proofs, transaction::Recovered};
use alloy_eips::eip2718::Encodable2718;
use alloy_eips::{eip2935, eip4788, eip4844::DATA_GAS_PER_BLOB, eip4895::Withdrawals, eip7685::EMPTY_REQUESTS_HASH};
use alloy_primitives::{B256, Bloom, Bytes, U256};
use alloy_trie::EMPTY_ROOT_HASH;
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction};
use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::context_interface::either::Either;
use revm::handler::{ExecuteCommitEvm, MainnetContext};
use revm::{Context, Database, MainBuilder, MainContext, MainnetEvm, SystemCallCommitEvm};

use super::view::Scratch;
use super::{Chain, ChainConfig, ExecutedBlock, Outcome, Transaction, Undo};
use crate::params;

/// What the next block is made of. All that it depends on beside the chain.
#[derive(Clone, Debug, Default)]
pub struct BlockInput {
    /// Seconds since 1970. Raised to one more than the parent's if it is not later.
    pub timestamp: u64,
    /// What PREVRANDAO gives. A chain of one proposer has nothing better than a hash of what came before.
    pub prev_randao: B256,
    /// What EIP-4788's contract serves for this block's timestamp.
    pub parent_beacon_root: B256,
    /// Wei per gas, instead of what EIP-1559 says.
    pub base_fee: Option<u64>,
    /// In the order of execution.
    pub transactions: Vec<Transaction>,
}

/// Why a transaction is not in the block that it was given to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skip {
    /// It would fit into an empty block, but not into what is left of this one: gas, blobs or bytes.
    #[error("no room in the block")]
    NoRoom,
    /// It must not be executed on this state. Nonce, balance, fee, gas, type: revm says which.
    #[error("{0}")]
    Invalid(InvalidTransaction),
}

/// A transaction that is not in the block, by its place in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Place in [`BlockInput::transactions`].
    pub index: usize,
    /// Why.
    pub reason: Skip,
}

/// What became of a [`BlockInput`].
#[derive(Clone, Debug)]
pub struct Executed {
    /// Hash of the new block, which is the chain's head.
    pub hash: B256,
    /// What was left out, in the order of the input.
    pub skipped: Vec<Skipped>,
}

impl Chain {
    /// Executes a block on the head and appends it.
    pub fn execute(&mut self, input: BlockInput) -> Executed {
        let mut undo = Undo::default();
        let mut header = self.next_header(&input);
        let env = block_env(&header);
        let cfg = cfg_env(&self.config);
        let scratch = Scratch {
            state: &mut self.state,
            undo: &mut undo,
            blocks: &self.blocks,
        };
        let mut evm = evm_on(scratch, cfg, env);
        // EIP-4788 and EIP-2935. A failing system call changes nothing and does not make the block invalid.
        let beacon = Bytes::from(input.parent_beacon_root.0);
        let _ = evm.system_call_commit(eip4788::BEACON_ROOTS_ADDRESS, beacon);
        let _ = evm.system_call_commit(eip2935::HISTORY_STORAGE_ADDRESS, Bytes::from(header.parent_hash.0));
        let mut building = Building::new(&header);
        let mut skipped = Vec::new();
        for (index, transaction) in input.transactions.into_iter().enumerate() {
            if let Err(reason) = building.add(&mut evm, transaction) {
                skipped.push(Skipped { index, reason });
            }
        }
        drop(evm);
        header.gas_used = building.gas_used;
        header.blob_gas_used = Some(building.blobs * DATA_GAS_PER_BLOB);
        header.logs_bloom = building.bloom;
        header.state_root = self.state.root();
        let block = building.finish(header);
        let hash = block.hash();
        self.append(block, Some(undo));
        Executed { hash, skipped }
    }

    /// The header as far as it is known before the transactions are executed.
    pub(super) fn next_header(&self, input: &BlockInput) -> Header {
        let parent = self.head();
        Header {
            parent_hash: parent.hash(),
            number: parent.number() + 1,
            timestamp: input.timestamp.max(parent.header.timestamp.saturating_add(1)),
            beneficiary: self.config.beneficiary,
            gas_limit: self.config.gas_limit,
            base_fee_per_gas: Some(input.base_fee.unwrap_or_else(|| self.next_base_fee())),
            mix_hash: input.prev_randao,
            withdrawals_root: Some(EMPTY_ROOT_HASH),
            excess_blob_gas: Some(self.next_excess_blob_gas()),
            parent_beacon_block_root: Some(input.parent_beacon_root),
            requests_hash: Some(EMPTY_REQUESTS_HASH),
            ..Header::default()
        }
    }
}

/// A block in the making.
struct Building {
    gas_limit: u64,
    gas_used: u64,
    blobs: u64,
    bytes: usize,
    bloom: Bloom,
    logs: u64,
    transactions: Vec<Transaction>,
    outcomes: Vec<Outcome>,
}

impl Building {
    fn new(header: &Header) -> Self {
        Self {
            gas_limit: header.gas_limit,
            gas_used: 0,
            blobs: 0,
            // The list's own prefix and the empty lists of ommers and withdrawals take less than the rest of this.
            bytes: header.size() + 64,
            bloom: Bloom::ZERO,
            logs: 0,
            transactions: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    fn add(&mut self, evm: &mut MainnetEvm<MainnetContext<Scratch<'_>>>, transaction: Transaction) -> Result<(), Skip> {
        let blobs = transaction.blob_versioned_hashes().map_or(0, <[B256]>::len) as u64;
        let bytes = transaction.network_len();
        if self.gas_used.saturating_add(transaction.gas_limit()) > self.gas_limit
            || self.blobs + blobs > params::BLOBS.max_blob_count
            || self.bytes + bytes > params::BLOCK_BYTES_MAX
        {
            return Err(Skip::NoRoom);
        }
        let result = evm.transact_commit(tx_env(&transaction)).map_err(|error| match error {
            EVMError::Transaction(invalid) => Skip::Invalid(invalid),
            // Neither a database that cannot fail nor a header of ours gives these; a precompile's fault might.
            other => Skip::Invalid(InvalidTransaction::Str(other.to_string().into())),
        })?;
        self.blobs += blobs;
        self.bytes += bytes;
        self.record(transaction, result);
        Ok(())
    }

    fn record(&mut self, transaction: Transaction, result: ExecutionResult) {
        let gas_used = result.tx_gas_used();
        self.gas_used += gas_used;
        let contract = result.created_address();
        let receipt = Receipt {
            status: result.is_success().into(),
            cumulative_gas_used: self.gas_used,
            logs: result.into_logs(),
        };
        let first_log = self.logs;
        self.logs += receipt.logs.len() as u64;
        let receipt = ReceiptEnvelope::from_typed(transaction.tx_type(), receipt.with_bloom());
        self.bloom |= receipt.bloom();
        self.transactions.push(transaction);
        self.outcomes.push(Outcome {
            receipt,
            gas_used,
            contract,
            first_log,
        });
    }

    fn finish(self, mut header: Header) -> ExecutedBlock {
        let transactions: Vec<_> = self.transactions.iter().map(Recovered::inner).collect();
        header.transactions_root = proofs::ordered_trie_root_with_encoder(&transactions, |transaction, out| {
            transaction.encode_2718(out);
        });
        header.receipts_root = proofs::ordered_trie_root_with_encoder(&self.outcomes, |outcome, out| {
            outcome.receipt.encode_2718(out);
        });
        let body = BlockBody {
            transactions: transactions.into_iter().cloned().collect(),
            ommers: Vec::new(),
            withdrawals: Some(Withdrawals::default()),
        };
        let bytes = Block::rlp_length_for(&header, &body);
        ExecutedBlock {
            header: Sealed::new(header),
            transactions: self.transactions,
            outcomes: self.outcomes,
            bytes,
        }
    }
}

/// An EVM on a database, with the rules of [`params::SPEC`].
pub(super) fn evm_on<D: Database>(database: D, cfg: CfgEnv, block: BlockEnv) -> MainnetEvm<MainnetContext<D>> {
    Context::mainnet()
        .with_db(database)
        .with_cfg(cfg)
        .with_block(block)
        .build_mainnet()
}

pub(super) fn cfg_env(config: &ChainConfig) -> CfgEnv {
    let mut cfg = CfgEnv::new_with_spec(params::SPEC).with_chain_id(config.chain_id);
    cfg.tx_gas_limit_cap = Some(params::TRANSACTION_GAS_MAX);
    cfg.max_blobs_per_tx = Some(params::BLOBS.max_blobs_per_tx);
    cfg.blob_base_fee_update_fraction = u64::try_from(params::BLOBS.update_fraction).ok();
    cfg
}

pub(super) fn block_env(header: &Header) -> BlockEnv {
    let mut env = BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        prevrandao: Some(header.mix_hash),
        ..BlockEnv::default()
    };
    let fraction = u64::try_from(params::BLOBS.update_fraction).unwrap_or(u64::MAX);
    env.set_blob_excess_gas_and_price(header.excess_blob_gas.unwrap_or_default(), fraction);
    env
}

fn tx_env(transaction: &Transaction) -> TxEnv {
    let authorizations = transaction.authorization_list().unwrap_or_default();
    TxEnv {
        tx_type: transaction.ty(),
        caller: transaction.signer(),
        gas_limit: transaction.gas_limit(),
        gas_price: transaction.max_fee_per_gas(),
        kind: transaction.kind(),
        value: transaction.value(),
        data: transaction.input().clone(),
        nonce: transaction.nonce(),
        chain_id: transaction.chain_id(),
        access_list: transaction.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: transaction.max_priority_fee_per_gas(),
        blob_hashes: transaction.blob_versioned_hashes().unwrap_or_default().to_vec(),
        max_fee_per_blob_gas: transaction.max_fee_per_blob_gas().unwrap_or_default(),
        authorization_list: authorizations.iter().cloned().map(Either::Left).collect(),
    }
}
