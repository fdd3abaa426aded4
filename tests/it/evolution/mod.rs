//! Tables and their evolution: what a mirror carries over, and what becomes of it when its source changes.

mod carried;
mod catalogues;
mod changes;
#[cfg(feature = "cli")]
mod crash;
mod enums;
mod gone_keys;
mod held;
mod keys;
mod merged;
mod numbers;
mod own;
mod targets;

use serde_json::{Value, json};
use weir::{ChangeKind, ChangeOutcome, Ledger, Quarantine, RecordedChange, Report, RunOptions};
use weir_plugins_test::servers::Database;

use crate::support::load;

/// A whole-database job with a memory: its name, and a state folder of its own.
pub struct Mirror {
    /// The job.
    pub job: Value,
    state: tempfile::TempDir,
}

impl Mirror {
    pub fn new(name: &str, source: (&str, Value), target: (&str, Value), more: Value) -> Self {
        let mut job = json!({
            "type": "database",
            "name": name,
            "source": {"name": source.0, "parameter": source.1},
            "target": {"name": target.0, "parameter": target.1},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            job[key] = value.clone();
        }
        Self { job, state: tempfile::tempdir().unwrap() }
    }

    pub fn options(&self) -> RunOptions {
        RunOptions { state_dir: Some(self.state.path().to_owned()), ..RunOptions::default() }
    }

    /// Where the ledger is.
    pub fn state_dir(&self) -> &std::path::Path {
        self.state.path()
    }

    /// Runs it, whatever comes of it.
    pub async fn run(&self) -> Report {
        let options = RunOptions { start: weir::Start::Fresh, ..self.options() };
        run(&self.job, options).await
    }

    /// The changes that a run has seen, oldest first.
    pub async fn changes(&self, report: &Report) -> Vec<RecordedChange> {
        let ledger = Ledger::find_in(self.state.path()).await.unwrap().unwrap();
        let mut changes = ledger.changes(None, Some(&report.run_id), 10_000).await.unwrap();
        changes.reverse();
        changes
    }
}

/// Whether somebody sleeps in the database.
pub const SLEEPS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";

/// Waits until a query gives anything but `0`.
pub async fn until(database: &Database, sql: &str) {
    database.until(sql).await;
}

/// Ends the sessions of a database that are at such a statement.
pub async fn end(database: &Database, statement: &str) {
    let sql = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
         AND pid <> pg_backend_pid() AND query LIKE '%{statement}%'"
    );
    database.execute(&sql).await;
}

/// `kind column outcome` of the changes of a table.
pub fn lines(changes: &[RecordedChange], target: &str) -> Vec<String> {
    let of = changes.iter().filter(|change| change.target == target).map(|recorded| {
        let change = &recorded.change;
        let column = change.column.as_deref().unwrap_or("–");
        format!("{} {column} {}", change.kind.name(), change.outcome.name())
    });
    of.collect()
}

/// Whether a change of this kind and outcome is among them.
pub fn has(changes: &[RecordedChange], target: &str, kind: ChangeKind, outcome: ChangeOutcome) -> bool {
    changes.iter().any(|c| c.target == target && c.change.kind == kind && c.change.outcome == outcome)
}

/// Runs a job, whatever comes of it.
pub async fn run(job: &Value, options: RunOptions) -> Report {
    let quarantine = if options.state_dir.is_some() { Quarantine::StateDir } else { Quarantine::Off };
    weir::run(&load(job), RunOptions { quarantine, ..options }).await
}

/// What became of a table, by its name.
pub fn table<'r>(report: &'r Report, name: &str) -> &'r weir::TableReport {
    let found = report.tables.iter().find(|table| table.name.as_deref() == Some(name));
    found.unwrap_or_else(|| panic!("no table {name} in {:#?}: {:?}", report.tables, report.error))
}

/// All rows of a table, in the order of all columns, as the server spells them.
pub async fn rows(database: &Database, table: &str) -> Vec<Vec<Option<String>>> {
    let mut rows = database.query(&format!("SELECT * FROM {table}")).await;
    rows.sort();
    rows
}
