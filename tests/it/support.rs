//! Running a job in a test as an embedding service would.

use serde_json::Value;
use weir::{ErrorReport, Job, LoadOptions, Quarantine, Report, RunOptions, Status, job};

/// Reads a job.
pub fn load(text: &Value) -> Job {
    job::load(&text.to_string(), &LoadOptions::default()).unwrap_or_else(|faults| panic!("{faults}\nin: {text:#}"))
}

/// Runs a job, whatever comes of it.
pub async fn run(text: &Value) -> Report {
    let options = RunOptions { quarantine: Quarantine::Off, ..RunOptions::default() };
    weir::run(&load(text), options).await
}

/// Runs a job that has to succeed.
pub async fn run_ok(text: &Value) -> Report {
    let report = run(text).await;
    assert_eq!(report.status, Status::Succeeded, "{:#?}\nin: {text:#}", report.error);
    report
}

/// Runs a job that has to fail.
pub async fn run_failing(text: &Value) -> ErrorReport {
    let report = run(text).await;
    assert_ne!(report.status, Status::Succeeded, "in: {text:#}");
    report.error.expect("a failed run says why")
}

/// A job in DataX's shape.
pub fn job_of(reader: &str, from: Value, writer: &str, to: Value) -> Value {
    serde_json::json!({"job": {"content": [{
        "reader": {"name": reader, "parameter": from},
        "writer": {"name": writer, "parameter": to},
    }]}})
}

/// A job in DataX's shape with several channels.
pub fn with_channels(mut job: Value, channels: usize) -> Value {
    job["job"]["setting"]["speed"]["channel"] = channels.into();
    job
}

/// The report's counts: read, written, dirty.
pub fn counts(report: &Report) -> (u64, u64, u64) {
    (report.rows_read, report.rows_written, report.rows_dirty)
}
