//! The system calls of the store, with errors that name what was tried on which file.
//!
//! Promises: a file that [`replace`] created is whole and findable after a power cut. Leaves to others: all formats.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, FlockOperation};

use super::StoreError;

/// Creates a folder, and makes its name durable.
pub(super) fn create_dir(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(|e| StoreError::io("create", path, e))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Makes the names in a folder durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let dir = File::open(path).map_err(|e| StoreError::io("open", path, e))?;
    dir.sync_all().map_err(|e| StoreError::io("sync", path, e))
}

/// Opens a file that must exist, to read and to write.
pub(super) fn open(path: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.map_err(|e| StoreError::io("open", path, e))
}

/// How long a restart waits for the process before it to be gone.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Pause between two tries to lock.
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// Takes a folder for this process alone, until the returned file is dropped.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let dir = File::open(path).map_err(|e| StoreError::io("open", path, e))?;
    match lock_soon(&dir) {
        Ok(()) => Ok(dir),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked { path: path.to_owned() }),
        Err(error) => Err(StoreError::io("lock", path, error.into())),
    }
}

/// Locks a file for this process alone. A process that was killed a moment ago may still be closing its files, so that a
/// restart tries for [`LOCK_PATIENCE`].
///
/// # Errors
/// `WOULDBLOCK` when another process keeps the lock.
pub(crate) fn lock_soon(file: &File) -> rustix::io::Result<()> {
    let started = Instant::now();
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if started.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_RETRY),
            result => return result,
        }
    }
}

/// Puts a file of `bytes`, followed by zeros up to `length`, in the place of `path`; durable when it returns.
/// With `written` the zeros are really written: overwriting them later changes no metadata, which makes syncs cheap.
pub(super) fn replace(path: &Path, bytes: &[u8], length: u64, written: bool) -> Result<File, StoreError> {
    let file = draft(path, bytes, length, written)?;
    publish(path)?;
    Ok(file)
}

/// The first half of [`replace`]: the file is durable, but under another name.
pub(super) fn draft(path: &Path, bytes: &[u8], length: u64, written: bool) -> Result<File, StoreError> {
    let draft = draft_of(path);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&draft)
        .map_err(|e| StoreError::io("create", &draft, e))?;
    let filled = fill(&file, &draft, bytes, length, written);
    if filled.is_err() {
        discard(path);
    }
    filled.map(|()| file)
}

/// Removes the draft of a file that will not be published: it means nothing to anybody, and takes space.
pub(super) fn discard(path: &Path) {
    drop(fs::remove_file(draft_of(path)));
}

/// The second half of [`replace`]: the file gets its name.
pub(super) fn publish(path: &Path) -> Result<(), StoreError> {
    let draft = draft_of(path);
    fs::rename(&draft, path).map_err(|e| StoreError::io("rename", &draft, e))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Gives a file a name under which nobody looks for it, and returns that name. It is durable with the next sync of the folder.
pub(super) fn move_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let aside = name_aside(path);
    fs::rename(path, &aside).map_err(|e| StoreError::io("rename", path, e))?;
    Ok(aside)
}

/// Gives a file a second such name, which stays when another file takes the first.
pub(super) fn link_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let aside = name_aside(path);
    fs::hard_link(path, &aside).map_err(|e| StoreError::io("link", path, e))?;
    Ok(aside)
}

fn name_aside(path: &Path) -> PathBuf {
    let named = |number: u64| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".unusable-{number}"));
        PathBuf::from(name)
    };
    let aside = (1..).map(named).find(|name| !name.exists());
    aside.expect("no folder has 2^64 files")
}

fn fill(file: &File, path: &Path, bytes: &[u8], length: u64, written: bool) -> Result<(), StoreError> {
    allocate(file, path, length)?;
    write_at(file, path, bytes, 0)?;
    let mut offset = bytes.len() as u64;
    let zeros = [0; 64 * 1024];
    while written && offset < length {
        let step = (length - offset).min(zeros.len() as u64);
        write_at(file, path, &zeros[..usize::try_from(step).unwrap_or(0)], offset)?;
        offset += step;
    }
    file.sync_all().map_err(|e| StoreError::io("sync", path, e))
}

/// Where a file is written before it gets its name.
fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// Reserves space up to `length`, so that writing below it cannot fail for space.
pub(super) fn allocate(file: &File, path: &Path, length: u64) -> Result<(), StoreError> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length) {
        Ok(()) => Ok(()),
        // A filesystem that cannot reserve: writes then may say that it is full.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            let now = length_of(file, path)?;
            let grown = file.set_len(length.max(now));
            grown.map_err(|e| StoreError::io("extend", path, e))
        }
        Err(error) => Err(StoreError::io("reserve space for", path, error.into())),
    }
}

/// Length of a file, in bytes.
pub(super) fn length_of(file: &File, path: &Path) -> Result<u64, StoreError> {
    let metadata = file.metadata().map_err(|e| StoreError::io("inspect", path, e))?;
    Ok(metadata.len())
}

/// Writes all of `bytes`.
pub(super) fn write_at(file: &File, path: &Path, bytes: &[u8], offset: u64) -> Result<(), StoreError> {
    file.write_all_at(bytes, offset)
        .map_err(|e| StoreError::io("write", path, e))
}

/// Reads as much of `buffer` as the file has.
pub(super) fn read_at(file: &File, path: &Path, buffer: &mut [u8], offset: u64) -> Result<usize, StoreError> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(StoreError::io("read", path, error)),
        }
    }
    Ok(done)
}

/// Reads a whole small file, at most `max` bytes of it.
pub(super) fn read_start(file: &File, path: &Path, max: usize) -> Result<Vec<u8>, StoreError> {
    let length = usize::try_from(length_of(file, path)?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length.min(max)];
    let count = read_at(file, path, &mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Makes what was written durable (`fdatasync`).
pub(super) fn sync(file: &File, path: &Path) -> Result<(), StoreError> {
    // Never "full": after a failed sync nobody knows what is on the disk, so it is fatal whatever its code.
    file.sync_data().map_err(|error| StoreError::Io {
        action: "sync",
        path: path.to_owned(),
        error: error.into(),
    })
}

/// Cuts a file at `length`.
pub(super) fn truncate(file: &File, path: &Path, length: u64) -> Result<(), StoreError> {
    file.set_len(length).map_err(|e| StoreError::io("truncate", path, e))
}

/// The first offset from `offset` on that may hold anything but zeros; `None` if only holes follow.
pub(super) fn next_data(file: &File, offset: u64) -> Option<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
        Ok(at) => Some(at.max(offset)),
        Err(rustix::io::Errno::NXIO) => None,
        // Not every filesystem tells; then everything is looked at.
        Err(_) => Some(offset),
    }
}
