//! Looking around in a system: optional for sources and targets.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::database::Part;
use crate::{Error, ErrorKind, Result, TableDescription};

/// Lists what a system holds, for `weir tables` and whole-database jobs.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Tables and views that the user may see, in name order, system schemas and Weir's own `weir_*` tables left out.
    /// `pattern` is a glob over the name as [`TableInfo::name`] shows it (`*` any text, `?` one character).
    async fn tables(&self, pattern: Option<&str>) -> Result<Vec<TableInfo>>;

    /// Everything that a whole-database job may select: the same objects as [`tables`](Self::tables), of all schemas that the
    /// connection reaches, with their names in parts. One read of the catalogue, however many there are; where each database
    /// has a catalogue of its own, one of each database that the job `looks_into`, beside the connection's own.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) by default.
    async fn objects(&self, looks_into: &LooksInto<'_>) -> Result<Objects> {
        let _ = looks_into;
        Err(Error::new(ErrorKind::Unsupported, "whole-database jobs cannot list what this system holds"))
    }

    /// The structure of these objects, in their order, by as many queries as for one of them. An object that is gone is
    /// left out.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) by default.
    async fn describe(&self, names: &[ObjectName]) -> Result<Vec<TableDescription>> {
        let _ = names;
        Err(Error::new(ErrorKind::Unsupported, "whole-database jobs cannot read the structure of this system's tables"))
    }

    /// Reads what readers ask of these tables before they read them, by as many queries as for one of them, and leaves it for
    /// those that are opened with the same [`ConnectorContext::shared`](crate::ConnectorContext) until what is given is
    /// dropped. What is wrong with one table is told by its reader. `None`, by default, where each reader asks for itself.
    async fn look_ahead(&self, tables: &[ObjectName]) -> Result<Option<Hold>> {
        let _ = tables;
        Ok(None)
    }

    /// Begins one snapshot for all readers of these tables that are opened with the same
    /// [`ConnectorContext::shared`](crate::ConnectorContext), and lasts until its `hold` is dropped; `connections` of them read
    /// at once. It brings along what [`look_ahead`](Self::look_ahead) does. `None`, by default, where each reader sees to
    /// itself.
    async fn snapshot(&self, tables: &[ObjectName], connections: usize) -> Result<Option<SourceSnapshot>> {
        let _ = (tables, connections);
        Ok(None)
    }
}

/// A snapshot of a whole source. What is wrong with one table (it is locked, or gone) is told by the reader of that table.
pub struct SourceSnapshot {
    /// For the plan and the report.
    pub description: String,
    /// Whatever keeps it alive.
    pub hold: Hold,
}

/// What keeps something alive until it is dropped.
pub type Hold = Box<dyn std::any::Any + Send + Sync>;

/// Whether somebody looks for tables in the database of this name, one beside the connection's own.
pub type LooksInto<'a> = dyn Fn(&str) -> bool + Send + Sync + 'a;

/// A table as a catalogue lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableInfo {
    /// The name as a job may write it: `orders`, `public.orders`.
    pub name: String,
    /// `table`, `view`, `materialized view`, `file` …
    pub kind: String,
    /// Estimated rows.
    pub rows: Option<u64>,
    /// Estimated bytes on disk.
    pub bytes: Option<u64>,
}

/// What a connection reaches.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// The connection's own database, where it has one: what a pattern without this part means.
    pub database: Option<String>,
    /// The connection's own schema, in systems that have schemas inside of databases.
    pub schema: Option<String>,
    /// Whether names that differ only in the case of letters are one.
    pub ignores_case: bool,
    /// Tables, views and the like, in name order.
    pub list: Vec<Object>,
    /// The server's databases beside the connection's own, where each has a catalogue of its own and the connection's user
    /// may get into others; in name order.
    pub others: Vec<OtherDatabase>,
    /// Schemas whose tables are in the list although the connection's user may not look into them.
    pub closed_schemas: Vec<String>,
    /// Whether the server shows a user only what he has a right to: what is not in the list may be there all the same.
    pub hides: bool,
}

