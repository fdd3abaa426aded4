//! Reading a source to its end.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, SchemaRef};
use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;
use weir_core::field::same_representation;
use weir_core::{
    BatchSender, DirtyRow, Error, MAX_BATCH_BYTES, MAX_BATCH_ROWS, ReadColumn, ReadRequest, Reader, Result,
    SourceColumn, SourceSchema, Split, SplitRequest, Window, WindowRequest, batch_bytes,
};

use super::{cells, control, on_thread, split_request, through_json};

/// How to read.
#[derive(Clone)]
pub struct ReadOptions {
    /// What to plan splits for; also how many are read at once.
    pub splits: SplitRequest,
    /// Which representation of a column to ask for.
    pub choose: fn(&SourceColumn) -> &Field,
    /// The columns to ask for, by their index at the source; all of them when `None`.
    pub columns: Option<Vec<usize>>,
    /// The snapshot's token, if the test holds one.
    pub snapshot: Option<Value>,
    /// Stop after about this many rows.
    pub limit: Option<u64>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { splits: split_request(4), choose: SourceColumn::canonical, columns: None, snapshot: None, limit: None }
    }
}

/// What a source held.
pub struct Read {
    /// Its columns and tables.
    pub schema: SourceSchema,
    /// The schema of the batches.
    pub arrow: SchemaRef,
    /// The splits in their order, each with its rows.
    pub splits: Vec<SplitRows>,
}

/// What one split held.
pub struct SplitRows {
    /// The split.
    pub split: Split,
    /// Its rows.
    pub batches: Vec<RecordBatch>,
    /// The rows that could not be decoded.
    pub rejected: Vec<DirtyRow>,
}

impl Read {
    /// All batches, split by split.
    pub fn batches(&self) -> Vec<RecordBatch> {
        self.splits.iter().flat_map(|s| s.batches.clone()).collect()
    }

    /// All rows that could not be decoded.
    pub fn rejected(&self) -> Vec<DirtyRow> {
        self.splits.iter().flat_map(|s| s.rejected.clone()).collect()
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.splits.iter().flat_map(|s| &s.batches).map(RecordBatch::num_rows).sum()
    }

    /// Every value as text, see [`cells`], split by split.
    pub fn cells(&self) -> Vec<Vec<Option<String>>> {
        cells(self.splits.iter().flat_map(|s| &s.batches))
    }

    /// As [`cells`](Self::cells), with the rows in an order that does not depend on the splits.
    pub fn sorted_cells(&self) -> Vec<Vec<Option<String>>> {
        let mut cells = self.cells();
        cells.sort();
        cells
    }

    /// The column called `name`, as text.
    ///
    /// # Panics
    /// When there is none.
    pub fn column(&self, name: &str) -> Vec<Option<String>> {
        let index = self.arrow.index_of(name).unwrap_or_else(|e| panic!("{e}"));
        self.cells().into_iter().map(|mut row| row.swap_remove(index)).collect()
    }
}

/// Reads all splits of `reader`, every column in its canonical form.
///
/// # Errors
/// The first error of the reader; also when it breaks the contract: batches of another schema or beyond the bounds.
pub async fn read_all(reader: &Arc<dyn Reader>) -> Result<Read> {
    read_with(reader, ReadOptions::default()).await
}

/// As [`read_all`], with other splits, columns or representations.
pub async fn read_with(reader: &Arc<dyn Reader>, options: ReadOptions) -> Result<Read> {
    let (planning, request) = (reader.clone(), options.splits.clone());
    let planned = control(async move { Ok((planning.schema().await?, planning.splits(&request).await?)) }).await?;
    read_splits(reader, options, planned).await
}

