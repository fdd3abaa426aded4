//! `weir tables`

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use weir::core::{Catalog, Error, TableInfo};
use weir::job::{self, Side};

use super::arguments::{Format, SourceArguments, TablesArguments};
use super::copy::{Place, place};
use super::job::{options, told};
use super::signals::until_stopped;
use super::style::{Align, Paint, bytes, count, table};
use super::{Outcome, output, runtime};

/// Lists the tables of a system.
pub(crate) fn tables(arguments: &TablesArguments) -> Outcome {
    let place = place(&arguments.source, None, Side::Reader, &arguments.sources)?;
    let runtime = runtime()?;
    let listed = runtime.block_on(until_stopped(async {
        catalog(&place, &arguments.sources)?.tables(arguments.pattern.as_deref()).await
    }));
    runtime.shutdown_background();
    let tables = listed?;
    match arguments.format {
        Format::Json => output::print_json(&tables)?,
        Format::Text => output::print(&text(&tables))?,
    }
    Ok(0)
}

/// Opens the catalogue of a place. Must be called inside a runtime.
pub(crate) fn catalog(place: &Place, sources: &SourceArguments) -> Result<Arc<dyn Catalog>, Error> {
    let endpoint = job::endpoint(&place.plugin, place.parameter.clone(), Side::Reader, &options(sources))
        .map_err(|faults| told("the source", &faults))?;
    endpoint.open_catalog(Handle::current(), CancellationToken::new())
}

fn text(tables: &[TableInfo]) -> String {
    if tables.is_empty() {
        return "no tables\n".into();
    }
    let head = [("table", Align::Left), ("kind", Align::Left), ("rows", Align::Right), ("size", Align::Right)];
    let known = |n: Option<String>| n.unwrap_or_else(|| "?".into());
    let rows: Vec<_> = tables
        .iter()
        .map(|t| vec![t.name.clone(), t.kind.clone(), known(t.rows.map(count)), known(t.bytes.map(bytes))])
        .collect();
    table(&head, &rows, Paint::stdout())
}
