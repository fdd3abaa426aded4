//! One task: a split read, converted, written and finished, on two threads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use weir_core::channel::{BatchReceiver, ChannelReceiver, bounded_channel};
use weir_core::{
    Account, ConnectorContext, Counts, Error, ErrorKind, Kept, Receipt, Refused, Result, Split, TaskId, WritePlan,
    batch_bytes,
};

use crate::dirty::{DirtyPart, DirtyRows, Origin, Side};
use crate::job::Endpoint;
use crate::limit::Limiter;
use crate::pipeline::{Pipeline, PipelineSpec};
use crate::place::Place;
use crate::plan::{of_source, of_target};
use crate::progress::Counters;
use crate::sender::TaskSender;
use crate::threads::Threads;

/// Batches that wait between reader and writer. With the one being built and the one being written a channel holds
/// four, which keeps it within 32 MiB.
const CHANNEL_BATCHES: usize = 2;

/// How long a connector may take to notice that the run was stopped before its work is dropped in mid-air.
const GRACE: Duration = Duration::from_millis(1_500);

/// Everything a task is a function of; serialisable, without secrets, so that any machine can run it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The run.
    pub run_id: String,
    /// The snapshot's epoch, see [`Account::epoch`].
    pub epoch: String,
    /// What the report says of the snapshot that its rows are read from, if there is one.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// The entry's index in the job.
    pub entry: usize,
    /// The source.
    pub reader: Endpoint,
    /// The target.
    pub writer: Endpoint,
    /// From the reader's columns to the writer's.
    pub pipeline: PipelineSpec,
    /// The writer's decisions.
    pub plan: WritePlan,
    /// The source's types by column name, for the quarantine.
    pub types: BTreeMap<String, String>,
    /// The job's time zone.
    #[serde(with = "weir_core::zone")]
    pub time_zone: chrono_tz::Tz,
}

/// What a task needs besides, made anew wherever it runs.
#[derive(Clone)]
pub struct TaskContext {
    /// Stops the task. The tasks of an entry share it: a dirty row too many, found in one of them, stops them all.
    pub cancel: CancellationToken,
    /// The job's multi-thread runtime.
    pub io: Handle,
    /// What the connectors of the run share in this process.
    pub shared: weir_core::Shared,
    /// The threads of the run's channels that read. Apart from those that write, so that no more of them than read at once
    /// have a session with the source.
    pub readers: Threads,
    /// Those that write.
    pub writers: Threads,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) dirty: Arc<DirtyRows>,
    pub(crate) left: Option<Arc<AtomicI64>>,
    /// Where it writes, if the run has a lease there.
    pub(crate) place: Option<Arc<Place>>,
}

impl TaskContext {
    /// The same on a thread that keeps its sessions there.
    fn on(&self, kept: Kept) -> Self {
        Self { shared: self.shared.on(Some(kept)), ..self.clone() }
    }
}

/// What a finished task leaves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// For the commit.
    pub receipt: Receipt,
    /// What flowed.
    pub counts: Counts,
}

/// A failed attempt.
#[derive(Debug)]
pub struct TaskError {
    /// Why.
    pub error: Error,
    /// Whether the target may already hold the split: an error of `finish` leaves that open, and trying again could
    /// double it.
    pub in_doubt: bool,
}

