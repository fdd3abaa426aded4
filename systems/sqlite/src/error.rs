//! What SQLite's result codes mean for a run, and what to do about each.

use libsqlite3_sys as ffi;
use weir_core::{Error, ErrorKind};

/// A statement that SQLite refused: its extended result code and its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The extended result code.
    pub code: i32,
    /// SQLite's message.
    pub message: String,
}

impl Failure {
    /// A failure with SQLite's code and message.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Whether another program holds the lock.
    pub fn is_busy(&self) -> bool {
        matches!(self.code & 0xff, ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED)
    }

    /// Whether the values of the row are to blame: a constraint, a type of a STRICT table, a value that is too long.
    pub fn blames_row(&self) -> bool {
        matches!(self.code & 0xff, ffi::SQLITE_CONSTRAINT | ffi::SQLITE_MISMATCH | ffi::SQLITE_TOOBIG)
    }

    /// The error of a run.
    pub fn into_error(self) -> Error {
        let Self { code, message } = self;
        let said = |text: &str| format!("{text}; SQLite says: {message}");
        match code & 0xff {
            ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => Error::new(
                ErrorKind::Conflict,
                "the database is locked by another program: close it or wait until it is done, then run again",
            )
            .retryable(true),
            ffi::SQLITE_READONLY => Error::new(
                ErrorKind::Denied,
                "the database is read-only: make the file and its folder writable for this user",
            ),
            ffi::SQLITE_NOTADB => {
                Error::new(ErrorKind::Data, "the file is not an SQLite database (or it is encrypted): check the path")
            }
            ffi::SQLITE_CORRUPT => Error::new(
                ErrorKind::Data,
                said("the database file is damaged: look at `PRAGMA integrity_check` and restore a backup"),
            ),
            ffi::SQLITE_FULL => Error::new(ErrorKind::Io, "the disk is full: free some space and run again"),
            ffi::SQLITE_IOERR => {
                Error::new(ErrorKind::Io, said("the file could not be read or written: check the disk"))
            }
            ffi::SQLITE_CANTOPEN => Error::new(
                ErrorKind::Denied,
                "the database cannot be opened: check the path, and that this user may read the file and its folder",
            ),
            ffi::SQLITE_PERM | ffi::SQLITE_AUTH => {
                Error::new(ErrorKind::Denied, said("access to the database is denied"))
            }
            ffi::SQLITE_INTERRUPT => Error::cancelled(),
            ffi::SQLITE_NOMEM => Error::new(ErrorKind::Io, "SQLite ran out of memory"),
            ffi::SQLITE_CONSTRAINT => Error::new(ErrorKind::Conflict, said("a constraint of the table is violated")),
            ffi::SQLITE_SCHEMA => {
                Error::new(ErrorKind::Conflict, said("the table changed meanwhile: run again")).retryable(true)
            }
            _ => Error::new(ErrorKind::Remote, format!("SQLite refused the statement: {message}")),
        }
    }
}

/// The error of a run for one of the driver's errors, which occur only while connecting.
pub fn driver_error(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(cause) => {
            let code = cause.code().and_then(|code| code.parse().ok()).unwrap_or(ffi::SQLITE_ERROR);
            Failure::new(code, cause.message()).into_error()
        }
        _ => Error::new(ErrorKind::Io, "the connection to the database file broke").because(error),
    }
}
