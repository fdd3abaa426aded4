//! Logs: to stderr, as text or JSON, and never through the middle of a progress line.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::arguments::{LogFormat, LoggingArguments};
use super::style;

/// The progress lines that log lines have to step around, while there are any.
static LINES: OnceLock<MultiProgress> = OnceLock::new();

/// Starts logging. Called once, by the commands that log.
pub(crate) fn start(arguments: &LoggingArguments) {
    // deltalake warns of every binary column that it keeps no statistics of, and the driver of SQL Server of every
    // certificate that it was told to take; its errors are told as ours.
    let default = match arguments.quiet {
        true => "warn,deltalake_core=error,tiberius=off",
        false => "warn,weir=info,deltalake_core=error,tiberius=off",
    };
    let filter = match std::env::var("WEIR_LOG") {
        Ok(text) if !text.trim().is_empty() => EnvFilter::try_new(&text).unwrap_or_else(|_| EnvFilter::new(default)),
        _ => EnvFilter::new(default),
    };
    quiet_panics();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Stderr);
    // An embedding of ours cannot have set one before: this is the program's own main.
    let _ = match arguments.log {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_target(false).try_init(),
        LogFormat::Text => {
            let terminal = io::stderr().is_terminal();
            let builder = builder.with_ansi(terminal && style::colours()).with_target(false);
            if terminal { builder.without_time().try_init() } else { builder.try_init() }
        }
    };
}

/// A panic on one of the run's threads becomes the run's error, and libraries catch some of their own: those are told as
/// errors or not at all, and stand in the log only when asked for. One on the main thread has nobody else to tell it.
fn quiet_panics() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match std::thread::current().name() {
        Some("main") => loud(panic),
        thread => tracing::debug!(thread, "{panic}"),
    }));
}

/// From now on log lines appear above these progress lines.
pub(crate) fn step_around(lines: MultiProgress) {
    let _ = LINES.set(lines);
}

#[derive(Clone, Copy)]
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // A line comes in one piece, and a closed stderr is no reason to stop moving rows.
        let write = || {
            let _ = io::stderr().lock().write_all(line);
        };
        match LINES.get() {
            Some(lines) => lines.suspend(write),
            None => write(),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
