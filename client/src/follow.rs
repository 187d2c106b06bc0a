//! Following a rollup's stream over several nodes.
//!
//! Promises: every block that comes out is verified (certificate, proof, transactions) and continues the one before it
//! exactly, whichever nodes it came from. A node that lies is named with the check that it failed and is left for good,
//! and so is one that says to be of another network. A node that dies, hangs or has less than another is left and tried
//! again later, with growing pauses. Where the stream has not gone on yet, it waits.
//!
//! Delivery: the cursor is stored when the reader calls [`Follower::acknowledge`], after it has dealt with a block. So
//! a crash in between repeats that block: **at least once**. A reader that stores its own state together with the
//! event's cursor in one transaction, and starts from that with [`Start::Cursor`], sees every block **exactly once**.
//!
//! How: it asks for ranges until a node has no more (a request is paced by the reader, so memory stays bounded), then
//! subscribes. While nothing comes, it asks another node now and then whether there is more, so that a node which
//! withholds is noticed.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use fusion_types::{Cursor, NetworkId, RollupBlock, RollupId};
use jsonrpsee::core::JsonRawValue;
use jsonrpsee::core::client::Subscription;
use tokio::time::Instant;

use crate::cursor::{CursorError, CursorFile};
use crate::json::CursorJson;
use crate::node::{Connection, NodeUrl};
use crate::trust::Trust;

mod answers;

use answers::{Fault, decode_block, fault_of, open, range};

/// Where to start in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the block that holds this sequence number, which may begin before it. The history before that block is the
    /// one that its certificate commits to.
    Sequence(RollupId, u64),
    /// Exactly here; a node with another history before it is a liar.
    Cursor(Cursor),
}

/// How patient a follower is.
#[derive(Debug, Clone, Copy)]
pub struct FollowOptions {
    /// How long a node may take to connect, to answer, or to answer a ping.
    pub answer_timeout: Duration,
    /// How long nothing may come before another node is asked whether there is more.
    pub check_interval: Duration,
    /// Pause before a node that failed is tried again; doubles with each failure.
    pub retry_min: Duration,
    /// The pause grows no longer than this.
    pub retry_max: Duration,
}

impl Default for FollowOptions {
    fn default() -> Self {
        Self {
            answer_timeout: Duration::from_secs(3),
            check_interval: Duration::from_secs(3),
            retry_min: Duration::from_millis(250),
            retry_max: Duration::from_secs(30),
        }
    }
}

/// What a follower tells its reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The next block of the stream, verified.
    Block {
        /// The block.
        block: Box<RollupBlock>,
        /// The place after it: what to acknowledge, or to store with what the block caused.
        cursor: Cursor,
        /// Who sent it.
        url: String,
    },
    /// A node was left.
    Left {
        /// Its address.
        url: String,
        /// Which check it failed, or why it is no use for now.
        reason: String,
        /// Whether it lied: then it is not asked again.
        lied: bool,
    },
    /// A node says that it is of another network, which is its word alone: it is not asked again, the others are.
    OtherNetwork {
        /// Its address.
        url: String,
        /// The network that it says to be of.
        network: NetworkId,
    },
}

/// Why a follower cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// An address cannot be used, or there is none.
    #[error("{0}")]
    Url(String),
    /// The genesis names no such rollup, so that no honest node of its network has its stream.
    #[error("rollup {rollup} is not registered; registered are {}", list(registered))]
    UnknownRollup {
        /// The rollup that was asked for.
        rollup: RollupId,
        /// Those that there are.
        registered: Vec<RollupId>,
    },
    /// Every node says that it is of another network. No proof, but rather the genesis is the wrong one than all of
    /// them lie.
    #[error(
        "the genesis is of network {expected}, but every node says to be of {}",
        list(claimed)
    )]
    OtherNetwork {
        /// The network that is trusted.
        expected: NetworkId,
        /// What the nodes say, without repeats.
        claimed: Vec<NetworkId>,
    },
    /// Every node lied, or some did and the others say to be of another network.
    #[error("no node is left to follow: {url} lied: {check}")]
    NobodyLeft {
        /// Address of the last liar.
        url: String,
        /// The check that it failed.
        check: String,
    },
    /// The cursor file.
    #[error(transparent)]
    Cursor(#[from] CursorError),
}

