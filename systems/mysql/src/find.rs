//! Databases and tables as a job names them: exactly, else in any case if that is unique and the server ignores case too.

use std::collections::{BTreeSet, HashMap, HashSet};

use weir_core::config::nearest;
use weir_core::{Error, ErrorKind, Result};
use weir_sql::{TableName, find_exact, find_name};

use crate::catalog::{AT_ONCE, Server, among};
use crate::connection::{Session, escape};

/// The database that is meant, as it is written.
fn database(wanted: &TableName, server: &Server) -> Result<String> {
    let database = wanted.schema.clone().or_else(|| server.database.clone());
    database.ok_or_else(|| {
        Error::config(format!("table `{wanted}` has no database: put one into the URL, or write database.table"))
    })
}

/// The names of all databases that the user may see.
///
/// # Errors
/// The server's.
pub async fn databases(session: &mut Session) -> Result<Vec<String>> {
    session.rows("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA").await
}

/// A database as the server spells it.
///
/// # Errors
/// There is no such database.
pub fn spelled(database: &str, databases: &[String], server: &Server) -> Result<String> {
    Ok(databases[found("database", database, databases, server)?].clone())
}

/// Which of these names is meant.
fn found(what: &'static str, wanted: &str, names: &[String], server: &Server) -> Result<usize> {
    let names = names.iter().map(String::as_str);
    if server.exact_names { find_exact(what, wanted, names) } else { find_name(what, wanted, names) }
}

/// Finds a table.
///
/// # Errors
/// No such database or table, with the nearest name.
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
    let exact = exact(session, wanted, server).await?;
    let is_exact = |wanted: &TableName| {
        let name = TableName { schema: Some(database(wanted, server).ok()?), name: wanted.name.clone() };
        exact.contains(&name).then_some(name)
    };
    let mut found: Vec<Option<Result<TableName>>> = wanted.iter().map(|wanted| is_exact(wanted).map(Ok)).collect();
    if found.iter().all(Option::is_some) {
        return Ok(found.into_iter().flatten().collect());
    }
    let databases = databases(session).await?;
    let of = |wanted: &TableName| database(wanted, server).and_then(|database| spelled(&database, &databases, server));
    let left = || wanted.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(wanted, _)| wanted);
    let listed: BTreeSet<String> = left().filter_map(|wanted| of(wanted).ok()).collect();
    let names = names(session, &listed).await?;
    let none = Vec::new();
    let find = |wanted: &TableName| {
        let database = of(wanted)?;
        let names = names.get(&database).unwrap_or(&none);
        let at = self::found("table", &wanted.name, names, server)
            .map_err(|error| missing(error, wanted, &database, names))?;
        Ok(TableName { schema: Some(database), name: names[at].clone() })
    };
    for (wanted, found) in wanted.iter().zip(&mut found) {
        found.get_or_insert_with(|| find(wanted));
    }
    Ok(found.into_iter().flatten().collect())
}

/// Those of the tables that are there by exactly these names.
async fn exact(session: &mut Session, wanted: &[TableName], server: &Server) -> Result<HashSet<TableName>> {
    let mut all = HashSet::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let pairs: Vec<_> = wanted
            .iter()
            .filter_map(|table| Some((table.schema.as_deref().or(server.database.as_deref())?, table.name.as_str())))
            .collect();
        if pairs.is_empty() {
            continue;
        }
        let sql = format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE {}",
            among(&pairs, "TABLE_SCHEMA", "TABLE_NAME")
        );
        let found: Vec<(String, String)> = session.rows(&sql).await?;
        all.extend(found.into_iter().map(|(schema, name)| TableName { schema: Some(schema), name }));
    }
    Ok(all)
}

/// The names of all tables of some databases.
async fn names(session: &mut Session, databases: &BTreeSet<String>) -> Result<HashMap<String, Vec<String>>> {
    let mut all: HashMap<String, Vec<String>> = HashMap::new();
    if databases.is_empty() {
        return Ok(all);
    }
    let list: Vec<_> = databases.iter().map(|database| escape(database)).collect();
    let rows: Vec<(String, String)> = session
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({}) ORDER BY 1, 2",
            list.join(", ")
        ))
        .await?;
    for (schema, name) in rows {
        all.entry(schema).or_default().push(name);
    }
    Ok(all)
}

/// Weir's own tables are nobody's typing error.
fn missing(error: Error, wanted: &TableName, database: &str, names: &[String]) -> Error {
    let near = nearest(&wanted.name, names.iter().map(String::as_str).filter(|n| !n.starts_with("weir_")));
    match (error.kind(), near) {
        (ErrorKind::NotFound, Some(near)) => Error::new(
            ErrorKind::NotFound,
            format!("no such table: `{}` in database `{database}`; did you mean `{near}`?", wanted.name),
        ),
        _ => error.with("database", database),
    }
}
