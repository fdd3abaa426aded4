//! `weir plan`

use weir::{Only, RunOptions};

use super::arguments::{Format, PlanArguments};
use super::run::state_dir;
use super::signals::until_stopped;
use super::{Outcome, job, output, runtime};

/// Which tables of a whole-database job are meant.
pub(super) fn only(tables: &[String]) -> Only {
    if tables.is_empty() { Only::All } else { Only::Tables(tables.to_vec()) }
}

/// Shows everything a run would do.
pub(crate) fn plan(arguments: &PlanArguments) -> Outcome {
    let job = job::load(&arguments.job, &arguments.reading)?;
    let options = RunOptions {
        limit: arguments.limit,
        full: arguments.full,
        only: only(&arguments.tables),
        state_dir: state_dir(arguments.state_dir.as_deref()),
        ..RunOptions::default()
    };
    let runtime = runtime()?;
    let planned = runtime.block_on(until_stopped(weir::plan(&job, &options)));
    runtime.shutdown_background();
    let plan = planned?;
    match arguments.format {
        Format::Text => output::print(&format!("{}\n", plan.to_string().trim_end()))?,
        Format::Json => output::print_json(&plan)?,
    }
    Ok(0)
}