/// A reader of one rollup's stream.
#[derive(Debug)]
pub struct Follower {
    trust: Trust,
    options: FollowOptions,
    nodes: Vec<Node>,
    at: Start,
    file: Option<CursorFile>,
    source: Option<Source>,
    /// Index of the node to try first.
    next: usize,
    events: VecDeque<Event>,
}

#[derive(Debug)]
struct Node {
    url: NodeUrl,
    state: NodeState,
    failures: u32,
}

#[derive(Debug)]
enum NodeState {
    Usable,
    LeftUntil(Instant),
    Lied(String),
    /// By its own word.
    Foreign(NetworkId),
}

#[derive(Debug)]
struct Source {
    node: usize,
    connection: Connection,
    /// Once the node has no more to give by request.
    live: Option<Subscription<Box<JsonRawValue>>>,
    /// Whether the subscription has brought a block.
    delivered: bool,
}

impl Follower {
    /// A follower of the nodes at `urls`, from `start` on. Connects when asked for the first event.
    ///
    /// # Errors
    /// [`FollowError::Url`] for an unusable address or none, [`FollowError::UnknownRollup`] for a rollup that the
    /// genesis does not name.
    pub fn new<T: AsRef<str>>(
        urls: &[T],
        trust: Trust,
        start: Start,
        options: FollowOptions,
    ) -> Result<Self, FollowError> {
        if urls.is_empty() {
            return Err(FollowError::Url("no node to follow: give at least one URL".to_owned()));
        }
        let (Start::Sequence(rollup, _) | Start::Cursor(Cursor { rollup, .. })) = start;
        if !trust.rollups.contains(&rollup) {
            let registered = trust.rollups;
            return Err(FollowError::UnknownRollup { rollup, registered });
        }
        let nodes = urls.iter().map(|url| {
            Ok(Node {
                url: NodeUrl::parse(url.as_ref()).map_err(FollowError::Url)?,
                state: NodeState::Usable,
                failures: 0,
            })
        });
        let at = match start {
            // The head before the first transaction follows from the genesis.
            Start::Sequence(rollup, 0) => Start::Cursor(Cursor::start(trust.network, rollup)),
            start => start,
        };
        Ok(Self {
            nodes: nodes.collect::<Result<_, FollowError>>()?,
            trust,
            options,
            at,
            file: None,
            source: None,
            next: 0,
            events: VecDeque::new(),
        })
    }

    /// Like [`Follower::new`], but goes on from the cursor stored in `file` if there is one, and stores there what is
    /// acknowledged.
    ///
    /// # Errors
    /// As [`Follower::new`], and [`FollowError::Cursor`] when the file cannot be read or is of another stream.
    pub fn with_file<T: AsRef<str>>(
        urls: &[T],
        trust: Trust,
        start: Start,
        options: FollowOptions,
        file: CursorFile,
    ) -> Result<Self, FollowError> {
        let start = file.load()?.map_or(start, Start::Cursor);
        let mut follower = Self::new(urls, trust, start, options)?;
        follower.file = Some(file);
        Ok(follower)
    }

