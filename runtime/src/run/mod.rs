//! A whole run: plan every entry, move their splits through the channels, publish, report.

mod abandon;
mod ahead;
mod begin;
mod changes;
mod clock;
mod distinct;
mod entry;
mod keys;
mod lease;
mod moment;
mod outcome;
mod publish;
mod resume;
mod split;
mod tables;
mod untouched;
mod verify;
mod waiting;
mod windows;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use futures::{FutureExt, StreamExt};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir_core::lease::entry_name;
use weir_core::{ConnectorContext, Error, ErrorKind, Kept, Result};

use self::abandon::appends;
use self::ahead::TargetAhead;
use self::begin::{Beginning, begin};
use self::changes::journal;
use self::clock::Clock;
use self::distinct::distinct_targets;
use self::keys::KeyBook;
use self::lease::LeaseBook;
use self::moment::Moments;
use self::outcome::{Ended, EntryEnd, unstarted};
use self::tables::{lanes, tables_of_run};
use self::windows::WindowBook;
use crate::database::config::PublishConfig;
use crate::database::{Expansion, with_tables};
use crate::dirty::DirtyRows;
use crate::entry::open_all;
use crate::job::Job;
use crate::ledger::{EntryRecord, Ledger, RunStatus};
use crate::limit::Limiter;
use crate::observer::Event;
use crate::options::{Quarantine, RunOptions};
use crate::plan::{channels_of, context, room};
use crate::progress::Progress;
use crate::report::{ErrorReport, Report, Status};
use crate::retry::unreached;
use crate::threads::Threads;

/// How often the observer hears of progress.
const TICK: Duration = Duration::from_millis(100);

/// How long cleaning up may take when the run is stopped, counted from then on: the run ends within two seconds.
const CLEAN_UP: Duration = Duration::from_millis(1_400);

/// When nothing is waited for any more that was told to end at [`CLEAN_UP`].
const GIVEN_UP: Duration = Duration::from_millis(1_600);

/// Runs a job to its end. What goes wrong is in the report; nothing is printed and nothing panics.
///
/// The run has a multi-thread runtime of its own, so the caller's is never blocked. Dropping the future stops the run.
pub async fn run(job: &Job, options: RunOptions) -> Report {
    let started = (Instant::now(), Utc::now());
    let failed = |error| unstarted(job, &options, started, error);
    let cancel = options.cancel.child_token();
    match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Err(error) => failed(Error::new(ErrorKind::Io, "the run's threads cannot be started").because(error)),
        Ok(runtime) => {
            let handle = runtime.handle().clone();
            let work = handle.spawn(whole(job.clone(), options.clone(), cancel.clone(), handle.clone(), started));
            let mut engine = Engine { cancel, running: Some((runtime, work)) };
            let ended = engine.join().await;
            drop(engine);
            ended.unwrap_or_else(failed)
        }
    }
}

/// The run's own threads. When the caller drops `run` half-way, the run is stopped and its threads get the time to clean
/// up, on a thread of their own: a runtime must not be waited for inside another one.
struct Engine {
    cancel: CancellationToken,
    // `None` only while dropping.
    running: Option<(Runtime, JoinHandle<Report>)>,
}

