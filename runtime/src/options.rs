//! What a caller decides about a run beside the job.

use std::path::PathBuf;
use std::sync::Arc;

use etcetera::BaseStrategy;
use tokio_util::sync::CancellationToken;

use crate::database::{Only, TableStops};
use crate::job::ErrorLimit;
use crate::observer::{Observer, Silent};

/// Options of one run. The default runs the job as it stands, watched by nobody.
#[derive(Clone)]
pub struct RunOptions {
    /// Names the run; by default new and unique. A name that the ledger knows is continued, or, once it has succeeded,
    /// reported again: a scheduler may simply repeat its call. That of another job's run is refused, any that is known
    /// with [`Start::Fresh`], and any without a state folder or with a `limit`, for nothing would remember it.
    pub run_id: Option<String>,
    /// What to do about an earlier run of the job that did not succeed.
    pub start: Start,
    /// Is told what happens.
    pub observer: Arc<dyn Observer>,
    /// Stops the run when it fires.
    pub cancel: CancellationToken,
    /// Where the ledger, locks and dirty rows are kept; the command uses [`default_state_dir`]. Without a folder nothing
    /// is kept, and a run that dies cannot be continued.
    pub state_dir: Option<PathBuf>,
    /// Where dirty rows are kept.
    pub quarantine: Quarantine,
    /// Stop each entry after this many rows.
    pub limit: Option<u64>,
    /// Whether incremental sources are read as if for the first time, whatever their watermarks say; those move to the
    /// end of this run all the same.
    pub full: bool,
    /// Replaces the job's own error limit.
    pub error_limit: Option<ErrorLimit>,
    /// In a whole-database job: which of its tables are moved.
    pub only: Only,
    /// Stops single tables of a whole-database job.
    pub tables: TableStops,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            run_id: None,
            start: Start::default(),
            observer: Arc::new(Silent),
            cancel: CancellationToken::new(),
            state_dir: None,
            quarantine: Quarantine::default(),
            limit: None,
            full: false,
            error_limit: None,
            only: Only::All,
            tables: TableStops::default(),
        }
    }
}

/// What to do about an earlier run of the same job that did not succeed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    /// Begin anew, unless the earlier run has left rows at the target for good: then refuse.
    #[default]
    New,
    /// Continue it; begin a run when there is none.
    Resume,
    /// Begin anew, whatever it has left.
    Fresh,
}

/// Where dirty rows are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Quarantine {
    /// In `quarantine/RUN_ID.jsonl` of the state folder; nowhere without one.
    #[default]
    StateDir,
    /// In this file.
    Path(PathBuf),
    /// Nowhere: they are counted and shown to the observer only.
    Off,
}

/// `WEIR_STATE_DIR`, else the user's state folder (`$XDG_STATE_HOME/weir`), else `.weir` here.
pub fn default_state_dir() -> PathBuf {
    if let Some(folder) = std::env::var_os("WEIR_STATE_DIR").filter(|v| !v.is_empty()) {
        return folder.into();
    }
    etcetera::choose_base_strategy()
        .ok()
        .and_then(|strategy| strategy.state_dir())
        .map_or_else(|| PathBuf::from(".weir"), |folder| folder.join("weir"))
}
