//! `weir plan`: everything a run would do, without doing it.

use std::fmt::{self, Write};

use serde::Serialize;
use tokio::runtime::Handle;
use weir_core::convert::Loss;
use weir_core::field::type_text;
use weir_core::{ConnectorContext, Error, ErrorKind, Kept, Result, Room, SnapshotGuard, Split, SplitRequest, Window};

use crate::database::evolve::{ChangeKind, TableChangeRecord};
use crate::database::{DatabaseJob, DatabasePlan, plan_tables};
use crate::entry::{PlannedEntry, open_all, plan_entry};
use crate::incremental::{known, of_entry, ordinal};
use crate::job::{Endpoint, Job, Setting};
use crate::layout::{Align, aligned};
use crate::ledger::known_tables;
use crate::options::RunOptions;

/// About the most bytes of a split: each is one transaction at the target, and one step of a resume.
const MAX_SPLIT_BYTES: u64 = 1 << 30;

/// What a run of a job would do.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The job's name.
    pub job: String,
    /// The scheduled time, RFC 3339.
    pub at: String,
    /// The time zone and where it came from.
    pub time_zone: String,
    /// Whose clocks zone-less times of the data show where an end does not say.
    pub data_zone: String,
    /// Channels: the job's ceiling, or what was chosen.
    pub channels: usize,
    /// Whether the number of channels was chosen.
    pub channels_automatic: bool,
    /// Rows per second for the whole job.
    pub rows_per_second: Option<u64>,
    /// Bytes per second for the whole job.
    pub bytes_per_second: Option<u64>,
    /// Dirty rows tolerated: a number, `unlimited`, or a percentage.
    pub error_limit: String,
    /// In a whole-database job: what is selected, mapped and grouped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabasePlan>,
    /// Each entry.
    pub entries: Vec<EntryPlan>,
    /// Warnings of the job file.
    pub warnings: Vec<String>,
}

/// What one entry would do.
#[derive(Debug, Clone, Serialize)]
pub struct EntryPlan {
    /// In a whole-database job: the table's name, as `--tables` takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// In a whole-database job: its source tables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    /// In a whole-database job: estimated rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// In a whole-database job: estimated bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The source: connector and place, without secrets.
    pub source: String,
    /// The target: connector and place, without secrets.
    pub target: String,
    /// The target table.
    pub table: String,
    /// append, overwrite …
    pub mode: &'static str,
    /// How rows become visible.
    pub method: String,
    /// Whether the target is created.
    pub creates: bool,
    /// Statements that are run before the load.
    pub statements: Vec<String>,
    /// Key columns of an upsert.
    pub keys: Vec<String>,
    /// Columns in the order in which they are written.
    pub columns: Vec<ColumnPlan>,
    /// What is read of each table, where that is a window.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// How the splits of the source see one moment, where they do.
    pub snapshot: Option<String>,
    /// Splits with estimates.
    pub splits: Vec<Split>,
    /// Channels that this entry can use.
    pub channels: usize,
    /// In a whole-database job: how the source has changed since the last run, and what a run would do about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<TableChangeRecord>,
    /// What a run would do to the target for these changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alterations: Vec<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// One column on its way.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnPlan {
    /// The source column, or a constant in quotes.
    pub source: String,
    /// Its type at the source.
    pub source_type: String,
    /// The form in which it is read.
    pub read_as: String,
    /// The form in which it is written.
    pub written_as: String,
    /// The target column.
    pub target: String,
    /// Its type at the target.
    pub target_type: String,
    /// `exact`, `checked` (a value that does not fit is a dirty row) or what is lost.
    pub conversion: String,
}

/// Plans a job without writing anything.
///
/// # Errors
/// The first entry's fault that would keep the job from running.
pub async fn plan(job: &Job, options: &RunOptions) -> Result<Plan> {
    let (kept, mut context) = (Kept::default(), context(job, options, Handle::current()));
    // A thousand tables take no more connections than are at work at once.
    context.shared = context.shared.within(room(job)).on(Some(kept.clone()));
    let planned = plan_in(job, options, &context).await;
    kept.close().await;
    planned
}

