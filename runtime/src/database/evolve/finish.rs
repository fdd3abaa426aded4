//! What goes before and comes after the rows of all tables: foreign keys between them, unique keys, positions of numbers.

use std::collections::HashMap;

use futures::{FutureExt, StreamExt};
use weir_core::{Completion, ConnectorContext, ErrorKind, ObjectName, Reference, Result, UniqueKey};

use super::super::table::TableJob;
use crate::job::{Entry, Job};

/// How many tables are seen to at once: each takes a connection.
const AT_ONCE: usize = 8;

/// Drops the foreign keys between tables of the run that this job has made at the target, as far as they are there.
///
/// The tables become visible one by one, in any order: with the keys in force, rows would be refused whose counterparts
/// come a moment later, or be deleted with those that go first. [`complete`] makes the keys again.
///
/// # Errors
/// A target that cannot be reached or changed.
pub async fn release(job: &Job, context: &ConnectorContext) -> Result<()> {
    let targets = Targets::of(job);
    let mut work = Vec::new();
    for (entry, table) in tables(job) {
        let references = targets.references(table);
        if !references.is_empty() {
            // Boxed, here and below: the compiler cannot prove a stream of plain borrowing futures to be `Send`.
            work.push(release_one(entry, references, context).boxed());
        }
    }
    let mut done = futures::stream::iter(work).buffer_unordered(AT_ONCE);
    while let Some(released) = done.next().await {
        released?;
    }
    Ok(())
}

async fn release_one(entry: &Entry, references: Vec<Reference>, context: &ConnectorContext) -> Result<()> {
    let writer = entry.writer.open_writer(&at(entry, context))?;
    match writer.evolve() {
        Some(able) => context.until_cancelled(able.release(&references)).await,
        None => Ok(()),
    }
}

/// Gives the tables at `published` (indexes of the job's entries) what makes them whole. Says in words what could not be
/// done: it is no reason for the run to fail, for the rows are there.
pub async fn complete(job: &Job, published: &[usize], context: &ConnectorContext) -> Vec<String> {
    let targets = Targets::of(job);
    let mut warnings = Vec::new();
    // First everything that a foreign key rests on, then the keys.
    for keys in [false, true] {
        let mut work = Vec::new();
        for index in published {
            let Some(entry) = job.entries.get(*index) else { continue };
            let Some(table) = entry.table.as_deref() else { continue };
            let completion = match keys {
                true => Completion { foreign_keys: targets.references(table), ..Completion::default() },
                false => first(table),
            };
            if completion != Completion::default() {
                work.push(one(entry, table, completion, context).boxed());
            }
        }
        let mut done = futures::stream::iter(work).buffer_unordered(AT_ONCE);
        while let Some((table, result)) = done.next().await {
            match result {
                Ok(undone) => {
                    warnings.extend(undone.into_iter().map(|what| format!("{} is not complete: {what}", table.target)));
                }
                Err(error) if error.kind() == ErrorKind::Cancelled => {}
                Err(error) => warnings.push(format!("{} is not complete: {}", table.target, error.full())),
            }
        }
    }
    warnings
}

async fn one<'a>(
    entry: &Entry,
    table: &'a TableJob,
    completion: Completion,
    context: &ConnectorContext,
) -> (&'a TableJob, Result<Vec<String>>) {
    let complete = async {
        let writer = entry.writer.open_writer(&at(entry, context))?;
        match writer.evolve() {
            Some(able) => context.until_cancelled(able.complete(&completion)).await,
            None => Ok(Vec::new()),
        }
    };
    (table, complete.await)
}

fn at(entry: &Entry, context: &ConnectorContext) -> ConnectorContext {
    ConnectorContext { form: entry.writer.form, ..context.clone() }
}

fn tables(job: &Job) -> impl Iterator<Item = (&Entry, &TableJob)> {
    job.entries.iter().filter_map(|entry| Some((entry, entry.table.as_deref()?)))
}

/// What a table needs for itself. A merge has no numbers and keys of its own: each of its tables has others.
fn first(table: &TableJob) -> Completion {
    if table.sources.len() != 1 {
        return Completion::default();
    }
    let described = &table.described;
    let positions = described.columns.iter().filter_map(|column| {
        let identity = column.identity.as_ref().filter(|identity| identity.increment > 0)?;
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

/// Where the source tables of a job have gone.
struct Targets<'a>(HashMap<(usize, &'a ObjectName), &'a TableJob>);

impl<'a> Targets<'a> {
    fn of(job: &'a Job) -> Self {
        let single = tables(job).filter(|(_, table)| table.sources.len() == 1);
        Self(single.map(|(_, table)| ((table.sources[0].source, &table.sources[0].name), table)).collect())
    }

    /// The foreign keys of a table onto tables of the job, in the target's names.
    fn references(&self, table: &TableJob) -> Vec<Reference> {
        let [source] = table.sources.as_slice() else { return Vec::new() };
        let keys = table.described.foreign_keys.iter().filter_map(|key| {
            let other = self.0.get(&(source.source, &key.to))?;
            let at_target =
                |name: &String| other.columns.iter().find(|(from, _)| from == name).map(|(_, to)| to.clone());
            Some(Reference {
                name: key.name.clone(),
                columns: key.columns.clone(),
                to: other.target.clone(),
                to_columns: key.to_columns.iter().map(at_target).collect::<Option<_>>()?,
                on_delete: key.on_delete.clone(),
                on_update: key.on_update.clone(),
            })
        });
        keys.collect()
    }
}
