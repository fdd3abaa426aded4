//! Runs through the plugin as the runtime does them, and what the reader finds afterwards.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema};
use async_trait::async_trait;
use serde_json::Value;
use weir_core::*;
use weir_reader_files as _;
use weir_writer_files as _;

pub fn context(form: Form) -> ConnectorContext {
    let io = tokio::runtime::Handle::current();
    ConnectorContext { cancel: Default::default(), io, form, time_zone: chrono_tz::UTC, shared: Default::default() }
}

pub fn writer(form: Form, parameters: &Value) -> std::result::Result<Arc<dyn Writer>, Faults> {
    let plugin = writers().into_iter().find(|p| p.name == "files").expect("the writer is linked");
    (plugin.open)(parameters, &context(form))
}

pub fn request(schema: &Schema, run_id: &str) -> WriteRequest {
    let column = |f: &FieldRef| MappedColumn {
        name: f.name().clone(),
        offers: vec![f.as_ref().clone()],
        source_type: "t".into(),
        nullable: true,
        key: None,
        comment: None,
    };
    WriteRequest {
        run_id: run_id.into(),
        columns: schema.fields().iter().map(column).collect(),
        source: "test".into(),
        on_type_loss: OnTypeLoss::Error,
        described: None,
        decides_at_end: false,
    }
}

/// Writes each list of batches as a split; returns the plan, the receipts and the refused rows, all uncommitted.
pub async fn stage(
    form: Form,
    parameters: &Value,
    run_id: &str,
    schema: &Schema,
    splits: &[Vec<RecordBatch>],
) -> Result<(Arc<dyn Writer>, WritePlan, Vec<Receipt>, Vec<DirtyRow>)> {
    let writer = writer(form, parameters)?;
    let plan = writer.plan(&request(schema, run_id)).await?;
    writer.prepare(&plan).await?;
    let (mut receipts, mut refused) = (Vec::new(), Refused::default());
    for (split, batches) in splits.iter().enumerate() {
        let id = TaskId { run_id: run_id.into(), split: split as u32, table: "t".into(), attempt: 1 };
        let mut task = writer.open(&plan, &id).await?;
        for batch in batches {
            let batch = RecordBatch::try_new(plan.input_schema(), batch.columns().to_vec())?;
            task.write(&batch, &mut refused).await?;
        }
        let finished = task.finish(Default::default()).await?;
        receipts.push(finished);
    }
    // What comes back from another process has been JSON in between.
    let plan = serde_json::from_value(serde_json::to_value(&plan).unwrap()).unwrap();
    Ok((writer, plan, receipts, refused.kept))
}

#[derive(Default)]
pub struct Rows(pub Vec<Vec<Option<String>>>);

#[async_trait]
impl BatchSender for Rows {
    async fn send(&mut self, batch: RecordBatch) -> Result<()> {
        for row in 0..batch.num_rows() {
            self.0.push(row_values(&batch, row).values().map(|v| v.as_str().map(str::to_owned)).collect());
        }
        Ok(())
    }

    async fn reject(&mut self, row: DirtyRow) -> Result<()> {
        panic!("{row:?}");
    }
}

pub async fn read(parameters: &Value) -> Vec<Vec<Option<String>>> {
    let plugin = readers().into_iter().find(|p| p.name == "files").unwrap();
    let reader = (plugin.open)(parameters, &context(Form::Native)).unwrap();
    let columns = reader.schema().await.unwrap().columns;
    let columns = columns.iter().enumerate().map(|(index, c)| ReadColumn { index, field: c.canonical().clone() });
    let request = ReadRequest { columns: columns.collect(), snapshot: None, limit: None };
    let wanted = SplitRequest { channels: 2, max_bytes: 1 << 30, snapshot: None, stable: false, limit: None };
    let mut rows = Rows::default();
    for split in reader.splits(&wanted).await.unwrap() {
        reader.read(&split, &request, &mut rows).await.unwrap();
    }
    rows.0
}
