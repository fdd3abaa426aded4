//! What a writer knows of its target before it plans, changes or completes it: read for one table, or for all tables of a
//! whole-database job at once.

use std::sync::Arc;

use weir_core::{Hold, KeyDefinition, Result, Shared, TargetName};
use weir_postgresql::catalog::{AT_ONCE, Table};
use weir_postgresql::find::{Wanted, find_tables};
use weir_postgresql::keys::{Referring, referring, unique_keys_of};
use weir_postgresql::{Endpoint, Session};
use weir_sql::{Commits, DroppedKeys, Seen, TableName};

use crate::config::PostgresqlWriterConfig;
use crate::keys;
use crate::plan::Q;
use crate::record::Rights;
use crate::writer::PostgresqlWriter;

/// A target, and the place that it is in.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// The schema of names without one.
    pub schema: Option<String>,
    /// The table, if it is there.
    pub found: Option<Found>,
    /// What the login may do where the run is recorded.
    pub rights: Rights,
}

/// A table that is there.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub table: Table,
    /// The columns of its unique keys, the primary one first.
    pub unique: Vec<Vec<String>>,
    /// The foreign keys onto it.
    pub referring: Vec<Referring>,
    /// Its own foreign keys.
    pub keys: Vec<KeyDefinition>,
}

impl Known {
    /// The table, if it is there.
    pub fn table(&self) -> Option<&Table> {
        self.found.as_ref().map(|found| &found.table)
    }
}

/// Reads tables, each with its own error, in as many queries as for one of them; all of them have this schema for what
/// Weir keeps, or their own.
pub(crate) async fn read(session: &mut Session, wanted: &[Wanted], ledger: Option<&str>) -> Result<Vec<Result<Known>>> {
    let schema: Option<String> = session.answer("SELECT current_schema()::text").await?;
    let found = find_tables(session, wanted).await?;
    let tables: Vec<&Table> = found.iter().filter_map(|table| table.as_ref().ok()?.as_ref()).collect();
    let oids: Vec<i64> = tables.iter().map(|table| table.oid).collect();
    let (unique, referring, keys) = match oids.is_empty() {
        true => Default::default(),
        false => (
            unique_keys_of(session, &oids).await?,
            referring(session, &oids).await?,
            keys::of_tables(session, &tables).await?,
        ),
    };
    let records = |wanted: &Wanted, found: Option<&Table>| {
        let name = found.map_or(&wanted.name, |table| &table.name);
        let mut place = Commits::new("", name, ledger).table;
        place.schema = place.schema.or_else(|| schema.clone());
        place
    };
    let places: Vec<_> = wanted
        .iter()
        .zip(&found)
        .map(|(wanted, found)| records(wanted, found.as_ref().ok().and_then(Option::as_ref)))
        .collect();
    let rights = Rights::of(session, &places).await?;
    let known = found.into_iter().zip(&places).map(|(found, place)| {
        let of = |table: Table| Found {
            unique: unique.get(&table.oid).cloned().unwrap_or_default(),
            referring: referring.get(&table.oid).cloned().unwrap_or_default(),
            keys: keys.get(&table.oid).cloned().unwrap_or_default(),
            table,
        };
        let rights = rights.get(&place.schema).cloned().unwrap_or_default();
        Ok(Known { schema: schema.clone(), found: found?.map(of), rights })
    });
    Ok(known.collect())
}

impl PostgresqlWriter {
    fn ledger(&self) -> Option<String> {
        self.config.common.ledger.schema.as_deref().map(|schema| Q.unquote(schema))
    }

    /// Where what is known of the table is noted, and left for it.
    pub(crate) fn seen_of(
        config: &PostgresqlWriterConfig,
        endpoint: &Endpoint,
        table: &TableName,
        shared: &Shared,
    ) -> Seen<Known> {
        let ledger = config.common.ledger.schema.as_deref().map(|schema| Q.unquote(schema));
        let place = format!("postgresql targets of {} {}", endpoint.identity(), ledger.unwrap_or_default());
        Seen::new(shared, place, table.clone())
    }

    /// Reads these tables, and leaves them for their writers.
    pub(crate) async fn leave_known(&self, tables: &[TargetName]) -> Result<Hold> {
        let names = Seen::<Known>::names(tables);
        let ledger = self.ledger();
        let mut session = self.connect().await?;
        let mut known = Vec::with_capacity(names.len());
        for names in names.chunks(AT_ONCE) {
            let wanted: Vec<_> = names.iter().map(Wanted::exactly).collect();
            known.extend(read(&mut session, &wanted, ledger.as_deref()).await?);
        }
        session.rest().await;
        Ok(self.seen.leave(names, known))
    }

    /// What was read of the table with all others, once.
    pub(crate) fn take_left(&self) -> Option<Known> {
        Some(self.without_dropped(self.seen.take_left()?))
    }

    /// As [`take_left`](Self::take_left), and it stays there.
    pub(crate) fn find_left(&self) -> Option<Known> {
        Some(self.without_dropped(self.seen.find_left()?))
    }

    /// What the server says of the table now.
    pub(crate) async fn ask(&self, session: &mut Session) -> Result<Known> {
        let ledger = self.ledger();
        let known = read(session, std::slice::from_ref(&self.table), ledger.as_deref()).await?.pop();
        known.unwrap_or_else(|| Err(weir_core::Error::internal("a table was asked for, and no answer came")))
    }

    /// By the oids of their tables.
    fn dropped(&self) -> Arc<DroppedKeys<i64>> {
        let place = format!("postgresql keys dropped in {}", self.endpoint.identity());
        self.context.shared.find_or_leave(&place, DroppedKeys::default)
    }

    /// Notes that keys of a table are dropped, whatever was read before.
    pub(crate) fn note_dropped(&self, table: &Table, keys: &[KeyDefinition]) {
        self.dropped().add(&table.oid, keys);
    }

    /// Notes that a key is back.
    pub(crate) fn note_restored(&self, table: &Table, key: &KeyDefinition) {
        self.dropped().remove(&table.oid, key);
    }

    fn without_dropped(&self, mut known: Known) -> Known {
        let dropped = self.dropped();
        if let Some(found) = &mut known.found {
            found.referring.retain(|by| !dropped.contains(&by.oid, &by.key));
            found.keys.retain(|one| !dropped.contains(&found.table.oid, &one.key.name));
        }
        known
    }
}
