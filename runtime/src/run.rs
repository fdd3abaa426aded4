//! A whole run: plan every entry, move their splits through the channels, publish, report.

use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use futures::{FutureExt, StreamExt};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir_core::{Committed, ConnectorContext, Error, ErrorKind, Receipt, Result, Split, WriteMode};

use crate::dirty::DirtyRows;
use crate::entry::{PlannedEntry, open_all, plan_entry};
use crate::job::Job;
use crate::limit::Limiter;
use crate::observer::{Event, TableProgress};
use crate::options::{Quarantine, RunOptions, default_state_dir};
use crate::plan::{channels, context, splits};
use crate::progress::Progress;
use crate::report::{ErrorReport, Report, Status, TableReport};
use crate::task::{Outcome, TaskContext, TaskSpec, run_task};

/// How often a split is tried when its fault may pass: a broken connection, a timeout.
const ATTEMPTS: u32 = 3;

/// How often the observer hears of progress.
const TICK: Duration = Duration::from_millis(100);

/// How long cleaning up may take when the run is stopped.
const CLEAN_UP: Duration = Duration::from_millis(1_500);

/// Runs a job to its end. What goes wrong is in the report; nothing is printed and nothing panics.
///
/// The run has a multi-thread runtime of its own, so the caller's is never blocked. Dropping the future stops the run.
pub async fn run(job: &Job, options: RunOptions) -> Report {
    let run_id = options.run_id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().simple().to_string());
    let started = (Instant::now(), Utc::now());
    let cancel = options.cancel.child_token();
    let file = match &options.quarantine {
        Quarantine::Off => None,
        Quarantine::Path(path) => Some(path.clone()),
        Quarantine::StateDir => {
            let state = options.state_dir.clone().unwrap_or_else(default_state_dir);
            Some(state.join("quarantine").join(format!("{run_id}.jsonl")))
        }
    };
    let limit = options.error_limit.unwrap_or(job.setting.error_limit);
    let run = Arc::new(Run {
        dirty: DirtyRows::new(&run_id, limit, file, options.observer.clone()),
        limiter: Arc::new(Limiter::new(job.setting.rows_per_second, job.setting.bytes_per_second)),
        channels: Arc::new(Semaphore::new(channels(&job.setting))),
        progress: Progress::default(),
        warnings: Mutex::default(),
        job: job.clone(),
        run_id,
        cancel,
        options,
    });
    let ended = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Err(error) => Ended::failed(Error::new(ErrorKind::Io, "the run's threads cannot be started").because(error)),
        Ok(runtime) => {
            let handle = runtime.handle().clone();
            let work = handle.spawn(run.clone().execute(handle.clone()));
            let mut engine = Engine { cancel: run.cancel.clone(), running: Some((runtime, work)) };
            let ended = engine.join().await;
            drop(engine);
            ended.unwrap_or_else(Ended::failed)
        }
    };
    run.report(ended, started)
}

/// The run's own threads. When the caller drops `run` half-way, the run is stopped and its threads get the time to clean
/// up, on a thread of their own: a runtime must not be waited for inside another one.
struct Engine {
    cancel: CancellationToken,
    // `None` only while dropping.
    running: Option<(Runtime, JoinHandle<Ended>)>,
}

