//! What the ledger remembers of the tables of whole-database jobs: what their sources were like, and every change that was
//! seen.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sqlx::Connection;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use weir_core::Result;

use super::keys;
use super::writing::{Synced, change};
use super::{EntryRecord, Ledger, MadeKey, failed, json, parsed};
use crate::database::evolve::{ChangeKind, ChangeOutcome, KnownTable, TableChangeRecord};

/// The tables of this part.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS known_tables (
    job TEXT NOT NULL, target TEXT NOT NULL, source TEXT NOT NULL, state TEXT NOT NULL, body TEXT,
    PRIMARY KEY (job, target)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known_sources (
    job TEXT NOT NULL, target TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (job, target)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changes (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, job TEXT NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL,
    at TEXT NOT NULL, kind TEXT NOT NULL, outcome TEXT NOT NULL, column_name TEXT, was TEXT, now TEXT, detail TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS changes_of_target ON changes (target, id);
CREATE TABLE IF NOT EXISTS knowledge (
    run_id TEXT NOT NULL, entry INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (run_id, entry)
) WITHOUT ROWID;";

/// A table that a job has met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRow {
    /// The target table.
    pub target: String,
    /// The source table, as the job names it.
    pub source: String,
    /// Each of its source tables, as the database job identifies it; none where an older program has written the row.
    pub sources: Vec<String>,
    /// Whether it was left out by rule.
    pub ignored: bool,
    /// What the last run that published it knew of the source.
    pub table: Option<KnownTable>,
    /// The foreign keys that runs have made at the target.
    pub made: Vec<MadeKey>,
}

/// A table as a run meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetTable {
    /// The target table.
    pub target: String,
    /// The source table, as the job names it.
    pub source: String,
    /// Each of its source tables.
    pub sources: Vec<String>,
    /// Whether it is left out by rule.
    pub ignored: bool,
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

/// As [`Ledger::known_tables`], of the ledger in a folder; none where there is none.
///
/// # Errors
/// Those of reading it.
pub async fn known_tables(state_dir: Option<&Path>, job: &str) -> Result<Vec<KnownRow>> {
    let ledger = match state_dir {
        Some(folder) => Ledger::find_in(folder).await?,
        None => None,
    };
    match ledger {
        Some(ledger) => ledger.known_tables(job).await,
        None => Ok(Vec::new()),
    }
}

impl Ledger {
    /// A ledger in memory that begins with what a job has `known`: by it a run that keeps none goes, and writes down what it
    /// sees until its report has it.
    pub(crate) async fn passing(job: &str, known: &[KnownRow]) -> Result<Self> {
        let connection = SqliteConnection::connect("sqlite::memory:").await.map_err(failed)?;
        let ledger = Self::made(connection, failed).await?;
        let met = known.iter().cloned().map(|KnownRow { target, source, sources, ignored, .. }| MetTable {
            target,
            source,
            sources,
            ignored,
        });
        ledger.meet_tables(job, &met.collect::<Vec<_>>(), &[], &[]).await?;
        for row in known {
            if let Some(table) = &row.table {
                ledger.know_table(job, &row.target, &row.source, table).await?;
            }
            ledger.make_keys(job, &row.target, &row.made).await?;
        }
        Ok(ledger)
    }

    /// The tables that a job has met in earlier runs, in the order of the targets.
    pub async fn known_tables(&self, job: &str) -> Result<Vec<KnownRow>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query(
            "SELECT target, source, state, t.body, s.body AS sources \
             FROM known_tables t LEFT JOIN known_sources s USING (job, target) WHERE job = ?1 ORDER BY target",
        );
        let rows = query.bind(job).fetch_all(&mut *connection).await.map_err(self.failed())?;
        let mut made = keys::made(&mut connection, job).await.map_err(self.at())?;
        let mut of = |row: &sqlx::sqlite::SqliteRow| {
            Ok(KnownRow {
                made: made.remove(row.get::<&str, _>("target")).unwrap_or_default(),
                target: row.get("target"),
                source: row.get("source"),
                sources: row.get::<Option<&str>, _>("sources").map(parsed).transpose()?.unwrap_or_default(),
                ignored: row.get::<&str, _>("state") == "ignored",
                table: row.get::<Option<&str>, _>("body").map(parsed).transpose()?,
            })
        };
        rows.iter().map(&mut of).collect()
    }

    /// What the last run that published a table knew of its source.
    pub async fn known_table(&self, job: &str, target: &str) -> Result<Option<KnownTable>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query("SELECT body FROM known_tables WHERE job = ?1 AND target = ?2").bind(job).bind(target);
        let row = query.fetch_optional(&mut *connection).await.map_err(self.failed())?;
        let body = row.as_ref().and_then(|row| row.get::<Option<&str>, _>("body"));
        body.map(parsed).transpose()
    }

    /// A table was published: this is what its source is like, and what had begun for it is done. Not synced: an older
    /// memory does no harm.
    pub async fn know_table(&self, job: &str, target: &str, source: &str, table: &KnownTable) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut transaction = change!(self, connection, Synced::Later);
        let query =
            sqlx::query("UPDATE changes SET outcome = 'done' WHERE job = ?1 AND target = ?2 AND outcome = 'begun'");
        query.bind(job).bind(target).execute(&mut *transaction).await.map_err(self.failed())?;
        let query = sqlx::query(
            "INSERT INTO known_tables (job, target, source, state, body) VALUES (?1, ?2, ?3, 'known', ?4) \
             ON CONFLICT (job, target) DO UPDATE SET source = excluded.source, state = 'known', body = excluded.body",
        );
        let query = query.bind(job).bind(target).bind(source).bind(json(table)?);
        query.execute(&mut *transaction).await.map_err(self.failed())?;
        transaction.commit().await.map_err(self.failed())
    }

    /// A job has met tables; the targets that are gone are forgotten; and what there is to say of both.
    pub async fn meet_tables(
        &self,
        job: &str,
        met: &[MetTable],
        gone: &[String],
        changes: &[RecordedChange],
    ) -> Result<()> {
        if met.is_empty() && gone.is_empty() && changes.is_empty() {
            return Ok(());
        }
        let mut connection = self.connection.lock().await;
        let mut change = change!(self, connection, Synced::Now);
        for MetTable { target, source, sources, ignored } in met {
            let state = if *ignored { "ignored" } else { "met" };
            let query = sqlx::query(
                "INSERT INTO known_tables (job, target, source, state) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (job, target) DO UPDATE SET source = excluded.source, state = excluded.state",
            );
            let query = query.bind(job).bind(target).bind(source).bind(state);
            query.execute(&mut *change).await.map_err(self.failed())?;
            let query = sqlx::query("INSERT OR REPLACE INTO known_sources (job, target, body) VALUES (?1, ?2, ?3)");
            query.bind(job).bind(target).bind(json(sources)?).execute(&mut *change).await.map_err(self.failed())?;
        }
        for target in gone {
            for forget in [
                "DELETE FROM known_tables WHERE job = ?1 AND target = ?2",
                "DELETE FROM made_keys WHERE job = ?1 AND target = ?2",
                "DELETE FROM known_sources WHERE job = ?1 AND target = ?2",
            ] {
                sqlx::query(forget).bind(job).bind(target).execute(&mut *change).await.map_err(self.failed())?;
            }
        }
        for recorded in changes {
            record(&mut change, recorded).await.map_err(self.at())?;
        }
        change.commit().await.map_err(self.failed())
    }

    /// Writes changes down; gives their numbers. `synced` says whether they are on the disk when this returns, and not only
    /// with the next thing that is. What the run has on record, and what an earlier one had begun and not done, is not
    /// written a second time.
    pub async fn record_changes(&self, changes: &[RecordedChange], synced: bool) -> Result<Vec<i64>> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.connection.lock().await;
        let synced = if synced { Synced::Now } else { Synced::Later };
        let mut transaction = change!(self, connection, synced);
        let mut numbers = Vec::with_capacity(changes.len());
        for recorded in changes {
            numbers.push(record(&mut transaction, recorded).await.map_err(self.at())?);
        }
        transaction.commit().await.map_err(self.failed())?;
        Ok(numbers)
    }

    /// Changes that had begun are done. Not synced: the next run would see by the target that they are.
    pub async fn changes_done(&self, numbers: &[i64]) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut change = change!(self, connection, Synced::Later);
        for number in numbers {
            let query = sqlx::query("UPDATE changes SET outcome = 'done' WHERE id = ?1 AND outcome = 'begun'");
            query.bind(number).execute(&mut *change).await.map_err(self.failed())?;
        }
        change.commit().await.map_err(self.failed())
    }

    /// Changes that had begun could not be done.
    pub async fn changes_failed(&self, numbers: &[i64], why: &str) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut change = change!(self, connection, Synced::Now);
        for number in numbers {
            let query =
                sqlx::query("UPDATE changes SET outcome = 'failed', detail = ?2 WHERE id = ?1 AND outcome = 'begun'");
            query.bind(number).bind(why).execute(&mut *change).await.map_err(self.failed())?;
        }
        change.commit().await.map_err(self.failed())
    }

    /// The latest changes, newest first; of one target table if it is named.
    pub async fn changes(&self, target: Option<&str>, run_id: Option<&str>, most: u32) -> Result<Vec<RecordedChange>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query(
            "SELECT * FROM changes WHERE (?1 IS NULL OR target = ?1 OR substr(target, -length(?1) - 1) = '.' || ?1) AND (?2 IS NULL OR run_id = ?2) \
             ORDER BY id DESC LIMIT ?3",
        );
        let rows =
            query.bind(target).bind(run_id).bind(most).fetch_all(&mut *connection).await.map_err(self.failed())?;
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

