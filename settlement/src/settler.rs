//! The settler: one task that takes decided blocks to certified batches, and keeps account of those on L1.
//!
//! It owns the cutting, the attestor and the attestation key with its guard. Heavy work (encoding, decoding, KZG) is done on
//! blocking threads, one piece at a time; everything that comes in or goes out has a bounded queue, and a full one drops:
//! members repeat themselves. Promises: a signature leaves only after the guard is durable, and only for a batch cut from
//! this node's own log whose bytes were decoded and compared; batches that L1 has finalized are in [`Records`], in order.
//! Leaves to others: L1 itself ([`watcher`](crate::watcher), [`poster`](crate::poster)), and the mesh.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{B256, B512, Bytes};
use fusion_types::{Attestation, Committee, Height, NetworkId, Offer, SealedBlock};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::attestor::{Attestor, AttestorConfig, Certified, Input, Output, pack};
use crate::batcher::{CutRule, Payload};
use crate::cutting::{Cut, CutBatch, Cutting};
use crate::data::blob_data_of;
use crate::guard::{GuardFile, GuardFileError};
use crate::l1::L1Key;
use crate::records::{Record, Records, RecordsError};
use crate::watcher::{InboxView, Post};

/// Batches that are cut and not final on L1. Beyond, cutting waits: an hour at the busiest, without a post.
pub const BATCHES_MAX: usize = 256;

/// Messages of members that may wait.
pub const INBOX_MAX: usize = 64;

/// Messages to members that may wait.
pub const OUTBOX_MAX: usize = 64;

/// Bytes of blocks that are read in one go.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How often the attestor's clock is looked at.
const TICK: Duration = Duration::from_millis(100);

/// What members tell each other about batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A batch's bytes.
    Offer(Offer),
    /// A signature.
    Attestation(Attestation),
}

/// Reads decided blocks from one height to another, as many as fit so many bytes, one at least if it exists.
pub type ReadBlocks =
    Box<dyn Fn(Height, Height, usize) -> Result<Vec<Arc<SealedBlock>>, String> + Send + Sync + 'static>;

/// What a settler is told once.
#[derive(Debug, Clone)]
pub struct SettlerConfig {
    /// The network.
    pub network: NetworkId,
    /// Its committee.
    pub committee: Arc<Committee>,
    /// Where batches end.
    pub rule: CutRule,
    /// Where attestations count, and by whom; see [`AttestorConfig`].
    pub attestor: AttestorConfig,
}

/// The attestation key and its guard.
#[derive(Debug)]
pub struct AttestationKey {
    /// The key.
    pub signer: L1Key,
    /// What it signed.
    pub guard: GuardFile,
}

/// What a settler reads from and writes to.
pub struct Ports {
    /// The decided blocks.
    pub blocks: ReadBlocks,
    /// The last decided height.
    pub tip: watch::Receiver<Height>,
    /// What members say.
    pub inbox: mpsc::Receiver<Said>,
    /// What members are told.
    pub outbox: mpsc::Sender<Said>,
    /// The inbox on L1.
    pub l1: watch::Receiver<Arc<InboxView>>,
    /// Certified batches, for the poster; none if this node does not post.
    pub certified: Option<mpsc::Sender<Certified>>,
    /// How it stands.
    pub view: watch::Sender<Arc<SettlerView>>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

/// How settlement stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettlerView {
    /// Last height that is in a cut batch.
    pub cut: Height,
    /// Last height that is in a batch on L1.
    pub posted: Height,
    /// Last height that is in a batch that L1 finalized.
    pub settled: Height,
    /// Bytes of transactions, before compression, that are decided and not on L1.
    pub unposted_bytes: u64,
    /// Batches on L1 that are not final there, ascending.
    pub posts: Vec<Record>,
    /// Pairs of attestations by one member that contradict each other.
    pub contradictions: Vec<(Attestation, Attestation)>,
    /// Whether L1 has another batch under a number than this node cut: then it takes no part any more.
    pub diverged: Option<u64>,
}

