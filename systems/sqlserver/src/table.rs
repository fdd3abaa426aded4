//! What readers and writers know of tables: columns, keys, estimates, in a few queries for any number of them.

use std::collections::{BTreeMap, HashMap};

use tiberius::Row;
use weir_core::{Error, ErrorKind, Result};
use weir_sql::TableName;

use crate::QUOTING;
use crate::cells::{number, optional, text};
use crate::connection::{Session, literal};
use crate::sizes::sizes;
use crate::types::{Kind, type_text};

/// A table and what is known of it.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its number (`object_id`).
    pub id: i64,
    /// Its schema and name, as the server spells them.
    pub name: TableName,
    /// Whether it is a view.
    pub view: bool,
    /// Estimated rows.
    pub rows: Option<u64>,
    /// Estimated bytes, indexes left out.
    pub bytes: Option<u64>,
    /// The columns.
    pub columns: Vec<Column>,
    /// The unique keys' columns by name, those with a filter left out.
    pub unique: Vec<Unique>,
    /// The conditions of its CHECK constraints that hold for every row.
    pub checks: Vec<String>,
    /// The foreign keys on this table, its own on itself included.
    pub referenced_by: Vec<Reference>,
}

/// A unique key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// Whether it is the primary key.
    pub primary: bool,
    /// Its columns.
    pub columns: Vec<String>,
}

/// A foreign key of another table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The table that has it, with its schema.
    pub table: String,
    /// Its name there.
    pub key: String,
    /// Whether its rows go or change when a row here is deleted.
    pub cascades: bool,
}

/// A column of a table.
#[derive(Debug, Clone)]
pub struct Column {
    /// The name.
    pub name: String,
    /// The type text, `decimal(10,2)`; of an alias type what lies below.
    pub type_text: String,
    /// The type.
    pub kind: Kind,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// Whether the server fills it when a row does not name it.
    pub has_default: bool,
    /// Whether the server numbers it.
    pub identity: bool,
    /// Whether it is computed, or a row's version, and cannot be written.
    pub generated: bool,
    /// The position in the primary key, from 1.
    pub key: Option<u32>,
    /// The collation of a text column.
    pub collation: Option<String>,
    /// The comment (the extended property `MS_Description`).
    pub comment: Option<String>,
}

impl Table {
    /// The primary key's columns.
    pub fn primary_key(&self) -> &[String] {
        self.unique.iter().find(|u| u.primary).map_or(&[], |u| &u.columns)
    }

    /// The table, if the user may see it.
    ///
    /// # Errors
    /// It has no columns for the user.
    pub fn shown(self) -> Result<Self> {
        if self.columns.is_empty() {
            let error = Error::new(ErrorKind::Denied, "the table shows no columns: grant SELECT on it");
            return Err(error.with("table", self.name));
        }
        Ok(self)
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }
}

/// How many tables one statement asks about.
pub const AT_ONCE: usize = 500;

/// Everything about a table; `name` as [`find_table`](crate::find_table) gave it.
///
/// # Errors
/// The server's.
pub async fn describe(session: &mut Session, name: &TableName) -> Result<Table> {
    let found = describe_tables(session, std::slice::from_ref(name)).await?.pop();
    found.ok_or_else(|| Error::new(ErrorKind::NotFound, "the table is gone").with("table", name))?.shown()
}

/// Everything about some tables, in a few queries for all of them, by their exact names with their schemas; those that are
/// gone are left out, and one that the user may not see has no columns.
///
/// # Errors
/// The server's.
pub async fn describe_tables(session: &mut Session, names: &[TableName]) -> Result<Vec<Table>> {
    let mut all = Vec::with_capacity(names.len());
    for names in names.chunks(AT_ONCE) {
        let mut tables = heads(session, names).await?;
        if tables.is_empty() {
            continue;
        }
        let among = format!("IN ({})", tables.keys().map(i64::to_string).collect::<Vec<_>>().join(", "));
        unique_keys(session, &among, &mut tables).await?;
        columns(session, &among, &mut tables).await?;
        sizes_of(session, &among, &mut tables).await?;
        checks(session, &among, &mut tables).await?;
        references(session, &among, &mut tables).await?;
        let mut found: HashMap<TableName, Table> = tables.into_values().map(|t| (t.name.clone(), t)).collect();
        all.extend(names.iter().filter_map(|name| found.remove(name)));
    }
    Ok(all)
}

