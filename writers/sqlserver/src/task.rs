//! One task: a split's rows in one transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use serde_json::json;
use weir_core::{
    Account, ConnectorContext, Error, ErrorKind, Receipt, Refused, Result, ResultExt, TaskId, TaskWriter, WriteMode,
    WritePlan,
};
use weir_sql::{Ceilings, WriterConfig};
use weir_sqlserver::{QUOTING, Session, from_driver, is_row_fault};

use crate::apply::{Target, alive, lost};
use crate::ledger;
use crate::state::{SPLIT, State};
use crate::taken::Taken;
use crate::writer::ended;

/// Writes a split.
pub(crate) struct SqlServerTask {
    session: Option<Session>,
    target: Target,
    /// A staged append: finds rows whose key a row of the target has.
    taken: Option<Taken>,
    state: State,
    split: u32,
    begun: bool,
    /// Whether the session has its own table.
    scratch: bool,
    careful: Arc<Careful>,
    ceilings: Ceilings,
    /// The number of the next row in an upsert's staging table.
    next_row: u64,
    rows: u64,
}

/// Whether this run's bulk loads go by way of the session's own table, for the server gave up a whole transaction when one
/// went straight into the target and was refused.
#[derive(Default)]
struct Careful(AtomicBool);

impl SqlServerTask {
    pub(crate) fn new(
        session: Session,
        context: &ConnectorContext,
        config: &WriterConfig,
        plan: &WritePlan,
        state: State,
        task: &TaskId,
    ) -> Result<Self> {
        let extra = match (&state.staging, plan.mode) {
            (None, _) => 0,
            (Some(_), WriteMode::Upsert | WriteMode::Append) => 2,
            (Some(_), _) => 1,
        };
        let names: Vec<String> = plan.columns.iter().map(|c| c.name.clone()).collect();
        let taken = Taken::of(&state, &names, task.split);
        let target = Target::new(&state, names, task.split, extra)?;
        let name = format!("sqlserver loads of {} into {}", plan.run_id, state.table);
        let careful: Arc<Careful> = context.shared.find_or_leave(&name, Careful::default);
        Ok(Self {
            session: Some(session),
            target,
            taken,
            state,
            split: task.split,
            begun: false,
            scratch: false,
            careful,
            ceilings: Ceilings::of(config),
            next_row: 0,
            rows: 0,
        })
    }

    async fn begin(&mut self) -> Result<()> {
        if self.begun {
            return Ok(());
        }
        let session = self.session.as_mut().ok_or_else(lost)?;
        if let Some(commits) = &self.state.commits
            && ledger::is_recorded(session, commits, self.split).await?
        {
            return Err(ledger::overtaken());
        }
        session.run("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
        session.run("BEGIN TRANSACTION").await?;
        if let Some(staging) = &self.state.staging
            && self.state.commits.is_none()
        {
            // An earlier attempt may have committed without anybody learning of it.
            session.run(&format!("DELETE FROM {} WHERE {SPLIT} = {}", staging.quoted(QUOTING), self.split)).await?;
        }
        self.begun = true;
        Ok(())
    }

    /// The record last, then the commit.
    async fn end(&self, session: &mut Session, receipt: &Receipt) -> Result<()> {
        if let Some(commits) = &self.state.commits {
            let split = i64::from(self.split);
            if !ledger::record(session, commits, split, &self.state.table, Some(receipt)).await? {
                return Err(ledger::overtaken());
            }
        }
        session.run("COMMIT TRANSACTION").await
    }

    async fn put(&mut self, batch: &RecordBatch, refused: &mut Refused) -> Result<()> {
        self.begin().await?;
        let mut rows = match self.straight(batch, refused).await? {
            Some(rows) => rows,
            None => {
                let session = self.session.as_mut().ok_or_else(lost)?;
                if !self.scratch {
                    self.target.make_scratch(session).await?;
                    self.scratch = true;
                }
                self.target.through_scratch(session, batch, self.next_row, refused).await?
            }
        };
        if let Some(taken) = &self.taken {
            let session = self.session.as_mut().ok_or_else(lost)?;
            let before = refused.rows;
            taken.take_out(session, batch, self.next_row, refused).await?;
            rows -= rows.min((refused.rows - before) as u64);
        }
        self.next_row += batch.num_rows() as u64;
        self.rows += rows;
        Ok(())
    }

    /// Loads a batch straight into the table; how many rows are in, or `None` where that cannot be, or the table has refused some row.
    async fn straight(&mut self, batch: &RecordBatch, refused: &mut Refused) -> Result<Option<u64>> {
        if !self.target.is_direct() || self.careful.0.load(Ordering::Relaxed) || self.target.is_long(batch) {
            return Ok(None);
        }
        let session = self.session.as_mut().ok_or_else(lost)?;
        session.run("SAVE TRANSACTION weir").await?;
        let error = match self.target.load(session, batch, self.next_row, refused).await? {
            Ok(rows) => return Ok(Some(rows)),
            Err(error) => error,
        };
        let Some((_, reason)) = is_row_fault(&error) else { return Err(from_driver(error)) };
        if !alive(session).await.unwrap_or(false) {
            self.careful.0.store(true, Ordering::Relaxed);
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "the server gave up the transaction of a refused bulk load ({reason}): the split is tried again by way \
                     of a table of the session's own"
                ),
            )
            .retryable(true));
        }
        session.run("ROLLBACK TRANSACTION weir").await?;
        Ok(None)
    }
}

#[async_trait]
impl TaskWriter for SqlServerTask {
    async fn write(&mut self, batch: &RecordBatch, refused: &mut Refused) -> Result<()> {
        for slice in self.ceilings.cut(batch) {
            self.put(&slice, refused).await.context("table", &self.state.table)?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>, account: Account) -> Result<Receipt> {
        // Also without a row: the record must be written, or an earlier attempt's rows must go.
        if self.state.staging.is_some() || self.state.commits.is_some() {
            self.begin().await.context("table", &self.state.table)?;
        }
        let mut session = self.session.take().ok_or_else(lost)?;
        let receipt = Receipt { split: self.split, rows: self.rows, skipped: 0, account, data: json!({}) };
        if self.begun {
            self.end(&mut session, &receipt).await.context("table", &self.state.table)?;
        }
        // What the session had of its own goes, or the session does.
        let clean = if self.scratch { self.target.drop_scratch(&mut session).await } else { Ok(()) };
        ended(session, &clean, true).await;
        Ok(receipt)
    }
}
