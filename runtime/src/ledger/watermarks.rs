//! Windows of runs, and the watermarks that successful ones leave.

use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use weir_core::incremental::without_place;
use weir_core::{Result, Watermark, Window};

use super::{EntryRecord, Ledger, RunStatus, failed, json, parsed};

/// How far a job's runs have read a table, along a change column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WatermarkRecord {
    /// The job's name.
    pub job: String,
    /// Which of the job's entries that read the same source it is of, from 0.
    pub ordinal: u32,
    /// The target table, as the run that moved it called it.
    pub target: String,
    /// Source table, place, column and value.
    #[serde(flatten)]
    pub watermark: Watermark,
    /// The run that moved it.
    pub run_id: String,
    /// When it did, RFC 3339, UTC.
    pub moved_at: String,
}

impl Ledger {
    /// The windows that a run was begun with, of one entry.
    pub async fn windows(&self, run_id: &str, entry: u32) -> Result<Vec<Window>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query_scalar("SELECT body FROM windows WHERE run_id = ?1 AND entry = ?2");
        let body: Option<String> =
            query.bind(run_id).bind(entry).fetch_optional(&mut *connection).await.map_err(self.failed())?;
        body.map_or_else(|| Ok(Vec::new()), |body| parsed(&body))
    }

    /// The watermarks of a job, or of all.
    pub async fn watermarks(&self, job: Option<&str>) -> Result<Vec<WatermarkRecord>> {
        let mut connection = self.connection.lock().await;
        let query =
            sqlx::query("SELECT * FROM watermarks WHERE job = coalesce(?1, job) ORDER BY job, source, place, ordinal");
        let rows = query.bind(job).fetch_all(&mut *connection).await.map_err(self.failed())?;
        let of = |row: &SqliteRow| WatermarkRecord {
            job: row.get("job"),
            ordinal: row.get("ordinal"),
            target: row.get("target"),
            watermark: Watermark {
                table: row.get("source"),
                place: row.get("place"),
                column: row.get("change_column"),
                value: row.get("value"),
            },
            run_id: row.get("run_id"),
            moved_at: row.get("moved_at"),
        };
        Ok(rows.iter().map(of).collect())
    }
}

/// Keeps the windows of an entry, within a change of the ledger. A target that is about to be made, and read from the beginning,
/// has nothing of what lies before a watermark: that goes, so that a run after one that fails begins at the beginning too.
pub(super) async fn freeze(change: &mut SqliteConnection, run_id: &str, entry: &EntryRecord) -> Result<()> {
    if entry.windows.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(
        "INSERT OR REPLACE INTO windows (run_id, entry, target, ordinal, body) VALUES (?1, ?2, ?3, ?4, ?5)",
    );
    let query = query.bind(run_id).bind(entry.entry).bind(&entry.spec.plan.table).bind(entry.ordinal);
    query.bind(json(&entry.windows)?).execute(&mut *change).await.map_err(failed)?;
    let first = entry.windows.iter().filter(|window| window.watermark.is_none());
    for window in first.filter(|_| entry.spec.plan.creates) {
        let query = sqlx::query(
            "DELETE FROM watermarks WHERE job = (SELECT job FROM runs WHERE run_id = ?1) AND ordinal = ?2 AND source = ?3 \
             AND place = ?4",
        );
        let query = query.bind(run_id).bind(entry.ordinal);
        query
            .bind(without_place(&window.table, &window.place))
            .bind(&window.place)
            .execute(&mut *change)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

/// Moves the watermarks to the ends of a run's windows, as far as its end lets them.
pub(super) async fn advance(
    change: &mut SqliteConnection,
    run_id: &str,
    status: RunStatus,
    moved_at: &str,
) -> Result<()> {
    let query = sqlx::query(
        "SELECT runs.job, windows.target, windows.ordinal, windows.body FROM windows JOIN runs USING (run_id) \
         LEFT JOIN entries USING (run_id, entry) \
         WHERE run_id = ?1 AND (?2 = 'succeeded' OR (entries.committed IS NOT NULL \
           AND (?2 = 'abandoned' OR EXISTS (SELECT 1 FROM expansions WHERE expansions.run_id = windows.run_id))))",
    );
    let rows = query.bind(run_id).bind(status.name()).fetch_all(&mut *change).await.map_err(failed)?;
    for row in &rows {
        let windows: Vec<Window> = parsed(row.get("body"))?;
        for watermark in windows.iter().filter_map(Window::leaves) {
            let query = sqlx::query(
                "INSERT OR REPLACE INTO watermarks \
                 (job, target, ordinal, source, place, change_column, value, run_id, moved_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            );
            let query = query.bind(row.get::<&str, _>("job")).bind(row.get::<&str, _>("target"));
            let query = query.bind(row.get::<u32, _>("ordinal"));
            let query = query.bind(watermark.table).bind(watermark.place).bind(watermark.column).bind(watermark.value);
            query.bind(run_id).bind(moved_at).execute(&mut *change).await.map_err(failed)?;
        }
    }
    Ok(())
}
