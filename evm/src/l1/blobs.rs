//! The blobs of mined transactions, as long as a beacon node would serve them.
//!
//! Bounded in slots and in bytes: the oldest blocks' leave first. Blobs of blocks that a reorg dropped stay until they are old: a
//! transaction that is mined again finds its own here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use alloy_eips::eip4844::BYTES_PER_BLOB;
use alloy_eips::eip7594::BlobTransactionSidecarEip7594;
use alloy_primitives::B256;

/// Sidecars by the transaction that brought them.
#[derive(Clone, Debug, Default)]
pub(super) struct Blobs {
    by_transaction: BTreeMap<B256, Arc<BlobTransactionSidecarEip7594>>,
    /// Slot and transaction, in the order of mining.
    order: VecDeque<(u64, B256)>,
    blobs: usize,
}

impl Blobs {
    /// Keeps the sidecar of a transaction that was mined in a slot.
    pub(super) fn insert(&mut self, slot: u64, transaction: B256, sidecar: Arc<BlobTransactionSidecarEip7594>) {
        let number = sidecar.blobs.len();
        if self.by_transaction.insert(transaction, sidecar).is_none() {
            self.blobs += number;
            self.order.push_back((slot, transaction));
        }
    }

    /// The sidecar that a transaction brought.
    pub(super) fn sidecar(&self, transaction: &B256) -> Option<&Arc<BlobTransactionSidecarEip7594>> {
        self.by_transaction.get(transaction)
    }

    /// Forgets what is from before slot `oldest`, and the oldest until no more than `bytes_max` are left.
    pub(super) fn prune(&mut self, oldest: u64, bytes_max: usize) {
        while let Some((slot, transaction)) = self.order.front().copied()
            && (slot < oldest || self.bytes() > bytes_max)
        {
            self.order.pop_front();
            if let Some(sidecar) = self.by_transaction.remove(&transaction) {
                self.blobs -= sidecar.blobs.len();
            }
        }
    }

    /// Bytes of all blobs.
    pub(super) fn bytes(&self) -> usize {
        self.blobs * BYTES_PER_BLOB
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar(blobs: usize) -> Arc<BlobTransactionSidecarEip7594> {
        let blobs = vec![alloy_eips::eip4844::Blob::ZERO; blobs];
        Arc::new(BlobTransactionSidecarEip7594::new(blobs, Vec::new(), Vec::new()))
    }

    #[test]
    fn blobs_leave_by_age_and_by_bytes_oldest_first() {
        let mut blobs = Blobs::default();
        for slot in 0..6_u8 {
            blobs.insert(slot.into(), B256::with_last_byte(slot), sidecar(2));
        }
        assert_eq!(blobs.bytes(), 12 * BYTES_PER_BLOB);
        blobs.prune(2, usize::MAX);
        assert!(blobs.sidecar(&B256::with_last_byte(1)).is_none());
        assert!(blobs.sidecar(&B256::with_last_byte(2)).is_some());
        blobs.prune(0, 3 * BYTES_PER_BLOB);
        assert_eq!(blobs.bytes(), 2 * BYTES_PER_BLOB);
        assert!(blobs.sidecar(&B256::with_last_byte(5)).is_some());
    }

    #[test]
    fn a_transaction_mined_again_counts_once() {
        let mut blobs = Blobs::default();
        blobs.insert(1, B256::ZERO, sidecar(1));
        blobs.insert(2, B256::ZERO, sidecar(1));
        assert_eq!(blobs.bytes(), BYTES_PER_BLOB);
        blobs.prune(3, usize::MAX);
        assert_eq!(blobs.bytes(), 0);
    }
}
