//! Writing batches: target, plan, prepare, tasks, commit or abort.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::stream::{self, StreamExt, TryStreamExt};
use weir_core::field::{KEY, native_type, type_text};
use weir_core::{
    Account, Committed, DirtyRow, Error, MappedColumn, OnTypeLoss, Receipt, Refused, Result, TaskId, WritePlan,
    WriteRequest, Writer,
};

use super::fit::fit;
use super::{control, on_thread, through_json};

/// How to write.
#[derive(Clone)]
pub struct WriteOptions {
    /// New for each run unless the test sets it, to play a resume.
    pub run_id: String,
    /// What to do where a type does not fit.
    pub on_type_loss: OnTypeLoss,
    /// How many tasks run at once; the writer's own bound holds too.
    pub channels: usize,
    /// Which attempt this is.
    pub attempt: u32,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { run_id: fresh_run_id(), on_type_loss: OnTypeLoss::Error, channels: 4, attempt: 1 }
    }
}

fn fresh_run_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_nanos()).unwrap_or_default();
    // Looks as a real one does: a UUID, 36 characters.
    let low = u64::from(std::process::id()) << 16 | (COUNT.fetch_add(1, Ordering::Relaxed) & 0xffff);
    let text = format!("{now:020x}{:012x}", low & 0xffff_ffff_ffff);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..32])
}

/// Tasks that are finished and wait for commit or abort.
pub struct Staged {
    writer: Arc<dyn Writer>,
    /// What the writer decided.
    pub plan: WritePlan,
    /// One a task.
    pub receipts: Vec<Receipt>,
    /// The rows that the target refused.
    pub refused: Vec<DirtyRow>,
}

/// What became of a job.
#[derive(Debug)]
pub struct Written {
    /// What the writer decided.
    pub plan: WritePlan,
    /// One a task.
    pub receipts: Vec<Receipt>,
    /// The rows that the target refused.
    pub refused: Vec<DirtyRow>,
    /// What `commit` said.
    pub committed: Committed,
}

impl Written {
    /// Rows that the target took, by its receipts.
    pub fn rows(&self) -> u64 {
        self.receipts.iter().map(|r| r.rows).sum()
    }
}

impl Staged {
    /// Publishes the tasks. May be called again, as after a crash.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn commit(&self) -> Result<Committed> {
        let (writer, plan, receipts) = (self.writer.clone(), through_json(&self.plan)?, through_json(&self.receipts)?);
        control(async move { writer.commit(&plan, &receipts).await }).await
    }

    /// Takes the tasks back.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn abort(&self) -> Result<()> {
        let (writer, plan, receipts) = (self.writer.clone(), through_json(&self.plan)?, through_json(&self.receipts)?);
        control(async move { writer.abort(&plan, &receipts).await }).await
    }
}

/// Writes `batches` in one task and commits. When something fails, `abort` is called first.
///
/// # Errors
/// The first error of the writer.
pub async fn write_all(writer: &Arc<dyn Writer>, batches: Vec<RecordBatch>, options: WriteOptions) -> Result<Written> {
    let staged = stage(writer, batches, options).await?;
    match staged.commit().await {
        Ok(committed) => {
            let Staged { plan, receipts, refused, .. } = staged;
            Ok(Written { plan, receipts, refused, committed })
        }
        Err(error) => {
            // The first error is the one to tell.
            let _ = staged.abort().await;
            Err(error)
        }
    }
}

/// Everything before the commit, in one task.
///
/// # Errors
/// The first error of the writer, after an `abort`.
pub async fn stage(writer: &Arc<dyn Writer>, batches: Vec<RecordBatch>, options: WriteOptions) -> Result<Staged> {
    let Some(schema) = batches.first().map(RecordBatch::schema) else {
        return Err(Error::internal("without a batch there is no schema: give one without rows"));
    };
    stage_splits(writer, &schema, vec![batches], options).await
}

