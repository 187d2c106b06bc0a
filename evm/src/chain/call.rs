//! Execution that leaves no trace: `eth_call` and `eth_estimateGas`.

use alloy_consensus::Header;
use alloy_eips::{eip2930::AccessList, eip7702::SignedAuthorization};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use revm::context::result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction, OutOfGasError};
use revm::context::{CfgEnv, TxEnv};
use revm::context_interface::either::Either;
use revm::database_interface::WrapDatabaseRef;
use revm::handler::ExecuteEvm;

use super::execute::{BlockInput, block_env, cfg_env, evm_on};
use super::{Chain, View};
use crate::params;

/// A transaction that nobody signed.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Whose call it is to be.
    pub from: Address,
    /// Whom it calls, or that it creates.
    pub kind: TxKind,
    /// Most gas to use; [`params::CALL_GAS_MAX`] if not given.
    pub gas: Option<u64>,
    /// Wei per gas. Zero: the call is free, and BASEFEE gives zero too.
    pub max_fee: u128,
    /// Tip, wei per gas.
    pub tip: Option<u128>,
    /// Wei per blob gas.
    pub max_blob_fee: Option<u128>,
    /// Wei to send along.
    pub value: U256,
    /// Input, or code to create with.
    pub data: Bytes,
    /// EIP-2930.
    pub access_list: AccessList,
    /// Versioned hashes that BLOBHASH gives.
    pub blob_hashes: Vec<B256>,
    /// EIP-7702.
    pub authorizations: Vec<SignedAuthorization>,
}

/// A call that went through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSuccess {
    /// What it returned.
    pub output: Bytes,
    /// What it used.
    pub gas_used: u64,
}

/// A call that did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// By REVERT, with what it returned.
    Revert(Bytes),
    /// By the EVM, which says why.
    Halt(HaltReason),
    /// It must not be executed.
    Invalid(String),
    /// It fails even with all the gas that it may have.
    Allowance(u64),
}

impl Chain {
    /// Executes `call` on the state after a block, or as a part of the next block if `pending`.
    ///
    /// # Errors
    /// If it reverts, halts or must not be executed.
    pub fn call(&self, view: &View<'_>, pending: bool, call: &Call) -> Result<CallSuccess, CallFailure> {
        let gas = call.gas.unwrap_or(params::CALL_GAS_MAX).min(params::CALL_GAS_MAX);
        self.run(view, pending, call, gas)
    }

    /// The least gas limit with which `call` succeeds, at most 1.5 % more than it: geth's rule.
    ///
    /// # Errors
    /// If it fails with as much gas as a transaction may have and the sender can pay.
    pub fn estimate(&self, view: &View<'_>, pending: bool, call: &Call) -> Result<u64, CallFailure> {
        let most = call.gas.unwrap_or(params::TRANSACTION_GAS_MAX);
        let most = most.min(params::TRANSACTION_GAS_MAX).min(self.config.gas_limit);
        let most = most.min(affordable(view, call)?);
        let is_transfer = call.data.is_empty() && call.access_list.is_empty() && call.authorizations.is_empty();
        if let TxKind::Call(to) = call.kind
            && is_transfer
            && view.code(&to).is_empty()
            && most >= TRANSFER_GAS
            && self.run(view, pending, call, TRANSFER_GAS).is_ok()
        {
            return Ok(TRANSFER_GAS);
        }
        let used = match self.run(view, pending, call, most) {
            Ok(success) => success.gas_used,
            Err(CallFailure::Halt(HaltReason::OutOfGas(_))) => return Err(CallFailure::Allowance(most)),
            Err(other) => return Err(other),
        };
        // Below what was used it cannot succeed; a 64th is held back at each nested call, so try that first.
        let (mut low, mut high) = (used.saturating_sub(1), most);
        let mut middle = used.saturating_add(CALL_STIPEND).saturating_mul(64) / 63;
        while low + 1 < high && high - low > high * 3 / 200 {
            middle = middle.clamp(low + 1, high - 1);
            match self.run(view, pending, call, middle) {
                Ok(_) => high = middle,
                Err(_) => low = middle,
            }
            middle = low + (high - low) / 2;
        }
        Ok(high)
    }

