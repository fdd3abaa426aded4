//! # weir-writer-mysql: writes tables of MySQL, MariaDB and their relatives
//!
//! | mode | how rows become visible |
//! |-|-|
//! | append | each split is one transaction and commits by itself; where the table refers to itself, a staging table, then INSERT … SELECT and UPDATE … JOIN of what ties rows to each other in one transaction |
//! | overwrite | a staging table with the target's own keys, then DELETE and INSERT … SELECT in one transaction; where foreign keys refer to the table, a comparison by key instead |
//! | upsert | a staging table, then INSERT … SELECT … ON DUPLICATE KEY UPDATE in one transaction, or UPDATE … JOIN and INSERT where the table has other unique keys; the last row of a key wins |
//! | replace | REPLACE, each split in its own transaction; refused where rows of other tables would go with it |
//! | ignore | rows whose key exists are skipped and counted, each split in its own transaction |
//!
//! Finished splits and the publication are recorded in `weir_commits`, in the transaction of the rows themselves, so
//! that no retry and no resume can double or lose a split. `exactlyOnce: false` does without.
//!
//! Batches go as LOAD DATA LOCAL where the server allows it (`local_infile`). LOAD DATA bends values that do not fit and
//! only warns: a batch with any warning, or with fewer rows than were sent, is rolled back to its savepoint and sent again
//! as strict INSERTs, which find the rows at fault. Elsewhere batches go as multi-row INSERTs.
//!
//! All DDL happens in `prepare`, for MySQL commits at DDL. Tables with a storage engine without transactions (MyISAM)
//! take append, replace and ignore only, row by row, and only with `exactlyOnce: false`: nothing could be taken back.

mod apply;
mod as_planned;
#[doc(hidden)]
pub mod bench;
mod commit;
mod config;
mod details;
mod encode;
mod evolve;
mod json;
mod keys;
mod known;
mod lease;
mod ledger;
mod making;
mod plan;
mod publish;
mod rights;
mod spell;
mod state;
mod taken;
mod task;
mod ties;
mod transaction;
mod types;
mod writer;

use std::sync::Arc;

use weir_core::config::parse;
use weir_core::{WriterPlugin, inventory};

pub use config::MySqlWriterConfig;
pub use writer::MySqlWriter;

inventory::submit! {
    WriterPlugin {
        name: "mysql",
        aliases: &["mysqlwriter", "mariadbwriter"],
        summary: "Tables of MySQL, MariaDB, TiDB, Aurora and other servers with MySQL's protocol",
        schema: || schemars::schema_for!(MySqlWriterConfig),
        ignored: &[
            ("encoding", "text is always UTF-8"),
            ("dryRun", "use `weir plan`"),
        ],
        refused: &[
            ("onConflictColumn", "MySQL decides by its unique keys; use writeMode upsert"),
            ("partitionName", "rows go where the table's partitioning puts them"),
            ("updateColumn", "an upsert updates every column it writes; leave the others out of `column`"),
            ("nullMode", "NULLs are written as they are; leave a column with a default out of `column`"),
            ("skipNullColumn", "NULLs are written as they are; leave a column with a default out of `column`"),
        ],
        open: |parameters, context| {
            let config: MySqlWriterConfig = parse(parameters)?;
            Ok(Arc::new(MySqlWriter::new(config, context)?))
        },
        recognise: weir_mysql::recognise,
    }
}

/// What the server takes as a name. Whether the case of letters matters is a setting of the server; names that differ in it
/// alone are no good anywhere.
const NAMES: weir_core::NameRules = weir_core::NameRules {
    longest: 64,
    in_bytes: false,
    forbidden: &['\0', '/', '\\', weir_core::NameRules::NARROW],
    ignores_case: true,
    columns_ignore_case: true,
    schemas: true,
    columns: true,
    nests: false,
};

weir_core::inventory::submit! {
    weir_core::DatabaseWriter {
        name: "mysql",
        parameters: |table| weir_sql::database::writer_parameters(table, weir_mysql::QUOTING),
        names: NAMES,
        finds_equal_keys: weir_sql::database::finds_equal_keys,
    }
}
