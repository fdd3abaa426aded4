//! # weir-runtime: from a job file to rows at the target
//!
//! ```text
//!   job file ─▶ job::load ─▶ Job ─▶ plan ─▶ planned  ─┬─▶ prepare ─▶ tasks ─▶ commit ─▶ Report
//!                                                      │              │
//!                                                      │   reader thread ══ channel ══ writer thread
//!                                                      └─▶ `weir plan` stops here
//! ```
//!
//! The runtime names no connector: it finds them in the registry of weir-core, so a program links the ones it wants.
//! It keeps no global state, prints nothing and never ends the process; what happens goes to an [`Observer`].
//!
//! ```no_run
//! # async fn demo() -> weir_core::Result<()> {
//! use weir_runtime::{LoadOptions, RunOptions, job};
//!
//! let job = job::load_file("shop.json".as_ref(), &LoadOptions::default())?;
//! let report = weir_runtime::run(&job, RunOptions::default()).await;
//! assert_eq!(report.exit_code(), 0);
//! # Ok(())
//! # }
//! ```

mod check;
mod convert;
pub mod database;
mod dirty;
mod entry;
mod incremental;
pub mod job;
pub mod layout;
mod ledger;
mod limit;
pub mod mapping;
mod observer;
mod options;
mod pipeline;
mod place;
mod plan;
mod progress;
mod quarantine;
mod replay;
mod report;
mod retry;
mod run;
mod sender;
mod task;
mod threads;
pub mod transform;
mod verify;

pub use check::{EndCheck, check, check_data_source};
pub use database::evolve::{ChangeKind, ChangeOutcome, ChangedTable, TableChangeRecord};
pub use database::{DatabaseJob, Only, TableStops};
pub use dirty::QuarantineRow;
pub use job::{Endpoint, Entry, ErrorLimit, Job, LoadOptions, Setting};
pub use ledger::{
    DroppedKey, EntryProgress, EntryRecord, Ledger, RecordedChange, RunRecord, RunStatus, SplitRecord, WatermarkRecord,
};
pub use observer::{Event, Observer, Silent, TableProgress, TableState};
pub use options::{Quarantine, RunOptions, Start, default_state_dir};
pub use plan::{ColumnPlan, EntryPlan, Plan, plan};
pub use replay::{quarantined_run, replay};
pub use report::{ErrorReport, Report, Status, TableReport};
pub use run::run;
pub use task::{Outcome, TaskContext, TaskError, TaskSpec, run_task};
pub use verify::{EntryVerification, Findings, Verification, VerifyOptions, show_key, verify};
pub use weir_core::{Counts, Watermark, Window};
