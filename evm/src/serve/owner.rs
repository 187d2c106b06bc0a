//! The thread that owns the L1, and how to ask it.
//!
//! A thread and not a task, because executing a block or a call takes up to a tenth of a second of pure computing. It ends when the last
//! [`Owner`] is dropped.
//!
//! It keeps the time itself: it tells the L1 of each slot as it begins, and before each question, so that no number of questions
//! that wait costs a slot its block.

use std::sync::mpsc::{self, RecvTimeoutError, TrySendError};
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use crate::l1::L1;

/// Questions that may wait for the thread; more are answered with [`Busy::Full`].
const QUESTIONS_MAX: usize = 1024;

/// A question: it gets the L1 and the time (s since 1970), and answers by itself.
type Question = Box<dyn FnOnce(&mut L1, u64) + Send>;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// Too many questions wait.
    #[error("busy: {QUESTIONS_MAX} questions wait")]
    Full,
    /// The thread is gone.
    #[error("the chain has stopped")]
    Gone,
}

/// A handle to the L1.
#[derive(Clone, Debug)]
pub struct Owner {
    questions: mpsc::SyncSender<Question>,
}

impl Owner {
    /// Starts the thread. `clock` gives the time since 1970.
    pub(super) fn start(mut l1: L1, clock: impl Fn() -> Duration + Send + 'static) -> std::io::Result<Self> {
        let (questions, waiting) = mpsc::sync_channel::<Question>(QUESTIONS_MAX);
        let run = move || {
            loop {
                let question = match waiting.recv_timeout(until_next_slot(&l1, clock())) {
                    Ok(question) => Some(question),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                let now = clock().as_secs();
                l1.tick(now);
                if let Some(question) = question {
                    question(&mut l1, now);
                }
            }
        };
        std::thread::Builder::new().name("fusion-l1".into()).spawn(run)?;
        Ok(Self { questions })
    }

    /// Runs `question` on the L1 and returns its answer. The second argument is the time, in seconds since 1970.
    ///
    /// # Errors
    /// If too many questions wait, or the L1 is gone. A question that waits is not taken back when the asker goes away.
    pub async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut L1, u64) -> R + Send + 'static,
    ) -> Result<R, Busy> {
        let (reply, answer) = oneshot::channel();
        let question = Box::new(move |l1: &mut L1, now: u64| {
            // Whoever asked may have gone away.
            let _ = reply.send(question(l1, now));
        });
        self.questions.try_send(question).map_err(|error| match error {
            TrySendError::Full(_) => Busy::Full,
            TrySendError::Disconnected(_) => Busy::Gone,
        })?;
        answer.await.map_err(|_| Busy::Gone)
    }
}

/// How long the thread has nothing to do unless it is asked: to the end of the slot, for ever if blocks do not come by time.
fn until_next_slot(l1: &L1, now: Duration) -> Duration {
    let config = l1.config();
    if config.block_time == 0 {
        return Duration::MAX;
    }
    let slot = Duration::from_secs(config.block_time).as_nanos();
    let since_genesis = now.saturating_sub(Duration::from_secs(config.chain.genesis_time));
    let rest = slot - since_genesis.as_nanos() % slot;
    Duration::from_nanos(u64::try_from(rest).unwrap_or(u64::MAX))
}

/// Time since 1970. A clock before that counts as 1970.
pub(super) fn since_epoch() -> Duration {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default()
}
