//! # weir-reader-sqlserver: reads tables of SQL Server, Azure SQL and Babelfish
//!
//! Rows stream over TDS into Arrow builders. Splits are ranges of the primary key (or of `splitPk`) whose boundaries the
//! server itself has ordered, so they cover every row exactly once under any collation.
//!
//! | SQL Server | Arrow |
//! |-|-|
//! | `tinyint`, `smallint`, `int`, `bigint` | UInt8, Int16, Int32, Int64 |
//! | `bit` | Boolean |
//! | `decimal(p,s)`, `numeric(p,s)` | Decimal128(p,s) |
//! | `money`, `smallmoney` | Decimal128(19,4), Decimal128(10,4), every digit |
//! | `real`, `float` | Float32, Float64, every bit |
//! | `date` | Date32 |
//! | `time(n)` | Time64 µs; of `time(7)` ns |
//! | `datetime`, `smalldatetime`, `datetime2(n)` | Timestamp µs; of `datetime2(7)` ns |
//! | `datetimeoffset(n)` | Timestamp UTC, µs or of `datetimeoffset(7)` ns; from SQL Server to SQL Server with its offset |
//! | texts of every collation, `xml` | Utf8 |
//! | `hierarchyid`, `geography`, `geometry` | Utf8: `/1/2/`, `SRID=4326;POINT (1 2)` |
//! | `binary`, `varbinary`, `image`, `rowversion` | Binary |
//! | `uniqueidentifier`, `json` | `arrow.uuid`, `arrow.json` |
//! | `sql_variant` | refused by name |
//!
//! A table of another database of the server (`database.schema.table`) is read by a connection to that one.
//!
//! Windows of incremental jobs go along a time, a number, a `rowversion`, or the server's change tracking.
//!
//! The server converts texts to Unicode and money to decimals in the select list: the driver would read texts of UTF-8
//! collations by a code page, and money as a double.

#[cfg(test)]
mod any_cells;
mod batch;
mod config;
mod decode;
mod holder;
mod incremental;
mod reader;
mod snapshot;
mod source;
mod split;
mod tracking;

use std::sync::Arc;

use weir_core::config::parse;
use weir_core::{Catalog, ObjectName, ReaderPlugin, Shard, inventory};
use weir_sqlserver::QUOTING;

pub use config::{Consistency, SqlServerReaderConfig};
pub use reader::SqlServerReader;

inventory::submit! {
    ReaderPlugin {
        name: "sqlserver",
        aliases: &["sqlserverreader"],
        summary: "Tables and queries of SQL Server, Azure SQL and other servers with the TDS protocol",
        schema: || schemars::schema_for!(SqlServerReaderConfig),
        ignored: &[
            ("fetchSize", "rows are streamed"),
            ("batchSize", "batches are bounded by bytes"),
            ("splitFactor", "splits are planned by size"),
            ("hint", "the server's optimizer decides"),
            ("preSql", "a reader runs no statements; use session"),
            ("postSql", "a reader runs no statements; use session"),
            ("dryRun", "use `weir plan`"),
            ("encoding", "text is always UTF-8"),
        ],
        refused: &[
            ("mandatoryEncoding", "text is converted by the server from each column's own collation"),
            ("splitMode", "splits follow the key's own order"),
            ("samplePercentage", "a reader delivers every row"),
            ("partitionName", "write a condition in `where` instead"),
        ],
        open: |parameters, context| {
            let config: SqlServerReaderConfig = parse(parameters)?;
            Ok(Arc::new(SqlServerReader::new(config, context)?))
        },
        catalog: Some(|parameters, context| {
            let config: SqlServerReaderConfig = parse(parameters)?;
            Ok(Arc::new(config.catalog(context)?) as Arc<dyn Catalog>)
        }),
        recognise: weir_sqlserver::recognise,
    }
}

weir_core::inventory::submit! {
    weir_core::DatabaseReader {
        name: "sqlserver",
        has_order: incremental::has_order,
        parameters: |tables| weir_sql::database::reader_parameters(tables, QUOTING, named),
    }
}

/// A table as the reader takes it: with its database where that is not the connection's own.
fn named(shard: &Shard<'_>, table: &ObjectName) -> String {
    let name = weir_sql::database::schema_and_table(table, QUOTING);
    match shard.database {
        Some(own) if own != table.database => format!("{}.{name}", QUOTING.quote(&table.database)),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_other_databases_are_named_with_them() {
        let table =
            |database: &str| ObjectName { database: database.into(), schema: Some("dbo".into()), table: "a]b".into() };
        let (source, tables) = (serde_json::json!({}), [table("shop")]);
        let shard = |database| Shard { name: "s", source: &source, database, tables: &tables };
        assert_eq!(named(&shard(Some("shop")), &table("shop")), "[dbo].[a]]b]");
        assert_eq!(named(&shard(Some("shop")), &table("x.y]")), "[x.y]]].[dbo].[a]]b]");
        assert_eq!(named(&shard(None), &table("x")), "[dbo].[a]]b]", "a run of before");
    }
}
