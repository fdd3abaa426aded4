//! `weir run`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{SecondsFormat, Utc};
use tokio_util::sync::CancellationToken;
use weir::core::{Error, ErrorKind};
use weir::job::UNNAMED;
use weir::{ErrorReport, Job, Ledger, Only, Quarantine, Report, RunOptions, RunRecord, Start, Status};

use super::arguments::{RunArguments, RunningArguments};
use super::progress::Progress;
use super::signals::Signals;
use super::style::Paint;
use super::{Outcome, job, logging, output, runtime, style, summary};

/// Reads the job and runs it.
pub(crate) fn run(arguments: &RunArguments) -> Outcome {
    logging::start(&arguments.running.logging);
    match load(arguments) {
        Ok(job) => {
            let start = match (arguments.resume, arguments.fresh) {
                (true, _) => Start::Resume,
                (_, true) => Start::Fresh,
                _ => Start::New,
            };
            let only = match &arguments.failed_of {
                Some(run_id) => Only::FailedOf(run_id.clone()),
                None => super::plan::only(&arguments.tables),
            };
            if only != Only::All && job.database.is_none() {
                return Err(Error::config(
                    "--tables and --failed-of are for whole-database jobs: this one names its tables",
                ));
            }
            let (run_id, full) = (arguments.run_id.clone(), arguments.full);
            run_job(&job, &arguments.running, RunOptions { run_id, start, full, only, ..RunOptions::default() })
        }
        Err(error) => {
            // Whoever waits for the report learns of this too; the error itself is what decides the exit code.
            if let Some(path) = &arguments.running.report {
                let _ = deliver(&stillborn(arguments, &error), path);
            }
            Err(error)
        }
    }
}

/// The job; that of a run to be continued, or reported again, with the parameters and the time it was begun with.
fn load(arguments: &RunArguments) -> Result<Job, Error> {
    let text = job::read(&arguments.job)?;
    let record = recorded(arguments, &text)?.filter(|record| arguments.run_id.is_some() || record.is_unfinished());
    let begun_with = record.map(|record| (record.parameters.into_iter().collect(), record.at));
    job::load_text(&text, &arguments.job, &arguments.reading, begun_with)
}

/// The run that the call means to continue, as far as the job's name or its file tells.
fn recorded(arguments: &RunArguments, text: &str) -> Result<Option<RunRecord>, Error> {
    let Some(state_dir) = state_dir(arguments.running.state_dir.as_deref()) else { return Ok(None) };
    if !arguments.resume && arguments.run_id.is_none() {
        return Ok(None);
    }
    let path = std::path::absolute(&arguments.job).unwrap_or_else(|_| arguments.job.clone()).display().to_string();
    let name = weir::job::name(text, &job::parameters(&arguments.reading.parameters)?);
    // A name with a date in it is known only once the date is: the file tells then.
    let certain = name.as_ref().is_none_or(|name| !name.contains('$'));
    runtime()?.block_on(async {
        let Some(ledger) = Ledger::find_in(&state_dir).await? else { return Ok(None) };
        let Some(id) = &arguments.run_id else {
            return ledger.last_run(name.as_ref().filter(|_| certain).unwrap_or(&path)).await;
        };
        let unnamed = if arguments.job == Path::new("-") { UNNAMED } else { &path };
        // Of a run of another job, which is refused later, the parameters mean nothing.
        let of_this = |run: &RunRecord| !certain || run.job == name.as_deref().unwrap_or(unnamed);
        Ok(ledger.run(id).await?.filter(of_this))
    })
}

/// Where the state is kept; `off` for nowhere.
pub(super) fn state_dir(argument: Option<&Path>) -> Option<PathBuf> {
    match argument {
        Some(off) if off == Path::new("off") => None,
        Some(path) => Some(path.to_owned()),
        None => Some(weir::default_state_dir()),
    }
}

/// Runs a job, shows what happens and how it ended. `options` say what `arguments` do not.
pub(crate) fn run_job(job: &Job, arguments: &RunningArguments, options: RunOptions) -> Outcome {
    run_rows(job, None, arguments, options)
}