/// Runs one attempt at one split.
///
/// The reader's side and the writer's side each have one of the run's threads, which drives a current-thread runtime.
/// Whichever side
/// fails first stops the other; its error is the task's.
pub async fn run_task(
    spec: &Arc<TaskSpec>,
    split: &Split,
    attempt: u32,
    context: &TaskContext,
    counters: Arc<Counters>,
) -> Result<Outcome, TaskError> {
    let cancel = context.cancel.child_token();
    let origin = Origin {
        entry: spec.entry,
        source: split.table.clone(),
        target: spec.plan.table.clone(),
        split: split.id,
        attempt,
        types: Arc::new(spec.types.clone()),
    };
    let dirty = context.dirty.part(origin, counters.clone());
    let (channel, receiver) = bounded_channel(CHANNEL_BATCHES);
    let (read_done, reading) = oneshot::channel::<Result<()>>();

    let job = (spec.clone(), split.clone(), context.clone(), cancel.clone());
    let (read_counters, read_dirty) = (counters.clone(), dirty.clone());
    let reader = context.readers.run(move |kept| async move {
        let (spec, split, context, cancel) = job;
        let context = context.on(kept);
        let work = async {
            let pipeline = Pipeline::new(&spec.pipeline, &spec.plan, Some(&split.table))?;
            let mut sender = TaskSender {
                channel,
                pipeline,
                limiter: context.limiter.clone(),
                counters: read_counters,
                dirty: read_dirty,
                cancel: cancel.clone(),
                left: context.left.clone(),
                enough: context.left.as_ref().is_some_and(|left| left.load(Relaxed) <= 0),
            };
            if sender.enough {
                return Ok(());
            }
            let reader = spec.reader.open_reader(&connector_context(&spec.reader, &spec, &context, &cancel))?;
            let result = reader.read(&split, &spec.pipeline.read, &mut sender).await.map_err(of_source);
            if sender.enough { Ok(()) } else { result }
        };
        let result = within_grace(&cancel, work).await;
        if let Err(error) = &result {
            stop(error, &cancel, &context);
        }
        // Whether the split was read to its end must be known before the channel's end is seen: the writer finishes
        // only what is whole. (The sender, and with it the channel, went with `work`; the writer waits for this.)
        let _ = read_done.send(result);
    });

    let job = (spec.clone(), split.clone(), context.clone(), cancel.clone());
    let writer = context.writers.run(move |kept| async move {
        let (spec, split, context, cancel) = job;
        let context = context.on(kept);
        let mut reading = Some(reading);
        // Also of what is dropped in mid-air: an error of `finish` is not waited for longer than of anything else.
        let in_doubt = AtomicBool::new(false);
        let work =
            write(&spec, &split, attempt, &context, &cancel, receiver, &mut reading, &counters, &dirty, &in_doubt);
        let mut result = within_grace(&cancel, work).await;
        if let Err(error) = &result {
            stop(error, &cancel, &context);
            // A writer that was stopped because the reader failed only echoes: the reader's own word is the cause.
            if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Cancelled)
                && let Some(reading) = reading
                && let Ok(Ok(Err(error))) = tokio::time::timeout(GRACE, reading).await
            {
                result = Err(error);
            }
            let _ = dirty.sync();
        }
        result
            .map(|receipt| Outcome { receipt, counts: counters.counts() })
            .map_err(|error| (error, in_doubt.into_inner()))
    });

    let (read, outcome) = tokio::join!(reader, writer);
    match (read, outcome) {
        (_, Ok(Ok(outcome))) => Ok(outcome),
        // A panic on the reader's side says more than the silence that the writer saw.
        (Err(error), Ok(Err((_, in_doubt)))) => Err(TaskError { error, in_doubt }),
        (Ok(()), Ok(Err((error, in_doubt)))) => {
            let error = error.with("split", split.id).with("table", &split.table);
            // Stopped from outside, whatever it was that broke then.
            let error = if context.cancel.is_cancelled() && error.kind() != ErrorKind::DirtyLimit {
                Error::cancelled()
            } else {
                error
            };
            Err(TaskError { error, in_doubt })
        }
        (_, Err(error)) => Err(TaskError { error, in_doubt: true }),
    }
}

#[allow(clippy::too_many_arguments)] // The two halves of a task share nothing but these.
async fn write(
    spec: &TaskSpec,
    split: &Split,
    attempt: u32,
    context: &TaskContext,
    cancel: &CancellationToken,
    mut receiver: ChannelReceiver,
    reading: &mut Option<oneshot::Receiver<Result<()>>>,
    counters: &Counters,
    dirty: &Arc<DirtyPart>,
    in_doubt: &AtomicBool,
) -> Result<Receipt> {
    let part = dirty.clone();
    let mut refused = Refused::told(move |row| part.add(Side::Writer, row));
    let writer = spec.writer.open_writer(&connector_context(&spec.writer, spec, context, cancel))?;
    let id = TaskId { run_id: spec.run_id.clone(), split: split.id, table: split.table.clone(), attempt };
    let mut task = None;
    while let Some(batch) = receiver.receive().await? {
        // Opened with the first batch in hand: nothing waits on a server for a source that is slow to start.
        let task = match &mut task {
            Some(task) => task,
            none => none.insert(writer.open(&spec.plan, &id).await.map_err(of_target)?),
        };
        let before = refused.rows;
        task.write(&batch, &mut refused).await.map_err(of_target)?;
        let rows = batch.num_rows().saturating_sub(refused.rows - before);
        counters.rows_written.fetch_add(rows as u64, Relaxed);
        counters.bytes_written.fetch_add(batch_bytes(&batch) as u64, Relaxed);
    }
    if let Some(end) = reading {
        let read = end.await.unwrap_or_else(|_| Err(Error::internal("the reader's thread ended without a word")));
        *reading = None;
        read?;
    }
    let task = match task {
        Some(task) => task,
        None => writer.open(&spec.plan, &id).await.map_err(of_target)?,
    };
    dirty.sync()?;
    if let Some(place) = &context.place {
        place.still_held(cancel).await?;
    }
    let account = Account { attempt, epoch: spec.epoch.clone(), counts: counters.counts(), quarantine: dirty.name() };
    in_doubt.store(true, Relaxed);
    task.finish(account).await.map_err(of_target)
}

/// Stops the other side of a task that has failed; for one dirty row too many the other channels too, before this one is
/// cleared away.
fn stop(error: &Error, cancel: &CancellationToken, context: &TaskContext) {
    cancel.cancel();
    if error.kind() == ErrorKind::DirtyLimit {
        context.cancel.cancel();
    }
}

fn connector_context(
    endpoint: &Endpoint,
    spec: &TaskSpec,
    context: &TaskContext,
    cancel: &CancellationToken,
) -> ConnectorContext {
    ConnectorContext {
        cancel: cancel.clone(),
        io: context.io.clone(),
        form: endpoint.form,
        time_zone: spec.time_zone,
        shared: context.shared.clone(),
    }
}

/// Waits for `work`, but once the task is stopped no longer than [`GRACE`].
pub(crate) async fn within_grace<T>(cancel: &CancellationToken, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        result = work => result,
        () = async { cancel.cancelled().await; tokio::time::sleep(GRACE).await } => Err(Error::cancelled()),
    }
}
