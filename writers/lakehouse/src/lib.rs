//! Writes Delta Lake tables.
//!
//! Tasks write Parquet files that no version names yet; `commit` puts all of them into one version of the log, together
//! with a mark of the run, so that a second `commit` of the same run finds it and does nothing. What a finished split has
//! made is recorded beside them, so that a run can go on after a crash.
//!
//! ```text
//!   table/_delta_log/00000000000000000007.json     the version, with the run's mark
//!   table/weir_RUN_3_1_00000-….snappy.parquet      data file of split 3, attempt 1
//!   table/_weir/RUN/split-3.json                   its receipt, until the run is forgotten
//!   table/_weir/RUN/weir_RUN_3_1_00000-….parquet   rows that wait for an upsert's merge
//! ```

mod columns;
mod commit;
mod config;
mod created;
mod database;
mod evolve;
mod files;
mod lease;
mod pending;
mod plan;
mod publish;
mod record;
#[cfg(feature = "datafusion")]
mod rewrite;
#[cfg(feature = "datafusion")]
mod spill;
mod task;
#[cfg_attr(not(feature = "datafusion"), path = "upsert_absent.rs")]
mod upsert;
mod writer;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use weir_core::{ConnectorContext, Faults, Parameters, Writer, WriterPlugin};
use weir_lakehouse::location_of;

pub use config::Config;
pub use writer::LakehouseWriter;

weir_core::inventory::submit! {
    WriterPlugin {
        name: "lakehouse",
        aliases: &[],
        summary: "Delta Lake tables on local disk or in an object store",
        schema: || schemars::schema_for!(Config),
        ignored: &[],
        refused: &[],
        open,
        recognise,
    }
}

fn open(parameters: &Parameters, context: &ConnectorContext) -> Result<Arc<dyn Writer>, Faults> {
    Ok(Arc::new(LakehouseWriter::new(weir_core::config::parse(parameters)?, context.clone())?))
}

/// `delta:…`, and a plain folder: a path without a scheme and without a file's extension.
fn recognise(location: &str, table: Option<&str>) -> Option<Value> {
    if let Some(parameters) = location_of(location, table) {
        return Some(parameters);
    }
    let plain = !location.is_empty() && location != "-" && !location.contains(':') && !location.contains(['*', '?']);
    let path = Path::new(location);
    if !plain || path.is_file() || (path.extension().is_some() && !path.is_dir()) {
        return None;
    }
    Some(match table {
        Some(table) => json!({"path": location, "table": table}),
        None => json!({"path": location}),
    })
}

#[cfg(test)]
mod tests {
    use super::recognise;

    #[test]
    fn a_folder_is_a_lake() {
        for location in ["lake", "./lake/orders", "/data/lake/", "delta:lake/v1.2"] {
            assert!(recognise(location, None).is_some(), "{location}");
        }
        for location in ["-", "stream:", "out.csv", "s3://bucket/x", "mysql://h/db", "in/*", "shop.db"] {
            assert!(recognise(location, None).is_none(), "{location}");
        }
        assert_eq!(recognise("lake", Some("orders")).unwrap()["table"], "orders");
    }
}

weir_core::inventory::submit! {
    weir_core::DatabaseWriter {
        name: "lakehouse",
        parameters: database::parameters,
        names: database::NAMES,
        finds_equal_keys: database::FINDS_EQUAL_KEYS,
    }
}
