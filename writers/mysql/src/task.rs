//! One task: a split's rows in one transaction.

use arrow::array::RecordBatch;
use async_trait::async_trait;
use serde_json::json;
use weir_core::{Account, Receipt, Refused, Result, ResultExt, TaskId, TaskWriter, WriteMode, WritePlan, bisect};
use weir_mysql::{QUOTING, Session};
use weir_sql::WriterConfig;

use crate::apply::{Inserts, Loaded, Numbering, Target, load, lost};
use crate::as_planned;
use crate::encode::Encoder;
use crate::ledger;
use crate::state::{ROW, SPLIT, State};
use crate::taken::Taken;

/// The most bytes of a statement with several rows: larger ones gain nothing and hold memory at both ends.
const STATEMENT: usize = 4 * 1024 * 1024;
/// The most bytes of a packet of LOAD DATA.
const CHUNK: usize = 1024 * 1024;

/// Writes a split.
pub(crate) struct MySqlTask {
    session: Option<Session>,
    target: Target,
    plan: WritePlan,
    state: State,
    split: u32,
    begun: bool,
    load: bool,
    chunk: usize,
    /// The number of the next row in a staging table with numbers.
    next_row: u64,
    rows: u64,
    skipped: u64,
}

impl MySqlTask {
    pub(crate) fn new(session: Session, config: &WriterConfig, plan: &WritePlan, state: State, task: &TaskId) -> Self {
        let max_packet = state.max_packet as usize;
        let mut extra = Vec::new();
        if state.staging.is_some() {
            extra.push(SPLIT.to_owned());
            extra.extend((plan.mode != WriteMode::Overwrite).then(|| ROW.to_owned()));
        }
        let bytes = config.batch_byte_size.unwrap_or(u64::MAX).min(STATEMENT as u64) as usize;
        let target = Target {
            table: state.written_table().clone(),
            columns: plan.columns.iter().map(|c| c.name.clone()).collect(),
            kinds: state.kinds(),
            extra,
            // What is replaced, and what is updated, is the commit's business.
            mode: match plan.mode {
                WriteMode::Overwrite | WriteMode::Upsert if state.staging.is_some() => WriteMode::Append,
                mode => mode,
            },
            same: state.same.clone(),
            max_statement: bytes.min(max_packet / 2).max(1),
            max_packet,
            max_rows: if state.row_by_row { 1 } else { config.batch_size.unwrap_or(u64::MAX).min(1 << 20) as usize },
            updates: plan.columns.iter().map(|c| c.name.clone()).filter(|n| !plan.keys.contains(n)).collect(),
            row_by_row: state.row_by_row,
            cast: state.cast,
            taken: Taken::of(&state),
        };
        Self {
            session: Some(session),
            target,
            plan: plan.clone(),
            load: state.load,
            chunk: CHUNK.min(max_packet / 2).max(1024),
            state,
            split: task.split,
            begun: false,
            next_row: 0,
            rows: 0,
            skipped: 0,
        }
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
        session.run("START TRANSACTION").await?;
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
        if self.state.staging.is_none() && self.rows > 0 {
            as_planned::check(session, &self.plan, &self.state).await?;
        }
        if let Some(commits) = &self.state.commits {
            let split = i64::from(self.split);
            if !ledger::record(session, commits, split, &self.state.table, Some(receipt)).await? {
                return Err(ledger::overtaken());
            }
        }
        session.run("COMMIT").await
    }

    fn numbering(&self) -> Numbering {
        let numbered = self.target.extra.len() > 1;
        Numbering { split: self.split.into(), first_row: numbered.then_some(self.next_row) }
    }

    /// Takes out the rows that the server would bend without an error.
    fn object(&self, batch: &RecordBatch, refused: &mut Refused) -> Result<RecordBatch> {
        let encoder = Encoder::new(batch, &self.target.kinds, self.target.cast)?;
        if !encoder.needs_a_look() {
            return Ok(batch.clone());
        }
        let objections = (0..batch.num_rows()).filter_map(|row| {
            let (column, reason) = encoder.objection(row)?;
            Some((row, column, reason))
        });
        refused.take_out(batch, objections)
    }

    async fn put(&mut self, batch: &RecordBatch, refused: &mut Refused) -> Result<()> {
        let batch = &self.object(batch, refused)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.begin().await?;
        let numbering = self.numbering();
        let session = self.session.as_mut().ok_or_else(lost)?;
        if self.load {
            match load(session, &self.target, batch, &numbering, self.chunk).await? {
                Loaded::All => {
                    self.rows += batch.num_rows() as u64;
                    self.next_row += batch.num_rows() as u64;
                    return Ok(());
                }
                Loaded::Nothing => {}
                Loaded::NotAllowed => {
                    tracing::warn!("the server takes no LOAD DATA LOCAL: batches go as INSERTs");
                    self.load = false;
                }
            }
        }
        let mut inserts = Inserts::new(session, &self.target, numbering);
        let before = refused.rows;
        for (start, rows) in inserts.pieces(batch) {
            bisect(&mut inserts, &batch.slice(start, rows), refused).await?;
        }
        let taken = batch.num_rows() as u64 - (refused.rows - before) as u64;
        let skipped = inserts.skipped;
        self.next_row = inserts.numbering.first_row.unwrap_or(self.next_row);
        self.rows += taken - skipped.min(taken);
        self.skipped += skipped;
        Ok(())
    }
}

#[async_trait]
impl TaskWriter for MySqlTask {
    async fn write(&mut self, batch: &RecordBatch, refused: &mut Refused) -> Result<()> {
        self.put(batch, refused).await.context("table", &self.state.table)
    }

    async fn finish(mut self: Box<Self>, account: Account) -> Result<Receipt> {
        // Also without a row: the record must be written, or an earlier attempt's rows must go.
        if self.state.staging.is_some() || self.state.commits.is_some() {
            self.begin().await.context("table", &self.state.table)?;
        }
        let mut session = self.session.take().ok_or_else(lost)?;
        let receipt = Receipt { split: self.split, rows: self.rows, skipped: self.skipped, account, data: json!({}) };
        if self.begun {
            self.end(&mut session, &receipt).await.context("table", &self.state.table)?;
        }
        session.rest().await;
        Ok(receipt)
    }
}
