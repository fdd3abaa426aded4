//! Before a run: which one it is, and what an earlier one has left.

use std::sync::Arc;

use chrono::{SecondsFormat, Utc};
use serde_json::Value;
use tokio::runtime::Handle;
use weir_core::{Committed, ConnectorContext, Error, ErrorKind, Result};

use super::waiting::{SOON, aloud};
use crate::job::{Job, UNNAMED};
use crate::ledger::{EntryRecord, JobLock, Ledger, RunRecord, RunStatus};
use crate::observer::Event;
use crate::options::{RunOptions, Start};
use crate::plan::context;
use crate::report::Report;

/// The longest name that a caller may give a run; entries add a number to it at the target.
const MAX_RUN_ID: usize = 100;

/// What is to be done.
pub enum Beginning {
    /// Nothing: the run has succeeded before.
    Finished(Box<Report>),
    /// A run, new or continued.
    Run(Began),
}

/// A run that may begin.
pub struct Began {
    /// Its name.
    pub run_id: String,
    /// The state folder's ledger; `None` without a state folder, and for a try of few rows.
    pub ledger: Option<Ledger>,
    /// Keeps another run of the job out.
    pub lock: Option<JobLock>,
    /// Whether an earlier process began it.
    pub continued: bool,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Finds out which run this is, and writes it into the ledger.
///
/// # Errors
/// Another run of the job is going on; an earlier one has left rows for good; the job to be resumed was changed.
pub async fn begin(job: &Job, options: &RunOptions, io: &Handle) -> Result<Beginning> {
    if let Some(id) = &options.run_id {
        check_name(id)?;
    }
    let new_id = || options.run_id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().simple().to_string());
    // A try of a few rows is not worth a resume, and must not stand in the way of one.
    let Some(state_dir) = options.state_dir.as_ref().filter(|_| options.limit.is_none()) else {
        if options.start == Start::Resume {
            return Err(Error::config("a resume needs the state folder, and takes no --limit"));
        }
        let (lock, ledger, warnings) = (None, None, Vec::new());
        return Ok(Beginning::Run(Began { run_id: new_id(), ledger, lock, continued: false, warnings }));
    };
    let ledger = Ledger::open(state_dir).await?;
    // A job without a name that came from no file cannot be told from another one.
    let known = job.path.is_some() || job.name != UNNAMED;
    let lock = match (&options.run_id, known) {
        (_, true) => Some(JobLock::take(state_dir, &job.name)?),
        (Some(id), false) => Some(JobLock::take(state_dir, id)?),
        (None, false) => None,
    };
    let last = if known { ledger.last_run(&job.name).await?.filter(RunRecord::is_unfinished) } else { None };
    let named = match &options.run_id {
        Some(id) => ledger.run(id).await?,
        None => None,
    };
    let mut warnings = Vec::new();
    let record = match (named, last) {
        (Some(run), _) if run.status == RunStatus::Succeeded => {
            let report = run.report.ok_or_else(|| Error::internal("a finished run has no report"))?;
            return Ok(Beginning::Finished(Box::new(report)));
        }
        (Some(run), _) if run.status == RunStatus::Abandoned => {
            let text = format!("run {} was given up when a later run of the job began: use a new run id", run.run_id);
            return Err(Error::new(ErrorKind::Conflict, text).with("job", &job.name));
        }
        (Some(run), _) => Some(run),
        (None, Some(run)) if options.start == Start::Resume && options.run_id.is_none() => Some(run),
        (None, Some(run)) => {
            abandon(&ledger, &run, job, options, io, &mut warnings).await?;
            None
        }
        (None, None) => None,
    };
    let continued = record.is_some();
    let record = match record {
        Some(run) => same_job(run, job)?,
        None => RunRecord {
            run_id: new_id(),
            job: job.name.clone(),
            path: job.path.as_ref().map(|path| path.display().to_string()),
            at: job.at.to_rfc3339(),
            parameters: job.parameters.clone(),
            fingerprint: fingerprint(job),
            status: RunStatus::Running,
            started_at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            finished_at: None,
            report: None,
        },
    };
    ledger.begin(&record).await?;
    Ok(Beginning::Run(Began { run_id: record.run_id, ledger: Some(ledger), lock, continued, warnings }))
}

