//! # weir-reader-sqlite: tables, views and queries of SQLite files
//!
//! Each task runs one SELECT on a read-only connection. All tasks of a run see one moment of the file, whatever other
//! programs write meanwhile (in WAL mode; without it they wait until the run has ended), unless `consistency` is `none`.

mod config;
mod decode;
mod incremental;
mod reader;
mod snapshot;
mod source;
mod split;

use std::sync::Arc;

pub use config::{Consistency, IntegerTimes, SqliteReaderConfig};
pub use reader::SqliteReader;

use weir_core::{Catalog, ConnectorContext, Faults, Parameters, ReaderPlugin};
use weir_sqlite::{File, catalog::FileCatalog, path_of, recognise};

weir_core::inventory::submit! {
    ReaderPlugin {
        name: "sqlite",
        aliases: &["sqlitereader"],
        summary: "Reads tables, views and queries of an SQLite database file.",
        schema: || schemars::schema_for!(SqliteReaderConfig),
        ignored: &[
            ("fetchSize", "SQLite hands out rows one by one"),
            ("encoding", "SQLite knows the encoding of its file"),
            ("splitFactor", "splits are cut by size"),
            ("mandatoryEncoding", "text that is not valid is a dirty row"),
            ("checkSlave", "a file has no replica"),
            ("hint", "SQLite has no hints"),
            ("dryRun", "use `weir plan`"),
            ("preSql", "a reader changes nothing; use `session` for settings"),
            ("postSql", "a reader changes nothing"),
        ],
        refused: &[],
        open: |parameters, context| Ok(Arc::new(SqliteReader::open(parameters, context)?)),
        catalog: Some(open_catalog),
        recognise,
    }
}

fn open_catalog(parameters: &Parameters, context: &ConnectorContext) -> Result<Arc<dyn Catalog>, Faults> {
    let config: SqliteReaderConfig = weir_core::config::parse(parameters)?;
    let connection = config.common.connection.as_slice().first();
    let url = config.common.url.clone().or_else(|| connection.and_then(|c| c.jdbc_url.as_slice().first().cloned()));
    let Some(url) = url else {
        return Err(Faults::one("", "no `path`: say where the database file is"));
    };
    let path = path_of(&url).map_err(|message| Faults::one("/path", message))?;
    let session = config.common.session.as_slice().to_vec();
    Ok(Arc::new(FileCatalog { file: File { path, session }, context: context.clone() }))
}

weir_core::inventory::submit! {
    weir_core::DatabaseReader {
        name: "sqlite",
        has_order: incremental::has_order,
        parameters: |tables| {
            use weir_sql::database::{reader_parameters, schema_and_table};
            reader_parameters(tables, weir_sqlite::QUOTING, |_, table| schema_and_table(table, weir_sqlite::QUOTING))
        },
    }
}
