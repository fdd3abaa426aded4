//! What comes after the rows of all tables: foreign keys between them, unique keys, positions of numbers.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{FutureExt, StreamExt};
use tokio::sync::OnceCell;
use weir_core::{Completed, Completion, ConnectorContext, Error, ErrorKind, Reference, Result, TargetName, UniqueKey};

use super::super::references::place_of;
use super::super::table::TableJob;
use super::{ChangeKind, ChangeOutcome, Journal, TableChangeRecord};
use crate::database::{DatabaseJob, at_target, look_at_target};
use crate::job::Job;
use crate::ledger::MadeKey;
use crate::retry::Retries;

/// How many tables are seen to at once: each takes a connection.
const AT_ONCE: usize = 8;

/// What tables are to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Next numbers, and the unique keys that foreign keys rest on.
    Ground,
    /// Foreign keys.
    References,
}

/// Gives the tables at `published` (indexes of the job's entries) what makes them whole. Says in words what could not be
/// done: it is no reason for the run to fail, for the rows are there. `tell` hears of attempts after a fault that may pass, and
/// the journal of keys that tables get which the run has not made.
pub async fn complete(
    job: &Job,
    stage: Stage,
    published: &[Published],
    journal: Option<Journal<'_>>,
    context: &ConnectorContext,
    tell: &(dyn Fn(&str) + Sync),
) -> Vec<String> {
    let Some(database) = &job.database else { return Vec::new() };
    let published = || {
        let of = |one: &Published| Some((job.entries.get(one.index)?.table.as_deref()?, one.created));
        published.iter().filter_map(of)
    };
    let work: Vec<Work<'_>> = match stage {
        Stage::Ground => {
            let of = |(table, created)| Work { completion: ground(table), created, ..Work::of(&table.target, table) };
            published().map(of).collect()
        }
        Stage::References => {
            let own = published().map(|(table, created)| Work {
                completion: Completion { foreign_keys: table.references.clone(), ..Completion::default() },
                created,
                ..Work::of(&table.target, table)
            });
            let others = published().flat_map(|(table, _)| table.referrers.iter().map(move |one| (table, one)));
            let others = others.map(|(table, one)| Work {
                completion: Completion { foreign_keys: vec![one.key.clone()], ..Completion::default() },
                left_out: true,
                ..Work::of(&one.table, table)
            });
            own.chain(others).collect()
        }
    };
    let (mut warnings, mut stopped) = (Vec::new(), BTreeSet::new());
    let work = work.into_iter().filter(|work| work.completion != Completion::default());
    let work: Vec<_> = work.collect();
    let tables: BTreeSet<&TargetName> = work.iter().map(|work| work.table).collect();
    let ahead = look_at_target(database, &tables.into_iter().cloned().collect::<Vec<_>>(), context).await;
    // Boxed: the compiler cannot prove a stream of plain borrowing futures to be `Send`.
    let work: Vec<_> = work.into_iter().map(|work| one(job, database, work, context, tell).boxed()).collect();
    let mut done = futures::stream::iter(work).buffer_unordered(AT_ONCE);
    while let Some((work, result)) = done.next().await {
        match result {
            Ok(Completed { keys, foreign_keys, undone }) => {
                warnings.extend(undone.into_iter().map(|what| format!("{} is not complete: {what}", work.table)));
                if let Some(journal) = journal
                    && let Err(error) = written(journal, &work, &keys, made_at(database, foreign_keys)).await
                {
                    warnings.push(format!("new keys of {} are not on record: {}", work.table, error.full()));
                }
            }
            // A table that no run has moved yet gets its keys from the one that does.
            Err(error) if work.left_out && error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::Cancelled => {
                stopped.insert(work.table.to_string());
            }
            Err(error) => warnings.push(format!("{} is not complete: {}", work.table, error.full())),
        }
    }
    drop(ahead);
    if !stopped.is_empty() {
        let what = if stage == Stage::Ground { "unique keys and next numbers" } else { "foreign keys" };
        let tables = stopped.into_iter().collect::<Vec<_>>().join(", ");
        warnings.push(format!("stopped before it was seen to the {what} of {tables}: the next run does"));
    }
    warnings
}

