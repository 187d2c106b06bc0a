//! Methods for tests. Those that anvil has too are called as there, so that one suite drives both; the others are `fusionl1_*`.

use alloy_primitives::{Address, B256, U64, U256};
use jsonrpsee::RpcModule;
use jsonrpsee::core::RegisterMethodError;
use jsonrpsee::types::ErrorObjectOwned;
use serde_json::Value;

use super::args::{Args, on_l1};
use super::error::{invalid_params, server_error};
use super::owner::Owner;
use crate::l1::L1;
use crate::params;

type Answer<T> = Result<T, ErrorObjectOwned>;

pub(super) fn register(module: &mut RpcModule<Owner>) -> Result<(), RegisterMethodError> {
    on_l1(module, "evm_mine", |l1, now, _| {
        l1.mine(now);
        Ok("0x0")
    })?;
    on_l1(module, "anvil_mine", mine)?;
    on_l1(module, "evm_setAutomine", set_mining)?;
    on_l1(module, "fusionl1_setMining", set_mining)?;
    on_l1(module, "anvil_getAutomine", |l1, _, _| Ok(l1.is_mining()))?;
    on_l1(module, "anvil_reorg", anvil_reorg)?;
    on_l1(module, "fusionl1_reorg", reorg)?;
    on_l1(module, "anvil_rollback", rollback)?;
    on_l1(module, "fusionl1_setFinality", |l1, _, mut args| {
        let (safe, finalized) = (args.number()?, args.number()?);
        if safe > finalized {
            return Err(invalid_params("the safe block is not below the finalized one"));
        }
        l1.set_finality(safe, finalized);
        Ok(Value::Null)
    })?;
    on_l1(module, "anvil_setNextBlockBaseFeePerGas", |l1, _, mut args| {
        l1.set_next_base_fee(args.number()?);
        Ok(Value::Null)
    })?;
    on_l1(module, "anvil_setBalance", |l1, _, mut args| {
        let (address, balance): (Address, U256) = (args.next()?, args.next()?);
        l1.set_balance(address, balance);
        Ok(Value::Null)
    })?;
    on_l1(module, "anvil_dropTransaction", |l1, _, mut args| {
        let hash: B256 = args.next()?;
        Ok(l1.drop_transaction(&hash).then_some(hash))
    })?;
    on_l1(module, "anvil_dropAllTransactions", |l1, _, _| {
        l1.drop_all_transactions();
        Ok(Value::Null)
    })?;
    on_l1(module, "evm_snapshot", |l1, _, _| Ok(U64::from(l1.snapshot())))?;
    on_l1(module, "evm_revert", |l1, _, mut args| Ok(l1.revert(args.number()?)))
}

fn mine(l1: &mut L1, now: u64, mut args: Args) -> Answer<Value> {
    let blocks = args.optional_number()?.unwrap_or(1);
    let interval = args.optional_number()?.unwrap_or(0);
    // Blocks are a slot apart: viem sends a zero for "not given", and what a slot is cannot be changed.
    if interval != 0 && interval != l1.slot_seconds() {
        let text = format!("blocks {interval} s apart, a slot is {} s", l1.slot_seconds());
        return Err(invalid_params(&text));
    }
    if blocks > params::MINE_BLOCKS_MAX {
        let text = format!("{blocks} blocks at once, limit is {}", params::MINE_BLOCKS_MAX);
        return Err(invalid_params(&text));
    }
    for _ in 0..blocks {
        l1.mine(now);
    }
    Ok(Value::Null)
}

fn set_mining(l1: &mut L1, now: u64, mut args: Args) -> Answer<Value> {
    l1.set_mining(args.next()?, now);
    Ok(Value::Null)
}

/// `{depth, tx_block_pairs}` or `depth, tx_block_pairs`. What is to be mined instead cannot be given.
fn anvil_reorg(l1: &mut L1, now: u64, mut args: Args) -> Answer<Value> {
    let first: Value = args.next()?;
    let (depth, pairs) = match first {
        Value::Object(mut options) => (
            options.remove("depth").unwrap_or_default(),
            options
                .remove("tx_block_pairs")
                .or_else(|| options.remove("txBlockPairs")),
        ),
        depth => (depth, args.optional()?),
    };
    if pairs
        .as_ref()
        .and_then(Value::as_array)
        .is_some_and(|pairs| !pairs.is_empty())
    {
        return Err(invalid_params("transactions for the new blocks are not supported"));
    }
    let depth: U256 = serde_json::from_value(depth).map_err(|error| invalid_params(&error.to_string()))?;
    do_reorg(l1, now, depth.saturating_to(), false)?;
    Ok(Value::Null)
}

/// `depth, requeue`. Answers with how many blocks were dropped and which transactions are back.
fn reorg(l1: &mut L1, now: u64, mut args: Args) -> Answer<Value> {
    let depth = args.number()?;
    let requeue = args.optional()?.unwrap_or(false);
    do_reorg(l1, now, depth, requeue)
}

fn do_reorg(l1: &mut L1, now: u64, depth: u64, requeue: bool) -> Answer<Value> {
    let depth = usize::try_from(depth).unwrap_or(usize::MAX);
    let reorged = l1
        .reorg(depth, requeue, now)
        .map_err(|refused| server_error(&refused))?;
    Ok(serde_json::json!({ "dropped": reorged.dropped.len(), "requeued": reorged.requeued }))
}

fn rollback(l1: &mut L1, _: u64, mut args: Args) -> Answer<Value> {
    let depth = args.optional_number()?.unwrap_or(1);
    let depth = usize::try_from(depth).unwrap_or(usize::MAX);
    l1.rollback(depth).map_err(|refused| server_error(&refused))?;
    Ok(Value::Null)
}
