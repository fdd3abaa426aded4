//! What the ledger remembers of foreign keys: those that runs have made at the target, and those that they have dropped there and
//! not put back yet.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use weir_core::{KeyDefinition, Reference, Result, TargetName};

use super::writing::{Synced, change};
use super::{Ledger, failed, json, parsed};

/// The tables of this part.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS dropped_keys (
    job TEXT NOT NULL, target TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (job, target, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS made_keys (
    job TEXT NOT NULL, target TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (job, target, body)
) WITHOUT ROWID;";

/// A foreign key that a run has dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedKey {
    /// The run.
    pub run_id: String,
    /// The target system, as the job names it, without secrets.
    pub place: String,
    /// The table there.
    pub table: TargetName,
    /// The key.
    pub definition: KeyDefinition,
}

/// A foreign key that a run has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeKey {
    /// The target system, as the job names it, without secrets.
    pub place: String,
    /// The key; without a name where the target has found one.
    pub key: Reference,
}

impl Ledger {
    /// A run has made foreign keys of a table. Not synced: one that is forgotten stays at the target.
    pub async fn make_keys(&self, job: &str, target: &str, keys: &[MadeKey]) -> Result<()> {
        self.change_made("INSERT OR IGNORE INTO made_keys (job, target, body) VALUES (?1, ?2, ?3)", job, target, keys)
            .await
    }

    /// Foreign keys that runs have made are at the target no more.
    pub async fn unmake_keys(&self, job: &str, target: &str, keys: &[MadeKey]) -> Result<()> {
        self.change_made("DELETE FROM made_keys WHERE job = ?1 AND target = ?2 AND body = ?3", job, target, keys).await
    }

    async fn change_made(&self, sql: &'static str, job: &str, target: &str, keys: &[MadeKey]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut connection = self.connection.lock().await;
        let mut change = change!(self, connection, Synced::Later);
        for key in keys {
            let query = sqlx::query(sql).bind(job).bind(target).bind(json(key)?);
            query.execute(&mut *change).await.map_err(self.failed())?;
        }
        change.commit().await.map_err(self.failed())
    }

    /// The foreign keys that runs of a job have made, by their tables.
    pub async fn made_keys(&self, job: &str) -> Result<HashMap<String, Vec<MadeKey>>> {
        made(&mut *self.connection.lock().await, job).await.map_err(self.at())
    }

    /// Foreign keys of a table are about to be dropped; durable when this returns.
    pub async fn drop_keys(&self, job: &str, keys: &[DroppedKey]) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut change = change!(self, connection, Synced::Now);
        for key in keys {
            insert(&mut change, job, key).await.map_err(self.at())?;
        }
        change.commit().await.map_err(self.failed())
    }

    /// The keys that are to be put back, in the order of the tables.
    pub async fn dropped_keys(&self, job: &str) -> Result<Vec<DroppedKey>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query("SELECT body FROM dropped_keys WHERE job = ?1 ORDER BY target, name").bind(job);
        let rows = query.fetch_all(&mut *connection).await.map_err(self.failed())?;
        rows.iter().map(|row| parsed(row.get("body"))).collect()
    }

    /// A key is there again. Not synced: to put back what is there does nothing.
    pub async fn forget_key(&self, job: &str, key: &DroppedKey) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut change = change!(self, connection, Synced::Later);
        let query = sqlx::query("DELETE FROM dropped_keys WHERE job = ?1 AND target = ?2 AND name = ?3");
        let query = query.bind(job).bind(key.table.to_string()).bind(&key.definition.key.name);
        query.execute(&mut *change).await.map_err(self.failed())?;
        change.commit().await.map_err(self.failed())
    }
}

/// The foreign keys that runs of a job have made, by their tables.
pub(super) async fn made(connection: &mut SqliteConnection, job: &str) -> Result<HashMap<String, Vec<MadeKey>>> {
    let mut all: HashMap<String, Vec<MadeKey>> = HashMap::new();
    // An older ledger that is only looked into has no such table.
    let there = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'made_keys')");
    if !there.fetch_one(&mut *connection).await.map_err(failed)? {
        return Ok(all);
    }
    let query = sqlx::query("SELECT target, body FROM made_keys WHERE job = ?1").bind(job);
    for row in query.fetch_all(connection).await.map_err(failed)? {
        all.entry(row.get("target")).or_default().push(parsed(row.get("body"))?);
    }
    Ok(all)
}

async fn insert(change: &mut SqliteConnection, job: &str, key: &DroppedKey) -> Result<()> {
    let query = sqlx::query("INSERT OR REPLACE INTO dropped_keys (job, target, name, body) VALUES (?1, ?2, ?3, ?4)");
    let query = query.bind(job).bind(key.table.to_string()).bind(&key.definition.key.name).bind(json(key)?);
    query.execute(change).await.map_err(failed).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::changes::MetTable;

    #[tokio::test]
    async fn made_keys_are_known_with_their_table() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path()).await.unwrap();
        let met = MetTable { target: "c".into(), source: "s.c".into(), sources: Vec::new(), ignored: false };
        ledger.meet_tables("job", &[met], &[], &[]).await.unwrap();
        let made = ["one", "two"].map(|name| MadeKey {
            place: "here".into(),
            key: Reference {
                name: name.into(),
                columns: vec!["p".into()],
                to: TargetName { schema: None, table: "p".into() },
                to_columns: vec!["id".into()],
                on_delete: "CASCADE".into(),
                on_update: "NO ACTION".into(),
            },
        });
        for _ in 0..2 {
            ledger.make_keys("job", "c", &made).await.unwrap();
        }
        ledger.unmake_keys("job", "c", &made[..1]).await.unwrap();
        let known = ledger.known_tables("job").await.unwrap();
        assert_eq!(known[0].made, made[1..]);
        let passing = Ledger::passing("job", &known).await.unwrap();
        assert_eq!(passing.made_keys("job").await.unwrap()["c"], made[1..]);
        assert!(ledger.made_keys("other").await.unwrap().is_empty());
        ledger.meet_tables("job", &[], &["c".into()], &[]).await.unwrap();
        assert!(ledger.made_keys("job").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_ledger_from_before_made_keys_is_read_and_gets_their_table() {
        for layout in [7, 8] {
            let folder = tempfile::tempdir().unwrap();
            let ledger = Ledger::open(folder.path()).await.unwrap();
            let before = format!("DROP TABLE made_keys; PRAGMA user_version = {layout}");
            let mut connection = ledger.connection.lock().await;
            sqlx::raw_sql(sqlx::AssertSqlSafe(before)).execute(&mut *connection).await.unwrap();
            drop(connection);
            drop(ledger);
            let looked = Ledger::read(folder.path()).await.unwrap();
            assert!(looked.made_keys("job").await.unwrap().is_empty());
            drop(looked);
            let ledger = Ledger::open(folder.path()).await.unwrap();
            ledger.make_keys("job", "c", &[]).await.unwrap();
            let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'made_keys'";
            let tables: i64 = sqlx::query_scalar(tables).fetch_one(&mut *ledger.connection.lock().await).await.unwrap();
            assert_eq!(tables, 1, "{layout}");
        }
    }
}
