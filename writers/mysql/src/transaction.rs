//! The publishing transaction: one table, or all tables of a run at one moment.

use std::time::Duration;

use weir_core::{Committed, Error, ErrorKind, OnEmpty, Receipt, Result, ResultExt, Revocable, WriteMode, WritePlan};
use weir_mysql::{QUOTING, Session};
use weir_sql::commits::PUBLISHED;
use weir_sql::order::{Step, Steps, clashed, depths, queue, taken};

use crate::as_planned;
use crate::ledger::{self, exists, is_empty};
use crate::publish::Names;
use crate::state::{Publish, State};

/// How often a publishing transaction is tried that others were in the way of.
const ATTEMPTS: u32 = 5;

/// A table that is to be published.
pub(crate) struct Staged<'a> {
    pub(crate) plan: &'a WritePlan,
    pub(crate) state: &'a State,
    pub(crate) receipts: &'a [Receipt],
}

/// Publishes all of these tables, or none. What is published already stays as it is.
pub(crate) async fn publish(
    session: &mut Session,
    tables: &[Staged<'_>],
    revocable: &Revocable,
) -> Result<Vec<Committed>> {
    let mut attempt = 1;
    loop {
        match once(session, tables, revocable).await {
            Err(error) if error.kind() != ErrorKind::Cancelled => {
                // A deadlock's victim is rolled back already; everything else must not hold its locks.
                let back = session.run("ROLLBACK").await;
                // Of a counter that is used up the server says the same as of one that somebody locks.
                let counter = error.context().iter().any(|(key, code)| *key == "code" && code == "1467");
                let again = error.kind() == ErrorKind::Conflict && error.is_retryable() && !counter;
                if !again || back.is_err() || attempt == ATTEMPTS {
                    return Err(error);
                }
                tracing::info!(%error, attempt, "publishing is tried again");
                // What was begun is undone: until the next COMMIT a stop leaves nothing.
                tokio::time::sleep(Duration::from_millis(50 << attempt)).await;
                attempt += 1;
            }
            other => return other,
        }
    }
}

async fn once(session: &mut Session, tables: &[Staged<'_>], revocable: &Revocable) -> Result<Vec<Committed>> {
    // A table that is alone is named by the caller.
    let named = |error: Error, staged: &Staged<'_>| match tables {
        [_] => error,
        _ => error.with("target", &staged.plan.table),
    };
    let (mut all, mut open) = (Vec::with_capacity(tables.len()), Vec::new());
    for (staged, depth) in tables.iter().zip(depths(tables.iter().map(Staged::references))) {
        let (committed, steps) = staged.look(session).await.map_err(|error| named(error, staged))?;
        all.push(committed);
        open.extend(steps.map(|steps| (depth, staged, steps, all.len() - 1)));
    }
    if open.is_empty() {
        return Ok(all);
    }
    session.run("START TRANSACTION").await?;
    // The records first: whoever comes second waits for them and then publishes nothing.
    for (_, staged, ..) in &open {
        staged.record(session).await.map_err(|error| named(error, staged))?;
    }
    // What another process has published stays.
    revocable.set(open.len() == tables.len());
    // The server checks foreign keys row by row, so the order counts.
    let mut steps = queue(open.iter().map(|(depth, _, steps, _)| (*depth, steps)));
    while let Some(step) = steps.pop_front() {
        let (_, staged, _, place) = &open[step.table];
        let ran = session.run(step.sql).await.context("step", step.sql.split_whitespace().next().unwrap_or_default());
        match ran {
            Err(error) if step.can_wait && still_referred(&error) => steps.push_back(Step { can_wait: false, ..step }),
            ran => ran.map_err(|error| named(explained(error, staged.state), staged))?,
        }
        if staged.state.publish == Publish::InsertMissing {
            staged.count_skipped(session.affected(), &mut all[*place]);
        }
    }
    for (_, staged, ..) in open.iter().filter(|(_, _, steps, _)| !steps.fill.is_empty()) {
        as_planned::check(session, staged.plan, staged.state).await.map_err(|error| named(error, staged))?;
    }
    // Without a record only a staging table without its rows tells that they are published. To drop it would commit first. One
    // table that is replaced or merged may be so twice; what is added may not.
    let adds = |publish: &Publish| matches!(publish, Publish::Insert | Publish::InsertTied(_));
    let once = |staged: &Staged<'_>| tables.len() > 1 || adds(&staged.state.publish);
    for (_, staged, ..) in open.iter().filter(|(_, staged, ..)| once(staged)) {
        if let (None, Some(staging)) = (&staged.state.commits, &staged.state.staging) {
            let empty = format!("DELETE FROM {}", staging.quoted(QUOTING));
            session.run(&empty).await.map_err(|error| named(error, staged))?;
        }
    }
    revocable.set(false);
    let done = session.run("COMMIT").await;
    // A cluster may find only now that others were in the way, and has taken everything back.
    revocable.set(done.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict));
    done.map(|()| all)
}

