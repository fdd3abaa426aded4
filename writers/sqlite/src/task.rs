//! One split into the table or the staging table: one transaction, one prepared statement, row by row.
//!
//! A row that SQLite refuses undoes its own statement only, so the rows around it need no savepoint.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use serde_json::json;
use weir_core::{Account, DirtyRow, Error, ErrorKind, Receipt, Refused, Result, TaskWriter};
use weir_sqlite::{Connection, Database, Value};

use crate::encode::Encoder;
use crate::plan::State;
use crate::records;

/// A task's transaction.
pub struct SqliteTask {
    /// `None` after a failure, which closed the connection and so rolled back.
    connection: Option<Connection>,
    state: State,
    schema: SchemaRef,
    split: u32,
    begun: bool,
    rows: u64,
    skipped: u64,
}

/// What became of a batch.
#[derive(Default)]
struct Outcome {
    rows: u64,
    skipped: u64,
}

impl SqliteTask {
    /// Begins; the file is locked with the first batch.
    pub fn new(connection: Connection, state: State, schema: SchemaRef, split: u32) -> Self {
        Self { connection: Some(connection), state, schema, split, begun: false, rows: 0, skipped: 0 }
    }

    /// Takes the lock, unless that has happened.
    async fn begin(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        let (state, split) = (self.state.clone(), self.split);
        self.run(move |database| {
            if state.stage.is_some() && state.refers_to_itself {
                database.execute("PRAGMA foreign_keys = OFF")?;
            }
            database.execute("BEGIN IMMEDIATE")?;
            state.commits.iter().try_for_each(|c| records::refuse_recorded(database, c, split.into()))
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Database<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let connection = self.connection.take();
        let connection = connection.ok_or_else(|| Error::internal("the task goes on after it failed"))?;
        let (connection, result) = connection.run(work).await?;
        self.connection = Some(connection);
        Ok(result)
    }
}

#[async_trait]
impl TaskWriter for SqliteTask {
    async fn write(&mut self, batch: &RecordBatch, refused: &mut Refused) -> Result<()> {
        self.begin().await?;
        let (state, batch, split) = (self.state.clone(), batch.clone(), self.split);
        let schema = self.schema.clone();
        // It goes to the connection's thread, where the rows are found, and comes back.
        let mut taken = std::mem::take(refused);
        let work = move |database: &Database<'_>| {
            let outcome = insert(database, &state, &schema, &batch, split, &mut taken)?;
            Ok((outcome, taken))
        };
        let (outcome, taken) = self.run(work).await?;
        *refused = taken;
        self.rows += outcome.rows;
        self.skipped += outcome.skipped;
        Ok(())
    }

    async fn finish(mut self: Box<Self>, account: Account) -> Result<Receipt> {
        let data = json!({ "stage": self.state.stage });
        let receipt = Receipt { split: self.split, rows: self.rows, skipped: self.skipped, account, data };
        let commits = self.state.commits.clone();
        if commits.is_some() {
            // A split without rows has its record too.
            self.begin().await?;
        }
        if self.begun {
            let (recorded, target) = (receipt.clone(), self.state.table.to_string());
            self.run(move |database| {
                if let Some(commits) = &commits {
                    records::add(database, commits, recorded.split.into(), &target, Some(&recorded))?;
                }
                Ok(database.execute("COMMIT")?)
            })
            .await?;
        }
        Ok(receipt)
    }
}

fn insert(
    database: &Database<'_>,
    state: &State,
    schema: &SchemaRef,
    batch: &RecordBatch,
    split: u32,
    refused: &mut Refused,
) -> Result<Outcome> {
    let mut statement = database.prepare(&state.insert)?;
    let mut outcome = Outcome::default();
    let mut encoders = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .zip(&state.affinities)
        .map(|((field, array), affinity)| Encoder::new(field, array, *affinity))
        .collect::<Result<Vec<_>>>()?;
    for row in 0..batch.num_rows() {
        let mut refuse = |column: Option<usize>, reason: String| {
            refused.add(DirtyRow::of_batch(batch, row, column.map(|i| schema.field(i).name().clone()), reason))
        };
        // A NULL equals no key, so each run would add the row once more.
        if let Some(key) = state.keys.iter().find(|key| batch.column(**key).is_null(row)) {
            refuse(Some(*key), "a key column of an upsert is NULL".into())?;
            continue;
        }
        if let Some(column) = state.filled.iter().find(|column| batch.column(**column).is_null(row)) {
            let reason = "the column takes no NULL: SQLite would put a value of its own in its place".into();
            refuse(Some(*column), reason)?;
            continue;
        }
        let mut values = Vec::with_capacity(encoders.len() + 1);
        let mut fault = None;
        for (i, encoder) in encoders.iter_mut().enumerate() {
            match encoder.value(row) {
                Ok(value) => values.push(value),
                Err(reason) => {
                    fault = Some((i, reason));
                    values.push(Value::Null);
                }
            }
        }
        if let Some((i, reason)) = fault {
            refuse(Some(i), reason)?;
            continue;
        }
        if state.numbered {
            values.push(Value::Integer(split.into()));
        }
        match statement.run(&values) {
            Ok(()) if state.counts_skipped && database.changes() == 0 => outcome.skipped += 1,
            Ok(()) => match &state.taken {
                Some(reason) if database.changes() == 0 => refuse(None, reason.clone())?,
                _ => outcome.rows += 1,
            },
            Err(failure) if failure.blames_row() => {
                if !database.in_transaction() {
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        format!(
                            "a trigger or constraint of the table rolled back the whole split: {}",
                            failure.message
                        ),
                    ));
                }
                let reason = state.in_words(&failure.message);
                let column = fault_column(&reason, schema);
                refuse(column, reason)?;
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    Ok(outcome)
}

/// The column that `NOT NULL constraint failed: t.c` names, if it names one.
fn fault_column(message: &str, schema: &SchemaRef) -> Option<usize> {
    let (_, names) = message.split_once("constraint failed: ")?;
    let (_, name) = names.rsplit_once('.')?;
    if names.contains(',') {
        return None;
    }
    schema.fields().iter().position(|field| field.name() == name)
}
