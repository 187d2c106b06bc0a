//! The calls of the store, answered by the simulated disk.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::{Arc, MutexGuard};

use fusion_sequencer::store::{Volume, VolumeFile};

use super::{Disk, Entry, Naming, SimVolume, State, broken, missing, powerless};

/// Stands for an open folder, which holds no bytes.
const FOLDER: u64 = u64::MAX;

#[derive(Debug)]
struct SimFile {
    disk: Arc<Disk>,
    file: u64,
    /// Of which life it is: files of an earlier one are closed.
    life: u64,
}

impl SimVolume {
    fn handle(&self, file: u64, life: u64) -> Arc<dyn VolumeFile> {
        let disk = self.0.clone();
        Arc::new(SimFile { disk, file, life })
    }
}

impl Volume for SimVolume {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.state();
        state.alive()?;
        if state.is_folder(path) {
            return Ok(());
        }
        state.name(None, Some((path, Entry::Folder)))
    }

    fn is_folder(&self, path: &Path) -> bool {
        let state = self.0.state();
        state.on && state.is_folder(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.0.state();
        state.alive()?;
        Ok(state.is_folder(path) || state.names.contains_key(path))
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let state = self.0.state();
        state.alive()?;
        if !state.is_folder(folder) {
            return Err(missing());
        }
        let inside = state.names.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_owned())).collect())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.0.state();
        state.alive()?;
        state.step()?;
        let pending = std::mem::take(&mut state.pending_names);
        let (now, later) = pending.into_iter().partition(|naming| naming.is_in(folder));
        let (now, later): (Vec<Naming>, Vec<Naming>) = (now, later);
        now.iter().for_each(|naming| naming.apply(&mut state.durable_names));
        state.pending_names = later;
        Ok(())
    }

    /// Nobody else is there to have it.
    fn lock(&self, folder: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        let state = self.0.state();
        state.alive()?;
        if !state.is_folder(folder) {
            return Err(missing());
        }
        let life = state.life;
        drop(state);
        Ok(self.handle(FOLDER, life))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        let state = self.0.state();
        state.alive()?;
        let (file, life) = (state.find(path)?, state.life);
        drop(state);
        Ok(self.handle(file, life))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        let mut state = self.0.state();
        state.alive()?;
        let life = state.life;
        if let Ok(file) = state.find(path) {
            state.inode(file).set_length(0);
            state.step()?;
            drop(state);
            return Ok(self.handle(file, life));
        }
        let file = state.next_file;
        state.next_file += 1;
        state.inode(file);
        state.name(None, Some((path, Entry::File(file))))?;
        drop(state);
        Ok(self.handle(file, life))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.state();
        state.alive()?;
        let file = state.find(from)?;
        state.name(Some(from), Some((to, Entry::File(file))))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.state();
        state.alive()?;
        let file = state.find(from)?;
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.name(None, Some((to, Entry::File(file))))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.state();
        state.alive()?;
        state.find(path)?;
        state.name(Some(path), None)
    }

    fn salt(&self) -> io::Result<u32> {
        Ok(self.0.state().rng.next() as u32)
    }

    fn sync_threads(&self) -> usize {
        0
    }
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        state.alive()?;
        if state.life == self.life {
            Ok(state)
        } else {
            Err(powerless())
        }
    }
}

impl VolumeFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        if state.fails(self.file, false) {
            return Err(broken());
        }
        Ok(state.inode(self.file).seen.read(buffer, offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.take_space(self.file, offset + bytes.len() as u64)?;
        state.inode(self.file).write(bytes, offset);
        state.step()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.state()?.inode(self.file).seen.length)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let before = state.inode(self.file).space;
        state.inode(self.file).set_length(length);
        let freed = before - state.inode(self.file).space;
        if let Some(free) = &mut state.space {
            *free += freed;
        }
        state.step()
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.take_space(self.file, length)?;
        state.inode(self.file).grow(length);
        state.step()
    }

    fn next_data(&self, offset: u64) -> Option<u64> {
        self.state().ok()?.inode(self.file).seen.next_data(offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state()?.sync(self.file)
    }

    fn forget(&self) -> io::Result<()> {
        self.state()?.alive()?;
        self.state()?.inode(self.file).forget();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}
