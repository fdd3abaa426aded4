//! From the tables of a whole-database job to ordinary entries of a job.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weir_core::{
    Error, Form, ObjectName, Result, Shard, SourceTables, TargetName, TargetTable, WriteMode, database_reader,
    database_writer,
};

use super::expand::Expansion;
use super::job::DatabaseJob;
use super::table::TableJob;
use crate::job::{Endpoint, Entry};
use crate::mapping::MappingPair;

/// One entry for each table, in the same order.
///
/// # Errors
/// What a connector cannot do; it is the same for all tables.
pub fn entries(job: &DatabaseJob, expansion: &Expansion) -> Result<Vec<Entry>> {
    expansion.tables.iter().map(|table| entry(job, table)).collect()
}

fn entry(job: &DatabaseJob, table: &TableJob) -> Result<Entry> {
    let Some(first) = table.sources.first().and_then(|one| job.sources.get(one.source)) else {
        return Err(Error::internal("a table of the job has no source"));
    };
    let reader = database_reader(&first.endpoint.plugin);
    let writer = database_writer(&job.target.plugin);
    let (Some(reader), Some(writer)) = (reader, writer) else {
        return Err(Error::internal("a connector of the job takes no whole databases"));
    };
    let mut places: Vec<(usize, Vec<ObjectName>)> = Vec::new();
    for one in &table.sources {
        match places.last_mut() {
            Some((source, names)) if *source == one.source => names.push(one.name.clone()),
            _ => places.push((one.source, vec![one.name.clone()])),
        }
    }
    let shards: Vec<_> = places
        .iter()
        .map(|(source, tables)| Shard { source: &job.sources[*source].endpoint.parameter, tables })
        .collect();
    // Shards may have their columns in another order each.
    let listed = !table.all_columns || table.sources.len() > 1;
    let columns: Vec<String> = table.columns.iter().filter(|_| listed).map(|(from, _)| from.clone()).collect();
    let mut read = (reader.parameters)(&SourceTables {
        shards: &shards,
        columns: &columns,
        condition: table.condition.as_deref(),
        split_key: table.split_key.as_deref(),
    })?;
    if let (Some(incremental), Some(parameters)) = (&table.incremental, read.as_object_mut()) {
        parameters.insert("incremental".into(), json!(incremental));
    }
    let partition = job.config.partition.as_ref().map(|p| (p.field.as_str(), p.value.as_str()));
    let write = (writer.parameters)(&TargetTable {
        target: &job.target.parameter,
        name: &table.target,
        mode: table.mode,
        key: &table.key,
        partition,
        merged: table.sources.len() > 1 && table.origin.is_empty(),
    })
    .map_err(|faults| Error::from(faults.under(&job.target.pointer)))?;
    Ok(Entry {
        reader: with(&first.endpoint, read),
        writer: with(&job.target, write),
        transformers: Vec::new(),
        mapping: mapping(table),
        on_type_loss: job.on_type_loss,
        empty_as_null: job.empty_as_null,
        source_zone: first.zone.clone(),
        target_zone: job.target_zone.clone(),
        table: Some(Box::new(table.clone())),
    })
}

fn with(endpoint: &Endpoint, parameter: Value) -> Endpoint {
    Endpoint { parameter, form: Form::Native, ..endpoint.clone() }
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
    let writer = database_writer(&job.target.plugin);
    let writer = writer.ok_or_else(|| Error::internal("a connector of the job takes no whole databases"))?;
    let (target, mode) = (&job.target.parameter, WriteMode::Append);
    let parameters = (writer.parameters)(&TargetTable { target, name, mode, key: &[], partition: None, merged: false });
    Ok(with(&job.target, parameters.map_err(|faults| Error::from(faults.under(&job.target.pointer)))?))
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
