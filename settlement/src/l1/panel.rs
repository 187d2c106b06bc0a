//! Several endpoints as one: what enough of them say.
//!
//! Promises that an answer was given by as many endpoints as must agree, each within its time limit, and that a tag means a
//! block which all of these have. Leaves to others: what is asked, and what to do where they do not agree.

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, Bytes};
use alloy_rpc_types_eth::{Filter, Log};
use alloy_sol_types::SolCall;
use tokio::task::JoinSet;

use super::client::{Endpoint, L1Block};
use super::error::EndpointError;
use crate::contracts::BatchInbox;

/// Why the endpoints together have no answer.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// Too few endpoints answered, or they said different things.
    #[error("{what}: {agreed} of {asked} endpoints agree, {needed} must; {errors}")]
    Disagree {
        /// What was asked.
        what: &'static str,
        /// The most that said the same.
        agreed: usize,
        /// How many were asked.
        asked: usize,
        /// How many must.
        needed: usize,
        /// What those said that did not answer.
        errors: String,
    },
    /// An answer that the contract never gives.
    #[error("the contract at {address} answered what it never answers: {what}")]
    Contract {
        /// Its address.
        address: Address,
        /// What is wrong.
        what: String,
    },
}

/// See the file's head.
#[derive(Debug, Clone)]
pub struct Panel {
    endpoints: Vec<Endpoint>,
    agree: usize,
}

impl Panel {
    /// These endpoints, of which `agree` must say the same.
    pub fn new(endpoints: Vec<Endpoint>, agree: usize) -> Self {
        Self { endpoints, agree }
    }

    /// The newest block that enough endpoints have: of their tags the lowest that enough reach, and there their hashes.
    ///
    /// # Errors
    /// [`PollError`] where they do not agree.
    pub async fn block(&self, tag: BlockNumberOrTag, what: &'static str) -> Result<L1Block, PollError> {
        let answers = self.ask(move |endpoint| async move { endpoint.block(tag).await }).await;
        let mut numbers: Vec<u64> = answers
            .iter()
            .filter_map(|answer| answer.as_ref().ok()?.map(|block| block.number))
            .collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        let Some(number) = numbers.get(self.agree.saturating_sub(1)).copied() else {
            return Err(self.disagree(what, numbers.len(), &answers));
        };
        let at = BlockNumberOrTag::Number(number);
        let blocks = self.ask(move |endpoint| async move { endpoint.block(at).await }).await;
        self.header(what, blocks, number)
    }

    /// The block with a number, which is not above one that they agreed on.
    ///
    /// # Errors
    /// [`PollError`] where they do not agree.
    pub async fn numbered(&self, number: u64) -> Result<L1Block, PollError> {
        let at = BlockNumberOrTag::Number(number);
        let blocks = self.ask(move |endpoint| async move { endpoint.block(at).await }).await;
        self.header("a block", blocks, number)
    }

    fn header(
        &self,
        what: &'static str,
        blocks: Vec<Result<Option<L1Block>, EndpointError>>,
        number: u64,
    ) -> Result<L1Block, PollError> {
        let asked = blocks.len();
        self.agreed(what, blocks)?.ok_or_else(|| PollError::Disagree {
            what,
            agreed: 0,
            asked,
            needed: self.agree,
            errors: format!("block {number} was there and is not"),
        })
    }

    /// Where an inbox stands after a block.
    ///
    /// # Errors
    /// [`PollError`] where they do not agree, or there is no inbox.
    pub async fn cursor(&self, inbox: Address, after: L1Block) -> Result<BatchInbox::Cursor, PollError> {
        let data = BatchInbox::cursorCall {}.abi_encode().into();
        let answer = self.call("the inbox's cursor", inbox, data, after).await?;
        let cursor = BatchInbox::cursorCall::abi_decode_returns(&answer);
        cursor.map_err(|error| PollError::Contract {
            address: inbox,
            what: error.to_string(),
        })
    }

    /// What a call returns on the state after a block.
    ///
    /// # Errors
    /// [`PollError`] where they do not agree.
    pub async fn call(&self, what: &'static str, to: Address, data: Bytes, after: L1Block) -> Result<Bytes, PollError> {
        let at = BlockId::hash(after.hash);
        let call = move |endpoint: Endpoint| {
            let data = data.clone();
            async move { endpoint.call(to, data, at).await }
        };
        let answers = self.ask(call).await;
        self.agreed(what, answers)
    }

    /// The logs of a filter for blocks `from` to `to`, in order.
    ///
    /// # Errors
    /// [`PollError`] where they do not agree, or a log is of another block.
    pub async fn logs(&self, what: &'static str, filter: Filter, from: u64, to: u64) -> Result<Vec<Log>, PollError> {
        let ask = move |endpoint: Endpoint| {
            let filter = filter.clone();
            async move { endpoint.logs(&filter).await }
        };
        let logs = self.agreed(what, self.ask(ask).await)?;
        let outside = |log: &&Log| log.block_number.is_none_or(|block| block < from || block > to);
        match logs.iter().find(outside) {
            None => Ok(logs),
            Some(log) => Err(PollError::Contract {
                address: log.address(),
                what: format!("a log of block {:?}, asked for {from} to {to}", log.block_number),
            }),
        }
    }

    /// Asks all endpoints at the same time.
    async fn ask<T, F>(&self, question: impl Fn(Endpoint) -> F) -> Vec<Result<T, EndpointError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, EndpointError>> + Send + 'static,
    {
        let mut asked = JoinSet::new();
        for endpoint in &self.endpoints {
            asked.spawn(question(endpoint.clone()));
        }
        asked.join_all().await
    }

    /// What enough of them say.
    fn agreed<T: PartialEq + Clone>(
        &self,
        what: &'static str,
        answers: Vec<Result<T, EndpointError>>,
    ) -> Result<T, PollError> {
        let said: Vec<&T> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
        let votes = |value: &T| said.iter().filter(|other| **other == value).count();
        match said.iter().max_by_key(|value| votes(value)) {
            Some(value) if votes(value) >= self.agree => Ok((*value).clone()),
            best => Err(self.disagree(what, best.map_or(0, |value| votes(value)), &answers)),
        }
    }

    fn disagree<T>(&self, what: &'static str, agreed: usize, answers: &[Result<T, EndpointError>]) -> PollError {
        let errors = answers.iter().filter_map(|answer| answer.as_ref().err());
        let errors: Vec<String> = errors.map(ToString::to_string).collect();
        PollError::Disagree {
            what,
            agreed,
            asked: answers.len(),
            needed: self.agree,
            errors: if errors.is_empty() {
                "all answered".to_owned()
            } else {
                errors.join("; ")
            },
        }
    }
}
