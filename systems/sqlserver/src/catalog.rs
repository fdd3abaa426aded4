//! What a server holds: tables, columns, keys, estimates.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use tiberius::{ColumnData, Row};
use weir_core::config::nearest;
use weir_core::{
    Catalog, ConnectorContext, Error, ErrorKind, Hold, LetterCase, ObjectName, Objects, Result, Shared,
    TableDescription, TableInfo, glob,
};
use weir_sql::{Ahead, TableName, find_name};

use crate::QUOTING;
use crate::connection::{Session, connect_first, literal};
use crate::session::Setup;
use crate::structure::describe_all;
use crate::types::{Kind, type_text};
use crate::url::Options;

/// What a server is, and what the session's database has set.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its version.
    pub version: String,
    /// Whether it is Babelfish for PostgreSQL.
    pub babelfish: bool,
    /// The session's database.
    pub database: String,
    /// The user's default schema.
    pub schema: String,
    /// Whether the database allows snapshot isolation.
    pub snapshot: bool,
    /// Whether its statements read committed rows from versions, without locks.
    pub versioned: bool,
    /// The database's collation.
    pub collation: Option<String>,
}

/// A table and what is known of it.
#[derive(Debug, Clone)]
pub struct Table {
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

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }
}

/// A cell as an integer, whatever its width.
pub fn number(row: &Row, at: usize) -> Option<i64> {
    match row.cells().nth(at)?.1 {
        ColumnData::U8(n) => n.map(i64::from),
        ColumnData::I16(n) => n.map(i64::from),
        ColumnData::I32(n) => n.map(i64::from),
        ColumnData::I64(n) => *n,
        ColumnData::Bit(b) => b.map(i64::from),
        _ => None,
    }
}

/// A cell as text.
pub fn text(row: &Row, at: usize) -> Option<String> {
    match row.cells().nth(at)?.1 {
        ColumnData::String(Some(text)) => Some(text.to_string()),
        _ => None,
    }
}

/// A cell of bytes, in hexadecimal.
pub fn hexadecimal(row: &Row, at: usize) -> Option<String> {
    match row.cells().nth(at)?.1 {
        ColumnData::Binary(Some(bytes)) => Some(bytes.iter().map(|b| format!("{b:02X}")).collect()),
        _ => None,
    }
}

/// Asks the server what it is.
///
/// # Errors
/// The server's.
pub async fn server(session: &mut Session) -> Result<Server> {
    let row = session
        .row(
            "SELECT CAST(@@VERSION AS nvarchar(4000)), DB_NAME(), SCHEMA_NAME(), \
             CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)), \
             CAST(DATABASEPROPERTYEX(DB_NAME(), 'Collation') AS nvarchar(128))",
        )
        .await?
        .ok_or_else(|| Error::internal("the server says nothing"))?;
    let banner = text(&row, 0).unwrap_or_default();
    let babelfish = banner.contains("Babelfish");
    let product = text(&row, 3).unwrap_or_default();
    let version = match babelfish {
        true => banner.lines().next().unwrap_or_default().trim().to_owned(),
        false => product,
    };
    let settings = session
        .row(
            "SELECT CAST(snapshot_isolation_state AS bigint), CAST(is_read_committed_snapshot_on AS bigint) \
             FROM sys.databases WHERE name = DB_NAME()",
        )
        .await?;
    let on = |at| settings.as_ref().and_then(|row| number(row, at)) == Some(1);
    Ok(Server {
        version,
        babelfish,
        database: text(&row, 1).unwrap_or_default(),
        schema: text(&row, 2).unwrap_or_else(|| "dbo".into()),
        snapshot: on(0),
        versioned: on(1),
        collation: text(&row, 4),
    })
}

/// Finds the schema of a table as a job names it: its own, or the user's default one.
///
/// # Errors
/// There is no such schema.
pub async fn find_schema(session: &mut Session, wanted: &TableName, server: &Server) -> Result<String> {
    let Some(schema) = &wanted.schema else { return Ok(server.schema.clone()) };
    let rows = session.rows("SELECT CAST(name AS nvarchar(128)) FROM sys.schemas ORDER BY name").await?;
    let names: Vec<String> = rows.iter().filter_map(|row| text(row, 0)).collect();
    let at = find_name("schema", schema, names.iter().map(String::as_str))?;
    Ok(names[at].clone())
}

