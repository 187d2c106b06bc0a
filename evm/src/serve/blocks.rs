//! Methods about blocks, transactions, receipts, logs and fees.

use std::sync::Arc;

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{B256, U64, U256};
use alloy_rpc_types_eth::{FeeHistory, Filter, FilterBlockOption, Log};
use jsonrpsee::RpcModule;
use jsonrpsee::core::RegisterMethodError;
use jsonrpsee::types::ErrorObjectOwned;

use super::args::{Args, on_l1};
use super::error::{invalid_params, limit_exceeded, server_error};
use super::owner::Owner;
use super::shape::{self, ShownBlock, ShownReceipt, ShownTransaction};
use crate::chain::{ExecutedBlock, LogsRefused};
use crate::l1::L1;
use crate::params;

type Answer<T> = Result<T, ErrorObjectOwned>;

pub(super) fn register(module: &mut RpcModule<Owner>) -> Result<(), RegisterMethodError> {
    on_l1(module, "eth_chainId", |l1, _, _| {
        Ok(U64::from(l1.config().chain.chain_id))
    })?;
    on_l1(module, "net_version", |l1, _, _| {
        Ok(l1.config().chain.chain_id.to_string())
    })?;
    on_l1(module, "net_listening", |_, _, _| Ok(true))?;
    on_l1(module, "web3_clientVersion", |_, _, _| {
        Ok(format!("fusion-evm/v{}", env!("CARGO_PKG_VERSION")))
    })?;
    on_l1(module, "eth_syncing", |_, _, _| Ok(false))?;
    on_l1(module, "eth_accounts", |_, _, _| Ok(Vec::<()>::new()))?;
    on_l1(module, "eth_blockNumber", |l1, _, _| {
        Ok(U64::from(l1.chain().head().number()))
    })?;
    on_l1(module, "eth_getBlockByNumber", block_by_number)?;
    on_l1(module, "eth_getBlockByHash", block_by_hash)?;
    on_l1(module, "eth_getBlockTransactionCountByNumber", |l1, _, mut args| {
        let number = l1.number(args.next()?);
        Ok(l1
            .chain()
            .block(number)
            .map(|block| U64::from(block.transactions.len())))
    })?;
    on_l1(module, "eth_getBlockTransactionCountByHash", |l1, _, mut args| {
        let block = l1.chain().block_by_hash(&args.next()?);
        Ok(block.map(|block| U64::from(block.transactions.len())))
    })?;
    on_l1(module, "eth_getTransactionByHash", transaction_by_hash)?;
    on_l1(module, "eth_getTransactionByBlockNumberAndIndex", transaction_by_number)?;
    on_l1(module, "eth_getTransactionByBlockHashAndIndex", transaction_by_place)?;
    on_l1(module, "eth_getTransactionReceipt", receipt)?;
    on_l1(module, "eth_getBlockReceipts", block_receipts)?;
    on_l1(module, "eth_getLogs", logs)?;
    on_l1(module, "eth_gasPrice", |l1, _, _| {
        Ok(U256::from(u128::from(l1.next_base_fee()) + params::TIP_SUGGESTED))
    })?;
    on_l1(module, "eth_maxPriorityFeePerGas", |_, _, _| {
        Ok(U256::from(params::TIP_SUGGESTED))
    })?;
    on_l1(module, "eth_blobBaseFee", |l1, _, _| {
        Ok(U256::from(l1.chain().next_blob_fee()))
    })?;
    on_l1(module, "eth_feeHistory", fee_history)
}

/// The block of an id, if it is there.
pub(super) fn find(l1: &L1, id: BlockId) -> Option<&Arc<ExecutedBlock>> {
    match id {
        BlockId::Hash(hash) => l1.chain().block_by_hash(&hash.block_hash),
        BlockId::Number(tag) => l1.chain().block(l1.number(tag)),
    }
}

fn block_by_number(l1: &mut L1, _: u64, mut args: Args) -> Answer<Option<ShownBlock>> {
    let number = l1.number(args.next()?);
    let full = args.optional()?.unwrap_or(false);
    Ok(l1.chain().block(number).map(|block| shape::block(block, full)))
}

