//! # weir-sql: what the relational connectors share
//!
//! Parameters with DataX's names, names and their quoting, column lists, table lists, key ranges and statements that
//! read the same in every dialect; and the bytes below a protocol. It talks to no server: a system's crate brings connection,
//! catalogue and types.

pub mod ahead;
pub mod ceilings;
pub mod columns;
pub mod commits;
pub mod config;
pub mod cuts;
pub mod database;
pub mod defaults;
pub mod dropped;
pub mod incremental;
pub mod keys;
pub mod labels;
pub mod lease;
pub mod names;
pub mod narrow;
pub mod order;
pub mod ranges;
pub mod seen;
pub mod statements;
#[cfg(feature = "stream")]
pub mod stream;

pub use weir_core::tables;

pub use ahead::Ahead;
pub use ceilings::Ceilings;
pub use columns::{Selected, is_all, resolve_source_columns, resolve_target_columns};
pub use commits::Commits;
pub use config::{DuplicateKeys, Object, ReaderConfig, Source, Sources, WriterConfig};
pub use dropped::DroppedKeys;
pub use incremental::IncrementalConfig;
pub use labels::home;
pub use lease::LeaseRow;
pub use names::{Quoting, TableName, find_exact, find_name, no_such, own_name, refuse_long};
pub use ranges::{KeyRange, integer_boundaries, key_ranges};
pub use seen::Seen;
