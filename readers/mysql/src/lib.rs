//! # weir-reader-mysql: reads tables of MySQL, MariaDB and their relatives
//!
//! Rows stream over the text protocol; each cell's bytes go straight from the packet into an Arrow builder. Splits are
//! ranges of the primary key (or of `splitPk`) whose boundaries the server itself has ordered, so they cover every row
//! exactly once under any collation.
//!
//! All splits of a run see one moment, as nearly as `consistency` asks for: a MySQL connection cannot join another one's
//! snapshot, so the connections are opened ahead and begin together.
//!
//! | MySQL | Arrow |
//! |-|-|
//! | integers | Int8 … Int64, UInt8 … UInt64; `tinyint(1)` is Int8 unless `tinyInt1isBit` is true |
//! | `decimal(p,s)` | Decimal128, from 39 digits Decimal256 |
//! | `float`, `double` | Float32, Float64, every bit |
//! | `bit(1)`, `bit(n)` | Boolean, UInt64 |
//! | `year` | Int16 |
//! | `date`, `datetime`, `timestamp` | Date32, Timestamp µs without zone, Timestamp µs UTC |
//! | `time` | Duration µs |
//! | text types, `enum`, `set`, `inet4`, `inet6` | Utf8 |
//! | binary types | Binary |
//! | `json` (MariaDB's too), `uuid` | `arrow.json`, `arrow.uuid` |
//! | geometry | Binary: WKB, x before y; a geometry with an SRID goes from MySQL to MySQL only |
//! | `vector(n)` | List of Float32 |
//!
//! From MySQL to MySQL every type passes as the bytes of the text protocol, undecoded.

mod batch;
#[doc(hidden)]
pub mod bench;
mod config;
mod decode;
mod incremental;
mod lock;
mod numbers;
mod pool;
mod reader;
mod same;
mod snapshot;
mod source;
mod split;
mod together;
mod var;
mod whole;

use std::sync::Arc;

use weir_core::config::parse;
use weir_core::{Catalog, ReaderPlugin, inventory};

pub use config::{Consistency, MySqlReaderConfig};
pub use reader::MySqlReader;

inventory::submit! {
    ReaderPlugin {
        name: "mysql",
        aliases: &["mysqlreader", "mariadbreader"],
        summary: "Tables and queries of MySQL, MariaDB, TiDB, Aurora and other servers with MySQL's protocol",
        schema: || schemars::schema_for!(MySqlReaderConfig),
        ignored: &[
            ("fetchSize", "rows are streamed"),
            ("batchSize", "batches are bounded by bytes"),
            ("splitFactor", "splits are planned by size"),
            ("hint", "the server's optimizer decides"),
            ("checkSlave", "replication is not looked at"),
            ("preSql", "a reader runs no statements; use session"),
            ("postSql", "a reader runs no statements; use session"),
            ("dryRun", "use `weir plan`"),
            ("encoding", "text is always UTF-8"),
        ],
        refused: &[
            ("mandatoryEncoding", "text is converted by the server from each column's own character set"),
            ("splitMode", "splits follow the key's own order"),
            ("samplePercentage", "a reader delivers every row"),
            ("weakRead", "reads are consistent"),
            ("savePoint", "splits are the units of a resume"),
            ("partitionName", "write a condition in `where` instead"),
        ],
        open: |parameters, context| {
            let config: MySqlReaderConfig = parse(parameters)?;
            Ok(Arc::new(MySqlReader::new(config, context)?))
        },
        catalog: Some(|parameters, context| {
            let config: MySqlReaderConfig = parse(parameters)?;
            Ok(Arc::new(whole::SourceCatalog::new(&config, context)?) as Arc<dyn Catalog>)
        }),
        recognise: weir_mysql::recognise,
    }
}

weir_core::inventory::submit! {
    weir_core::DatabaseReader {
        name: "mysql",
        has_order: incremental::has_order,
        parameters: |tables| {
            use weir_sql::database::{reader_parameters, database_and_table};
            reader_parameters(tables, weir_mysql::QUOTING, |_, table| database_and_table(table, weir_mysql::QUOTING))
        },
    }
}
