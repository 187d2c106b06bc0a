//! A WebSocket (RFC 6455) over a plain TCP connection, for the bench alone.
//!
//! A general client costs more per message than the bench may take from the cluster that it measures. This one writes a
//! frame as it is, reads with one large buffer, and parses in place. Promises: frames of the node are bounded,
//! fragments are joined, pings are handed up to be answered. Leaves out: TLS, compression, and random masks (below).

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context as _, bail, ensure};

/// Largest message accepted from a node, in bytes: a block of 32,768 hashes in hex is 2.3 MB.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Room for one read. A message that is longer makes the buffer grow.
const READ_BYTES: usize = 256 * 1024;

/// Longest answer to the handshake.
const HANDSHAKE_BYTES_MAX: usize = 16 * 1024;

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Turns a connection into a WebSocket. `host` and `path` are of the URL.
pub(super) fn upgrade(stream: &mut TcpStream, host: &str, path: &str) -> anyhow::Result<()> {
    // The key only proves that the other end speaks WebSocket at all; we know that it does.
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: ZnVzaW9uIGJlbmNoIDEyMw==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    // Byte by byte, so that nothing after the answer is taken. It happens once.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        ensure!(
            answer.len() < HANDSHAKE_BYTES_MAX,
            "the answer to the WebSocket handshake is longer than {HANDSHAKE_BYTES_MAX} bytes"
        );
        let mut byte = [0];
        stream
            .read_exact(&mut byte)
            .context("no answer to the WebSocket handshake")?;
        answer.extend_from_slice(&byte);
    }
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.lines().next().unwrap_or_default();
    ensure!(
        status.split(' ').nth(1) == Some("101"),
        "no WebSocket here: the node answered {status:?}"
    );
    Ok(())
}

/// An outgoing message, built in place: the frame's header is filled in when its length is known.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
}

/// Longest header of a frame: 2 bytes, 8 of length, 4 of mask.
const HEADER_BYTES_MAX: usize = 14;

impl Outgoing {
    /// Empties the message and hands out where to write its text; only append.
    pub(super) fn begin(&mut self) -> &mut Vec<u8> {
        self.bytes.clear();
        self.bytes.resize(HEADER_BYTES_MAX, 0);
        &mut self.bytes
    }

    /// The text so far.
    pub(super) fn text(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The finished frame of a text message.
    pub(super) fn finish(&mut self) -> &[u8] {
        self.finish_as(TEXT)
    }

    /// A pong that answers a ping with this content.
    pub(super) fn pong(&mut self, content: &[u8]) -> &[u8] {
        self.begin().extend_from_slice(content);
        self.finish_as(PONG)
    }

    /// The mask is zero: RFC 6455 §5.3 asks for random masks to protect proxies from chosen bytes on the wire. There is
    /// no proxy here, and masking would cost a pass over every payload.
    fn finish_as(&mut self, opcode: u8) -> &[u8] {
        let length = self.bytes.len() - HEADER_BYTES_MAX;
        let mut header = [0; HEADER_BYTES_MAX];
        header[0] = FIN | opcode;
        let used = match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ 0..=125), _) => {
                header[1] = 0x80 | short;
                6
            }
            (_, Ok(medium)) => {
                header[1] = 0x80 | 126;
                header[2..4].copy_from_slice(&medium.to_be_bytes());
                8
            }
            _ => {
                header[1] = 0x80 | 127;
                header[2..10].copy_from_slice(&(length as u64).to_be_bytes());
                14
            }
        };
        let start = HEADER_BYTES_MAX - used;
        self.bytes[start..HEADER_BYTES_MAX].copy_from_slice(&header[..used]);
        &self.bytes[start..]
    }
}

/// What a node sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming<'a> {
    /// A whole text or binary message.
    Message(&'a [u8]),
    /// To be answered with a pong of the same content.
    Ping(&'a [u8]),
    /// The node closes the connection, for this reason.
    Close(String),
}

/// The node's frames, cut out of the bytes as they arrive.
#[derive(Debug)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Fragments of a message that is not finished.
    fragments: Vec<u8>,
    fragmented: bool,
    /// The last message, if it was fragmented.
    joined: Vec<u8>,
}

struct FrameHeader {
    fin: bool,
    opcode: u8,
    header_bytes: usize,
    length: usize,
}

impl Frames {
    /// Nothing read yet.
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            fragments: Vec::new(),
            fragmented: false,
            joined: Vec::new(),
        }
    }

    /// Reads once. Returns the number of bytes; 0 at the end of the stream.
    pub(super) fn fill(&mut self, source: &mut impl Read) -> std::io::Result<usize> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            // A message larger than the buffer is on its way; `next` has checked that it is not too large.
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let count = source.read(&mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// The next whole message, or `None` when more bytes are needed.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Incoming<'_>>> {
        loop {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let from = self.start + header.header_bytes;
            let to = from + header.length;
            if to > self.end {
                return Ok(None);
            }
            self.start = to;
            match header.opcode {
                TEXT | BINARY if header.fin && !self.fragmented => {
                    return Ok(Some(Incoming::Message(&self.buffer[from..to])));
                }
                TEXT | BINARY | CONTINUATION => {
                    ensure!(
                        (header.opcode == CONTINUATION) == self.fragmented,
                        "the node mixed up the fragments of a WebSocket message"
                    );
                    ensure!(
                        self.fragments.len() + header.length <= MESSAGE_BYTES_MAX,
                        "a fragmented message exceeds {MESSAGE_BYTES_MAX} bytes"
                    );
                    self.fragments.extend_from_slice(&self.buffer[from..to]);
                    self.fragmented = !header.fin;
                    if header.fin {
                        self.joined = std::mem::take(&mut self.fragments);
                        return Ok(Some(Incoming::Message(&self.joined)));
                    }
                }
                PING => return Ok(Some(Incoming::Ping(&self.buffer[from..to]))),
                PONG => {}
                CLOSE => {
                    let reason = self.buffer[from..to].get(2..).unwrap_or_default();
                    return Ok(Some(Incoming::Close(String::from_utf8_lossy(reason).into_owned())));
                }
                other => bail!("WebSocket frame of unknown kind {other}"),
            }
        }
    }

    fn header(&self) -> anyhow::Result<Option<FrameHeader>> {
        let bytes = &self.buffer[self.start..self.end];
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        ensure!(second & 0x80 == 0, "the node sent a masked WebSocket frame");
        let (header_bytes, length) = match second & 0x7f {
            126 => match rest.first_chunk::<2>() {
                Some(length) => (4, u64::from(u16::from_be_bytes(*length))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(length) => (10, u64::from_be_bytes(*length)),
                None => return Ok(None),
            },
            short => (2, u64::from(short)),
        };
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= MESSAGE_BYTES_MAX);
        let length = length.with_context(|| format!("a WebSocket frame exceeds {MESSAGE_BYTES_MAX} bytes"))?;
        Ok(Some(FrameHeader {
            fin: first & FIN != 0,
            opcode: first & 0x0f,
            header_bytes,
            length,
        }))
    }
}

#[cfg(test)]
mod tests;
