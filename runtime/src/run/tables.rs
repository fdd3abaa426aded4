//! The tables of a whole-database job: in groups, each on its own, one failing without the others.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{FutureExt, StreamExt};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use weir_core::{ConnectorContext, Error, ErrorKind, Result};

use super::Run;
use super::begin::Began;
use super::changes::journal;
use super::entry::{Done, Moved};
use super::outcome::EntryEnd;
use super::publish::not_alone;
use crate::database::config::PublishConfig;
use crate::database::evolve::{Published, Stage, complete, settle};
use crate::database::{DatabaseJob, Expansion, Only, Shut, begin_snapshots, check_kept, expand};
use crate::job::Job;
use crate::ledger::{Ledger, known_tables};
use crate::observer::{Event, TableProgress, TableState};
use crate::options::RunOptions;
use crate::plan::channels_of;
use crate::report::{Status, TableReport};
use crate::retry::{Retries, once_reached, unreached};

/// What became of a table that had its turn.
enum Turn {
    /// It is over, well or not.
    Ended(Box<EntryEnd>),
    /// It waits for the others.
    Waits(Box<Moved>),
}

/// The tables of a run: those that an earlier process has decided on, or what the sources have now.
pub(super) async fn tables_of_run(
    database: &DatabaseJob,
    job: &Job,
    options: &RunOptions,
    began: &mut Began,
    context: &ConnectorContext,
) -> Result<(Expansion, bool)> {
    let name = &job.name;
    if let Some(ledger) = began.ledger.as_ref().filter(|_| began.continued)
        && let Some(frozen) = ledger.expansion(&began.run_id).await?
    {
        if options.only != Only::All {
            let text =
                format!("run {} has its tables already: go on with all of them, or begin another run", began.run_id);
            return Err(Error::config(text));
        }
        return Ok(frozen);
    }
    let only = match &options.only {
        Only::FailedOf(run_id) => {
            let ledger = began.ledger.as_ref();
            let ledger =
                ledger.ok_or_else(|| Error::config("--failed-of needs the state folder, and takes no --limit"))?;
            Only::Targets(failed_of(ledger, name, run_id).await?)
        }
        only => only.clone(),
    };
    let told = Mutex::new(Vec::new());
    let tell = |text: &str| {
        options.observer.event(&Event::Warning(text));
        told.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    };
    let known = match &began.ledger {
        Some(ledger) => ledger.known_tables(name).await?,
        None => known_tables(options.state_dir.as_deref(), name).await?,
    };
    let mut shut = Shut::default();
    let listed = loop {
        let list = || expand(database, &shut, &only, &known, context);
        let mut retries = Retries::new(job.setting.retry);
        // After a fault of one source the job goes on without it, but not at once without the others too.
        let passes = once_reached(began.continued || !shut.is_empty());
        match retries.step("listing the tables", &context.cancel, tell, passes, list).await {
            Err(error) => {
                if let Err(error) = shut.take(database, &known, error) {
                    break Err(error);
                }
            }
            listed => break listed,
        }
    };
    began.warnings.append(&mut told.into_inner().unwrap_or_else(PoisonError::into_inner));
    let mut expansion = listed.map_err(|error| if began.continued { error } else { unreached(error) })?;
    if began.ledger.is_none() {
        began.passing = Some(Ledger::passing(name, &known).await?);
    }
    if let Some(journal) = journal((began.ledger.as_ref(), began.passing.as_ref()), &began.run_id, name) {
        settle(journal, database, &mut expansion, only == Only::All).boxed().await?;
    }
    if let Some(ledger) = &began.ledger {
        ledger.expand(&began.run_id, &expansion).await?;
    }
    Ok((expansion, false))
}

