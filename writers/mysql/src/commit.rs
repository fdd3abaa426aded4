//! Once a job: DDL before the first task, publishing after the last one.

use weir_core::{Committed, ErrorKind, Recorded, Result, ResultExt, Revocable};
use weir_mysql::{QUOTING, Session, from_async};
use weir_sql::WriterConfig;
use weir_sql::commits::{PREPARED, Records};
use weir_sql::statements::with_table;

use crate::ledger::{self, exists};
use crate::state::State;
use crate::transaction::{self, Staged, staging_is_gone};

/// Makes what else has to be there before the first task; the table and the record are. Safe to call again.
pub(crate) async fn prepare(
    session: &mut Session,
    config: &WriterConfig,
    state: &State,
    Records { prepared, recorded, .. }: Records,
) -> Result<()> {
    if !prepared && recorded.receipts.is_empty() {
        for sql in with_table(config.pre_sql.as_slice(), &state.table, QUOTING) {
            session.run(&sql).await.context("preSql", &sql)?;
        }
    }
    if let Some(staging) = &state.staging {
        if !recorded.receipts.is_empty() && !exists(session, staging).await? {
            return Err(staging_is_gone().with("staging", staging));
        }
        for sql in &state.stage {
            match session.raw(sql).await? {
                // The column is there from the first call.
                Err(mysql_async::Error::Server(e)) if e.code == 1060 => {}
                other => other.map_err(from_async).context("statement", "staging")?,
            }
        }
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
        Some(commits) => Ok(ledger::read_settled(session, commits).await?.recorded),
        None => Ok(Recorded::default()),
    }
}

/// Publishes and tidies up. Safe to call again: the record tells how far an earlier call came.
pub(crate) async fn commit(
    session: &mut Session,
    config: &WriterConfig,
    staged: &Staged<'_>,
    revocable: &Revocable,
) -> Result<Committed> {
    let state = staged.state;
    let done = transaction::publish(session, std::slice::from_ref(staged), revocable).await?;
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
    // The rows are published, so nothing fails here.
    if let Err(error) = drop_staging(session, state).await {
        tracing::warn!(%error, table = %state.table, "a staging table is left behind");
    }
    Ok(done)
}

/// Publishes several tables at one moment; [`commit`] does the rest of each. Safe to call again.
pub(crate) async fn publish_together(
    session: &mut Session,
    tables: &[Staged<'_>],
    revocable: &Revocable,
) -> Result<Vec<Committed>> {
    let done = transaction::publish(session, tables, revocable).await?;
    // Without a record the staging tables are empty now, and of no more use. The rows are published, so nothing fails here.
    for staged in tables.iter().filter(|staged| staged.state.commits.is_none()) {
        if let Err(error) = drop_staging(session, staged.state).await {
            tracing::warn!(table = %staged.plan.table, %error, "the staging table is left behind");
        }
    }
    Ok(done)
}

/// Drops the record of the run.
pub(crate) async fn forget(session: &mut Session, state: &State) -> Result<()> {
    match &state.commits {
        Some(commits) => ledger::forget(session, commits).await,
        None => Ok(()),
    }
}

pub(crate) async fn drop_staging(session: &mut Session, state: &State) -> Result<()> {
    if let Some(staging) = &state.staging {
        session.run(&format!("DROP TABLE IF EXISTS {}", staging.quoted(QUOTING))).await?;
    }
    Ok(())
}
