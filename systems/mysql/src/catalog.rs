//! What a server holds: tables, columns, keys, estimates.

use std::collections::{BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use mysql_async::Row;
use weir_core::{
    Catalog, ConnectorContext, Error, ErrorKind, Hold, LetterCase, LooksInto, ObjectName, Objects, Result, Shared,
    TableDescription, TableInfo, glob,
};
use weir_sql::{Ahead, TableName};

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
    /// Whether it tells names of databases and tables apart by the case of their letters (`lower_case_table_names` is 0).
    pub exact_names: bool,
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
    /// The next number that it gives.
    pub next: Option<u64>,
    /// Whether the server keeps the history of its rows (MariaDB).
    pub versioned: bool,
    /// Whether it has CHECK constraints.
    pub checked: bool,
    /// The columns.
    pub columns: Vec<Column>,
    /// The unique keys' columns by name; the primary key first.
    pub unique: Vec<(String, Vec<String>)>,
    /// The foreign keys on this table, its own on itself included; those of tables that the user may not see are not
    /// here.
    pub referenced_by: Vec<Reference>,
}

/// Foreign keys of another table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The table that has them, with its database.
    pub table: String,
    /// Their names.
    pub keys: Vec<String>,
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
    /// Whether the server numbers it.
    pub numbered: bool,
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

    /// The table, unless the user may not see it.
    ///
    /// # Errors
    /// It has no columns for this user.
    pub fn shown(self) -> Result<Self> {
        if !self.columns.is_empty() {
            return Ok(self);
        }
        let text = "the table shows no columns: grant SELECT on it";
        Err(Error::new(ErrorKind::Denied, text).with("table", &self.name))
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
    type Facts = (String, Option<u64>, u64, Option<String>, Option<u64>);
    let row: Option<Facts> = session
        .row("SELECT VERSION(), @@local_infile, @@max_allowed_packet, DATABASE(), @@lower_case_table_names")
        .await?;
    let row = row.ok_or_else(|| Error::internal("the server says nothing"))?;
    let (version, local, max_packet, database, folded) = row;
    let mariadb = version.to_ascii_lowercase().contains("mariadb");
    Ok(Server {
        version,
        mariadb,
        local_infile: local == Some(1),
        max_packet,
        database,
        exact_names: folded == Some(0),
    })
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

/// Everything about some tables, in a few queries for all of them, by their exact names with their databases; those that are
/// gone are left out, and one that the user may not see has no columns.
///
/// # Errors
/// The server's.
pub async fn describe_tables(session: &mut Session, names: &[TableName]) -> Result<Vec<Table>> {
    // Statistics of MySQL 8 and later are cached for a day; older and related servers do not know the variable.
    let _ = session.raw("SET SESSION information_schema_stats_expiry = 0").await?;
    let mut all = Vec::with_capacity(names.len());
    for names in names.chunks(AT_ONCE) {
        let pairs: Vec<_> = names.iter().map(|n| (n.schema.as_deref().unwrap_or_default(), n.name.as_str())).collect();
        let mut tables = heads(session, &pairs).await?;
        unique_keys(session, &pairs, &mut tables).await?;
        columns(session, &pairs, &mut tables).await?;
        references(session, &pairs, &mut tables).await?;
        all.extend(names.iter().filter_map(|name| tables.remove(name)));
    }
    Ok(all)
}

/// Tables by name.
type Tables = HashMap<TableName, Table>;

fn name(schema: String, name: String) -> TableName {
    TableName { schema: Some(schema), name }
}

/// The condition on a view of the information schema, whose columns of database and table are called so. The list of
/// databases alone lets the server leave out all others; to one table it goes directly where both are equal to a constant.
pub(crate) fn among(names: &[(&str, &str)], schema: &str, table: &str) -> String {
    if let [(database, name)] = names {
        return format!("{schema} = {} AND {table} = {}", escape(database), escape(name));
    }
    let databases: BTreeSet<_> = names.iter().map(|(database, _)| escape(database)).collect();
    let databases: Vec<_> = databases.into_iter().collect();
    let pairs: Vec<_> =
        names.iter().map(|(database, name)| format!("({}, {})", escape(database), escape(name))).collect();
    format!("{schema} IN ({}) AND ({schema}, {table}) IN ({})", databases.join(", "), pairs.join(", "))
}

async fn heads(session: &mut Session, names: &[(&str, &str)]) -> Result<Tables> {
    type Head = (String, String, String, Option<String>, Option<u64>, Option<u64>, Option<String>, Option<u64>);
    let rows: Vec<Head> = session
        .rows(&format!(
            "SELECT t.TABLE_SCHEMA, t.TABLE_NAME, t.TABLE_TYPE, t.ENGINE, t.TABLE_ROWS, t.DATA_LENGTH, e.TRANSACTIONS, \
             t.AUTO_INCREMENT \
             FROM information_schema.TABLES t LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE WHERE {}",
            among(names, "t.TABLE_SCHEMA", "t.TABLE_NAME")
        ))
        .await?;
    let of = |(schema, table, kind, engine, rows, bytes, transactions, next): Head| {
        let table = Table {
            name: name(schema, table),
            view: kind.to_ascii_uppercase().contains("VIEW"),
            transactional: transactions.as_deref() != Some("NO"),
            versioned: kind.eq_ignore_ascii_case("SYSTEM VERSIONED"),
            checked: false,
            engine,
            rows,
            bytes,
            next,
            columns: Vec::new(),
            unique: Vec::new(),
            referenced_by: Vec::new(),
        };
        (table.name.clone(), table)
    };
    Ok(rows.into_iter().map(of).collect())
}

async fn unique_keys(session: &mut Session, names: &[(&str, &str)], tables: &mut Tables) -> Result<()> {
    let parts: Vec<(String, String, String, Option<String>)> = session
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS WHERE {} \
             AND NON_UNIQUE = 0 \
             ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX",
            among(names, "TABLE_SCHEMA", "TABLE_NAME")
        ))
        .await?;
    for (schema, table, index, column) in parts {
        let Some(table) = tables.get_mut(&name(schema, table)) else { continue };
        // A key on an expression has no column; it is a key all the same.
        let column = column.unwrap_or_default();
        match table.unique.last_mut().filter(|(name, _)| *name == index) {
            Some((_, columns)) => columns.push(column),
            None => table.unique.push((index, vec![column])),
        }
    }
    Ok(())
}

