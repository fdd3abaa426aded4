//! What the connectors of all tables would ask about them before they plan, read at once.

use weir_core::{ConnectorContext, Error, Hold, Result, TargetName};

use super::entries::{at_target, tables_of};
use super::job::DatabaseJob;
use crate::job::Job;

/// For the readers, of each source that tables are read from.
///
/// # Errors
/// Those of the source.
pub(crate) async fn look_at_sources(
    job: &Job,
    database: &DatabaseJob,
    context: &ConnectorContext,
) -> Result<Vec<Hold>> {
    let mut held = Vec::new();
    for (number, source) in database.sources.iter().enumerate() {
        let names = tables_of(&job.entries, number);
        if names.is_empty() {
            // It may be one that cannot be read.
            continue;
        }
        let catalog = source.endpoint.open_catalog_in(context)?;
        let found = context.until_cancelled(catalog.look_ahead(&names)).await;
        held.extend(found.map_err(|error| error.with("source", &source.name))?);
    }
    Ok(held)
}

/// For the writers of these tables of the target. What is in the way of it is in the way of each of them, and is told there.
pub(crate) async fn look_at_target(
    database: &DatabaseJob,
    tables: &[TargetName],
    context: &ConnectorContext,
) -> Option<Hold> {
    let first = tables.first()?;
    let look = async {
        let endpoint = at_target(database, first)?;
        let writer = endpoint.open_writer(&ConnectorContext { form: endpoint.form, ..context.clone() })?;
        context.until_cancelled(writer.look_ahead(tables)).await
    };
    look.await.unwrap_or_else(|error: Error| {
        tracing::debug!(%error, "the tables of the target are not read at once");
        None
    })
}
