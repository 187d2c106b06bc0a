//! Decided blocks into batches: what every member does alike, block by block.
//!
//! Promises: batches are numbered without a gap, each linked to the one before, each of blocks that follow its predecessor's
//! last; two nodes that read the same blocks cut the same batches. Leaves to others: reading blocks, and what becomes of
//! batches.

use std::sync::Arc;

use alloy_primitives::B256;
use fusion_types::{ApplyError, Batch, Committee, Height, NetworkId, SealedBlock, State};

use crate::batcher::{BlockFacts, Contents, CutRule, Cutter};

/// Where cutting goes on: after the last batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Number of the next batch.
    pub number: u64,
    /// Hash of the last; zero before the first.
    pub parent: B256,
    /// The replicated state after its last block.
    pub state: State,
}

/// One batch, and the state before its blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutBatch {
    /// The batch.
    pub batch: Batch,
    /// Its hash.
    pub hash: B256,
    /// What [`Payload`](crate::batcher::Payload) reads it with.
    pub before: Arc<State>,
    /// What its transactions take before compression, at most, in bytes.
    pub bytes: u64,
}

/// Cuts. See the file's head.
#[derive(Debug)]
pub struct Cutting {
    network: NetworkId,
    committee: Arc<Committee>,
    cutter: Cutter,
    number: u64,
    parent: B256,
    /// Before the open batch.
    before: Arc<State>,
    /// After the last block.
    state: State,
    open: Vec<Arc<SealedBlock>>,
    open_bytes: u64,
    /// The forced queue's word after the last item that the open batch consumes; zero if it consumes none.
    forced_hash: B256,
}

impl Cutting {
    /// Goes on at `from`.
    pub fn new(network: NetworkId, committee: Arc<Committee>, rule: CutRule, from: Cut) -> Self {
        Self {
            network,
            committee,
            cutter: Cutter::new(rule),
            number: from.number,
            parent: from.parent,
            before: Arc::new(from.state.clone()),
            state: from.state,
            open: Vec::new(),
            open_bytes: 0,
            forced_hash: B256::ZERO,
        }
    }

    /// The height of the block that it takes next.
    pub fn next_height(&self) -> Height {
        self.state.height.next()
    }

    /// What the transactions of the batch that is not complete take before compression, at most, in bytes.
    pub fn open_bytes(&self) -> u64 {
        self.open_bytes
    }

    /// Where it stands after the last complete batch.
    pub fn after_last(&self) -> Cut {
        Cut {
            number: self.number,
            parent: self.parent,
            state: (*self.before).clone(),
        }
    }

    /// Takes the next decided block; the batches that are complete with it, in order. `forced_word`: of a block that
    /// consumes forced items, the queue's word after the last of them.
    ///
    /// # Errors
    /// [`ApplyError`] when it is not the next block: then nothing has changed.
    pub fn push(&mut self, block: Arc<SealedBlock>, forced_word: Option<B256>) -> Result<Vec<CutBatch>, ApplyError> {
        let mut state = self.state.clone();
        state.apply(block.block(), block.id(), &self.committee)?;
        // There is one epoch so far.
        let facts = BlockFacts::of(&block, false);
        let height = facts.height;
        let mut complete = Vec::new();
        let mut waiting = Some((block, state));
        for range in self.cutter.push(facts) {
            if *range.end() == height
                && let Some((block, state)) = waiting.take()
            {
                self.take(block, state, facts.bytes, forced_word);
            }
            complete.extend(self.close());
        }
        if let Some((block, state)) = waiting {
            self.take(block, state, facts.bytes, forced_word);
        }
        Ok(complete)
    }

    fn take(&mut self, block: Arc<SealedBlock>, state: State, bytes: u64, forced_word: Option<B256>) {
        if block.header().forced_to.is_some() {
            self.forced_hash = forced_word.unwrap_or_default();
        }
        self.state = state;
        self.open.push(block);
        self.open_bytes = self.open_bytes.saturating_add(bytes);
    }

    /// The open blocks as a batch.
    fn close(&mut self) -> Option<CutBatch> {
        let blocks = std::mem::take(&mut self.open);
        let contents = Contents::of(&blocks)?;
        let (first, last) = (blocks.first()?.header(), blocks.last()?);
        let batch = Batch {
            network: self.network,
            number: self.number,
            epoch: first.epoch,
            first_height: first.height,
            last_height: last.header().height,
            parent: self.parent,
            last_block: last.id(),
            namespaces: contents.root(),
            l1_origin: last.header().l1_origin,
            forced_to: self.state.forced_cursor,
            forced_hash: std::mem::take(&mut self.forced_hash),
            next_committee: B256::ZERO,
            faults: B256::ZERO,
        };
        let hash = batch.hash();
        self.number += 1;
        self.parent = hash;
        let before = std::mem::replace(&mut self.before, Arc::new(self.state.clone()));
        let bytes = std::mem::take(&mut self.open_bytes);
        Some(CutBatch {
            batch,
            hash,
            before,
            bytes,
        })
    }
}
