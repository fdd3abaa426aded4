//! The catalogues of a job's sources.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use weir_core::{Catalog, ConnectorContext, Error, ObjectName, Objects, Result, TableDescription};

use super::job::DatabaseJob;
use super::select::Selection;

/// Tables by the number of their source and their name.
pub type Described = HashMap<(usize, ObjectName), TableDescription>;

/// What the sources list, each at its number.
pub struct Listing {
    /// Where they can be asked for more.
    pub catalogs: Vec<Arc<dyn Catalog>>,
    /// Their tables; none of one that is shut.
    pub objects: Vec<Objects>,
    /// The sources whose catalogues cannot be read, and why.
    pub shut: BTreeMap<usize, Error>,
}

impl Listing {
    /// Reads them; `passes` tells which errors of one source leave the others as they are.
    ///
    /// # Errors
    /// The others; that of the first source, where none can be read.
    pub async fn read(job: &DatabaseJob, context: &ConnectorContext, passes: fn(&Error) -> bool) -> Result<Self> {
        let mut listing = Self { catalogs: Vec::new(), objects: Vec::new(), shut: BTreeMap::new() };
        for (index, source) in job.sources.iter().enumerate() {
            let catalog = source.endpoint.open_catalog_in(context)?;
            let listed = context.until_cancelled(catalog.objects(&|database| job.looks_into(database))).await;
            listing.objects.push(match listed.map_err(|error| error.with("source", &source.name)) {
                Err(error) if passes(&error) => {
                    listing.shut.insert(index, error);
                    Objects::default()
                }
                listed => listed?,
            });
            listing.catalogs.push(catalog);
        }
        if listing.shut.len() == job.sources.len()
            && let Some((_, error)) = listing.shut.pop_first()
        {
            return Err(error);
        }
        Ok(listing)
    }
}

/// Describes all tables that are selected, those of a source at once.
///
/// # Errors
/// Those of the source.
pub async fn describe(
    job: &DatabaseJob,
    catalogs: &[Arc<dyn Catalog>],
    selection: &Selection,
    context: &ConnectorContext,
) -> Result<Described> {
    let mut described = Described::new();
    for (index, catalog) in catalogs.iter().enumerate() {
        let all = selection.single.iter().chain(selection.merges.iter().flatten());
        let mut names: Vec<ObjectName> =
            all.filter(|found| found.source == index).map(|found| found.object.name.clone()).collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            continue;
        }
        let tables = context.until_cancelled(catalog.describe(&names)).await;
        let tables = tables.map_err(|error| error.with("source", &job.sources[index].name))?;
        described.extend(tables.into_iter().map(|table| ((index, table.name.clone()), table)));
    }
    Ok(described)
}
