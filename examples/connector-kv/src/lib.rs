//! A whole connector on one page: text files of `key=value` lines. A line without `=` is a key whose value is NULL.
//!
//! Reader and writer are registered as `kv` in every program that links this crate (`use connector_kv as _;`).

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use async_trait::async_trait;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use tokio::fs;
use tokio::io::{AsyncBufReadExt, BufReader};
use weir_core::*;

/// The parameters. Doc comments are the reference documentation: `weir connectors kv` prints them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
struct Kv {
    /// The file. A run of the writer replaces it.
    path: String,
}

inventory::submit! {
    ReaderPlugin::new("kv", "Reads text files of key=value lines.", || schema_for!(Kv), |p, _| Ok(open(p)?))
}

inventory::submit! {
    WriterPlugin::new("kv", "Writes text files of key=value lines.", || schema_for!(Kv), |p, _| Ok(open(p)?))
}

fn open(parameters: &Parameters) -> Result<Arc<Kv>, Faults> {
    let kv: Kv = config::parse(parameters)?;
    if kv.path.is_empty() { Err(Faults::one("/path", "name the file")) } else { Ok(Arc::new(kv)) }
}

#[async_trait]
impl Reader for Kv {
    async fn schema(&self) -> Result<SourceSchema> {
        let bytes = fs::metadata(&self.path).await.context("file", &self.path)?.len();
        let fields = [("key", false), ("value", true)].map(|(name, null)| Field::new(name, DataType::Utf8, null));
        let columns = fields.map(SourceColumn::of).to_vec();
        let tables = vec![SourceTable { name: self.path.clone(), rows: None, bytes: Some(bytes) }];
        Ok(SourceSchema { columns, tables, ..SourceSchema::default() })
    }

    async fn read(&self, _: &Split, request: &ReadRequest, output: &mut dyn BatchSender) -> Result<()> {
        let file = fs::File::open(&self.path).await.context("file", &self.path)?;
        let (mut lines, mut batch) = (BufReader::new(file).lines(), Vec::new());
        while let Some(line) = lines.next_line().await.context("file", &self.path)? {
            batch.push(line);
            if batch.len() == 4096 {
                output.send(rows(&std::mem::take(&mut batch), request)?).await?;
            }
        }
        output.send(rows(&batch, request)?).await
    }
}

fn rows(lines: &[String], request: &ReadRequest) -> Result<RecordBatch> {
    let (keys, values): (Vec<_>, Vec<_>) = lines.iter().map(|line| pair(line)).unzip();
    request.batch(&[Arc::new(StringArray::from(keys)), Arc::new(StringArray::from(values))], lines.len())
}

fn pair(line: &str) -> (&str, Option<&str>) {
    line.split_once('=').map_or((line, None), |(key, value)| (key, Some(value)))
}

#[async_trait]
impl Writer for Kv {
    async fn target(&self) -> Result<TargetSchema> {
        let exists = fs::try_exists(&self.path).await.context("file", &self.path)?;
        Ok(TargetSchema { table: self.path.clone(), exists, ..TargetSchema::default() })
    }

    async fn plan(&self, request: &WriteRequest) -> Result<WritePlan> {
        if !request.columns.iter().map(|column| column.name.as_str()).eq(["key", "value"]) {
            let message = "a key=value file takes the columns `key` and `value`: map yours onto them";
            return Err(Error::new(ErrorKind::Schema, message).with("file", &self.path));
        }
        // Whatever comes, the runtime makes text of it.
        let columns = request.columns.iter().map(|column| PlannedColumn::new(column, "text", DataType::Utf8)).collect();
        let creates = !self.target().await?.exists;
        Ok(WritePlan { columns, creates, ..WritePlan::new(request, &self.path, WriteMode::Overwrite) })
    }

    async fn open(&self, plan: &WritePlan, task: &TaskId) -> Result<Box<dyn TaskWriter>> {
        Ok(Box::new(KvTask { part: self.part(plan, task.split), split: task.split, lines: Vec::new() }))
    }

    async fn commit(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<Committed> {
        let (whole, mut text) = (format!("{}.{}", self.path, plan.run_id), Vec::new());
        for receipt in receipts {
            match fs::read(self.part(plan, receipt.split)).await {
                Ok(part) => text.extend(part),
                // Parts go only after the file stands: this commit happened before.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Committed::default()),
                Err(error) => return Err(error).context("file", &self.path),
            }
        }
        fs::write(&whole, text).await.context("file", &whole)?;
        fs::rename(&whole, &self.path).await.context("file", &self.path)?;
        self.abort(plan, receipts).await?;
        Ok(Committed { description: format!("published {} parts", receipts.len()), ..Committed::default() })
    }

    async fn abort(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<()> {
        for receipt in receipts {
            // What is left, or gone already, is litter at worst.
            let _ = fs::remove_file(self.part(plan, receipt.split)).await;
        }
        Ok(())
    }
}

impl Kv {
    /// Where a task leaves its lines; a second attempt writes them anew.
    fn part(&self, plan: &WritePlan, split: u32) -> String {
        format!("{}.{}.{split}", self.path, plan.run_id)
    }
}

/// Keeps its lines until the end: a task that is dropped leaves nothing.
struct KvTask {
    part: String,
    split: u32,
    lines: Vec<String>,
}

#[async_trait]
impl TaskWriter for KvTask {
    async fn write(&mut self, batch: &RecordBatch, refused: &mut Refused) -> Result<()> {
        let (keys, values) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        for (row, (key, value)) in keys.iter().zip(values).enumerate() {
            match line(key, value) {
                Some(line) => self.lines.push(line),
                None => refused.add(DirtyRow::of_batch(batch, row, None, "no line would be read as this pair"))?,
            }
        }
        Ok(())
    }

    async fn finish(self: Box<Self>, account: Account) -> Result<Receipt> {
        fs::write(&self.part, self.lines.concat()).await.context("file", &self.part)?;
        Ok(Receipt::new(self.split, self.lines.len() as u64, account))
    }
}

/// The line that will be read as this pair, if there is one.
fn line(key: Option<&str>, value: Option<&str>) -> Option<String> {
    let line = match value {
        Some(value) => format!("{}={value}", key?),
        None => key?.to_owned(),
    };
    (pair(&line) == (key?, value) && !line.contains(['\n', '\r'])).then_some(line + "\n")
}
