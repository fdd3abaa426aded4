//! The publishing transaction: one table, or all tables of a run at one moment. It also drops the staging tables, and says
//! that the tables are published.
//!
//! The record comes first: whoever publishes a second time waits at it until the first has ended, and then finds it.

use sqlx::Row;
use weir_core::{Committed, Error, ErrorKind, Receipt, Result, ResultExt, Revocable, WriteMode, WritePlan};
use weir_postgresql::error::{is_state, map};
use weir_postgresql::{Session, literal};
use weir_sql::commits::PUBLISHED;
use weir_sql::order::{Step, clashed, depths, queue, taken};

use crate::plan::{Q, State};
use crate::publish::{Work, published};
use crate::record::{self, PUBLISHER};
use crate::stage::changed;

/// A table that is to be published, with the splits that have a receipt.
pub(crate) struct Staged<'a> {
    pub(crate) plan: &'a WritePlan,
    pub(crate) state: State,
    pub(crate) receipts: &'a [Receipt],
}

/// Publishes a table, if that has not happened yet.
pub(crate) async fn publish(session: &mut Session, staged: &Staged<'_>, revocable: &Revocable) -> Result<Committed> {
    let Staged { plan, state, .. } = staged;
    match &state.records {
        Some(commits) => {
            let done = record::begin(session, commits, &plan.table, PUBLISHER, PUBLISHED, "").await?;
            if done || !record::write(session, commits, PUBLISHED, &plan.table, None, ("", false)).await? {
                session.execute("ROLLBACK").await?;
                return Ok(already());
            }
        }
        None => session.execute("BEGIN ISOLATION LEVEL READ COMMITTED").await.map(drop)?,
    }
    revocable.set(true);
    let Some(work) = staged.work(session).await? else {
        revocable.set(false);
        session.execute("ROLLBACK").await?;
        return Ok(already());
    };
    let rows = run(session, &[(staged, &work)], &[0], false).await?;
    commit(session, &work.ending, revocable).await.context("table", &plan.table)?;
    Ok(work.came(rows[0]))
}

/// Publishes several tables in one transaction, each if that has not happened yet.
pub(crate) async fn publish_together(
    session: &mut Session,
    tables: &[Staged<'_>],
    revocable: &Revocable,
) -> Result<Vec<Committed>> {
    session.execute(record::BEGIN).await?;
    let mut all = Vec::with_capacity(tables.len());
    for staged in tables {
        all.push(staged.join(session).await.context("target", &staged.plan.table)?);
    }
    let open: Vec<_> = tables.iter().zip(&all).filter_map(|(staged, work)| Some((staged, work.as_ref()?))).collect();
    // What another process has published stays.
    revocable.set(open.len() == tables.len());
    let depths = of_tables(session, &open).await?;
    let mut rows = run(session, &open, &depths, true).await?.into_iter();
    for (staged, work) in &open {
        session.execute(&work.ending).await.map_err(changed).context("target", &staged.plan.table)?;
    }
    commit(session, "", revocable).await?;
    let came = |work: Option<Work>| work.map_or_else(already, |work| work.came(rows.next().unwrap_or_default()));
    Ok(all.into_iter().map(came).collect())
}

/// Drops the staging tables and commits. From here on only the server knows; when it answers that others were in the way, it
/// has taken everything back.
async fn commit(session: &mut Session, ending: &str, revocable: &Revocable) -> Result<()> {
    revocable.set(false);
    let done = session.execute(&format!("{ending}COMMIT")).await.map(drop).map_err(changed);
    // What the server itself refuses it has undone, unless it goes away at this moment.
    let refused = |error: &Error| {
        let told = error.context().iter().any(|(key, _)| *key == "sqlstate");
        error.kind() == ErrorKind::Conflict || (told && error.kind() != ErrorKind::Unreachable)
    };
    revocable.set(done.as_ref().is_err_and(refused));
    done
}

fn already() -> Committed {
    Committed { description: "published already".into(), ..Committed::default() }
}

impl Staged<'_> {
    /// Adds the table to a transaction that has begun; `None` when it is published.
    async fn join(&self, session: &mut Session) -> Result<Option<Work>> {
        let Self { plan, state, .. } = self;
        if let Some(commits) = &state.records {
            if record::join(session, commits, &plan.table, PUBLISHER, PUBLISHED).await? {
                return Ok(None);
            }
            if !record::write(session, commits, PUBLISHED, &plan.table, None, ("", false)).await? {
                let message = "another process published the table just now";
                return Err(Error::new(ErrorKind::Conflict, message).retryable(true));
            }
        }
        self.work(session).await
    }
}

