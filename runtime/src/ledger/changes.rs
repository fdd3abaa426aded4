//! What the ledger remembers of the tables of whole-database jobs: what their sources were like, and every change that was
//! seen.

use serde::{Deserialize, Serialize};
use sqlx::{Connection, Row};
use weir_core::Result;

use super::{Ledger, durable, failed, json, parsed, relaxed};
use crate::database::evolve::{ChangeKind, ChangeOutcome, KnownTable, TableChangeRecord};

/// The tables of this part.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS known_tables (
    job TEXT NOT NULL, target TEXT NOT NULL, source TEXT NOT NULL, state TEXT NOT NULL, body TEXT,
    PRIMARY KEY (job, target)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changes (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, job TEXT NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL,
    at TEXT NOT NULL, kind TEXT NOT NULL, outcome TEXT NOT NULL, column_name TEXT, was TEXT, now TEXT, detail TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS changes_of_target ON changes (target, id);";

/// A table that a job has met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRow {
    /// The target table.
    pub target: String,
    /// The source table, as the job names it.
    pub source: String,
    /// Whether it was left out by rule.
    pub ignored: bool,
    /// What the last run that published it knew of the source.
    pub table: Option<KnownTable>,
}

/// A change as the ledger has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordedChange {
    /// The run that saw it.
    pub run_id: String,
    /// Its job.
    pub job: String,
    /// The source table.
    pub source: String,
    /// The target table.
    pub target: String,
    /// When, RFC 3339, UTC.
    pub at: String,
    /// What it was, and what was done.
    #[serde(flatten)]
    pub change: TableChangeRecord,
}

