//! # weir-writer-sqlite: tables of SQLite files
//!
//! One task writes at a time, for SQLite has one writer. A split is one transaction. Append, ignore and replace write into
//! the table itself, so each split shows when it is finished; overwrite and upsert write into a staging table in the
//! same file, with the table's own constraints, and publish everything in one transaction.

mod config;
mod definition;
mod encode;
mod evolve;
mod known;
mod lease;
mod plan;
mod publish;
mod records;
mod staging;
mod task;
mod writer;

use std::sync::Arc;

pub use config::SqliteWriterConfig;
pub use writer::SqliteWriter;

use weir_core::WriterPlugin;

weir_core::inventory::submit! {
    WriterPlugin {
        name: "sqlite",
        aliases: &["sqlitewriter"],
        summary: "Writes a table of an SQLite database file.",
        schema: || schemars::schema_for!(SqliteWriterConfig),
        ignored: &[
            ("encoding", "SQLite knows the encoding of its file"),
            ("dryRun", "use `weir plan`"),
        ],
        refused: &[
            ("onConflictColumn", "name the columns in `key`"),
        ],
        open: |parameters, context| Ok(Arc::new(SqliteWriter::open(parameters, context)?)),
        recognise: weir_sqlite::recognise,
    }
}

weir_core::inventory::submit! {
    // SQLite has no limit; error messages do.
    weir_core::DatabaseWriter {
        name: "sqlite",
        parameters: |table| weir_sql::database::writer_parameters(table, weir_sqlite::QUOTING),
        names: weir_core::NameRules { longest: 200, in_bytes: true, forbidden: &['\0'], ignores_case: true, columns_ignore_case: true, schemas: false, columns: true, nests: false },
        finds_equal_keys: weir_sql::database::finds_equal_keys,
    }
}
