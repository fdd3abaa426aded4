//! Counts the rows it is given, prints them, or writes them as text into one file.

mod config;
mod lines;
mod printer;
mod task;
mod writer;

use std::sync::Arc;

use serde_json::{Value, json};
use weir_core::{ConnectorContext, Faults, Parameters, Writer, WriterPlugin};

pub use config::Config;
pub use writer::StreamWriter;

weir_core::inventory::submit! {
    WriterPlugin {
        name: "stream",
        aliases: &["streamwriter"],
        summary: "Counts rows, prints them, or writes them as text into one file",
        schema: || schemars::schema_for!(Config),
        ignored: &[("encoding", "text is always written as UTF-8"), ("visible", "use `print`")],
        refused: &[],
        open,
        recognise,
    }
}

fn open(parameters: &Parameters, context: &ConnectorContext) -> Result<Arc<dyn Writer>, Faults> {
    let config: Config = weir_core::config::parse(parameters)?;
    Ok(Arc::new(StreamWriter::new(config, context.clone())?))
}

fn recognise(location: &str, _table: Option<&str>) -> Option<Value> {
    match location {
        "-" => Some(json!({"print": true})),
        "stream:" => Some(json!({})),
        _ => None,
    }
}
