//! `weir check`

use tokio_util::sync::CancellationToken;
use weir::EndCheck;
use weir::core::{CheckOutcome, Error};

use super::arguments::{CheckArguments, Format};
use super::run::state_dir;
use super::signals::until_stopped;
use super::style::Paint;
use super::{Outcome, job, output, runtime};

/// Tests both ends of a job, or one data source.
pub(crate) fn check(arguments: &CheckArguments) -> Outcome {
    let job = arguments.job.as_ref().map(|path| job::load(path, &arguments.reading)).transpose()?;
    let state_dir = state_dir(arguments.state_dir.as_deref());
    let cancel = CancellationToken::new();
    let runtime = runtime()?;
    let ends = runtime.block_on(until_stopped(async {
        match (&job, &arguments.datasource) {
            (Some(job), _) => weir::check(job, state_dir.as_deref(), cancel).await,
            (None, Some(name)) => {
                let found = weir::check_data_source(name, &job::options(&arguments.reading.sources), cancel).await;
                found.map_err(|faults| job::told("--datasource", &faults))
            }
            (None, None) => Err(Error::config("name a job file, or a data source with --datasource")),
        }
    }));
    runtime.shutdown_background();
    let ends = ends?;
    match arguments.format {
        Format::Json => output::print_json(&ends)?,
        Format::Text => output::print(&text(&ends, Paint::stdout()))?,
    }
    let fault = ends.iter().flat_map(|end| &end.checks).any(|check| check.outcome == CheckOutcome::Fault);
    Ok(u8::from(fault))
}

fn text(ends: &[EndCheck], paint: Paint) -> String {
    let mut text = String::new();
    let width = ends.iter().flat_map(|e| &e.checks).map(|c| c.what.chars().count()).max().unwrap_or(0);
    for end in ends {
        text.push_str(&format!("{} ({})\n", paint.bold(format!("{} {}", end.end, end.connector)), end.pointer));
        for check in &end.checks {
            let sign = match check.outcome {
                CheckOutcome::Ok => paint.green("ok     "),
                CheckOutcome::Warning => paint.yellow("warning"),
                CheckOutcome::Fault => paint.red("fault  "),
            };
            let what = format!("{:<width$}", check.what);
            text.push_str(format!("  {sign}  {what}  {}", check.detail).trim_end());
            text.push('\n');
        }
        if end.checks.is_empty() {
            text.push_str("  nothing to check\n");
        }
    }
    text
}