/// The tables of a run that did not end well, by their names.
pub(super) async fn failed_of(ledger: &Ledger, job: &str, run_id: &str) -> Result<BTreeSet<String>> {
    let missing = || Error::new(ErrorKind::NotFound, format!("there is no run {run_id}: `weir runs` lists them"));
    let run = ledger.run(run_id).await?.ok_or_else(missing)?;
    if run.job != job {
        return Err(Error::config(format!("run {run_id} is a run of job {}, not of this one", run.job)));
    }
    let reported = run.report.map(|report| report.tables).unwrap_or_default();
    let published: BTreeSet<u32> = ledger
        .entries(run_id)
        .await?
        .into_iter()
        .filter(|entry| entry.committed.is_some())
        .map(|entry| entry.entry)
        .collect();
    let frozen = ledger.expansion(run_id).await?.map(|(expansion, _)| expansion);
    let knew = frozen.is_some();
    let expansion = frozen.unwrap_or_default();
    // The report of a run that ended as a whole, or died, does not have all tables: what it does not tell the ledger does.
    let ended_well = |index: u32, name: &str| {
        let mut told = reported.iter().filter(|table| table.name.as_deref() == Some(name)).peekable();
        match told.peek() {
            Some(_) => told.all(|table| table.status == Status::Succeeded),
            None => published.contains(&index),
        }
    };
    let tables = (0u32..).zip(&expansion.tables).map(|(index, table)| (index, table.target.to_string()));
    let mut failed: BTreeSet<String> =
        tables.filter(|(index, name)| !ended_well(*index, name)).map(|(_, name)| name).collect();
    failed.extend(expansion.failed.iter().filter_map(|table| TableReport::unmapped(table).name));
    failed.extend(reported.iter().filter(|table| table.status != Status::Succeeded).filter_map(|t| t.name.clone()));
    match (failed.is_empty(), knew) {
        (false, _) => Ok(failed),
        (true, true) => {
            Err(Error::config(format!("all tables of run {run_id} ended well: there is nothing to run again")))
        }
        (true, false) => {
            Err(Error::config(format!("run {run_id} ended before it knew its tables: run the job as a whole")))
        }
    }
}

/// One permit for each connection that a group may read with.
pub(super) fn lanes(job: &Job, expansion: &Expansion) -> Vec<Arc<Semaphore>> {
    let Some(database) = &job.database else { return Vec::new() };
    let permits = database.config.group.max_source_connections.max(1);
    (0..expansion.groups).map(|_| Arc::new(Semaphore::new(permits))).collect()
}

