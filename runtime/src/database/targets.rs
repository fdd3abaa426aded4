//! Targets that a whole-database job must not have: those of several tables at once, and tables that the job reads.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use futures::{FutureExt, StreamExt, TryStreamExt};
use weir_core::{ConnectorContext, Error, ErrorKind, ObjectName, Result, TargetName, database_writer};

use super::ahead::look_at_target;
use super::entries::{at_target, reader_of_one};
use super::expand::Expansion;
use super::job::DatabaseJob;
use super::table::{FailedTable, TableJob, TableSource};

/// How many tables the target is asked about at once: each takes a connection.
const AT_ONCE: usize = 8;

/// A name as the target tells it from others.
pub(super) fn spelling(job: &DatabaseJob) -> impl Fn(&str) -> String + use<> {
    let ignores_case = database_writer(&job.target.plugin).is_some_and(|plugin| plugin.names.ignores_case);
    move |text: &str| if ignores_case { text.to_lowercase() } else { text.to_owned() }
}

/// Refuses a job of which several tables would land on one target without being a merge, or one inside another.
///
/// # Errors
/// That, and a target that cannot be asked.
pub(super) async fn distinct(job: &DatabaseJob, tables: &[TableJob], context: &ConnectorContext) -> Result<()> {
    let same = spelling(job);
    if let Some(outer) = nested(job, tables) {
        let text = format!(
            "the target {outer} would be the folder in which the tables of the namespace {outer} are, and their files would be \
             its own: name them apart with `naming`, or with `target` under `tables`"
        );
        return Err(Error::new(ErrorKind::Schema, text));
    }
    // Without its namespace a name may mean what another one says in full: only the target knows.
    let of_table = |schema: bool| {
        let tables = tables.iter().filter(move |table| table.target.schema.is_some() == schema);
        tables.map(|table| same(&table.target.table)).collect::<HashSet<_>>()
    };
    let unclear: HashSet<String> = of_table(true).intersection(&of_table(false)).cloned().collect();
    let is_unclear = |table: &&TableJob| unclear.contains(&same(&table.target.table));
    let full = full_names(job, tables.iter().filter(is_unclear), context).await?;
    let mut places: BTreeMap<(String, String), Vec<&TableJob>> = BTreeMap::new();
    for table in tables {
        // Not by the text of both: a name may have a dot in it.
        let place = full.get(&table.target).or(table.target.schema.as_ref()).map(|text| same(text));
        places.entry((same(&table.target.table), place.unwrap_or_default())).or_default().push(table);
    }
    let clashes: Vec<String> = places
        .values()
        .filter(|tables| tables.len() > 1)
        .map(|tables| {
            let sources: Vec<_> = tables.iter().map(|table| table.source()).collect();
            format!("{} ← {}", tables[0].target, sources.join(" and "))
        })
        .collect();
    if clashes.is_empty() {
        return Ok(());
    }
    let shown = clashes.iter().take(10).cloned().collect::<Vec<_>>().join("; ");
    let more = clashes.len().saturating_sub(10);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    Err(Error::new(
        ErrorKind::Schema,
        format!(
            "several tables would land on one target: {shown}{more}; name them apart with `naming` ({{SOURCE_DATASOURCE}}, \
             {{SOURCE_DATABASE}}, {{SOURCE_SCHEMA}}), or say under objects.merge that they are one"
        ),
    ))
}

/// A table without a namespace that is called like the namespace of another one, where both are folders.
fn nested<'t>(job: &DatabaseJob, tables: &'t [TableJob]) -> Option<&'t str> {
    let nests = database_writer(&job.target.plugin).is_some_and(|plugin| plugin.names.nests);
    let folders: HashSet<&str> =
        tables.iter().filter(|_| nests).filter_map(|table| table.target.schema.as_deref()).collect();
    let outer = |table: &&TableJob| table.target.schema.is_none() && folders.contains(table.target.table.as_str());
    tables.iter().find(outer).map(|table| table.target.table.as_str())
}

