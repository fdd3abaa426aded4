//! `weir check`

use tokio_util::sync::CancellationToken;
use weir::EndCheck;
use weir::core::{Check, CheckOutcome, Error};
use weir::job::Side;

use super::arguments::{CheckArguments, Format};
use super::copy::place;
use super::signals::until_stopped;
use super::style::Paint;
use super::tables::catalog;
use super::{Outcome, job, output, runtime};

/// Tests both ends of a job, or one data source.
pub(crate) fn check(arguments: &CheckArguments) -> Outcome {
    let ends = match (&arguments.job, &arguments.datasource) {
        (Some(path), _) => {
            let job = job::load(path, &arguments.reading)?;
            let runtime = runtime()?;
            let ends = runtime.block_on(until_stopped(weir::check(&job, CancellationToken::new())));
            runtime.shutdown_background();
            ends?
        }
        (None, Some(name)) => vec![data_source(name, arguments)?],
        (None, None) => return Err(Error::config("name a job file, or a data source with --datasource")),
    };
    match arguments.format {
        Format::Json => output::print_json(&ends)?,
        Format::Text => output::print(&text(&ends, Paint::stdout()))?,
    }
    let fault = ends.iter().flat_map(|end| &end.checks).any(|check| check.outcome == CheckOutcome::Fault);
    Ok(u8::from(fault))
}

/// A data source stands for no table, so what its catalogue says is what can be known.
fn data_source(name: &str, arguments: &CheckArguments) -> Result<EndCheck, Error> {
    let sources = &arguments.reading.sources;
    let found = job::data_sources(sources).get(name, Side::Reader).map_err(|f| job::told("--datasource", &f))?;
    let endpoint = place(name, None, Side::Reader, sources)?;
    let runtime = runtime()?;
    let listed = runtime.block_on(until_stopped(async { catalog(&endpoint, sources)?.tables(None).await }));
    runtime.shutdown_background();
    let checks = match listed {
        Ok(tables) => vec![
            Check::ok("connect", "the system answers, and the credentials are right"),
            match tables.len() {
                0 => Check::warning("tables", "none is visible: the login may lack privileges, or there are none"),
                n => Check::ok("tables", format!("{n} can be seen")),
            },
        ],
        Err(error) if error.kind() == weir::core::ErrorKind::Config => return Err(error),
        Err(error) if error.kind() == weir::core::ErrorKind::Unsupported => {
            vec![Check::warning("connect", format!("{}: check a job that uses it", error.message()))]
        }
        Err(error) => vec![Check::fault("connect", error.full())],
    };
    Ok(EndCheck { end: "data source", connector: found.plugin, pointer: name.to_owned(), checks })
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
