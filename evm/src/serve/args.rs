//! Parameters of a request, one after the other, and the registration of methods that take them.

use std::collections::VecDeque;

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::U256;
use jsonrpsee::RpcModule;
use jsonrpsee::core::RegisterMethodError;
use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{busy, invalid_params};
use super::owner::Owner;
use crate::l1::L1;

/// The parameters that are still to be read.
#[derive(Debug)]
pub(super) struct Args {
    values: VecDeque<Value>,
    read: usize,
}

impl Args {
    /// A list as it is; an object as a list of one, which is how alloy sends a struct.
    pub(super) fn parse(params: &Params<'_>) -> Result<Self, ErrorObjectOwned> {
        let values = match params.as_str() {
            None => VecDeque::new(),
            Some(text) => match serde_json::from_str(text) {
                Ok(Value::Array(values)) => values.into(),
                Ok(Value::Null) => VecDeque::new(),
                Ok(value) => VecDeque::from([value]),
                Err(error) => return Err(invalid_params(&error.to_string())),
            },
        };
        Ok(Self { values, read: 0 })
    }

    /// The next parameter, which has to be there.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> Result<T, ErrorObjectOwned> {
        let position = self.read;
        let missing = || invalid_params(&format!("missing value for required argument {position}"));
        self.optional()?.ok_or_else(missing)
    }

    /// The next parameter, if it is there and not null.
    pub(super) fn optional<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ErrorObjectOwned> {
        let position = self.read;
        self.read += 1;
        match self.values.pop_front() {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match serde_json::from_value(value) {
                Ok(value) => Ok(Some(value)),
                Err(error) => Err(invalid_params(&format!("invalid argument {position}: {error}"))),
            },
        }
    }

    /// A block by number, tag or hash; the latest if it is not given.
    pub(super) fn block_id(&mut self) -> Result<BlockId, ErrorObjectOwned> {
        Ok(self.optional()?.unwrap_or(BlockId::Number(BlockNumberOrTag::Latest)))
    }

    /// A number, in hex or not.
    pub(super) fn number(&mut self) -> Result<u64, ErrorObjectOwned> {
        let position = self.read;
        let number: U256 = self.next()?;
        let too_large = |_| invalid_params(&format!("invalid argument {position}: {number} is too large"));
        u64::try_from(number).map_err(too_large)
    }

    /// A number, if it is there.
    pub(super) fn optional_number(&mut self) -> Result<Option<u64>, ErrorObjectOwned> {
        if matches!(self.values.front(), None | Some(Value::Null)) {
            self.values.pop_front();
            self.read += 1;
            return Ok(None);
        }
        self.number().map(Some)
    }

    /// Refuses a parameter that is given but not supported.
    pub(super) fn refuse(&mut self, what: &str) -> Result<(), ErrorObjectOwned> {
        let is_empty = |value: &Value| match value {
            Value::Object(map) => map.is_empty(),
            Value::Array(list) => list.is_empty(),
            other => other.is_null(),
        };
        match self.optional::<Value>()? {
            Some(value) if !is_empty(&value) => Err(invalid_params(&format!("{what} are not supported"))),
            _ => Ok(()),
        }
    }
}

/// Registers a method that is a question to the L1, asked with the time (s) and the parameters.
pub(super) fn on_l1<R>(
    module: &mut RpcModule<Owner>,
    name: &'static str,
    question: fn(&mut L1, u64, Args) -> Result<R, ErrorObjectOwned>,
) -> Result<(), RegisterMethodError>
where
    R: Serialize + Clone + Send + 'static,
{
    module.register_async_method(name, move |params, owner, _| async move {
        let args = Args::parse(&params)?;
        let answer = owner.ask(move |l1, now| question(l1, now, args)).await;
        answer.map_err(busy)?
    })?;
    Ok(())
}