/// As [`read_all`], of what lies in the windows that `request` asks for, one for each table.
///
/// # Errors
/// The reader reads no windows, besides.
pub async fn read_windows(reader: &Arc<dyn Reader>, request: WindowRequest) -> Result<(Vec<Window>, Read)> {
    let options = ReadOptions::default();
    let (planning, splits) = (reader.clone(), options.splits.clone());
    let (windows, planned) = control(async move {
        let schema = planning.schema().await?;
        let incremental = planning.incremental().ok_or_else(|| Error::internal("it reads no windows"))?;
        let windows = incremental.windows(&request).await?;
        let splits = incremental.splits_within(&splits, &windows).await?;
        Ok((windows, (schema, splits)))
    })
    .await?;
    Ok((windows, read_splits(reader, options, planned).await?))
}

async fn read_splits(
    reader: &Arc<dyn Reader>,
    options: ReadOptions,
    (schema, mut splits): (SourceSchema, Vec<Split>),
) -> Result<Read> {
    for (id, split) in splits.iter_mut().enumerate() {
        split.id = id as u32;
    }
    let indices = options.columns.clone().unwrap_or_else(|| (0..schema.columns.len()).collect());
    let columns = indices.iter().map(|&index| match schema.columns.get(index) {
        Some(column) if column.representations.is_empty() => {
            Err(Error::internal("the column offers no representation").with("column", &column.name))
        }
        Some(column) => Ok(ReadColumn { index, field: (options.choose)(column).clone() }),
        None => Err(Error::internal(format!("the source has no column {index}"))),
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let request = ReadRequest { columns, snapshot: options.snapshot.clone(), limit: options.limit };
    let request = through_json(&request)?;
    let arrow = request.arrow_schema();
    let tasks = splits.into_iter().map(|split| read_split(reader.clone(), split, request.clone()));
    let splits = stream::iter(tasks).buffered(options.splits.channels.max(1)).try_collect().await?;
    Ok(Read { schema, arrow, splits })
}

async fn read_split(reader: Arc<dyn Reader>, split: Split, request: ReadRequest) -> Result<SplitRows> {
    let split = through_json(&split)?;
    let arrow = request.arrow_schema();
    let collected = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let mut collector = Collector { schema: arrow, collected: collected.clone() };
    let split = on_thread(async move {
        let read = reader.read(&split, &request, &mut collector).await;
        read.map(|()| split.clone()).map_err(|e| e.with("split", &split.description))
    })
    .await?;
    let (batches, rejected) = std::mem::take(&mut *collected.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(SplitRows { split, batches, rejected })
}

/// The other end of the channel: keeps what comes and holds the reader to its contract.
struct Collector {
    schema: SchemaRef,
    collected: Arc<Mutex<(Vec<RecordBatch>, Vec<DirtyRow>)>>,
}

#[async_trait]
impl BatchSender for Collector {
    async fn send(&mut self, batch: RecordBatch) -> Result<()> {
        check_batch(&self.schema, &batch)?;
        self.collected.lock().unwrap_or_else(PoisonError::into_inner).0.push(batch);
        Ok(())
    }

    async fn reject(&mut self, row: DirtyRow) -> Result<()> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner).1.push(row);
        Ok(())
    }
}

fn check_batch(schema: &SchemaRef, batch: &RecordBatch) -> Result<()> {
    let broken = |what: String| Err(Error::internal(format!("the reader breaks its contract: {what}")));
    if batch.num_columns() != schema.fields().len() {
        return broken(format!("{} columns instead of {}", batch.num_columns(), schema.fields().len()));
    }
    for (asked, sent) in schema.fields().iter().zip(batch.schema_ref().fields()) {
        if asked.name() != sent.name() || !same_representation(asked, sent) {
            return broken(format!("asked for {asked:?}, it sent {sent:?}"));
        }
    }
    let (rows, bytes) = (batch.num_rows(), batch_bytes(batch));
    if rows > MAX_BATCH_ROWS || (bytes > MAX_BATCH_BYTES && rows > 1) {
        return broken(format!("a batch of {rows} rows and {bytes} bytes is too large"));
    }
    Ok(())
}