/// The columns; the keys are known.
async fn columns(session: &mut Session, names: &[(&str, &str)], tables: &mut Tables) -> Result<()> {
    // MariaDB's json is a longtext with this check, named after the column.
    let checked: Vec<(String, String, String)> = match session
        .rows(&format!(
            "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS WHERE {}",
            among(names, "CONSTRAINT_SCHEMA", "TABLE_NAME")
        ))
        .await
    {
        Ok(clauses) => clauses,
        Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
        // MySQL's table has no such column, and MySQL has a real json.
        Err(_) => session
            .rows(&format!(
                "SELECT TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME FROM information_schema.TABLE_CONSTRAINTS WHERE {} \
                 AND CONSTRAINT_TYPE = 'CHECK'",
                among(names, "TABLE_SCHEMA", "TABLE_NAME")
            ))
            .await?,
    };
    for (schema, table, _) in &checked {
        if let Some(table) = tables.get_mut(&name(schema.clone(), table.clone())) {
            table.checked = true;
        }
    }
    let checked: HashSet<(TableName, String)> =
        checked.into_iter().map(|(schema, table, clause)| (name(schema, table), clause.to_ascii_lowercase())).collect();
    let rows: Vec<Row> = session
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, CAST(COLUMN_TYPE AS CHAR), IS_NULLABLE, \
             CAST(COLUMN_DEFAULT AS CHAR), EXTRA, CHARACTER_SET_NAME, COLLATION_NAME, COLUMN_COMMENT \
             FROM information_schema.COLUMNS WHERE {} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
            among(names, "TABLE_SCHEMA", "TABLE_NAME")
        ))
        .await?;
    for row in &rows {
        let text = |i: usize| row.get_opt::<Option<String>, _>(i).and_then(|v| v.ok()).flatten();
        let of = name(text(0).unwrap_or_default(), text(1).unwrap_or_default());
        let Some(table) = tables.get_mut(&of) else { continue };
        let name = text(2).unwrap_or_default();
        let mut type_text = text(3).unwrap_or_default();
        if type_text == "longtext" && checked.contains(&(of, checked_json(&name).to_ascii_lowercase())) {
            type_text = "json".into();
        }
        let extra = text(6).unwrap_or_default().to_ascii_lowercase();
        let generated = is_generated(&extra);
        table.columns.push(Column {
            kind: Kind::parse(&type_text),
            nullable: text(4).is_some_and(|t| t.eq_ignore_ascii_case("yes")),
            has_default: text(5).is_some() || generated || extra.contains("auto_increment"),
            generated,
            numbered: extra.contains("auto_increment"),
            key: table.primary_key().iter().position(|n| *n == name).map(|i| i as u32 + 1),
            charset: text(7),
            collation: text(8),
            comment: text(9).filter(|c| !c.is_empty()),
            name,
            type_text,
        });
    }
    Ok(())
}

