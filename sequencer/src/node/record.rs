//! What peers signed and this node sent, written to a file for a judge who was not there.
//!
//! QUIC is encrypted, so only the nodes themselves can say who signed what. Off unless `debug.record` names a file;
//! `deploy/chaos/` reads it. Promises that the node never waits for it: a full queue, a failed write or a full file
//! costs lines, told once, and nothing else. Not durable: a killed node may lose its last lines. What others received
//! from it stands in theirs.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fusion_consensus::PeerId;

use crate::exit::ExitError;

/// Lines that may wait for the disk. Frames of votes have at most 32 KiB, nearly all below 200 bytes.
const LINES_MAX: usize = 4096;

/// A frame and where it went or came from.
#[derive(Debug)]
struct Line {
    unix_us: u128,
    direction: Direction,
    frame: Bytes,
}

#[derive(Debug)]
enum Direction {
    From(PeerId),
    To(PeerId),
    ToAll,
}

/// The way into the file. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorder {
    lines: Option<SyncSender<Line>>,
    is_losing: Arc<AtomicBool>,
}

impl Recorder {
    /// Appends to `path` until it has `bytes_max`; records nothing without a path.
    ///
    /// # Errors
    /// Code 74 when the file cannot be opened: whoever asked for a record wants to know before the node runs.
    pub(super) fn open(path: Option<&Path>, bytes_max: u64) -> Result<Self, ExitError> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let failed = |error| ExitError::io("open", path, &error);
        let file = File::options().create(true).append(true).open(path).map_err(failed)?;
        let room = bytes_max.saturating_sub(file.metadata().map_err(failed)?.len());
        let (lines, waiting) = sync_channel(LINES_MAX);
        let shown = path.display().to_string();
        std::thread::Builder::new()
            .name("fusion-record".to_owned())
            .spawn(move || write_all(file, room, &waiting, &shown))
            .map_err(failed)?;
        Ok(Self {
            lines: Some(lines),
            ..Self::default()
        })
    }

    /// Notes a frame of votes that came in.
    pub(super) fn received(&self, peer: PeerId, frame: &Bytes) {
        self.note(Direction::From(peer), frame);
    }

    /// Notes a frame of votes that goes out, to one peer or to all.
    pub(super) fn sent(&self, peer: Option<PeerId>, frame: &Bytes) {
        self.note(peer.map_or(Direction::ToAll, Direction::To), frame);
    }

    fn note(&self, direction: Direction, frame: &Bytes) {
        let Some(lines) = &self.lines else { return };
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = Line {
            unix_us: unix.as_micros(),
            direction,
            frame: frame.clone(),
        };
        if lines.try_send(line).is_err() && !self.is_losing.swap(true, Ordering::Relaxed) {
            tracing::warn!("debug.record: not everything is recorded from here on");
        }
    }
}

/// The recording thread: whatever waits, then one write. It ends with the node, or when the file is full or fails.
fn write_all(file: File, mut room: u64, waiting: &Receiver<Line>, path: &str) {
    let mut out = BufWriter::new(file);
    // The process before may have ended within a line.
    let mut text = String::from("\n");
    loop {
        if room < text.len() as u64 {
            tracing::warn!(
                path,
                "debug.record: the file has debug.record_bytes_max, nothing more is recorded"
            );
            drop(out.flush());
            return;
        }
        room -= text.len() as u64;
        let mut written = out.write_all(text.as_bytes());
        let next = match waiting.try_recv() {
            Ok(line) => Some(line),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                written = written.and_then(|()| out.flush());
                waiting.recv().ok()
            }
        };
        if let Err(error) = written {
            tracing::warn!(path, %error, "debug.record: cannot be written, nothing more is recorded");
            return;
        }
        let Some(line) = next else {
            drop(out.flush());
            return;
        };
        text.clear();
        line.print(&mut text);
    }
}

impl Line {
    /// `microseconds in|out peer|all hex`.
    fn print(&self, text: &mut String) {
        let _infallible = match &self.direction {
            Direction::From(peer) => write!(text, "{} in {peer} ", self.unix_us),
            Direction::To(peer) => write!(text, "{} out {peer} ", self.unix_us),
            Direction::ToAll => write!(text, "{} out all ", self.unix_us),
        };
        let _infallible = writeln!(text, "{:x}", self.frame);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::TrySendError;
    use std::time::Instant;

    use alloy_primitives::B256;

    use super::*;

    fn read_until(path: &Path, holds: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let text = std::fs::read_to_string(path).unwrap();
            if holds(&text) {
                return text;
            }
            assert!(started.elapsed().as_secs() < 10, "{text:?}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn frames_stand_in_the_file_with_direction_and_peer_after_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("votes");
        std::fs::write(&path, "17 in 0x").unwrap();
        let recorder = Recorder::open(Some(&path), 1024).unwrap();
        let peer = PeerId(B256::repeat_byte(7));
        recorder.received(peer, &Bytes::from_static(&[2, 255]));
        recorder.sent(None, &Bytes::from_static(&[1]));
        let text = read_until(&path, |text| text.ends_with(" 01\n"));
        let lines: Vec<_> = text
            .lines()
            .skip(1)
            .map(|line| line.split_once(' ').unwrap().1)
            .collect();
        assert_eq!(lines, [&format!("in {peer} 02ff"), "out all 01"]);
    }

    #[test]
    fn a_full_file_grows_no_further_and_delays_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("votes");
        let recorder = Recorder::open(Some(&path), 100).unwrap();
        let line = || Line {
            unix_us: 1,
            direction: Direction::ToAll,
            frame: Bytes::from_static(&[1; 20]),
        };
        // The thread's end shows in its queue: only then will the file grow no more.
        let begun = Instant::now();
        let lines = recorder.lines.as_ref().unwrap();
        while !matches!(lines.try_send(line()), Err(TrySendError::Disconnected(_))) {
            assert!(begun.elapsed().as_secs() < 10, "the thread goes on");
            std::thread::yield_now();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        // A line has 51 bytes, and the first stands behind an empty one: there is no room for a second.
        assert_eq!(text, format!("\n1 out all {}\n", "01".repeat(20)));
    }

    #[test]
    fn nothing_is_recorded_without_a_file() {
        let recorder = Recorder::open(None, 100).unwrap();
        recorder.sent(None, &Bytes::from_static(&[1]));
        assert!(recorder.lines.is_none());
    }
}
