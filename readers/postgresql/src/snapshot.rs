//! One moment for all splits: a transaction that holds the tables, and exports its snapshot.

use async_trait::async_trait;
use serde_json::json;
use weir_core::{Error, Result, Snapshot, SnapshotGuard};
use weir_sql::Object;

use crate::PostgresqlReader;

#[async_trait]
impl Snapshot for PostgresqlReader {
    async fn begin(&self) -> Result<SnapshotGuard> {
        let described = self.describe().await?;
        let mut sessions = Vec::with_capacity(self.endpoints.len());
        let mut tokens = Vec::with_capacity(self.endpoints.len());
        for (number, endpoint) in self.endpoints.iter().enumerate() {
            let mut session = endpoint.connect(&self.context).await?;
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            // The locks come first: a rewrite (VACUUM FULL, TRUNCATE) between snapshot and lock would show the
            // snapshot another heap, with rows missing. LOCK TABLE itself takes no snapshot.
            let mut others = Vec::new();
            for (source, described) in self.sources.iter().zip(described.iter()) {
                if source.endpoint != number {
                    continue;
                }
                match (&source.source.object, &described.table) {
                    (Object::Table(_), Some(table)) if matches!(table.kind, 'r' | 'p') => {
                        session.execute(&format!("LOCK TABLE {} IN ACCESS SHARE MODE", described.from)).await?;
                    }
                    // Views, queries and foreign tables cannot be locked by name; a SELECT locks what they read.
                    _ => others.push(format!("SELECT FROM {} LIMIT 0", described.from)),
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