async fn references(session: &mut Session, names: &[(&str, &str)], tables: &mut Tables) -> Result<()> {
    let references: Vec<(String, String, String, String, String)> = session
        .rows(&format!(
            "SELECT UNIQUE_CONSTRAINT_SCHEMA, REFERENCED_TABLE_NAME, CONCAT(CONSTRAINT_SCHEMA, '.', TABLE_NAME), \
             DELETE_RULE, CONSTRAINT_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE {} ORDER BY 1, 2, 3, 4, 5",
            among(names, "UNIQUE_CONSTRAINT_SCHEMA", "REFERENCED_TABLE_NAME")
        ))
        .await?;
    for (schema, table, by, rule, key) in references {
        let Some(table) = tables.get_mut(&name(schema, table)) else { continue };
        let on_delete = rule.to_ascii_uppercase();
        match table.referenced_by.last_mut().filter(|last| last.table == by && last.on_delete == on_delete) {
            Some(last) => last.keys.push(key),
            None => table.referenced_by.push(Reference { table: by, keys: vec![key], on_delete }),
        }
    }
    Ok(())
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

    async fn objects(&self, _: &LooksInto<'_>) -> Result<Objects> {
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
        let names: Vec<_> = tables.iter().map(|n| name(n.database.clone(), n.table.clone())).collect();
        let mut session = connect_first(&self.options, &self.setup, &self.context).await?;
        let mut found = describe_tables(&mut session, &names).await?;
        session.rest().await;
        // Its own reader says that the user may not see it.
        found.retain(|table| !table.columns.is_empty());
        let found = found.into_iter().map(|table| (table.name.clone(), table)).collect();
        Ok(Some(Ahead::leave(&self.context.shared, ahead(&self.options), found)))
    }
}

/// Under which name tables of these servers are left for their readers.
fn ahead(options: &[Options]) -> String {
    let of = |o: &Options| format!("{}@{}/{}", o.user, o.place(), o.database.as_deref().unwrap_or_default());
    format!("mysql tables of {}", options.first().map(of).unwrap_or_default())
}

/// What a look ahead has found of a table; `name` with its database.
pub fn looked_ahead(shared: &Shared, options: &[Options], name: &TableName) -> Option<Table> {
    Ahead::find(shared, &ahead(options), name)
}

/// All that looks ahead have found there.
pub fn looked_ahead_all(shared: &Shared, options: &[Options]) -> Vec<Table> {
    Ahead::all(shared, &ahead(options))
}

/// A pattern may be typed with the system's quotation marks.
const QUOTING_FREE: fn(&str) -> String = |pattern| pattern.replace(QUOTING.open, "");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_names_databases_and_tables() {
        assert_eq!(
            among(&[("a", "t"), ("a", "it's")], "S", "T"),
            format!("S IN ('a') AND (S, T) IN (('a', 't'), ('a', {}))", escape("it's"))
        );
        assert_eq!(among(&[("a", "t")], "S", "T"), "S = 'a' AND T = 't'");
    }
}
