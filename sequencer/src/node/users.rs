//! The threads that serve users and lagging peers, apart from those of consensus and the network.
//!
//! Promises that who asks much only makes who asks wait: these threads have a lower priority than the node thread and
//! the network's, so that a flood of requests takes what processors blocks leave over. Their number is that of the
//! processors, as the other runtime's.

use std::future::Future;

use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;

use crate::exit::{Exit, ExitError};

/// How nice these threads are: where all are busy, they get a third of what the others get (`sched(7)`).
const NICE: i32 = 5;

/// A runtime of its own. Dropped, it ends its tasks without waiting for them.
#[derive(Debug)]
pub(super) struct UserThreads {
    handle: Handle,
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

impl UserThreads {
    /// Starts the threads.
    ///
    /// # Errors
    /// Code 74 if the system gives none.
    pub(super) fn start() -> Result<Self, ExitError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("fusion-users")
            .on_thread_start(step_back)
            .build()
            .map_err(|error| ExitError::new(Exit::Io, format_args!("cannot start threads: {error}")))?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// Where tasks and blocking work can be spawned.
    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs `task` on these threads.
    pub(super) fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.handle.spawn(task)
    }
}

impl Drop for UserThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Lowers the priority of the calling thread: on Linux, 0 means the thread, not its process.
fn step_back() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_threads_step_back_and_the_others_do_not() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let threads = UserThreads::start().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (of_task, of_blocking) = runtime.block_on(async {
            let of_task = threads.spawn(async move { nice() }).await.unwrap();
            (of_task, threads.handle().spawn_blocking(nice).await.unwrap())
        });
        let lowered = (before + NICE).min(19);
        assert_eq!((of_task, of_blocking, nice()), (lowered, lowered, before));
    }
}
