//! One live connection with a peer: its queues, its streams, its budgets.
//!
//! A task for each class writes, a task for each stream reads, one task watches over them. Promises that a
//! frame read reaches the node's inbox in the order of its class, that a peer cannot have more bytes in that
//! inbox than its budget (beyond it, its stream is not read and its own flow control stops it), and that
//! `Connected` comes before and `Disconnected` after everything that is read. Leaves to the mesh which
//! connection of a pair lives.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::counters::{Traffic, add};
use super::ending::{Cause, CloseCode, Loss, ReadEnd};
use super::frame::{Assembler, Class, Fault, HEADER_BYTES};
use super::mesh::Mesh;
use super::queue::{Pushed, Queue};
use super::quic::{Link, READ_CHUNKS, Receiving, Sending};
use super::{Limits, NetworkEvent, PeerId, locked};

/// Frames below this are copied into one chunk with their neighbours; others are handed over as they are.
const COPY_BYTES_MAX: usize = 4 * 1024;
/// Least that a frame takes of its peer's budget, so that tiny frames are bounded in number too.
const FRAME_COST_BYTES_MIN: usize = 256;
/// Least that a follower's frame counts against its pace: at most 512 requests a second.
const FOLLOWER_FRAME_COST_BYTES_MIN: usize = 16 * 1024;
/// What a follower may send, in bytes per second.
const FOLLOWER_BYTES_PER_SECOND: u64 = 8 << 20;

/// Bytes of one peer and class that may wait in the node's inbox. At least one frame of the largest size.
const fn budget_bytes(class: Class, validator: bool) -> usize {
    match (class, validator) {
        (Class::Votes, true) => 1 << 20,
        (Class::Bodies, true) => 16 << 20,
        (Class::Transactions, true) => 8 << 20,
        (Class::Sync, true) => 32 << 20,
        (Class::Votes | Class::Bodies, false) => 0,
        (Class::Transactions, false) => 1 << 20,
        (Class::Sync, false) => 64 << 10,
    }
}

/// Room that a received frame takes in the budget of its peer. Dropped with the frame or with what was decoded
/// from it, it lets the peer's next frame in: hold it until the node has worked on the frame.
#[derive(Debug)]
pub struct Credit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// A connection with a peer, from the mesh's consent to its end.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) peer: PeerId,
    pub(super) validator: bool,
    pub(super) connected: Instant,
    pub(super) traffic: Traffic,
    link: Link,
    queues: [Queue; 4],
    /// Why this end closed it, if it did: the first reason counts.
    closed_here: Mutex<Option<Cause>>,
    ended: watch::Sender<bool>,
}

impl Session {
    /// A session over `link`, not yet running.
    pub(super) fn new(link: Link, validator: bool, limits: Limits) -> Self {
        if validator {
            link.widen(limits.window_floor_bytes);
        }
        Self {
            peer: link.peer(),
            validator,
            connected: Instant::now(),
            traffic: Traffic::default(),
            link,
            queues: Class::ALL.map(|class| Queue::new(class, validator)),
            closed_here: Mutex::new(None),
            ended: watch::Sender::new(false),
        }
    }

    /// The connection below.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Frames and bytes that wait to be written in `class`.
    pub(super) fn waiting(&self, class: Class) -> (usize, usize) {
        self.queues[class.index()].depth()
    }

    /// Queues `frame`. Never waits. False: it was dropped.
    pub(super) fn send(&self, mesh: &Mesh, class: Class, frame: Bytes) -> bool {
        let (sent, dropped) = match self.queues[class.index()].push(frame) {
            Pushed::Queued { dropped } => (true, dropped),
            Pushed::Refused => (false, 1),
            Pushed::Overflow => {
                self.close(CloseCode::Behind);
                (false, 1)
            }
        };
        if dropped > 0 {
            self.traffic.dropped(class, dropped);
            mesh.counters.traffic.dropped(class, dropped);
        }
        sent
    }

    /// Ends the connection. Its session ends soon after.
    pub(super) fn close(&self, code: CloseCode) {
        self.end(Cause::Here(code), code);
    }

