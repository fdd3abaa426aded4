//! How a run ended, and its report.

use std::sync::PoisonError;
use std::time::Instant;

use chrono::{DateTime, SecondsFormat, Utc};
use weir_core::{Committed, Error, ErrorKind, Receipt, Result, SnapshotGuard, Split, Window, WritePlan};

use super::Run;
use super::resume::Left;
use crate::database::FailedTable;
use crate::job::Job;
use crate::ledger::EntryRecord;
use crate::options::RunOptions;
use crate::report::{ErrorReport, Report, Status, TableReport};

/// How the entries ended; shorter than the job's list when planning failed.
#[derive(Default)]
pub(super) struct Ended {
    pub entries: Vec<EntryEnd>,
    pub warnings: Vec<String>,
    pub error: Option<Error>,
    /// Tables of a whole-database job that could not be mapped.
    pub failed: Vec<FailedTable>,
}

/// How an entry ended.
pub(super) struct EntryEnd {
    /// The entry's index in the job.
    pub index: usize,
    pub source: String,
    pub target: String,
    pub created: bool,
    /// Whether finished splits stay at the target although the entry failed.
    pub stays: bool,
    pub receipts: Vec<Receipt>,
    pub result: Result<Committed>,
    /// How all rows show one moment, where they do.
    pub snapshot: Option<String>,
    /// Whether an earlier process has read all of them, from a snapshot of its own.
    pub earlier: bool,
    /// What was decided, for starting again.
    pub decided: Option<(EntryRecord, Vec<Split>)>,
    /// `None` when it could not even be planned.
    pub plan: Option<WritePlan>,
    /// What was read of each table, where that is a window.
    pub windows: Vec<Window>,
}

impl EntryEnd {
    /// An entry that could not be planned.
    pub fn unplanned(index: usize, source: String, target: String, error: Error) -> Self {
        Self {
            index,
            source,
            target,
            created: false,
            stays: false,
            receipts: Vec::new(),
            result: Err(error),
            snapshot: None,
            earlier: false,
            decided: None,
            plan: None,
            windows: Vec::new(),
        }
    }

    /// Its rows are those that are left of an earlier process, where these are all, or else those that `guard` shows.
    pub fn shows(&mut self, left: Option<&Left>, guard: Option<&SnapshotGuard>) {
        let whole = left.filter(|left| left.published || left.kept.len() == left.splits.len());
        self.earlier = whole.is_some_and(|left| left.from_snapshot);
        self.snapshot = match whole {
            Some(left) => left.snapshot(),
            None => guard.map(|guard| guard.description.clone()),
        };
    }
}

impl Ended {
    /// Whether everything is at the target.
    pub fn succeeded(&self) -> bool {
        self.error.is_none() && self.overall() == Status::Succeeded
    }

    fn overall(&self) -> Status {
        match overall(&self.entries) {
            Status::Succeeded if self.entries.is_empty() && !self.failed.is_empty() => Status::Failed,
            Status::Succeeded if !self.failed.is_empty() => Status::PartiallyFailed,
            status => status,
        }
    }

    /// What the targets may remember of the run.
    pub fn plans(&self) -> Vec<(usize, WritePlan)> {
        self.entries.iter().filter_map(|end| Some((end.index, end.plan.clone()?))).collect()
    }
}