impl Objects {
    /// Which of the databases that somebody looks into are closed, each in a sentence: ``database `a` is offline``.
    pub fn closed(&self, looks_into: &LooksInto<'_>) -> Vec<String> {
        let wanted = self.others.iter().filter(|other| looks_into(&other.name));
        let closed = wanted.filter_map(|other| match &other.seen {
            Seen::Closed(reason) => Some(format!("database `{}` {reason}", other.name)),
            _ => None,
        });
        closed.collect()
    }

    /// Why nothing was seen of any database that somebody looks into, if that is so.
    pub fn unseen(&self, looks_into: &LooksInto<'_>) -> Option<String> {
        let own = self.database.as_deref();
        let listed = self.others.iter().filter(|other| other.seen == Seen::Listed).map(|other| other.name.as_str());
        if own.into_iter().chain(listed).any(looks_into) {
            return None;
        }
        let closed = self.closed(looks_into);
        if !closed.is_empty() {
            return Some(closed.join("; "));
        }
        let own = own?;
        if self.others.is_empty() {
            return Some(format!("the connection shows {own} alone: each further database is a source of its own"));
        }
        let others = self.others.iter().map(|other| other.name.as_str());
        let mut all: Vec<&str> = std::iter::once(own).chain(others).collect();
        let more = all.len().saturating_sub(SHOWN);
        all.truncate(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Some(format!("the server shows no such database; there are: {}{more}", all.join(", ")))
    }
}

/// The most databases that a message names.
const SHOWN: usize = 20;

/// A database beside the connection's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherDatabase {
    /// Its name.
    pub name: String,
    /// What was seen of it.
    pub seen: Seen,
}

/// What a catalogue has seen of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Its tables: they are in the list.
    Listed,
    /// Nothing, for nobody asked.
    Unasked,
    /// Nothing, for this reason, in words that follow its name: `is offline`.
    Closed(String),
}

/// One table, view or the like.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its name.
    pub name: ObjectName,
    /// What it is.
    pub kind: ObjectKind,
    /// Estimated rows.
    pub rows: Option<u64>,
    /// Estimated bytes on disk.
    pub bytes: Option<u64>,
}

/// The parts of a name, as the system has them: unquoted, in its own spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectName {
    /// The database: MySQL's and SQL Server's database, the one that PostgreSQL is connected to, the stem of SQLite's file.
    pub database: String,
    /// The schema inside the database; `None` in systems that have none (MySQL, SQLite).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The table.
    pub table: String,
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.", Part(&self.database))?;
        if let Some(schema) = &self.schema {
            write!(f, "{}.", Part(schema))?;
        }
        Part(&self.table).fmt(f)
    }
}

/// What an object is. Whole-database jobs take tables, and the others only when asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A table, partitioned ones as a whole.
    Table,
    /// A view, materialised or not.
    View,
    /// What lives elsewhere: foreign and virtual tables.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_looks_for_a_database_in_vain_is_told_why() {
        let other = |name: &str, seen| OtherDatabase { name: name.into(), seen };
        let alone = Objects { database: Some("shop".into()), ..Objects::default() };
        let is = |wanted: &'static str| move |name: &str| name == wanted;
        assert!(alone.unseen(&is("other")).unwrap().contains("shows shop alone"));
        assert_eq!(alone.unseen(&is("shop")), None);
        let closed = Seen::Closed("is offline".into());
        let others = vec![other("a", Seen::Listed), other("b", closed), other("c", Seen::Unasked)];
        let several = Objects { others, ..alone };
        assert_eq!(several.unseen(&is("a")), None);
        assert_eq!(several.unseen(&is("b")).as_deref(), Some("database `b` is offline"));
        assert!(several.unseen(&is("d")).unwrap().ends_with("there are: shop, a, b, c"));
        assert_eq!(several.unseen(&|_| true), None);
        assert_eq!(several.closed(&|_| true), ["database `b` is offline"]);
    }
}
