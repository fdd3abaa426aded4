//! The target's record of a run: `weir_commits`, on this system.

use weir_core::{Error, ErrorKind, Receipt, Result, ResultExt};
use weir_mysql::{QUOTING, Session, escape, from_async};
use weir_sql::commits::{COLUMNS, Records};
use weir_sql::{Commits, TableName};

use crate::state::State;

/// Creates the table where it is missing. A user who may not create tables can be given one that is there.
pub(crate) async fn create(session: &mut Session, commits: &Commits) -> Result<()> {
    if is_there(session, commits).await? {
        return Ok(());
    }
    let sql = commits.create(
        QUOTING,
        "varchar(120) CHARACTER SET ascii COLLATE ascii_bin",
        "longtext",
        "timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP",
    );
    let sql = format!("{sql} ENGINE=InnoDB DEFAULT CHARSET=utf8mb4");
    session.run(&sql).await.context("statement", "CREATE TABLE weir_commits")
}

/// Whether the record is there.
///
/// # Errors
/// The table of this name is somebody else's.
async fn is_there(session: &mut Session, commits: &Commits) -> Result<bool> {
    let own = COLUMNS.map(escape).join(", ");
    let found: Option<(i64, i64)> = session
        .row(&format!(
            "SELECT COUNT(*), COUNT(CASE WHEN LOWER(COLUMN_NAME) IN ({own}) THEN 1 END) FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            escape(commits.table.schema.as_deref().unwrap_or_default()),
            escape(&commits.table.name)
        ))
        .await?;
    found.map_or(Ok(false), |(columns, own)| commits.is_there(columns, own))
}

/// All records of the run; none where the table is missing.
pub(crate) async fn read(session: &mut Session, commits: &Commits) -> Result<Records> {
    records(session, &commits.select(QUOTING, "", escape)).await
}

/// As [`read`]; none where the job does without.
pub(crate) async fn read_of(session: &mut Session, state: &State) -> Result<Records> {
    match &state.commits {
        Some(commits) => read(session, commits).await,
        None => Ok(Records::default()),
    }
}

/// As [`read`], but waits for transactions that are about to record something: those that a client which is gone left in
/// the midst of their commit.
pub(crate) async fn read_settled(session: &mut Session, commits: &Commits) -> Result<Records> {
    records(session, &format!("{} LOCK IN SHARE MODE", commits.select(QUOTING, "", escape))).await
}

async fn records(session: &mut Session, sql: &str) -> Result<Records> {
    match session.rows::<(i64, String)>(sql).await {
        Ok(rows) => Records::of(rows),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Records::default()),
        Err(error) => Err(error),
    }
}

/// The run's other entries that have prepared the same target, or were about to make it.
pub(crate) async fn others(session: &mut Session, commits: &Commits, target: &TableName) -> Result<Vec<String>> {
    let Some(sql) = commits.others(QUOTING, escape) else { return Ok(Vec::new()) };
    let target = target.to_string();
    let entries: Vec<(String, String)> = session.rows(&sql).await?;
    // Entries may name the one table in different letters.
    let folded: Option<u64> = session.row("SELECT @@lower_case_table_names").await?;
    let is_same = |other: &str| match folded {
        Some(1..) => other.to_lowercase() == target.to_lowercase(),
        _ => other == target,
    };
    Ok(entries.into_iter().filter(|(_, other)| is_same(other)).map(|(entry, _)| entry).collect())
}

/// Writes a record in the session's transaction. `false`: it is there already.
pub(crate) async fn record(
    session: &mut Session,
    commits: &Commits,
    split: i64,
    target: &TableName,
    receipt: Option<&Receipt>,
) -> Result<bool> {
    let sql = commits.insert(QUOTING, split, &target.to_string(), receipt, escape)?;
    match session.raw(&sql).await? {
        Ok(()) => Ok(true),
        Err(mysql_async::Error::Server(e)) if e.code == 1062 => Ok(false),
        Err(error) => Err(from_async(error)),
    }
}

/// Whether the split is recorded. Waits for a transaction that is about to record it: one that a lost connection left
/// in the midst of its commit.
pub(crate) async fn is_recorded(session: &mut Session, commits: &Commits, split: u32) -> Result<bool> {
    let sql = format!(
        "SELECT split FROM {} WHERE run_id = {} AND split = {split} LOCK IN SHARE MODE",
        commits.table.quoted(QUOTING),
        escape(&commits.run_id)
    );
    Ok(session.row::<i64>(&sql).await?.is_some())
}

/// Drops the run's records.
pub(crate) async fn forget(session: &mut Session, commits: &Commits) -> Result<()> {
    match session.run(&commits.delete(QUOTING, escape)).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// What `finish` says to an attempt that came second. Worth another look: the record has the receipt.
pub(crate) fn overtaken() -> Error {
    Error::new(ErrorKind::Conflict, "another attempt has written this split already").retryable(true)
}

/// Whether a table has no row.
pub(crate) async fn is_empty(session: &mut Session, table: &TableName) -> Result<bool> {
    let row: Option<u8> = session.row(&format!("SELECT 1 FROM {} LIMIT 1", table.quoted(QUOTING))).await?;
    Ok(row.is_none())
}

pub(crate) async fn exists(session: &mut Session, table: &TableName) -> Result<bool> {
    let found: Option<u8> = session
        .row(&format!(
            "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            escape(table.schema.as_deref().unwrap_or_default()),
            escape(&table.name)
        ))
        .await?;
    Ok(found.is_some())
}
