//! One task: rows into staged parts.

use arrow::array::RecordBatch;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use weir_core::{Account, Error, ErrorKind, Receipt, Refused, Result, ResultExt, TaskId, TaskWriter, WritePlan};
use weir_files::Sink;

use crate::encode::Encoder;
use crate::plan::Rules;
use crate::record::Records;

/// A staged part, as a receipt names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Its name in the staging folder.
    pub(crate) name: String,
    /// Its position among the parts of its split.
    pub(crate) number: u32,
    /// Its bytes.
    pub(crate) bytes: u64,
}

pub(crate) struct FilesTask {
    pub(crate) rules: Rules,
    pub(crate) plan: WritePlan,
    pub(crate) task: TaskId,
    open: Option<(Sink, Encoder, String)>,
    parts: Vec<Part>,
    rows: u64,
    finished: bool,
    token: String,
}

impl FilesTask {
    pub(crate) fn new(rules: Rules, plan: WritePlan, task: TaskId) -> Self {
        let mut token = uuid::Uuid::new_v4().simple().to_string();
        token.truncate(8);
        Self { rules, plan, task, open: None, parts: Vec::new(), rows: 0, finished: false, token }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.rules.staging(&self.task.run_id))
    }

    async fn begin(&mut self, first: &RecordBatch) -> Result<()> {
        // Another process may still be at an earlier attempt of the same number.
        let name = format!("{:05}-{}-{}-{}.part", self.task.split, self.task.attempt, self.token, self.parts.len());
        let store = &self.rules.location.store;
        let mut sink = Sink::create(store, &self.path(&name)).await?;
        // The parts of one file share the header that commit writes.
        let header = self.rules.single.is_none();
        let encoder = Encoder::new(&self.rules, &self.plan, header, Some(first), sink.buffer())?;
        self.open = Some((sink, encoder, name));
        Ok(())
    }

    async fn end(&mut self) -> Result<()> {
        let Some((mut sink, encoder, name)) = self.open.take() else { return Ok(()) };
        encoder.finish(sink.buffer()).context("file", self.path(&name))?;
        let bytes = sink.finish().await?;
        self.parts.push(Part { name, number: self.parts.len() as u32, bytes });
        Ok(())
    }
}

#[async_trait]
impl TaskWriter for FilesTask {
    async fn write(&mut self, batch: &RecordBatch, refused: &mut Refused) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.open.is_none() {
            self.begin(batch).await?;
        }
        let Some((sink, encoder, _)) = &mut self.open else { return Err(Error::internal("no part is open")) };
        let before = refused.rows;
        encoder.write(batch, sink.buffer(), refused)?;
        if let Err(error) = sink.flush().await {
            if let Some((sink, ..)) = self.open.take() {
                sink.discard().await;
            }
            return Err(error);
        }
        self.rows += (batch.num_rows() - (refused.rows - before)) as u64;
        if self.rules.single.is_none() && sink.written() + encoder.waiting() as u64 >= self.rules.target_size {
            self.end().await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>, account: Account) -> Result<Receipt> {
        self.end().await?;
        self.rules.location.store.sync_folder(&self.rules.staging(&self.task.run_id))?;
        let data = serde_json::to_value(&self.parts).map_err(|e| Error::internal("no receipt").because(e))?;
        let receipt = Receipt { split: self.task.split, rows: self.rows, skipped: 0, account, data };
        let records = Records { rules: &self.rules, run_id: &self.task.run_id };
        let added = records.add(&receipt).await;
        // When that failed the record may be there all the same, and then it names these parts.
        self.finished = !matches!(added, Ok(false));
        match added? {
            true => Ok(receipt),
            false => {
                let message = "another attempt has finished this split meanwhile";
                Err(Error::new(ErrorKind::Conflict, message).with("split", self.task.split))
            }
        }
    }
}

impl Drop for FilesTask {
    fn drop(&mut self) {
        if self.finished || !self.rules.location.store.is_local() {
            // Staged objects of a task that failed go with `abort` or `commit`, as the whole prefix does.
            return;
        }
        let open = self.open.take().map(|(_, _, name)| name);
        for name in self.parts.iter().map(|p| p.name.clone()).chain(open) {
            // What cannot be removed now goes with the staging folder.
            let _ = std::fs::remove_file(self.path(&name));
        }
    }
}
