//! A socket that is not read while its peer does not read, and that fails when that lasts.
//!
//! Every WebSocket message is answered by a task of its own, so that without this a peer which sends and never reads
//! would pile up answers. With it, what it sent stays in its own buffers.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::Permit;

/// The socket of one connection, with its place among the open ones.
#[derive(Debug)]
pub(super) struct Paced {
    stream: TcpStream,
    timeout: Duration,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Whether that lasted too long.
    failed: bool,
    /// Who waits to read: must hear of the failure, and of its end.
    reader: Option<Waker>,
    _permit: Permit,
}

impl Paced {
    pub(super) fn new(stream: TcpStream, timeout: Duration, permit: Permit) -> Self {
        Self {
            stream,
            timeout,
            stalled: None,
            failed: false,
            reader: None,
            _permit: permit,
        }
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Notes whether the peer takes what is written.
    fn after_write<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.stalled.take().is_some() {
                self.wake_reader();
            }
            return written;
        }
        let deadline = Instant::now() + self.timeout;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if stalled.as_mut().poll(context).is_ready() {
            self.failed = true;
            self.wake_reader();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.failed {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.stalled.is_some() {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.stream).poll_read(context, buf);
        if read.is_pending() {
            self.reader = Some(context.waker().clone());
        }
        read
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.after_write(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.after_write(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