impl Engine {
    async fn join(&mut self) -> Result<Ended> {
        match &mut self.running {
            Some((_, work)) => work.await.map_err(|panic| Error::internal("the run panicked").because(panic)),
            None => Err(Error::cancelled()),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some((runtime, work)) = self.running.take() else { return };
        if work.is_finished() {
            return runtime.shutdown_background();
        }
        self.cancel.cancel();
        let waiting = std::thread::Builder::new().name("clean-up".into());
        // Without a thread to wait on, the runtime is dropped with the closure, which ends its work at once.
        let _ = waiting.spawn(move || {
            let _ = runtime.block_on(async { tokio::time::timeout(CLEAN_UP * 4, work).await });
            runtime.shutdown_background();
        });
    }
}

struct Run {
    job: Job,
    run_id: String,
    options: RunOptions,
    cancel: CancellationToken,
    dirty: Arc<DirtyRows>,
    limiter: Arc<Limiter>,
    channels: Arc<Semaphore>,
    progress: Progress,
    warnings: Mutex<Vec<String>>,
}

/// How the entries ended; shorter than the job's list when planning failed.
#[derive(Default)]
struct Ended {
    entries: Vec<EntryEnd>,
    warnings: Vec<String>,
    error: Option<Error>,
}

impl Ended {
    fn failed(error: Error) -> Self {
        Self { error: Some(error), ..Self::default() }
    }
}

struct EntryEnd {
    source: String,
    target: String,
    created: bool,
    /// Whether finished splits stay at the target although the entry failed.
    stays: bool,
    receipts: Vec<Receipt>,
    result: Result<Committed>,
}

impl Run {
    async fn execute(self: Arc<Self>, io: Handle) -> Ended {
        let observer = self.options.observer.clone();
        observer.event(&Event::Started { job: &self.job.name, run_id: &self.run_id });
        let mut context = context(&self.job, &self.options, io);
        context.cancel = self.cancel.clone();
        let mut ended = Ended { warnings: self.job.warnings.clone(), ..Ended::default() };
        for warning in &ended.warnings {
            observer.event(&Event::Warning(warning));
        }
        if let Err(faults) = open_all(&self.job, &context) {
            ended.error = Some(faults.into());
            return ended;
        }
        let mut planned = Vec::with_capacity(self.job.entries.len());
        for (index, entry) in self.job.entries.iter().enumerate() {
            match plan_entry(&self.job, entry, &self.entry_id(index), &context).await {
                Ok(entry) => planned.push(entry),
                Err(error) => {
                    ended.error = Some(match self.job.entries.len() {
                        1 => error,
                        _ => error.with("entry", index),
                    });
                    return ended;
                }
            }
        }
        if let Err(error) = distinct_targets(&self.job, &planned) {
            ended.error = Some(error);
            return ended;
        }
        for warning in planned.iter().flat_map(|entry| &entry.warnings) {
            self.warn(warning);
        }
        let ticker = tokio::spawn({
            let run = self.clone();
            async move {
                loop {
                    tokio::time::sleep(TICK).await;
                    run.tell_progress();
                }
            }
        });
        // A target that takes one task at a time (one SQLite file, one output file) is often the same for all entries.
        let alone = planned.iter().any(|entry| entry.writer.max_channels() == Some(1));
        let at_once = if alone { 1 } else { channels(&self.job.setting) };
        // Boxed, here and below: the compiler cannot prove a stream of plain borrowing futures to be `Send`.
        let entries =
            planned.into_iter().enumerate().map(|(index, entry)| self.run_entry(index, entry, &context).boxed());
        let entries: Vec<_> = entries.collect();
        ended.entries = futures::stream::iter(entries).buffered(at_once).collect().await;
        ticker.abort();
        self.tell_progress();
        ended
    }

    /// What names an entry's staging and its record at the target: entries number their splits from 0 each.
    fn entry_id(&self, index: usize) -> String {
        if self.job.entries.len() == 1 { self.run_id.clone() } else { format!("{}-{index}", self.run_id) }
    }

    /// Tells the observer, and the report.
    fn warn(&self, text: &str) {
        self.options.observer.event(&Event::Warning(text));
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    }

    fn tell_progress(&self) {
        let (total, tables) = self.progress.snapshot();
        let tables: Vec<_> = tables.into_iter().map(|(_, table, _)| table).collect();
        self.options.observer.event(&Event::Progress { total, tables: &tables });
    }

    async fn run_entry(&self, index: usize, entry: PlannedEntry, context: &ConnectorContext) -> EntryEnd {
        let mut end = EntryEnd {
            source: entry.source.tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", "),
            target: entry.plan.table.clone(),
            created: entry.plan.creates,
            stays: entry.plan.commits_per_split,
            receipts: Vec::new(),
            result: Ok(Committed::default()),
        };
        let mut in_doubt = false;
        let result = match self.move_entry(index, &entry, context, &mut end.receipts).await {
            Ok(()) => self.commit(index, &entry, context, &end.receipts, &mut in_doubt).await,
            Err(error) => Err(error),
        };
        end.result = result.map_err(|error| error.with("target", &entry.plan.table));
        if let Err(error) = &end.result {
            if error.kind() == ErrorKind::DirtyLimit {
                // The limit is the job's: more rows of other tables would only be more to clean up.
                self.cancel.cancel();
            }
            if in_doubt {
                let table = &entry.plan.table;
                self.warn(&format!("whether {table} was published is not known: look before you run the job again"));
            } else {
                self.abort(index, &entry, context, &end.receipts).await;
            }
        }
        end
    }

