//! The keys of tables: those that tell their rows apart, and those that other tables have onto them.

use std::collections::HashMap;

use weir_core::{ForeignKey, ObjectName, Result};

use crate::catalog::{Table, get};
use crate::connection::{Session, literal};

/// A list of oids, for a comparison with `= ANY`.
pub fn among(oids: &[i64]) -> String {
    let list: Vec<_> = oids.iter().map(i64::to_string).collect();
    format!("= ANY (ARRAY[{}]::oid[])", list.join(","))
}

/// The columns of every unique index without expressions or conditions, the primary key first.
///
/// # Errors
/// Those of the connection.
pub async fn unique_keys(session: &mut Session, table: &Table) -> Result<Vec<Vec<String>>> {
    Ok(unique_keys_of(session, &[table.oid]).await?.remove(&table.oid).unwrap_or_default())
}

/// As [`unique_keys`], for tables by their oids.
///
/// # Errors
/// Those of the connection.
pub async fn unique_keys_of(session: &mut Session, oids: &[i64]) -> Result<HashMap<i64, Vec<Vec<String>>>> {
    let rows = session
        .answers(&format!(
            "SELECT i.indrelid::int8, \
             (SELECT array_agg(a.attname::text ORDER BY k.position) FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, position) \
               JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
               WHERE k.position <= i.indnkeyatts) \
             FROM pg_catalog.pg_index i WHERE i.indrelid {} AND i.indisunique AND i.indisvalid AND i.indimmediate \
               AND i.indpred IS NULL AND i.indexprs IS NULL ORDER BY i.indisprimary DESC, i.indexrelid",
            among(oids)
        ))
        .await?;
    let mut keys: HashMap<i64, Vec<Vec<String>>> = HashMap::new();
    for row in &rows {
        keys.entry(get(row, 0)?).or_default().extend(get::<Option<Vec<String>>>(row, 1)?);
    }
    Ok(keys)
}

/// The foreign keys that tables have, by their oids, in name order.
///
/// # Errors
/// Those of the connection.
pub async fn foreign_keys(session: &mut Session, oids: &[i64]) -> Result<HashMap<i64, Vec<ForeignKey>>> {
    let names = |numbers: &str, relation: &str| {
        format!(
            "(SELECT array_agg(a.attname::text ORDER BY k.position) FROM unnest({numbers}) WITH ORDINALITY k(attnum, position) \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = {relation} AND a.attnum = k.attnum)"
        )
    };
    let rows = session
        .answers(&format!(
            "SELECT f.conrelid::int8, f.conname::text, {}, current_database()::text, rn.nspname::text, r.relname::text, {}, \
             f.confdeltype::text, f.confupdtype::text FROM pg_catalog.pg_constraint f \
             JOIN pg_catalog.pg_class r ON r.oid = f.confrelid JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace \
             WHERE f.contype = 'f' AND f.conrelid {} ORDER BY 1, 2",
            names("f.conkey", "f.conrelid"),
            names("f.confkey", "f.confrelid"),
            among(oids)
        ))
        .await?;
    let mut all: HashMap<i64, Vec<ForeignKey>> = HashMap::new();
    for row in &rows {
        all.entry(get(row, 0)?).or_default().push(ForeignKey {
            name: get(row, 1)?,
            columns: get::<Option<Vec<String>>>(row, 2)?.unwrap_or_default(),
            to: ObjectName { database: get(row, 3)?, schema: Some(get(row, 4)?), table: get(row, 5)? },
            to_columns: get::<Option<Vec<String>>>(row, 6)?.unwrap_or_default(),
            on_delete: action(&get::<String>(row, 7)?).into(),
            on_update: action(&get::<String>(row, 8)?).into(),
        });
    }
    Ok(all)
}

fn action(code: &str) -> &'static str {
    match code {
        "r" => "RESTRICT",
        "c" => "CASCADE",
        "n" => "SET NULL",
        "d" => "SET DEFAULT",
        _ => "NO ACTION",
    }
}

/// A foreign key that another table, or the table itself, has onto it.
#[derive(Debug, Clone)]
pub struct Referring {
    /// The oid of the table that has it.
    pub oid: i64,
    /// Its name, as the session sees it.
    pub table: String,
    /// The name of the key.
    pub key: String,
    /// Whether it is the table itself.
    pub itself: bool,
    /// Whether its rows go or change when those that they refer to are deleted.
    pub cascades: bool,
}

/// The foreign keys onto tables, by their oids, in the order of the tables that have them.
///
/// # Errors
/// Those of the connection.
pub async fn referring(session: &mut Session, oids: &[i64]) -> Result<HashMap<i64, Vec<Referring>>> {
    let sql = format!(
        "SELECT confrelid::int8, conrelid::int8, conrelid::regclass::text, conname::text, conrelid = confrelid, \
         confdeltype IN ('c', 'n', 'd') FROM pg_catalog.pg_constraint WHERE contype = 'f' AND confrelid {} ORDER BY 3, 4",
        among(oids)
    );
    let mut all: HashMap<i64, Vec<Referring>> = HashMap::new();
    for row in &session.answers(&sql).await? {
        all.entry(get(row, 0)?).or_default().push(Referring {
            oid: get(row, 1)?,
            table: get(row, 2)?,
            key: get(row, 3)?,
            itself: get(row, 4)?,
            cascades: get(row, 5)?,
        });
    }
    Ok(all)
}

/// Whether the unique index on exactly these columns holds NULLs equal (`NULLS NOT DISTINCT`).
///
/// # Errors
/// Those of the connection.
pub async fn nulls_are_equal(session: &mut Session, table: &Table, columns: &[String]) -> Result<bool> {
    if session.version < 150_000 {
        return Ok(false);
    }
    let mut names: Vec<_> = columns.iter().map(|c| literal(c)).collect();
    names.sort();
    session
        .value(&format!(
            "SELECT coalesce(bool_or(i.indnullsnotdistinct), false) FROM pg_catalog.pg_index i \
             WHERE i.indrelid = {} AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
               AND i.indnkeyatts = {} AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, position) \
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
                 WHERE k.position <= i.indnkeyatts AND a.attname::text NOT IN ({}))",
            table.oid,
            names.len(),
            names.join(", ")
        ))
        .await
}
