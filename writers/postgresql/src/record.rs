//! What the target remembers of the run: the rows of `weir_commits`, and the locks by which attempts at one split, or at
//! the publication, come after each other.
//!
//! A connection may be lost while the server still works for it. Whoever comes next takes the same lock, which ends only
//! with the transaction before it: what it reads then is final. A session that holds it for a client that is gone is
//! ended, so that its other locks are too.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use sqlx::Row;
use weir_core::lease::{ENTRY, run_of};
use weir_core::{Error, ErrorKind, Receipt, Result, ResultExt};
use weir_postgresql::error::{is_duplicate, is_state, map};
use weir_postgresql::{LOCK_TIMEOUT, Session, literal};
use weir_sql::TableName;
use weir_sql::commits::{self, COLUMNS, Commits, MAKING, PREPARED, Records, TABLE};

use crate::plan::Q;

/// Stands for the split in the lock of whoever publishes.
pub const PUBLISHER: i32 = i32::MAX;

/// The longest wait for a former attempt that has been told to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// FNV-1a.
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// What this login may do in a schema.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    /// Whether the schema exists.
    pub schema: bool,
    /// Whether it may create tables there.
    pub create: bool,
    /// Whether it may create schemas.
    pub schemas: bool,
    /// Whether `weir_commits` is there, and if so, whether it may be read, written and cleaned.
    pub commits: Option<bool>,
}

impl Rights {
    /// Asks the server about the schemas of these tables; without one, about the session's own.
    pub async fn of(session: &mut Session, tables: &[TableName]) -> Result<HashMap<Option<String>, Self>> {
        let schemas: BTreeSet<&Option<String>> = tables.iter().map(|table| &table.schema).collect();
        let schemas: Vec<_> = schemas.into_iter().collect();
        let values = schemas.iter().enumerate().map(|(index, schema)| {
            let schema = schema.as_deref().map_or_else(|| "current_schema()::text".to_owned(), literal);
            format!("({index}, {schema})")
        });
        let rows = session
            .answers(&format!(
                "WITH w(i, name) AS (VALUES {}) \
                 SELECT w.i, n.oid IS NOT NULL, coalesce(has_schema_privilege(n.oid, 'CREATE'), false), \
                 has_database_privilege(current_database(), 'CREATE'), \
                 has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') \
                   AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'DELETE') \
                 FROM w LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.name \
                 LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = {}",
                values.collect::<Vec<_>>().join(", "),
                literal(TABLE)
            ))
            .await?;
        let mut all = HashMap::with_capacity(rows.len());
        for row in &rows {
            let index: i32 = row.try_get(0).map_err(map)?;
            let Some(schema) = schemas.get(index.max(0) as usize) else { continue };
            let rights = Self {
                schema: row.try_get(1).map_err(map)?,
                create: row.try_get(2).map_err(map)?,
                schemas: row.try_get(3).map_err(map)?,
                commits: row.try_get(4).map_err(map)?,
            };
            all.insert((*schema).clone(), rights);
        }
        Ok(all)
    }

    /// Whether finished splits can be recorded.
    pub fn records(&self) -> bool {
        self.commits.unwrap_or(self.create)
    }
}

/// The statement that makes `weir_commits`.
pub fn creation(commits: &Commits) -> String {
    commits.create(Q, "varchar(120)", "text", "timestamp with time zone DEFAULT now()")
}

/// Makes `weir_commits` if it is not there.
pub async fn create(session: &mut Session, commits: &Commits) -> Result<()> {
    let sql = creation(commits);
    for _ in 0..10 {
        // Asked first, for CREATE … IF NOT EXISTS wants the right to create even where there is nothing to create.
        if is_there(session, commits).await? {
            return Ok(());
        }
        match session.try_execute(&sql).await? {
            Ok(_) => return Ok(()),
            // Of two runs that make it at once, one finds its name taken in the catalogue.
            Err(error)
                if weir_postgresql::error::database_error(&error)
                    .is_some_and(|e| matches!(e.code(), "23505" | "42P07" | "42710" | "XX000")) => {}
            Err(error) => return Err(map(error)).context("table", &commits.table),
        }
    }
    Err(Error::new(ErrorKind::Conflict, "the record of finished splits cannot be made: others keep making it")
        .with("table", &commits.table))
}

/// Whether the record is there.
///
/// # Errors
/// The table of this name is somebody else's.
pub async fn is_there(session: &mut Session, commits: &Commits) -> Result<bool> {
    let own = COLUMNS.map(literal).join(", ");
    let rows = session
        .answers(&format!(
            "SELECT count(*), count(*) FILTER (WHERE attname IN ({own})) FROM pg_catalog.pg_attribute \
             WHERE attrelid = to_regclass({}) AND attnum > 0 AND NOT attisdropped",
            literal(&commits.table.quoted(Q))
        ))
        .await?;
    let Some(row) = rows.first() else { return Ok(false) };
    commits.is_there(row.try_get(0).map_err(map)?, row.try_get(1).map_err(map)?)
}

