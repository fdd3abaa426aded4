//! A file to write to, and the steps of a run.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Schema;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use weir_core::{
    Account, Committed, ConnectorContext, DirtyRow, Form, MappedColumn, OnTypeLoss, Receipt, Refused, Result, TaskId,
    WritePlan, WriteRequest, Writer,
};
use weir_sqlite::{Access, File};
use weir_writer_sqlite::SqliteWriter;

pub fn context(form: Form) -> ConnectorContext {
    ConnectorContext {
        cancel: CancellationToken::new(),
        io: tokio::runtime::Handle::current(),
        form,
        time_zone: chrono_tz::UTC,
        shared: Default::default(),
    }
}

pub struct TestFile {
    pub folder: tempfile::TempDir,
}

impl TestFile {
    pub async fn new(sql: &str) -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap() };
        if !sql.is_empty() {
            file.execute(sql).await;
        }
        file
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("t.db")
    }

    pub fn file(&self) -> File {
        File { path: self.path(), session: vec![] }
    }

    pub async fn execute(&self, sql: &str) {
        let sql = sql.to_owned();
        self.file().with(Access::Create, &context(Form::Native), move |db| Ok(db.execute(&sql)?)).await.unwrap();
    }

    /// The rows of a one-column query as text.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let sql = sql.to_owned();
        self.file().with(Access::Read, &context(Form::Native), move |db| Ok(db.texts(&sql, &[])?)).await.unwrap()
    }

    pub fn writer(&self, more: Value) -> SqliteWriter {
        let mut parameters = json!({ "path": self.path(), "table": "t" });
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        SqliteWriter::open(&parameters, &context(Form::Native)).unwrap()
    }

    /// No table of ours is left but the one of records, which stays for other runs.
    pub async fn is_clean(&self) {
        let left = self.texts("SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'weir%'").await;
        assert!(left.iter().all(|name| name == "weir_commits"), "{left:?}");
    }
}

pub fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap()
}

pub fn pairs(rows: &[(i64, &str)]) -> RecordBatch {
    batch(vec![
        ("id", Arc::new(rows.iter().map(|r| Some(r.0)).collect::<Int64Array>())),
        ("name", Arc::new(rows.iter().map(|r| Some(r.1)).collect::<StringArray>())),
    ])
}

pub fn request(schema: &Schema, key: Option<&str>, run: &str) -> WriteRequest {
    let columns = schema.fields().iter().map(|field| MappedColumn {
        name: field.name().clone(),
        offers: vec![field.as_ref().clone()],
        source_type: field.data_type().to_string(),
        nullable: key != Some(field.name()),
        key: (key == Some(field.name())).then_some(1),
        comment: None,
    });
    WriteRequest {
        run_id: run.into(),
        columns: columns.collect(),
        source: "test".into(),
        on_type_loss: OnTypeLoss::Error,
        described: None,
        decides_at_end: false,
    }
}

pub struct Run {
    pub plan: WritePlan,
    pub receipts: Vec<Receipt>,
    pub refused: Vec<DirtyRow>,
}

/// Plans, prepares and writes one split for each batch.
pub async fn write(writer: &SqliteWriter, batches: &[RecordBatch], run: &str) -> Result<Run> {
    let plan = writer.plan(&request(&batches[0].schema(), Some("id"), run)).await?;
    // As stored and read back by another process.
    let plan: WritePlan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    writer.prepare(&plan).await?;
    writer.prepare(&plan).await?;
    let mut result = Run { plan, receipts: vec![], refused: vec![] };
    for (split, batch) in (0..).zip(batches) {
        let id = TaskId { run_id: run.into(), split, table: "t".into(), attempt: 1 };
        // An attempt that is dropped leaves nothing.
        let mut lost = writer.open(&result.plan, &id).await?;
        lost.write(batch, &mut Refused::default()).await?;
        drop(lost);
        let mut task = writer.open(&result.plan, &id).await?;
        let mut refused = Refused::default();
        task.write(batch, &mut refused).await?;
        result.refused.extend(refused.kept);
        let finished = task.finish(account()).await?;
        result.receipts.push(finished);
    }
    Ok(result)
}

pub async fn run(writer: &SqliteWriter, batches: &[RecordBatch], id: &str) -> Result<(Run, Committed)> {
    let result = write(writer, batches, id).await?;
    let committed = writer.commit(&result.plan, &result.receipts).await?;
    Ok((result, committed))
}

/// What a runtime says of an attempt.
pub fn account() -> Account {
    Account { attempt: 1, epoch: "e1".into(), ..Account::default() }
}

pub const ROWS: &str = "SELECT id || ':' || ifnull(name, 'NULL') FROM t ORDER BY rowid";
