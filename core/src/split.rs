//! The unit of work, and the proof that it was done.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::SourceTable;

/// A part of a source that is read by one task and applied to the target once or not at all.
///
/// Splits are planned once, stored before the first read and never planned again, so a split must mean the same rows
/// when it is read after a restart or on another machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// Unique in the job and stable: the runtime numbers splits `0`, `1`, … in the order the reader returns them.
    #[serde(default)]
    pub id: u32,
    /// The source table it belongs to, one of [`SourceTable::name`](crate::SourceTable::name).
    pub table: String,
    /// What a person sees in plan, log and quarantine: `id in [1, 5000)`, `pages 0–999`.
    pub description: String,
    /// Estimated rows.
    pub rows: Option<u64>,
    /// Estimated bytes.
    pub bytes: Option<u64>,
    /// Whether it means the same rows in every snapshot of the source: a range of keys does, a range of pages does
    /// not. A resume after a crash reads from a new snapshot, and only then may splits that were committed from the
    /// old one stay.
    #[serde(default)]
    pub stable: bool,
    /// The reader's own words; nobody else looks inside. Never a secret.
    pub part: Value,
}

impl Split {
    /// A table as one split.
    pub fn whole(table: &SourceTable) -> Self {
        Self {
            id: 0,
            table: table.name.clone(),
            description: "all rows".into(),
            rows: table.rows,
            bytes: table.bytes,
            stable: true,
            part: Value::Null,
        }
    }
}

/// What flowed through a task, a table or a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Rows that the source delivered.
    pub rows_read: u64,
    /// Bytes of them.
    pub bytes_read: u64,
    /// Rows handed to the target so far; they may not be visible yet.
    pub rows_written: u64,
    /// Bytes of them.
    pub bytes_written: u64,
    /// Rows that could not be moved.
    pub rows_dirty: u64,
    /// Rows that a transformer dropped.
    pub rows_filtered: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.rows_read += other.rows_read;
        self.bytes_read += other.bytes_read;
        self.rows_written += other.rows_written;
        self.bytes_written += other.bytes_written;
        self.rows_dirty += other.rows_dirty;
        self.rows_filtered += other.rows_filtered;
    }
}

/// What the runtime knows of the attempt that finished a split. The writer keeps it, unread, in the target's record of
/// the split: after a crash the record is all there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The attempt, from 1.
    pub attempt: u32,
    /// The snapshot's epoch: of splits with equal epochs all rows are from one moment.
    #[serde(default)]
    pub epoch: String,
    /// What flowed.
    pub counts: Counts,
    /// The quarantine part with the dirty rows, where there were any: its path on the machine of the run.
    #[serde(default)]
    pub quarantine: Option<String>,
}

/// What a finished task leaves behind: enough for [`Writer::commit`](crate::Writer::commit) to publish it, from any
/// process and any machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The split's id.
    pub split: u32,
    /// Rows that the target took.
    pub rows: u64,
    /// Rows that the target skipped by the mode's own meaning (`insert ignore`).
    #[serde(default)]
    pub skipped: u64,
    /// What the runtime handed to [`TaskWriter::finish`](crate::TaskWriter::finish).
    #[serde(default)]
    pub account: Account,
    /// The writer's own words: staged files, staging table … Never a secret.
    pub data: Value,
}

impl Receipt {
    /// A receipt that says nothing but how many rows the target took.
    pub fn new(split: u32, rows: u64, account: Account) -> Self {
        Self { split, rows, skipped: 0, account, data: Value::Null }
    }
}
