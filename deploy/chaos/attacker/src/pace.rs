//! What a flood did, and how its deeds are spread over time.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;

/// How often each thing was done or met.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

/// How often a paced flood looks at the clock.
const BEAT: Duration = Duration::from_millis(1);

/// Counts `times` more of `what`.
pub(crate) fn count(counts: &mut Counts, what: &'static str, times: u64) {
    *counts.entry(what).or_default() += times;
}

/// Deeds at an even rate. What the flood did not get done within a tenth of a second is left out, not made up for.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: f64,
    until: Instant,
    last: Instant,
    owed: f64,
}

impl Pace {
    /// `rate` deeds a second until `until`.
    pub(crate) fn new(rate: f64, until: Instant) -> Self {
        Self {
            rate,
            until,
            last: Instant::now(),
            owed: 0.0,
        }
    }

    /// Waits until something is due and says how much; `None` at the end.
    pub(crate) async fn due(&mut self) -> Option<u32> {
        loop {
            let now = Instant::now();
            if now >= self.until {
                return None;
            }
            let passed = now - std::mem::replace(&mut self.last, now);
            self.owed = (self.owed + passed.as_secs_f64() * self.rate).min((self.rate / 10.0).max(1.0));
            if self.owed >= 1.0 {
                let due = self.owed.floor();
                self.owed -= due;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "at most a tenth of a rate"
                )]
                return Some(due as u32);
            }
            tokio::time::sleep(BEAT).await;
        }
    }
}

/// Runs `worker` so often at a time, with its number, and adds up what all did.
///
/// # Errors
/// If one of them panics.
pub(crate) async fn together<F>(workers: usize, worker: impl Fn(usize) -> F) -> anyhow::Result<Counts>
where
    F: Future<Output = Counts> + Send + 'static,
{
    let mut running: JoinSet<Counts> = (0..workers).map(worker).collect();
    let mut all = Counts::new();
    while let Some(done) = running.join_next().await {
        for (what, times) in done.context("a worker of the flood")? {
            count(&mut all, what, times);
        }
    }
    Ok(all)
}
