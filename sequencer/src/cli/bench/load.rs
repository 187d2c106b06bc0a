//! One run of the load: a sender and a reader thread for each node, and what they counted.
//!
//! Plain threads and blocking sockets: a write that blocks delays what is due after it, and since latency counts from
//! the due time, the delay shows. So nothing queues here but what the schedule says is late. Finality is learned from
//! the node that took the transaction, by one subscription for each connection.

use std::io::{ErrorKind, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;

use super::answers;
use super::pending::Pending;
use super::schedule::Schedule;
use super::tally::{Plan, Tally};
use super::websocket::{Frames, Incoming, Outgoing, upgrade};
use super::workload::Workload;

/// Most calls in one JSON-RPC batch: what nodes accept.
const BATCH_CALLS: usize = 100;

/// A batch is closed at this size, below the 1 MiB that nodes accept.
const BATCH_BYTES: usize = 512 * 1024;

/// Most batches without an answer on one connection; nodes take 64. What is due meanwhile travels in the next batch,
/// late.
const BATCHES_UNANSWERED_MAX: u64 = 48;

/// How long to wait when that many are unanswered.
const UNANSWERED_PAUSE: Duration = Duration::from_millis(1);

/// How long a node may take to connect or to take what is written.
const NODE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a waiting thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    path: String,
}

impl Target {
    /// The node at `http://host:port` or `ws://host:port`. No TLS: its cost would be measured too.
    pub(super) fn parse(url: &str) -> anyhow::Result<Self> {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("ws://"));
        let rest = rest.with_context(|| format!("{url:?} is no http:// or ws:// URL; the bench does not speak TLS"))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        ensure!(!host.is_empty(), "{url:?} has no host");
        Ok(Self {
            host: if host.contains(':') {
                host.to_owned()
            } else {
                format!("{host}:80")
            },
            path: format!("/{path}"),
        })
    }
}

#[derive(Debug)]
struct Counted {
    pending: Pending,
    tally: Tally,
    /// A pong that the sender is to write: only it writes, so that frames do not mix.
    pong: Option<Vec<u8>>,
}

/// What the threads of one connection share.
#[derive(Debug)]
struct Shared {
    place: usize,
    plan: Plan,
    schedule: Schedule,
    start: Instant,
    workload: Arc<Workload>,
    counted: Mutex<Counted>,
    /// Batches that the node has answered.
    answered: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A run in progress.
#[derive(Debug)]
pub(super) struct Load {
    start: Instant,
    connections: Vec<Arc<Shared>>,
    threads: Vec<JoinHandle<()>>,
}

/// A connected node that waits for the start.
#[derive(Debug)]
pub(super) struct Ready {
    writer: TcpStream,
    reader: TcpStream,
    frames: Frames,
}

/// Parts the nodes that can be used from those that cannot, with why.
pub(super) fn part(targets: Vec<Target>) -> (Vec<Target>, Vec<(Target, anyhow::Error)>) {
    let (mut usable, mut silent) = (Vec::new(), Vec::new());
    for target in targets {
        match subscribe(&target) {
            Ok(_) => usable.push(target),
            Err(error) => silent.push((target, error)),
        }
    }
    (usable, silent)
}

/// Connects to every node and subscribes to what becomes final there.
pub(super) fn connect(targets: &[Target]) -> anyhow::Result<Vec<Ready>> {
    targets.iter().map(subscribe).collect()
}

fn subscribe(target: &Target) -> anyhow::Result<Ready> {
    let Target { host, path } = target;
    try_subscribe(host, path).with_context(|| format!("cannot use the node at {host}"))
}

fn try_subscribe(host: &str, path: &str) -> anyhow::Result<Ready> {
    let address = host.to_socket_addrs()?.next().context("no address")?;
    let mut stream = TcpStream::connect_timeout(&address, NODE_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(NODE_TIMEOUT))?;
    stream.set_write_timeout(Some(NODE_TIMEOUT))?;
    upgrade(&mut stream, host, path)?;
    let mut outgoing = Outgoing::default();
    outgoing.begin().extend_from_slice(
        br#"{"jsonrpc":"2.0","id":"heads","method":"fusion_subscribe","params":["heads",{"includeTransactions":true}]}"#,
    );
    stream.write_all(outgoing.finish())?;
    let (mut frames, mut answered) = (Frames::new(), false);
    while !answered {
        ensure!(
            frames.fill(&mut stream).context("no answer to the subscription")? > 0,
            "it closed the connection"
        );
        while let Some(incoming) = frames.next()? {
            if let Incoming::Message(message) = incoming
                && !answers::is_notification(message)
            {
                let text = String::from_utf8_lossy(message);
                ensure!(text.contains("\"result\""), "it refused the subscription: {text}");
                answered = true;
            }
        }
    }
    Ok(Ready {
        writer: stream.try_clone()?,
        reader: stream,
        frames,
    })
}

impl Load {
    /// Starts the run on connected nodes.
    pub(super) fn start(ready: Vec<Ready>, workload: &Arc<Workload>, plan: Plan) -> anyhow::Result<Self> {
        // A moment in the future, so that all threads are up when the first transaction is due.
        let start = Instant::now() + LOOK;
        let count = ready.len();
        let mut load = Self {
            start,
            connections: Vec::with_capacity(count),
            threads: Vec::with_capacity(2 * count),
        };
        for (place, node) in ready.into_iter().enumerate() {
            node.reader.set_read_timeout(Some(LOOK))?;
            let shared = Arc::new(Shared {
                place,
                plan,
                schedule: plan.schedule(count, place),
                start,
                workload: workload.clone(),
                counted: Mutex::new(Counted {
                    pending: Pending::new(),
                    tally: Tally::new(),
                    pong: None,
                }),
                answered: AtomicU64::new(0),
                stop: AtomicBool::new(false),
            });
            let (to_send, to_read) = (shared.clone(), shared.clone());
            load.connections.push(shared);
            load.threads.push(std::thread::spawn(move || {
                let outcome = Sender::new(&to_send, node.writer).run();
                end(&to_send, outcome);
            }));
            load.threads.push(std::thread::spawn(move || {
                let outcome = read(&to_read, node.reader, node.frames);
                end(&to_read, outcome);
            }));
        }
        Ok(load)
    }

