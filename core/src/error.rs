//! The one error type: what went wrong, where, and what to do about it.

use std::error::Error as StdError;
use std::fmt;

/// `Result` with the error type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of fault an [`Error`] is. Exit codes and retries are decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The job file or the call is wrong, and that is known without connecting anywhere.
    Config,
    /// A table, column, file or object does not exist.
    NotFound,
    /// Wrong credentials, or a privilege is missing.
    Denied,
    /// The server cannot be reached, or the connection broke.
    Unreachable,
    /// A wait ended without an answer.
    Timeout,
    /// The system, or Weir, cannot do what was asked.
    Unsupported,
    /// Columns or types of source and target do not fit.
    Schema,
    /// Data that cannot be read, and cannot be tied to one row (a truncated archive, say).
    Data,
    /// More dirty rows than the job allows.
    DirtyLimit,
    /// The target's state forbids it: it exists already, another run holds it, it changed meanwhile.
    Conflict,
    /// The snapshot that the source's splits were to be read from is gone with its connection or its server: another one
    /// shows another moment, so trying the split again is no help, only reading its table anew.
    SnapshotLost,
    /// The local machine: disk full, unreadable file, closed pipe.
    Io,
    /// The run was stopped by a signal, a timeout of the job, or the embedding service.
    Cancelled,
    /// The server refused a statement for another reason.
    Remote,
    /// A fault of Weir itself.
    Internal,
}

impl ErrorKind {
    /// The name as it stands in reports: `not_found`, `dirty_limit`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Unsupported => "unsupported",
            Self::Schema => "schema",
            Self::Data => "data",
            Self::DirtyLimit => "dirty_limit",
            Self::Conflict => "conflict",
            Self::SnapshotLost => "snapshot_lost",
            Self::Io => "io",
            Self::Cancelled => "cancelled",
            Self::Remote => "remote",
            Self::Internal => "internal",
        }
    }
}

/// A fault: its kind, a message that says what to do, and where it happened as context pairs
/// (`job`, `table`, `split`, `column`, `file`, `pointer` …).
#[derive(thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Inner>);

// Boxed, so that `Result<T, Error>` stays one pointer wide on the hot path.
#[derive(Debug, thiserror::Error)]
#[error("{message}{}", Places(.context))]
struct Inner {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    retryable: bool,
}

impl Error {
    /// A fault of `kind`. The message is a sentence that names the thing and, where it can, the remedy.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let retryable = matches!(kind, ErrorKind::Unreachable | ErrorKind::Timeout);
        Self(Box::new(Inner { kind, message: message.into(), context: Vec::new(), source: None, retryable }))
    }

    /// A fault of the job file or the call.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// A fault of Weir itself.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The run was stopped.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "the run was stopped")
    }

    /// Adds where it happened. A key that is there already keeps its first, innermost value.
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        if !self.0.context.iter().any(|(k, _)| *k == key) {
            self.0.context.push((key, value.to_string()));
        }
        self
    }

    /// Keeps the fault that caused this one.
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says whether trying again may help. By default only unreachable servers and timeouts are worth it.
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// The same fault as another kind: what a connector calls a fault of the job may have been found only by connecting.
    pub fn into_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Adds to the message what else there is to do.
    pub fn and(mut self, advice: &str) -> Self {
        self.0.message.push_str("; ");
        self.0.message.push_str(advice);
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message alone, without context and causes.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The context pairs, innermost first.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }

    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Message, context and every cause in one line, for logs and reports.
    pub fn full(&self) -> String {
        use std::fmt::Write;
        let mut text = self.to_string();
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            let part = error.to_string();
            // Drivers like to repeat their cause's text; say a thing once.
            if !text.contains(&part) {
                let _ = write!(text, ": {part}");
            }
            cause = error.source();
        }
        text
    }
}

/// Context pairs as a message ends with them.
struct Places<'a>(&'a [(&'static str, String)]);

impl fmt::Display for Places<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.0.iter().enumerate() {
            write!(f, "{}{key} {value}", if i > 0 { ", " } else { " (" })?;
        }
        f.write_str(if self.0.is_empty() { "" } else { ")" })
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind().name(), self.full())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let (kind, message) = match error.kind() {
            Io::NotFound => (ErrorKind::NotFound, "no such file or folder"),
            Io::PermissionDenied => (ErrorKind::Denied, "the file or folder may not be opened: check its permissions"),
            Io::ReadOnlyFilesystem => {
                (ErrorKind::Denied, "the file system is read-only: make it writable, or choose another place")
            }
            Io::StorageFull | Io::QuotaExceeded => (ErrorKind::Io, "the disk is full: free some space and run again"),
            _ => (ErrorKind::Io, "input or output failed"),
        };
        Self::new(kind, message).because(error)
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::new(ErrorKind::Internal, "columns could not be built").because(error)
    }
}

/// Adds context to the error of a `Result`.
pub trait ResultExt<T> {
    /// Adds where it happened, see [`Error::with`].
    fn context(self, key: &'static str, value: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Error>> ResultExt<T> for std::result::Result<T, E> {
    fn context(self, key: &'static str, value: impl fmt::Display) -> Result<T> {
        self.map_err(|e| e.into().with(key, value))
    }
}
