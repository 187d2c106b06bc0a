//! Methods about the state after a block: balances, code, storage, calls.

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use alloy_rpc_types_eth::TransactionRequest;
use jsonrpsee::RpcModule;
use jsonrpsee::core::RegisterMethodError;
use jsonrpsee::types::ErrorObjectOwned;

use super::args::{Args, on_l1};
use super::blocks::find;
use super::error::{call_failure, invalid_params, server_error};
use super::owner::Owner;
use crate::chain::{Call, View};
use crate::l1::L1;

type Answer<T> = Result<T, ErrorObjectOwned>;

pub(super) fn register(module: &mut RpcModule<Owner>) -> Result<(), RegisterMethodError> {
    on_l1(module, "eth_getBalance", |l1, _, mut args| {
        let address: Address = args.next()?;
        Ok(view(l1, args.block_id()?)?.account_or_empty(&address).balance)
    })?;
    on_l1(module, "eth_getTransactionCount", transaction_count)?;
    on_l1(module, "eth_getCode", |l1, _, mut args| {
        let address: Address = args.next()?;
        Ok(view(l1, args.block_id()?)?.code(&address))
    })?;
    on_l1(module, "eth_getStorageAt", |l1, _, mut args| {
        let (address, slot): (Address, U256) = (args.next()?, args.next()?);
        Ok(B256::from(view(l1, args.block_id()?)?.slot(address, slot)))
    })?;
    on_l1(module, "eth_call", call)?;
    on_l1(module, "eth_estimateGas", estimate)
}

fn view(l1: &L1, id: BlockId) -> Answer<View<'_>> {
    // A number above the head has a better error than "not found" of its own.
    let number = match id {
        BlockId::Number(tag) => l1.number(tag),
        BlockId::Hash(_) => {
            let block = find(l1, id);
            block.ok_or_else(|| server_error(&"header not found"))?.number()
        }
    };
    l1.chain()
        .view(number)
        .map_err(|unavailable| server_error(&unavailable))
}

const fn is_pending(id: &BlockId) -> bool {
    matches!(id, BlockId::Number(BlockNumberOrTag::Pending))
}

fn transaction_count(l1: &mut L1, _: u64, mut args: Args) -> Answer<U64> {
    let address: Address = args.next()?;
    let id = args.block_id()?;
    let account = view(l1, id)?.account_or_empty(&address);
    let nonce = if is_pending(&id) {
        l1.pool().next_nonce(&address, account)
    } else {
        account.nonce
    };
    Ok(U64::from(nonce))
}

fn call(l1: &mut L1, _: u64, mut args: Args) -> Answer<Bytes> {
    let call = to_call(args.next()?)?;
    let id = args.block_id()?;
    args.refuse("state overrides")?;
    args.refuse("block overrides")?;
    let result = l1.chain().call(&view(l1, id)?, is_pending(&id), &call);
    Ok(result.map_err(|failure| call_failure(&failure))?.output)
}

fn estimate(l1: &mut L1, _: u64, mut args: Args) -> Answer<U64> {
    let call = to_call(args.next()?)?;
    let id = args.optional()?.unwrap_or(BlockId::pending());
    args.refuse("state overrides")?;
    args.refuse("block overrides")?;
    let result = l1.chain().estimate(&view(l1, id)?, is_pending(&id), &call);
    Ok(U64::from(result.map_err(|failure| call_failure(&failure))?))
}

fn to_call(request: TransactionRequest) -> Answer<Call> {
    if request.gas_price.is_some() && (request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some())
    {
        let text = "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified";
        return Err(invalid_params(text));
    }
    let max_fee = request.gas_price.or(request.max_fee_per_gas).unwrap_or_default();
    let blob_hashes = match (request.blob_versioned_hashes, &request.sidecar) {
        (Some(hashes), _) => hashes,
        (None, Some(sidecar)) => sidecar.versioned_hashes().collect(),
        (None, None) => Vec::new(),
    };
    Ok(Call {
        from: request.from.unwrap_or_default(),
        kind: request.to.unwrap_or_default(),
        gas: request.gas,
        max_fee,
        // A free call has no tip, whatever it says of it.
        tip: request.max_priority_fee_per_gas.filter(|_| max_fee > 0),
        max_blob_fee: request.max_fee_per_blob_gas,
        value: request.value.unwrap_or_default(),
        data: request.input.into_input().unwrap_or_default(),
        access_list: request.access_list.unwrap_or_default(),
        blob_hashes,
        authorizations: request.authorization_list.unwrap_or_default(),
    })
}