/// Everything before the commit, one task for each entry of `splits`, several at once.
///
/// # Errors
/// The first error of the writer, after an `abort`.
pub async fn stage_splits(
    writer: &Arc<dyn Writer>,
    schema: &SchemaRef,
    splits: Vec<Vec<RecordBatch>>,
    options: WriteOptions,
) -> Result<Staged> {
    let plan = plan_for(writer, schema, &options).await?;
    let mut staged = Staged { writer: writer.clone(), plan, receipts: Vec::new(), refused: Vec::new() };
    match run_tasks(&staged, splits, &options).await {
        Ok(finished) => {
            for (finished, refused) in finished {
                staged.receipts.push(through_json(&finished)?);
                staged.refused.extend(refused);
            }
            Ok(staged)
        }
        Err(error) => {
            // The first error is the one to tell.
            let _ = staged.abort().await;
            Err(error)
        }
    }
}

async fn run_tasks(
    staged: &Staged,
    splits: Vec<Vec<RecordBatch>>,
    options: &WriteOptions,
) -> Result<Vec<(Receipt, Vec<DirtyRow>)>> {
    let (writer, plan) = (staged.writer.clone(), staged.plan.clone());
    control(async move { writer.prepare(&plan).await }).await?;
    let tasks = splits.into_iter().enumerate().map(|(split, batches)| {
        let id = TaskId {
            run_id: staged.plan.run_id.clone(),
            split: split as u32,
            table: "source".into(),
            attempt: options.attempt,
        };
        run_task(&staged.writer, &staged.plan, id, batches)
    });
    let channels = options.channels.min(staged.writer.max_channels().unwrap_or(usize::MAX)).max(1);
    stream::iter(tasks).buffered(channels).try_collect().await
}

/// `target` and `plan`.
///
/// # Errors
/// Those of the writer.
pub async fn plan_for(writer: &Arc<dyn Writer>, schema: &SchemaRef, options: &WriteOptions) -> Result<WritePlan> {
    let request = WriteRequest {
        run_id: options.run_id.clone(),
        columns: columns_of(schema),
        source: "source".into(),
        on_type_loss: options.on_type_loss,
        described: None,
        decides_at_end: false,
    };
    let planning = writer.clone();
    let plan = control(async move {
        planning.target().await?;
        planning.plan(&request).await
    })
    .await?;
    through_json(&plan)
}

/// One task from `open` to `finish`, on a thread of its own. Also gives the rows that `write` refused.
///
/// # Errors
/// Those of the writer; the task is then dropped without `finish`.
pub async fn run_task(
    writer: &Arc<dyn Writer>,
    plan: &WritePlan,
    task: TaskId,
    batches: Vec<RecordBatch>,
) -> Result<(Receipt, Vec<DirtyRow>)> {
    let (writer, plan) = (writer.clone(), through_json(plan)?);
    on_thread(async move {
        let account = Account { attempt: task.attempt, ..Account::default() };
        let schema = plan.input_schema();
        let mut open = writer.open(&plan, &task).await?;
        let mut refused = Refused::default();
        for batch in &batches {
            open.write(&fit(batch, &schema)?, &mut refused).await?;
        }
        Ok((open.finish(account).await?, refused.kept))
    })
    .await
}

/// The batch as `plan` wants it, for tests that drive a task themselves.
///
/// # Errors
/// A column, or a value of it, that has no exact form of the kind that the plan wants.
pub fn fitted(batch: &RecordBatch, plan: &WritePlan) -> Result<RecordBatch> {
    fit(batch, &plan.input_schema())
}

/// The columns of `schema` as the runtime would map them, each offered in the one form it has.
pub fn columns_of(schema: &SchemaRef) -> Vec<MappedColumn> {
    schema
        .fields()
        .iter()
        .map(|field| MappedColumn {
            name: field.name().clone(),
            offers: vec![field.as_ref().clone()],
            source_type: native_type(field).map_or_else(|| type_text(field), |(_, text)| text.to_owned()),
            nullable: field.is_nullable(),
            key: field.metadata().get(KEY).and_then(|k| k.parse().ok()),
            comment: None,
        })
        .collect()
}
