//! `weir replay`: the rows of a quarantine file, mended, written to the job's target.
//!
//! The rows become JSON-lines files in the state folder, and those a job of their own, named after the run that left them,
//! whose run is named after the quarantine file's content: the same file replayed again is the same run, which has
//! happened, and another one with rows of that run is another run of the same job. So rows are written once, by the
//! engine's own means, and what is still wrong with them goes to a new quarantine file.

mod lines;
mod parts;
mod rows;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufWriter, IntoInnerError, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha1::{Digest, Sha1};
use tokio::runtime::Handle;
use weir_core::{ConnectorContext, Error, ErrorKind, Form, OnTypeLoss, Result, ResultExt, WriteMode};

use self::lines::{Lines, Quarantined};
use self::parts::{Begun, Part, Parts};
use self::rows::{Kind, Rows, of_table};
use crate::database::expanded;
use crate::dirty::{QuarantineRow, Side};
use crate::entry::{PlannedEntry, open_all};
use crate::job::{Endpoint, Entry, Job, UNNAMED};
use crate::ledger::{JobLock, Ledger, RunStatus, known_tables};
use crate::mapping::MappingPair;
use crate::options::{RunOptions, Start};
use crate::pipeline::From;
use crate::plan::context;
use crate::quarantine::{create_private, named as beside};
use crate::report::{Report, Status};
use crate::verify::{appending, plan_again};

/// Writes the rows of a quarantine file to the targets of the job they come from: in append mode where the job
/// overwrites, else in the job's own. `preSql` is not run. Rows that are still refused count against the job's error
/// limit and go to a new quarantine file.
///
/// The same file is written once: a second call reports the first one's run. With [`Start::Fresh`] it is written again.
///
/// # Errors
/// A file that is no quarantine file, of another job, or of a run that may go on; values that are missing; what keeps the job from being planned.
/// What goes wrong afterwards is in the report.
pub async fn replay(job: &Job, file: &Path, options: RunOptions) -> Result<Report> {
    let quarantined = Quarantined::read(file, &job.name, &options.cancel)?;
    let mut run_id = format!("replay-{}", quarantined.digest);
    let state_dir = match (&options.state_dir, options.start) {
        (Some(folder), Start::Fresh) => {
            run_id = format!("{run_id}-{}", uuid::Uuid::now_v7().simple());
            folder.clone()
        }
        (Some(folder), _) => folder.clone(),
        (None, Start::Fresh) => std::env::temp_dir(),
        (None, _) => {
            return Err(Error::config(
                "that a file was replayed is remembered in the state folder: name one, or write the rows in any case (--fresh)",
            ));
        }
    };
    // Before anything is asked of systems that may have changed since.
    if let Some(ledger) = Ledger::find_in(&state_dir).await?
        && let Some(run) = ledger.run(&run_id).await?
    {
        match (run.status, run.report) {
            (RunStatus::Succeeded, Some(report)) => {
                // The call that wrote the rows may have died before it had named what is left of them.
                finish(&parts_file(&state_dir, &run_id), &report)?;
                return Ok(report);
            }
            (RunStatus::Abandoned, _) => {
                let text = "the replay of this file was given up when another file with rows of the same run was replayed: \
                            to write the rows of this one all the same, give --fresh";
                return Err(Error::new(ErrorKind::Conflict, text).with("file", file.display()));
            }
            _ => {}
        }
    }
    // It writes what the job writes.
    let is_known = options.state_dir.is_some() && (job.path.is_some() || job.name != UNNAMED);
    let _lock = if is_known { Some(JobLock::take(&state_dir, &job.name)?) } else { None };
    if options.start != Start::Fresh {
        refuse_unfinished(&quarantined.runs, &state_dir).await.map_err(|error| error.with("file", file.display()))?;
    }
    let folder = state_dir.join("replay");
    let names = parts_file(&state_dir, &run_id);
    let replayed = prepare(job, &quarantined, &folder, &run_id, &names, &options).await?;
    // Without a state folder there is nothing that could know the run by its name.
    let run_id = options.state_dir.is_some().then_some(run_id);
    let options = RunOptions { run_id, limit: None, ..options };
    let report = crate::run(&replayed, options).await;
    finish(&names, &report)?;
    Ok(report)
}

/// Where the parts of a replay are written down.
fn parts_file(state_dir: &Path, run_id: &str) -> PathBuf {
    state_dir.join("replay").join(format!("{run_id}.parts.json"))
}