impl Engine {
    async fn join(&mut self) -> Result<Report> {
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

async fn whole(
    job: Job,
    options: RunOptions,
    cancel: CancellationToken,
    io: Handle,
    started: (Instant, DateTime<Utc>),
) -> Report {
    let clock = Clock::start(job.setting.timeout, &cancel);
    // Who stops a run is the caller or its own timeout; what stops of itself takes the time to clean up.
    let options = RunOptions { cancel, ..options };
    let cancel = options.cancel.child_token();
    let mut beginning = match begin(&job, &options, &clock, &io).await {
        Ok(Beginning::Finished(report)) => return *report,
        Ok(Beginning::Run(run)) => *run,
        Err(error) => return unstarted(&job, &options, started, clock.fault().unwrap_or(error)),
    };
    let mut all = context(&job, &options, io);
    all.cancel = cancel.clone();
    let kept = Kept::default();
    all.shared = all.shared.within(room(&job)).on(Some(kept.clone()));
    let mut fault = None;
    let (mut job, mut expansion, mut publishing) = (job, Expansion::default(), false);
    // Targets are planned for the limit that holds.
    job.setting.error_limit = options.error_limit.unwrap_or(job.setting.error_limit);
    if let Some(database) = &job.database {
        // Here too the sources are asked, so that what is wrong is no fault of the file.
        let found = tables_of_run(database, &job, &options, &mut beginning, &all).await;
        let found = found.and_then(|(found, begun)| Ok((with_tables(&job, database, &found)?, found, begun)));
        match found {
            Ok(found) => (job, expansion, publishing) = found,
            Err(error) => fault = Some(error),
        }
    }
    let journal = journal((beginning.ledger.as_ref(), beginning.passing.as_ref()), &beginning.run_id, &job.name);
    let made = match journal.filter(|_| job.database.is_some() && fault.is_none()) {
        Some(journal) => journal.ledger.made_keys(journal.job).await,
        None => Ok(HashMap::new()),
    };
    let made = made.unwrap_or_else(|error| {
        fault = Some(error);
        HashMap::new()
    });
    let run_id = beginning.run_id;
    let limit = job.setting.error_limit;
    let run = Arc::new(Run {
        dirty: DirtyRows::new(
            &run_id,
            limit,
            // A table of a whole-database job has its own limit.
            if job.database.is_some() { job.entries.len() } else { 1 },
            quarantine_file(&options, &run_id),
            options.observer.clone(),
        ),
        limiter: Arc::new(Limiter::new(job.setting.rows_per_second, job.setting.bytes_per_second)),
        channels: Arc::new(Semaphore::new(channels_of(&job))),
        lanes: lanes(&job, &expansion),
        stops: job.entries.iter().filter(|entry| entry.table.is_some()).map(|_| cancel.child_token()).collect(),
        begins_together: !publishing
            && job.database.as_ref().is_some_and(|database| database.config.publish == PublishConfig::All),
        records: OnceCell::new(),
        progress: Progress::default(),
        warnings: Mutex::new(beginning.warnings),
        ledger: beginning.ledger,
        passing: beginning.passing,
        continued: beginning.continued,
        clock,
        leases: LeaseBook::new(cancel.clone()),
        reached: AtomicBool::new(beginning.continued),
        moments: Moments::default(),
        windows: WindowBook::default(),
        keys: KeyBook::of(&job, made),
        ahead: TargetAhead::default(),
        readers: Threads::default(),
        writers: Threads::default(),
        kept,
        job,
        run_id,
        cancel,
        options,
    });
    let ended = run.clone().execute(expansion, fault, &all).await;
    run.clock.stop();
    let report = run.end(ended, started).await;
    // A run that was stopped waits for nobody's goodbye.
    if !run.cancel.is_cancelled() {
        let goodbye = async { tokio::join!(run.kept.close(), run.readers.close(), run.writers.close()) };
        let _ = tokio::time::timeout(CLEAN_UP, goodbye).await;
    }
    drop(beginning.lock);
    report
}

fn quarantine_file(options: &RunOptions, run_id: &str) -> Option<PathBuf> {
    match &options.quarantine {
        Quarantine::Off => None,
        Quarantine::Path(path) => Some(crate::quarantine::real(path)),
        Quarantine::StateDir => Some(options.state_dir.as_ref()?.join("quarantine").join(format!("{run_id}.jsonl"))),
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
    /// In a whole-database job: the connections of each group.
    lanes: Vec<Arc<Semaphore>>,
    /// In a whole-database job: fires when one entry is to stop.
    stops: Vec<CancellationToken>,
    /// Whether no table may stay as an earlier process has left it, because all are published together.
    begins_together: bool,
    /// What an earlier process has decided about the entries.
    records: OnceCell<Vec<EntryRecord>>,
    progress: Progress,
    warnings: Mutex<Vec<String>>,
    ledger: Option<Ledger>,
    /// In a whole-database job without a ledger: one that ends with the run.
    passing: Option<Ledger>,
    /// Whether an earlier process began it.
    continued: bool,
    /// The job's own timeout.
    clock: Clock,
    /// What keeps other machines from running the job.
    leases: LeaseBook,
    /// Whether source and target can be reached, as far as the run knows.
    reached: AtomicBool,
    /// What its entries were read from.
    moments: Moments,
    /// What they read of incremental sources.
    windows: WindowBook,
    /// The foreign keys that are out of the way meanwhile.
    keys: KeyBook,
    /// The target's tables, as the last look found them.
    ahead: TargetAhead,
    /// The threads of its channels that read.
    readers: Threads,
    /// The threads of its channels that write.
    writers: Threads,
    /// The sessions that rest on the control runtime.
    kept: Kept,
}

impl Run {
    async fn execute(self: Arc<Self>, expansion: Expansion, fault: Option<Error>, context: &ConnectorContext) -> Ended {
        let observer = self.options.observer.clone();
        observer.event(&Event::Started { job: &self.job.name, run_id: &self.run_id });
        let mut ended = Ended { warnings: self.job.warnings.clone(), error: fault, ..Ended::default() };
        ended.warnings.extend(expansion.warnings);
        ended.warnings.extend(expansion.gone.iter().map(|name| format!("{name} is not at the source: it is left out")));
        ended.failed = expansion.failed;
        for warning in &ended.warnings {
            observer.event(&Event::Warning(warning));
        }
        if ended.error.is_some() {
            self.say_missing_keys().await;
            return ended;
        }
        if let Err(faults) = open_all(&self.job, context) {
            ended.error = Some(faults.into());
            return ended;
        }
        let renewal = tokio::spawn({
            let run = self.clone();
            async move { run.renew_leases().await }
        });
        let ticker = tokio::spawn({
            let run = self.clone();
            async move {
                loop {
                    tokio::time::sleep(TICK).await;
                    run.tell_progress();
                }
            }
        });
        let entries = match self.job.database.is_some() {
            true => self.execute_tables(ended.failed.len(), context).await,
            false => self.execute_entries(context).await,
        };
        ticker.abort();
        self.tell_progress();
        match entries {
            Ok(entries) => ended.entries = entries,
            Err(error) => ended.error = Some(error),
        }
        // Whoever else would run the job meanwhile would change what is compared.
        self.verify(&mut ended, context).await;
        renewal.abort();
        self.give_leases_back(&ended).await;
        if let Some(error) = self.leases.taken_over.take() {
            ended.error = Some(error);
        }
        ended
    }

    /// The entries of an ordinary job: all are planned before the first begins.
    async fn execute_entries(&self, context: &ConnectorContext) -> Result<Vec<EntryEnd>> {
        let mut starts = Vec::with_capacity(self.job.entries.len());
        // Boxed, here and below: the compiler cannot prove a stream of plain borrowing futures to be `Send`.
        let plan =
            |index| async move { self.asking(&self.cancel, "planning", || self.start_entry(index, context)).await };
        let unreached = |error| if self.continued { error } else { unreached(error) };
        let planning = (0..self.job.entries.len()).map(|index| plan(index).boxed());
        let mut planning = futures::stream::iter(planning.collect::<Vec<_>>()).buffered(channels_of(&self.job));
        while let Some(start) = planning.next().await {
            let index = starts.len();
            starts.push(start.map_err(unreached).map_err(|error| match self.job.entries.len() {
                1 => error,
                _ => error.with("entry", index),
            })?);
        }
        drop(planning);
        self.reached.store(true, Relaxed);
        let planned: Vec<_> = starts.iter().map(|start| &start.planned).collect();
        distinct_targets(&self.job, &planned)?;
        for warning in planned.iter().flat_map(|entry| &entry.warnings) {
            self.warn(warning);
        }
        // Those first that would write something again, so that they find what another machine's run has left.
        let mut leased: Vec<_> = starts.iter().enumerate().collect();
        leased.sort_by_key(|(_, start)| (start.is_over(), !appends(&start.planned.plan)));
        for (index, start) in leased {
            let taken = self.take_lease(index, &start.planned, context).await;
            // Where nothing is left to do it is taken only to be given back: the process that died has left it.
            if !start.is_over() {
                taken?;
            }
        }
        // A target that takes one task at a time (one SQLite file, one output file) is often the same for all entries.
        let alone = planned.iter().any(|entry| entry.writer.max_channels() == Some(1));
        let at_once = if alone { 1 } else { channels_of(&self.job) };
        let entries =
            starts.into_iter().enumerate().map(|(index, start)| self.run_entry(index, start, context).boxed());
        let entries: Vec<_> = entries.collect();
        Ok(futures::stream::iter(entries).buffered(at_once).collect().await)
    }

    /// Ends the run in the ledger, then lets the targets forget it, and its parts of the quarantine go.
    async fn end(&self, mut ended: Ended, started: (Instant, DateTime<Utc>)) -> Report {
        self.count_untouched(&mut ended).await;
        let plans = ended.plans();
        let mut report = self.report(ended, started);
        self.add_changes(&mut report).await;
        let Some(ledger) = &self.ledger else {
            self.dirty.clear();
            self.forget(plans).await;
            return report;
        };
        let finished = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let text = serde_json::to_string(&report).ok();
        match ledger.end(&self.run_id, RunStatus::from(report.status), &finished, text.as_deref()).await {
            // Only now: until here the targets' records were the one proof of what landed, and a resume needs the parts.
            Ok(()) if report.status == Status::Succeeded => {
                self.dirty.clear();
                self.forget(plans).await;
            }
            Ok(()) => {}
            Err(error) => {
                let text = format!("the end of the run is not in the ledger: {}", error.full());
                self.options.observer.event(&Event::Warning(&text));
                if report.status == Status::Succeeded {
                    // To the ledger the run goes on, and so it must to whoever called it.
                    report.status = Status::Failed;
                    let text = format!("everything is at the target, but {text}; --resume brings the run to its end");
                    report.error = Some(ErrorReport::from(&Error::new(error.kind(), text)));
                }
                report.warnings.push(text);
            }
        }
        report
    }

    /// What names an entry's staging and its record at the target: entries number their splits from 0 each.
    fn entry_id(&self, index: usize) -> String {
        entry_name(&self.run_id, index, self.job.entries.len())
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
}