impl Run {
    /// Everything that there is to say of the run.
    pub(super) fn report(&self, mut ended: Ended, started: (Instant, DateTime<Utc>)) -> Report {
        let advised = |end: EntryEnd| match self.job.entries.get(end.index).and_then(|entry| entry.table.as_deref()) {
            Some(table) => EntryEnd { result: end.result.map_err(|error| table.advised(error)), ..end },
            None => end,
        };
        ended.entries = ended.entries.into_iter().map(advised).collect();
        let (counts, tables) = self.progress.snapshot();
        let elapsed = started.0.elapsed();
        let stopped = self.options.cancel.is_cancelled();
        // What a resume may ask for again is kept.
        let resumes = self.ledger.is_some() && !ended.succeeded();
        let left = if stopped && resumes { self.dirty.hurry() } else { None };
        left.into_iter().for_each(|left| self.warn(&left));
        let mut status = if ended.error.is_some() { Status::Failed } else { ended.overall() };
        let mut warnings = ended.warnings;
        warnings.append(&mut self.warnings.lock().unwrap_or_else(PoisonError::into_inner));
        let mut reports = Vec::new();
        let (mut rows_written, mut rows_skipped) = (0, 0);
        for end in &ended.entries {
            let index = end.index;
            let name = self.table_name(index);
            let stopped = stopped || (self.job.database.is_some() && self.stop(index).is_cancelled());
            let taken: u64 = end.receipts.iter().map(|r| r.rows).sum();
            let written = match &end.result {
                Ok(committed) => committed.rows.unwrap_or(taken),
                Err(_) if end.stays => taken,
                Err(_) => 0,
            };
            rows_written += written;
            rows_skipped += end.receipts.iter().map(|r| r.skipped).sum::<u64>();
            rows_skipped += end.result.as_ref().map_or(0, |committed| committed.skipped);
            let mine: Vec<_> = tables.iter().filter(|(entry, ..)| *entry == index).collect();
            let status = status_of(&end.result, stopped);
            let error = match &end.result {
                Ok(committed) => failure(committed, &end.target).as_ref().map(ErrorReport::from),
                Err(error) => Some(ErrorReport::from(error)),
            };
            if mine.is_empty() {
                reports.push(TableReport {
                    name: name.clone(),
                    source: end.source.clone(),
                    target: end.target.clone(),
                    status,
                    created: false,
                    rows_read: 0,
                    rows_written: 0,
                    rows_dirty: 0,
                    rows_per_second: 0.0,
                    window: None,
                    snapshot: None,
                    elapsed_ms: 0,
                    changes: Vec::new(),
                    error: error.clone(),
                });
            }
            let alone = mine.len() == 1;
            for (_, table, elapsed_ms) in mine {
                let succeeded = end.result.is_ok();
                reports.push(TableReport {
                    name: name.clone(),
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
                    rows_per_second: match *elapsed_ms {
                        0 => 0.0,
                        elapsed_ms => (table.counts.rows_written as f64 * 1000.0 / elapsed_ms as f64).round(),
                    },
                    window: end.windows.iter().find(|window| window.table == table.source).cloned(),
                    snapshot: end.snapshot.clone(),
                    elapsed_ms: *elapsed_ms,
                    changes: Vec::new(),
                    error: error.clone(),
                });
            }
        }
        reports.extend(ended.failed.iter().map(TableReport::unmapped));
        let quarantine = self.dirty.join();
        let unmapped =
            ended.failed.first().map(|table| Error::new(table.kind, table.reason.clone()).with("table", &table.source));
        let mut error = ended.error;
        for end in ended.entries {
            match end.result {
                Err(fault) if error.as_ref().is_none_or(|e| e.kind() == ErrorKind::Cancelled) => error = Some(fault),
                Ok(committed) => error = error.or(failure(&committed, &end.target)),
                Err(_) => {}
            }
        }
        error = error.or(unmapped);
        let failed = reports.iter().filter(|table| table.status != Status::Succeeded).count();
        if self.job.database.is_some() && failed > 1 && status == Status::PartiallyFailed {
            let text = format!(
                "{failed} of {} tables did not end well; `--failed-of {}` runs them again",
                reports.len(),
                self.run_id
            );
            let kind = error.as_ref().map_or(ErrorKind::Remote, Error::kind);
            error = Some(Error::new(kind, text));
        }
        let quarantine = quarantine.unwrap_or_else(|fault| {
            status = Status::Failed;
            error.get_or_insert(fault.with("file", "quarantine"));
            None
        });
        if stopped && status != Status::Succeeded {
            status = Status::Stopped;
        }
        if status == Status::Stopped {
            error = self.clock.fault().or(error);
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
            changes: Vec::new(),
            quarantine,
            warnings,
            error: error.as_ref().map(ErrorReport::from),
        }
    }
}

/// The report of a run that could not begin.
pub(super) fn unstarted(job: &Job, options: &RunOptions, started: (Instant, DateTime<Utc>), error: Error) -> Report {
    Report {
        job: job.name.clone(),
        run_id: options.run_id.clone().unwrap_or_default(),
        status: if options.cancel.is_cancelled() { Status::Stopped } else { Status::Failed },
        at: job.at.to_rfc3339(),
        time_zone: format!("{} ({})", job.at.timezone(), job.time_zone_from),
        parameters: job.parameters.clone(),
        started_at: started.1.to_rfc3339_opts(SecondsFormat::Millis, true),
        finished_at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        elapsed_ms: started.0.elapsed().as_millis() as u64,
        rows_per_second: 0.0,
        rows_read: 0,
        rows_written: 0,
        rows_dirty: 0,
        rows_filtered: 0,
        rows_skipped: 0,
        bytes_read: 0,
        bytes_written: 0,
        tables: Vec::new(),
        changes: Vec::new(),
        quarantine: None,
        warnings: job.warnings.clone(),
        error: Some(ErrorReport::from(&error)),
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
