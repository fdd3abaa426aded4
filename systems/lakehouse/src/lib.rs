//! Delta Lake tables: where they are, what their columns mean in Arrow, which files make up a version.
//!
//! Everything here that touches storage runs on the job's I/O runtime, see [`on_io`]: object stores and the Delta log
//! spawn work of their own, which a task's current-thread runtime does not outlive.

mod catalog;
mod connection;
mod durable;
mod error;
#[cfg_attr(not(feature = "datafusion"), path = "expression_absent.rs")]
mod expression;
mod files;
mod io;
mod names;
mod object;
mod scan;
mod types;
mod values;

pub use catalog::LakehouseCatalog;
pub use connection::{Location, LocationConfig, location_of};
pub use error::{delta_error, io_error, parquet_error};
pub use expression::{Expression, Filter};
pub use files::{DataFile, active_files, ensure_readable, ensure_writable};
pub use io::on_io;
pub use names::{named, own_style, unquoted};
pub use scan::{Scan, Scanned};
pub use types::{
    NewColumn, SYSTEM, arrow_schema, canonical, existing_input, key_position, new_column, stored_type, type_text,
};
pub use values::{from_stored, partition_value, to_stored};
