//! Why the store cannot do what was asked, in words that name the file and the way out.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fusion_types::{Height, NetworkId};

/// Why the store cannot do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process has the folder.
    #[error("{path} is in use by another process")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The folder belongs to another network.
    #[error("{path} belongs to network {found}, the genesis given is of network {expected}")]
    Network {
        /// The file that says so.
        path: PathBuf,
        /// Network in the file.
        found: NetworkId,
        /// Network of the genesis.
        expected: NetworkId,
    },
    /// No space left. Nothing of the batch counts; the same batch may be committed again when there is space.
    #[error("no space left for {path}")]
    Full {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// Damage of the log before its end.
    #[error(
        "{path} is damaged at offset {offset} (height {height}): {what}; \
         stop the node and run `fusion db repair`, which fetches from other nodes what is damaged"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// The first height that is affected.
        height: Height,
        /// What is wrong.
        what: String,
    },
    /// Neither slot of the guard file is readable.
    #[error("{path} is unreadable: this key may have signed what nobody remembers")]
    GuardUnreadable {
        /// The guard file.
        path: PathBuf,
    },
    /// What is asked for does not follow what is there: a batch, or a first guard.
    #[error("{0}")]
    Order(String),
    /// The transaction or sequence number is not known, and the index has not reached the tip yet.
    #[error("the index is at height {indexed} of {tip}")]
    Indexing {
        /// Indexed up to here.
        indexed: Height,
        /// Height of the log.
        tip: Height,
    },
    /// The operating system failed us. Fatal: nothing may be written after it.
    #[error("cannot {action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        error: Arc<io::Error>,
    },
    /// An earlier failure was fatal.
    #[error("the store failed before: {0}")]
    Poisoned(String),
}

impl StoreError {
    /// Whether the same call may be made again, once there is space.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// Turns the system's answer into ours. A quota and a file size limit count as no space.
    pub(super) fn io(action: &'static str, path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full { path }
            }
            _ => Self::Io {
                action,
                path,
                error: Arc::new(error),
            },
        }
    }

    pub(super) fn corrupt(path: &Path, offset: u64, height: Height, what: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            offset,
            height,
            what: what.into(),
        }
    }
}