    /// When the run began.
    pub(super) fn started(&self) -> Instant {
        self.start
    }

    /// What is counted so far.
    pub(super) fn tally(&self) -> Tally {
        let mut sum = Tally::new();
        for connection in &self.connections {
            let counted = connection.lock();
            sum.add(&counted.tally);
            sum.unfinished += counted.pending.len() as u64;
        }
        sum
    }

    /// Ends all threads and returns what they counted, and the final latency of each connection alone.
    pub(super) fn finish(self) -> (Tally, Vec<Histogram<u64>>) {
        for connection in &self.connections {
            connection.stop.store(true, Ordering::Relaxed);
        }
        let (mut sum, mut latencies) = (Tally::new(), Vec::with_capacity(self.connections.len()));
        for thread in self.threads {
            if thread.join().is_err() {
                sum.failures.push("a thread of the bench panicked".to_owned());
            }
        }
        for connection in &self.connections {
            let counted = connection.lock();
            sum.add(&counted.tally);
            sum.unfinished += counted.pending.len() as u64;
            let due = connection.schedule.count_until(connection.plan.end());
            sum.unsent += due.saturating_sub(counted.tally.sent);
            latencies.push(counted.tally.latency.clone());
        }
        (sum, latencies)
    }
}

/// Notes why a connection ended early, and ends its other thread.
fn end(shared: &Shared, outcome: anyhow::Result<()>) {
    if let Err(error) = outcome
        && !shared.stop.swap(true, Ordering::Relaxed)
    {
        let place = shared.place;
        shared
            .lock()
            .tally
            .failures
            .push(format!("connection {place}: {error:#}"));
    }
}

struct Sender<'a> {
    shared: &'a Shared,
    stream: TcpStream,
    outgoing: Outgoing,
    /// Key and due time of each call of the batch.
    batch: Vec<(u64, u64)>,
    /// Batches written.
    written: u64,
}

impl<'a> Sender<'a> {
    fn new(shared: &'a Shared, stream: TcpStream) -> Self {
        Self {
            shared,
            stream,
            outgoing: Outgoing::default(),
            batch: Vec::with_capacity(BATCH_CALLS),
            written: 0,
        }
    }

    fn run(mut self) -> anyhow::Result<()> {
        let schedule = self.shared.schedule;
        let count = schedule.count_until(self.shared.plan.end());
        let gather = u64::try_from(schedule.gather().as_nanos()).unwrap_or(u64::MAX);
        let (mut index, mut not_before) = (0, 0);
        while index < count && !self.shared.stopped() {
            let wake = schedule.due_ns(index).max(not_before);
            if self.wait_until(wake)? {
                let now = self.shared.now_ns();
                index = self.gather(index, count, now)?;
                if !self.batch.is_empty() {
                    self.write()?;
                }
                // What is late already goes out at once.
                not_before = if schedule.due_ns(index) < now {
                    0
                } else {
                    now.saturating_add(gather)
                };
            }
        }
        while !self.shared.stopped() {
            std::thread::sleep(LOOK);
            self.answer_ping()?;
        }
        Ok(())
    }

