//! Bringing a batch into a table: LOAD DATA LOCAL, or strict INSERTs that find the rows at fault.

use std::ops::Range;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use weir_core::{Bisect, Error, Refusal, Result, WriteMode};
use weir_mysql::{Kind, QUOTING, Session, from_async, is_row_fault};
use weir_sql::TableName;

use crate::encode::{Encoder, Style, load_expression};
use crate::taken::Taken;

/// The last columns of every batch in a staging table.
pub(crate) struct Numbering {
    /// The split.
    pub(crate) split: u64,
    /// The number of the batch's first row; `None` where rows need none.
    pub(crate) first_row: Option<u64>,
}

/// What a task sends statements for.
pub(crate) struct Target {
    pub(crate) table: TableName,
    pub(crate) columns: Vec<String>,
    pub(crate) kinds: Vec<Kind>,
    /// Columns after the batch's own, filled with [`Numbering`].
    pub(crate) extra: Vec<String>,
    pub(crate) mode: WriteMode,
    pub(crate) same: String,
    /// About the most bytes of a statement with several rows.
    pub(crate) max_statement: usize,
    /// The most bytes the server takes.
    pub(crate) max_packet: usize,
    pub(crate) max_rows: usize,
    pub(crate) cast: bool,
    /// The columns that an upsert without staging updates.
    pub(crate) updates: Vec<String>,
    /// Whether nothing can be taken back.
    pub(crate) row_by_row: bool,
    /// A staged append: finds rows whose key a row of the target has.
    pub(crate) taken: Option<Taken>,
}

impl Target {
    fn extra(&self, numbering: &Numbering, row: u64, values: &mut Vec<u64>) {
        values.clear();
        if !self.extra.is_empty() {
            values.push(numbering.split);
            values.extend(numbering.first_row.map(|first| first + row));
        }
    }

    async fn taken(&self, session: &mut Session, numbering: &Numbering) -> Result<Option<Refusal>> {
        match (&self.taken, numbering.first_row) {
            (Some(taken), Some(first)) => taken.find(session, numbering.split, first).await,
            _ => Ok(None),
        }
    }

    fn load_sql(&self, batch: &RecordBatch) -> String {
        let mut names = Vec::new();
        let mut sets = Vec::new();
        for (i, (name, kind)) in self.columns.iter().zip(&self.kinds).enumerate() {
            match load_expression(kind, batch.schema_ref().field(i), &format!("@v{i}")) {
                Some(expression) => {
                    names.push(format!("@v{i}"));
                    sets.push(format!("{} = {expression}", QUOTING.quote(name)));
                }
                None => names.push(QUOTING.quote(name)),
            }
        }
        names.extend(self.extra.iter().map(|n| QUOTING.quote(n)));
        let replace = if self.mode == WriteMode::Replace { "REPLACE " } else { "" };
        let set = if sets.is_empty() { String::new() } else { format!(" SET {}", sets.join(", ")) };
        format!(
            "LOAD DATA LOCAL INFILE 'weir' {replace}INTO TABLE {} CHARACTER SET utf8mb4 FIELDS TERMINATED BY '\\t' \
             ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({}){set}",
            self.table.quoted(QUOTING),
            names.join(", ")
        )
    }

    fn insert_head(&self) -> String {
        let verb = if self.mode == WriteMode::Replace { "REPLACE" } else { "INSERT" };
        let names = QUOTING.quote_all(self.columns.iter().chain(&self.extra));
        format!("{verb} INTO {} ({names}) VALUES ", self.table.quoted(QUOTING))
    }