    async fn move_entry(
        &self,
        index: usize,
        entry: &PlannedEntry,
        context: &ConnectorContext,
        receipts: &mut Vec<Receipt>,
    ) -> Result<()> {
        let observer = &self.options.observer;
        let (guard, splits) = splits(entry, &self.job, &self.options, context).await?;
        self.add_tables(index, entry, &splits);
        context.until_cancelled(entry.writer.prepare(&entry.plan)).await?;
        let at_once = channels(&self.job.setting).min(entry.writer.max_channels().unwrap_or(usize::MAX)).max(1);
        observer.event(&Event::Prepared {
            target: &entry.plan.table,
            splits: splits.len(),
            channels: at_once.min(splits.len().max(1)),
        });
        let mut pipeline = entry.pipeline.clone();
        pipeline.read.snapshot = guard.as_ref().map(|g| g.token.clone());
        pipeline.read.limit = self.options.limit;
        let spec = Arc::new(TaskSpec {
            run_id: self.entry_id(index),
            epoch: String::new(),
            entry: index,
            reader: self.job.entries[index].reader.clone(),
            writer: self.job.entries[index].writer.clone(),
            pipeline,
            plan: entry.plan.clone(),
            types: entry.types(),
            time_zone: context.time_zone,
        });
        let task_context = TaskContext {
            cancel: self.cancel.child_token(),
            io: context.io.clone(),
            shared: context.shared.clone(),
            limiter: self.limiter.clone(),
            dirty: self.dirty.clone(),
            left: self.options.limit.map(|rows| Arc::new(AtomicI64::new(i64::try_from(rows).unwrap_or(i64::MAX)))),
        };
        let mut failed: Option<Error> = None;
        let tasks: Vec<_> = splits.iter().map(|split| self.run_split(&spec, split, &task_context).boxed()).collect();
        let mut outcomes = futures::stream::iter(tasks).buffer_unordered(at_once);
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Ok(outcome) => receipts.push(outcome.receipt),
                Err(error) => {
                    task_context.cancel.cancel();
                    // The first fault is the cause; what the others say is that they were stopped.
                    if failed.as_ref().is_none_or(|first| first.kind() == ErrorKind::Cancelled) {
                        failed = Some(error);
                    }
                }
            }
        }
        drop(outcomes);
        if let Some(error) = failed {
            return Err(error);
        }
        receipts.sort_by_key(|receipt| receipt.split);
        let counts = self.progress.of_entry(index);
        self.dirty.check_percentage(counts.rows_dirty, counts.rows_read)?;
        self.dirty.settle(index)?;
        // The snapshot's connection has done its work; a source that is also the target must not lock itself out.
        drop(guard);
        Ok(())
    }

    /// Publishes. A commit that has begun is let finish, within bounds, even when the run is stopped meanwhile: dropped
    /// in mid-air it might happen or not, and nobody would know. So its writer is opened anew, with a token of its own.
    async fn commit(
        &self,
        index: usize,
        entry: &PlannedEntry,
        context: &ConnectorContext,
        receipts: &[Receipt],
        in_doubt: &mut bool,
    ) -> Result<Committed> {
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let endpoint = &self.job.entries[index].writer;
        let stop = CancellationToken::new();
        let writer =
            endpoint.open_writer(&ConnectorContext { cancel: stop.clone(), form: endpoint.form, ..context.clone() })?;
        let mut commit = writer.commit(&entry.plan, receipts);
        let result = tokio::select! {
            biased;
            result = &mut commit => result,
            () = async { self.cancel.cancelled().await; tokio::time::sleep(CLEAN_UP).await } => {
                stop.cancel();
                let ended = tokio::time::timeout(CLEAN_UP, &mut commit).await.unwrap_or_else(|_| Err(Error::cancelled()));
                *in_doubt = ended.is_err();
                ended
            }
        };
        let committed = result?;
        let (target, description) = (&entry.plan.table, &committed.description);
        self.options.observer.event(&Event::Committed { target, description });
        for warning in &committed.warnings {
            self.warn(warning);
        }
        Ok(committed)
    }

    fn add_tables(&self, index: usize, entry: &PlannedEntry, splits: &[Split]) {
        for table in &entry.source.tables {
            let of_table: Vec<_> = splits.iter().filter(|split| split.table == table.name).collect();
            let sum = |of: fn(&Split) -> Option<u64>| of_table.iter().map(|split| of(split)).sum::<Option<u64>>();
            self.progress.add_table(
                index,
                TableProgress {
                    source: table.name.clone(),
                    target: entry.plan.table.clone(),
                    estimated_rows: table.rows.or_else(|| sum(|split| split.rows)),
                    estimated_bytes: table.bytes.or_else(|| sum(|split| split.bytes)),
                    splits: of_table.len(),
                    ..TableProgress::default()
                },
            );
        }
    }

    async fn run_split(&self, spec: &Arc<TaskSpec>, split: &Split, context: &TaskContext) -> Result<Outcome> {
        let observer = &self.options.observer;
        let _channel = self.channels.acquire().await.map_err(|_| Error::cancelled())?;
        let mut attempt = 1;
        loop {
            if context.cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            observer.event(&Event::SplitStarted { split, attempt });
            let counters = self.progress.begin(spec.entry, &split.table, split.id);
            match run_task(spec, split, attempt, context, counters).await {
                Ok(outcome) => {
                    self.progress.finish(spec.entry, &split.table, split.id);
                    observer.event(&Event::SplitFinished { split, rows: outcome.receipt.rows });
                    return Ok(outcome);
                }
                Err(fault) if fault.error.is_retryable() && !fault.in_doubt && attempt < ATTEMPTS => {
                    let text = format!("split {} is tried again: {}", split.id, fault.error.full());
                    self.warn(&text);
                    let wait = Duration::from_millis(500) * attempt * attempt;
                    let _ = context.cancel.run_until_cancelled(tokio::time::sleep(wait)).await;
                    attempt += 1;
                }
                Err(fault) => {
                    self.progress.finish(spec.entry, &split.table, split.id);
                    return Err(fault.error);
                }
            }
        }
    }

    /// Takes back what is not published. The writer is opened anew, for the one of the run has been told to stop.
    async fn abort(&self, index: usize, entry: &PlannedEntry, context: &ConnectorContext, receipts: &[Receipt]) {
        let endpoint = &self.job.entries[index].writer;
        let stop = CancellationToken::new();
        let fresh = ConnectorContext { cancel: stop.clone(), form: endpoint.form, ..context.clone() };
        let clean_up = async {
            let writer = endpoint.open_writer(&fresh)?;
            writer.abort(&entry.plan, receipts).await
        };
        let patience = if self.options.cancel.is_cancelled() { CLEAN_UP } else { CLEAN_UP * 20 };
        let result = tokio::time::timeout(patience, clean_up).await;
        stop.cancel();
        if let Some(text) = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.full()),
            Err(_) => Some("no answer in time".into()),
        } {
            let table = &entry.plan.table;
            self.warn(&format!("staging of {table} is left behind: {text}"));
        }
    }

    fn report(&self, ended: Ended, started: (Instant, chrono::DateTime<Utc>)) -> Report {
        let (counts, tables) = self.progress.snapshot();
        let elapsed = started.0.elapsed();
        let stopped = self.options.cancel.is_cancelled();
        let mut warnings = ended.warnings;
        warnings.append(&mut self.warnings.lock().unwrap_or_else(PoisonError::into_inner));
        let mut reports = Vec::new();
        let (mut rows_written, mut rows_skipped) = (0, 0);
        for (index, end) in ended.entries.iter().enumerate() {
            let taken: u64 = end.receipts.iter().map(|r| r.rows).sum();
            let written = match &end.result {
                Ok(committed) => committed.rows.unwrap_or(taken),
                Err(_) if end.stays => taken,
                Err(_) => 0,
            };
            rows_written += written;
            rows_skipped += end.receipts.iter().map(|r| r.skipped).sum::<u64>();
            let mine: Vec<_> = tables.iter().filter(|(entry, ..)| *entry == index).collect();
            let status = status_of(&end.result, stopped);
            let error = match &end.result {
                Ok(committed) => failure(committed, &end.target).as_ref().map(ErrorReport::from),
                Err(error) => Some(ErrorReport::from(error)),
            };
            if mine.is_empty() {
                reports.push(TableReport {
                    source: end.source.clone(),
                    target: end.target.clone(),
                    status,
                    created: false,
                    rows_read: 0,
                    rows_written: 0,
                    rows_dirty: 0,
                    elapsed_ms: 0,
                    error: error.clone(),
                });
            }
            let alone = mine.len() == 1;
            for (_, table, elapsed_ms) in mine {
                let succeeded = end.result.is_ok();
                reports.push(TableReport {
                    source: table.source.clone(),
                    target: table.target.clone(),
                    status,
                    created: end.created && succeeded,
                    rows_read: table.counts.rows_read,
                    rows_written: match (alone, succeeded) {
                        (true, _) => written,
                        (false, true) => table.counts.rows_written,
                        (false, false) => 0,
                    },
                    rows_dirty: table.counts.rows_dirty,
                    elapsed_ms: *elapsed_ms,
                    error: error.clone(),
                });
            }
        }
        let quarantine = self.dirty.close();
        let mut error = ended.error;
        let mut status = if error.is_some() { Status::Failed } else { overall(&ended.entries) };
        for end in ended.entries {
            match end.result {
                Err(fault) if error.as_ref().is_none_or(|e| e.kind() == ErrorKind::Cancelled) => error = Some(fault),
                Ok(committed) => error = error.or(failure(&committed, &end.target)),
                Err(_) => {}
            }
        }
        let quarantine = quarantine.unwrap_or_else(|fault| {
            status = Status::Failed;
            error.get_or_insert(fault.with("file", "quarantine"));
            None
        });
        if stopped && status != Status::Succeeded {
            status = Status::Stopped;
        }
        let seconds = elapsed.as_secs_f64();
        Report {
            job: self.job.name.clone(),
            run_id: self.run_id.clone(),
            status,
            at: self.job.at.to_rfc3339(),
            time_zone: format!("{} ({})", self.job.at.timezone(), self.job.time_zone_from),
            parameters: self.job.parameters.clone(),
            started_at: started.1.to_rfc3339_opts(SecondsFormat::Millis, true),
            finished_at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            elapsed_ms: elapsed.as_millis() as u64,
            rows_per_second: if seconds > 0.0 { (rows_written as f64 / seconds).round() } else { 0.0 },
            rows_read: counts.rows_read,
            rows_written,
            rows_dirty: counts.rows_dirty,
            rows_filtered: counts.rows_filtered,
            rows_skipped,
            bytes_read: counts.bytes_read,
            bytes_written: counts.bytes_written,
            tables: reports,
            quarantine,
            warnings,
            error: error.as_ref().map(ErrorReport::from),
        }
    }
}

