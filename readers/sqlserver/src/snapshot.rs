//! One moment for all splits, for certain: shared locks on the tables, held until the last split has been read.
//!
//! SQL Server's snapshots belong to one connection each, and begin with its own first read: no other connection can join
//! one. By default (`consistency: auto`) each split therefore sees a moment of its own, and nothing here happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use weir_core::{ConnectorContext, Error, ErrorKind, Result, ResultExt, Snapshot, SnapshotGuard};
use weir_sqlserver::{Options, Session, connect_first};

use crate::holder::{Holders, Key, key};
use crate::reader::SqlServerReader;

/// The locks, until the splits are read.
struct Locks {
    holders: Arc<Holders>,
    name: String,
    context: ConnectorContext,
}

impl Drop for Locks {
    fn drop(&mut self) {
        self.context.shared.remove(&self.name);
        for session in self.holders.end() {
            self.context.io.spawn(session.close());
        }
    }
}

#[async_trait]
impl Snapshot for SqlServerReader {
    async fn begin(&self, _channels: usize) -> Result<SnapshotGuard> {
        let described = self.described().await?;
        let mut held: Vec<(Key, Session)> = Vec::new();
        let mut locked = Vec::new();
        for (location, described) in self.locations.iter().zip(described.iter()) {
            if described.table.is_none() {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "`consistency: lock` locks tables, and nobody knows which ones a statement reads: name the tables, or \
                     use `consistency: auto`",
                ));
            }
            let key = key(location);
            let at = match held.iter().position(|(of, _)| *of == key) {
                Some(at) => at,
                None => {
                    let mut session = connect_first(&location.options, &self.setup, &self.context).await?;
                    session.run("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
                    session.run("BEGIN TRANSACTION").await?;
                    held.push((key, session));
                    held.len() - 1
                }
            };
            let lock = format!("SELECT TOP 1 1 AS weir_lock FROM {} WITH (TABLOCK, HOLDLOCK)", described.from);
            held[at].1.run(&lock).await.context("table", &described.label)?;
            locked.push(described.label.clone());
        }
        let holders = Arc::new(Holders::of(held, self.keeps(), &self.context));
        let name = holders.leave(&self.context);
        Ok(SnapshotGuard {
            token: json!(name),
            description: format!("shared locks on {}, so that nobody writes to it meanwhile", locked.join(", ")),
            moments: BTreeMap::new(),
            hold: Box::new(Locks { holders, name, context: self.context.clone() }),
        })
    }

    fn keeps(&self) -> usize {
        let mut of_servers: BTreeMap<String, BTreeSet<Key>> = BTreeMap::new();
        for location in &self.locations {
            let server = location.options.first().map(Options::place).unwrap_or_default();
            of_servers.entry(server).or_default().insert(key(location));
        }
        of_servers.values().map(BTreeSet::len).max().unwrap_or_default()
    }
}
