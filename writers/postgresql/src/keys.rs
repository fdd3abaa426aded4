//! The table's foreign keys: found, dropped, made again.

use std::collections::HashMap;

use weir_core::{Error, KeyDefinition, ObjectName, Reference, Result, ResultExt, TargetName};
use weir_postgresql::Session;
use weir_postgresql::catalog::Table;
use weir_postgresql::structure::describe;
use weir_sql::TableName;

use crate::plan::Q;

/// Those of the table's keys that are meant, each with the server's own words for it.
pub async fn definitions(session: &mut Session, table: &Table, meant: &[Reference]) -> Result<Vec<KeyDefinition>> {
    let mut own = Own::of(session, table).await?;
    own.keys.retain(|key| meant.iter().any(|meant| own.schema.is(key, meant)));
    if own.keys.is_empty() {
        return Ok(Vec::new());
    }
    // The server leaves a schema out that is in the path, and the path may be another one when the key is made again.
    let said: String = session
        .answer(&format!(
            "BEGIN; SET LOCAL search_path = pg_catalog; \
             SELECT coalesce(json_object_agg(conname, pg_get_constraintdef(oid)), '{{}}')::text FROM pg_constraint \
             WHERE contype = 'f' AND conrelid = {}; COMMIT",
            table.oid
        ))
        .await?;
    let mut said: HashMap<String, String> =
        serde_json::from_str(&said).map_err(|error| Error::internal("the server's JSON is none").because(error))?;
    let of = |key: Reference| {
        let said = said.remove(&key.name)?;
        let statement = format!("ALTER TABLE {} ADD CONSTRAINT {} {said}", table.name.quoted(Q), Q.quote(&key.name));
        Some(KeyDefinition { key, statement })
    };
    Ok(own.keys.into_iter().filter_map(of).collect())
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
pub async fn restore(session: &mut Session, table: &Table, key: &KeyDefinition) -> Result<()> {
    let own = Own::of(session, table).await?;
    if own.keys.iter().any(|there| own.schema.is(there, &key.key)) {
        return Ok(());
    }
    session.execute(&key.statement).await.context("statement", &key.statement).map(|_| ())
}

/// The statements for those keys that the table has not got.
pub async fn missing(session: &mut Session, table: &Table, wanted: &[Reference]) -> Result<Vec<String>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let own = Own::of(session, table).await?;
    let missing = wanted.iter().filter(|key| !own.keys.iter().any(|there| own.schema.is(there, key)));
    let statement = |key: &Reference| {
        // A name that is taken by something else would refuse the key: then the server finds one.
        let taken = own.keys.iter().any(|there| there.name == key.name);
        let name = match taken || key.name.is_empty() || key.name.len() > 63 {
            true => String::new(),
            false => format!("CONSTRAINT {} ", Q.quote(&key.name)),
        };
        let to = TableName { schema: key.to.schema.clone(), name: key.to.table.clone() };
        format!(
            "ALTER TABLE {} ADD {name}FOREIGN KEY ({}) REFERENCES {} ({}) ON DELETE {} ON UPDATE {}",
            table.name.quoted(Q),
            Q.quote_all(&key.columns),
            to.quoted(Q),
            Q.quote_all(&key.to_columns),
            key.on_delete,
            key.on_update
        )
    };
    Ok(missing.map(statement).collect())
}

/// The foreign keys that the table has.
struct Own {
    keys: Vec<Reference>,
    schema: OwnSchema,
}

/// The schema of names without one.
struct OwnSchema(Option<String>);

impl OwnSchema {
    /// Whether a key that is there is the one that is meant, whatever it is called and does.
    fn is(&self, there: &Reference, meant: &Reference) -> bool {
        there.to.schema == meant.to.schema.clone().or_else(|| self.0.clone())
            && there.to.table == meant.to.table
            && there.columns == meant.columns
            && there.to_columns == meant.to_columns
    }
}

impl Own {
    async fn of(session: &mut Session, table: &Table) -> Result<Self> {
        let name = ObjectName {
            database: session.value("SELECT current_database()::text").await?,
            schema: table.name.schema.clone(),
            table: table.name.name.clone(),
        };
        let schema = OwnSchema(session.value("SELECT current_schema()::text").await?);
        let described = describe(session, &[name]).await?;
        let keys = described.into_iter().flat_map(|table| table.foreign_keys).map(|key| Reference {
            name: key.name,
            columns: key.columns,
            to: TargetName { schema: key.to.schema, table: key.to.table },
            to_columns: key.to_columns,
            on_delete: key.on_delete,
            on_update: key.on_update,
        });
        Ok(Self { keys: keys.collect(), schema })
    }
}
