//! Reads Delta Lake tables: the current version or an old one, file by file.

mod config;
mod reader;
mod split;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use weir_core::{Catalog, ConnectorContext, Faults, Parameters, Reader, ReaderPlugin};
use weir_lakehouse::{LakehouseCatalog, Location, location_of};

pub use config::Config;
pub use reader::LakehouseReader;

weir_core::inventory::submit! {
    ReaderPlugin {
        name: "lakehouse",
        aliases: &[],
        summary: "Delta Lake tables on local disk or in an object store",
        schema: || schemars::schema_for!(Config),
        ignored: &[],
        refused: &[],
        open,
        catalog: Some(catalog),
        recognise,
    }
}

fn open(parameters: &Parameters, context: &ConnectorContext) -> Result<Arc<dyn Reader>, Faults> {
    Ok(Arc::new(LakehouseReader::new(weir_core::config::parse(parameters)?, context.clone())?))
}

fn catalog(parameters: &Parameters, context: &ConnectorContext) -> Result<Arc<dyn Catalog>, Faults> {
    let config: Config = weir_core::config::parse(parameters)?;
    Ok(Arc::new(LakehouseCatalog::new(Location::new(&config.location, context)?, context.clone())))
}

/// Whether a folder's own folders are Delta tables.
fn holds_tables(folder: &Path) -> bool {
    let inner = std::fs::read_dir(folder).into_iter().flatten().flatten();
    inner.into_iter().any(|entry| entry.path().join("_delta_log").is_dir())
}

/// `delta:…`, a folder that holds a Delta log, and a folder of such folders.
fn recognise(location: &str, table: Option<&str>) -> Option<Value> {
    if let Some(parameters) = location_of(location, table) {
        return Some(parameters);
    }
    let folder = Path::new(location);
    let is_table = |path: &Path| path.join("_delta_log").is_dir();
    match table {
        Some(table) if is_table(&folder.join(table)) => Some(json!({"path": location, "table": table})),
        None if is_table(folder) || holds_tables(folder) => Some(json!({"path": location})),
        _ => None,
    }
}
