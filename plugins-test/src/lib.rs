//! # weir-plugins-test: what the tests of connectors share
//!
//! - [`servers`]: private PostgreSQL, MariaDB and MySQL servers.

#[cfg(feature = "servers")]
pub mod servers;
mod skips;

pub use skips::{count_not_run, not_run};