/// Puts among those that fail what would be written to one of `read`, the tables that the job reads: its rows would be replaced,
/// doubled or mixed with others while they are read.
///
/// # Errors
/// A target that cannot be asked.
pub(super) async fn refuse_own(
    job: &DatabaseJob,
    read: &[TableSource],
    expansion: &mut Expansion,
    context: &ConnectorContext,
) -> Result<()> {
    let Some(first) = expansion.tables.first() else { return Ok(()) };
    let Some(home) = at_target(job, &first.target)?.open_writer(context)?.home() else { return Ok(()) };
    // Tables of one source may be in several databases.
    let mut homes: HashMap<(usize, &str), bool> = HashMap::new();
    let mut here = Vec::new();
    for one in read {
        let is_home = match homes.entry((one.source, &one.name.database)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let own = expansion.databases.get(one.source).and_then(Option::as_deref);
                *new.insert(reads_home(job, one.source, own, &one.name, &home, context)?)
            }
        };
        here.extend(is_home.then_some(one));
    }
    let same = spelling(job);
    let tables: HashSet<String> = here.iter().map(|one| same(&one.name.table)).collect();
    let schemas = database_writer(&job.target.plugin).is_some_and(|plugin| plugin.names.schemas);
    let in_full = |one: &&TableSource| {
        let schema = one.name.schema.as_ref().unwrap_or(&one.name.database);
        if schemas { same(&format!("{schema}.{}", one.name.table)) } else { same(&one.name.table) }
    };
    let read: HashSet<String> = here.iter().map(in_full).collect();
    let is_called_so = |table: &TableJob| tables.contains(&same(&table.target.table));
    let unclear = |table: &&TableJob| schemas && table.target.schema.is_none() && is_called_so(table);
    let full = full_names(job, expansion.tables.iter().filter(unclear), context).await?;
    let mut kept = Vec::with_capacity(expansion.tables.len());
    for table in std::mem::take(&mut expansion.tables) {
        // As `in_full` writes it: names with dots in them are told apart by the table.
        let schema = table.target.schema.as_ref().map(|schema| format!("{schema}.")).unwrap_or_default();
        let full = full.get(&table.target).cloned().unwrap_or_else(|| format!("{schema}{}", table.target.table));
        if !is_called_so(&table) || !read.contains(&same(&full)) {
            kept.push(table);
            continue;
        }
        let reason = format!(
            "its target, {full}, is a table that the job reads: with `naming` (schema, table), or `target` under `tables`, it \
             goes elsewhere"
        );
        expansion.failed.push(FailedTable::of(&table, (ErrorKind::Schema, reason)));
    }
    expansion.tables = kept;
    Ok(())
}

/// Whether a table of a source, whose connection has the database `own`, is where the target is.
///
/// # Errors
/// A source that cannot be opened.
pub(super) fn reads_home(
    job: &DatabaseJob,
    source: usize,
    own: Option<&str>,
    name: &ObjectName,
    home: &String,
    context: &ConnectorContext,
) -> Result<bool> {
    let Some(source) = job.sources.get(source) else { return Ok(false) };
    Ok(reader_of_one(source, own, name)?.open_reader(context)?.homes().contains(home))
}

/// What the target calls tables, with their namespaces. Each is asked about, for the connection may look for them in several.
async fn full_names(
    job: &DatabaseJob,
    tables: impl Iterator<Item = &TableJob>,
    context: &ConnectorContext,
) -> Result<HashMap<TargetName, String>> {
    let names: Vec<TargetName> = tables.map(|table| table.target.clone()).collect();
    let ahead = look_at_target(job, &names, context).await;
    let ask = |name: TargetName| async move {
        let writer = at_target(job, &name)?.open_writer(context)?;
        Ok((name, context.until_cancelled(writer.target()).await?.table))
    };
    // Boxed: the compiler cannot prove a stream of plain borrowing futures to be `Send`.
    let asking: Vec<_> = names.into_iter().map(|name| ask(name).boxed()).collect();
    let full = futures::stream::iter(asking).buffer_unordered(AT_ONCE).try_collect().await;
    drop(ahead);
    full
}