async fn plan_in(job: &Job, options: &RunOptions, context: &ConnectorContext) -> Result<Plan> {
    open_all(job, context)?;
    let watermarks = if options.full { Vec::new() } else { known(job, options.state_dir.as_deref()).await? };
    let mut entries = Vec::new();
    let mut database = None;
    let mut warnings = job.warnings.clone();
    if job.database.is_some() {
        let known = known_tables(options.state_dir.as_deref(), &job.name).await?;
        let (plan, tables, more) = plan_tables(job, &options.only, (&known, &watermarks), context).await?;
        (database, entries) = (Some(plan), tables);
        warnings.extend(more);
    }
    for (index, entry) in job.entries.iter().enumerate() {
        let at = |error: Error| error.with("entry", index);
        let mut planned = plan_entry(job, entry, "plan", context).await.map_err(at)?;
        let watermarks = of_entry(&watermarks, ordinal(job, index));
        planned.decide_windows(job, entry, context, watermarks, None).await.map_err(at)?;
        let guard = snapshot(&planned, job, context).await?;
        let splits = splits(&planned, job, options, context, guard.as_ref()).await?;
        entries.push(describe(&planned, job, entry_places(entry), guard, splits));
    }
    Ok(Plan {
        job: job.name.clone(),
        at: job.at.to_rfc3339(),
        time_zone: format!("{} ({})", job.at.timezone(), job.time_zone_from),
        data_zone: job.data_zone.to_string(),
        channels: channels_of(job),
        channels_automatic: job.setting.channels.is_none(),
        rows_per_second: job.setting.rows_per_second,
        bytes_per_second: job.setting.bytes_per_second,
        error_limit: match (job.setting.error_limit.record, job.setting.error_limit.percentage) {
            (Some(record), _) => format!("{record} rows"),
            (None, Some(share)) => format!("{} % of the rows", share * 100.0),
            (None, None) => "unlimited".into(),
        },
        database,
        entries,
        warnings,
    })
}

/// The connectors' context on the control runtime; the form is set for each end.
pub fn context(job: &Job, options: &RunOptions, io: Handle) -> ConnectorContext {
    ConnectorContext {
        cancel: options.cancel.clone(),
        io,
        form: weir_core::Form::Native,
        time_zone: job.data_zone,
        shared: Default::default(),
    }
}

/// The job's channels: its own ceiling, else one for each core up to four.
pub fn channels(setting: &Setting) -> usize {
    let automatic = || std::thread::available_parallelism().map_or(1, |n| n.get()).min(4);
    setting.channels.unwrap_or_else(automatic).max(1)
}

/// The channels of a whole job: in a whole-database job no more than its groups may read with at once.
pub fn channels_of(job: &Job) -> usize {
    match &job.database {
        Some(database) => at_once(database).min(job.setting.channels.unwrap_or(usize::MAX)).max(1),
        None => channels(&job.setting),
    }
}

/// How many sessions the groups of a whole-database job may read with at once.
fn at_once(job: &DatabaseJob) -> usize {
    let group = &job.config.group;
    group.max_source_connections.saturating_mul(group.concurrent_groups).max(1)
}

/// The sessions that a whole-database job may have open at a source.
pub fn room(job: &Job) -> Option<Room> {
    Some(Room::new(at_once(job.database.as_ref()?)))
}

/// Begins the source's snapshot, where it has one.
pub async fn snapshot(entry: &PlannedEntry, job: &Job, context: &ConnectorContext) -> Result<Option<SnapshotGuard>> {
    match entry.reader.snapshot() {
        Some(snapshot) => {
            // The tables of a whole-database job share one snapshot, and all its connections.
            let readers = if job.database.is_some() { channels_of(job) } else { readers_at_once(entry, job) };
            context.until_cancelled(snapshot.begin(readers)).await.map(Some).map_err(of_source)
        }
        None => Ok(None),
    }
}

/// Says of what a server may do at either end, as waiting for a lock, that it was the source.
pub(crate) fn of_source(error: Error) -> Error {
    of_side(error, "source")
}

/// The same of the target.
pub(crate) fn of_target(error: Error) -> Error {
    of_side(error, "target")
}

