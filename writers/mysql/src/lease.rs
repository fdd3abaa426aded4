//! The lease of the job's run, beside the records of its splits.

use async_trait::async_trait;
use weir_core::lease::is_of_run;
use weir_core::{ErrorKind, Lease, Leases, Renewal, Result, ResultExt, Standing, WritePlan};
use weir_mysql::{Options, QUOTING, Session, escape};
use weir_sql::{Commits, LeaseRow};

use crate::ledger;
use crate::plan::database_creation;
use crate::state::State;
use crate::writer::MySqlWriter;

/// How old a lease is.
const AGE: &str = "CAST(UNIX_TIMESTAMP() AS SIGNED) - CAST(UNIX_TIMESTAMP(committed_at) AS SIGNED)";

fn row<'a>(commits: &'a Commits, lease: &'a Lease) -> LeaseRow<'a> {
    LeaseRow { commits, lease, quoting: QUOTING, literal: escape, age: AGE }
}

/// Writes the lease if a condition holds of what `count` counts. Says what is there then, and its age.
async fn replace(
    session: &mut Session,
    row: &LeaseRow<'_>,
    count: &str,
    condition: &str,
) -> Result<Option<(String, i64)>> {
    let (columns, values) = row.row()?;
    // One statement, which a lost connection cannot leave half done. It locks what it finds, so that of two that come at
    // once one is a deadlock's victim, and is tried again.
    session.run("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE").await?;
    let sql = format!(
        "REPLACE INTO {} ({columns}) SELECT {values} FROM ({count}) AS leases WHERE leases.{condition}",
        row.table()
    );
    session.run(&sql).await.context("table", &row.commits.table)?;
    session.row(&row.select()).await
}

#[async_trait]
impl Leases for MySqlWriter {
    fn place(&self, plan: &WritePlan) -> Option<String> {
        let commits = State::of(plan).ok()?.commits?;
        Some(format!("{} {}", self.options.first().map(Options::place)?, commits.table))
    }

    async fn take(&self, plan: &WritePlan, lease: &Lease) -> Result<Option<Standing>> {
        let State { commits: Some(commits), create_database, .. } = State::of(plan)? else { return Ok(None) };
        let mut session = self.connect().await?;
        // The lease comes before everything else of a run.
        if let Some(database) = &create_database {
            session.run(&database_creation(database)).await.context("statement", "CREATE DATABASE")?;
        }
        ledger::create(&mut session, &commits).await?;
        let row = row(&commits, lease);
        let found = replace(&mut session, &row, &row.others(), "n = 0").await?;
        session.close().await;
        row.standing(found)
    }

    async fn renew(&self, plan: &WritePlan, lease: &Lease) -> Result<Renewal> {
        let Some(commits) = State::of(plan)?.commits else { return Ok(Renewal::Held) };
        let mut session = self.connect().await?;
        let row = row(&commits, lease);
        let found = replace(&mut session, &row, &row.own(), "n > 0").await?;
        session.close().await;
        Ok(row.renewed(found))
    }

    async fn orphan(&self, plan: &WritePlan, lease: &Lease) -> Result<Option<Lease>> {
        let Some(commits) = State::of(plan)?.commits else { return Ok(None) };
        let mut session = self.connect().await?;
        let orphan = orphan(&mut session, &row(&commits, lease)).await;
        session.close().await;
        match orphan {
            // Nobody has been there yet.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            other => other,
        }
    }

    async fn release(&self, plan: &WritePlan, lease: &Lease) -> Result<()> {
        let Some(commits) = State::of(plan)?.commits else { return Ok(()) };
        let mut session = self.connect().await?;
        let released = session.run(&row(&commits, lease).release()).await;
        session.close().await;
        match released {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

async fn orphan(session: &mut Session, row: &LeaseRow<'_>) -> Result<Option<Lease>> {
    let Some(left) = row.ended(session.row(&row.select()).await?) else { return Ok(None) };
    let names: Vec<String> = session.rows(&row.commits.names(&left.run_id, QUOTING, escape)).await?;
    Ok(names.iter().any(|name| is_of_run(name, &left.run_id)).then_some(left))
}
