//! The conformance library: what every connector must do, checked with a dozen lines of the connector's own.
//!
//! A connector says, through [`Source`] or [`Target`], how a table gets into its system and how a test sees what is
//! there; the library knows what to lay, to read, to write and to expect. What a system has no notion of (a password,
//! a NULL key) is left out with a reason, and counted and printed as not run.
//!
//! ```ignore
//! struct Shop(Database);
//!
//! #[async_trait]
//! impl conformance::Source for Shop {
//!     fn plugin(&self) -> &'static str {
//!         "postgresql"
//!     }
//!     async fn lay(&self, table: &Table) -> Laid {
//!         self.0.execute(&table.sql(&Dialect::STANDARD)).await;
//!         Laid::At(json!({ "url": self.0.url(), "table": table.quoted('"') }))
//!     }
//! }
//!
//! #[tokio::test]
//! async fn the_reader_conforms() {
//!     conformance::check_source(&Shop(servers::postgresql().await.fresh_database("conformance").await)).await;
//! }
//! ```
//!
//! [`check_registry`] needs no service at all: it looks at every connector that is linked into the test program.

mod evolve;
mod folders;
mod leases;
mod peers;
mod reads;
mod registry;
mod report;
mod samples;
mod source;
mod table;
mod target;
mod writes;

pub use folders::check_folders;
pub use reads::check_source;
pub use registry::{check_registry, registry_faults};
pub use samples::{Sample, samples};
pub use source::{Laid, Source, TypeCase};
pub use table::{Dialect, Table, rows_with_keys, rows_with_null_keys};
pub use target::{Refused, Target, WriteCase};
pub use writes::check_target;

/// A table, seen as text: rows of cells, NULL as `None`.
pub type Cells = Vec<Vec<Option<String>>>;

fn sorted(mut cells: Cells) -> Cells {
    cells.sort();
    cells
}
