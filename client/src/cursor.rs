//! A cursor that survives: one small file, replaced as a whole.
//!
//! Promises: after [`CursorFile::store`] returned, the cursor is on disk, and a crash at any moment leaves the old or
//! the new one. The file is bound to its network. Leaves to the reader of the stream: to store a cursor only when
//! everything before it is dealt with.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use fusion_types::{Cursor, NetworkId, RollupId};
use serde::{Deserialize, Serialize};

use crate::json::{Hash, NUMBER_END};

/// A cursor takes about 200 bytes.
const FILE_BYTES_MAX: u64 = 4096;

/// Where a reader keeps its place in one stream.
#[derive(Debug, Clone)]
pub struct CursorFile {
    path: PathBuf,
    network: NetworkId,
    rollup: RollupId,
}

/// Why a cursor cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum CursorError {
    /// Disk.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: std::io::Error,
    },
    /// Not a cursor.
    #[error("{path} holds no cursor: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another stream's.
    #[error("{path} is the cursor of rollup {rollup} on network {network}: use another file for another stream")]
    Stream {
        /// The file.
        path: PathBuf,
        /// Its rollup.
        rollup: u64,
        /// Its network.
        network: NetworkId,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    network: Hash,
    rollup: u64,
    sequence: u64,
    head: Hash,
}

impl CursorFile {
    /// The file at `path`, for one stream. Touches nothing yet.
    pub fn new(path: impl Into<PathBuf>, network: NetworkId, rollup: RollupId) -> Self {
        Self {
            path: path.into(),
            network,
            rollup,
        }
    }

    /// The stream that it is for.
    pub fn rollup(&self) -> RollupId {
        self.rollup
    }

    /// The stored cursor, or `None` if there is no file yet.
    ///
    /// # Errors
    /// [`CursorError`] when the file cannot be read, holds something else, or belongs to another stream.
    pub fn load(&self) -> Result<Option<Cursor>, CursorError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.io(error)),
        };
        let mut text = String::new();
        file.take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|error| self.io(error))?;
        let content: Content = serde_json::from_str(&text).map_err(|error| self.content(error.to_string()))?;
        if content.rollup != self.rollup.0 || content.network.0 != self.network.0 {
            return Err(CursorError::Stream {
                path: self.path.clone(),
                rollup: content.rollup,
                network: NetworkId(content.network.0),
            });
        }
        if content.sequence >= NUMBER_END {
            return Err(self.content(format!("sequence is {}, it must be below 2^53", content.sequence)));
        }
        Ok(Some(Cursor {
            rollup: self.rollup,
            sequence: content.sequence,
            head: content.head.0,
        }))
    }

    /// Replaces the stored cursor. Blocks for a flush to disk: a fraction of a millisecond to some.
    ///
    /// # Errors
    /// [`CursorError`] when the disk refuses; the old cursor then still stands.
    pub fn store(&self, cursor: &Cursor) -> Result<(), CursorError> {
        let content = Content {
            network: Hash(self.network.0),
            rollup: cursor.rollup.0,
            sequence: cursor.sequence,
            head: Hash(cursor.head),
        };
        let text = serde_json::to_string(&content).map_err(|error| self.content(error.to_string()))?;
        self.replace(text.as_bytes()).map_err(|error| self.io(error))
    }

    /// Temporary file, flush, rename, flush of the folder: a rename is durable only with its folder.
    fn replace(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".tmp");
        let temporary = PathBuf::from(name);
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    }

    fn io(&self, error: std::io::Error) -> CursorError {
        CursorError::Io {
            path: self.path.clone(),
            error,
        }
    }

    fn content(&self, reason: String) -> CursorError {
        CursorError::Content {
            path: self.path.clone(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    fn file(folder: &Path) -> CursorFile {
        CursorFile::new(
            folder.join("cursor.json"),
            NetworkId(B256::repeat_byte(7)),
            RollupId(901),
        )
    }

    #[test]
    fn what_was_stored_last_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        assert_eq!(file.load().unwrap(), None);
        for sequence in [0, 5, 1 << 40] {
            let cursor = Cursor {
                rollup: RollupId(901),
                sequence,
                head: B256::repeat_byte(9),
            };
            file.store(&cursor).unwrap();
            assert_eq!(file.load().unwrap(), Some(cursor));
        }
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no temporary file stays"
        );
    }

    #[test]
    fn a_half_written_temporary_file_does_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        let cursor = Cursor {
            rollup: RollupId(901),
            sequence: 3,
            head: B256::ZERO,
        };
        file.store(&cursor).unwrap();
        fs::write(folder.path().join("cursor.json.tmp"), "{\"net").unwrap();
        assert_eq!(file.load().unwrap(), Some(cursor));
        file.store(&cursor).unwrap();
    }

    #[test]
    fn a_cursor_of_another_stream_or_no_cursor_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        file.store(&Cursor {
            rollup: RollupId(901),
            sequence: 3,
            head: B256::ZERO,
        })
        .unwrap();
        let path = folder.path().join("cursor.json");
        let other_rollup = CursorFile::new(&path, file.network, RollupId(902));
        assert!(matches!(
            other_rollup.load(),
            Err(CursorError::Stream { rollup: 901, .. })
        ));
        let other_network = CursorFile::new(&path, NetworkId(B256::ZERO), RollupId(901));
        assert!(matches!(other_network.load(), Err(CursorError::Stream { .. })));
        for text in ["", "{}", "[1]", "{\"network\":1}"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(file.load(), Err(CursorError::Content { .. })), "{text}");
        }
    }
}
