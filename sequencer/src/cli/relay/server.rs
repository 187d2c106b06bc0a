//! The control connections of the relay: lines in, lines out, served by the relay's own thread.
//!
//! Bounded: so many connections, so long a line, and nothing is read from a connection that does not take its answers.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::event::epoll;

use super::engine::{CONNECTION, CONTROL, token};

/// Most connections at a time; one more is closed at once.
const CONNECTIONS_MAX: usize = 16;

/// Longest request.
const LINE_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// The listening socket and its connections.
#[derive(Debug)]
pub(super) struct Server {
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
}

impl Server {
    /// Listens at `address`.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            connections: (0..CONNECTIONS_MAX).map(|_| None).collect(),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Puts the listening socket into `poll`.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn register(&self, poll: &OwnedFd) -> io::Result<()> {
        Ok(epoll::add(
            poll,
            &self.listener,
            token(CONTROL, 0),
            epoll::EventFlags::IN,
        )?)
    }

    /// Takes a connection that waits.
    pub(super) fn accept(&mut self, poll: &OwnedFd) {
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        let Some(place) = self.connections.iter().position(Option::is_none) else {
            return;
        };
        let ready = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
        let added = epoll::add(poll, &stream, token(CONNECTION, place), epoll::EventFlags::IN);
        if ready.is_ok() && added.is_ok() {
            self.connections[place] = Some(Connection {
                stream,
                input: Vec::new(),
                output: Vec::new(),
            });
        }
    }

    /// Reads requests of a connection, lets `obey` answer them, and writes the answers.
    pub(super) fn serve(&mut self, poll: &OwnedFd, place: usize, obey: impl FnMut(&str) -> String) {
        let Some(Some(connection)) = self.connections.get_mut(place) else {
            return;
        };
        let waits_for = match connection.serve(obey) {
            Ok(()) if connection.output.is_empty() => epoll::EventFlags::IN,
            Ok(()) => epoll::EventFlags::OUT,
            Err(_) => {
                self.connections[place] = None;
                return;
            }
        };
        if epoll::modify(poll, &connection.stream, token(CONNECTION, place), waits_for).is_err() {
            self.connections[place] = None;
        }
    }
}

impl Connection {
    /// As far as it goes without waiting. An error ends the connection.
    fn serve(&mut self, mut obey: impl FnMut(&str) -> String) -> io::Result<()> {
        self.flush()?;
        if !self.output.is_empty() {
            return Ok(());
        }
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.input.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            if !line.trim().is_empty() {
                self.output.extend_from_slice(obey(line.trim()).as_bytes());
                self.output.push(b'\n');
            }
        }
        if self.input.len() > LINE_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
