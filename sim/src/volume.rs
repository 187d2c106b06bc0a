//! A disk in memory that loses whatever a real one may lose: the store's real code runs on it, in one thread.
//!
//! A write is pending until its file is synced, a name until its folder is. When the power goes, every pending write
//! survives wholly, not at all, as a prefix, as any of its 512-byte sectors, or as length alone; every pending name
//! survives or does not. The world also says when the disk is full, fails a sync or a read, is slow, and what damage it
//! takes at rest. One seed, one fate.
//!
//! The life of a node: [`SimVolume::shared`] goes into `Files::open`. [`SimVolume::power_off`] or
//! [`SimVolume::power_off_after`] end that life: all files that are open answer errors from then on.
//! [`SimVolume::power_on`] begins the next. [`SimVolume::kill_after`] and [`SimVolume::start_again`] are the same for
//! the process alone: what it wrote is still there, and still pending.

mod calls;
mod content;
mod counts;
#[cfg(test)]
mod tests;
pub(crate) use counts::Counts;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use content::{Content, Inode};
use fusion_sequencer::store::Volume;

use crate::rng::Rng;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Folder,
    File(u64),
}

/// A change of names that is not durable. A rename is one change: it happens wholly or not at all.
#[derive(Debug, Clone)]
struct Naming {
    gone: Option<PathBuf>,
    set: Option<(PathBuf, Entry)>,
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Entry>) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((path, entry)) = &self.set {
            names.insert(path.clone(), *entry);
        }
    }

    fn is_in(&self, folder: &Path) -> bool {
        let path = self.set.as_ref().map(|(path, _)| path).or(self.gone.as_ref());
        path.and_then(|path| path.parent()) == Some(folder)
    }
}

/// A fault that is due: how often yet, and of which file, or of any.
#[derive(Debug, Clone, Default)]
struct Due {
    times: u64,
    only: Option<PathBuf>,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    files: BTreeMap<u64, Inode>,
    next_file: u64,
    names: BTreeMap<PathBuf, Entry>,
    durable_names: BTreeMap<PathBuf, Entry>,
    pending_names: Vec<Naming>,
    /// A process runs.
    on: bool,
    /// What is pending may still become durable.
    powered: bool,
    life: u64,
    operations: u64,
    /// When the power goes, or the process dies.
    power_off_at: Option<u64>,
    kill_at: Option<u64>,
    space: Option<u64>,
    failing_syncs: Due,
    failing_reads: Due,
    sync_takes: Duration,
    waited: Duration,
    counts: Counts,
}

#[derive(Debug)]
struct Disk(Mutex<State>);

/// A disk, as the world sees it. A copy is the same disk.
#[derive(Debug, Clone)]
pub(crate) struct SimVolume(Arc<Disk>);

/// Everything durable on a disk at some moment, as a backup has it.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    names: BTreeMap<PathBuf, Entry>,
    contents: BTreeMap<u64, Content>,
}

fn powerless() -> io::Error {
    io::Error::other("the power is off")
}

