//! What a core is made of, what it restarts from, and what it tells about itself.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Bytes;
use ed25519_dalek::SigningKey;
use fusion_consensus::{CommitteeSchedule, Engine, EngineConfig, Evidence, GuardState, Timeouts, Tip, WalRecord};
use fusion_mempool::PoolLimits;
use fusion_types::{BlockId, Genesis, Height, Round, SealedBlock, State};

use super::l1::L1_MARGIN;

/// The parts of a core that do not change while it runs.
#[derive(Clone)]
pub struct CoreConfig {
    /// The network.
    pub genesis: Arc<Genesis>,
    /// The consensus key; none for a follower.
    pub key: Option<SigningKey>,
    /// Timeouts of consensus.
    pub timeouts: Timeouts,
    /// Bounds of the pool.
    pub pool: PoolLimits,
    /// Proposals are at least this far apart.
    pub block_interval_min: Duration,
    /// With nothing to order, a block is proposed this long after the last one.
    pub block_interval_idle: Duration,
    /// A proposal takes about this many bytes of payload at most.
    pub block_bytes_target: usize,
    /// A proposal adopts an L1 block only so long after this node saw it finalized.
    pub l1_margin: Duration,
}

impl std::fmt::Debug for CoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoreConfig")
            .field("validator", &self.key.is_some())
            .finish_non_exhaustive()
    }
}

impl CoreConfig {
    /// The defaults for a network and a key.
    pub fn new(genesis: Arc<Genesis>, key: Option<SigningKey>) -> Self {
        Self {
            genesis,
            key,
            timeouts: Timeouts::default(),
            pool: PoolLimits::default(),
            block_interval_min: Duration::from_millis(5),
            block_interval_idle: Duration::from_secs(1),
            block_bytes_target: 1024 * 1024,
            l1_margin: L1_MARGIN,
        }
    }
}

impl CoreConfig {
    /// The engine that goes on where `recovery` ends.
    pub(super) fn engine(&self, recovery: &Recovery) -> Result<Engine, String> {
        let config = EngineConfig {
            network: self.genesis.network(),
            schedule: CommitteeSchedule::new(Arc::new(self.genesis.committee().clone())),
            key: self.key.clone(),
            timeouts: self.timeouts,
            block_interval_idle: self.block_interval_idle,
        };
        let guard = recovery
            .guard
            .as_ref()
            .map(|bytes| GuardState::decode(bytes))
            .transpose();
        let mut wal_readable = recovery.wal_readable;
        let mut wal = Vec::with_capacity(recovery.wal.len());
        for bytes in &recovery.wal {
            match WalRecord::decode(bytes) {
                Ok(record) => wal.push(record),
                Err(error) => {
                    // Whatever stood behind it is unknown: the guard decides whether this node may vote.
                    tracing::error!(%error, "a record of the write-ahead log does not decode");
                    wal_readable = false;
                    break;
                }
            }
        }
        let recovery = fusion_consensus::Recovery {
            tip: Tip {
                height: recovery.state.height,
                id: recovery.state.block,
            },
            rotation: recovery.state.rotation.clone(),
            wal,
            wal_readable,
            guard: guard.map_err(|error| format!("the sign guard's content does not decode: {error}"))?,
            bodies: recovery.bodies.clone(),
            evidence: recovery.evidence.clone(),
        };
        Engine::new(config, recovery).map_err(|error| error.to_string())
    }
}

/// What a node finds on its disk when it starts.
#[derive(Debug)]
pub struct Recovery {
    /// The replicated state after the last decided block.
    pub state: State,
    /// Records of the write-ahead log for the height after the tip, in order.
    pub wal: Vec<Bytes>,
    /// False when the write-ahead log is missing or damaged although it should be there.
    pub wal_readable: bool,
    /// Content of the sign guard's file, if there is one.
    pub guard: Option<Bytes>,
    /// Bodies logged for the height after the tip.
    pub bodies: Vec<Arc<SealedBlock>>,
    /// Evidence that was kept.
    pub evidence: Vec<Evidence>,
}

/// Where a core stands, for people and for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreStatus {
    /// Last decided height.
    pub height: Height,
    /// Its block.
    pub block: BlockId,
    /// Its time, Unix milliseconds.
    pub time_ms: u64,
    /// Round of the height in progress.
    pub round: Round,
    /// Step of consensus, for people.
    pub step: &'static str,
    /// Whether this node signs votes at present.
    pub voting: bool,
    /// Whether it keeps from voting because its log and its guard disagree.
    pub quarantined: bool,
    /// Transactions in the pool.
    pub pool_transactions: usize,
    /// Bytes in the pool.
    pub pool_bytes: usize,
    /// By how many milliseconds the other proposers' clocks are ahead of this node's, as far as it can tell.
    pub clocks_ahead_ms: Option<i64>,
}
