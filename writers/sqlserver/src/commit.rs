//! Once a job: DDL before the first task, publishing after the last one.

use std::time::Duration;

use weir_core::{Committed, Error, ErrorKind, OnEmpty, Receipt, Recorded, Result, ResultExt, WriteMode, WritePlan};
use weir_sql::WriterConfig;
use weir_sql::commits::{PREPARED, PUBLISHED, Records};
use weir_sql::statements::with_table;
use weir_sqlserver::{QUOTING, Session, exists};

use crate::ledger;
use crate::publish::Names;
use crate::state::{Publish, State};

/// How often a publishing transaction is tried that others were in the way of.
const ATTEMPTS: u32 = 5;

/// Creates what has to be there before the first task. Safe to call again.
pub(crate) async fn prepare(
    session: &mut Session,
    config: &WriterConfig,
    plan: &WritePlan,
    state: &State,
) -> Result<()> {
    if let Some(schema) = &state.create_schema {
        ledger::create_schema(session, schema).await.context("statement", "CREATE SCHEMA")?;
    }
    if let Some(create) = &state.create {
        let new = ledger::create_missing(session, &state.table, create).await.context("statement", "CREATE TABLE")?;
        if new {
            for sql in &state.details {
                session.run(sql).await.context("statement", sql)?;
            }
            tracing::info!(table = %plan.table, "created");
        }
    }
    let mut records = Records::default();
    if let Some(commits) = &state.commits {
        ledger::create(session, commits).await?;
        records = ledger::read(session, commits).await?;
    }
    let Records { prepared, recorded } = records;
    if recorded.published {
        return Ok(());
    }
    if !prepared && recorded.receipts.is_empty() {
        for sql in with_table(config.pre_sql.as_slice(), &state.table, QUOTING) {
            session.run(&sql).await.context("preSql", &sql)?;
        }
    }
    if let (Some(staging), Some(stage)) = (&state.staging, &state.stage) {
        if !recorded.receipts.is_empty() && !exists(session, staging).await? {
            return Err(staging_is_gone().with("staging", staging));
        }
        ledger::create_missing(session, staging, stage).await.context("statement", "staging")?;
    }
    if let Some(commits) = &state.commits
        && !prepared
    {
        ledger::record(session, commits, PREPARED, &state.table, None).await?;
    }
    Ok(())
}

fn staging_is_gone() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "somebody dropped the staging table of this run, and the rows of finished splits with it: start a new run",
    )
}

/// What the target remembers of the run.
pub(crate) async fn recorded(session: &mut Session, state: &State) -> Result<Recorded> {
    match &state.commits {
        Some(commits) => Ok(ledger::read(session, commits).await?.recorded),
        None => Ok(Recorded::default()),
    }
}

/// Publishes and tidies up. Safe to call again: the record tells how far an earlier call came.
pub(crate) async fn commit(
    session: &mut Session,
    config: &WriterConfig,
    plan: &WritePlan,
    state: &State,
    receipts: &[Receipt],
) -> Result<Committed> {
    let rows: u64 = receipts.iter().map(|r| r.rows).sum();
    let mut done = Committed { description: format!("{rows} rows in {} splits", receipts.len()), ..Default::default() };
    let staged = match &state.staging {
        Some(staging) => exists(session, staging).await?,
        None => false,
    };
    let published = match &state.commits {
        Some(_) => recorded(session, state).await?.published,
        // Without a record, publishing is over when the staging table is gone.
        None => state.staging.is_some() && !staged,
    };
    if published {
        done.description = "published before".into();
    } else if state.staging.is_some() {
        if !staged {
            return Err(staging_is_gone());
        }
        (done.description, done.warnings) = publish(session, config, plan, state, receipts).await?;
    } else if let Some(commits) = &state.commits {
        ledger::record(session, commits, PUBLISHED, &state.table, None).await?;
    }
    for sql in with_table(config.post_sql.as_slice(), &state.table, QUOTING) {
        if let Err(error) = session.run(&sql).await {
            if error.kind() == ErrorKind::Cancelled {
                return Err(error);
            }
            done.failures.push(format!("postSql failed: {}", error.full()));
            break;
        }
    }
    drop_staging(session, state).await?;
    Ok(done)
}