/// Whether a table is there.
pub async fn exists(session: &mut Session, table: &TableName) -> Result<bool> {
    session.answer(&format!("SELECT to_regclass({}) IS NOT NULL", literal(&table.quoted(Q)))).await
}

/// Waits until no session works for the run any more: those that a client left behind, in the midst of a commit perhaps,
/// are ended first. What is recorded then is all there will be.
///
/// # Errors
/// [`Conflict`](ErrorKind::Conflict) where one could not be ended.
pub async fn settle(session: &mut Session, commits: &Commits, target: &str) -> Result<()> {
    evict(session, commits, target, None).await?;
    let held =
        format!("SELECT coalesce(string_agg(DISTINCT l.pid::text, ', '), '') FROM {}", held(commits, target, None));
    let patience = Instant::now();
    loop {
        let at_work: String = session.answer(&held).await?;
        if at_work.is_empty() {
            return Ok(());
        }
        if patience.elapsed() > PATIENCE {
            return Err(still_at_work().with("session", at_work));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Everything recorded of the run.
pub async fn read(session: &mut Session, commits: &Commits) -> Result<Records> {
    match is_there(session, commits).await? {
        true => read_there(session, commits).await,
        false => Ok(Records::default()),
    }
}

/// As [`read`], where the record is known to be there.
pub async fn read_there(session: &mut Session, commits: &Commits) -> Result<Records> {
    let rows = session.answers(&commits.select(Q, "", literal)).await.context("table", &commits.table)?;
    let mut records = Vec::with_capacity(rows.len());
    for row in &rows {
        records.push((row.try_get(0).map_err(map)?, row.try_get(1).map_err(map)?));
    }
    Records::of(records)
}

/// The question whether one split, or one of the marks, is recorded.
fn has(commits: &Commits, split: i64) -> String {
    let table = commits.table.quoted(Q);
    let run = literal(&commits.run_id);
    format!("SELECT EXISTS (SELECT FROM {table} WHERE run_id = {run} AND split = {split})")
}

/// Writes a record, after the statements in `before`, and with `commit` ends the transaction in the same message: a connection that breaks in between
/// would leave a transaction that waits, with the record's lock, for a COMMIT that never comes. `false`: it is there
/// already, and the transaction is broken.
pub async fn write(
    session: &mut Session,
    commits: &Commits,
    split: i64,
    target: &str,
    receipt: Option<&Receipt>,
    (before, commit): (&str, bool),
) -> Result<bool> {
    let mut sql = format!("{before}{}", commits.insert(Q, split, target, receipt, literal)?);
    if commit {
        sql.push_str("; COMMIT");
    }
    match session.try_execute(&sql).await? {
        Ok(_) => Ok(true),
        Err(error) if is_duplicate(&error, TABLE) => Ok(false),
        Err(error) => Err(map(error)).context("table", target),
    }
}

/// Whether other entries of the run write into the table as well.
pub async fn is_shared(session: &mut Session, commits: &Commits, table: &TableName, target: &str) -> Result<bool> {
    let Some(others) = commits.others(Q, literal) else { return Ok(false) };
    session.value(&format!("SELECT EXISTS (SELECT FROM ({others}) o WHERE target IN ({}))", named(table, target))).await
}

/// The table as this entry's job names it, and as another entry may.
fn named(table: &TableName, target: &str) -> String {
    [target, &table.name, &table.to_string()].map(literal).join(", ")
}

/// A statement that fails when the table is there, and neither this entry nor another one of the run has made it.
pub fn unmade(commits: &Commits, table: &TableName, target: &str) -> String {
    let run = run_of(&commits.run_id);
    format!(
        "SELECT 1 / (to_regclass({}) IS NULL OR EXISTS (SELECT FROM {} WHERE split IN ({PREPARED}, {MAKING}) AND target IN ({}) \
         AND (run_id = {} OR substring(run_id, 1, {}) = {})))::int AS unmade",
        literal(&table.quoted(Q)),
        commits.table.quoted(Q),
        named(table, target),
        literal(run),
        run.chars().count() + 1,
        literal(&format!("{run}{ENTRY}"))
    )
}

/// What [`unmade`] has found, in words; also where both make it at one moment.
pub fn made_by_others(error: Error) -> Error {
    if !is_state(&error, &["22012", "42P07", "23505"]) {
        return error;
    }
    commits::made_by_others().because(error)
}

/// Drops the run's records. Nobody waits for the disk: what a crash brings back is litter.
pub async fn forget(session: &mut Session, commits: &Commits) -> Result<()> {
    let delete = commits.delete(Q, literal);
    let sql = format!("BEGIN; SET LOCAL lock_timeout = '5s'; SET LOCAL synchronous_commit = off; {delete}; COMMIT");
    session.execute(&sql).await.map(drop).context("table", &commits.table)
}

/// Drops the run's records, if there are any.
pub async fn delete(session: &mut Session, commits: &Commits) -> Result<()> {
    if is_there(session, commits).await? {
        session.execute(&commits.delete(Q, literal)).await.context("table", &commits.table)?;
    }
    Ok(())
}

/// Begins a transaction. A commit that the server has only in memory must not be told as done.
pub const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET CONSTRAINTS ALL IMMEDIATE; \
                         SELECT set_config('synchronous_commit', 'local', true) WHERE current_setting('synchronous_commit') = 'off'";

/// Takes the run's lock number `of` in the transaction that has begun, and asks whether `split` is recorded.
///
/// # Errors
/// [`Conflict`](ErrorKind::Conflict) where a former attempt holds the lock; its session is told to end, so that another
/// transaction may try again.
pub async fn join(session: &mut Session, commits: &Commits, target: &str, of: i32, split: i64) -> Result<bool> {
    let run = class(commits, target);
    if session.answer(&format!("SELECT pg_try_advisory_xact_lock({run}, {of})")).await? {
        return session.answer(&has(commits, split)).await;
    }
    evict(session, commits, target, Some(of)).await?;
    Err(Error::new(ErrorKind::Conflict, "a former attempt is still at work in the server").retryable(true))
}

/// Begins a transaction that has the run's lock number `of` to itself, and asks whether `split` is recorded; in one
/// exchange of messages, as a rule. `then` is run at its end.
pub async fn begin(
    session: &mut Session,
    commits: &Commits,
    target: &str,
    of: i32,
    split: i64,
    then: &str,
) -> Result<bool> {
    let run = class(commits, target);
    let has = has(commits, split);
    let rows = session.answers(&format!("{BEGIN}; SELECT pg_try_advisory_xact_lock({run}, {of}); {has}; {then}")).await;
    let rows = rows.context("table", &commits.table)?;
    // The setting's own row may come before.
    let answers: Vec<bool> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
    let [.., locked, recorded] = answers.as_slice() else {
        return Err(Error::internal("the record of finished splits gave no answer"));
    };
    if *locked {
        return Ok(*recorded);
    }
    session.execute("ROLLBACK").await?;
    evict(session, commits, target, Some(of)).await?;
    session.execute(&format!("{BEGIN}; SET LOCAL lock_timeout = '{}s'", PATIENCE.as_secs())).await?;
    session.execute(&format!("SELECT pg_advisory_xact_lock({run}, {of})")).await.map_err(|error| {
        match error.kind() {
            ErrorKind::Conflict => still_at_work().because(error),
            _ => error,
        }
    })?;
    session
        .answer(&format!("SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; {has}; {then}"))
        .await
        .context("table", &commits.table)
}

fn still_at_work() -> Error {
    let message =
        "a former attempt is still at work in the server and could not be ended: end its session there, or wait";
    Error::new(ErrorKind::Conflict, message).retryable(true)
}

/// Ends the sessions that still work for the run, or for one split of it, as far as this login may.
pub async fn evict(session: &mut Session, commits: &Commits, target: &str, of: Option<i32>) -> Result<()> {
    let sql = format!("SELECT pg_terminate_backend(l.pid) FROM {}", held(commits, target, of));
    // It may be another login's by now; then waiting has to do.
    if let Err(error) = session.try_execute(&sql).await? {
        tracing::debug!(%error, "a former attempt's session could not be ended");
    }
    Ok(())
}

/// The locks of the run, or of one split of it, that other sessions hold: `FROM` and `WHERE`.
fn held(commits: &Commits, target: &str, of: Option<i32>) -> String {
    let which = of.map_or_else(String::new, |of| format!(" AND l.objid = {of}::int8::oid"));
    format!(
        "pg_catalog.pg_locks l \
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.pid <> pg_backend_pid() \
           AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) \
           AND l.classid = {}::int8::oid{which}",
        class(commits, target)
    )
}

/// The number of the run's locks; positive, as an oid shows it.
fn class(commits: &Commits, target: &str) -> i32 {
    (hash(&format!("{}/{target}", commits.run_id)) & 0x7fff_ffff) as i32
}
