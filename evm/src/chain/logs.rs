//! Logs of many blocks, found by address and topics. Answers are bounded, so that one question cannot hold up the rest.

use std::sync::Arc;

use alloy_primitives::Log;
use alloy_rpc_types_eth::Filter;

use super::{Chain, ExecutedBlock};
use crate::params;

/// Where a log is.
#[derive(Clone, Debug)]
pub struct LogPlace {
    /// Its block.
    pub block: Arc<ExecutedBlock>,
    /// Place of its transaction in the block.
    pub transaction: usize,
    /// Place of the log in the block.
    pub index: u64,
    /// The log.
    pub log: Log,
}

/// Why logs are not searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogsRefused {
    /// It begins after it ends.
    #[error("invalid block range params")]
    Backwards,
    /// Blocks of it are no longer kept.
    #[error("block {from} is not available, the oldest is block {oldest}")]
    Pruned {
        /// First block asked for.
        from: u64,
        /// Oldest block that is kept.
        oldest: u64,
    },
    /// Too many blocks.
    #[error("block range of {blocks} blocks is too large, limit is {}", params::LOGS_BLOCKS_MAX)]
    Range {
        /// Asked for.
        blocks: u64,
    },
    /// Too many logs.
    #[error("query returned more than {} results", params::LOGS_MAX)]
    Results,
}

impl Chain {
    /// Logs of the blocks `from..=to` that match, in their order. What is above the head is taken for empty.
    ///
    /// # Errors
    /// If the range is wrong, too large or no longer kept, or the answer would be too large.
    pub fn logs(&self, from: u64, to: u64, filter: &Filter) -> Result<Vec<LogPlace>, LogsRefused> {
        if from > to {
            return Err(LogsRefused::Backwards);
        }
        let head = self.head().number();
        if from > head {
            return Ok(Vec::new());
        }
        let to = to.min(head);
        let blocks = to - from + 1;
        if blocks > params::LOGS_BLOCKS_MAX {
            return Err(LogsRefused::Range { blocks });
        }
        let oldest = self.oldest();
        if from < oldest {
            return Err(LogsRefused::Pruned { from, oldest });
        }
        let mut found = Vec::new();
        for block in (from..=to).filter_map(|number| self.block(number)) {
            if filter.matches_bloom(block.header.logs_bloom) {
                collect(block, filter, &mut found);
            }
            if found.len() > params::LOGS_MAX {
                return Err(LogsRefused::Results);
            }
        }
        Ok(found)
    }
}

fn collect(block: &Arc<ExecutedBlock>, filter: &Filter, found: &mut Vec<LogPlace>) {
    for (transaction, outcome) in block.outcomes.iter().enumerate() {
        for (index, log) in (outcome.first_log..).zip(outcome.receipt.logs()) {
            if filter.matches(log) {
                found.push(LogPlace {
                    block: Arc::clone(block),
                    transaction,
                    index,
                    log: log.clone(),
                });
            }
        }
    }
}
