//! What ends a command that runs until it is told: Ctrl-C, a supervisor, the terminal that closes, or the parent that
//! ends.

use std::io::Read as _;

use tokio::signal::unix::{self, SignalKind};
use tokio::sync::mpsc;

use crate::exit::{Exit, ExitError};

/// Waits for the end.
pub(super) struct Stops {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
    parent: mpsc::Receiver<()>,
    // Keeps `parent` open when nobody watches stdin.
    _parent: mpsc::Sender<()>,
}

impl Stops {
    /// Listens from now on; to the end of stdin too, if the parent holds its other end.
    pub(super) fn new(die_with_parent: bool) -> Result<Self, ExitError> {
        let listen = |kind| {
            unix::signal(kind)
                .map_err(|error| ExitError::new(Exit::Io, format_args!("cannot listen for signals: {error}")))
        };
        let (sender, parent) = mpsc::channel(1);
        if die_with_parent {
            watch_stdin(sender.clone());
        }
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            parent,
            _parent: sender,
        })
    }

    /// Waits until one comes.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
            _ = self.parent.recv() => {}
        }
    }
}

/// Tells `ended` when stdin ends, which is when the process at its other end does.
pub(super) fn watch_stdin(ended: mpsc::Sender<()>) {
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = [0; 64];
        // Whatever the parent writes means nothing; that it can write means that it lives.
        while stdin.read(&mut buffer).is_ok_and(|count| count > 0) {}
        // Full or closed: the stop is under way.
        let _asked = ended.blocking_send(());
    });
}
