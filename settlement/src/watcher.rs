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
use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_rpc_types_eth::{Filter, Log};
use alloy_sol_types::{SolCall, SolEvent};
use fusion_types::{Batch, NetworkId};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::contracts::BatchInbox;
use crate::l1::{Endpoint, EndpointError, L1Block};

/// L1 blocks whose logs are asked for in one go.
const LOG_BLOCKS: u64 = 2_000;

/// Final batches that the view keeps, for whoever has not cut them yet.
const FINAL_POSTS_MAX: usize = 512;

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
    /// How many endpoints must agree.
    pub agree: usize,
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
    /// When the last poll with an answer ended well: counted, so that who waits sees that time passes.
    pub polls: u64,
}

/// Why a poll told nothing.
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
    /// An answer that no inbox gives.
    #[error("the inbox {inbox} answered what no inbox answers: {what}")]
    Inbox {
        /// Its address.
        inbox: Address,
        /// What is wrong.
        what: String,
    },
}

/// See the file's head.
#[derive(Debug)]
pub struct Watcher {
    config: WatcherConfig,
    endpoints: Vec<Endpoint>,
    /// The logs up to here are read and final.
    read_to: u64,
    finals: BTreeMap<u64, Post>,
    next_final: u64,
    polls: u64,
}

impl Watcher {
    /// Watches by these endpoints.
    pub fn new(config: WatcherConfig, endpoints: Vec<Endpoint>) -> Self {
        Self {
            read_to: config.from_block.saturating_sub(1),
            config,
            endpoints,
            finals: BTreeMap::new(),
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
        let head = self.block(BlockNumberOrTag::Latest, "the latest block").await?;
        let finalized = self.block(BlockNumberOrTag::Finalized, "the finalized block").await?;
        let next = self.next_number(head).await?;
        while self.read_to < finalized.number {
            let to = finalized.number.min(self.read_to.saturating_add(LOG_BLOCKS));
            let posts = self.posts(self.read_to + 1, to).await?;
            self.finals.extend(posts.into_iter().map(|post| (post.number, post)));
            self.read_to = to;
        }
        if let Some((last, _)) = self.finals.last_key_value() {
            self.next_final = self.next_final.max(last + 1);
        }
        let mut posts = self.finals.clone();
        let mut from = self.read_to + 1;
        while from <= head.number {
            let to = head.number.min(from.saturating_add(LOG_BLOCKS - 1));
            posts.extend(self.posts(from, to).await?.into_iter().map(|post| (post.number, post)));
            from = to + 1;
        }
        while self.finals.len() > FINAL_POSTS_MAX {
            self.finals.pop_first();
        }
        self.polls += 1;
        Ok(InboxView {
            head: head.number,
            finalized: finalized.number,
            next,
            next_final: self.next_final,
            posts,
            polls: self.polls,
        })
    }

    /// The newest block that enough endpoints have: of their tags the lowest that enough reach, and there their hashes.
    async fn block(&self, tag: BlockNumberOrTag, what: &'static str) -> Result<L1Block, PollError> {
        let answers = self.ask(move |endpoint| async move { endpoint.block(tag).await }).await;
        let mut numbers: Vec<u64> = answers
            .iter()
            .filter_map(|answer| answer.as_ref().ok()?.map(|block| block.number))
            .collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        let Some(number) = numbers.get(self.config.agree.saturating_sub(1)).copied() else {
            return Err(self.disagree(what, numbers.len(), &answers));
        };
        let at = BlockNumberOrTag::Number(number);
        let blocks = self.ask(move |endpoint| async move { endpoint.block(at).await }).await;
        self.agreed(what, blocks)?.ok_or_else(|| PollError::Inbox {
            inbox: self.config.inbox,
            what: format!("block {number} is there and is not"),
        })
    }

    async fn next_number(&self, head: L1Block) -> Result<u64, PollError> {
        let (inbox, at) = (self.config.inbox, BlockId::hash(head.hash));
        let data = Bytes::from(BatchInbox::cursorCall {}.abi_encode());
        let call = move |endpoint: Endpoint| {
            let data = data.clone();
            async move { endpoint.call(inbox, data, at).await }
        };
        let answer = self.agreed("the inbox's cursor", self.ask(call).await)?;
        let cursor = BatchInbox::cursorCall::abi_decode_returns(&answer);
        let cursor = cursor.map_err(|error| PollError::Inbox {
            inbox,
            what: error.to_string(),
        })?;
        Ok(u64::from(cursor.nextNumber))
    }

    /// The batches posted in a range of blocks.
    async fn posts(&self, from: u64, to: u64) -> Result<Vec<Post>, PollError> {
        let filter = Filter::new()
            .address(self.config.inbox)
            .event_signature(BatchInbox::BatchPosted::SIGNATURE_HASH)
            .from_block(from)
            .to_block(to);
        let network = self.config.network;
        let inbox = self.config.inbox;
        let ask = move |endpoint: Endpoint| {
            let filter = filter.clone();
            async move {
                let logs = endpoint.logs(&filter).await?;
                Ok(logs
                    .iter()
                    .map(|log| post_of(log, inbox, from, to, network))
                    .collect::<Result<Vec<_>, _>>())
            }
        };
        let posts = self.agreed("the batches posted", self.ask(ask).await)?;
        posts.map_err(|what| PollError::Inbox { inbox, what })
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
            Some(value) if votes(value) >= self.config.agree => Ok((*value).clone()),
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
            needed: self.config.agree,
            errors: if errors.is_empty() {
                "all answered".to_owned()
            } else {
                errors.join("; ")
            },
        }
    }
}

/// The batch of a log; what is wrong with it if it is none.
fn post_of(log: &Log, inbox: Address, from: u64, to: u64, network: NetworkId) -> Result<Post, String> {
    let missing = || "a log without its block or transaction".to_owned();
    let block = log.block_number.ok_or_else(missing)?;
    if log.address() != inbox || block < from || block > to {
        return Err(format!(
            "a log of {} in block {block}, asked for {from} to {to}",
            log.address()
        ));
    }
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