    fn insert_tail(&self) -> String {
        // A row that sets nothing anew affects no row: skipped rows are those that are missing in the count, and
        // every other fault stays an error, which INSERT IGNORE would turn into a bent value.
        let same = QUOTING.quote(&self.same);
        match self.mode {
            WriteMode::Upsert if !self.updates.is_empty() => {
                let sets = self.updates.iter().map(|n| format!("{0} = VALUES({0})", QUOTING.quote(n)));
                format!(" ON DUPLICATE KEY UPDATE {}", sets.collect::<Vec<_>>().join(", "))
            }
            WriteMode::Upsert | WriteMode::Ignore => {
                format!(" ON DUPLICATE KEY UPDATE {same} = {}.{same}", self.table.quoted(QUOTING))
            }
            _ => String::new(),
        }
    }
}

/// Sends a batch by LOAD DATA LOCAL. `false`: the server bent or skipped something, and nothing of the batch is applied.
pub(crate) async fn load(
    session: &mut Session,
    target: &Target,
    batch: &RecordBatch,
    numbering: &Numbering,
    chunk: usize,
) -> Result<Loaded> {
    let encoder = Encoder::new(batch, &target.kinds, target.cast)?;
    let mut lines = Vec::with_capacity(weir_core::batch_bytes(batch) * 5 / 4 + batch.num_rows() * 16);
    let mut extra = Vec::with_capacity(2);
    for row in 0..batch.num_rows() {
        target.extra(numbering, row as u64, &mut extra);
        encoder.row(row, Style::Load, &extra, &mut lines);
    }
    session.run("SAVEPOINT weir").await?;
    let mut lines = Bytes::from(lines);
    let mut chunks = Vec::with_capacity(lines.len() / chunk + 1);
    while !lines.is_empty() {
        chunks.push(lines.split_to(chunk.min(lines.len())));
    }
    session.conn.set_infile_handler(async move { Ok(futures::stream::iter(chunks.into_iter().map(Ok)).boxed()) });
    match session.raw(&target.load_sql(batch)).await? {
        Ok(()) => {
            let sent = batch.num_rows() as u64;
            // REPLACE counts the rows it deletes too.
            let counted =
                session.affected() == sent || (target.mode == WriteMode::Replace && session.affected() > sent);
            if counted && session.conn.get_warnings() == 0 && target.taken(session, numbering).await?.is_none() {
                return Ok(Loaded::All);
            }
            session.run("ROLLBACK TO SAVEPOINT weir").await?;
            Ok(Loaded::Nothing)
        }
        Err(error) => {
            let refused = match &error {
                mysql_async::Error::Server(e) => matches!(e.code, 1148 | 3948 | 2068 | 4166 | 1235),
                _ => false,
            };
            if refused {
                return Ok(Loaded::NotAllowed);
            }
            if is_row_fault(&error).is_some() {
                session.run("ROLLBACK TO SAVEPOINT weir").await?;
                return Ok(Loaded::Nothing);
            }
            Err(from_async(error))
        }
    }
}

/// What became of a LOAD DATA.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Loaded {
    /// Every row is in, as it was sent.
    All,
    /// Rolled back: some row is at fault.
    Nothing,
    /// The server takes none.
    NotAllowed,
}

/// Strict INSERTs, one statement at a time: InnoDB applies a statement whole or not at all.
pub(crate) struct Inserts<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) target: &'a Target,
    pub(crate) numbering: Numbering,
    /// Rows that a key made the server skip (`ignore`).
    pub(crate) skipped: u64,
    pub(crate) head: String,
    pub(crate) tail: String,
}

impl<'a> Inserts<'a> {
    pub(crate) fn new(session: &'a mut Session, target: &'a Target, numbering: Numbering) -> Self {
        Self { head: target.insert_head(), tail: target.insert_tail(), session, target, numbering, skipped: 0 }
    }

    /// Cuts a batch into pieces of which each fits into a statement: (first row, rows).
    pub(crate) fn pieces(&self, batch: &RecordBatch) -> Vec<(usize, usize)> {
        let rows = batch.num_rows();
        let bytes = weir_core::batch_bytes(batch);
        let per_row = (bytes / rows.max(1)).max(1) * 2 + 16 * batch.num_columns();
        let step = (self.target.max_statement / per_row).clamp(1, self.target.max_rows);
        (0..rows).step_by(step).map(|start| (start, step.min(rows - start))).collect()
    }
}

