//! Before a run: which one it is, and what an earlier one has left.

use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use weir_core::{Error, ErrorKind, Result};

use super::abandon::abandon;
use super::clock::Clock;
use crate::job::{Job, UNNAMED};
use crate::ledger::{JobLock, Ledger, RunRecord, RunStatus};
use crate::options::{Quarantine, RunOptions, Start};
use crate::quarantine;
use crate::report::Report;

/// The longest name that a caller may give a run; entries add a number to it at the target.
const MAX_RUN_ID: usize = 100;

/// What is to be done.
pub enum Beginning {
    /// Nothing: the run has succeeded before.
    Finished(Box<Report>),
    /// A run, new or continued.
    Run(Box<Began>),
}

/// A run that may begin.
pub struct Began {
    /// Its name.
    pub run_id: String,
    /// The state folder's ledger; `None` without a state folder, and for a try of few rows.
    pub ledger: Option<Ledger>,
    /// In a whole-database job without that one: a ledger that ends with the run.
    pub passing: Option<Ledger>,
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
pub(super) async fn begin(job: &Job, options: &RunOptions, clock: &Clock, io: &Handle) -> Result<Beginning> {
    if let Some(id) = &options.run_id {
        check_name(id)?;
    }
    let new_id = || options.run_id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().simple().to_string());
    // A try of a few rows is not worth a resume, and must not stand in the way of one.
    let Some(state_dir) = options.state_dir.as_ref().filter(|_| options.limit.is_none()) else {
        if options.start == Start::Resume {
            return Err(Error::config("a resume needs the state folder, and takes no --limit"));
        }
        if options.run_id.is_some() {
            let text = "a run id is once for all, which only the state folder remembers: name one (--state-dir) and leave \
                        --limit out, or leave --run-id out";
            return Err(Error::config(text));
        }
        let (lock, ledger, warnings) = (None, None, free_quarantine(options, None)?.into_iter().collect());
        let passing = None;
        return Ok(Beginning::Run(Box::new(Began {
            run_id: new_id(),
            ledger,
            passing,
            lock,
            continued: false,
            warnings,
        })));
    };
    let ledger = Ledger::open(state_dir).await?.stopped_at(clock.stopped());
    // A job without a name that came from no file cannot be told from another one.
    let known = job.path.is_some() || job.name != UNNAMED;
    // Before the lock, which another run of the job may have: a finished one stays what it is.
    if let Some(run) = called(&ledger, job, known, options).await?.filter(|run| run.status == RunStatus::Succeeded) {
        return finished(run);
    }
    let mut lock = match (&options.run_id, known) {
        (_, true) => Some(JobLock::take(state_dir, &job.name)?),
        (Some(id), false) => Some(JobLock::take(state_dir, id)?),
        (None, false) => None,
    };
    let last = if known { ledger.last_run(&job.name).await?.filter(RunRecord::is_unfinished) } else { None };
    let named = called(&ledger, job, known, options).await?;
    let mut warnings = Vec::new();
    let record = match (named, last) {
        (Some(run), _) if run.status == RunStatus::Succeeded => return finished(run),
        (Some(run), _) if run.status == RunStatus::Abandoned => {
            let text = format!("run {} was given up when a later run of the job began: use a new run id", run.run_id);
            return Err(Error::new(ErrorKind::Conflict, text).with("job", &job.name));
        }
        (Some(run), _) => Some(run),
        (None, Some(run)) if options.start == Start::Resume && options.run_id.is_none() => Some(run),
        (None, Some(run)) => {
            // Where it is refused, the file stays that of the run that may go on.
            if let Quarantine::Path(path) = &options.quarantine {
                quarantine::check(path)?;
            }
            abandon(&ledger, &run, job, options, io, &mut warnings).await?;
            None
        }
        (None, None) => None,
    };
    warnings.extend(free_quarantine(options, record.as_ref())?);
    let continued = record.is_some();
    let record = match record {
        Some(run) => same_job(run, job, anew(options))?,
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
    if let Some(lock) = &mut lock {
        lock.name(&record.run_id);
    }
    let (run_id, ledger, passing) = (record.run_id, Some(ledger), None);
    Ok(Beginning::Run(Box::new(Began { run_id, ledger, passing, lock, continued, warnings })))
}

/// The run that the caller names, if the ledger knows it.
///
/// # Errors
/// It may not be called here.
async fn called(ledger: &Ledger, job: &Job, known: bool, options: &RunOptions) -> Result<Option<RunRecord>> {
    let Some(id) = &options.run_id else { return Ok(None) };
    let run = ledger.run(id).await?;
    if let Some(run) = &run {
        may_be_called(run, job, known, options.start)?;
    }
    Ok(run)
}

fn finished(run: RunRecord) -> Result<Beginning> {
    let report = run.report.ok_or_else(|| Error::internal("a finished run has no report"))?;
    Ok(Beginning::Finished(Box::new(report)))
}

/// Before anything is moved: the file that the caller names for dirty rows has none but those of the run that goes on. Says
/// where others are now.
fn free_quarantine(options: &RunOptions, run: Option<&RunRecord>) -> Result<Option<String>> {
    let Quarantine::Path(path) = &options.quarantine else { return Ok(None) };
    let moved = quarantine::make_room(path, run.map(|run| run.run_id.as_str()))?;
    Ok(moved
        .map(|moved| format!("the dirty rows of an earlier run in {} are in {} now", path.display(), moved.display())))
}

/// Never to take [`ENTRY`](weir_core::lease::ENTRY), which would make a run's id that of another run's entry.
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
pub(super) fn fingerprint(job: &Job) -> Value {
    // What changes values although it stands beside the entries.
    let around = |mut of: Value| {
        if let Value::Object(of) = &mut of {
            of.insert("setting".into(), json!({"timeZone": job.data_zone.name()}));
            of.insert("common".into(), json!({"column": job.setting.column_formats}));
        }
        of
    };
    if let Some(database) = &job.database {
        return around(database.fingerprint());
    }
    let entry = |entry: &crate::job::Entry| {
        let mut entry = entry.clone();
        entry.reader.parameter = entry.reader.redacted();
        entry.writer.parameter = entry.writer.redacted();
        around(serde_json::to_value(entry).unwrap_or_default())
    };
    job.entries.iter().map(entry).collect()
}

/// Leaves out what a run of an earlier version did not write down.
fn as_known_then(old: &Value, new: &mut Value) {
    match (old, new) {
        (Value::Array(old), Value::Array(new)) => old.iter().zip(new).for_each(|(old, new)| as_known_then(old, new)),
        (Value::Object(old), Value::Object(new)) => {
            new.retain(|key, _| old.contains_key(key) || !matches!(key.as_str(), "setting" | "common"));
        }
        _ => {}
    }
}

/// What a user can do where a run cannot go on: a run id that is known names that run for good.
pub(super) fn anew(options: &RunOptions) -> &'static str {
    match options.run_id {
        Some(_) => "start anew with --fresh and a new --run-id",
        None => "start anew with --fresh",
    }
}