/// Contradictions that are kept.
const CONTRADICTIONS_MAX: usize = 16;

/// Why settlement ends on this node. Ordering goes on.
#[derive(Debug, thiserror::Error)]
pub enum SettlerError {
    /// A block that is decided cannot be read, or does not follow.
    #[error("block {height}: {reason}")]
    Block {
        /// Its height.
        height: Height,
        /// Why.
        reason: String,
    },
    /// The account of batches.
    #[error(transparent)]
    Records(#[from] RecordsError),
}

/// See the file's head.
struct Settler {
    config: SettlerConfig,
    ports: Ports,
    key: Option<AttestationKey>,
    cutting: Cutting,
    /// Cut and not final, ascending.
    batches: VecDeque<CutBatch>,
    attestor: Attestor,
    records: Records,
    work: JoinSet<Input>,
    waiting: VecDeque<Output>,
    started: Instant,
    view: SettlerView,
    /// The next block consumes a forced item that L1 does not show yet.
    is_waiting_for_l1: bool,
}

/// Settles until the tip's or L1's sender is gone.
///
/// # Errors
/// [`SettlerError`] when it cannot go on.
pub async fn run(
    config: SettlerConfig,
    key: Option<AttestationKey>,
    records: Records,
    from: Cut,
    ports: Ports,
) -> Result<(), SettlerError> {
    let attestor = Attestor::new(config.attestor.clone(), from.number);
    let height = from.state.height;
    let settler = Settler {
        cutting: Cutting::new(config.network, config.committee.clone(), config.rule, from),
        config,
        ports,
        key,
        batches: VecDeque::new(),
        attestor,
        records,
        work: JoinSet::new(),
        waiting: VecDeque::new(),
        started: Instant::now(),
        view: SettlerView {
            cut: height,
            posted: height,
            settled: height,
            ..SettlerView::default()
        },
        is_waiting_for_l1: false,
    };
    settler.run().await
}

impl Settler {
    async fn run(mut self) -> Result<(), SettlerError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let may_cut = self.batches.len() < BATCHES_MAX && self.view.diverged.is_none() && !self.is_waiting_for_l1;
            let has_blocks = *self.ports.tip.borrow() >= self.cutting.next_height();
            tokio::select! {
                said = self.ports.inbox.recv() => match said {
                    Some(Said::Offer(offer)) => self.step(Input::Offered(offer)),
                    Some(Said::Attestation(attestation)) => self.step(Input::Attested(attestation)),
                    None => return Ok(()),
                },
                Some(done) = self.work.join_next() => match done {
                    Ok(input) => self.step(input),
                    Err(error) => tracing::error!(%error, "work on a batch ended badly"),
                },
                changed = self.ports.l1.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.l1_changed()?;
                }
                changed = self.ports.tip.changed(), if may_cut && !has_blocks => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                () = std::future::ready(()), if may_cut && has_blocks => self.read()?,
                _ = tick.tick() => self.step(Input::Tick),
            }
            self.begin_work();
            self.publish();
        }
    }

    /// Reads and cuts some of the blocks that are decided.
    fn read(&mut self) -> Result<(), SettlerError> {
        let (from, tip) = (self.cutting.next_height(), *self.ports.tip.borrow());
        let error = |height, reason| SettlerError::Block { height, reason };
        let blocks = (self.ports.blocks)(from, tip, READ_BYTES_MAX).map_err(|reason| error(from, reason))?;
        if blocks.is_empty() {
            return Err(error(from, "it is decided and not in the log".to_owned()));
        }
        let l1 = self.ports.l1.borrow().clone();
        for block in blocks {
            let height = block.header().height;
            let word = block.header().forced_to.map(|to| {
                let last = to.checked_sub(1).and_then(|last| u32::try_from(last).ok());
                last.and_then(|last| l1.forced.get(&last).copied())
            });
            if word == Some(None) {
                // The network knows of a forced item that this node's endpoints do not show yet.
                self.is_waiting_for_l1 = true;
                break;
            }
            let complete = self
                .cutting
                .push(block, word.flatten())
                .map_err(|why| error(height, why.to_string()))?;
            for batch in complete {
                self.view.cut = batch.batch.last_height;
                self.batches.push_back(batch);
            }
        }
        self.offer_cuts();
        Ok(())
    }

    /// Gives the attestor the batches that it wants now.
    fn offer_cuts(&mut self) {
        let wanted = self.batches.iter().filter(|cut| self.attestor.wants(cut.batch.number));
        let wanted: Vec<_> = wanted.map(|cut| cut.batch.clone()).collect();
        for batch in wanted {
            self.step(Input::Cut(batch));
        }
    }

    fn step(&mut self, input: Input) {
        for output in self.attestor.step(self.started.elapsed(), input) {
            match output {
                Output::Encode(_) | Output::Check { .. } => self.waiting.push_back(output),
                Output::Sign {
                    epoch,
                    number,
                    batch,
                    data,
                } => self.sign(Attestation {
                    epoch,
                    number,
                    batch,
                    data,
                    signature: B512::ZERO,
                }),
                Output::Offer(offer) => self.say(Said::Offer(offer)),
                Output::Attest(attestation) => self.say(Said::Attestation(attestation)),
                Output::Certified(certified) => self.certified(*certified),
                Output::Refused { maker, number, reason } => {
                    tracing::warn!(%maker, number, reason, "a batch that a member offers is not signed");
                }
                Output::Contradiction(pair) => {
                    tracing::error!(number = pair.0.number, "a member signed two batches of one number");
                    if self.view.contradictions.len() < CONTRADICTIONS_MAX {
                        self.view.contradictions.push(*pair);
                    }
                }
            }
        }
    }

    fn say(&self, said: Said) {
        // A full queue drops: offers are repeated, and they ask for attestations again.
        drop(self.ports.outbox.try_send(said));
    }

    /// Guard first, then the signature.
    fn sign(&mut self, mut attestation: Attestation) {
        let Some(key) = &mut self.key else { return };
        match key
            .guard
            .record(attestation.epoch, attestation.number, attestation.batch)
        {
            Ok(()) => {}
            Err(GuardFileError::Refused(why)) => {
                tracing::error!(%why, "the guard refuses to sign a batch");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "the attestation guard cannot be kept: this node signs no batches");
                return;
            }
        }
        let digest = attestation.digest(&self.config.attestor.domain);
        attestation.signature = pack(&key.signer.sign(&digest));
        self.step(Input::Signed(attestation));
    }

    fn certified(&mut self, certified: Certified) {
        tracing::debug!(number = certified.batch.number, "a batch is certified");
        if let Some(poster) = &self.ports.certified
            && poster.try_send(certified).is_err()
        {
            tracing::warn!("the poster takes no more batches");
        }
    }

    /// Begins what waits, one piece at a time.
    fn begin_work(&mut self) {
        while self.work.is_empty() {
            let Some(task) = self.waiting.pop_front() else { return };
            let number = match &task {
                Output::Encode(number) | Output::Check { number, .. } => *number,
                _ => continue,
            };
            let Some(cut) = self.batches.iter().find(|cut| cut.batch.number == number) else {
                continue;
            };
            let (first, last) = (cut.batch.first_height, cut.batch.last_height);
            match task {
                Output::Encode(_) => match (self.ports.blocks)(first, last, usize::MAX) {
                    Ok(blocks) => {
                        let (cut, committee) = (cut.clone(), self.config.committee.clone());
                        self.work.spawn_blocking(move || encode(&cut, &blocks, &committee));
                    }
                    Err(reason) => tracing::error!(number, reason, "the blocks of a batch cannot be read"),
                },
                Output::Check { data, payload, .. } => {
                    let (cut, committee) = (cut.clone(), self.config.committee.clone());
                    let network = self.config.network;
                    self.work.spawn_blocking(move || {
                        let outcome = check(&cut, &payload, data, network, &committee);
                        Input::Checked { number, data, outcome }
                    });
                }
                _ => {}
            }
        }
    }

    /// L1 moved: what is posted is not wanted any more, what is final goes to the records.
    fn l1_changed(&mut self) -> Result<(), SettlerError> {
        let l1 = self.ports.l1.borrow_and_update().clone();
        self.is_waiting_for_l1 = false;
        for post in l1.posts.values() {
            let cut = self.batches.iter().find(|cut| cut.batch.number == post.number);
            if let Some(cut) = cut.filter(|cut| cut.hash != post.batch) {
                let (number, posted, own) = (post.number, post.batch, cut.hash);
                tracing::error!(number, %posted, %own, "L1 has another batch than this node's blocks make: it settles no more");
                self.view.diverged = Some(number);
            }
        }
        if self.view.diverged.is_some() {
            return Ok(());
        }
        while let Some(cut) = self.batches.front().filter(|cut| cut.batch.number < l1.next_final) {
            let Some(post) = l1.posts.get(&cut.batch.number) else {
                break;
            };
            let record = record(cut, post);
            let after = self.batches.get(1).map(|next| next.before.clone());
            let after = after.map_or_else(|| self.cutting.after_last().state, |state| (*state).clone());
            self.records.append(&record, &after)?;
            self.view.settled = cut.batch.last_height;
            self.batches.pop_front();
        }
        self.step(Input::Posted(l1.next));
        self.offer_cuts();
        Ok(())
    }

    fn publish(&mut self) {
        let l1 = self.ports.l1.borrow().clone();
        let posted = self.batches.iter().take_while(|cut| cut.batch.number < l1.next);
        let records = posted.filter_map(|cut| Some(record(cut, l1.posts.get(&cut.batch.number)?)));
        self.view.posts = records.collect();
        self.view.posted = self
            .view
            .posts
            .last()
            .map_or(self.view.settled, |post| post.batch.last_height);
        let unposted = self.batches.iter().filter(|cut| cut.batch.number >= l1.next);
        self.view.unposted_bytes = self.cutting.open_bytes() + unposted.map(|cut| cut.bytes).sum::<u64>();
        let view = &self.view;
        self.ports.view.send_if_modified(|shown| {
            let is_news = **shown != *view;
            if is_news {
                *shown = Arc::new(view.clone());
            }
            is_news
        });
    }
}

