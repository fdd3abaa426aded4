//! Tables as a job names them: the server's own rule, and nothing that is merely alike.

use std::collections::HashMap;
use std::fmt;

use weir_core::config::nearest;
use weir_core::{Error, ErrorKind, Result};
use weir_sql::{Quoting, TableName, no_such};

use crate::catalog::{Table, describe_all, get};
use crate::connection::{Session, literal};

/// A table as it is named. A part of the name that is not quoted also stands for what the server makes of it: small letters,
/// of those of ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The name as it is written.
    pub name: TableName,
    /// Whether the schema is written without quotation marks, and whether the table is.
    folds: [bool; 2],
}

impl Wanted {
    /// Reads a job's `table` entry.
    ///
    /// # Errors
    /// It is no name of a table.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, quoted) = TableName::parse_marked(text, Quoting::DOUBLE)?;
        Ok(Self { name, folds: quoted.map(|quoted| !quoted) })
    }

    /// This table and no other.
    pub fn exactly(name: &TableName) -> Self {
        Self { name: name.clone(), folds: [false; 2] }
    }

    /// The names that it may mean, the first one that is there.
    fn readings(&self) -> Vec<TableName> {
        let of = |part: &str, folds: bool| {
            let mut all = vec![part.to_owned()];
            all.extend(Some(part.to_ascii_lowercase()).filter(|folded| folds && folded != part));
            all
        };
        let schemas = match &self.name.schema {
            Some(schema) => of(schema, self.folds[0]).into_iter().map(Some).collect(),
            None => vec![None],
        };
        let names = of(&self.name.name, self.folds[1]);
        let named = |schema: Option<String>| names.iter().map(move |name| (schema.clone(), name.clone()));
        schemas.into_iter().flat_map(named).map(|(schema, name)| TableName { schema, name }).collect()
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// Finds a table. Without a schema the session's search path holds. `None` when there is none.
///
/// # Errors
/// Those of the connection.
pub async fn find_table(session: &mut Session, wanted: &Wanted) -> Result<Option<Table>> {
    let found = find_tables(session, std::slice::from_ref(wanted)).await?.pop();
    found.unwrap_or(Ok(None))
}

/// As [`find_table`] for each of these, in their order, in as many queries as for one of them.
///
/// # Errors
/// Those of the connection.
pub async fn find_tables(session: &mut Session, wanted: &[Wanted]) -> Result<Vec<Result<Option<Table>>>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let readings = wanted.iter().enumerate().flat_map(|(index, wanted)| {
        wanted.readings().into_iter().enumerate().map(move |(rank, table)| {
            let schema = table.schema.as_deref().map_or_else(|| "NULL::text".into(), literal);
            format!("({index}, {rank}, {schema}, {})", literal(&table.name))
        })
    });
    let rows = session
        .answers(&format!(
            "WITH w(i, rank, schema, name) AS (VALUES {}) SELECT DISTINCT ON (w.i) w.i, c.oid::int8 FROM w \
             JOIN pg_catalog.pg_class c ON c.relname = w.name JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r','p','v','m','f') AND CASE WHEN w.schema IS NULL \
               THEN n.nspname = ANY (current_schemas(true)) ELSE n.nspname = w.schema END \
             ORDER BY w.i, w.rank, array_position(current_schemas(true), n.nspname)",
            readings.collect::<Vec<_>>().join(", ")
        ))
        .await?;
    let mut picked: Vec<Option<i64>> = vec![None; wanted.len()];
    for row in &rows {
        if let Some(picked) = picked.get_mut(get::<i32>(row, 0)?.max(0) as usize) {
            *picked = Some(get(row, 1)?);
        }
    }
    let mut oids: Vec<i64> = picked.iter().copied().flatten().collect();
    oids.sort_unstable();
    oids.dedup();
    let described = describe_all(session, &oids).await?;
    let described: HashMap<i64, Table> = described.into_iter().map(|table| (table.oid, table)).collect();
    let gone = || Error::new(ErrorKind::NotFound, "the table was dropped just now: run again");
    let of = |oid: Option<i64>| oid.map(|oid| described.get(&oid).cloned().ok_or_else(gone)).transpose();
    Ok(picked.into_iter().map(of).collect())
}