impl Ledger {
    /// The tables that a job has met in earlier runs, in the order of the targets.
    pub async fn known_tables(&self, job: &str) -> Result<Vec<KnownRow>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query("SELECT target, source, state, body FROM known_tables WHERE job = ?1 ORDER BY target");
        let rows = query.bind(job).fetch_all(&mut *connection).await.map_err(failed)?;
        let of = |row: &sqlx::sqlite::SqliteRow| {
            Ok(KnownRow {
                target: row.get("target"),
                source: row.get("source"),
                ignored: row.get::<&str, _>("state") == "ignored",
                table: row.get::<Option<&str>, _>("body").map(parsed).transpose()?,
            })
        };
        rows.iter().map(of).collect()
    }

    /// What the last run that published a table knew of its source.
    pub async fn known_table(&self, job: &str, target: &str) -> Result<Option<KnownTable>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query("SELECT body FROM known_tables WHERE job = ?1 AND target = ?2").bind(job).bind(target);
        let row = query.fetch_optional(&mut *connection).await.map_err(failed)?;
        let body = row.as_ref().and_then(|row| row.get::<Option<&str>, _>("body"));
        body.map(parsed).transpose()
    }

    /// A table was published: this is what its source is like. Not synced: an older memory does no harm.
    pub async fn know_table(&self, job: &str, target: &str, source: &str, table: &KnownTable) -> Result<()> {
        let mut connection = self.connection.lock().await;
        relaxed(&mut connection).await?;
        let query = sqlx::query(
            "INSERT INTO known_tables (job, target, source, state, body) VALUES (?1, ?2, ?3, 'known', ?4) \
             ON CONFLICT (job, target) DO UPDATE SET source = excluded.source, state = 'known', body = excluded.body",
        );
        let query = query.bind(job).bind(target).bind(source).bind(json(table)?);
        query.execute(&mut *connection).await.map_err(failed).map(drop)
    }

    /// A job has met tables, as (target, source, left out by rule); those that are gone are forgotten.
    pub async fn meet_tables(&self, job: &str, met: &[(String, String, bool)], gone: &[String]) -> Result<()> {
        if met.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let mut connection = self.connection.lock().await;
        durable(&mut connection).await?;
        let mut change = connection.begin().await.map_err(failed)?;
        for (target, source, ignored) in met {
            let state = if *ignored { "ignored" } else { "met" };
            let query = sqlx::query(
                "INSERT INTO known_tables (job, target, source, state) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (job, target) DO UPDATE SET source = excluded.source, state = excluded.state",
            );
            let query = query.bind(job).bind(target).bind(source).bind(state);
            query.execute(&mut *change).await.map_err(failed)?;
        }
        for target in gone {
            let query = sqlx::query("DELETE FROM known_tables WHERE job = ?1 AND target = ?2").bind(job).bind(target);
            query.execute(&mut *change).await.map_err(failed)?;
        }
        change.commit().await.map_err(failed)
    }

    /// Writes changes down; gives their numbers. `synced` says whether they are on the disk when this returns, and not only
    /// with the next thing that is.
    pub async fn record_changes(&self, changes: &[RecordedChange], synced: bool) -> Result<Vec<i64>> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.connection.lock().await;
        if synced {
            durable(&mut connection).await?;
        } else {
            relaxed(&mut connection).await?;
        }
        let mut transaction = connection.begin().await.map_err(failed)?;
        let mut numbers = Vec::with_capacity(changes.len());
        for recorded in changes {
            let change = &recorded.change;
            let query = sqlx::query(
                "INSERT INTO changes (run_id, job, source, target, at, kind, outcome, column_name, was, now, detail) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            );
            let done = query
                .bind(&recorded.run_id)
                .bind(&recorded.job)
                .bind(&recorded.source)
                .bind(&recorded.target)
                .bind(&recorded.at)
                .bind(change.kind.name())
                .bind(change.outcome.name())
                .bind(&change.column)
                .bind(&change.from)
                .bind(&change.to)
                .bind(&change.detail)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            numbers.push(done.last_insert_rowid());
        }
        transaction.commit().await.map_err(failed)?;
        Ok(numbers)
    }

    /// Changes that were written down as done could not be.
    pub async fn changes_failed(&self, numbers: &[i64], why: &str) -> Result<()> {
        let mut connection = self.connection.lock().await;
        durable(&mut connection).await?;
        for number in numbers {
            let query =
                sqlx::query("UPDATE changes SET outcome = 'failed', detail = ?2 WHERE id = ?1 AND outcome = 'done'");
            query.bind(number).bind(why).execute(&mut *connection).await.map_err(failed)?;
        }
        Ok(())
    }

    /// The latest changes, newest first; of one target table if it is named.
    pub async fn changes(&self, target: Option<&str>, run_id: Option<&str>, most: u32) -> Result<Vec<RecordedChange>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query(
            "SELECT * FROM changes WHERE (?1 IS NULL OR target = ?1 OR substr(target, -length(?1) - 1) = '.' || ?1) AND (?2 IS NULL OR run_id = ?2) \
             ORDER BY id DESC LIMIT ?3",
        );
        let rows = query.bind(target).bind(run_id).bind(most).fetch_all(&mut *connection).await.map_err(failed)?;
        let of = |row: &sqlx::sqlite::SqliteRow| RecordedChange {
            run_id: row.get("run_id"),
            job: row.get("job"),
            source: row.get("source"),
            target: row.get("target"),
            at: row.get("at"),
            change: TableChangeRecord {
                // Words of a newer program are shown as what they are nearest to: something that has changed.
                kind: ChangeKind::parse(row.get("kind")).unwrap_or(ChangeKind::TypeChanged),
                outcome: ChangeOutcome::parse(row.get("outcome")).unwrap_or(ChangeOutcome::Kept),
                column: row.get("column_name"),
                from: row.get("was"),
                to: row.get("now"),
                detail: row.get("detail"),
            },
        };
        Ok(rows.iter().map(of).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tables_and_their_changes_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path()).await.unwrap();
        let met = [("a".to_owned(), "s.a".to_owned(), false), ("b".to_owned(), "s.b".to_owned(), true)];
        ledger.meet_tables("job", &met, &[]).await.unwrap();
        assert_eq!(ledger.known_table("job", "a").await.unwrap(), None);
        let table = KnownTable { key: vec!["id".into()], ..KnownTable::default() };
        ledger.know_table("job", "a", "s.a", &table).await.unwrap();
        // Meeting it again does not forget what is known.
        ledger.meet_tables("job", &met[..1], &["b".into()]).await.unwrap();
        let known = ledger.known_tables("job").await.unwrap();
        assert_eq!((known.len(), known[0].table.as_ref()), (1, Some(&table)));
        assert!(ledger.known_tables("other").await.unwrap().is_empty());

        let change = |target: &str, outcome| RecordedChange {
            run_id: "r".into(),
            job: "job".into(),
            source: "s".into(),
            target: target.into(),
            at: "2026-01-01T00:00:00Z".into(),
            change: TableChangeRecord::of_column(ChangeKind::ColumnAdded, outcome, "c").between(None, Some("int")),
        };
        let changes = [change("x.a", ChangeOutcome::Done), change("b", ChangeOutcome::Ignored)];
        let numbers = ledger.record_changes(&changes, true).await.unwrap();
        ledger.changes_failed(&numbers, "no").await.unwrap();
        let all = ledger.changes(None, None, 10).await.unwrap();
        assert_eq!(
            all.iter().map(|c| c.change.outcome).collect::<Vec<_>>(),
            [ChangeOutcome::Ignored, ChangeOutcome::Failed]
        );
        assert_eq!(ledger.changes(Some("a"), Some("r"), 10).await.unwrap().len(), 1);
        assert!(ledger.changes(None, Some("q"), 10).await.unwrap().is_empty());
    }
}
