//! A node's disk: what is written stays pending until a flush; a power cut keeps an arbitrary part of the pending writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::Bytes;
use fusion_sequencer::core::Recovery;
use fusion_sequencer::store::Record;
use fusion_types::{BlockId, DecidedBlock, Genesis, Height, SealedBlock};

use crate::rng::Rng;

/// Durable content, and writes that a power cut may lose.
#[derive(Debug, Default, Clone)]
pub(crate) struct Disk {
    bodies: BTreeMap<BlockId, Arc<SealedBlock>>,
    decided: Vec<DecidedBlock>,
    wal: Vec<(Height, Bytes)>,
    wal_lost: bool,
    guard: Option<Bytes>,
    pending: Vec<Record>,
}

impl Disk {
    pub(crate) fn write(&mut self, records: Vec<Record>) {
        self.pending.extend(records);
    }

    pub(crate) fn flush(&mut self) {
        for record in std::mem::take(&mut self.pending) {
            self.persist(record);
        }
    }

    /// The power goes: of each file's pending writes a prefix survives. The log survives at least as far as the
    /// write-ahead log and the guard do, as the store syncs it first when a batch decides.
    pub(crate) fn power_cut(&mut self, rng: &mut Rng) {
        let pending = std::mem::take(&mut self.pending);
        let decides = pending.iter().any(|record| matches!(record, Record::Decision(_)));
        let (log, rest): (Vec<_>, Vec<_>) = pending
            .into_iter()
            .partition(|record| matches!(record, Record::Body(_) | Record::Decision(_)));
        let kept = rng.index(log.len() + 1);
        let log_whole = kept == log.len();
        log.into_iter().take(kept).for_each(|record| self.persist(record));
        if decides && !log_whole {
            return;
        }
        // The guard carries the write-ahead records of its own commit, so that it never knows more than they do.
        let (wal, guard): (Vec<_>, Vec<_>) = rest
            .into_iter()
            .partition(|record| matches!(record, Record::Wal { .. }));
        let guard_survives = rng.chance(500);
        let kept_wal = if guard_survives {
            wal.len()
        } else {
            rng.index(wal.len() + 1)
        };
        wal.into_iter().take(kept_wal).for_each(|record| self.persist(record));
        if guard_survives {
            guard.into_iter().for_each(|record| self.persist(record));
        }
    }

    /// The write-ahead log is gone, as after a lost file.
    pub(crate) fn lose_wal(&mut self) {
        self.wal.clear();
        self.wal_lost = true;
    }

    /// Its last records are gone, and the store saw that something is wrong.
    pub(crate) fn damage_wal(&mut self, rng: &mut Rng) {
        let kept = rng.index(self.wal.len() + 1);
        self.wal.truncate(kept);
        self.wal_lost = true;
    }

    pub(crate) fn decided(&self) -> &[DecidedBlock] {
        &self.decided
    }

    fn persist(&mut self, record: Record) {
        match record {
            Record::Body(block) => {
                self.bodies.insert(block.id(), block);
            }
            Record::Decision(certificate) => {
                let block = self
                    .bodies
                    .get(&certificate.block)
                    .expect("a decision follows its body")
                    .clone();
                self.decided.push(DecidedBlock { block, certificate });
            }
            Record::Wal { height, bytes } => {
                self.wal_lost = false;
                self.wal.retain(|(of, _)| height.0 <= of.0 + 1);
                self.wal.push((height, bytes));
            }
            Record::Guard(bytes) => self.guard = Some(bytes),
        }
    }

    /// What a start finds: what the store's recovery finds in the real files.
    pub(crate) fn recover(&mut self, genesis: &Genesis) -> Recovery {
        self.pending.clear();
        let mut state = genesis.state();
        for decided in &self.decided {
            let id = decided.block.id();
            state
                .apply(decided.block.block(), id, genesis.committee())
                .expect("the log continues itself");
        }
        let height = state.height.next();
        let undecided = |block: &&Arc<SealedBlock>| block.header().height == height;
        self.bodies.retain(|_, block| height.0 <= block.header().height.0 + 2);
        Recovery {
            wal: self
                .wal
                .iter()
                .filter(|(of, _)| *of == height)
                .map(|(_, bytes)| bytes.clone())
                .collect(),
            wal_readable: !self.wal_lost,
            guard: self.guard.clone(),
            bodies: self.bodies.values().filter(undecided).cloned().collect(),
            evidence: Vec::new(),
            state,
        }
    }
}

impl Disk {
    /// Whether something was written that is not durable.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }
}
