//! The target's record of a run: `weir_commits`, on this system.

use tiberius::error::Error as Driver;
use weir_core::{Error, ErrorKind, Receipt, Result, ResultExt};
use weir_sql::commits::Records;
use weir_sql::statements::plain_create;
use weir_sql::{Commits, TableName};
use weir_sqlserver::{QUOTING, Session, cell_number, cell_text, exists, from_driver, literal};

/// Makes a read wait for those who write what it looks for, also where the database keeps versions of rows.
const SETTLED: &str = " WITH (READCOMMITTEDLOCK)";

/// Whether a table is there, as a condition.
fn is_there(table: &TableName) -> String {
    format!("OBJECT_ID({}, N'U') IS NOT NULL", literal(&table.quoted(QUOTING)))
}

/// Creates a table where it is missing, in one message.
pub(crate) async fn create_missing(session: &mut Session, table: &TableName, sql: &str) -> Result<bool> {
    let sql = format!("IF NOT ({}) BEGIN {sql}; SELECT 1 AS weir_made END", is_there(table));
    match session.raw_rows(&sql).await? {
        Ok(rows) => Ok(!rows.is_empty()),
        // Another table or run has just made it; servers have different errors for that.
        Err(Driver::Server(_)) if exists(session, table).await? => Ok(false),
        Err(error) => Err(from_driver(error)),
    }
}

/// Creates a schema where it is missing.
pub(crate) async fn create_schema(session: &mut Session, schema: &str) -> Result<()> {
    if has_schema(session, schema).await? {
        return Ok(());
    }
    // A statement that has to stand alone in its batch.
    match session.raw(&crate::plan::schema_creation(schema)).await? {
        // As above.
        Err(Driver::Server(_)) if has_schema(session, schema).await? => Ok(()),
        made => made.map_err(from_driver),
    }
}

async fn has_schema(session: &mut Session, schema: &str) -> Result<bool> {
    let sql = format!("SELECT CAST(SCHEMA_ID({}) AS bigint)", literal(schema));
    Ok(session.row(&sql).await?.as_ref().and_then(|row| cell_number(row, 0)).is_some())
}

/// Creates the table of records where it is missing. A user who may not create tables can be given one that is there.
pub(crate) async fn create(session: &mut Session, commits: &Commits) -> Result<()> {
    let sql = commits.create(
        QUOTING,
        "varchar(120) COLLATE Latin1_General_BIN2",
        "nvarchar(max)",
        "datetime2(3) NOT NULL DEFAULT SYSUTCDATETIME()",
    );
    create_missing(session, &commits.table, &plain_create(&sql))
        .await
        .map(drop)
        .context("statement", "CREATE TABLE weir_commits")
}

/// All records of the run; none where the table is missing. Waits for transactions that are about to record something.
pub(crate) async fn read(session: &mut Session, commits: &Commits) -> Result<Records> {
    let select = commits.select(QUOTING, SETTLED, literal);
    let rows = session.rows(&format!("IF {} {select}", is_there(&commits.table))).await?;
    Records::of(rows.iter().map(|row| (cell_number(row, 0).unwrap_or_default(), cell_text(row, 1).unwrap_or_default())))
}

/// Writes a record in the session's transaction. `false`: it is there already.
pub(crate) async fn record(
    session: &mut Session,
    commits: &Commits,
    split: i64,
    target: &TableName,
    receipt: Option<&Receipt>,
) -> Result<bool> {
    let sql = commits.insert(QUOTING, split, &target.to_string(), receipt, literal)?;
    match session.raw(&sql).await? {
        Ok(()) => Ok(true),
        Err(Driver::Server(e)) if matches!(e.code(), 2627 | 2601) => Ok(false),
        Err(error) => Err(from_driver(error)),
    }
}

/// Whether the split is recorded. Waits for a transaction that is about to record it: one that a lost connection left in
/// the midst of its commit.
pub(crate) async fn is_recorded(session: &mut Session, commits: &Commits, split: u32) -> Result<bool> {
    let sql = format!(
        "SELECT split FROM {}{SETTLED} WHERE run_id = {} AND split = {split}",
        commits.table.quoted(QUOTING),
        literal(&commits.run_id)
    );
    Ok(session.row(&sql).await?.is_some())
}

/// Drops the run's records.
pub(crate) async fn forget(session: &mut Session, commits: &Commits) -> Result<()> {
    session.run(&format!("IF {} {}", is_there(&commits.table), commits.delete(QUOTING, literal))).await
}

/// What `finish` says to an attempt that came second. Worth another look: the record has the receipt.
pub(crate) fn overtaken() -> Error {
    Error::new(ErrorKind::Conflict, "another attempt has written this split already").retryable(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_created_in_words_that_the_server_knows() {
        let commits = Commits::new("r", &TableName::parse("dbo.t", QUOTING).unwrap(), None);
        let sql = plain_create(&commits.create(QUOTING, "varchar(120)", "nvarchar(max)", "datetime2(3)"));
        assert!(sql.starts_with("CREATE TABLE [dbo].[weir_commits] (run_id varchar(120) NOT NULL"), "{sql}");
    }
}
