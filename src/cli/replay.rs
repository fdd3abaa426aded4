//! `weir replay`

use weir::core::{Error, ErrorKind};
use weir::job::HIDDEN;
use weir::{Job, Ledger, RunOptions, RunRecord, Start, quarantined_run};

use super::arguments::ReplayArguments;
use super::run::{run_rows, state_dir};
use super::{Outcome, job, logging, runtime};

/// Writes the rows of a quarantine file to the targets of their job.
pub(crate) fn replay(arguments: &ReplayArguments) -> Outcome {
    logging::start(&arguments.running.logging);
    if arguments.running.limit.is_some() {
        return Err(Error::config("--limit does not go with a replay: leave lines out of the file instead"));
    }
    let job = load(arguments)?;
    let start = if arguments.fresh { Start::Fresh } else { Start::New };
    run_rows(&job, Some(&arguments.file), &arguments.running, RunOptions { start, ..RunOptions::default() })
}

/// The job, by its file or by the run that left the rows; with that run's parameters and time, where the call says none.
fn load(arguments: &ReplayArguments) -> Result<Job, Error> {
    let record = recorded(arguments)?;
    let path = match (&arguments.job, &record) {
        (Some(path), _) => path.clone(),
        (None, Some(RunRecord { path: Some(path), .. })) => path.into(),
        (None, _) => {
            return Err(Error::config(format!(
                "which job left these rows is not known here: name its file, `weir replay {} JOB`",
                arguments.file.display()
            )));
        }
    };
    let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone()).display().to_string();
    let reading = &arguments.reading;
    let given = job::parameters(&reading.parameters)?;
    // Of a secret the record knows only that there was one, so a call that says it has said nothing else.
    let is_secret = |record: &RunRecord, name| record.parameters.get(name).is_some_and(|it| it.contains(HIDDEN));
    let begun_with = record
        .filter(|record| record.path.as_deref() == Some(&absolute))
        .filter(|record| reading.at.is_none() && given.iter().all(|(name, _)| is_secret(record, name)))
        .map(|record| (record.parameters.into_iter().collect(), record.at));
    job::load_as_begun(&path, reading, begun_with)
}

fn recorded(arguments: &ReplayArguments) -> Result<Option<RunRecord>, Error> {
    let run_id = quarantined_run(&arguments.file).map_err(|error| match error.kind() {
        ErrorKind::Io | ErrorKind::NotFound => error.into_kind(ErrorKind::Config),
        _ => error,
    })?;
    let Some(folder) = state_dir(arguments.running.state_dir.as_deref()) else { return Ok(None) };
    runtime()?.block_on(async {
        match Ledger::find_in(&folder).await? {
            Some(ledger) => ledger.run(&run_id).await,
            None => Ok(None),
        }
    })
}
