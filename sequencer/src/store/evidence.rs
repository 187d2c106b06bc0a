//! The evidence file: what convicts validators, kept across starts.
//!
//! Its content proves itself by its signatures, so it has no checksum and no part in a commit. A file that cannot be
//! read costs old evidence and never a start: it is put aside for a person to look at.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fusion_consensus::{EVIDENCE_MAX, Evidence};

use super::disk;
use super::error::StoreError;
use super::volume::Volume;

/// Far more than [`EVIDENCE_MAX`] pairs take.
const BYTES_MAX: usize = 512 * EVIDENCE_MAX;

/// The evidence file of a home folder.
#[derive(Debug)]
pub struct EvidenceFile {
    volume: Arc<dyn Volume>,
    path: PathBuf,
}

impl EvidenceFile {
    /// The file below `home`; it need not exist.
    pub fn new(volume: &Arc<dyn Volume>, home: &Path) -> Self {
        Self {
            volume: volume.clone(),
            path: home.join("evidence"),
        }
    }

    /// What was kept, oldest first. Signatures are for the caller to verify.
    pub fn read(&self) -> Vec<Evidence> {
        match self.bytes() {
            Err(error) => self.put_aside(&error),
            Ok(None) => Vec::new(),
            Ok(Some(bytes)) if bytes.len() > BYTES_MAX => {
                self.put_aside(&format_args!("more than the limit of {BYTES_MAX} bytes"))
            }
            Ok(Some(bytes)) => fusion_types::decode_exact(&bytes).unwrap_or_else(|error| self.put_aside(&error)),
        }
    }

    /// Its content, and one byte more than it may have.
    fn bytes(&self) -> Result<Option<Vec<u8>>, StoreError> {
        if !disk::exists(&*self.volume, &self.path)? {
            return Ok(None);
        }
        let file = disk::open(&*self.volume, &self.path)?;
        disk::read_start(&*file, &self.path, BYTES_MAX + 1).map(Some)
    }

    /// Replaces what is kept; durable when it returns.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be written; the old one stays.
    pub fn write(&self, evidence: &[Evidence]) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        alloy_rlp::encode_list(evidence, &mut bytes);
        disk::replace(&*self.volume, &self.path, &bytes, bytes.len() as u64, false).map(drop)
    }

    fn put_aside(&self, why: &dyn std::fmt::Display) -> Vec<Evidence> {
        tracing::error!(file = %self.path.display(), %why, "kept evidence cannot be read");
        match disk::move_aside(&*self.volume, &self.path) {
            Ok(aside) => tracing::error!(aside = %aside.display(), "it has another name now"),
            Err(error) => tracing::error!(%error, "it cannot be put aside either"),
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LocalVolume;
    use alloy_primitives::{B256, B512};
    use fusion_consensus::SignedVote;
    use fusion_types::{BlockId, Height, Round, ValidatorId, VoteKind};

    fn pair(height: u64) -> Evidence {
        let vote = |byte| SignedVote {
            height: Height(height),
            round: Round(1),
            kind: VoteKind::Precommit,
            block: Some(BlockId(B256::repeat_byte(byte))),
            validator: ValidatorId(B256::repeat_byte(7)),
            signature: B512::repeat_byte(byte),
        };
        Evidence::Votes(vote(1), vote(2))
    }

    #[test]
    fn what_is_written_is_read_back_and_damage_costs_no_start() {
        let home = tempfile::tempdir().unwrap();
        let file = EvidenceFile::new(&LocalVolume::shared(), home.path());
        assert_eq!(file.read(), Vec::new());
        let kept: Vec<_> = (0..EVIDENCE_MAX as u64).map(pair).collect();
        file.write(&kept).unwrap();
        assert_eq!(file.read(), kept);
        let mut bytes = std::fs::read(home.path().join("evidence")).unwrap();
        bytes.truncate(bytes.len() - 1);
        std::fs::write(home.path().join("evidence"), &bytes).unwrap();
        assert_eq!(file.read(), Vec::new());
        assert_eq!(std::fs::read(home.path().join("evidence.unusable-1")).unwrap(), bytes);
        assert_eq!(file.read(), Vec::new(), "and the next start finds none");
    }
}