impl Run {
    /// One of the connections to the source that the group of an entry has; nothing in an ordinary job.
    pub(super) async fn connection(&self, index: usize) -> Result<Option<SemaphorePermit<'_>>> {
        self.connections(index, 1).await
    }

    /// As many of them as an entry's snapshot keeps, all at once: two entries that had half of theirs would wait for ever.
    pub(super) async fn connections(&self, index: usize, count: usize) -> Result<Option<SemaphorePermit<'_>>> {
        let group = self.job.entries.get(index).and_then(|entry| Some(entry.table.as_ref()?.group));
        let Some(lane) = group.and_then(|group| self.lanes.get(group)) else { return Ok(None) };
        if let Some(database) = &self.job.database {
            check_kept(count, &database.config.group)?;
        }
        let permits = u32::try_from(count).map_err(|_| Error::internal("more connections than can be counted"))?;
        lane.acquire_many(permits).await.map(Some).map_err(|_| Error::cancelled())
    }

    /// A connection to read a split with: one that the entry's snapshot keeps, if one is free before one of its group's is.
    pub(super) async fn connection_or<'a>(
        &'a self,
        index: usize,
        kept: Option<&'a Semaphore>,
    ) -> Result<Option<SemaphorePermit<'a>>> {
        let Some(kept) = kept else { return self.connection(index).await };
        tokio::select! {
            biased;
            permit = kept.acquire() => permit.map(Some).map_err(|_| Error::cancelled()),
            permit = self.connection(index) => permit,
        }
    }

    /// Fires when an entry is to stop: with the run, or alone.
    pub(super) fn stop(&self, index: usize) -> CancellationToken {
        self.stops.get(index).unwrap_or(&self.cancel).clone()
    }

    /// A table's name in a whole-database job.
    pub(super) fn table_name(&self, index: usize) -> Option<String> {
        Some(self.job.entries.get(index)?.table.as_ref()?.target.to_string())
    }

    /// Moves and publishes all tables. A table that fails is in the list with its error; only what concerns all of them is an
    /// error here.
    pub(super) async fn execute_tables(&self, failed: usize, context: &ConnectorContext) -> Result<Vec<EntryEnd>> {
        let Some(database) = &self.job.database else { return Ok(Vec::new()) };
        let all = database.config.publish == PublishConfig::All;
        if all && failed > 0 {
            let text = format!("nothing was moved: {failed} tables cannot be mapped, and publish is `all`");
            return Err(Error::new(ErrorKind::Conflict, text));
        }
        if all && let Some(first) = self.job.entries.first() {
            let writer = first.writer.open_writer(context)?;
            if let Some(together) = writer.publishes_together() {
                let check = || context.until_cancelled(together.check_together(self.job.entries.len()));
                let passes = once_reached(self.continued);
                self.step("asking whether all tables can be published together", &self.cancel, passes, check).await?;
            }
        }
        self.take_first_lease(context).boxed().await?;
        self.take_over_keys().await?;
        let ends = self.move_tables(database, all, context).boxed().await;
        let published = ends.iter().flatten().filter(|end| end.result.is_ok());
        let published: Vec<_> = published.map(|end| Published { index: end.index, created: end.created }).collect();
        // Foreign keys rest on unique ones, also those that come back.
        self.complete(Stage::Ground, &published, context).await;
        // However that ended.
        self.put_keys_back(context).boxed().await;
        self.complete(Stage::References, &published, context).await;
        ends
    }

    /// Gives tables what makes them whole.
    async fn complete(&self, stage: Stage, published: &[Published], context: &ConnectorContext) {
        let journal = self.journal();
        let tell = |text: &str| self.warn(text);
        for warning in complete(&self.job, stage, published, journal, context, &tell).boxed().await {
            self.warn(&warning);
        }
    }

    /// Shows the tables before anything is read.
    fn show_waiting(&self) {
        for (index, entry) in self.job.entries.iter().enumerate() {
            let Some(table) = &entry.table else { continue };
            let waiting = TableProgress {
                source: table.source(),
                target: table.target.to_string(),
                estimated_rows: table.rows,
                estimated_bytes: table.bytes,
                state: TableState::Waiting,
                ..TableProgress::default()
            };
            self.progress.add_table(index, waiting);
            self.options.tables.add(table.target.to_string(), self.stop(index));
        }
    }

    /// Moves the tables in their groups; with `all` they are published together at the end.
    async fn move_tables(
        &self,
        database: &DatabaseJob,
        all: bool,
        context: &ConnectorContext,
    ) -> Result<Vec<EntryEnd>> {
        let config = &database.config;
        self.show_waiting();
        self.find_windows(database, context).await?;
        let begin = || begin_snapshots(&self.job, database, context);
        let held = self.asking(&self.cancel, "the snapshot of the source", begin).await?;
        let mut groups: Vec<Vec<usize>> = vec![Vec::new(); self.lanes.len()];
        for (index, entry) in self.job.entries.iter().enumerate() {
            let Some(table) = &entry.table else { continue };
            groups[table.group].push(index);
        }
        // A target that takes one task at a time (one SQLite file) is the same for all tables.
        let first = self.job.entries.first().map(|entry| entry.writer.open_writer(context)).transpose()?;
        let alone = first.is_some_and(|writer| writer.max_channels() == Some(1));
        let (tables, lanes) =
            if alone { (1, 1) } else { (config.group.max_source_connections, config.group.concurrent_groups) };
        let groups: Vec<_> = groups
            .into_iter()
            .map(|group| {
                let turns: Vec<_> = group.into_iter().map(|index| self.turn(index, all, context).boxed()).collect();
                futures::stream::iter(turns).buffer_unordered(tables.max(1)).collect::<Vec<_>>().boxed()
            })
            .collect();
        let turns: Vec<Vec<Turn>> = futures::stream::iter(groups).buffer_unordered(lanes.max(1)).collect().await;
        let (mut ends, mut waiting) = (Vec::new(), Vec::new());
        for turn in turns.into_iter().flatten() {
            match turn {
                Turn::Ended(end) => ends.push(*end),
                Turn::Waits(moved) => waiting.push(*moved),
            }
        }
        if all && ends.is_empty() && !self.cancel.is_cancelled() {
            waiting = self.of_one_moment(waiting, tables.saturating_mul(lanes).max(1), context).await;
        }
        // All rows are read.
        drop(held);
        self.forget_ahead().await;
        if all {
            ends.extend(self.publish_all(ends.len(), waiting, context).await?);
        }
        ends.sort_by_key(|end| end.index);
        self.say_earlier(&ends);
        Ok(ends)
    }

    /// One table's turn.
    async fn turn(&self, index: usize, wait: bool, whole: &ConnectorContext) -> Turn {
        let context = ConnectorContext { cancel: self.stop(index), ..whole.clone() };
        let name = self.table_name(index).unwrap_or_default();
        let start = async {
            if context.cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            self.look_ahead(index, whole).await;
            // With the run's own token: what is in the way of this table is in the way of others.
            self.release_keys(index, whole).await?;
            self.start_leased(index, &context).await
        };
        let started = start.boxed().await;
        let start = match started {
            Ok(start) => start,
            Err(error) => {
                self.progress.set_state(index, TableState::Failed);
                self.options.tables.remove(&name);
                let source = self.job.entries[index].table.as_ref().map(|table| table.source()).unwrap_or_default();
                let error = error.with("target", &name);
                return Turn::Ended(Box::new(EntryEnd::unplanned(index, source, name, error)));
            }
        };
        for warning in &start.planned.warnings {
            self.warn(&format!("{name}: {warning}"));
        }
        let moved = self.move_whole(index, start, &context).await;
        let well = moved.moved.is_ok();
        self.progress.set_state(index, if well { TableState::Moved } else { TableState::Failed });
        if wait && well {
            return Turn::Waits(Box::new(moved));
        }
        Turn::Ended(Box::new(self.publish_one(moved, &context).await))
    }

    async fn publish_one(&self, moved: Moved, context: &ConnectorContext) -> EntryEnd {
        let end = self.publish_moved(moved, context).await;
        let state = if end.result.is_ok() { TableState::Published } else { TableState::Failed };
        self.progress.set_state(end.index, state);
        if let Some(name) = self.table_name(end.index) {
            self.options.tables.remove(&name);
        }
        end
    }

    /// Publishes all tables now that each of them is at the target, in one transaction or one right after the other; or none
    /// of them when one has failed.
    async fn publish_all(
        &self,
        failed: usize,
        mut moved: Vec<Moved>,
        context: &ConnectorContext,
    ) -> Result<Vec<EntryEnd>> {
        // From here on a table by itself is stopped no more; one that was takes the others along.
        for table in &mut moved {
            if let Some(name) = self.table_name(table.end.index) {
                self.options.tables.remove(&name);
            }
            if matches!(table.moved, Ok(Done::Moved)) && self.stop(table.end.index).is_cancelled() {
                table.moved = Err(Error::cancelled());
            }
        }
        let failed = failed + moved.iter().filter(|table| table.moved.is_err()).count();
        let stopped = self.cancel.is_cancelled();
        if let Some(ledger) = self.ledger.as_ref().filter(|_| failed == 0 && !stopped) {
            ledger.publishing(&self.run_id, true).await?;
        }
        if failed == 0 && !stopped {
            moved.sort_by_key(|table| table.end.index);
            self.publish_together(&mut moved, context).await;
            if let Some(ledger) = self.ledger.as_ref().filter(|_| came_to_nothing(&moved)) {
                // Before anything is taken back, so that a resume begins all tables together. It is taken back in any case.
                if let Err(error) = ledger.publishing(&self.run_id, false).await {
                    self.warn(&format!("a resume may keep tables of several moments: {}", error.full()));
                }
            }
        }
        let mut publishing = Vec::with_capacity(moved.len());
        for mut table in moved {
            if (failed > 0 || stopped) && matches!(table.moved, Ok(Done::Moved)) {
                table.moved = Err(match stopped {
                    true => Error::cancelled(),
                    false => not_alone(),
                });
            }
            let context = ConnectorContext { cancel: self.stop(table.end.index), ..context.clone() };
            publishing.push(async move { self.publish_one(table, &context).await }.boxed());
        }
        Ok(futures::stream::iter(publishing).buffer_unordered(channels_of(&self.job)).collect().await)
    }
}

/// Whether tables were to be published together, and none of them was for sure.
fn came_to_nothing(moved: &[Moved]) -> bool {
    !moved.is_empty() && moved.iter().all(|one| one.moved.is_err() && !one.in_doubt)
}
