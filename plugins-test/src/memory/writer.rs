//! The in-memory writer.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use serde_json::json;
use weir_core::field::{KEY, same_representation, type_text, with_metadata};
use weir_core::{
    Account, Check, Committed, ConnectorContext, Error, ErrorKind, Faults, Parameters, PlannedColumn, Receipt, Refused,
    Result, TargetColumn, TargetSchema, TaskId, TaskWriter, WriteMode, WritePlan, WriteRequest, Writer, config,
};

use super::target::{Target, with};
use super::{Step, Trouble, WriterConfig};
use crate::harness::cells;

pub(super) fn open(parameters: &Parameters, context: &ConnectorContext) -> Result<Arc<dyn Writer>, Faults> {
    let config: WriterConfig = config::parse(parameters)?;
    if config.key.is_empty() {
        return Err(Faults::one("/key", "say which target to write"));
    }
    Ok(Arc::new(MemoryWriter { config, context: context.clone() }))
}

struct MemoryWriter {
    config: WriterConfig,
    context: ConnectorContext,
}

impl MemoryWriter {
    fn with<T>(&self, change: impl FnOnce(&mut Target) -> T) -> T {
        with(&self.config.key, change)
    }

    fn trouble(&self) -> Trouble {
        self.with(|target| target.trouble.clone())
    }
}

#[async_trait]
impl Writer for MemoryWriter {
    async fn target(&self) -> Result<TargetSchema> {
        self.trouble().at(Step::Target)?;
        let schema = self.with(|target| target.schema.clone());
        let columns = schema.iter().flat_map(|schema| schema.fields()).map(|field| TargetColumn {
            name: field.name().clone(),
            native_type: type_text(field),
            nullable: field.is_nullable(),
            has_default: false,
            generated: false,
            key: field.metadata().get(KEY).and_then(|k| k.parse().ok()),
        });
        Ok(TargetSchema {
            table: self.config.key.clone(),
            exists: schema.is_some(),
            columns: columns.collect(),
            listed: Some(self.config.column.clone()).filter(|list| !list.is_empty()),
        })
    }

    async fn plan(&self, request: &WriteRequest) -> Result<WritePlan> {
        self.trouble().at(Step::Plan)?;
        let schema = self.with(|target| target.schema.clone());
        let mut columns = Vec::with_capacity(request.columns.len());
        for column in &request.columns {
            let there = schema.as_ref().map(|schema| schema.field_with_name(&column.name));
            let input = match there.transpose() {
                Ok(Some(field)) => PlannedColumn::choose(column, |f| same_representation(f, field), field.clone()),
                // Whatever comes first is kept as it is, with the source's key.
                Ok(None) => PlannedColumn::choose(column, |_| true, column.offers[0].clone()),
                Err(_) => {
                    let error = Error::new(ErrorKind::Schema, "the target has no such column");
                    return Err(error.with("column", &column.name));
                }
            };
            let input = match column.key {
                Some(key) => with_metadata(input, KEY, &key.to_string()),
                None => input,
            };
            let native_type = type_text(&input);
            columns.push(PlannedColumn { name: column.name.clone(), native_type, input, warning: None });
        }
        let keys = schema.clone().unwrap_or_else(|| Arc::new(Schema::new(inputs(&columns))));
        let keys = keys.fields().iter().filter(|f| f.metadata().contains_key(KEY)).map(|f| f.name().clone()).collect();
        Ok(WritePlan {
            run_id: request.run_id.clone(),
            table: self.config.key.clone(),
            mode: self.config.write_mode,
            columns,
            creates: schema.is_none(),
            statements: Vec::new(),
            method: "staged in memory, then published at once".into(),
            commits_per_split: false,
            records_splits: false,
            keys,
            warnings: Vec::new(),
            state: json!({}),
        })
    }

    async fn prepare(&self, plan: &WritePlan) -> Result<()> {
        self.trouble().at(Step::Prepare)?;
        self.with(|target| {
            if target.schema.is_none() {
                target.schema = Some(plan.input_schema());
                target.created = true;
            }
            match plan.creates && !target.created {
                true => Err(Error::new(ErrorKind::Conflict, "the table was made by somebody else meanwhile")),
                false => Ok(()),
            }
        })
    }

    async fn open(&self, plan: &WritePlan, task: &TaskId) -> Result<Box<dyn TaskWriter>> {
        let trouble = self.trouble();
        trouble.at(Step::Open)?;
        Ok(Box::new(MemoryTask {
            key: self.config.key.clone(),
            context: self.context.clone(),
            schema: plan.input_schema(),
            task: task.clone(),
            trouble,
            row: 0,
            batches: Vec::new(),
        }))
    }