/// Names the sources of the rows that are still refused, and removes what only the replay needed.
fn finish(names: &Path, report: &Report) -> Result<()> {
    let text = match fs::read(names) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).context("file", names.display()),
    };
    let parts: Vec<Part> = serde_json::from_slice(&text)
        .map_err(|error| Error::new(ErrorKind::Data, "the parts of a replay cannot be read").because(error))?;
    if let Some(quarantine) = &report.quarantine {
        name_sources(&parts, quarantine)?;
    }
    // A run that did not succeed may be taken up again, and reads them then.
    if report.status == Status::Succeeded {
        for file in parts.iter().map(|part| part.file.as_path()).chain([names]) {
            let _ = fs::remove_file(file);
        }
    }
    Ok(())
}

/// A run that goes on makes its quarantine file anew, of the rows as they were: mended, written, they would come once more.
async fn refuse_unfinished(runs: &BTreeSet<String>, state_dir: &Path) -> Result<()> {
    let Some(ledger) = Ledger::find_in(state_dir).await? else { return Ok(()) };
    for run_id in runs {
        if ledger.run(run_id).await?.is_some_and(|run| run.is_unfinished()) {
            let text = format!(
                "run {run_id}, which left these rows, has not ended well, and makes this file anew when it goes on: go on with \
                 it first (weir run --resume; if it was a replay, replay its file again), or give --fresh to write these \
                 rows all the same"
            );
            return Err(Error::new(ErrorKind::Conflict, text));
        }
    }
    Ok(())
}

/// The run whose dirty rows a quarantine file holds, by its first row.
///
/// # Errors
/// A file that begins as no quarantine file does.
pub fn quarantined_run(file: &Path) -> Result<String> {
    let first = Lines::open(file, Sha1::new())?.next().transpose()?;
    Ok(first.map(|(_, row)| row.run_id).unwrap_or_default())
}

/// The rows as files, and the job that writes them.
async fn prepare(
    job: &Job,
    quarantined: &Quarantined<'_>,
    folder: &Path,
    run_id: &str,
    names: &Path,
    options: &RunOptions,
) -> Result<Job> {
    let context = context(job, options, Handle::current());
    // The tables of a whole-database job, as ordinary entries.
    let known = known_tables(options.state_dir.as_deref(), &job.name).await?;
    let (base, _) = expanded(job, &known, &context).await?;
    let mut base = Job { database: None, ..base };
    base.setting.verify = false;
    open_all(&base, &context)?;
    let reader = weir_core::lines_reader().ok_or_else(|| {
        let text = "replaying takes a reader of JSON lines, and none is linked into this program";
        Error::new(ErrorKind::Unsupported, text)
    })?;
    let mut planned = Vec::with_capacity(base.entries.len());
    for entry in &base.entries {
        planned.push(plan_again(&base, entry, None, &context).await?);
    }
    let parts = apart(quarantined, Parts::new(folder, run_id), &planned, &context).await?;
    let name = format!("{} (rows of {})", job.name, quarantined.left_by);
    let mut replayed = Job { name, entries: Vec::new(), warnings: Vec::new(), ..base.clone() };
    let mut written = Vec::new();
    for ((index, kind), Begun { part, rows, .. }) in parts {
        let (entry, planned, _) = &planned[index];
        let mut replaying = replaying(entry, planned, kind);
        let parameter = (reader.parameters)(&part.file, rows.columns());
        let pointer = entry.reader.pointer.clone();
        replaying.reader = Endpoint { plugin: reader.plugin.into(), form: Form::Native, parameter, pointer };
        replayed.entries.push(replaying);
        written.push(part);
    }
    let written = serde_json::to_string(&written)
        .map_err(|error| Error::internal("parts of a replay are no JSON").because(error))?;
    let mut file = create_private(names)?;
    file.write_all(written.as_bytes()).and_then(|()| file.sync_data()).context("file", names.display())?;
    Ok(replayed)
}

