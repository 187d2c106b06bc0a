//! The history of a run: a hash of everything that happened, and the story for whoever wants to read it.

use std::time::Duration;

/// Hashes always; prints when asked.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    pub(crate) events: u64,
    story: bool,
}

impl Trace {
    pub(crate) fn new(story: bool) -> Self {
        Self {
            hash: 0x51_7C_C1_B7_27_22_0A_95,
            events: 0,
            story,
        }
    }

    /// Takes what happened into the hash.
    pub(crate) fn note(&mut self, words: &[u64]) {
        self.events += 1;
        for word in words {
            self.hash = (self.hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        }
    }

    /// Takes bytes into the hash.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.hash = (self.hash ^ u64::from_le_bytes(word))
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .rotate_left(29);
        }
    }

    /// A line of the story.
    pub(crate) fn tell(&self, at: Duration, line: impl FnOnce() -> String) {
        if self.story {
            use std::io::Write as _;
            // Whoever closed the pipe has read enough.
            let _ = writeln!(std::io::stdout(), "{:>10.3} ms  {}", at.as_secs_f64() * 1000.0, line());
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}
