//! `weir plan` of a whole-database job.

use std::collections::HashMap;
use std::fmt;

use futures::{FutureExt, StreamExt};
use serde::Serialize;
use weir_core::{ConnectorContext, Error, Result};

use super::ahead::{look_at_sources, look_at_target};
use super::config::{PublishConfig, TableDeleted};
use super::entries::with_tables;
use super::evolve::{ChangeKind, ChangeOutcome, ChangedTable, Evolving, selection};
use super::expand::{Expansion, expand};
use super::listing::Shut;
use super::moment::{Moment, moments};
use super::only::Only;
use super::references::gone;
use super::select::Counts;
use super::table::{FailedTable, TableJob, some_of};
use crate::entry::plan_evolving;
use crate::incremental::{of_entry, ordinal};
use crate::job::Job;
use crate::layout::{Align, aligned};
use crate::ledger::{KnownRow, WatermarkRecord};
use crate::plan::{EntryPlan, channels_of, describe, entry_places};

/// What there is to say of the job as a whole.
#[derive(Debug, Clone, Serialize)]
pub struct DatabasePlan {
    /// How much is selected.
    pub selected: Counts,
    /// Tables that would be moved.
    pub mapped: usize,
    /// Tables that would fail, and why.
    pub failed: Vec<FailedTable>,
    /// Tables that the job names and the source does not have.
    pub gone: Vec<String>,
    /// Tables that the source has more, or has no more, than when the job last ran.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ChangedTable>,
    /// The groups in which they run.
    pub groups: Vec<GroupPlan>,
    /// The most groups at once.
    pub concurrent_groups: usize,
    /// The most connections that a group reads with.
    pub max_source_connections: usize,
    /// Whether all tables become visible together.
    pub together: bool,
    /// For each source, whether all tables show one moment.
    pub moments: Vec<Moment>,
}

/// One group.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GroupPlan {
    /// Its tables by their names at the target, in the order in which they begin.
    pub tables: Vec<String>,
    /// Estimated rows of those whose number is known.
    pub rows: u64,
    /// Estimated bytes of those whose size is known.
    pub bytes: u64,
}

/// The job with an entry for each of its tables, as the sources are now; `known` is what its runs have met.
///
/// # Errors
/// Those of [`expand`].
pub async fn expanded(job: &Job, known: &[KnownRow], context: &ConnectorContext) -> Result<(Job, Expansion)> {
    let Some(database) = &job.database else { return Ok((job.clone(), Expansion::default())) };
    let expansion = expand(database, &Shut::default(), &Only::All, known, context).await?;
    Ok((with_tables(job, database, &expansion)?, expansion))
}

/// As [`expanded`] for all tables, without what the rules leave out of the job's runs; `known` is what these have met.
///
/// # Errors
/// Those of [`expand`].
pub async fn expanded_as_run(job: &Job, known: &[KnownRow], context: &ConnectorContext) -> Result<Job> {
    let Some(database) = &job.database else { return Ok(job.clone()) };
    let mut expansion = expand(database, &Shut::default(), &Only::All, known, context).await?;
    // What is gone from a merge is no reason to leave it out.
    let mut rules = database.clone();
    (rules.config.rules.table_deleted, rules.says_deleted) = (TableDeleted::Ignore, true);
    selection(known, &rules, &mut expansion, true);
    with_tables(job, database, &expansion)
}

/// Plans every table. What is wrong with one is in the plan, like the tables that can be moved.
///
/// # Errors
/// What concerns all of them.
pub async fn plan_tables(
    job: &Job,
    only: &Only,
    (known, watermarks): (&[KnownRow], &[WatermarkRecord]),
    context: &ConnectorContext,
) -> Result<(DatabasePlan, Vec<EntryPlan>, Vec<String>)> {
    let Some(database) = &job.database else { return Err(Error::internal("the job is none of a whole database")) };
    let config = &database.config;
    let mut shut = Shut::default();
    let mut expansion = loop {
        match expand(database, &shut, only, known, context).await {
            Err(error) => shut.take(database, known, error)?,
            Ok(expansion) => break expansion,
        }
    };
    let settled = selection(known, database, &mut expansion, *only == Only::All);
    let job = with_tables(job, database, &expansion)?;
    let sources_ahead = look_at_sources(&job, database, context).await?;
    let targets: Vec<_> = expansion.tables.iter().map(|table| table.target.clone()).collect();
    let target_ahead = look_at_target(database, &targets, context).await;
    let known: HashMap<&str, &KnownRow> = known.iter().map(|row| (row.target.as_str(), row)).collect();
    let planning: Vec<_> = job
        .entries
        .iter()
        .enumerate()
        .map(|(index, entry)| {
            let (job, known, targets) = (&job, &known, &targets);
            async move {
                let name = entry.table.as_ref().map(|table| table.target.to_string());
                let known = name.and_then(|name| known.get(name.as_str()));
                let made = known.map(|row| row.made.as_slice()).unwrap_or_default();
                let gone = entry.table.as_ref().map(|table| gone(table, made, database, |to| targets.contains(to)));
                let gone = gone.unwrap_or_default();
                let known = known.and_then(|row| row.table.as_ref());
                let evolving = Evolving { known, gone: &gone, ..Evolving::default() };
                let mut planned = plan_evolving(job, entry, "plan", context, evolving).await?;
                let watermarks = of_entry(watermarks, ordinal(job, index));
                planned.decide_windows(job, entry, context, watermarks, None).await?;
                Ok::<_, Error>(describe(&planned, job, entry_places(entry), None, Vec::new()))
            }
            .boxed()
        })
        .collect();
    let planned: Vec<_> = futures::stream::iter(planning).buffered(channels_of(&job)).collect().await;
    drop((sources_ahead, target_ahead));
    let mut mapped = Vec::with_capacity(planned.len());
    let mut groups = vec![GroupPlan::default(); expansion.groups];
    let readable: Vec<_> =
        job.entries.iter().zip(&planned).filter_map(|(entry, planned)| planned.is_ok().then_some(entry)).collect();
    let moments = moments(&job, database, &readable, context).await;
    for (entry, table) in planned.into_iter().zip(&expansion.tables) {
        let name = table.target.to_string();
        match entry {
            Ok(entry) => {
                let group = &mut groups[table.group];
                group.tables.push(name.clone());
                group.rows += table.rows.unwrap_or(0);
                group.bytes += table.bytes.unwrap_or(0);
                let (rows, bytes, key) = (table.rows, table.bytes, table.key.clone());
                let mut entry = entry;
                entry.warnings.extend(computed(table, &entry));
                mapped.push(EntryPlan {
                    name: Some(name),
                    tables: table.sources.iter().map(|source| source.name.to_string()).collect(),
                    keys: key,
                    rows,
                    bytes,
                    ..entry
                });
            }
            Err(error) => expansion.failed.push(FailedTable::of(table, (error.kind(), error.full()))),
        }
    }
    let plan = DatabasePlan {
        selected: expansion.selected,
        mapped: mapped.len(),
        failed: expansion.failed,
        gone: expansion.gone,
        changes: settled.added.into_iter().chain(settled.others).collect(),
        groups,
        concurrent_groups: config.group.concurrent_groups,
        max_source_connections: config.group.max_source_connections,
        together: config.publish == PublishConfig::All,
        moments,
    };
    Ok((plan, mapped, notes(&expansion.tables, expansion.warnings)))
}

