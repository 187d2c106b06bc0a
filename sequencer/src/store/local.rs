//! The volume of production: the system calls, one each.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, FlockOperation, SeekFrom};
use rustix::io::Errno;

use super::volume::{Volume, VolumeFile};

/// How long a restart waits for the process before it to be gone.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Pause between two tries to lock.
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// A commit writes three files: two of them wait elsewhere.
const SYNC_THREADS: usize = 2;

/// The folders and files of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalVolume;

impl LocalVolume {
    /// As the store takes it.
    pub fn shared() -> Arc<dyn Volume> {
        Arc::new(Self)
    }
}

/// Locks a file for this process alone. A process that was killed a moment ago may still be closing its files, so that
/// a restart tries for [`LOCK_PATIENCE`].
///
/// # Errors
/// `WOULDBLOCK` when another process keeps the lock.
pub(crate) fn lock_soon(file: &File) -> rustix::io::Result<()> {
    let started = Instant::now();
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if started.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_RETRY),
            result => return result,
        }
    }
}

impl Volume for LocalVolume {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(_) if path.is_dir() => Ok(()),
            result => result,
        }
    }

    fn is_folder(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let entries = fs::read_dir(folder)?;
        entries.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn lock(&self, folder: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        let folder = File::open(folder)?;
        lock_soon(&folder)?;
        Ok(Arc::new(folder))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(file))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true);
        Ok(Arc::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn salt(&self) -> io::Result<u32> {
        getrandom::u32().map_err(|error| io::Error::other(error.to_string()))
    }

    fn sync_threads(&self) -> usize {
        SYNC_THREADS
    }
}

impl VolumeFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self, FallocateFlags::empty(), 0, length) {
            // A filesystem that cannot reserve: writes then may say that it is full.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.set_len(length.max(self.metadata()?.len())),
            result => Ok(result?),
        }
    }

    fn next_data(&self, offset: u64) -> Option<u64> {
        match rustix::fs::seek(self, SeekFrom::Data(offset)) {
            Ok(at) => Some(at.max(offset)),
            Err(Errno::NXIO) => None,
            // Not every filesystem tells; then everything is looked at.
            Err(_) => Some(offset),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn forget(&self) -> io::Result<()> {
        // Pages that are clean leave memory; those of a failed sync are taken for clean.
        Ok(rustix::fs::fadvise(self, 0, None, rustix::fs::Advice::DontNeed)?)
    }

    fn sync_all(&self) -> io::Result<()> {
        Self::sync_all(self)
    }
}
