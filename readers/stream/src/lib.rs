//! Reads random and constant rows: for trying a target, measuring it, and DataX's own self-test.
//!
//! ```json
//! {"name": "stream", "parameter": {"sliceRecordCount": 1000, "seed": 7, "column": [
//!     {"name": "id", "incr": "1,1"},
//!     {"name": "amount", "type": "long", "random": "1,100"},
//!     {"name": "note", "random": "3,20"},
//!     "a constant"
//! ]}}
//! ```

mod column;
mod config;
mod date;
mod reader;

use std::sync::Arc;

use serde_json::{Value, json};
use weir_core::{ConnectorContext, Faults, Parameters, Reader, ReaderPlugin};

pub use config::{Column, ColumnSpec, Config};
pub use reader::StreamReader;

weir_core::inventory::submit! {
    ReaderPlugin {
        name: "stream",
        aliases: &["streamreader"],
        summary: "Random and constant rows, for trying and measuring a target",
        schema: || schemars::schema_for!(Config),
        ignored: &[],
        refused: &[],
        open,
        catalog: None,
        recognise,
    }
}

fn open(parameters: &Parameters, context: &ConnectorContext) -> Result<Arc<dyn Reader>, Faults> {
    let config: Config = weir_core::config::parse(parameters)?;
    Ok(Arc::new(StreamReader::new(&config, context.clone())?))
}

/// `stream:` is a hundred rows of a bit of everything, `stream:5000` five thousand.
fn recognise(location: &str, _table: Option<&str>) -> Option<Value> {
    let rows = match location.strip_prefix("stream:")? {
        "" => 100,
        count => count.parse::<u64>().ok()?,
    };
    Some(json!({
        "sliceRecordCount": rows,
        "column": [
            {"name": "id", "incr": "1,1"},
            {"name": "amount", "type": "long", "random": "0,1000000"},
            {"name": "ratio", "type": "double", "random": "0,1"},
            {"name": "name", "type": "string", "random": "4,16"},
            {"name": "active", "type": "bool", "random": "1,1"},
            {"name": "created_at", "type": "date", "random": "2020-01-01 00:00:00,2025-12-31 23:59:59"},
        ],
    }))
}
