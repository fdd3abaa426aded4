//! One task: a transaction, a COPY a batch under a savepoint.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::Field;
use async_trait::async_trait;
use serde_json::json;
use weir_core::{
    Account, Bisect, Error, ErrorKind, Receipt, Refusal, Refused, Result, ResultExt, TaskId, TaskWriter, WriteMode,
    WritePlan, bisect,
};
use weir_postgresql::copy::Encoder;
use weir_postgresql::copy::encode::Format;
use weir_postgresql::error::{map, refusal};
use weir_postgresql::{PgType, Session};
use weir_sql::{Ceilings, Commits};

use crate::plan::{Q, State};
use crate::record;
use crate::stage::{self, Layout, ROW, SPLIT};
use crate::taken::Taken;

/// The most bytes of a COPY stream in one message.
const MESSAGE: usize = 1 << 20;

pub(crate) struct Task {
    session: Session,
    encoder: Encoder,
    buffer: Vec<u8>,
    copy: String,
    /// The relation that COPY fills, as the server's messages name it.
    relation: String,
    /// `ignore`: moves a batch from the session's own table into the target.
    insert: Option<String>,
    /// A staged append: finds a row that the target would refuse for one of its keys.
    taken: Option<Taken>,
    table: String,
    records: Option<Commits>,
    ceilings: Ceilings,
    split: u32,
    rows: u64,
    skipped: u64,
    /// Whether the next batch has its savepoint already.
    saved: bool,
    /// Whether the savepoint of the last batch is still to be given up.
    held: bool,
    /// Rows that go straight into a table that was there: fails when it is not what the plan has seen.
    as_planned: Option<String>,
}

/// What comes before each batch.
const SAVEPOINT: &str = "SAVEPOINT weir";

/// The session's own table of `ignore`.
const OWN: &str = "weir_batch";

impl Task {
    pub async fn open(
        mut session: Session,
        plan: &WritePlan,
        state: &State,
        task: &TaskId,
        ceilings: Ceilings,
    ) -> Result<Self> {
        let split = i32::try_from(task.split).map_err(|_| Error::internal("too many splits"))?;
        let names = Q.quote_all(plan.columns.iter().map(|c| &c.name));
        let table = state.table.quoted(Q);
        let own_table = state.stage.is_none() && plan.mode == WriteMode::Ignore;
        // Where statements of the job come before, the plan does not know what they make of the table.
        let direct = state.stage.is_none() && !own_table && state.layout.is_some();
        // The first batch's savepoint comes along; not where something else is made before it.
        let saved = state.records.is_some() && !own_table;
        let then = if saved { SAVEPOINT } else { "" };
        match &state.records {
            Some(commits) => {
                // A former attempt may have finished without anybody hearing of it. None can from here on.
                if record::begin(&mut session, commits, &plan.table, split, split.into(), then).await? {
                    return Err(overtaken(task.split));
                }
            }
            None => session.execute("BEGIN; SET CONSTRAINTS ALL IMMEDIATE").await.map(drop)?,
        }
        let taken = match &state.stage {
            Some(stage) if plan.mode == WriteMode::Append => {
                Taken::of(&mut session, (plan, state), stage, task.split).await?
            }
            _ => None,
        };
        let mut insert = None;
        let (into, relation, list) = match &state.stage {
            Some(stage) => {
                if state.records.is_none() {
                    session.execute(&format!("DELETE FROM {} WHERE {SPLIT} = {split}", stage.quoted(Q))).await?;
                }
                (stage.quoted(Q), stage.name.clone(), comma(&names, &format!("{SPLIT}, {ROW}")))
            }
            None if own_table => {
                session
                    .execute(&format!(
                        "CREATE TEMPORARY TABLE {OWN} ON COMMIT DROP AS SELECT {names} FROM {table} WITH NO DATA"
                    ))
                    .await?;
                let overriding = overriding(state);
                insert = Some(format!(
                    "INSERT INTO {table} ({names}){overriding} SELECT {names} FROM {OWN} ON CONFLICT DO NOTHING"
                ));
                (OWN.to_owned(), OWN.to_owned(), names)
            }
            None => (table.clone(), state.table.name.clone(), names),
        };
        let format = match state.format {
            Format::Binary => "binary",
            Format::Text => "text",
        };
        let list = if list.is_empty() { String::new() } else { format!(" ({list})") };
        let columns: Vec<(&Field, &PgType)> = plan.columns.iter().map(|c| &c.input).zip(&state.types).collect();
        Ok(Self {
            session,
            encoder: Encoder::new(&columns, state.format, state.stage.as_ref().map(|_| split))?,
            buffer: Vec::new(),
            copy: format!("COPY {into}{list} FROM STDIN (FORMAT {format})"),
            relation,
            insert,
            taken,
            table: plan.table.clone(),
            records: state.records.clone(),
            ceilings,
            split: task.split,
            rows: 0,
            skipped: 0,
            saved,
            held: false,
            as_planned: direct.then(|| Layout::as_planned(&state.table, plan, state)),
        })
    }