/// As [`find_table`], but a missing table is an error that names the nearest one.
///
/// # Errors
/// [`ErrorKind::NotFound`].
pub async fn require_table(session: &mut Session, wanted: &Wanted) -> Result<Table> {
    match find_table(session, wanted).await? {
        Some(table) => Ok(table),
        None => Err(missing(session, wanted).await?),
    }
}

/// That a table is missing, and what may be meant.
///
/// # Errors
/// Those of the connection.
pub async fn missing(session: &mut Session, wanted: &Wanted) -> Result<Error> {
    if let Some(schema) = &wanted.name.schema {
        let schemas: Vec<String> =
            texts(session, "SELECT nspname::text FROM pg_catalog.pg_namespace ORDER BY 1").await?;
        let readings = wanted.readings();
        if !readings.iter().any(|reading| reading.schema.as_ref().is_some_and(|schema| schemas.contains(schema))) {
            let near = nearest(schema, schemas.iter().map(String::as_str)).map(as_written);
            let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            let text = format!("no such table: `{wanted}`, for there is no schema `{schema}`{hint}");
            return Ok(Error::new(ErrorKind::NotFound, text));
        }
    }
    let names: Vec<String> = names(session, wanted).await?.iter().map(|name| as_written(name)).collect();
    Ok(no_such("table", &wanted.name.name, names.iter().map(String::as_str)))
}

/// The name of the existing table that is nearest to `wanted`, as a job would write it.
///
/// # Errors
/// Those of the connection.
pub async fn nearest_table(session: &mut Session, wanted: &Wanted) -> Result<Option<String>> {
    let names = names(session, wanted).await?;
    Ok(nearest(&wanted.name.name, names.iter().map(String::as_str)).map(as_written))
}

/// A name that is found whatever else is there.
fn as_written(name: &str) -> String {
    let plain = |c: char| c == '_' || c.is_alphanumeric() && !c.is_ascii_uppercase();
    if name.chars().all(plain) { name.to_owned() } else { Quoting::DOUBLE.quote(name) }
}

/// The tables beside it.
async fn names(session: &mut Session, wanted: &Wanted) -> Result<Vec<String>> {
    let schemas: Vec<String> = wanted.readings().iter().filter_map(|one| one.schema.as_deref().map(literal)).collect();
    let place = match schemas.is_empty() {
        false => format!("n.nspname IN ({})", schemas.join(", ")),
        true => "n.nspname = ANY (current_schemas(false))".into(),
    };
    texts(
        session,
        &format!(
            "SELECT c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r','p','v','m','f') AND c.relname NOT LIKE 'weir\\_%' AND {place} ORDER BY 1 LIMIT 5000"
        ),
    )
    .await
}

async fn texts(session: &mut Session, sql: &str) -> Result<Vec<String>> {
    session.rows(sql).await?.iter().map(|row| get(row, 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_quoted_is_read_as_written_and_as_the_server_folds_it() {
        let readings = |text: &str| {
            let readings = Wanted::parse(text).unwrap().readings();
            readings.iter().map(TableName::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(readings("orders"), "orders");
        assert_eq!(readings("ORDERS"), "ORDERS orders");
        assert_eq!(readings("Shop.ORDERS"), "Shop.ORDERS Shop.orders shop.ORDERS shop.orders");
        assert_eq!(readings("Shop.\"Orders\""), "Shop.Orders shop.Orders");
        assert_eq!(readings("\"Shop\".Orders"), "Shop.Orders Shop.orders");
        assert_eq!(readings("\"ORDERS\""), "ORDERS");
        assert_eq!(readings("ÜBERSICHT"), "ÜBERSICHT Übersicht");
        assert_eq!(Wanted::exactly(&TableName::bare("Foo")).readings(), [TableName::bare("Foo")]);
    }

    #[test]
    fn hints_are_written_as_a_job_writes_them() {
        assert_eq!(
            ["kunde", "Kunde", "übersicht", "a b"].map(as_written),
            ["kunde", "\"Kunde\"", "übersicht", "\"a b\""]
        );
    }
}
