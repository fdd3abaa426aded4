//! # weir-writer-sqlserver: writes tables of SQL Server, Azure SQL and Babelfish
//!
//! | mode | how rows become visible |
//! |-|-|
//! | append | each split is one transaction and commits by itself |
//! | overwrite | a staging table with the target's own keys and checks, then DELETE and INSERT … SELECT in one transaction; where foreign keys refer to the table, a comparison by key instead |
//! | upsert | a staging table, then UPDATE … FROM and INSERT … WHERE NOT EXISTS in one transaction; the last row of a key wins |
//!
//! Finished splits and the publication are recorded in `weir_commits`, in the transaction of the rows themselves, so that
//! no retry and no resume can double or lose a split. `exactlyOnce: false` does without.
//!
//! ```text
//!            ┌─ INSERT BULK ──────────────────────────────────────▶ the table ─┐
//!   batch ───┤      └ refused because of a row: back to the savepoint          ├─▶ record, COMMIT
//!            └─ INSERT BULK ──▶ #weir_load ── INSERT … SELECT, halved until ───┘
//!                                             the rows at fault are found
//! ```
//!
//! Batches go by INSERT BULK, columns named, constraints checked, triggers fired. What the driver cannot bring into a type
//! unbent (fewer decimals of a second than seven, texts of UTF-8 collations …) and what the table has refused goes into
//! `#weir_load` first, a table of the session that takes everything, and on from there by INSERT … SELECT: a statement
//! that fails leaves the transaction alive, which a failed bulk load does not everywhere.
//!
//! Identity columns that the job writes get the job's values.
//!
//! In whole-database jobs a table takes over its source's defaults, numbering, comments and keys, and follows it when it
//! changes.

mod apply;
mod carry;
mod commit;
mod complete;
mod config;
mod details;
mod encode;
mod evolve;
mod keys;
mod known;
mod lease;
mod ledger;
mod plan;
mod publish;
mod rights;
mod state;
mod taken;
mod task;
mod transaction;
mod types;
mod writer;

use std::sync::Arc;

use weir_core::config::parse;
use weir_core::{WriterPlugin, inventory};

pub use config::SqlServerWriterConfig;
pub use writer::SqlServerWriter;

inventory::submit! {
    WriterPlugin {
        name: "sqlserver",
        aliases: &["sqlserverwriter"],
        summary: "Tables of SQL Server, Azure SQL and other servers with the TDS protocol, through INSERT BULK",
        schema: || schemars::schema_for!(SqlServerWriterConfig),
        ignored: &[
            ("encoding", "text is always Unicode"),
            ("dryRun", "use `weir plan`"),
        ],
        refused: &[
            ("onConflictColumn", "name the key columns of an upsert as `key`"),
            ("partitionName", "rows go where the table's partitioning puts them"),
            ("updateColumn", "an upsert updates every column it writes; leave the others out of `column`"),
        ],
        open: |parameters, context| {
            let config: SqlServerWriterConfig = parse(parameters)?;
            Ok(Arc::new(SqlServerWriter::new(config, context)?))
        },
        recognise: weir_sqlserver::recognise,
    }
}

/// What the server takes as a name. Whether the case of letters matters is a setting of the database; names that differ in it
/// alone are no good anywhere.
const NAMES: weir_core::NameRules = weir_core::NameRules {
    longest: 128,
    in_bytes: false,
    forbidden: &['\0'],
    ignores_case: true,
    columns_ignore_case: true,
    schemas: true,
    columns: true,
    nests: false,
};

weir_core::inventory::submit! {
    weir_core::DatabaseWriter {
        name: "sqlserver",
        parameters: |table| weir_sql::database::writer_parameters(table, weir_sqlserver::QUOTING),
        names: NAMES,
        finds_equal_keys: weir_sql::database::finds_equal_keys,
    }
}
