//! From names as a job writes them to those that the server has.

use weir_core::config::nearest;
use weir_core::{Error, ErrorKind, Result};
use weir_sql::{TableName, find_name};

use crate::QUOTING;
use crate::cells::{number, text};
use crate::connection::{Session, literal};
use crate::server::Server;
use crate::table::heads;

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