fn broken() -> io::Error {
    const EIO: i32 = 5;
    io::Error::from_raw_os_error(EIO)
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.on { Ok(()) } else { Err(powerless()) }
    }

    /// Counts an operation that changes something; an error if the power goes with it.
    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self.power_off_at.is_some_and(|at| at <= self.operations) {
            self.counts.crashes_inside += 1;
            self.power_off();
            return Err(powerless());
        }
        if self.kill_at.is_some_and(|at| at <= self.operations) {
            self.counts.kills += 1;
            self.kill_at = None;
            self.on = false;
            return Err(powerless());
        }
        Ok(())
    }

    fn power_off(&mut self) {
        self.counts.crashes += 1;
        self.on = false;
        self.powered = false;
        self.power_off_at = None;
        self.kill_at = None;
        for naming in std::mem::take(&mut self.pending_names) {
            if self.rng.chance(500) {
                self.counts.names_kept += 1;
                naming.apply(&mut self.durable_names);
            } else {
                self.counts.names_lost += 1;
            }
        }
        self.names = self.durable_names.clone();
        self.forget_unreachable();
        for file in self.files.values_mut() {
            file.crash(&mut self.rng, &mut self.counts);
        }
    }

    /// Names whose folder is gone, and files without a name.
    fn forget_unreachable(&mut self) {
        let mut kept: BTreeMap<PathBuf, Entry> = BTreeMap::new();
        for (path, entry) in std::mem::take(&mut self.names) {
            let is_kept = |folder| folder == Path::new("/") || kept.get(folder) == Some(&Entry::Folder);
            if path.parent().is_some_and(is_kept) {
                kept.insert(path, entry);
            }
        }
        self.durable_names.clone_from(&kept);
        let named: Vec<u64> = kept.values().filter_map(|entry| entry.file()).collect();
        self.files.retain(|file, _| named.contains(file));
        self.names = kept;
    }

    fn is_folder(&self, path: &Path) -> bool {
        path == Path::new("/") || self.names.get(path) == Some(&Entry::Folder)
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).and_then(|entry| entry.file()).ok_or_else(missing)
    }

    fn name(&mut self, gone: Option<&Path>, set: Option<(&Path, Entry)>) -> io::Result<()> {
        let path = set.map(|(path, _)| path).or(gone);
        if !path.and_then(Path::parent).is_some_and(|folder| self.is_folder(folder)) {
            return Err(missing());
        }
        let naming = Naming {
            gone: gone.map(Path::to_owned),
            set: set.map(|(path, entry)| (path.to_owned(), entry)),
        };
        naming.apply(&mut self.names);
        self.pending_names.push(naming);
        self.step()
    }

    fn inode(&mut self, file: u64) -> &mut Inode {
        self.files.entry(file).or_default()
    }

    /// Takes space for a file up to `length`.
    fn take_space(&mut self, file: u64, length: u64) -> io::Result<()> {
        let more = length.saturating_sub(self.inode(file).space);
        if let Some(free) = &mut self.space {
            if more > *free {
                self.counts.full += 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            *free -= more;
        }
        let inode = self.inode(file);
        inode.space = inode.space.max(length);
        Ok(())
    }

    fn fails(&mut self, file: u64, syncing: bool) -> bool {
        let due = if syncing {
            &self.failing_syncs
        } else {
            &self.failing_reads
        };
        let hit = due
            .only
            .as_ref()
            .is_none_or(|path| self.find(path).is_ok_and(|found| found == file));
        let fails = hit && due.times > 0;
        if fails {
            let (due, count) = if syncing {
                (&mut self.failing_syncs, &mut self.counts.syncs_failed)
            } else {
                (&mut self.failing_reads, &mut self.counts.reads_failed)
            };
            due.times = due.times.saturating_sub(u64::from(due.times != u64::MAX));
            *count += 1;
        }
        fails
    }

    fn sync(&mut self, file: u64) -> io::Result<()> {
        self.step()?;
        if self.sync_takes > Duration::ZERO {
            self.counts.syncs_slow += 1;
            self.waited += self.sync_takes;
        }
        if !self.fails(file, true) {
            self.inode(file).sync();
            return Ok(());
        }
        let inode = self.files.get_mut(&file).ok_or_else(missing)?;
        inode.sync_fails(&mut self.rng, &mut self.counts);
        Err(broken())
    }
}

impl Entry {
    fn file(self) -> Option<u64> {
        match self {
            Self::Folder => None,
            Self::File(file) => Some(file),
        }
    }
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimVolume {
    pub(crate) fn new(seed: u64) -> Self {
        let state = State {
            rng: Rng::new(seed),
            files: BTreeMap::new(),
            next_file: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            on: true,
            powered: true,
            life: 0,
            operations: 0,
            power_off_at: None,
            kill_at: None,
            space: None,
            failing_syncs: Due::default(),
            failing_reads: Due::default(),
            sync_takes: Duration::ZERO,
            waited: Duration::ZERO,
            counts: Counts::default(),
        };
        Self(Arc::new(Disk(Mutex::new(state))))
    }

    /// As the store takes it.
    pub(crate) fn shared(&self) -> Arc<dyn Volume> {
        Arc::new(self.clone())
    }

    pub(crate) fn counts(&self) -> Counts {
        self.0.state().counts.clone()
    }

    /// Operations that changed something so far: writes, syncs, names.
    pub(crate) fn operations(&self) -> u64 {
        self.0.state().operations
    }

    /// The power goes now.
    pub(crate) fn power_off(&self) {
        let mut state = self.0.state();
        if state.powered {
            state.power_off();
        }
    }

    /// The power goes with the `operations`-th operation from now, counted from 1.
    pub(crate) fn power_off_after(&self, operations: u64) {
        let mut state = self.0.state();
        state.power_off_at = Some(state.operations + operations);
    }

    /// The process dies with the `operations`-th operation from now, counted from 1: nothing that it did is lost, and
    /// nothing more happens.
    pub(crate) fn kill_after(&self, operations: u64) {
        let mut state = self.0.state();
        state.kill_at = Some(state.operations + operations);
    }

    /// The next process begins, while the power stays on.
    pub(crate) fn start_again(&self) {
        let mut state = self.0.state();
        state.on = true;
        state.powered = true;
        state.life += 1;
        state.kill_at = None;
    }

    pub(crate) fn is_off(&self) -> bool {
        !self.0.state().on
    }

    /// The next life begins: files opened before stay dead, and no fault of the life before goes on but a full disk.
    pub(crate) fn power_on(&self) {
        self.power_off();
        self.start_again();
        let mut state = self.0.state();
        state.failing_syncs = Due::default();
        state.failing_reads = Due::default();
    }

    /// Bytes that are free; `None` for as many as anybody wants.
    pub(crate) fn set_space(&self, free: Option<u64>) {
        self.0.state().space = free;
    }

    /// The next `times` syncs fail, of the file `only` or of any; `u64::MAX` for all of this life.
    pub(crate) fn fail_syncs(&self, times: u64, only: Option<&Path>) {
        let only = only.map(Path::to_owned);
        self.0.state().failing_syncs = Due { times, only };
    }

    /// The next `times` reads fail, of the file `only` or of any; `u64::MAX` for all of this life.
    pub(crate) fn fail_reads(&self, times: u64, only: Option<&Path>) {
        let only = only.map(Path::to_owned);
        self.0.state().failing_reads = Due { times, only };
    }

    /// How long a sync takes from now on.
    pub(crate) fn slow_syncs(&self, takes: Duration) {
        self.0.state().sync_takes = takes;
    }

    /// How long syncs took since this was asked last.
    pub(crate) fn take_waited(&self) -> Duration {
        std::mem::take(&mut self.0.state().waited)
    }

    /// All files.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let state = self.0.state();
        let files = state.names.iter().filter(|(_, entry)| entry.file().is_some());
        files.map(|(path, _)| path.clone()).collect()
    }

