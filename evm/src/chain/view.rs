//! The state after a block, for reading: the latest state, seen through what later blocks changed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U256};
use revm::DatabaseRef;
use revm::state::{AccountInfo, Bytecode};

use super::{AccountFields, Chain, ExecutedBlock, Undo, state::State};

/// Why a state cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The chain is not that long.
    #[error("block {number} is not there, the latest is {latest}")]
    Future {
        /// Asked for.
        number: u64,
        /// The latest.
        latest: u64,
    },
    /// Its changes are no longer kept.
    #[error("state of block {number} is not available, the oldest is that of block {oldest}")]
    Pruned {
        /// Asked for.
        number: u64,
        /// The oldest block with a state.
        oldest: u64,
    },
    /// A rollback further than states are kept.
    #[error("{depth} blocks cannot be taken back, {most} at most")]
    TooDeep {
        /// Asked for.
        depth: usize,
        /// At most.
        most: usize,
    },
}

/// The state after one block.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    chain: &'a Chain,
    number: u64,
    /// Which of the chain's undos are of later blocks: those from here on.
    later: usize,
}

impl<'a> View<'a> {
    pub(super) fn new(chain: &'a Chain, number: u64) -> Result<Self, Unavailable> {
        let latest = chain.head().number();
        let Some(distance) = latest.checked_sub(number) else {
            return Err(Unavailable::Future { number, latest });
        };
        let kept = chain.undos.len();
        let later = usize::try_from(distance)
            .ok()
            .and_then(|distance| kept.checked_sub(distance));
        let Some(later) = later else {
            let oldest = latest.saturating_sub(kept as u64);
            return Err(Unavailable::Pruned { number, oldest });
        };
        Ok(Self { chain, number, later })
    }

    pub(super) fn latest(chain: &'a Chain) -> Self {
        Self {
            chain,
            number: chain.head().number(),
            later: chain.undos.len(),
        }
    }

    /// The block after which it is.
    #[must_use]
    pub fn block(&self) -> &'a Arc<ExecutedBlock> {
        self.chain.block(self.number).unwrap_or_else(|| self.chain.head())
    }

    /// An account; nothing if the address was never used.
    #[must_use]
    pub fn account(&self, address: &Address) -> Option<AccountFields> {
        let mut later = self.later();
        match later.find_map(|undo| undo.account(address)) {
            Some(before) => before,
            None => self.chain.state.account(address),
        }
    }

    /// An account, all zero if the address was never used.
    #[must_use]
    pub fn account_or_empty(&self, address: &Address) -> AccountFields {
        self.account(address).unwrap_or(AccountFields::EMPTY)
    }

    /// A slot of a contract's storage.
    #[must_use]
    pub fn slot(&self, address: Address, slot: U256) -> U256 {
        let mut later = self.later();
        let before = later.find_map(|undo| undo.slot(address, slot));
        before.unwrap_or_else(|| self.chain.state.slot(address, slot))
    }

    /// The code at an address; empty if it has none.
    #[must_use]
    pub fn code(&self, address: &Address) -> Bytes {
        let fields = self.account_or_empty(address);
        self.chain.state.code(&fields.code_hash).original_bytes()
    }

    fn later(&self) -> impl Iterator<Item = &'a Undo> {
        self.chain.undos.range(self.later..)
    }
}

impl DatabaseRef for View<'_> {
    type Error = Infallible;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        Ok(self.account(&address).map(|fields| self.chain.state.info(fields)))
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, Infallible> {
        Ok(self.chain.state.code(&code_hash))
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, Infallible> {
        Ok(self.slot(address, slot))
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Infallible> {
        Ok(block_hash(&self.chain.blocks, number))
    }
}

/// What a block in the making reads and writes.
#[derive(Debug)]
pub(super) struct Scratch<'a> {
    pub(super) state: &'a mut State,
    pub(super) undo: &'a mut Undo,
    pub(super) blocks: &'a VecDeque<Arc<ExecutedBlock>>,
}

impl revm::Database for Scratch<'_> {
    type Error = Infallible;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        Ok(self.state.account(&address).map(|fields| self.state.info(fields)))
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, Infallible> {
        Ok(self.state.code(&code_hash))
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, Infallible> {
        Ok(self.state.slot(address, slot))
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, Infallible> {
        Ok(block_hash(self.blocks, number))
    }
}

impl revm::DatabaseCommit for Scratch<'_> {
    fn commit(&mut self, changes: alloy_primitives::map::AddressMap<revm::state::Account>) {
        self.state.commit(self.undo, changes);
    }
}

/// What BLOCKHASH sees: revm bounds how far back it looks, a block that is no longer kept is zero.
fn block_hash(blocks: &VecDeque<Arc<ExecutedBlock>>, number: u64) -> B256 {
    let oldest = blocks.front().map_or(0, |block| block.number());
    let index = number.checked_sub(oldest).and_then(|index| usize::try_from(index).ok());
    let block = index.and_then(|index| blocks.get(index));
    block.map_or(B256::ZERO, |block| block.hash())
}
