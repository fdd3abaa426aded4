//! Reads data files, one after the other, into batches of the table's columns. Runs on the I/O runtime.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use deltalake::ObjectStore;
use deltalake::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use deltalake::parquet::file::metadata::PageIndexPolicy;
use tokio::sync::mpsc::Sender;
use weir_core::{Gather, Result, within_bounds};
use weir_files::{ParquetSource, RowGroups, unwound};

use crate::object::StoredFile;
use crate::{DataFile, Expression, Filter, partition_value};

/// What to read from each file, and what to make of it.
pub struct Scanned {
    /// The columns to read, by the table's names and types.
    pub columns: SchemaRef,
    /// Which rows to keep.
    pub filter: Option<Filter>,
    /// What to compute from them, put after them.
    pub expressions: Vec<Expression>,
}

/// A reading of data files.
pub struct Scan {
    /// The store of the table's folder.
    pub store: Arc<dyn ObjectStore>,
    /// What to read.
    pub scanned: Scanned,
    /// Which of the table's columns are partition columns, whose values stand in the log.
    pub partition_columns: Vec<String>,
    /// The version that the files are of, for messages.
    pub version: u64,
}

impl Scan {
    /// Sends the rows of `files`; ends early when nobody listens any more.
    pub async fn run(&self, files: Vec<DataFile>, output: &Sender<Result<RecordBatch>>) {
        for file in files {
            if let Err(error) = self.file(&file, output).await {
                // The receiver is gone only when the task ended already.
                let _ = output.send(Err(error.with("file", &file.path))).await;
                return;
            }
            if output.is_closed() {
                return;
            }
        }
    }

    async fn file(&self, file: &DataFile, output: &Sender<Result<RecordBatch>>) -> Result<()> {
        let path = deltalake::Path::parse(&file.path).map_err(|e| {
            weir_core::Error::new(weir_core::ErrorKind::Data, "the log names an impossible file").because(e)
        })?;
        let mut reader = StoredFile::new(self.store.clone(), path, file.size, self.version).await?;
        let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Optional);
        let metadata = unwound(ArrowReaderMetadata::load_async(&mut reader, options)).await;
        let metadata = metadata.flatten().map_err(|error| reader.fault(error))?;
        let options = ArrowReaderOptions::new().with_schema(Arc::new(microseconds(metadata.schema())));
        let metadata = ArrowReaderMetadata::try_new(metadata.metadata().clone(), options);
        let metadata = metadata.map_err(|error| reader.fault(error))?;
        let wanted: Vec<usize> = (0..metadata.schema().fields().len())
            .filter(|i| self.scanned.columns.index_of(metadata.schema().field(*i).name()).is_ok())
            .collect();

        let mut constants = BTreeMap::new();
        for name in &self.partition_columns {
            if let Ok(field) = self.scanned.columns.field_with_name(name) {
                let text = file.partition.get(name).and_then(|v| v.as_deref());
                constants.insert(name.as_str(), partition_value(text, field.data_type())?);
            }
        }
        let mut gather = Gather::default();
        let mut groups = RowGroups::start(reader, &metadata, None, &wanted, true)?;
        loop {
            let batch = tokio::select! {
                biased;
                batch = groups.next() => batch?,
                () = output.closed() => return Ok(()),
            };
            let Some(batch) = batch else { break };
            // Cut before it is completed: what a dictionary holds once stands in every row afterwards.
            for batch in within_bounds(batch) {
                let batch = self.finished(&batch, &constants)?;
                let full = if batch.num_rows() > 0 { gather.push(batch)? } else { None };
                let Some(full) = full else { continue };
                if output.send(Ok(full)).await.is_err() {
                    return Ok(());
                }
            }
        }
        if let Some(last) = gather.finish()? {
            // Nobody listens any more when this fails.
            let _ = output.send(Ok(last)).await;
        }
        Ok(())
    }

    /// The rows of a file's batch that are wanted, with all that is computed from them.
    fn finished(&self, batch: &RecordBatch, constants: &BTreeMap<&str, ArrayRef>) -> Result<RecordBatch> {
        let batch = self.complete(batch, constants)?;
        let batch = match &self.scanned.filter {
            Some(filter) => filter.apply(&batch)?,
            None => batch,
        };
        compute(batch, &self.scanned.expressions)
    }

    /// Brings a file's columns into the table's order and types; adds partition values, and NULL for columns that
    /// are younger than the file.
    fn complete(&self, batch: &RecordBatch, constants: &BTreeMap<&str, ArrayRef>) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let mut arrays = Vec::with_capacity(self.scanned.columns.fields().len());
        for field in self.scanned.columns.fields() {
            arrays.push(match (constants.get(field.name().as_str()), batch.column_by_name(field.name())) {
                (Some(value), _) => take(value.as_ref(), &UInt64Array::from(vec![0; rows]), None)?,
                (None, Some(values)) => crate::to_stored(values, field.data_type())?,
                (None, None) => new_null_array(field.data_type(), rows),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.scanned.columns.clone(), arrays, &options)?)
    }
}

/// Puts the values of the expressions beside the columns.
fn compute(batch: RecordBatch, expressions: &[Expression]) -> Result<RecordBatch> {
    if expressions.is_empty() {
        return Ok(batch);
    }
    let mut fields: Vec<FieldRef> = batch.schema_ref().fields().iter().cloned().collect();
    let mut arrays = batch.columns().to_vec();
    for expression in expressions {
        fields.push(Arc::new(expression.field().clone()));
        arrays.push(expression.evaluate(&batch)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}

/// The file's schema with microseconds for nanoseconds: Spark's INT96 times would overflow nanoseconds, and Delta has
/// nothing finer than microseconds.
fn microseconds(schema: &Schema) -> Schema {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
                field.as_ref().clone().with_data_type(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))
            }
            _ => field.as_ref().clone(),
        })
        .collect();
    Schema::new_with_metadata(fields, schema.metadata().clone())
}
