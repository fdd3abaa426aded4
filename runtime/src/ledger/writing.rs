//! Changes of the ledger, and how long they wait for those of other processes.

use std::time::Duration;

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::time::Instant;
use weir_core::{Error, ErrorKind, Result};

use super::faults::is_busy;
use super::{Ledger, in_folder};

/// How long a change waits for another process that writes.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it waits when the run is stopped, counted from then on.
const STOPPED: Duration = Duration::from_millis(700);

/// How long it waits in any case.
const LATE: Duration = Duration::from_millis(150);

/// How long it waits between two looks.
const AGAIN: Duration = Duration::from_millis(20);

/// When a change is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Synced {
    /// When it returns.
    Now,
    /// With the next one that is; it may be lost by a power cut, together with those after it.
    Later,
}

/// Begins a change of the ledger on its connection. It waits here for other processes, and no more once it has begun; and
/// here, not in SQLite, so that it waits no longer than a run that was stopped may. (No function could give back what it has
/// borrowed in a loop.)
macro_rules! change {
    ($ledger:expr, $connection:ident, $synced:expr) => {{
        $synced.set(&mut $connection).await.map_err($ledger.failed())?;
        let asked = tokio::time::Instant::now();
        loop {
            // Nobody else gets in before it is over.
            let fault = match sqlx::Connection::begin_with(&mut *$connection, "BEGIN IMMEDIATE").await {
                Ok(change) => break change,
                Err(fault) => fault,
            };
            match fault {
                sqlx::Error::InvalidSavePointStatement => $ledger.reopen(&mut $connection, $synced).await?,
                fault => $ledger.wait(fault, asked).await?,
            }
        }
    }};
}

pub(super) use change;

impl Synced {
    pub(super) async fn set(self, connection: &mut SqliteConnection) -> sqlx::Result<()> {
        let synchronous = match self {
            Self::Now => "PRAGMA synchronous = FULL",
            Self::Later => "PRAGMA synchronous = NORMAL",
        };
        sqlx::query(synchronous).execute(connection).await.map(drop)
    }
}

impl Ledger {
    /// Waits a little where another process is writing.
    ///
    /// # Errors
    /// The `error`, where that is another one, or there is no time left.
    pub(super) async fn wait(&self, error: sqlx::Error, asked: Instant) -> Result<()> {
        let late = match self.stopped.get() {
            // What comes late, the end of the run above all, waits a little all the same.
            Some(stopped) => stopped.elapsed() >= STOPPED && asked.elapsed() >= LATE,
            None => asked.elapsed() >= PATIENCE,
        };
        if late || !is_busy(&error) {
            return Err(self.failed()(error));
        }
        tokio::time::sleep(AGAIN).await;
        Ok(())
    }

    /// Connects anew. A change that finds no room is undone by SQLite itself, which the driver does not notice: to it the
    /// change goes on, and none can begin.
    pub(super) async fn reopen(&self, connection: &mut SqliteConnection, synced: Synced) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Err(Error::new(ErrorKind::Io, "there is no room to write down what the run does"));
        };
        let reopened = async {
            let mut reopened = SqliteConnection::connect_with(&in_folder(folder)).await?;
            synced.set(&mut reopened).await?;
            Ok(reopened)
        };
        *connection = reopened.await.map_err(self.failed())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::ledger::{RunRecord, RunStatus};

    #[tokio::test]
    async fn after_a_change_without_room_the_next_one_begins() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path()).await.unwrap();
        let most = "PRAGMA max_page_count = 1";
        sqlx::raw_sql(most).execute(&mut *ledger.connection.lock().await).await.unwrap();
        let mut run = RunRecord {
            run_id: "r".into(),
            job: "job".into(),
            path: None,
            at: String::new(),
            parameters: Default::default(),
            fingerprint: Value::String("x".repeat(100_000)),
            status: RunStatus::Running,
            started_at: String::new(),
            finished_at: None,
            report: None,
        };
        let error = ledger.begin(&run).await.unwrap_err().to_string();
        for word in ["disk of the state folder is full", "--resume", &folder.path().display().to_string()] {
            assert!(error.contains(word), "{error}");
        }
        run.run_id = "s".into();
        ledger.begin(&run).await.unwrap();
        let runs: Vec<_> = ledger.runs(5).await.unwrap().into_iter().map(|run| run.run_id).collect();
        assert_eq!(runs, ["s"]);
    }
}
