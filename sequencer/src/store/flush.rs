//! Syncing several files at the same time.
//!
//! A sync is nearly all waiting, and on a busy machine most of that is waiting for a processor afterwards. Two threads
//! that do nothing else let the three files of a commit wait together: measured on two busy cores, 0.5 ms for three
//! files instead of 14 ms one after the other.
//!
//! Promises: [`Flusher::flush`] returns when every file is durable, or with an error when one of them may not be. Leaves to
//! others: which files may be synced together (`store.rs`).

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::{StoreError, disk};

/// A file that was written and is not durable yet.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub file: Arc<File>,
    pub path: PathBuf,
}

impl Written {
    fn sync(&self) -> Result<(), StoreError> {
        disk::sync(&self.file, &self.path)
    }
}

/// The threads that sync.
#[derive(Debug)]
pub(super) struct Flusher {
    workers: [Worker; 2],
}

#[derive(Debug)]
struct Worker {
    jobs: Option<SyncSender<Written>>,
    results: Receiver<Result<(), StoreError>>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    /// Starts the threads; they end when it is dropped.
    pub(super) fn start() -> Result<Self, StoreError> {
        Ok(Self {
            workers: [Worker::start()?, Worker::start()?],
        })
    }

    /// Makes up to three files durable.
    pub(super) fn flush(&self, mut files: Vec<Written>) -> Result<(), StoreError> {
        debug_assert!(
            files.len() <= self.workers.len() + 1,
            "a commit writes three files at most"
        );
        let Some(own) = files.pop() else {
            return Ok(());
        };
        let started: Vec<_> = self
            .workers
            .iter()
            .zip(files)
            .map(|(worker, file)| (worker, worker.begin(file)))
            .collect();
        let mut result = own.sync();
        // Every thread that was asked is waited for, so that no answer is taken for that of a later call.
        for (worker, begun) in started {
            let ended = begun.and_then(|()| worker.end());
            if result.is_ok() {
                result = ended;
            }
        }
        result
    }
}

impl Worker {
    fn start() -> Result<Self, StoreError> {
        let (jobs, todo) = sync_channel::<Written>(1);
        let (done, results) = sync_channel(1);
        let work = move || {
            while let Ok(file) = todo.recv() {
                if done.send(file.sync()).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("flush".into()).spawn(work);
        let thread = thread.map_err(|error| StoreError::Poisoned(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            jobs: Some(jobs),
            results,
            thread: Some(thread),
        })
    }

    fn begin(&self, file: Written) -> Result<(), StoreError> {
        let sent = self.jobs.as_ref().and_then(|jobs| jobs.send(file).ok());
        sent.ok_or_else(|| StoreError::Poisoned("a sync thread ended".into()))
    }

    fn end(&self) -> Result<(), StoreError> {
        let result = self.results.recv();
        result.unwrap_or_else(|_| Err(StoreError::Poisoned("a sync thread ended".into())))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
