//! Changes of the ledger, and how long they wait for those of other processes.

use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use tokio::time::Instant;
use weir_core::Result;

use super::{Ledger, failed};

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
        $synced.set(&mut $connection).await?;
        let asked = tokio::time::Instant::now();
        loop {
            // Nobody else gets in before it is over.
            match sqlx::Connection::begin_with(&mut *$connection, "BEGIN IMMEDIATE").await {
                Ok(change) => break change,
                Err(error) => $ledger.wait(error, asked).await?,
            }
        }
    }};
}

pub(super) use change;

impl Synced {
    pub(super) async fn set(self, connection: &mut SqliteConnection) -> Result<()> {
        let synchronous = match self {
            Self::Now => "PRAGMA synchronous = FULL",
            Self::Later => "PRAGMA synchronous = NORMAL",
        };
        sqlx::query(synchronous).execute(connection).await.map_err(failed).map(drop)
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
            return Err(failed(error));
        }
        tokio::time::sleep(AGAIN).await;
        Ok(())
    }
}

/// Whether another process is writing.
fn is_busy(error: &sqlx::Error) -> bool {
    const BUSY: i32 = 5;
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    // The upper bytes say more than is asked.
    code.is_some_and(|code| code & 0xff == BUSY)
}
