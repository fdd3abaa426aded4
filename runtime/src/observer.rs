//! How a run tells its surroundings what happens: a terminal, a log, an embedding service.

use std::sync::Arc;

use weir_core::{Counts, DirtyRow, Split};

/// What a table is expected to be and has become.
#[derive(Debug, Clone, Default)]
pub struct TableProgress {
    /// The source table.
    pub source: String,
    /// The target.
    pub target: String,
    /// Estimated rows, where the source knows.
    pub estimated_rows: Option<u64>,
    /// Estimated bytes, where the source knows.
    pub estimated_bytes: Option<u64>,
    /// So far.
    pub counts: Counts,
    /// Splits.
    pub splits: usize,
    /// Splits that are finished.
    pub splits_done: usize,
    /// How far it is.
    pub state: TableState,
}

/// How far a table is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TableState {
    /// Its turn has not come.
    Waiting,
    /// It is planned, and its rows flow.
    #[default]
    Moving,
    /// All its rows are read; they become visible, or wait for the other tables to.
    Moved,
    /// Its rows are visible.
    Published,
    /// It did not end well.
    Failed,
}

/// Something that happened in a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The run begins.
    Started {
        /// The job's name.
        job: &'a str,
        /// The run.
        run_id: &'a str,
    },
    /// An entry was planned and its target prepared; its splits begin.
    Prepared {
        /// The target.
        target: &'a str,
        /// How many splits there are.
        splits: usize,
        /// How many channels carry them.
        channels: usize,
    },
    /// A split was begun.
    SplitStarted {
        /// The split.
        split: &'a Split,
        /// From 1.
        attempt: u32,
    },
    /// A split is durable at the target.
    SplitFinished {
        /// The split.
        split: &'a Split,
        /// Rows written.
        rows: u64,
    },
    /// A row was set aside.
    Dirty {
        /// Its source table.
        table: &'a str,
        /// The row.
        row: &'a DirtyRow,
    },
    /// An entry's rows are visible.
    Committed {
        /// The target.
        target: &'a str,
        /// What happened.
        description: &'a str,
    },
    /// About ten times a second while rows flow, and once at the end.
    Progress {
        /// The whole job.
        total: Counts,
        /// Each table.
        tables: &'a [TableProgress],
    },
    /// Something the user should know.
    Warning(&'a str),
}

/// Is told what happens in a run. Called from the run's threads, so it must be quick and must not block.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event<'_>);
}

/// An observer that looks away.
#[derive(Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: &Event<'_>) {}
}

impl<T: Observer + ?Sized> Observer for Arc<T> {
    fn event(&self, event: &Event<'_>) {
        (**self).event(event);
    }
}
