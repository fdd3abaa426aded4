//! The catalogue of a server: the connection's database, and those others that somebody looks into.

use async_trait::async_trait;
use weir_core::{
    Catalog, ConnectorContext, Error, ErrorKind, Hold, LetterCase, LooksInto, Object, ObjectKind, ObjectName, Objects,
    Result, Shared, TableDescription, TableInfo, glob,
};
use weir_sql::{Ahead, TableName};

use crate::QUOTING;
use crate::connection::{Session, connect_first};
use crate::databases::entered;
use crate::server::{Server, server};
use crate::session::Setup;
use crate::structure::describe_all;
use crate::table::{Table, describe_tables};
use crate::url::Options;

/// The catalogue of a server.
pub struct SqlServerCatalog {
    /// The servers, of which the first that answers is asked.
    pub options: Vec<Options>,
    /// What every session says first.
    pub setup: Setup,
    /// Cancellation.
    pub context: ConnectorContext,
}

impl SqlServerCatalog {
    async fn connect(&self) -> Result<Session> {
        connect_first(&self.options, &self.setup, &self.context).await
    }
}

#[async_trait]
impl Catalog for SqlServerCatalog {
    /// Names are those of the connection's database. A pattern of three parts is one over whole names.
    async fn tables(&self, pattern: Option<&str>) -> Result<Vec<TableInfo>> {
        let database = pattern.and_then(database_of);
        let wanted = |name: &str| database.as_ref().is_some_and(|of| glob(of, name, LetterCase::Ignore));
        let objects = self.objects(&wanted).await?;
        let name = |object: &Object| shown(&object.name, &objects, database.is_some());
        let pattern = pattern.map(plain);
        let fits = |name: &str| pattern.as_deref().is_none_or(|p| glob(p, &plain(name), LetterCase::Ignore));
        let named = objects.list.iter().map(|object| (name(object), object)).filter(|(name, _)| fits(name));
        let mut tables: Vec<TableInfo> = named
            .map(|(name, object)| TableInfo {
                name,
                kind: if object.kind == ObjectKind::View { "view" } else { "table" }.into(),
                rows: object.rows,
                bytes: object.bytes,
            })
            .collect();
        if let (true, Some(reason)) = (tables.is_empty() && database.is_some(), objects.unseen(&wanted)) {
            return Err(Error::new(ErrorKind::NotFound, reason));
        }
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tables)
    }

    async fn objects(&self, looks_into: &LooksInto<'_>) -> Result<Objects> {
        let mut session = self.connect().await?;
        let objects = crate::objects::objects(&mut session, looks_into).await?;
        session.rest().await;
        Ok(objects)
    }

    async fn describe(&self, names: &[ObjectName]) -> Result<Vec<TableDescription>> {
        let mut session = self.connect().await?;
        let mut here = server(&mut session).await?;
        let mut tables = Vec::with_capacity(names.len());
        for names in names.chunk_by(|a, b| a.database == b.database) {
            if entered(&mut session, &mut here, &names[0].database).await? {
                tables.extend(describe_all(&mut session, &here, names).await?);
            }
        }
        session.rest().await;
        Ok(tables)
    }

    async fn look_ahead(&self, tables: &[ObjectName]) -> Result<Option<Hold>> {
        let mut session = self.connect().await?;
        let mut here = server(&mut session).await?;
        let own = here.database.clone();
        let mut held = Vec::new();
        for names in tables.chunk_by(|a, b| a.database == b.database) {
            let database = &names[0].database;
            // What is wrong with one is told by its own reader.
            if !entered(&mut session, &mut here, database).await? {
                continue;
            }
            let names = names.iter().filter(|name| name.schema.is_some());
            let names: Vec<_> = names.map(|n| TableName { schema: n.schema.clone(), name: n.table.clone() }).collect();
            let mut found = describe_tables(&mut session, &names).await?;
            found.retain(|table| !table.columns.is_empty());
            let found = found.into_iter().map(|table| (table.name.clone(), (here.clone(), table))).collect();
            let place = match *database == own {
                true => ahead(&self.options),
                false => ahead(&Options::in_database(&self.options, database)),
            };
            held.push(Ahead::leave(&self.context.shared, place, found));
        }
        session.rest().await;
        Ok(Some(Box::new(held)))
    }
}

/// The part of a pattern that is about databases, if it has one.
fn database_of(pattern: &str) -> Option<String> {
    let parts = QUOTING.parts(pattern).filter(|parts| parts.len() == 3)?;
    parts.into_iter().next()
}

/// A name without quotation marks, for patterns.
fn plain(name: &str) -> String {
    name.replace(['[', ']'], "")
}

/// A name as a job may write it: where it is not asked for as a `whole`, without the parts that are the connection's own.
fn shown(name: &ObjectName, of: &Objects, whole: bool) -> String {
    let part = |text: &str| match text.contains(['.', '[', ']', ',', '"']) {
        true => QUOTING.quote(text),
        false => text.to_owned(),
    };
    let schema = name.schema.as_deref().filter(|_| whole || name.schema != of.schema);
    let parts = Some(name.database.as_str()).filter(|_| whole).into_iter().chain(schema).chain([name.table.as_str()]);
    parts.map(part).collect::<Vec<_>>().join(".")
}

/// Under which name tables of these servers are left for their readers.
fn ahead(options: &[Options]) -> String {
    let of = |o: &Options| format!("{}@{}/{}", o.user, o.place(), o.database.as_deref().unwrap_or_default());
    format!("sqlserver tables of {}", options.first().map(of).unwrap_or_default())
}

/// What a look ahead has found of a table and its server; `name` with its schema.
pub fn looked_ahead(shared: &Shared, options: &[Options], name: &TableName) -> Option<(Server, Table)> {
    Ahead::find(shared, &ahead(options), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pattern_of_three_parts_is_about_databases() {
        assert_eq!(database_of("shop_*.dbo.orders").as_deref(), Some("shop_*"));
        assert_eq!(database_of("[a.b].dbo.[x.y]").as_deref(), Some("a.b"));
        assert_eq!([database_of("dbo.*"), database_of("*"), database_of("a.b.c.d")], [None, None, None]);
    }

    #[test]
    fn names_are_whole_where_they_are_asked_for() {
        let of = Objects { database: Some("shop".into()), schema: Some("dbo".into()), ..Objects::default() };
        let name = |database: &str, schema: &str, table: &str| ObjectName {
            database: database.into(),
            schema: Some(schema.into()),
            table: table.into(),
        };
        assert_eq!(shown(&name("shop", "dbo", "a.b"), &of, false), "[a.b]");
        assert_eq!(shown(&name("shop", "sales", "t"), &of, false), "sales.t");
        assert_eq!(shown(&name("x.y", "dbo", "t]"), &of, true), "[x.y].dbo.[t]]]");
    }
}
