//! What the ledger remembers of foreign keys that runs have dropped at the target and not put back yet.

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use weir_core::{KeyDefinition, Result, TargetName};

use super::writing::{Synced, change};
use super::{Ledger, failed, json, parsed};

/// The tables of this part.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS dropped_keys (
    job TEXT NOT NULL, target TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (job, target, name)
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

impl Ledger {
    /// Foreign keys of a table are about to be dropped; durable when this returns.
    pub async fn drop_keys(&self, job: &str, keys: &[DroppedKey]) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut change = change!(self, connection, Synced::Now);
        for key in keys {
            insert(&mut change, job, key).await?;
        }
        change.commit().await.map_err(failed)
    }

    /// The keys that are to be put back, in the order of the tables.
    pub async fn dropped_keys(&self, job: &str) -> Result<Vec<DroppedKey>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query("SELECT body FROM dropped_keys WHERE job = ?1 ORDER BY target, name").bind(job);
        let rows = query.fetch_all(&mut *connection).await.map_err(failed)?;
        rows.iter().map(|row| parsed(row.get("body"))).collect()
    }

    /// A key is there again. Not synced: to put back what is there does nothing.
    pub async fn forget_key(&self, job: &str, key: &DroppedKey) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let mut change = change!(self, connection, Synced::Later);
        let query = sqlx::query("DELETE FROM dropped_keys WHERE job = ?1 AND target = ?2 AND name = ?3");
        let query = query.bind(job).bind(key.table.to_string()).bind(&key.definition.key.name);
        query.execute(&mut *change).await.map_err(failed)?;
        change.commit().await.map_err(failed)
    }
}

async fn insert(change: &mut SqliteConnection, job: &str, key: &DroppedKey) -> Result<()> {
    let query = sqlx::query("INSERT OR REPLACE INTO dropped_keys (job, target, name, body) VALUES (?1, ?2, ?3, ?4)");
    let query = query.bind(job).bind(key.table.to_string()).bind(&key.definition.key.name).bind(json(key)?);
    query.execute(change).await.map_err(failed).map(drop)
}