/// Finds a table or view as a job names it: exactly, else in any case if that is unique.
///
/// # Errors
/// No such schema or table, with the nearest name.
pub async fn find_table(session: &mut Session, wanted: &TableName, server: &Server) -> Result<TableName> {
    // Who writes it exactly needs no list of all that there are.
    let exact = TableName { schema: wanted.schema.clone().or(Some(server.schema.clone())), name: wanted.name.clone() };
    if heads(session, std::slice::from_ref(&exact)).await?.values().any(|table| table.name == exact) {
        return Ok(exact);
    }
    let schema = find_schema(session, wanted, server).await?;
    let rows = session
        .rows(&format!(
            "SELECT CAST(o.name AS nvarchar(128)) FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id \
             WHERE o.type IN ('U', 'V') AND s.name = {} ORDER BY o.name",
            literal(&schema)
        ))
        .await?;
    let names: Vec<String> = rows.iter().filter_map(|row| text(row, 0)).collect();
    let at = find_name("table", &wanted.name, names.iter().map(String::as_str)).map_err(|error| {
        // Weir's own tables are nobody's typing error.
        let near = nearest(&wanted.name, names.iter().map(String::as_str).filter(|n| !n.starts_with("weir_")));
        match (error.kind(), near) {
            (ErrorKind::NotFound, Some(near)) => Error::new(
                ErrorKind::NotFound,
                format!("no such table: `{}` in schema `{schema}`; did you mean `{near}`?", wanted.name),
            ),
            _ => error.with("schema", &schema).with("database", &server.database),
        }
    })?;
    Ok(TableName { schema: Some(schema), name: names[at].clone() })
}

/// Whether there is such a table; the name with its schema.
///
/// # Errors
/// The server's.
pub async fn exists(session: &mut Session, table: &TableName) -> Result<bool> {
    let sql = format!("SELECT CAST(OBJECT_ID({}, N'U') AS bigint)", literal(&table.quoted(QUOTING)));
    Ok(session.row(&sql).await?.as_ref().and_then(|row| number(row, 0)).is_some())
}

/// Whether the name, with its schema, is that of a table, a constraint or anything else.
///
/// # Errors
/// The server's.
pub async fn exists_object(session: &mut Session, name: &TableName) -> Result<bool> {
    let sql = format!("SELECT CAST(OBJECT_ID({}) AS bigint)", literal(&name.quoted(QUOTING)));
    Ok(session.row(&sql).await?.as_ref().and_then(|row| number(row, 0)).is_some())
}

/// How many tables one statement asks about.
pub(crate) const AT_ONCE: usize = 500;

/// Everything about a table; `name` as [`find_table`] gave it.
///
/// # Errors
/// The server's.
pub async fn describe(session: &mut Session, name: &TableName) -> Result<Table> {
    let found = describe_tables(session, std::slice::from_ref(name)).await?.pop();
    let table = found.ok_or_else(|| Error::new(ErrorKind::NotFound, "the table is gone").with("table", name))?;
    if table.columns.is_empty() {
        return Err(Error::new(ErrorKind::Denied, "the table shows no columns: grant SELECT on it").with("table", name));
    }
    Ok(table)
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
type Tables = BTreeMap<i64, Table>;

async fn heads(session: &mut Session, names: &[TableName]) -> Result<Tables> {
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
        let table = Table {
            name: TableName { schema: text(row, 2), name: text(row, 3)? },
            view: text(row, 1).is_some_and(|t| t.trim() == "V"),
            rows: None,
            bytes: None,
            columns: Vec::new(),
            unique: Vec::new(),
            checks: Vec::new(),
            referenced_by: Vec::new(),
        };
        Some((number(row, 0)?, table))
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
             CAST(o.name AS nvarchar(128)), CAST(f.delete_referential_action AS bigint) \
             FROM sys.foreign_keys f JOIN sys.objects o ON o.object_id = f.parent_object_id \
             WHERE f.referenced_object_id {among} AND f.is_disabled = 0 ORDER BY 1, 2, 3"
        ))
        .await?;
    for row in &rows {
        let Some(table) = table_of(tables, row) else { continue };
        table.referenced_by.push(Reference {
            table: format!("{}.{}", text(row, 1).unwrap_or_default(), text(row, 2).unwrap_or_default()),
            cascades: number(row, 3).unwrap_or_default() != 0,
        });
    }
    Ok(())
}

/// Rows of a query that a relative, or a user with few rights, may not be given an answer to.
pub(crate) async fn optional(session: &mut Session, sql: &str) -> Result<Vec<Row>> {
    match session.rows(sql).await {
        Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Unreachable | ErrorKind::Timeout) => {
            Err(error)
        }
        rows => Ok(rows.unwrap_or_default()),
    }
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

/// The catalogue of the connection's database.
pub struct SqlServerCatalog {
    /// The servers, of which the first that answers is asked.
    pub options: Vec<Options>,
    /// What every session says first.
    pub setup: Setup,
    /// Cancellation.
    pub context: ConnectorContext,
}