/// Tables by their numbers.
pub(crate) type Tables = BTreeMap<i64, Table>;

pub(crate) async fn heads(session: &mut Session, names: &[TableName]) -> Result<Tables> {
    let pair = |name: &TableName| {
        let schema = literal(name.schema.as_deref().unwrap_or_default());
        format!("s.name = {schema} AND o.name = {}", literal(&name.name))
    };
    let pairs: Vec<_> = names.iter().map(pair).collect();
    let rows = session
        .rows(&format!(
            "SELECT CAST(o.object_id AS bigint), CAST(o.type AS nvarchar(2)), CAST(s.name AS nvarchar(128)), \
             CAST(o.name AS nvarchar(128)) FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id \
             WHERE o.type IN ('U', 'V') AND ({})",
            pairs.join(" OR ")
        ))
        .await?;
    let of = |row: &Row| {
        let id = number(row, 0)?;
        let table = Table {
            id,
            name: TableName { schema: text(row, 2), name: text(row, 3)? },
            view: text(row, 1).is_some_and(|t| t.trim() == "V"),
            rows: None,
            bytes: None,
            columns: Vec::new(),
            unique: Vec::new(),
            checks: Vec::new(),
            referenced_by: Vec::new(),
        };
        Some((id, table))
    };
    Ok(rows.iter().filter_map(of).collect())
}

/// The table that a row is about, by the number in its first cell.
fn table_of<'a>(tables: &'a mut Tables, row: &Row) -> Option<&'a mut Table> {
    tables.get_mut(&number(row, 0)?)
}

async fn checks(session: &mut Session, among: &str, tables: &mut Tables) -> Result<()> {
    let sql = format!(
        "SELECT CAST(parent_object_id AS bigint), CAST(definition AS nvarchar(max)) FROM sys.check_constraints \
         WHERE parent_object_id {among} AND is_disabled = 0 ORDER BY object_id"
    );
    for row in &optional(session, &sql).await? {
        let Some(table) = table_of(tables, row) else { continue };
        table.checks.extend(text(row, 1));
    }
    Ok(())
}

async fn references(session: &mut Session, among: &str, tables: &mut Tables) -> Result<()> {
    let rows = session
        .rows(&format!(
            "SELECT CAST(f.referenced_object_id AS bigint), CAST(SCHEMA_NAME(o.schema_id) AS nvarchar(128)), \
             CAST(o.name AS nvarchar(128)), CAST(f.delete_referential_action AS bigint), CAST(f.name AS nvarchar(128)) \
             FROM sys.foreign_keys f JOIN sys.objects o ON o.object_id = f.parent_object_id \
             WHERE f.referenced_object_id {among} AND f.is_disabled = 0 ORDER BY 1, 2, 3, 5"
        ))
        .await?;
    for row in &rows {
        let Some(table) = table_of(tables, row) else { continue };
        table.referenced_by.push(Reference {
            table: format!("{}.{}", text(row, 1).unwrap_or_default(), text(row, 2).unwrap_or_default()),
            key: text(row, 4).unwrap_or_default(),
            cascades: number(row, 3).unwrap_or_default() != 0,
        });
    }
    Ok(())
}

/// What the server counts of tables: no more than an estimate, and not every relative has one.
async fn sizes_of(session: &mut Session, among: &str, tables: &mut Tables) -> Result<()> {
    let sizes = sizes(session, &format!("object_id {among}")).await?;
    for (id, table) in tables.iter_mut().filter(|(_, table)| !table.view) {
        (table.rows, table.bytes) = sizes.get(id).copied().unwrap_or_default();
    }
    Ok(())
}

/// Whether an index begins with the column, so that a range of its values is found without looking through the table.
///
/// # Errors
/// The server's.
pub async fn leads_index(session: &mut Session, table: &TableName, column: &str) -> Result<bool> {
    let sql = format!(
        "SELECT CAST(COUNT(*) AS bigint) FROM sys.indexes i \
         JOIN sys.index_columns k ON k.object_id = i.object_id AND k.index_id = i.index_id AND k.key_ordinal = 1 \
         JOIN sys.columns c ON c.object_id = k.object_id AND c.column_id = k.column_id \
         WHERE i.object_id = OBJECT_ID({}) AND i.is_disabled = 0 AND i.has_filter = 0 AND c.name = {}",
        literal(&table.quoted(QUOTING)),
        literal(column)
    );
    Ok(session.row(&sql).await?.as_ref().and_then(|row| number(row, 0)).unwrap_or_default() > 0)
}

