//! The lease of the job's run, beside the records of its splits.

use async_trait::async_trait;
use tiberius::error::Error as Driver;
use weir_core::lease::is_of_run;
use weir_core::{Lease, Leases, Renewal, Result, ResultExt, Standing, WritePlan};
use weir_sql::{Commits, LeaseRow};
use weir_sqlserver::{QUOTING, Session, cell_number, cell_text, exists, from_driver, literal};

use crate::ledger;
use crate::state::State;
use crate::writer::SqlServerWriter;

/// How old a lease is.
const AGE: &str = "CAST(DATEDIFF(second, committed_at, SYSUTCDATETIME()) AS bigint)";

fn row<'a>(commits: &'a Commits, lease: &'a Lease) -> LeaseRow<'a> {
    LeaseRow { commits, lease, quoting: QUOTING, literal, age: AGE }
}

/// In one message and one transaction: a connection that is lost leaves no lock behind. Of two that come at once the second
/// one's row is one too many, and it finds the first one's.
fn taking(row: &LeaseRow<'_>) -> Result<String> {
    let (columns, values) = row.row()?;
    Ok(format!(
        "SET XACT_ABORT ON; BEGIN TRANSACTION; {}; INSERT INTO {} ({columns}) VALUES ({values}); COMMIT TRANSACTION",
        row.delete(),
        row.table()
    ))
}

/// As above; no UPDATE, for which a user may have no permission.
fn renewing(row: &LeaseRow<'_>) -> Result<String> {
    let (columns, values) = row.row()?;
    Ok(format!(
        "SET XACT_ABORT ON; BEGIN TRANSACTION; {}; IF @@ROWCOUNT > 0 INSERT INTO {} ({columns}) VALUES ({values}); \
         COMMIT TRANSACTION",
        row.release(),
        row.table()
    ))
}

/// The lease that is there, and its age.
async fn found(session: &mut Session, row: &LeaseRow<'_>) -> Result<Option<(String, i64)>> {
    let found = session.row(&row.select()).await?;
    Ok(found.and_then(|row| Some((cell_text(&row, 0)?, cell_number(&row, 1)?))))
}

#[async_trait]
impl Leases for SqlServerWriter {
    fn place(&self, plan: &WritePlan) -> Option<String> {
        let commits = State::of(plan).ok()?.commits?;
        let options = self.options.first()?;
        Some(format!("{}/{} {}", options.place(), options.database.as_deref().unwrap_or_default(), commits.table))
    }

    async fn take(&self, plan: &WritePlan, lease: &Lease) -> Result<Option<Standing>> {
        let state = State::of(plan)?;
        let Some(commits) = &state.commits else { return Ok(None) };
        let mut session = self.connect().await?;
        if let Some(schema) = &state.create_schema {
            ledger::create_schema(&mut session, schema).await.context("statement", "CREATE SCHEMA")?;
        }
        ledger::create(&mut session, commits).await?;
        let row = row(commits, lease);
        match session.raw(&taking(&row)?).await? {
            Ok(()) => {}
            Err(Driver::Server(e)) if matches!(e.code(), 2627 | 2601) => {}
            Err(error) => return Err(from_driver(error)).context("table", &commits.table),
        }
        let found = found(&mut session, &row).await?;
        session.rest().await;
        row.standing(found)
    }

    async fn renew(&self, plan: &WritePlan, lease: &Lease) -> Result<Renewal> {
        let Some(commits) = State::of(plan)?.commits else { return Ok(Renewal::Held) };
        let mut session = self.connect().await?;
        let row = row(&commits, lease);
        session.run(&renewing(&row)?).await.context("table", &commits.table)?;
        let found = found(&mut session, &row).await?;
        session.rest().await;
        Ok(row.renewed(found))
    }

    async fn orphan(&self, plan: &WritePlan, lease: &Lease) -> Result<Option<Lease>> {
        let Some(commits) = State::of(plan)?.commits else { return Ok(None) };
        let mut session = self.connect().await?;
        let mut orphan = None;
        if exists(&mut session, &commits.table).await? {
            let row = row(&commits, lease);
            if let Some(left) = row.ended(found(&mut session, &row).await?) {
                let names = session.rows(&commits.names(&left.run_id, QUOTING, literal)).await?;
                let mine = |row| cell_text(row, 0).is_some_and(|name| is_of_run(&name, &left.run_id));
                orphan = names.iter().any(mine).then_some(left);
            }
        }
        session.rest().await;
        Ok(orphan)
    }

    async fn release(&self, plan: &WritePlan, lease: &Lease) -> Result<()> {
        let Some(commits) = State::of(plan)?.commits else { return Ok(()) };
        let mut session = self.connect().await?;
        if exists(&mut session, &commits.table).await? {
            session.run(&row(&commits, lease).release()).await?;
        }
        session.rest().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_sql::TableName;

    #[test]
    fn a_lease_is_taken_in_one_message() {
        let commits = Commits::new("r", &TableName::parse("dbo.t", QUOTING).unwrap(), None);
        let lease = Lease {
            job: "nightly".into(),
            run_id: "r".into(),
            holder: "me".into(),
            machine: "here".into(),
            process: 1,
            seconds: 60,
        };
        let sql = taking(&row(&commits, &lease)).unwrap();
        assert!(
            sql.starts_with("SET XACT_ABORT ON; BEGIN TRANSACTION; DELETE FROM [dbo].[weir_commits] WHERE"),
            "{sql}"
        );
        assert!(sql.contains("DATEDIFF(second, committed_at, SYSUTCDATETIME()) AS bigint) > 60)"), "{sql}");
        assert!(sql.ends_with("COMMIT TRANSACTION"), "{sql}");
        let sql = renewing(&row(&commits, &lease)).unwrap();
        assert!(sql.contains("AND target = N'me'; IF @@ROWCOUNT > 0 INSERT INTO [dbo].[weir_commits]"), "{sql}");
    }
}
