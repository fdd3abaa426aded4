//! One task: formats each batch and hands it to standard output or to a part file.

use std::path::PathBuf;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use serde_json::json;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use weir_core::{Account, ConnectorContext, Receipt, Refused, Result, ResultExt, TaskWriter};

use crate::config::Config;
use crate::lines;
use crate::printer::Printer;

/// Where the lines of a task go.
pub(crate) enum Output {
    Nowhere,
    Print(Printer),
    Part(Part),
}

/// A part file that disappears unless it is kept.
pub(crate) struct Part {
    path: PathBuf,
    name: String,
    file: File,
    kept: bool,
}

impl Part {
    pub(crate) async fn create(folder: &std::path::Path, name: String) -> Result<Self> {
        let path = folder.join(&name);
        let file = File::create(&path).await.context("file", path.display())?;
        Ok(Self { path, name, file, kept: false })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept {
            // A failure leaves a part that nobody publishes.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

pub(crate) struct StreamTask {
    pub(crate) config: Config,
    pub(crate) context: ConnectorContext,
    pub(crate) output: Output,
    pub(crate) split: u32,
    pub(crate) rows: u64,
    pub(crate) text: String,
}

impl StreamTask {
    /// Sleeps once for every full `recordNumBeforeSleep` that the task has just passed.
    async fn rest(&self, before: u64) -> Result<()> {
        let every = self.config.record_num_before_sleep;
        if every == 0 || self.config.sleep_time == 0 {
            return Ok(());
        }
        let times = self.rows / every - before / every;
        let total = Duration::from_millis(self.config.sleep_time.saturating_mul(times));
        let sleep = async {
            tokio::time::sleep(total).await;
            Ok(())
        };
        self.context.until_cancelled(sleep).await
    }
}

#[async_trait]
impl TaskWriter for StreamTask {
    async fn write(&mut self, batch: &RecordBatch, _: &mut Refused) -> Result<()> {
        let before = self.rows;
        self.rows += batch.num_rows() as u64;
        if !matches!(self.output, Output::Nowhere) {
            self.text.clear();
            lines::append(batch, &self.config.field_delimiter, &self.config.null_format, &mut self.text)?;
        }
        match &mut self.output {
            Output::Nowhere => {}
            Output::Print(printer) => printer.print(std::mem::take(&mut self.text), &self.context).await?,
            Output::Part(part) => {
                part.file.write_all(self.text.as_bytes()).await.context("file", part.path.display())?;
            }
        }
        self.rest(before).await
    }

    async fn finish(mut self: Box<Self>, account: Account) -> Result<Receipt> {
        let mut data = json!({});
        if let Output::Part(part) = &mut self.output {
            part.file.flush().await.context("file", part.path.display())?;
            part.file.sync_all().await.context("file", part.path.display())?;
            part.kept = true;
            data = json!({ "part": part.name });
        }
        let receipt = Receipt { split: self.split, rows: self.rows, skipped: 0, account, data };
        Ok(receipt)
    }
}