/// Keeps what is to be known of an entry's source once it is published, whichever process publishes it.
pub(super) async fn keep(change: &mut SqliteConnection, run_id: &str, entry: &EntryRecord) -> Result<()> {
    let Some(known) = &entry.known else { return Ok(()) };
    let query = sqlx::query("INSERT OR REPLACE INTO knowledge (run_id, entry, body) VALUES (?1, ?2, ?3)");
    query.bind(run_id).bind(entry.entry).bind(json(known)?).execute(change).await.map_err(failed).map(drop)
}

/// Writes one change down, unless it is there; its number.
async fn record(transaction: &mut SqliteConnection, recorded: &RecordedChange) -> Result<i64> {
    let change = &recorded.change;
    // A run that died has begun it, perhaps under another id, or this one has failed to do it: it begins again. A table may
    // get several keys, and a merge several tables.
    let begun = sqlx::query(
        "DELETE FROM changes WHERE job = ?1 AND target = ?2 AND kind = ?3 AND column_name IS ?4 \
         AND (outcome = 'begun' OR outcome = 'failed' AND run_id = ?5) \
         AND (kind NOT IN ('table_added', 'key_added') OR now IS ?6) AND (kind <> 'key_deleted' OR was IS ?7)",
    );
    let begun = begun.bind(&recorded.job).bind(&recorded.target).bind(change.kind.name()).bind(&change.column);
    let begun = begun.bind(&recorded.run_id).bind(&change.to).bind(&change.from);
    begun.execute(&mut *transaction).await.map_err(failed)?;
    let there = sqlx::query_scalar(
        "SELECT id FROM changes WHERE run_id = ?1 AND target = ?2 AND kind = ?3 AND column_name IS ?4 \
         AND outcome = ?5 AND was IS ?6 AND now IS ?7",
    );
    let there: Option<i64> = there
        .bind(&recorded.run_id)
        .bind(&recorded.target)
        .bind(change.kind.name())
        .bind(&change.column)
        .bind(change.outcome.name())
        .bind(&change.from)
        .bind(&change.to)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
    if let Some(number) = there {
        return Ok(number);
    }
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
    Ok(done.last_insert_rowid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tables_and_their_changes_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path()).await.unwrap();
        let met = [("a", "s.a and 1 more", false), ("b", "s.b", true)].map(|(target, source, ignored)| MetTable {
            target: target.into(),
            source: source.into(),
            sources: vec![format!("s.{target}"), "s.c".into()],
            ignored,
        });
        ledger.meet_tables("job", &met, &[], &[]).await.unwrap();
        assert_eq!(ledger.known_table("job", "a").await.unwrap(), None);
        let table = KnownTable { key: vec!["id".into()], ..KnownTable::default() };
        ledger.know_table("job", "a", "s.a and 1 more", &table).await.unwrap();
        // Meeting it again does not forget what is known.
        ledger.meet_tables("job", &met[..1], &["b".into()], &[]).await.unwrap();
        let known = ledger.known_tables("job").await.unwrap();
        assert_eq!((known.len(), known[0].table.as_ref()), (1, Some(&table)));
        assert_eq!((&known[0].sources, known[0].ignored), (&met[0].sources, false));
        assert!(ledger.known_tables("other").await.unwrap().is_empty());
        let passing = Ledger::passing("job", &known).await.unwrap();
        assert_eq!(passing.known_tables("job").await.unwrap(), known);
        assert_eq!(passing.known_table("job", "a").await.unwrap().as_ref(), Some(&table));

        let change = |target: &str, outcome| RecordedChange {
            run_id: "r".into(),
            job: "job".into(),
            source: "s".into(),
            target: target.into(),
            at: "2026-01-01T00:00:00Z".into(),
            change: TableChangeRecord::of_column(ChangeKind::ColumnAdded, outcome, "c").between(None, Some("int")),
        };
        let changes = [change("x.a", ChangeOutcome::Begun), change("b", ChangeOutcome::Ignored)];
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
    #[tokio::test]
    async fn what_a_run_that_died_has_begun_is_recorded_once() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path()).await.unwrap();
        let change = |run_id: &str, kind, outcome| RecordedChange {
            run_id: run_id.into(),
            job: "job".into(),
            source: "s".into(),
            target: "t".into(),
            at: "2026-01-01T00:00:00Z".into(),
            change: TableChangeRecord::of_column(kind, outcome, "c").between(None, Some("int")),
        };
        let added = |run_id| [change(run_id, ChangeKind::ColumnAdded, ChangeOutcome::Begun)];
        let all = async || -> Vec<_> {
            let all = ledger.changes(None, None, 10).await.unwrap().into_iter().rev();
            all.map(|c| format!("{} {} {}", c.run_id, c.change.kind.name(), c.change.outcome.name())).collect()
        };
        // The run is resumed, and given up for another one.
        for run_id in ["r1", "r1", "r2"] {
            ledger.record_changes(&added(run_id), true).await.unwrap();
        }
        assert_eq!(all().await, ["r2 column_added begun"]);
        // It died after the target was changed: the table's publication tells.
        ledger.know_table("job", "t", "s", &KnownTable::default()).await.unwrap();
        assert_eq!(all().await, ["r2 column_added done"]);
        // What was done once may have to be done again by a later run, which tries twice, and says what it sees once.
        let numbers = ledger.record_changes(&added("r3"), true).await.unwrap();
        ledger.changes_failed(&numbers, "no").await.unwrap();
        let numbers = ledger.record_changes(&added("r3"), true).await.unwrap();
        ledger.changes_done(&numbers).await.unwrap();
        for _ in 0..2 {
            ledger.record_changes(&[change("r3", ChangeKind::TypeNarrowed, ChangeOutcome::Kept)], false).await.unwrap();
        }
        assert_eq!(all().await, ["r2 column_added done", "r3 column_added done", "r3 type_narrowed kept"]);
    }
}
