//! What a server holds: tables, columns, keys, estimates.

use async_trait::async_trait;
use mysql_async::Row;
use weir_core::config::nearest;
use weir_core::{
    Catalog, ConnectorContext, Error, ErrorKind, LetterCase, ObjectName, Objects, Result, TableDescription, TableInfo,
    glob,
};
use weir_sql::{TableName, find_name};

use crate::QUOTING;
use crate::connection::{Session, connect_first, escape};
use crate::session::Setup;
use crate::structure::describe_all;
use crate::types::Kind;
use crate::url::Options;

/// What a server is and has set.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its version text.
    pub version: String,
    /// Whether it is MariaDB.
    pub mariadb: bool,
    /// Whether it takes LOAD DATA LOCAL.
    pub local_infile: bool,
    /// The most bytes of a statement.
    pub max_packet: u64,
    /// The connection's database.
    pub database: Option<String>,
}

/// A table and what is known of it.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its database and name, as the server spells them.
    pub name: TableName,
    /// Whether it is a view.
    pub view: bool,
    /// Its storage engine.
    pub engine: Option<String>,
    /// Whether the engine has transactions.
    pub transactional: bool,
    /// Estimated rows.
    pub rows: Option<u64>,
    /// Estimated bytes.
    pub bytes: Option<u64>,
    /// The columns.
    pub columns: Vec<Column>,
    /// The unique keys' columns by name; the primary key first.
    pub unique: Vec<(String, Vec<String>)>,
    /// The foreign keys on this table, its own on itself included; those of tables that the user may not see are not
    /// here.
    pub referenced_by: Vec<Reference>,
}

/// A foreign key of another table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The table that has it, with its database.
    pub table: String,
    /// What becomes of its rows when a row here is deleted: `RESTRICT`, `CASCADE`, …
    pub on_delete: String,
}

impl Reference {
    /// Whether rows of the other table change when a row here is deleted.
    pub fn cascades(&self) -> bool {
        !matches!(self.on_delete.as_str(), "RESTRICT" | "NO ACTION")
    }
}

/// A column of a table.
#[derive(Debug, Clone)]
pub struct Column {
    /// The name.
    pub name: String,
    /// The type text; `json` also for MariaDB's checked longtext.
    pub type_text: String,
    /// The type.
    pub kind: Kind,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// Whether the server fills it when a row does not name it.
    pub has_default: bool,
    /// Whether it is computed and cannot be written.
    pub generated: bool,
    /// The position in the primary key, from 1.
    pub key: Option<u32>,
    /// The character set of a text column.
    pub charset: Option<String>,
    /// The collation of a text column.
    pub collation: Option<String>,
    /// The comment.
    pub comment: Option<String>,
}

impl Table {
    /// The primary key's columns.
    pub fn primary_key(&self) -> &[String] {
        self.unique.first().filter(|(name, _)| name == "PRIMARY").map_or(&[], |(_, columns)| columns)
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }
}

/// Asks the server what it is.
///
/// # Errors
/// The server's.
pub async fn server(session: &mut Session) -> Result<Server> {
    let row: Option<(String, Option<u64>, u64, Option<String>)> =
        session.row("SELECT VERSION(), @@local_infile, @@max_allowed_packet, DATABASE()").await?;
    let (version, local, max_packet, database) = row.ok_or_else(|| Error::internal("the server says nothing"))?;
    let mariadb = version.to_ascii_lowercase().contains("mariadb");
    Ok(Server { version, mariadb, local_infile: local == Some(1), max_packet, database })
}

/// Finds the database of a table as a job names it: its own, or the connection's.
///
/// # Errors
/// None is named, or there is no such database.
pub async fn find_database(session: &mut Session, wanted: &TableName, server: &Server) -> Result<String> {
    let schema = match wanted.schema.clone().or_else(|| server.database.clone()) {
        Some(schema) => schema,
        None => {
            return Err(Error::config(format!(
                "table `{wanted}` has no database: put one into the URL, or write database.table"
            )));
        }
    };
    let schemas: Vec<String> = session.rows("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA").await?;
    let at = find_name("database", &schema, schemas.iter().map(String::as_str))?;
    Ok(schemas[at].clone())
}

