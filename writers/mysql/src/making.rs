//! The making of the target, and its end where the run comes to nothing.
//!
//! DDL commits by itself here, so no transaction holds both the table and the record that the run has made it; and what somebody
//! else makes after the plan has looked for the table is theirs. So the table is created under a name of the run's own, then the
//! run records that it makes it, and then the table gets its name, which the server refuses where it is taken. Whatever was
//! interrupted, the table is the run's where the record is there and the name of its own is not.
//!
//! A user may have the right to create tables and none to rename them, and a job may do without records. Then the table is created
//! as what it is, which the server refuses too; one whose creation was interrupted is taken for somebody else's.

use std::sync::Arc;

use tokio::sync::OnceCell;
use weir_core::lease::run_of;
use weir_core::{Result, ResultExt, WritePlan};
use weir_mysql::{QUOTING, Session, from_async};
use weir_sql::TableName;
use weir_sql::commits::{MAKING, PREPARED, Records, made_by_others};

use crate::commit::drop_staging;
use crate::ledger::{self, exists, is_empty};
use crate::plan::{created_as, renaming};
use crate::state::State;
use crate::writer::MySqlWriter;

/// Errors of the server: there is a table of that name.
const TAKEN: u16 = 1050;
/// There is none.
const MISSING: u16 = 1146;

impl MySqlWriter {
    /// Makes the target, if the plan creates it. Safe to call again.
    pub(crate) async fn make_table(
        &self,
        session: &mut Session,
        plan: &WritePlan,
        state: &State,
        records: &mut Records,
    ) -> Result<()> {
        let Some(create) = &state.create else { return Ok(()) };
        // Of entries that are merged into one table the first makes it.
        let (_, maker) = self.maker(plan);
        let make = async || {
            match &state.created_as {
                Some(created_as) => self.create_and_rename(session, create, created_as, state, records).await?,
                // Only what follows the making is recorded; somebody may have dropped it since.
                None if records.prepared && exists(session, &state.table).await? => {}
                None => create_at_once(session, create, state).await?,
            }
            tracing::info!(table = %plan.table, "created");
            Ok(plan.run_id.clone())
        };
        maker.get_or_try_init(make).await.map(drop)
    }

    /// Which entry of the run has made the table in this process, and the name under which that is known.
    fn maker(&self, plan: &WritePlan) -> (String, Arc<OnceCell<String>>) {
        let run = run_of(&plan.run_id);
        let place = self.options.first().map(weir_mysql::Options::place).unwrap_or_default();
        let name = format!("mysql made {place} {} {run}", plan.table);
        let maker = self.context.shared.find_or_leave(&name, OnceCell::new);
        (name, maker)
    }

    /// Whether other entries of the run write into the table as well.
    async fn is_shared(&self, session: &mut Session, state: &State) -> Result<bool> {
        let Some(commits) = &state.commits else { return Ok(false) };
        Ok(!ledger::others(session, commits, &state.table).await?.is_empty())
    }

    async fn create_and_rename(
        &self,
        session: &mut Session,
        create: &str,
        created_as: &TableName,
        state: &State,
        records: &mut Records,
    ) -> Result<()> {
        if !records.making && !records.prepared {
            if has_failed(session, create, &[TAKEN]).await.context("statement", "CREATE TABLE")?.is_some() {
                // It was made and not recorded, for another plan perhaps.
                session.run(&dropping(created_as)).await?;
                session.run(create).await.context("statement", "CREATE TABLE")?;
            }
            // Where nothing has to be run between the making and the first task, one record says it all.
            let all = self.config.common.pre_sql.is_empty();
            let split = if all { PREPARED } else { MAKING };
            if let Some(commits) = &state.commits {
                ledger::record(session, commits, split, &state.table, None).await?;
            }
            (records.prepared, records.making) = (all, !all);
        }
        let rename = renaming(created_as, &state.table);
        let failed = has_failed(session, &rename, &[TAKEN, MISSING]).await.context("statement", "RENAME TABLE")?;
        let Some(failed) = failed else { return Ok(()) };
        if !exists(session, created_as).await? {
            // It was renamed before, and somebody may have dropped it since.
            if !exists(session, &state.table).await? {
                session.run(create).await.context("statement", "CREATE TABLE")?;
                session.run(&rename).await.context("statement", "RENAME TABLE")?;
            }
            return Ok(());
        }
        if made_by_run(session, state).await? {
            return session.run(&dropping(created_as)).await;
        }
        Err(made_by_others().because(failed))
    }

    /// Takes back what is not published.
    pub(crate) async fn take_back(&self, session: &mut Session, plan: &WritePlan, state: &State) -> Result<()> {
        let Records { prepared, making, recorded } = ledger::read_of(session, state).await?;
        let (name, maker) = self.maker(plan);
        let unnamed = match &state.created_as {
            Some(created_as) => exists(session, created_as).await?,
            None => false,
        };
        let made = match (&state.commits, &state.staging) {
            _ if state.create.is_none() || recorded.published => false,
            _ if maker.get() == Some(&plan.run_id) => true,
            (Some(_), _) => (prepared || making) && !unnamed,
            // What is staged is so after the making.
            (None, Some(staging)) => exists(session, staging).await?,
            (None, None) => false,
        };
        drop_staging(session, state).await?;
        // A table that nobody has put rows into goes with the run that made it.
        let mut stays = state.create.is_none() || exists(session, &state.table).await?;
        if stays && made && !self.is_shared(session, state).await? && is_empty(session, &state.table).await? {
            session.run(&format!("DROP TABLE {}", state.table.quoted(QUOTING))).await?;
            stays = false;
        }
        if !stays {
            self.context.shared.remove(&name);
        }
        if let Some(commits) = &state.commits {
            ledger::forget(session, commits).await?;
        }
        // Last, for with the record alone the target would seem to be the run's.
        match &state.created_as {
            Some(created_as) if unnamed => session.run(&dropping(created_as)).await,
            _ => Ok(()),
        }
    }
}

async fn create_at_once(session: &mut Session, create: &str, state: &State) -> Result<()> {
    match has_failed(session, create, &[TAKEN]).await.context("statement", "CREATE TABLE")? {
        Some(failed) if !made_by_run(session, state).await? => Err(made_by_others().because(failed)),
        _ => Ok(()),
    }
}

/// Whether another entry of the run has made the table that is there.
async fn made_by_run(session: &mut Session, state: &State) -> Result<bool> {
    let Some(commits) = &state.commits else { return Ok(false) };
    for entry in ledger::others(session, commits, &state.table).await? {
        if !exists(session, &created_as(&entry, &state.table)).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs a statement, and gives the error if it has failed with one of these codes.
async fn has_failed(session: &mut Session, sql: &str, codes: &[u16]) -> Result<Option<weir_core::Error>> {
    match session.raw(sql).await? {
        Ok(()) => Ok(None),
        Err(mysql_async::Error::Server(error)) if codes.contains(&error.code) => Ok(Some(from_async(error.into()))),
        Err(error) => Err(from_async(error)),
    }
}

fn dropping(table: &TableName) -> String {
    format!("DROP TABLE IF EXISTS {}", table.quoted(QUOTING))
}
