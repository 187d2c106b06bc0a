//! One node's process: started with a pipe whose end it watches, its output in a file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{ChildStdin, Command};

use super::home::Node;
use crate::exit::{Exit, ExitError};

/// Time between the request to stop and the kill.
pub(super) const STOP_MAX: Duration = Duration::from_secs(2);

/// Most of a log's end that is looked at, in bytes.
const TAIL_BYTES_MAX: u64 = 16 * 1024;

/// A node's process. Killed when dropped.
pub(super) struct Child {
    process: tokio::process::Child,
    pub(super) pid: u32,
    // Closed when this process ends, however it ends: the node sees it and stops.
    _alive: Option<ChildStdin>,
}

impl Child {
    /// Starts it; `overrides` are given to `--set`.
    pub(super) fn start(node: &Node, overrides: &[&str]) -> Result<Self, ExitError> {
        let log = node.log();
        let open = || File::options().create(true).append(true).open(&log);
        let failed = |error: &std::io::Error| ExitError::io("write", &log, error);
        let binary = binary()?;
        let mut process = Command::new(&binary)
            .args(["start", "--die-with-parent", "--home"])
            .arg(&node.home)
            .args(overrides.iter().flat_map(|text| ["--set", text]))
            .stdin(Stdio::piped())
            .stdout(open().map_err(|error| failed(&error))?)
            .stderr(open().map_err(|error| failed(&error))?)
            // A group of its own: Ctrl-C in our terminal reaches us alone, and we stop the nodes in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| ExitError::io("start", &binary, &error))?;
        let pid = process
            .id()
            .ok_or_else(|| ExitError::new(Exit::Io, "a node ended as it started"))?;
        let alive = process.stdin.take();
        Ok(Self {
            process,
            pid,
            _alive: alive,
        })
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<String> {
        match self.process.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Asks it to stop.
    pub(super) fn terminate(&self) {
        // `id` is `None` once it was waited for, so this never signals a process that took over its number.
        if let Some(pid) = self.process.id() {
            signal(pid, Signal::TERM);
        }
    }

    /// Waits for its end, and kills it at `deadline`.
    pub(super) async fn wait_until(&mut self, deadline: Instant) {
        if tokio::time::timeout_at(deadline.into(), self.process.wait())
            .await
            .is_err()
        {
            drop(self.process.kill().await);
        }
    }
}

/// Signals a process.
pub(super) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended this very moment; then there is nothing to do.
        let _ended = kill_process(pid, signal);
    }
}

/// This program.
pub(super) fn binary() -> Result<std::path::PathBuf, ExitError> {
    std::env::current_exe().map_err(|error| ExitError::new(Exit::Io, format_args!("cannot find this program: {error}")))
}

/// The last `count` lines of a log, indented, each with a line feed.
pub(super) fn last_lines(path: &Path, count: usize) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(count)..];
            tail.iter().map(|line| format!("  {line}\n")).collect()
        }
        Err(error) => format!("  (cannot read {}: {error})\n", path.display()),
    }
}
