//! One split of a run: tried until it landed, or until trying again is of no use.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use weir_core::{Error, ErrorKind, Receipt, Result, Split, WritePlan};

use super::Run;
use super::waiting::{LATER, SOON, aloud};
use crate::entry::PlannedEntry;
use crate::job::Retry;
use crate::observer::Event;
use crate::task::{TaskContext, TaskSpec, run_task};

/// What [`Run::again`] says of a commit, which may rightly take its time.
pub(super) const PUBLISHING: &str = "publishing";

impl Run {
    /// Moves one split, exactly once.
    pub(super) async fn run_split(
        &self,
        spec: &Arc<TaskSpec>,
        split: &Split,
        entry: &PlannedEntry,
        context: &TaskContext,
    ) -> Result<Receipt> {
        let observer = &self.options.observer;
        let _connection = self.connection(spec.entry).await?;
        let _channel = self.channels.acquire().await.map_err(|_| Error::cancelled())?;
        let mut retries = Retries::new(self.job.setting.retry);
        let mut attempt = 1;
        loop {
            if context.cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            observer.event(&Event::SplitStarted { split, attempt });
            if let Some(ledger) = &self.ledger {
                ledger.attempt(&self.run_id, spec.entry as u32, split.id, attempt).await?;
            }
            let counters = self.progress.begin(spec.entry, &split.table, split.id);
            let fault = match run_task(spec, split, attempt, context, counters.clone()).await {
                Ok(outcome) => {
                    self.progress.finish(spec.entry, &split.table, split.id);
                    return self.landed(spec, split, outcome.receipt).await;
                }
                Err(fault) => fault,
            };
            let error = fault.error;
            let overtaken = error.kind() == ErrorKind::Conflict;
            let again = error.is_retryable() && (spec.plan.records_splits || !fault.in_doubt);
            if spec.plan.records_splits && (fault.in_doubt || overtaken) {
                // Whether this attempt, or one before it, has landed after all: only the target knows.
                if let Some(receipt) = self.find_receipt(spec, split, entry, context, &mut retries).await? {
                    let account = &receipt.account;
                    self.progress.replace(spec.entry, &split.table, split.id, account.counts);
                    self.dirty.keep(spec.entry, split.id, account.counts, account.quarantine.as_deref());
                    return self.landed(spec, split, receipt).await;
                }
            }
            let wait = if again { retries.next() } else { None };
            let Some(wait) = wait else {
                self.progress.finish(spec.entry, &split.table, split.id);
                return Err(match fault.in_doubt && !spec.plan.records_splits {
                    true => error.with("in doubt", "whether the target took this split is not known"),
                    false => error,
                });
            };
            self.warn(&format!("split {} is tried again in {} s: {}", split.id, wait.as_secs_f64(), error.full()));
            let _ = context.cancel.run_until_cancelled(tokio::time::sleep(wait)).await;
            if let Some(left) = &context.left {
                // The rows of this attempt do not count: the next one may read them again.
                left.fetch_add(counters.counts().rows_read as i64, Relaxed);
            }
            attempt += 1;
        }
    }

    async fn landed(&self, spec: &TaskSpec, split: &Split, receipt: Receipt) -> Result<Receipt> {
        if let Some(ledger) = &self.ledger {
            ledger.finish_split(&self.run_id, spec.entry as u32, &receipt).await?;
        }
        self.options.observer.event(&Event::SplitFinished { split, rows: receipt.rows });
        Ok(receipt)
    }

    /// The target's record of a split, asked for until the target answers.
    async fn find_receipt(
        &self,
        spec: &TaskSpec,
        split: &Split,
        entry: &PlannedEntry,
        context: &TaskContext,
        retries: &mut Retries,
    ) -> Result<Option<Receipt>> {
        loop {
            let asked = context.cancel.run_until_cancelled(entry.writer.recorded(&spec.plan)).await;
            let error = match asked {
                None => return Err(Error::cancelled()),
                Some(Ok(recorded)) => {
                    return Ok(recorded.receipts.into_iter().find(|receipt| receipt.split == split.id));
                }
                Some(Err(error)) => error,
            };
            let wait = if error.is_retryable() { retries.next() } else { None };
            let Some(wait) = wait else { return Err(error) };
            self.warn(&format!("the target is asked again for split {}: {}", split.id, error.full()));
            let _ = context.cancel.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
    }

    /// Does what may be repeated at a target that keeps records, again while the fault may pass.
    pub(super) async fn again<T, F>(
        &self,
        index: usize,
        plan: &WritePlan,
        mut work: impl FnMut() -> F,
        what: &str,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut retries = Retries::new(self.job.setting.retry);
        let (observer, patience) = (self.options.observer.as_ref(), if what == PUBLISHING { LATER } else { SOON });
        loop {
            let error = match aloud(observer, &format!("{what} {}", plan.table), patience, work()).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let stop = self.stop(index);
            let again = error.is_retryable() && plan.records_splits && !stop.is_cancelled();
            let Some(wait) = (if again { retries.next() } else { None }) else { return Err(error) };
            self.warn(&format!("{what} {} is tried again in {} s: {}", plan.table, wait.as_secs_f64(), error.full()));
            let _ = stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
    }

    /// Asks the systems of an entry for something that changes nothing there, or nothing that a second time would change
    /// again, once more while the fault may pass.
    ///
    /// Until the run has reached both of them, a server that cannot be reached is more likely a wrong address than one that
    /// restarts, and its user is told at once.
    pub(super) async fn asking<T, F>(
        &self,
        stop: &CancellationToken,
        what: &str,
        mut work: impl FnMut() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut retries = Retries::new(self.job.setting.retry);
        loop {
            let error = match work().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            // What was cut from a snapshot that is lost is cut from another one.
            let passes = error.is_retryable() || error.kind() == ErrorKind::SnapshotLost;
            if !passes || stop.is_cancelled() || !self.reached.load(Relaxed) {
                return Err(error);
            }
            let Some(wait) = retries.next() else {
                // A thousand tables that wait their turn need not each find out for themselves.
                self.reached.fetch_and(error.kind() != ErrorKind::Unreachable, Relaxed);
                return Err(error);
            };
            self.warn(&format!("{what} is tried again in {} s: {}", wait.as_secs_f64(), error.full()));
            let _ = stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
    }
}

/// The waits between attempts: each twice as long as the one before, up to a longest.
pub(super) struct Retries {
    left: u32,
    wait: Duration,
    longest: Duration,
}

impl Retries {
    pub fn new(retry: Retry) -> Self {
        Self { left: retry.times, wait: retry.interval.min(retry.max_interval), longest: retry.max_interval }
    }

    /// How long to wait before the next attempt, if there is one.
    pub fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let wait = self.wait;
        self.wait = (wait * 2).min(self.longest);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_end() {
        let seconds = Duration::from_secs;
        let mut retries = Retries::new(Retry { times: 4, interval: seconds(1), max_interval: seconds(3) });
        let waits: Vec<_> = std::iter::from_fn(|| retries.next()).collect();
        assert_eq!(waits, [seconds(1), seconds(2), seconds(3), seconds(3)]);
    }
}
