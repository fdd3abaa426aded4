//! Runs the lakehouse writer and reader as the runtime would, on a table in a temporary folder.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use serde_json::{Value, json};
use weir_core::{
    Account, BatchSender, Committed, ConnectorContext, DirtyRow, Error, Form, MappedColumn, OnTypeLoss, ReadColumn,
    ReadRequest, Reader, Receipt, Refused, Result, SplitRequest, TaskId, WritePlan, WriteRequest, Writer, field,
};

pub fn context() -> ConnectorContext {
    ConnectorContext {
        cancel: Default::default(),
        io: tokio::runtime::Handle::current(),
        form: Form::Native,
        time_zone: chrono_tz::UTC,
        shared: Default::default(),
    }
}

pub fn writer(path: &Path, more: Value) -> Arc<dyn Writer> {
    let mut parameters = more;
    parameters["path"] = json!(path);
    let config = weir_core::config::parse(&parameters).unwrap();
    Arc::new(weir_writer_lakehouse::LakehouseWriter::new(config, context()).unwrap())
}

pub fn reader(path: &Path, more: Value) -> Arc<dyn Reader> {
    let mut parameters = more;
    parameters["path"] = json!(path);
    let config = weir_core::config::parse(&parameters).unwrap();
    Arc::new(weir_reader_lakehouse::LakehouseReader::new(config, context()).unwrap())
}

/// A plan for the columns of `batch`; fields keep their metadata, and [`field::KEY`] becomes the key.
pub async fn plan(writer: &dyn Writer, batch: &RecordBatch, run_id: &str) -> Result<WritePlan> {
    let columns = batch.schema_ref().fields().iter().map(|f| MappedColumn {
        name: f.name().clone(),
        offers: vec![f.as_ref().clone()],
        source_type: String::new(),
        nullable: f.is_nullable(),
        key: f.metadata().get(field::KEY).map(|k| k.parse().unwrap()),
        comment: None,
    });
    let request = WriteRequest {
        run_id: run_id.into(),
        columns: columns.collect(),
        source: "test".into(),
        on_type_loss: OnTypeLoss::Error,
        described: None,
        decides_at_end: false,
    };
    writer.plan(&request).await
}

/// One task: writes `batch` in the form the plan asks for. Gives the receipt and the refused rows.
pub async fn task(writer: &dyn Writer, plan: &WritePlan, split: u32, batch: &RecordBatch) -> (Receipt, Vec<DirtyRow>) {
    attempt(writer, plan, split, 1, batch).await.unwrap()
}

/// One attempt at a task.
pub async fn attempt(
    writer: &dyn Writer,
    plan: &WritePlan,
    split: u32,
    attempt: u32,
    batch: &RecordBatch,
) -> Result<(Receipt, Vec<DirtyRow>)> {
    let task = TaskId { run_id: plan.run_id.clone(), split, table: "test".into(), attempt };
    let mut open = writer.open(plan, &task).await?;
    let batch = fitted(plan, batch);
    let mut refused = Refused::default();
    open.write(&batch, &mut refused).await?;
    let account = Account { attempt, epoch: "then".into(), ..Account::default() };
    Ok((open.finish(account).await?, refused.kept))
}

/// The batch in the form the plan asks for.
pub fn fitted(plan: &WritePlan, batch: &RecordBatch) -> RecordBatch {
    let schema = plan.input_schema();
    let columns = batch.columns().iter().zip(schema.fields()).map(|(values, input)| {
        // What the runtime's conversion does, as far as these tests need it.
        match (field::extension(input), values.data_type()) {
            (_, from) if from == input.data_type() => values.clone(),
            (None, arrow::datatypes::DataType::FixedSizeBinary(16)) => Arc::new(
                (0..values.len())
                    .map(|row| {
                        let bytes = arrow::array::AsArray::as_fixed_size_binary(values);
                        bytes
                            .is_valid(row)
                            .then(|| format!("{:032x}", u128::from_be_bytes(bytes.value(row).try_into().unwrap())))
                    })
                    .collect::<arrow::array::StringArray>(),
            ),
            _ => arrow::compute::cast(values, input.data_type()).unwrap(),
        }
    });
    RecordBatch::try_new(plan.input_schema(), columns.collect()).unwrap()
}

/// A whole job with one split for each batch.
pub async fn run(path: &Path, parameters: Value, run_id: &str, batches: &[RecordBatch]) -> Result<Committed> {
    let writer = writer(path, parameters);
    let plan = plan(writer.as_ref(), &batches[0], run_id).await?;
    writer.prepare(&plan).await?;
    let mut receipts = Vec::new();
    for (split, batch) in batches.iter().enumerate() {
        receipts.push(task(writer.as_ref(), &plan, split as u32, batch).await.0);
    }
    let committed = writer.commit(&plan, &receipts).await?;
    // A second call finds what the first one did.
    writer.commit(&plan, &receipts).await?;
    writer.forget(&plan).await?;
    Ok(committed)
}

#[derive(Default)]
struct Collect(Vec<RecordBatch>, Vec<DirtyRow>);

#[async_trait]
impl BatchSender for Collect {
    async fn send(&mut self, batch: RecordBatch) -> Result<()> {
        self.0.push(batch);
        Ok(())
    }

    async fn reject(&mut self, row: DirtyRow) -> Result<()> {
        self.1.push(row);
        Ok(())
    }
}

/// All rows in their canonical form.
pub async fn read(path: &Path, parameters: Value) -> Result<RecordBatch> {
    let reader = reader(path, parameters);
    let schema = reader.schema().await?;
    let columns = schema.columns.iter().enumerate();
    let columns = columns.map(|(index, c)| ReadColumn { index, field: c.canonical().clone() }).collect();
    let request = ReadRequest { columns, snapshot: None, limit: None };
    let wanted = SplitRequest { channels: 2, max_bytes: 1 << 30, snapshot: None, stable: false, limit: None };
    let mut output = Collect::default();
    for split in reader.splits(&wanted).await? {
        reader.read(&split, &request, &mut output).await?;
    }
    if let Some(row) = output.1.first() {
        return Err(Error::internal(row.reason.clone()));
    }
    Ok(concat_batches(&request.arrow_schema(), &output.0)?)
}

/// The rows as text, sorted.
pub fn rows(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let columns: Vec<_> =
        batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
    let line = |row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join("|");
    let mut rows: Vec<String> = (0..batch.num_rows()).map(line).collect();
    rows.sort();
    rows
}

/// Every file below `path` that is no directory, without the log.
pub fn files(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry.clone());
            }
            found.push(entry.strip_prefix(path).unwrap().display().to_string());
        }
    }
    found.retain(|f| !f.starts_with("_delta_log"));
    found.sort();
    found
}