async fn unique_keys(session: &mut Session, among: &str, tables: &mut Tables) -> Result<()> {
    let rows = session
        .rows(&format!(
            "SELECT CAST(i.object_id AS bigint), CAST(i.index_id AS bigint), CAST(i.is_primary_key AS bigint), \
             CAST(c.name AS nvarchar(128)) \
             FROM sys.indexes i JOIN sys.index_columns k ON k.object_id = i.object_id AND k.index_id = i.index_id \
             JOIN sys.columns c ON c.object_id = k.object_id AND c.column_id = k.column_id \
             WHERE i.object_id {among} AND i.is_unique = 1 AND i.is_disabled = 0 AND i.has_filter = 0 \
             AND k.is_included_column = 0 \
             ORDER BY i.object_id, i.is_primary_key DESC, i.index_id, k.key_ordinal"
        ))
        .await?;
    let mut last = None;
    for row in &rows {
        let Some(table) = table_of(tables, row) else { continue };
        let column = text(row, 3).unwrap_or_default();
        let index = Some((number(row, 0), number(row, 1)));
        match table.unique.last_mut().filter(|_| last == index) {
            Some(unique) => unique.columns.push(column),
            None => table.unique.push(Unique { primary: number(row, 2) == Some(1), columns: vec![column] }),
        }
        last = index;
    }
    Ok(())
}

/// The number of a column's type, of columns `c`: an alias type is what lies below it, and a CLR type, which has no system
/// type of its own, itself.
pub(crate) const BASE_TYPE: &str =
    "CAST(CASE WHEN c.system_type_id = 240 THEN c.user_type_id ELSE c.system_type_id END AS bigint)";

/// The columns; the keys are known.
async fn columns(session: &mut Session, among: &str, tables: &mut Tables) -> Result<()> {
    let types = session.type_names().await?;
    let rows = session
        .rows(&format!(
            "SELECT CAST(c.object_id AS bigint), CAST(c.name AS nvarchar(128)), {BASE_TYPE}, \
             CAST(c.max_length AS bigint), CAST(c.precision AS bigint), CAST(c.scale AS bigint), \
             CAST(c.is_nullable AS bigint), CAST(c.is_identity AS bigint), CAST(c.is_computed AS bigint), \
             CAST(c.default_object_id AS bigint), CAST(c.collation_name AS nvarchar(128)), CAST(c.column_id AS bigint) \
             FROM sys.columns c WHERE c.object_id {among} ORDER BY c.object_id, c.column_id"
        ))
        .await?;
    let comments = optional(
        session,
        &format!(
            "SELECT CAST(major_id AS bigint), CAST(minor_id AS bigint), CAST(value AS nvarchar(4000)) \
             FROM sys.extended_properties WHERE class = 1 AND major_id {among} AND name = 'MS_Description'"
        ),
    )
    .await?;
    let comments: HashMap<_, _> =
        comments.iter().filter_map(|row| Some(((number(row, 0)?, number(row, 1)?), text(row, 2)?))).collect();
    for row in &rows {
        let Some(table) = table_of(tables, row) else { continue };
        let name = text(row, 1).unwrap_or_default();
        let base = number(row, 2).and_then(|id| types.get(&id)).map_or("", String::as_str);
        let size = |at: usize| number(row, at).unwrap_or_default();
        let flag = |at: usize| size(at) != 0;
        let type_text = type_text(base, size(3), size(4), size(5));
        let kind = Kind::parse(&type_text);
        let generated = flag(8) || kind == Kind::RowVersion;
        table.columns.push(Column {
            nullable: flag(6),
            has_default: flag(7) || generated || flag(9),
            identity: flag(7),
            generated,
            key: table.primary_key().iter().position(|n| *n == name).map(|i| i as u32 + 1),
            collation: text(row, 10),
            comment: comments.get(&(size(0), size(11))).filter(|c| !c.is_empty()).cloned(),
            name,
            type_text,
            kind,
        });
    }
    Ok(())
}