    /// Waits until the session is over and the node has been told.
    pub(super) async fn ended(&self) {
        // Fails only if the sender is gone, and it is a field of `self`.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    fn end(&self, cause: Cause, code: CloseCode) {
        locked(&self.closed_here).get_or_insert(cause);
        self.link.close(code);
    }

    /// Why it ended: what this end decided, else what it saw.
    fn cause(&self, seen: Loss) -> Cause {
        let decided = locked(&self.closed_here).clone();
        decided.unwrap_or_else(|| match seen {
            Loss::Closed(code) => Cause::ByPeer(code),
            Loss::ClosedHere => Cause::Here(CloseCode::Shutdown),
            other => Cause::Lost(other.to_string()),
        })
    }
}

/// Runs `session` to its end. `previous` is the session that it replaces, `first` a stream that is open already.
pub(super) async fn run(
    mesh: Arc<Mesh>,
    session: Arc<Session>,
    previous: Option<Arc<Session>>,
    first: Option<Receiving>,
) {
    let mut tasks = JoinSet::new();
    // For the end that dialed, the first stream says that it is welcome: only then it calls itself connected.
    for class in Class::ALL {
        let eager = class == Class::Votes && !session.link.is_dialed();
        tasks.spawn(write(mesh.clone(), session.clone(), class, eager));
    }
    if let Some(previous) = previous {
        previous.ended().await;
    }
    let event = NetworkEvent::Connected {
        peer: session.peer,
        validator: session.validator,
    };
    mesh.tell(event).await;
    let seen = watch_over(&mesh, &session, &mut tasks, first).await;
    tasks.shutdown().await;
    let cause = session.cause(seen);
    match &cause {
        Cause::Fault(_) => add(&mesh.counters.faults, 1),
        Cause::Here(CloseCode::Behind) => add(&mesh.counters.behind, 1),
        _ => {}
    }
    tracing::info!(peer = %session.peer, validator = session.validator, %cause, "peer disconnected");
    mesh.forget(&session);
    let event = NetworkEvent::Disconnected {
        peer: session.peer,
        cause,
    };
    mesh.tell(event).await;
    session.ended.send_replace(true);
}

/// Starts a reader for each stream that the peer opens, until the connection is gone.
async fn watch_over(
    mesh: &Arc<Mesh>,
    session: &Arc<Session>,
    tasks: &mut JoinSet<()>,
    first: Option<Receiving>,
) -> Loss {
    let open = Arc::new(Mutex::new([false; 4]));
    if let Some(stream) = first {
        tasks.spawn(read(mesh.clone(), session.clone(), stream, open.clone()));
    }
    loop {
        match session.link.accept().await {
            Ok(stream) => {
                tasks.spawn(read(mesh.clone(), session.clone(), stream, open.clone()));
                // Readers that are done: their streams made room for this one.
                while tasks.try_join_next().is_some() {}
            }
            Err(loss) => return loss,
        }
    }
}

/// Writes what is queued in `class`. Ends with the connection.
async fn write(mesh: Arc<Mesh>, session: Arc<Session>, class: Class, eager: bool) {
    match write_all(&mesh, &session, class, eager).await {
        Ok(never) => match never {},
        // The peer stopped a stream of ours and keeps the connection.
        Err(Loss::Broken(_)) => session.end(Cause::Fault(Fault::Ended), CloseCode::Fault),
        // The task that watches over the connection sees it too, with its reason.
        Err(_) => {}
    }
}

async fn write_all(mesh: &Mesh, session: &Session, class: Class, eager: bool) -> Result<Infallible, Loss> {
    let mut stream = None;
    if eager {
        stream = Some(session.link.open(class).await?);
    }
    let mut frames = Vec::new();
    let mut chunks = Vec::new();
    let mut small = BytesMut::new();
    loop {
        session.queues[class.index()].take(&mut frames).await;
        let count = frames.len() as u64;
        let bytes: u64 = frames.iter().map(|frame| frame.len() as u64).sum();
        pack(&mut frames, &mut small, &mut chunks);
        let mut opened: Sending = match stream.take() {
            Some(stream) => stream,
            None => session.link.open(class).await?,
        };
        opened.write(&mut chunks).await?;
        chunks.clear();
        stream = Some(opened);
        session.traffic.sent(class, count, bytes);
        mesh.counters.traffic.sent(class, count, bytes);
    }
}

