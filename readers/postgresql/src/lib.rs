//! Reads tables and queries of PostgreSQL through COPY's binary format.

mod check;
mod config;
mod incremental;
mod reader;
mod shards;
mod snapshot;
mod source;
mod split;

use std::sync::Arc;

use weir_core::{Catalog, ConnectorContext, Faults, Parameters, Reader, ReaderPlugin};
use weir_postgresql::Endpoint;
use weir_postgresql::catalog::PgCatalog;

pub use config::PostgresqlReaderConfig;
pub use reader::PostgresqlReader;

fn open(parameters: &Parameters, context: &ConnectorContext) -> Result<Arc<dyn Reader>, Faults> {
    let config: PostgresqlReaderConfig = weir_core::config::parse(parameters)?;
    Ok(Arc::new(PostgresqlReader::new(config, context.clone())?))
}

fn catalog(parameters: &Parameters, context: &ConnectorContext) -> Result<Arc<dyn Catalog>, Faults> {
    let config: PostgresqlReaderConfig = weir_core::config::parse(parameters)?;
    let common = &config.common;
    let mut urls: Vec<String> = common.url.iter().cloned().collect();
    let mut login = (common.username.clone(), common.password.clone());
    if let Some(connection) = common.connection.as_slice().first() {
        urls.extend(connection.jdbc_url.as_slice().iter().cloned());
        login = (connection.username.clone().or(login.0), connection.password.clone().or(login.1));
    }
    if urls.is_empty() {
        return Err(Faults::one("", "no `url`: say where the database is (or name a `datasource`)"));
    }
    let endpoint = Endpoint::new(&urls, login.0.as_deref(), login.1.as_ref(), &config.tls, common.session.as_slice())?;
    Ok(Arc::new(PgCatalog::new(endpoint, context.clone())))
}

weir_core::inventory::submit! {
    ReaderPlugin {
        name: "postgresql",
        aliases: &["postgresqlreader"],
        summary: "Tables and queries of PostgreSQL, through COPY in binary",
        schema: || schemars::schema_for!(PostgresqlReaderConfig),
        ignored: &[
            ("fetchSize", "rows are streamed, in batches bounded by their bytes"),
            ("splitFactor", "splits are sized by themselves"),
            ("hint", "PostgreSQL has no hints"),
            ("checkSlave", "name a standby in the url, with targetServerType=secondary"),
            ("preSql", "a reader changes nothing; use `session` for settings"),
            ("postSql", "a reader changes nothing"),
            ("dryRun", "use `weir plan`"),
            ("encoding", "PostgreSQL converts to UTF-8 itself"),
        ],
        refused: &[
            ("mandatoryEncoding", "PostgreSQL converts to UTF-8 itself; texts cannot be read in another encoding"),
            ("splitMode", "splits cover every row exactly once without it; remove it"),
            ("samplePercentage", "it would read a part of the rows; put TABLESAMPLE into a querySql"),
            ("weakRead", "reads are consistent; remove it"),
            ("partitionName", "name the partition as `table`"),
        ],
        open,
        catalog: Some(catalog),
        recognise: weir_postgresql::recognise,
    }
}

weir_core::inventory::submit! {
    weir_core::DatabaseReader {
        name: "postgresql",
        has_order: incremental::has_order,
        parameters: |tables| {
            use weir_sql::database::{reader_parameters, schema_and_table};
            let name = |_: &weir_core::Shard<'_>, table: &weir_core::ObjectName| schema_and_table(table, weir_sql::Quoting::DOUBLE);
            let mut parameters = reader_parameters(tables, weir_sql::Quoting::DOUBLE, name)?;
            // Each table is read by itself: rows that a parent shows of its children would come twice.
            if let Some(parameters) = parameters.as_object_mut() {
                parameters.entry("only").or_insert(true.into());
            }
            Ok(parameters)
        },
    }
}