fn check_name(id: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !id.is_empty() && id.len() <= MAX_RUN_ID && id.chars().all(plain) {
        return Ok(());
    }
    Err(Error::config(format!(
        "`{id}` cannot name a run: use up to {MAX_RUN_ID} letters, digits, dots, hyphens and underscores"
    )))
}

/// The entries as they were read, for comparing; secrets are left out, for a password may change between two calls.
fn fingerprint(job: &Job) -> Value {
    if let Some(database) = &job.database {
        return database.fingerprint();
    }
    let entry = |entry: &crate::job::Entry| {
        let mut entry = entry.clone();
        entry.reader.parameter = entry.reader.redacted();
        entry.writer.parameter = entry.writer.redacted();
        serde_json::to_value(entry).unwrap_or_default()
    };
    job.entries.iter().map(entry).collect()
}

/// A run is continued only as what it was begun as.
fn same_job(run: RunRecord, job: &Job) -> Result<RunRecord> {
    let conflict = |text: String| {
        let text = format!("run {} cannot be continued: {text}; put it back, or start anew with --fresh", run.run_id);
        Err(Error::new(ErrorKind::Conflict, text).with("job", &job.name))
    };
    if run.job != job.name {
        return conflict(format!("it is a run of job {}", run.job));
    }
    let mut changed = Vec::new();
    differences(&run.fingerprint, &fingerprint(job), "", &mut changed);
    if !changed.is_empty() {
        changed.truncate(5);
        return conflict(format!("the job was changed at {}", changed.join(", ")));
    }
    Ok(run)
}

/// The JSON pointers at which two values differ.
fn differences(old: &Value, new: &Value, at: &str, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let added = new.keys().filter(|key| !old.contains_key(*key));
            for key in old.keys().chain(added) {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                differences(&of(old), &of(new), &format!("{at}/{key}"), found);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (i, (old, new)) in old.iter().zip(new).enumerate() {
                differences(old, new, &format!("{at}/{i}"), found);
            }
        }
        _ if old == new => {}
        _ => found.push(if at.is_empty() { "/".into() } else { at.to_owned() }),
    }
}

