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
        let outcome = history(Plan::new(seed, nodes, self.mode), self.story);
        Finished { seed, nodes, outcome }
    }

    /// Runs all seeds; `each` sees what came of them, in any order, on the calling thread.
    pub(crate) fn all(&self, each: impl FnMut(Finished)) {
        let ends = |finished: &Finished| self.stop && finished.violation().is_some();
        on_threads(self.jobs, self.seeds.clone(), |seed| self.one(seed), ends, each);
    }
}

/// Runs one history; a panic of the nodes in it is a broken promise.
pub(crate) fn history(plan: Plan, story: bool) -> Result<Outcome, Violation> {
    let run = || World::new(plan, story).run();
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| Violation {
        promise: "no panic",
        what: message_of(panic.as_ref()),
    })
}

/// Does `one` for each number on `jobs` threads; `each` sees what came of it, in any order, on the calling thread.
/// Nothing new begins after a result that `ends` the run.
pub(crate) fn on_threads<T: Send>(
    jobs: u64,
    numbers: Range<u64>,
    one: impl Fn(u64) -> T + Sync,
    ends: impl Fn(&T) -> bool,
    mut each: impl FnMut(T),
) {
    let next = AtomicU64::new(numbers.start);
    let stopped = AtomicBool::new(false);
    // A few results may wait; a thread whose result finds no place waits too.
    let (done, results) = sync_channel::<T>(64);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let done = done.clone();
            let (next, stopped, one) = (&next, &stopped, &one);
            scope.spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end || done.send(one(number)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        for result in results {
            if ends(&result) {
                stopped.store(true, Ordering::Relaxed);
            }
            each(result);
        }
    });
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
