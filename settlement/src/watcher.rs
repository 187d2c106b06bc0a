//! What stands on L1: the inbox as several endpoints agree on it.
//!
//! Every poll asks all endpoints, each within its time limit; what enough of them say counts, and a poll without agreement
//! changes nothing. What is not final is read again at every poll, so that a reorg needs no care: the view is what L1 says
//! now. Final batches are read once. Promises: a view names only blocks that enough endpoints have; final numbers never go
//! back. Leaves to others: what a batch holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, keccak256};
use alloy_rpc_types_eth::{Filter, Log};
use alloy_sol_types::{SolCall, SolEvent};
use fusion_types::{Batch, NetworkId};
use tokio::sync::watch;

use crate::contracts::BatchInbox;
use crate::l1::{Endpoint, EndpointError, L1Block, Panel, PollError};

/// L1 blocks whose logs are asked for in one go.
const LOG_BLOCKS: u64 = 2_000;

/// Final batches that the view keeps, for whoever has not cut them yet.
const FINAL_POSTS_MAX: usize = 512;

/// Words of forced items that the view keeps: what waits on L1 at a time, several times over.
const FORCED_MAX: usize = 4_096;

/// A failing poll waits this many times as long before the next, at most.
const BACKOFF_MAX: u32 = 16;

/// What a watcher is told once.
#[derive(Debug, Clone)]
pub struct WatcherConfig {
    /// The network whose batches these are.
    pub network: NetworkId,
    /// EIP-155 id of the L1: an endpoint of another is not listened to.
    pub chain_id: u64,
    /// The inbox.
    pub inbox: Address,
    /// The first block whose logs matter.
    pub from_block: u64,
    /// How often to ask.
    pub poll: Duration,
}

/// A batch that the inbox took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub batch: B256,
    /// What its data hash to.
    pub data: B256,
    /// The transaction.
    pub transaction: B256,
    /// Number of the block with it.
    pub block: u64,
    /// That block's hash.
    pub block_hash: B256,
}

/// The inbox as several endpoints agree on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InboxView {
    /// The latest block that enough endpoints have.
    pub head: u64,
    /// The last final one.
    pub finalized: u64,
    /// Number of the next batch, at the latest block.
    pub next: u64,
    /// The same at the finalized block.
    pub next_final: u64,
    /// The last batches: all that are not final, and final ones that were read lately.
    pub posts: BTreeMap<u64, Post>,
    /// The words of the last forced items that are final, by their place in the queue.
    pub forced: BTreeMap<u32, B256>,
    /// When the last poll with an answer ended well: counted, so that who waits sees that time passes.
    pub polls: u64,
}

/// See the file's head.
#[derive(Debug)]
pub struct Watcher {
    config: WatcherConfig,
    panel: Panel,
    /// The logs up to here are read and final.
    read_to: u64,
    finals: BTreeMap<u64, Post>,
    forced: BTreeMap<u32, B256>,
    next_final: u64,
    polls: u64,
}

impl Watcher {
    /// Watches by these endpoints.
    pub fn new(config: WatcherConfig, panel: Panel) -> Self {
        Self {
            read_to: config.from_block.saturating_sub(1),
            config,
            panel,
            finals: BTreeMap::new(),
            forced: BTreeMap::new(),
            next_final: 0,
            polls: 0,
        }
    }

    /// Polls for ever; ends when nobody reads the view any more.
    pub async fn run(mut self, view: watch::Sender<Arc<InboxView>>) {
        let mut failures = 0_u32;
        loop {
            match self.poll().await {
                Ok(seen) => {
                    if failures > 0 {
                        tracing::info!(failures, "L1 answers again");
                    }
                    failures = 0;
                    view.send_replace(Arc::new(seen));
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures.is_power_of_two() {
                        tracing::warn!(%error, failures, "L1 tells nothing new");
                    }
                }
            }
            let wait = self.config.poll.saturating_mul(failures.clamp(1, BACKOFF_MAX));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = view.closed() => return,
            }
        }
    }

    /// Asks once.
    ///
    /// # Errors
    /// [`PollError`] when enough endpoints do not agree.
    pub async fn poll(&mut self) -> Result<InboxView, PollError> {
        let head = self.panel.block(BlockNumberOrTag::Latest, "the latest block").await?;
        let finalized = self
            .panel
            .block(BlockNumberOrTag::Finalized, "the finalized block")
            .await?;
        let next = self.next_number(head).await?;
        while self.read_to < finalized.number {
            let to = finalized.number.min(self.read_to.saturating_add(LOG_BLOCKS));
            let events = self.events(self.read_to + 1, to).await?;
            self.finals.extend(events.posts);
            self.forced.extend(events.forced);
            self.read_to = to;
        }
        if let Some((last, _)) = self.finals.last_key_value() {
            self.next_final = self.next_final.max(last + 1);
        }
        let mut posts = self.finals.clone();
        let mut from = self.read_to + 1;
        while from <= head.number {
            let to = head.number.min(from.saturating_add(LOG_BLOCKS - 1));
            posts.extend(self.events(from, to).await?.posts);
            from = to + 1;
        }
        while self.finals.len() > FINAL_POSTS_MAX {
            self.finals.pop_first();
        }
        while self.forced.len() > FORCED_MAX {
            self.forced.pop_first();
        }
        self.polls += 1;
        Ok(InboxView {
            head: head.number,
            finalized: finalized.number,
            next,
            next_final: self.next_final,
            posts,
            forced: self.forced.clone(),
            polls: self.polls,
        })
    }

    async fn next_number(&self, head: L1Block) -> Result<u64, PollError> {
        let cursor = self.panel.cursor(self.config.inbox, head).await?;
        Ok(u64::from(cursor.nextNumber))
    }

    /// What the inbox says of a range of blocks.
    async fn events(&self, from: u64, to: u64) -> Result<Events, PollError> {
        let (inbox, network) = (self.config.inbox, self.config.network);
        let filter = Filter::new()
            .address(inbox)
            .event_signature(vec![
                BatchInbox::BatchPosted::SIGNATURE_HASH,
                BatchInbox::ForcedEnqueued::SIGNATURE_HASH,
            ])
            .from_block(from)
            .to_block(to);
        let logs = self.panel.logs("the inbox's logs", filter, from, to).await?;
        let mut events = Events::default();
        for log in &logs {
            let failed = |what| PollError::Contract { address: inbox, what };
            if log.topic0() == Some(&BatchInbox::ForcedEnqueued::SIGNATURE_HASH) {
                events.forced.extend([forced_of(log).map_err(failed)?]);
            } else {
                let post = post_of(log, network).map_err(failed)?;
                events.posts.insert(post.number, post);
            }
        }
        Ok(events)
    }
}