fn record(cut: &CutBatch, post: &Post) -> Record {
    Record {
        batch: cut.batch.clone(),
        data: post.data,
        transaction: post.transaction,
        block: post.block,
        block_hash: post.block_hash,
    }
}

fn encode(cut: &CutBatch, blocks: &[Arc<SealedBlock>], committee: &Committee) -> Input {
    let payload = Payload::of(blocks, &cut.before, committee);
    let number = cut.batch.number;
    let bytes = Bytes::copy_from_slice(payload.bytes());
    match blob_data_of(&bytes) {
        Ok(data) => Input::Encoded {
            number,
            data,
            payload: bytes,
        },
        Err(error) => {
            tracing::error!(number, %error, "a batch does not fit the blobs of one transaction");
            Input::Tick
        }
    }
}

/// Whether `payload` has these data and gives exactly the batch that this node cut.
fn check(cut: &CutBatch, payload: &Bytes, data: B256, network: NetworkId, committee: &Committee) -> Result<(), String> {
    let payload = Payload::parse(payload.to_vec()).map_err(|error| error.to_string())?;
    let blocks = payload.blocks(network, &cut.before, committee);
    let (blocks, _) = blocks.map_err(|error| error.to_string())?;
    let last = blocks.last().map(|block| block.id());
    if last != Some(cut.batch.last_block) || payload.namespaces_root() != cut.batch.namespaces {
        return Err(format!(
            "its blocks end with {last:?}, not with {}",
            cut.batch.last_block
        ));
    }
    let computed = blob_data_of(payload.bytes()).map_err(|error| error.to_string())?;
    if computed == data {
        Ok(())
    } else {
        Err(format!("its bytes hash to {computed}, it says {data}"))
    }
}