#[async_trait]
impl Bisect for Inserts<'_> {
    async fn apply(&mut self, batch: &RecordBatch, rows: Range<usize>) -> Result<Option<Refusal>> {
        let rows = &batch.slice(rows.start, rows.len());
        let mut sql = Vec::with_capacity(weir_core::batch_bytes(rows) * 3 / 2 + self.head.len() + rows.num_rows() * 16);
        let encoder = Encoder::new(rows, &self.target.kinds, self.target.cast)?;
        sql.extend_from_slice(self.head.as_bytes());
        let mut extra = Vec::with_capacity(2);
        for row in 0..rows.num_rows() {
            if row > 0 {
                sql.push(b',');
            }
            self.target.extra(&self.numbering, row as u64, &mut extra);
            encoder.row(row, Style::Sql, &extra, &mut sql);
        }
        sql.extend_from_slice(self.tail.as_bytes());
        if sql.len() + 1024 > self.target.max_packet {
            return Ok(Some(Refusal {
                reason: "the row is longer than the server's max_allowed_packet".into(),
                ..Refusal::default()
            }));
        }
        // Native text came from a server in utf8mb4; a byte that is not is the row's fault.
        let Ok(sql) = String::from_utf8(sql) else {
            return Ok(Some(Refusal { reason: "a text is no valid UTF-8".into(), ..Refusal::default() }));
        };
        if !self.target.row_by_row {
            self.session.run("SAVEPOINT weir").await?;
        }
        match self.session.raw(&sql).await? {
            Ok(()) => {
                // Asking for warnings forgets it.
                let affected = self.session.affected();
                if !self.target.row_by_row
                    && let Some(refusal) = self.bent().await?
                {
                    return Ok(Some(refusal));
                }
                if let Some(refusal) = self.target.taken(self.session, &self.numbering).await? {
                    self.session.run("ROLLBACK TO SAVEPOINT weir").await?;
                    return Ok(Some(refusal));
                }
                if self.target.mode == WriteMode::Ignore {
                    self.skipped += (rows.num_rows() as u64).saturating_sub(affected);
                }
                // Slices come in order, so numbers go on where the last applied one ended.
                if let Some(first) = &mut self.numbering.first_row {
                    *first += rows.num_rows() as u64;
                }
                Ok(None)
            }
            Err(error) => match is_row_fault(&error) {
                Some((column, reason)) => Ok(Some(Refusal { row: row_of(&reason), column, reason })),
                None => Err(from_async(error)),
            },
        }
    }
}

impl Inserts<'_> {
    /// Whether the server bent a value of the last statement with no more than a word (a decimal's last digits, trailing
    /// spaces). The statement is then taken back.
    async fn bent(&mut self) -> Result<Option<Refusal>> {
        if self.session.conn.get_warnings() == 0 {
            return Ok(None);
        }
        let warnings: Vec<(String, u16, String)> = self.session.rows("SHOW WARNINGS").await?;
        for (_, code, message) in warnings {
            let error = mysql_async::ServerError { code, message, state: String::new() };
            if let Some((column, reason)) = is_row_fault(&error.into()) {
                self.session.run("ROLLBACK TO SAVEPOINT weir").await?;
                return Ok(Some(Refusal { row: row_of(&reason), column, reason }));
            }
        }
        Ok(None)
    }
}

/// The row that a message names, from 0.
fn row_of(message: &str) -> Option<usize> {
    message.rsplit_once(" at row ")?.1.parse::<usize>().ok()?.checked_sub(1)
}

/// A task cannot go on after a lost transaction.
pub(crate) fn lost() -> Error {
    Error::internal("the task's connection is gone")
}