fn of_side(error: Error, side: &str) -> Error {
    match error.kind() {
        ErrorKind::Timeout | ErrorKind::Unreachable | ErrorKind::Conflict | ErrorKind::Remote => {
            error.with("side", side)
        }
        _ => error,
    }
}

/// The most splits that are read at once.
pub fn readers_at_once(entry: &PlannedEntry, job: &Job) -> usize {
    let group = job.database.as_ref().map_or(usize::MAX, |database| database.config.group.max_source_connections);
    channels_of(job).min(group).min(entry.writer.max_channels().unwrap_or(usize::MAX)).max(1)
}

/// Cuts the source into numbered splits.
pub async fn splits(
    entry: &PlannedEntry,
    job: &Job,
    options: &RunOptions,
    context: &ConnectorContext,
    guard: Option<&SnapshotGuard>,
) -> Result<Vec<Split>> {
    let request = SplitRequest {
        channels: readers_at_once(entry, job),
        max_bytes: MAX_SPLIT_BYTES,
        snapshot: guard.map(|g| g.token.clone()),
        stable: entry.plan.commits_per_split && entry.plan.records_splits,
        limit: options.limit,
    };
    let splits = match entry.reader.incremental() {
        Some(incremental) => context.until_cancelled(incremental.splits_within(&request, &entry.windows)).await,
        None => context.until_cancelled(entry.reader.splits(&request)).await,
    };
    let mut splits = splits.map_err(of_source)?;
    for (id, split) in splits.iter_mut().enumerate() {
        split.id = u32::try_from(id).map_err(|_| Error::internal("more splits than a job can number"))?;
    }
    Ok(splits)
}

pub(crate) fn entry_places(entry: &crate::job::Entry) -> (String, String) {
    let place = |endpoint: &Endpoint| {
        let parameter = endpoint.redacted();
        let found = ["url", "jdbcUrl", "path"].iter().find_map(|key| parameter.get(*key).and_then(|v| v.as_str()));
        let nested = || parameter.pointer("/connection/0/jdbcUrl").and_then(|v| v.as_str().or(v.get(0)?.as_str()));
        match found.or_else(nested) {
            Some(place) => format!("{} {place}", endpoint.plugin),
            None => endpoint.plugin.clone(),
        }
    };
    (place(&entry.reader), place(&entry.writer))
}

