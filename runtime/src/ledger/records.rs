//! What the ledger holds.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use weir_core::{Committed, Receipt, Split, Window};

use crate::database::evolve::KnownTable;
use crate::job::UNNAMED;
use crate::report::{Report, Status};
use crate::task::TaskSpec;

/// A run.
#[derive(Debug, Clone, Serialize)]
pub struct RunRecord {
    /// Its id.
    pub run_id: String,
    /// The job's name.
    pub job: String,
    /// The job's file, absolute.
    pub path: Option<String>,
    /// The scheduled time, RFC 3339 with the zone's name: `2025-11-01T00:00:00+01:00 Europe/Berlin`.
    pub at: String,
    /// The parameters as given.
    pub parameters: BTreeMap<String, String>,
    /// The job's entries as they were read, secrets as references.
    #[serde(skip)]
    pub fingerprint: Value,
    /// How it ended, or that it did not.
    pub status: RunStatus,
    /// When it began, RFC 3339, UTC.
    pub started_at: String,
    /// When it ended.
    pub finished_at: Option<String>,
    /// Its report, once it ended.
    #[serde(skip)]
    pub report: Option<Report>,
}

impl RunRecord {
    /// Whether `--resume` has something to do for it.
    pub fn is_unfinished(&self) -> bool {
        !matches!(self.status, RunStatus::Succeeded | RunStatus::Abandoned)
    }

    /// What its process has locked: the job, or the run where nothing tells its job from others.
    pub(crate) fn lock(&self) -> &str {
        if self.path.is_some() || self.job != UNNAMED { &self.job } else { &self.run_id }
    }
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It runs; in the ledger also where its process died.
    Running,
    /// Its process died: only looking tells, the ledger does not have it.
    Interrupted,
    /// Everything is at the target.
    Succeeded,
    /// It failed, whole or in part.
    Failed,
    /// It was stopped.
    Stopped,
    /// A later run of the job began anew.
    Abandoned,
}

impl RunStatus {
    /// The name in the ledger and in `weir runs`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Abandoned => "abandoned",
        }
    }

    /// The status of a name; what is unknown is not finished.
    pub fn parse(name: &str) -> Self {
        let all = [Self::Succeeded, Self::Failed, Self::Stopped, Self::Abandoned];
        all.into_iter().find(|status| status.name() == name).unwrap_or(Self::Running)
    }
}

impl From<Status> for RunStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Succeeded => Self::Succeeded,
            Status::Failed | Status::PartiallyFailed => Self::Failed,
            Status::Stopped => Self::Stopped,
        }
    }
}

/// What was decided about one entry of a run.
#[derive(Debug, Clone)]
pub struct EntryRecord {
    /// The entry's index in the job.
    pub entry: u32,
    /// The input of its tasks.
    pub spec: TaskSpec,
    /// The source's columns as they were: `name type`, and `not null` and `key 1` where that is so.
    pub source: Vec<String>,
    /// What the commit said, once it is published.
    pub committed: Option<Committed>,
    /// What is read of each table, where that is a window.
    pub windows: Vec<Window>,
    /// Which of the job's entries that read the same source it is, from 0.
    pub ordinal: u32,
    /// In a whole-database job: what is to be known of the source once the table is published.
    pub known: Option<KnownTable>,
}

/// A split and what became of it.
#[derive(Debug, Clone)]
pub struct SplitRecord {
    /// The split.
    pub split: Split,
    /// Attempts so far; 0 where those of a target without records have come to nothing for sure.
    pub attempts: u32,
    /// The receipt, once it is finished.
    pub receipt: Option<Receipt>,
}

impl SplitRecord {
    /// Whether it was begun, and nothing is known of how that ended: all there is to go by where the target keeps no records.
    pub fn is_in_doubt(&self) -> bool {
        self.attempts > 0 && self.receipt.is_none()
    }
}

/// How far an entry is.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct EntryProgress {
    /// The entry's index in the job.
    pub entry: u32,
    /// Its splits.
    pub splits: i64,
    /// Those that are finished.
    pub finished: i64,
    /// Rows in these.
    pub rows: i64,
}
