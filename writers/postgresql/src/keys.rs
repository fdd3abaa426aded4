//! The table's foreign keys: found, dropped, made again.

use std::collections::HashMap;

use weir_core::{KeyDefinition, Reference, Result, ResultExt, TargetName};
use weir_postgresql::Session;
use weir_postgresql::catalog::Table;
use weir_postgresql::keys::{among, foreign_keys};
use weir_sql::TableName;

use crate::known::Known;
use crate::plan::Q;

/// The foreign keys that tables have, by their oids, each with the server's own words for it.
pub async fn of_tables(session: &mut Session, tables: &[&Table]) -> Result<HashMap<i64, Vec<KeyDefinition>>> {
    let oids: Vec<i64> = tables.iter().map(|table| table.oid).collect();
    let mut found = foreign_keys(session, &oids).await?;
    if found.is_empty() {
        return Ok(HashMap::new());
    }
    // The server leaves a schema out that is in the path, and the path may be another one when the key is made again.
    let rows = session
        .answers(&format!(
            "BEGIN; SET LOCAL search_path = pg_catalog; \
             SELECT conrelid::int8, conname::text, pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint \
             WHERE contype = 'f' AND conrelid {}; COMMIT",
            among(&oids)
        ))
        .await?;
    let mut said: HashMap<(i64, String), String> = HashMap::new();
    for row in &rows {
        said.insert((get(row, 0)?, get(row, 1)?), get(row, 2)?);
    }
    let mut all = HashMap::with_capacity(found.len());
    for table in tables {
        let of = |key: weir_core::ForeignKey| {
            let said = said.remove(&(table.oid, key.name.clone()))?;
            let statement =
                format!("ALTER TABLE {} ADD CONSTRAINT {} {said}", table.name.quoted(Q), Q.quote(&key.name));
            let key = Reference {
                name: key.name,
                columns: key.columns,
                to: TargetName { schema: key.to.schema, table: key.to.table },
                to_columns: key.to_columns,
                on_delete: key.on_delete,
                on_update: key.on_update,
            };
            Some(KeyDefinition { key, statement })
        };
        all.insert(table.oid, found.remove(&table.oid).into_iter().flatten().filter_map(of).collect());
    }
    Ok(all)
}

fn get<T>(row: &sqlx::postgres::PgRow, index: usize) -> Result<T>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    sqlx::Row::try_get(row, index).map_err(weir_postgresql::error::map)
}

/// Those of the table's keys that are meant.
pub fn meant(known: Known, meant: &[Reference]) -> Vec<KeyDefinition> {
    let schema = known.schema;
    let mut keys = known.found.map(|found| found.keys).unwrap_or_default();
    keys.retain(|there| meant.iter().any(|meant| is(&there.key, meant, schema.as_deref())));
    keys
}

/// Drops keys of the table, as far as it has them.
pub async fn drop(session: &mut Session, table: &Table, keys: &[KeyDefinition]) -> Result<()> {
    let drops: Vec<_> =
        keys.iter().map(|one| format!("DROP CONSTRAINT IF EXISTS {}", Q.quote(&one.key.name))).collect();
    if drops.is_empty() {
        return Ok(());
    }
    session.execute(&format!("ALTER TABLE {} {}", table.name.quoted(Q), drops.join(", "))).await.map(|_| ())
}

/// Makes a key again, unless the table has it.
pub async fn restore(session: &mut Session, known: Known, key: &KeyDefinition) -> Result<()> {
    if known.found.is_none() || !meant(known, std::slice::from_ref(&key.key)).is_empty() {
        return Ok(());
    }
    session.execute(&key.statement).await.context("statement", &key.statement).map(|_| ())
}

/// Those keys that the table has not got, each with its statement; without a name where the server finds one.
pub fn missing(
    table: &TableName,
    own: &[KeyDefinition],
    schema: Option<&str>,
    wanted: &[Reference],
) -> Vec<(Reference, String)> {
    let missing = wanted.iter().filter(|key| !own.iter().any(|there| is(&there.key, key, schema)));
    let statement = |key: &Reference| {
        // A name that is taken by something else would refuse the key: then the server finds one.
        let taken = own.iter().any(|there| there.key.name == key.name);
        let mut key = key.clone();
        if taken || key.name.len() > 63 {
            key.name.clear();
        }
        let name = match key.name.is_empty() {
            true => String::new(),
            false => format!("CONSTRAINT {} ", Q.quote(&key.name)),
        };
        let to = TableName { schema: key.to.schema.clone(), name: key.to.table.clone() };
        let sql = format!(
            "ALTER TABLE {} ADD {name}FOREIGN KEY ({}) REFERENCES {} ({}) ON DELETE {} ON UPDATE {}",
            table.quoted(Q),
            Q.quote_all(&key.columns),
            to.quoted(Q),
            Q.quote_all(&key.to_columns),
            key.on_delete,
            key.on_update
        );
        (key, sql)
    };
    missing.map(statement).collect()
}

/// Whether a key that is there is the one that is meant, whatever it is called and does; `schema` is that of names without
/// one.
fn is(there: &Reference, meant: &Reference, schema: Option<&str>) -> bool {
    there.to.schema.as_deref() == meant.to.schema.as_deref().or(schema)
        && there.to.table == meant.to.table
        && there.columns == meant.columns
        && there.to_columns == meant.to_columns
}
