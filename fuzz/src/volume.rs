//! Files in memory that never fail: what the store is opened on with bytes of the fuzzer's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fusion_sequencer::store::{Volume, VolumeFile};

/// Folders and files; folders are whatever somebody created.
#[derive(Debug, Default)]
pub struct Memory {
    files: Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>,
    folders: Mutex<Vec<PathBuf>>,
}

/// A file: what was written, and zeros up to its length, which take no memory.
#[derive(Debug, Default)]
pub struct MemoryFile(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    length: u64,
}

/// Compares many bytes at once: files of the write-ahead log are 4 MiB of zeros.
const ZEROS: [u8; 4096] = [0; 4096];

/// The first byte that is not zero.
fn first_data(bytes: &[u8]) -> Option<usize> {
    let full = |(_, chunk): &(usize, &[u8])| *chunk != &ZEROS[..chunk.len()];
    let (at, chunk) = bytes.chunks(ZEROS.len()).enumerate().find(full)?;
    let inside = chunk.iter().position(|byte| *byte != 0)?;
    Some(at * ZEROS.len() + inside)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// Puts a file there, of at least `length` bytes.
    pub fn put(&self, path: &Path, bytes: &[u8], length: u64) {
        let content = Content {
            bytes: bytes.to_vec(),
            length: length.max(bytes.len() as u64),
        };
        let file = Arc::new(MemoryFile(Mutex::new(content)));
        locked(&self.files).insert(path.to_owned(), file);
        let mut folder = path.parent();
        while let Some(path) = folder {
            locked(&self.folders).push(path.to_owned());
            folder = path.parent();
        }
    }

    /// What stands in a file, without the zeros at its end.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let file = locked(&self.files).get(path).cloned()?;
        let content = locked(&file.0);
        let end = content.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        Some(content.bytes[..end].to_vec())
    }

    fn found(&self, path: &Path) -> io::Result<Arc<MemoryFile>> {
        let file = locked(&self.files).get(path).cloned();
        file.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Volume for Memory {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        locked(&self.folders).push(path.to_owned());
        Ok(())
    }

    fn is_folder(&self, path: &Path) -> bool {
        locked(&self.folders).iter().any(|folder| folder == path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(locked(&self.files).contains_key(path) || self.is_folder(path))
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let files = locked(&self.files);
        let inside = files.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside.filter_map(|path| path.file_name()).map(OsString::from).collect())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        Ok(Arc::new(MemoryFile::default()))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        self.found(path).map(|file| file as _)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        let file = Arc::new(MemoryFile::default());
        locked(&self.files).insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.found(from)?;
        let mut files = locked(&self.files);
        files.remove(from);
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.found(from)?;
        locked(&self.files).insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        locked(&self.files).remove(path);
        Ok(())
    }

    fn salt(&self) -> io::Result<u32> {
        Ok(0x5a17)
    }

    fn sync_threads(&self) -> usize {
        0
    }
}

impl VolumeFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = locked(&self.0);
        let left = content.length.saturating_sub(offset);
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.bytes.len());
        let there = (content.bytes.len() - from).min(count);
        buffer[..there].copy_from_slice(&content.bytes[from..from + there]);
        buffer[there..count].fill(0);
        Ok(count)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut content = locked(&self.0);
        let at = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let end = at + bytes.len();
        content.length = content.length.max(end as u64);
        let zeros = first_data(bytes).is_none();
        if content.bytes.len() < end && !zeros {
            content.bytes.resize(end, 0);
        }
        let end = end.min(content.bytes.len());
        if at < end {
            content.bytes[at..end].copy_from_slice(&bytes[..end - at]);
        }
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(locked(&self.0).length)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut content = locked(&self.0);
        content.length = length;
        let kept = usize::try_from(length).unwrap_or(usize::MAX);
        content.bytes.truncate(kept);
        Ok(())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut content = locked(&self.0);
        content.length = content.length.max(length);
        Ok(())
    }

    fn next_data(&self, offset: u64) -> Option<u64> {
        let content = locked(&self.0);
        let from = usize::try_from(offset).ok()?;
        let rest = content.bytes.get(from..)?;
        first_data(rest).map(|at| offset + at as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn forget(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
}
