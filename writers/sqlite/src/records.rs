//! The file's own record of finished splits, in the same transactions as their rows.

use weir_core::lease::is_of_run;
use weir_core::{Error, ErrorKind, Receipt, Result};
use weir_sql::Commits;
use weir_sql::commits::{self, Records};
use weir_sqlite::catalog::schema_of;
use weir_sqlite::{Database, QUOTING, Value};

/// A text as an SQL literal.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Whether a table or view of that name is there; the file takes letters of either case for the same ones.
pub fn has_table(database: &Database<'_>, schema: &str, name: &str) -> Result<bool> {
    let schema = QUOTING.quote(schema);
    let sql = format!(
        "SELECT count(*) FROM {schema}.sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE"
    );
    Ok(database.integer(&sql, &[Value::Text(name.as_bytes())])? == Some(1))
}

/// Makes the table of records. Only a missing one is written.
pub fn create(database: &Database<'_>, commits: &Commits) -> Result<()> {
    if !has_table(database, schema_of(&commits.table), &commits.table.name)? {
        database.execute(&commits.create(QUOTING, "TEXT", "TEXT", "TEXT DEFAULT CURRENT_TIMESTAMP"))?;
    }
    Ok(())
}

/// What is recorded of the run; nothing where the table of records is missing.
pub fn read(database: &Database<'_>, commits: &Commits) -> Result<Records> {
    if !has_table(database, schema_of(&commits.table), &commits.table.name)? {
        return Ok(Records::default());
    }
    let mut rows = Vec::new();
    database.query(&commits.select(QUOTING, "", literal), &[], |row| {
        rows.push((row.integer(0).unwrap_or(commits::PREPARED), row.text(1).unwrap_or_default()));
    })?;
    Records::of(rows)
}

/// Whether anything is recorded that a run has written, whichever entry of it.
pub fn has_of_run(database: &Database<'_>, commits: &Commits, run_id: &str) -> Result<bool> {
    if !has_table(database, schema_of(&commits.table), &commits.table.name)? {
        return Ok(false);
    }
    let mut found = false;
    database.query(&commits.names(run_id, QUOTING, literal), &[], |row| {
        found |= row.text(0).is_some_and(|name| is_of_run(&name, run_id));
    })?;
    Ok(found)
}

/// Whether another entry of the run has made this table, or found it made.
pub fn has_other(database: &Database<'_>, commits: &Commits, target: &str) -> Result<bool> {
    let Some(sql) = commits.others(QUOTING, literal) else { return Ok(false) };
    let mut found = false;
    database.query(&sql, &[], |row| found |= row.text(1).is_some_and(|other| other.eq_ignore_ascii_case(target)))?;
    Ok(found)
}

/// Adds a record within the open transaction.
///
/// # Errors
/// [`Conflict`](ErrorKind::Conflict) where it is there already: another attempt was first.
pub fn add(
    database: &Database<'_>,
    commits: &Commits,
    split: i64,
    target: &str,
    receipt: Option<&Receipt>,
) -> Result<()> {
    let insert = commits.insert(QUOTING, split, target, receipt, literal)?;
    database.execute(&insert).map_err(|failure| if failure.blames_row() { overtaken(split) } else { failure.into() })
}

/// Fails when the split is recorded, before its rows are written once more.
pub fn refuse_recorded(database: &Database<'_>, commits: &Commits, split: i64) -> Result<()> {
    let table = commits.table.quoted(QUOTING);
    let sql = format!("SELECT 1 FROM {table} WHERE run_id = ?1 AND split = ?2");
    let values = [Value::Text(commits.run_id.as_bytes()), Value::Integer(split)];
    match database.integer(&sql, &values)? {
        Some(_) => Err(overtaken(split)),
        None => Ok(()),
    }
}

/// Removes all of the run's records.
pub fn delete(database: &Database<'_>, commits: &Commits) -> Result<()> {
    if has_table(database, schema_of(&commits.table), &commits.table.name)? {
        database.execute(&commits.delete(QUOTING, literal))?;
    }
    Ok(())
}

fn overtaken(split: i64) -> Error {
    Error::new(ErrorKind::Conflict, "another attempt at the split was committed first").with("split", split)
}