/// What makes an entry fail although its data is published: it did not do all it was asked to.
fn failure(committed: &Committed, target: &str) -> Option<Error> {
    let text = committed.failures.join("; ");
    (!text.is_empty()).then(|| Error::new(ErrorKind::Remote, text).with("target", target))
}

fn status_of(result: &Result<Committed>, stopped: bool) -> Status {
    match result {
        Ok(committed) if committed.failures.is_empty() => Status::Succeeded,
        Ok(_) => Status::Failed,
        Err(_) if stopped => Status::Stopped,
        Err(_) => Status::Failed,
    }
}

fn overall(entries: &[EntryEnd]) -> Status {
    let succeeded = |end: &EntryEnd| status_of(&end.result, false) == Status::Succeeded;
    match (entries.iter().any(succeeded), entries.iter().all(succeeded)) {
        (_, true) => Status::Succeeded,
        (true, false) => Status::PartiallyFailed,
        (false, false) => Status::Failed,
    }
}

/// Refuses two entries that would replace or merge into the same target: each plans against what was there before.
fn distinct_targets(job: &Job, planned: &[PlannedEntry]) -> Result<()> {
    let place = |index: usize| {
        let writer = &job.entries[index].writer;
        let of = |key: &str| writer.parameter.get(key).cloned();
        (&writer.plugin, of("url"), of("path"), of("fileName"), of("connection"), &planned[index].plan.table)
    };
    for (later, entry) in planned.iter().enumerate() {
        if let Some(earlier) = (0..later).find(|earlier| {
            matches!(entry.plan.mode, WriteMode::Overwrite | WriteMode::Upsert) && place(*earlier) == place(later)
        }) {
            return Err(Error::new(
                ErrorKind::Schema,
                format!(
                    "entries {earlier} and {later} of the job both write to {} as a whole: give them one reader with several \
                 tables, or make two jobs",
                    entry.plan.table
                ),
            ));
        }
    }
    Ok(())
}
