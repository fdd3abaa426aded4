//! One entry of a run, from its first split to its publication.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use futures::{FutureExt, StreamExt};
use tokio::sync::Semaphore;
use weir_core::{Committed, ConnectorContext, Error, ErrorKind, Receipt, Result, SnapshotGuard, Split};

use super::Run;
use super::abandon::stays;
use super::outcome::EntryEnd;
use super::resume::{EntryStart, Left, columns_of};
use crate::entry::PlannedEntry;
use crate::incremental::ordinal;
use crate::ledger::EntryRecord;
use crate::observer::{Event, TableProgress};
use crate::plan::{readers_at_once, snapshot, splits};
use crate::retry::Retries;
use crate::task::{TaskContext, TaskSpec};

/// An entry whose rows are read and written, as far as that went.
pub(super) struct Moved {
    pub entry: PlannedEntry,
    /// How it ended up to here.
    pub end: EntryEnd,
    /// Whether it can be published.
    pub moved: Result<Done>,
    /// What it came to, if it was published together with others.
    pub together: Option<Committed>,
    /// Whether it may be published although that failed.
    pub in_doubt: bool,
}

impl Moved {
    pub fn new(entry: PlannedEntry, end: EntryEnd, moved: Result<Done>) -> Self {
        Self { entry, end, moved, together: None, in_doubt: false }
    }
}

/// What is left to do for an entry that was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// Its publication.
    Moved,
    /// Nothing: an earlier process has published it.
    Published,
}

impl Run {
    /// Moves and publishes an entry.
    pub(super) async fn run_entry(&self, index: usize, start: EntryStart, context: &ConnectorContext) -> EntryEnd {
        let moved = self.move_whole(index, start, context).await;
        self.publish_moved(moved, context).await
    }

