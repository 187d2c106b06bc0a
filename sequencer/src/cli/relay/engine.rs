//! The relay's thread: takes datagrams, lets them wait, and sends them on to the microsecond.
//!
//! One thread owns everything, its sockets and the control connections too, and waits in one place with the precision
//! of the kernel's timers: tokio's have a millisecond, which is a tenth of a short delay. For each ordered pair of
//! nodes there is one address; whoever sends there reaches the other node, and is answered from there. A *path* is the
//! socket towards the target for one sender, so that the target's answers find their way back.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::net::sockopt;

use super::control::{Directions, Lateness};
use super::schedule::Schedule;
use super::server::Server;

/// Senders to one address that are told apart; the one that was quiet for longest gives way. A node dials from one
/// port, and from a new one after failures.
const PATHS_PER_LINK_MAX: usize = 8;

/// Datagrams taken from one socket before others get their turn.
const BURST: usize = 32;

/// Sockets looked at in one turn.
const EVENTS: usize = 64;

/// Socket buffers to ask the kernel for: bursts wait there while this thread is not scheduled.
const SOCKET_BUFFER_BYTES: usize = 8 << 20;

/// Niceness of the thread: a network does not wait for a processor. Needs privileges; without them it goes as well as
/// it goes.
const NICENESS: i32 = -15;

/// What a ready socket is, in the upper half of its number in the poll.
const STOP: u64 = 0;
const LINK: u64 = 1;
const PATH: u64 = 2;
pub(super) const CONTROL: u64 = 3;
pub(super) const CONNECTION: u64 = 4;

/// The number of socket `index` of `kind` in the poll.
pub(super) fn token(kind: u64, index: usize) -> epoll::EventData {
    epoll::EventData::new_u64(kind << 32 | index as u64)
}

/// One address of the relay.
#[derive(Debug)]
pub(super) struct Link {
    /// Place of the node that sends to it.
    pub(super) from: usize,
    /// Place of the node that it leads to.
    pub(super) to: usize,
    /// Where that node listens.
    pub(super) target: SocketAddr,
    /// The address itself.
    pub(super) socket: UdpSocket,
}

/// The socket towards a link's target for one sender.
#[derive(Debug)]
struct Path {
    link: usize,
    sender: SocketAddr,
    socket: UdpSocket,
    used: u64,
    /// Sets it apart from the path that had its place before.
    generation: u64,
}

/// A datagram that waits.
#[derive(Debug)]
struct Datagram {
    bytes: Box<[u8]>,
    from: usize,
    to: usize,
    exit: Exit,
}

/// Where it leaves.
#[derive(Debug, Clone, Copy)]
enum Exit {
    /// Through a path, if it is still of this generation.
    Target(usize, u64),
    /// From a link's address, to who sent there.
    Sender(usize, SocketAddr),
}

/// Everything that the thread owns.
#[derive(Debug)]
pub(super) struct Engine {
    poll: OwnedFd,
    stop: UnixStream,
    start: Instant,
    directions: Directions,
    links: Vec<Link>,
    paths: Vec<Path>,
    generations: u64,
    schedule: Schedule<Datagram>,
    server: Option<Server>,
    late: Histogram<u64>,
    buffer: Box<[u8]>,
}