impl Staged<'_> {
    /// The table, and those that refer to it.
    fn references(&self) -> (&str, impl Iterator<Item = &str>) {
        (&self.plan.table, self.state.referenced_by.iter().map(String::as_str))
    }

    /// What publishing comes to, and its statements; none where there is nothing to do.
    async fn look(&self, session: &mut Session) -> Result<(Committed, Option<Steps>)> {
        let Self { plan, state, receipts } = self;
        let rows: u64 = receipts.iter().map(|r| r.rows).sum();
        let came = |description: String| Committed { description, ..Committed::default() };
        // With a record its rows tell what has happened; that they have nowhere to come from shows itself.
        let staged = match (&state.staging, &state.commits) {
            (Some(staging), None) => exists(session, staging).await?,
            (Some(_), Some(_)) => true,
            (None, _) => false,
        };
        let published = match &state.commits {
            Some(commits) => ledger::read(session, commits).await?.recorded.published,
            // Without a record, publishing is over when the staging table is gone, or has lost the rows that came.
            None => match &state.staging {
                Some(staging) => !staged || (rows > 0 && is_empty(session, staging).await?),
                None => false,
            },
        };
        if published {
            return Ok((came("published before".into()), None));
        }
        if state.staging.is_none() {
            let committed = came(format!("{rows} rows in {} splits", receipts.len()));
            return Ok((committed, state.commits.as_ref().map(|_| Steps::default())));
        }
        if !staged {
            return Err(staging_is_gone());
        }
        let names = Names::new(plan, state, receipts)?;
        let checked = names.check_duplicates(session, plan, state.duplicate_keys).await;
        checked.map_err(|error| explained(error, state))?;
        let steps = names.steps(&state.publish, &plan.keys, &state.same);
        let mut done = came(format!("published {rows} rows in one transaction"));
        if plan.mode != WriteMode::Overwrite || rows > 0 {
            return Ok((done, Some(steps)));
        }
        match state.on_empty {
            OnEmpty::Overwrite => {
                done.warnings.push(format!("the source is empty, and so is {} now", plan.table));
                done.description = "the source is empty: the target was emptied".into();
                Ok((done, Some(steps)))
            }
            OnEmpty::Keep => {
                done.warnings.push(format!("the source is empty: {} is kept as it was", plan.table));
                done.description = "the source is empty: the target stays as it was".into();
                Ok((done, Some(Steps::default())))
            }
            OnEmpty::Error => Err(Error::new(
                ErrorKind::Conflict,
                "the source is empty, and `onEmpty` is `error`: nothing was changed",
            )),
        }
    }

    /// Of the staged rows only so many were inserted.
    fn count_skipped(&self, inserted: u64, done: &mut Committed) {
        let rows: u64 = self.receipts.iter().map(|r| r.rows).sum();
        done.rows = Some(inserted);
        done.skipped = rows.saturating_sub(inserted);
        done.description = format!("published {inserted} rows in one transaction, and skipped {}", done.skipped);
    }

    /// Writes in the session's transaction that the table is published.
    async fn record(&self, session: &mut Session) -> Result<()> {
        let Some(commits) = &self.state.commits else { return Ok(()) };
        if ledger::record(session, commits, PUBLISHED, &self.state.table, None).await? {
            return Ok(());
        }
        let message = "another process published the table just now";
        Err(Error::new(ErrorKind::Conflict, message).retryable(true))
    }
}

pub(crate) fn staging_is_gone() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "somebody dropped the staging table of this run, and the rows of finished splits with it: start a new run",
    )
}

/// Whether foreign keys of other rows kept rows from being deleted.
fn still_referred(error: &Error) -> bool {
    error.context().iter().any(|(key, code)| *key == "code" && matches!(code.as_str(), "1451" | "1217"))
}

fn explained(error: Error, state: &State) -> Error {
    if let Some(staging) = &state.staging
        && error.kind() == ErrorKind::NotFound
        && error.full().contains(&staging.name)
    {
        return staging_is_gone().because(error);
    }
    if matches!(state.publish, Publish::Diff(_)) && still_referred(&error) {
        return Error::new(
            ErrorKind::Conflict,
            "rows that are missing in the source are still referred to by other rows: nothing was changed; delete the \
             rows that refer to them, or use upsert",
        )
        .because(error);
    }
    if !error.context().iter().any(|(key, code)| *key == "code" && code == "1062") {
        return error;
    }
    match state.publish {
        Publish::Diff(_) | Publish::Join { .. } => {
            clashed(error, "drop that key for the time of the run, or make it one that is not unique")
        }
        Publish::Insert | Publish::InsertTied(_) => taken(error),
        _ => error,
    }
}
