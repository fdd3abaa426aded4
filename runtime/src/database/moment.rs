//! How the tables of a source show one moment, and what plan and check say of it before a run does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use weir_core::{Check, ConnectorContext, Error, Hold, Result};

use super::entries::tables_of;
use super::job::DatabaseJob;
use super::table::TableSource;
use crate::job::{Entry, Job};
use crate::plan::channels_of;

/// How long a plan waits for a table that somebody has locked.
const PATIENCE: Duration = Duration::from_secs(10);

/// The moment of the tables of some sources: of one, or of shards that lie on several.
#[derive(Debug, Clone, Serialize)]
pub struct Moment {
    /// The sources' names.
    pub source: String,
    /// How all splits see one moment, as far as they do.
    pub snapshot: String,
}

/// Begins one snapshot for all tables of each source that has such a thing, and reads what its readers would ask about them.
pub(crate) async fn begin(job: &Job, database: &DatabaseJob, context: &ConnectorContext) -> Result<Vec<Hold>> {
    let mut held = Vec::new();
    for (number, source) in database.sources.iter().enumerate() {
        let names = tables_of(&job.entries, number);
        if names.is_empty() {
            continue;
        }
        let catalog = source.endpoint.open_catalog_in(context)?;
        let begin = async {
            match catalog.snapshot(&names, channels_of(job)).await? {
                Some(snapshot) => Ok(Some(snapshot.hold)),
                None => catalog.look_ahead(&names).await,
            }
        };
        let begun = context.until_cancelled(begin).await;
        held.extend(begun.map_err(|error| error.with("source", &source.name))?);
    }
    Ok(held)
}

/// One entry, the one of fewest tables, for each set of `places` that tables of the job are read from.
fn of_each<K: Ord>(entries: &[&Entry], place: impl Fn(&TableSource) -> K) -> Vec<usize> {
    let mut found: BTreeMap<BTreeSet<K>, (usize, usize)> = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(table) = &entry.table else { continue };
        let tables = table.sources.len();
        let best = found.entry(table.sources.iter().map(&place).collect()).or_insert((tables, index));
        *best = (*best).min((tables, index));
    }
    found.into_values().map(|(_, index)| index).collect()
}

fn names(database: &DatabaseJob, entry: &Entry) -> String {
    let sources = entry.table.iter().flat_map(|table| &table.sources);
    let numbers: BTreeSet<usize> = sources.map(|one| one.source).collect();
    let names = numbers.into_iter().filter_map(|number| database.sources.get(number));
    names.map(|source| source.name.as_str()).collect::<Vec<_>>().join(" and ")
}

/// Begins the snapshot of each source for a moment, as a run would.
pub(super) async fn moments(
    job: &Job,
    database: &DatabaseJob,
    entries: &[&Entry],
    context: &ConnectorContext,
) -> Vec<Moment> {
    let mut moments = Vec::new();
    for index in of_each(entries, |one| one.source) {
        let snapshot = match tried(job, entries[index], context).await {
            Ok(description) => description,
            Err(error) => format!("not known, for it could not be begun: {}", error.full()),
        };
        moments.push(Moment { source: names(database, entries[index]), snapshot });
    }
    moments
}

async fn tried(job: &Job, entry: &Entry, context: &ConnectorContext) -> Result<String> {
    let reader = entry.reader.open_reader(context)?;
    let Some(snapshot) = reader.snapshot() else {
        return Ok("none: each split shows the moment at which it is read".into());
    };
    let begun = tokio::time::timeout(PATIENCE, context.until_cancelled(snapshot.begin(channels_of(job))));
    let begun = begun.await.map_err(|_| {
        let text = format!("no answer within {} s: another session may hold a lock", PATIENCE.as_secs());
        Error::new(weir_core::ErrorKind::Timeout, text)
    })?;
    Ok(begun?.description)
}

/// What the readers find at the sources, each at one table of every database.
pub(crate) async fn checks(job: &Job, entries: &[Entry], context: &ConnectorContext) -> Result<Vec<Check>> {
    let entries: Vec<&Entry> = entries.iter().collect();
    let mut found: Vec<Check> = Vec::new();
    for index in of_each(&entries, |one| (one.source, one.name.database.clone())) {
        let mut checks = entries[index].reader.open_reader(context)?.check().await;
        if !checks.iter().any(|check| check.what == Check::ONE_SNAPSHOT) {
            checks.push(Check::of(Check::ONE_SNAPSHOT, tried(job, entries[index], context).await));
        }
        for check in checks {
            if !found.iter().any(|known| known.what == check.what && known.detail == check.detail) {
                found.push(check);
            }
        }
    }
    Ok(found)
}