/// A run id names one run of one job: nobody is told that what he calls is done because something else is.
fn may_be_called(run: &RunRecord, job: &Job, known: bool, start: Start) -> Result<()> {
    let id = &run.run_id;
    let refused = |text: String| Err(Error::new(ErrorKind::Conflict, text).with("job", &job.name));
    if run.job != job.name {
        return refused(format!("run id {id} is that of a run of job {}: use one that no other job has", run.job));
    }
    if !known && run.status == RunStatus::Succeeded {
        let changed = changes_since(run, job).join(", ");
        if !changed.is_empty() {
            return refused(format!(
                "run id {id} is that of a run of another job without a name, or of this one before it was changed at \
                 {changed}: give each job a name, or use a new run id"
            ));
        }
    }
    if start == Start::Fresh && run.status != RunStatus::Abandoned {
        let done = if run.is_unfinished() { "goes on with it" } else { "reports it" };
        return refused(format!(
            "run {id} is known already, and --fresh begins a new run: use a new run id; without --fresh this call {done}"
        ));
    }
    Ok(())
}

/// A run is continued only as what it was begun as.
fn same_job(run: RunRecord, job: &Job, anew: &str) -> Result<RunRecord> {
    let conflict = |text: String| {
        let text = format!("run {} cannot be continued: {text}; put it back, or {anew}", run.run_id);
        Err(Error::new(ErrorKind::Conflict, text).with("job", &job.name))
    };
    let changed = changes_since(&run, job);
    if !changed.is_empty() {
        return conflict(format!("the job was changed at {}", changed.join(", ")));
    }
    Ok(run)
}

/// The first places at which a job differs from what the run was begun as.
fn changes_since(run: &RunRecord, job: &Job) -> Vec<String> {
    let mut changed = Vec::new();
    let mut now = fingerprint(job);
    as_known_then(&run.fingerprint, &mut now);
    differences(&run.fingerprint, &now, "", &mut changed);
    changed.truncate(5);
    changed
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_an_earlier_version_did_not_write_down_is_no_change() {
        let now = json!([{"reader": 1, "setting": {"timeZone": "UTC"}, "common": {"column": null}}]);
        let changed = |old: Value| {
            let (mut now, mut found) = (now.clone(), Vec::new());
            as_known_then(&old, &mut now);
            differences(&old, &now, "", &mut found);
            found
        };
        assert!(changed(json!([{"reader": 1}])).is_empty());
        assert_eq!(changed(json!([{"reader": 2}])), ["/0/reader"]);
        let then = json!([{"reader": 1, "setting": {"timeZone": "Asia/Tokyo"}, "common": {"column": null}}]);
        assert_eq!(changed(then), ["/0/setting/timeZone"]);
    }

    #[test]
    fn names_of_runs_are_plain() {
        assert!(check_name("orders-2025.11_01").is_ok());
        for wrong in ["", "r!0", "a b", "a'b", &"x".repeat(101)] {
            assert_eq!(check_name(wrong).unwrap_err().kind(), ErrorKind::Config);
        }
    }
}
