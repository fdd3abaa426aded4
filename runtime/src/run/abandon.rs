//! An unfinished run that is given up for a new one.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{SecondsFormat, Utc};
use serde_json::Value;
use tokio::runtime::Handle;
use weir_core::{Committed, ConnectorContext, Error, ErrorKind, Result, ResultExt, WriteMode, WritePlan, Writer};

use super::begin::fingerprint;
use super::tables::failed_of;
use super::waiting::{SOON, aloud};
use crate::database::{Only, TableJob, writer_of};
use crate::job::{Endpoint, Job};
use crate::ledger::{EntryRecord, Ledger, RunRecord, RunStatus};
use crate::observer::Event;
use crate::options::{RunOptions, Start};
use crate::plan::context;

/// Gives an unfinished run up for a new one: takes back what it staged. Rows that it has published for good cannot be
/// taken back, and a new run would write them again: that takes the user's word.
pub(super) async fn abandon(
    ledger: &Ledger,
    run: &RunRecord,
    job: &Job,
    options: &RunOptions,
    io: &Handle,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let context = context(job, options, io.clone());
    let current = fingerprint(job);
    // The tables that a run of a whole-database job had are not those that the job would have now, and the job may have
    // their sources no more.
    let tables = ledger.expansion(&run.run_id).await?.map(|(expansion, _)| expansion.tables).unwrap_or_default();
    let only = match &options.only {
        Only::FailedOf(run_id) => Only::Targets(failed_of(ledger, &job.name, run_id).await?),
        only => only.clone(),
    };
    let mut warn = |text: String| {
        options.observer.event(&Event::Warning(&text));
        warnings.push(text);
    };
    let mut left = Vec::new();
    for entry in ledger.entries(&run.run_id).await? {
        // What is published whole has nothing left to take back; it is looked at only where it would be doubled.
        let whole = entry.committed.is_some() && !entry.spec.plan.commits_per_split;
        if whole && !adds(&entry) {
            continue;
        }
        let index = entry.entry as usize;
        let table = tables.get(index);
        let writer = match writer_of_run(run, job, &current, table, index) {
            // A target that cannot be asked is no reason to believe that nothing is there.
            Ok(endpoint) => Ok(endpoint.open_writer(&context)?),
            Err(gone) if gone.kind() == ErrorKind::NotFound => Err(gone),
            Err(error) => return Err(error),
        };
        let asked = writer.as_ref().ok().filter(|_| !whole);
        let landed = landed(ledger, run, &entry, asked, &context, options).await?;
        if landed.published && entry.committed.is_none() {
            // It was read and is to be seen, although its process could not write that down.
            if let Some((known, table)) = entry.known.as_ref().zip(table) {
                ledger.know_table(&run.job, &table.target.to_string(), &table.source(), known).await?;
            }
            if !entry.windows.is_empty() {
                ledger.publish(&run.run_id, entry.entry, &Committed::default(), true).await?;
            }
        }
        let over = entry.committed.is_some() || landed.published;
        // What ended well and is not written again may stay as it is. What did not end well is known to this run alone:
        // given up, it would be doubled by whatever run comes to it.
        let concerned = !over || table.is_none_or(|table| only.may_take(table));
        if let Some(fault) = landed.doubled(run, &entry, options.start).filter(|_| concerned) {
            if options.start != Start::Fresh {
                return Err(Error::new(ErrorKind::Conflict, fault)
                    .with("job", &job.name)
                    .with("target", &entry.spec.plan.table));
            }
            warn(fault);
        }
        if !whole {
            left.push((entry, writer, over));
        }
    }
    for (entry, writer, over) in left {
        let table = &entry.spec.plan.table;
        let take_back = async {
            let writer = writer?;
            let work = context.until_cancelled(writer.abort(&entry.spec.plan, &[]));
            match aloud(options.observer.as_ref(), &format!("taking back {table}"), SOON, work).await {
                // What is published may refuse to be taken back; its records are needed no more.
                Err(error) if !over || error.kind() != ErrorKind::Conflict => return Err(error),
                _ => {}
            }
            context.until_cancelled(writer.forget(&entry.spec.plan)).await
        };
        if let Err(error) = take_back.await {
            warn(format!("what run {} has staged for {table} is left behind: {}", run.run_id, error.full()));
        }
    }
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    ledger.end(&run.run_id, RunStatus::Abandoned, &now, None).await
}

/// Whether rows that have landed count as there for good, so that a later run would double them. Where nobody records
/// splits because rows are only printed or counted there is nothing to double.
pub(super) fn stays(plan: &WritePlan, writer: &Endpoint) -> bool {
    plan.commits_per_split && (plan.records_splits || writer.parameter.get("exactlyOnce") == Some(&Value::Bool(false)))
}

/// Whether a run that is begun anew writes beside what an earlier one has written for good, as far as the plan tells.
pub(super) fn appends(plan: &WritePlan) -> bool {
    plan.commits_per_split || plan.mode == WriteMode::Append
}