    fn run(&self, view: &View<'_>, pending: bool, call: &Call, gas: u64) -> Result<CallSuccess, CallFailure> {
        let header: Header = if pending {
            self.next_header(&BlockInput {
                timestamp: self.head().header.timestamp.saturating_add(1),
                ..BlockInput::default()
            })
        } else {
            view.block().header.inner().clone()
        };
        let mut block = block_env(&header);
        block.gas_limit = block.gas_limit.max(gas);
        if call.max_fee == 0 {
            block.basefee = 0;
        }
        if call.max_blob_fee.unwrap_or_default() == 0 {
            // What a free call has to pay for its blobs is nothing.
            if let Some(blob) = &mut block.blob_excess_gas_and_price {
                blob.blob_gasprice = 0;
            }
        }
        let mut cfg: CfgEnv = cfg_env(&self.config);
        // The caller may be a contract, the nonce is whatever it is, and EIP-7825 is about transactions.
        cfg.disable_nonce_check = true;
        cfg.disable_eip3607 = true;
        cfg.tx_gas_limit_cap = Some(u64::MAX);
        let nonce = view.account_or_empty(&call.from).nonce;
        let mut evm = evm_on(WrapDatabaseRef(*view), cfg, block);
        match evm.transact(tx_env(call, self.config.chain_id, nonce, gas)) {
            Ok(outcome) => match outcome.result {
                ExecutionResult::Success { gas, output, .. } => Ok(CallSuccess {
                    output: output.into_data(),
                    gas_used: gas.tx_gas_used(),
                }),
                ExecutionResult::Revert { output, .. } => Err(CallFailure::Revert(output)),
                ExecutionResult::Halt { reason, .. } => Err(CallFailure::Halt(reason)),
            },
            Err(EVMError::Transaction(
                InvalidTransaction::CallGasCostMoreThanGasLimit { .. }
                | InvalidTransaction::GasFloorMoreThanGasLimit { .. },
            )) => Err(CallFailure::Halt(HaltReason::OutOfGas(OutOfGasError::Basic))),
            Err(EVMError::Transaction(invalid)) => Err(CallFailure::Invalid(invalid_text(&invalid))),
            Err(other) => Err(CallFailure::Invalid(other.to_string())),
        }
    }
}

/// Gas of a transfer to an account without code. Source: the yellow paper, G_transaction.
const TRANSFER_GAS: u64 = 21_000;

/// Gas that a call with value hands on. Source: the yellow paper, G_callstipend.
const CALL_STIPEND: u64 = 2_300;

/// The gas that the sender can pay at the fee that it names.
fn affordable(view: &View<'_>, call: &Call) -> Result<u64, CallFailure> {
    if call.max_fee == 0 {
        return Ok(u64::MAX);
    }
    let balance = view.account_or_empty(&call.from).balance;
    let Some(rest) = balance.checked_sub(call.value) else {
        return Err(CallFailure::Invalid("insufficient funds for transfer".into()));
    };
    Ok((rest / U256::from(call.max_fee)).saturating_to())
}

fn tx_env(call: &Call, chain_id: u64, nonce: u64, gas: u64) -> TxEnv {
    let mut env = TxEnv {
        caller: call.from,
        gas_limit: gas,
        gas_price: call.max_fee,
        kind: call.kind,
        value: call.value,
        data: call.data.clone(),
        nonce,
        chain_id: Some(chain_id),
        access_list: call.access_list.clone(),
        gas_priority_fee: call.tip,
        blob_hashes: call.blob_hashes.clone(),
        max_fee_per_blob_gas: call.max_blob_fee.unwrap_or_default(),
        authorization_list: call.authorizations.iter().cloned().map(Either::Left).collect(),
        ..TxEnv::default()
    };
    env.tx_type = if !env.authorization_list.is_empty() {
        4
    } else if !env.blob_hashes.is_empty() {
        3
    } else if env.gas_priority_fee.is_some() {
        2
    } else {
        u8::from(!env.access_list.is_empty())
    };
    env
}

/// geth's words for the refusals that clients look for, revm's for the rest.
fn invalid_text(invalid: &InvalidTransaction) -> String {
    match invalid {
        InvalidTransaction::LackOfFundForMaxFee { fee, balance } => {
            format!("insufficient funds for gas * price + value: have {balance} want {fee}")
        }
        InvalidTransaction::GasPriceLessThanBasefee => "max fee per gas less than block base fee".into(),
        InvalidTransaction::PriorityFeeGreaterThanMaxFee => {
            "max priority fee per gas higher than max fee per gas".into()
        }
        other => other.to_string(),
    }
}

/// geth's words for why the EVM stopped.
#[must_use]
pub fn halt_text(reason: &HaltReason) -> String {
    match reason {
        HaltReason::OutOfGas(_) => "out of gas".into(),
        HaltReason::OpcodeNotFound => "invalid opcode".into(),
        HaltReason::InvalidFEOpcode => "invalid opcode: INVALID".into(),
        HaltReason::InvalidJump => "invalid jump destination".into(),
        HaltReason::StackUnderflow => "stack underflow".into(),
        HaltReason::StackOverflow => "stack limit reached 1024 (1024)".into(),
        HaltReason::OutOfFunds => "insufficient balance for transfer".into(),
        HaltReason::CallTooDeep => "max call depth exceeded".into(),
        HaltReason::CreateCollision => "contract address collision".into(),
        HaltReason::CreateContractSizeLimit => "max code size exceeded".into(),
        HaltReason::StateChangeDuringStaticCall | HaltReason::CallNotAllowedInsideStatic => "write protection".into(),
        other => format!("{other:?}"),
    }
}