    async fn commit(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<Committed> {
        let trouble = self.trouble();
        trouble.at(Step::Commit)?;
        let published = self.with(|target| publish(target, plan, receipts))?;
        trouble.at(Step::AfterCommit)?;
        let description = if published { "published" } else { "was published already" };
        Ok(Committed { description: description.into(), ..Committed::default() })
    }

    async fn abort(&self, plan: &WritePlan, _: &[Receipt]) -> Result<()> {
        self.with(|target| {
            target.aborts += 1;
            target.staged.retain(|(run, _), _| *run != plan.run_id);
        });
        self.trouble().at(Step::Abort)
    }

    async fn check(&self) -> Vec<Check> {
        vec![Check::ok("target", "memory is always there")]
    }

    fn max_channels(&self) -> Option<usize> {
        self.with(|target| target.max_channels)
    }
}

fn inputs(columns: &[PlannedColumn]) -> Vec<arrow::datatypes::Field> {
    columns.iter().map(|c| c.input.clone()).collect()
}

/// Whether this call published anything: the second one for a run does not.
fn publish(target: &mut Target, plan: &WritePlan, receipts: &[Receipt]) -> Result<bool> {
    let forgets = target.trouble.forgets_runs();
    if !target.runs.insert(plan.run_id.clone()) && !forgets {
        return Ok(false);
    }
    let schema = target.schema.clone().unwrap_or_else(|| plan.input_schema());
    let mut fresh = Vec::new();
    for receipt in receipts {
        let staged = target.staged.get(&(plan.run_id.clone(), receipt.split));
        let staged = staged.ok_or_else(|| Error::internal("a receipt has no rows").with("split", receipt.split))?;
        for batch in staged {
            fresh.push(widen(batch, &schema)?);
        }
    }
    if !forgets {
        target.staged.retain(|(run, _), _| *run != plan.run_id);
    }
    match plan.mode {
        WriteMode::Append => target.published.extend(fresh),
        WriteMode::Overwrite => target.published = fresh,
        WriteMode::Upsert | WriteMode::Replace => {
            // From the end: of equal keys the last row wins.
            let mut seen = HashSet::new();
            let mut kept = Vec::new();
            for batch in target.published.iter().chain(&fresh).rev() {
                kept.push(unseen(batch, &plan.keys, &mut seen, true)?);
            }
            kept.reverse();
            target.published = kept;
        }
        WriteMode::Ignore => {
            let mut seen = HashSet::new();
            let all = target.published.iter().chain(&fresh);
            target.published = all.map(|batch| unseen(batch, &plan.keys, &mut seen, false)).collect::<Result<_>>()?;
        }
    }
    target.commits += 1;
    Ok(true)
}

/// The batch with the target's columns, NULL in those that the run does not write.
fn widen(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| {
        let written = batch.column_by_name(field.name()).cloned();
        written.unwrap_or_else(|| new_null_array(field.data_type(), batch.num_rows()))
    });
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns.collect(), &options)?)
}

/// The rows whose key was not seen before, in the order of the walk.
fn unseen(
    batch: &RecordBatch,
    keys: &[String],
    seen: &mut HashSet<Vec<Option<String>>>,
    backwards: bool,
) -> Result<RecordBatch> {
    let indices = keys.iter().map(|key| batch.schema_ref().index_of(key)).collect::<Result<Vec<_>, _>>()?;
    let mut rows = cells([&batch.project(&indices)?]);
    if backwards {
        rows.reverse();
    }
    let mut kept: Vec<bool> = rows.into_iter().map(|key| key.is_empty() || seen.insert(key)).collect();
    if backwards {
        kept.reverse();
    }
    Ok(filter_record_batch(batch, &kept.into())?)
}

struct MemoryTask {
    key: String,
    context: ConnectorContext,
    schema: SchemaRef,
    task: TaskId,
    trouble: Trouble,
    row: u64,
    batches: Vec<RecordBatch>,
}

#[async_trait]
impl TaskWriter for MemoryTask {
    async fn write(&mut self, batch: &RecordBatch, refused: &mut Refused) -> Result<()> {
        let (asked, came) = (self.schema.fields(), batch.schema_ref().fields());
        if asked.len() != came.len() || asked.iter().zip(came).any(|(a, b)| !same_representation(a, b)) {
            return Err(Error::internal("the batch does not have the columns of the plan"));
        }
        let rows = batch.num_rows() as u64;
        let passage = self.trouble.before(self.row, rows, &self.context).await?;
        if let Some(error) = passage.error {
            return Err(error);
        }
        let (good, bad) = self.trouble.sort_out(self.row, batch)?;
        bad.into_iter().try_for_each(|row| refused.add(row))?;
        self.row += rows;
        self.batches.push(good);
        Ok(())
    }

    async fn finish(self: Box<Self>, account: Account) -> Result<Receipt> {
        self.trouble.at(Step::Finish)?;
        let rows = self.batches.iter().map(|b| b.num_rows() as u64).sum();
        let Self { key, task, batches, .. } = *self;
        with(&key, |target| target.staged.insert((task.run_id.clone(), task.split), batches));
        let receipt =
            Receipt { split: task.split, rows, skipped: 0, account, data: json!({ "attempt": task.attempt }) };
        Ok(receipt)
    }
}
