//! Whole databases in one job.
//!
//! ```text
//!   job file ─▶ config, job ─▶ one read of each source's catalogue ─▶ select, merge, naming, group ─▶ Expansion
//!                                                                                                 │ (frozen in the ledger)
//!                         ordinary entries of the Job, one for each target table  ◀── entries ─────┘
//! ```
//!
//! From there on the run is the one of every other job.

mod ahead;
pub mod config;
mod entries;
pub mod evolve;
mod expand;
mod group;
mod incremental;
mod job;
mod listing;
mod made;
mod merge;
mod moment;
mod naming;
mod only;
mod pattern;
mod plan;
pub mod references;
mod select;
mod stops;
mod table;
mod targets;
mod unseen;
mod words;

pub(crate) use ahead::{look_at_sources, look_at_target};
pub use entries::{at_target, tables_of, with_tables, writer_of};
pub use expand::{Expansion, expand};
pub(crate) use group::check_kept;
pub use incremental::TableIncremental;
pub(crate) use job::read;
pub use job::{DatabaseJob, DatabaseSource, Patterns};
pub use listing::Shut;
pub use merge::OriginColumn;
pub use moment::Moment;
pub(crate) use moment::{begin as begin_snapshots, checks as source_checks};
pub use only::Only;
pub use pattern::{Own, Pattern};
pub use plan::{DatabasePlan, GroupPlan, expanded, expanded_as_run, plan_tables};
pub use references::Referrer;
pub use select::Counts as Selected;
pub use stops::TableStops;
pub use table::{FailedTable, TableJob, TableSource};