/// Whether an entry that is published whole adds to what is there, so that a later run would add the same rows again. One
/// that goes on after what it has read does not.
fn adds(entry: &EntryRecord) -> bool {
    let plan = &entry.spec.plan;
    plan.mode == WriteMode::Append && !plan.commits_per_split && entry.windows.is_empty()
}

/// What writes an entry of an earlier run, if the job writes there still; `current` is the job's fingerprint.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound) when it does not.
pub(super) fn writer_of_run(
    run: &RunRecord,
    job: &Job,
    current: &Value,
    table: Option<&TableJob>,
    index: usize,
) -> Result<Endpoint> {
    let here = |of: &Value| match job.database {
        Some(_) => of.get("target").cloned(),
        None => of.get(index).and_then(|entry| entry.pointer("/writer")).cloned(),
    };
    match (here(&run.fingerprint), here(current)) {
        (old, new) if old.is_some() && old == new => writer(job, table, index),
        // Nobody has the old target's address with its secrets.
        _ => Err(Error::new(ErrorKind::NotFound, "the job writes elsewhere now")),
    }
}

/// What writes an entry of the run that is given up, as the job is now.
fn writer(job: &Job, table: Option<&TableJob>, index: usize) -> Result<Endpoint> {
    let unknown = || Error::new(ErrorKind::NotFound, "the job has it no more");
    match &job.database {
        Some(database) => writer_of(database, table.ok_or_else(unknown)?),
        None => job.entries.get(index).map(|entry| entry.writer.clone()).ok_or_else(unknown),
    }
}

/// Whether all rows of an append were staged (`all`), and nothing says whether they were published.
pub(super) fn may_be_published(plan: &WritePlan, writer: &Endpoint, all: bool) -> bool {
    let once = plan.records_splits || writer.parameter.get("exactlyOnce") != Some(&Value::Bool(false));
    all && plan.mode == WriteMode::Append && !plan.commits_per_split && !once
}

/// What of an entry is at the target.
struct Landed {
    /// Splits that are there for good, as far as anybody knows.
    splits: usize,
    /// Of how many.
    of: usize,
    /// Splits that were begun, and of which nobody can tell.
    unknown: usize,
    /// Whether all is to be seen.
    published: bool,
}

impl Landed {
    /// What a new run would do to the rows that are there.
    fn doubled(&self, run: &RunRecord, entry: &EntryRecord, start: Start) -> Option<String> {
        let (plan, id) = (&entry.spec.plan, &run.run_id);
        let there = match (self.splits, self.unknown) {
            _ if self.published && adds(entry) => format!("its rows are in {} for good", plan.table),
            // All were staged, and whether they were published is not written down anywhere.
            _ if may_be_published(plan, &entry.spec.writer, self.of > 0 && self.splits == self.of) => {
                format!("whether its rows are in {} is not known", plan.table)
            }
            _ if !stays(plan, &entry.spec.writer) => return None,
            (0, 0) => return None,
            (0, unknown) => format!("whether {unknown} of its {} splits are in {} is not known", self.of, plan.table),
            (splits, _) => format!("{splits} of its {} splits are in {} for good", self.of, plan.table),
        };
        let go_on = match plan.records_splits || (self.published && adds(entry)) {
            true => "go on with it (--resume), or replay the same file again if it is a replay, which keeps these rows",
            false => "the target does not record splits, so that it cannot go on: look at the target",
        };
        Some(match start {
            Start::Fresh => format!("run {id} is given up, and {there}: these rows stay, and are written again"),
            _ => format!(
                "run {id} of this job did not end, and {there}: {go_on}, or start anew with --fresh, which leaves these \
                 rows where they are and writes them again"
            ),
        })
    }
}

async fn landed(
    ledger: &Ledger,
    run: &RunRecord,
    entry: &EntryRecord,
    writer: Option<&Arc<dyn Writer>>,
    context: &ConnectorContext,
    options: &RunOptions,
) -> Result<Landed> {
    let splits = ledger.splits(&run.run_id, entry.entry).await?;
    let mut there: BTreeSet<u32> =
        splits.iter().filter(|split| split.receipt.is_some()).map(|split| split.split.id).collect();
    let mut published = entry.committed.is_some();
    if let Some(writer) = writer.filter(|_| entry.spec.plan.records_splits) {
        let plan = &entry.spec.plan;
        // Its process may have died while the target was at work on its commit.
        let settled = async {
            writer.settle(plan).await?;
            writer.recorded(plan).await
        };
        let what = format!("seeing what run {} has left in {}", run.run_id, plan.table);
        let asking = aloud(options.observer.as_ref(), &what, SOON, settled);
        let recorded = context.until_cancelled(asking).await;
        let recorded = recorded.context("job", &run.job).context("target", &plan.table)?;
        published |= recorded.published;
        there.extend(recorded.receipts.iter().map(|receipt| receipt.split));
    }
    let in_doubt = splits.iter().filter(|split| split.is_in_doubt()).count();
    let unknown = if entry.spec.plan.records_splits { 0 } else { in_doubt };
    Ok(Landed { splits: there.len(), of: splits.len(), unknown, published })
}
