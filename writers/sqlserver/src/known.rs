//! What a writer knows of its target before it plans, changes or completes it: read for one table, or for all tables of a
//! whole-database job at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use weir_core::{Error, ErrorKind, Hold, KeyDefinition, Result, ResultExt, TargetName};
use weir_sql::{DroppedKeys, Seen, TableName};
use weir_sqlserver::{
    AT_ONCE, Options, QUOTING, Server, Session, Table, describe_tables, find_tables, schemas, server, spelled,
};

use crate::complete::{self, Index};
use crate::config::SqlServerWriterConfig;
use crate::keys::{self, Own};
use crate::rights::OwnTables;
use crate::writer::SqlServerWriter;

/// A target, and the server that it is in.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) server: Server,
    /// Its full name.
    pub(crate) name: TableName,
    /// The table, if it is there.
    pub(crate) table: Option<Table>,
    /// Its own foreign keys.
    pub(crate) keys: Vec<Own>,
    /// Its unique indexes.
    pub(crate) indexes: Vec<Index>,
    pub(crate) own: OwnTables,
    /// The table's schema, if it is missing and is to be made.
    pub(crate) create_schema: Option<String>,
    /// What the user lacks to create a table that is not there.
    pub(crate) create_missing: Vec<String>,
}

impl SqlServerWriter {
    /// Reads tables, each with its own error, in as many queries as for one of them, but for the rights in each schema.
    async fn read(&self, session: &mut Session, wanted: &[TableName]) -> Result<Vec<Result<Known>>> {
        let server = server(session).await?;
        let found = find_tables(session, wanted, &server).await?;
        let there: Vec<TableName> = found.iter().filter_map(|name| name.as_ref().ok().cloned()).collect();
        let mut tables: HashMap<TableName, Table> = HashMap::new();
        let (mut keys, mut indexes) = (HashMap::new(), HashMap::new());
        let described = describe_tables(session, &there).await?;
        if !described.is_empty() {
            let ids: Vec<i64> = described.iter().map(|table| table.id).collect();
            keys = keys::of_tables(session, &server, &ids).await?;
            indexes = complete::unique_indexes(session, &ids).await?;
            tables.extend(described.into_iter().map(|table| (table.name.clone(), table)));
        }
        let ledger = self.config.common.ledger.schema.as_ref().map(|schema| QUOTING.unquote(schema));
        let all = match there.len() == wanted.len() && ledger.is_none() {
            true => Vec::new(),
            false => schemas(session).await?,
        };
        let ledger =
            ledger.map(|wanted| spelled(&wanted, &all, &server).context("parameter", "ledger.schema")).transpose()?;
        // Where a table is, or will be.
        let place = |wanted: &TableName, found: Result<TableName>| match found {
            Ok(name) => Ok((name, true)),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Err(_) => {
                let schema = match &wanted.schema {
                    None => server.schema.clone(),
                    Some(schema) => match spelled(schema, &all, &server) {
                        Err(error) if error.kind() == ErrorKind::NotFound && self.creates_schema() => schema.clone(),
                        found => found?,
                    },
                };
                Ok((TableName { schema: Some(schema), name: wanted.name.clone() }, false))
            }
        };
        let places: Vec<_> = wanted.iter().zip(found).map(|(wanted, found)| place(wanted, found)).collect();
        let of = |name: &TableName| name.schema.clone().unwrap_or_default();
        let to_be_made = |schema: &String, there: bool| !there && self.creates_schema() && !all.contains(schema);
        let mut rights: HashMap<String, OwnTables> = HashMap::new();
        for (name, there) in places.iter().flatten() {
            let schema = of(name);
            let made = to_be_made(&schema, *there);
            let own = (!there || ledger.is_none()).then_some(schema);
            for schema in own.into_iter().chain(ledger.clone()) {
                if let Entry::Vacant(entry) = rights.entry(schema) {
                    let own = OwnTables::look(session, entry.key().clone(), made).await?;
                    entry.insert(own);
                }
            }
        }
        let known = places.into_iter().map(|place| {
            let (name, there) = place?;
            let table = match (there, tables.remove(&name)) {
                (true, None) => return Err(Error::new(ErrorKind::NotFound, "the table is gone").with("table", name)),
                (_, table) => table.map(Table::shown).transpose()?,
            };
            let schema = of(&name);
            let rights_in = |schema: &String| rights.get(schema).cloned().unwrap_or_default();
            let create_missing = if there { Vec::new() } else { rights_in(&schema).staging };
            let id = table.as_ref().map(|table| table.id).unwrap_or_default();
            Ok(Known {
                server: server.clone(),
                keys: keys.remove(&id).unwrap_or_default(),
                indexes: indexes.remove(&id).unwrap_or_default(),
                own: rights_in(ledger.as_ref().unwrap_or(&schema)),
                create_schema: to_be_made(&schema, there).then_some(schema),
                create_missing,
                table,
                name,
            })
        });
        Ok(known.collect())
    }

    /// What the server says of the table now.
    pub(crate) async fn ask(&self, session: &mut Session) -> Result<Known> {
        let known = self.read(session, std::slice::from_ref(&self.table)).await?.pop();
        known.unwrap_or_else(|| Err(Error::internal("a table was asked for, and no answer came")))
    }

    /// As [`ask`](Self::ask), by a session of its own.
    pub(crate) async fn ask_now(&self) -> Result<Known> {
        let mut session = self.connect().await?;
        let known = self.ask(&mut session).await?;
        session.rest().await;
        Ok(known)
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
        known.keys.retain(|one| !dropped.contains(&own, &one.key.name));
        if let Some(table) = &mut known.table {
            table.referenced_by.retain(|by| !dropped.contains(&by.table, &by.key));
        }
        known
    }
}

/// Under which name something of these servers is left for their writers.
pub(crate) fn place(what: &str, config: &SqlServerWriterConfig, options: &[Options]) -> String {
    let of = |o: &Options| format!("{}@{}/{}", o.user, o.place(), o.database.as_deref().unwrap_or_default());
    let ledger = config.common.ledger.schema.as_deref().unwrap_or_default();
    format!("sqlserver {what} of {} {ledger}", options.first().map(of).unwrap_or_default())
}
