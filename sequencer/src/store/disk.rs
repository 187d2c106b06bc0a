//! What the store does with files, with errors that name what was tried on which file.
//!
//! Promises: a file that [`replace`] created is whole and findable after a power cut. Leaves to others: the system
//! calls (`local.rs`), and all formats.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StoreError;
use super::volume::{Volume, VolumeFile};

/// Creates a folder with those above it, and makes their names durable.
pub(super) fn create_dir(volume: &dyn Volume, path: &Path) -> Result<(), StoreError> {
    if path.as_os_str().is_empty() || volume.is_folder(path) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_dir(volume, parent)?;
    }
    volume
        .create_folder(path)
        .map_err(|e| StoreError::io("create", path, e))?;
    path.parent().map_or(Ok(()), |parent| sync_dir(volume, parent))
}

/// Makes the name of a folder durable that a process may have created and not lived to sync. Where the folder above may
/// not be read, nobody like us has created it.
pub(super) fn settle_name(volume: &dyn Volume, folder: &Path) -> Result<(), StoreError> {
    match folder.parent().map_or(Ok(()), |parent| sync_dir(volume, parent)) {
        Err(StoreError::Io { error, .. }) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_dir(volume: &dyn Volume, path: &Path) -> Result<(), StoreError> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    volume.sync_folder(path).map_err(|e| StoreError::io("sync", path, e))
}

/// Whether the name is taken. An error is neither: a volume that is not mounted may hold a good file.
pub(super) fn exists(volume: &dyn Volume, path: &Path) -> Result<bool, StoreError> {
    volume.exists(path).map_err(|e| StoreError::io("look at", path, e))
}

/// Opens a file that must exist, to read and to write.
pub(super) fn open(volume: &dyn Volume, path: &Path) -> Result<Arc<dyn VolumeFile>, StoreError> {
    volume.open(path).map_err(|e| StoreError::io("open", path, e))
}

/// Opens a file that another process may have written and not lived to sync: what is read from it is durable. A sync
/// that failed leaves bytes in memory that the system takes for written; they are dropped, and what is on the disk is
/// read instead.
pub(super) fn open_settled(volume: &dyn Volume, path: &Path) -> Result<Arc<dyn VolumeFile>, StoreError> {
    let file = open(volume, path)?;
    settle(&*file, path)?;
    Ok(file)
}

/// As [`open_settled`], for a file that is open.
pub(super) fn settle(file: &dyn VolumeFile, path: &Path) -> Result<(), StoreError> {
    sync(file, path)?;
    file.forget().map_err(|e| StoreError::io("read again", path, e))
}

/// Takes a folder for this process alone, until what is returned is dropped.
pub(super) fn lock(volume: &dyn Volume, path: &Path) -> Result<Arc<dyn VolumeFile>, StoreError> {
    volume.lock(path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => StoreError::Locked { path: path.to_owned() },
        _ => StoreError::io("lock", path, error),
    })
}

/// A number that nobody outside can know.
pub(super) fn salt(volume: &dyn Volume) -> Result<u32, StoreError> {
    let salt = volume.salt();
    salt.map_err(|error| StoreError::io("read", Path::new("/dev/urandom"), error))
}

/// Puts a file of `bytes`, followed by zeros up to `length`, in the place of `path`; durable when it returns.
/// With `written` the zeros are really written: overwriting them later changes no metadata, which makes syncs cheap.
pub(super) fn replace(
    volume: &dyn Volume,
    path: &Path,
    bytes: &[u8],
    length: u64,
    written: bool,
) -> Result<Arc<dyn VolumeFile>, StoreError> {
    let file = draft(volume, path, bytes, length, written)?;
    publish(volume, path)?;
    Ok(file)
}

/// The first half of [`replace`]: the file is durable, but under another name.
pub(super) fn draft(
    volume: &dyn Volume,
    path: &Path,
    bytes: &[u8],
    length: u64,
    written: bool,
) -> Result<Arc<dyn VolumeFile>, StoreError> {
    let draft = draft_of(path);
    let file = volume.create(&draft).map_err(|e| StoreError::io("create", &draft, e))?;
    let filled = fill(&*file, &draft, bytes, length, written);
    if filled.is_err() {
        discard(volume, path);
    }
    filled.map(|()| file)
}

/// Removes the draft of a file that will not be published: it means nothing to anybody, and takes space.
pub(super) fn discard(volume: &dyn Volume, path: &Path) {
    drop(volume.remove(&draft_of(path)));
}