/// Writes the rows of each entry and kind to a file of their own.
async fn apart(
    quarantined: &Quarantined<'_>,
    mut parts: Parts,
    planned: &[(Entry, PlannedEntry, bool)],
    context: &ConnectorContext,
) -> Result<Vec<((usize, Kind), Begun)>> {
    let mut lines = quarantined.lines()?;
    for row in &mut lines {
        let (line, row) = row?;
        if context.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let index = entry_of(&row, line, planned)?;
        let (entry, planned, _) = &planned[index];
        let kind = match row.side {
            Side::Reader | Side::Transform if !entry.transformers.is_empty() => Kind::Read,
            _ => Kind::Written,
        };
        if !parts.has((index, kind)) {
            if planned.plan.mode == WriteMode::Upsert && parts.has((index, kind.other())) {
                let text = "rows from before and from behind the transformers cannot be merged into one target at once: \
                     replay those of side `reader` and `transform` from a file of their own";
                return Err(Error::new(ErrorKind::Unsupported, text));
            }
            let content = Rows::new(entry, planned, kind, fixed_columns(planned, context).await?)?;
            parts.begin((index, kind), &row.source, content)?;
        }
        parts.add((index, kind), &row).map_err(|error| error.with("line", line))?;
    }
    quarantined.check_same(lines)?;
    parts.finish()
}

/// Whether the target says itself what its columns are.
async fn fixed_columns(planned: &PlannedEntry, context: &ConnectorContext) -> Result<bool> {
    Ok(!context.until_cancelled(planned.writer.target()).await?.columns.is_empty())
}

/// The entry whose run left a row.
fn entry_of(row: &QuarantineRow, line: usize, planned: &[(Entry, PlannedEntry, bool)]) -> Result<usize> {
    let to_there = || planned.iter().enumerate().filter(|(_, (_, planned, _))| planned.plan.table == row.target);
    let from_there = to_there().find(|(_, (_, p, _))| p.source.tables.iter().any(|table| table.name == row.source));
    let only = || Some(to_there()).filter(|found| found.clone().count() == 1).and_then(|mut found| found.next());
    from_there.or_else(only).map(|(index, _)| index).ok_or_else(|| {
        let text =
            format!("the job moves nothing from {} to {}: name the job that the rows are of", row.source, row.target);
        Error::config(text).with("line", line)
    })
}

/// An entry of the job, but for its reader.
fn replaying(entry: &Entry, planned: &PlannedEntry, kind: Kind) -> Entry {
    let append = planned.plan.mode == WriteMode::Overwrite;
    let mut entry = if append { appending(entry) } else { entry.clone() };
    if let Some(parameters) = entry.writer.parameter.as_object_mut() {
        // It prepares for the whole of the source, often by emptying the table.
        parameters.shift_remove("preSql");
    }
    entry.mapping = planned
        .plan
        .columns
        .iter()
        .zip(planned.pipeline.columns.iter().zip(&planned.columns))
        .map(|(to, (from, source))| match (kind, from) {
            (Kind::Written, _) => MappingPair { from: Some(to.name.clone()), value: None, to: to.name.clone() },
            (Kind::Read, From::Constant(text)) => {
                MappingPair { from: None, value: Some(text.as_str().into()), to: to.name.clone() }
            }
            (Kind::Read, From::PerTable(_)) => {
                MappingPair { from: Some(of_table(&to.name)), value: None, to: to.name.clone() }
            }
            (Kind::Read, From::Null) => MappingPair { from: None, value: Some(Value::Null), to: to.name.clone() },
            (Kind::Read, From::Column(_)) => {
                MappingPair { from: Some(source.name.clone()), value: None, to: to.name.clone() }
            }
        })
        .collect();
    if kind == Kind::Written {
        entry.transformers = Vec::new();
        // A text says all that it is.
        entry.on_type_loss = OnTypeLoss::Error;
    }
    entry
}

/// Gives the rows of a new quarantine file the names of their first sources, so that it can be replayed too.
fn name_sources(parts: &[Part], quarantine: &Path) -> Result<()> {
    if !quarantine.is_file() {
        return Ok(());
    }
    let new = beside(quarantine, ".named");
    let mut named = BufWriter::new(create_private(&new)?);
    for row in Lines::open(quarantine, Sha1::new())? {
        let (_, mut row) = row?;
        let part = parts
            .iter()
            .find(|part| part.file.file_name().is_some_and(|name| row.source.ends_with(&*name.to_string_lossy())));
        if let Some(part) = part {
            row.source.clone_from(&part.source);
            if part.kind == Kind::Written {
                // By this the next replay knows that the names are the target's.
                row.side = Side::Writer;
            }
        }
        let line = serde_json::to_string(&row).map_err(|error| Error::internal("a row is no JSON").because(error))?;
        writeln!(named, "{line}").context("file", new.display())?;
    }
    let written = named.into_inner().map_err(IntoInnerError::into_error).and_then(|file| file.sync_data());
    written.and_then(|()| fs::rename(&new, quarantine)).context("file", quarantine.display())
}