/// Gives an unfinished run up for a new one: takes back what it staged. Rows that it has published for good cannot be
/// taken back, and a new run would write them again: that takes the user's word.
async fn abandon(
    ledger: &Ledger,
    run: &RunRecord,
    job: &Job,
    options: &RunOptions,
    io: &Handle,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let context = context(job, options, io.clone());
    let current = fingerprint(job);
    // The tables that a run of a whole-database job had are not those that the job would have now.
    let tables = match &job.database {
        None => job.entries.clone(),
        Some(database) => match ledger.expansion(&run.run_id).await? {
            Some((expansion, _)) => crate::database::entries(database, &expansion)?,
            None => Vec::new(),
        },
    };
    let mut left = Vec::new();
    for entry in ledger.entries(&run.run_id).await? {
        if entry.committed.is_some() && !entry.spec.plan.commits_per_split {
            continue;
        }
        let index = entry.entry as usize;
        let here = |of: &Value| match job.database {
            Some(_) => of.get("target").filter(|_| index < tables.len()).cloned(),
            None => of.get(index).and_then(|entry| entry.pointer("/writer")).cloned(),
        };
        let writer = match (here(&run.fingerprint), here(&current)) {
            (old, new) if old.is_some() && old == new => {
                let endpoint = &tables[index].writer;
                let context = ConnectorContext { form: endpoint.form, ..context.clone() };
                Some(endpoint.open_writer(&context)?)
            }
            // Where the job now writes elsewhere, nobody has the old target's address with its secrets.
            _ => None,
        };
        let landed = landed(ledger, run, &entry, writer.as_ref(), &context).await?;
        if landed.2 {
            // It was read and is to be seen, although its process could not write that down.
            if let Some((known, table)) = entry.known.as_ref().zip(tables.get(index).and_then(|e| e.table.as_ref())) {
                ledger.know_table(&run.job, &table.target.to_string(), &table.source(), known).await?;
            }
            if !entry.windows.is_empty() {
                ledger.publish(&run.run_id, entry.entry, &Committed::default(), true).await?;
            }
        }
        if entry.spec.plan.commits_per_split && landed.0 > 0 && options.start != Start::Fresh {
            let (finished, splits, _) = landed;
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "run {} of this job did not end, and {finished} of its {splits} splits are in {} for good: go on with it \
                     (--resume), or start anew with --fresh, which leaves these rows where they are and writes them again",
                    run.run_id, entry.spec.plan.table
                ),
            )
            .with("job", &job.name)
            .with("target", &entry.spec.plan.table));
        }
        left.push((entry, writer));
    }
    for (entry, writer) in left {
        let table = &entry.spec.plan.table;
        let cleaned = match &writer {
            None => Err(Error::new(ErrorKind::NotFound, "the job writes elsewhere now")),
            Some(writer) => {
                let work = context.until_cancelled(writer.abort(&entry.spec.plan, &[]));
                aloud(options.observer.as_ref(), &format!("taking back {table}"), SOON, work).await
            }
        };
        let cleaned = match (&writer, cleaned) {
            (Some(writer), Ok(())) => context.until_cancelled(writer.forget(&entry.spec.plan)).await,
            (_, cleaned) => cleaned,
        };
        if let Err(error) = cleaned {
            let text = format!("what run {} has staged for {table} is left behind: {}", run.run_id, error.full());
            options.observer.event(&Event::Warning(&text));
            warnings.push(text);
        }
    }
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    ledger.end(&run.run_id, RunStatus::Abandoned, &now, None).await
}

/// How many of an entry's splits are at the target for good, of how many; and whether it is published.
async fn landed(
    ledger: &Ledger,
    run: &RunRecord,
    entry: &EntryRecord,
    writer: Option<&Arc<dyn weir_core::Writer>>,
    context: &ConnectorContext,
) -> Result<(usize, usize, bool)> {
    let splits = ledger.splits(&run.run_id, entry.entry).await?;
    let (recorded, published) = match writer {
        Some(writer) if entry.spec.plan.records_splits => {
            let recorded = context.until_cancelled(writer.recorded(&entry.spec.plan)).await?;
            (recorded.receipts.len(), recorded.published)
        }
        // What nobody records does not count as there for good: the job has said that it does not mind.
        _ => (0, false),
    };
    let known = splits.iter().filter(|split| split.receipt.is_some()).count();
    let finished = if entry.spec.plan.records_splits { recorded.max(known) } else { 0 };
    Ok((finished, splits.len(), published))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_of_a_job_are_named_by_their_pointers() {
        let mut found = Vec::new();
        let old = json!([{"reader": {"a": 1, "b": [1, 2]}, "writer": {"c": "x"}}]);
        let new = json!([{"reader": {"a": 2, "b": [1, 2, 3]}, "writer": {"c": "x", "d": 1}}]);
        differences(&old, &new, "", &mut found);
        assert_eq!(found, ["/0/reader/a", "/0/reader/b", "/0/writer/d"]);
        found.clear();
        differences(&old, &old, "", &mut found);
        assert!(found.is_empty());
    }

    #[test]
    fn names_of_runs_are_plain() {
        assert!(check_name("orders-2025.11_01").is_ok());
        for wrong in ["", "a b", "a'b", &"x".repeat(101)] {
            assert_eq!(check_name(wrong).unwrap_err().kind(), ErrorKind::Config);
        }
    }
}
