//! # weir-plugins-test: what the tests of connectors share
//!
//! - [`servers`]: private PostgreSQL, MariaDB and MySQL servers (feature `servers`, on by default).
//! - `s3`: an S3-compatible server inside the test program (feature `s3`).
//! - [`harness`]: drives one reader or one writer the way the engine does.
//! - [`conformance`]: what every connector must do, in or outside the workspace.
//! - [`proxy`]: does to connections what networks do.
//! - [`Stopwatch`]: measures what is promised to be over in time, on a busy machine too.
//! - [`memory`]: an in-memory reader and writer for tests of the engine, which misbehave on demand.

pub mod conformance;
pub mod harness;
pub mod memory;
pub mod proxy;
#[cfg(feature = "s3")]
pub mod s3;
#[cfg(feature = "servers")]
pub mod servers;
mod skips;
mod stopwatch;

pub use skips::{count_not_run, not_run};
pub use stopwatch::Stopwatch;
