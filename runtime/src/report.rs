//! What a run leaves for people and programs to read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weir_core::{Error, ErrorKind, Window};

use crate::database::FailedTable;
use crate::database::evolve::{ChangedTable, TableChangeRecord};

/// The outcome of a run; `--report` writes it as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The job's name.
    pub job: String,
    /// Unique to the run.
    pub run_id: String,
    /// How it ended.
    pub status: Status,
    /// The scheduled time parameters were evaluated against, RFC 3339.
    pub at: String,
    /// The time zone and where it came from: `Europe/Berlin (setting.timeZone)`.
    pub time_zone: String,
    /// Parameters as given.
    pub parameters: BTreeMap<String, String>,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub finished_at: String,
    /// Wall-clock milliseconds.
    pub elapsed_ms: u64,
    /// Rows written ÷ elapsed seconds.
    pub rows_per_second: f64,
    /// Rows that the source delivered, dirty ones included.
    pub rows_read: u64,
    /// Rows that the target took. After a failed run: rows that stayed there.
    pub rows_written: u64,
    /// Rows that could not be moved.
    pub rows_dirty: u64,
    /// Rows that a transformer dropped.
    pub rows_filtered: u64,
    /// Rows that the target skipped by the write mode's own meaning (`insert ignore`).
    pub rows_skipped: u64,
    /// Arrow value and offset bytes read.
    pub bytes_read: u64,
    /// Arrow value and offset bytes written.
    pub bytes_written: u64,
    /// One entry for each source table.
    pub tables: Vec<TableReport>,
    /// In a whole-database job: changes of tables that the run did not have, because a rule leaves them out or the source
    /// has them no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ChangedTable>,
    /// The file with the dirty rows, if there are any.
    pub quarantine: Option<PathBuf>,
    /// What the user should know: warnings of the plan and of the run.
    pub warnings: Vec<String>,
    /// Why it did not succeed.
    pub error: Option<ErrorReport>,
}

/// What became of one source table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TableReport {
    /// In a whole-database job: the table's name, as `--tables` takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The source table.
    pub source: String,
    /// The target table.
    pub target: String,
    /// How it ended.
    pub status: Status,
    /// Whether the run created the target.
    pub created: bool,
    /// Rows read.
    pub rows_read: u64,
    /// Rows written.
    pub rows_written: u64,
    /// Dirty rows.
    pub rows_dirty: u64,
    /// Rows written ÷ seconds from its first split's start to its last one's end.
    #[serde(default)]
    pub rows_per_second: f64,
    /// What was read of it, where that is a window along a change column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// The moment that all its rows show, where the source could hold one: `exported snapshot 00000003-1`.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// From its first split's start to its last one's end, in milliseconds; publishing is not in it.
    pub elapsed_ms: u64,
    /// In a whole-database job: how the source has changed since the last run, and what was done about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<TableChangeRecord>,
    /// Why it did not succeed.
    pub error: Option<ErrorReport>,
}

impl TableReport {
    /// A table that could not be mapped.
    pub(crate) fn unmapped(table: &FailedTable) -> Self {
        let error = Error::new(table.kind, table.reason.clone()).with("table", &table.source);
        Self {
            name: Some(if table.target.is_empty() { table.source.clone() } else { table.target.clone() }),
            source: table.source.clone(),
            target: table.target.clone(),
            status: Status::Failed,
            created: false,
            rows_read: 0,
            rows_written: 0,
            rows_dirty: 0,
            window: None,
            rows_per_second: 0.0,
            snapshot: None,
            elapsed_ms: 0,
            changes: Vec::new(),
            error: Some(ErrorReport::from(&error)),
        }
    }
}

/// How a run, or a table of it, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Everything is at the target.
    Succeeded,
    /// Nothing, or not everything, is at the target.
    Failed,
    /// Some tables of several succeeded.
    PartiallyFailed,
    /// A signal, a timeout or the embedding service ended it.
    Stopped,
}

/// An error as a program reads it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorReport {
    /// Its kind.
    pub kind: ErrorKind,
    /// The message with its causes.
    pub message: String,
    /// Where it happened: job, table, split, column …
    pub context: BTreeMap<String, String>,
    /// Whether running again may help.
    pub retryable: bool,
}

impl From<&Error> for ErrorReport {
    fn from(error: &Error) -> Self {
        Self {
            kind: error.kind(),
            message: error.full(),
            context: error.context().iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
            retryable: error.is_retryable(),
        }
    }
}

impl Report {
    /// The exit code of a command that ran the job: 0, 1, or 2 for faults known without connecting. A stopped run's
    /// code is the signal's, which only the caller knows; here it is 1.
    pub fn exit_code(&self) -> u8 {
        match (&self.status, &self.error) {
            (Status::Succeeded, _) => 0,
            (_, Some(error)) if error.kind == ErrorKind::Config => 2,
            _ => 1,
        }
    }
}
