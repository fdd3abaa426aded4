//! The table's foreign keys: found, dropped, made again.

use weir_core::{Error, ForeignKey, KeyDefinition, Reference, Result, ResultExt, TargetName};
use weir_mysql::{QUOTING, Server, Session};
use weir_sql::TableName;

use crate::known::Known;

/// Those of the table's keys that are meant, each with the statement that makes it.
pub fn definitions(known: Known, meant: &[Reference]) -> Vec<KeyDefinition> {
    let Known { name, server, mut keys, .. } = known;
    keys.retain(|key| meant.iter().any(|meant| is(key, meant, (&name, &server))));
    keys.into_iter().map(|key| KeyDefinition { statement: statement(&name, &key, true), key }).collect()
}

/// Drops keys of the table, as far as it has them.
pub async fn drop(session: &mut Session, known: &Known, keys: &[KeyDefinition]) -> Result<()> {
    let there = known.keys.iter().filter(|key| keys.iter().any(|meant| meant.key.name == key.name));
    let drops: Vec<_> = there.map(|key| format!("DROP FOREIGN KEY {}", QUOTING.quote(&key.name))).collect();
    if drops.is_empty() {
        return Ok(());
    }
    session.run(&format!("ALTER TABLE {} {}", known.name.quoted(QUOTING), drops.join(", "))).await
}

/// Makes a key again, unless the table has it.
pub async fn restore(session: &mut Session, known: &Known, key: &KeyDefinition) -> Result<()> {
    if known.keys.iter().any(|there| is(there, &key.key, (&known.name, &known.server))) {
        return Ok(());
    }
    session.run(&key.statement).await.context("statement", &key.statement)
}

/// A statement that makes a key by its name, if it may have one, and one that leaves the name to the server.
pub struct Missing {
    pub key: Reference,
    pub named: Option<String>,
    pub unnamed: String,
}

/// The statements for those keys that the table has not got.
pub fn missing(known: &Known, wanted: &[Reference]) -> Vec<Missing> {
    let table = &known.name;
    let missing = wanted.iter().filter(|key| !known.keys.iter().any(|there| is(there, key, (table, &known.server))));
    let of = |key: &Reference| {
        let fits = !key.name.is_empty() && key.name.chars().count() <= 64;
        Missing {
            key: key.clone(),
            named: fits.then(|| statement(table, key, true)),
            unnamed: statement(table, key, false),
        }
    };
    missing.map(of).collect()
}

/// Whether a key was refused for its name alone: in a database no two foreign keys have one.
pub fn is_name_taken(error: &Error) -> bool {
    let code = error.context().iter().find(|(key, _)| *key == "code").map(|(_, code)| code.as_str());
    match code {
        Some("1826" | "1022") => true,
        // "Can't create table", with the engine's own number of it.
        Some("1005") => error.full().contains("errno: 121"),
        _ => false,
    }
}

fn statement(table: &TableName, key: &Reference, named: bool) -> String {
    let to = TableName { schema: key.to.schema.clone().or_else(|| table.schema.clone()), name: key.to.table.clone() };
    let named = if named { format!("CONSTRAINT {} ", QUOTING.quote(&key.name)) } else { String::new() };
    format!(
        "ALTER TABLE {} ADD {named}FOREIGN KEY ({}) REFERENCES {} ({}) ON DELETE {} ON UPDATE {}",
        table.quoted(QUOTING),
        QUOTING.quote_all(&key.columns),
        to.quoted(QUOTING),
        QUOTING.quote_all(&key.to_columns),
        key.on_delete,
        key.on_update
    )
}

/// Whether a key that is there is the one that is meant, whatever it is called and does.
fn is(there: &Reference, meant: &Reference, (table, server): (&TableName, &Server)) -> bool {
    let schema = meant.to.schema.as_deref().or(table.schema.as_deref());
    schema.zip(there.to.schema.as_deref()).is_some_and(|(meant, there)| same(meant, there, server))
        && same(&there.to.table, &meant.to.table, server)
        && there.columns == meant.columns
        && there.to_columns == meant.to_columns
}

/// Where file names ignore case, so do tables.
fn same(a: &str, b: &str, server: &Server) -> bool {
    if server.exact_names { a == b } else { a.eq_ignore_ascii_case(b) }
}

/// Those of the table's keys that are on itself.
pub fn on_itself(table: &TableName, keys: Vec<Reference>, server: &Server) -> Vec<Reference> {
    let own = table.schema.as_deref().unwrap_or_default();
    let to_itself = |to: &TargetName| {
        same(&to.table, &table.name, server) && same(to.schema.as_deref().unwrap_or_default(), own, server)
    };
    keys.into_iter().filter(|key| to_itself(&key.to)).collect()
}

/// A key as the server tells of it.
pub fn reference(key: ForeignKey) -> Reference {
    Reference {
        name: key.name,
        columns: key.columns,
        to: TargetName { schema: Some(key.to.database), table: key.to.table },
        to_columns: key.to_columns,
        on_delete: key.on_delete,
        on_update: key.on_update,
    }
}
