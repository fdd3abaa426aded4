//! One task: batches become Parquet files. Encoding and uploading run on the I/O runtime.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNumericType, AsArray, BooleanArray, Int32Array, Int64Array, PrimitiveArray, RecordBatch,
    UInt64Array, new_null_array,
};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{is_not_null, max, min, take};
use arrow::datatypes::{DataType, Date32Type, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::temporal_conversions;
use async_trait::async_trait;
use deltalake::kernel::Add;
use deltalake::logstore::ObjectStoreRef;
use object_store::prefix::PrefixStore;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use weir_core::{Account, ConnectorContext, Error, ErrorKind, Receipt, Refused, Result, TaskId, TaskWriter, WritePlan};
use weir_lakehouse::{arrow_schema, on_io, partition_value, to_stored};

use crate::commit::delete;
use crate::files::DataFiles;
use crate::plan::{State, file_prefix, is_staged, staging};
use crate::record;

/// Columns of staged files that say in which order rows came.
pub(crate) const SPLIT_COLUMN: &str = "__weir_split";
pub(crate) const ROW_COLUMN: &str = "__weir_row";

enum Message {
    Batch(RecordBatch),
    Finish,
}

pub(crate) struct LakehouseTask {
    context: ConnectorContext,
    plan: WritePlan,
    /// The store of the table's folder.
    folder: ObjectStoreRef,
    split: u32,
    staged: bool,
    /// The columns of the files, partition columns included.
    schema: SchemaRef,
    /// How each of them comes about.
    columns: Vec<Source>,
    /// Columns that must not be NULL, by their position in the batch.
    required: Vec<(usize, &'static str)>,
    rows: u64,
    sender: Option<mpsc::Sender<Message>>,
    worker: JoinHandle<Result<Vec<Add>>>,
}

enum Source {
    /// A column of the batch.
    Mapped(usize),
    /// A constant, and the column of the batch that must be equal to it.
    Constant(ArrayRef, Option<usize>),
    /// Not written: NULL.
    Absent,
}

impl LakehouseTask {
    /// `folder` is the store of the table's folder.
    pub(crate) fn open(
        context: &ConnectorContext,
        folder: ObjectStoreRef,
        plan: &WritePlan,
        task: &TaskId,
        target_file_size: Option<u64>,
    ) -> Result<Self> {
        let staged = is_staged(plan);
        let store = store_of_files(&folder, plan);
        let state = State::of(plan)?;
        let table_schema = arrow_schema(&state.fields)?;
        let mut columns = Vec::new();
        let mut required = Vec::new();
        for (field, arrow) in state.fields.iter().zip(table_schema.fields()) {
            let mapped = plan.columns.iter().position(|c| c.name == field.name);
            columns.push(match (state.partition.get(&field.name), mapped) {
                (Some(text), mapped) => Source::Constant(partition_value(Some(text), arrow.data_type())?, mapped),
                (None, Some(index)) => Source::Mapped(index),
                (None, None) => Source::Absent,
            });
            if let Some(index) = mapped {
                if plan.keys.contains(&field.name) {
                    required.push((index, "a row without its key cannot be told from others"));
                } else if !field.nullable {
                    required.push((index, "the column does not take NULL"));
                }
            }
        }
        let (schema, partition_columns) = if staged {
            let mut fields: Vec<Field> = table_schema.fields().iter().map(|f| f.as_ref().clone()).collect();
            fields.push(Field::new(SPLIT_COLUMN, DataType::Int32, false));
            fields.push(Field::new(ROW_COLUMN, DataType::Int64, false));
            // A column that the job does not write keeps its value at the target, so NULL may stand for it here.
            let fields: Vec<Field> = fields.into_iter().map(|f| f.with_nullable(true)).collect();
            (Arc::new(Schema::new(fields)), Vec::new())
        } else {
            (table_schema, state.partition_columns.clone())
        };
        let (sender, receiver) = mpsc::channel(1);
        let prefix = file_prefix(plan, &task.split.to_string(), task.attempt);
        let files = DataFiles::new(store, prefix, schema.clone(), partition_columns, target_file_size);
        let worker = context.io.spawn(work(files, receiver));
        Ok(Self {
            context: context.clone(),
            plan: plan.clone(),
            folder,
            split: task.split,
            staged,
            schema,
            columns,
            required,
            rows: 0,
            sender: Some(sender),
            worker,
        })
    }

    /// Hands a message to the worker; learns from it why it takes no more.
    async fn tell(&mut self, message: Message) -> Result<()> {
        let Some(sender) = &self.sender else { return Err(Error::cancelled()) };
        let sent = self.context.until_cancelled(async { Ok(sender.send(message).await.is_ok()) }).await?;
        if sent {
            return Ok(());
        }
        self.sender = None;
        match (&mut self.worker).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) => Err(Error::internal("the file writer ended early")),
            Err(error) => Err(Error::internal("the file writer ended unexpectedly").because(error)),
        }
    }

    /// The rows that may go in.
    fn accept(&self, batch: &RecordBatch, refused: &mut Refused) -> Result<RecordBatch> {
        let mut good = batch.clone();
        for (index, reason) in &self.required {
            let values = good.column(*index);
            if values.null_count() > 0 {
                let mask = is_not_null(values)?;
                good = refused.take_out(&good, faults(&mask, *index, reason))?;
            }
        }
        for (source, field) in self.columns.iter().zip(self.schema.fields()) {
            if let Source::Constant(value, Some(index)) = source {
                let values = to_stored(good.column(*index), field.data_type())?;
                let mask = not_distinct(&values, &arrow::array::Scalar::new(value.clone()))?;
                good = refused
                    .take_out(&good, faults(&mask, *index, "the value is not the one that `partition` gives"))?;
            }
        }
        for source in &self.columns {
            if let Source::Mapped(index) = source
                && let Some(mask) = countable(good.column(*index))
            {
                let reason = "the date is beyond the years -262143 to 262142, which Delta's statistics are computed in";
                good = refused.take_out(&good, faults(&mask, *index, reason))?;
            }
        }
        Ok(good)
    }

    fn stored(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let mut arrays = Vec::with_capacity(self.schema.fields().len());
        for (source, field) in self.columns.iter().zip(self.schema.fields()) {
            arrays.push(match source {
                Source::Mapped(index) => {
                    to_stored(batch.column(*index), field.data_type()).map_err(|e| e.with("column", field.name()))?
                }
                Source::Constant(value, _) => take(value.as_ref(), &UInt64Array::from(vec![0; rows]), None)?,
                Source::Absent => new_null_array(field.data_type(), rows),
            });
        }
        if self.staged {
            let first = self.rows as i64;
            arrays.push(Arc::new(Int32Array::from_value(self.split as i32, rows)));
            arrays.push(Arc::new(Int64Array::from_iter_values(first..first + rows as i64)));
        }
        Ok(RecordBatch::try_new(self.schema.clone(), arrays)?)
    }
}

