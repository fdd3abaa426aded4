//! From names as a job writes them to those that the server has, of any number of tables at once.

use std::collections::{BTreeSet, HashMap, HashSet};

use weir_core::config::nearest;
use weir_core::{Error, ErrorKind, Result};
use weir_sql::{TableName, find_exact, find_name};

use crate::QUOTING;
use crate::cells::{number, text};
use crate::connection::{Session, literal};
use crate::server::Server;
use crate::table::{AT_ONCE, heads};

/// The names of all schemas.
///
/// # Errors
/// The server's.
pub async fn schemas(session: &mut Session) -> Result<Vec<String>> {
    let rows = session.rows("SELECT CAST(name AS nvarchar(128)) FROM sys.schemas ORDER BY name").await?;
    Ok(rows.iter().filter_map(|row| text(row, 0)).collect())
}

/// A schema as the server spells it.
///
/// # Errors
/// There is no such schema.
pub fn spelled(schema: &str, schemas: &[String], server: &Server) -> Result<String> {
    let names: Vec<&str> = schemas.iter().map(String::as_str).collect();
    Ok(schemas[found("schema", schema, &names, server)?].clone())
}

/// Which of these names is meant.
fn found(what: &'static str, wanted: &str, names: &[&str], server: &Server) -> Result<usize> {
    let names = names.iter().copied();
    if server.exact_names() { find_exact(what, wanted, names) } else { find_name(what, wanted, names) }
}

/// Finds a table or view as a job names it: exactly, else in any case if that is unique and the database ignores case too.
///
/// # Errors
/// No such schema or table, with the nearest name.
pub async fn find_table(session: &mut Session, wanted: &TableName, server: &Server) -> Result<TableName> {
    let found = find_tables(session, std::slice::from_ref(wanted), server).await?.pop();
    found.unwrap_or_else(|| Err(Error::internal("a table was asked for, and no answer came")))
}

/// As [`find_table`] for each of these, in their order, in as many queries as for one of them.
///
/// # Errors
/// Those of the connection.
pub async fn find_tables(
    session: &mut Session,
    wanted: &[TableName],
    server: &Server,
) -> Result<Vec<Result<TableName>>> {
    // Who writes them exactly needs no list of all that there are.
    let exact = |wanted: &TableName| TableName {
        schema: wanted.schema.clone().or(Some(server.schema.clone())),
        name: wanted.name.clone(),
    };
    let exact: Vec<TableName> = wanted.iter().map(exact).collect();
    let mut there = HashSet::with_capacity(exact.len());
    for names in exact.chunks(AT_ONCE) {
        there.extend(heads(session, names).await?.into_values().map(|table| table.name));
    }
    if exact.iter().all(|name| there.contains(name)) {
        return Ok(exact.into_iter().map(Ok).collect());
    }
    let schemas = schemas(session).await?;
    let schema = |wanted: &TableName| match &wanted.schema {
        Some(schema) => spelled(schema, &schemas, server),
        None => Ok(server.schema.clone()),
    };
    let all = wanted.iter().zip(exact).map(|(wanted, exact)| (wanted, there.contains(&exact).then_some(exact)));
    let all: Vec<_> = all.collect();
    let left = all.iter().filter(|(_, found)| found.is_none());
    let listed: BTreeSet<String> = left.filter_map(|(wanted, _)| schema(wanted).ok()).collect();
    let names = names(session, &listed).await?;
    let find = |wanted: &TableName| {
        let schema = schema(wanted)?;
        let names: Vec<&str> = names.get(&schema).into_iter().flatten().map(String::as_str).collect();
        let at = found("table", &wanted.name, &names, server)
            .map_err(|error| missing(error, wanted, &schema, &names, server))?;
        Ok(TableName { name: names[at].to_owned(), schema: Some(schema) })
    };
    Ok(all.into_iter().map(|(wanted, found)| found.map_or_else(|| find(wanted), Ok)).collect())
}

/// The names of all tables and views of some schemas.
async fn names(session: &mut Session, schemas: &BTreeSet<String>) -> Result<HashMap<String, Vec<String>>> {
    let mut all: HashMap<String, Vec<String>> = HashMap::new();
    if schemas.is_empty() {
        return Ok(all);
    }
    let list: Vec<_> = schemas.iter().map(|schema| literal(schema)).collect();
    let rows = session
        .rows(&format!(
            "SELECT CAST(s.name AS nvarchar(128)), CAST(o.name AS nvarchar(128)) \
             FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id \
             WHERE o.type IN ('U', 'V') AND s.name IN ({}) ORDER BY o.name",
            list.join(", ")
        ))
        .await?;
    for (schema, name) in rows.iter().filter_map(|row| Some((text(row, 0)?, text(row, 1)?))) {
        all.entry(schema).or_default().push(name);
    }
    Ok(all)
}

/// Weir's own tables are nobody's typing error.
fn missing(error: Error, wanted: &TableName, schema: &str, names: &[&str], server: &Server) -> Error {
    let near = nearest(&wanted.name, names.iter().copied().filter(|name| !name.starts_with("weir_")));
    match (error.kind(), near) {
        (ErrorKind::NotFound, Some(near)) => Error::new(
            ErrorKind::NotFound,
            format!("no such table: `{}` in schema `{schema}`; did you mean `{near}`?", wanted.name),
        ),
        _ => error.with("schema", schema).with("database", &server.database),
    }
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