    /// The next event. Waits for as long as the stream does not go on. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`FollowError::NobodyLeft`] when every node lied, [`FollowError::OtherNetwork`] when every one is of another
    /// network.
    pub async fn next(&mut self) -> Result<Event, FollowError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let fault = match &self.source {
                Some(source) => {
                    let node = source.node;
                    self.advance().await.map_err(|fault| (node, fault))
                }
                None => self.connect().await?,
            };
            if let Err((node, fault)) = fault {
                self.leave(node, fault);
            }
        }
    }

    /// Notes that everything before `cursor` is dealt with: stores it durably, if the follower has a file.
    /// Blocks for one flush to disk.
    ///
    /// # Errors
    /// [`CursorError`] when the disk refuses.
    pub fn acknowledge(&self, cursor: &Cursor) -> Result<(), CursorError> {
        self.file.as_ref().map_or(Ok(()), |file| file.store(cursor))
    }

    /// Connects to the next node that may be tried, waiting until one may.
    async fn connect(&mut self) -> Result<Result<(), (usize, Fault)>, FollowError> {
        let node = self.choose().await?;
        let url = &self.nodes[node].url;
        let opened = open(url, &self.trust, self.options.answer_timeout).await;
        Ok(match opened {
            Ok(connection) => {
                self.nodes[node].state = NodeState::Usable;
                self.source = Some(Source {
                    node,
                    connection,
                    live: None,
                    delivered: false,
                });
                Ok(())
            }
            Err(fault) => Err((node, fault)),
        })
    }

    /// The first node from `next` on that may be tried; if all are to be left alone for now, the one whose pause ends
    /// first, after it.
    async fn choose(&self) -> Result<usize, FollowError> {
        let now = Instant::now();
        let mut earliest: Option<(Instant, usize)> = None;
        for step in 0..self.nodes.len() {
            let index = (self.next + step) % self.nodes.len();
            match self.nodes[index].state {
                NodeState::Usable => return Ok(index),
                NodeState::LeftUntil(until) if until <= now => return Ok(index),
                NodeState::LeftUntil(until) if earliest.is_none_or(|(first, _)| until < first) => {
                    earliest = Some((until, index));
                }
                NodeState::LeftUntil(_) | NodeState::Lied(_) | NodeState::Foreign(_) => {}
            }
        }
        let Some((until, index)) = earliest else {
            return Err(self.nobody_left());
        };
        tokio::time::sleep_until(until).await;
        Ok(index)
    }

    /// Why there is no node to try any more.
    fn nobody_left(&self) -> FollowError {
        let (mut liar, mut claimed) = (None, BTreeSet::new());
        for node in &self.nodes {
            match &node.state {
                NodeState::Lied(check) => liar = Some((node.url.to_string(), check.clone())),
                NodeState::Foreign(network) => {
                    claimed.insert(*network);
                }
                NodeState::Usable | NodeState::LeftUntil(_) => {}
            }
        }
        match liar {
            Some((url, check)) => FollowError::NobodyLeft { url, check },
            None => FollowError::OtherNetwork {
                expected: self.trust.network,
                claimed: claimed.into_iter().collect(),
            },
        }
    }

    /// Takes one step with the current source: a range, the start of the subscription, or one item of it.
    async fn advance(&mut self) -> Result<(), Fault> {
        let from = self.cursor_json();
        let Some(source) = &mut self.source else {
            return Ok(());
        };
        let Some(live) = &mut source.live else {
            let blocks = range(&source.connection, &from).await?;
            if blocks.is_empty() {
                let stream = source.connection.stream(&from).await;
                source.live = Some(stream.map_err(|error| fault_of(&error))?);
                source.delivered = false;
            }
            return blocks.iter().try_for_each(|block| self.accept(block));
        };
        match tokio::time::timeout(self.options.check_interval, live.next()).await {
            Ok(Some(Ok(item))) => {
                source.delivered = true;
                let block = decode_block(item.get())?;
                self.accept(&block)
            }
            // A node that always does this would keep us busy for nothing.
            Ok(_) if !source.delivered => Err(Fault::Failed("it ended the subscription without a block".to_owned())),
            // The node cut us off, or the buffer ran over: the missing part comes by request.
            Ok(_) => {
                source.live = None;
                Ok(())
            }
            Err(_) => self.check_elsewhere().await,
        }
    }

    /// Asks another node for what comes next. If it has more, the current node withholds or lags.
    async fn check_elsewhere(&mut self) -> Result<(), Fault> {
        let Some(current) = self.source.as_ref().map(|source| source.node) else {
            return Ok(());
        };
        let others = (1..self.nodes.len()).map(|step| (current + step) % self.nodes.len());
        let now = Instant::now();
        let usable = |node: &Node| match node.state {
            NodeState::Usable => true,
            NodeState::LeftUntil(until) => until <= now,
            NodeState::Lied(_) | NodeState::Foreign(_) => false,
        };
        for other in others.filter(|index| usable(&self.nodes[*index])).collect::<Vec<_>>() {
            match self.peek(other).await {
                Ok(false) => return Ok(()),
                Ok(true) => {
                    self.next = other;
                    let url = &self.nodes[other].url;
                    return Err(Fault::Failed(format!("it is behind: {url} has more of the stream")));
                }
                Err(fault) => self.leave(other, fault),
            }
        }
        Ok(())
    }

    /// Whether the node at `index` proves that the stream goes on.
    async fn peek(&self, index: usize) -> Result<bool, Fault> {
        let connection = open(&self.nodes[index].url, &self.trust, self.options.answer_timeout).await?;
        let blocks = range(&connection, &self.cursor_json()).await?;
        match blocks.first() {
            Some(block) => self.verify(block).map(|_| true),
            None => Ok(false),
        }
    }

    /// Verifies a block from the current source, hands it to the reader and moves on.
    fn accept(&mut self, block: &RollupBlock) -> Result<(), Fault> {
        let cursor = self.verify(block)?;
        self.at = Start::Cursor(cursor);
        let Some(source) = &self.source else {
            return Ok(());
        };
        let node = &mut self.nodes[source.node];
        node.failures = 0;
        self.events.push_back(Event::Block {
            block: Box::new(block.clone()),
            cursor,
            url: node.url.to_string(),
        });
        Ok(())
    }

    /// The cursor after `block`, if it is decided and continues the stream where we are.
    fn verify(&self, block: &RollupBlock) -> Result<Cursor, Fault> {
        let lane = &block.body.lane;
        let cursor = match self.at {
            Start::Cursor(cursor) => cursor,
            Start::Sequence(rollup, sequence) => {
                let end = lane.first_sequence.saturating_add(lane.count);
                if !(lane.first_sequence..end).contains(&sequence) {
                    let first = lane.first_sequence;
                    return Err(Fault::Lied(format!(
                        "asked for sequence {sequence}, it sent a lane of {first} to {end}"
                    )));
                }
                // Not blind trust: the certificate checked below commits to these two fields as well.
                Cursor {
                    rollup,
                    sequence: lane.first_sequence,
                    head: lane.parent_head,
                }
            }
        };
        let verified = block.verify(self.trust.network, &self.trust.committee, &cursor);
        verified.map_err(|error| Fault::Lied(error.to_string()))
    }

    /// Leaves a node, for good or for a while.
    fn leave(&mut self, index: usize, fault: Fault) {
        let current = self.source.as_ref().is_some_and(|source| source.node == index);
        if current || self.source.is_none() {
            self.source = None;
            if self.next == index {
                self.next = (index + 1) % self.nodes.len();
            }
        }
        let node = &mut self.nodes[index];
        let (reason, lied) = match fault {
            Fault::Foreign(network) => {
                tracing::debug!(url = %node.url, %network, "node of another network left");
                node.state = NodeState::Foreign(network);
                let url = node.url.to_string();
                self.events.push_back(Event::OtherNetwork { url, network });
                return;
            }
            Fault::Lied(check) => {
                node.state = NodeState::Lied(check.clone());
                (check, true)
            }
            Fault::Failed(reason) => {
                let pause = self.options.retry_min.saturating_mul(1 << node.failures.min(16));
                node.state = NodeState::LeftUntil(Instant::now() + pause.min(self.options.retry_max));
                node.failures = node.failures.saturating_add(1);
                (reason, false)
            }
        };
        tracing::debug!(url = %node.url, %reason, lied, "node left");
        self.events.push_back(Event::Left {
            url: node.url.to_string(),
            reason,
            lied,
        });
    }

    fn cursor_json(&self) -> CursorJson {
        match &self.at {
            Start::Cursor(cursor) => cursor.into(),
            Start::Sequence(rollup, sequence) => CursorJson {
                rollup: rollup.0,
                sequence: *sequence,
                head: None,
            },
        }
    }
}

fn list(items: &[impl std::fmt::Display]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(", ")
}

#[cfg(test)]
mod tests;