/// Finds a table as a job names it: exactly, else in any case if that is unique.
///
/// # Errors
/// No such database or table, with the nearest name.
pub async fn find_table(session: &mut Session, wanted: &TableName, server: &Server) -> Result<TableName> {
    let schema = find_database(session, wanted, server).await?;
    let names: Vec<String> = session
        .rows(&format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} ORDER BY TABLE_NAME",
            escape(&schema)
        ))
        .await?;
    let at = find_name("table", &wanted.name, names.iter().map(String::as_str)).map_err(|error| {
        // Weir's own tables are nobody's typing error.
        let near = nearest(&wanted.name, names.iter().map(String::as_str).filter(|n| !n.starts_with("weir_")));
        match (error.kind(), near) {
            (ErrorKind::NotFound, Some(near)) => Error::new(
                ErrorKind::NotFound,
                format!("no such table: `{}` in database `{schema}`; did you mean `{near}`?", wanted.name),
            ),
            _ => error.with("database", &schema),
        }
    })?;
    Ok(TableName { schema: Some(schema), name: names[at].clone() })
}

/// Everything about a table; `name` as [`find_table`] gave it.
///
/// # Errors
/// The server's.
pub async fn describe(session: &mut Session, name: &TableName) -> Result<Table> {
    let (schema, table) = (escape(name.schema.as_deref().unwrap_or_default()), escape(&name.name));
    // Statistics of MySQL 8 and later are cached for a day; older and related servers do not know the variable.
    let _ = session.raw("SET SESSION information_schema_stats_expiry = 0").await?;
    type Head = (String, Option<String>, Option<u64>, Option<u64>, Option<String>);
    let head: Option<Head> = session
        .row(&format!(
            "SELECT t.TABLE_TYPE, t.ENGINE, t.TABLE_ROWS, t.DATA_LENGTH, e.TRANSACTIONS \
             FROM information_schema.TABLES t LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE \
             WHERE t.TABLE_SCHEMA = {schema} AND t.TABLE_NAME = {table}"
        ))
        .await?;
    let Some((table_type, engine, rows, bytes, transactions)) = head else {
        return Err(Error::new(ErrorKind::NotFound, "the table is gone").with("table", name));
    };
    let view = table_type.to_ascii_uppercase().contains("VIEW");
    let unique = unique_keys(session, &schema, &table).await?;
    let columns = columns(session, &schema, &table, &unique).await?;
    if columns.is_empty() {
        return Err(Error::new(ErrorKind::Denied, "the table shows no columns: grant SELECT on it").with("table", name));
    }
    let references: Vec<(String, String)> = session
        .rows(&format!(
            "SELECT DISTINCT CONCAT(CONSTRAINT_SCHEMA, '.', TABLE_NAME), DELETE_RULE \
             FROM information_schema.REFERENTIAL_CONSTRAINTS \
             WHERE UNIQUE_CONSTRAINT_SCHEMA = {schema} AND REFERENCED_TABLE_NAME = {table} ORDER BY 1"
        ))
        .await?;
    let referenced_by =
        references.into_iter().map(|(table, rule)| Reference { table, on_delete: rule.to_ascii_uppercase() }).collect();
    Ok(Table {
        name: name.clone(),
        view,
        transactional: transactions.as_deref() != Some("NO"),
        engine,
        rows,
        bytes,
        columns,
        unique,
        referenced_by,
    })
}

async fn unique_keys(session: &mut Session, schema: &str, table: &str) -> Result<Vec<(String, Vec<String>)>> {
    let parts: Vec<(String, Option<String>)> = session
        .rows(&format!(
            "SELECT INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = {schema} \
             AND TABLE_NAME = {table} AND NON_UNIQUE = 0 \
             ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX"
        ))
        .await?;
    let mut keys: Vec<(String, Vec<String>)> = Vec::new();
    for (index, column) in parts {
        // A key on an expression has no column; it is a key all the same.
        let column = column.unwrap_or_default();
        match keys.last_mut().filter(|(name, _)| *name == index) {
            Some((_, columns)) => columns.push(column),
            None => keys.push((index, vec![column])),
        }
    }
    Ok(keys)
}

