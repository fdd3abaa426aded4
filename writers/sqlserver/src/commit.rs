//! Once a job: DDL before the first task, publishing after the last one.

use weir_core::{Committed, ErrorKind, Receipt, Recorded, Result, ResultExt, WritePlan};
use weir_sql::WriterConfig;
use weir_sql::commits::{PREPARED, Records};
use weir_sql::statements::with_table;
use weir_sqlserver::{QUOTING, Session, exists};

use crate::ledger;
use crate::state::State;
use crate::transaction::{self, Staged, staging_is_gone};

/// Creates the table, and its schema. Safe to call again.
pub(crate) async fn create_table(session: &mut Session, plan: &WritePlan, state: &State) -> Result<()> {
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
    Ok(())
}

/// Makes what else has to be there before the first task; the table and the record are. Safe to call again.
pub(crate) async fn prepare(session: &mut Session, config: &WriterConfig, state: &State) -> Result<()> {
    let mut records = Records::default();
    if let Some(commits) = &state.commits {
        records = ledger::read(session, commits).await?;
    }
    let Records { prepared, recorded, .. } = records;
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
    let staged = Staged { plan, state, receipts };
    let done = transaction::publish(session, std::slice::from_ref(&staged)).await?;
    let mut done = done.into_iter().next().unwrap_or_default();
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

/// Publishes several tables at one moment; [`commit`] does the rest of each. Safe to call again.
pub(crate) async fn publish_together(session: &mut Session, tables: &[Staged<'_>]) -> Result<Vec<Committed>> {
    transaction::publish(session, tables).await
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
