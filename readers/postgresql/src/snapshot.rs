//! One moment for all splits of all tables of a run.
//!
//! Two sessions: one holds the exported snapshot until the run ends, so that every table of the run that lies in the same
//! database joins it; the other holds this table's locks, until its splits are read. In a whole-database job one session
//! holds both for all tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use sqlx::Row;
use sqlx::postgres::PgRow;
use weir_core::{ConnectorContext, Error, Result, ResultExt, Snapshot, SnapshotGuard};
use weir_postgresql::error::map;
use weir_postgresql::snapshot::{Export, Exported, Locked, exported, unchanged};
use weir_postgresql::{Session, literal, written};

use crate::PostgresqlReader;
use crate::source::Described;

/// The locks of a table, until its splits are read.
struct Locks {
    session: Option<Session>,
    context: ConnectorContext,
}

impl Drop for Locks {
    fn drop(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        self.context.io.spawn(async move {
            if session.execute("COMMIT").await.is_ok() {
                session.rest().await;
            }
        });
    }
}

#[async_trait]
impl Snapshot for PostgresqlReader {
    async fn begin(&self, _channels: usize) -> Result<SnapshotGuard> {
        let described = self.describe().await?;
        let mut holders: Vec<Box<dyn std::any::Any + Send + Sync>> = Vec::new();
        let mut tokens = Vec::with_capacity(self.endpoints.len());
        let mut moments = BTreeMap::new();
        for (number, endpoint) in self.endpoints.iter().enumerate() {
            let here: Vec<&Described> = self
                .sources
                .iter()
                .zip(described.iter())
                .filter(|(s, _)| s.endpoint == number)
                .map(|(_, d)| d)
                .collect();
            let tables: Vec<_> = here.iter().filter_map(|d| d.table.as_ref()).collect();
            let names: Vec<_> = tables.iter().map(|table| &table.name).collect();
            // A whole-database job has locked its tables, and holds one snapshot of them.
            if tables.len() == here.len()
                && let Some((token, moment)) = Locked::token(&self.context, endpoint, &names).await?
            {
                moments.insert(endpoint.identity(), moment);
                tokens.push(token);
                continue;
            }
            let mut locks = endpoint.connect(&self.context).await?;
            let lockable = lockable(&mut locks, &here).await?;
            locks.keep_open().await?;
            // The locks come first: a rewrite (TRUNCATE, ALTER TABLE) between snapshot and lock would show the snapshot
            // another heap, with rows missing. LOCK TABLE itself takes no snapshot.
            let mut begin = Some("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; ");
            for (described, _) in here.iter().zip(&lockable).filter(|(_, lockable)| **lockable) {
                let begin = begin.take().unwrap_or_default();
                let lock = format!("{begin}LOCK TABLE {} IN ACCESS SHARE MODE", described.from);
                locks.execute(&lock).await.context("table", &described.name)?;
            }
            if let Some(begin) = begin {
                locks.execute(begin).await?;
            }
            // What an earlier part of the run has written needs a snapshot from after that; of queries and views nobody
            // knows what they read.
            let plain = tables.len() == here.len() && tables.iter().all(|table| matches!(table.kind, 'r' | 'p'));
            let alone = written::any(&self.context.shared, endpoint, if plain { &names } else { &[] });
            let shared: Arc<Exported> = if alone {
                let own = Arc::<Exported>::default();
                holders.push(Box::new(own.clone()));
                own
            } else {
                exported(&self.context.shared, endpoint)
            };
            let mut exported = shared.0.lock().await;
            if let Some(export) = exported.as_mut()
                && export.session.execute("SELECT 1").await.is_err()
            {
                *exported = None;
            }
            let joined = exported.is_some();
            let export = match exported.take() {
                Some(export) => export,
                None => {
                    let mut session = endpoint.connect(&self.context).await?;
                    session.keep_open().await?;
                    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
                    Export::of(session).await?
                }
            };
            let token = export.token.clone();
            if !alone {
                moments.insert(endpoint.identity(), export.moment.clone());
            }
            *exported = Some(export);
            drop(exported);
            let mut join = Some(format!("SET TRANSACTION SNAPSHOT {}; ", literal(&token)));
            for table in tables.iter().filter(|_| joined) {
                unchanged(&mut locks, &join.take().unwrap_or_default(), table).await?;
            }
            if let Some(join) = join {
                locks.execute(&join).await?;
            }
            for (described, lockable) in here.iter().zip(lockable) {
                // Views, queries and foreign tables cannot be locked by name; a SELECT locks what they read.
                if !lockable {
                    let select = format!("SELECT FROM {} LIMIT 0", described.from);
                    locks.execute(&select).await.context("table", &described.name)?;
                }
            }
            tokens.push(token);
            holders.push(Box::new(Locks { session: Some(locks), context: self.context.clone() }));
        }
        if tokens.is_empty() {
            return Err(Error::internal("there is nothing to take a snapshot of"));
        }
        Ok(SnapshotGuard {
            description: format!("exported snapshot {}", tokens.join(", ")),
            moments,
            token: json!(tokens),
            hold: Box::new(holders),
        })
    }
}

/// Which of the tables LOCK TABLE may lock: it asks for SELECT on the whole table, which a reader of some columns may not
/// have, and for USAGE on its schema. Asked before the transaction: a query in it would take the snapshot.
async fn lockable(session: &mut Session, here: &[&Described]) -> Result<Vec<bool>> {
    let ask = |described: &&Described| match &described.table {
        Some(table) if matches!(table.kind, 'r' | 'p') => {
            format!(
                "(has_table_privilege({0}::oid, 'SELECT') AND has_schema_privilege((SELECT relnamespace \
                 FROM pg_catalog.pg_class WHERE oid = {0}::oid), 'USAGE'))",
                table.oid
            )
        }
        _ => "(false)".to_owned(),
    };
    let asks: Vec<_> = here.iter().map(ask).collect();
    let rows = session.answers(&format!("VALUES {}", asks.join(", "))).await?;
    // A table that is gone has no privileges.
    let may = |row: &PgRow| Ok(row.try_get::<Option<bool>, _>(0).map_err(map)?.unwrap_or(false));
    rows.iter().map(may).collect()
}