    /// What gives up the savepoint of the batch before: said together with whatever comes next.
    fn release(&mut self) -> &'static str {
        if std::mem::take(&mut self.held) { "RELEASE SAVEPOINT weir; " } else { "" }
    }

    /// Sends the buffer as one COPY under a savepoint.
    async fn copy(&mut self) -> Result<Option<Refusal>> {
        if !std::mem::take(&mut self.saved) {
            let release = self.release();
            self.session.execute(&format!("{release}{SAVEPOINT}")).await?;
        }
        let sent = {
            let (connection, stopper) = self.session.parts();
            let (copy, buffer) = (&self.copy, &self.buffer);
            let sending = async {
                let mut into = connection.copy_in_raw(copy).await?;
                for message in buffer.chunks(MESSAGE) {
                    into.send(message).await?;
                }
                into.finish().await
            };
            stopper.watch(sending).await?
        };
        let copied = match sent {
            Ok(copied) => copied,
            Err(error) => return self.undo(error).await,
        };
        let mut applied = copied;
        if let Some(insert) = &self.insert {
            match self.session.try_execute(insert).await? {
                Ok(inserted) => applied = inserted,
                Err(error) => return self.undo(error).await,
            }
            self.session.execute(&format!("TRUNCATE {OWN}")).await?;
        }
        if let Some(taken) = &self.taken {
            let found = taken.find(&mut self.session, self.encoder.next_row() - copied as i64).await;
            if let Some(refused) = found.context("table", &self.table)? {
                self.roll_back().await?;
                return Ok(Some(refused));
            }
        }
        self.held = true;
        self.rows += applied;
        self.skipped += copied - applied.min(copied);
        Ok(None)
    }

    /// After a failed COPY: the refusal if a row is to blame, else the error.
    async fn undo(&mut self, error: sqlx::Error) -> Result<Option<Refusal>> {
        let refused = refusal(&error, &self.relation);
        match refused {
            Some(refused) => {
                self.roll_back().await?;
                Ok(Some(refused))
            }
            None => Err(map(error)).context("table", &self.table),
        }
    }

    /// The savepoint stays, and is that of the next batch: one more within it for each refused row would hold a lock each.
    async fn roll_back(&mut self) -> Result<()> {
        self.session.execute("ROLLBACK TO SAVEPOINT weir").await?;
        self.saved = true;
        Ok(())
    }

    async fn write_slice(&mut self, batch: &RecordBatch, refused: &mut Refused) -> Result<()> {
        let encoded = self.encoder.encode(batch, &mut self.buffer)?.refused;
        let batch = refused.take_out(batch, encoded)?;
        // The buffer holds exactly the kept rows: nearly always this is all there is to do.
        if batch.num_rows() == 0 || self.copy().await?.is_none() {
            return Ok(());
        }
        bisect(self, &batch, refused).await
    }
}

fn overtaken(split: u32) -> Error {
    Error::new(ErrorKind::Conflict, "another attempt at the split has been recorded at the target").with("split", split)
}

fn comma(a: &str, b: &str) -> String {
    if a.is_empty() { b.to_owned() } else { format!("{a}, {b}") }
}

/// Identities that are generated always take values only when told so; COPY needs no telling.
pub(crate) fn overriding(state: &State) -> &'static str {
    if state.identities.is_empty() { "" } else { " OVERRIDING SYSTEM VALUE" }
}

#[async_trait]
impl Bisect for Task {
    async fn apply(&mut self, batch: &RecordBatch, rows: Range<usize>) -> Result<Option<Refusal>> {
        self.encoder.encode(&batch.slice(rows.start, rows.len()), &mut self.buffer)?;
        self.copy().await
    }
}

#[async_trait]
impl TaskWriter for Task {
    async fn write(&mut self, batch: &RecordBatch, refused: &mut Refused) -> Result<()> {
        for slice in self.ceilings.cut(batch) {
            self.write_slice(&slice, refused).await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>, account: Account) -> Result<Receipt> {
        let receipt = Receipt { split: self.split, rows: self.rows, skipped: self.skipped, account, data: json!({}) };
        let release = self.release();
        // Whatever was copied keeps the table from being altered since: what it is now it was then.
        if let Some(sql) = &self.as_planned {
            let looked = self.session.execute(sql).await;
            looked.map_err(|error| stage::changed(error).with("table", &self.table))?;
        }
        match &self.records {
            Some(commits) => {
                let split = i64::from(self.split);
                let ends = (release, true);
                if !record::write(&mut self.session, commits, split, &self.table, Some(&receipt), ends).await? {
                    return Err(overtaken(self.split));
                }
            }
            None => self.session.execute(&format!("{release}COMMIT")).await.map(drop).context("table", &self.table)?,
        }
        self.session.rest().await;
        Ok(receipt)
    }
}