/// The rows that are not good, as [`Refused::take_out`] takes them.
fn faults<'a>(
    good: &'a BooleanArray,
    column: usize,
    reason: &'a str,
) -> impl Iterator<Item = (usize, usize, String)> + 'a {
    (0..good.len()).filter(|row| !good.value(*row)).map(move |row| (row, column, reason.to_owned()))
}

/// Which dates and timestamps can stand in a file's statistics: their writer computes in the years that Arrow can show, and
/// fails beyond. `None` where all can.
fn countable(values: &ArrayRef) -> Option<BooleanArray> {
    match values.data_type() {
        DataType::Date32 => {
            outliers(values.as_primitive::<Date32Type>(), |day| temporal_conversions::date32_to_datetime(day).is_some())
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let shown = |micros| temporal_conversions::timestamp_us_to_datetime(micros).is_some();
            outliers(values.as_primitive::<TimestampMicrosecondType>(), shown)
        }
        DataType::List(_) => {
            let lists = values.as_list::<i32>();
            let items = countable(lists.values())?;
            let all = |row: usize| {
                let (start, end) = (lists.value_offsets()[row] as usize, lists.value_offsets()[row + 1] as usize);
                (start..end).all(|item| items.value(item))
            };
            Some((0..lists.len()).map(|row| Some(lists.is_null(row) || all(row))).collect())
        }
        _ => None,
    }
}

fn outliers<T: ArrowNumericType>(
    values: &PrimitiveArray<T>,
    known: impl Fn(T::Native) -> bool,
) -> Option<BooleanArray> {
    // Years are in order: where the first and the last are known, all are.
    if [min(values), max(values)].into_iter().flatten().all(&known) {
        return None;
    }
    Some(values.iter().map(|value| Some(value.is_none_or(&known))).collect())
}

/// Where data files go: to the places where they will stay, or to the staging.
pub(crate) fn store_of_files(folder: &ObjectStoreRef, plan: &WritePlan) -> ObjectStoreRef {
    match is_staged(plan) {
        true => Arc::new(PrefixStore::new(folder.clone(), staging(plan))),
        false => folder.clone(),
    }
}

/// Writes what comes; without a `Finish` at the end nothing of it stays.
async fn work(mut files: DataFiles, mut receiver: mpsc::Receiver<Message>) -> Result<Vec<Add>> {
    let fault = loop {
        match receiver.recv().await {
            Some(Message::Batch(batch)) => {
                if let Err(error) = files.write(&batch).await {
                    break error;
                }
            }
            Some(Message::Finish) => return files.close().await,
            None => break Error::cancelled(),
        }
    };
    files.discard().await;
    Err(fault)
}

#[async_trait]
impl TaskWriter for LakehouseTask {
    async fn write(&mut self, batch: &RecordBatch, refused: &mut Refused) -> Result<()> {
        let good = self.accept(batch, refused)?;
        if good.num_rows() > 0 {
            let stored = self.stored(&good)?;
            self.rows += good.num_rows() as u64;
            self.tell(Message::Batch(stored)).await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>, account: Account) -> Result<Receipt> {
        self.tell(Message::Finish).await?;
        let worker = &mut self.worker;
        let adds = self
            .context
            .until_cancelled(async {
                worker.await.map_err(|e| Error::internal("the file writer ended unexpectedly").because(e))?
            })
            .await?;
        let receipt =
            Receipt { split: self.split, rows: self.rows, skipped: 0, account, data: json!({ "adds": adds }) };
        let (folder, plan, keep) = (self.folder.clone(), self.plan.clone(), receipt.clone());
        on_io(&self.context, async move {
            let kept = record::keep(&folder, &plan, &keep).await;
            // Only when it is certain that the record is another's are these files of no use.
            if kept.as_ref().is_err_and(|e| e.kind() == ErrorKind::Conflict) {
                delete(&store_of_files(&folder, &plan), adds.iter().map(|add| add.path.as_str())).await;
            }
            kept
        })
        .await?;
        Ok(receipt)
    }
}
