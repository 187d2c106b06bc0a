//! Carries the poster's orders out: the only part that waits, and the only one that holds the key.
//!
//! One order at a time, so that what the poster decides on is what is. Computing happens on blocking threads, and so do
//! writes to the journal. A node that fails gives way to the next; a transaction goes to all. Ends when the jobs' channel closes, or
//! when the journal cannot be written: then nothing more may be sent.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use alloy_primitives::{Address, B256, Bytes, U256};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::journal::{Journal, JournalError};
use super::look::{self, TryError};
use super::machine::{Poster, PosterConfig};
use super::transaction::{Blobs, sign};
use super::words::{Alert, Attempt, Input, Order, Output, PostJob, SendAnswer};
use crate::l1::{Endpoint, L1Key};

/// What the task needs.
#[derive(Debug)]
pub struct PosterSetup {
    /// Nodes of L1. The first that answers is asked; transactions go to all.
    pub endpoints: Vec<Endpoint>,
    /// EIP-155 id of the chain that all of them must be on.
    pub chain_id: u64,
    /// Where to post.
    pub inbox: Address,
    /// The account that posts, and does nothing else.
    pub key: L1Key,
    /// The journal's file.
    pub journal: PathBuf,
    /// How to post.
    pub config: PosterConfig,
    /// Milliseconds between two looks at L1: a third of a slot is soon enough.
    pub poll_ms: u64,
}

/// Where the poster stands, for metrics and for whoever waits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PosterStatus {
    /// Number of the batch that the inbox takes next, in the latest block.
    pub posted: u64,
    /// The same in the finalized block: batches below are there for ever.
    pub finalized: u64,
    /// Wei of the account.
    pub balance_wei: U256,
    /// For how many posts of six blobs that is enough at present fees.
    pub posts_left: u64,
    /// Looks that failed, one after another, up to the present.
    pub failed_looks: u64,
    /// What an operator has to know.
    pub alert: Option<Alert>,
}