    /// Sleeps until then, or for a while: returns whether it is time.
    fn wait_until(&mut self, wake_ns: u64) -> anyhow::Result<bool> {
        self.answer_ping()?;
        if self
            .written
            .saturating_sub(self.shared.answered.load(Ordering::Relaxed))
            >= BATCHES_UNANSWERED_MAX
        {
            std::thread::sleep(UNANSWERED_PAUSE);
            return Ok(false);
        }
        let wake = Duration::from_nanos(wake_ns);
        let left = (self.shared.start + wake).saturating_duration_since(Instant::now());
        std::thread::sleep(left.min(LOOK));
        Ok(left <= LOOK)
    }

    /// Renders what is due from `index` on into one batch; returns the index after it.
    fn gather(&mut self, mut index: u64, count: u64, now: u64) -> anyhow::Result<u64> {
        self.batch.clear();
        self.outgoing.begin().push(b'[');
        while index < count && self.batch.len() < BATCH_CALLS && self.outgoing.text().len() < BATCH_BYTES {
            let due = self.shared.schedule.due_ns(index);
            if due > now {
                break;
            }
            if !self.batch.is_empty() {
                self.outgoing.text().push(b',');
            }
            let key = self
                .shared
                .workload
                .render(self.shared.place, index, self.outgoing.text());
            self.batch
                .push((key.context("fewer transactions were prepared than are due")?, due));
            index += 1;
        }
        self.outgoing.text().push(b']');
        Ok(index)
    }

    fn write(&mut self) -> anyhow::Result<()> {
        // Before the write: the node may be done before this thread runs again.
        let mut counted = self.shared.lock();
        for (key, due) in &self.batch {
            counted.pending.insert(*key, *due);
        }
        drop(counted);
        self.stream
            .write_all(self.outgoing.finish())
            .context("the node does not take what is written")?;
        self.written += 1;
        let now = self.shared.now_ns();
        let mut counted = self.shared.lock();
        counted.tally.sent += self.batch.len() as u64;
        for (_, due) in &self.batch {
            if self.shared.plan.measures(*due) {
                counted.tally.sent_in_window += 1;
                counted.tally.late.saturating_record(now.saturating_sub(*due) / 1000);
            }
        }
        Ok(())
    }

    fn answer_ping(&mut self) -> anyhow::Result<()> {
        let pong = self.shared.lock().pong.take();
        if let Some(content) = pong {
            self.stream.write_all(self.outgoing.pong(&content))?;
        }
        Ok(())
    }
}

fn read(shared: &Shared, mut stream: TcpStream, mut frames: Frames) -> anyhow::Result<()> {
    let mut keys = Vec::new();
    while !shared.stopped() {
        match frames.fill(&mut stream) {
            Ok(0) => bail!("the node closed the connection"),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        while let Some(incoming) = frames.next()? {
            match incoming {
                Incoming::Message(message) if answers::is_notification(message) => {
                    keys.clear();
                    answers::hash_keys(message, &mut keys);
                    settle(shared, &keys);
                }
                Incoming::Message(message) => count_responses(shared, message),
                Incoming::Ping(content) => shared.lock().pong = Some(content.to_vec()),
                Incoming::Close(reason) => bail!("the node ended the connection: {reason}"),
            }
        }
    }
    Ok(())
}

/// Notes that these transactions are final now.
fn settle(shared: &Shared, keys: &[u64]) {
    let now = shared.now_ns();
    let mut counted = shared.lock();
    let Counted { pending, tally, .. } = &mut *counted;
    for key in keys {
        let Some(due) = pending.remove(*key) else {
            continue;
        };
        tally.finals += 1;
        if shared.plan.measures(now) {
            tally.finals_in_window += 1;
        }
        if shared.plan.measures(due) {
            tally.latency.saturating_record((now.saturating_sub(due) / 1000).max(1));
        }
    }
}

fn count_responses(shared: &Shared, message: &[u8]) {
    let responses = answers::responses(message);
    shared.answered.fetch_add(1, Ordering::Relaxed);
    let now = shared.now_ns();
    let mut counted = shared.lock();
    counted.tally.accepted += responses.accepted;
    if shared.plan.measures(now) {
        counted.tally.accepted_in_window += responses.accepted;
    }
    for (id, code) in responses.refused {
        *counted.tally.refused.entry(code).or_default() += 1;
        if let Some(key) = id.and_then(|id| shared.workload.key(shared.place, id)) {
            counted.pending.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
