//! Blocks, transactions, receipts and logs in the shape that JSON-RPC gives them.

use std::sync::Arc;

use alloy_consensus::{EthereumTxEnvelope, ReceiptEnvelope, Transaction as _, TxEip4844, transaction::TransactionInfo};
use alloy_eips::eip4844::DATA_GAS_PER_BLOB;
use alloy_eips::eip4895::Withdrawals;
use alloy_primitives::{B256, U256};
use alloy_rpc_types_eth::{Block, BlockTransactions, Header, Log, Transaction as RpcTransaction, TransactionReceipt};

use crate::chain::{ExecutedBlock, LogPlace, Transaction};

/// A transaction as JSON-RPC shows it, without its sidecar.
pub(super) type ShownTransaction = RpcTransaction<EthereumTxEnvelope<TxEip4844>>;

/// A block as JSON-RPC shows it.
pub(super) type ShownBlock = Block<ShownTransaction>;

/// A receipt as JSON-RPC shows it.
pub(super) type ShownReceipt = TransactionReceipt<ReceiptEnvelope<Log>>;

pub(super) fn block(block: &ExecutedBlock, full: bool) -> ShownBlock {
    let transactions = if full {
        let all = 0..block.transactions.len();
        BlockTransactions::Full(all.filter_map(|index| mined_transaction(block, index)).collect())
    } else {
        let hashes = block.transactions.iter().map(|transaction| *transaction.tx_hash());
        BlockTransactions::Hashes(hashes.collect())
    };
    Block {
        header: Header::from_consensus(block.header.clone(), None, Some(U256::from(block.bytes))),
        uncles: Vec::new(),
        transactions,
        withdrawals: Some(Withdrawals::default()),
    }
}

pub(super) fn mined_transaction(block: &ExecutedBlock, index: usize) -> Option<ShownTransaction> {
    let transaction = block.transactions.get(index)?;
    let info = TransactionInfo {
        hash: Some(*transaction.tx_hash()),
        index: Some(index as u64),
        block_hash: Some(block.hash()),
        block_number: Some(block.number()),
        base_fee: block.header.base_fee_per_gas,
        block_timestamp: Some(block.header.timestamp),
    };
    Some(RpcTransaction::from_transaction(transaction.clone(), info))
}

pub(super) fn pending_transaction(transaction: &Transaction) -> ShownTransaction {
    RpcTransaction::from_transaction(transaction.clone(), TransactionInfo::default())
}

pub(super) fn receipt(block: &ExecutedBlock, index: usize) -> Option<ShownReceipt> {
    let (transaction, outcome) = (block.transactions.get(index)?, block.outcomes.get(index)?);
    let mut log_index = outcome.first_log;
    let inner = outcome.receipt.clone().map_logs(|inner| {
        let log = log(block, index, log_index, inner);
        log_index += 1;
        log
    });
    let blobs = transaction.blob_versioned_hashes().map(|hashes| hashes.len() as u64);
    Some(TransactionReceipt {
        inner,
        transaction_hash: *transaction.tx_hash(),
        transaction_index: Some(index as u64),
        block_hash: Some(block.hash()),
        block_number: Some(block.number()),
        gas_used: outcome.gas_used,
        effective_gas_price: transaction.effective_gas_price(block.header.base_fee_per_gas),
        blob_gas_used: blobs.map(|blobs| blobs * DATA_GAS_PER_BLOB),
        blob_gas_price: blobs.map(|_| block.blob_fee()),
        from: transaction.signer(),
        to: transaction.to(),
        contract_address: outcome.contract,
    })
}

pub(super) fn receipts(block: &ExecutedBlock) -> Vec<ShownReceipt> {
    let all = 0..block.transactions.len();
    all.filter_map(|index| receipt(block, index)).collect()
}

pub(super) fn found_log(place: LogPlace) -> Log {
    let block = Arc::clone(&place.block);
    log(&block, place.transaction, place.index, place.log)
}

fn log(block: &ExecutedBlock, transaction: usize, index: u64, inner: alloy_primitives::Log) -> Log {
    let hash = |transaction: &Transaction| -> B256 { *transaction.tx_hash() };
    Log {
        inner,
        block_hash: Some(block.hash()),
        block_number: Some(block.number()),
        block_timestamp: Some(block.header.timestamp),
        transaction_hash: block.transactions.get(transaction).map(hash),
        transaction_index: Some(transaction as u64),
        log_index: Some(index),
        removed: false,
    }
}
