//! The publishing transaction: one table, or all tables of a run at one moment.

use std::time::Duration;

use weir_core::{Committed, Error, ErrorKind, OnEmpty, Receipt, Result, ResultExt, WriteMode, WritePlan};
use weir_sql::commits::PUBLISHED;
use weir_sql::order::{Step, Steps, depths, queue, taken};
use weir_sqlserver::{QUOTING, Session, exists};

use crate::apply::alive;
use crate::ledger;
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
pub(crate) async fn publish(session: &mut Session, tables: &[Staged<'_>]) -> Result<Vec<Committed>> {
    let mut attempt = 1;
    loop {
        match once(session, tables).await {
            Err(error) if error.kind() != ErrorKind::Cancelled => {
                // A deadlock's victim is rolled back already; everything else must not hold its locks.
                let back = roll_back(session, tables).await;
                let again = error.kind() == ErrorKind::Conflict && error.is_retryable();
                if !again || back.is_err() || attempt == ATTEMPTS {
                    return Err(error);
                }
                tracing::info!(%error, attempt, "publishing is tried again");
                tokio::time::sleep(Duration::from_millis(50 << attempt)).await;
                attempt += 1;
            }
            other => return other,
        }
    }
}

/// Also that the session numbers rows itself, which no transaction takes back: it may do so for one table at a time.
async fn roll_back(session: &mut Session, tables: &[Staged<'_>]) -> Result<()> {
    let mut sql = "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION".to_owned();
    for staged in tables.iter().filter(|staged| staged.state.identity) {
        sql.push_str(&format!("; SET IDENTITY_INSERT {} OFF", staged.state.table.quoted(QUOTING)));
    }
    session.run(&sql).await
}

async fn once(session: &mut Session, tables: &[Staged<'_>]) -> Result<Vec<Committed>> {
    // A table that is alone is named by the caller.
    let named = |error: Error, staged: &Staged<'_>| match tables {
        [_] => error,
        _ => error.with("target", &staged.plan.table),
    };
    let (mut all, mut open) = (Vec::with_capacity(tables.len()), Vec::new());
    for (staged, depth) in tables.iter().zip(depths(tables.iter().map(Staged::references))) {
        let (committed, steps) = staged.look(session).await.map_err(|error| named(error, staged))?;
        all.push(committed);
        open.extend(steps.map(|steps| (depth, staged, steps)));
    }
    if open.is_empty() {
        return Ok(all);
    }
    session.run("BEGIN TRANSACTION").await?;
    // The records first: whoever comes second waits for them and then publishes nothing.
    for (_, staged, _) in &open {
        staged.record(session).await.map_err(|error| named(error, staged))?;
    }
    // The server checks foreign keys after each statement, so the order counts.
    let mut steps = queue(open.iter().map(|(depth, _, steps)| (*depth, steps)));
    while let Some(step) = steps.pop_front() {
        let (_, staged, _) = &open[step.table];
        let ran = session.run(step.sql).await.context("step", step.sql.split_whitespace().next().unwrap_or_default());
        let Err(error) = ran else { continue };
        let referred = still_referred(&error);
        // Where the error has ended the transaction, the next statements would be committed each by itself.
        if step.can_wait && referred && alive(session).await.unwrap_or(false) {
            steps.push_back(Step { can_wait: false, ..step });
            continue;
        }
        let clears = open[step.table].2.clear.as_deref() == Some(step.sql);
        let error = match staged.state.publish {
            _ if clears && referred => explained(error, staged.state),
            Publish::Insert if is_duplicate(&error) => taken(error),
            _ => error,
        };
        return Err(named(error, staged));
    }
    // Without a record only a staging table that is gone tells that its rows are published.
    for (_, staged, _) in &open {
        if let (None, Some(staging)) = (&staged.state.commits, &staged.state.staging) {
            let sql = format!("DROP TABLE {}", staging.quoted(QUOTING));
            session.run(&sql).await.map_err(|error| named(error, staged))?;
        }
    }
    session.run("COMMIT TRANSACTION").await?;
    Ok(all)
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
        let staged = match &state.staging {
            Some(staging) => exists(session, staging).await?,
            None => false,
        };
        let published = match &state.commits {
            Some(commits) => ledger::read(session, commits).await?.recorded.published,
            // Without a record, publishing is over when the staging table is gone.
            None => state.staging.is_some() && !staged,
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
        names.check_duplicates(session, plan, state.duplicate_keys).await?;
        let steps = names.steps(&state.publish, &plan.keys);
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

/// Whether rows refer to what would have been deleted; of rows that come, whether a constraint refused them.
fn still_referred(error: &Error) -> bool {
    error.context().iter().any(|(key, code)| *key == "code" && code == "547")
}

/// Whether a unique key refused a row.
fn is_duplicate(error: &Error) -> bool {
    error.context().iter().any(|(key, code)| *key == "code" && matches!(code.as_str(), "2627" | "2601"))
}

/// What to say of a clearing statement that rows of other tables were in the way of.
fn explained(error: Error, state: &State) -> Error {
    if matches!(state.publish, Publish::Diff(_)) {
        return Error::new(
            ErrorKind::Conflict,
            "rows that are missing in the source, or have another number there, are still referred to by other tables: \
             nothing was changed; delete the rows that refer to them, or use upsert",
        )
        .because(error);
    }
    error
}
