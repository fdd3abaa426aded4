//! # weir-sqlite: what the SQLite reader and writer share
//!
//! Opening files, raw statements, the catalogue, the types and the text forms of values.
//!
//! SQLite types its values, not its columns: a declared type is a wish. [`types`] gives each declared type the Arrow
//! type that its values should have, and the reader holds every value against it.

pub mod catalog;
mod connection;
pub mod decimal;
pub mod error;
pub mod family;
pub mod location;
pub mod raw;
pub mod structure;
pub mod times;
pub mod types;

pub use connection::{Access, Connection, File};
pub use error::Failure;
pub use location::{path_of, recognise};
pub use raw::{Database, Statement, Value};

use weir_sql::Quoting;

/// The system's name in field metadata.
pub const SYSTEM: &str = "sqlite";

/// How SQLite quotes identifiers.
pub const QUOTING: Quoting = Quoting::DOUBLE;