pub(crate) fn describe(
    entry: &PlannedEntry,
    job: &Job,
    (source, target): (String, String),
    guard: Option<SnapshotGuard>,
    splits: Vec<Split>,
) -> EntryPlan {
    let columns = entry.columns.iter().zip(&entry.plan.columns).map(|(from, to)| ColumnPlan {
        source: from.name.clone(),
        source_type: from.native_type.clone(),
        read_as: type_text(&from.field),
        written_as: type_text(&to.input),
        target: to.name.clone(),
        target_type: to.native_type.clone(),
        conversion: match &from.loss {
            Loss::None => "exact".into(),
            Loss::PerValue => "checked".into(),
            Loss::Every(what) => what.clone(),
        },
    });
    let most = entry.writer.max_channels().unwrap_or(usize::MAX);
    EntryPlan {
        changes: entry.evolution.as_ref().map(|evolution| evolution.records.clone()).unwrap_or_default(),
        alterations: entry.evolution.as_ref().map(|evolution| evolution.statements.clone()).unwrap_or_default(),
        name: None,
        tables: Vec::new(),
        rows: None,
        bytes: None,
        source,
        target,
        table: entry.plan.table.clone(),
        mode: entry.plan.mode.name(),
        method: entry.plan.method.clone(),
        creates: entry.plan.creates,
        statements: entry.plan.statements.clone(),
        keys: entry.plan.keys.clone(),
        columns: columns.collect(),
        windows: entry.windows.clone(),
        snapshot: guard.map(|g| g.description),
        channels: channels(&job.setting).min(most).min(splits.len().max(1)),
        splits,
        warnings: entry.warnings.clone(),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "job        {}", self.job)?;
        writeln!(f, "at         {}, zone {}", self.at, self.time_zone)?;
        writeln!(f, "data       zone-less times are those of {}", self.data_zone)?;
        let how = if self.channels_automatic { "chosen" } else { "as the job says" };
        writeln!(f, "channels   {} ({how})", self.channels)?;
        let mut limits = Vec::new();
        limits.extend(self.rows_per_second.map(|n| format!("{n} rows/s")));
        limits.extend(self.bytes_per_second.map(|n| format!("{n} bytes/s")));
        let limits = if limits.is_empty() { "none".into() } else { limits.join(", ") };
        writeln!(f, "limits     {limits}; dirty rows tolerated: {}", self.error_limit)?;
        for warning in &self.warnings {
            writeln!(f, "warning    {warning}")?;
        }
        if let Some(database) = &self.database {
            database.write(&self.entries, f)?;
        }
        for entry in &self.entries {
            writeln!(f)?;
            entry.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for EntryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tables.as_slice() {
            [] => writeln!(f, "{} → {}", self.source, self.target)?,
            tables => writeln!(f, "{} → {}", tables.join(", "), self.name.as_deref().unwrap_or_default())?,
        }
        let creates = if self.creates { " (created)" } else { "" };
        writeln!(f, "  table      {}{creates}", self.table)?;
        let keys = if self.keys.is_empty() { String::new() } else { format!(" by {}", self.keys.join(", ")) };
        writeln!(f, "  mode       {}{keys}: {}", self.mode, self.method)?;
        for window in &self.windows {
            writeln!(f, "  window     {}: {}", window.table, window.describe())?;
        }
        if let Some(snapshot) = &self.snapshot {
            writeln!(f, "  snapshot   {snapshot}")?;
        }
        for statement in &self.statements {
            writeln!(f, "  statement  {}", statement.replace('\n', "\n             "))?;
        }
        f.write_char('\n')?;
        let rows = self.columns.iter().map(|c| {
            let via = if c.read_as == c.written_as {
                c.read_as.clone()
            } else {
                format!("{} → {}", c.read_as, c.written_as)
            };
            vec![
                c.source.clone(),
                c.source_type.clone(),
                via,
                c.target.clone(),
                c.target_type.clone(),
                c.conversion.clone(),
            ]
        });
        table(f, &["source", "type", "arrow", "target", "type", "conversion"], rows.collect())?;
        f.write_char('\n')?;
        if self.name.is_some() {
            for change in self.changes.iter().filter(|change| change.kind != ChangeKind::TableAdded) {
                writeln!(f, "  change     {}", change.line())?;
            }
            for alteration in &self.alterations {
                writeln!(f, "  runs       {alteration}")?;
            }
            // Splits are cut when the table has its turn.
            return self.warnings.iter().try_for_each(|warning| writeln!(f, "  warning    {warning}"));
        }
        let number = |n: Option<u64>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
        let rows =
            self.splits.iter().take(20).map(|s| {
                vec![s.id.to_string(), s.table.clone(), s.description.clone(), number(s.rows), number(s.bytes)]
            });
        table(f, &["split", "table", "part", "rows", "bytes"], rows.collect())?;
        if self.splits.len() > 20 {
            writeln!(f, "  … and {} more splits", self.splits.len() - 20)?;
        }
        for warning in &self.warnings {
            writeln!(f, "  warning    {warning}")?;
        }
        Ok(())
    }
}

fn table(f: &mut fmt::Formatter<'_>, head: &[&str], rows: Vec<Vec<String>>) -> fmt::Result {
    let head: Vec<_> = head.iter().map(|title| (*title, Align::Left)).collect();
    aligned(&head, &rows).into_iter().try_for_each(|line| writeln!(f, "  {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_does_at_either_end_says_at_which() {
        let side = |error: Error| of_target(error).context().iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
        assert_eq!(side(of_source(Error::new(ErrorKind::Timeout, "lock timeout"))), ["source"], "the inner one stays");
        assert_eq!(side(Error::new(ErrorKind::Conflict, "lock timeout")), ["target"]);
        assert!(side(Error::new(ErrorKind::DirtyLimit, "a row of either")).is_empty());
    }
}
