//! Structured logs on stderr: text for people, or one JSON object a line for machines.
//!
//! Field names are stable and the same in both forms: `height`, `round`, `peer`, `rollup`, `tx`, `error`.
//! Results go to stdout and never through here. Secrets are never logged: no type that holds one has `Debug`.

use std::io::{IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use crate::config::{Log, LogFormat};
use crate::exit::ExitError;

/// Starts logging for this process. A second call keeps the first setting.
///
/// # Errors
/// Code 78 naming `log.level` when it is no filter.
pub fn init(log: &Log) -> Result<(), ExitError> {
    let filter = filter(&log.level).map_err(|error| ExitError::config(format_args!("log.level: {error}")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SystemTime)
        .log_internal_errors(false)
        .with_writer(|| Lossy);
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
    };
    // The only failure is that a logger runs already, which is what was asked for.
    drop(started);
    Ok(())
}

/// Standard error, as far as it takes what is written: a full disk or a reader that left costs log lines, never the
/// node.
struct Lossy;

impl Write for Lossy {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        drop(std::io::stderr().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        drop(std::io::stderr().flush());
        Ok(())
    }
}

/// Parses a level (`info`) or directives (`info,fusion_sequencer::network=debug`).
///
/// # Errors
/// What is wrong with it, in one line.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    // Malachite tells every vote at `info`; who wants that asks for `arc_malachitebft=info`.
    EnvFilter::builder()
        .parse(format!("arc_malachitebft=warn,{level}"))
        .map_err(|error| format!("\"{level}\" is no level or filter: {error}"))
}