/// Why the task ended.
#[derive(Debug, thiserror::Error)]
pub enum PosterError {
    /// The journal cannot be relied on: nothing may be sent.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A node is on another chain.
    #[error("{url} is on chain {chain_id}, not {expected}")]
    Chain {
        /// The node.
        url: String,
        /// Its chain.
        chain_id: u64,
        /// Ours.
        expected: u64,
    },
    /// No nodes.
    #[error("the poster has no node of L1")]
    NoEndpoint,
    /// A blocking thread failed: a broken invariant, or the end of the process.
    #[error("a thread of the poster failed: {0}")]
    Thread(#[from] JoinError),
}

/// Posts what comes over `jobs` until that closes.
///
/// # Errors
/// [`PosterError`]; that nodes cannot be reached is none.
pub async fn run(
    setup: PosterSetup,
    mut jobs: mpsc::Receiver<PostJob>,
    status: watch::Sender<PosterStatus>,
) -> Result<(), PosterError> {
    let path = setup.journal.clone();
    let (journal, recovered) = spawn_blocking(move || Journal::open(&path)).await??;
    let mut poster = Poster::new(setup.config, &recovered.attempts, recovered.finalized);
    let mut tick = tokio::time::interval(Duration::from_millis(setup.poll_ms.max(1)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut crew = Crew::new(setup, journal, status)?;
    loop {
        let input = tokio::select! {
            job = jobs.recv(), if poster.has_room() => match job {
                Some(job) => Input::Job(job),
                None => return Ok(()),
            },
            _ = tick.tick() => Input::Tick,
        };
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for output in poster.step(now_ms(), input) {
                inputs.extend(crew.carry_out(output).await?);
            }
        }
    }
}

/// Who carries orders out.
struct Crew {
    setup: PosterSetup,
    /// Taken while a blocking thread has it.
    journal: Option<Journal>,
    status: watch::Sender<PosterStatus>,
    /// The endpoint that answered last.
    present: usize,
    /// Which endpoints were seen to be on the right chain.
    checked: Vec<bool>,
    /// The blobs of the last order: a replacement has the same.
    blobs: Option<Blobs>,
}

impl Crew {
    fn new(setup: PosterSetup, journal: Journal, status: watch::Sender<PosterStatus>) -> Result<Self, PosterError> {
        if setup.endpoints.is_empty() {
            return Err(PosterError::NoEndpoint);
        }
        Ok(Self {
            checked: vec![false; setup.endpoints.len()],
            journal: Some(journal),
            setup,
            status,
            present: 0,
            blobs: None,
        })
    }

    async fn carry_out(&mut self, output: Output) -> Result<Option<Input>, PosterError> {
        Ok(match output {
            Output::Look(hashes) => Some(self.look(&hashes).await?),
            Output::Sign(order) => Some(self.sign(order).await?),
            Output::Record { attempt, raw } => {
                let record = move |journal: &mut Journal| journal.record(&attempt, &raw);
                self.with_journal(record).await?;
                log_attempt("signed", &attempt);
                Some(Input::Recorded)
            }
            Output::Send(hash) => self.send(hash).await?,
            Output::Finalized { number, nonce } => {
                self.with_journal(move |journal| journal.finalize(number, nonce))
                    .await?;
                info!(number, nonce, "batches below this number are finalized");
                self.status.send_modify(|status| status.finalized = number);
                None
            }
            Output::Alert(alert) => {
                warn!("{alert}");
                self.status.send_modify(|status| status.alert = Some(alert));
                None
            }
            Output::Balance { wei, posts } => {
                self.status
                    .send_modify(|status| (status.balance_wei, status.posts_left) = (wei, posts));
                None
            }
        })
    }

    /// Runs a change of the journal on a blocking thread.
    async fn with_journal<R: Send + 'static>(
        &mut self,
        change: impl FnOnce(&mut Journal) -> Result<R, JournalError> + Send + 'static,
    ) -> Result<R, PosterError> {
        let mut journal = self.journal.take().expect("the task ends with the first failure");
        let (journal, result) = spawn_blocking(move || {
            let result = change(&mut journal);
            (journal, result)
        })
        .await?;
        // After a failed write the task ends, and with it the journal.
        let result = result?;
        self.journal = Some(journal);
        Ok(result)
    }

    /// A view by the present endpoint, or else by the next that has one.
    async fn look(&mut self, hashes: &[B256]) -> Result<Input, PosterError> {
        let account = self.setup.key.address();
        for _ in 0..self.setup.endpoints.len() {
            if self.is_on_chain().await? {
                let endpoint = &self.setup.endpoints[self.present];
                match look::look(endpoint, self.setup.inbox, account, hashes).await {
                    Ok(view) => {
                        self.note_view(view.next_number);
                        return Ok(Input::View(view));
                    }
                    Err(error) => warn!("no view of L1: {error}"),
                }
            }
            self.present = (self.present + 1) % self.setup.endpoints.len();
        }
        self.status.send_modify(|status| status.failed_looks += 1);
        Ok(Input::NoView)
    }

    fn note_view(&self, next_number: u64) {
        self.status.send_if_modified(|status| {
            let is_news = status.posted != next_number || status.failed_looks != 0;
            if status.posted != next_number {
                status.alert = None;
            }
            (status.posted, status.failed_looks) = (next_number, 0);
            is_news
        });
    }

    /// Whether the present endpoint answers, and is on our chain. Asked once.
    async fn is_on_chain(&mut self) -> Result<bool, PosterError> {
        if self.checked[self.present] {
            return Ok(true);
        }
        let endpoint = &self.setup.endpoints[self.present];
        match endpoint.chain_id().await {
            Ok(chain_id) if chain_id == self.setup.chain_id => {
                self.checked[self.present] = true;
                Ok(true)
            }
            Ok(chain_id) => Err(PosterError::Chain {
                url: endpoint.url().to_owned(),
                chain_id,
                expected: self.setup.chain_id,
            }),
            Err(error) => {
                warn!("no view of L1: {error}");
                Ok(false)
            }
        }
    }

    async fn sign(&mut self, order: Order) -> Result<Input, PosterError> {
        let kept = self.blobs.take().filter(|blobs| blobs.batch == order.job.hash);
        let blobs = match kept {
            Some(blobs) => Ok(blobs),
            None => {
                let job = order.job.clone();
                spawn_blocking(move || Blobs::of(&job)).await?
            }
        };
        let blobs = match blobs {
            Ok(blobs) => blobs,
            Err(words) => return Ok(Input::NotSigned(words)),
        };
        let endpoint = &self.setup.endpoints[self.present];
        let account = self.setup.key.address();
        let tried = look::try_post(endpoint, self.setup.inbox, account, &order, &blobs).await;
        self.blobs = Some(blobs.clone());
        match tried {
            Ok(()) => {}
            Err(TryError::Refused(refusal)) => return Ok(Input::Refused(refusal)),
            Err(TryError::Unknown(words)) => return Ok(Input::NotSigned(words)),
        }
        let (chain_id, inbox, key) = (self.setup.chain_id, self.setup.inbox, self.setup.key.clone());
        let signed = spawn_blocking(move || sign(&order, blobs, chain_id, inbox, &key)).await?;
        let (attempt, raw) = signed;
        Ok(Input::Signed { attempt, raw })
    }

    async fn send(&mut self, hash: B256) -> Result<Option<Input>, PosterError> {
        let raw = self.with_journal(move |journal| journal.raw(&hash)).await?;
        let Some(raw) = raw else {
            warn!(%hash, "a transaction that was finalized is not sent again");
            return Ok(None);
        };
        let answer = self.broadcast(&raw).await?;
        info!(%hash, ?answer, "sent");
        Ok(Some(Input::Sent { hash, answer }))
    }

    /// Sends to all endpoints at the same time. The best answer counts: one node that has it is enough.
    async fn broadcast(&self, raw: &Bytes) -> Result<SendAnswer, PosterError> {
        let mut sends = JoinSet::new();
        for endpoint in &self.setup.endpoints {
            let (endpoint, raw) = (endpoint.clone(), raw.clone());
            sends.spawn(async move { look::send(&endpoint, &raw).await });
        }
        let mut best = None;
        while let Some(answer) = sends.join_next().await {
            let answer = answer?;
            if best.as_ref().is_none_or(|best| rank(&answer) < rank(best)) {
                best = Some(answer);
            }
        }
        Ok(best.unwrap_or_else(|| SendAnswer::Unreachable("there is no node".to_owned())))
    }
}

/// How much an answer says: less is better.
const fn rank(answer: &SendAnswer) -> u8 {
    match answer {
        SendAnswer::Taken => 0,
        SendAnswer::Underpriced => 1,
        SendAnswer::NonceTooLow => 2,
        SendAnswer::Refused(_) => 3,
        SendAnswer::Unreachable(_) => 4,
    }
}

fn log_attempt(what: &str, attempt: &Attempt) {
    let Attempt {
        number,
        nonce,
        fees,
        hash,
        ..
    } = attempt;
    info!(number, nonce, %hash, fees.max_fee, fees.tip, fees.blob_fee, "{what}");
}

/// Unix time in milliseconds. A clock before 1970 counts as that.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
