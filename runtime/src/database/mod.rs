//! Whole databases in one job.
//!
//! ```text
//!   job file ─▶ config ─▶ one read of each source's catalogue ─▶ select, merge, name, group ─▶ Expansion
//!                                                                                                │ (frozen in the ledger)
//!                          ordinary entries of the Job, one for each target table  ◀──────────────┘
//! ```
//!
//! From there on the run is the one of every other job.

pub mod config;
pub mod table;

pub use table::{TableJob, TableSource};