/// What the inbox said in a range of blocks.
#[derive(Debug, Default)]
struct Events {
    posts: BTreeMap<u64, Post>,
    forced: BTreeMap<u32, B256>,
}

/// Place and word of a forced item.
fn forced_of(log: &Log) -> Result<(u32, B256), String> {
    let event = BatchInbox::ForcedEnqueued::decode_log(&log.inner).map_err(|error| error.to_string())?;
    Ok((event.index, event.accumulator))
}

/// The batch of a log; what is wrong with it if it is none.
fn post_of(log: &Log, network: NetworkId) -> Result<Post, String> {
    let missing = || "a log without its block or transaction".to_owned();
    let block = log.block_number.ok_or_else(missing)?;
    let event = BatchInbox::BatchPosted::decode_log(&log.inner).map_err(|error| error.to_string())?;
    let (header, number) = (&event.header, event.number);
    // The parent and the accumulator are no part of the posted header; the hash stands in the event.
    let read = Batch::from_header_bytes(header, network, B256::ZERO, B256::ZERO);
    let (batch, data) = read.map_err(|error| format!("batch {number}: {error}"))?;
    if batch.number != number {
        return Err(format!("batch {number} has a header of batch {}", batch.number));
    }
    Ok(Post {
        number,
        batch: event.hash,
        data,
        transaction: log.transaction_hash.ok_or_else(missing)?,
        block,
        block_hash: log.block_hash.ok_or_else(missing)?,
    })
}

/// Of an account that is no contract.
const NO_CODE: B256 = alloy_primitives::KECCAK256_EMPTY;

/// What a node should know before it settles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxFacts {
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    /// The network that the inbox belongs to.
    pub network: NetworkId,
    /// Attestation addresses of the present committee, in its order.
    pub roster: Vec<Address>,
}

/// Asks one endpoint what the inbox is. For a start: what comes of it is compared with the node's own.
///
/// # Errors
/// Why it cannot be told.
pub async fn facts(endpoint: &Endpoint, inbox: Address) -> Result<InboxFacts, String> {
    let text = |error: EndpointError| error.to_string();
    let chain_id = endpoint.chain_id().await.map_err(text)?;
    let latest = BlockId::latest();
    let code = endpoint.code(inbox, latest).await.map_err(text)?;
    if keccak256(&code) == NO_CODE {
        return Err(format!("there is no contract at {inbox} on chain {chain_id}"));
    }
    let network = BatchInbox::networkCall {}.abi_encode().into();
    let network = endpoint.call(inbox, network, latest).await.map_err(text)?;
    let network = BatchInbox::networkCall::abi_decode_returns(&network).map_err(|error| error.to_string())?;
    let present = BatchInbox::presentCall {}.abi_encode().into();
    let present = endpoint.call(inbox, present, latest).await.map_err(text)?;
    let present = BatchInbox::presentCall::abi_decode_returns(&present).map_err(|error| error.to_string())?;
    let committee = endpoint.code(present.committee, latest).await.map_err(text)?;
    let roster = roster(&committee).ok_or_else(|| format!("the committee at {} cannot be read", present.committee))?;
    Ok(InboxFacts {
        chain_id,
        network: NetworkId(network),
        roster,
    })
}

/// The members of a committee of scheme 1, out of the code that holds it: 32 bytes of head (0 ‖ scheme u8 ‖ members u16 ‖ epoch u64
/// ‖ verifier), then 20 bytes for each member.
fn roster(code: &[u8]) -> Option<Vec<Address>> {
    const ECDSA: u8 = 1;
    let (head, payload) = code.split_first_chunk::<32>()?;
    let members = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let is_whole = head[0] == 0 && head[1] == ECDSA && payload.len() == members * 20 && members > 0;
    is_whole.then(|| payload.chunks_exact(20).map(Address::from_slice).collect())
}
