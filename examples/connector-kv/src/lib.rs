//! A whole connector on one page: text files of `key=value` lines. A line without `=` is a key whose value is NULL.
//!
//! Reader and writer are registered as `kv` in every program that links this crate (`use connector_kv as _;`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field};
use async_trait::async_trait;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
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

fn open(parameters: &Parameters) -> Result<Arc<Kv>, Faults> {
    let kv: Kv = config::parse(parameters)?;
    if kv.path.is_empty() { Err(Faults::one("/path", "name the file")) } else { Ok(Arc::new(kv)) }
}

fn recognise(location: &str, _table: Option<&str>) -> Option<Value> {
    location.ends_with(".kv").then(|| json!({ "path": location }))
}

inventory::submit! {
    ReaderPlugin {
        name: "kv", aliases: &["kvreader"], summary: "Reads text files of key=value lines.", ignored: &[], refused: &[],
        schema: || schema_for!(Kv), open: |parameters, _| Ok(open(parameters)?), catalog: None, recognise,
    }
}

inventory::submit! {
    WriterPlugin {
        name: "kv", aliases: &["kvwriter"], summary: "Writes text files of key=value lines.", ignored: &[], refused: &[],
        schema: || schema_for!(Kv), open: |parameters, _| Ok(open(parameters)?), recognise,
    }
}

#[async_trait]
impl Reader for Kv {
    async fn schema(&self) -> Result<SourceSchema> {
        let bytes = fs::metadata(&self.path).await.context("file", &self.path)?.len();
        let column = |name: &str, nullable, key| SourceColumn {
            name: name.into(),
            native_type: "text".into(),
            nullable,
            key,
            representations: vec![Field::new(name, DataType::Utf8, nullable)],
            comment: None,
        };
        let columns = vec![column("key", false, Some(1)), column("value", true, None)];
        let tables = vec![SourceTable { name: self.path.clone(), rows: None, bytes: Some(bytes) }];
        Ok(SourceSchema { columns, tables, ..SourceSchema::default() })
    }

    async fn splits(&self, _: &SplitRequest) -> Result<Vec<Split>> {
        let (table, description) = (self.path.clone(), "the whole file".into());
        Ok(vec![Split { id: 0, table, description, rows: None, bytes: None, stable: true, part: Value::Null }])
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

    async fn check(&self) -> Vec<Check> {
        vec![self.schema().await.map_or_else(|e| Check::fault("file", e.full()), |_| Check::ok("file", &self.path))]
    }
}

/// Lines as a batch of the columns that were asked for: any of them, in any order, also none.
fn rows(lines: &[String], request: &ReadRequest) -> Result<RecordBatch> {
    let keys = lines.iter().map(|line| line.split_once('=').map_or(line.as_str(), |(key, _)| key));
    let values = lines.iter().map(|line| line.split_once('=').map(|(_, value)| value));
    let columns: [ArrayRef; 2] =
        [Arc::new(StringArray::from_iter_values(keys)), Arc::new(values.collect::<StringArray>())];
    let wanted = request.columns.iter().map(|column| columns[column.index].clone()).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(lines.len()));
    Ok(RecordBatch::try_new_with_options(request.arrow_schema(), wanted, &options)?)
}

impl Kv {
    /// Where a task leaves its lines; a second attempt writes them anew.
    fn part(&self, run_id: &str, split: u32) -> String {
        format!("{}.{run_id}.{split}", self.path)
    }
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
        let columns = request.columns.iter().map(|column| PlannedColumn {
            name: column.name.clone(),
            native_type: "text".into(),
            // Whatever comes, the runtime makes text of it.
            input: Field::new(&column.name, DataType::Utf8, true),
            warning: None,
        });
        Ok(WritePlan {
            run_id: request.run_id.clone(),
            table: self.path.clone(),
            mode: WriteMode::Overwrite,
            columns: columns.collect(),
            creates: !self.target().await?.exists,
            statements: Vec::new(),
            method: "staged beside the file, then put in its place".into(),
            commits_per_split: false,
            records_splits: false,
            keys: Vec::new(),
            warnings: Vec::new(),
            state: Value::Null,
        })
    }

    async fn prepare(&self, _: &WritePlan) -> Result<()> {
        Ok(())
    }

    async fn open(&self, plan: &WritePlan, task: &TaskId) -> Result<Box<dyn TaskWriter>> {
        let (part, split) = (self.part(&plan.run_id, task.split), task.split);
        Ok(Box::new(KvTask { part, split, rows: 0, text: String::new() }))
    }

    async fn commit(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<Committed> {
        let mut text = Vec::new();
        for receipt in receipts {
            match fs::read(self.part(&plan.run_id, receipt.split)).await {
                Ok(part) => text.extend(part),
                // Parts go only after the file stands: this commit happened before.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Committed::default()),
                Err(error) => return Err(Error::from(error).with("file", &self.path)),
            }
        }
        let whole = format!("{}.{}", self.path, plan.run_id);
        fs::write(&whole, text).await.context("file", &whole)?;
        fs::rename(&whole, &self.path).await.context("file", &self.path)?;
        self.abort(plan, receipts).await?;
        Ok(Committed { description: format!("published {} parts", receipts.len()), ..Committed::default() })
    }

    async fn abort(&self, plan: &WritePlan, receipts: &[Receipt]) -> Result<()> {
        for receipt in receipts {
            // What is left, or gone already, is litter at worst.
            let _ = fs::remove_file(self.part(&plan.run_id, receipt.split)).await;
        }
        Ok(())
    }

    async fn check(&self) -> Vec<Check> {
        vec![self.target().await.map_or_else(|e| Check::fault("file", e.full()), |_| Check::ok("file", &self.path))]
    }
}

/// Keeps its lines until the end: a task that is dropped leaves nothing.
struct KvTask {
    part: String,
    split: u32,
    rows: u64,
    text: String,
}

#[async_trait]
impl TaskWriter for KvTask {
    async fn write(&mut self, batch: &RecordBatch) -> Result<Written> {
        let (keys, values) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        let mut refused = Vec::new();
        for row in 0..batch.num_rows() {
            let (key, value) = (keys.value(row), if values.is_null(row) { "" } else { values.value(row) });
            if keys.is_null(row) || key.contains(['=', '\n', '\r']) || value.contains(['\n', '\r']) {
                let reason = "a key is not NULL and has no `=`, and neither it nor the value has line breaks";
                refused.push(DirtyRow::of_batch(batch, row, None, reason));
                continue;
            }
            self.text += &if values.is_null(row) { format!("{key}\n") } else { format!("{key}={value}\n") };
            self.rows += 1;
        }
        Ok(Written { refused })
    }

    async fn finish(self: Box<Self>, account: Account) -> Result<Receipt> {
        fs::write(&self.part, &self.text).await.context("file", &self.part)?;
        let receipt = Receipt { split: self.split, rows: self.rows, skipped: 0, account, data: Value::Null };
        Ok(receipt)
    }
}
