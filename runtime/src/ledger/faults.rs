//! What goes wrong with the ledger's file, in words that say what to do.

use std::path::Path;

use weir_core::{Error, ErrorKind};

/// SQLite's result codes.
const BUSY: i32 = 5;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const NO_DATABASE: i32 = 26;

/// The ledger cannot be read or written.
pub(super) fn failed(error: sqlx::Error) -> Error {
    let (kind, text) = match code_of(&error) {
        Some(FULL) => (
            ErrorKind::Io,
            "the disk of the state folder is full: make room there, then go on with the run (--resume, or the same call \
             with the same --run-id)",
        ),
        Some(CORRUPT | NO_DATABASE) => (
            ErrorKind::Data,
            "the ledger.db in the state folder is damaged: put a copy of it back, or move it away, or give another state \
             folder (--state-dir); a new ledger knows of no earlier run and no watermark",
        ),
        _ => (
            ErrorKind::Io,
            "the ledger in the state folder cannot be read or written: see to the folder, then go on with the run (--resume, or \
             the same call with the same --run-id)",
        ),
    };
    Error::new(kind, text).because(error)
}

/// A state folder of which nothing can be made.
pub(super) fn unusable(state_dir: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(
        ErrorKind::Io,
        "the state folder cannot be written: give another one with --state-dir or WEIR_STATE_DIR, or `--state-dir off` to \
         run without a ledger (such a run cannot be resumed)",
    )
    .with("folder", state_dir.display())
    .because(error)
}

/// Whether the ledger's file is none, or no longer one.
pub(super) fn is_damaged(error: &sqlx::Error) -> bool {
    matches!(code_of(error), Some(CORRUPT | NO_DATABASE))
}

/// Whether another process is writing.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    code_of(error) == Some(BUSY)
}

/// SQLite's result code; the upper bytes say more than is asked.
fn code_of(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?.parse::<i32>().ok()?;
    Some(code & 0xff)
}
