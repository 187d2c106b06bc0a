//! What the edges of a node may ask of its middle: one bounded queue in, what is decided and how it stands out.
//!
//! RPC and metrics hold a [`NodeHandle`] and nothing else of the node. Promises: nothing here waits for the node thread
//! except for an answer that was asked for; a full queue is an answer of its own ([`Reject::Busy`]). Leaves to others:
//! what the node does with it (`node`).

mod room;
pub use room::{Inside, Room};

use std::sync::Arc;

use fusion_client::json::{EvidenceJson, Hash, PeerJson, StatusJson};
use fusion_mempool::{PoolTransaction, Reject};
use fusion_settlement::feeder::{PORTIONS_MAX, Wanted};
use fusion_settlement::records::RecordsReader;
use fusion_settlement::settler::SettlerView;
use fusion_settlement::watcher::InboxView;
use fusion_types::{BatchDomain, Genesis, L1Block, RollupId, TxHash};
use tokio::sync::{mpsc, oneshot, watch};

use crate::network::PathStatus;
use crate::store::LogReader;

/// Submissions that may wait for the node thread. Each is one request of up to 100 transactions; beyond, users are told
/// `busy`.
pub const SUBMISSIONS_MAX: usize = 4096;

/// Questions that may wait for the node thread.
pub const QUESTIONS_MAX: usize = 1024;

/// Transactions of one request, checked at ingress, and where to say what became of each.
#[derive(Debug)]
pub struct Submission {
    /// The transactions, in the order of the request.
    pub transactions: Vec<PoolTransaction>,
    /// Takes one answer per transaction, in the same order: whether the pool has it now.
    pub reply: oneshot::Sender<Vec<Result<(), Reject>>>,
}

/// Whether a transaction waits in the pool.
#[derive(Debug)]
pub struct Question {
    /// Its rollup.
    pub rollup: RollupId,
    /// Its hash.
    pub hash: TxHash,
    /// Takes the answer.
    pub reply: oneshot::Sender<bool>,
}

/// Settlement as the rest of the node sees it.
#[derive(Debug)]
pub struct Settling {
    /// Where batches count.
    pub domain: BatchDomain,
    /// The batches that L1 has finalized.
    pub records: RecordsReader,
    /// How settlement stands.
    pub view: watch::Receiver<Arc<SettlerView>>,
    /// How the inbox stands.
    pub l1: watch::Receiver<Arc<InboxView>>,
}

/// How the node stands. The node thread publishes it a few times per second and at each decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Itself.
    pub node: StatusJson,
    /// Every peer that it knows.
    pub peers: Vec<PeerJson>,
    /// How its connections to validators do.
    pub links: Vec<LinkStatus>,
    /// Evidence that it keeps.
    pub evidence: Vec<EvidenceJson>,
    /// By how many milliseconds the other proposers' clocks are ahead of its own, as far as it can tell.
    pub clocks_ahead_ms: Option<i64>,
}

/// How the connection to a validator does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// Its network key.
    pub peer: Hash,
    /// How the path does.
    pub path: PathStatus,
    /// Bytes that wait to be written to it, in the order of [`crate::network::Class::ALL`].
    pub waiting_bytes: [usize; 4],
}

/// The step of a node whose disk is full.
pub const DISK_FULL: &str = "disk full";

impl NodeStatus {
    /// Whether the node stands still until its disk has space: it signs, takes and answers nothing.
    pub fn is_disk_full(&self) -> bool {
        self.node.step == DISK_FULL
    }
}

/// The edges' hold on a running node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    /// Transactions for the pool; capacity [`SUBMISSIONS_MAX`].
    pub submit: mpsc::Sender<Submission>,
    /// Questions about the pool; capacity [`QUESTIONS_MAX`].
    pub ask: mpsc::Sender<Question>,
    /// Whether there is room for more of them.
    pub room: Arc<Room>,
    /// How the node stands.
    pub status: watch::Receiver<Arc<NodeStatus>>,
    /// What is decided.
    pub reader: LogReader,
    /// The network.
    pub genesis: Arc<Genesis>,
    /// Settlement, where this node takes part and its inbox was found.
    pub settlement: watch::Receiver<Option<Arc<Settling>>>,
    /// Finalized L1 blocks for the core.
    pub l1: mpsc::Sender<Vec<L1Block>>,
    /// Which of them it wants.
    pub l1_wanted: watch::Receiver<Option<Wanted>>,
}

/// The node thread's end of a [`NodeHandle`].
#[derive(Debug)]
pub struct NodeEnd {
    /// Transactions from users.
    pub submissions: mpsc::Receiver<Submission>,
    /// Questions from users.
    pub questions: mpsc::Receiver<Question>,
    /// Where to say whether there is room for more.
    pub room: Arc<Room>,
    /// Where to publish how the node stands.
    pub status: watch::Sender<Arc<NodeStatus>>,
    /// Where to show settlement.
    pub settlement: watch::Sender<Option<Arc<Settling>>>,
    /// Finalized L1 blocks; capacity [`PORTIONS_MAX`] portions.
    pub l1: mpsc::Receiver<Vec<L1Block>>,
    /// Where to say which are wanted.
    pub l1_wanted: watch::Sender<Option<Wanted>>,
}

impl NodeHandle {
    /// A handle and its other end.
    pub fn new(genesis: Arc<Genesis>, reader: LogReader, status: NodeStatus) -> (Self, NodeEnd) {
        let (submit, submissions) = mpsc::channel(SUBMISSIONS_MAX);
        let (ask, questions) = mpsc::channel(QUESTIONS_MAX);
        let (publish, status) = watch::channel(Arc::new(status));
        let (show, settlement) = watch::channel(None);
        let (l1, l1_out) = mpsc::channel(PORTIONS_MAX);
        let (want, l1_wanted) = watch::channel(None);
        let room = Arc::new(Room::new(genesis.rollups()));
        let handle = Self {
            submit,
            ask,
            room: room.clone(),
            status,
            reader,
            genesis,
            settlement,
            l1,
            l1_wanted,
        };
        let end = NodeEnd {
            submissions,
            questions,
            room,
            status: publish,
            settlement: show,
            l1: l1_out,
            l1_wanted: want,
        };
        (handle, end)
    }

    /// How the node stood when it last said so.
    pub fn status(&self) -> Arc<NodeStatus> {
        self.status.borrow().clone()
    }

    /// Hands transactions to the pool and waits for its answers: `None` when the node is stopping.
    pub async fn submit(&self, transactions: Vec<PoolTransaction>) -> Option<Vec<Result<(), Reject>>> {
        let count = transactions.len();
        let (reply, answer) = oneshot::channel();
        match self.submit.try_send(Submission { transactions, reply }) {
            Ok(()) => answer.await.ok().filter(|answers| answers.len() == count),
            Err(mpsc::error::TrySendError::Closed(_)) => None,
            Err(mpsc::error::TrySendError::Full(_)) => {
                let busy = Reject::Busy {
                    waiting: SUBMISSIONS_MAX,
                    limit: SUBMISSIONS_MAX,
                };
                Some(vec![Err(busy); count])
            }
        }
    }

    /// Whether a transaction waits in the pool: `None` when the node is too busy to say, or is stopping.
    pub async fn is_waiting(&self, rollup: RollupId, hash: TxHash) -> Option<bool> {
        let (reply, answer) = oneshot::channel();
        self.ask.try_send(Question { rollup, hash, reply }).ok()?;
        answer.await.ok()
    }
}