impl Work {
    fn came(self, rows: u64) -> Committed {
        let skipped = self.skips_of.map_or(0, |staged| staged.saturating_sub(rows));
        Committed { skipped, ..self.committed.unwrap_or_else(|| published(rows)) }
    }
}

/// The tables' depths: none refers to one that is as deep, or deeper.
async fn of_tables(session: &mut Session, tables: &[(&Staged<'_>, &Work)]) -> Result<Vec<usize>> {
    if tables.len() < 2 {
        return Ok(vec![0; tables.len()]);
    }
    let names: Vec<String> = tables.iter().map(|(staged, _)| literal(&staged.state.table.quoted(Q))).collect();
    let rows = session
        .answers(&format!(
            "SELECT coalesce(t.oid, 0)::int8, array_agg(k.conrelid::int8) FILTER (WHERE k.conrelid IS NOT NULL) \
             FROM unnest(ARRAY[{}]) WITH ORDINALITY n(name, place) \
             CROSS JOIN LATERAL (SELECT to_regclass(n.name)::oid) t(oid) \
             LEFT JOIN pg_catalog.pg_constraint k ON k.contype = 'f' AND k.confrelid = t.oid \
             GROUP BY n.place, t.oid ORDER BY n.place",
            names.join(", ")
        ))
        .await?;
    let mut referenced = Vec::with_capacity(rows.len());
    for row in &rows {
        let oid: i64 = row.try_get(0).map_err(map)?;
        let by: Option<Vec<i64>> = row.try_get(1).map_err(map)?;
        referenced.push((oid, by.unwrap_or_default()));
    }
    Ok(depths(referenced))
}

/// Brings the staged rows of these tables into them: how many rows changed in each. An error leaves the transaction to the
/// end of the session; where tables are published `together` it names the one.
async fn run(
    session: &mut Session,
    tables: &[(&Staged<'_>, &Work)],
    depths: &[usize],
    together: bool,
) -> Result<Vec<u64>> {
    let mut rows = vec![0; tables.len()];
    // The server checks foreign keys after each statement, so the order counts.
    let mut steps = queue(depths.iter().copied().zip(tables.iter().map(|(_, work)| &work.steps)));
    while let Some(step) = steps.pop_front() {
        let done = match step.can_wait {
            true => session.execute(&format!("SAVEPOINT weir; {}; RELEASE SAVEPOINT weir", step.sql)).await,
            false => session.execute(step.sql).await,
        };
        match done {
            Ok(done) => rows[step.table] += done,
            Err(error) if step.can_wait && still_referred(&error) => {
                session.execute("ROLLBACK TO SAVEPOINT weir; RELEASE SAVEPOINT weir").await?;
                steps.push_back(Step { can_wait: false, ..step });
            }
            Err(error) => {
                let (Staged { plan, .. }, work) = tables[step.table];
                let table = &plan.table;
                let by_key = work.steps.by_key || plan.mode == WriteMode::Upsert;
                let error = match is_state(&error, &["23505"]) {
                    true if by_key => clashed(error, "a key that is DEFERRABLE is compared when all rows are changed"),
                    true if plan.mode == WriteMode::Append => taken(error),
                    _ => error,
                };
                let error = error.with("table", table);
                return Err(if together { error.with("target", table) } else { error });
            }
        }
    }
    Ok(rows)
}

/// Whether foreign keys kept rows from being deleted.
fn still_referred(error: &Error) -> bool {
    is_state(error, &["23503", "23001"])
}
