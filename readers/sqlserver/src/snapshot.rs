//! One moment for all splits, for certain: shared locks on the tables, held until the last split has been read.
//!
//! SQL Server's snapshots belong to one connection each, and begin with its own first read: no other connection can join
//! one. By default (`consistency: auto`) each split therefore sees a moment of its own, and nothing here happens.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::json;
use weir_core::{Error, ErrorKind, Result, ResultExt, Snapshot, SnapshotGuard};
use weir_sqlserver::{Session, connect_first};

use crate::reader::SqlServerReader;

#[async_trait]
impl Snapshot for SqlServerReader {
    async fn begin(&self, _channels: usize) -> Result<SnapshotGuard> {
        let described = self.described().await?;
        let mut held: Vec<(String, Session)> = Vec::new();
        let mut locked = Vec::new();
        for (location, described) in self.locations.iter().zip(described.iter()) {
            if described.table.is_none() {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "`consistency: lock` locks tables, and nobody knows which ones a statement reads: name the tables, or \
                     use `consistency: auto`",
                ));
            }
            let place = location.place();
            let at = match held.iter().position(|(of, _)| *of == place) {
                Some(at) => at,
                None => {
                    let mut session = connect_first(&location.options, &self.setup, &self.context).await?;
                    session.run("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
                    session.run("BEGIN TRANSACTION").await?;
                    held.push((place, session));
                    held.len() - 1
                }
            };
            let lock = format!("SELECT TOP 1 1 AS weir_lock FROM {} WITH (TABLOCK, HOLDLOCK)", described.from);
            held[at].1.run(&lock).await.context("table", &described.label)?;
            locked.push(described.label.clone());
        }
        Ok(SnapshotGuard {
            token: json!("locks"),
            description: format!("shared locks on {}, so that nobody writes to it meanwhile", locked.join(", ")),
            moments: BTreeMap::new(),
            hold: Box::new(held),
        })
    }
}
