//! What a writer knows of its target before it plans, changes or completes it: read for one table, or for all tables of a
//! whole-database job at once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};
use weir_core::{Error, ErrorKind, Hold, KeyDefinition, ObjectName, Reference, Result, ResultExt, TargetName};
use weir_mysql::{
    AT_ONCE, Grants, Options, QUOTING, Server, Session, Table, databases, describe_tables, escape, find_tables,
    foreign_keys, grants, server, spelled,
};
use weir_sql::commits::TABLE;
use weir_sql::{DroppedKeys, Seen, TableName};

use crate::config::MySqlWriterConfig;
use crate::keys;
use crate::rights::Rights;
use crate::writer::MySqlWriter;

/// A target, and the server that it is in.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) server: Server,
    /// Its full name.
    pub(crate) name: TableName,
    /// The table, if it is there.
    pub(crate) table: Option<Table>,
    /// Its own foreign keys.
    pub(crate) keys: Vec<Reference>,
    /// The server's collations, for a table that is not there.
    pub(crate) collations: Arc<Vec<String>>,
    pub(crate) rights: Rights,
    /// The table's database, if it is missing and is to be made.
    pub(crate) create_database: Option<String>,
}

impl MySqlWriter {
    /// Reads tables, each with its own error, in as many queries as for one of them.
    async fn read(&self, session: &mut Session, wanted: &[TableName]) -> Result<Vec<Result<Known>>> {
        let server = server(session).await?;
        let found = find_tables(session, wanted, &server).await?;
        let there: Vec<TableName> = found.iter().filter_map(|name| name.as_ref().ok().cloned()).collect();
        let (mut tables, mut keys) = (HashMap::new(), HashMap::new());
        if !there.is_empty() {
            let described = describe_tables(session, &there).await?;
            tables.extend(described.into_iter().map(|table| (table.name.clone(), table)));
            let names: Vec<_> = there.iter().map(object).collect();
            keys = foreign_keys(session, &names).await?;
        }
        let ledger = self.config.common.ledger.schema.as_ref().map(|schema| QUOTING.unquote(schema));
        let all = match there.len() == wanted.len() && ledger.is_none() {
            true => Vec::new(),
            false => databases(session).await?,
        };
        let collations = match there.len() == wanted.len() {
            true => Vec::new(),
            false => session.rows("SELECT COLLATION_NAME FROM information_schema.COLLATIONS").await?,
        };
        let collations = Arc::new(collations);
        let ledger =
            ledger.map(|wanted| spelled(&wanted, &all, &server).context("parameter", "ledger.schema")).transpose()?;
        // Where a table is, or will be.
        let place = |wanted: &TableName, found: Result<TableName>| match found {
            Ok(name) => Ok((name, true)),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Err(error) => {
                let Some(database) = wanted.schema.as_ref().or(server.database.as_ref()) else { return Err(error) };
                let database = match (spelled(database, &all, &server), &wanted.schema) {
                    (Err(error), Some(schema)) if error.kind() == ErrorKind::NotFound && self.creates_database() => {
                        schema.clone()
                    }
                    (found, _) => found?,
                };
                Ok((TableName { schema: Some(database), name: wanted.name.clone() }, false))
            }
        };
        let places: Vec<_> = wanted.iter().zip(found).map(|(wanted, found)| place(wanted, found)).collect();
        let of = |name: &TableName| ledger.clone().or_else(|| name.schema.clone()).unwrap_or_default();
        let ledgers: BTreeSet<String> = places.iter().flatten().map(|(name, _)| of(name)).collect();
        let recorded = records(session, &ledgers).await?;
        let grants: Option<Grants> = grants(session).await?;
        let known = places.into_iter().map(|place| {
            let (name, there) = place?;
            let table = match (there, tables.remove(&name)) {
                (true, None) => return Err(Error::new(ErrorKind::NotFound, "the table is gone").with("table", name)),
                (_, table) => table.map(Table::shown).transpose()?,
            };
            let keys = keys.remove(&object(&name)).into_iter().flatten().map(keys::reference).collect();
            let database = of(&name);
            let rights = Rights { has_commits: recorded.contains(&database), database, grants: grants.clone() };
            let missing = |schema: &String| !there && self.creates_database() && !all.contains(schema);
            let create_database = name.schema.clone().filter(missing);
            let (server, collations) = (server.clone(), collations.clone());
            Ok(Known { server, table, keys, collations, rights, create_database, name })
        });
        Ok(known.collect())
    }