/// What is computed at the source, and is written as any other value.
fn computed(table: &TableJob, entry: &EntryPlan) -> Vec<String> {
    let added = |name: &str| {
        let mut records = entry.changes.iter().filter(|change| change.kind == ChangeKind::ColumnAdded);
        records.any(|change| change.outcome == ChangeOutcome::Done && change.column.as_deref() == Some(name))
    };
    let written = |name: &str| entry.columns.iter().any(|column| column.target == name) || added(name);
    let of = table.described.columns.iter().filter(|column| written(&column.name)).filter_map(|column| {
        let expression = column.generated.as_ref()?;
        Some(format!("column {}: computed at the source ({expression}), an ordinary column at the target", column.name))
    });
    of.collect()
}

/// What the user should know of the job as a whole.
fn notes(tables: &[TableJob], mut warnings: Vec<String>) -> Vec<String> {
    let upserted = |table: &&TableJob| table.mode == weir_core::WriteMode::Upsert;
    let names: Vec<_> = tables.iter().filter(upserted).map(|table| table.target.to_string()).collect();
    if names.is_empty() {
        return warnings;
    }
    let of = if names.len() == tables.len() { String::new() } else { format!(" ({})", some_of(names)) };
    warnings.push(format!("upsert never deletes: rows that are gone at the source stay at the target{of}"));
    warnings
}

/// A number that is not always known.
fn known(number: Option<u64>) -> String {
    number.map_or_else(|| "?".into(), |number| number.to_string())
}

impl DatabasePlan {
    /// As text, with the tables.
    pub(crate) fn write(&self, entries: &[EntryPlan], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = self.selected.of;
        writeln!(f, "selected   {} (of {of} tables and views)", self.selected)?;
        writeln!(f, "mapped     {}; failed: {}; gone: {}", self.mapped, self.failed.len(), self.gone.len())?;
        let together = if self.together { "all tables together" } else { "each table by itself" };
        writeln!(f, "publish    {together}")?;
        for moment in &self.moments {
            writeln!(f, "snapshot   {}: {}", moment.source, moment.snapshot)?;
        }
        writeln!(
            f,
            "groups     {}, {} at once, with {} source connections each",
            self.groups.len(),
            self.concurrent_groups.min(self.groups.len().max(1)),
            self.max_source_connections
        )?;
        writeln!(f)?;
        let head = ["source", "target", "mode", "key", "rows", "bytes", "columns", "group"];
        let head: Vec<_> = head.iter().map(|title| (*title, Align::Left)).collect();
        let group_of = |name: &Option<String>| {
            let at = self.groups.iter().position(|group| group.tables.iter().any(|table| Some(table) == name.as_ref()));
            at.map_or_else(String::new, |at| (at + 1).to_string())
        };
        let rows: Vec<_> = entries
            .iter()
            .map(|entry| {
                let source = match entry.tables.as_slice() {
                    [first, _, ..] => format!("{first} and {} more", entry.tables.len() - 1),
                    [one] => one.clone(),
                    [] => String::new(),
                };
                let target = entry.name.clone().unwrap_or_default();
                vec![
                    source,
                    if entry.creates { format!("{target} (created)") } else { target },
                    entry.mode.to_owned(),
                    if entry.keys.is_empty() { "none".into() } else { entry.keys.join(", ") },
                    known(entry.rows),
                    known(entry.bytes),
                    entry.columns.len().to_string(),
                    group_of(&entry.name),
                ]
            })
            .collect();
        aligned(&head, &rows).into_iter().try_for_each(|line| writeln!(f, "{line}"))?;
        for table in &self.failed {
            let target = if table.target.is_empty() { String::new() } else { format!(" → {}", table.target) };
            writeln!(f, "\nfailed     {}{target}: {}", table.source, table.reason)?;
        }
        for name in &self.gone {
            writeln!(f, "\ngone       {name} is not at the source")?;
        }
        for changed in &self.changes {
            writeln!(f, "\nchange     {} → {}: {}", changed.source, changed.target, changed.change.line())?;
        }
        Ok(())
    }
}