/// Turns frames into few chunks: headers and small payloads share one, large payloads go uncopied.
fn pack(frames: &mut Vec<Bytes>, small: &mut BytesMut, chunks: &mut Vec<Bytes>) {
    let copied = |frame: &Bytes| HEADER_BYTES + if frame.len() < COPY_BYTES_MAX { frame.len() } else { 0 };
    small.reserve(frames.iter().map(copied).sum());
    for frame in frames.drain(..) {
        // A frame is checked against the limit of its class before it is queued.
        small.put_u32(u32::try_from(frame.len()).expect("limits of frames are below 4 GiB"));
        if frame.len() < COPY_BYTES_MAX {
            small.extend_from_slice(&frame);
        } else {
            chunks.push(small.split().freeze());
            chunks.push(frame);
        }
    }
    if !small.is_empty() {
        chunks.push(small.split().freeze());
    }
}

/// Reads one stream to its end. A fault of the peer ends the connection.
async fn read(mesh: Arc<Mesh>, session: Arc<Session>, stream: Receiving, open: Arc<Mutex<[bool; 4]>>) {
    match read_frames(&mesh, &session, stream, &open).await {
        ReadEnd::Lost => {}
        ReadEnd::Fault(fault) => session.end(Cause::Fault(fault), CloseCode::Fault),
        ReadEnd::NodeGone => session.close(CloseCode::Shutdown),
    }
}

async fn read_frames(mesh: &Mesh, session: &Session, mut stream: Receiving, open: &Mutex<[bool; 4]>) -> ReadEnd {
    let (class, limit) = match begin(session, &mut stream, open).await {
        Ok(begun) => begun,
        Err(end) => return end,
    };
    let mut assembler = Assembler::new(class, limit);
    let budget = Arc::new(Semaphore::new(budget_bytes(class, session.validator)));
    let mut pace = (!session.validator).then(|| Pace::new(Instant::now()));
    let mut chunks = [const { Bytes::new() }; READ_CHUNKS];
    loop {
        let filled = match read_on(mesh, session, &mut stream, &assembler, &mut chunks).await {
            Ok(filled) => filled,
            Err(end) => return end,
        };
        for chunk in &mut chunks[..filled] {
            while !chunk.is_empty() {
                let frame = match assembler.feed(chunk) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => continue,
                    Err(fault) => return ReadEnd::Fault(fault),
                };
                let bytes = frame.len();
                session.traffic.received(class, bytes as u64);
                mesh.counters.traffic.received(class, bytes as u64);
                if let Some(pace) = &mut pace {
                    let wait = pace.take(bytes, Instant::now());
                    // The timer's grain is a millisecond: waiting for nothing would take as long.
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                }
                let cost = u32::try_from(bytes.max(FRAME_COST_BYTES_MIN)).expect("limits of frames are below 4 GiB");
                let Ok(permit) = budget.clone().acquire_many_owned(cost).await else {
                    return ReadEnd::Lost;
                };
                if let Err(end) = deliver(mesh, session.peer, class, frame, Credit(permit)).await {
                    return end;
                }
            }
        }
    }
}

/// The class of a new stream, and the most that a frame on it may hold.
async fn begin(session: &Session, stream: &mut Receiving, open: &Mutex<[bool; 4]>) -> Result<(Class, usize), ReadEnd> {
    let tag = stream.read_tag().await?;
    let class = Class::of_tag(tag).ok_or(ReadEnd::Fault(Fault::UnknownClass(tag)))?;
    let limit = class
        .frame_bytes_max(session.validator)
        .ok_or(ReadEnd::Fault(Fault::Forbidden(class)))?;
    if std::mem::replace(&mut locked(open)[class.index()], true) {
        return Err(ReadEnd::Fault(Fault::Repeated(class)));
    }
    Ok((class, limit))
}

