//! Many seeds on several threads. Each history is on one thread and knows nothing of the others.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;

use crate::checker::Violation;
use crate::plan::{Mode, Plan};
use crate::world::{Outcome, World};

/// Which histories to run, and how.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) seeds: Range<u64>,
    /// Validators; a mix of 4 and 7 if none.
    pub(crate) nodes: Option<usize>,
    pub(crate) mode: Mode,
    pub(crate) jobs: u64,
    pub(crate) story: bool,
    pub(crate) stop: bool,
}

/// What one seed came to: its outcome, or how the nodes panicked.
pub(crate) struct Finished {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) outcome: Result<Outcome, Violation>,
}

impl Finished {
    pub(crate) fn violation(&self) -> Option<&Violation> {
        match &self.outcome {
            Ok(outcome) => outcome.violation.as_ref(),
            Err(panic) => Some(panic),
        }
    }
}

/// Threads that this machine runs at a time.
pub(crate) fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}

impl Task {
    /// Validators in the history of `seed`.
    pub(crate) fn nodes_of(&self, seed: u64) -> usize {
        self.nodes.unwrap_or(if seed % 3 == 2 { 7 } else { 4 })
    }

    /// Runs one seed.
    pub(crate) fn one(&self, seed: u64) -> Finished {
        let nodes = self.nodes_of(seed);
        let plan = Plan::new(seed, nodes, self.mode);
        let run = || World::new(plan, self.story).run();
        let outcome = catch_unwind(AssertUnwindSafe(run)).map_err(|panic| Violation {
            promise: "no panic",
            what: message_of(panic.as_ref()),
        });
        Finished { seed, nodes, outcome }
    }

    /// Runs all seeds; `each` sees what came of them, in any order, on the calling thread.
    pub(crate) fn all(&self, mut each: impl FnMut(Finished)) {
        let next = AtomicU64::new(self.seeds.start);
        let stopped = AtomicBool::new(false);
        // A few results may wait; a thread whose result finds no place waits too.
        let (done, results) = sync_channel::<Finished>(64);
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                let done = done.clone();
                let (next, stopped) = (&next, &stopped);
                scope.spawn(move || {
                    while !stopped.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.seeds.end || done.send(self.one(seed)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(done);
            for finished in results {
                if self.stop && finished.violation().is_some() {
                    stopped.store(true, Ordering::Relaxed);
                }
                each(finished);
            }
        });
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
    text.unwrap_or_else(|| "a panic without words".into())
}

/// A panic is a violation like others and is told as one; the usual text on stderr would only hide the rest.
pub(crate) fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|_| {}));
}