    /// A file's length on the disk; `None` if there is no such file.
    pub(crate) fn length(&self, path: &Path) -> Option<u64> {
        let state = self.0.state();
        Some(state.files[&state.find(path).ok()?].durable.length)
    }

    /// The bytes of a file on the disk, as far as it goes.
    pub(crate) fn bytes(&self, path: &Path, range: Range<u64>) -> Vec<u8> {
        let state = self.0.state();
        let file = state.find(path).ok().and_then(|file| state.files.get(&file));
        file.map_or(Vec::new(), |file| file.durable.bytes(range))
    }

    fn damage(&self, path: &Path, change: impl Fn(&mut Content)) -> bool {
        let mut state = self.0.state();
        let Ok(file) = state.find(path) else { return false };
        state.inode(file).damage(change);
        true
    }

    /// Flips a bit at rest.
    pub(crate) fn flip(&self, path: &Path, bit: u64) {
        let at = bit / 8;
        let flipped = self.damage(path, |content| {
            let byte: Vec<u8> = content
                .bytes(at..at + 1)
                .iter()
                .map(|byte| byte ^ 1 << (bit % 8))
                .collect();
            if !byte.is_empty() {
                content.write(&byte, at);
            }
        });
        self.0.state().counts.flips += u64::from(flipped);
    }

    /// Cuts a file at rest.
    pub(crate) fn cut(&self, path: &Path, length: u64) {
        let cut = self.damage(path, |content| content.set_length(content.length.min(length)));
        self.0.state().counts.cuts += u64::from(cut);
    }

    /// Zeroes a part of a file at rest.
    pub(crate) fn zero(&self, path: &Path, range: Range<u64>) {
        let zeroed = self.damage(path, |content| {
            let end = range.end.min(content.length);
            if range.start < end {
                content.zero(range.start..end);
            }
        });
        self.0.state().counts.zeroed += u64::from(zeroed);
    }

    /// Puts other bytes into a file at rest.
    pub(crate) fn overwrite(&self, path: &Path, bytes: &[u8], offset: u64) {
        let overwritten = self.damage(path, |content| content.write(bytes, offset));
        self.0.state().counts.overwritten += u64::from(overwritten);
    }

    /// A file is gone.
    pub(crate) fn remove(&self, path: &Path) {
        let mut state = self.0.state();
        state.durable_names.remove(path);
        let removed = state.names.remove(path).is_some();
        state.counts.removed += u64::from(removed);
    }

    /// What is durable now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.0.state();
        let contents = state.files.iter().map(|(file, inode)| (*file, inode.durable.clone()));
        Snapshot {
            names: state.durable_names.clone(),
            contents: contents.collect(),
        }
    }

    /// The whole disk is as it was then: a backup is put back. The power is off for it.
    pub(crate) fn restore(&self, snapshot: &Snapshot) {
        self.power_off();
        let mut state = self.0.state();
        state.counts.restored += 1;
        state.names.clone_from(&snapshot.names);
        state.durable_names.clone_from(&snapshot.names);
        state.files.clear();
        let used = snapshot.contents.keys().next_back().map_or(0, |last| last + 1);
        state.next_file = state.next_file.max(used);
        for (file, content) in &snapshot.contents {
            let inode = state.inode(*file);
            inode.damage(|own| own.clone_from(content));
            inode.space = content.length;
        }
    }

    /// One file is as it was then, if it was there.
    pub(crate) fn restore_file(&self, snapshot: &Snapshot, path: &Path) {
        let then = snapshot.names.get(path).and_then(|entry| entry.file());
        let then = then.and_then(|file| snapshot.contents.get(&file));
        let swapped = then.is_some_and(|then| self.damage(path, |own| own.clone_from(then)));
        self.0.state().counts.swapped += u64::from(swapped);
    }
}
