//! The catalogues of a job's sources.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use weir_core::{Catalog, ConnectorContext, Error, ObjectName, Objects, Result, TableDescription};

use super::config::TableAdded;
use super::job::DatabaseJob;
use super::select::Selection;
use super::unseen::is_shut;
use crate::ledger::KnownRow;

/// Tables by the number of their source and their name.
pub type Described = HashMap<(usize, ObjectName), TableDescription>;

/// The sources whose catalogues cannot be read, by their numbers, and why.
#[derive(Debug, Default)]
pub struct Shut(BTreeMap<usize, Error>);

impl Shut {
    /// Takes the source that `error`, one of reading the catalogues, is about as shut: from then on nobody asks it. Of several
    /// sources one that cannot be read keeps no table of the others back; `known` is what earlier runs of the job have met.
    ///
    /// # Errors
    /// That one, where it is not of one source as it is just now; that of the first source, where none can be read. That one
    /// too in a first run where tables that come later are left out: those of this source would be among them for ever.
    pub fn take(&mut self, job: &DatabaseJob, known: &[KnownRow], error: Error) -> Result<()> {
        let name = error.context().iter().find(|(key, _)| *key == "source").map(|(_, name)| name);
        let source = job.sources.iter().position(|source| Some(&source.name) == name);
        let source = source.filter(|source| job.sources.len() > 1 && is_shut(&error) && !self.0.contains_key(source));
        let Some(source) = source else { return Err(error) };
        if known.is_empty() && job.config.rules.table_added == TableAdded::Ignore {
            let why = "needs every source where rules.tableAdded is ignore, for tables that come later are left out";
            return Err(error.with("a first run", why));
        }
        self.0.insert(source, error);
        match self.0.len() == job.sources.len() {
            true => self.0.pop_first().map_or(Ok(()), |(_, error)| Err(error)),
            false => Ok(()),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Error)> {
        self.0.iter().map(|(source, error)| (*source, error))
    }
}

/// What the sources list, each at its number.
pub struct Listing {
    /// Where they can be asked for more.
    pub catalogs: Vec<Arc<dyn Catalog>>,
    /// Their tables; none of one that is shut.
    pub objects: Vec<Objects>,
}

impl Listing {
    /// Reads those that are not `shut`.
    ///
    /// # Errors
    /// That of one of them, which it names.
    pub async fn read(job: &DatabaseJob, shut: &Shut, context: &ConnectorContext) -> Result<Self> {
        let mut listing = Self { catalogs: Vec::new(), objects: Vec::new() };
        for (index, source) in job.sources.iter().enumerate() {
            let catalog = source.endpoint.open_catalog_in(context)?;
            listing.objects.push(match shut.0.contains_key(&index) {
                true => Objects::default(),
                false => {
                    let listed = context.until_cancelled(catalog.objects(&|database| job.looks_into(database))).await;
                    listed.map_err(|error| error.with("source", &source.name))?
                }
            });
            listing.catalogs.push(catalog);
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use weir_core::ErrorKind;

    fn two(rules: &serde_json::Value) -> DatabaseJob {
        let mut job = DatabaseJob::of(&json!({ "rules": rules }));
        let mut other = job.sources[0].clone();
        other.name = "other".into();
        job.sources.push(other);
        job
    }

    fn away(source: &str) -> Error {
        Error::new(ErrorKind::Unreachable, format!("no answer of {source}")).with("source", source)
    }

    #[test]
    fn one_source_may_be_shut_and_not_all() {
        let job = two(&json!({}));
        let mut shut = Shut::default();
        let broken = Error::new(ErrorKind::Schema, "two tables go into one").with("source", "other");
        assert_eq!(shut.take(&job, &[], broken).unwrap_err().kind(), ErrorKind::Schema);
        let nowhere = Error::new(ErrorKind::Unreachable, "the target is away");
        assert!(shut.take(&job, &[], nowhere).is_err() && shut.is_empty());
        shut.take(&job, &[], away("other")).unwrap();
        assert_eq!(shut.iter().map(|(source, _)| source).collect::<Vec<_>>(), [1]);
        let all = shut.take(&job, &[], away("fake")).unwrap_err();
        assert!(all.message().contains("no answer of fake"), "{all}");
        let alone = DatabaseJob::of(&json!({}));
        assert!(Shut::default().take(&alone, &[], away("fake")).is_err());
    }

    #[test]
    fn a_first_run_that_would_leave_the_tables_out_for_ever_fails() {
        let job = two(&json!({"tableAdded": "ignore"}));
        let error = Shut::default().take(&job, &[], away("other")).unwrap_err();
        assert!(error.full().contains("no answer of other") && error.full().contains("rules.tableAdded"), "{error}");
        let met = KnownRow {
            target: "t".into(),
            source: "t".into(),
            sources: vec![],
            ignored: false,
            table: None,
            made: vec![],
        };
        Shut::default().take(&job, &[met], away("other")).unwrap();
    }
}
