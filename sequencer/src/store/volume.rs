//! What the store asks of the folders and files that it lives on.
//!
//! Two of these exist: the system's (`local.rs`), and one in memory of the simulator, which loses whatever a power cut
//! may lose. So recovery is tested with the bytes and the order of writes of production. Everything here is a single
//! call of the system, and nothing is durable unless its doc says so. Leaves to others: what a sequence of such calls
//! amounts to, and errors that name the file (`disk.rs`).

use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Folders and files, by path.
pub trait Volume: Debug + Send + Sync {
    /// Creates a folder in one that is there; nothing happens if it is there already.
    ///
    /// # Errors
    /// The system's.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Whether there is a folder of this name, as far as can be seen.
    fn is_folder(&self, path: &Path) -> bool;

    /// Whether the name is taken.
    ///
    /// # Errors
    /// The system's, when that cannot be told.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// The names in a folder, in any order.
    ///
    /// # Errors
    /// The system's.
    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// The system's.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Takes a folder for this process alone, until what is returned is dropped.
    ///
    /// # Errors
    /// `WouldBlock` when another process has it; the system's.
    fn lock(&self, folder: &Path) -> io::Result<Arc<dyn VolumeFile>>;

    /// Opens a file that must exist, to read and to write.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>>;

    /// Creates an empty file, or empties the one of that name, to read and to write.
    ///
    /// # Errors
    /// The system's.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>>;

    /// Gives a file another name, in the place of the file that had it.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name, which must be free.
    ///
    /// # Errors
    /// The system's.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes a file's name away.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// A number that nobody outside can know.
    ///
    /// # Errors
    /// The system's.
    fn salt(&self) -> io::Result<u32>;

    /// How many threads may wait for syncs beside the caller's. With 0, files are synced one after the other, in order.
    fn sync_threads(&self) -> usize;
}

/// An open file.
pub trait VolumeFile: Debug + Send + Sync {
    /// Reads into `buffer`; fewer bytes than it holds, 0 only at the file's end.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The system's; then any part of them may be written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Its length, in bytes.
    ///
    /// # Errors
    /// The system's.
    fn length(&self) -> io::Result<u64>;

    /// Cuts it, or extends it with zeros that take no space.
    ///
    /// # Errors
    /// The system's.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Reserves space up to `length`, so that writing below it cannot fail for space. The file has at least that length
    /// then.
    ///
    /// # Errors
    /// The system's.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// The first offset from `offset` on that may hold anything but zeros; `None` if only holes follow.
    fn next_data(&self, offset: u64) -> Option<u64>;

    /// Makes its content durable, with as much of the rest as is needed to read it back.
    ///
    /// # Errors
    /// The system's; then nobody knows what is durable.
    fn sync_data(&self) -> io::Result<()>;

    /// Drops what memory holds of it and need not be written, so that it is read from the disk again.
    ///
    /// # Errors
    /// The system's.
    fn forget(&self) -> io::Result<()>;

    /// Makes its content and everything that is known about it durable, but for its name.
    ///
    /// # Errors
    /// As [`VolumeFile::sync_data`].
    fn sync_all(&self) -> io::Result<()>;
}
