//! A program with one more connector: runs a job file, as `weir run` does.

use std::process::ExitCode;

// Links the connector; without this line nothing is registered.
use connector_kv as _;
use weir_runtime::{LoadOptions, RunOptions, job};

#[tokio::main]
async fn main() -> ExitCode {
    let Some(file) = std::env::args_os().nth(1) else {
        eprintln!("usage: connector-kv JOB.json");
        return ExitCode::from(2);
    };
    match job::load_file(file.as_ref(), &LoadOptions::default()) {
        Ok(job) => {
            let report = weir_runtime::run(&job, RunOptions::default()).await;
            println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
            ExitCode::from(report.exit_code())
        }
        Err(error) => {
            eprintln!("{}", error.full());
            ExitCode::from(2)
        }
    }
}
