//! Whole databases in one job, on real servers: every value of every table compared.

mod catalogue;
mod collations;
mod failures;
mod inherited;
mod lost_snapshot;
mod many;
mod merge;
mod mirror;
mod moment;
mod money;
mod names;
mod own;
mod policies;
mod prefixes;
mod pressure;
mod restart;
#[cfg(feature = "cli")]
mod resume;
mod selection;
mod together;
mod views;

use serde_json::{Value, json};
use weir::{Quarantine, Report, RunOptions, Status};
use weir_plugins_test::servers::Database;

use crate::support::load;

/// A whole-database job.
pub fn database_job(source: (&str, Value), target: (&str, Value), more: Value) -> Value {
    let mut job = json!({
        "type": "database",
        "source": {"name": source.0, "parameter": source.1},
        "target": {"name": target.0, "parameter": target.1},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        job[key] = value.clone();
    }
    job
}

/// Runs a job, whatever comes of it.
pub async fn run(job: &Value, options: RunOptions) -> Report {
    let quarantine = if options.state_dir.is_some() { Quarantine::StateDir } else { Quarantine::Off };
    weir::run(&load(job), RunOptions { quarantine, ..options }).await
}

/// Runs a job whose tables all have to succeed.
pub async fn run_ok(job: &Value) -> Report {
    let report = run(job, RunOptions::default()).await;
    let ill: Vec<_> = report.tables.iter().filter(|table| table.status != Status::Succeeded).collect();
    assert_eq!(report.status, Status::Succeeded, "{:#?}\n{ill:#?}\nin: {job:#}", report.error);
    report
}

/// What became of a table, by its name.
pub fn table<'r>(report: &'r Report, name: &str) -> &'r weir::TableReport {
    let found = report.tables.iter().find(|table| table.name.as_deref() == Some(name));
    found.unwrap_or_else(|| {
        let names: Vec<_> = report.tables.iter().filter_map(|table| table.name.as_deref()).collect();
        panic!("no table {name} in {names:?}: {:?}", report.error)
    })
}

/// All rows of a table, in the order of all columns, as the server spells them.
pub async fn rows(database: &Database, table: &str) -> Vec<Vec<Option<String>>> {
    let mut rows = database.query(&format!("SELECT * FROM {table}")).await;
    rows.sort();
    rows
}
