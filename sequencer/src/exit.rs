//! How `fusion` ends: one table of exit codes, and the error that carries one.
//!
//! Scripts, systemd and Kubernetes decide by the code; people read the line on stderr. The codes follow
//! `sysexits.h` where it has a fitting one. Codes are never reused for another meaning.

use std::process::ExitCode;

/// Why the process ends, as the number that its parent sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done, or stopped when asked to.
    Ok = 0,
    /// The question was understood and the answer is no: a receipt is invalid, a check failed.
    Negative = 1,
    /// The command line is wrong.
    Usage = 64,
    /// A node, or what it needs, does not answer.
    Unavailable = 69,
    /// A broken invariant or a danger to safety; never caused by input. Please report it.
    Internal = 70,
    /// A durable write failed, or the log is damaged. The disk is not trusted any more; nothing was signed after it.
    Storage = 71,
    /// A file could not be read or written.
    Io = 74,
    /// Another process uses this home folder.
    Locked = 75,
    /// Configuration, genesis, keys or sign guard are missing or wrong: restarting alone does not help.
    Config = 78,
}

/// Every code with what it means and what to do, in the order of `fusion --help`.
pub const TABLE: [(Exit, &str); 9] = [
    (Exit::Ok, "done, or stopped when asked to"),
    (Exit::Negative, "the answer is no: not valid, not ready, check failed"),
    (Exit::Usage, "wrong command line"),
    (Exit::Unavailable, "a node does not answer; try again"),
    (
        Exit::Internal,
        "broken invariant or danger to safety; do not restart blindly, report it",
    ),
    (
        Exit::Storage,
        "a durable write failed, or the log is damaged; look at the disk before a restart",
    ),
    (Exit::Io, "a file cannot be read or written"),
    (Exit::Locked, "another process uses this home folder"),
    (
        Exit::Config,
        "configuration, genesis, keys or sign guard; a restart alone does not help",
    ),
];

/// What ends a command: a code and one line for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExitError {
    /// The process's exit code.
    pub exit: Exit,
    /// What is wrong, with names, values and limits. Several lines only when several things are wrong.
    pub message: String,
}

impl ExitError {
    /// An error that ends the process with `exit`.
    pub fn new(exit: Exit, message: impl std::fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
        }
    }

    /// Configuration, genesis, keys or guard: code 78.
    pub fn config(message: impl std::fmt::Display) -> Self {
        Self::new(Exit::Config, message)
    }

    /// A file that cannot be read or written: code 74.
    pub fn io(what: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(Exit::Io, format_args!("cannot {what} {}: {error}", path.display()))
    }

    /// A broken invariant: code 70.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(Exit::Internal, message)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The table as text for `--help`.
pub fn help() -> String {
    let rows = TABLE
        .iter()
        .map(|(exit, text)| format!("  {:>2}  {text}\n", *exit as u8));
    format!("Exit codes:\n{}", rows.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_ascending_and_without_repeats() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