#[async_trait]
impl Catalog for SqlServerCatalog {
    async fn tables(&self, pattern: Option<&str>) -> Result<Vec<TableInfo>> {
        let mut session = connect_first(&self.options, &self.setup, &self.context).await?;
        let listed = session
            .rows(
                "SELECT CAST(s.name AS nvarchar(128)), CAST(o.name AS nvarchar(128)), CAST(o.type AS nvarchar(2)), \
                 CAST(o.object_id AS bigint), CASE WHEN s.name = SCHEMA_NAME() THEN 1 ELSE 0 END \
                 FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id \
                 WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0 AND s.name NOT IN ('sys', 'INFORMATION_SCHEMA') \
                 AND o.name NOT LIKE 'weir[_]%'",
            )
            .await?;
        let sizes = sizes(&mut session, "1 = 1").await?;
        session.close().await;
        let part = |text: &str| match text.contains(['.', '[', ']', ',', '"']) {
            true => QUOTING.quote(text),
            false => text.to_owned(),
        };
        let of = |row: &Row| {
            let (schema, name) = (text(row, 0).unwrap_or_default(), text(row, 1).unwrap_or_default());
            let own = number(row, 4) == Some(1);
            let view = text(row, 2).is_some_and(|t| t.trim() == "V");
            let size = sizes.get(&number(row, 3).unwrap_or_default()).copied().filter(|_| !view).unwrap_or_default();
            TableInfo {
                name: if own { part(&name) } else { format!("{}.{}", part(&schema), part(&name)) },
                kind: if view { "view" } else { "table" }.into(),
                rows: size.0,
                bytes: size.1,
            }
        };
        let pattern = pattern.map(|p| p.replace(['[', ']'], ""));
        let fits = |t: &TableInfo| {
            pattern.as_deref().is_none_or(|p| glob(p, &t.name.replace(['[', ']'], ""), LetterCase::Ignore))
        };
        let mut tables: Vec<TableInfo> = listed.iter().map(of).filter(fits).collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tables)
    }

    async fn objects(&self) -> Result<Objects> {
        let mut session = connect_first(&self.options, &self.setup, &self.context).await?;
        let objects = crate::objects::objects(&mut session).await?;
        session.close().await;
        Ok(objects)
    }

    async fn describe(&self, names: &[ObjectName]) -> Result<Vec<TableDescription>> {
        let mut session = connect_first(&self.options, &self.setup, &self.context).await?;
        let tables = describe_all(&mut session, names).await?;
        session.close().await;
        Ok(tables)
    }

    async fn look_ahead(&self, tables: &[ObjectName]) -> Result<Option<Hold>> {
        let mut session = connect_first(&self.options, &self.setup, &self.context).await?;
        let server = server(&mut session).await?;
        let here = tables.iter().filter(|name| name.database == server.database && name.schema.is_some());
        let names: Vec<_> = here.map(|n| TableName { schema: n.schema.clone(), name: n.table.clone() }).collect();
        let mut found = describe_tables(&mut session, &names).await?;
        session.close().await;
        // Its own reader says that the user may not see it.
        found.retain(|table| !table.columns.is_empty());
        let found = found.into_iter().map(|table| (table.name.clone(), (server.clone(), table))).collect();
        Ok(Some(Ahead::leave(&self.context.shared, ahead(&self.options), found)))
    }
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

/// Rows and bytes of the tables that the server counts, by their numbers; `among` is a condition on these.
pub(crate) async fn sizes(session: &mut Session, among: &str) -> Result<HashMap<i64, (Option<u64>, Option<u64>)>> {
    let rows = format!(
        "SELECT CAST(object_id AS bigint), CAST(SUM(rows) AS bigint) FROM sys.partitions \
         WHERE {among} AND index_id IN (0, 1) GROUP BY object_id"
    );
    let pages = format!(
        "SELECT CAST(object_id AS bigint), CAST(SUM(a.used_pages) AS bigint) FROM sys.partitions p \
         JOIN sys.allocation_units a ON a.container_id = p.partition_id WHERE {among} AND p.index_id IN (0, 1) \
         GROUP BY p.object_id"
    );
    let (rows, pages) = (counts(&optional(session, &rows).await?), counts(&optional(session, &pages).await?));
    // A relative that keeps no count says zero of everything.
    let of = |(id, rows): (&i64, &u64)| {
        let bytes = pages.get(id).filter(|n| **n > 0).map(|n| n * 8192);
        (*id, (Some(*rows).filter(|n| *n > 0 || bytes.is_some()), bytes))
    };
    Ok(rows.iter().map(of).collect())
}

fn counts(rows: &[Row]) -> HashMap<i64, u64> {
    rows.iter().filter_map(|row| Some((number(row, 0)?, number(row, 1)?.max(0) as u64))).collect()
}