fn block_by_hash(l1: &mut L1, _: u64, mut args: Args) -> Answer<Option<ShownBlock>> {
    let hash: B256 = args.next()?;
    let full = args.optional()?.unwrap_or(false);
    let block = l1.chain().block_by_hash(&hash);
    Ok(block.map(|block| shape::block(block, full)))
}

fn transaction_by_hash(l1: &mut L1, _: u64, mut args: Args) -> Answer<Option<ShownTransaction>> {
    let hash: B256 = args.next()?;
    if let Some((block, index)) = l1.chain().place(&hash) {
        return Ok(shape::mined_transaction(block, index));
    }
    let pending = l1.pool().find(&hash);
    Ok(pending.map(|submission| shape::pending_transaction(&submission.transaction)))
}

fn transaction_by_number(l1: &mut L1, _: u64, mut args: Args) -> Answer<Option<ShownTransaction>> {
    let number = l1.number(args.next()?);
    let index = usize::try_from(args.number()?).unwrap_or(usize::MAX);
    let block = l1.chain().block(number);
    Ok(block.and_then(|block| shape::mined_transaction(block, index)))
}

fn transaction_by_place(l1: &mut L1, _: u64, mut args: Args) -> Answer<Option<ShownTransaction>> {
    let hash: B256 = args.next()?;
    let index = usize::try_from(args.number()?).unwrap_or(usize::MAX);
    let block = l1.chain().block_by_hash(&hash);
    Ok(block.and_then(|block| shape::mined_transaction(block, index)))
}

fn receipt(l1: &mut L1, _: u64, mut args: Args) -> Answer<Option<ShownReceipt>> {
    let place = l1.chain().place(&args.next()?);
    Ok(place.and_then(|(block, index)| shape::receipt(block, index)))
}

fn block_receipts(l1: &mut L1, _: u64, mut args: Args) -> Answer<Option<Vec<ShownReceipt>>> {
    let block = find(l1, args.block_id()?);
    Ok(block.map(|block| shape::receipts(block)))
}

fn logs(l1: &mut L1, _: u64, mut args: Args) -> Answer<Vec<Log>> {
    let filter: Filter = args.next()?;
    let (from, to) = match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let block = l1.chain().block_by_hash(&hash);
            let number = block.ok_or_else(|| server_error(&"unknown block"))?.number();
            (number, number)
        }
        FilterBlockOption::Range { from_block, to_block } => {
            let number = |tag: Option<BlockNumberOrTag>| l1.number(tag.unwrap_or_default());
            (number(from_block), number(to_block))
        }
    };
    let found = l1.chain().logs(from, to, &filter).map_err(|refused| match refused {
        LogsRefused::Backwards => invalid_params(&refused.to_string()),
        LogsRefused::Pruned { .. } => server_error(&refused),
        LogsRefused::Range { .. } | LogsRefused::Results => limit_exceeded(&refused),
    })?;
    Ok(found.into_iter().map(shape::found_log).collect())
}

fn fee_history(l1: &mut L1, _: u64, mut args: Args) -> Answer<FeeHistory> {
    let count = args.number()?;
    let newest = l1.number(args.next()?);
    let percentiles: Option<Vec<f64>> = args.optional()?;
    let head = l1.chain().head().number();
    if newest > head {
        let text = format!("request beyond head block: requested {newest}, head {head}");
        return Err(server_error(&text));
    }
    let asked = percentiles.as_deref().unwrap_or_default();
    if asked.len() > params::FEE_HISTORY_PERCENTILES_MAX {
        return Err(invalid_params("over the query limit 100"));
    }
    let ascending = asked.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || asked.iter().any(|percentile| !(0.0..=100.0).contains(percentile)) {
        return Err(server_error(&"invalid reward percentile"));
    }
    let history = l1.fee_history(count, newest, asked);
    Ok(FeeHistory {
        base_fee_per_gas: history.base_fees,
        gas_used_ratio: history.gas_used,
        base_fee_per_blob_gas: history.blob_fees,
        blob_gas_used_ratio: history.blob_gas_used,
        oldest_block: history.oldest,
        reward: percentiles.map(|_| history.rewards),
    })
}