/// Waits for bytes: between frames for ever, inside a frame not longer than a follower may take.
async fn read_on(
    mesh: &Mesh,
    session: &Session,
    stream: &mut Receiving,
    assembler: &Assembler,
    chunks: &mut [Bytes; READ_CHUNKS],
) -> Result<usize, ReadEnd> {
    // A validator's bulk may stand still for long behind its own votes and bodies; its memory is accounted for.
    if session.validator || !assembler.is_inside_frame() {
        return stream.read(chunks).await;
    }
    match tokio::time::timeout(mesh.timing.stall, stream.read(chunks)).await {
        Ok(read) => read,
        Err(_) => Err(ReadEnd::Fault(Fault::Stalled {
            class: assembler.class(),
            after: mesh.timing.stall,
        })),
    }
}

/// The one door from a stream to the node, in the reading task of one peer and class and off the node's thread.
///
/// A decoder belongs here: turn `frame` into a message before it is sent on, and return
/// `ReadEnd::Fault` for one that does not decode, which ends the connection and counts as a fault. `credit`
/// travels with the message. Waiting in here is safe: it holds back this peer in this class only.
async fn deliver(mesh: &Mesh, peer: PeerId, class: Class, frame: Bytes, credit: Credit) -> Result<(), ReadEnd> {
    let event = NetworkEvent::Received {
        peer,
        class,
        frame,
        credit,
    };
    mesh.inbox(class).send(event).await.map_err(|_| ReadEnd::NodeGone)
}

/// A follower's allowance: a second's worth at once, then as it comes back.
#[derive(Debug)]
struct Pace {
    /// When everything taken so far is paid for.
    paid: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { paid: now }
    }

    /// Takes a frame of `bytes`. Returns how long to wait before it may go on.
    fn take(&mut self, bytes: usize, now: Instant) -> Duration {
        let cost = bytes.max(FOLLOWER_FRAME_COST_BYTES_MIN) as u64;
        self.paid = self.paid.max(now) + Duration::from_nanos(cost * 1_000_000_000 / FOLLOWER_BYTES_PER_SECOND);
        self.paid.duration_since(now).saturating_sub(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_sends_a_seconds_worth_at_once_and_then_at_its_pace() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let rate = usize::try_from(FOLLOWER_BYTES_PER_SECOND).unwrap();
        assert_eq!(pace.take(rate, start), Duration::ZERO);
        assert_eq!(pace.take(rate / 2, start), Duration::from_millis(500));
        let later = start + Duration::from_secs(10);
        assert_eq!(pace.take(rate, later), Duration::ZERO);
        let tiny = (0..512).map(|_| pace.take(1, later)).last();
        assert_eq!(tiny, Some(Duration::from_secs(1)), "tiny frames count too");
    }

    #[test]
    fn every_frame_that_a_peer_may_send_fits_in_its_budget() {
        for class in Class::ALL {
            for validator in [true, false] {
                let limit = class.frame_bytes_max(validator).unwrap_or(0);
                assert!(budget_bytes(class, validator) >= limit);
            }
        }
    }

    #[test]
    fn packing_keeps_frames_and_copies_only_small_ones() {
        let large = Bytes::from(vec![3; COPY_BYTES_MAX]);
        let mut frames = vec![
            Bytes::from_static(b"ab"),
            Bytes::from_static(b"c"),
            large.clone(),
            Bytes::from_static(b"d"),
        ];
        let mut chunks = Vec::new();
        pack(&mut frames, &mut BytesMut::new(), &mut chunks);
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks[1].as_ptr(), large.as_ptr());
        let mut stream = Bytes::from(chunks.concat());
        let mut assembler = Assembler::new(Class::Sync, COPY_BYTES_MAX);
        let mut lengths = Vec::new();
        while !stream.is_empty() {
            lengths.extend(assembler.feed(&mut stream).unwrap().map(|frame| frame.len()));
        }
        assert_eq!(lengths, [2, 1, COPY_BYTES_MAX, 1]);
    }
}