async fn publish(
    session: &mut Session,
    config: &WriterConfig,
    plan: &WritePlan,
    state: &State,
    receipts: &[Receipt],
) -> Result<(String, Vec<String>)> {
    let mut warnings = Vec::new();
    let rows: u64 = receipts.iter().map(|r| r.rows).sum();
    let names = Names::new(plan, state, receipts)?;
    let mut statements = names.statements(&state.publish, &plan.keys);
    let mut description = format!("published {rows} rows in one transaction");
    if plan.mode == WriteMode::Overwrite && rows == 0 {
        match config.on_empty {
            OnEmpty::Overwrite => {
                warnings.push(format!("the source is empty, and so is {} now", plan.table));
                description = "the source is empty: the target was emptied".into();
            }
            OnEmpty::Keep => {
                warnings.push(format!("the source is empty: {} is kept as it was", plan.table));
                description = "the source is empty: the target stays as it was".into();
                statements.clear();
            }
            OnEmpty::Error => {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "the source is empty, and `onEmpty` is `error`: nothing was changed",
                ));
            }
        }
    }
    names.check_duplicates(session, config.duplicate_keys, &plan.keys).await?;
    let mut attempt = 1;
    loop {
        match transaction(session, state, &statements).await {
            Ok(true) => return Ok((description, warnings)),
            Ok(false) => return Ok(("published before".into(), Vec::new())),
            Err(error) if error.kind() != ErrorKind::Cancelled => {
                // A deadlock's victim is rolled back already; everything else must not hold its locks.
                let back = session.run("IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION").await;
                let again = error.kind() == ErrorKind::Conflict && error.is_retryable();
                if !again || back.is_err() || attempt == ATTEMPTS {
                    return Err(explained(error, state));
                }
                tracing::info!(%error, attempt, "publishing is tried again");
                tokio::time::sleep(Duration::from_millis(50 << attempt)).await;
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// One transaction, the record first: whoever comes second waits for it and then publishes nothing.
async fn transaction(session: &mut Session, state: &State, statements: &[String]) -> Result<bool> {
    session.run("BEGIN TRANSACTION").await?;
    if let Some(commits) = &state.commits
        && !ledger::record(session, commits, PUBLISHED, &state.table, None).await?
    {
        session.run("ROLLBACK TRANSACTION").await?;
        return Ok(false);
    }
    for sql in statements {
        session.run(sql).await.context("step", sql.split_whitespace().next().unwrap_or_default())?;
    }
    session.run("COMMIT TRANSACTION").await?;
    Ok(true)
}

fn explained(error: Error, state: &State) -> Error {
    let of_key = error.context().iter().any(|(k, v)| *k == "code" && v == "547");
    if matches!(state.publish, Publish::Diff(_)) && of_key {
        return Error::new(
            ErrorKind::Conflict,
            "rows that are missing in the source are still referred to by other tables, or new ones refer to rows that are \
             not there: nothing was changed; delete the rows that refer to them, or use upsert",
        )
        .because(error);
    }
    error
}

/// Takes back what is not published.
pub(crate) async fn abort(session: &mut Session, plan: &WritePlan, state: &State) -> Result<()> {
    drop_staging(session, state).await?;
    if plan.creates && exists(session, &state.table).await? {
        let row = session.row(&format!("SELECT TOP 1 1 AS weir_row FROM {}", state.table.quoted(QUOTING))).await?;
        if row.is_none() {
            session.run(&format!("DROP TABLE {}", state.table.quoted(QUOTING))).await?;
        }
    }
    forget(session, state).await
}

/// Drops the record of the run.
pub(crate) async fn forget(session: &mut Session, state: &State) -> Result<()> {
    match &state.commits {
        Some(commits) => ledger::forget(session, commits).await,
        None => Ok(()),
    }
}

async fn drop_staging(session: &mut Session, state: &State) -> Result<()> {
    if let Some(staging) = &state.staging {
        session.run(&format!("DROP TABLE IF EXISTS {}", staging.quoted(QUOTING))).await?;
    }
    Ok(())
}
