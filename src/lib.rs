//! # Weir moves tables
//!
//! A *reader* cuts a source into *splits*, each split becomes a task, each task flows as Arrow record batches through a
//! limited *channel* into a *writer*, and the job becomes visible at the target all at once or not at all.
//!
//! This crate is the whole of it: [`weir_runtime`] with the connectors that its Cargo features link. A service that
//! runs jobs looks like this:
//!
//! ```no_run
//! # async fn demo() -> weir::core::Result<()> {
//! use weir::{LoadOptions, RunOptions, job};
//!
//! let job = job::load_file("shop.json".as_ref(), &LoadOptions::default())?;
//! let report = weir::run(&job, RunOptions::default()).await;
//! println!("{} rows", report.rows_written);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! `sqlite`, `files`, `postgresql`, `mysql`, `sqlserver`, `lakehouse` and `stream` each link a reader and a writer; `datafusion` adds
//! what the lakehouse needs it for (upsert, `where`) and most of the build time; `cli` is the `weir` command. All are on
//! by default.
//!
//! # Extending
//!
//! A connector is a crate of its own: see [`weir_core`], and link it with `use my_connector as _;`.

pub use weir_core as core;

/// The guide's Rust is compiled as any example is.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
mod embedding {}

pub use weir_runtime::*;

// A dependency that nobody names is not linked, and registers nothing.
#[cfg(feature = "files")]
use {weir_reader_files as _, weir_writer_files as _};
#[cfg(feature = "lakehouse")]
use {weir_reader_lakehouse as _, weir_writer_lakehouse as _};
#[cfg(feature = "mysql")]
use {weir_reader_mysql as _, weir_writer_mysql as _};
#[cfg(feature = "postgresql")]
use {weir_reader_postgresql as _, weir_writer_postgresql as _};
#[cfg(feature = "sqlite")]
use {weir_reader_sqlite as _, weir_writer_sqlite as _};
#[cfg(feature = "sqlserver")]
use {weir_reader_sqlserver as _, weir_writer_sqlserver as _};
#[cfg(feature = "stream")]
use {weir_reader_stream as _, weir_writer_stream as _};
