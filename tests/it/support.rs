//! Running a job in a test as an embedding service would.

use serde_json::Value;
use weir::{ErrorReport, Job, LoadOptions, Quarantine, Report, RunOptions, Status, job};
use weir_plugins_test::servers::Database;

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

/// The sessions with a database of MariaDB or MySQL: number and statement, which is empty where none runs. INFORMATION_SCHEMA
/// fails in MySQL when somebody's statement has a character of four bytes.
pub async fn sessions(database: &Database) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for row in database.query("SHOW FULL PROCESSLIST").await {
        let [id, _, _, name, _, _, _, statement] = &row[..8] else { panic!("{row:?}") };
        let (id, statement) = (id.clone().unwrap_or_default(), statement.clone().unwrap_or_default());
        if name.as_deref() == Some(database.name()) && statement != "SHOW FULL PROCESSLIST" {
            found.push((id, statement));
        }
    }
    found
}

/// Waits until somebody runs such a statement in a database of MariaDB or MySQL.
pub async fn until_runs(database: &Database, is: impl Fn(&str) -> bool) {
    for _ in 0..3_000 {
        if sessions(database).await.iter().any(|(_, statement)| is(statement)) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it never came to this: {:?}", sessions(database).await);
}