impl Engine {
    /// An engine over bound sockets; it ends when the other end of `stop` is closed.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn new(
        directions: Directions,
        links: Vec<Link>,
        server: Option<Server>,
        stop: UnixStream,
    ) -> io::Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&poll, &stop, token(STOP, 0), epoll::EventFlags::IN)?;
        for (index, link) in links.iter().enumerate() {
            prepare(&link.socket)?;
            epoll::add(&poll, &link.socket, token(LINK, index), epoll::EventFlags::IN)?;
        }
        if let Some(server) = &server {
            server.register(&poll)?;
        }
        Ok(Self {
            poll,
            stop,
            start: Instant::now(),
            directions,
            links,
            paths: Vec::new(),
            generations: 0,
            schedule: Schedule::new(),
            server,
            late: Histogram::new_with_bounds(1, 60_000_000, 2).expect("the bounds are valid"),
            buffer: vec![0; usize::from(u16::MAX)].into_boxed_slice(),
        })
    }

    /// Runs until it is stopped.
    ///
    /// # Errors
    /// The poll failed, which only a defect makes it do.
    pub(super) fn run(mut self) -> io::Result<()> {
        // Both are a matter of precision: without them it works, less exactly.
        let _less_exact = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let _less_exact = rustix::process::setpriority_process(None, NICENESS);
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            self.send_due();
            self.wait()?;
            events.clear();
            epoll::wait(&self.poll, spare_capacity(&mut events), Some(&Timespec::default()))?;
            for event in &events {
                let number = event.data.u64();
                let index = usize::try_from(number & u64::from(u32::MAX)).unwrap_or(usize::MAX);
                match number >> 32 {
                    STOP => return self.stop.shutdown(std::net::Shutdown::Both),
                    LINK => self.read_link(index),
                    PATH => self.read_path(index),
                    kind => self.serve(kind, index),
                }
                self.send_due();
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Waits for a socket, or until the next datagram is due. The poll over the poll: only this one takes nanoseconds.
    fn wait(&self) -> io::Result<()> {
        let left = self.schedule.next_due().map(|due| due.saturating_sub(self.now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: (left % 1_000_000_000).cast_signed(),
        });
        match poll(&mut [PollFd::new(&self.poll, PollFlags::IN)], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn send_due(&mut self) {
        loop {
            let now = self.now();
            let Some((due, datagram)) = self.schedule.pop(now) else {
                return;
            };
            let Datagram { bytes, from, to, exit } = datagram;
            let sent = match exit {
                Exit::Target(path, generation) => {
                    let path = self.paths.get(path).filter(|path| path.generation == generation);
                    path.is_some_and(|path| path.socket.send(&bytes).is_ok())
                }
                Exit::Sender(link, sender) => self.links[link].socket.send_to(&bytes, sender).is_ok(),
            };
            self.directions.at(from, to).gone(bytes.len(), sent);
            self.late.saturating_record((now - due) / 1_000);
        }
    }

    /// Takes what nodes sent to a link's address.
    fn read_link(&mut self, index: usize) {
        for _ in 0..BURST {
            let link = &self.links[index];
            let (from, to) = (link.from, link.to);
            let Ok((count, sender)) = link.socket.recv_from(&mut self.buffer) else {
                return;
            };
            let now = self.now();
            // A failure here is one of the system's limits; a network too may lose a datagram.
            if let Ok(path) = self.path(index, sender) {
                self.paths[path].used = now;
                let exit = Exit::Target(path, self.paths[path].generation);
                self.take(now, count, from, to, exit);
            }
        }
    }

    /// Takes what a target answers.
    fn read_path(&mut self, index: usize) {
        for _ in 0..BURST {
            let Some(path) = self.paths.get(index) else { return };
            let (link, sender) = (path.link, path.sender);
            let count = match path.socket.recv(&mut self.buffer) {
                Ok(count) => count,
                // Nobody listened when we sent: no news for a network.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(_) => return,
            };
            let now = self.now();
            self.paths[index].used = now;
            let (from, to) = (self.links[link].from, self.links[link].to);
            self.take(now, count, to, from, Exit::Sender(link, sender));
        }
    }

    /// Decides on the datagram in the buffer.
    fn take(&mut self, now: u64, count: usize, from: usize, to: usize, exit: Exit) {
        let dues = self.directions.at(from, to).admit(now, count);
        for due in dues.into_iter().flatten() {
            let datagram = Datagram {
                bytes: Box::from(&self.buffer[..count]),
                from,
                to,
                exit,
            };
            if self.schedule.push(due, count, datagram).is_err() {
                self.directions.at(from, to).crowded_out(count);
            }
        }
    }

    /// The path of `sender` through a link.
    fn path(&mut self, link: usize, sender: SocketAddr) -> io::Result<usize> {
        let known = self
            .paths
            .iter()
            .position(|path| path.link == link && path.sender == sender);
        if let Some(known) = known {
            return Ok(known);
        }
        let target = self.links[link].target;
        let any: SocketAddr = if target.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(target)?;
        prepare(&socket)?;
        let of_link = (0..self.paths.len()).filter(|path| self.paths[*path].link == link);
        let place = if of_link.clone().count() < PATHS_PER_LINK_MAX {
            self.paths.len()
        } else {
            of_link.min_by_key(|path| self.paths[*path].used).unwrap_or(0)
        };
        epoll::add(&self.poll, &socket, token(PATH, place), epoll::EventFlags::IN)?;
        self.generations += 1;
        let path = Path {
            link,
            sender,
            socket,
            used: 0,
            generation: self.generations,
        };
        if place == self.paths.len() {
            self.paths.push(path);
        } else {
            // Dropping its socket takes it out of the poll.
            self.paths[place] = path;
        }
        Ok(place)
    }

    /// Answers on the control connections.
    fn serve(&mut self, kind: u64, index: usize) {
        let Self {
            server: Some(server),
            directions,
            late,
            poll,
            ..
        } = self
        else {
            return;
        };
        if kind == CONTROL {
            server.accept(poll);
        } else {
            server.serve(poll, index, |line| {
                directions.note_lateness(Lateness {
                    p50_us: late.value_at_quantile(0.5),
                    p99_us: late.value_at_quantile(0.99),
                    max_us: late.max(),
                });
                directions.obey(line)
            });
        }
    }
}

/// Large buffers, and no waiting.
fn prepare(socket: &UdpSocket) -> io::Result<()> {
    // The kernel gives what it allows.
    let _smaller = sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER_BYTES);
    let _smaller = sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER_BYTES);
    socket.set_nonblocking(true)
}