    /// What the server says of the table now.
    pub(crate) async fn ask(&self, session: &mut Session) -> Result<Known> {
        let known = self.read(session, std::slice::from_ref(&self.table)).await?.pop();
        known.unwrap_or_else(|| Err(Error::internal("a table was asked for, and no answer came")))
    }

    /// Reads these tables, and leaves them for their writers.
    pub(crate) async fn leave_known(&self, tables: &[TargetName]) -> Result<Hold> {
        let names = Seen::<Known>::names(tables);
        let mut session = self.connect().await?;
        let mut known = Vec::with_capacity(names.len());
        for names in names.chunks(AT_ONCE) {
            known.extend(self.read(&mut session, names).await?);
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

    fn dropped(&self) -> Arc<DroppedKeys<String>> {
        self.context.shared.find_or_leave(&place("keys", &self.config, &self.options), DroppedKeys::default)
    }

    /// Lets the run's statements on foreign keys come one after the other: two on the keys of a circle of tables each wait for
    /// the other's, which MariaDB does not notice. Then nobody opens these tables again, and KILL ends neither.
    pub(crate) async fn alone(&self) -> Result<OwnedMutexGuard<()>> {
        let name = place("key statements", &self.config, &self.options);
        let one = self.context.shared.find_or_leave(&name, Mutex::default);
        self.context.until_cancelled(async { Ok(one.lock_owned().await) }).await
    }

    /// Notes that keys of a table are dropped, whatever was read before.
    pub(crate) fn note_dropped(&self, table: &TableName, keys: &[KeyDefinition]) {
        self.dropped().add(&table.to_string(), keys);
    }

    /// Notes that a key is back.
    pub(crate) fn note_restored(&self, table: &TableName, key: &KeyDefinition) {
        self.dropped().remove(&table.to_string(), key);
    }

    fn without_dropped(&self, mut known: Known) -> Known {
        let dropped = self.dropped();
        let own = known.name.to_string();
        known.keys.retain(|key| !dropped.contains(&own, &key.name));
        if let Some(table) = &mut known.table {
            table.referenced_by.iter_mut().for_each(|by| by.keys.retain(|key| !dropped.contains(&by.table, key)));
            table.referenced_by.retain(|by| !by.keys.is_empty());
        }
        known
    }
}

/// Under which name something of these servers is left for their writers.
pub(crate) fn place(what: &str, config: &MySqlWriterConfig, options: &[Options]) -> String {
    let of = |o: &Options| format!("{}@{}/{}", o.user, o.place(), o.database.as_deref().unwrap_or_default());
    let ledger = config.common.ledger.schema.as_deref().unwrap_or_default();
    format!("mysql {what} of {} {ledger}", options.first().map(of).unwrap_or_default())
}

fn object(table: &TableName) -> ObjectName {
    ObjectName { database: table.schema.clone().unwrap_or_default(), schema: None, table: table.name.clone() }
}

/// The databases in which runs are recorded already.
async fn records(session: &mut Session, databases: &BTreeSet<String>) -> Result<HashSet<String>> {
    if databases.is_empty() {
        return Ok(HashSet::new());
    }
    let list: Vec<_> = databases.iter().map(|database| escape(database)).collect();
    let found: Vec<String> = session
        .rows(&format!(
            "SELECT TABLE_SCHEMA FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({}) AND TABLE_NAME = {}",
            list.join(", "),
            escape(TABLE)
        ))
        .await?;
    Ok(found.into_iter().collect())
}
