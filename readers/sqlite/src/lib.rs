//! # weir-reader-sqlite: tables, views and queries of SQLite files
//!
//! Each task has one read-only connection and runs one SELECT, so it sees one moment of the file. A table of a file up
//! to 64 MiB is one split; the splits of a larger one see the moments at which they are read, which differ when another
//! program writes meanwhile.

mod config;
mod decode;
mod reader;
mod source;
mod split;

use std::sync::Arc;

pub use config::{IntegerTimes, SqliteReaderConfig};
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
        ],
        refused: &[
            ("preSql", "a reader never changes the database: run the statements beforehand"),
            ("postSql", "a reader never changes the database: run the statements afterwards"),
        ],
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
