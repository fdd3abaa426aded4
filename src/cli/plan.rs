//! `weir plan`

use weir::RunOptions;

use super::arguments::{Format, PlanArguments};
use super::signals::until_stopped;
use super::{Outcome, job, output, runtime};

/// Shows everything a run would do.
pub(crate) fn plan(arguments: &PlanArguments) -> Outcome {
    let job = job::load(&arguments.job, &arguments.reading)?;
    let options = RunOptions { limit: arguments.limit, ..RunOptions::default() };
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