/// A table whose rows are there.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    /// The index of its entry.
    pub index: usize,
    /// Whether the run has made it.
    pub created: bool,
}

fn made_at(database: &DatabaseJob, keys: Vec<Reference>) -> Vec<MadeKey> {
    keys.into_iter().map(|key| MadeKey { place: place_of(database), key }).collect()
}

/// Writes down that a table has got keys.
async fn written(journal: Journal<'_>, work: &Work<'_>, keys: &[String], made: Vec<MadeKey>) -> Result<()> {
    let target = work.table.to_string();
    journal.ledger.make_keys(journal.job, &target, &made).await?;
    if work.created {
        return Ok(());
    }
    let of = |sql: &String| {
        let record = TableChangeRecord::of_table(ChangeKind::KeyAdded, ChangeOutcome::Done, "");
        record.between(None, Some(sql))
    };
    let keys: Vec<_> = keys.iter().map(of).collect();
    let numbers = journal.write(&work.source, &target, &keys, false).await?;
    journal.ledger.changes_done(&numbers).await
}

/// What a table is to get.
struct Work<'a> {
    table: &'a TargetName,
    /// The source of the table that it gets it with.
    source: String,
    created: bool,
    completion: Completion,
    /// Whether the run has not moved it.
    left_out: bool,
}

impl<'a> Work<'a> {
    fn of(table: &'a TargetName, with: &TableJob) -> Self {
        Self { table, source: with.source(), created: false, completion: Completion::default(), left_out: false }
    }
}

async fn one<'a>(
    job: &Job,
    database: &DatabaseJob,
    work: Work<'a>,
    context: &ConnectorContext,
    tell: &(dyn Fn(&str) + Sync),
) -> (Work<'a>, Result<Completed>) {
    let references = &work.completion.foreign_keys;
    let (before, again) = (OnceCell::new(), AtomicBool::new(false));
    let complete = || async {
        let endpoint = at_target(database, work.table)?;
        let writer = endpoint.open_writer(&ConnectorContext { form: endpoint.form, ..context.clone() })?;
        let Some(able) = writer.evolve() else { return Ok(Completed::default()) };
        let names = async || {
            let there = match references.is_empty() {
                true => Vec::new(),
                false => context.until_cancelled(able.foreign_keys(references)).await?,
            };
            Ok::<_, Error>(there.into_iter().map(|there| there.key).collect::<Vec<_>>())
        };
        let before = before.get_or_try_init(&names).await?;
        let again = again.swap(true, Ordering::Relaxed);
        let mut completed = context.until_cancelled(able.complete(&work.completion)).await?;
        // An attempt that failed may have made some, and what was made without a name has one of the target's.
        if again || completed.foreign_keys.iter().any(|key| key.name.is_empty()) {
            completed.foreign_keys = names().await?;
            completed.foreign_keys.retain(|key| !before.iter().any(|before| before.name == key.name));
        }
        Ok(completed)
    };
    let what = format!("completing {}", work.table);
    let mut retries = Retries::new(job.setting.retry);
    let result = retries.step(&what, &context.cancel, tell, Error::is_retryable, complete).await;
    (work, result)
}

/// What a table needs for itself and for those that refer to it. A merge has no numbers and keys of its own: each of its tables
/// has others.
fn ground(table: &TableJob) -> Completion {
    if table.is_merge() {
        return Completion::default();
    }
    let described = &table.described;
    let positions = described.columns.iter().filter_map(|column| {
        let identity = column.identity.as_ref()?;
        Some((column.name.clone(), identity.next?))
    });
    let is_key = |key: &&UniqueKey| {
        let same = key.columns.len() == table.key.len() && key.columns.iter().all(|column| table.key.contains(column));
        !same && !key.columns.is_empty()
    };
    Completion {
        positions: positions.collect(),
        unique: described.unique.iter().filter(is_key).cloned().collect(),
        foreign_keys: Vec::new(),
    }
}
