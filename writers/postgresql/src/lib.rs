//! Writes tables of PostgreSQL through COPY's binary format.

mod check;
mod columns;
mod config;
mod created;
mod details;
mod doubled;
mod evolve;
mod keys;
mod known;
mod lease;
mod maker;
mod plan;
mod publish;
mod record;
mod stage;
mod taken;
mod task;
mod transaction;
mod writer;

use std::sync::Arc;

use weir_core::{ConnectorContext, Faults, Parameters, Writer, WriterPlugin};

pub use config::PostgresqlWriterConfig;
pub use writer::PostgresqlWriter;

fn open(parameters: &Parameters, context: &ConnectorContext) -> Result<Arc<dyn Writer>, Faults> {
    let config: PostgresqlWriterConfig = weir_core::config::parse(parameters)?;
    Ok(Arc::new(PostgresqlWriter::new(config, context.clone())?))
}

weir_core::inventory::submit! {
    WriterPlugin {
        name: "postgresql",
        aliases: &["postgresqlwriter"],
        summary: "Tables of PostgreSQL, through COPY in binary: append, overwrite, upsert, ignore",
        schema: || schemars::schema_for!(PostgresqlWriterConfig),
        ignored: &[
            ("dryRun", "use `weir plan`"),
            ("encoding", "PostgreSQL converts from UTF-8 itself"),
            ("splitFactor", "the reader sizes the splits"),
        ],
        refused: &[
            ("onConflictColumn", "name the key columns of an upsert as `key`"),
            ("partitionName", "name the partition as `table`"),
            ("conflictMode", "say it as `writeMode`: insert, upsert (update) or ignore"),
        ],
        open,
        recognise: weir_postgresql::recognise,
    }
}

/// What the server takes as a name. NAMEDATALEN, less the zero at the end.
const NAMES: weir_core::NameRules = weir_core::NameRules {
    longest: 63,
    in_bytes: true,
    forbidden: &['\0'],
    ignores_case: false,
    columns_ignore_case: false,
    schemas: true,
    columns: true,
    nests: false,
};

weir_core::inventory::submit! {
    weir_core::DatabaseWriter {
        name: "postgresql",
        parameters: |table| weir_sql::database::writer_parameters(table, weir_sql::Quoting::DOUBLE),
        names: NAMES,
        finds_equal_keys: weir_sql::database::finds_equal_keys,
    }
}