    /// Moves an entry, so that only its publication is left.
    pub(super) async fn move_whole(&self, index: usize, start: EntryStart, context: &ConnectorContext) -> Moved {
        let EntryStart { planned: mut entry, mut left } = start;
        let mut end = EntryEnd {
            index,
            source: entry.source.tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", "),
            target: entry.plan.table.clone(),
            created: entry.plan.creates,
            stays: entry.plan.commits_per_split,
            receipts: Vec::new(),
            result: Ok(Committed::default()),
            snapshot: None,
            earlier: false,
            decided: None,
            plan: Some(entry.plan.clone()),
            windows: entry.windows.clone(),
        };
        if let Some(committed) = left.as_ref().and_then(|left| left.committed.clone()) {
            end.shows(left.as_ref(), None);
            self.show_kept(index, &entry, left, &mut end.receipts);
            end.result = Ok(committed);
            return Moved::new(entry, end, Ok(Done::Published));
        }
        let stop = self.stop(index);
        let mut retries = Retries::new(self.job.setting.retry);
        let moved = loop {
            let moved = self.move_entry(index, &entry, left, context, &mut end).await;
            let error = match moved {
                Err(error) if error.kind() == ErrorKind::SnapshotLost && !stop.is_cancelled() => error,
                moved => break moved.map(|()| Done::Moved),
            };
            let Some(decided) = end.decided.take() else { break Err(error) };
            let what = format!("{} starts again", entry.plan.table);
            if !retries.wait(&what, &error, &stop, |text| self.warn(text)).await {
                break Err(error);
            }
            match self.start_again(index, &entry, decided, &end.receipts, context).await {
                Ok(start) => {
                    end.receipts.clear();
                    (entry, left) = (start.planned, start.left);
                    end.plan = Some(entry.plan.clone());
                }
                Err(error) => break Err(error),
            }
        };
        Moved::new(entry, end, moved)
    }

    /// Publishes what was moved, or takes back what was not.
    pub(super) async fn publish_moved(&self, moved: Moved, context: &ConnectorContext) -> EntryEnd {
        let Moved { entry, mut end, moved, together, mut in_doubt } = moved;
        let index = end.index;
        let result = match moved {
            Ok(Done::Published) => return end,
            Ok(Done::Moved) => self.commit(index, &entry, context, &end.receipts, together, &mut in_doubt).await,
            Err(error) => Err(error),
        };
        end.result = result.map_err(|error| error.with("target", &entry.plan.table));
        if let Err(error) = &end.result {
            if error.kind() == ErrorKind::DirtyLimit && self.job.database.is_none() {
                // The limit is the job's: more rows of other tables would only be more to clean up.
                self.cancel.cancel();
            }
            let resumable = self.ledger.is_some() && entry.plan.records_splits;
            let stays = self.ledger.is_some() && stays(&entry.plan, &self.job.entries[index].writer);
            if in_doubt {
                let table = &entry.plan.table;
                let next = if resumable { "--resume finds out" } else { "look before you run the job again" };
                self.warn(&format!("whether {table} was published is not known: {next}"));
            } else if !(stays && (!end.receipts.is_empty() || self.may_have_landed(index, &entry, context).await)) {
                // Splits that have landed for good, or may have, keep their records: with these a resume goes on, or knows
                // that it must not. All else is staging.
                self.abort(index, &entry, context, &end.receipts).await;
            }
        }
        end
    }

    async fn move_entry(
        &self,
        index: usize,
        entry: &PlannedEntry,
        left: Option<Left>,
        context: &ConnectorContext,
        end: &mut EntryEnd,
    ) -> Result<()> {
        let published = left.as_ref().is_some_and(|left| left.published);
        let keeps = entry.reader.snapshot().map_or(0, |snapshot| snapshot.keeps());
        let cut = || async {
            // To cut the source takes a connection to it, as to read it does.
            let connection = self.connections(index, keeps.max(1)).await?;
            let guard = snapshot(entry, &self.job, context).await?;
            if let Some(guard) = &guard {
                // At once: to cut takes its time, and who is noted late would seem to be read late.
                self.moments.note(index, &guard.moments);
            }
            let splits = match &left {
                Some(left) => left.splits.clone(),
                None => splits(entry, &self.job, &self.options, context, guard.as_ref()).await?,
            };
            Ok((guard, splits, connection.filter(|_| keeps > 0)))
        };
        let (guard, all, connections) = match &left {
            Some(left) if left.published => (None, left.splits.clone(), None),
            _ => self.asking(&self.stop(index), &format!("cutting what goes to {}", entry.plan.table), cut).await?,
        };
        let fresh = left.is_none();
        end.shows(left.as_ref(), guard.as_ref());
        let receipts = &mut end.receipts;
        self.add_tables(index, entry, &all);
        self.show_kept(index, entry, left, receipts);
        if published {
            return Ok(());
        }
        let spec = Arc::new(self.spec(index, entry, guard.as_ref(), context));
        let record = EntryRecord {
            entry: index as u32,
            spec: TaskSpec { reader: shown(&spec.reader), writer: shown(&spec.writer), ..spec.as_ref().clone() },
            source: columns_of(&entry.source),
            committed: None,
            windows: entry.windows.clone(),
            ordinal: if entry.windows.is_empty() { 0 } else { ordinal(&self.job, index) },
            known: entry.evolution.as_ref().map(|evolution| evolution.known.clone()),
        };
        if fresh {
            let take_back = || self.take_back_unknown(entry, context);
            self.again(index, &entry.plan, take_back, "looking at").await?;
        }
        if let Some(ledger) = self.ledger.as_ref().filter(|_| fresh) {
            // Stored before the first read, and before the first change at the target.
            ledger.plan_entry(&self.run_id, &record, &all).await?;
        }
        end.decided = Some((record, all.clone()));
        let prepare = || async {
            self.still_leased(index, &context.cancel).await?;
            context.until_cancelled(entry.writer.prepare(&entry.plan)).await
        };
        self.again(index, &entry.plan, prepare, "preparing").await?;
        let splits: Vec<Split> =
            all.into_iter().filter(|split| receipts.iter().all(|receipt| receipt.split != split.id)).collect();
        let kept = connections.as_ref().map(|_| Semaphore::new(keeps));
        self.move_splits(spec, &splits, entry, (context, kept.as_ref()), receipts).await?;
        receipts.sort_by_key(|receipt| receipt.split);
        let counts = self.progress.of_entry(index);
        self.dirty.check_percentage(counts.rows_dirty, counts.rows_read)?;
        self.dirty.check_record(index)?;
        self.dirty.join()?;
        // The snapshot's connection has done its work; a source that is also the target must not lock itself out.
        drop(guard);
        drop(connections);
        Ok(())
    }

    /// `kept` are the connections that the entry's snapshot keeps.
    async fn move_splits(
        &self,
        spec: Arc<TaskSpec>,
        splits: &[Split],
        entry: &PlannedEntry,
        (context, kept): (&ConnectorContext, Option<&Semaphore>),
        receipts: &mut Vec<Receipt>,
    ) -> Result<()> {
        let at_once = readers_at_once(entry, &self.job);
        self.options.observer.event(&Event::Prepared {
            target: &entry.plan.table,
            splits: splits.len(),
            channels: at_once.min(splits.len().max(1)),
        });
        let task_context = TaskContext {
            cancel: self.stop(spec.entry).child_token(),
            io: context.io.clone(),
            shared: context.shared.on(None),
            readers: self.readers.clone(),
            writers: self.writers.clone(),
            limiter: self.limiter.clone(),
            dirty: self.dirty.clone(),
            place: self.leases.place_of(spec.entry),
            left: self.options.limit.map(|rows| Arc::new(AtomicI64::new(i64::try_from(rows).unwrap_or(i64::MAX)))),
        };
        let mut failed: Option<Error> = None;
        let tasks: Vec<_> =
            splits.iter().map(|split| self.run_split(&spec, split, entry, &task_context, kept).boxed()).collect();
        let mut finished = futures::stream::iter(tasks).buffer_unordered(at_once);
        while let Some(ended) = finished.next().await {
            let written = ended.and_then(|(receipt, written)| {
                receipts.push(receipt);
                written
            });
            if let Err(error) = written {
                task_context.cancel.cancel();
                // The first fault is the cause; what the others say is that they were stopped.
                if failed.as_ref().is_none_or(|first| first.kind() == ErrorKind::Cancelled) {
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn spec(
        &self,
        index: usize,
        entry: &PlannedEntry,
        guard: Option<&SnapshotGuard>,
        context: &ConnectorContext,
    ) -> TaskSpec {
        let mut pipeline = entry.pipeline.clone();
        pipeline.read.snapshot = guard.map(|guard| guard.token.clone());
        pipeline.read.limit = self.options.limit;
        TaskSpec {
            // Not made anew: a run that an earlier version began names its entries otherwise.
            run_id: entry.plan.run_id.clone(),
            // A source without snapshots has one epoch: its splits mean the same rows whenever they are read.
            epoch: guard.map_or_else(String::new, |_| uuid::Uuid::now_v7().simple().to_string()),
            snapshot: guard.map(|guard| guard.description.clone()),
            entry: index,
            reader: self.job.entries[index].reader.clone(),
            writer: self.job.entries[index].writer.clone(),
            pipeline,
            plan: entry.plan.clone(),
            types: entry.types(),
            time_zone: context.time_zone,
        }
    }

    fn add_tables(&self, index: usize, entry: &PlannedEntry, splits: &[Split]) {
        for table in &entry.source.tables {
            let of_table: Vec<_> = splits.iter().filter(|split| split.table == table.name).collect();
            let sum = |of: fn(&Split) -> Option<u64>| of_table.iter().map(|split| of(split)).sum::<Option<u64>>();
            // A window is less than the table.
            let of_all = |estimate: Option<u64>| estimate.filter(|_| entry.window_of(&table.name).is_none());
            self.progress.add_table(
                index,
                TableProgress {
                    source: table.name.clone(),
                    target: entry.plan.table.clone(),
                    estimated_rows: of_all(table.rows).or_else(|| sum(|split| split.rows)),
                    estimated_bytes: of_all(table.bytes).or_else(|| sum(|split| split.bytes)),
                    splits: of_table.len(),
                    ..TableProgress::default()
                },
            );
        }
    }

    /// Counts what an earlier process moved.
    fn show_kept(&self, index: usize, entry: &PlannedEntry, left: Option<Left>, receipts: &mut Vec<Receipt>) {
        let Some(left) = left else { return };
        if left.committed.is_some() {
            self.add_tables(index, entry, &left.splits);
        }
        self.count_kept(index, &left.splits, &left.kept);
        receipts.extend(left.kept);
    }

    pub(super) fn count_kept(&self, index: usize, splits: &[Split], kept: &[Receipt]) {
        for receipt in kept {
            let table = splits.iter().find(|split| split.id == receipt.split).map_or("", |split| &split.table);
            let account = &receipt.account;
            self.progress.keep(index, table, account.counts);
            self.dirty.keep(index, receipt.split, account.counts, account.quarantine.as_deref());
        }
    }
}

/// An endpoint as the ledger may keep it: without secrets.
fn shown(endpoint: &crate::job::Endpoint) -> crate::job::Endpoint {
    crate::job::Endpoint { parameter: endpoint.redacted(), ..endpoint.clone() }
}
