//! From the tables of a whole-database job to ordinary entries of a job.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weir_core::{
    Error, ErrorKind, Form, ObjectName, Result, Shard, SourceTables, TargetName, TargetTable, WriteMode,
    database_reader, database_writer,
};

use super::expand::Expansion;
use super::job::{DatabaseJob, DatabaseSource};
use super::table::TableJob;
use crate::job::{Endpoint, Entry, Job};
use crate::mapping::MappingPair;

/// One entry for each table, in the same order.
///
/// # Errors
/// What a connector cannot do, for the first table of which that is so.
fn entries(job: &DatabaseJob, expansion: &Expansion) -> Result<Vec<Entry>> {
    expansion.tables.iter().map(|table| entry(job, &expansion.databases, table)).collect()
}

/// The job with an entry for each of its tables.
///
/// # Errors
/// What a connector cannot do, for the first table of which that is so.
pub fn with_tables(job: &Job, database: &DatabaseJob, expansion: &Expansion) -> Result<Job> {
    Ok(Job { entries: entries(database, expansion)?, places: places(database, expansion)?, ..job.clone() })
}

/// The entry of one table.
///
/// # Errors
/// What one of the connectors cannot do for it.
pub(super) fn entry(job: &DatabaseJob, databases: &[Option<String>], table: &TableJob) -> Result<Entry> {
    let (reader, source_zone) = reader_of(job, databases, table)?;
    Ok(Entry {
        reader,
        writer: writer_of(job, table)?,
        transformers: Vec::new(),
        mapping: mapping(table),
        on_type_loss: job.on_type_loss,
        empty_as_null: job.empty_as_null,
        source_zone,
        target_zone: job.target_zone.clone(),
        table: Some(Box::new(table.clone())),
    })
}

/// What reads a table, and whose clocks its zone-less times show; `databases` are the sources' own.
///
/// # Errors
/// [`Schema`](ErrorKind::Schema): a merge of sources that are not to be read in the same way.
pub(super) fn reader_of(
    job: &DatabaseJob,
    databases: &[Option<String>],
    table: &TableJob,
) -> Result<(Endpoint, Option<String>)> {
    let unknown = || Error::internal("a table of the job is in none of its sources");
    let mut places: Vec<(usize, Vec<ObjectName>)> = Vec::new();
    for one in &table.sources {
        match places.last_mut() {
            Some((source, names)) if *source == one.source => names.push(one.name.clone()),
            _ => places.push((one.source, vec![one.name.clone()])),
        }
    }
    let sources: Option<Vec<&DatabaseSource>> = places.iter().map(|(source, _)| job.sources.get(*source)).collect();
    let sources = sources.ok_or_else(unknown)?;
    let first = *sources.first().ok_or_else(unknown)?;
    if let Some(other) = sources.iter().find(|other| other.zone != first.zone) {
        let text = format!(
            "the sources {} and {} of a merge have different time zones ({} and {}): give them the same `timeZone`, for \
             their tables are read as one",
            first.name,
            other.name,
            first.zone.as_deref().unwrap_or("none"),
            other.zone.as_deref().unwrap_or("none")
        );
        return Err(Error::new(ErrorKind::Schema, text));
    }
    let reader = database_reader(&first.endpoint.plugin).ok_or_else(unable)?;
    let shards = sources.iter().zip(&places);
    let shards = shards.map(|(of, (source, tables))| Shard {
        name: &of.name,
        source: &of.endpoint.parameter,
        database: databases.get(*source).and_then(Option::as_deref),
        tables,
    });
    let shards: Vec<_> = shards.collect();
    // Shards may have their columns in another order each.
    let listed = !table.all_columns || table.sources.len() > 1;
    let columns: Vec<String> = table.columns.iter().filter(|_| listed).map(|(from, _)| from.clone()).collect();
    let read = (reader.parameters)(&SourceTables {
        shards: &shards,
        columns: &columns,
        condition: table.condition.as_deref(),
        split_key: table.split_key.as_deref(),
    })?;
    Ok((with(&first.endpoint, windowed(read, table)), first.zone.clone()))
}