async fn columns(
    session: &mut Session,
    schema: &str,
    table: &str,
    unique: &[(String, Vec<String>)],
) -> Result<Vec<Column>> {
    // MariaDB's json is a longtext with this check, named after the column.
    let checked: Vec<String> = match session
        .rows(&format!(
            "SELECT CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS \
             WHERE CONSTRAINT_SCHEMA = {schema} AND TABLE_NAME = {table}"
        ))
        .await
    {
        Ok(clauses) => clauses,
        Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
        // MySQL's table has no such column, and MySQL has a real json.
        Err(_) => Vec::new(),
    };
    let rows: Vec<Row> = session
        .rows(&format!(
            "SELECT COLUMN_NAME, CAST(COLUMN_TYPE AS CHAR), IS_NULLABLE, CAST(COLUMN_DEFAULT AS CHAR), EXTRA, \
             CHARACTER_SET_NAME, COLLATION_NAME, COLUMN_COMMENT FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {table} ORDER BY ORDINAL_POSITION"
        ))
        .await?;
    let primary = unique.first().filter(|(name, _)| name == "PRIMARY").map(|(_, columns)| columns);
    Ok(rows
        .into_iter()
        .map(|row| {
            let text = |i: usize| row.get_opt::<Option<String>, _>(i).and_then(|v| v.ok()).flatten();
            let name = text(0).unwrap_or_default();
            let mut type_text = text(1).unwrap_or_default();
            let json = checked_json(&name);
            if type_text == "longtext" && checked.iter().any(|c| c.eq_ignore_ascii_case(&json)) {
                type_text = "json".into();
            }
            let extra = text(4).unwrap_or_default().to_ascii_lowercase();
            let generated = is_generated(&extra);
            let nullable = text(2).is_some_and(|t| t.eq_ignore_ascii_case("yes"));
            Column {
                kind: Kind::parse(&type_text),
                nullable,
                has_default: text(3).is_some() || generated || extra.contains("auto_increment"),
                generated,
                key: primary.and_then(|c| c.iter().position(|n| *n == name)).map(|i| i as u32 + 1),
                charset: text(5),
                collation: text(6),
                comment: text(7).filter(|c| !c.is_empty()),
                name,
                type_text,
            }
        })
        .collect())
}

/// The check that makes MariaDB's longtext a json.
pub(crate) fn checked_json(column: &str) -> String {
    format!("json_valid(`{}`)", column.replace('`', "``"))
}

/// Whether a column's `EXTRA`, in small letters, is one of a computed column. `default_generated` marks a default that is an
/// expression.
pub(crate) fn is_generated(extra: &str) -> bool {
    extra.contains("virtual") || extra.contains("stored") || extra.contains("persistent")
}

/// The catalogue of the connection's database.
pub struct MySqlCatalog {
    /// The servers, of which the first that answers is asked.
    pub options: Vec<Options>,
    /// What every session says first.
    pub setup: Setup,
    /// Cancellation.
    pub context: ConnectorContext,
}

#[async_trait]
impl Catalog for MySqlCatalog {
    async fn tables(&self, pattern: Option<&str>) -> Result<Vec<TableInfo>> {
        let mut session = connect_first(&self.options, &self.setup, &self.context).await?;
        let _ = session.raw("SET SESSION information_schema_stats_expiry = 0").await?;
        let database: Option<String> = session.row::<Option<String>>("SELECT DATABASE()").await?.flatten();
        let (scope, name) = match &database {
            Some(database) => (format!("TABLE_SCHEMA = {}", escape(database)), "TABLE_NAME"),
            None => (
                "TABLE_SCHEMA NOT IN ('mysql','sys','information_schema','performance_schema')".into(),
                "CONCAT(TABLE_SCHEMA, '.', TABLE_NAME)",
            ),
        };
        let rows: Vec<(String, String, Option<u64>, Option<u64>)> = session
            .rows(&format!(
                "SELECT {name}, TABLE_TYPE, TABLE_ROWS, DATA_LENGTH + INDEX_LENGTH FROM information_schema.TABLES \
                 WHERE {scope} AND TABLE_NAME NOT LIKE 'weir\\_%' ORDER BY 1"
            ))
            .await?;
        session.close().await;
        let of = |(name, kind, rows, bytes): (String, String, Option<u64>, Option<u64>)| {
            let view = kind.to_ascii_uppercase().contains("VIEW");
            TableInfo { name, kind: if view { "view" } else { "table" }.into(), rows, bytes }
        };
        let pattern = pattern.map(QUOTING_FREE);
        Ok(rows
            .into_iter()
            .map(of)
            .filter(|t| pattern.as_deref().is_none_or(|p| glob(p, &t.name, LetterCase::Ignore)))
            .collect())
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
}

/// A pattern may be typed with the system's quotation marks.
const QUOTING_FREE: fn(&str) -> String = |pattern| pattern.replace(QUOTING.open, "");
