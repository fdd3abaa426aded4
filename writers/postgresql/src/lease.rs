//! The lease of the job's run, beside the records of its splits.

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;
use weir_core::lease::is_of_run;
use weir_core::{Lease, Leases, Renewal, Result, ResultExt, Standing, WritePlan};
use weir_postgresql::error::map;
use weir_postgresql::{Session, literal};
use weir_sql::{Commits, LeaseRow};

use crate::plan::{Q, State};
use crate::record;
use crate::stage;
use crate::writer::PostgresqlWriter;

/// How old a lease is.
const AGE: &str = "ceil(extract(epoch FROM clock_timestamp() - committed_at))::int8";

fn row<'a>(commits: &'a Commits, lease: &'a Lease) -> LeaseRow<'a> {
    LeaseRow { commits, lease, quoting: Q, literal, age: AGE }
}

/// The lease that is there, and its age.
async fn found(session: &mut Session, row: &LeaseRow<'_>) -> Result<Option<(String, i64)>> {
    let found = session.rows(&row.select()).await?;
    found.first().map(|row| Ok((row.try_get(0).map_err(map)?, row.try_get(1).map_err(map)?))).transpose()
}

#[async_trait]
impl Leases for PostgresqlWriter {
    fn place(&self, plan: &WritePlan) -> Option<String> {
        let commits = State::of(plan).ok()?.records?;
        Some(format!("{} {}", self.endpoint.place(), commits.table))
    }

    async fn take(&self, plan: &WritePlan, lease: &Lease) -> Result<Option<Standing>> {
        let State { records: Some(commits), create_schema, .. } = State::of(plan)? else { return Ok(None) };
        let mut session = self.connect().await?;
        // The lease comes before everything else of a run.
        if let Some(schema) = &create_schema {
            stage::create_schema(&mut session, schema).await?;
        }
        record::create(&mut session, &commits).await?;
        let row = row(&commits, lease);
        let (columns, values) = row.row()?;
        // In one message, which is one transaction: a connection that is lost leaves no lock behind. Of two that come at
        // once the second one's row is one too many, and it finds the first one's.
        let sql = format!(
            "{}; INSERT INTO {} ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING",
            row.delete(),
            row.table()
        );
        session.execute(&sql).await.context("table", &commits.table)?;
        let found = found(&mut session, &row).await?;
        session.close().await;
        row.standing(found)
    }

    async fn renew(&self, plan: &WritePlan, lease: &Lease) -> Result<Renewal> {
        let Some(commits) = State::of(plan)?.records else { return Ok(Renewal::Held) };
        let mut session = self.connect().await?;
        let row = row(&commits, lease);
        let (columns, values) = row.row()?;
        // No UPDATE: users who may not are asked for none.
        let sql = format!(
            "WITH own AS ({} RETURNING 1) INSERT INTO {} ({columns}) SELECT {values} FROM own",
            row.release(),
            row.table()
        );
        session.execute(&sql).await.context("table", &commits.table)?;
        let found = found(&mut session, &row).await?;
        session.close().await;
        Ok(row.renewed(found))
    }

    async fn orphan(&self, plan: &WritePlan, lease: &Lease) -> Result<Option<Lease>> {
        let Some(commits) = State::of(plan)?.records else { return Ok(None) };
        let mut session = self.connect().await?;
        let mut orphan = None;
        if record::is_there(&mut session, &commits).await? {
            let row = row(&commits, lease);
            if let Some(left) = row.ended(found(&mut session, &row).await?) {
                let names = session.rows(&commits.names(&left.run_id, Q, literal)).await?;
                let mine = |row: &PgRow| row.try_get::<&str, _>(0).is_ok_and(|name| is_of_run(name, &left.run_id));
                orphan = names.iter().any(mine).then_some(left);
            }
        }
        session.rest().await;
        Ok(orphan)
    }

    async fn release(&self, plan: &WritePlan, lease: &Lease) -> Result<()> {
        let Some(commits) = State::of(plan)?.records else { return Ok(()) };
        let mut session = self.connect_to_clean().await?;
        if record::is_there(&mut session, &commits).await? {
            session.execute(&row(&commits, lease).release()).await?;
        }
        session.close().await;
        Ok(())
    }
}
