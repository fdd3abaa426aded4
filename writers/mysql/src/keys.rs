//! The table's foreign keys: found, dropped, made again.

use weir_core::{KeyDefinition, ObjectName, Reference, Result, ResultExt, TargetName};
use weir_mysql::{QUOTING, Session, describe_all, escape};
use weir_sql::TableName;

/// Those of the table's keys that are meant, each with the statement that makes it.
pub async fn definitions(session: &mut Session, table: &TableName, meant: &[Reference]) -> Result<Vec<KeyDefinition>> {
    let mut keys = own(session, table).await?;
    keys.retain(|key| meant.iter().any(|meant| is(key, meant, table)));
    let of = |key: Reference| KeyDefinition { statement: statement(table, &key, true), key };
    Ok(keys.into_iter().map(of).collect())
}

/// Drops keys of the table, as far as it has them.
pub async fn drop(session: &mut Session, table: &TableName, keys: &[KeyDefinition]) -> Result<()> {
    let mut there = own(session, table).await?;
    there.retain(|key| keys.iter().any(|meant| meant.key.name == key.name));
    let drops: Vec<_> = there.iter().map(|key| format!("DROP FOREIGN KEY {}", QUOTING.quote(&key.name))).collect();
    if drops.is_empty() {
        return Ok(());
    }
    session.run(&format!("ALTER TABLE {} {}", table.quoted(QUOTING), drops.join(", "))).await
}

/// Makes a key again, unless the table has it.
pub async fn restore(session: &mut Session, table: &TableName, key: &KeyDefinition) -> Result<()> {
    if own(session, table).await?.iter().any(|there| is(there, &key.key, table)) {
        return Ok(());
    }
    session.run(&key.statement).await.context("statement", &key.statement)
}

/// The statements for those keys that the table has not got.
pub async fn missing(session: &mut Session, table: &TableName, wanted: &[Reference]) -> Result<Vec<String>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let own = own(session, table).await?;
    let mut statements = Vec::new();
    for key in wanted.iter().filter(|key| !own.iter().any(|there| is(there, key, table))) {
        // In a database no two foreign keys have one name; without a name the server finds one.
        let unfit = key.name.is_empty() || key.name.chars().count() > 64;
        let named = !unfit && !is_taken(session, table.schema.as_deref().unwrap_or_default(), &key.name).await?;
        statements.push(statement(table, key, named));
    }
    Ok(statements)
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

async fn is_taken(session: &mut Session, schema: &str, name: &str) -> Result<bool> {
    let found: Option<u64> = session
        .row(&format!(
            "SELECT COUNT(*) FROM information_schema.REFERENTIAL_CONSTRAINTS \
             WHERE CONSTRAINT_SCHEMA = {} AND CONSTRAINT_NAME = {}",
            escape(schema),
            escape(name)
        ))
        .await?;
    Ok(found.unwrap_or(0) > 0)
}

/// Whether a key that is there is the one that is meant, whatever it is called and does.
fn is(there: &Reference, meant: &Reference, table: &TableName) -> bool {
    let schema = meant.to.schema.as_deref().or(table.schema.as_deref());
    // Where file names ignore case, so do tables.
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    schema.zip(there.to.schema.as_deref()).is_some_and(|(meant, there)| same(meant, there))
        && same(&there.to.table, &meant.to.table)
        && there.columns == meant.columns
        && there.to_columns == meant.to_columns
}

/// The foreign keys that the table has.
async fn own(session: &mut Session, table: &TableName) -> Result<Vec<Reference>> {
    let name =
        ObjectName { database: table.schema.clone().unwrap_or_default(), schema: None, table: table.name.clone() };
    let keys = describe_all(session, &[name]).await?.into_iter().flat_map(|table| table.foreign_keys);
    Ok(keys
        .map(|key| Reference {
            name: key.name,
            columns: key.columns,
            to: TargetName { schema: Some(key.to.database), table: key.to.table },
            to_columns: key.to_columns,
            on_delete: key.on_delete,
            on_update: key.on_update,
        })
        .collect())
}