/// The second half of [`replace`]: the file gets its name.
pub(super) fn publish(volume: &dyn Volume, path: &Path) -> Result<(), StoreError> {
    let draft = draft_of(path);
    let renamed = volume.rename(&draft, path);
    renamed.map_err(|e| StoreError::io("rename", &draft, e))?;
    path.parent().map_or(Ok(()), |parent| sync_dir(volume, parent))
}

/// Gives a file a name under which nobody looks for it, and returns that name. It is durable with the next sync of the
/// folder.
pub(super) fn move_aside(volume: &dyn Volume, path: &Path) -> Result<PathBuf, StoreError> {
    let aside = name_aside(volume, path)?;
    let renamed = volume.rename(path, &aside);
    renamed.map_err(|e| StoreError::io("rename", path, e))?;
    Ok(aside)
}

/// Gives a file a second such name, which stays when another file takes the first.
pub(super) fn link_aside(volume: &dyn Volume, path: &Path) -> Result<PathBuf, StoreError> {
    let aside = name_aside(volume, path)?;
    let linked = volume.link(path, &aside);
    linked.map_err(|e| StoreError::io("link", path, e))?;
    Ok(aside)
}

fn name_aside(volume: &dyn Volume, path: &Path) -> Result<PathBuf, StoreError> {
    for number in 1_u64.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".unusable-{number}"));
        let aside = PathBuf::from(name);
        if !exists(volume, &aside)? {
            return Ok(aside);
        }
    }
    unreachable!("no folder has 2^64 files")
}

fn fill(file: &dyn VolumeFile, path: &Path, bytes: &[u8], length: u64, written: bool) -> Result<(), StoreError> {
    allocate(file, path, length)?;
    write_at(file, path, bytes, 0)?;
    let mut offset = bytes.len() as u64;
    let zeros = [0; 64 * 1024];
    while written && offset < length {
        let step = (length - offset).min(zeros.len() as u64);
        write_at(file, path, &zeros[..usize::try_from(step).unwrap_or(0)], offset)?;
        offset += step;
    }
    sync_all(file, path)
}

/// Where a file is written before it gets its name.
fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// Reserves space up to `length`, so that writing below it cannot fail for space.
pub(super) fn allocate(file: &dyn VolumeFile, path: &Path, length: u64) -> Result<(), StoreError> {
    let reserved = file.allocate(length);
    reserved.map_err(|e| StoreError::io("reserve space for", path, e))
}

/// Length of a file, in bytes.
pub(super) fn length_of(file: &dyn VolumeFile, path: &Path) -> Result<u64, StoreError> {
    file.length().map_err(|e| StoreError::io("inspect", path, e))
}

/// Writes all of `bytes`.
pub(super) fn write_at(file: &dyn VolumeFile, path: &Path, bytes: &[u8], offset: u64) -> Result<(), StoreError> {
    let written = file.write_all_at(bytes, offset);
    written.map_err(|e| StoreError::io("write", path, e))
}

/// Reads as much of `buffer` as the file has.
pub(super) fn read_at(file: &dyn VolumeFile, path: &Path, buffer: &mut [u8], offset: u64) -> Result<usize, StoreError> {
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
pub(super) fn read_start(file: &dyn VolumeFile, path: &Path, max: usize) -> Result<Vec<u8>, StoreError> {
    let length = usize::try_from(length_of(file, path)?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length.min(max)];
    let count = read_at(file, path, &mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Makes what was written durable (`fdatasync`).
pub(super) fn sync(file: &dyn VolumeFile, path: &Path) -> Result<(), StoreError> {
    // Never "full": after a failed sync nobody knows what is on the disk, so it is fatal whatever its code.
    file.sync_data().map_err(|error| StoreError::Io {
        action: "sync",
        path: path.to_owned(),
        error: error.into(),
    })
}

/// Makes a file that is new or was cut durable (`fsync`).
pub(super) fn sync_all(file: &dyn VolumeFile, path: &Path) -> Result<(), StoreError> {
    file.sync_all().map_err(|e| StoreError::io("sync", path, e))
}

/// Cuts a file at `length`.
pub(super) fn truncate(file: &dyn VolumeFile, path: &Path, length: u64) -> Result<(), StoreError> {
    let cut = file.set_length(length);
    cut.map_err(|e| StoreError::io("truncate", path, e))
}
