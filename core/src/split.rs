//! The unit of work, and the proof that it was done.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// The reader's own words; nobody else looks inside. Never a secret.
    pub part: Value,
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
    /// The writer's own words: staged files, staging table … Never a secret.
    pub data: Value,
}