/// Runs a job, or only the rows of a quarantine file of it.
pub(super) fn run_rows(
    job: &Job,
    quarantined: Option<&Path>,
    arguments: &RunningArguments,
    options: RunOptions,
) -> Outcome {
    let progress = Arc::new(Progress::new(&arguments.logging));
    let cancel = CancellationToken::new();
    let options = RunOptions {
        observer: progress.clone(),
        cancel: cancel.clone(),
        state_dir: state_dir(arguments.state_dir.as_deref()),
        quarantine: quarantine(arguments.quarantine.as_deref()),
        limit: arguments.limit,
        error_limit: arguments.error_limit,
        ..options
    };
    let runtime = runtime()?;
    let rows_on_stdout = {
        let _inside = runtime.enter();
        job.entries.iter().any(|entry| entry.writer.prints(runtime.handle().clone()))
    };
    let (report, signals) = runtime.block_on(async {
        let signals = Signals::watch(cancel);
        let report = match quarantined {
            None => Ok(weir::run(job, options).await),
            Some(file) => weir::replay(job, file, options).await,
        };
        (report, signals)
    });
    progress.finish();
    // Nothing that still waits for a dead server keeps the program from ending.
    runtime.shutdown_background();
    let report = report?;

    let to_stdout = arguments.report.as_deref() == Some(Path::new("-"));
    let mut printed = Ok(());
    // What never began has nothing to sum up.
    if !arguments.logging.quiet && report.exit_code() != 2 {
        // Where a writer prints rows, a program reads them.
        if rows_on_stdout || to_stdout {
            output::note(&summary::summary(&report, Paint::stderr()));
        } else {
            printed = output::print(&summary::summary(&report, Paint::stdout()));
        }
    }
    show_failures(&report);
    let written = arguments.report.as_deref().map_or(Ok(()), |path| deliver(&report, path));
    // Where one of the two finds no room, the other may.
    let written = printed.and(written);
    let code = match (report.status, signals.code()) {
        (Status::Succeeded, _) | (_, None) => report.exit_code(),
        (_, Some(code)) => code,
    };
    // A run that failed says so by its own code, also when its report cannot be written.
    match written {
        Err(error) if code == 0 => Err(error.and("the run itself has succeeded").with("run", &report.run_id)),
        Err(error) => {
            style::show_error(&error);
            Ok(code)
        }
        Ok(()) => Ok(code),
    }
}

fn quarantine(text: Option<&str>) -> Quarantine {
    match text {
        None => Quarantine::StateDir,
        Some(off) if off.eq_ignore_ascii_case("off") => Quarantine::Off,
        Some(path) => Quarantine::Path(path.into()),
    }
}

/// The error of the run, and those of its tables that say something else.
fn show_failures(report: &Report) {
    let paint = Paint::stderr();
    let Some(error) = &report.error else { return };
    output::note(&failure(&paint.red("error:"), error, paint));
    for table in &report.tables {
        if let Some(own) = table.error.as_ref().filter(|own| own.message != error.message) {
            let label = paint.red(format!("error in {}:", table.source));
            output::note(&failure(&label, own, paint));
        }
    }
    if let Some(advice) = advice(report) {
        output::note(&format!("  {}\n", paint.dim(advice)));
    }
}

/// How to run the one table of several again that did not end well; of more tables than one the run's own error says it.
fn advice(report: &Report) -> Option<String> {
    let mut failed = report.tables.iter().filter(|table| table.status != Status::Succeeded);
    let alone = report.status == Status::PartiallyFailed && failed.next().is_some() && failed.next().is_none();
    // Only tables of whole-database jobs have names.
    let named = report.tables.iter().all(|table| table.name.is_some());
    (alone && named).then(|| {
        let (tables, run_id) = (report.tables.len(), &report.run_id);
        format!("1 of {tables} tables did not end well; `--failed-of {run_id}` runs it again")
    })
}

fn failure(label: &str, error: &ErrorReport, paint: Paint) -> String {
    let mut lines = error.message.lines();
    let mut text = format!("{label} {}\n", lines.next().unwrap_or_default());
    for line in lines {
        text.push_str(&format!("  {line}\n"));
    }
    if error.retryable {
        text.push_str(&format!("  {}\n", paint.dim("running again may help")));
    }
    text
}

/// The report of a run that never began, because its job file is wrong.
fn stillborn(arguments: &RunArguments, error: &Error) -> Report {
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    let path = std::path::absolute(&arguments.job).unwrap_or_else(|_| arguments.job.clone());
    Report {
        job: path.display().to_string(),
        run_id: String::new(),
        status: Status::Failed,
        at: arguments.reading.at.clone().unwrap_or_default(),
        time_zone: String::new(),
        parameters: BTreeMap::new(),
        started_at: now.clone(),
        finished_at: now,
        elapsed_ms: 0,
        rows_per_second: 0.0,
        rows_read: 0,
        rows_written: 0,
        rows_dirty: 0,
        rows_filtered: 0,
        rows_skipped: 0,
        bytes_read: 0,
        bytes_written: 0,
        tables: Vec::new(),
        changes: Vec::new(),
        quarantine: None,
        warnings: Vec::new(),
        error: Some(ErrorReport::from(error)),
    }
}

/// Puts the report where the caller wants it; `-` is stdout.
fn deliver(report: &Report, path: &Path) -> Result<(), Error> {
    if path == Path::new("-") { output::print_json(report) } else { write_report(report, path) }
}

/// Writes the report beside its place and moves it there, so that nobody reads half of it.
fn write_report(report: &Report, path: &Path) -> Result<(), Error> {
    let text = output::json(report)? + "\n";
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Io, format!("the report cannot be written to {}", path.display())).because(error)
    };
    // A device or a pipe cannot be replaced.
    if path.exists() && !path.is_file() {
        return std::fs::write(path, text).map_err(failed);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written.map_err(failed)
}
