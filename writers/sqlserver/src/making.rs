//! The making of the target, and its end where the run comes to nothing.
//!
//! What somebody else makes after the plan has looked for the table is theirs. The run knows the table that it has made in this
//! process, and the one that it has recorded as prepared; one whose creation was interrupted is taken for somebody else's.

use std::sync::Arc;

use tokio::sync::OnceCell;
use weir_core::lease::ENTRY;
use weir_core::{Result, ResultExt, WritePlan};
use weir_sql::commits::{Records, made_by_others};
use weir_sqlserver::{QUOTING, Session, exists};

use crate::commit::drop_staging;
use crate::state::State;
use crate::writer::SqlServerWriter;
use crate::{known, ledger};

impl SqlServerWriter {
    /// Makes the target, if the plan creates it.
    pub(crate) async fn make_table(&self, session: &mut Session, plan: &WritePlan, state: &State) -> Result<()> {
        let Some(create) = &state.create else { return Ok(()) };
        // Of entries that are merged into one table the first makes it.
        let (_, maker) = self.maker(plan);
        let mut new = false;
        let make = async || {
            new = ledger::create_missing(session, &state.table, create).await.context("statement", "CREATE TABLE")?;
            if new || made_by_run(session, state).await? { Ok(plan.run_id.clone()) } else { Err(made_by_others()) }
        };
        maker.get_or_try_init(make).await?;
        if new {
            for sql in &state.details {
                session.run(sql).await.context("statement", sql)?;
            }
            tracing::info!(table = %plan.table, "created");
        }
        Ok(())
    }

    /// Which entry of the run has made the table in this process, and the name under which that is known.
    fn maker(&self, plan: &WritePlan) -> (String, Arc<OnceCell<String>>) {
        let run = plan.run_id.rsplit_once(ENTRY).map_or(plan.run_id.as_str(), |(run, _)| run);
        let name = known::place(&format!("made {} {run}", plan.table), &self.config, &self.options);
        let maker = self.context.shared.find_or_leave(&name, OnceCell::new);
        (name, maker)
    }

    /// Takes back what is not published.
    pub(crate) async fn take_back(&self, session: &mut Session, plan: &WritePlan, state: &State) -> Result<()> {
        let Records { prepared, recorded, .. } = ledger::read_of(session, state).await?;
        let (name, maker) = self.maker(plan);
        let made = match (&state.commits, &state.staging) {
            _ if state.create.is_none() || recorded.published => false,
            _ if maker.get() == Some(&plan.run_id) => true,
            (Some(_), _) => prepared,
            // What is staged is so after the making.
            (None, Some(staging)) => exists(session, staging).await?,
            (None, None) => false,
        };
        drop_staging(session, state).await?;
        // A table that nobody has put rows into goes with the run that made it.
        let mut stays = state.create.is_none() || exists(session, &state.table).await?;
        if stays && made {
            let table = state.table.quoted(QUOTING);
            if session.row(&format!("SELECT TOP 1 1 AS weir_row FROM {table}")).await?.is_none() {
                session.run(&format!("DROP TABLE {table}")).await?;
                stays = false;
            }
        }
        if !stays {
            self.context.shared.remove(&name);
        }
        match &state.commits {
            Some(commits) => ledger::forget(session, commits).await,
            None => Ok(()),
        }
    }
}

async fn made_by_run(session: &mut Session, state: &State) -> Result<bool> {
    match &state.commits {
        Some(commits) => ledger::has_other(session, commits, &state.table).await,
        None => Ok(false),
    }
}
