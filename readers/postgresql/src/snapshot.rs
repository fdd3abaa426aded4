//! One moment for all splits: a transaction that holds the tables, and exports its snapshot.

use async_trait::async_trait;
use serde_json::json;
use weir_core::{Error, Result, Snapshot, SnapshotGuard};

use crate::PostgresqlReader;

#[async_trait]
impl Snapshot for PostgresqlReader {
    async fn begin(&self, _channels: usize) -> Result<SnapshotGuard> {
        let described = self.describe().await?;
        let mut sessions = Vec::with_capacity(self.endpoints.len());
        let mut tokens = Vec::with_capacity(self.endpoints.len());
        for (number, endpoint) in self.endpoints.iter().enumerate() {
            let mut session = endpoint.connect(&self.context).await?;
            let mut lockable = Vec::new();
            for (source, described) in self.sources.iter().zip(described.iter()) {
                // LOCK TABLE asks for SELECT on the whole table, which a reader of some columns may not have. Asked
                // before the transaction: a query in it would take the snapshot.
                lockable.push(match &described.table {
                    Some(table) if source.endpoint == number && matches!(table.kind, 'r' | 'p') => {
                        let oid = table.oid;
                        session.value::<bool>(&format!("SELECT has_table_privilege({oid}::oid, 'SELECT')")).await?
                    }
                    _ => false,
                });
            }
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            // The locks come first: a rewrite (VACUUM FULL, TRUNCATE) between snapshot and lock would show the
            // snapshot another heap, with rows missing. LOCK TABLE itself takes no snapshot.
            let mut others = Vec::new();
            for ((source, described), lockable) in self.sources.iter().zip(described.iter()).zip(lockable) {
                if source.endpoint != number {
                    continue;
                }
                if lockable {
                    session.execute(&format!("LOCK TABLE {} IN ACCESS SHARE MODE", described.from)).await?;
                } else {
                    // Views, queries and foreign tables cannot be locked by name; a SELECT locks what they read.
                    others.push(format!("SELECT FROM {} LIMIT 0", described.from));
                }
            }
            for select in others {
                session.execute(&select).await?;
            }
            let token: String = session.value("SELECT pg_export_snapshot()").await?;
            tokens.push(token);
            sessions.push(session);
        }
        if tokens.is_empty() {
            return Err(Error::internal("there is nothing to take a snapshot of"));
        }
        Ok(SnapshotGuard {
            description: format!("exported snapshot {}", tokens.join(", ")),
            token: json!(tokens),
            hold: Box::new(sessions),
        })
    }
}
