//! Looking around in a system: optional for sources and targets.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result, TableDescription};

/// Lists what a system holds, for `weir tables` and whole-database jobs.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Tables and views that the user may see, in name order, system schemas and Weir's own `weir_*` tables left out.
    /// `pattern` is a glob over the name as [`TableInfo::name`] shows it (`*` any text, `?` one character).
    async fn tables(&self, pattern: Option<&str>) -> Result<Vec<TableInfo>>;

    /// Everything that a whole-database job may select: the same objects as [`tables`](Self::tables), of all databases and
    /// schemas that the connection reaches, with their names in parts. One read of the catalogue, however many there are.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) by default.
    async fn objects(&self) -> Result<Objects> {
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
    /// The database: MySQL's database, the one that PostgreSQL and SQL Server are connected to, the stem of SQLite's file.
    pub database: String,
    /// The schema inside the database; `None` in systems that have none (MySQL, SQLite).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The table.
    pub table: String,
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.", self.database)?;
        if let Some(schema) = &self.schema {
            write!(f, "{schema}.")?;
        }
        f.write_str(&self.table)
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
