//! Runs that succeeded and whose targets may still keep records of them.

use weir_core::Result;

use super::writing::{Synced, change};
use super::{Ledger, RunRecord, run_of};

/// The tables of this part.
pub(super) const TABLES: &str =
    "CREATE TABLE IF NOT EXISTS litter (run_id TEXT PRIMARY KEY, job TEXT NOT NULL) WITHOUT ROWID;";

/// Written with a run's success: its process may die before the targets have forgotten it.
pub(super) const NOTE: &str =
    "INSERT OR REPLACE INTO litter (run_id, job) SELECT run_id, job FROM runs WHERE run_id = ?1";

/// How many runs are tidied up after at once.
const MOST: u32 = 10;

impl Ledger {
    /// The first runs of a job, but for `run_id`, that succeeded and left records at a target.
    pub async fn litter(&self, job: &str, run_id: &str) -> Result<Vec<RunRecord>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query(
            "SELECT runs.* FROM litter JOIN runs USING (run_id) WHERE litter.job = ?1 AND run_id <> ?2 \
             ORDER BY started_at LIMIT ?3",
        );
        let rows = query.bind(job).bind(run_id).bind(MOST).fetch_all(&mut *connection).await.map_err(self.failed())?;
        rows.iter().map(run_of).collect()
    }

    /// The targets have forgotten a run. Not synced: to forget it once more does no harm.
    pub async fn forgotten(&self, run_id: &str) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut change = change!(self, connection, Synced::Later);
        let query = sqlx::query("DELETE FROM litter WHERE run_id = ?1").bind(run_id);
        query.execute(&mut *change).await.map_err(self.failed())?;
        change.commit().await.map_err(self.failed())
    }
}