/// A reader's parameters with the windows that the table is read by, if it is.
fn windowed(mut parameters: Value, table: &TableJob) -> Value {
    if let (Some(incremental), Some(map)) = (&table.incremental, parameters.as_object_mut()) {
        map.insert("incremental".into(), json!(incremental));
    }
    parameters
}

/// A reader of each database that the job reads, whichever tables a run moves: those of the sources' own connections, and the
/// others.
///
/// # Errors
/// A source that cannot be read.
fn places(job: &DatabaseJob, expansion: &Expansion) -> Result<Vec<Endpoint>> {
    let mut selected = expansion.tables.iter().flat_map(|table| &table.sources).chain(&expansion.reads);
    let Some(any) = selected.next() else { return Ok(Vec::new()) };
    let own = job.sources.iter().map(|source| reader_of_one(source, None, &any.name));
    let others = expansion.reads.iter().filter_map(|one| {
        let database = expansion.databases.get(one.source)?.as_deref();
        Some(reader_of_one(job.sources.get(one.source)?, database, &one.name))
    });
    own.chain(others).collect()
}

/// A reader of one table of a source, whose connection has `database`.
///
/// # Errors
/// A source that cannot be read.
pub fn reader_of_one(source: &DatabaseSource, database: Option<&str>, name: &ObjectName) -> Result<Endpoint> {
    let reader = database_reader(&source.endpoint.plugin).ok_or_else(unable)?;
    let shards = [Shard {
        name: &source.name,
        source: &source.endpoint.parameter,
        database,
        tables: std::slice::from_ref(name),
    }];
    let tables = SourceTables { shards: &shards, columns: &[], condition: None, split_key: None };
    Ok(with(&source.endpoint, (reader.parameters)(&tables)?))
}

/// What writes a table; the job need not have its sources (any more).
///
/// # Errors
/// What the target cannot do.
pub fn writer_of(job: &DatabaseJob, table: &TableJob) -> Result<Endpoint> {
    let partition = job.config.partition.as_ref().map(|p| (p.field.as_str(), p.value.as_str()));
    let (mode, key) = (table.mode, &table.key);
    let merged = table.sources.len() > 1 && table.origin.is_empty();
    let (target, name, distinct) = (&job.target.parameter, &table.target, table.has_own_key());
    written(job, &TargetTable { target, name, mode, key, partition, merged, distinct })
}

/// The tables that entries read from one of the job's sources, each once.
pub fn tables_of(entries: &[Entry], source: usize) -> Vec<ObjectName> {
    let tables = entries.iter().filter_map(|entry| entry.table.as_ref()).flat_map(|table| &table.sources);
    let names: BTreeSet<&ObjectName> = tables.filter(|one| one.source == source).map(|one| &one.name).collect();
    names.into_iter().cloned().collect()
}

/// A table of the target by itself, for work on its keys; the job need not have it.
///
/// # Errors
/// A target that takes no whole databases.
pub fn at_target(job: &DatabaseJob, name: &TargetName) -> Result<Endpoint> {
    let (target, mode) = (&job.target.parameter, WriteMode::Append);
    written(job, &TargetTable { target, name, mode, key: &[], partition: None, merged: false, distinct: false })
}

fn written(job: &DatabaseJob, table: &TargetTable<'_>) -> Result<Endpoint> {
    let writer = database_writer(&job.target.plugin).ok_or_else(unable)?;
    let write = (writer.parameters)(table).map_err(|faults| Error::from(faults.under(&job.target.pointer)))?;
    Ok(with(&job.target, write))
}

fn unable() -> Error {
    Error::internal("a connector of the job takes no whole databases")
}

fn with(endpoint: &Endpoint, parameter: Value) -> Endpoint {
    Endpoint { parameter, form: Form::Native, ..endpoint.clone() }
}

/// Pairs of columns where names alone do not say it.
fn mapping(table: &TableJob) -> Vec<MappingPair> {
    if table.origin.is_empty() && table.columns.iter().all(|(from, to)| from == to) {
        return Vec::new();
    }
    let pair = |(from, to): &(String, String)| MappingPair { from: Some(from.clone()), value: None, to: to.clone() };
    let pairs = table.columns.iter().map(pair);
    let origin = table.origin.iter().map(|column| MappingPair {
        from: None,
        value: Some(json!(column.values)),
        to: column.name.clone(),
    });
    pairs.chain(origin).collect()
}
